#include "run/block.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"

/* Linear attention by the gated delta rule (specs/models.md 2.5, Qwen3-Next). A short causal convolution makes q, k and
 * v; every value head then carries a state [key_dim][value_dim] from token to token. The state's columns do not know of
 * each other, so a task takes DELTA_COLS of them through one sample. */

#define L2_EPS 1e-6f

enum { CANCEL_ROWS = 256 };

/* What is kept of a text: the last rows that the convolution reads, and the states [value head][part][state_floats]. */
enum { PAST_ROWS, PAST_STATE };

/* Where a chunk's intermediate values stand. */
typedef struct DeltaRun {
    Pass *ps;
    BlockRun *b;
    const DeltaConfig *d;
    int64_t keys, values; /* widths of all key heads and of all value heads */
    float *qkvz;  /* [rows][key head][q | k | its heads' v | their gates] */
    float *ba;    /* [rows][key head][b | a]; then [rows][value head][beta, decay] */
    float *q, *k; /* [rows][keys], normed */
    float *v;     /* [rows][values]; becomes the output in place */
    float *conv;  /* [kernel][2 keys + values] */
    int64_t parts; /* tasks of a value head */
} DeltaRun;

static int64_t row_floats(const DeltaConfig *d)
{
    int64_t keys = (int64_t)d->key_heads * d->key_dim, values = (int64_t)d->value_heads * d->value_dim;
    return 2 * (2 * keys + values) + values + 2 * d->value_heads;
}

static size_t state_floats(const DeltaConfig *d)
{
    return (size_t)d->key_dim * DELTA_COLS;
}

/* ---- from the projections to q, k, v, beta and decay ---- */

/* A row of a text, and those before it. */
typedef struct RowAt {
    const float *row, *past; /* row: of qkvz; past: what was kept of rows before the stream's, NULL: there are none */
    int64_t ld, here, all;   /* rows of the text before it: of them in qkvz, and altogether */
} RowAt;

/* The row `back` rows before, which there is. */
static const float *row_before(const DeltaRun *r, const RowAt *at, int64_t back)
{
    return back <= at->here ? at->row - back * at->ld : at->past + (r->d->kernel - 1 - back + at->here) * at->ld;
}

/* y = R(silu(R(sum over the last tokens of w * u))) for n channels from `channel` on, which stand `from` floats into a row. */
static void convolve(const DeltaRun *r, const RowAt *at, int64_t from, int64_t channel, int64_t n, float *y)
{
    enum { STEP = 256 };
    const Ops *o = &r->ps->ops;
    int64_t kernel = r->d->kernel, all = 2 * r->keys + r->values;
    int64_t first = kernel - 1 > at->all ? kernel - 1 - at->all : 0; /* taps before the text meet zeros */
    float part[STEP];
    for (int64_t c = 0; c < n; c += STEP) {
        int64_t m = min_i64(STEP, n - c);
        for (int64_t j = first; j < kernel; j++) {
            float *to = j == first ? y + c : part;
            o->k->mul(row_before(r, at, kernel - 1 - j) + from + c, r->conv + j * all + channel + c, to, m);
            if (j > first)
                o->k->add(y + c, part, y + c, m);
        }
    }
    ops_round(o, y, n);
    ops_silu(o, y, n);
}

/* x / sqrt(sum x^2 + eps) * scale, in float32 whatever the arithmetic */
static void unit_length(const DeltaRun *r, float *x, float scale)
{
    const MathKernels *k = r->ps->ops.k;
    float sum = (float)k->sum_sq(x, r->d->key_dim);
    k->scale(x, (float)(1.0 / sqrt((double)(sum + L2_EPS))), x, r->d->key_dim);
    if (scale != 1.0f)
        k->scale(x, scale, x, r->d->key_dim);
}

/* b and a of every head become beta = R(sigmoid(b)) and exp(-exp(A_log) softplus(a + dt_bias)), in the value heads'
 * order. */
static void gates_of_row(const DeltaRun *r, float *ba)
{
    const Pass *ps = r->ps;
    int group = r->d->value_heads / r->d->key_heads;
    for (int kh = 0; kh < r->d->key_heads; kh++) {
        float *b = ba + 2 * (int64_t)kh * group, *a = b + group;
        ops_sigmoid(&ps->ops, b, group);
        for (int i = 0; i < group; i++) {
            int h = kh * group + i;
            float x = a[i] + r->b->small[DELTA_DT_BIAS][h], soft = x > 20.0f ? x : log1pf(expf(x));
            a[i] = expf(-expf(r->b->small[DELTA_A_LOG][h]) * soft);
        }
    }
}

static void inputs_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const DeltaRun *r = ctx;
    const Pass *ps = r->ps;
    const DeltaConfig *d = r->d;
    int64_t t = index * PASS_TILE, end = min_i64(t + PASS_TILE, ps->rows), dk = d->key_dim;
    int64_t group = (int64_t)(d->value_heads / d->key_heads) * d->value_dim, ld = 2 * (r->keys + r->values);
    float scale = (float)(1.0 / sqrt((double)dk));
    int s = pass_sample_of_row(ps, t);
    for (; t < end; t++) {
        while (ps->in->start[s + 1] <= ps->row0 + t)
            s++;
        int64_t here = ps->row0 + t - ps->in->start[s];
        const RowAt at = {r->qkvz + t * ld, ps->in->past ? past_at(ps, r->b, PAST_ROWS, s) : NULL, ld, here,
                          here + stream_seen(ps->in, s)};
        for (int64_t h = 0; h < d->key_heads; h++) {
            int64_t u = h * (2 * dk + 2 * group);
            float *q = r->q + t * r->keys + h * dk, *k = r->k + t * r->keys + h * dk;
            convolve(r, &at, u, h * dk, dk, q);
            convolve(r, &at, u + dk, r->keys + h * dk, dk, k);
            convolve(r, &at, u + 2 * dk, 2 * r->keys + h * group, group, r->v + t * r->values + h * group);
            unit_length(r, q, scale);
            unit_length(r, k, 1.0f);
        }
        gates_of_row(r, r->ba + t * 2 * d->value_heads);
    }
}

/* ---- the recurrence ---- */

static void recur_task(void *ctx, int64_t index, int worker)
{
    const DeltaRun *r = ctx;
    const Pass *ps = r->ps;
    const DeltaConfig *d = r->d;
    int64_t part = index % r->parts, head = index / r->parts % d->value_heads;
    int s = ps->s0 + (int)(index / r->parts / d->value_heads);
    const int64_t *start = ps->in->start + s;
    int64_t group = d->value_heads / d->key_heads, dk = d->key_dim, key = head / group;
    int64_t first = part * DELTA_COLS, n = min_i64(DELTA_COLS, d->value_dim - first);
    float *state = ps->r->worker[worker].scores, v[DELTA_COLS] = {0}, o[DELTA_COLS];
    float *kept = ps->in->past ? past_at(ps, r->b, PAST_STATE, s) + (head * r->parts + part) * (int64_t)state_floats(d) : NULL;
    if (kept)
        memcpy(state, kept, state_floats(d) * sizeof *state);
    else
        memset(state, 0, state_floats(d) * sizeof *state);
    for (int64_t t = start[0] - ps->row0; t < start[1] - ps->row0; t++) {
        if (t % CANCEL_ROWS == 0 && cancel_level(ps->r->opt.cancel))
            return;
        float *at = r->v + t * r->values + head * d->value_dim + first;
        const float *gate = r->ba + t * 2 * d->value_heads + 2 * key * group + head % group;
        memcpy(v, at, (size_t)n * sizeof *v);
        ps->ops.k->delta_step(state, dk, r->k + t * r->keys + key * dk, r->q + t * r->keys + key * dk, v,
                                 gate[group], gate[0], o);
        memcpy(at, o, (size_t)n * sizeof *o);
    }
    if (kept)
        memcpy(kept, state, state_floats(d) * sizeof *state);
}

/* Keeps the last rows of every text for the convolution of those behind them. */
static void keep_rows(const DeltaRun *r)
{
    const Pass *ps = r->ps;
    int64_t ld = 2 * (r->keys + r->values), room = r->d->kernel - 1;
    for (int s = ps->s0; s < ps->s1; s++) {
        int64_t rows = ps->in->start[s + 1] - ps->in->start[s], n = min_i64(rows, room);
        float *past = past_at(ps, r->b, PAST_ROWS, s);
        memmove(past, past + n * ld, (size_t)((room - n) * ld) * sizeof *past);
        memcpy(past + (room - n) * ld, r->qkvz + (ps->in->start[s + 1] - n - ps->row0) * ld,
               (size_t)(n * ld) * sizeof *past);
    }
}

/* v = R(R(w * R(norm(R(o)))) * silu(gate)) by value head; the gates' place is left changed. */
static void outputs_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const DeltaRun *r = ctx;
    const Pass *ps = r->ps;
    const DeltaConfig *d = r->d;
    const Ops *o = &ps->ops;
    int64_t t = index * PASS_TILE, end = min_i64(t + PASS_TILE, ps->rows), dv = d->value_dim;
    int64_t group = d->value_heads / d->key_heads, part = 2 * d->key_dim + 2 * group * dv;
    for (; t < end; t++)
        for (int64_t h = 0; h < d->value_heads; h++) {
            float *x = r->v + t * r->values + h * dv;
            float *gate = r->qkvz + t * 2 * (r->keys + r->values) + h / group * part + 2 * d->key_dim;
            gate += (group + h % group) * dv;
            ops_round(o, x, dv);
            ops_norm(o, NORM_LLAMA, x, r->b->small[DELTA_NORM], r->b->shift[DELTA_NORM], ps->cfg->eps, dv, x);
            o->f->silu_mul(gate, x, dv);
            ops_round(o, gate, dv);
            memcpy(x, gate, (size_t)dv * sizeof *x);
        }
}

/* ---- the block ---- */

static Status project(DeltaRun *r, const ChunkBuffers *buf, Error *err)
{
    const Projection p = {buf->x, 2, {DELTA_QKVZ, DELTA_BA}, {r->qkvz, r->ba}, {0}};
    FeedPiece next;
    block_piece(r->ps, r->b, &(int){DELTA_O}, 1, false, &next);
    return block_project(r->ps, r->b, &p, buf->act, &next, err);
}

/* The checkpoint's [channel][kernel] as [kernel][channel]. */
static Status turn_conv(DeltaRun *r, Error *err)
{
    int64_t n = 2 * r->keys + r->values, kernel = r->d->kernel;
    r->conv = mem_aligned((size_t)(n * kernel), sizeof *r->conv);
    if (!r->conv)
        return error_nomem(err, "the convolution's weights");
    for (int64_t c = 0; c < n; c++)
        for (int64_t j = 0; j < kernel; j++)
            r->conv[j * n + c] = r->b->small[DELTA_CONV][c * kernel + j];
    return ST_OK;
}

static Status run_block(DeltaRun *r, const ChunkBuffers *b, Error *err)
{
    const Pass *ps = r->ps;
    RETURN_IF_ERROR(turn_conv(r, err));
    RETURN_IF_ERROR(project(r, b, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, inputs_task, r, ps->rows, err));
    if (ps->in->past)
        keep_rows(r);
    Batch recur = {.n = 0};
    batch_add(&recur, PHASE_ATTENTION, recur_task, r, (ps->s1 - ps->s0) * (int64_t)r->d->value_heads * r->parts);
    RETURN_IF_ERROR(batch_run(&recur, ps->r->opt.pool, ps->r->opt.cancel, err));
    return pass_tiles(ps, PHASE_ELEMENTS, outputs_task, r, ps->rows, err);
}

static Status forward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    const DeltaConfig *d = &ps->cfg->delta;
    DeltaRun r = {.ps = ps, .b = b, .d = d, .keys = (int64_t)d->key_heads * d->key_dim,
                  .values = (int64_t)d->value_heads * d->value_dim, .qkvz = buf->mid,
                  .parts = div_up(d->value_dim, DELTA_COLS)};
    r.ba = r.qkvz + ps->rows * 2 * (r.keys + r.values);
    r.q = r.ba + ps->rows * 2 * d->value_heads;
    r.k = r.q + ps->rows * r.keys;
    r.v = r.k + ps->rows * r.keys;
    RETURN_IF_ERROR(block_read(ps, b, buf, err));
    Status st = run_block(&r, buf, err);
    free(r.conv);
    return st == ST_OK ? block_end(ps, b, DELTA_O, r.v, buf, err) : st;
}

static int first(const Block *b, int slot[STAGE_MAX], bool *gate)
{
    (void)b;
    slot[0] = DELTA_QKVZ;
    slot[1] = DELTA_BA;
    *gate = false;
    return 2;
}

static void need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    out->row.mid = row_floats(&ask->cfg->delta);
    out->row.act = need_acts(b, ask, (const int[]){DELTA_QKVZ, DELTA_BA}, 2);
    out->worker.scores = state_floats(&ask->cfg->delta);
    need_ends(b, ask, DELTA_O, out);
}

static void past(const Block *b, const ModelConfig *cfg, PastShape *out)
{
    (void)b;
    const DeltaConfig *d = &cfg->delta;
    int64_t keys = (int64_t)d->key_heads * d->key_dim, values = (int64_t)d->value_heads * d->value_dim;
    out->state[PAST_ROWS] = (d->kernel - 1) * 2 * (keys + values);
    out->state[PAST_STATE] = d->value_heads * div_up(d->value_dim, DELTA_COLS) * (int64_t)state_floats(d);
}

const BlockOps delta_ops = {.need = need, .first = first, .forward = forward, .past = past};
