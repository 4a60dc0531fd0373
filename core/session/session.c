/* What is open in a session, and its settings; the rest is in its parts. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "session/assignment.h"
#include "session/entries.h"
#include "session/folder.h"
#include "session/notes.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/table.h"
#include "session/whatif.h"

/* A session in one piece: its parts know each other through struct Session only. */
typedef struct Whole {
    Session session;
    Assignment assignment;
    WhatIfs whatifs;
    Results results;
    Table table;
    Queue queue;
    Notes notes;
} Whole;

char *dup_or_null(const char *s)
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
        s->opt.arith = ARITH_MODEL;
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
    s->results = &w->results;
    s->table = &w->table;
    s->queue = &w->queue;
    s->notes = &w->notes;
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
    results_close(s->results);
    whatif_clear(s->whatifs);
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
    Status st = folder_end(s, err);
    model_close(s);
    queue_fini(s->queue);
    results_fini(s->results);
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

static Status parse_count(const char *key, const char *value, int64_t min, int64_t *out, Error *err)
{
    char *end;
    long long v = strtoll(value, &end, 10);
    if (!*value || *end || v < min)
        return error_set(err, ST_USAGE, "%s takes a whole number of at least %lld, not '%s'", key, (long long)min,
                         value);
    *out = v;
    return ST_OK;
}

static Status parse_bytes(const char *key, const char *value, uint64_t *out, Error *err)
{
    char *end;
    double v = strtod(value, &end);
    static const char units[] = "KMGT";
    double scale = 1;
    const char *u = *end ? strchr(units, *end >= 'a' && *end <= 'z' ? *end - 32 : *end) : NULL;
    if (u) {
        for (long i = 0; i <= u - units; i++)
            scale *= 1024;
        end++;
        if (*end == 'i')
            end++;
    }
    if (*end == 'B' || *end == 'b')
        end++;
    if (!*value || *end || !(v >= 0) || v * scale > 1e18)
        return error_set(err, ST_USAGE, "%s takes a size like 300M or 4G, not '%s'", key, value);
    *out = (uint64_t)(v * scale);
    return ST_OK;
}

static Status set_threads(SessionOptions *o, const char *v, Error *err)
{
    int64_t n = 0;
    RETURN_IF_ERROR(parse_count("threads", v, 0, &n, err));
    if (n > 1024)
        return error_set(err, ST_USAGE, "threads takes at most 1024, not '%s'", v);
    o->threads = (int)n;
    return ST_OK;
}

static Status set_mem(SessionOptions *o, const char *v, Error *err)
{
    return parse_bytes("mem", v, &o->mem, err);
}

static Status set_dtype_sim(SessionOptions *o, const char *v, Error *err)
{
    if (strcmp(v, "fp32") != 0 && strcmp(v, "model") != 0)
        return error_set(err, ST_USAGE, "dtype-sim is fp32 or model, not '%s'", v);
    if (o->peer && strcmp(v, "fp32") == 0)
        return error_set(err, ST_USAGE, "compat=peer computes in model mode: set compat=none first");
    o->arith = strcmp(v, "model") == 0 ? ARITH_MODEL : ARITH_FP32;
    return ST_OK;
}

static Status set_compat(SessionOptions *o, const char *v, Error *err)
{
    if (strcmp(v, "peer") != 0 && strcmp(v, "none") != 0)
        return error_set(err, ST_USAGE, "compat is peer or none, not '%s'", v);
    o->peer = strcmp(v, "peer") == 0;
    if (o->peer)
        o->arith = ARITH_MODEL;
    return ST_OK;
}

static Status set_max_samples(SessionOptions *o, const char *v, Error *err)
{
    int64_t n = 0;
    RETURN_IF_ERROR(parse_count("max-samples", v, 0, &n, err));
    o->max_samples = n > INT32_MAX ? INT32_MAX : (int)n;
    return ST_OK;
}

static Status set_seq_len(SessionOptions *o, const char *v, Error *err)
{
    return parse_count("seq-len", v, 0, &o->seq_len, err);
}

static Status set_ctx(SessionOptions *o, const char *v, Error *err)
{
    return parse_count("ctx", v, 2, &o->ctx, err);
}

static Status set_eval_tokens(SessionOptions *o, const char *v, Error *err)
{
    return parse_count("eval-tokens", v, 0, &o->eval_tokens, err);
}

static Status set_seed(SessionOptions *o, const char *v, Error *err)
{
    int64_t n = 0;
    RETURN_IF_ERROR(parse_count("seed", v, 0, &n, err));
    o->seed = (uint64_t)n;
    return ST_OK;
}

static const struct Setting {
    const char *key;
    Status (*set)(SessionOptions *o, const char *value, Error *err);
} settings[] = {
    {"threads", set_threads},
    {"mem", set_mem},
    {"dtype-sim", set_dtype_sim},
    {"compat", set_compat},
    {"max-samples", set_max_samples},
    {"seq-len", set_seq_len},
    {"ctx", set_ctx},
    {"eval-tokens", set_eval_tokens},
    {"seed", set_seed},
};

static bool same_key(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b))
            return false;
    return *a == *b;
}

Status session_set(Session *s, const char *key, const char *value, Error *err)
{
    if (session_busy(s))
        return error_set(err, ST_USAGE, "'%s' can't change while a job runs: stop it or wait", key);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (same_key(settings[i].key, key)) {
            RETURN_IF_ERROR(settings[i].set(&s->opt, value, err));
            results_mark_stale(s);
            entry_setting(s, settings[i].key, value);
            return ST_OK;
        }
    Str names = {0};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        str_printf(&names, "%s%s", i ? " " : "", settings[i].key);
    error_set(err, ST_USAGE, "no setting '%s': there are %s", key, str_text(&names));
    str_free(&names);
    return ST_USAGE;
}

/* ---- opening ---- */

static void log_notes(Session *s, const Recipe *r)
{
    for (int i = 0; i < recipe_notes(r); i++)
        session_log(s, 1, "%s:%d:%d: %s", recipe_name(r), recipe_note(r, i)->line, recipe_note(r, i)->column,
                    recipe_note(r, i)->text);
}

Status session_open_recipe(Session *s, const char *path, Error *err)
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
    if (session_busy(s) && !s->calib_name && strcmp(recipe_dataset(r), session_calib(s)) != 0)
        st = error_set(err, ST_USAGE, "a job runs: stop it before opening a recipe with other calibration data");
    if (st == ST_OK)
        st = assignment_use_recipe(s, r, err);
    if (st != ST_OK) {
        recipe_free(r);
        return st;
    }
    results_mark_stale(s);
    log_notes(s, r);
    entry_text(s, "recipe", path);
    return ST_OK;
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
    return session_open_recipe(s, NULL, err);
}

static Status set_data(Session *s, const char *kind, const char *name, char **path, char **shown, Error *err)
{
    if (session_busy(s))
        return error_set(err, ST_USAGE, "a job runs: stop it before changing the data");
    char *found = file_exists(name) || !s->opt.find_data ? strdup(name) : s->opt.find_data(s->opt.find_ctx, name, err);
    if (!found)
        return err && err->status != ST_OK ? err->status : error_nomem(err, "a path");
    if (!file_exists(found)) {
        error_set(err, ST_DATA, "'%s': no such file", found);
        free(found);
        return ST_DATA;
    }
    char *copy = strdup(name);
    if (!copy) {
        free(found);
        return error_nomem(err, "a path");
    }
    free(*path);
    free(*shown);
    *path = found;
    *shown = copy;
    entry_text(s, kind, name);
    results_mark_stale(s);
    return ST_OK;
}

Status session_set_calib(Session *s, const char *name, Error *err)
{
    return set_data(s, "calib", name, &s->calib_path, &s->calib_name, err);
}

Status session_set_eval(Session *s, const char *name, Error *err)
{
    return set_data(s, "eval", name, &s->eval_path, &s->eval_name, err);
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

