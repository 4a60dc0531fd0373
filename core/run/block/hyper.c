#include "run/block/hyper.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "run/block.h"

#include "base/num.h"

/* Hyper-connections (specs/models.md 2.5, DeepSeek-V4): a token's state is some copies of a vector. A block reads a
 * weighted sum of them; what it gives is added to every copy by a weight of its own, after the copies were mixed. */

enum { HYPER_ROWS = 16, HYPER_STEP = 256, HYPER_SUMS = HYPER_MAX * (2 + HYPER_MAX) };

/* ---- one token ---- */

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static void softmax_rows(float *c, int n, float eps)
{
    for (int j = 0; j < n; j++, c += n) {
        float max = c[0], sum = 0;
        for (int k = 1; k < n; k++)
            max = c[k] > max ? c[k] : max;
        for (int k = 0; k < n; k++) {
            c[k] = expf(c[k] - max);
            sum += c[k];
        }
        for (int k = 0; k < n; k++)
            c[k] = c[k] / sum + eps;
    }
}

/* Divides n values `step` apart by their sum plus eps. */
static void divide(float *c, int n, int step, float eps)
{
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += c[i * step];
    sum += eps;
    for (int i = 0; i < n; i++)
        c[i * step] /= sum;
}

void hyper_sinkhorn(float *c, int n, int rounds, float eps)
{
    softmax_rows(c, n, eps);
    for (int r = 0; r < rounds; r++) {
        for (int j = 0; j < n && r > 0; j++)
            divide(c + j * n, n, 1, eps);
        for (int k = 0; k < n; k++)
            divide(c + k, n, n, eps);
    }
}

void hyper_pre(const float *m, const float *base, float scale, int n, float eps, float *pre)
{
    for (int i = 0; i < n; i++)
        pre[i] = sigmoid(m[i] * scale + base[i]) + eps;
}

void hyper_coefficients(const float *m, const float *base, const float *scale, int n, int rounds, float eps, float *pre,
                        float *post, float *mix)
{
    hyper_pre(m, base, scale[0], n, eps, pre);
    for (int i = 0; i < n; i++)
        post[i] = 2.0f * sigmoid(m[n + i] * scale[1] + base[n + i]);
    for (int i = 0; i < n * n; i++)
        mix[i] = m[2 * n + i] * scale[2] + base[2 * n + i];
    hyper_sinkhorn(mix, n, rounds, eps);
}

/* ---- rows ---- */

typedef struct HyperRun {
    Runner *r;
    const ModelConfig *cfg;
    const Ops *ops;
    const float *fn, *base, *scale, *norm, *bias; /* norm, bias NULL: none */
    const float *state, *y;
    float *x, *out, *mix; /* mix NULL: the model's end */
    int64_t rows;
} HyperRun;

static int64_t mix_floats(const ModelConfig *c)
{
    return (int64_t)c->hyper.copies * (1 + c->hyper.copies);
}

static size_t gemm_bytes(const ModelConfig *c)
{
    int64_t n = c->hyper.copies;
    return n ? gemm_find(GEMM_EXACT)->scratch(HYPER_ROWS, n * (2 + n), c->stream_width) : 0;
}

static Status run_rows(HyperRun *h, PoolTask *fn, Error *err)
{
    Batch b = {.n = 0};
    batch_add(&b, PHASE_ELEMENTS, fn, h, div_up(h->rows, HYPER_ROWS));
    return batch_run(&b, h->r->opt.pool, h->r->opt.cancel, err);
}

/* x = R(sum of pre * copy) */
static void weighted_sum(const Ops *o, const float *state, const float *pre, int n, int64_t width, float *x)
{
    float part[HYPER_STEP];
    for (int64_t c = 0; c < width; c += HYPER_STEP) {
        int64_t m = width - c < HYPER_STEP ? width - c : HYPER_STEP;
        o->k->scale(state + c, pre[0], x + c, m);
        for (int j = 1; j < n; j++) {
            o->k->scale(state + j * width + c, pre[j], part, m);
            o->k->add(x + c, part, x + c, m);
        }
    }
    ops_round(o, x, width);
}

/* Products of fn with the rows' normed states. The norm is a factor of the row, so it comes after the sums; those are
 * exact in every arithmetic, because a float32 GEMM's bits would depend on how the rows are cut. */
static void products(const HyperRun *h, int64_t t, int64_t rows, int sums, float *m, void *scratch)
{
    const ModelConfig *c = h->cfg;
    const Ops *o = h->ops;
    int64_t w = c->stream_width;
    GemmArgs g = {.m = rows, .n = sums, .k = w, .x = h->state + t * w, .ldx = w, .w = h->fn, .ldw = w, .y = m,
                  .ldy = sums};
    gemm_find(GEMM_EXACT)->tile(&g, scratch);
    for (int64_t i = 0; i < rows; i++) {
        float mean = (float)(o->k->sum_sq(h->state + (t + i) * w, w) / (double)w);
        o->k->scale(m + i * sums, (float)(1.0 / sqrt((double)(mean + (float)c->eps))), m + i * sums, sums);
    }
}

static void read_task(void *ctx, int64_t index, int worker)
{
    const HyperRun *h = ctx;
    const ModelConfig *c = h->cfg;
    const Ops *o = h->ops;
    int n = c->hyper.copies, sums = h->mix ? n * (2 + n) : n;
    int64_t t = index * HYPER_ROWS, rows = h->rows - t < HYPER_ROWS ? h->rows - t : HYPER_ROWS;
    float m[HYPER_ROWS * HYPER_SUMS], pre[HYPER_MAX], eps = (float)c->hyper.eps;
    products(h, t, rows, sums, m, h->r->worker[worker].gemm);
    for (int64_t i = 0; i < rows; i++) {
        float *mix = h->mix ? h->mix + (t + i) * mix_floats(c) : NULL, *x = h->x + (t + i) * c->hidden;
        if (mix)
            hyper_coefficients(m + i * sums, h->base, h->scale, n, c->hyper.rounds, eps, pre, mix, mix + n);
        else
            hyper_pre(m + i * sums, h->base, h->scale[0], n, eps, pre);
        if (mix)
            ops_round(o, mix, mix_floats(c));
        weighted_sum(o, h->state + (t + i) * c->stream_width, pre, n, c->hidden, x);
        if (h->norm)
            ops_norm(o, c->norm, x, h->norm, h->bias, c->eps, c->hidden, x);
    }
}

/* New copy k = R(R(post_k * y) + R(sum over j of mix[j][k] * copy j)), for m columns from c on. */
static void write_columns(const HyperRun *h, int64_t t, int64_t c, int64_t m)
{
    const ModelConfig *cfg = h->cfg;
    const Ops *o = h->ops;
    int n = cfg->hyper.copies;
    int64_t width = cfg->hidden;
    const float *state = h->state + t * cfg->stream_width + c, *post = h->mix + t * mix_floats(cfg);
    const float *mix = post + n;
    float made[HYPER_MAX][HYPER_STEP], part[HYPER_STEP];
    for (int k = 0; k < n; k++) {
        o->k->scale(state, mix[k], made[k], m);
        for (int j = 1; j < n; j++) {
            o->k->scale(state + j * width, mix[j * n + k], part, m);
            o->k->add(made[k], part, made[k], m);
        }
        ops_round(o, made[k], m);
        o->k->scale(h->y + t * width + c, post[k], part, m);
        ops_round(o, part, m);
        ops_add(o, part, made[k], made[k], m);
    }
    for (int k = 0; k < n; k++)
        memcpy(h->out + t * cfg->stream_width + k * width + c, made[k], (size_t)m * sizeof *h->out);
}

static void write_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const HyperRun *h = ctx;
    int64_t width = h->cfg->hidden, t = index * HYPER_ROWS;
    int64_t end = h->rows - t < HYPER_ROWS ? h->rows : t + HYPER_ROWS;
    for (; t < end; t++)
        for (int64_t c = 0; c < width; c += HYPER_STEP)
            write_columns(h, t, c, width - c < HYPER_STEP ? width - c : HYPER_STEP);
}

static Status read(Pass *ps, const BlockRun *join, const Ops *ops, const float *state, int64_t rows, float *x,
                   float *mix, Error *err)
{
    HyperRun h = {.r = ps->r, .cfg = ps->cfg, .ops = ops, .fn = join->small[HYPER_FN],
                  .base = join->small[HYPER_BASE], .scale = join->small[HYPER_SCALE],
                  .norm = join->small[HYPER_BEFORE], .bias = join->shift[HYPER_BEFORE], .state = state, .x = x, .mix = mix, .rows = rows};
    return run_rows(&h, read_task, err);
}

static Status write(Pass *ps, const BlockRun *join, const float *mix, const float *state, float *y, int64_t rows,
                    float *out, Error *err)
{
    (void)join;
    HyperRun h = {.r = ps->r, .cfg = ps->cfg, .ops = &ps->ops, .state = state, .y = y, .out = out,
                  .mix = (float *)(uintptr_t)mix, .rows = rows};
    return run_rows(&h, write_task, err);
}

static bool aside(const Block *join)
{
    (void)join;
    return true;
}

static void need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    (void)b;
    out->row.mix = mix_floats(ask->cfg);
    out->worker.gemm = gemm_bytes(ask->cfg);
}

const BlockOps hyper_ops = {.need = need, .read = read, .write = write, .aside = aside};

Status hyper_end(Runner *r, const Ops *ops, const float *state, int64_t rows, float *x, Error *err)
{
    float *part[3] = {NULL, NULL, NULL};
    WorkerNeed need = {.gemm = gemm_bytes(&r->m->cfg)};
    Status st = workers_reserve(r, &need, err);
    for (int i = 0; i < 3 && st == ST_OK; i++)
        st = source_small(&r->src, NULL, r->m->exit.hyper[i], &part[i], err);
    if (st == ST_OK)
        st = run_rows(&(HyperRun){.r = r, .cfg = &r->m->cfg, .ops = ops, .fn = part[0], .base = part[1],
                                  .scale = part[2], .state = state, .x = x, .rows = rows}, read_task, err);
    for (int i = 0; i < 3; i++)
        free(part[i]);
    return st;
}
