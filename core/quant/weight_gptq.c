/* gptq: columns quantized one after the other, each error spread over the columns that follow by the inverse of the
 * input's second moments (specs/quantization.md 7.3). In float32 for every dtype: the peer crashes on others. */
#include "quant/weightrows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/cholesky.h"
#include "math/gemm.h"
#include "math/lanes.h"

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
        RETURN_IF_ERROR(cholesky_inverse(&c, &definite, err));
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

INLINE void subtract_body(float *b, const float *u, float err, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VF x, y;
        load_lanes(&x, b + i, n - i);
        load_lanes(&y, u + i, n - i);
        x = x - y * err;
        store_lanes(&x, b + i, n - i);
    }
}

static void subtract_any(float *b, const float *u, float err, int64_t n)
{
    subtract_body(b, u, err, n);
}

#ifdef HAVE_AVX2_FORM
AVX2_FORM static void subtract_avx2(float *b, const float *u, float err, int64_t n)
{
    subtract_body(b, u, err, n);
}
#endif

typedef void SubtractFn(float *b, const float *u, float err, int64_t n);

static SubtractFn *subtract_fn(void)
{
#ifdef HAVE_AVX2_FORM
    if (CPU_HAS_AVX2())
        return subtract_avx2;
#endif
    return subtract_any;
}

static QParam range_param(const Gptq *g, const float *x, int64_t n)
{
    float mn, mx;
    intquant_range(x, n, &mn, &mx);
    return intquant_param(mn, mx, g->bits, g->symmetric, DT_F32);
}

static void set_param(QWeight *out, int64_t at, QParam p)
{
    out->scale[at] = p.scale;
    if (out->offset)
        out->offset[at] = p.offset;
}

/* Columns [b, e) of one row w[in], of which those from b on hold what earlier blocks left. err[e - b] starts as the
 * block's present values and ends as what the columns behind the block must absorb. Group statistics come from the
 * present values; the peer takes those from before the block. */
static void block_row(const Gptq *g, QWeight *out, int64_t r, int64_t b, int64_t e, const float *w, float *err,
                      SubtractFn *subtract)
{
    memcpy(err, w + b, sizeof *err * (size_t)(e - b));
    for (int64_t j = b; j < e; j++) {
        int64_t column = column_at(g->f, j), at = r * out->groups + column / g->group;
        float *v = err + (j - b);
        if (!g->f->order && g->group < g->in && j % g->group == 0)
            set_param(out, at, range_param(g, g->peer || j == b ? w + j : v, g->group));
        QParam p = {.scale = out->scale[at], .offset = out->offset ? out->offset[at] : 0.0f};
        int8_t q;
        float d;
        intquant_quantize(v, 1, p, g->bits, DT_F32, &q);
        intquant_dequantize(&q, 1, p, DT_F32, &d);
        out->code[r * g->in + column] = (uint8_t)q;
        float left = (*v - d) / g->f->u[j * g->in + j];
        subtract(v, g->f->u + j * g->in + j, left, e - j);
        *v = left;
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
    SubtractFn *subtract = subtract_fn();
    float *w = scratch, *err = scratch + ROWS * g->in;
    for (int64_t r = 0; r < rows; r++) {
        const float *from = t->w + (row + r) * g->in;
        if (g->group == g->in || g->f->order)
            for (int64_t k = 0; k < out->groups; k++)
                set_param(out, (row + r) * out->groups + k, range_param(g, from + k * g->group, g->group));
        for (int64_t j = 0; j < g->in; j++) /* the peer empties columns whose input was always 0 */
            w[r * g->in + j] = g->peer && g->f->dead[j] ? 0.0f : from[column_at(g->f, j)];
    }
    for (int64_t b = 0, e; b < g->in; b = e) {
        e = block_end(g, b);
        for (int64_t r = 0; r < rows; r++)
            block_row(g, out, row + r, b, e, w + r * g->in, err + r * g->block, subtract);
        GemmArgs rest = {.m = rows, .n = g->in - e, .k = e - b, .x = err, .ldx = g->block, .w = g->f->u + b * g->in + e,
                         .ldw = g->in, .w_by_k = true, .y = w + e, .ldy = g->in, .alpha = -1, .beta = 1};
        g->gemm->tile(&rest, err + ROWS * g->block);
    }
}

/* ---- the whole ---- */

/* Scratch of a task. */
static int64_t row_floats(int64_t in, int64_t block)
{
    return ROWS * (in + block) + (int64_t)(gemm_find(GEMM_F32)->scratch(ROWS, in, block) / sizeof(float));
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
    return cholesky_bytes(in, threads) + (uint64_t)in * (sizeof(RankedColumn) + sizeof(int64_t) + sizeof(bool));
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
