/* What the job thread does: evaluation of a try, and what a model says. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "evaluate/subject.h"
#include "session/kit_impl.h"

/* ---- evaluation of a try ---- */

static void evaluate_progress(void *ctx, const char *phase, int64_t done, int64_t total)
{
    kit_tell(ctx, phase, done, total);
}

static void evaluate_log(void *ctx, int level, const char *text)
{
    Kit *k = ctx;
    post_log(k->queue, k->job, level, text);
}

static bool evaluate_ask(void *ctx, const char *question, char *line, size_t size)
{
    Kit *k = ctx;
    return post_ask(k->queue, k->job, question, line, size);
}

/* EvalKit.measure: the job's own recipe, which is the trial's. */
static Status evaluate_measure(void *ctx, const EvalTrial *t, bool full, Effect *out, Error *err)
{
    Kit *k = ctx;
    Job *j = k->job;
    const int64_t tokens = j->eval.max_tokens;
    (void)t;
    if (full)
        j->eval.max_tokens = 0;
    Status st = kit_measure(k, j, err);
    j->eval.max_tokens = tokens;
    free(j->blocks);
    j->blocks = NULL;
    *out = j->effect;
    return st;
}

/* EvalKit.texts: the same. */
static Status evaluate_texts(void *ctx, const EvalTrial *t, Pipeline *p, const TokenSet **calib, Error *err)
{
    Kit *k = ctx;
    Job *j = k->job;
    (void)t;
    *calib = NULL;
    if (pipeline_last_data(p) >= 0) {
        RETURN_IF_ERROR(kit_tokens(k, &j->calib, false, &k->calib, &k->calib_of, err));
        *calib = k->calib;
    }
    return kit_priors(k, j, p, err);
}

Status kit_evaluate(Kit *k, Job *j, Error *err)
{
    EvaluateJob *e = &j->evaluate;
    RETURN_IF_ERROR(kit_pool(k, j, err));
    const EvalKit kit = {.model = j->model, .model_path = j->model->path, .pool = k->pool,
                         .dist = dist_size(j->opt.dist) > 1 ? j->opt.dist : NULL, .mem = kit_mem_limit(j),
                         .arith = j->opt.arith, .peer = j->opt.peer, .work_dir = e->work_dir, .cancel = &j->cancel,
                         .progress = evaluate_progress, .log = evaluate_log, .ask = j->opt.asks ? evaluate_ask : NULL,
                         .measure = evaluate_measure, .texts = evaluate_texts, .ctx = k};
    const EvalTrial trial = {.recipe = j->recipe, .level = j->level, .folder = e->folder, .number = e->number, .id = e->id};
    int64_t t0 = clock_ns();
    kit_tell(k, e->type->name, 0, 0);
    if (e->type->ranks || dist_leads(j->opt.dist))
        RETURN_IF_ERROR(e->type->run(e->settings, e->expect, e->nexpect, &kit, &trial, &e->result, err));
    if (!e->type->ranks)
        RETURN_IF_ERROR(kit_hand_out_result(j->opt.dist, &e->result, err));
    e->result.seconds = (double)(clock_ns() - t0) * 1e-9;
    kit_tell(k, "done", 0, 0);
    return ST_OK;
}

/* ---- what a model says ---- */

static Status generate_texts(void *ctx, Pipeline *p, const TokenSet **calib, Error *err)
{
    return evaluate_texts(ctx, NULL, p, calib, err);
}

Status kit_generate(Kit *k, Job *j, Error *err)
{
    GenerateJob *g = &j->generate;
    uint64_t limit = kit_mem_limit(j), taken = mem_resident_bytes() + JOB_BESIDE;
    const Work work = {.recipe = j->recipe, .levels = j->levels, .nlevels = j->nlevels, .level = j->level,
                       .peer = j->opt.peer, .tell = kit_warn, .tell_ctx = k, .lenient = true};
    RETURN_IF_ERROR(kit_pool(k, j, err));
    if (limit <= taken)
        return kit_over_limit(taken, limit, err);
    const SubjectOptions so = {.model = j->model, .pool = k->pool, .arith = j->opt.arith, .mem = limit - taken,
                               .cancel = &j->cancel, .work = g->quantized ? &work : NULL, .texts = generate_texts, .ctx = k,
                               .progress = evaluate_progress, .progress_ctx = k};
    int64_t start[2] = {0, g->nids};
    const TokenSet prompt = {.name = g->prompt, .samples = 1, .start = start, .ids = g->ids};
    const GreedyOptions o = {.stop = g->stop, .nstop = g->nstop, .max_tokens = g->max_tokens};
    Subject *s;
    Greedy out;
    RETURN_IF_ERROR(subject_new(&s, &so, err));
    Status st = subject_generate(s, &prompt, &o, &out, NULL, err);
    subject_free(s);
    if (st == ST_OK) {
        g->nmade = out.start[1];
        g->made = out.ids;
        out.ids = NULL;
    }
    greedy_fini(&out);
    return st;
}
