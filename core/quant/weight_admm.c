/* admm: the weights of float_sparse. A share of a weight becomes 0, chosen and the rest fitted by the alternating direction
 * method of multipliers, so that what the linear gives for the calibration's inputs changes least
 * (specs/quantization.md 12). In float32 but for the inverse, which is float64's.
 *
 * With H the second moments, scaled to a diagonal of ones and damped, and w0 the weight in that scale, the peer's step
 * w = inverse(H + I) (H w0 + z - u) is w0 + inverse(H + I) (z - u - w0): H itself is needed no more.
 *
 * Ties among the values that are pruned: the first in the order of the weight's rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/cholesky.h"
#include "math/gemm.h"
#include "math/cpu.h"
#include "math/lapack.h"
#include "qir/round.h"
#include "quant/ranking.h"
#include "quant/sparse.h"

enum { STEPS = 20, CHOICES = 15, ROWS = 64, TILE = 256 };
#define DAMP 0.1f
#define NORM_MIN 1e-8f

/* What linears that read the same input share. */
typedef struct Inverse {
    int64_t in;
    float *norm;       /* [in] of each input */
    float *importance; /* [in] its mean square */
    void *packed;      /* inverse(H + I) as the products want it */
} Inverse;

/* ---- the inverse ---- */

typedef struct Moments {
    const Inverse *v;
    float *h, *u; /* [in][in]; the inverse of the factor, transposed: upper */
    double scale, diagonal;
    const GemmOps *gemm;
    unsigned char *scratch;
    size_t scratch_bytes;
} Moments;

static void read_moments(void *ctx, int64_t i, int64_t j, int64_t m, double *row)
{
    const Moments *o = ctx;
    const float *h = o->h + i * o->v->in + j, *norm = o->v->norm;
    for (int64_t k = 0; k < m; k++)
        row[k] = o->scale * (double)h[k] / (double)norm[j + k] / (double)norm[i];
    if (j + m > i)
        row[i - j] += o->diagonal;
}

static void write_factor(void *ctx, int64_t i, int64_t j, int64_t m, const double *row)
{
    const Moments *o = ctx;
    for (int64_t k = 0; k < m; k++)
        o->u[(j + k) * o->v->in + i] = (float)row[k];
}

/* One tile of U U', and its mirror image: the inverse. */
static void product_task(void *ctx, int64_t index, int worker)
{
    const Moments *o = ctx;
    int64_t n = o->v->in, tiles = div_up(n, TILE), r = 0;
    while (index >= tiles - r)
        index -= tiles - r++;
    int64_t i = r * TILE, j = (r + index) * TILE;
    GemmArgs g = {.m = min_i64(TILE, n - i), .n = min_i64(TILE, n - j), .k = n - j, .x = o->u + i * n + j, .ldx = n,
                  .w = o->u + j * n + j, .ldw = n, .y = o->h + i * n + j, .ldy = n};
    o->gemm->tile(&g, o->scratch + (size_t)worker * o->scratch_bytes);
    for (int64_t a = i; a < i + g.m; a++)
        for (int64_t b = j; b < j + g.n; b++)
            o->h[b * n + a] = o->h[a * n + b];
}

static Status run(const WeightTask *t, int64_t n, PoolTask *fn, void *ctx, Error *err)
{
    if (t->pool)
        pool_run(t->pool, PHASE_QUANT_WEIGHT, n, fn, ctx, t->cancel);
    for (int64_t i = 0; !t->pool && i < n && !cancel_level(t->cancel); i++)
        fn(ctx, i, 0);
    return cancel_check(t->cancel, err);
}

static int threads_of(const WeightTask *t)
{
    return t->pool ? pool_threads(t->pool) : 1;
}

/* h becomes inverse(H + I). H + I has no eigenvalue below 1, whatever the inputs were: few tokens, or one that is always 0. */
static Status invert(const WeightTask *t, Moments *o, Error *err)
{
    CholeskyTask c = {.n = t->in, .read = read_moments, .write = write_factor, .ctx = o, .pool = t->pool,
                      .phase = PHASE_QUANT_WEIGHT, .cancel = t->cancel};
    int64_t tiles = div_up(t->in, TILE);
    bool definite;
    RETURN_IF_ERROR((math_openblas() ? lapack_inverse : cholesky_inverse)(&c, &definite, err));
    if (!definite)
        return error_set(err, ST_DATA, "float_sparse: the second moments of its %lld inputs have no inverse: keep it in float",
                         (long long)t->in);
    o->scratch_bytes = o->gemm->scratch(TILE, TILE, t->in);
    o->scratch = mem_aligned((size_t)threads_of(t), o->scratch_bytes);
    Status st = o->scratch ? run(t, tiles * (tiles + 1) / 2, product_task, o, err) : error_nomem(err, "float_sparse");
    free(o->scratch);
    return st;
}

/* Norms of the inputs; *mean, which begins at 0: of the scaled diagonal, which is 1 but for inputs that were always 0. */
static Status find_norms(const WeightTask *t, Inverse *v, const float *h, double scale, double *mean, Error *err)
{
    for (int64_t i = 0; i < t->in; i++) {
        double square = scale * (double)h[i * (t->in + 1)];
        v->norm[i] = sqrtf((float)square) + NORM_MIN;
        v->importance[i] = (float)(square / (double)t->rows);
        *mean += square / (double)v->norm[i] / (double)v->norm[i] / (double)t->in;
    }
    if (!isfinite(*mean))
        return error_set(err, ST_DATA, "float_sparse: the squares of its input hold NaN or Inf: keep it in float");
    return ST_OK;
}

static void release(void *shared)
{
    Inverse *v = shared;
    if (!v)
        return;
    free(v->norm);
    free(v->importance);
    free(v->packed);
    free(v);
}

/* h: 2/rows of the sum of x x'. */
static Status make_inverse(const WeightTask *t, Inverse *v, float *h, Error *err)
{
    size_t in = (size_t)t->in;
    Moments o = {.v = v, .h = h, .scale = (double)t->rows / 2, .gemm = gemm_find(GEMM_F32)};
    double mean = 0;
    v->norm = mem_array(in, sizeof *v->norm);
    v->importance = mem_array(in, sizeof *v->importance);
    o.u = mem_zarray(in * in, sizeof *o.u);
    Status st = v->norm && v->importance && o.u ? find_norms(t, v, h, o.scale, &mean, err) : error_nomem(err, "float_sparse");
    if (st == ST_OK) {
        o.diagonal = (double)DAMP * mean + 1;
        st = invert(t, &o, err);
    }
    free(o.u);
    RETURN_IF_ERROR(st);
    v->packed = mem_aligned(o.gemm->packed_bytes(t->in, t->in), 1);
    if (!v->packed)
        return error_nomem(err, "float_sparse");
    o.gemm->pack(DT_F32, h, t->in, t->in, t->in, v->packed);
    return ST_OK;
}

static Status prepare(const WeightTask *t, float *h, void **shared, Error *err)
{
    Inverse *v = mem_zarray(1, sizeof *v);
    *shared = NULL;
    if (!v)
        return error_nomem(err, "float_sparse");
    v->in = t->in;
    Status st = make_inverse(t, v, h, err);
    if (st != ST_OK) {
        release(v);
        return st;
    }
    *shared = v;
    return ST_OK;
}

/* ---- the steps ---- */

typedef struct Admm {
    const WeightTask *t;
    const Inverse *v;
    float *w, *u;    /* [out][in] */
    uint8_t *keep;   /* [out][in] 1: not pruned */
    float cut;       /* values below it are pruned, and those of its own that `tied` says */
    bool tied;
    const GemmOps *gemm;
    unsigned char *scratch; /* [threads] ROWS rows of float32, then the product's */
    size_t scratch_bytes;
} Admm;

static void begin_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Admm *a = ctx;
    int64_t in = a->t->in, from = index * ROWS * in, end = min_i64(from + ROWS * in, a->t->out * in);
    for (int64_t at = from; at < end; at += in)
        math_fast()->mul(a->t->w + at, a->v->norm, a->w + at, in);
    memset(a->u + from, 0, (size_t)(end - from) * sizeof *a->u);
    memset(a->keep + from, 1, (size_t)(end - from));
}

static void sum_row(const void *ctx, int64_t row, float *out)
{
    const Admm *a = ctx;
    const float *w = a->w + row * a->t->in, *u = a->u + row * a->t->in;
    for (int64_t i = 0; i < a->t->in; i++)
        out[i] = fabsf(w[i] + u[i]);
}

static void choose_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Admm *a = ctx;
    int64_t from = index * ROWS * a->t->in, end = min_i64(from + ROWS * a->t->in, a->t->out * a->t->in);
    for (int64_t i = from; i < end; i++) {
        float v = fabsf(a->w[i] + a->u[i]);
        a->keep[i] = v > a->cut || (v == a->cut && !a->tied);
    }
}

/* Which values are pruned from here on: the n smallest. */
static Status choose(Admm *a, Ranking *r, int64_t n, Error *err)
{
    RankCut cut;
    RETURN_IF_ERROR(ranking_find(r, n, &cut, err));
    int64_t left = n - cut.below, all = a->t->out * a->t->in;
    a->cut = cut.at;
    a->tied = left == cut.equal;
    RETURN_IF_ERROR(run(a->t, div_up(a->t->out, ROWS), choose_task, a, err));
    for (int64_t i = 0; i < all && left && !a->tied; i++)
        if (fabsf(a->w[i] + a->u[i]) == a->cut) {
            a->keep[i] = 0;
            left--;
        }
    return ST_OK;
}

/* Some rows: z, u, and the next w. */
static void step_task(void *ctx, int64_t index, int worker)
{
    const Admm *a = ctx;
    int64_t in = a->t->in, row = index * ROWS, rows = min_i64(ROWS, a->t->out - row);
    float *x = (float *)(void *)(a->scratch + (size_t)worker * a->scratch_bytes);
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = (row + r) * in;
        const float *from = a->t->w + at, *norm = a->v->norm;
        const uint8_t *keep = a->keep + at;
        float *w = a->w + at, *u = a->u + at, *y = x + r * in;
        for (int64_t i = 0; i < in; i++) {
            float z = keep[i] ? w[i] + u[i] : 0, w0 = from[i] * norm[i];
            u[i] += w[i] - z;
            y[i] = z - u[i] - w0;
            w[i] = w0;
        }
    }
    GemmArgs g = {.m = rows, .n = in, .k = in, .x = x, .ldx = in, .packed = a->v->packed, .packed_n = in, .y = a->w + row * in,
                  .ldy = in, .beta = 1};
    a->gemm->tile(&g, x + ROWS * in);
}

static void end_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Admm *a = ctx;
    int64_t in = a->t->in, from = index * ROWS, end = min_i64(from + ROWS, a->t->out);
    for (int64_t r = from; r < end; r++)
        for (int64_t i = 0, at = r * in; i < in; i++, at++)
            a->w[at] = a->keep[at] ? round_to_dtype((a->w[at] + a->u[at]) / a->v->norm[i], a->t->T) : 0;
}

static Status steps(Admm *a, Error *err)
{
    int64_t tasks = div_up(a->t->out, ROWS), n = sparse_count(a->t->q, a->t->out * a->t->in);
    Ranking r = {.rows = a->t->out, .width = a->t->in, .row = sum_row, .ctx = a, .pool = a->t->pool, .cancel = a->t->cancel};
    RETURN_IF_ERROR(ranking_init(&r, err));
    Status st = run(a->t, tasks, begin_task, a, err);
    for (int k = 0; k < STEPS && st == ST_OK; k++) {
        if (k < CHOICES && n)
            st = choose(a, &r, n, err);
        if (st == ST_OK)
            st = run(a->t, tasks, step_task, a, err);
    }
    ranking_fini(&r);
    return st == ST_OK ? run(a->t, tasks, end_task, a, err) : st;
}

/* ---- the whole ---- */

static size_t task_bytes(int64_t in)
{
    return (size_t)ROWS * (size_t)in * sizeof(float) + gemm_find(GEMM_F32)->scratch(ROWS, in, in);
}

static Status quantize(const WeightTask *t, QWeight *out, Error *err)
{
    if (!t->shared)
        return error_set(err, ST_DATA, "float_sparse needs calibration text that reaches this linear");
    size_t n = (size_t)t->out * (size_t)t->in;
    Admm a = {.t = t, .v = t->shared, .w = mem_aligned(n, sizeof *a.w), .u = mem_aligned(n, sizeof *a.u), .keep = mem_array(n, 1),
              .gemm = gemm_find(GEMM_F32), .scratch_bytes = (size_t)round_up((int64_t)task_bytes(t->in), 64)};
    a.scratch = mem_aligned((size_t)threads_of(t), a.scratch_bytes);
    Status st = a.w && a.u && a.keep && a.scratch ? steps(&a, err) : error_nomem(err, "float_sparse");
    free(a.scratch);
    free(a.keep);
    free(a.u);
    if (st == ST_OK)
        st = sparse_settle(t, a.w, a.v->importance, out, err);
    free(a.w);
    return st;
}

static uint64_t scratch_bytes(const QSpec *q, int64_t out, int64_t in, int threads)
{
    (void)q;
    return (uint64_t)out * (uint64_t)in * 9 + (uint64_t)threads * (uint64_t)round_up((int64_t)task_bytes(in), 64) +
           sparse_bytes(in, threads) + gemm_find(GEMM_F32)->packed_bytes(in, in);
}

static uint64_t prepare_bytes(int64_t in, int threads)
{
    uint64_t factor = math_openblas() ? lapack_bytes(in) : cholesky_bytes(in, threads);
    uint64_t product = (uint64_t)threads * gemm_find(GEMM_F32)->scratch(TILE, TILE, in);
    uint64_t make = (uint64_t)in * (uint64_t)in * sizeof(float) + (factor > product ? factor : product);
    uint64_t packed = gemm_find(GEMM_F32)->packed_bytes(in, in);
    return (make > packed ? make : packed) + (uint64_t)in * 2 * sizeof(float);
}

const WeightQuantizer weight_admm = {
    .key = {.method = "admm", .dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .sym = 1, .owner = QUANT_STEP},
    .prepare = prepare,
    .release = release,
    .prepare_bytes = prepare_bytes,
    .quantize = quantize,
    .scratch = scratch_bytes,
};

/* ---- without inputs ---- */

typedef struct Smallest {
    const WeightTask *t;
    float *w;
} Smallest;

static void size_row(const void *ctx, int64_t row, float *out)
{
    const Smallest *s = ctx;
    for (int64_t i = 0; i < s->t->in; i++)
        out[i] = fabsf(s->w[row * s->t->in + i]);
}

/* Prunes what is smallest: what admm is estimated by where no inputs are at hand. */
static Status magnitude(const WeightTask *t, QWeight *out, Error *err)
{
    int64_t n = t->out * t->in, left = sparse_count(t->q, n);
    float *w = mem_array((size_t)n, sizeof *w);
    if (!w)
        return error_nomem(err, "float_sparse");
    memcpy(w, t->w, (size_t)n * sizeof *w);
    Smallest s = {.t = t, .w = w};
    Ranking r = {.rows = t->out, .width = t->in, .row = size_row, .ctx = &s, .pool = t->pool, .cancel = t->cancel};
    RankCut cut = {.at = 0};
    Status st = left ? ranking_init(&r, err) : ST_OK;
    if (st == ST_OK && left)
        st = ranking_find(&r, left, &cut, err);
    ranking_fini(&r);
    left -= cut.below;
    for (int64_t i = 0; i < n && st == ST_OK; i++)
        if (fabsf(w[i]) < cut.at || (fabsf(w[i]) == cut.at && left-- > 0))
            w[i] = 0;
    if (st == ST_OK)
        st = sparse_settle(t, w, NULL, out, err);
    free(w);
    return st;
}

static uint64_t magnitude_bytes(const QSpec *q, int64_t out, int64_t in, int threads)
{
    (void)q;
    return (uint64_t)out * (uint64_t)in * sizeof(float) + sparse_bytes(in, threads);
}

const WeightQuantizer weight_magnitude = {
    .key = {.method = "magnitude", .dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .sym = 1, .owner = QUANT_STEP},
    .quantize = magnitude,
    .scratch = magnitude_bytes,
};
