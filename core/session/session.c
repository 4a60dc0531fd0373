/* What is open in a session, and its settings; the rest is in its parts. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"
#include "io/fingerprint.h"
#include "session/assignment.h"
#include "session/asked.h"
#include "session/attach.h"
#include "session/autotuning.h"
#include "session/entries.h"
#include "session/folder.h"
#include "session/kept.h"
#include "session/guide.h"
#include "session/loaded.h"
#include "session/notes.h"
#include "session/parts.h"
#include "session/picture.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/settings.h"
#include "session/sizes.h"
#include "session/table.h"
#include "session/texts.h"
#include "session/tuning.h"
#include "session/whatif.h"

/* A session in one piece: its parts know each other through struct Session only. */
typedef struct Whole {
    Session session;
    Assignment assignment;
    WhatIfs whatifs;
    Results results;
    Texts texts;
    Table table;
    Tuning tuning;
    Autotune autotune;
    Queue queue;
    Notes notes;
    Kept kept;
    Sizes sizes;
} Whole;

/* malloced; NULL of NULL and without memory */
static char *dup_or_null(const char *s)
{
    return s ? strdup(s) : NULL;
}

void session_options_default(SessionOptions *o)
{
    *o = (SessionOptions){.ctx = 512, .eval_tokens = 1024, .seed = 42};
}

static Status take_options(Session *s, const SessionOptions *o, Error *err)
{
    s->opt = *o;
    if (s->opt.peer)
        s->opt.arith = ARITH_EXACT;
    s->state_dir = dup_or_null(o->state_dir);
    s->cache_dir = dup_or_null(o->cache_dir);
    s->opt.state_dir = s->state_dir;
    s->opt.cache_dir = s->cache_dir;
    if ((o->state_dir && !s->state_dir) || (o->cache_dir && !s->cache_dir))
        return error_nomem(err, "the session");
    return ST_OK;
}

Status session_new(Session **out, const SessionOptions *o, Error *err)
{
    *out = NULL;
    Whole *w = calloc(1, sizeof *w);
    if (!w)
        return error_nomem(err, "the session");
    Session *s = &w->session;
    s->assignment = &w->assignment;
    s->whatifs = &w->whatifs;
    s->tuning = &w->tuning;
    s->autotune = &w->autotune;
    s->results = &w->results;
    s->texts = &w->texts;
    s->table = &w->table;
    s->queue = &w->queue;
    s->notes = &w->notes;
    s->kept = &w->kept;
    s->sizes = &w->sizes;
    results_init(s->results);
    table_init(s->table);
    s->read_only = o->read_only;
    Status st = queue_init(s->queue, err);
    if (st == ST_OK)
        st = take_options(s, o, err);
    if (st != ST_OK) {
        session_free(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

static void model_close(Session *s)
{
    pictures_drop(s);
    sizes_drop(s);
    kept_close(s->kept);
    loaded_close(s);
    results_close(s->results);
    whatif_clear(s->whatifs);
    tuning_clear(s->tuning);
    autotune_clear(s->autotune);
    said_free(s);
    guide_free(s->guide);
    s->guide = NULL;
    assignment_close(s->assignment);
    table_close(s->table);
    map_free(&s->by_name);
    recipe_free(s->recipe);
    s->recipe = NULL;
    model_free(s->model);
    s->model = NULL;
}

Status session_close(Session *s, Error *err)
{
    if (!s)
        return ST_OK;
    jobs_stop(s);
    texts_forget(s->texts);
    Status st = folder_end(s, err);
    attach_free(s->attach);
    model_close(s);
    queue_fini(s->queue);
    results_fini(s->results);
    texts_end(s->texts);
    table_fini(s->table);
    notes_fini(s->notes);
    free(s->model_type);
    free(s->calib_path);
    free(s->calib_name);
    free(s->eval_path);
    free(s->eval_name);
    free(s->state_dir);
    free(s->cache_dir);
    free(s); /* the first member of its Whole */
    return st;
}

void session_free(Session *s)
{
    session_close(s, NULL);
}

const SessionOptions *session_options(const Session *s)
{
    return &s->opt;
}

/* ---- settings ---- */

Status session_set(Session *s, const char *key, const char *value, Error *err)
{
    const Setting *row = setting_find(key, err);
    if (!row)
        return ST_USAGE;
    if (session_busy(s) && !row->neutral)
        return error_set(err, ST_USAGE, "'%s' can't change while a job runs: stop it or wait", key);
    if (!row->neutral && !s->restoring)
        RETURN_IF_ERROR(attached_refuses(s, err));
    RETURN_IF_ERROR(row->set(&s->opt, value, err));
    if (s->opt.session_cap && strcmp(row->key, "session-cap") == 0 && !s->restoring)
        folder_make_room(s);
    if (!row->neutral)
        results_mark_stale(s);
    entry_setting(s, row->key, value);
    return ST_OK;
}

/* ---- opening ---- */

static void log_notes(Session *s, const Recipe *r)
{
    for (int i = 0; i < recipe_notes(r); i++)
        session_log(s, 1, "%s:%d:%d: %s", recipe_name(r), recipe_note(r, i)->line, recipe_note(r, i)->column,
                    recipe_note(r, i)->text);
}

/* Whether a recipe is the one that is open. */
static bool is_open(const Session *s, const Recipe *r)
{
    const char *a = recipe_path(s->recipe), *b = recipe_path(r);
    size_t na, nb;
    const char *ta = recipe_source(s->recipe, &na), *tb = recipe_source(r, &nb);
    return (a && b ? strcmp(a, b) == 0 : !a && !b) && na == nb && memcmp(ta, tb, na) == 0;
}

Status recipe_adopt(Session *s, Recipe *r, RuleList *rules, Str *what, Error *err)
{
    RuleList none = {0};
    if (!s->recipe) {
        RETURN_IF_ERROR(assignment_use_recipe(s, r, &none, err));
        entry_recipe(s, r, NULL);
    } else if (is_open(s, r) && (!rules || (rules->n == 0 && s->assignment->rules.n == 0))) {
        if (what)
            str_printf(what, "recipe %s is open already", recipe_name(r));
        return ST_OK;
    } else {
        RETURN_IF_ERROR(assignment_change_recipe(s, r, rules, what, err));
    }
    log_notes(s, r);
    return ST_OK;
}

Status session_open_recipe(Session *s, const char *path, Str *what, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "open a model before a recipe");
    Recipe *r;
    Str all = {0};
    Status st = path ? recipe_open(&r, &recipe_rows, path, &all, err) : recipe_default(&r, &recipe_rows, err);
    if (st != ST_OK)
        notes_lines(s, 2, &all);
    str_free(&all);
    RETURN_IF_ERROR(st);
    st = recipe_adopt(s, r, NULL, what, err);
    recipe_free(r);
    return st;
}

static Status adopt_model(Session *s, Model *m, Error *err)
{
    model_close(s);
    s->model = m;
    RETURN_IF_ERROR(assignment_open(s->assignment, m, err));
    RETURN_IF_ERROR(results_open(s->results, m, err));
    for (int64_t i = 0; i < m->nlinears; i++)
        if (!map_add(&s->by_name, m->linears[i].name, strlen(m->linears[i].name), i, NULL))
            return error_nomem(err, "the layer table");
    return table_open(s->table, m, err);
}

Status session_open_model(Session *s, const char *path, const char *model_type, Error *err)
{
    if (session_busy(s))
        return error_set(err, ST_USAGE, "a job runs: stop it before opening another model");
    Model *m;
    Error why = {0};
    RETURN_IF_ERROR(model_open(&m, path, model_type, err));
    jobs_stop(s); /* the thread keeps buffers of the old model */
    texts_forget(s->texts); /* tokens are of a model, too */
    if (!s->restoring && folder_end(s, &why) != ST_OK)
        session_log(s, 2, "%s", why.text);
    Status st = adopt_model(s, m, err);
    if (st != ST_OK) {
        model_close(s);
        return st;
    }
    free(s->model_type);
    s->model_type = dup_or_null(model_type);
    if (model_type && !s->model_type)
        return error_nomem(err, "a model type");
    if (m->warning)
        session_log(s, 1, "%s", m->warning);
    if (!s->restoring)
        RETURN_IF_ERROR(folder_begin(s, err));
    return session_open_recipe(s, NULL, NULL, err);
}

Status data_print(const char *path, char print[65], Error *err)
{
    enum { PLACES = 512 };
    uint64_t size;
    int fd;
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, path_base(path));
    RETURN_IF_ERROR(file_open(path, &fd, &size, err));
    hasher_u64(&h, size);
    Status st = fingerprint_sample(fd, path, size, PLACES, &h, err);
    close(fd);
    Digest d = hasher_end(&h);
    digest_hex(&d, print);
    return st;
}

/* before (may be NULL): what comes first where it is another set. */
static Status set_data(Session *s, const char *kind, const char *name, void (*before)(Session *s), char **path, char **shown, char print[65],
                       Error *err)
{
    if (session_busy(s))
        return error_set(err, ST_USAGE, "a job runs: stop it before changing the data");
    bool named = file_exists(name); /* else one that ships */
    char *found = named ? realpath(name, NULL) : NULL; /* a session may be resumed in another folder */
    if (!found)
        found = named || !s->opt.find_data ? strdup(name) : s->opt.find_data(s->opt.find_ctx, name, err);
    if (!found)
        return err && err->status != ST_OK ? err->status : error_nomem(err, "a path");
    if (!file_exists(found)) {
        error_set(err, ST_DATA, "'%s': no such file", found);
        free(found);
        return ST_DATA;
    }
    char now[65];
    char *copy = strdup(name);
    Status st = copy ? data_print(found, now, err) : error_nomem(err, "a path");
    if (st != ST_OK) {
        free(found);
        free(copy);
        return st;
    }
    if (before && strcmp(print, now) != 0)
        before(s);
    memcpy(print, now, sizeof now);
    free(*path);
    free(*shown);
    *path = found;
    *shown = copy;
    entry_text(s, kind, named ? found : name);
    s->texts->version++;
    results_mark_stale(s);
    return ST_OK;
}

Status session_set_calib(Session *s, const char *name, Error *err)
{
    return set_data(s, "calib", name, kept_outdated, &s->calib_path, &s->calib_name, s->calib_print, err);
}

Status session_set_eval(Session *s, const char *name, Error *err)
{
    return set_data(s, "eval", name, NULL, &s->eval_path, &s->eval_name, s->eval_print, err);
}

const Model *session_model(const Session *s)
{
    return s->model;
}

const Recipe *session_recipe(const Session *s)
{
    return s->recipe;
}

const char *session_calib(const Session *s)
{
    if (s->calib_name)
        return s->calib_name;
    return s->recipe ? recipe_dataset(s->recipe) : "mix_calib.jsonl";
}

const char *session_eval(const Session *s)
{
    return s->eval_name ? s->eval_name : "eval.jsonl";
}

