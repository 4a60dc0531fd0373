#include "save/outcheck.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/str.h"
#include "io/file.h"
#include "io/journal.h"
#include "io/json.h"
#include "save/attention.h"
#include "save/manifest.h"
#include "save/marks.h"
#include "save/outcheck_impl.h"
#include "save/store.h"

enum { DOCUMENT_MAX = 1 << 30, CONFIG_MAX = 64 << 20 };

/* ---- telling ---- */

void out_tell(OutCheck *o, bool bad, const TensorInfo *t, const char *name, const char *fmt, ...)
{
    char text[600];
    int file = -1;
    va_list ap;
    if (t)
        (void)out_tensor(o, t->name, &file);
    if (o->told != ST_OK || (o->only && t && (file < 0 || strcmp(o->file[file].name, o->only) != 0)))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    o->told = o->tell(o->ctx, &(OutFound){bad, name, text}, o->err);
}

const TensorInfo *out_tensor(const OutCheck *o, const char *name, int *file)
{
    int64_t at = map_get(&o->where, name, strlen(name), -1);
    if (at < 0)
        return NULL;
    *file = (int)(at >> 32);
    return checkpoint_at(o->file[*file].c, at & 0xffffffff);
}

const char *out_label(const OutCheck *o, const char *name)
{
    int64_t at = map_get(&o->label, name, strlen(name), -1);
    return at < 0 ? NULL : o->labels[at];
}

/* ---- what lies in the folder ---- */

static Status add_path(OutCheck *o, char ***list, size_t *n, size_t *cap, const char *name, Error *err)
{
    char *path = path_join(o->dir, name);
    if (!path || !mem_grow(list, cap, *n + 1, sizeof **list)) {
        free(path);
        return error_nomem(err, "a list of files");
    }
    (*list)[(*n)++] = path;
    return ST_OK;
}

static Status add_file(OutCheck *o, const char *name, Error *err)
{
    char *path = path_join(o->dir, name);
    if (!path || !mem_grow(&o->file, &o->cap, (size_t)o->files + 1, sizeof *o->file)) {
        free(path);
        return error_nomem(err, "a list of files");
    }
    OutFile f = {0};
    Status st = checkpoint_open(&f.c, path, err);
    free(path);
    if (st != ST_OK)
        return st;
    size_t n = (size_t)checkpoint_count(f.c);
    f.name = strdup(name);
    f.role = mem_zarray(n + 1, sizeof *f.role);
    f.claimed = mem_zarray(n + 1, sizeof *f.claimed);
    o->file[o->files++] = f;
    return f.name && f.role && f.claimed ? ST_OK : error_nomem(err, "a list of tensors");
}

/* Names in the folder, sorted; freed by the caller one by one. */
static Status list_folder(const char *dir, char ***out, size_t *n, Error *err)
{
    size_t cap = 0;
    DIR *d = opendir(dir);
    *out = NULL;
    *n = 0;
    if (!d)
        return file_error(err, "read folder", dir, errno);
    Status st = ST_OK;
    for (const struct dirent *e; st == ST_OK && (e = readdir(d)) != NULL;) {
        char *name = strdup(e->d_name);
        if (name && mem_grow(out, &cap, *n + 1, sizeof **out)) {
            (*out)[(*n)++] = name;
            continue;
        }
        free(name);
        st = error_nomem(err, "a list of files");
    }
    closedir(d);
    if (*n)
        qsort(*out, *n, sizeof **out, compare_strings);
    return st;
}

/* Two savers may describe a model without a suffix in its name: then it is of the one whose weights are there. */
static bool has_suffix(const OutCheck *o, const char *path)
{
    return path_base(path)[strlen(o->f->description)] != '.';
}

static void drop_others(OutCheck *o)
{
    bool own = !o->f->suffix;
    for (size_t i = 0; i < o->ndescription; i++)
        own = own || has_suffix(o, o->description[i]);
    size_t n = 0;
    for (size_t i = 0; i < o->ndescription; i++)
        if ((o->f->suffix && own && !has_suffix(o, o->description[i])) || (!o->files && (o->weights || !own)))
            free(o->description[i]);
        else
            o->description[n++] = o->description[i];
    o->ndescription = n;
}

static Status take_name(OutCheck *o, const char *name, Error *err)
{
    o->weights = o->weights || str_ends_with(name, ".safetensors");
    size_t stem = strlen(o->f->weights);
    if (format_is_weights(o->f, name))
        return add_file(o, name, err);
    if (strncmp(name, o->f->weights, stem) == 0 && strchr(o->f->suffix ? "._" : ".", name[stem])
        && str_ends_with(name, ".safetensors.index.json"))
        return add_path(o, &o->index, &o->nindex, &o->index_cap, name, err);
    if (o->f->labels && format_is_description(o->f, name))
        return add_path(o, &o->description, &o->ndescription, &o->description_cap, name, err);
    return ST_OK;
}

static Status read_folder(OutCheck *o, Error *err)
{
    char **name;
    size_t n;
    Status st = list_folder(o->dir, &name, &n, err);
    for (size_t i = 0; i < n; i++) {
        if (st == ST_OK)
            st = take_name(o, name[i], err);
        free(name[i]);
    }
    free(name);
    drop_others(o);
    return st;
}

/* ---- which form it has ---- */

/* config.json names this saver's form: integers, by groups. Packed ones are read as a model. */
static Status find_groups(OutCheck *o, bool *found, Error *err)
{
    char *path = path_join(o->dir, "config.json");
    cJSON *root = NULL;
    *found = false;
    Status st = path ? ST_OK : error_nomem(err, "a path");
    Error why; /* one that is none is told by whoever reads it as a model's */
    if (st == ST_OK && file_exists(path) && json_parse_file(path, CONFIG_MAX, &root, &why) == ST_NOMEM)
        st = error_nomem(err, path);
    if (root) {
        const cJSON *q = json_get(root, "quantization_config"), *method = json_get(q, "quant_method"),
                    *format = json_get(q, "format");
        *found = cJSON_IsString(method) && strcmp(method->valuestring, "compressed-tensors") == 0
                 && cJSON_IsString(format) && strcmp(format->valuestring, "int-quantized") == 0;
        if (*found)
            st = loader_new(&o->loader, q, err);
        cJSON_Delete(root);
    }
    free(path);
    return st;
}

static char *temp_of(const OutCheck *o)
{
    char name[128];
    store_temp_name(o->f->type, name, sizeof name);
    return path_join(o->dir, name);
}

static Status find_form(OutCheck *o, bool *found, Error *err)
{
    char *temp = temp_of(o);
    if (!temp)
        return error_nomem(err, "a path");
    o->began = dir_exists(temp);
    free(temp);
    *found = true;
    if (!o->f->labels)
        RETURN_IF_ERROR(find_groups(o, found, err));
    if (*found)
        RETURN_IF_ERROR(read_folder(o, err));
    *found = o->files || o->ndescription || o->nindex || (o->began && !o->only);
    return ST_OK;
}

static Status split_path(OutCheck *o, const char *path, Error *err)
{
    if (dir_exists(path)) {
        o->dir = strdup(path);
        return o->dir ? ST_OK : error_nomem(err, "a path");
    }
    const char *base = path_base(path);
    o->only = strdup(base);
    o->dir = base > path ? strndup(path, (size_t)(base - path)) : strdup(".");
    return o->dir && o->only ? ST_OK : error_nomem(err, "a path");
}

Status outcheck_open(OutCheck **out, const SaveFormat *f, const char *path, Error *err)
{
    *out = NULL;
    if (!dir_exists(path) && !format_is_weights(f, path_base(path)))
        return ST_OK;
    OutCheck *o = calloc(1, sizeof *o);
    if (!o)
        return error_nomem(err, "a check");
    bool found = false;
    o->f = f;
    Status st = split_path(o, path, err);
    if (st == ST_OK)
        st = find_form(o, &found, err);
    if (st == ST_OK && found) {
        *out = o;
        return ST_OK;
    }
    outcheck_free(o);
    return st;
}

void outcheck_free(OutCheck *o)
{
    if (!o)
        return;
    for (int i = 0; i < o->files; i++) {
        checkpoint_free(o->file[i].c);
        free(o->file[i].name);
        free(o->file[i].role);
        free(o->file[i].claimed);
    }
    for (size_t i = 0; i < o->nindex; i++)
        free(o->index[i]);
    for (size_t i = 0; i < o->ndescription; i++)
        free(o->description[i]);
    free(o->file);
    free(o->index);
    free(o->description);
    free(o->labels);
    free(o->attention);
    map_free(&o->where);
    map_free(&o->label);
    arena_free(&o->names);
    loader_free(o->loader);
    free(o->dir);
    free(o->only);
    free(o);
}

/* ---- a run that was stopped ---- */

typedef struct Progress {
    int layers;
    bool head;
} Progress;

static Status take_record(void *ctx, const char *json, uint32_t len, Error *err)
{
    Progress *p = ctx;
    cJSON *o;
    RETURN_IF_ERROR(json_parse(json, len, "the progress record", &o, err));
    p->head = true;
    p->layers += json_get(o, "layer") != NULL;
    cJSON_Delete(o);
    return ST_OK;
}

/* Whether some process holds the run's lock. */
static bool still_runs(const char *temp)
{
    char *path = path_join(temp, "lock");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    bool held = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    free(path);
    return held;
}

static Status tell_unfinished(OutCheck *o, Error *err)
{
    char *temp = temp_of(o), *path = temp ? path_join(temp, "journal") : NULL;
    char *ready = temp ? path_join(temp, STORE_READY) : NULL;
    Status st = path && ready ? ST_OK : error_nomem(err, "a path");
    bool finish = ready && file_exists(ready);
    Progress p = {0};
    Journal *j = NULL;
    Error why;
    if (st == ST_OK && file_exists(path) && journal_open(&j, path, JOURNAL_READ, take_record, &p, NULL, &why) == ST_OK)
        (void)journal_close(j, NULL);
    bool older = o->files && !finish;
    const char *rest = older ? "; the files beside it are of an older run" : "";
    if (st == ST_OK && still_runs(temp))
        out_tell(o, !older, NULL, "", "%s is being written here now: %d whole layers so far%s", o->f->type, p.layers, rest);
    else if (st == ST_OK && finish)
        out_tell(o, true, NULL, "", "a run of %s was stopped while it put its files into place: the same command with "
                 "--resume finishes it", o->f->type);
    else if (st == ST_OK && p.head)
        out_tell(o, !older, NULL, "", "an unfinished run of %s: %d whole layers are written; the same command with "
                 "--resume finishes it%s", o->f->type, p.layers, rest);
    else if (st == ST_OK)
        out_tell(o, !older, NULL, "", "a run of %s was stopped before its first layer: start it again%s", o->f->type, rest);
    free(path);
    free(ready);
    free(temp);
    return st;
}

/* ---- documents ---- */

/* A file that the run wrote. People edit documents: that one of them was is only to know. */
static Status check_written(OutCheck *o, int at, const ManifestFile *f, Error *err)
{
    char *path = path_join(o->dir, f->name);
    if (!path)
        return error_nomem(err, "a path");
    bool there = file_exists(path), weights = str_ends_with(f->name, ".safetensors");
    free(path);
    if (!there)
        out_tell(o, true, NULL, "", "%s is missing: it was written with %llu bytes", f->name, (unsigned long long)f->bytes);
    else if (!manifest_is_there(at, f))
        out_tell(o, weights, NULL, "", "%s has been changed: it was written with %llu bytes", f->name,
                 (unsigned long long)f->bytes);
    return ST_OK;
}

static Status check_manifest(OutCheck *o, Error *err)
{
    Manifest *m = NULL;
    size_t n = 0;
    int at = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    Status st = at < 0 ? file_error(err, "read folder", o->dir, errno) : manifest_list(at, o->dir, &m, &n, err);
    for (size_t i = 0; st == ST_OK && i < n; i++)
        for (size_t k = 0; st == ST_OK && k < m[i].n && strcmp(m[i].saver, o->f->type) == 0; k++)
            if (!m[i].files[k].old)
                st = check_written(o, at, &m[i].files[k], err);
    manifest_list_free(m, n);
    if (at >= 0)
        close(at);
    return st;
}

static Status index_tensors(OutCheck *o, Error *err)
{
    for (int f = 0; f < o->files; f++)
        for (int64_t i = 0; i < checkpoint_count(o->file[f].c); i++) {
            const TensorInfo *t = checkpoint_at(o->file[f].c, i);
            bool added;
            if (!map_add(&o->where, t->name, strlen(t->name), (int64_t)f << 32 | i, &added))
                return error_nomem(err, "a list of tensors");
            if (!added)
                out_tell(o, true, t, t->name, "is in two files, %s is one", o->file[f].name);
        }
    return ST_OK;
}

static Status take_label(void *ctx, const char *key, size_t key_len, const char *v, size_t n, Error *err)
{
    OutCheck *o = ctx;
    if (n < 2 || v[0] != '"' || (!memchr(key, '.', key_len) && map_get(&o->where, key, key_len, -1) < 0))
        return ST_OK; /* metadata and the like */
    const char *name = arena_strndup(&o->names, key, key_len);
    char *label = arena_strndup(&o->names, v + 1, n - 2);
    if (!name || !label || !mem_grow(&o->labels, &o->labels_cap, o->nlabels + 1, sizeof *o->labels)
        || !map_add(&o->label, name, key_len, (int64_t)o->nlabels, NULL))
        return error_nomem(err, "the description");
    (void)label_unmark(label);
    o->labels[o->nlabels++] = label;
    if (str_ends_with(name, ATTENTION_TYPE)) {
        if (!mem_grow(&o->attention, &o->attention_cap, o->nattentions + 1, sizeof *o->attention))
            return error_nomem(err, "the description");
        o->attention[o->nattentions++] = name;
        return ST_OK;
    }
    int file;
    if (!out_tensor(o, name, &file))
        out_tell(o, true, NULL, name, "is missing: the description has it as %s", label);
    return ST_OK;
}

typedef struct IndexWalk {
    OutCheck *o;
    const char *path;
    int64_t entries;
} IndexWalk;

static Status take_place(void *ctx, const char *key, size_t key_len, const char *v, size_t n, Error *err)
{
    IndexWalk *w = ctx;
    OutCheck *o = w->o;
    char *name = strndup(key, key_len);
    if (!name)
        return error_nomem(err, "the index");
    int file;
    const TensorInfo *t = out_tensor(o, name, &file);
    w->entries++;
    if (!t)
        out_tell(o, true, NULL, name, "is missing: the index places it in %.*s", (int)n, v);
    else if (n < 2 || n - 2 != strlen(o->file[file].name) || memcmp(v + 1, o->file[file].name, n - 2) != 0)
        out_tell(o, true, t, name, "is in %s, the index says %.*s", o->file[file].name, (int)n, v);
    free(name);
    return ST_OK;
}

static Status take_member(void *ctx, const char *key, size_t key_len, const char *v, size_t n, Error *err)
{
    IndexWalk *w = ctx;
    if (key_len != 10 || memcmp(key, "weight_map", 10) != 0)
        return ST_OK;
    return json_walk_again(v, n, w->path, take_place, w, err);
}

/* A document that can't be read is a finding, but a lack of memory is none. */
static Status read_document(OutCheck *o, const char *path, JsonMember *take, void *ctx, Error *err)
{
    char *text = NULL;
    size_t n;
    Error why = {0};
    Status st = file_read(path, DOCUMENT_MAX, &text, &n, &why);
    if (st == ST_OK)
        st = json_walk(text, n, path, take, ctx, &why);
    free(text);
    if (st == ST_NOMEM) {
        *err = why;
        return st;
    }
    if (st != ST_OK)
        out_tell(o, true, NULL, "", "%s", why.text);
    return ST_OK;
}

static bool sharded(const OutCheck *o)
{
    for (int i = 0; i < o->files; i++)
        if (strstr(o->file[i].name, "-of-"))
            return true;
    return false;
}

static Status read_documents(OutCheck *o, Error *err)
{
    char *config = path_join(o->dir, "config.json");
    if (!config)
        return error_nomem(err, "a path");
    if (!file_exists(config))
        out_tell(o, true, NULL, "", "config.json is missing");
    free(config);
    if (o->f->labels && !o->ndescription)
        out_tell(o, true, NULL, "", "%s.json is missing: nothing says how the tensors are quantized", o->f->description);
    for (size_t i = 0; i < o->ndescription; i++)
        RETURN_IF_ERROR(read_document(o, o->description[i], take_label, o, err));
    for (size_t i = 0; i < o->nindex; i++) {
        IndexWalk w = {o, o->index[i], 0};
        RETURN_IF_ERROR(read_document(o, o->index[i], take_member, &w, err));
        if (w.entries < (int64_t)o->where.count)
            out_tell(o, true, NULL, "", "%s names %lld of %zu tensors", path_base(o->index[i]), (long long)w.entries,
                     o->where.count);
    }
    if (!o->nindex && sharded(o))
        out_tell(o, true, NULL, "", "%s.safetensors.index.json is missing", o->f->weights);
    return ST_OK;
}

Status outcheck_run(OutCheck *o, OutTell *tell, void *ctx, Error *err)
{
    o->tell = tell;
    o->ctx = ctx;
    o->err = err;
    o->told = ST_OK;
    if (o->began && !o->only)
        RETURN_IF_ERROR(tell_unfinished(o, err));
    if (o->files || o->ndescription || o->nindex) {
        if (!o->only)
            RETURN_IF_ERROR(check_manifest(o, err));
        RETURN_IF_ERROR(index_tensors(o, err));
        RETURN_IF_ERROR(read_documents(o, err));
        RETURN_IF_ERROR(out_linears(o, err));
        if (!o->only && o->files && (o->ndescription || !o->f->labels))
            RETURN_IF_ERROR(out_shapes(o, err));
    }
    return o->told;
}

static int asked(const OutCheck *o, int i)
{
    for (int f = 0; f < o->files; f++)
        if (!o->only || strcmp(o->file[f].name, o->only) == 0)
            if (i-- == 0)
                return f;
    return -1;
}

int outcheck_files(const OutCheck *o)
{
    return o->only ? asked(o, 0) >= 0 : o->files;
}

const Checkpoint *outcheck_file(const OutCheck *o, int i)
{
    return o->file[asked(o, i)].c;
}

OutRole outcheck_role(const OutCheck *o, int file, int64_t i)
{
    return (OutRole)o->file[asked(o, file)].role[i];
}
