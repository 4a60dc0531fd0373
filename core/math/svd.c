#include "math/svd.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/gemm.h"

/* OpenBLAS's LAPACK has no C header in Debian. Fortran: every argument by address, matrices by columns (our rows are its
 * columns), lengths of strings at the end. */
void dsyrk_(const char *uplo, const char *trans, const int *n, const int *k, const double *alpha, const double *a, const int *lda,
            const double *beta, double *c, const int *ldc, size_t uplo_len, size_t trans_len);
void dsyevr_(const char *job, const char *range, const char *uplo, const int *n, double *a, const int *lda, const double *vl,
             const double *vu, const int *il, const int *iu, const double *tol, int *found, double *value, double *vector,
             const int *ldz, int *support, double *work, const int *lwork, int *iwork, const int *liwork, int *info,
             size_t job_len, size_t range_len, size_t uplo_len);
void sgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k, const float *alpha, const float *a,
            const int *lda, const float *b, const int *ldb, const float *beta, float *c, const int *ldc, size_t ta_len,
            size_t tb_len);
void sgeqrf_(const int *m, const int *n, float *a, const int *lda, float *tau, float *work, const int *lwork, int *info);
void sorgqr_(const int *m, const int *n, const int *k, float *a, const int *lda, const float *tau, float *work, const int *lwork,
             int *info);
void sgesdd_(const char *job, const int *m, const int *n, float *a, const int *lda, float *s, float *u, const int *ldu, float *vt,
             const int *ldvt, float *work, const int *lwork, int *iwork, int *info, size_t job_len);

enum { CHUNK = 256, EIGEN_WORK = 26, EIGEN_IWORK = 10, QR_BLOCK = 64, POWERS = 2 };

static Status check_sizes(int64_t out, int64_t in, int64_t rank, Error *err)
{
    if (rank < 1 || rank > min_i64(out, in) || max_i64(out, in) > INT_MAX / QR_BLOCK)
        return error_set(err, ST_INTERNAL, "no part of rank %lld of a matrix %lld x %lld", (long long)rank, (long long)out,
                         (long long)in);
    return ST_OK;
}

/* ---- the nearest ---- */

/* g[n][n] = w'w (of inputs) or ww', n the smaller side, CHUNK rows or columns of w at a time in chunk. */
static void square_of(const float *w, int64_t out, int64_t in, double *g, double *chunk)
{
    bool inputs = in <= out;
    int n = (int)(inputs ? in : out);
    int64_t all = inputs ? out : in;
    const double one = 1;
    memset(g, 0, (size_t)n * (size_t)n * sizeof *g);
    for (int64_t at = 0; at < all; at += CHUNK) {
        int k = (int)min_i64(CHUNK, all - at);
        for (int64_t i = 0; i < (inputs ? k : out); i++)
            for (int64_t j = 0; j < (inputs ? in : k); j++)
                chunk[i * (inputs ? in : k) + j] = (double)w[inputs ? (at + i) * in + j : i * in + at + j];
        dsyrk_("U", inputs ? "N" : "T", &n, &k, &one, chunk, inputs ? &n : &k, &one, g, &n, 1, 1);
    }
}

/* Eigenvectors of g[n][n] to its `rank` largest eigenvalues, as rows of v[rank][n], the last to the largest. g is used up. */
static Status eigenvectors(double *g, int n, int rank, double *v, Error *err)
{
    const double none = 0;
    const int first = n - rank + 1, lwork = EIGEN_WORK * n, liwork = EIGEN_IWORK * n;
    double *value = mem_array((size_t)n, sizeof *value), *work = mem_array((size_t)lwork, sizeof *work);
    int *iwork = mem_array((size_t)liwork, sizeof *iwork), *support = mem_array(2 * (size_t)rank, sizeof *support);
    int found = 0, info = 0;
    Status st = value && work && iwork && support ? ST_OK : error_nomem(err, "eigenvectors");
    if (st == ST_OK)
        dsyevr_("V", "I", "U", &n, g, &n, &none, &none, &first, &n, &none, &found, value, v, &n, support, work, &lwork, iwork,
                &liwork, &info, 1, 1, 1);
    if (st == ST_OK && (info != 0 || found != rank))
        st = error_set(err, ST_DATA, "%d eigenvectors of a matrix %d x %d were wanted, %d were found", rank, n, n, found);
    free(value);
    free(work);
    free(iwork);
    free(support);
    return st;
}

/* Row i becomes v times what makes its largest value positive. */
static void take_row(const double *v, int64_t n, float *row)
{
    int64_t at = 0;
    for (int64_t i = 1; i < n; i++)
        at = fabs(v[i]) > fabs(v[at]) ? i : at;
    for (int64_t i = 0; i < n; i++)
        row[i] = (float)(v[at] < 0 ? -v[i] : v[i]);
}

static void multiply(const GemmArgs *g, void *scratch)
{
    gemm_find(GEMM_F32)->tile(g, scratch);
}

/* The other factor where l1 is known: w l1'. */
static void outputs_of(const float *w, int64_t out, int64_t in, int64_t rank, const float *l1, float *l2, void *scratch)
{
    for (int64_t r = 0; r < out; r += CHUNK)
        multiply(&(GemmArgs){.m = min_i64(CHUNK, out - r), .n = rank, .k = in, .x = w + r * in, .ldx = in, .w = l1, .ldw = in,
                             .y = l2 + r * rank, .ldy = rank}, scratch);
}

/* And where the left one, u[rank][out], is: l1 = u w, of rows of length 1, whose lengths go to l2. */
static void inputs_of(const float *w, int64_t out, int64_t in, int64_t rank, const float *u, float *l1, float *l2, void *scratch)
{
    for (int64_t c = 0; c < in; c += CHUNK)
        multiply(&(GemmArgs){.m = rank, .n = min_i64(CHUNK, in - c), .k = out, .x = u, .ldx = out, .w = w + c, .ldw = in,
                             .w_by_k = true, .y = l1 + c, .ldy = in}, scratch);
    for (int64_t k = 0; k < rank; k++) {
        float *row = l1 + k * in, most = 0;
        double length = 0;
        for (int64_t i = 0; i < in; i++) {
            length += (double)row[i] * (double)row[i];
            most = fabsf(row[i]) > fabsf(most) ? row[i] : most;
        }
        length = copysign(sqrt(length), (double)most);
        for (int64_t i = 0; i < in; i++)
            row[i] = length != 0 ? (float)((double)row[i] / length) : 0;
        for (int64_t o = 0; o < out; o++)
            l2[o * rank + k] = (float)(length * (double)u[k * out + o]);
    }
}

static size_t product_bytes(int64_t out, int64_t in, int64_t rank)
{
    const GemmOps *g = gemm_find(GEMM_F32);
    size_t a = g->scratch(CHUNK, rank, in), b = g->scratch(rank, CHUNK, out);
    return a > b ? a : b;
}

Status svd_best(const float *w, int64_t out, int64_t in, int64_t rank, float *l1, float *l2, Error *err)
{
    RETURN_IF_ERROR(check_sizes(out, in, rank, err));
    size_t n = (size_t)min_i64(out, in), r = (size_t)rank;
    double *g = mem_aligned(n * n, sizeof *g), *chunk = mem_aligned(n * CHUNK, sizeof *chunk), *v = mem_array(r * n, sizeof *v);
    float *u = mem_array(r * n, sizeof *u);
    void *scratch = mem_aligned(product_bytes(out, in, rank), 1);
    Status st = g && chunk && v && u && scratch ? ST_OK : error_nomem(err, "a singular value decomposition");
    if (st == ST_OK) {
        square_of(w, out, in, g, chunk);
        st = eigenvectors(g, (int)n, (int)rank, v, err);
    }
    for (int64_t k = 0; k < rank && st == ST_OK; k++)
        take_row(v + (rank - 1 - k) * (int64_t)n, (int64_t)n, (in <= out ? l1 : u) + k * (int64_t)n);
    if (st == ST_OK && in <= out)
        outputs_of(w, out, in, rank, l1, l2, scratch);
    else if (st == ST_OK)
        inputs_of(w, out, in, rank, u, l1, l2, scratch);
    free(g);
    free(chunk);
    free(v);
    free(u);
    free(scratch);
    return st;
}

/* ---- the original's generator ---- */

enum { WORDS = 624, SHIFT = 397 };

void twister_seed(Twister *t, uint32_t seed)
{
    t->word[0] = seed;
    for (uint32_t i = 1; i < WORDS; i++)
        t->word[i] = 1812433253u * (t->word[i - 1] ^ t->word[i - 1] >> 30) + i;
    t->at = WORDS;
}

static void twist(Twister *t)
{
    uint32_t *w = t->word;
    for (int i = 0; i < WORDS; i++) {
        uint32_t y = (w[i] & 0x80000000u) | (w[(i + 1) % WORDS] & 0x7fffffffu);
        w[i] = w[(i + SHIFT) % WORDS] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    t->at = 0;
}

uint32_t twister_next(Twister *t)
{
    if (t->at == WORDS)
        twist(t);
    uint32_t y = t->word[t->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

enum { GROUP = 16 };

static void draw(Twister *t, float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(twister_next(t) & 0xffffffu) * 0x1p-24f;
}

/* Box and Muller's transform of a group's halves. */
static void transform(float x[GROUP])
{
    for (int j = 0; j < GROUP / 2; j++) {
        float r = sqrtf(-2 * logf(1 - x[j])), angle = 6.28318530717958647692f * x[j + GROUP / 2];
        x[j] = r * cosf(angle);
        x[j + GROUP / 2] = r * sinf(angle);
    }
}

void twister_normal(Twister *t, float *x, int64_t n)
{
    float few[GROUP];
    float *to = n < GROUP ? few : x;
    int64_t all = max_i64(n, GROUP);
    draw(t, to, all);
    for (int64_t i = 0; i + GROUP <= all; i += GROUP)
        transform(to + i);
    if (all % GROUP) {
        draw(t, to + all - GROUP, GROUP);
        transform(to + all - GROUP);
    }
    if (n < GROUP)
        memcpy(x, few, (size_t)n * sizeof *x);
}

/* ---- the original's sketch ---- */

typedef struct Sketch {
    const float *a; /* tall: [m][n], or, `turned`, [n][m] */
    bool turned;
    int m, n, rank;
    float *tau, *work;
    int lwork;
} Sketch;

/* y = A x or A' x; matrices by columns: x of the side that is multiplied, y of the other one, `rank` columns each. */
static void times(const Sketch *s, bool transposed, const float *x, float *y)
{
    /* by columns what lies there is A' [n][m], or, turned, A [m][n] */
    int ld = s->turned ? s->m : s->n, rows = transposed ? s->n : s->m, inner = transposed ? s->m : s->n;
    const float one = 1, zero = 0;
    sgemm_(s->turned == transposed ? "T" : "N", "N", &rows, &s->rank, &inner, &one, s->a, &ld, x, &inner, &zero, y, &rows, 1, 1);
}

/* The columns of x[rows], `rank` of them, become an orthonormal base of what they span. */
static bool base_of(const Sketch *s, int rows, float *x)
{
    int info = 0;
    sgeqrf_(&rows, &s->rank, x, &rows, s->tau, s->work, &s->lwork, &info);
    if (info == 0)
        sorgqr_(&rows, &s->rank, &s->rank, x, &rows, s->tau, s->work, &s->lwork, &info);
    return info == 0;
}

/* q[m] by columns; p: room for [n] by columns, which begins as the random start. */
static bool find_base(const Sketch *s, float *p, float *q)
{
    times(s, false, p, q);
    bool ok = base_of(s, s->m, q);
    for (int i = 0; i < POWERS && ok; i++) {
        times(s, true, q, p);
        ok = base_of(s, s->n, p);
        times(s, false, p, q);
        ok = ok && base_of(s, s->m, q);
    }
    return ok;
}

/* The sketch of A = U S V': u[m] by columns, v[n] by columns. b: room for [n][rank]. */
static bool decompose(const Sketch *s, float *p, float *q, float *u, float *value, float *v)
{
    int r = s->rank, info = 0, lwork = s->lwork;
    const float one = 1, zero = 0;
    float *left = mem_array((size_t)r * (size_t)r, sizeof *left), *right = mem_array((size_t)r * (size_t)s->n, sizeof *right);
    float *b = mem_array((size_t)r * (size_t)s->n, sizeof *b);
    int *iwork = mem_array(8 * (size_t)r, sizeof *iwork);
    bool ok = left && right && b && iwork && find_base(s, p, q);
    if (ok) {
        times(s, true, q, p); /* B' */
        for (int i = 0; i < r; i++)
            for (int j = 0; j < s->n; j++)
                b[(size_t)j * (size_t)r + (size_t)i] = p[(size_t)i * (size_t)s->n + (size_t)j];
        sgesdd_("S", &r, &s->n, b, &r, value, left, &r, right, &r, s->work, &lwork, iwork, &info, 1);
        sgemm_("N", "N", &s->m, &r, &r, &one, q, &s->m, left, &r, &zero, u, &s->m, 1, 1);
        for (int i = 0; i < r; i++)
            for (int j = 0; j < s->n; j++)
                v[(size_t)i * (size_t)s->n + (size_t)j] = right[(size_t)j * (size_t)r + (size_t)i];
        ok = info == 0;
    }
    free(left);
    free(right);
    free(b);
    free(iwork);
    return ok;
}

static int work_floats(int m, int n, int rank)
{
    int svd = 4 * rank * rank + 7 * rank + (rank > n ? rank : n) + (n + rank) * QR_BLOCK;
    int qr = (m > n ? m : n) + rank * QR_BLOCK;
    return svd > qr ? svd : qr;
}

Status svd_sketch(const float *w, int64_t out, int64_t in, int64_t rank, Twister *t, float *l1, float *l2, Error *err)
{
    RETURN_IF_ERROR(check_sizes(out, in, rank, err));
    Sketch s = {.a = w, .turned = out < in, .m = (int)max_i64(out, in), .n = (int)min_i64(out, in), .rank = (int)rank};
    size_t r = (size_t)rank, m = r * (size_t)s.m, n = r * (size_t)s.n;
    s.lwork = work_floats(s.m, s.n, s.rank);
    s.tau = mem_array(r, sizeof *s.tau);
    s.work = mem_array((size_t)s.lwork, sizeof *s.work);
    float *p = mem_array(n, sizeof *p), *q = mem_array(m, sizeof *q), *u = mem_array(m, sizeof *u), *v = mem_array(n, sizeof *v);
    float *value = mem_array(r, sizeof *value), *start = mem_array(n, sizeof *start);
    bool room = s.tau && s.work && p && q && u && v && value && start;
    Status st = room ? ST_OK : error_nomem(err, "a singular value decomposition");
    if (st == ST_OK) {
        twister_normal(t, start, (int64_t)n);
        for (size_t i = 0; i < n; i++) /* drawn as [n][rank] */
            p[i % r * (size_t)s.n + i / r] = start[i];
        if (!decompose(&s, p, q, u, value, v))
            st = error_set(err, ST_DATA, "a singular value decomposition of rank %lld did not converge", (long long)rank);
    }
    const float *left = s.turned ? v : u, *right = s.turned ? u : v;
    for (int64_t k = 0; k < rank && st == ST_OK; k++) {
        for (int64_t o = 0; o < out; o++)
            l2[o * rank + k] = left[k * out + o] * value[k];
        memcpy(l1 + k * in, right + k * in, (size_t)in * sizeof *l1);
    }
    float *const all[] = {s.tau, s.work, p, q, u, v, value, start};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    return st;
}

uint64_t svd_bytes(int64_t out, int64_t in, int64_t rank)
{
    uint64_t n = (uint64_t)min_i64(out, in), m = (uint64_t)max_i64(out, in), r = (uint64_t)rank;
    uint64_t best = n * n * 8 + n * CHUNK * 8 + r * n * 12 + n * (EIGEN_WORK * 8 + EIGEN_IWORK * 4 + 8) +
                    product_bytes(out, in, rank);
    uint64_t sketch = 4 * (2 * r * m + 6 * r * n + (uint64_t)work_floats((int)m, (int)n, (int)rank)) + 64 * r * r;
    return (best > sketch ? best : sketch) + (UINT64_C(4) << 20); /* what OpenBLAS touches of its buffer */
}
