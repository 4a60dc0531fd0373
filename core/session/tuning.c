/* tune: a search by measuring, a job after the other. */
#include "session/sizes.h"
#include "session/tuning.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "session/allot.h"
#include "session/assignment.h"
#include "session/budget.h"
#include "session/engine.h"
#include "session/entries.h"
#include "session/fields.h"
#include "session/guide.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/rulerecord.h"

/* Groups whose KL alone is measured first: the worst by block_error, and all of the last layer, whose block_error says
 * too little (nothing behind it repairs the error). */
enum { ALONE_FIRST = 20 };

void tuning_clear(Tuning *t)
{
    free(t->base);
    free(t->fixed);
    free(t->tries);
    *t = (Tuning){.best = -1};
}

/* ---- the journal ---- */

Status tuning_restore(Session *s, const cJSON *record, Error *err)
{
    Tuning *t = s->tuning;
    const char *goal = text_of(record, "goal");
    const cJSON *g;
    tuning_clear(t);
    RETURN_IF_ERROR(goal_parse(goal ? goal : "", &t->goal, err));
    RETURN_IF_ERROR(levels_parse(record, s->model->nlinears, s->assignment->level, &t->base, err));
    t->fixed = mem_zarray((size_t)s->model->ngroups, 1);
    if (!t->fixed)
        return error_nomem(err, "a search");
    cJSON_ArrayForEach(g, json_get(record, "fixed"))
    {
        int64_t at;
        if (cJSON_IsNumber(g) && whole_of(g->valuedouble, 0, s->model->ngroups - 1, &at))
            t->fixed[at] = true;
    }
    for (int64_t i = 0; i < s->model->nlinears; i++)
        if (t->base[i] >= s->assignment->nlevels)
            return error_set(err, ST_DATA, "the record of a search is damaged");
    t->opt.full = cJSON_IsTrue(json_get(record, "full"));
    t->fit = fit_key(s);
    t->state = TUNING_STOPPED;
    snprintf(t->text, sizeof t->text, "stopped; resume goes on");
    return ST_OK;
}

Status tuning_restore_end(Session *s, const cJSON *record, Error *err)
{
    (void)err;
    if (!cJSON_IsTrue(json_get(record, "stopped")))
        tuning_clear(s->tuning);
    return ST_OK;
}

/* ---- what was tried ---- */

static Status keep_tries(Session *s, const Allot *a, const Points *p, const bool *used, const TuneNext *next, Error *err)
{
    Tuning *t = s->tuning;
    TuneTry *tries = mem_zarray((size_t)p->n + 1, sizeof *tries);
    if (!tries)
        return error_nomem(err, "a search");
    int n = 0;
    t->best = -1;
    for (int i = 0; i < p->n; i++) {
        if (!used[i])
            continue;
        const TuneResult *r = &p->result[i];
        const Measured *m = &s->results->measured[p->measured[i]];
        double got = t->goal.kind == GOAL_PPL ? expm1(r->point.ppl) : r->point.kl;
        bool loss = t->goal.kind == GOAL_KL || t->goal.kind == GOAL_PPL;
        tries[n] = (TuneTry){.bytes = r->bytes + a->others, .effect = m->effect, .best = i == next->best,
                             .holds = !loss || got <= t->goal.value};
        for (int64_t k = 0; k < s->model->nlinears; k++)
            tries[n].floats += m->level[k] == 0;
        t->best = i == next->best ? n : t->best;
        n++;
    }
    free(t->tries);
    t->tries = tries;
    t->ntries = n;
    return ST_OK;
}

/* The set to end with: the search's answer, else the measured one of least loss. -1: nothing was measured. */
static int answer(const Tuning *t, const Points *p, const bool *used, const TuneNext *next)
{
    int best = next->best;
    for (int i = 0; i < p->n && next->best < 0; i++) {
        bool less = best < 0 || (t->goal.kind == GOAL_PPL ? p->result[i].point.ppl < p->result[best].point.ppl
                                                          : p->result[i].point.kl < p->result[best].point.kl);
        if (used[i] && less)
            best = i;
    }
    return best;
}

static void say(Tuning *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(Tuning *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->text, sizeof t->text, fmt, ap);
    va_end(ap);
}

static void finish(Session *s, TuneState state)
{
    Tuning *t = s->tuning;
    t->state = state;
    t->job = 0;
    entry_tune_end(s, state == TUNING_STOPPED);
    session_log(s, state == TUNING_FAILED ? 2 : 0, "tune %s: %s", t->goal.text, t->text);
    guide_searched(s);
}

/* The best set becomes the assignment, but for what was decided otherwise since the search began: *kept linears. */
static Status put_best(Session *s, const int16_t *best, int64_t *kept, Error *err)
{
    const Tuning *t = s->tuning;
    const int16_t *now = s->assignment->level;
    size_t n = (size_t)s->model->nlinears;
    int64_t changed;
    int16_t *level = mem_array(n, sizeof *level);
    *kept = 0;
    if (!level)
        return error_nomem(err, "the levels");
    for (size_t i = 0; i < n; i++) {
        level[i] = now[i] != t->base[i] ? now[i] : best[i];
        *kept += level[i] != best[i];
    }
    Status st = levels_apply(s, level, LEVELS_ANEW, &changed, err);
    free(level);
    return st;
}

/* Ends with the best set as the assignment. */
static Status conclude(Session *s, TuneState state, const Points *p, const bool *used, const TuneNext *next, Error *err)
{
    Tuning *t = s->tuning;
    int best = answer(t, p, used, next);
    if (best >= 0) {
        int64_t kept;
        char but[80] = "";
        RETURN_IF_ERROR(put_best(s, s->results->measured[p->measured[best]].level, &kept, err));
        if (kept)
            snprintf(but, sizeof but, " but for %lld linear%s edited meanwhile", (long long)kept, kept == 1 ? "" : "s");
        bool fewest = next->best >= 0 && t->goal.kind != GOAL_BYTES;
        say(t, "%s after %d measurement%s; the measured set of %s is in place%s: KL %.4g, perplexity %+.2f %%",
            state == TUNING_MET ? "held" : state == TUNING_MISSED ? "not reached" : "stopped", next->tries,
            next->tries == 1 ? "" : "s", fewest ? "fewest bytes that holds" : "least loss", but, p->result[best].point.kl,
            100 * expm1(p->result[best].point.ppl));
    } else {
        say(t, "%s before anything was measured", state == TUNING_STOPPED ? "stopped" : "ended");
    }
    finish(s, state);
    return ST_OK;
}

/* ---- what comes next ---- */

static int by_weight(const void *a, const void *b)
{
    const double *const *x = a, *const *y = b;
    return **x < **y ? 1 : **x > **y ? -1 : (*x > *y) - (*x < *y);
}

/* Patterns of the groups whose KL alone comes first and is not known; caller frees each and the list. */
static Status alone_first(Session *s, const Allot *a, char ***texts, int *n, Error *err)
{
    const GroupTable *t = a->groups;
    const Model *m = s->model;
    const double **order = mem_array((size_t)t->n, sizeof *order);
    bool *want = mem_zarray((size_t)m->nlinears, 1), any = false;
    int64_t k = 0;
    *n = 0;
    *texts = NULL;
    for (int64_t g = 0; order && want && g < t->n; g++) {
        int64_t at = g * t->levels + s->assignment->home[group_linear(&m->groups[g], 0)];
        if (!a->fixed[g] && isfinite(t->v[at]))
            order[k++] = &t->v[at];
    }
    if (order && want)
        qsort(order, (size_t)k, sizeof *order, by_weight);
    for (int64_t i = 0; order && want && i < k; i++) {
        int64_t at = order[i] - t->v;
        const FusedGroup *f = &m->groups[at / t->levels];
        bool first = i < ALONE_FIRST || m->linears[group_linear(f, 0)].layer == m->cfg.layers - 1;
        for (int32_t j = 0; first && isnan(t->alone[at]) && j < f->count; j++)
            any = want[group_linear(f, j)] = true;
    }
    Status st = order && want ? ST_OK : error_nomem(err, "a search");
    if (st == ST_OK && any)
        st = rules_texts(s, want, texts, n, err);
    free(order);
    free(want);
    return st;
}

/* Queues an analysis that the search waits for; *waits: there was something to do. */
static Status ask(Session *s, const char *metric, char **texts, int n, bool *waits, Error *err)
{
    const char *const names[] = {metric, NULL};
    int before = s->queue->next_job;
    RETURN_IF_ERROR(session_analyze(s, names, (const char *const *)texts, n, false, err));
    *waits = s->queue->next_job > before;
    s->tuning->job = *waits ? s->queue->next_job : 0;
    s->tuning->job_kind = JOB_ANALYZE;
    if (*waits)
        say(s->tuning, "%s first", metric);
    return ST_OK;
}

static Status ask_alone(Session *s, const Allot *a, bool *waits, Error *err)
{
    char **texts = NULL;
    int n = 0;
    Status st = metric_find("alone") ? alone_first(s, a, &texts, &n, err) : ST_OK;
    if (st == ST_OK && n)
        st = ask(s, "alone", texts, n, waits, err);
    for (int i = 0; i < n; i++)
        free(texts[i]);
    free(texts);
    return st;
}

/* Whether block_error is missing somewhere where it would be of use. */
static bool lacks_block(const Session *s, const GroupTable *t, const bool *fixed)
{
    for (int64_t i = 0; i < t->n * t->levels; i++) {
        int64_t g = i / t->levels;
        const Linear *l = &s->model->linears[group_linear(&s->model->groups[g], 0)];
        if (i % t->levels && !fixed[g] && l->layer < s->model->cfg.layers && t->bytes[i] >= 0 && isnan(t->v[i]))
            return true;
    }
    return false;
}

static Status measure_next(Session *s, const Allot *a, const int16_t *set, const TuneNext *next, Error *err)
{
    Tuning *t = s->tuning;
    char title[160], best[40] = "";
    int16_t *level = mem_array((size_t)s->model->nlinears, sizeof *level);
    if (!level)
        return error_nomem(err, "a search");
    allot_levels(s, a, set, level);
    if (t->best >= 0)
        snprintf(best, sizeof best, ", best KL %.3g", t->tries[t->best].effect.kl_mean);
    int64_t floats = 0;
    for (int64_t g = 0; g < a->groups->n; g++)
        floats += !a->fixed[g] && set[g] != a->path.start[g];
    snprintf(title, sizeof title, "tune %.20s: %d tried%s, %lld groups", t->goal.text, next->tries, best, (long long)floats);
    say(t, "%d tried%s; next: %s, %lld groups", next->tries, best, tune_stage_text(next->stage), (long long)floats);
    Status st = job_measure(s, s->recipe, level, t->opt.full, title, err);
    t->job = st == ST_OK ? s->queue->next_job : 0;
    t->job_kind = JOB_MEASURE;
    free(level);
    return st;
}

static TuneGoal search_goal(const Session *s, const Allot *a, const Goal *g)
{
    SizeReport opened;
    sizes_of(s, s->recipe, s->assignment->opened, &opened);
    if (g->kind == GOAL_BYTES)
        return (TuneGoal){.bytes = (int64_t)g->value + (g->more ? (int64_t)opened.bytes : 0) - a->others};
    return (TuneGoal){.what = g->kind == GOAL_PPL ? TUNE_PPL : TUNE_KL, .bytes = INT64_MAX,
                      .at_most = g->kind == GOAL_PPL ? log1p(g->value) : g->value};
}

/* By what was measured: the next measurement, or the end. `over`: it is to end now. */
static Status search(Session *s, const Allot *a, TuneState over, Error *err)
{
    Points p;
    TuneNext next;
    const TuneGoal goal = search_goal(s, a, &s->tuning->goal);
    Status st = points_take(s, a->groups, &p, err);
    int16_t *set = mem_array((size_t)a->groups->n, sizeof *set);
    bool *used = mem_zarray((size_t)p.n + 1, 1);
    if (st == ST_OK && (!set || !used))
        st = error_nomem(err, "a search");
    if (st == ST_OK)
        st = points_errors(s, &p, goal.what, err);
    if (st == ST_OK)
        st = tune_next(&a->table, &a->path, &goal, p.result, p.n, set, used, &next, err);
    if (st == ST_OK)
        st = keep_tries(s, a, &p, used, &next, err);
    if (st == ST_OK && (over != TUNING_RUNS || next.stage == TUNE_DONE))
        st = conclude(s, over != TUNING_RUNS ? over : next.best >= 0 ? TUNING_MET : TUNING_MISSED, &p, used, &next, err);
    else if (st == ST_OK)
        st = measure_next(s, a, set, &next, err);
    points_free(&p);
    free(set);
    free(used);
    return st;
}

static Status advance(Session *s, TuneState over, Error *err)
{
    Tuning *t = s->tuning;
    const GroupTable *groups;
    const Digest now = fit_key(s);
    bool waits = false;
    if (digest_cmp(&now, &t->fit) != 0)
        return error_set(err, ST_USAGE, "recipe, data or settings are other ones than it began with");
    RETURN_IF_ERROR(group_table(s, &groups, err));
    if (over == TUNING_RUNS && !t->asked_block && lacks_block(s, groups, t->fixed)) {
        t->asked_block = true;
        RETURN_IF_ERROR(ask(s, "block_error", NULL, 0, &waits, err));
        if (waits)
            return ST_OK;
    }
    Allot a;
    Status st = allot_open(s, &(AllotAsk){.base = t->base, .fixed = t->fixed}, &a, err);
    if (st == ST_OK && over == TUNING_RUNS && !t->asked_alone) {
        t->asked_alone = true;
        st = ask_alone(s, &a, &waits, err);
    }
    if (st == ST_OK && !waits)
        st = search(s, &a, over, err);
    allot_free(&a);
    return st;
}

/* advance, of which an error is the end. */
static Status go_on(Session *s, TuneState over, Error *err)
{
    Tuning *t = s->tuning;
    Error own = {0};
    Status st = advance(s, over, &own);
    if (st == ST_OK)
        return ST_OK;
    if (over == TUNING_STOPPED)
        say(t, "stopped before anything was measured");
    else
        say(t, "%s", own.text);
    finish(s, over == TUNING_STOPPED ? over : TUNING_FAILED);
    return error_set(err, st, "%s", own.text);
}

void tuning_ended(Session *s, int job, Status st)
{
    Tuning *t = s->tuning;
    if (t->state != TUNING_RUNS || t->job != job)
        return;
    for (size_t i = 0; i < s->queue->njobs; i++)
        if (s->queue->jobs[i]->view.id == job)
            t->seconds[t->job_kind == JOB_MEASURE ? 2 : t->asked_alone] += s->queue->jobs[i]->view.elapsed;
    t->job = 0;
    if (st == ST_OK) {
        go_on(s, TUNING_RUNS, NULL);
    } else if (st == ST_CANCELLED) {
        go_on(s, TUNING_STOPPED, NULL);
    } else {
        say(t, "its %s failed", t->job_kind == JOB_MEASURE ? "measurement" : "analysis");
        finish(s, TUNING_FAILED);
    }
}

/* ---- begin ---- */

/* Whether the goal's bytes can be had, whatever groups weigh. */
static Status reachable(Session *s, const Tuning *t, Error *err)
{
    const GroupTable *g;
    Reach r;
    RETURN_IF_ERROR(group_table(s, &g, err));
    reach_of(s, g, t->base, t->fixed, &r);
    return reach_refuses(&r, &t->goal, err);
}

static Status begin(Session *s, const char *goal, const TuneOptions *o, Error *err)
{
    Tuning *t = s->tuning;
    size_t n = (size_t)s->model->nlinears;
    FitLeft left;
    tuning_clear(t);
    RETURN_IF_ERROR(goal_parse(goal, &t->goal, err));
    if (t->goal.kind == GOAL_BITS)
        return error_set(err, ST_USAGE, "tune searches kl=, ppl= or bytes=; fit bits= chooses levels for so many bits");
    t->opt = *o;
    t->base = mem_array(n, sizeof *t->base);
    t->fixed = mem_zarray((size_t)s->model->ngroups, 1);
    if (!t->base || !t->fixed)
        return error_nomem(err, "a search");
    memcpy(t->base, s->assignment->level, n * sizeof *t->base);
    allot_fixed(s, o->free, t->fixed, &left);
    t->fit = fit_key(s);
    if (t->goal.kind == GOAL_BYTES)
        RETURN_IF_ERROR(reachable(s, t, err));
    if (left.held)
        session_log(s, 0, "tune: %lld group%s are held by rules; --free changes them, too", (long long)left.held,
                    left.held == 1 ? "" : "s");
    return ST_OK;
}

Status session_tune(Session *s, const char *goal, const TuneOptions *o, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    if (s->tuning->state == TUNING_RUNS)
        return error_set(err, ST_USAGE, "a search runs already (%s): cancel it first", s->tuning->goal.text);
    RETURN_IF_ERROR(engine_meet(s, s->recipe, err));
    Status st = begin(s, goal, o, err);
    if (st != ST_OK) {
        tuning_clear(s->tuning);
        return st;
    }
    s->tuning->state = TUNING_RUNS;
    entry_tune(s);
    return go_on(s, TUNING_RUNS, err);
}

bool tuning_stopped(const Session *s)
{
    const Tuning *t = s->tuning;
    if (t->state != TUNING_STOPPED || !s->model)
        return false;
    const Digest now = fit_key(s);
    return digest_cmp(&now, &t->fit) == 0;
}

Status tuning_resume(Session *s, Error *err)
{
    Tuning *t = s->tuning;
    t->state = TUNING_RUNS;
    t->asked_block = t->asked_alone = false;
    entry_tune(s);
    return go_on(s, TUNING_RUNS, err);
}

Status session_tuning(Session *s, TuneView *out, Error *err)
{
    const Tuning *t = s->tuning;
    Reach r;
    if (!s->model || t->state == TUNING_NONE)
        return error_set(err, ST_USAGE, "nothing was searched yet: tune --until kl=0.1");
    RETURN_IF_ERROR(session_reach(s, &r, err));
    *out = (TuneView){.state = t->state, .goal = t->goal.text, .text = t->text, .tries = t->tries, .ntries = t->ntries,
                      .best = t->best, .base_bytes = r.opened, .block_seconds = t->seconds[0],
                      .alone_seconds = t->seconds[1], .measure_seconds = t->seconds[2]};
    return ST_OK;
}
