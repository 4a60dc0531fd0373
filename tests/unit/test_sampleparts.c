#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "measure/spread.h"
#include "metric/sampleparts.h"

static bool near(double got, double want)
{
    return fabs(got - want) <= 1e-9 * fabs(want);
}

/* The same from all values at once. */
static void check(const double *x, int n, const UnitScore *u)
{
    double mean = 0, square = 0;
    int most = 0;
    for (int i = 0; i < n; i++) {
        mean += x[i] / n;
        most = x[i] > x[most] ? i : most;
    }
    for (int i = 0; i < n; i++)
        square += (x[i] - mean) * (x[i] - mean);
    assert_int_equal(u->samples, n);
    assert_true(near(u->sum / u->samples, mean));
    assert_true(n < 2 ? isnan(u->part[SAMPLE_ERROR]) : near(u->part[SAMPLE_ERROR], sqrt(square / (n - 1) / n)));
    assert_int_equal(u->part[SAMPLE_MOST], most);
    assert_true(near(u->part[SAMPLE_SHARE], 100 * x[most] / (mean * n)));
}

static void equals_all_values_at_once(void **state)
{
    (void)state;
    enum { N = 60 };
    double x[N];
    Rng rng = rng_new(4);
    UnitScore u = {0};
    for (int i = 0; i < N; i++) {
        x[i] = exp(8 * rng_unit(&rng)); /* a few are large */
        sample_add(&u, x[i], i);
        check(x, i + 1, &u);
    }
    assert_true(u.part[SAMPLE_ERROR] > 0 && u.part[SAMPLE_SHARE] < 100);
}

/* Drawing texts again and again says the same of the mean, but for its own noise: so the closed form stands for it. */
static void drawing_samples_says_the_same(void **state)
{
    (void)state;
    for (int n = 8; n <= 512; n *= 4) {
        UnitSums drawn;
        UnitScore u = {0};
        Rng rng = rng_new((uint64_t)n);
        assert_int_equal(unit_sums_init(&drawn, n, NULL), ST_OK);
        for (int i = 0; i < n; i++) {
            double x = exp(3 * rng_unit(&rng));
            sample_add(&u, x, i);
            drawn.sum[i] = x;
            drawn.count[i] = 1;
        }
        double want = unit_sums_error(&drawn, 42) * sqrt(n / (n - 1.0)); /* drawing counts the spread of n values as one of n */
        printf("# %d texts: %.4g closed, %.4g drawn\n", n, u.part[SAMPLE_ERROR], want);
        assert_true(fabs(u.part[SAMPLE_ERROR] / want - 1) < 0.1);
        unit_sums_fini(&drawn);
    }
}

static void goes_on_from_what_a_journal_has(void **state)
{
    (void)state;
    static const double x[] = {3, 1, 4, 1, 5, 9, 2, 6};
    UnitScore u = {0};
    for (int i = 0; i < 5; i++)
        sample_add(&u, x[i], i);
    UnitScore later = {.sum = u.sum, .samples = u.samples};
    memcpy(later.part, u.part, sizeof u.part);
    for (int i = 5; i < 8; i++) {
        sample_add(&u, x[i], i);
        sample_add(&later, x[i], i);
    }
    assert_memory_equal(&u.part, &later.part, 3 * sizeof *u.part);
    check(x, 8, &later);
}

static void edges_are_defined(void **state)
{
    (void)state;
    UnitScore u = {0};
    sample_add(&u, 0, 0);
    sample_add(&u, 0, 1);
    assert_true(u.part[SAMPLE_ERROR] == 0 && u.part[SAMPLE_MOST] == 0 && isnan(u.part[SAMPLE_SHARE]));
    sample_add(&u, 2, 2);
    assert_true(u.part[SAMPLE_MOST] == 2 && u.part[SAMPLE_SHARE] == 100);
    sample_add(&u, (double)NAN, 3);
    assert_true(isnan(u.sum) && isnan(u.part[SAMPLE_ERROR]));
    assert_true(errors_meet(3, 0.3, 2, 0.3) && !errors_meet(3, 0.2, 2, 0.2));
    assert_false(errors_meet(3, (double)NAN, 2.9, 1));
}

static void the_error_is_found_by_its_name(void **state)
{
    (void)state;
    static const MetricPart other[] = {{"rmse", "", ""}, {"error", "", ""}, {NULL, NULL, NULL}};
    Metric m = {.parts = sample_parts};
    assert_int_equal(metric_error_part(&m), SAMPLE_ERROR);
    m.parts = other;
    assert_int_equal(metric_error_part(&m), 1);
    m.parts = NULL;
    assert_int_equal(metric_error_part(&m), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_all_values_at_once),
        cmocka_unit_test(drawing_samples_says_the_same),
        cmocka_unit_test(goes_on_from_what_a_journal_has),
        cmocka_unit_test(edges_are_defined),
        cmocka_unit_test(the_error_is_found_by_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
