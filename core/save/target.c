#include "save/target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "io/dirlist.h"
#include "io/file.h"
#include "save/manifest.h"
#include "save/saveout.h"

/* ---- lists of names ---- */

void names_free(NameList *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->s[i]);
    free(l->s);
    *l = (NameList){0};
}

static bool names_have(const NameList *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->s[i], name) == 0)
            return true;
    return false;
}

static Status names_add(NameList *l, const char *name, Error *err)
{
    if (names_have(l, name))
        return ST_OK;
    char *copy = mem_grow(&l->s, &l->cap, l->n + 1, sizeof *l->s) ? strdup(name) : NULL;
    if (!copy)
        return error_nomem(err, "the list of files");
    l->s[l->n++] = copy;
    return ST_OK;
}

void names_text(const NameList *l, Str *out)
{
    enum { SHOWN = 3 };
    size_t shown = l->n <= SHOWN ? l->n : SHOWN - 1;
    for (size_t i = 0; i < shown; i++)
        str_printf(out, "%s%s", i == 0 ? "" : i + 1 == l->n ? " and " : ", ", l->s[i]);
    if (shown < l->n)
        str_printf(out, " and %zu more", l->n - shown);
}

/* ---- what is there ---- */

typedef struct Look {
    int at;
    const char *dir;
    Manifest *older;
    size_t n;
} Look;

/* A saver that writes nothing has none. */
static bool has_folder(const SavePlan *plans, int n)
{
    return n > 0 && plans[0].dir;
}

/* *there: false without a folder that could be looked into. */
static Status look_open(Look *k, const char *dir, bool *there, Error *err)
{
    *k = (Look){.dir = dir, .at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    *there = k->at >= 0;
    if (!*there && errno != ENOENT && errno != ENOTDIR) /* those are the run's to tell */
        return file_error(err, "open", dir, errno);
    return *there ? manifest_list(k->at, dir, &k->older, &k->n, err) : ST_OK;
}

static void look_close(Look *k)
{
    manifest_list_free(k->older, k->n);
    if (k->at >= 0)
        close(k->at);
}

static bool is_there(int at, const char *name)
{
    struct stat st;
    return fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Names of everything that the run will write. */
static Status run_names(const SaveFormat *const *savers, const SavePlan *plans, int n, NameList *out, Error *err)
{
    for (int i = 0; i < n; i++) {
        SaveFile *files;
        int count;
        Status st = savers[i]->ops->files(savers[i], &plans[i], &files, &count, err);
        for (int k = 0; k < count && st == ST_OK; k++)
            st = names_add(out, files[k].name, err);
        free(files);
        RETURN_IF_ERROR(st);
    }
    return ST_OK;
}

static bool is_weights(const char *name)
{
    static const char *const ends[] = {".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n > strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0)
            return name[0] != '.';
    return false;
}

static Status list_left(const Look *k, const NameList *mine, SaveTarget *out, Error *err)
{
    DIR *d;
    RETURN_IF_ERROR(dir_list_at(k->at, k->dir, &d, err));
    Status st = ST_OK;
    const struct dirent *e;
    while (st == ST_OK && (e = readdir(d)) != NULL)
        if (is_weights(e->d_name) && !names_have(mine, e->d_name) && !names_have(&out->removed, e->d_name))
            st = names_add(&out->left, e->d_name, err);
    closedir(d);
    if (out->left.n)
        qsort(out->left.s, out->left.n, sizeof *out->left.s, compare_strings);
    return st;
}

static void name_older(const Manifest *m, const SavePlan *plan, SaveTarget *out)
{
    snprintf(out->model, sizeof out->model, "%s", m->model);
    snprintf(out->saver, sizeof out->saver, "%s", m->saver);
    out->other = strcmp(m->fingerprint, plan->model->fingerprint) != 0;
}

static Status sort_out(const Look *k, const NameList *mine, SaveTarget *out, Error *err)
{
    for (size_t i = 0; i < mine->n; i++)
        if (is_there(k->at, mine->s[i]))
            RETURN_IF_ERROR(names_add(&out->replaced, mine->s[i], err));
    for (size_t i = 0; i < k->n; i++)
        for (size_t f = 0; f < k->older[i].n; f++)
            if (!names_have(mine, k->older[i].files[f].name) && manifest_is_there(k->at, &k->older[i].files[f]))
                RETURN_IF_ERROR(names_add(&out->removed, k->older[i].files[f].name, err));
    return list_left(k, mine, out, err);
}

static Status look_stopped(const SaveFormat *const *savers, const SavePlan *plans, int n, SaveTarget *out, Error *err)
{
    for (int i = 0; i < n; i++) {
        SaveStopped s;
        if (!savers[i]->ops->stopped)
            continue;
        RETURN_IF_ERROR(savers[i]->ops->stopped(savers[i], &plans[i], &s, err));
        if (s.there && s.layers > out->stopped) {
            out->stopped = s.layers;
            out->goes_on = !s.differs;
        }
    }
    return ST_OK;
}

/* Whether a saver that keeps nothing for a resume has its output there, whole, and not one that was to be replaced. */
static bool has_output(const Look *k, const SaveFormat *f, const SavePlan *plan)
{
    char temp[128];
    store_temp_name(f->type, temp, sizeof temp);
    if (is_there(k->at, temp))
        return false;
    for (size_t i = 0; i < k->n; i++) {
        const Manifest *m = &k->older[i];
        if (strcmp(m->saver, f->type) != 0)
            continue;
        bool whole = m->n > 0 && strcmp(m->fingerprint, plan->model->fingerprint) == 0;
        for (size_t j = 0; j < m->n && whole; j++)
            whole = manifest_is_there(k->at, &m->files[j]);
        return whole;
    }
    return false;
}

/* Whether every saver has its output there, and no other one has. */
static Status look_done(const Look *k, const SaveFormat *const *savers, const SavePlan *plans, int n, SaveTarget *out,
                        Error *err)
{
    out->done = k->n == (size_t)n && out->removed.n == 0;
    for (int i = 0; i < n && out->done; i++) {
        SaveStopped s = {0};
        if (savers[i]->ops->stopped)
            RETURN_IF_ERROR(savers[i]->ops->stopped(savers[i], &plans[i], &s, err));
        out->done = savers[i]->ops->stopped ? s.done : has_output(k, savers[i], &plans[i]);
    }
    return ST_OK;
}

Status save_target_look(const SaveFormat *const *savers, const SavePlan *plans, int n, SaveTarget *out, Error *err)
{
    Look k;
    bool there;
    NameList mine = {0};
    *out = (SaveTarget){0};
    if (!has_folder(plans, n))
        return ST_OK;
    Status st = look_open(&k, plans[0].dir, &there, err);
    if (st == ST_OK && there)
        st = run_names(savers, plans, n, &mine, err);
    if (st == ST_OK && there)
        st = sort_out(&k, &mine, out, err);
    if (st == ST_OK && k.n)
        name_older(&k.older[0], &plans[0], out);
    if (st == ST_OK && there)
        st = look_stopped(savers, plans, n, out, err);
    if (st == ST_OK && there)
        st = look_done(&k, savers, plans, n, out, err);
    names_free(&mine);
    look_close(&k);
    return st;
}

void save_target_fini(SaveTarget *t)
{
    names_free(&t->replaced);
    names_free(&t->removed);
    names_free(&t->left);
}

/* ---- refusals ---- */

static Status refuse_stopped(const SavePlan *p, const SaveStopped *s, Error *err)
{
    const char *word = save_force_word(p);
    if (s->differs)
        return error_set(err, ST_USAGE, "'%s' holds a stopped run that this one can't go on with (%s): choose another folder, "
                         "or throw it away with %s", p->dir, s->differs, word);
    return error_set(err, ST_USAGE, "'%s' holds a stopped run of this model and recipe, %d of %d %s done: go on with it "
                     "by --resume, or start again with %s", p->dir, s->layers, p->steps ? p->steps : model_depth(p->model),
                     p->steps ? "MiB" : "layers", word);
}

static Status refuse_files(const SavePlan *p, const SaveTarget *t, Error *err)
{
    const char *word = save_force_word(p);
    if (t->model[0])
        return error_set(err, ST_USAGE, "'%s' holds %s'%s'%s as %s wrote it: %s replaces it, or choose another folder",
                         p->dir, t->other ? "another model, " : "", t->model, t->other ? "," : "", t->saver, word);
    Str names = {0};
    names_text(&t->replaced, &names);
    error_set(err, ST_USAGE, "'%s' holds %s, of no output of slimscope: %s replaces %s, or choose another folder",
              p->dir, str_text(&names), word, t->replaced.n == 1 ? "it" : "them");
    str_free(&names);
    return ST_USAGE;
}

/* Whether a run goes on that was allowed to replace what is there, or that is replacing it. */
static Status may_go_on(const SaveFormat *const *savers, const SavePlan *plans, int n, bool resume, bool *yes, Error *err)
{
    *yes = false;
    for (int i = 0; i < n; i++) {
        SaveStopped s;
        if (!savers[i]->ops->stopped)
            continue;
        RETURN_IF_ERROR(savers[i]->ops->stopped(savers[i], &plans[i], &s, err));
        if (!resume && s.there && s.layers > 0)
            return refuse_stopped(&plans[i], &s, err);
        *yes = *yes || (resume && !s.differs && (s.ready || s.forced || s.done));
    }
    return ST_OK;
}

static Status check_free(const char *dir, Error *err)
{
    int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return ST_OK; /* save_target_look tells why */
    Status st = store_check_free(at, dir, NULL, err);
    close(at);
    return st;
}

Status save_target_check(const SaveFormat *const *savers, const SavePlan *plans, int n, bool resume, bool *done, Error *err)
{
    bool yes;
    SaveTarget t;
    *done = false;
    if (!has_folder(plans, n) || plans[0].force)
        return ST_OK;
    RETURN_IF_ERROR(check_free(plans[0].dir, err));
    RETURN_IF_ERROR(may_go_on(savers, plans, n, resume, &yes, err));
    Status st = save_target_look(savers, plans, n, &t, err);
    *done = st == ST_OK && t.done;
    if (st == ST_OK && !yes && !t.done && (t.replaced.n || t.removed.n))
        st = refuse_files(&plans[0], &t, err);
    save_target_fini(&t);
    return st;
}

/* ---- what older outputs left ---- */

typedef struct Cleaning {
    Look k;
    const SaveFormat *const *savers;
    int n;
    NameList *removed;
    char failed[256];  /* first that could not be removed, and why */
    int code;
} Cleaning;

static bool of_run(const Cleaning *c, const Manifest *m)
{
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->savers[i]->type, m->saver) == 0)
            return true;
    return false;
}

/* Whether some output of this run has it. */
static bool is_kept(const Cleaning *c, const char *name)
{
    for (size_t i = 0; i < c->k.n; i++)
        if (of_run(c, &c->k.older[i]) && manifest_find(&c->k.older[i], name, false))
            return true;
    return false;
}

/* A name of a manifest: plain, or in one folder. */
static int unlink_there(int at, const char *name)
{
    const char *slash = strchr(name, '/');
    if (!slash)
        return unlinkat(at, name, 0);
    char folder[64];
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - name), name);
    int below = openat(at, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = below < 0 ? -1 : unlinkat(below, slash + 1, 0);
    int code = errno;
    if (below >= 0)
        close(below);
    if (r == 0)
        (void)unlinkat(at, folder, AT_REMOVEDIR); /* only when nothing is in it */
    errno = code;
    return r;
}

static void note_failure(Cleaning *c, const char *name)
{
    if (!c->code)
        snprintf(c->failed, sizeof c->failed, "%s", name);
    c->code = c->code ? c->code : errno;
}

/* *all: nothing of it is left. */
static Status remove_files(Cleaning *c, const Manifest *m, bool old_only, bool *all, Error *err)
{
    *all = true;
    for (size_t i = 0; i < m->n; i++) {
        const ManifestFile *f = &m->files[i];
        if ((old_only && !f->old) || is_kept(c, f->name) || !manifest_is_there(c->k.at, f))
            continue;
        if (unlink_there(c->k.at, f->name) == 0) {
            RETURN_IF_ERROR(names_add(c->removed, f->name, err));
            continue;
        }
        note_failure(c, f->name);
        *all = false;
    }
    return ST_OK;
}

/* Writes the manifest where its saver's run has its folder, then over the one that is there. */
static Status put_again(const Cleaning *c, const Manifest *m, const Str *text, Error *err)
{
    char name[128], temp[128];
    manifest_name(m->saver, name);
    store_temp_name(m->saver, temp, sizeof temp);
    Store s = STORE_CLOSED;
    (void)mkdirat(c->k.at, temp, 0700);
    s.temp = path_join(c->k.dir, temp);
    s.temp_at = openat(c->k.at, temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    Status st = ST_OK;
    if (!s.temp)
        st = error_nomem(err, "a path");
    else if (s.temp_at < 0)
        st = file_error(err, "open", s.temp, errno);
    else
        st = store_put(&s, name, text->s, text->len, NULL, err);
    if (st == ST_OK && renameat(s.temp_at, s.out[0].from, c->k.at, name) != 0)
        st = file_error(err, "replace", name, errno);
    store_close(&s, true);
    return st;
}

/* The manifest without what went. */
static Status write_again(const Cleaning *c, Manifest *m, Error *err)
{
    size_t kept = 0;
    Str text = {0};
    for (size_t i = 0; i < m->n; i++) {
        if (m->files[i].old)
            free(m->files[i].name);
        else
            m->files[kept++] = m->files[i];
    }
    m->n = kept;
    manifest_text(m, &text);
    Status st = text.oom ? error_nomem(err, "the list of files") : put_again(c, m, &text, err);
    str_free(&text);
    return st;
}

static Status clean_one(Cleaning *c, Manifest *m, Error *err)
{
    bool all, mine = of_run(c, m), old = false;
    for (size_t i = 0; i < m->n; i++)
        old = old || m->files[i].old;
    if (mine && !old)
        return ST_OK;
    RETURN_IF_ERROR(remove_files(c, m, mine, &all, err));
    if (!all)
        return ST_OK;
    if (mine)
        return write_again(c, m, err);
    char name[128];
    manifest_name(m->saver, name);
    if (unlinkat(c->k.at, name, 0) != 0)
        note_failure(c, name);
    return ST_OK;
}

Status save_target_clean(const SaveFormat *const *savers, const SavePlan *plans, int n, NameList *removed, Error *err)
{
    Cleaning c = {.savers = savers, .n = n, .removed = removed};
    bool there;
    if (!has_folder(plans, n))
        return ST_OK;
    Status st = look_open(&c.k, plans[0].dir, &there, err);
    for (size_t i = 0; i < c.k.n && st == ST_OK; i++)
        st = clean_one(&c, &c.k.older[i], err);
    if (there)
        (void)fsync(c.k.at);
    look_close(&c.k);
    if (st == ST_OK && !c.code)
        return st;
    char why[128];
    if (c.code)
        return error_set(err, ST_IO, "the new model in '%s' is whole, but '%s' of the older one can't be removed: %s: remove "
                         "it, a loader may take it", plans[0].dir, c.failed, strerror_r(c.code, why, sizeof why));
    if (err) {
        const Error cause = *err;
        error_set(err, st, "the new model in '%s' is whole, but what is left of the older one can't be told: %s: --resume "
                  "tries again", plans[0].dir, cause.text);
    }
    return st;
}
