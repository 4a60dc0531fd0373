/* gptq: columns quantized one after the other, each error spread over the columns that follow by the inverse of the
 * input's second moments (specs/quantization.md 7.3). In float32 for every dtype: the peer crashes on others. */
#include "quant/weightrows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/cholesky.h"
#include "math/cpu.h"
#include "math/gemm.h"
#include "math/lapack.h"
#include "qir/loops.h"

#define PERCDAMP 0.01
#define RETRIES 8
enum { BLOCK = 128, ROWS = 64 };

/* What linears that read the same input share. */
typedef struct Factor {
    int64_t in;
    const float *u;  /* [in][in] upper Cholesky factor of the inverse, by places; below it anything */
    int64_t *order;  /* [in] column of the weight at each place; NULL: as they are */
    bool *dead;      /* [in] places whose input was always 0 */
} Factor;

typedef struct Gptq {
    int64_t in, block, group; /* group: in for per_channel */
    int bits;
    bool symmetric, peer;
    const Factor *f;
    const GemmOps *gemm;
} Gptq;

/* ---- the factor ---- */

static int64_t column_at(const Factor *f, int64_t place)
{
    return f->order ? f->order[place] : place;
}

typedef struct RankedColumn {
    float diagonal;
    int64_t at;
} RankedColumn;

static int by_falling_diagonal(const void *a, const void *b)
{
    const RankedColumn *x = a, *y = b;
    if (x->diagonal != y->diagonal)
        return x->diagonal < y->diagonal ? 1 : -1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static bool find_order(const float *h, int64_t in, int64_t *order)
{
    RankedColumn *c = mem_array((size_t)in, sizeof *c);
    if (!c)
        return false;
    for (int64_t i = 0; i < in; i++)
        c[i] = (RankedColumn){.diagonal = h[i * (in + 1)], .at = i};
    qsort(c, (size_t)in, sizeof *c, by_falling_diagonal);
    for (int64_t i = 0; i < in; i++)
        order[i] = c[i].at;
    free(c);
    return true;
}

typedef struct Moments {
    const Factor *f;
    float *h; /* [in][in], where the factor goes */
    double damp;
} Moments;

/* The damped matrix, places reversed, so that the inverse of its lower factor read backwards is the upper Cholesky
 * factor of the inverse: H = R R^T with R upper, inverse(H) = inverse(R)^T inverse(R). */
static void read_moments(void *ctx, int64_t i, int64_t j, int64_t m, double *row)
{
    const Moments *o = ctx;
    int64_t n = o->f->in, last = n - 1;
    const float *h = o->h + column_at(o->f, last - i) * n;
    for (int64_t k = 0; k < m; k++)
        row[k] = (double)h[column_at(o->f, last - j - k)];
    if (j + m > i)
        row[i - j] = (o->f->dead[last - i] ? 1.0 : row[i - j]) + o->damp;
}

static void write_factor(void *ctx, int64_t i, int64_t j, int64_t m, const double *row)
{
    const Moments *o = ctx;
    int64_t n = o->f->in;
    float *u = o->h + (n - 1 - i) * n + n - 1 - j;
    for (int64_t k = 0; k < m; k++)
        u[-k] = (float)row[k];
}

static Status factor(const WeightTask *t, const Factor *f, float *h, Error *err)
{
    double percdamp = t->q->ext.percdamp > 0 ? t->q->ext.percdamp : PERCDAMP, mean = 0.0;
    for (int64_t i = 0; i < f->in; i++)
        mean += f->dead[i] ? 1.0 : (double)h[column_at(f, i) * (f->in + 1)];
    mean /= (double)f->in;
    if (!isfinite(mean))
        return error_set(err, ST_DATA, "gptq: the squares of its input hold NaN or Inf: keep it in float");
    for (int k = 0; k < (t->peer ? 1 : RETRIES); k++, percdamp *= 10) {
        Moments o = {.f = f, .h = h, .damp = t->peer ? (double)((float)percdamp * (float)mean) : percdamp * mean};
        CholeskyTask c = {.n = f->in, .read = read_moments, .write = write_factor, .ctx = &o, .pool = t->pool,
                          .phase = PHASE_QUANT_WEIGHT, .cancel = t->cancel};
        bool definite;
        RETURN_IF_ERROR((math_openblas() ? lapack_inverse : cholesky_inverse)(&c, &definite, err));
        if (definite)
            return ST_OK;
    }
    return error_set(err, ST_DATA,
                     "gptq: the second moments of its %lld inputs are not positive definite: raise percdamp (%g) or "
                     "calibrate with more text",
                     (long long)f->in, t->q->ext.percdamp > 0 ? t->q->ext.percdamp : PERCDAMP);
}

static void release(void *shared)
{
    Factor *f = shared;
    if (!f)
        return;
    free(f->order);
    free(f->dead);
    free(f);
}

static Status prepare(const WeightTask *t, float *h, void **shared, Error *err)
{
    size_t in = (size_t)t->in;
    Factor *f = mem_zarray(1, sizeof *f);
    bool ok = f;
    if (ok) {
        *f = (Factor){.in = t->in, .u = h, .dead = mem_array(in, sizeof *f->dead),
                      .order = t->q->ext.act_order ? mem_array(in, sizeof *f->order) : NULL};
        ok = f->dead && (!t->q->ext.act_order || (f->order && find_order(h, t->in, f->order)));
    }
    for (int64_t i = 0; ok && i < t->in; i++)
        f->dead[i] = h[column_at(f, i) * (t->in + 1)] == 0.0f;
    Status st = ok ? factor(t, f, h, err) : error_nomem(err, "gptq's second moments");
    if (st != ST_OK) {
        release(f);
        f = NULL;
    }
    *shared = f;
    return st;
}

/* ---- rows ---- */

static QParam range_param(const Gptq *g, const QuantLoops *loops, const float *x, int64_t n)
{
    float mn, mx;
    loops->range(x, n, &mn, &mx);
    return intquant_param(mn, mx, g->bits, g->symmetric, DT_F32);
}

static void set_param(QWeight *out, int64_t at, QParam p)
{
    out->scale[at] = p.scale;
    if (out->offset)
        out->offset[at] = p.offset;
}

/* A block of columns of rows side by side, in a task's scratch. */
typedef struct BlockRows {
    const QuantLoops *loops;
    QWeight *out;
    int64_t row, rows;                /* of the weight; at most LOOP_ROWS */
    int64_t begin, end;               /* columns */
    const float *w;                   /* [rows][in] what earlier blocks left */
    GptqColumns c;
    float scale[LOOP_COLUMNS][LOOP_ROWS], offset[LOOP_COLUMNS][LOOP_ROWS];
} BlockRows;

/* Statistics of the group that begins with column j: of the present values; the peer takes those from before the
 * block. */
static void begin_group(const Gptq *g, const BlockRows *k, int64_t j, float *scratch)
{
    for (int64_t r = 0; r < k->rows; r++) {
        const float *x = k->w + r * g->in + j;
        if (!g->peer && j > k->begin) {
            for (int64_t i = 0; i < g->group; i++)
                scratch[i] = k->c.x[j - k->begin + i][r];
            x = scratch;
        }
        set_param(k->out, (k->row + r) * k->out->groups + j / g->group, range_param(g, k->loops, x, g->group));
    }
}

/* Parameters of the columns [a, e); rows that are missing have some, too. */
static void load_params(const Gptq *g, BlockRows *k, int64_t a, int64_t e)
{
    for (int64_t j = a; j < e; j++) {
        int64_t at = k->row * k->out->groups + column_at(g->f, j) / g->group;
        for (int64_t r = 0; r < LOOP_ROWS; r++, at += k->out->groups) {
            k->scale[j - a][r] = r < k->rows ? k->out->scale[at] : 1.0f;
            k->offset[j - a][r] = r < k->rows && k->out->offset ? k->out->offset[at] : 0.0f;
        }
    }
}

/* The block's columns of k->rows rows. err[rows][block] becomes what the columns behind the block must absorb. */
static void block_rows(const Gptq *g, BlockRows *k, float *err)
{
    bool groups = !g->f->order && g->group < g->in;
    for (int64_t i = 0; i < k->end - k->begin; i++)
        for (int64_t r = 0; r < LOOP_ROWS; r++)
            k->c.x[i][r] = r < k->rows ? k->w[r * g->in + k->begin + i] : 0.0f;
    for (int64_t j = k->begin, e; j < k->end; j = e) {
        e = k->end - j < LOOP_COLUMNS ? k->end : j + LOOP_COLUMNS;
        if (groups && j % g->group == 0)
            begin_group(g, k, j, err);
        if (groups && (e - 1) / g->group > j / g->group) /* not into the next group */
            e = (j / g->group + 1) * g->group;
        load_params(g, k, j, e);
        k->loops->gptq_columns(&k->c, j - k->begin, e - k->begin);
    }
    for (int64_t r = 0; r < k->rows; r++)
        for (int64_t i = 0; i < k->end - k->begin; i++) {
            err[r * g->block + i] = k->c.x[i][r];
            k->out->code[(k->row + r) * g->in + column_at(g->f, k->begin + i)] = (uint8_t)k->c.code[i][r];
        }
}

/* Last column of the block from b on. Ours ends before a group that it would cut, so that every group starts with
 * present values. */
static int64_t block_end(const Gptq *g, int64_t b)
{
    int64_t e = g->in - b < g->block ? g->in : b + g->block;
    if (g->peer || g->group == g->in || g->f->order)
        return e;
    int64_t start = (e - 1) / g->group * g->group;
    return start > b && start + g->group > e ? start : e;
}

static void rows_task(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch)
{
    const Gptq *g = ctx;
    BlockRows k = {.loops = quant_loops(), .out = out};
    float *w = scratch, *err = scratch + ROWS * g->in, *x = err + ROWS * g->block, *code = x + LOOP_ROWS * g->block;
    for (int64_t r = 0; r < rows; r++) {
        const float *from = t->w + (row + r) * g->in;
        if (g->group == g->in || g->f->order)
            for (int64_t i = 0; i < out->groups; i++)
                set_param(out, (row + r) * out->groups + i, range_param(g, k.loops, from + i * g->group, g->group));
        for (int64_t j = 0; j < g->in; j++) /* the peer empties columns whose input was always 0 */
            w[r * g->in + j] = g->peer && g->f->dead[j] ? 0.0f : from[column_at(g->f, j)];
    }
    for (int64_t b = 0, e; b < g->in; b = e) {
        e = block_end(g, b);
        k.begin = b;
        k.end = e;
        k.c = (GptqColumns){.n = e - b, .x = (float (*)[LOOP_ROWS])x, .code = (int8_t (*)[LOOP_ROWS])code, .scale = k.scale,
                            .offset = k.offset, .u = g->f->u + b * (g->in + 1), .ldu = g->in, .bits = g->bits};
        for (int64_t r = 0; r < rows; r += LOOP_ROWS) {
            k.w = w + r * g->in;
            k.row = row + r;
            k.rows = rows - r < LOOP_ROWS ? rows - r : LOOP_ROWS;
            block_rows(g, &k, err + r * g->block);
        }
        GemmArgs rest = {.m = rows, .n = g->in - e, .k = e - b, .x = err, .ldx = g->block, .w = g->f->u + b * g->in + e,
                         .ldw = g->in, .w_by_k = true, .y = w + e, .ldy = g->in, .alpha = -1, .beta = 1};
        g->gemm->tile(&rest, code + LOOP_ROWS * g->block / (int64_t)sizeof(float));
    }
}

/* ---- the whole ---- */

/* Scratch of a task. */
static int64_t row_floats(int64_t in, int64_t block)
{
    return ROWS * (in + block) + LOOP_ROWS * block + LOOP_ROWS * block / (int64_t)sizeof(float) +
           (int64_t)(gemm_find(GEMM_F32)->scratch(ROWS, in, block) / sizeof(float));
}

static Status quantize(const WeightTask *t, QWeight *out, Error *err)
{
    if (!t->shared)
        return error_set(err, ST_DATA, "gptq needs calibration text that reaches this linear");
    int64_t block = t->q->ext.block_size > 0 ? t->q->ext.block_size : BLOCK;
    Gptq g = {.in = t->in, .block = block < t->in ? block : t->in, .group = out->group, .bits = weight_bits(t->q),
              .symmetric = t->q->symmetric, .peer = t->peer, .f = t->shared, .gemm = gemm_find(GEMM_F32)};
    return weight_row_blocks(t, out, rows_task, &g, ROWS, row_floats(g.in, g.block), err);
}

static uint64_t scratch_bytes(const QSpec *q, int64_t out, int64_t in, int threads)
{
    (void)out;
    int64_t block = q->ext.block_size > 0 ? q->ext.block_size : BLOCK;
    return (uint64_t)threads * (uint64_t)row_floats(in, block < in ? block : in) * sizeof(float);
}

static uint64_t prepare_bytes(int64_t in, int threads)
{
    uint64_t factor = math_openblas() ? lapack_bytes(in) : cholesky_bytes(in, threads);
    return factor + (uint64_t)in * (sizeof(RankedColumn) + sizeof(int64_t) + sizeof(bool));
}

#define GPTQ(NAME, DTYPE, SCOPE)                                                    \
    const WeightQuantizer NAME = {                                                  \
        .key = {.method = "gptq", .dtype = DTYPE, .scope = SCOPE, .sym = -1},       \
        .prepare = prepare,                                                         \
        .release = release,                                                         \
        .prepare_bytes = prepare_bytes,                                             \
        .quantize = quantize,                                                       \
        .scratch = scratch_bytes,                                                   \
    }

GPTQ(weight_gptq_int8, QT_INT8, QS_PER_CHANNEL);
GPTQ(weight_gptq_int4, QT_INT4, QS_PER_CHANNEL);
GPTQ(weight_gptq_int8_group, QT_INT8, QS_PER_GROUP);
GPTQ(weight_gptq_int4_group, QT_INT4, QS_PER_GROUP);
