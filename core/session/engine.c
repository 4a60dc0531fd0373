/* What the job thread does: data to tokens, runner, analysis, measurement. Touches only its Job and the Engine. */
#include "session/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "save/practice_yaml.h"

struct Engine {
    Pool *pool;
    int pool_threads;
    Runner *runner;
    Tokenizer *tok;
    TokenSet *calib, *eval;
    DataSpec calib_of, eval_of;
    EffectLab *lab;
    bool lab_peer;
    ArithMode lab_arith;
    /* progress of the running job */
    Session *s;
    Job *job;
    uint64_t bound;
};

Engine *engine_new(void)
{
    return calloc(1, sizeof(Engine));
}

static void drop_lab(Engine *e)
{
    effectlab_free(e->lab);
    e->lab = NULL;
}

static void drop_tokens(TokenSet **t, DataSpec *of)
{
    tokens_free(*t);
    *t = NULL;
    free(of->path);
    free(of->name);
    memset(of, 0, sizeof *of);
}

void engine_free(Engine *e)
{
    if (!e)
        return;
    drop_lab(e);
    drop_tokens(&e->calib, &e->calib_of);
    drop_tokens(&e->eval, &e->eval_of);
    runner_free(e->runner);
    tokenizer_free(e->tok);
    pool_free(e->pool);
    free(e);
}

static void tell(Engine *e, const char *phase, int64_t done, int64_t total)
{
    Event ev = {
        .kind = EVT_PROGRESS, .job = e->job, .done = done, .total = total, .bound = e->bound, .peak = mem_peak_bytes()};
    snprintf(ev.phase, sizeof ev.phase, "%s", phase);
    post(e->s, ev);
}

static void on_progress(void *ctx, const Progress *p)
{
    tell(ctx, p->phase, p->done, p->total);
}

static uint64_t mem_limit(const Job *j)
{
    if (j->opt.mem)
        return j->opt.mem;
    uint64_t avail = mem_available_bytes();
    return avail / 10 * 7;
}

static Status ensure_pool(Engine *e, const Job *j, Error *err)
{
    if (e->pool && e->pool_threads == j->opt.threads)
        return ST_OK;
    runner_free(e->runner);
    e->runner = NULL;
    pool_free(e->pool);
    e->pool = NULL;
    RETURN_IF_ERROR(pool_new(&e->pool, j->opt.threads, err));
    e->pool_threads = j->opt.threads;
    return ST_OK;
}

/* A runner for this job, with what --mem leaves beside the process as it is and the `held` bytes that the job's own tables
 * will take. Sets the bound: never above the limit, because the runner cuts its work to fit. */
static Status new_runner(Engine *e, const Job *j, uint64_t held, uint64_t estimate, Error *err)
{
    runner_free(e->runner);
    e->runner = NULL;
    uint64_t limit = mem_limit(j), taken = mem_resident_bytes() + held;
    if (limit <= taken)
        return error_set(err, ST_NOMEM, "the program, its tokens and the tables of this job take %.1f MB but the limit is %.1f MB: raise --mem",
                         (double)taken * 1e-6, (double)limit * 1e-6);
    e->bound = taken + estimate < limit ? taken + estimate : limit;
    if (e->lab && e->lab_arith != j->opt.arith)
        drop_lab(e);
    RunnerOptions o = {.pool = e->pool, .arith = j->opt.arith, .mem_limit = limit - taken, .cancel = &e->s->cancel,
                       .progress = on_progress, .progress_ctx = e};
    return runner_new(&e->runner, e->s->model, &o, err);
}

static bool same_data(const DataSpec *a, const DataSpec *b)
{
    return a->path && strcmp(a->path, b->path) == 0 && a->max_samples == b->max_samples && a->seq_len == b->seq_len &&
           a->ctx == b->ctx && a->max_tokens == b->max_tokens;
}

static Status copy_spec(DataSpec *to, const DataSpec *from, Error *err)
{
    *to = *from;
    to->path = strdup(from->path);
    to->name = strdup(from->name);
    return to->path && to->name ? ST_OK : error_nomem(err, "the data set");
}

static bool needs_tokenizer(const CalibFile *c)
{
    for (int i = 0; i < c->count; i++)
        if (!c->items[i].ids)
            return true;
    return false;
}

static void log_line(Engine *e, int level, const char *name, const char *fmt, int n)
{
    Event ev = {.kind = EVT_LOG, .job = e->job, .level = level};
    char text[200];
    snprintf(text, sizeof text, fmt, n, n == 1 ? "" : "s");
    snprintf(ev.error.text, sizeof ev.error.text, "%s: %s", name, text);
    post(e->s, ev);
}

/* Tokens of a data file, from the last job when nothing changed. */
static Status ensure_tokens(Engine *e, const DataSpec *want, bool eval, TokenSet **slot, DataSpec *of, Error *err)
{
    if (*slot && same_data(of, want))
        return ST_OK;
    drop_lab(e);
    drop_tokens(slot, of);
    tell(e, "tokenizing", 0, 0);
    CalibFile *file;
    RETURN_IF_ERROR(calib_open(&file, want->path, e->job->opt.peer, err));
    Status st = ST_OK;
    if (!e->tok && needs_tokenizer(file))
        st = tokenizer_open(&e->tok, e->s->model->path, err);
    int64_t vocab = e->s->model->cfg.vocab;
    if (st == ST_OK)
        st = eval ? tokens_windows(slot, file, e->tok, want->ctx, want->max_tokens, vocab, err)
                  : tokens_make(slot, file, e->tok, want->max_samples, want->seq_len, vocab, err);
    if (st == ST_OK)
        st = copy_spec(of, want, err);
    if (st == ST_OK) {
        TokenSet *t = *slot;
        if (file->bad_utf8)
            log_line(e, 1, want->name, "%d text%s not UTF-8: bad bytes read as U+FFFD", file->bad_utf8);
        if (t->dropped_empty)
            log_line(e, 1, want->name, "%d text%s without a token left out", t->dropped_empty);
        if (t->truncated)
            log_line(e, 0, want->name, "%d text%s cut to --seq-len", t->truncated);
        Event ev = {.kind = EVT_DATA, .job = e->job, .is_eval = eval};
        ev.data.samples = t->samples;
        ev.data.tokens = t->start[t->samples];
        memcpy(ev.data.sha256, t->file_sha256, sizeof ev.data.sha256);
        post(e->s, ev);
    }
    calib_free(file);
    return st;
}

static int64_t longest(const TokenSet *t)
{
    int64_t n = 0;
    for (int i = 0; i < t->samples; i++)
        if (t->start[i + 1] - t->start[i] > n)
            n = t->start[i + 1] - t->start[i];
    return n;
}

/* ---- analysis ---- */

static Status layer_done(void *ctx, int layer, LinearResult *r, int n, const Stream *h, Error *err)
{
    Engine *e = ctx;
    LinearResult *copy = mem_array((size_t)n, sizeof *copy);
    if (!copy) {
        for (int i = 0; i < n; i++)
            linear_result_fini(&r[i]);
        return error_nomem(err, "a layer's results");
    }
    memcpy(copy, r, (size_t)n * sizeof *copy);
    Status st = ST_OK;
    Event ev = {.kind = EVT_ROWS, .job = e->job, .layer = layer, .results = copy, .nresults = n};
    if (e->s->journal) {
        Str rows = {0};
        record_results(&rows, copy, n, e->s->model);
        st = durable_layer(e->s, e->job, layer, h, &rows, ev.sha, err);
        str_free(&rows);
    }
    post(e->s, ev);
    return st;
}

/* The saved stream that the analysis goes on from, with the tokens it belongs to. */
static Status resume_stream(Engine *e, const Job *j, const char *sha, Stream *h, Error *err)
{
    RETURN_IF_ERROR(durable_load_stream(e->s, j->run, j->first_layer - 1, sha, h, err));
    Status st = ST_OK;
    if (h->samples != e->calib->samples ||
        memcmp(h->start, e->calib->start, ((size_t)h->samples + 1) * sizeof *h->start) != 0)
        st = error_set(err, ST_DATA, "the saved stream of layer %d belongs to other texts: run the analysis anew",
                       j->first_layer - 1);
    if (st == ST_OK)
        st = stream_set_ids(h, e->calib->ids, err);
    if (st != ST_OK)
        stream_fini(h);
    return st;
}

Status engine_analyze(Session *s, Job *j, Error *err)
{
    Engine *e = s->engine;
    e->s = s;
    e->job = j;
    e->bound = 0;
    RETURN_IF_ERROR(ensure_tokens(e, &j->calib, false, &e->calib, &e->calib_of, err));
    RETURN_IF_ERROR(ensure_pool(e, j, err));
    int64_t rows = e->calib->start[e->calib->samples];
    int threads = pool_threads(e->pool);
    uint64_t tables = analyze_bytes(s->model, j->needs, j->nweights, rows, longest(e->calib), threads);
    RETURN_IF_ERROR(new_runner(e, j, tables, runner_estimate(s->model, rows, longest(e->calib), threads, false), err));
    tell(e, "embedding", 0, 0);
    Stream h = {0};
    const char *sha = j->first_layer > 0 ? s->resume_sha : NULL;
    if (sha)
        RETURN_IF_ERROR(resume_stream(e, j, sha, &h, err));
    else
        RETURN_IF_ERROR(runner_embed(e->runner, e->calib, &h, err));
    AnalyzeRequest req = {.needs = j->needs, .selected = j->selected, .weights = j->weights,
                          .nweights = j->nweights, .peer = j->opt.peer, .first_layer = j->first_layer, .h = &h,
                          .layer_done = layer_done, .ctx = e};
    Status st = analyze_run(e->runner, &req, err);
    stream_fini(&h);
    tell(e, "done", 0, 0);
    return st;
}

/* ---- measurement ---- */

/* What boundary states may take: those of eight assignments, and never more than a quarter of the limit. */
static uint64_t states_cap(const Engine *e, const Job *j)
{
    int64_t rows = e->calib->start[e->calib->samples] + e->eval->start[e->eval->samples];
    uint64_t one =
        (uint64_t)(e->s->model->cfg.layers + 1) * (uint64_t)rows * (uint64_t)e->s->model->cfg.stream_width *
        sizeof(float);
    uint64_t quarter = mem_limit(j) / 4;
    return one < quarter / 8 ? one * 8 : quarter;
}

/* What a measurement holds beside the runner: both streams twice (a state is copied in and out of the cache), and of the float
 * reference the calibration's last hidden states, the evaluation's normed ones and their expected head rows. */
static uint64_t reference_bytes(const Engine *e)
{
    int64_t calib = e->calib->start[e->calib->samples], eval = e->eval->start[e->eval->samples];
    const ModelConfig *c = &e->s->model->cfg;
    return (uint64_t)((3 * calib + 2 * eval) * c->stream_width + 2 * eval * c->hidden) * sizeof(float);
}

static Status ensure_lab(Engine *e, const Job *j, Error *err)
{
    if (e->lab && e->lab_peer == j->opt.peer)
        return ST_OK;
    drop_lab(e);
    if (j->opt.cache_dir) /* asked for, so a folder that can't be is no small matter */
        RETURN_IF_ERROR(dir_make(j->opt.cache_dir, err));
    EffectOptions o = {.calib = e->calib,
                       .eval = e->eval,
                       .cache_bytes = states_cap(e, j),
                       .cache_dir = j->opt.cache_dir,
                       .cache_dir_bytes = 4ull << 30,
                       .seed = j->opt.seed,
                       .peer = j->opt.peer};
    e->lab_peer = j->opt.peer;
    e->lab_arith = j->opt.arith;
    return effectlab_new(&e->lab, e->s->model, &o, err);
}

/* Linears of multi-token prediction are not on the way to the logits. */
static void tell_float_mtp(Engine *e, const Job *j)
{
    const Model *m = e->s->model;
    int n = 0;
    for (int64_t i = 0; i < m->nlinears; i++)
        n += m->linears[i].layer >= m->cfg.layers && j->level[i] > 0;
    if (n)
        log_line(e, 0, "the measurement", "%d quantized linear%s of the multi-token prediction layer run in float: no "
                 "logit depends on them", n);
}

Status engine_measure(Session *s, Job *j, Error *err)
{
    Engine *e = s->engine;
    e->s = s;
    e->job = j;
    e->bound = 0;
    RETURN_IF_ERROR(ensure_tokens(e, &j->calib, false, &e->calib, &e->calib_of, err));
    RETURN_IF_ERROR(ensure_tokens(e, &j->eval, true, &e->eval, &e->eval_of, err));
    RETURN_IF_ERROR(ensure_pool(e, j, err));
    int64_t rows = e->calib->start[e->calib->samples] + e->eval->start[e->eval->samples];
    int64_t a = longest(e->calib), b = longest(e->eval);
    uint64_t need = runner_estimate(s->model, rows, a > b ? a : b, pool_threads(e->pool), true);
    QuantJobOptions levels = {.levels = j->levels, .nlevels = j->nlevels, .level = j->level, .peer = j->opt.peer};
    need += quantjob_bytes(s->model, &levels, pool_threads(e->pool));
    RETURN_IF_ERROR(new_runner(e, j, states_cap(e, j) + reference_bytes(e), need, err));
    RETURN_IF_ERROR(ensure_lab(e, j, err));
    tell_float_mtp(e, j);
    tell(e, "measuring", 0, s->model->cfg.layers);
    Effect effect = {0};
    int64_t t0 = clock_ns();
    RETURN_IF_ERROR(effectlab_measure(e->lab, e->runner, j->levels, j->nlevels, j->level, &effect, err));
    effect.seconds = (double)(clock_ns() - t0) * 1e-9;
    post(s, (Event){.kind = EVT_EFFECT, .job = j, .effect = effect});
    tell(e, "done", s->model->cfg.layers, s->model->cfg.layers);
    return ST_OK;
}

/* ---- quantization ---- */

static void quantize_warn(void *ctx, const char *text)
{
    Engine *e = ctx;
    Event ev = {.kind = EVT_LOG, .job = e->job, .level = 1};
    snprintf(ev.error.text, sizeof ev.error.text, "%s", text);
    post(e->s, ev);
}

static void quantize_layer(void *ctx, int layer, int64_t linears, uint64_t bytes_in, uint64_t bytes_out)
{
    Engine *e = ctx;
    char phase[40];
    (void)linears;
    snprintf(phase, sizeof phase, "layer %d, %.1f MB in, %.1f out", layer, (double)bytes_in * 1e-6,
             (double)bytes_out * 1e-6);
    tell(e, phase, layer + 1, model_depth(e->s->model));
}

/* Reads back what each saver wrote. */
static Status verify_written(Engine *e, QuantizeDone *d, Error *err)
{
    QuantizeJob *q = &e->job->quantize;
    int64_t layers = model_depth(e->s->model);
    for (int i = 0; i < q->nsavers; i++) {
        if (!saver_find(q->saver[i]->type))
            continue; /* debug_info */
        tell(e, "verifying", layers, layers);
        VerifyReport *v = &d->verify[d->nverified];
        d->saver[d->nverified++] = q->saver[i]->type;
        RETURN_IF_ERROR(save_verify(&q->plan[i], q->saver[i]->type, v, &e->s->cancel, err));
        d->problems += v->problems;
    }
    return ST_OK;
}

/* The recipe beside the weights, the check of what was written, and the result to the session. */
static Status complete(Engine *e, const QuantRunResult *run, int64_t t0, Error *err)
{
    QuantizeJob *q = &e->job->quantize;
    QuantizeDone *d = mem_zarray(1, sizeof *d);
    if (!d)
        return error_nomem(err, "the result");
    d->run = *run;
    d->seconds = (double)(clock_ns() - t0) * 1e-9;
    snprintf(d->save_path, sizeof d->save_path, "%s", q->dir);
    Status st = save_practice_yaml(q->dir, q->model_type, q->text, q->len, recipe_name(q->recipe), err);
    if (st == ST_OK && q->verify)
        st = verify_written(e, d, err);
    if (st != ST_OK) {
        quantize_done_free(d);
        return st;
    }
    int64_t problems = d->problems;
    post(e->s, (Event){.kind = EVT_WRITTEN, .job = e->job, .written = d});
    if (problems)
        return error_set(err, ST_FAIL, "'%s' does not hold what was meant to be written: %lld problem%s", q->dir,
                         (long long)problems, problems == 1 ? "" : "s");
    return ST_OK;
}

/* Layouts, descriptions and copy buffers of the savers, whatever the model. */
enum { QUANTIZE_BESIDE = 8 << 20 };

Status engine_quantize(Session *s, Job *j, Error *err)
{
    Engine *e = s->engine;
    QuantizeJob *q = &j->quantize;
    e->s = s;
    e->job = j;
    e->bound = 0;
    if (q->needs_data)
        RETURN_IF_ERROR(ensure_tokens(e, &j->calib, false, &e->calib, &e->calib_of, err));
    RETURN_IF_ERROR(ensure_pool(e, j, err));
    for (int i = 0; i < q->nsavers; i++) {
        q->plan[i].warn = quantize_warn;
        q->plan[i].warn_ctx = e;
    }
    QuantRunOptions o = {.recipe = q->recipe, .level = j->level, .levels = j->levels, .nlevels = j->nlevels,
                         .calib = q->needs_data ? e->calib : NULL, .peer = j->opt.peer, .savers = q->saver,
                         .plans = q->plan, .nsavers = q->nsavers, .resume = q->resume, .layer = quantize_layer,
                         .layer_ctx = e};
    uint64_t need = quantrun_estimate(&o, s->model, pool_threads(e->pool));
    RETURN_IF_ERROR(new_runner(e, j, QUANTIZE_BESIDE, need, err));
    tell(e, "quantizing", 0, model_depth(s->model));
    int64_t t0 = clock_ns();
    QuantRunResult run = {0};
    RETURN_IF_ERROR(quantrun(e->runner, &o, &run, err));
    if (run.unseen) {
        char text[400];
        snprintf(text, sizeof text, "%lld expert linear%s saw no token and stayed in float, first %s: use more texts",
                 (long long)run.unseen, run.unseen == 1 ? "" : "s", run.first_unseen);
        quantize_warn(e, text);
    }
    RETURN_IF_ERROR(complete(e, &run, t0, err));
    tell(e, "done", model_depth(s->model), model_depth(s->model));
    return ST_OK;
}
