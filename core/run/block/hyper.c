#include "run/block/hyper.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "run/block.h"
#include "run/opsback.h"

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

/* ---- gradients ---- */

typedef struct HyperDown {
    HyperRun h;          /* state, y, mix as the forward had them; x: what of the block's input came down */
    float *grad;         /* [rows][stream_width] */
    float *dy, *dmix;
} HyperDown;

/* Through write: what is of the state itself, of y, and of mix. */
static void write_back_row(const HyperDown *b, int64_t t)
{
    const ModelConfig *c = b->h.cfg;
    int n = c->hyper.copies;
    int64_t width = c->hidden;
    const float *state = b->h.state + t * c->stream_width, *y = b->h.y + t * width, *post = b->h.mix + t * mix_floats(c);
    const float *mix = post + n;
    float *grad = b->grad + t * c->stream_width, *dy = b->dy + t * width, *dmix = b->dmix + t * mix_floats(c);
    float g[HYPER_MAX][HYPER_STEP];
    double sum[HYPER_MAX * (1 + HYPER_MAX)] = {0};
    for (int64_t at = 0; at < width; at += HYPER_STEP) {
        int64_t m = min_i64(HYPER_STEP, width - at);
        for (int k = 0; k < n; k++) {
            memcpy(g[k], grad + k * width + at, (size_t)m * sizeof *g[k]);
            sum[k] += ops_dot(g[k], y + at, m);
            for (int64_t i = 0; i < m; i++)
                dy[at + i] = k ? dy[at + i] + post[k] * g[k][i] : post[k] * g[k][i];
        }
        for (int j = 0; j < n; j++)
            for (int k = 0; k < n; k++) {
                float by = mix[j * n + k], *to = grad + j * width + at;
                sum[n + j * n + k] += ops_dot(g[k], state + j * width + at, m);
                for (int64_t i = 0; i < m; i++)
                    to[i] = k ? to[i] + by * g[k][i] : by * g[k][i];
            }
    }
    for (int64_t i = 0; i < mix_floats(c); i++)
        dmix[i] = (float)sum[i];
}

static void write_back_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const HyperDown *b = ctx;
    for (int64_t t = index * HYPER_ROWS; t < min_i64((index + 1) * HYPER_ROWS, b->h.rows); t++)
        write_back_row(b, t);
}

/* y = c / (sum + eps) of n values `step` apart: the sum with eps. */
static float divided(float *c, int n, int step, float eps)
{
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += c[i * step];
    divide(c, n, step, eps);
    return sum + eps;
}

/* From what was divided and its gradient to those before. */
static void undivide(float *c, float *d, int n, int step, float sum)
{
    double along = 0;
    for (int i = 0; i < n; i++)
        along += (double)c[i * step] * (double)d[i * step];
    for (int i = 0; i < n; i++) {
        d[i * step] = (float)(((double)d[i * step] - along) / (double)sum);
        c[i * step] *= sum;
    }
}

/* Of hyper_sinkhorn: d, of what it made of c, becomes that of c. sums: [2 rounds][n]. */
static void sinkhorn_back(float *c, int n, int rounds, float eps, float *sums, float *d)
{
    float *at = sums;
    softmax_rows(c, n, eps);
    for (int r = 0; r < rounds; r++) {
        for (int j = 0; j < n && r > 0; j++)
            *at++ = divided(c + j * n, n, 1, eps);
        for (int k = 0; k < n; k++)
            *at++ = divided(c + k, n, n, eps);
    }
    for (int r = rounds - 1; r >= 0; r--) {
        for (int k = n - 1; k >= 0; k--)
            undivide(c + k, d + k, n, n, *--at);
        for (int j = n - 1; j >= 0 && r > 0; j--)
            undivide(c + j * n, d + j * n, n, 1, *--at);
    }
    for (int j = 0; j < n; j++, c += n, d += n) {
        double along = 0;
        for (int k = 0; k < n; k++)
            along += ((double)c[k] - (double)eps) * (double)d[k];
        for (int k = 0; k < n; k++)
            d[k] = (float)(((double)c[k] - (double)eps) * ((double)d[k] - along));
    }
}

/* d: of pre, post and mix, becomes that of the sums m they are made of. */
static void coefficients_back(const HyperRun *h, const float *m, float *sums, float *d)
{
    int n = h->cfg->hyper.copies;
    float made[HYPER_MAX * HYPER_MAX];
    for (int i = 0; i < 2 * n; i++) {
        float s = sigmoid(m[i] * h->scale[i / n] + h->base[i]);
        d[i] *= s * (1 - s) * h->scale[i / n] * (i < n ? 1 : 2);
    }
    for (int i = 0; i < n * n; i++)
        made[i] = m[2 * n + i] * h->scale[2] + h->base[2 * n + i];
    sinkhorn_back(made, n, h->cfg->hyper.rounds, (float)h->cfg->hyper.eps, sums, d + 2 * n);
    for (int i = 0; i < n * n; i++)
        d[2 * n + i] *= h->scale[2];
}

/* m: the row's sums, its norm in them. scratch: hidden floats, and sinkhorn_back's sums. */
static void read_back_row(const HyperDown *b, int64_t t, const float *m, float *scratch)
{
    const HyperRun *h = &b->h;
    const ModelConfig *c = h->cfg;
    int n = c->hyper.copies, sums = n * (2 + n);
    int64_t width = c->hidden, w = c->stream_width;
    const float *state = h->state + t * w, *dmix = b->dmix + t * mix_floats(c);
    float *grad = b->grad + t * w, *dx = scratch, pre[HYPER_MAX], d[HYPER_SUMS];
    hyper_pre(m, h->base, h->scale[0], n, (float)c->hyper.eps, pre);
    memcpy(dx, h->x + t * width, (size_t)width * sizeof *dx);
    if (h->norm) {
        weighted_sum(h->ops, state, pre, n, width, dx);
        ops_norm_back(h->ops, c->norm, dx, h->norm, c->eps, width, h->x + t * width, false, dx);
    }
    for (int i = 0; i < n; i++) {
        d[i] = (float)ops_dot(dx, state + i * width, width);
        for (int64_t k = 0; k < width; k++)
            grad[i * width + k] += pre[i] * dx[k];
    }
    memcpy(d + n, dmix, (size_t)mix_floats(c) * sizeof *d);
    coefficients_back(h, m, scratch + width, d);
    double mean = (double)(float)(h->ops->k->sum_sq(state, w) / (double)w), r = 1 / sqrt(mean + (double)(float)c->eps), all = 0;
    for (int i = 0; i < sums; i++) {
        float by = (float)r * d[i];
        all += (double)d[i] * (double)m[i];
        for (int64_t k = 0; k < w; k++)
            grad[k] += by * h->fn[i * w + k];
    }
    float by = (float)(r * r / (double)w * all);
    for (int64_t k = 0; k < w; k++)
        grad[k] -= by * state[k];
}

static void read_back_task(void *ctx, int64_t index, int worker)
{
    const HyperDown *b = ctx;
    const HyperRun *h = &b->h;
    int n = h->cfg->hyper.copies, sums = n * (2 + n);
    int64_t t = index * HYPER_ROWS, rows = min_i64(HYPER_ROWS, h->rows - t);
    float m[HYPER_ROWS * HYPER_SUMS];
    products(h, t, rows, sums, m, h->r->worker[worker].gemm);
    for (int64_t i = 0; i < rows; i++)
        read_back_row(b, t + i, m + i * sums, h->r->worker[worker].scores);
}

static HyperDown down_of(Pass *ps, const BlockRun *join, const ChunkBuffers *buf)
{
    return (HyperDown){.h = {.r = ps->r, .cfg = ps->cfg, .ops = &ps->ops, .fn = join->small[HYPER_FN],
                             .base = join->small[HYPER_BASE], .scale = join->small[HYPER_SCALE],
                             .norm = join->small[HYPER_BEFORE], .state = buf->in, .y = buf->tap, .mix = buf->mix,
                             .rows = ps->rows}, .grad = buf->out, .dmix = buf->up};
}

static Status write_back(Pass *ps, const BlockRun *join, const ChunkBuffers *buf, float *dy, Error *err)
{
    HyperDown b = down_of(ps, join, buf);
    Batch batch = {.n = 0};
    b.dy = dy;
    batch_add(&batch, PHASE_ELEMENTS, write_back_task, &b, div_up(ps->rows, HYPER_ROWS));
    return batch_run(&batch, ps->r->opt.pool, ps->r->opt.cancel, err);
}

static Status read_back(Pass *ps, const BlockRun *join, const ChunkBuffers *buf, const float *dx, Error *err)
{
    HyperDown b = down_of(ps, join, buf);
    Batch batch = {.n = 0};
    b.h.x = (float *)(uintptr_t)dx;
    batch_add(&batch, PHASE_ELEMENTS, read_back_task, &b, div_up(ps->rows, HYPER_ROWS));
    return batch_run(&batch, ps->r->opt.pool, ps->r->opt.cancel, err);
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
    if (!ask->back)
        return;
    out->row.up = mix_floats(ask->cfg);
    out->worker.scores = (size_t)(ask->cfg->hidden + 2 * ask->cfg->hyper.rounds * ask->cfg->hyper.copies);
}

const BlockOps hyper_ops = {.need = need, .read = read, .write = write, .aside = aside, .write_back = write_back,
                            .read_back = read_back};

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
