/* What the job thread does: data to tokens, runner, analysis, measurement. */
#include "session/kit_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/num.h"
#include "io/file.h"
#include "math/gemm.h"
#include "measure/plan.h"
#include "metric/alone.h"
#include "metric/divide.h"
#include "process/sink_fold.h"
#include "session/entries.h"

Kit *kit_new(Queue *q, Keeper *keeper, const char *folder)
{
    Kit *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->queue = q;
    k->keeper = keeper;
    k->folder = folder;
    return k;
}

static void drop_lab(Kit *k)
{
    effectlab_free(k->lab);
    k->lab = NULL;
    share_fini(&k->calib_share);
    share_fini(&k->eval_share);
    dist_free(k->part);
    k->part = NULL;
    k->parts = 0;
}

/* With the runner, which may see its changes. */
static void drop_base(Kit *k)
{
    if (k->base) {
        runner_free(k->runner);
        k->runner = NULL;
    }
    pipeline_free(k->base);
    recipe_free(k->base_recipe);
    free(k->base_level);
    k->base = NULL;
    k->base_recipe = NULL;
    k->base_level = NULL;
}

static void drop_tokens(TokenSet **t, DataSpec *of)
{
    tokens_free(*t);
    *t = NULL;
    dataspec_fini(of);
}

static void drop_priors(Kit *k)
{
    for (int i = 0; i < k->npriors; i++) {
        tokens_free(k->prior[i]);
        dataspec_fini(&k->prior_of[i]);
    }
    free(k->prior);
    free(k->prior_of);
    k->prior = NULL;
    k->prior_of = NULL;
    k->npriors = 0;
}

void kit_free(Kit *k)
{
    if (!k)
        return;
    drop_lab(k);
    drop_tokens(&k->calib, &k->calib_of);
    drop_tokens(&k->eval, &k->eval_of);
    drop_base(k);
    drop_priors(k);
    runner_free(k->runner);
    tokenizer_free(k->tok);
    pool_free(k->pool);
    profile_free(k->profile);
    scores_fini(&k->found);
    free(k);
}

void kit_tell(Kit *k, const char *phase, int64_t done, int64_t total)
{
    JobProgress p = {.done = done, .total = total, .bound = k->bound, .peak = mem_peak_bytes(), .laps = k->laps};
    snprintf(p.phase, sizeof p.phase, "%s", phase);
    post_progress(k->queue, k->job, &p);
}

static void on_progress(void *ctx, const Progress *p)
{
    Kit *k = ctx;
    char phase[40];
    if (k->trains)
        return;
    snprintf(phase, sizeof phase, "prior stage %d: layer %lld", k->prior_stage, (long long)p->done);
    kit_tell(k, k->prior_stage ? phase : p->phase, p->done, p->total);
}

uint64_t kit_mem_limit(const Job *j)
{
    if (j->opt.mem)
        return j->opt.mem;
    uint64_t avail = mem_available_bytes() / (uint64_t)dist_here(j->opt.dist);
    return avail / 10 * 7;
}

Status kit_pool(Kit *k, const Job *j, Error *err)
{
    if (k->pool && k->pool_threads == j->opt.threads) {
        pool_set_profile(k->pool, k->profile);
        return ST_OK;
    }
    runner_free(k->runner);
    k->runner = NULL;
    pool_free(k->pool);
    k->pool = NULL;
    RETURN_IF_ERROR(pool_new(&k->pool, j->opt.threads, err));
    if (gemm_ready(pool_threads(k->pool), err) != ST_OK) {
        pool_free(k->pool);
        k->pool = NULL;
        return ST_NOMEM;
    }
    k->pool_threads = j->opt.threads;
    pool_set_profile(k->pool, k->profile);
    return ST_OK;
}

Status kit_over_limit(uint64_t taken, uint64_t limit, Error *err)
{
    return error_set(err, ST_NOMEM,
                     "the program, its tokens and the tables of this job take %.1f MB but the limit is %.3g MB: raise --mem",
                     (double)taken * 1e-6, (double)limit * 1e-6);
}

/* A runner for this job, of the model as the overlay changes it (NULL: not), with what --mem leaves. Boundary states get
 * what neither needs: the others go, least recently used first. Sets the bound, which is never above the limit. */
Status kit_runner(Kit *k, const Job *j, const Overlay *overlay, const JobMemory *m, Error *err)
{
    runner_free(k->runner);
    k->runner = NULL;
    if (k->lab && k->lab_arith != j->opt.arith)
        drop_lab(k);
    uint64_t limit = kit_mem_limit(j), taken = mem_resident_bytes() - (k->lab ? effectlab_states(k->lab) : 0);
    taken += m->held + JOB_BESIDE;
    Dist *together;
    uint64_t shelf;
    RETURN_IF_ERROR(kit_readers(k, j, taken + m->runner, &together, &shelf, err));
    taken += shelf;
    k->enough = taken + m->runner;
    if (limit <= taken)
        return kit_over_limit(taken, limit, err);
    uint64_t left = limit - taken;
    k->states = left > m->runner ? min_u64(left - m->runner, m->states) : 0;
    if (k->lab)
        effectlab_limit(k->lab, k->states);
    k->bound = taken + min_u64(m->runner + k->states, left);
    mem_peak_reset(); /* what comes now is held against it */
    RunnerOptions o = {.pool = k->pool, .arith = j->opt.arith, .mem_limit = left - k->states,
                       .overlay = overlay, .together = together, .cancel = &k->job->cancel, .progress = on_progress, .progress_ctx = k};
    return runner_new(&k->runner, k->job->model, &o, err);
}

static bool needs_tokenizer(const CalibFile *c)
{
    for (int i = 0; i < c->count; i++)
        if (!c->items[i].ids)
            return true;
    return false;
}

static void log_line(Kit *k, int level, const char *name, const char *fmt, int n)
{
    char text[200], line[ERROR_TEXT_MAX];
    snprintf(text, sizeof text, fmt, n, n == 1 ? "" : "s");
    snprintf(line, sizeof line, "%s: %s", name, text);
    post_log(k->queue, k->job, level, line);
}

/* What a text was made of, where that is not said by the file. */
static void log_forms(Kit *k, const char *name, const CalibFile *file)
{
    for (int f = CALIB_PLAIN + 1; f < CALIB_FORMS; f++) {
        char fmt[160];
        snprintf(fmt, sizeof fmt, "%%d text%%s: %s", calib_form_text((CalibForm)f));
        if (file->made[f])
            log_line(k, 0, name, fmt, file->made[f]);
    }
}

/* What the job's texts are. */
static void tell_tokens(Kit *k, const TokenSet *t, bool eval)
{
    DataInfo *d = eval ? &k->job->eval_info : &k->job->calib_info;
    d->samples = t->samples;
    d->tokens = t->start[t->samples];
    memcpy(d->sha256, t->file_sha256, sizeof d->sha256);
    if (!eval)
        k->calib_aside = k->job->aside;
    post(k->queue, k->job, eval ? EVT_EVAL : EVT_CALIB);
}

static Status read_tokens(Kit *k, const DataSpec *want, bool eval, TokenSet **slot, DataSpec *of, Error *err)
{
    drop_tokens(slot, of);
    kit_tell(k, "tokenizing", 0, 0);
    CalibFile *file;
    uint64_t limit = kit_mem_limit(k->job), taken = mem_resident_bytes();
    if (limit <= taken)
        return kit_over_limit(taken, limit, err);
    TextLimits limits = {.bytes = limit - taken, .cancel = &k->job->cancel};
    RETURN_IF_ERROR(dataspec_open(&file, want, k->job->opt.peer, &limits, err));
    Status st = ST_OK;
    if (!k->tok && needs_tokenizer(file))
        st = tokenizer_open(&k->tok, k->job->model->path, err);
    int64_t vocab = k->job->model->cfg.vocab;
    if (st == ST_OK)
        st = eval ? tokens_windows(slot, file, k->tok, want->ctx, want->max_tokens, vocab, &limits, err)
                  : tokens_make(slot, file, k->tok, want->max_samples, want->seq_len, vocab, &limits, err);
    if (st == ST_OK)
        st = dataspec_copy(of, want, err);
    if (st == ST_OK) {
        TokenSet *t = *slot;
        log_forms(k, want->name, file);
        if (file->bad_utf8)
            log_line(k, 1, want->name, "%d text%s not UTF-8: bad bytes read as U+FFFD", file->bad_utf8);
        if (t->dropped_empty)
            log_line(k, 1, want->name, "%d text%s without a token left out", t->dropped_empty);
        if (t->truncated)
            log_line(k, 0, want->name, "%d text%s cut to --seq-len", t->truncated);
    }
    calib_free(file);
    return st;
}

static Status make_tokens(Kit *k, const DataSpec *want, bool eval, TokenSet **slot, DataSpec *of, Error *err)
{
    drop_lab(k);
    RETURN_IF_ERROR(read_tokens(k, want, eval, slot, of, err));
    tell_tokens(k, *slot, eval);
    return ST_OK;
}

/* Tokens of a data file, from the last job when nothing changed. */
Status kit_tokens(Kit *k, const DataSpec *want, bool eval, TokenSet **slot, DataSpec *of, Error *err)
{
    if (*slot && dataspec_same(of, want)) {
        if (!eval && k->calib_aside && !k->job->aside) /* the session doesn't know of them yet */
            tell_tokens(k, *slot, false);
        return ST_OK;
    }
    Phase was = profile_enter(k->profile, 0, PHASE_TOKENIZE);
    Status st = make_tokens(k, want, eval, slot, of, err);
    profile_leave(k->profile, 0, was);
    return st;
}

/* ---- prior stages ---- */

static void prior_told(void *ctx, const PriorAt *at)
{
    Kit *k = ctx;
    char phase[40];
    k->prior_stage = at->stage + 1;
    if (!k->prior_stage)
        return;
    snprintf(phase, sizeof phase, "prior stage %d: %s %lld", at->stage + 1, at->search ? "search step" : "layer", (long long)at->done);
    kit_tell(k, phase, at->done, at->of);
}

static void training_told(void *ctx, const TrainAt *at)
{
    Kit *k = ctx;
    char phase[40];
    k->trains = at->done < at->of;
    snprintf(phase, sizeof phase, "layer %d, step %lld/%lld, loss %.3g", at->unit, (long long)at->done, (long long)at->of,
             at->share);
    kit_tell(k, phase, at->unit, at->units);
}

/* Texts of the prior stages that need some, from the last job where nothing changed. */
Status kit_priors(Kit *k, const Job *j, Pipeline *p, Error *err)
{
    if (k->npriors != j->npriors) {
        drop_priors(k);
        k->prior = mem_zarray((size_t)j->npriors, sizeof *k->prior);
        k->prior_of = mem_zarray((size_t)j->npriors, sizeof *k->prior_of);
        if (!k->prior || !k->prior_of)
            return error_nomem(err, "the texts of prior stages");
        k->npriors = j->npriors;
    }
    pipeline_watch_priors(p, prior_told, k);
    pipeline_watch_training(p, training_told, k);
    for (int i = 0; i < k->npriors; i++) {
        bool same = k->prior[i] && dataspec_same(&k->prior_of[i], &j->prior[i]);
        if (!pipeline_prior_data(p, i))
            continue;
        if (!same)
            RETURN_IF_ERROR(read_tokens(k, &j->prior[i], false, &k->prior[i], &k->prior_of[i], err));
        pipeline_set_prior(p, i, k->prior[i]);
    }
    return ST_OK;
}

static int64_t longest(const TokenSet *t)
{
    return longest_of(t->start, t->samples);
}

/* ---- analysis ---- */

/* Whether a pass goes by the metric's values. */
static bool is_read(const Metric *m)
{
    for (int i = 0; metric_table[i]; i++)
        for (int k = 0; metric_table[i]->pass->reads && metric_table[i]->pass->reads[k]; k++)
            if (metric_table[i]->pass->reads[k] == m)
                return true;
    return false;
}

static Status keep_found(Kit *k, const PassStep *step, Error *err)
{
    for (int64_t i = 0; i < step->nscore; i++)
        if (is_read(step->score[i].metric))
            RETURN_IF_ERROR(scores_put(&k->found, step->score[i].metric, &step->score[i].s, err));
    return ST_OK;
}

/* What was found since the job was queued joins what its pass goes by. */
static Status take_found(Kit *k, Job *j, Error *err)
{
    if (k->found.m != j->model) {
        scores_fini(&k->found);
        RETURN_IF_ERROR(scores_init(&k->found, j->model, err));
    }
    k->found.origin = j->origin;
    k->found.arith = j->opt.arith;
    if (!j->plan.pass->reads)
        return ST_OK;
    if (!j->before.m)
        RETURN_IF_ERROR(scores_init(&j->before, j->model, err));
    j->plan.before = &j->before;
    return scores_copy_units(&j->before, &k->found, j->plan.pass->reads, &j->origin, err);
}

/* Handed over before it is shown: what is shown is on the disk but for one step. */
static Status pass_step(void *ctx, const PassStep *step, Error *err)
{
    Kit *k = ctx;
    Job *j = k->job;
    if (step->nscore && step->score[0].metric == &metric_together)
        return post_scores(k->queue, j, step, err); /* the owner writes them down with their sets */
    Status st = keep_found(k, step, err);
    if (st == ST_OK && step->h)
        st = kit_keep_layer(k, step, err);
    if (!dist_leads(j->opt.dist)) { /* statistics are rank 0's, the owner of each has the scores, by which a search goes on */
        for (int i = 0; i < step->nlinear; i++)
            linear_result_fini(&step->linear[i]);
        return st == ST_OK && step->nscore ? post_scores(k->queue, j, step, err) : st;
    }
    if (k->keeper && step->nscore && !j->plan.sets && !j->aside) {
        Str b = {0};
        entry_scores(j, step, &b);
        keeper_put_patiently(k->keeper, &b);
    }
    if (st == ST_OK && step->h)
        st = post_rows(k->queue, j, step, err);
    for (int i = 0; st != ST_OK && i < step->nlinear; i++)
        linear_result_fini(&step->linear[i]);
    return st == ST_OK && step->nscore ? post_scores(k->queue, j, step, err) : st;
}

/* Of a forward over all texts, without the head. */
static uint64_t forward_bytes(const Kit *k, const TokenSet *t, int threads)
{
    const RunnerAsk ask = {.rows = t->start[t->samples], .longest = longest(t), .threads = threads,
                           .arith = k->job->opt.arith};
    RunnerNeed n = runner_need(k->job->model, &ask);
    return n.stream + n.kept + n.layer;
}

/* ---- the model that is analysed ---- */

static void folded(void *ctx, int unit)
{
    Kit *k = ctx;
    Str text = {0};
    char phase[40];
    work_name_changes(k->base_recipe, &text);
    snprintf(phase, sizeof phase, "layer %d through %.20s", unit, str_text(&text));
    str_free(&text);
    kit_tell(k, phase, unit + 1, model_depth(k->job->model));
}

static Status fold_base(Kit *k, const Job *j, Error *err)
{
    const Model *m = j->model;
    k->base_recipe = recipe_hold(j->recipe);
    k->base_level = mem_zarray((size_t)m->nlinears, sizeof *k->base_level);
    if (!k->base_level)
        return error_nomem(err, "the changed model");
    const Work work = {.recipe = k->base_recipe, .level = k->base_level, .peer = j->opt.peer, .lenient = true,
                       .changes = true};
    RETURN_IF_ERROR(pipeline_new(&k->base, m, &work, err));
    RETURN_IF_ERROR(kit_priors(k, j, k->base, err));
    const RunnerAsk ask = {.rows = k->calib->start[k->calib->samples], .longest = longest(k->calib),
                           .threads = pool_threads(k->pool), .arith = j->opt.arith};
    const RunnerNeed n = runner_need(m, &ask);
    const PassSize size = {.samples = k->calib->samples, .threads = ask.threads, .rows = ask.rows, .longest = ask.longest};
    const JobMemory need = {.held = pipeline_bytes(k->base, &size),
                            .runner = max_u64((uint64_t)pipeline_streams(k->base, false) * n.stream + n.kept + n.layer,
                                              pipeline_prior_bytes(k->base, ask.threads, ask.arith)),
                            .states = k->lab ? effectlab_states(k->lab) : 0};
    RETURN_IF_ERROR(kit_runner(k, j, pipeline_overlay(k->base), &need, err));
    return fold_run(k->base, k->runner, &(FoldOptions){.calib = k->calib, .done = folded, .ctx = k}, err);
}

/* What the recipe's processors make of the model, from the last job where nothing changed. */
static Status ensure_base(Kit *k, const Job *j, Error *err)
{
    if (k->base && j->recipe && k->base_of.data == j->origin.data)
        return ST_OK;
    drop_base(k);
    if (!j->recipe)
        return ST_OK;
    k->base_of = j->origin;
    Status st = fold_base(k, j, err);
    if (st != ST_OK)
        drop_base(k);
    return st;
}

Status kit_meet(const Kit *k, const Job *j, Error *err)
{
    Dist *d = j->opt.dist;
    RETURN_IF_ERROR(dist_same(d, "model", j->model->fingerprint, strlen(j->model->fingerprint), err));
    if (k->calib)
        RETURN_IF_ERROR(dist_same(d, "calibration set", k->calib->sha256, sizeof k->calib->sha256, err));
    if (k->eval)
        RETURN_IF_ERROR(dist_same(d, "evaluation set", k->eval->sha256, sizeof k->eval->sha256, err));
    return ST_OK;
}

static void tell_division(Kit *k, const Job *j)
{
    char line[200];
    if (dist_size(j->opt.dist) == 1 || pass_divides(&j->plan, dist_size(j->opt.dist)) != DIVIDES_NOT)
        return;
    snprintf(line, sizeof line, "%s: is not divided over ranks: rank 0 of %d does all of it", j->plan.pass->name,
             dist_size(j->opt.dist));
    post_log(k->queue, k->job, 0, line);
}

static Status run_pass(Kit *k, Job *j, PassDivision *d, Error *err)
{
    PassPlan *p = &j->plan;
    k->together = kit_all_run(k, j, d) ? j->opt.dist : NULL;
    const MetricPass *pass = p->pass;
    int threads = pool_threads(k->pool);
    uint64_t tables = pass->bytes(p, threads);
    uint64_t need = pass->need ? pass->need(p, threads) : forward_bytes(k, p->tokens, threads);
    uint64_t states = k->lab ? effectlab_states(k->lab) : 0, copy;
    RETURN_IF_ERROR(kit_keep_begin(k, j, mem_resident_bytes() - states + JOB_BESIDE + tables + need, &copy, err));
    const JobMemory m = {.held = tables + copy, .runner = need, .states = states};
    RETURN_IF_ERROR(kit_runner(k, j, p->overlay, &m, err));
    kit_tell(k, pass->data_free ? "weights" : "embedding", p->first, pass->steps(p));
    Stream h = {0};
    if (pass->stream && p->first > 0 && !d->idle)
        RETURN_IF_ERROR(kit_kept_stream(k, j, &h, err));
    p->h = &h;
    Status st = pass_run_divided(d, k->runner, &(PassSink){pass_step, k}, err);
    p->h = NULL;
    stream_fini(&h);
    return st;
}

static Status analyze(Kit *k, Job *j, Error *err)
{
    PassPlan *p = &j->plan;
    const MetricPass *pass = p->pass;
    PassDivision d = {0};
    if (!pass->data_free || j->recipe)
        RETURN_IF_ERROR(kit_tokens(k, &j->calib, false, &k->calib, &k->calib_of, err));
    if (pass->eval)
        RETURN_IF_ERROR(kit_tokens(k, &j->eval, true, &k->eval, &k->eval_of, err));
    RETURN_IF_ERROR(kit_pool(k, j, err));
    p->tokens = pass->data_free ? NULL : k->calib;
    p->eval = pass->eval ? k->eval : NULL;
    RETURN_IF_ERROR(take_found(k, j, err));
    RETURN_IF_ERROR(ensure_base(k, j, err));
    p->overlay = k->base ? pipeline_overlay(k->base) : NULL;
    RETURN_IF_ERROR(kit_meet(k, j, err));
    tell_division(k, j);
    Status st = pass_divide(&d, p, j->opt.dist, err);
    if (st == ST_OK)
        st = run_pass(k, j, &d, err);
    pass_divide_end(&d);
    p->overlay = NULL; /* which lives no longer than the base */
    kit_tell(k, "done", 0, 0);
    return st;
}

/* ---- measurement ---- */

/* What boundary states may take: those of eight assignments, and never more than a quarter of the limit. */
static uint64_t states_want(const Job *j, const EffectPlan *plan)
{
    if (j->opt.once && !j->opt.cache_dir)
        return plan->first > 0 ? plan->state : 0;
    enum { ASSIGNMENTS = 8 };
    return min_u64((uint64_t)(j->model->cfg.layers + 1) * plan->state * ASSIGNMENTS, kit_mem_limit(j) / 4);
}

/* What this process measures on. */
static const TokenSet *calib_of(const Kit *k)
{
    return k->calib_share.dist ? &k->calib_share.mine : k->calib;
}

static const TokenSet *eval_of(const Kit *k)
{
    return k->eval_share.dist ? &k->eval_share.mine : k->eval;
}

static Status ensure_lab(Kit *k, const Job *j, Error *err)
{
    if (k->lab)
        return ST_OK;
    if (j->opt.cache_dir) /* asked for, so a folder that can't be is no small matter */
        RETURN_IF_ERROR(dir_make(j->opt.cache_dir, err));
    EffectOptions o = {.calib = calib_of(k),
                       .eval = eval_of(k),
                       .dist = k->calib_share.dist,
                       .all_calib = k->calib,
                       .all_eval = k->eval,
                       .cache_bytes = k->states,
                       .cache_dir = j->opt.cache_dir,
                       .cache_dir_bytes = 4ull << 30,
                       .seed = j->opt.seed,
                       .once = j->opt.once && !j->opt.cache_dir};
    k->lab_arith = j->opt.arith;
    return effectlab_new(&k->lab, k->job->model, &o, err);
}

/* Linears of multi-token prediction are not on the way to the logits. */
static void tell_float_mtp(Kit *k, const Job *j)
{
    const Model *m = k->job->model;
    int n = 0;
    for (int64_t i = 0; i < m->nlinears; i++)
        n += m->linears[i].layer >= m->cfg.layers && j->level[i] > 0;
    if (n)
        log_line(k, 0, "the measurement", "%d quantized linear%s of the multi-token prediction layer run in float: no "
                 "logit depends on them", n);
}

/* The runner doesn't outlive the changes that it shows. */
void kit_end_pipeline(Kit *k, Pipeline *p)
{
    if (pipeline_overlay(p)) {
        runner_free(k->runner);
        k->runner = NULL;
    }
    pipeline_free(p);
}

static Status measure_work(Kit *k, Job *j, Pipeline *p, Error *err)
{
    EffectPlan plan = effect_plan(p, calib_of(k), eval_of(k), pool_threads(k->pool), j->opt.arith);
    uint64_t want = states_want(j, &plan), kept = k->lab ? effectlab_references(k->lab) : 0;
    /* of this measurement, the float model's among them, and those that are there */
    uint64_t now = (k->lab ? effectlab_states(k->lab) : 0) + 2 * (uint64_t)j->model->cfg.layers * plan.state;
    k->together = k->calib_share.dist;
    const JobMemory m = {.held = plan.held - min_u64(plan.reference, kept), .runner = plan.runner,
                         .states = min_u64(want, now)};
    RETURN_IF_ERROR(kit_runner(k, j, pipeline_overlay(p), &m, err));
    RETURN_IF_ERROR(ensure_lab(k, j, err));
    tell_float_mtp(k, j);
    k->laps = kept ? 1 : 2; /* the float model's comes first */
    kit_tell(k, "measuring", 0, j->model->cfg.layers);
    int64_t t0 = clock_ns();
    RETURN_IF_ERROR(effectlab_measure(k->lab, k->runner, p, &j->effect, &j->blocks, err));
    j->effect.whole = !j->eval.max_tokens || j->effect.tokens < j->eval.max_tokens;
    j->effect.seconds = (double)(clock_ns() - t0) * 1e-9;
    return ST_OK;
}

/* Of what runs: a warning. */
void kit_warn(void *ctx, const char *text)
{
    Kit *k = ctx;
    post_log(k->queue, k->job, 1, text);
}

bool kit_divides(const Job *j, const Pipeline *p, const TokenSet *texts)
{
    const int size = dist_size(j->opt.dist);
    return size > 1 && pipeline_divides(p) && share_all_have(texts, size);
}

/* How many ranks divide the texts of this measurement, 0: none do; then k has this rank's shares. */
static Status divide_texts(Kit *k, const Job *j, const Pipeline *p, Error *err)
{
    Dist *d = j->opt.dist;
    const int size = dist_size(d), most = share_most(k->calib) < size ? share_most(k->calib) : size;
    const int parts = most > 1 && pipeline_divides(p) ? most : 0;
    if (size == 1 || parts == k->parts)
        return ST_OK;
    drop_lab(k);
    if (parts && parts < size)
        RETURN_IF_ERROR(dist_part(&k->part, d, parts, err));
    k->parts = parts;
    if (dist_rank(d) >= parts)
        return ST_OK;
    Dist *by = k->part ? k->part : d;
    RETURN_IF_ERROR(share_init(&k->calib_share, by, k->calib, err));
    return share_init(&k->eval_share, by, k->eval, err);
}

/* What rank 0 measured alone, for the others, who go on with it as it does. */
static Status hand_out_effect(Job *j, Error *err)
{
    Dist *d = j->opt.dist;
    Pack p = {0};
    if (dist_leads(d)) {
        const int64_t n = j->blocks ? (int64_t)(sizeof *j->blocks + (size_t)j->blocks->n * sizeof *j->blocks->b) : 0;
        pack_put(&p, &j->effect, sizeof j->effect);
        pack_i64(&p, n);
        pack_put(&p, j->blocks, (size_t)n);
    }
    Status st = dist_hand_out(d, &p, err);
    if (st == ST_OK && !dist_leads(d)) {
        Unpack in = unpack_of(&p);
        free(j->blocks);
        unpack_get(&in, &j->effect, sizeof j->effect);
        const int64_t n = unpack_i64(&in);
        j->blocks = n ? unpack_array(&in, n, 1) : NULL;
        st = in.bad ? error_nomem(err, "a measurement's blocks") : ST_OK;
    }
    pack_fini(&p);
    return st;
}

static Status measure_divided(Kit *k, Job *j, Pipeline *p, Error *err)
{
    Dist *d = j->opt.dist;
    char text[160];
    RETURN_IF_ERROR(kit_meet(k, j, err));
    RETURN_IF_ERROR(divide_texts(k, j, p, err));
    pipeline_set_whole(p, k->parts ? k->calib : NULL);
    if (dist_size(d) == 1 || k->parts == dist_size(d))
        return measure_work(k, j, p, err);
    snprintf(text, sizeof text, "the measurement is not divided over ranks (%s): rank 0 does all of it",
             pipeline_divides(p) ? "one calibration text" : "flatquant");
    if (k->parts)
        snprintf(text, sizeof text, "%d of %d ranks measure: there are no more calibration texts", k->parts, dist_size(d));
    post_log(k->queue, j, 0, text);
    if (dist_rank(d) < (k->parts ? k->parts : 1))
        RETURN_IF_ERROR(measure_work(k, j, p, err));
    return hand_out_effect(j, err);
}

/* Into j->effect and j->blocks. */
Status kit_measure(Kit *k, Job *j, Error *err)
{
    RETURN_IF_ERROR(kit_tokens(k, &j->calib, false, &k->calib, &k->calib_of, err));
    RETURN_IF_ERROR(kit_tokens(k, &j->eval, true, &k->eval, &k->eval_of, err));
    RETURN_IF_ERROR(kit_pool(k, j, err));
    const Work work = {.recipe = j->recipe, .levels = j->levels, .nlevels = j->nlevels, .level = j->level,
                       .peer = j->opt.peer, .tell = kit_warn, .tell_ctx = k, .lenient = true};
    Pipeline *p;
    RETURN_IF_ERROR(pipeline_new(&p, j->model, &work, err));
    Status st = kit_priors(k, j, p, err);
    if (st == ST_OK)
        st = measure_divided(k, j, p, err);
    kit_end_pipeline(k, p);
    return st;
}

static Status measure(Kit *k, Job *j, Error *err)
{
    RETURN_IF_ERROR(kit_measure(k, j, err));
    post(k->queue, j, EVT_EFFECT);
    kit_tell(k, "done", j->model->cfg.layers, j->model->cfg.layers);
    return ST_OK;
}

static Status (*const run_of[])(Kit *, Job *, Error *) = {
    [JOB_ANALYZE] = analyze, [JOB_MEASURE] = measure, [JOB_QUANTIZE] = kit_quantize, [JOB_EVALUATE] = kit_evaluate,
    [JOB_GENERATE] = kit_generate};
/* Jobs whose work is divided over ranks, or each rank's own. */
static const bool divides[] = {[JOB_ANALYZE] = true, [JOB_MEASURE] = true, [JOB_QUANTIZE] = true, [JOB_EVALUATE] = true,
                               [JOB_GENERATE] = false};

/* Over several ranks all of them begin the same job. */
static Status run(Kit *k, Job *j, Error *err)
{
    const JobKind kind = j->view->kind;
    if (dist_size(j->opt.dist) == 1)
        return run_of[kind](k, j, err);
    RETURN_IF_ERROR(kit_same_job(j, err));
    return divides[kind] ? run_of[kind](k, j, err) : kit_lead(k, j, run_of[kind], err);
}

/* The last job's profile goes with its runner, whose reader may still tell it something. */
static Status begin_profile(Kit *k, const Job *j, Error *err)
{
    if (k->profile) {
        runner_free(k->runner);
        k->runner = NULL;
        if (k->pool)
            pool_set_profile(k->pool, NULL);
        profile_free(k->profile);
        k->profile = NULL;
    }
    return j->opt.profile ? profile_new(&k->profile, pool_threads_of(j->opt.threads), err) : ST_OK;
}

/* Behind what --mem refused: what it would take. */
static Status tell_enough(const Kit *k, const Job *j, Status st, Error *err)
{
    if (st != ST_NOMEM || !err || k->enough <= j->opt.mem || !j->opt.mem)
        return st;
    char text[ERROR_TEXT_MAX];
    memcpy(text, err->text, sizeof text);
    return error_set(err, st, "%s; --mem %lluM is enough for all of it", text,
                     (unsigned long long)(k->enough >> 20) + 2); /* what the process takes differs by a little */
}

Status kit_run(Kit *k, Job *j, Error *err)
{
    k->job = j;
    k->bound = k->enough = 0;
    k->laps = k->prior_stage = 0;
    k->together = NULL;
    k->trains = false;
    RETURN_IF_ERROR(begin_profile(k, j, err));
    Status st = run(k, j, err);
    if (k->profile)
        profile_report(k->profile, &j->profile);
    if (st != ST_OK)
        return tell_enough(k, j, st, err);
    bool other = false;
    const char *changed = checkpoint_changed(j->model->ckpt, &other);
    if (changed && other)
        return error_set(err, ST_DATA, "'%s' was overwritten since the model was opened: the results are of a mixture; open it "
                                       "again and run anew", changed);
    if (changed)
        post_log(k->queue, j, 1, "a file of the weights was touched since the model was opened; what was looked at is as it "
                                 "was");
    return ST_OK;
}
