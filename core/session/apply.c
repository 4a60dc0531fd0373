/* Applying the events of jobs: rows, figures and ends become the session's. */
#include "session/apply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/store.h"
#include "session/table.h"

static double seconds_since(int64_t t)
{
    return (double)(clock_ns() - t) * 1e-9;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Remaining time from the median of the newest layers, once three are done. */
static void time_layer(Job *j)
{
    int64_t now = clock_ns();
    j->layer_s[j->layers_timed % 8] = (double)(now - j->t_layer) * 1e-9;
    j->layers_timed++;
    j->t_layer = now;
    if (j->layers_timed < 3)
        return;
    double v[8];
    int n = j->layers_timed < 8 ? j->layers_timed : 8;
    memcpy(v, j->layer_s, sizeof v);
    qsort(v, (size_t)n, sizeof *v, compare_double);
    j->view.eta = v[n / 2] * (double)(j->view.total - j->view.done);
}

static void apply_rows(Session *s, Event *e)
{
    Job *j = e->job;
    for (int i = 0; i < e->nresults; i++) {
        int64_t linear = e->results[i].linear;
        results_store(s->results, &e->results[i], j->needs);
        table_scores_changed(s->table);
        Score sc = session_score(s, s->table->metric, linear);
        if (session_unseen(s, linear)) {
            j->view.unseen++;
        } else if (sc.state == SCORE_FAILED) {
            j->view.failed++;
            session_log(s, 2, "%s: %s", s->model->linears[linear].name, sc.reason);
        } else {
            j->view.ok++;
        }
        if (sc.state == SCORE_OK)
            snprintf(j->view.last, sizeof j->view.last, "%s  %.4g", s->model->linears[linear].name, sc.value);
    }
    free(e->results);
    j->view.done = e->layer + 1;
    time_layer(j);
    results_layer(s->results, j->run, e->layer, e->sha);
}

static void apply_data(Session *s, const Event *e)
{
    DataInfo *d = e->is_eval ? &s->results->eval_info : &s->results->calib_info;
    char *name = e->is_eval ? s->results->eval_name : s->results->calib_name;
    *d = e->data;
    snprintf(name, sizeof s->results->calib_name, "%s", e->is_eval ? e->job->eval.name : e->job->calib.name);
    d->name = name;
}

/* Static ranges come from calibration tokens: what none of them reached has no range. */
static void warn_unseen(Session *s, const Effect *e)
{
    if (!e->unseen.linears)
        return;
    session_log(s, 1, "%lld linears of %lld experts stayed float: no calibration token reached them, so they have no "
                "static range; the first is %s",
                (long long)e->unseen.linears, (long long)e->unseen.experts, s->model->linears[e->unseen.first].name);
}

static void apply_effect(Session *s, const Event *e)
{
    warn_unseen(s, &e->effect);
    Measured m = {e->job->key, e->effect, e->job->local_sum, e->job->version};
    Error err = {0};
    if (results_measured(s->results, &m, &err) != ST_OK) {
        session_log(s, 2, "%s: %s", e->job->view.title, err.text);
        return;
    }
    durable_measured(s, &m);
}

/* What of a pass that did not end well can be gone on with. */
static void keep_stopped(Session *s, const Job *j, Status st)
{
    const JobView *v = &j->view;
    Stopped *to = &s->results->stopped;
    size_t n = (size_t)s->model->nlinears;
    if (st == ST_OK || !s->store->journal || v->done == 0 || v->done >= v->total || !to->sha[0]) {
        results_forget_stopped(s->results);
        return;
    }
    to->needs = j->needs;
    free(to->selected);
    to->selected = NULL;
    to->nselected = 0;
    if (!j->selected)
        return;
    to->selected = mem_array(n, 1);
    if (!to->selected) {
        results_forget_stopped(s->results);
        return;
    }
    memcpy(to->selected, j->selected, n);
    to->nselected = (int64_t)n;
}

static void apply_end(Session *s, const Event *e)
{
    JobView *v = &e->job->view;
    Status st = e->error.status;
    v->elapsed = seconds_since(e->job->t_start);
    v->state = st == ST_OK ? JOB_DONE : st == ST_CANCELLED ? JOB_STOPPED : JOB_FAILED;
    v->status = st;
    v->eta = -1;
    snprintf(v->error, sizeof v->error, "%s", st == ST_OK ? "" : e->error.text);
    if (st != ST_OK && st != ST_CANCELLED)
        session_log(s, 2, "%s: %s", v->title, e->error.text);
    if (v->kind == JOB_ANALYZE) {
        keep_stopped(s, e->job, st);
        durable_run_end(s, e->job, st);
        if (st == ST_OK)
            coverage_log(s);
    }
    table_scores_asked(s->table);
}

unsigned apply_event(Session *s, Event *e)
{
    Job *j = e->job;
    switch (e->kind) {
    case EVT_START:
        j->view.state = JOB_RUNNING;
        j->t_start = j->t_layer = clock_ns();
        return EV_JOB;
    case EVT_ROWS: apply_rows(s, e); return EV_ROWS | EV_PROGRESS;
    case EVT_PROGRESS:
        snprintf(j->view.phase, sizeof j->view.phase, "%s", e->phase);
        if (j->view.kind != JOB_ANALYZE) { /* an analysis counts whole layers by their rows */
            j->view.done = e->done;
            j->view.total = e->total;
        }
        if (e->bound)
            j->view.bound = e->bound;
        j->view.peak = e->peak;
        return EV_PROGRESS;
    case EVT_DATA: apply_data(s, e); return EV_JOB;
    case EVT_EFFECT: apply_effect(s, e); return EV_EFFECT;
    case EVT_WRITTEN:
        quantize_done_free(s->results->quantized);
        s->results->quantized = e->written;
        return EV_JOB;
    case EVT_LOG: session_log(s, e->level, "%s", e->error.text); return EV_MESSAGE;
    case EVT_END: apply_end(s, e); return EV_JOB | EV_MESSAGE;
    }
    return 0;
}

