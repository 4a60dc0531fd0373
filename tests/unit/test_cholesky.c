#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/cholesky.h"
#include "math/cpu.h"
#include "math/lapack.h"
#include "tests/lib/trial.h"

/* The inverse of a Cholesky factor: against its definition, and the same bytes whoever computes it. */

static const char variable[] = "SLIMSCOPE_KERNELS";

typedef struct Matrix {
    int64_t n;
    double *a;        /* [n][n] */
    double *x;        /* [n][n] what was written; its upper triangle stays NaN */
    int64_t cancel_at; /* a row whose reading raises it, or -1 */
    Cancel *cancel;
    size_t before, held; /* on the heap */
} Matrix;

static uint32_t seed;

static double noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (double)(int32_t)seed / 2147483648.0;
}

static void *room(size_t n, size_t size)
{
    void *p = calloc(n, size);
    assert_non_null(p);
    return p;
}

/* As second moments are: sums of products, a few directions much stronger than the rest, and a damped diagonal. */
static Matrix matrix(int64_t n)
{
    enum { STRONG = 3 };
    Matrix m = {.n = n, .a = room((size_t)(n * n), sizeof *m.a), .x = room((size_t)(n * n), sizeof *m.x), .cancel_at = -1};
    double *v = room((size_t)(STRONG * n), sizeof *v);
    seed = (uint32_t)n;
    for (int64_t i = 0; i < STRONG * n; i++)
        v[i] = noise();
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double s = i == j ? 0.1 + (double)n * 0.01 : 0.01 * noise();
            for (int k = 0; k < STRONG; k++)
                s += v[k * n + i] * v[k * n + j] * (k + 1);
            m.a[i * n + j] = s;
        }
    free(v);
    return m;
}

static void matrix_free(Matrix *m)
{
    free(m->a);
    free(m->x);
}

static void read_row(void *ctx, int64_t i, int64_t j, int64_t n, double *row)
{
    Matrix *m = ctx;
    assert_true(i < m->n && j >= 0 && n > 0 && j + n <= i + 1);
    memcpy(row, m->a + i * m->n + j, (size_t)n * sizeof *row);
    if (i == m->cancel_at)
        atomic_store(&m->cancel->level, 1);
}

static void write_row(void *ctx, int64_t i, int64_t j, int64_t n, const double *row)
{
    Matrix *m = ctx;
    assert_true(i < m->n && j >= 0 && n > 0 && j + n <= i + 1);
    memcpy(m->x + i * m->n + j, row, (size_t)n * sizeof *row);
}

static Status invert(Matrix *m, Pool *pool, bool *definite)
{
    for (int64_t i = 0; i < m->n * m->n; i++)
        m->x[i] = NAN;
    CholeskyTask t = {.n = m->n, .read = read_row, .write = write_row, .ctx = m, .pool = pool, .cancel = m->cancel};
    return cholesky_inverse(&t, definite, NULL);
}

static Status invert_by_lapack(Matrix *m, bool *definite)
{
    CholeskyTask t = {.n = m->n, .read = read_row, .write = write_row, .ctx = m};
    return lapack_inverse(&t, definite, NULL);
}

static Pool *pool_of(int threads)
{
    Pool *p;
    assert_int_equal(pool_new(&p, threads, NULL), ST_OK);
    return p;
}

/* inverse(L) by the textbook, in long double. */
static void plain_inverse(const Matrix *m, long double *x)
{
    int64_t n = m->n;
    long double *l = room((size_t)(n * n), sizeof *l);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            long double s = m->a[i * n + j];
            for (int64_t k = 0; k < j; k++)
                s -= l[i * n + k] * l[j * n + k];
            l[i * n + j] = i == j ? sqrtl(s) : s / l[j * n + j];
        }
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = j; i < n; i++) {
            long double s = i == j ? 1 : 0;
            for (int64_t k = j; k < i; k++)
                s -= l[i * n + k] * x[k * n + j];
            x[i * n + j] = s / l[i * n + i];
        }
    free(l);
}

/* Below, at and above a panel, a tile, several of them. */
static const int64_t sizes[] = {1, 2, 7, 8, 9, 24, 25, 100, 143, 144, 145, 152, 288, 289, 433};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void it_is_the_inverse_factor(void **state)
{
    (void)state;
    Pool *pool = pool_of(2);
    for (int s = 0; s < SIZES; s++) {
        Matrix m = matrix(sizes[s]);
        int64_t n = m.n;
        long double *want = room((size_t)(n * n), sizeof *want);
        bool definite = false;
        double top = 0, off = 0;
        plain_inverse(&m, want);
        assert_int_equal(invert(&m, pool, &definite), ST_OK);
        assert_true(definite);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                if (j > i) {
                    assert_true(isnan(m.x[i * n + j]));
                    continue;
                }
                top = fmax(top, fabs(m.x[i * n + j]));
                off = fmax(off, fabs(m.x[i * n + j] - (double)want[i * n + j]));
            }
        if (!(off <= 1e-13 * top))
            fail_msg("n=%lld: off by %g of %g", (long long)n, off, top);
        free(want);
        matrix_free(&m);
    }
    pool_free(pool);
}

static void bytes_depend_on_nothing_else(void **state)
{
    (void)state;
    char *own = getenv(variable) ? strdup(getenv(variable)) : NULL;
    Pool *pools[] = {NULL, pool_of(1), pool_of(2), pool_of(5)};
    int compared = 0;
    for (int s = 0; s < SIZES; s++) {
        Matrix m = matrix(sizes[s]);
        size_t bytes = (size_t)(m.n * m.n) * sizeof *m.x;
        double *want = room(1, bytes);
        bool definite;
        setenv(variable, math_level_name(MATH_REFERENCE), 1);
        assert_int_equal(invert(&m, NULL, &definite), ST_OK);
        memcpy(want, m.x, bytes);
        for (MathLevel l = MATH_REFERENCE; l < MATH_LEVELS; l++) {
            setenv(variable, math_level_name(l), 1);
            for (int p = l == MATH_REFERENCE && m.n < 400; p < 4 && math_level_runs(l); p++, compared++) {
                assert_int_equal(invert(&m, pools[p], &definite), ST_OK);
                if (memcmp(m.x, want, bytes) != 0)
                    fail_msg("n=%lld: %s with pool %d gives other bytes", (long long)m.n, math_level_name(l), p);
            }
        }
        free(want);
        matrix_free(&m);
    }
    assert_true(compared >= SIZES * 4);
    own ? setenv(variable, own, 1) : unsetenv(variable);
    free(own);
    for (int p = 0; p < 4; p++)
        pool_free(pools[p]);
}

static void what_is_not_positive_definite_is_seen(void **state)
{
    (void)state;
    static const double bad[] = {0, -1, NAN, INFINITY, -INFINITY};
    static const int64_t at[] = {0, 5, 143, 144, 200, 299};
    Pool *pool = pool_of(3);
    for (int b = 0; b < 5; b++)
        for (int k = 0; k < 6; k++)
            for (int diagonal = 0; diagonal < 2; diagonal++) {
                Matrix m = matrix(300);
                int64_t i = at[k], j = diagonal || i == 0 ? i : i / 2;
                bool definite = true;
                m.a[i * m.n + j] = i != j && bad[b] == 0 ? 1e3 : i != j && bad[b] == -1 ? -1e3 : bad[b];
                assert_int_equal(invert(&m, k & 1 ? pool : NULL, &definite), ST_OK);
                if (definite)
                    fail_msg("%g at [%lld][%lld] is not seen", m.a[i * m.n + j], (long long)i, (long long)j);
                for (int64_t e = 0; e < m.n * m.n; e++)
                    assert_true(isnan(m.x[e])); /* nothing was written */
                matrix_free(&m);
            }
    pool_free(pool);
}

static void it_stops_when_asked(void **state)
{
    (void)state;
    Pool *pool = pool_of(3);
    for (int p = 0; p < 2; p++)
        for (int before = 0; before < 2; before++) {
            Cancel stop = {.level = before};
            Matrix m = matrix(500);
            bool definite;
            m.cancel = &stop;
            m.cancel_at = before ? -1 : 300;
            assert_int_equal(invert(&m, p ? pool : NULL, &definite), ST_CANCELLED);
            matrix_free(&m);
        }
    pool_free(pool);
}

static void watch_heap(void *ctx, int64_t i, int64_t j, int64_t n, const double *row)
{
    Matrix *m = ctx;
    (void)row;
    (void)j;
    (void)n;
    if (i == 0)
        m->held = heap_bytes() - m->before;
}

static void it_takes_what_it_says(void **state)
{
    (void)state;
    for (int s = 0; s < SIZES; s++) {
        Matrix m = matrix(sizes[s]);
        bool definite;
        CholeskyTask t = {.n = m.n, .read = read_row, .write = watch_heap, .ctx = &m};
        m.before = heap_bytes();
        assert_int_equal(cholesky_inverse(&t, &definite, NULL), ST_OK);
        assert_true(definite && heap_bytes() <= m.before + 256);
        uint64_t said = cholesky_bytes(m.n, 1);
        if (m.before && (m.held > said + 2048 || m.held < said)) /* not where the allocator is a sanitizer's */
            fail_msg("n=%lld takes %zu, says %llu", (long long)m.n, m.held, (unsigned long long)said);
        assert_true(cholesky_bytes(m.n, 9) - said >= 8 * sizeof(double)); /* more with threads */
        matrix_free(&m);
    }
    /* half of a matrix of doubles, and a few per cent */
    assert_true(cholesky_bytes(14336, 16) < UINT64_C(14336) * 14336 * 5);
}

/* What SLIMSCOPE_KERNELS=openblas asks for. */
static void lapack_gives_the_same_factor(void **state)
{
    (void)state;
    for (int s = 0; s < SIZES; s++) {
        Matrix own = matrix(sizes[s]), other = matrix(sizes[s]);
        bool definite = false;
        assert_int_equal(invert(&own, NULL, &definite), ST_OK);
        assert_true(definite);
        assert_int_equal(invert_by_lapack(&other, &definite), ST_OK);
        assert_true(definite);
        for (int64_t i = 0; i < own.n; i++)
            for (int64_t j = 0; j <= i; j++)
                assert_true(fabs(own.x[i * own.n + j] - other.x[i * own.n + j]) <= 1e-11 * fabs(own.x[i * (own.n + 1)]));
        other.a[own.n * own.n - 1] = -1;
        assert_int_equal(invert_by_lapack(&other, &definite), ST_OK);
        assert_false(definite);
        matrix_free(&own);
        matrix_free(&other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lapack_gives_the_same_factor),
        cmocka_unit_test(it_is_the_inverse_factor),
        cmocka_unit_test(bytes_depend_on_nothing_else),
        cmocka_unit_test(what_is_not_positive_definite_is_seen),
        cmocka_unit_test(it_stops_when_asked),
        cmocka_unit_test(it_takes_what_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
