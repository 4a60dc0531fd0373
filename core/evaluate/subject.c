#include "evaluate/subject.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "measure/logitpass.h"
#include "process/sink_keep.h"
#include "run/ready.h"
#include "run/share.h"

enum { AT_ONCE = 32, PASS_ROWS = 4096 };

struct Subject {
    SubjectOptions o;
    Work work;
    Pipeline *pipeline; /* NULL: float */
    KeptModel kept;
    Runner *r;
    uint64_t limit;     /* of the runner, 0: none */
    const char *phase;
    int64_t done, total; /* of what is told; texts */
};

/* ---- the model ---- */

static void on_progress(void *ctx, const Progress *p)
{
    const Subject *s = ctx;
    if (s->phase)
        s->o.progress(s->o.progress_ctx, s->phase, s->done, s->total);
    else
        s->o.progress(s->o.progress_ctx, strcmp(p->phase, "layer") == 0 ? "quantizing" : p->phase, p->done, p->total);
}

static Status runner_of(Subject *s, uint64_t held, Error *err)
{
    if (s->o.mem && s->o.mem <= held)
        return error_set(err, ST_NOMEM, "the quantized model takes %.1f MB in memory but the limit leaves %.1f MB: raise --mem",
                         (double)held / 1e6, (double)s->o.mem / 1e6);
    s->limit = s->o.mem ? s->o.mem - held : 0;
    const RunnerOptions o = {.pool = s->o.pool, .arith = s->o.arith, .mem_limit = s->limit, .cancel = s->o.cancel,
                             .overlay = s->pipeline ? pipeline_overlay(s->pipeline) : NULL,
                             .progress = s->o.progress ? on_progress : NULL, .progress_ctx = s};
    return runner_new(&s->r, s->o.model, &o, err);
}

/* calib: this rank's share, where dist divides the texts. */
static Status quantize_with(Subject *s, const TokenSet *calib, Dist *dist, Error *err)
{
    const PassSize size = {.samples = calib ? calib->samples : 0, .threads = pool_threads(s->o.pool),
                           .rows = calib ? calib->start[calib->samples] : 0,
                           .longest = calib ? longest_of(calib->start, calib->samples) : 0};
    RETURN_IF_ERROR(runner_of(s, keptmodel_bytes(s->pipeline) + pipeline_bytes(s->pipeline, &size), err));
    const Sink sink = keep_sink(&s->kept);
    return pipeline_run(s->pipeline, s->r, &(PipelineOptions){.calib = calib, .sinks = &sink, .nsinks = 1, .dist = dist}, err);
}

static Status quantize(Subject *s, Error *err)
{
    const TokenSet *calib = NULL;
    s->work = *s->o.work;
    RETURN_IF_ERROR(pipeline_new(&s->pipeline, s->o.model, &s->work, err));
    RETURN_IF_ERROR(s->o.texts(s->o.ctx, s->pipeline, &calib, err));
    const int ranks = dist_size(s->o.dist);
    const bool divided = calib && ranks > 1 && pipeline_divides(s->pipeline) && share_all_have(calib, ranks);
    Share share = {0};
    pipeline_set_whole(s->pipeline, divided ? calib : NULL);
    if (divided)
        RETURN_IF_ERROR(share_init(&share, s->o.dist, calib, err));
    Status st = keptmodel_init(&s->kept, s->o.model, err);
    if (st == ST_OK)
        st = quantize_with(s, divided ? &share.mine : calib, divided ? s->o.dist : NULL, err);
    pipeline_set_whole(s->pipeline, NULL);
    share_fini(&share);
    return st;
}

Status subject_new(Subject **out, const SubjectOptions *o, Error *err)
{
    *out = NULL;
    if (!o->model->exit.head)
        return error_set(err, ST_DATA, "'%s' has no head and gives no logits: it can't be asked", o->model->path);
    Subject *s = mem_zarray(1, sizeof *s);
    if (!s)
        return error_nomem(err, "the model that is asked");
    s->o = *o;
    Status st = o->work ? quantize(s, err) : runner_of(s, 0, err);
    if (st != ST_OK) {
        subject_free(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

void subject_free(Subject *s)
{
    if (!s)
        return;
    runner_free(s->r);
    if (s->kept.m)
        keptmodel_fini(&s->kept);
    pipeline_free(s->pipeline);
    free(s);
}

int64_t subject_unseen(const Subject *s)
{
    return s->kept.unseen;
}

static const Variant *const *variants(const Subject *s)
{
    return s->pipeline ? s->kept.variant : NULL;
}

static void tell(Subject *s, const char *phase, int64_t done, int64_t total)
{
    s->phase = phase;
    s->done = done;
    s->total = total;
    if (s->o.progress)
        s->o.progress(s->o.progress_ctx, phase, done, total);
}

/* ---- generation ---- */

static uint64_t step_bytes(const Subject *s, int64_t rows, int64_t longest)
{
    const RunnerAsk ask = {.rows = rows, .longest = longest, .threads = pool_threads(s->o.pool), .arith = s->o.arith,
                           .level = s->pipeline ? pipeline_acts(s->pipeline) : NULL,
                           .inputs = s->pipeline && (pipeline_needs(s->pipeline) & PROCESSOR_INPUTS),
                           .branches = s->pipeline && (pipeline_needs(s->pipeline) & PROCESSOR_BRANCHES),
                           .turned = s->pipeline && (pipeline_needs(s->pipeline) & PROCESSOR_OUTPUTS)};
    return runner_estimate(s->o.model, &ask);
}

/* How many texts go together, and what weights may take beside them. */
static Status plan_steps(const Subject *s, const TokenSet *t, int64_t rows, int64_t longest, SubjectFacts *f, Error *err)
{
    const Model *m = s->o.model;
    uint64_t need;
    f->at_once = t->samples < AT_ONCE ? t->samples : AT_ONCE;
    for (;; f->at_once /= 2) {
        need = decoder_bytes(m, f->at_once, rows) + step_bytes(s, f->at_once * longest, rows);
        if (!s->limit || need <= s->limit || f->at_once == 1)
            break;
    }
    if (s->limit && need > s->limit)
        return error_set(err, ST_NOMEM,
                         "a text of %lld tokens takes %.1f MB while it is generated but the limit leaves %.1f MB: raise --mem, "
                         "or generate less (--max-tokens)",
                         (long long)rows, (double)need / 1e6, (double)s->limit / 1e6);
    f->ready = decoder_ready_bytes(m);
    if (s->limit)
        f->ready = min_u64(f->ready, s->limit - need);
    f->bound = need + f->ready;
    return ST_OK;
}

typedef struct Told {
    Subject *s;
    const GreedyOptions *o;
    int64_t made;
} Told;

static bool on_token(void *ctx, int text, int32_t id)
{
    Told *t = ctx;
    t->s->done = ++t->made;
    return !t->o->token || t->o->token(t->o->ctx, text, id);
}

static Status generate(Subject *s, Decoder *d, const TokenSet *prompts, const GreedyOptions *o, Greedy *out, Error *err)
{
    Told told = {.s = s, .o = o};
    GreedyOptions own = *o;
    own.token = on_token;
    own.ctx = &told;
    tell(s, "generating", 0, prompts->samples * o->max_tokens);
    return decode_greedy(d, prompts, &own, out, err);
}

Status subject_generate(Subject *s, const TokenSet *prompts, const GreedyOptions *o, Greedy *out, SubjectFacts *facts,
                        Error *err)
{
    int64_t longest = longest_of(prompts->start, prompts->samples), rows = longest + o->max_tokens;
    SubjectFacts f = {.at_once = 1};
    Decoder *d;
    *out = (Greedy){.texts = 0};
    RETURN_IF_ERROR(plan_steps(s, prompts, rows, longest, &f, err));
    runner_hold(s->r, decoder_bytes(s->o.model, f.at_once, rows) + f.ready);
    Status st = decoder_new(&d, s->r, &(DecoderOptions){.texts = f.at_once, .rows = rows, .variant = variants(s),
                                                        .ready = f.ready}, err);
    if (st == ST_OK)
        st = generate(s, d, prompts, o, out, err);
    if (st == ST_OK) {
        int64_t left;
        f.ready = decoder_ready(d, &left);
        f.left = (uint64_t)left;
    }
    decoder_free(d);
    runner_hold(s->r, 0);
    if (facts)
        *facts = f;
    return st;
}

/* ---- likelihood ---- */

/* The rows that predict tokens from[i] and on, one text behind the other, and what they predict. */
static Status predicting_rows(const Stream *h, const TokenSet *t, const int64_t *from, Stream *out, int32_t **next, Error *err)
{
    int64_t *start = mem_array((size_t)h->samples + 1, sizeof *start), n = 0;
    *next = mem_array((size_t)h->rows, sizeof **next);
    Status st = start && *next ? ST_OK : error_nomem(err, "the texts");
    for (int i = 0; i < h->samples && st == ST_OK; i++) {
        start[i] = n;
        n += h->start[i + 1] - h->start[i] - from[i];
        start[i + 1] = n;
    }
    if (st == ST_OK)
        st = stream_init(out, h->samples, start, h->width, err);
    for (int i = 0; i < h->samples && st == ST_OK; i++) {
        int64_t at = h->start[i] + from[i], rows = start[i + 1] - start[i];
        memcpy(out->data + start[i] * h->width, h->data + (at - 1) * h->width, (size_t)(rows * h->width) * sizeof *h->data);
        memcpy(*next + start[i], t->ids + at, (size_t)rows * sizeof **next);
    }
    free(start);
    return st;
}

static Status likelihood_of(Subject *s, const Stream *h, const TokenSet *t, const int64_t *from, double *sum, Error *err)
{
    Stream rows = {0}, normed = {0};
    LogitRows logits = {0};
    int32_t *next = NULL;
    Status st = predicting_rows(h, t, from, &rows, &next, err);
    if (st == ST_OK)
        st = runner_final_norm(s->r, &rows, &normed, NULL, 0, err);
    if (st == ST_OK)
        st = logit_rows_run(s->r, &normed, next, false, &logits, err);
    for (int i = 0; i < h->samples && st == ST_OK; i++) {
        sum[i] = 0;
        for (int64_t k = rows.start[i]; k < rows.start[i + 1]; k++)
            sum[i] += (double)logits.target[k] - logits.lse[k];
    }
    logit_rows_fini(&logits);
    stream_fini(&rows);
    stream_fini(&normed);
    free(next);
    return st;
}

static Status pass_over(Subject *s, const TokenSet *t, const int64_t *from, double *sum, Error *err)
{
    Stream h;
    RETURN_IF_ERROR(runner_embed(s->r, t, &h, err));
    Status st = ST_OK;
    for (int i = 0; i < s->o.model->cfg.layers && st == ST_OK; i++)
        st = runner_layer(s->r, i, variants(s) ? variants(s)[i] : NULL, &h, &h, NULL, 0, err);
    if (st == ST_OK)
        st = likelihood_of(s, &h, t, from, sum, err);
    stream_fini(&h);
    return st;
}

Status subject_likelihood(Subject *s, const TokenSet *t, const int64_t *from, double *sum, Error *err)
{
    for (int a = 0, b; a < t->samples; a = b) {
        for (b = a + 1; b < t->samples && t->start[b + 1] - t->start[a] <= PASS_ROWS; b++)
            ;
        TokenSet part;
        tell(s, "asking", a, t->samples);
        RETURN_IF_ERROR(tokens_part(&part, t, a, b - a, err));
        Status st = pass_over(s, &part, from + a, sum + a, err);
        free(part.start);
        RETURN_IF_ERROR(st);
    }
    return ST_OK;
}
