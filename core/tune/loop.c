#include "tune/loop.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "tune/loopkeys.h"

/* What is to be done next; ASK: the strategy says. */
typedef enum LoopPhase { ASK, RANK, QUANTIZE, EVALUATE, KEEP, WRITE_FINAL, KEEP_FINAL, DONE } LoopPhase;

struct Loop {
    LoopOptions o;
    StrategyKit kit;
    Strategy *strategy;
    History *history;
    const Expectation *expect;
    int nexpect;
    char evaluation_key[65];
    Arena arena;            /* file names */
    const char *trial_dir, *result_dir;
    LoopTry *tries;
    size_t ntries, tries_cap;
    int fresh;              /* tries that were not known */
    int64_t start;
    LoopPhase phase;
    const RankWish *wish;
    int current;            /* try in work */
    LoopStep end;           /* DONE */
    char text[400];
    Str final;
};

static void tell(void *ctx, int level, const char *text)
{
    Loop *l = ctx;
    if (l->o.log)
        l->o.log(l->o.ctx, level, text);
}

const char *loop_end_word(LoopEnd e)
{
    static const char *const words[] = {
        [LOOP_MET] = "MET",         [LOOP_NOT_MET] = "NOT MET", [LOOP_TIMEOUT] = "TIMEOUT", [LOOP_EXHAUSTED] = "TOO MANY TRIES",
        [LOOP_REFUSED] = "REFUSED", [LOOP_FAILED] = "FAILED"};
    return words[e];
}

/* ---- begin and end ---- */

static Status folder_of(Loop *l, const char *name, const char **out, Error *err)
{
    Str s = {0};
    str_printf(&s, "%s/%s", l->o.save_path, name);
    *out = s.oom ? NULL : arena_strdup(&l->arena, str_text(&s));
    str_free(&s);
    return *out ? ST_OK : error_nomem(err, "the loop");
}

/* Whether all ranks have the same plan, data and experience. */
static Status same_work(const Loop *l, const HistoryIds *ids, Error *err)
{
    Hasher h;
    if (dist_size(l->o.dist) == 1)
        return ST_OK;
    RETURN_IF_ERROR(dist_same(l->o.dist, "plan", ids->plan, sizeof ids->plan, err));
    hasher_init(&h);
    hasher_str(&h, ids->model);
    hasher_str(&h, ids->data);
    hasher_str(&h, l->evaluation_key);
    const Digest d = hasher_end(&h);
    return dist_same(l->o.dist, "model, calibration set or data set of the plan", &d, sizeof d, err);
}

static Status open_history(Loop *l, Error *err)
{
    HistoryOptions h = {.save_path = l->o.save_path, .peer = l->o.peer, .dist = l->o.dist, .log = tell, .ctx = l};
    size_t len;
    const char *source = plan_source(l->o.plan, &len);
    Digest d = digest_of(source, len);
    digest_hex(&d, h.ids.plan);
    snprintf(h.ids.model, sizeof h.ids.model, "%s", l->o.model_id ? l->o.model_id : "");
    snprintf(h.ids.data, sizeof h.ids.data, "%s", l->o.data_id ? l->o.data_id : "");
    RETURN_IF_ERROR(loop_evaluation_key(l->o.plan, l->o.rows, l->o.peer, l->o.model_id, l->o.data_id, l->evaluation_key, err));
    RETURN_IF_ERROR(same_work(l, &h.ids, err));
    /* of the evaluation alone, so that a changed model isn't told as changed settings */
    RETURN_IF_ERROR(loop_evaluation_key(l->o.plan, l->o.rows, false, "", "", h.ids.evaluator, err));
    return tunehist_open(&l->history, &h, err);
}

Status loop_open(Loop **out, const LoopOptions *o, Error *err)
{
    Loop *l = calloc(1, sizeof *l);
    if (!l)
        return error_nomem(err, "the loop");
    l->o = *o;
    l->current = -1;
    l->expect = plan_demand(o->plan, &l->nexpect);
    l->kit = (StrategyKit){.rows = o->rows->recipe, .peer = o->peer, .model = o->model, .model_type = o->model_type,
                           .experience = o->experience, .expect = l->expect, .nexpect = l->nexpect, .log = tell, .ctx = l};
    l->start = o->now(o->ctx);
    Status st = folder_of(l, o->peer ? "quant_model" : "trial_model", &l->trial_dir, err);
    if (st == ST_OK)
        st = folder_of(l, "quant_model", &l->result_dir, err);
    if (st == ST_OK)
        st = strategy_open(&l->strategy, plan_strategy(o->plan), plan_strategy_settings(o->plan), &l->kit, err);
    if (st == ST_OK)
        st = open_history(l, err);
    if (st != ST_OK)
        loop_free(l);
    else
        *out = l;
    return st;
}

void loop_free(Loop *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->ntries; i++)
        eval_result_free(&l->tries[i].result);
    free(l->tries);
    strategy_free(l->strategy);
    tunehist_free(l->history);
    arena_free(&l->arena);
    str_free(&l->final);
    free(l);
}

/* ---- tries ---- */

const LoopOptions *loop_options(const Loop *l)
{
    return &l->o;
}

int loop_tries(const Loop *l)
{
    return (int)l->ntries;
}

const LoopTry *loop_try(const Loop *l, int i)
{
    return &l->tries[i];
}

/* By how much an accuracy misses its expectation (below 0: is better), and the value that is asked for. */
static double miss(const Expectation *e, const Accuracy *a, double *want)
{
    double is = decimal_value(&a->value), target = decimal_value(&e->target);
    *want = e->relative ? decimal_value(&a->base) * (1 + target / 100) : e->at_most ? target : target - decimal_value(&e->tolerance);
    return e->at_most ? is - *want : *want - is;
}

/* How far a result is from the demand, in shares of what is asked for; what lacks counts 1, garbage more than anything. */
static double distance(const Loop *l, const EvalResult *r)
{
    double sum = r->state == EVAL_DONE ? 0 : 1e9;
    for (int i = 0; i < l->nexpect; i++) {
        const Expectation *e = &l->expect[i];
        const Accuracy *a = eval_result_of(r, e->dataset);
        double want;
        if (!a || (e->relative && !a->has_base)) {
            sum += 1;
            continue;
        }
        double off = miss(e, a, &want), size = want < 0 ? -want : want;
        if (off > 0)
            sum += off / (size > 1e-12 ? size : 1e-12);
    }
    return sum;
}

const Accuracy *loop_borderline(const Loop *l, int i)
{
    const EvalResult *r = &l->tries[i].result;
    for (int k = 0; k < l->nexpect && r->state == EVAL_DONE; k++) {
        const Accuracy *a = eval_result_of(r, l->expect[k].dataset);
        double want;
        if (a && !(l->expect[k].relative && !a->has_base) && isfinite(a->error) && fabs(miss(&l->expect[k], a, &want)) < a->error)
            return a;
    }
    return NULL;
}

static void warn_borderline(Loop *l)
{
    const Accuracy *a = loop_borderline(l, l->current);
    char text[400];
    if (!a)
        return;
    snprintf(text, sizeof text, "try %d: %.200s is nearer to what is demanded than its error of %.2g: whether it is met may be chance",
             l->tries[l->current].number, a->dataset, a->error);
    tell(l, 1, text);
}

/* Whether try a is a better answer than b. */
static bool better(const Loop *l, const LoopTry *a, const LoopTry *b)
{
    if (a->result.satisfied != b->result.satisfied)
        return a->result.satisfied;
    if (!a->result.satisfied)
        return distance(l, &a->result) < distance(l, &b->result);
    if (a->bytes && b->bytes && a->bytes != b->bytes)
        return a->bytes < b->bytes;
    return a->practice->level < b->practice->level;
}

int loop_best(const Loop *l)
{
    int best = -1;
    for (size_t i = 0; i < l->ntries; i++)
        if (l->tries[i].known && (best < 0 || better(l, &l->tries[i], &l->tries[best])))
            best = (int)i;
    return best;
}

static int try_of(const Loop *l, const Practice *p)
{
    for (size_t i = l->ntries; i-- > 0;)
        if (l->tries[i].practice == p)
            return (int)i;
    return -1;
}

static Status key_of(const Loop *l, const Practice *p, char out[LOOP_KEY_MAX], Error *err)
{
    char practice[65];
    RETURN_IF_ERROR(loop_practice_key(l->o.rows, l->o.peer, p->text, p->len, practice, err));
    snprintf(out, LOOP_KEY_MAX, "%s-%s", l->evaluation_key, practice);
    return ST_OK;
}

/* Whether an answer says all that the demand asks: one that stopped at a miss does while that is still one. */
static bool complete(const Loop *l, const EvalResult *r)
{
    if (r->state == EVAL_BAD)
        return true;
    for (int i = 0; i < l->nexpect; i++) {
        const Accuracy *a = eval_result_of(r, l->expect[i].dataset);
        if (!a)
            return false;
        if (!expectation_met(&l->expect[i], a))
            return true;
    }
    return true;
}

/* The answer is there: into the files, and to the strategy. */
static Status answered(Loop *l, LoopTry *t, const char *key, Error *err)
{
    t->known = true;
    RETURN_IF_ERROR(tunehist_record(l->history, t->practice, key, &t->result, l->expect, l->nexpect, l->o.now(l->o.ctx), err));
    return strategy_answered(l->strategy, &t->result, err);
}

static void finish(Loop *l, LoopEnd end, const Practice *p, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static Status begin_try(Loop *l, const Practice *p, Error *err)
{
    int before = try_of(l, p);
    char key[LOOP_KEY_MAX];
    if (before >= 0 && !l->o.peer) /* asked before: no try of its own */
        return strategy_answered(l->strategy, &l->tries[before].result, err);
    if (l->o.timeout > 0 && (double)(l->o.now(l->o.ctx) - l->start) > l->o.timeout) {
        finish(l, LOOP_TIMEOUT, NULL, "the time is over after %d tries", (int)l->ntries);
        return ST_OK;
    }
    RETURN_IF_ERROR(key_of(l, p, key, err));
    const HistoryAnswer *known = tunehist_get(l->history, key);
    if (known && !l->o.peer && !complete(l, &known->r))
        known = NULL;
    if (l->o.peer ? l->ntries >= LOOP_TRIES_MAX : !known && l->fresh >= LOOP_TRIES_MAX) {
        finish(l, LOOP_EXHAUSTED, NULL, "%d tries are the most", LOOP_TRIES_MAX);
        return ST_OK;
    }
    if (!mem_grow(&l->tries, &l->tries_cap, l->ntries + 1, sizeof *l->tries))
        return error_nomem(err, "a try");
    LoopTry *t = &l->tries[l->ntries];
    *t = (LoopTry){.practice = p, .number = (int)l->ntries + 1, .cached = known != NULL};
    if (known) {
        RETURN_IF_ERROR(eval_result_copy(&t->result, &known->r, err));
        if (!l->o.peer)
            demand_met(l->expect, l->nexpect, &t->result);
        t->seconds = known->seconds;
        t->bytes = known->bytes;
        t->float_bytes = known->float_bytes;
        t->linears = known->linears;
        t->floats = known->floats;
    }
    l->current = (int)l->ntries++;
    if (known)
        return answered(l, t, key, err);
    l->fresh++;
    l->phase = QUANTIZE;
    return ST_OK;
}

/* ---- the end ---- */

static Status write_final(Loop *l, const Practice *p, Error *err)
{
    Str path = {0};
    str_clear(&l->final);
    if (!l->o.peer)
        str_printf(&l->final, "# slimscope tune, plan %s: %s\n", plan_name(l->o.plan), l->text);
    str_append(&l->final, p->text, p->len);
    str_printf(&path, "%s/best_practice.yaml", l->o.save_path);
    Status st = l->final.oom || path.oom ? error_nomem(err, "the recipe") : ST_OK;
    if (st == ST_OK && !l->o.peer && dist_leads(l->o.dist))
        st = file_write_atomic(path.s, l->final.s, l->final.len, err);
    str_free(&path);
    return st;
}

static void finish(Loop *l, LoopEnd end, const Practice *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(l->text, sizeof l->text, fmt, ap);
    va_end(ap);
    int best = p ? try_of(l, p) : -1;
    bool fine = end == LOOP_MET || (l->o.peer && (end == LOOP_TIMEOUT || end == LOOP_EXHAUSTED));
    l->end = (LoopStep){.kind = LOOP_DONE, .end = end, .status = fine ? ST_OK : ST_FAIL, .best = best >= 0 ? best : loop_best(l),
                        .text = l->text, .kept = l->result_dir};
    l->phase = DONE;
}

/* Whether the folder of results holds the model of this try. */
static Status is_kept(const Loop *l, int at, bool *yes, Error *err)
{
    char key[LOOP_KEY_MAX];
    int64_t there = dist_leads(l->o.dist) ? dir_exists(l->result_dir) : 1; /* as rank 0 sees it */
    RETURN_IF_ERROR(key_of(l, l->tries[at].practice, key, err));
    RETURN_IF_ERROR(dist_least(l->o.dist, &there, err));
    *yes = strcmp(tunehist_kept(l->history), key) == 0 && there;
    return ST_OK;
}

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

static Status met(Loop *l, const Practice *p, Error *err)
{
    int at = try_of(l, p);
    const LoopTry *t = &l->tries[at];
    const char *scope = l->wish ? rank_scope_names[l->wish->scope] : "candidate";
    if (l->o.peer)
        finish(l, LOOP_MET, p, "practice %s", p->id);
    else if (p->level == 0)
        finish(l, LOOP_MET, p, "the demand is met with nothing more in float%s%s, after %d tr%s", p->anti[0] ? " and " : "", p->anti,
               (int)l->ntries, l->ntries == 1 ? "y" : "ies");
    else
        finish(l, LOOP_MET, p, "the demand is met with %d %s%s in float%s%s, after %d tr%s", p->level, scope, plural(p->level),
               p->anti[0] ? " and " : "", p->anti, (int)l->ntries, l->ntries == 1 ? "y" : "ies");
    RETURN_IF_ERROR(write_final(l, p, err));
    l->end.final = l->final.s;
    l->end.final_len = l->final.len;
    l->end.final_id = p->id;
    l->current = at;
    bool kept = t->known && l->o.peer;
    if (!kept)
        RETURN_IF_ERROR(is_kept(l, at, &kept, err));
    l->phase = kept ? DONE : WRITE_FINAL;
    return ST_OK;
}

static Status keep_begins(Loop *l, LoopPhase phase, Error *err)
{
    l->phase = phase;
    return tunehist_put_kept(l->history, "", err);
}

/* ---- steps ---- */

static Status take_ranking(Loop *l, const RankWish *w, Error *err)
{
    char key[65];
    RankRow *rows;
    int64_t n;
    l->wish = w;
    loop_ranking_key(w, l->o.model_id, l->o.data_id, key);
    if (!tunehist_ranking(l->history, key, &rows, &n)) {
        l->phase = RANK;
        return ST_OK;
    }
    Status st = strategy_ranked(l->strategy, rows, n, err);
    free(rows);
    return st;
}

/* One question of the strategy. */
static Status advance(Loop *l, Error *err)
{
    StrategyStep s;
    RETURN_IF_ERROR(strategy_next(l->strategy, &s, err));
    switch (s.kind) {
    case STEP_RANK:
        return take_ranking(l, s.wish, err);
    case STEP_TRY:
        return begin_try(l, s.practice, err);
    case STEP_MET:
        return met(l, s.practice, err);
    case STEP_NOT_MET:
        finish(l, LOOP_NOT_MET, NULL, "%s", s.text);
        return ST_OK;
    case STEP_REFUSED:
        finish(l, LOOP_REFUSED, NULL, "%s", s.text);
        return ST_OK;
    }
    return ST_OK;
}

Status loop_next(Loop *l, LoopStep *out, Error *err)
{
    static const LoopStepKind kinds[] = {[RANK] = LOOP_RANK, [QUANTIZE] = LOOP_QUANTIZE, [EVALUATE] = LOOP_EVALUATE, [KEEP] = LOOP_KEEP,
                                         [WRITE_FINAL] = LOOP_QUANTIZE, [KEEP_FINAL] = LOOP_KEEP};
    while (l->phase == ASK)
        RETURN_IF_ERROR(advance(l, err));
    if (l->phase == DONE) {
        *out = l->end;
        return ST_OK;
    }
    *out = (LoopStep){.kind = kinds[l->phase], .best = -1, .kept = l->result_dir};
    if (l->phase == RANK) {
        out->wish = l->wish;
        return ST_OK;
    }
    const LoopTry *t = &l->tries[l->current];
    out->trial = (LoopTrial){.practice = t->practice, .folder = l->trial_dir, .number = t->number};
    out->write = l->phase == WRITE_FINAL || plan_evaluator(l->o.plan)->folder;
    return ST_OK;
}

static Status expect_phase(const Loop *l, LoopPhase a, LoopPhase b, Error *err)
{
    return l->phase == a || l->phase == b ? ST_OK : error_set(err, ST_INTERNAL, "the loop was told what it did not ask for");
}

Status loop_ranked(Loop *l, const RankRow *rows, int64_t n, Error *err)
{
    char key[65];
    RETURN_IF_ERROR(expect_phase(l, RANK, RANK, err));
    loop_ranking_key(l->wish, l->o.model_id, l->o.data_id, key);
    RETURN_IF_ERROR(tunehist_put_ranking(l->history, key, rows, n, err));
    RETURN_IF_ERROR(strategy_ranked(l->strategy, rows, n, err));
    l->phase = ASK;
    return ST_OK;
}

Status loop_quantized(Loop *l, const LoopMade *m, Error *err)
{
    RETURN_IF_ERROR(expect_phase(l, QUANTIZE, WRITE_FINAL, err));
    LoopTry *t = &l->tries[l->current];
    if (m->st != ST_OK) {
        finish(l, LOOP_FAILED, NULL, "try %d can't be quantized: %s", t->number, m->why ? m->why : "");
        return ST_OK;
    }
    if (m->bytes) {
        t->bytes = m->bytes;
        t->float_bytes = m->float_bytes;
        t->linears = m->linears;
        t->floats = m->floats;
    }
    if (l->phase == WRITE_FINAL)
        return keep_begins(l, KEEP_FINAL, err);
    t->seconds = m->seconds;
    l->phase = EVALUATE;
    return ST_OK;
}

Status loop_evaluated(Loop *l, const EvalResult *r, Error *err)
{
    char key[LOOP_KEY_MAX];
    RETURN_IF_ERROR(expect_phase(l, EVALUATE, EVALUATE, err));
    LoopTry *t = &l->tries[l->current];
    RETURN_IF_ERROR(eval_result_copy(&t->result, r, err));
    demand_met(l->expect, l->nexpect, &t->result);
    if (r->state == EVAL_FAILED) {
        finish(l, LOOP_FAILED, NULL, "try %d can't be evaluated: %s", t->number, r->text);
        return ST_OK;
    }
    RETURN_IF_ERROR(key_of(l, t->practice, key, err));
    HistoryAnswer a = {.r = t->result, .seconds = t->seconds, .bytes = t->bytes, .float_bytes = t->float_bytes, .linears = t->linears,
                       .floats = t->floats};
    RETURN_IF_ERROR(tunehist_put(l->history, key, &a, l->expect, l->nexpect, err));
    RETURN_IF_ERROR(answered(l, t, key, err));
    l->phase = ASK;
    warn_borderline(l);
    if (!l->o.peer && plan_evaluator(l->o.plan)->folder && t->result.satisfied && loop_best(l) == l->current)
        return keep_begins(l, KEEP, err);
    return ST_OK;
}

Status loop_kept(Loop *l, Error *err)
{
    char key[LOOP_KEY_MAX];
    RETURN_IF_ERROR(expect_phase(l, KEEP, KEEP_FINAL, err));
    RETURN_IF_ERROR(key_of(l, l->tries[l->current].practice, key, err));
    RETURN_IF_ERROR(tunehist_put_kept(l->history, key, err));
    l->phase = l->phase == KEEP ? ASK : DONE;
    return ST_OK;
}
