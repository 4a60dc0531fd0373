/* Bringing a session back from its journal. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "session/assignment.h"
#include "session/attach.h"
#include "session/autotuning.h"
#include "session/bases.h"
#include "session/effectrecord.h"
#include "session/entries.h"
#include "session/fields.h"
#include "session/columns.h"
#include "session/folder.h"
#include "session/madewith.h"
#include "session/guide.h"
#include "session/modeltree.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/kept.h"
#include "session/loaded.h"
#include "session/jobrecord.h"
#include "session/record.h"
#include "session/rulerecord.h"
#include "session/results.h"
#include "session/streamfile.h"
#include "session/table.h"
#include "session/texts.h"
#include "session/tuning.h"
#include "session/whatif.h"

/* The name by which a record knows an arithmetic, as it is called today. */
static const char *arith_today(Session *s, const char *name)
{
    if (s->format >= FORMAT_EXACT || strcmp(name, "model") != 0)
        return name;
    s->renamed = true;
    return arith_name(ARITH_EXACT);
}

static Status arith_recorded(Session *s, const char *name, ArithMode *out, Error *err)
{
    if (arith_find(arith_today(s, name), out))
        return ST_OK;
    return error_set(err, ST_DATA, "it computes in '%.20s' arithmetic, which this slimscope doesn't know", name);
}

/* What the first record says of settings. */
static Status open_options(Session *s, const cJSON *o, Error *err)
{
    const char *model = text_of(o, "model"), *print = text_of(o, "fingerprint"), *arith = text_of(o, "arith");
    if (!model || !print)
        return error_set(err, ST_DATA, "its first record names no model");
    s->format = (int)whole_in(o, "format", 0, INT32_MAX, 0);
    s->opt.arith = ARITH_FP32;
    if (arith)
        RETURN_IF_ERROR(arith_recorded(s, arith, &s->opt.arith, err));
    s->opt.peer = cJSON_IsTrue(json_get(o, "peer"));
    s->opt.max_samples = (int)whole_in(o, "max_samples", 0, INT32_MAX, 0);
    s->opt.seq_len = whole_in(o, "seq_len", 0, INT64_MAX, 0);
    s->opt.ctx = whole_in(o, "ctx", 2, INT64_MAX, 512);
    s->opt.eval_tokens = whole_in(o, "eval_tokens", 0, INT64_MAX, 1024);
    s->opt.tokens = whole_in(o, "tokens", 0, INT64_MAX, 0);
    s->opt.data_labels = cJSON_IsTrue(json_get(o, "data_labels"));
    s->opt.seed = (uint64_t)whole_in(o, "seed", 0, INT64_MAX, 42);
    snprintf(s->recorded, sizeof s->recorded, "%s", print);
    return ST_OK;
}

static Status on_open(Session *s, const cJSON *o, Error *err)
{
    RETURN_IF_ERROR(open_options(s, o, err));
    return session_open_model(s, text_of(o, "model"), text_of(o, "model_type"), err);
}

/* The model that the session went on with although it was another one. */
static Status on_model(Session *s, const cJSON *o, Error *err)
{
    const char *print = text_of(o, "fingerprint");
    if (!print)
        return error_set(err, ST_DATA, "a model record is damaged");
    snprintf(s->recorded, sizeof s->recorded, "%s", print);
    if (s->format < FORMAT_FINGERPRINTS)
        s->format = FORMAT_FINGERPRINTS;
    results_mark_stale(s);
    return ST_OK;
}

static Status on_format(Session *s, const cJSON *o, Error *err)
{
    (void)err;
    s->format = (int)whole_in(o, "format", s->format, INT32_MAX, s->format);
    return ST_OK;
}

/* The texts behind the newest pass or measurement. */
static Status on_data(Session *s, const cJSON *o, Error *err)
{
    Results *r = s->results;
    const char *set = text_of(o, "set"), *name = text_of(o, "name"), *sha = text_of(o, "sha256");
    if (!set || !name || !sha)
        return error_set(err, ST_DATA, "a record of a data set is damaged");
    bool calib = strcmp(set, "calib") == 0;
    DataInfo *d = calib ? &r->calib_info : &r->eval_info;
    char *copy = calib ? r->calib_name : r->eval_name;
    snprintf(copy, DATA_NAME_MAX, "%s", name);
    d->name = copy;
    snprintf(d->sha256, sizeof d->sha256, "%s", sha);
    d->samples = (int)whole_in(o, "samples", 0, INT32_MAX, 0);
    d->tokens = whole_in(o, "tokens", 0, INT64_MAX, 0);
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

static Status on_scheme(Session *s, const cJSON *o, Error *err)
{
    return session_set_scheme(s, text_of(o, "text") ? text_of(o, "text") : "", err);
}

static Status on_set(Session *s, const cJSON *o, Error *err)
{
    const char *key = text_of(o, "key"), *value = text_of(o, "value");
    if (!key || !value)
        return ST_OK;
    return session_set(s, key, strcmp(key, "dtype-sim") == 0 ? arith_today(s, value) : value, err);
}

/* Of a filter, or of the texts of the calibration set. */
static Status on_change(Session *s, const cJSON *o, EditKind kind, Error *err)
{
    const char *from = text_of(o, "from"), *to = text_of(o, "to");
    if (!from || !to)
        return error_set(err, ST_DATA, "a record of a change is damaged");
    Edit e = {.kind = kind, .from = strdup(from), .to = strdup(to)};
    if (e.from && e.to)
        return edit_push(s, e, err);
    edit_fini(&e);
    return error_nomem(err, "a change");
}

static Status on_edit(Session *s, const cJSON *o, Error *err)
{
    enum { OLD_LEVELS = 0 }; /* without rules */
    const cJSON *cells = json_get(o, "cells"), *v = cells ? cells->child : NULL;
    int64_t kind = whole_in(o, "kind", OLD_LEVELS, EDIT_TEXTS, -1);
    int n = cJSON_GetArraySize(cells) / 3;
    if (kind == OLD_LEVELS)
        return cells_restore(s, cells, err);
    if (kind == EDIT_FILTER || kind == EDIT_TEXTS)
        return on_change(s, o, (EditKind)kind, err);
    Edit e = {.kind = EDIT_TAG, .cells = n > 0 && kind == EDIT_TAG ? mem_array((size_t)n, sizeof *e.cells) : NULL};
    if (n == 0 || kind != EDIT_TAG)
        return error_set(err, ST_DATA, "an edit record is damaged");
    if (!e.cells)
        return error_nomem(err, "an edit");
    for (; e.n < n; e.n++) {
        int64_t x[3];
        bool good = true; /* linear, from, to */
        for (int k = 0; k < 3; k++, v = v->next)
            good = good && cJSON_IsNumber(v) && whole_of(v->valuedouble, 0, k ? 1 : s->model->nlinears - 1, &x[k]);
        if (!good) {
            edit_fini(&e);
            return error_set(err, ST_DATA, "a tag doesn't fit the model");
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
    return text ? text_restore(s, text, err) : error_set(err, ST_DATA, "a what-if record is damaged");
}

/* dtype-sim=model, --dtype-sim model, shortened or not, to exact. */
static void rename_option(char *line)
{
    static const char was[] = "model", is[] = "exact";
    enum { LEN = sizeof was - 1 };
    for (char *p = line; (p = strstr(p, was)) != NULL; p += LEN) {
        if (p == line || !strchr(" =", p[-1]) || !strchr(" ", p[LEN]))
            continue;
        const char *word = p - 1;
        while (word > line && word[-1] != ' ')
            word--;
        word += strncmp(word, "--", 2) == 0 ? 2 : 0;
        if (strncmp(word, "dt", 2) == 0)
            memcpy(p, is, LEN);
    }
}

static Status on_command(Session *s, const cJSON *o, Error *err)
{
    const char *text = text_of(o, "text");
    char *line = text ? strdup(text) : NULL;
    if (text && !line)
        return error_nomem(err, "the history of commands");
    if (line && s->format < FORMAT_EXACT)
        rename_option(line);
    Status st = line ? session_record(s, line, err) : ST_OK;
    free(line);
    return st;
}

static Status on_view(Session *s, const cJSON *o, Error *err)
{
    const char *metric = text_of(o, "metric"), *sort = text_of(o, "sort"), *fold = text_of(o, "fold");
    if (metric && session_metric_find(s, metric))
        RETURN_IF_ERROR(session_show(s, metric, err));
    if (sort && sort_key_find(sort) >= 0)
        RETURN_IF_ERROR(session_sort(s, (SortKey)sort_key_find(sort), cJSON_IsTrue(json_get(o, "ascending")), err));
    if (fold && fold_mode_find(fold) >= 0)
        RETURN_IF_ERROR(session_fold(s, (FoldMode)fold_mode_find(fold), err));
    const char *second = text_of(o, "second");
    session_set_columns(s, second ? session_metric_find(s, second) : NULL,
                        (unsigned)whole_in(o, "columns", 0, COLUMN_KIND | COLUMN_ADVICE, 0));
    session_set_cursor(s, whole_in(o, "cursor", 0, INT64_MAX, -1));
    const char *tensors = text_of(o, "tensors");
    (void)session_tensor_filter(s, tensors ? tensors : "", NULL); /* one that a newer program knows shows all */
    return ST_OK;
}

static Status on_kept_filter(Session *s, const cJSON *o, Error *err)
{
    const char *name = text_of(o, "name"), *text = text_of(o, "text");
    if (!name || !text || session_save_filter(s, name, text, err) == ST_NOMEM)
        return name && text ? ST_NOMEM : ST_OK;
    return ST_OK;
}

/* The metrics of a pass that goes on from scores; one of statistics is known by its needs. */
static Status stopped_metrics(Stopped *p, const cJSON *names, Error *err)
{
    size_t n = 0;
    const cJSON *v;
    p->pass = &pass_statistics;
    if (!names)
        return ST_OK;
    p->metrics = mem_zarray((size_t)cJSON_GetArraySize(names) + 1, sizeof *p->metrics);
    if (!p->metrics)
        return error_nomem(err, "a list of metrics");
    p->pass = NULL;
    cJSON_ArrayForEach(v, names) {
        const Metric *m = cJSON_IsString(v) ? metric_find(v->valuestring) : NULL;
        if (!m) /* another build's: it can't go on */
            return ST_OK;
        p->metrics[n++] = m;
    }
    p->pass = pass_of_all(p->metrics);
    return ST_OK;
}

static Status on_run(Session *s, const cJSON *o, Error *err)
{
    Results *r = s->results;
    const char *identity = text_of(o, "identity"), *arith = text_of(o, "arith");
    results_run_begins(r);
    r->stopped.run = (int)whole_in(o, "run", 0, INT32_MAX, 0);
    r->next_run = r->stopped.run > r->next_run ? r->stopped.run : r->next_run;
    r->stopped.needs = (unsigned)whole_in(o, "needs", 0, UINT32_MAX, 0);
    RETURN_IF_ERROR(stopped_metrics(&r->stopped, json_get(o, "metrics"), err));
    snprintf(r->identity, sizeof r->identity, "%s", identity ? identity : "");
    r->run_base = (Digest){{0}};
    if (text_of(o, "base") && !digest_parse(text_of(o, "base"), &r->run_base))
        return error_set(err, ST_DATA, "a record of a pass is damaged");
    const Digest open = bases_present(s, &r->run_base);
    r->scores.origin = origin_of_identity(s, r->identity, base_changed(&r->run_base));
    r->scores.arith = s->opt.arith;
    Status st = arith ? arith_recorded(s, arith, &r->scores.arith, err) : ST_OK;
    bases_present(s, &open);
    RETURN_IF_ERROR(st);
    const cJSON *list = json_get(o, "selected"), *v;
    int64_t i;
    if (!list)
        return ST_OK;
    r->stopped.nselected = s->model->nlinears;
    r->stopped.selected = mem_zarray((size_t)s->model->nlinears, 1);
    if (!r->stopped.selected)
        return error_nomem(err, "the selection");
    cJSON_ArrayForEach(v, list)
        if (whole_of(v->valuedouble, 0, s->model->nlinears - 1, &i))
            r->stopped.selected[i] = true;
    return ST_OK;
}

static Status on_rows(Session *s, const cJSON *o, Error *err)
{
    LinearResult *r;
    int n;
    RETURN_IF_ERROR(record_parse(json_get(o, "rows"), s->model, &r, &n, err));
    unsigned needs = (unsigned)whole_in(o, "needs", 0, UINT32_MAX, 0);
    const Digest open = bases_present(s, &s->results->run_base);
    for (int i = 0; i < n; i++)
        results_store(s->results, &r[i], needs);
    bases_present(s, &open);
    table_scores_changed(s->table);
    free(r);
    const char *sha = text_of(o, "stream");
    int run = (int)whole_in(o, "run", 0, INT32_MAX, -1), layer = (int)whole_in(o, "layer", 0, INT32_MAX - 1, -1);
    results_step(s->results, run, layer + 1, model_depth(s->model), sha ? sha : "");
    return ST_OK;
}

static Status on_scores(Session *s, const cJSON *o, Error *err)
{
    Results *r = s->results;
    const Digest open = bases_present(s, &r->run_base);
    Status st = record_parse_scores(json_get(o, "metrics"), &r->scores, err);
    bases_present(s, &open);
    RETURN_IF_ERROR(st);
    r->version++;
    r->loss_version++;
    r->loss_whole++;
    r->levels_seen = 0;
    table_scores_changed(s->table);
    if (!r->stopped.pass || !r->stopped.pass->stream) /* the record of the stream tells it of the others */
        results_step(r, (int)whole_in(o, "run", 0, INT32_MAX, -1), whole_in(o, "done", 0, INT64_MAX, 0),
                     whole_in(o, "total", 0, INT64_MAX, 0), "");
    return ST_OK;
}

static Status on_run_end(Session *s, const cJSON *o, Error *err)
{
    (void)err;
    results_run_ended(s->results, (int)whole_in(o, "run", 0, INT32_MAX, -1), num_of(o, "status", 1) == ST_OK);
    return ST_OK;
}

static Status on_quantize(Session *s, const cJSON *o, Error *err)
{
    Unwritten *u = &s->results->unwritten;
    const char *dir = text_of(o, "dir");
    free(u->dir);
    *u = (Unwritten){dir ? strdup(dir) : NULL, cJSON_IsTrue(json_get(o, "verify")), cJSON_IsTrue(json_get(o, "debug"))};
    return !dir || u->dir ? ST_OK : error_nomem(err, "a folder's name");
}

static Status on_quantize_end(Session *s, const cJSON *o, Error *err)
{
    (void)err;
    Unwritten *u = &s->results->unwritten;
    if (num_of(o, "status", 1) == ST_OK) {
        free(u->dir);
        u->dir = NULL;
    }
    return ST_OK;
}

static Status on_effect(Session *s, const cJSON *o, Error *err)
{
    Measured m = {.fit = fit_key(s)};
    if (!digest_parse(text_of(o, "key"), &m.key))
        return error_set(err, ST_DATA, "a measurement record is damaged");
    RETURN_IF_ERROR(effect_parse(o, s->model->nlinears, &m.effect, err));
    m.effect.arith = s->opt.arith; /* of a record that does not name it: nothing else could be set meanwhile */
    if (text_of(o, "arith"))
        RETURN_IF_ERROR(arith_recorded(s, text_of(o, "arith"), &m.effect.arith, err));
    RETURN_IF_ERROR(levels_parse(o, s->model->nlinears, s->assignment->level, &m.level, err));
    Status st = blocks_parse(o, &m.effect, &m.blocks, err);
    if (st != ST_OK) {
        free(m.level);
        return st;
    }
    Digest now = m.fit;
    digest_parse(text_of(o, "fit"), &m.fit); /* older records have none: of what was open when they came */
    bool fits = digest_cmp(&now, &m.fit) == 0;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        fits = fits && m.level[i] < s->assignment->nlevels;
    m.recipe = fits ? recipe_hold(s->recipe) : NULL;
    made_parse(o, &m.made);
    m.aside = cJSON_IsTrue(json_get(o, "aside"));
    if (fits && json_get(o, "rules"))
        m.ruled = rules_parse(s, o, &m.rules, NULL) == ST_OK; /* else its levels are known, and that is enough */
    return results_measured(s->results, &m, err);
}

/* Scores of another program: a value for each unit of their scope, null where there is none. */
static Status on_loaded(Session *s, const cJSON *o, Error *err)
{
    const char *name = text_of(o, "name"), *file = text_of(o, "file"), *scope = text_of(o, "scope");
    const cJSON *values = json_get(o, "values"), *v;
    int k = 0;
    while (scope && k < METRIC_SCOPES && strcmp(scope_name((MetricScope)k), scope) != 0)
        k++;
    int64_t n = s->model && scope && k < METRIC_SCOPES ? scope_units(s->model, (MetricScope)k) : -1, i = 0;
    if (!name || !file || metric_find(name) || n < 0 || cJSON_GetArraySize(values) != n)
        return error_set(err, ST_DATA, "a record of loaded scores is damaged");
    double *value = mem_array((size_t)n + 1, sizeof *value);
    if (!value)
        return error_nomem(err, "the scores");
    cJSON_ArrayForEach(v, values)
        value[i++] = cJSON_IsNumber(v) ? v->valuedouble : NAN;
    const LoadedFrom from = {file, cJSON_IsTrue(json_get(o, "kept")), whole_in(o, "direction", -1, 1, 1) < 0 ? -1 : 1};
    return loaded_put(s, name, &from, (MetricScope)k, value, err);
}

static Status on_keep(Session *s, const cJSON *o, Error *err)
{
    const char *name = text_of(o, "text");
    return name ? session_keep(s, name, NULL, err) : error_set(err, ST_DATA, "a record of a kept set is damaged");
}

static Status on_keep_not(Session *s, const cJSON *o, Error *err)
{
    const char *name = text_of(o, "text");
    return name ? session_keep_not(s, name, err) : error_set(err, ST_DATA, "a record of a kept set is damaged");
}

static Status on_name(Session *s, const cJSON *o, Error *err)
{
    return session_set_name(s, text_of(o, "text") ? text_of(o, "text") : "", err);
}

/* Told by its place alone (jobs_find_waiting). */
static Status on_nothing(Session *s, const cJSON *o, Error *err)
{
    (void)s, (void)o, (void)err;
    return ST_OK;
}

static const struct RecordKind {
    const char *name;
    Status (*apply)(Session *s, const cJSON *o, Error *err);
} kinds[] = {
    {"open", on_open},     {"format", on_format}, {"model", on_model},   {"data", on_data},
    {"calib", on_calib},   {"eval", on_eval}, {"recipe", recipe_restore}, {"set", on_set}, {"scheme", on_scheme},
    {"edit", on_edit},     {"rules", rules_restore}, {"undo", on_undo}, {"redo", on_redo}, {"whatif", on_whatif}, {"cmd", on_command},
    {"view", on_view},     {"kept_filter", on_kept_filter}, {"run", on_run},       {"rows", on_rows}, {"scores", on_scores}, {"run_end", on_run_end}, {"effect", on_effect},
    {"quantize", on_quantize}, {"quantize_end", on_quantize_end}, {"loaded", on_loaded}, {"mark", mark_restore}, {"foreign", foreign_restore},
    {"drop", drop_restore}, {"trial", trial_restore}, {"guide", guide_restore},
    {"tune", tuning_restore}, {"tune_end", tuning_restore_end},
    {"autotune", autotune_restore}, {"autotune_end", autotune_restore_end},
    {"keep", on_keep}, {"keep_not", on_keep_not},
    {"interact", interact_restore}, {"together", interact_restore_scores},
    {"job", job_restore},  {"job_begin", on_nothing}, {"job_end", job_end_restore}, {"job_gone", job_gone_restore},
    {"queue", queue_restore}, {"name", on_name},
};

static Status replay(void *ctx, const char *json, uint32_t len, Error *err)
{
    Session *s = ctx;
    cJSON *o;
    RETURN_IF_ERROR(json_parse(json, len, "journal", &o, err));
    const char *t = text_of(o, "t");
    Status st = ST_OK;
    bool known = s->attach && t && strcmp(t, "view") == 0; /* whoever is attached looks where they want */
    for (size_t i = 0; !known && i < sizeof kinds / sizeof *kinds && t; i++)
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

/* The newest whole stream decides where an unfinished pass goes on: its layer, or the one before. One that leaves none
 * goes on where its scores end. */
static void settle_stopped(Session *s)
{
    Stopped *p = &s->results->stopped;
    if (p->run >= 0 && p->done <= 0) /* it had only begun */
        results_run_ended(s->results, p->run, false);
    if (p->run < 0)
        return;
    if (!p->pass || p->done <= 0 || p->done >= p->total) {
        results_forget_stopped(s->results);
        return;
    }
    Stream h = {0};
    int layer = (int)p->done - 1;
    if (!p->pass->stream) {
        ;
    } else if (p->sha[0] && streamfile_read(s->dir, p->run, layer, p->sha, s->model, &h, NULL) == ST_OK) {
        stream_fini(&h);
    } else if (layer > 0 && p->prev_sha[0] &&
               streamfile_read(s->dir, p->run, layer - 1, p->prev_sha, s->model, &h, NULL) == ST_OK) {
        stream_fini(&h);
        p->done--;
        memcpy(p->sha, p->prev_sha, sizeof p->sha);
    } else {
        session_log(s, 1, "the stopped analysis can't go on (its stream is gone): rows are kept, run it anew");
        results_forget_stopped(s->results);
        return;
    }
    session_log(s, 0, "stopped at %s %lld of %lld; r goes on", p->pass->step, (long long)p->done, (long long)p->total);
}

static Status show_stopped(Session *s, Error *err)
{
    const Stopped *p = &s->results->stopped;
    const Queue *q = s->queue;
    bool found = false;
    for (size_t i = 0; p->run >= 0 && i < q->njobs; i++)
        if (q->jobs[i]->run == p->run) { /* the newest that went on with it is the one to go on with */
            q->jobs[i]->view.done = p->done;
            q->jobs[i]->view.total = p->total;
            found = true;
        }
    if (p->run < 0 || found)
        return ST_OK;
    const JobRow row = {.run = p->run, .view = {.kind = JOB_ANALYZE, .title = "analysis of an earlier sitting", .target = "",
                                                .done = p->done, .total = p->total}};
    return jobs_show_unfinished(s, row, NULL, err);
}

static Status show_unwritten(Session *s, Error *err)
{
    Unwritten *u = &s->results->unwritten;
    for (size_t i = 0; u->dir && i < s->queue->njobs; i++)
        if (s->queue->jobs[i]->dir && strcmp(s->queue->jobs[i]->dir, u->dir) == 0) { /* there it is */
            free(u->dir);
            u->dir = NULL;
        }
    if (!u->dir)
        return ST_OK;
    char title[80], target[256];
    snprintf(title, sizeof title, "quantize: %s", path_base(u->dir));
    snprintf(target, sizeof target, "%s", u->dir);
    const JobRow row = {.run = -1, .verify = u->verify, .debug = u->debug,
                        .view = {.kind = JOB_QUANTIZE, .title = title, .target = target}};
    RETURN_IF_ERROR(jobs_show_unfinished(s, row, u->dir, err));
    free(u->dir);
    *u = (Unwritten){0};
    return ST_OK;
}

/* Whether the model is still the one that the journal is about. */
static Status check_model(Session *s, Error *err)
{
    if (strcmp(s->recorded, s->model->fingerprint) == 0)
        return ST_OK;
    if (s->opt.force) {
        session_log(s, 1, "the model is not the one of the session: its scores are stale until they are made anew");
        entry_model(s);
        results_mark_stale(s);
        return ST_OK;
    }
    if (s->format < FORMAT_FINGERPRINTS)
        return error_set(err, ST_DATA,
                         "an older slimscope kept it, whose fingerprints did not cover the weights of '%s': --force goes "
                         "on with it if they are the same", s->model->path);
    return error_set(err, ST_DATA,
                     "the model at '%s' has changed since: its fingerprint is %.16s, the session's %.16s: start a new "
                     "session, or --force goes on with this one", s->model->path, s->model->fingerprint, s->recorded);
}

/* The folder of a session that is asked for by id or name; none: of the newest. */
static Status find_folder(const SessionOptions *o, const char *id, char found[40], Error *err)
{
    if (!o->state_dir)
        return error_set(err, ST_USAGE, "no state folder is set: nothing to resume");
    if (!id || !*id)
        RETURN_IF_ERROR(folder_newest(o->state_dir, found, err));
    else if (strlen(id) >= 40 || strchr(id, '/') || id[0] == '.')
        return error_set(err, ST_USAGE, "'%s' is no session name: resume --list shows them", id);
    else
        snprintf(found, 40, "%s", id);
    folder_by_name(o->state_dir, found);
    return ST_OK;
}

/* ---- without the model ---- */

typedef struct Look {
    Session *s;
    SessionRecord *each;
    void *ctx;
} Look;

/* Texts that nobody reads, with how long they are in their place. */
static void shorten(cJSON *o)
{
    enum { LONG = 400 };
    cJSON *c;
    cJSON_ArrayForEach(c, o) {
        char n[40];
        if (cJSON_IsString(c) && strlen(c->valuestring) > LONG) {
            snprintf(n, sizeof n, "(%zu bytes)", strlen(c->valuestring));
            cJSON_SetValuestring(c, n);
        }
        shorten(c);
    }
}

static Status look(void *ctx, const char *json, uint32_t len, Error *err)
{
    static const struct RecordKind alone[] = {
        {"open", open_options}, {"format", on_format}, {"data", on_data}, {"cmd", on_command}, {"name", on_name},
    };
    Look *l = ctx;
    cJSON *o;
    RETURN_IF_ERROR(json_parse(json, len, "journal", &o, err));
    const char *t = text_of(o, "t");
    Status st = ST_OK;
    for (size_t i = 0; i < sizeof alone / sizeof *alone && t && st == ST_OK; i++)
        if (strcmp(alone[i].name, t) == 0)
            st = alone[i].apply(l->s, o, err);
    shorten(o);
    char *text = st == ST_OK ? cJSON_PrintUnformatted(o) : NULL;
    if (text)
        l->each(l->ctx, text);
    else if (st == ST_OK)
        st = error_nomem(err, "a record of the journal");
    cJSON_free(text);
    cJSON_Delete(o);
    return st;
}

Status session_look(Session **out, const SessionOptions *o, const char *id, SessionRecord *each, void *ctx, Error *err)
{
    *out = NULL;
    char found[40];
    RETURN_IF_ERROR(find_folder(o, id, found, err));
    SessionOptions reads = *o;
    reads.read_only = true;
    Look l = {.each = each, .ctx = ctx};
    RETURN_IF_ERROR(session_new(&l.s, &reads, err));
    Status st = folder_look(l.s, found, look, &l, err);
    if (st != ST_OK)
        session_free(l.s);
    else
        *out = l.s;
    return st;
}

/* ---- with it ---- */

Status session_attach(Session **out, const SessionOptions *o, Attach *a, Error *err)
{
    *out = NULL;
    SessionOptions reads = *o;
    reads.read_only = true;
    Session *s;
    RETURN_IF_ERROR(session_new(&s, &reads, err));
    Status st = folder_follow(s, attach_hello(a)->id, replay, a, err);
    if (st == ST_OK && !s->model)
        st = error_set(err, ST_DATA, "session %s: its journal is empty", attach_hello(a)->id);
    if (st == ST_OK)
        st = check_model(s, err);
    if (st != ST_OK) {
        session_free(s);
        return st;
    }
    s->attach = a;
    *out = s;
    return ST_OK;
}

Status session_restore(Session **out, const SessionOptions *o, const char *id, Error *err)
{
    *out = NULL;
    char found[40];
    RETURN_IF_ERROR(find_folder(o, id, found, err));
    Session *s;
    RETURN_IF_ERROR(session_new(&s, o, err));
    char *dir = folder_path(o->state_dir, found);
    if (dir)
        jobs_find_waiting(s, dir);
    free(dir);
    Status st = folder_open(s, found, replay, err);
    if (st == ST_OK && !s->model)
        st = error_set(err, ST_DATA, "session %s: its journal is empty", found);
    Error other = {0};
    if (s->model && check_model(s, &other) != ST_OK) /* also behind records that don't fit: it is why they don't */
        st = error_set(err, other.status, "session %s: %s", found, other.text);
    if (st == ST_OK) {
        if (s->renamed && s->format < JOURNAL_FORMAT)
            session_log(s, 0, "an older slimscope kept this session: what it called model arithmetic is called exact now");
        if (s->format < JOURNAL_FORMAT)
            entry_format(s);
        settle_stopped(s);
        if (s->keeper)
            keeper_keep_streams(s->keeper, s->results->stopped.run);
        st = show_stopped(s, err);
    }
    if (st == ST_OK)
        st = show_unwritten(s, err);
    jobs_forget_oldest(s);
    if (st != ST_OK) {
        session_free(s);
        return st;
    }
    *out = s;
    return ST_OK;
}
