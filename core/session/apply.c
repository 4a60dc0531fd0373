/* Applying the events of jobs: rows, figures and ends become the session's. */
#include "session/apply.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/num.h"
#include "metric/alone.h"
#include "session/aside.h"
#include "session/asked.h"
#include "session/autotuning.h"
#include "session/bases.h"
#include "session/entries.h"
#include "session/interact.h"
#include "session/guide.h"
#include "session/madewith.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/serve.h"
#include "session/texts.h"
#include "session/keeper.h"
#include "session/notes.h"
#include "session/table.h"
#include "session/tuning.h"

static double seconds_since(int64_t t)
{
    return (double)(clock_ns() - t) * 1e-9;
}

/* How heavy the first `steps` steps are together. */
static double weight_of(const Job *j, int64_t steps)
{
    if (!j->weight || j->weights != j->view->total)
        return (double)steps;
    return j->weight[steps < 0 ? 0 : steps > j->weights ? j->weights : steps];
}

/* Remaining time from the median pace of the newest steps, each by its weight, once three are done. laps: how often the
 * steps come again. */
static void time_step(Job *j, int laps)
{
    enum { PACES = sizeof j->pace / sizeof *j->pace };
    int64_t now = clock_ns(), done = j->view->done, total = j->view->total;
    double heavy = weight_of(j, done) - weight_of(j, j->timed);
    if (heavy > 0)
        j->pace[j->paces++ % PACES] = (double)(now - j->t_layer) * 1e-9 / heavy;
    j->t_layer = now;
    j->timed = done;
    if (j->paces < 3)
        return;
    double v[PACES];
    int n = j->paces < PACES ? j->paces : PACES;
    memcpy(v, j->pace, sizeof v);
    qsort(v, (size_t)n, sizeof *v, compare_doubles);
    j->view->eta = v[n / 2] * (weight_of(j, total) * (1 + laps) - weight_of(j, done));
}

static void apply_steps(Session *s, Job *j, int64_t done, int64_t total)
{
    table_scores_arrived(s->table);
    bool more = done > j->view->done; /* rows and scores of one step come one after the other */
    j->view->done = done;
    j->view->total = total;
    if (more)
        time_step(j, 0);
}

/* The metric by which a job tells what statistics it found: the shown one, where it is among the job's, or its first. */
static const Metric *scored_by(const Session *s, const Job *j)
{
    const Metric *by = NULL;
    for (int i = 0; j->metrics && j->metrics[i]; i++)
        if (j->metrics[i]->pass->has && (!by || j->metrics[i] == s->table->metric))
            by = j->metrics[i];
    return by ? by : s->table->metric;
}

static void apply_rows(Session *s, RowsEvent *e)
{
    Job *j = e->event.job;
    for (int i = 0; j->aside && i < e->n; i++)
        linear_result_fini(&e->r[i]);
    if (j->aside) {
        apply_steps(s, j, e->done, e->total);
        return;
    }
    bool own = j->plan.pass->has; /* else units are counted by their scores */
    for (int i = 0; i < e->n; i++) {
        int64_t linear = e->r[i].linear;
        results_store(s->results, &e->r[i], j->plan.needs);
        Score sc = session_score(s, scored_by(s, j), linear);
        if (session_unseen(s, linear)) {
            j->view->unseen += own;
        } else if (sc.state == SCORE_FAILED) {
            j->view->failed += own;
            j->rows_failed++;
            if (!j->first_failed)
                j->first_failed = linear + 1;
        } else {
            j->view->ok += own;
        }
        const LinearResult *r = session_result(s, linear);
        if (r && r->weight.bad && !j->first_bad)
            j->first_bad = linear + 1;
        if (sc.state == SCORE_OK)
            snprintf(j->last, sizeof j->last, "%s  %.4g", s->model->linears[linear].name, sc.value);
    }
    apply_steps(s, j, e->done, e->total);
}

/* One line for all rows without a score: most stand behind one bad weight. */
static void tell_failed(Session *s, Job *j)
{
    if (!j->first_failed)
        return;
    int64_t at = j->first_bad ? j->first_bad - 1 : j->first_failed - 1;
    const char *name = s->model->linears[at].name;
    const LinearResult *r = session_result(s, at);
    char rows[48];
    snprintf(rows, sizeof rows, "%d layer%s", j->rows_failed, j->rows_failed == 1 ? "" : "s");
    if (j->first_bad)
        snprintf(j->bad, sizeof j->bad, "%s", name);
    if (j->first_bad)
        session_log(s, 2, "the first bad value is in the weight of %s (%s); %s behind it cannot be scored: slimscope check",
                    name, r->weight.bad_text, rows);
    else if (r && r->in.bad)
        session_log(s, 2, "%s cannot be scored: the first bad value is in the input of %s (%s); slimscope check looks for a "
                    "bad weight before it", rows, name, r->in.bad_text);
    else
        session_log(s, 2, "%s cannot be scored; the first is %s: %s", rows, name,
                    session_score(s, scored_by(s, j), at).reason);
}

/* An event tells all values that are known by then, or what is new. */
static void apply_scores(Session *s, const ScoresEvent *e)
{
    Job *j = e->event.job;
    Str name = {0};
    if (j->plan.sets && e->n && e->s[0].metric == &metric_together) {
        if (interact_store(s, j, e->s, e->n, &j->lost) == ST_OK)
            j->view->ok += (int)e->n;
        apply_steps(s, j, e->done, e->total);
        return;
    }
    if (j->aside) {
        aside_take(j, e->s, e->n);
        apply_steps(s, j, e->done, e->total);
        return;
    }
    if (!e->news)
        j->view->ok = j->view->failed = j->view->unseen = 0;
    for (int64_t i = 0; i < e->n; i++) {
        const PassScore *p = &e->s[i];
        if (results_store_unit(s->results, p, &j->lost) != ST_OK)
            break;
        if (i + 1 < e->n && p[1].metric == p->metric && p[1].s.unit == p->s.unit) /* of a level that is not the present one */
            continue;
        if (!pass_asks(&j->plan, p->metric)) /* found on the way */
            continue;
        bool ok = isfinite(p->s.value);
        str_clear(&name);
        scope_unit_name(s->model, p->metric->scope, p->s.unit, &name);
        *(ok ? &j->view->ok : p->s.absent ? &j->view->unseen : &j->view->failed) += 1;
        if (ok)
            snprintf(j->last, sizeof j->last, "%.120s  %.4g", str_text(&name), p->s.value);
        else if ((e->news || e->done == e->total) && !p->s.absent)
            session_log(s, 2, "%s: %s", str_text(&name), p->s.why);
    }
    str_free(&name);
    apply_steps(s, j, e->done, e->total);
}

static void apply_data(Session *s, const char *set, const DataInfo *from, const char *name, DataInfo *to, char *copy)
{
    *to = *from;
    snprintf(copy, DATA_NAME_MAX, "%s", name);
    to->name = copy;
    entry_data(s, set, to);
}

/* Layers of a prior stage, and steps of its search, are none of the job's own. */
static bool in_prior(const char *phase)
{
    return strncmp(phase, "prior stage ", 12) == 0;
}

static void apply_progress(Job *j, const JobProgress *p)
{
    const bool was = in_prior(j->phase);
    snprintf(j->phase, sizeof j->phase, "%s", p->phase);
    if (j->view->kind != JOB_ANALYZE) { /* an analysis counts its steps by what they give */
        bool on = p->total > 0 && p->total == j->view->total && p->done > j->view->done && !was && !in_prior(p->phase);
        bool again = p->total > 0 && p->done < j->view->done && !was;
        j->view->done = p->done;
        j->view->total = p->total;
        j->lap += again;
        if (again || was)
            j->timed = p->done;
        if (again) /* its steps are of another kind: the float model's tell nothing of those that train */
            j->paces = 0;
        if (again || in_prior(p->phase))
            j->view->eta = -1;
        if (on)
            time_step(j, p->laps > j->lap + 1 ? p->laps - j->lap - 1 : 0);
    } else if (!j->view->total) {
        j->view->total = p->total;
    }
    if (p->bound)
        j->view->bound = p->bound;
    j->view->peak = p->peak;
}

/* Static ranges come from calibration tokens: what none of them reached has no range. */
static void warn_unseen(Session *s, const Effect *e)
{
    if (!e->unseen.linears)
        return;
    const char *why = s->opt.peer ? "no calibration token reached them, so they have no static range"
                                  : "calibration tokens did not reach every expert of their layers, and a layer's experts "
                                    "load with one scheme alone";
    session_log(s, 1, "%lld linears of %lld experts stayed float: %s; the first is %s",
                (long long)e->unseen.linears, (long long)e->unseen.experts, why, s->model->linears[e->unseen.first].name);
}

static void apply_effect(Session *s, Job *j)
{
    warn_unseen(s, &j->effect);
    size_t bytes = (size_t)s->model->nlinears * sizeof *j->level;
    Measured m = {.key = j->key, .fit = j->fit, .effect = j->effect, .level = malloc(bytes + 1)};
    if (!m.level) {
        error_nomem(&j->lost, "what was measured");
        return;
    }
    memcpy(m.level, j->level, bytes);
    m.recipe = recipe_hold(j->recipe);
    m.blocks = j->blocks;
    j->blocks = NULL;
    m.ruled = j->ruled;
    m.rules = j->rules;
    j->rules = (RuleList){0};
    made_with(s, j, &m.made);
    m.aside = j->aside;
    if (results_measured(s->results, &m, &j->lost) != ST_OK)
        return;
    entry_measured(s, &s->results->measured[s->results->nmeasured - 1]);
    JobView *v = j->view;
    v->measured = true;
    v->kl = m.effect.kl_mean;
    v->kl_se = m.effect.kl_se;
    v->ppl = m.effect.ppl_quant;
    v->ppl_float = m.effect.ppl_float;
    v->top1 = m.effect.top1;
}

/* What of a pass that did not end well can be gone on with; up to where is known when that is asked for. One that was
 * stopped before stays so, unless this one did the same or leaves something itself. */
static void keep_stopped(Session *s, const Job *j, Status st)
{
    Stopped *to = &s->results->stopped;
    size_t n = (size_t)s->model->nlinears;
    if (j->row->run < 0)
        return;
    if (to->run == j->row->run || (st == ST_OK && to->pass == j->plan.pass))
        results_forget_stopped(s->results);
    if (st == ST_OK || !s->keeper || j->view->done == 0 || j->view->done >= j->view->total)
        return;
    results_forget_stopped(s->results);
    if (j->selected) {
        to->selected = mem_array(n, 1);
        if (!to->selected)
            return;
        memcpy(to->selected, j->selected, n);
        to->nselected = (int64_t)n;
    }
    to->metrics = metric_list_copy(j->metrics);
    if (!to->metrics) {
        results_forget_stopped(s->results);
        return;
    }
    to->pass = j->plan.pass;
    to->done = j->view->done;
    to->total = j->view->total;
    to->run = j->row->run;
    to->needs = j->plan.needs;
}

/* How it ended, in the log; of a failure the reason is there. */
static void log_end(Session *s, const JobView *v)
{
    char t[32];
    snprintf(t, sizeof t, v->elapsed < 100 ? "%.1f s" : "%.0f s", v->elapsed);
    if (v->state == JOB_STOPPED)
        session_note(s, LOG_JOB, 1, "#%d: %s stopped after %s, at %lld of %lld", v->id, v->title, t, (long long)v->done,
                     (long long)v->total);
    else if (v->measured)
        session_note(s, LOG_JOB, 0, "#%d: %s done in %s: KL %.4g+-%.2g, ppl %.4g (float %.4g), top-1 %.1f %%", v->id, v->title, t,
                     v->kl, v->kl_se, v->ppl, v->ppl_float, 100 * v->top1);
    else if (v->state == JOB_DONE && v->kind == JOB_QUANTIZE)
        session_note(s, LOG_JOB, 0, "#%d: %s done in %s: written to %s", v->id, v->title, t, v->target);
    else if (v->state == JOB_DONE)
        session_note(s, LOG_JOB, v->failed ? 1 : 0, "#%d: %s done in %s: %d scored, %d failed", v->id, v->title, t, v->ok, v->failed);
    else
        session_note(s, LOG_JOB, 0, "#%d: %s failed after %s", v->id, v->title, t);
}

static void apply_end(Session *s, Job *j)
{
    JobView *v = j->view;
    if (j->error.status == ST_OK)
        j->error = j->lost;
    Status st = j->error.status;
    v->elapsed = seconds_since(j->t_start);
    v->paused = false;
    v->state = st == ST_OK ? JOB_DONE : st == ST_CANCELLED ? JOB_STOPPED : JOB_FAILED;
    v->status = st;
    v->eta = -1;
    j->row->profile = j->profile;
    v->error = st == ST_OK ? "" : j->error.text;
    if (j->unsaid)
        session_log(s, 1, "%s: %d message%s lost for want of memory", v->title, j->unsaid, j->unsaid == 1 ? "" : "s");
    if (st != ST_OK && st != ST_CANCELLED)
        session_log(s, 2, "%s: %s", v->title, j->error.text);
    if (v->kind == JOB_ANALYZE && j->without && st == ST_OK)
        texts_loss_found(s, j);
    autotune_take(s, j, st);
    if (v->kind == JOB_ANALYZE && !j->plan.sets && !j->aside) {
        tell_failed(s, j);
        keep_stopped(s, j, st);
        if (j->row->run >= 0)
            entry_run_end(s, j->row->run, st);
        if (s->keeper)
            keeper_keep_streams(s->keeper, s->results->stopped.run);
        if (st == ST_OK && pass_gives(j->plan.pass, &pass_statistics) && j->plan.needs)
            coverage_log(s);
    }
    if (v->kind == JOB_QUANTIZE && !j->row->own)
        entry_quantize_end(s, st);
    if (v->kind == JOB_GENERATE && st == ST_OK)
        said_take(s, j);
    log_end(s, v);
    entry_job_end(s, j->row);
    serve_ended(s, v);
    int id = v->id;
    s->queue->ended++;
    s->queue->last_ended = id;
    job_end(j);
    tuning_ended(s, id, st);
    autotune_ended(s, id, st);
    guide_ended(s, id, st);
    jobs_forget_oldest(s);
}

static void apply_start(Session *s, Job *j)
{
    j->view->state = JOB_RUNNING;
    j->timed = j->plan.first;
    j->t_start = j->t_layer = j->t_pause = clock_ns();
    session_note(s, LOG_JOB, 0, "#%d: %s starts", j->view->id, j->title);
}

/* What an analysis found is of the base that it looked at, also when another recipe is open meanwhile. */
static unsigned apply_found(Session *s, Event *e)
{
    const Digest open = bases_present(s, &e->job->base);
    if (e->kind == EVT_ROWS)
        apply_rows(s, (RowsEvent *)e);
    else
        apply_scores(s, (ScoresEvent *)e);
    bases_present(s, &open);
    return EV_ROWS | EV_PROGRESS;
}

static unsigned apply(Session *s, Event *e, const JobProgress *now)
{
    Job *j = e->job;
    Results *r = s->results;
    switch (e->kind) {
    case EVT_START: apply_start(s, j); return EV_JOB;
    case EVT_PROGRESS: apply_progress(j, now); return EV_PROGRESS;
    case EVT_CALIB:
        if (j->aside)
            return EV_JOB;
        apply_data(s, "calib", &j->calib_info, j->calib.name, &r->calib_info, r->calib_name);
        return EV_JOB;
    case EVT_EVAL: apply_data(s, "eval", &j->eval_info, j->eval.name, &r->eval_info, r->eval_name); return EV_JOB;
    case EVT_EFFECT: apply_effect(s, j); return EV_EFFECT;
    case EVT_WRITTEN:
        quantize_done_free(r->quantized);
        r->quantized = j->written;
        j->written = NULL;
        return EV_JOB;
    case EVT_ASK: return EV_JOB | EV_MESSAGE;
    case EVT_END: apply_end(s, j); return EV_JOB | EV_MESSAGE;
    case EVT_ROWS:
    case EVT_SCORES: return apply_found(s, e);
    case EVT_LOG: session_log(s, ((LogEvent *)e)->level, "%s", ((LogEvent *)e)->text); return EV_MESSAGE;
    }
    return 0;
}

unsigned apply_event(Session *s, Event *e, const JobProgress *now)
{
    s->notes->about = e->job->view; /* the row outlives the job */
    unsigned kinds = apply(s, e, now);
    s->notes->about = NULL;
    return kinds;
}

unsigned apply_keeper(Session *s)
{
    Error said;
    int level;
    unsigned kinds = 0;
    while (keeper_said(s->keeper, &level, &said)) {
        session_log(s, level, "%s", said.text);
        kinds |= EV_MESSAGE;
    }
    return kinds;
}
