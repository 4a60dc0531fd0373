#include "process/adaptfind.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/gemm.h"

enum {
    BLOCK_M = 192,      /* of a product: rows and columns of one task */
    BLOCK_N = 256,
    BLOCK_K = 2048,     /* rows of a transposed operand that are turned round at once */
    POLAR_STEPS = 100,
    PATIENCE = 5,
    STEPS_LEAST = 6
};

/* ---- products ---- */

/* y[m][n] = a b, or a' b; all of the rows lie behind each other. */
typedef struct Product {
    int64_t m, n, k;
    const float *a; /* [m][k], or [k][m] */
    bool transposed;
    const float *b; /* [k][n] */
    float *y;       /* may not be one of the others */
    float *scratch; /* [threads][per] */
    size_t per;     /* floats */
} Product;

static size_t scratch_floats(void)
{
    size_t turned = (size_t)BLOCK_M * BLOCK_K;
    return (size_t)round_up((int64_t)(turned + gemm_f32.scratch(BLOCK_M, BLOCK_N, BLOCK_K) / sizeof(float) + 16), 16);
}

static void product_tile(const Product *p, int64_t i0, int64_t mi, int64_t j0, int64_t nj, float *scratch)
{
    for (int64_t k0 = 0; k0 < p->k; k0 += BLOCK_K) {
        int64_t kn = min_i64(BLOCK_K, p->k - k0);
        GemmArgs g = {.m = mi, .n = nj, .k = kn, .w = p->b + k0 * p->n + j0, .ldw = p->n, .w_by_k = true,
                      .y = p->y + i0 * p->n + j0, .ldy = p->n, .beta = k0 ? 1 : 0};
        g.x = p->a + i0 * p->k + k0;
        g.ldx = p->k;
        if (p->transposed) {
            for (int64_t r = 0; r < kn; r++)
                for (int64_t i = 0; i < mi; i++)
                    scratch[i * kn + r] = p->a[(k0 + r) * p->m + i0 + i];
            g.x = scratch;
            g.ldx = kn;
        }
        gemm_f32.tile(&g, scratch + (size_t)BLOCK_M * BLOCK_K);
    }
}

static void product_task(void *ctx, int64_t index, int worker)
{
    const Product *p = ctx;
    int64_t across = (p->n + BLOCK_N - 1) / BLOCK_N, i0 = index / across * BLOCK_M, j0 = index % across * BLOCK_N;
    product_tile(p, i0, min_i64(BLOCK_M, p->m - i0), j0, min_i64(BLOCK_N, p->n - j0), p->scratch + (size_t)worker * p->per);
}

static void each(Pool *pool, int64_t n, PoolTask *fn, void *ctx, const Cancel *cancel)
{
    if (pool) {
        pool_run(pool, PHASE_OTHER, n, fn, ctx, cancel);
        return;
    }
    for (int64_t i = 0; i < n && !cancel_level(cancel); i++)
        fn(ctx, i, 0);
}

/* ---- what one search works in ---- */

typedef struct Search {
    const AdaptTask *t;
    Product room;                    /* its scratch */
    float *c, *z, *e, *best, *other; /* [n][n] */
    float *q;                        /* [rows][n] */
    double *part;                    /* [rows or n] sums, one a task */
} Search;

static void search_free(Search *s)
{
    free(s->c);
    free(s->z);
    free(s->e);
    free(s->best);
    free(s->other);
    free(s->q);
    free(s->part);
    free(s->room.scratch);
}

static Status search_new(Search *s, const AdaptTask *t, Error *err)
{
    size_t square = (size_t)(t->n * t->n), parts = (size_t)(t->rows > t->n ? t->rows : t->n);
    int threads = t->pool ? pool_threads(t->pool) : 1;
    *s = (Search){.t = t};
    s->room.per = scratch_floats();
    s->room.scratch = mem_aligned((size_t)threads * s->room.per, sizeof(float));
    s->c = mem_aligned(square, sizeof(float));
    s->z = mem_aligned(square, sizeof(float));
    s->e = mem_aligned(square, sizeof(float));
    s->best = mem_aligned(square, sizeof(float));
    s->other = mem_aligned(square, sizeof(float));
    s->q = mem_aligned((size_t)(t->rows * t->n), sizeof(float));
    s->part = mem_array(parts, sizeof *s->part);
    if (s->room.scratch && s->c && s->z && s->e && s->best && s->other && s->q && s->part)
        return ST_OK;
    search_free(s);
    return error_nomem(err, "the search for a rotation");
}

uint64_t adapt_bytes(int64_t rows, int64_t n, int threads)
{
    uint64_t parts = (uint64_t)(rows > n ? rows : n) * sizeof(double);
    return (5 * (uint64_t)n * (uint64_t)n + (uint64_t)rows * (uint64_t)n + (uint64_t)threads * scratch_floats()) *
               sizeof(float) + parts;
}

/* y = a b, or a' b */
static void multiply(const Search *s, const float *a, bool transposed, const float *b, float *y, int64_t m, int64_t n,
                     int64_t k)
{
    Product p = s->room;
    p.m = m;
    p.n = n;
    p.k = k;
    p.a = a;
    p.transposed = transposed;
    p.b = b;
    p.y = y;
    int64_t tasks = (m + BLOCK_M - 1) / BLOCK_M * ((n + BLOCK_N - 1) / BLOCK_N);
    each(s->t->pool, tasks, product_task, &p, s->t->cancel);
}

/* ---- rounding ---- */

static void round_row(const float *x, int64_t n, int bits, float *q)
{
    float lo = 0, hi = 0, most = (float)((1 << (bits - 1)) - 1);
    for (int64_t i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    float scale = fmaxf(fmaxf(fmaxf(-lo, hi) / most, 0x1p-23f), 1e-5f);
    for (int64_t i = 0; i < n; i++) {
        float v = rintf(x[i] / scale);
        q[i] = (v < -most - 1 ? -most - 1 : v > most ? most : v) * scale;
    }
}

void adapt_round(const float *x, int64_t rows, int64_t n, int bits, float *q)
{
    for (int64_t i = 0; i < rows; i++)
        round_row(x + i * n, n, bits, q + i * n);
}

/* q = Q(P), and the squares of what was lost. */
static void round_task(void *ctx, int64_t row, int worker)
{
    Search *s = ctx;
    const AdaptTask *t = s->t;
    const float *x = t->acts + row * t->n;
    float *q = s->q + row * t->n;
    (void)worker;
    round_row(x, t->n, t->bits, q);
    s->part[row] = 0;
    for (int64_t i = 0; i < t->n; i++)
        s->part[row] += ((double)x[i] - (double)q[i]) * ((double)x[i] - (double)q[i]);
}

/* ‖P - Q(P)‖ / number of values, Q(P) into q. */
static double round_all(Search *s)
{
    double sum = 0;
    each(s->t->pool, s->t->rows, round_task, s, s->t->cancel);
    for (int64_t i = 0; i < s->t->rows; i++)
        sum += s->part[i];
    return sqrt(sum) / ((double)s->t->rows * (double)s->t->n);
}

/* ---- the polar factor ---- */

static void identity(float *m, int64_t n)
{
    memset(m, 0, (size_t)(n * n) * sizeof *m);
    for (int64_t i = 0; i < n; i++)
        m[i * n + i] = 1;
}

/* w = z'z becomes (3 - w) / 2, and how far w was from 1. */
static double half_step(float *w, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            float v = w[i * n + j], one = i == j ? 1.0f : 0.0f;
            worst = fmax(worst, isnan(v) ? INFINITY : fabs((double)v - (double)one));
            w[i * n + j] = 0.5f * (3 * one - v);
        }
    return worst;
}

/* One step of Newton's for s->z, in place; how far it was from orthogonal. */
static double polar_step(Search *s, float **z)
{
    int64_t n = s->t->n;
    multiply(s, *z, true, *z, s->other, n, n, n);
    double worst = half_step(s->other, n);
    multiply(s, *z, false, s->other, s->c, n, n, n);
    float *was = *z;
    *z = s->c;
    s->c = was;
    return worst;
}

/* z = the polar factor of c, which is used up. */
static void polar(Search *s)
{
    const double near = 1e-5, done = 2e-6; /* of c's norm; |z'z - 1| */
    int64_t n = s->t->n;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        s->part[i] = 0;
        for (int64_t j = 0; j < n; j++)
            s->part[i] += (double)s->c[i * n + j] * (double)s->c[i * n + j];
        sum += s->part[i];
    }
    float norm = (float)sqrt(sum) + 1e-12f;
    for (int64_t i = 0; i < n * n; i++)
        s->z[i] = s->c[i] / norm;
    for (int64_t i = 0; i < n && !s->t->peer; i++)
        s->z[i * n + i] += (float)near;
    for (int k = 0; k < POLAR_STEPS && !cancel_level(s->t->cancel); k++)
        if (polar_step(s, &s->z) < done && !s->t->peer)
            break;
}

/* ---- the search ---- */

static Status run_steps(Search *s, Error *err)
{
    const AdaptTask *t = s->t;
    int64_t n = t->n, all = n * n;
    double best = INFINITY;
    int bad = 0;
    identity(s->e, n);
    memcpy(s->best, s->e, (size_t)all * sizeof *s->e);
    round_all(s);
    for (int step = 0; step < t->steps; step++) {
        RETURN_IF_ERROR(cancel_check(t->cancel, err));
        multiply(s, t->acts, true, s->q, s->c, n, n, t->rows);
        polar(s);
        multiply(s, s->e, false, s->z, s->other, n, n, n);
        memcpy(s->e, s->other, (size_t)all * sizeof *s->e);
        if (!t->peer) /* what products add up to is taken out again */
            polar_step(s, &s->e);
        multiply(s, t->acts, false, s->z, s->q, t->rows, n, n);
        memcpy(t->acts, s->q, (size_t)(t->rows * n) * sizeof *s->q);
        double loss = round_all(s);
        if (t->told)
            t->told(t->ctx, step + 1, t->steps);
        if (loss < best) {
            best = loss;
            bad = 0;
            memcpy(s->best, s->e, (size_t)all * sizeof *s->e);
        } else if (++bad >= PATIENCE && step >= STEPS_LEAST) {
            break;
        }
    }
    return cancel_check(t->cancel, err);
}

static Status rotate_acts(const AdaptTask *t, Error *err)
{
    float *scratch = mem_aligned((size_t)rotation_bytes(t->start), 1);
    if (!scratch)
        return error_nomem(err, "the search for a rotation");
    rotation_right(t->start, t->acts, t->rows, t->n, t->n, scratch);
    free(scratch);
    return ST_OK;
}

static double deviation(Search *s, const float *m)
{
    int64_t n = s->t->n;
    multiply(s, m, true, m, s->other, n, n, n);
    return half_step(s->other, n);
}

Status adapt_find(const AdaptTask *t, float *h, Error *err)
{
    const double most = 1e-4;
    Search s;
    RETURN_IF_ERROR(search_new(&s, t, err));
    Status st = rotate_acts(t, err);
    if (st == ST_OK)
        st = run_steps(&s, err);
    if (st == ST_OK)
        st = rotation_rows(t->start, s.z, err);
    if (st == ST_OK)
        multiply(&s, s.z, false, s.best, h, t->n, t->n, t->n);
    double far = st == ST_OK && !t->peer ? deviation(&s, h) : 0;
    if (st == ST_OK && !(far <= most))
        st = error_set(err, ST_DATA, "the rotation found is %.1e from orthogonal: it is not used; more calibration samples "
                       "may help", far);
    search_free(&s);
    return st;
}

Status adapt_deviation(const float *m, int64_t n, Pool *pool, double *worst, Error *err)
{
    const AdaptTask t = {.n = n, .rows = 0, .pool = pool};
    Search s;
    RETURN_IF_ERROR(search_new(&s, &t, err));
    *worst = deviation(&s, m);
    search_free(&s);
    return ST_OK;
}
