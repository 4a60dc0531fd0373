#include "run/lineargrad.h"
#include "run/opsback.h"

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

static Status recur(DeltaRun *r, Error *err)
{
    const Pass *ps = r->ps;
    Batch b = {.n = 0};
    batch_add(&b, PHASE_ATTENTION, recur_task, r, (ps->s1 - ps->s0) * (int64_t)r->d->value_heads * r->parts);
    return batch_run(&b, ps->r->opt.pool, ps->r->opt.cancel, err);
}

static Status run_block(DeltaRun *r, const ChunkBuffers *b, Error *err)
{
    const Pass *ps = r->ps;
    RETURN_IF_ERROR(turn_conv(r, err));
    RETURN_IF_ERROR(project(r, b, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, inputs_task, r, ps->rows, err));
    if (ps->in->past)
        keep_rows(r);
    RETURN_IF_ERROR(recur(r, err));
    return pass_tiles(ps, PHASE_ELEMENTS, outputs_task, r, ps->rows, err);
}

/* With the chunk's intermediate values at `at`. */
static DeltaRun delta_of(Pass *ps, BlockRun *b, float *at)
{
    const DeltaConfig *d = &ps->cfg->delta;
    DeltaRun r = {.ps = ps, .b = b, .d = d, .keys = (int64_t)d->key_heads * d->key_dim,
                  .values = (int64_t)d->value_heads * d->value_dim, .qkvz = at,
                  .parts = div_up(d->value_dim, DELTA_COLS)};
    r.ba = r.qkvz + ps->rows * 2 * (r.keys + r.values);
    r.q = r.ba + ps->rows * 2 * d->value_heads;
    r.k = r.q + ps->rows * r.keys;
    r.v = r.k + ps->rows * r.keys;
    return r;
}

static Status forward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    DeltaRun r = delta_of(ps, b, buf->mid);
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

/* ---- gradients ---- */

/* States are kept every SEGMENT tokens, and those of one segment made again on the way back. */
enum { SEGMENT = 32 };

typedef struct DeltaDown {
    DeltaRun r;
    float *base, *z, *ba;    /* where the forward's values stand; of what the linears gave: gates, b and a */
    float *v, *o;            /* [rows][values] what came out of the convolution; of the recurrence */
    float *dy, *dout;        /* gradients: of what the block gives, of what o_proj read */
    float *dconv;            /* [rows][2 keys + values] of q, k and v, then of the convolution's sums */
    float *dqkvz, *dba, *dx, *one, *edited;
} DeltaDown;

static void lay_out(const DeltaConfig *d, const ModelConfig *c, int64_t edited, Cut *mid, DeltaDown *b)
{
    int64_t keys = (int64_t)d->key_heads * d->key_dim, values = (int64_t)d->value_heads * d->value_dim;
    b->base = cut(mid, row_floats(d));
    b->z = cut(mid, values);
    b->ba = cut(mid, 2 * d->value_heads);
    b->v = cut(mid, values);
    b->o = cut(mid, values);
    b->dy = cut(mid, c->hidden);
    b->dout = cut(mid, values);
    b->dconv = cut(mid, 2 * keys + values);
    b->dqkvz = cut(mid, 2 * (keys + values));
    b->dba = cut(mid, 2 * d->value_heads);
    b->dx = cut(mid, c->hidden);
    b->one = cut(mid, c->hidden);
    b->edited = cut(mid, edited);
}

/* Where value head h's gate stands in a row of qkvz. */
static int64_t gate_at(const DeltaConfig *d, int64_t h)
{
    int64_t group = d->value_heads / d->key_heads, part = 2 * d->key_dim + 2 * group * d->value_dim;
    return h / group * part + 2 * d->key_dim + (group + h % group) * d->value_dim;
}

/* dout becomes the gradient of the recurrence's output; that of the gates goes to its place in dqkvz. */
static void unoutput_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const DeltaDown *b = ctx;
    const DeltaRun *r = &b->r;
    const DeltaConfig *d = r->d;
    const Ops *ops = &r->ps->ops;
    int64_t t = index * PASS_TILE, end = min_i64(t + PASS_TILE, r->ps->rows), dv = d->value_dim, ld = 2 * (r->keys + r->values);
    for (; t < end; t++)
        for (int64_t h = 0; h < d->value_heads; h++) {
            const float *o = b->o + t * r->values + h * dv;
            float *g = b->dout + t * r->values + h * dv, *dz = b->dqkvz + t * ld + gate_at(d, h);
            float *normed = b->r.v + t * r->values + h * dv; /* o_proj's input is no longer wanted */
            ops_norm(ops, NORM_LLAMA, o, r->b->small[DELTA_NORM], r->b->shift[DELTA_NORM], r->ps->cfg->eps, dv, normed);
            memcpy(dz, b->z + t * r->values + h * dv, (size_t)dv * sizeof *dz);
            ops_gate_back(ops, ACT_SILU, dz, normed, g, dv);
            ops_norm_back(ops, NORM_LLAMA, o, r->b->small[DELTA_NORM], r->ps->cfg->eps, dv, normed, false, g);
        }
}

/* What one task carries: columns of a value head's state through a sample. */
typedef struct Recur {
    const DeltaDown *b;
    int64_t begin, end;   /* rows of the chunk */
    int64_t key, head, first, n;
    float *kept, *seg, *g; /* states before every segment; those within one, SEGMENT + 1; the gradient of the state */
} Recur;

static int64_t recur_floats(const DeltaConfig *d, int64_t longest)
{
    return (div_up(longest, SEGMENT) + SEGMENT + 2) * (int64_t)state_floats(d);
}

/* One token: state to out, which may be state; d: what was put in, (v - s~' k) beta. */
static void step(const Recur *c, int64_t t, const float *state, float *out, float *put)
{
    const DeltaRun *r = &c->b->r;
    const DeltaConfig *d = r->d;
    int64_t dk = d->key_dim, group = d->value_heads / d->key_heads;
    const float *k = r->k + t * r->keys + c->key * dk, *v = c->b->v + t * r->values + c->head * d->value_dim + c->first;
    const float *gate = r->ba + t * 2 * d->value_heads + 2 * c->key * group + c->head % group;
    float beta = gate[0], decay = gate[group], at[DELTA_COLS] = {0};
    for (int64_t i = 0; i < dk; i++)
        for (int j = 0; j < DELTA_COLS; j++) {
            float s = decay * state[i * DELTA_COLS + j];
            out[i * DELTA_COLS + j] = s;
            at[j] += s * k[i];
        }
    for (int j = 0; j < DELTA_COLS; j++)
        put[j] = j < c->n ? (v[j] - at[j]) * beta : 0;
    for (int64_t i = 0; i < dk; i++)
        for (int j = 0; j < DELTA_COLS; j++)
            out[i * DELTA_COLS + j] += k[i] * put[j];
}

/* Back through one token, whose states were before and after it. */
static void step_back(const Recur *c, int64_t t, const float *before, const float *after, const float *put)
{
    const DeltaDown *b = c->b;
    const DeltaRun *r = &b->r;
    const DeltaConfig *d = r->d;
    int64_t dk = d->key_dim, group = d->value_heads / d->key_heads, at = 2 * c->key * group + c->head % group;
    int64_t conv = 2 * r->keys + r->values, col = c->head * d->value_dim + c->first;
    const float *k = r->k + t * r->keys + c->key * dk, *q = r->q + t * r->keys + c->key * dk;
    const float *gate = r->ba + t * 2 * d->value_heads + at, *go = b->dout + t * r->values + col;
    float *dba = b->dba + t * 2 * d->value_heads + at, *dq = b->dconv + t * conv + c->key * dk, *dkk = dq + r->keys;
    float *dv = b->dconv + t * conv + 2 * r->keys + col;
    float beta = gate[0], decay = gate[group], g_o[DELTA_COLS] = {0}, of_put[DELTA_COLS] = {0}, *g = c->g;
    memcpy(g_o, go, (size_t)c->n * sizeof *go);
    for (int64_t i = 0; i < dk; i++) {
        float of_q = 0, of_k = 0;
        for (int j = 0; j < DELTA_COLS; j++) {
            float *at_g = &g[i * DELTA_COLS + j];
            of_q += after[i * DELTA_COLS + j] * g_o[j];
            *at_g += q[i] * g_o[j];
            of_put[j] += *at_g * k[i];
            of_k += *at_g * put[j];
        }
        dq[i] += of_q;
        dkk[i] += of_k;
    }
    double of_beta = 0, of_decay = 0;
    for (int64_t j = 0; j < c->n; j++) { /* put = rest beta */
        of_beta += (double)of_put[j] * (double)(beta != 0 ? put[j] / beta : 0);
        of_put[j] *= beta;
        dv[j] = of_put[j];
    }
    for (int64_t i = 0; i < dk; i++) {
        float of_k = 0, of_s = 0;
        for (int j = 0; j < DELTA_COLS; j++) {
            float s = before[i * DELTA_COLS + j], *at_g = &g[i * DELTA_COLS + j];
            float ds = *at_g - k[i] * of_put[j];
            of_k += decay * s * of_put[j];
            of_s += ds * s;
            *at_g = decay * ds;
        }
        dkk[i] -= of_k;
        of_decay += (double)of_s;
    }
    dba[0] += (float)of_beta;
    dba[group] += (float)of_decay;
}

static void recur_part(const Recur *c)
{
    size_t floats = state_floats(c->b->r.d);
    float put[SEGMENT][DELTA_COLS];
    int64_t segments = div_up(c->end - c->begin, SEGMENT);
    memset(c->kept, 0, floats * sizeof *c->kept);
    memset(c->g, 0, floats * sizeof *c->g);
    for (int64_t k = 0; k + 1 < segments; k++) {
        float *state = c->kept + (size_t)(k + 1) * floats;
        memcpy(state, c->kept + (size_t)k * floats, floats * sizeof *state);
        for (int64_t t = c->begin + k * SEGMENT; t < c->begin + (k + 1) * SEGMENT; t++)
            step(c, t, state, state, put[0]);
    }
    for (int64_t k = segments - 1; k >= 0; k--) {
        int64_t t0 = c->begin + k * SEGMENT, n = min_i64(SEGMENT, c->end - t0);
        memcpy(c->seg, c->kept + (size_t)k * floats, floats * sizeof *c->seg);
        for (int64_t i = 0; i < n; i++)
            step(c, t0 + i, c->seg + (size_t)i * floats, c->seg + (size_t)(i + 1) * floats, put[i]);
        for (int64_t i = n - 1; i >= 0; i--)
            step_back(c, t0 + i, c->seg + (size_t)i * floats, c->seg + (size_t)(i + 1) * floats, put[i]);
    }
}

/* A key head of a sample: its value heads, and the parts of their states, one after the other. */
static void unrecur_task(void *ctx, int64_t index, int worker)
{
    const DeltaDown *b = ctx;
    const DeltaRun *r = &b->r;
    const Pass *ps = r->ps;
    const DeltaConfig *d = r->d;
    int s = ps->s0 + (int)(index / d->key_heads);
    int64_t key = index % d->key_heads, group = d->value_heads / d->key_heads, conv = 2 * r->keys + r->values;
    Recur c = {.b = b, .begin = ps->in->start[s] - ps->row0, .end = ps->in->start[s + 1] - ps->row0, .key = key};
    c.kept = ps->r->worker[worker].scores;
    c.seg = c.kept + div_up(c.end - c.begin, SEGMENT) * (int64_t)state_floats(d);
    c.g = c.seg + (SEGMENT + 1) * (int64_t)state_floats(d);
    for (int64_t t = c.begin; t < c.end; t++) {
        memset(b->dconv + t * conv + key * d->key_dim, 0, (size_t)d->key_dim * sizeof(float));
        memset(b->dconv + t * conv + r->keys + key * d->key_dim, 0, (size_t)d->key_dim * sizeof(float));
        memset(b->dba + t * 2 * d->value_heads + 2 * key * group, 0, (size_t)(2 * group) * sizeof(float));
    }
    for (c.head = key * group; c.head < (key + 1) * group; c.head++)
        for (c.first = 0; c.first < d->value_dim && !cancel_level(ps->r->opt.cancel); c.first += DELTA_COLS) {
            c.n = min_i64(DELTA_COLS, d->value_dim - c.first);
            recur_part(&c);
        }
}

/* Back through unit_length of x = y sqrt(sum y^2 + eps): g becomes the gradient of y. */
static void ununit(const DeltaRun *r, const float *y, float scale, float *g)
{
    int64_t n = r->d->key_dim;
    double sum = r->ps->ops.k->sum_sq(y, n) + (double)L2_EPS, along = ops_dot(y, g, n) / sum;
    float by = scale * (float)(1 / sqrt(sum));
    for (int64_t i = 0; i < n; i++)
        g[i] = by * (g[i] - (float)along * y[i]);
}

/* g, of what came out of the convolution for n channels from `channel` on, becomes the gradient of its sums. */
static void unsilu(const DeltaRun *r, const RowAt *at, int64_t from, int64_t channel, int64_t n, float *g)
{
    enum { STEP = 256 };
    int64_t kernel = r->d->kernel, all = 2 * r->keys + r->values;
    float sum[STEP];
    for (int64_t c = 0; c < n; c += STEP) {
        int64_t m = min_i64(STEP, n - c);
        memset(sum, 0, sizeof sum);
        for (int64_t j = kernel - 1 > at->all ? kernel - 1 - at->all : 0; j < kernel; j++) {
            const float *u = row_before(r, at, kernel - 1 - j) + from + c, *w = r->conv + j * all + channel + c;
            for (int64_t i = 0; i < m; i++)
                sum[i] += u[i] * w[i];
        }
        ops_act_back(&r->ps->ops, ACT_SILU, sum, g + c, m);
        memcpy(g + c, sum, (size_t)m * sizeof *sum);
    }
}

/* The gates' gradients to those of b and a. */
static void ungate_row(const DeltaRun *r, const float *gate, const float *ba, float *g)
{
    int group = r->d->value_heads / r->d->key_heads;
    for (int kh = 0; kh < r->d->key_heads; kh++)
        for (int i = 0; i < group; i++) {
            int at = 2 * kh * group + i, h = kh * group + i;
            double x = (double)ba[at + group] + (double)r->b->small[DELTA_DT_BIAS][h], beta = (double)gate[at];
            double rate = exp((double)r->b->small[DELTA_A_LOG][h]);
            g[at] = (float)((double)g[at] * beta * (1 - beta));
            g[at + group] = (float)(-(double)g[at + group] * (double)gate[at + group] * rate / (1 + exp(-x)));
        }
}

/* Back to the convolution's sums, and to b and a. */
static void uninputs_task(void *ctx, int64_t index, int worker)
{
    const DeltaDown *b = ctx;
    const DeltaRun *r = &b->r;
    const Pass *ps = r->ps;
    const DeltaConfig *d = r->d;
    int64_t t = index * PASS_TILE, end = min_i64(t + PASS_TILE, ps->rows), dk = d->key_dim, ld = 2 * (r->keys + r->values);
    int64_t group = (int64_t)(d->value_heads / d->key_heads) * d->value_dim;
    float scale = (float)(1.0 / sqrt((double)dk)), *y = ps->r->worker[worker].scores;
    int s = pass_sample_of_row(ps, t);
    for (; t < end; t++) {
        while (ps->in->start[s + 1] <= ps->row0 + t)
            s++;
        int64_t here = ps->row0 + t - ps->in->start[s];
        const RowAt at = {r->qkvz + t * ld, NULL, ld, here, here};
        float *g = b->dconv + t * (2 * r->keys + r->values);
        for (int64_t h = 0; h < d->key_heads; h++) {
            int64_t u = h * (2 * dk + 2 * group);
            for (int part = 0; part < 2; part++) { /* q and k */
                int64_t channel = part * r->keys + h * dk;
                convolve(r, &at, u + part * dk, channel, dk, y);
                ununit(r, y, part ? 1.0f : scale, g + channel);
                unsilu(r, &at, u + part * dk, channel, dk, g + channel);
            }
            unsilu(r, &at, u + 2 * dk, 2 * r->keys + h * group, group, g + 2 * r->keys + h * group);
        }
        ungate_row(r, r->ba + t * 2 * d->value_heads, b->ba + t * 2 * d->value_heads, b->dba + t * 2 * d->value_heads);
    }
}

/* Of n channels: what each row is of the sums of those behind it. */
static void unconvolve(const DeltaDown *b, int64_t t, int64_t end, int64_t from, int64_t channel, int64_t n)
{
    const DeltaRun *r = &b->r;
    int64_t all = 2 * r->keys + r->values, kernel = r->d->kernel;
    float *to = b->dqkvz + t * 2 * (r->keys + r->values) + from;
    memset(to, 0, (size_t)n * sizeof *to);
    for (int64_t j = kernel - 1; j >= 0 && t + kernel - 1 - j < end; j--) {
        const float *g = b->dconv + (t + kernel - 1 - j) * all + channel, *w = r->conv + j * all + channel;
        for (int64_t i = 0; i < n; i++)
            to[i] += w[i] * g[i];
    }
}

static void unconvolve_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const DeltaDown *b = ctx;
    const DeltaRun *r = &b->r;
    const Pass *ps = r->ps;
    const DeltaConfig *d = r->d;
    int64_t t = index * PASS_TILE, end = min_i64(t + PASS_TILE, ps->rows), dk = d->key_dim;
    int64_t group = (int64_t)(d->value_heads / d->key_heads) * d->value_dim;
    int s = pass_sample_of_row(ps, t);
    for (; t < end; t++) {
        while (ps->in->start[s + 1] <= ps->row0 + t)
            s++;
        int64_t last = ps->in->start[s + 1] - ps->row0;
        for (int64_t h = 0; h < d->key_heads; h++) {
            int64_t u = h * (2 * dk + 2 * group);
            unconvolve(b, t, last, u, h * dk, dk);
            unconvolve(b, t, last, u + dk, r->keys + h * dk, dk);
            unconvolve(b, t, last, u + 2 * dk, 2 * r->keys + h * group, group);
        }
    }
}

static void keep_gates_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const DeltaDown *b = ctx;
    const DeltaRun *r = &b->r;
    const DeltaConfig *d = r->d;
    int64_t t = index * PASS_TILE, end = min_i64(t + PASS_TILE, r->ps->rows), dv = d->value_dim;
    for (; t < end; t++) {
        memcpy(b->ba + t * 2 * d->value_heads, r->ba + t * 2 * d->value_heads, (size_t)(2 * d->value_heads) * sizeof *b->ba);
        for (int64_t h = 0; h < d->value_heads; h++)
            memcpy(b->z + t * r->values + h * dv, r->qkvz + t * 2 * (r->keys + r->values) + gate_at(d, h),
                   (size_t)dv * sizeof *b->z);
    }
}

/* The forward again, as far as o_proj. */
static Status again(DeltaDown *b, const ChunkBuffers *buf, Error *err)
{
    DeltaRun *r = &b->r;
    Pass *ps = r->ps;
    size_t values = (size_t)(ps->rows * r->values) * sizeof *r->v;
    RETURN_IF_ERROR(block_read(ps, r->b, buf, err));
    RETURN_IF_ERROR(turn_conv(r, err));
    RETURN_IF_ERROR(project(r, buf, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_PACK, keep_gates_task, b, ps->rows, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, inputs_task, r, ps->rows, err));
    memcpy(b->v, r->v, values);
    RETURN_IF_ERROR(recur(r, err));
    memcpy(b->o, r->v, values);
    return pass_tiles(ps, PHASE_ELEMENTS, outputs_task, r, ps->rows, err);
}

static Status down_linear(DeltaDown *b, int slot, const float *x, const float *g, float *dx, Error *err)
{
    LinearRun *l = &b->r.b->lin[slot];
    const LinearBack a = {.x = x, .ldx = l->lin->in, .g = g, .ldg = l->lin->out, .dx = dx, .lddx = l->lin->in,
                          .rows = b->r.ps->rows, .edited = b->edited};
    return grad_linear(b->r.ps, l, &a, err);
}

static Status run_back(DeltaDown *b, const ChunkBuffers *buf, Error *err)
{
    DeltaRun *r = &b->r;
    Pass *ps = r->ps;
    Batch batch = {.n = 0};
    RETURN_IF_ERROR(again(b, buf, err));
    RETURN_IF_ERROR(grad_begin(ps, r->b, DELTA_O, r->v, buf, b->dy, err));
    RETURN_IF_ERROR(down_linear(b, DELTA_O, r->v, b->dy, b->dout, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, unoutput_task, b, ps->rows, err));
    batch_add(&batch, PHASE_ATTENTION, unrecur_task, b, (int64_t)(ps->s1 - ps->s0) * r->d->key_heads);
    RETURN_IF_ERROR(batch_run(&batch, ps->r->opt.pool, ps->r->opt.cancel, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, uninputs_task, b, ps->rows, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, unconvolve_task, b, ps->rows, err));
    RETURN_IF_ERROR(down_linear(b, DELTA_BA, buf->x, b->dba, b->dx, err));
    RETURN_IF_ERROR(down_linear(b, DELTA_QKVZ, buf->x, b->dqkvz, b->one, err));
    RETURN_IF_ERROR(grad_add(ps, b->one, b->dx, ps->rows * ps->cfg->hidden, err));
    return grad_end(ps, r->b, buf, b->dx, err);
}

static Status backward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    DeltaDown d = {.base = NULL};
    Cut mid = {buf->mid, ps->rows, 0};
    lay_out(&ps->cfg->delta, ps->cfg, grad_edits_of(ps, b), &mid, &d);
    d.r = delta_of(ps, b, d.base);
    Status st = run_back(&d, buf, err);
    free(d.r.conv);
    return st;
}

static void backward_need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    DeltaDown d = {.base = NULL};
    Cut mid = {NULL, 1, 0};
    lay_out(&ask->cfg->delta, ask->cfg, grad_edits(b, ask), &mid, &d);
    out->row.mid = mid.floats;
    out->row.act = need_acts(b, ask, (const int[]){DELTA_QKVZ, DELTA_BA}, 2);
    out->worker.scores = (size_t)recur_floats(&ask->cfg->delta, ask->longest);
    grad_need_ends(b, ask, DELTA_O, out);
}

const BlockOps delta_ops = {.need = need, .first = first, .forward = forward, .past = past, .backward = backward,
                            .backward_need = backward_need};
