/* Bringing a session back from its journal. */
#include "session/assignment.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/record.h"
#include "session/results.h"
#include "session/store.h"
#include "session/table.h"
#include "session/whatif.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"

static const char *text_of(const cJSON *o, const char *key)
{
    const cJSON *v = json_get(o, key);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

static double num_of(const cJSON *o, const char *key, double missing)
{
    const cJSON *v = json_get(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : missing;
}

static Status on_open(Session *s, const cJSON *o, Error *err)
{
    const char *model = text_of(o, "model"), *print = text_of(o, "fingerprint"), *arith = text_of(o, "arith");
    if (!model || !print)
        return error_set(err, ST_DATA, "its first record names no model");
    s->opt.arith = arith && strcmp(arith, "model") == 0 ? ARITH_MODEL : ARITH_FP32;
    s->opt.peer = cJSON_IsTrue(json_get(o, "peer"));
    s->opt.max_samples = (int)num_of(o, "max_samples", 0);
    s->opt.seq_len = (int64_t)num_of(o, "seq_len", 0);
    s->opt.ctx = (int64_t)num_of(o, "ctx", 512);
    s->opt.eval_tokens = (int64_t)num_of(o, "eval_tokens", 1024);
    s->opt.seed = (uint64_t)num_of(o, "seed", 42);
    RETURN_IF_ERROR(session_open_model(s, model, text_of(o, "model_type"), err));
    if (strcmp(print, s->model->fingerprint) != 0)
        return error_set(err, ST_DATA,
                         "the model at '%s' has changed since (config.json or weights): start a new session", model);
    return ST_OK;
}

static Status on_calib(Session *s, const cJSON *o, Error *err)
{
    return session_set_calib(s, text_of(o, "text") ? text_of(o, "text") : "", err);
}

static Status on_eval(Session *s, const cJSON *o, Error *err)
{
    return session_set_eval(s, text_of(o, "text") ? text_of(o, "text") : "", err);
}

static Status on_recipe(Session *s, const cJSON *o, Error *err)
{
    return session_open_recipe(s, text_of(o, "text"), err);
}

static Status on_set(Session *s, const cJSON *o, Error *err)
{
    const char *key = text_of(o, "key"), *value = text_of(o, "value");
    return key && value ? session_set(s, key, value, err) : ST_OK;
}

static Status on_edit(Session *s, const cJSON *o, Error *err)
{
    const cJSON *cells = json_get(o, "cells");
    int n = cJSON_GetArraySize(cells) / 3;
    Edit e = {.kind = (EditKind)num_of(o, "kind", 0)};
    if (e.kind == EDIT_FILTER) {
        e.from = dup_or_null(text_of(o, "from"));
        e.to = dup_or_null(text_of(o, "to"));
        return e.from && e.to ? edit_push(s, e, err)
                              : (edit_fini(&e), error_set(err, ST_DATA, "a filter record is damaged"));
    }
    if (n == 0 || (e.kind != EDIT_LEVEL && e.kind != EDIT_TAG))
        return error_set(err, ST_DATA, "an edit record is damaged");
    e.cells = mem_array((size_t)n, sizeof *e.cells);
    if (!e.cells)
        return error_nomem(err, "an edit");
    const cJSON *v = cells->child;
    for (; e.n < n; e.n++) {
        int64_t x[3] = {0};
        for (int k = 0; k < 3; k++, v = v->next)
            x[k] = cJSON_IsNumber(v) ? (int64_t)v->valuedouble : -1;
        int64_t top = e.kind == EDIT_LEVEL ? s->assignment->nlevels : 2;
        if (x[0] < 0 || x[0] >= s->model->nlinears || x[1] < 0 || x[2] < 0 || x[1] >= top || x[2] >= top) {
            edit_fini(&e);
            return error_set(err, ST_DATA,
                             "an edit doesn't fit the model or the recipe (did the recipe's file change?)");
        }
        e.cells[e.n] = (EditCell){(int32_t)x[0], (int16_t)x[1], (int16_t)x[2]};
    }
    return edit_push(s, e, err);
}

static Status on_undo(Session *s, const cJSON *o, Error *err)
{
    (void)o;
    return session_undo(s, NULL, err);
}

static Status on_redo(Session *s, const cJSON *o, Error *err)
{
    (void)o;
    return session_redo(s, NULL, err);
}

static Status on_whatif(Session *s, const cJSON *o, Error *err)
{
    const char *text = text_of(o, "text");
    return text ? whatif_add(s->whatifs, text, NULL, err) : error_set(err, ST_DATA, "a what-if record is damaged");
}

static Status on_command(Session *s, const cJSON *o, Error *err)
{
    (void)err;
    if (text_of(o, "text"))
        session_record(s, text_of(o, "text"));
    return ST_OK;
}

static Status on_view(Session *s, const cJSON *o, Error *err)
{
    const char *metric = text_of(o, "metric"), *sort = text_of(o, "sort"), *fold = text_of(o, "fold");
    if (metric && metric_find(metric))
        RETURN_IF_ERROR(session_show(s, metric, err));
    if (sort && sort_key_find(sort) >= 0)
        RETURN_IF_ERROR(session_sort(s, (SortKey)sort_key_find(sort), cJSON_IsTrue(json_get(o, "ascending")), err));
    if (fold && fold_mode_find(fold) >= 0)
        RETURN_IF_ERROR(session_fold(s, (FoldMode)fold_mode_find(fold), err));
    session_set_cursor(s, (int64_t)num_of(o, "cursor", -1));
    return ST_OK;
}

static Status on_run(Session *s, const cJSON *o, Error *err)
{
    Results *r = s->results;
    const char *identity = text_of(o, "identity"), *arith = text_of(o, "arith");
    r->next_run = (int)num_of(o, "run", 0);
    results_forget_stopped(r);
    r->stopped.run = r->next_run;
    r->stopped.layer = 0;
    r->stopped.needs = (unsigned)num_of(o, "needs", 0);
    snprintf(r->identity, sizeof r->identity, "%s", identity ? identity : "");
    snprintf(r->run_arith, sizeof r->run_arith, "%s", arith ? arith : "");
    const cJSON *list = json_get(o, "selected"), *v;
    if (!list)
        return ST_OK;
    r->stopped.nselected = s->model->nlinears;
    r->stopped.selected = mem_zarray((size_t)s->model->nlinears, 1);
    if (!r->stopped.selected)
        return error_nomem(err, "the selection");
    cJSON_ArrayForEach(v, list)
        if (v->valuedouble >= 0 && v->valuedouble < (double)s->model->nlinears)
            r->stopped.selected[(int64_t)v->valuedouble] = true;
    return ST_OK;
}

static Status on_rows(Session *s, const cJSON *o, Error *err)
{
    LinearResult *r;
    int n;
    RETURN_IF_ERROR(record_parse(json_get(o, "rows"), s->model, &r, &n, err));
    for (int i = 0; i < n; i++)
        results_store(s->results, &r[i], (unsigned)num_of(o, "needs", 0));
    table_scores_changed(s->table);
    free(r);
    results_layer(s->results, (int)num_of(o, "run", -1), (int)num_of(o, "layer", -1),
               text_of(o, "stream") ? text_of(o, "stream") : "");
    return ST_OK;
}

static Status on_run_end(Session *s, const cJSON *o, Error *err)
{
    (void)err;
    if (num_of(o, "status", 1) == ST_OK)
        results_forget_stopped(s->results);
    return ST_OK;
}

static bool parse_digest(const char *hex, Digest *d)
{
    if (!hex || strlen(hex) != 64)
        return false;
    for (int i = 0; i < 32; i++) {
        unsigned v;
        if (sscanf(hex + 2 * i, "%2x", &v) != 1)
            return false;
        d->b[i] = (uint8_t)v;
    }
    return true;
}

static Status on_effect(Session *s, const cJSON *o, Error *err)
{
    enum { OLD = 19, ALL = 22 }; /* before and since unseen experts are counted */
    double v[ALL] = {[ALL - 1] = -1};
    int n = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, json_get(o, "v"))
        if (n < ALL)
            v[n++] = cJSON_IsNumber(c) ? c->valuedouble : 0.0 / 0.0;
    Measured m = {.version = s->assignment->version};
    if ((n != OLD && n != ALL) || !parse_digest(text_of(o, "key"), &m.key))
        return error_set(err, ST_DATA, "a measurement record is damaged");
    m.local_sum = num_of(o, "local", -1);
    m.effect = (Effect){.tokens = (int64_t)v[0],
                        .predicted = (int64_t)v[1],
                        .texts = (int)num_of(o, "texts", 0),
                        .kl_mean = v[2],
                        .kl_median = v[3],
                        .kl_p99 = v[4],
                        .kl_max = v[5],
                        .kl_se = v[6],
                        .top1 = v[7],
                        .top1_se = v[8],
                        .ppl_float = v[9],
                        .ppl_quant = v[10],
                        .ppl_float_se = v[11],
                        .ppl_quant_se = v[12],
                        .out_mse = v[13],
                        .out_mse_se = v[14],
                        .first_layer_run = (int)v[15],
                        .layers_run = (int)v[16],
                        .from_cache = v[17] != 0,
                        .seconds = v[18],
                        .unseen = {(int64_t)v[19], (int64_t)v[20], (int64_t)v[21]}};
    if (!s->model || m.effect.unseen.first >= s->model->nlinears) /* another model's */
        return error_set(err, ST_DATA, "a measurement record is damaged");
    return results_measured(s->results, &m, err);
}

static const struct RecordKind {
    const char *name;
    Status (*apply)(Session *s, const cJSON *o, Error *err);
} kinds[] = {
    {"open", on_open},     {"calib", on_calib},   {"eval", on_eval}, {"recipe", on_recipe}, {"set", on_set},
    {"edit", on_edit},     {"undo", on_undo},     {"redo", on_redo}, {"whatif", on_whatif}, {"cmd", on_command},
    {"view", on_view},     {"run", on_run},       {"rows", on_rows}, {"run_end", on_run_end}, {"effect", on_effect},
};

static Status replay(void *ctx, const char *json, uint32_t len, Error *err)
{
    Session *s = ctx;
    cJSON *o;
    RETURN_IF_ERROR(json_parse(json, len, "journal", &o, err));
    const char *t = text_of(o, "t");
    Status st = ST_OK;
    bool known = false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && t; i++)
        if (strcmp(kinds[i].name, t) == 0) {
            known = true;
            st = i > 0 && !s->model ? error_set(err, ST_DATA, "its first record opens no model")
                                    : kinds[i].apply(s, o, err);
            break;
        }
    if (!known)
        st = error_set(err, ST_DATA, "a record of unknown kind '%s': written by a newer slimscope?", t ? t : "");
    cJSON_Delete(o);
    return st;
}

/* The newest whole stream decides where an unfinished pass goes on: its layer, or the one before. */
static void settle_stopped(Session *s)
{
    Stopped *p = &s->results->stopped;
    int depth = model_depth(s->model);
    if (p->run < 0)
        return;
    if (p->layer <= 0 || p->layer >= depth) {
        results_forget_stopped(s->results);
        return;
    }
    Stream h = {0};
    if (p->sha[0] && durable_load_stream(s, p->run, p->layer - 1, p->sha, &h, NULL) == ST_OK) {
        stream_fini(&h);
    } else if (p->layer > 1 && p->prev_sha[0] &&
               durable_load_stream(s, p->run, p->layer - 2, p->prev_sha, &h, NULL) == ST_OK) {
        stream_fini(&h);
        p->layer--;
        memcpy(p->sha, p->prev_sha, sizeof p->sha);
    } else {
        session_log(s, 1, "the stopped analysis can't go on (its stream is gone): rows are kept, run it anew");
        results_forget_stopped(s->results);
        return;
    }
    session_log(s, 0, "a stopped analysis can go on from layer %d of %d: resume it with r on the Jobs screen or resume",
                p->layer, depth);
}

/* Shows the unfinished pass among the jobs. */
static Status show_stopped(Session *s, Error *err)
{
    const Stopped *p = &s->results->stopped;
    Queue *q = s->queue;
    if (p->run < 0)
        return ST_OK;
    RETURN_IF_ERROR(job_room(q, err));
    Job *j = calloc(1, sizeof *j);
    if (!j)
        return error_nomem(err, "the job list");
    j->view = (JobView){.id = ++q->next_job, .kind = JOB_ANALYZE, .state = JOB_STOPPED, .done = p->layer,
                        .total = model_depth(s->model), .eta = -1, .status = ST_CANCELLED};
    snprintf(j->view.title, sizeof j->view.title, "analysis of an earlier session");
    q->jobs[q->njobs++] = j;
    return ST_OK;
}

static Status newest_id(const char *state_dir, char id[40], Error *err)
{
    SessionInfo *list;
    int n;
    RETURN_IF_ERROR(session_list(state_dir, &list, &n, err));
    Status st = ST_OK;
    if (n == 0)
        st = error_set(err, ST_DATA, "no session to resume in '%s/sessions'", state_dir);
    else
        memcpy(id, list[0].id, 40);
    free(list);
    return st;
}

Status session_restore(Session **out, const SessionOptions *o, const char *id, Error *err)
{
    *out = NULL;
    char found[40];
    if (!o->state_dir)
        return error_set(err, ST_USAGE, "no state folder is set: nothing to resume");
    if (!id || !*id)
        RETURN_IF_ERROR(newest_id(o->state_dir, found, err));
    else if (strlen(id) >= sizeof found || strchr(id, '/') || id[0] == '.')
        return error_set(err, ST_USAGE, "'%s' is no session name: resume --list shows them", id);
    else
        snprintf(found, sizeof found, "%s", id);
    Session *s;
    RETURN_IF_ERROR(session_new(&s, o, err));
    memcpy(s->store->id, found, sizeof found);
    char *root = path_join(o->state_dir, "sessions");
    s->store->dir = root ? path_join(root, found) : NULL;
    free(root);
    Status st = ST_OK;
    if (!s->store->dir)
        st = error_nomem(err, "a path");
    else if (!dir_exists(s->store->dir))
        st = error_set(err, ST_DATA, "no session '%s': resume --list shows them", found);
    uint64_t torn = 0;
    if (st == ST_OK) {
        s->store->restoring = true;
        st = durable_open(s, replay, &torn, err);
        s->store->restoring = false;
        if (st != ST_OK)
            error_prefix(err, st, "session %s: ", found);
    }
    if (st == ST_OK && !s->model)
        st = error_set(err, ST_DATA, "session %s: its journal is empty", found);
    if (st == ST_OK) {
        if (torn)
            session_log(s, 1, "the journal's last %llu bytes were torn and have been cut off",
                        (unsigned long long)torn);
        settle_stopped(s);
        st = show_stopped(s, err);
    }
    if (st != ST_OK) {
        session_free(s);
        return st;
    }
    *out = s;
    return ST_OK;
}
