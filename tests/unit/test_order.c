/* Sampled order statistics against a plain qsort, and the fast kernels against the scalar ones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stat/kernel.h"
#include "stat/order.h"

static uint64_t rng_state;

static double uniform(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return ((double)(rng_state >> 11) + 0.5) * 0x1p-53;
}

static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

enum Fill { NORMAL, HEAVY, MASSIVE, BF16, F16_LIKE, TIES, ZEROS, HALF_ZERO, CONSTANT, POSITIVE, TINY, HUGE_VALUES,
           WIDE, FILLS };
static const char *const fill_name[] = {"normal", "heavy tails", "massive outlier", "bf16", "10-bit mantissa",
                                        "few distinct", "all zero", "half zero", "constant", "positive", "denormal",
                                        "near the float maximum", "all exponents"};

static float cut(float x, uint32_t mask)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    u &= mask;
    memcpy(&x, &u, 4);
    return x;
}

static void fill(float *x, int64_t n, enum Fill f)
{
    for (int64_t i = 0; i < n; i++) {
        double v = normal();
        switch (f) {
        case HEAVY: v = v * v * v * 3 + 0.1; break;
        case MASSIVE: v = i % 1009 == 5 ? 9000 + v : v * 0.01; break;
        case BF16: v = cut((float)v, 0xffff0000u); break;
        case F16_LIKE: v = cut((float)v, 0xffffe000u); break;
        case TIES: v = floor(v * 3) * 0.1; break;
        case ZEROS: v = 0; break;
        case HALF_ZERO: v = v < 0 ? 0 : v; break;
        case CONSTANT: v = 0.1; break;
        case POSITIVE: v = 3 + 0.2 * v; break;
        case TINY: v = v * 1e-40; break;
        case HUGE_VALUES: v = fmax(-3.4e38, fmin(3.4e38, v * 1.5e38)); break;
        case WIDE: v = (v < 0 ? -1 : 1) * exp(170 * (uniform() - 0.5)); break;
        default: break;
        }
        x[i] = (float)v;
    }
}

static int cmp_float(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The definition: sort, take sorted[50], sorted[150], … */
static int64_t reference(const float *x, int64_t n, float *out)
{
    float *s = malloc((size_t)(n + 1) * sizeof *s);
    memcpy(s, x, (size_t)n * sizeof *s);
    qsort(s, (size_t)n, sizeof *s, cmp_float);
    int64_t k = 0;
    if (n < 100)
        for (int64_t i = 0; i < n; i++)
            out[k++] = s[i];
    else
        for (int64_t i = 50; i < n; i += 100)
            out[k++] = s[i];
    free(s);
    return k;
}

static double plain_kurtosis(const float *v, int64_t n)
{
    double m = 0, s2 = 0, s4 = 0;
    for (int64_t i = 0; i < n; i++)
        m += (double)v[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        s2 += pow((double)v[i] - m, 2) / (double)n;
    for (int64_t i = 0; i < n; i++)
        s4 += pow(((double)v[i] - m) / (sqrt(s2) + 1e-10), 4) / (double)n;
    return s4 - 3;
}

static double plain_quantile(const float *v, int64_t n)
{
    float *s = malloc((size_t)n * sizeof *s);
    memcpy(s, v, (size_t)n * sizeof *s);
    qsort(s, (size_t)n, sizeof *s, cmp_float);
    float top = fmaxf(fabsf(s[0]), fabsf(s[n - 1]));
    float q = 2.0f * top / 254.0f / ((s[3 * (n / 4)] - s[n / 4]) + 1e-10f);
    free(s);
    return (double)q;
}

static double relative(double a, double b)
{
    return a == b ? 0 : fabs(a - b) / fmax(fabs(b), 1e-300);
}

/* Runs the fast way over a [rows][width] array with a gap after each row. */
static void pick(OrderScratch *s, const StatKernels *k, const float *x, int64_t rows, int64_t width, int64_t ld,
                 bool tiny, int64_t exact_max, float *out)
{
    Error err;
    ScanSums sums = SCAN_START;
    for (int64_t r = 0; r < rows; r++)
        k->scan(x + r * ld, width, &sums);
    assert_int_equal(order_count(s, k, x, rows, width, ld, &sums, &err), ST_OK);
    assert_int_equal(order_pick(s, k, x, rows, width, ld, tiny, exact_max, out, &err), ST_OK);
}

static void picks_equal_sorting(void **state)
{
    (void)state;
    static const struct {
        int64_t rows, width;
    } shape[] = {{1, 1}, {1, 2}, {1, 3}, {3, 33}, {4, 25}, {1, 101}, {3, 50}, {1, 199}, {8, 25}, {7, 293}, {32, 64},
                 {61, 67}, {97, 103}, {128, 256}, {500, 200}, {331, 307}, {521, 1024}};
    OrderScratch s = {0};
    rng_state = 88172645463325252u;
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        int64_t n = shape[i].rows * shape[i].width, ld = shape[i].width + (i % 3 == 2 ? 5 : 0);
        float *x = malloc((size_t)n * sizeof *x), *gap = malloc((size_t)(shape[i].rows * ld) * sizeof *x);
        float *want = malloc((size_t)(n + 1) * sizeof *x), *got = malloc((size_t)(n + 1) * sizeof *x);
        for (int f = 0; f < FILLS; f++) {
            fill(x, n, (enum Fill)f);
            for (int64_t r = 0; r < shape[i].rows; r++)
                memcpy(gap + r * ld, x + r * shape[i].width, (size_t)shape[i].width * sizeof *x);
            int64_t nw = reference(x, n, want);
            assert_int_equal(nw, order_count_of(n));
            const StatKernels *k = i % 2 ? stat_table(MATH_REFERENCE) : stat_kernels();
            pick(&s, k, gap, shape[i].rows, shape[i].width, ld, f % 2, INT64_MAX, got);
            for (int64_t j = 0; j < nw; j++)
                if (got[j] != want[j])
                    fail_msg("%s n %lld: rank %lld is %.9g, sorted %.9g", fill_name[f], (long long)n, (long long)j,
                             (double)got[j], (double)want[j]);
        }
        free(x);
        free(gap);
        free(want);
        free(got);
    }
    order_scratch_fini(&s);
}

/* Above exact_max the body is interpolated: the scores stay put. */
static void large_samples_interpolate_the_body(void **state)
{
    (void)state;
    enum { N = 1100000 };
    OrderScratch s = {0};
    float *x = malloc(N * sizeof *x), *want = malloc(N * sizeof *x), *got = malloc(N * sizeof *x);
    double worst_k = 0, worst_q = 0;
    rng_state = 4711;
    for (int f = 0; f < FILLS; f++) {
        fill(x, N, (enum Fill)f);
        int64_t n = reference(x, N, want);
        pick(&s, stat_kernels(), x, 1100, 1000, 1000, false, ORDER_EXACT_MAX, got);
        OrderList a = {want, n}, b = {got, n};
        double dk = relative(order_kurtosis(&b, 1), order_kurtosis(&a, 1)),
            dq = relative(order_quantile(&b, 1), order_quantile(&a, 1));
        printf("# %-24s kurtosis %12.6g differs by %.1e, quantile by %.1e\n", fill_name[f], order_kurtosis(&a, 1), dk,
               dq);
        if (fabs(order_kurtosis(&a, 1)) > 0.05) /* relative to a score near 0 says nothing */
            worst_k = fmax(worst_k, dk);
        worst_q = fmax(worst_q, dq);
    }
    printf("# worst: kurtosis %.1e, quantile %.1e\n", worst_k, worst_q);
    assert_true(worst_k < 6e-6);
    assert_true(worst_q == 0);
    free(x);
    free(want);
    free(got);
    order_scratch_fini(&s);
}

static void scores_of_lists_match_the_definition(void **state)
{
    (void)state;
    enum { N = 5000, LISTS = 5 };
    static const int64_t cutpoint[LISTS + 1] = {0, 1, 1, 900, 907, N};
    float *x = malloc(N * sizeof *x);
    rng_state = 99;
    for (int f = 0; f < FILLS; f++) {
        if (f == HUGE_VALUES || f == WIDE || f == TINY)
            continue; /* powers overflow, or vanish beside 1e-10, in the definition too */
        fill(x, N, (enum Fill)f);
        OrderList l[LISTS];
        double k = plain_kurtosis(x, N), q = plain_quantile(x, N);
        for (int i = 0; i < LISTS; i++) {
            l[i] = (OrderList){x + cutpoint[i], cutpoint[i + 1] - cutpoint[i]};
            qsort(x + cutpoint[i], (size_t)l[i].n, sizeof *x, cmp_float);
        }
        if (relative(order_kurtosis(l, LISTS), k) > 1e-9 || relative(order_quantile(l, LISTS), q) > 0)
            fail_msg("%s: kurtosis %.12g want %.12g, quantile %.12g want %.12g", fill_name[f],
                     order_kurtosis(l, LISTS), k, order_quantile(l, LISTS), q);
    }
    free(x);
}

/* specs/analysis.md 2.2, edges. */
static void scores_of_few_values(void **state)
{
    (void)state;
    const float one[] = {0.7f}, two[] = {-1, 5}, three[] = {1, 2, 3}, flat[] = {1e6f, 1e6f, 1e6f, 1e6f}, zero[5] = {0};
    assert_true(isnan(order_kurtosis(NULL, 0)));
    assert_true(isnan(order_quantile(NULL, 0)));
    assert_true(order_kurtosis(&(OrderList){one, 1}, 1) == -3);
    assert_true(order_kurtosis(&(OrderList){flat, 4}, 1) == -3);
    assert_true(fabs(order_kurtosis(&(OrderList){two, 2}, 1) + 2) < 1e-9);
    assert_true(fabs(order_kurtosis(&(OrderList){three, 3}, 1) + 1.5) < 1e-9);
    assert_true(fabs(order_quantile(&(OrderList){three, 3}, 1) / (2.0 * 3 / 254 / 1e-10) - 1) < 1e-6);
    assert_true(order_quantile(&(OrderList){zero, 5}, 1) == 0);
}

static void histogram_counts_every_value(void **state)
{
    (void)state;
    OrderScratch s = {0};
    uint64_t *got = malloc(65536 * sizeof *got), *want = malloc(65536 * sizeof *want);
    static const int64_t rows[] = {1, 13, 40, 900};
    float *x = malloc(900 * 250 * sizeof *x), *out = malloc(900 * 250 * sizeof *x);
    rng_state = 5;
    for (int f = 0; f < FILLS; f++)
        for (int i = 0; i < 4; i++) {
            int64_t n = rows[i] * 250;
            fill(x, n, (enum Fill)f);
            memset(got, 0, 65536 * sizeof *got);
            memset(want, 0, 65536 * sizeof *want);
            for (int64_t j = 0; j < n; j++) {
                uint32_t u;
                memcpy(&u, &x[j], 4);
                want[u >> 16]++;
            }
            pick(&s, stat_kernels(), x, rows[i], 250, 250, true, 100000, i % 2 ? out : NULL);
            order_hist(&s, got);
            for (int k = 0; k < 65536; k++)
                if (got[k] != want[k])
                    fail_msg("%s n %lld: key %04x has %llu, want %llu", fill_name[f], (long long)n, (unsigned)k,
                             (unsigned long long)got[k], (unsigned long long)want[k]);
        }
    free(got);
    free(want);
    free(x);
    free(out);
    order_scratch_fini(&s);
}

static void give_the_scalar_bits(const StatKernels *fast)
{
    const StatKernels *slow = stat_table(MATH_REFERENCE);
    rng_state = 31337;
    for (int turn = 0; turn < 200; turn++) {
        int64_t rows = 1 + (int64_t)(uniform() * 40), width = 1 + (int64_t)(uniform() * 700), ld = width + turn % 3;
        float *x = malloc((size_t)(rows * ld) * sizeof *x), *m = malloc((size_t)width * sizeof *m);
        fill(x, rows * ld, (enum Fill)(turn % FILLS == HUGE_VALUES ? NORMAL : turn % FILLS));
        fill(m, width, NORMAL);
        float *f = calloc((size_t)(width * 8 + rows * 4), sizeof *f);
        double *d = calloc((size_t)width * 2, sizeof *d), s[4] = {0};
        float *a[2] = {f, f + width * 4}, *rm[2] = {f + width * 8, f + width * 8 + rows};
        for (int v = 0; v < 2; v++) {
            const StatKernels *k = v ? fast : slow;
            k->columns(x, rows, width, ld, a[v], a[v] + width, d + v * width, rm[v]);
            k->shift(x, width, m, 0.25f, &s[2 * v], &s[2 * v + 1]);
        }
        assert_memory_equal(a[0], a[1], (size_t)(2 * width) * sizeof *f);
        assert_memory_equal(rm[0], rm[1], (size_t)rows * sizeof *f);
        assert_memory_equal(d, d + width, (size_t)width * sizeof *d);
        assert_memory_equal(s, s + 2, 2 * sizeof *s);
        memset(f, 0, (size_t)(width * 8) * sizeof *f);
        float *s8 = rm[0], *s4 = rm[1];
        for (int64_t r = 0; r < rows; r++) {
            s8[r] = 0.01f + (float)r;
            s4[r] = 0.2f + (float)r;
        }
        for (int v = 0; v < 2; v++)
            (v ? fast : slow)->weight(x, rows, width, s8, s4, a[v], a[v] + width, a[v] + 2 * width);
        assert_memory_equal(a[0], a[1], (size_t)(3 * width) * sizeof *f);
        ScanSums sum[2] = {SCAN_START, SCAN_START};
        slow->scan(x, rows * ld, &sum[0]);
        fast->scan(x, rows * ld, &sum[1]);
        assert_memory_equal(&sum[0], &sum[1], sizeof sum[0]);
        free(x);
        free(m);
        free(f);
        free(d);
    }
}

static void fast_kernels_give_the_scalar_bits(void **state)
{
    (void)state;
    for (int l = MATH_GENERIC; l < MATH_LEVELS; l++)
        if (stat_table((MathLevel)l))
            give_the_scalar_bits(stat_table((MathLevel)l));
}

/* Buckets picked nowhere, everywhere, in both tails, around some values, one here and there; samples too short for any
 * short cut, and long ones. */
static void filters_and_selections_give_the_scalar_values(void **state)
{
    (void)state;
    enum { MOST = 50000, BUCKETS = 2 * (12 << 9) + 2 };
    const StatKernels *slow = stat_table(MATH_REFERENCE);
    const KeyMap map = {.base = (120u << 23) - (1u << 14), .shift = 14, .half = (12 << 9) + 1};
    float *x = malloc(MOST * sizeof *x), *want = malloc((MOST + 1) * sizeof *want), *got = malloc((MOST + 1) * sizeof *got);
    uint32_t *bits = malloc((BUCKETS / 32 + 1) * sizeof *bits);
    rng_state = 4711;
    for (int turn = 0; turn < 60; turn++) {
        int64_t n = turn % 3 ? 15000 + (int64_t)(uniform() * 35000) : (int64_t)(uniform() * 300);
        fill(x, n, turn % 4 == 3 ? TIES : NORMAL);
        for (int64_t i = 0; i < n; i += 97)
            x[i] = i % 2 ? 0.0f : -0.0f;
        memset(bits, turn % 6 == 1 ? 255 : 0, (BUCKETS / 32 + 1) * sizeof *bits);
        for (int b = 0; b < BUCKETS && turn % 6 > 1; b++) {
            float near = (float)b / BUCKETS;
            bool set = turn % 6 == 2   ? near < 0.3f || near > 0.8f
                       : turn % 6 == 3 ? fabsf(near - 0.37f) < 0.01f || fabsf(near - 0.64f) < 0.02f
                       : turn % 6 == 4 ? uniform() < 0.01
                                       : (near < 0.25f || b == map.half || b == map.half - 1) && uniform() < 0.5;
            bits[b / 32] |= (uint32_t)set << b % 32;
        }
        int64_t hits = slow->filter(x, n, map, bits, want);
        for (int l = MATH_GENERIC; l < MATH_LEVELS; l++) {
            const StatKernels *k = stat_table((MathLevel)l);
            if (!k)
                continue;
            assert_int_equal(k->filter(x, n, map, bits, got), hits);
            assert_memory_equal(got, want, (size_t)hits * sizeof *got);
            for (int m = 1; m <= STAT_SELECT_MAX && m <= n; m++) {
                float a = k->select(x + n - m, m, m * 2 / 3), b = slow->select(x + n - m, m, m * 2 / 3);
                assert_true(a == b);
            }
        }
    }
    free(x);
    free(want);
    free(got);
    free(bits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picks_equal_sorting),
        cmocka_unit_test(large_samples_interpolate_the_body),
        cmocka_unit_test(scores_of_lists_match_the_definition),
        cmocka_unit_test(scores_of_few_values),
        cmocka_unit_test(histogram_counts_every_value),
        cmocka_unit_test(fast_kernels_give_the_scalar_bits),
        cmocka_unit_test(filters_and_selections_give_the_scalar_values),
    };
    return cmocka_run_group_tests_name("order", tests, NULL, NULL);
}
