/* Making jobs: what each needs is found and copied, then it is queued. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/entries.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/table.h"

static char *data_path(Session *s, const char *path, const char *name, Error *err)
{
    if (path)
        return strdup(path);
    if (!s->opt.find_data)
        return strdup(name);
    return s->opt.find_data(s->opt.find_ctx, name, err);
}

Status job_new(Session *s, JobKind kind, bool calib, Job **out, Error *err)
{
    RETURN_IF_ERROR(job_room(s->queue, err));
    Job *j = calloc(1, sizeof *j);
    if (!j)
        return error_nomem(err, "a job");
    j->opt = s->opt;
    j->model = s->model;
    j->view.kind = kind;
    j->view.eta = -1;
    j->run = -1;
    Error why = {0};
    j->calib.path = calib ? data_path(s, s->calib_path, session_calib(s), &why) : strdup("");
    j->calib.name = strdup(session_calib(s));
    j->eval.path =
        kind == JOB_MEASURE && j->calib.path ? data_path(s, s->eval_path, session_eval(s), &why) : strdup("");
    j->eval.name = strdup(session_eval(s));
    if (!j->calib.path || !j->calib.name || !j->eval.path || !j->eval.name) {
        job_free(j);
        if (why.status == ST_OK)
            return error_nomem(err, "a job");
        return error_set(err, why.status, "%s", why.text);
    }
    j->calib.max_samples = s->opt.max_samples;
    j->calib.seq_len = s->opt.seq_len;
    j->eval.ctx = s->opt.ctx;
    j->eval.max_tokens = s->opt.eval_tokens;
    *out = j;
    return ST_OK;
}

Status job_take_levels(Session *s, Job *j, Error *err)
{
    size_t n = (size_t)s->model->nlinears;
    j->nlevels = s->assignment->nlevels - 1;
    j->level = mem_array(n, sizeof *j->level);
    j->levels = mem_array((size_t)s->assignment->nlevels, sizeof *j->levels);
    if (!j->level || !j->levels)
        return error_nomem(err, "a job");
    memcpy(j->level, s->assignment->level, n * sizeof *j->level);
    memcpy(j->levels, s->assignment->levels, (size_t)j->nlevels * sizeof *j->levels);
    return ST_OK;
}

static Status metric_needs(const char *const *metrics, unsigned *needs, Str *title, Error *err)
{
    for (int i = 0; metrics[i]; i++) {
        const Metric *m = metric_find(metrics[i]);
        if (!m) {
            Str names = {0};
            metric_names(&names);
            error_set(err, ST_USAGE, "metric '%s' is not in this build: there are %s", metrics[i], str_text(&names));
            str_free(&names);
            return ST_USAGE;
        }
        *needs |= m->needs;
        str_printf(title, "%s%s", i ? "+" : "", m->name);
    }
    return *needs ? ST_OK : error_set(err, ST_USAGE, "no metric was named");
}

static Status select_linears(const Session *s, const char *const *patterns, int n, Job *j, Error *err)
{
    int64_t total = s->model->nlinears;
    j->nselected = (int)total;
    if (n == 0)
        return ST_OK;
    j->selected = mem_zarray((size_t)total, 1);
    if (!j->selected)
        return error_nomem(err, "the selection");
    for (int i = 0; i < n; i++) {
        int64_t count;
        RETURN_IF_ERROR(session_target(s, patterns[i], j->selected, &count, err));
    }
    j->nselected = 0;
    for (int64_t i = 0; i < total; i++)
        j->nselected += j->selected[i];
    return ST_OK;
}

/* Whether every wanted linear already has these statistics, made under the present data and arithmetic. */
static bool answered(const Session *s, const Job *j)
{
    for (int64_t i = 0; i < s->model->nlinears; i++) {
        const ResultSlot *sl = &s->results->slot[i];
        if (j->selected && !j->selected[i])
            continue;
        if (sl->stale || (sl->needs & j->needs) != j->needs)
            return false;
        if ((j->needs & NEED_WEIGHT) && sl->r.err.have && !local_error_covers(&sl->r.err, j->weights, j->nweights))
            return false;
    }
    return true;
}

Status session_analyze(Session *s, const char *const *metrics, const char *const *patterns, int npatterns, bool detail,
                       Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    unsigned needs = 0;
    Str title = {0};
    Status st = metric_needs(metrics, &needs, &title, err);
    if (detail) /* one pass serves every metric and the detail pane */
        for (int i = 0; metric_table[i]; i++)
            needs |= metric_table[i]->needs | NEED_HIST;
    Job *j = NULL;
    if (st == ST_OK)
        st = job_new(s, JOB_ANALYZE, true, &j, err);
    if (st == ST_OK) {
        snprintf(j->view.title, sizeof j->view.title, "%s", str_text(&title));
        st = select_linears(s, patterns, npatterns, j, err);
    }
    str_free(&title);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    for (int64_t i = 0; i < s->model->nlinears; i++) /* don't lose what an earlier pass over the same data learnt */
        if (!s->results->slot[i].stale && (!j->selected || j->selected[i]))
            needs |= s->results->slot[i].needs;
    j->needs = needs;
    j->nweights = local_error_specs(s->assignment->levels, s->assignment->nlevels - 1, j->weights);
    if (answered(s, j)) {
        session_log(s, 0, "%s: nothing changed since the last pass; shown from its results", j->view.title);
        job_free(j);
        return ST_OK;
    }
    j->run = ++s->results->next_run;
    j->view.total = model_depth(s->model);
    identity_now(s, s->results->identity);
    snprintf(s->results->run_arith, sizeof s->results->run_arith, "%s", arith_name(s->opt.arith));
    entry_run(s, j);
    return job_enqueue(s, j, err);
}

static Status select_again(const Stopped *p, const Model *m, Job *j, Error *err)
{
    j->nselected = (int)m->nlinears;
    if (!p->selected)
        return ST_OK;
    if (p->nselected != m->nlinears)
        return error_set(err, ST_INTERNAL, "the stopped analysis is of %lld layers, the model has %lld",
                         (long long)p->nselected, (long long)m->nlinears);
    j->selected = mem_array((size_t)m->nlinears, 1);
    if (!j->selected)
        return error_nomem(err, "a job");
    memcpy(j->selected, p->selected, (size_t)m->nlinears);
    return ST_OK;
}

/* The layer to go on from: behind the newest one that is on the disk. */
static Status find_layer(const Session *s, const Stopped *p, Job *j, Error *err)
{
    int layer;
    if (s->keeper && keeper_pass(s->keeper, p->run, &layer, j->stream_sha))
        j->first_layer = layer + 1;
    else if (!p->sha[0])
        return error_set(err, ST_USAGE, "the stopped analysis can't go on: none of its layers is on the disk");
    else { /* of an earlier session */
        snprintf(j->stream_sha, sizeof j->stream_sha, "%s", p->sha);
        j->first_layer = p->layer;
    }
    return ST_OK;
}

Status session_resume_job(Session *s, Error *err)
{
    const Stopped *p = &s->results->stopped;
    if (p->run < 0 || !s->model)
        return error_set(err, ST_USAGE, "no stopped analysis to continue");
    if (session_busy(s))
        return error_set(err, ST_USAGE, "a job runs already");
    Job *j;
    RETURN_IF_ERROR(job_new(s, JOB_ANALYZE, true, &j, err));
    Status st = find_layer(s, p, j, err);
    if (st == ST_OK)
        st = select_again(p, s->model, j, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    j->needs = p->needs;
    j->nweights = local_error_specs(s->assignment->levels, s->assignment->nlevels - 1, j->weights);
    j->run = p->run;
    j->view.total = model_depth(s->model);
    j->view.done = j->first_layer;
    snprintf(j->view.title, sizeof j->view.title, "analysis continued from layer %d", j->first_layer);
    identity_now(s, s->results->identity);
    return job_enqueue(s, j, err);
}

Status session_measure(Session *s, bool full, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    Job *j;
    RETURN_IF_ERROR(job_new(s, JOB_MEASURE, true, &j, err));
    j->full = full;
    if (full)
        j->eval.max_tokens = 0;
    Status st = job_take_levels(s, j, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    j->recipe = recipe_hold(s->recipe);
    j->key = assignment_key(s, s->assignment->level);
    j->local_sum = local_sum(s, s->assignment->level);
    j->version = s->assignment->version;
    j->view.total = s->model->cfg.layers;
    int64_t q = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        q += s->assignment->level[i] != 0;
    snprintf(j->view.title, sizeof j->view.title, "measure: %lld quantized, %lld float%s", (long long)q,
             (long long)(s->model->nlinears - q), full ? ", full set" : "");
    return job_enqueue(s, j, err);
}

