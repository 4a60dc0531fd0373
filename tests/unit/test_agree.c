#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "stat/agree.h"

static Agreement of(const double *x, const double *y, int64_t n, int64_t top)
{
    Agreement a;
    assert_int_equal(agree(x, y, n, top, &a, NULL), ST_OK);
    return a;
}

static void near(double got, double want)
{
    if (!(fabs(got - want) < 1e-12))
        fail_msg("%.17g, wanted %.17g", got, want);
}

/* scipy 1.17.1: spearmanr and kendalltau (variant b); infinities as ranks. */
static void equals_scipy(void **state)
{
    (void)state;
    static const struct Case {
        int n;
        double x[12], y[12], spearman, kendall;
    } cases[] = {
        {6, {3, 1, 4, 1.5, 9, 2.6}, {2, 7, 1, 8, 2.8, 1.9}, -0.5428571428571429, -0.3333333333333333},
        {12, {1, 2, 2, 3, 3, 3, 7, 8, 8, 10, 10, 1}, {2, 1, 2, 5, 4, 4, 6, 8, 9, 9, 9, 1}, 0.9551182358670061, 0.890787755224979},
        {5, {1, 2, 3, 4, 5}, {10, 8, 6, 4, 2}, -1, -1},
        {4, {1e-9, 1, 1e9, 1e10}, {-4, -3, -2, 100}, 1, 1},
        {2, {1, 2}, {1, 2}, 1, 1},
        {4, {1, (double)INFINITY, 3, 2}, {1, 5, (double)INFINITY, 2}, 0.8, 0.6666666666666669},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Agreement a = of(cases[i].x, cases[i].y, cases[i].n, 3);
        near(a.spearman, cases[i].spearman);
        near(a.kendall, cases[i].kendall);
        assert_int_equal(a.n, cases[i].n);
    }
    enum { N = 500 };
    double x[N], y[N], rank[N];
    uint32_t s = 12345;
    for (int i = 0; i < N; i++) {
        uint32_t v[2];
        for (int k = 0; k < 2; k++) {
            s = (s * 1103515245u + 12345u) % 0x80000000u;
            v[k] = s >> 16;
        }
        x[i] = v[0] % 97;
        y[i] = v[0] % 97 + v[1] % 61;
    }
    Agreement a = of(x, y, N, 50);
    near(a.spearman, 0.8470731741841555);
    near(a.kendall, 0.6474875060880353);
    near(a.median_ratio, 1.6333333333333333);
    assert_true(a.tenth == 50 && a.both_tenth == 25 && a.top == 50 && a.both_top == 25);
    static const double ranks[] = {357.5, 492, 248.5, 240, 147.5};
    assert_int_equal(agree_ranks(x, N, rank, NULL), ST_OK);
    for (int i = 0; i < 5; i++)
        assert_true(rank[i] == ranks[i]);
}

/* Every pair looked at, as tau-b is defined. */
static double slow_kendall(const double *x, const double *y, int n)
{
    double sum = 0, tx = 0, ty = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            double dx = (x[i] > x[j]) - (x[i] < x[j]), dy = (y[i] > y[j]) - (y[i] < y[j]);
            sum += dx * dy;
            tx += dx != 0;
            ty += dy != 0;
        }
    return sum / sqrt(tx * ty);
}

static void properties_hold(void **state)
{
    (void)state;
    enum { N = 90 };
    double x[N], y[N], up[N], px[N], py[N];
    Rng rng = rng_new(9);
    for (int round = 0; round < 40; round++) {
        int n = 2 + (int)rng_below(&rng, N - 2), values = 2 + (int)rng_below(&rng, 40);
        for (int i = 0; i < n; i++) {
            x[i] = (double)rng_below(&rng, (uint64_t)values);
            y[i] = x[i] * (double)(round % 3) + (double)rng_below(&rng, 20);
            up[i] = exp(x[i] / 10) + 5;
        }
        x[0] = -1; /* neither is constant */
        y[0] = -1;
        up[0] = 0;
        Agreement a = of(x, y, n, 7), b = of(y, x, n, 7), c = of(up, y, n, 7), self = of(x, x, n, 7);
        near(a.kendall, slow_kendall(x, y, n));
        near(a.kendall, b.kendall); /* symmetric */
        near(a.spearman, b.spearman);
        assert_int_equal(a.both_tenth, b.both_tenth);
        near(c.spearman, a.spearman); /* only the order counts */
        near(c.kendall, a.kendall);
        near(self.spearman, 1);
        near(self.kendall, 1);
        assert_true(self.both_tenth == self.tenth && self.both_top == self.top);
        for (int i = 0; i < n; i++) { /* not where each stands */
            px[i] = x[n - 1 - i];
            py[i] = y[n - 1 - i];
        }
        near(of(px, py, n, 7).kendall, a.kendall);
        near(of(px, py, n, 7).spearman, a.spearman);
        for (int i = 0; i < n; i++)
            py[i] = -y[i];
        near(of(x, py, n, 7).kendall, -a.kendall);
    }
}

static void edges_are_defined(void **state)
{
    (void)state;
    const double nan = (double)NAN, x[] = {1, nan, 3, 2, nan}, y[] = {5, 1, 7, nan, nan}, flat[] = {4, 4, 4};
    Agreement a = of(x, y, 5, 3); /* two are known in both */
    assert_true(a.n == 2 && a.spearman == a.kendall && a.tenth == 1 && a.both_tenth == 1 && a.top == 2 && a.both_top == 2);
    near(a.spearman, 1);
    near(a.median_ratio, (5 + 7.0 / 3) / 2);
    a = of(x, y, 1, 3);
    assert_true(a.n == 1 && isnan(a.spearman) && isnan(a.kendall) && a.both_tenth == 1 && a.top == 1);
    a = of(x, y, 0, 3);
    assert_true(a.n == 0 && isnan(a.spearman) && isnan(a.kendall) && a.tenth == 0 && a.both_top == 0);
    a = of(flat, y, 3, 3);
    assert_true(isnan(a.spearman) && isnan(a.kendall));
    a = of(flat, flat, 3, 1);
    assert_true(isnan(a.spearman) && a.both_top == 1);
    double rank[5];
    assert_int_equal(agree_ranks(x, 5, rank, NULL), ST_OK);
    assert_true(rank[0] == 3 && isnan(rank[1]) && rank[2] == 1 && rank[3] == 2 && isnan(rank[4]));
    const double below[] = {-1, 0, -3};
    assert_true(isnan(of(below, flat, 3, 1).median_ratio));
    near(agree_jaccard(5, 10), 1.0 / 3);
    assert_true(agree_jaccard(4, 4) == 1 && agree_jaccard(0, 4) == 0 && isnan(agree_jaccard(0, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_scipy),
        cmocka_unit_test(properties_hold),
        cmocka_unit_test(edges_are_defined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
