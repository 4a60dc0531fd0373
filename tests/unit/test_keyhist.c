/* Key histograms: sparse form, merging, bins and quantiles, against counts made one by one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stat/keyhist.h"

static uint16_t key_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return (uint16_t)(u >> 16);
}

static KeyHist hist_of(const float *x, int n)
{
    static uint64_t dense[65536];
    memset(dense, 0, sizeof dense);
    for (int i = 0; i < n; i++)
        dense[key_of(x[i])]++;
    KeyHist h;
    Error err;
    assert_int_equal(keyhist_from_counts(&h, dense, &err), ST_OK);
    return h;
}

static void keys_come_by_value_and_nans_apart(void **state)
{
    (void)state;
    const float x[] = {3, -2, 0, -0.0f, 1e-40f, -1e-40f, INFINITY, -INFINITY, NAN, -NAN, 3, -2.5f};
    KeyHist h = hist_of(x, 12);
    assert_int_equal(h.total, 10);
    assert_int_equal(h.nan, 2);
    float last = -INFINITY;
    for (int i = 0; i < h.n; i++) {
        float lo, hi;
        keyhist_range(h.key[i], &lo, &hi);
        assert_true(lo <= hi && lo >= last);
        last = lo;
    }
    assert_int_equal(h.key[0], key_of(-INFINITY));
    assert_int_equal(h.key[h.n - 1], key_of(INFINITY));
    assert_int_equal(h.count[h.n - 2], 2);
    keyhist_fini(&h);
    assert_int_equal(h.n, 0);
}

static void every_key_holds_its_values(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 65536; k++) {
        if ((k & 0x7fff) > 0x7f80)
            continue;
        float lo, hi;
        keyhist_range((uint16_t)k, &lo, &hi);
        assert_true(lo <= hi);
        assert_int_equal(key_of(lo), k);
        assert_int_equal(key_of(hi), k);
    }
}

static void adding_is_counting_together(void **state)
{
    (void)state;
    float x[400];
    for (int i = 0; i < 400; i++)
        x[i] = (float)((i * 7919) % 613 - 300) * 0.37f;
    KeyHist a = hist_of(x, 150), b = hist_of(x + 150, 250), all = hist_of(x, 400), none = {0}, copy;
    Error err;
    assert_int_equal(keyhist_add(&a, &b, &err), ST_OK);
    assert_int_equal(keyhist_add(&a, &none, &err), ST_OK);
    assert_int_equal(keyhist_add(&none, &a, &err), ST_OK);
    assert_int_equal(keyhist_copy(&copy, &none, &err), ST_OK);
    for (int t = 0; t < 3; t++) {
        const KeyHist *h = t == 0 ? &a : t == 1 ? &none : &copy;
        assert_int_equal(h->n, all.n);
        assert_int_equal(h->total, 400);
        assert_memory_equal(h->key, all.key, (size_t)all.n * sizeof *all.key);
        assert_memory_equal(h->count, all.count, (size_t)all.n * sizeof *all.count);
    }
    keyhist_fini(&a);
    keyhist_fini(&b);
    keyhist_fini(&all);
    keyhist_fini(&none);
    keyhist_fini(&copy);
}

static void bins_keep_the_mass(void **state)
{
    (void)state;
    float x[1000];
    for (int i = 0; i < 1000; i++)
        x[i] = (float)(i - 500) * 0.01f;
    KeyHist h = hist_of(x, 1000);
    double out[20], below, above, sum = 0;
    keyhist_bins(&h, -2, 2, 20, out, &below, &above);
    for (int i = 0; i < 20; i++) {
        sum += out[i];
        assert_true(fabs(out[i] - 20) < 2.5); /* keys are 2^-8 of a value wide */
    }
    assert_true(fabs(sum + below + above - 1000) < 1e-6);
    assert_true(fabs(below - 300) < 3 && fabs(above - 300) < 3);
    keyhist_bins(&h, 1, 1, 1, out, &below, &above); /* an empty range loses nothing either */
    assert_true(fabs(out[0] + below + above - 1000) < 1e-6);
    keyhist_bins(&h, -2, 2, 20, out, NULL, NULL);
    keyhist_fini(&h);
    const float far[] = {INFINITY, -INFINITY, 2};
    h = hist_of(far, 3);
    keyhist_bins(&h, 0, 4, 4, out, &below, &above);
    assert_true(below == 1 && above == 1 && out[2] == 1);
    keyhist_fini(&h);
}

static void quantiles_lie_within_a_key(void **state)
{
    (void)state;
    float x[1001];
    for (int i = 0; i < 1001; i++)
        x[i] = (float)(i - 300) * 0.5f;
    KeyHist h = hist_of(x, 1001), none = {0};
    for (int i = 1; i < 100; i++) {
        double want = (double)x[i * 10], got = keyhist_quantile(&h, i / 100.0);
        assert_true(fabs(got - want) <= fabs(want) / 100 + 0.51);
    }
    assert_true(keyhist_quantile(&h, 0) == keyhist_quantile(&h, -1));
    assert_true(fabs(keyhist_quantile(&h, 0) / (double)x[0] - 1) < 0.01);
    assert_true(fabs(keyhist_quantile(&h, 1) / (double)x[1000] - 1) < 0.01);
    assert_true(isnan(keyhist_quantile(&none, 0.5)));
    keyhist_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_come_by_value_and_nans_apart),
        cmocka_unit_test(every_key_holds_its_values),
        cmocka_unit_test(adding_is_counting_together),
        cmocka_unit_test(bins_keep_the_mass),
        cmocka_unit_test(quantiles_lie_within_a_key),
    };
    return cmocka_run_group_tests_name("keyhist", tests, NULL, NULL);
}
