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
#include "math/rotation.h"
#include "math/svd.h"
#include "model/lowrank.h"
#include "tests/lib/npz.h"

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static float noise(Rng *r)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += rng_unit(r);
    return (float)sum;
}

/* ---- recorded ---- */

static void generator_is_the_known_one(void **state)
{
    (void)state;
    Twister t;
    float x[40], y[40];
    double sum = 0, squares = 0;
    twister_seed(&t, 5489);
    assert_true(twister_next(&t) == 3499211612u);
    for (int i = 1; i < 9999; i++)
        twister_next(&t);
    assert_true(twister_next(&t) == 4123659995u); /* the 10000th, as the C++ standard has it */
    twister_seed(&t, 42);
    twister_normal(&t, x, 32);
    twister_seed(&t, 42);
    twister_normal(&t, y, 40); /* the last 16 are drawn anew */
    assert_memory_equal(x, y, 24 * sizeof *x);
    for (int k = 0; k < 500; k++) {
        twister_normal(&t, x, 40);
        for (int i = 0; i < 40; i++) {
            sum += (double)x[i];
            squares += (double)x[i] * (double)x[i];
        }
    }
    assert_true(fabs(sum / 20000) < 0.03 && fabs(squares / 20000 - 1) < 0.05);
    twister_normal(&t, x, 3); /* few of them are had, too */
}

static void sketch_is_the_recorded_one(void **state)
{
    (void)state;
    static const char *const names[] = {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
    Npz *z = npz_open("tests/golden/outlier/svd_res.npz");
    Twister t;
    Error err = {0};
    twister_seed(&t, 42);
    for (int k = 0; k < 3; k++) {
        const NpyArray *w, *a;
        const float *W = npz_f32(z, &w, "before/%s.weight", names[k]);
        const float *want1 = npz_f32(z, &a, "after/%s.svd_lowrank_l1", names[k]);
        const float *want2 = npz_f32(z, NULL, "after/%s.svd_lowrank_l2", names[k]);
        const float *left = npz_f32(z, NULL, "after/%s.weight", names[k]);
        int64_t out = w->shape[0], in = w->shape[1], rank = a->shape[0];
        float *l1 = malloc((size_t)(rank * in) * sizeof *l1), *l2 = malloc((size_t)(out * rank) * sizeof *l2);
        assert_true(l1 && l2);
        ok(svd_sketch(W, out, in, rank, &t, l1, l2, &err), &err);
        for (int64_t r = 0; r < rank; r++) {
            double dot = 0;
            for (int64_t i = 0; i < in; i++)
                dot += (double)l1[r * in + i] * (double)want1[r * in + i];
            float sign = dot < 0 ? -1 : 1;
            for (int64_t i = 0; i < in; i++)
                if (!(fabsf(sign * l1[r * in + i] - want1[r * in + i]) < 2e-5f))
                    fail_msg("%s l1 [%lld,%lld]: %g, wanted %g", names[k], (long long)r, (long long)i, (double)(sign * l1[r * in + i]),
                             (double)want1[r * in + i]);
            for (int64_t o = 0; o < out; o++)
                if (!(fabsf(sign * l2[o * rank + r] - want2[o * rank + r]) < 2e-5f))
                    fail_msg("%s l2 [%lld,%lld]", names[k], (long long)o, (long long)r);
        }
        for (int64_t o = 0; o < out; o++)
            for (int64_t i = 0; i < in; i++) {
                double v = (double)W[o * in + i];
                for (int64_t r = 0; r < rank; r++)
                    v -= (double)l2[o * rank + r] * (double)l1[r * in + i];
                if (!(fabs(v - (double)left[o * in + i]) < 2e-6))
                    fail_msg("%s weight [%lld,%lld]: %g, wanted %g", names[k], (long long)o, (long long)i, v, (double)left[o * in + i]);
            }
        free(l1);
        free(l2);
    }
    npz_free(z);
}

/* ---- the best ---- */

enum { MOST = 90 };

/* Eigenvalues of a symmetric matrix by Jacobi's rotations, in falling order. */
static void eigenvalues(double *a, int n, double *value)
{
    for (int sweep = 0; sweep < 40; sweep++)
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++) {
                double apq = a[p * n + q];
                if (fabs(apq) < 1e-300)
                    continue;
                double theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
                double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1)), c = 1 / sqrt(t * t + 1), s = t * c;
                for (int i = 0; i < n; i++) {
                    double x = a[i * n + p], y = a[i * n + q];
                    a[i * n + p] = c * x - s * y;
                    a[i * n + q] = s * x + c * y;
                }
                for (int i = 0; i < n; i++) {
                    double x = a[p * n + i], y = a[q * n + i];
                    a[p * n + i] = c * x - s * y;
                    a[q * n + i] = s * x + c * y;
                }
            }
    for (int i = 0; i < n; i++)
        value[i] = a[i * n + i];
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++)
            if (value[j] > value[i]) {
                double v = value[i];
                value[i] = value[j];
                value[j] = v;
            }
}

static double left_over(const float *w, const float *l1, const float *l2, int out, int in, int rank)
{
    double sum = 0;
    for (int o = 0; o < out; o++)
        for (int i = 0; i < in; i++) {
            double v = (double)w[o * in + i];
            for (int r = 0; r < rank; r++)
                v -= (double)l2[o * rank + r] * (double)l1[r * in + i];
            sum += v * v;
        }
    return sum;
}

static void best_is_what_theory_says(void **state)
{
    (void)state;
    static const int sizes[][3] = {{40, 23, 5}, {23, 40, 5}, {31, 31, 31}, {1, 17, 1}, {90, 8, 8}, {8, 90, 3}, {64, 64, 1}};
    static float w[MOST * MOST], l1[MOST * MOST], l2[MOST * MOST], p1[MOST * MOST], p2[MOST * MOST];
    static double g[MOST * MOST], value[MOST];
    Error err = {0};
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        int out = sizes[k][0], in = sizes[k][1], rank = sizes[k][2], n = out < in ? out : in;
        Rng r = rng_new(k);
        double tail = 0, all = 0;
        for (int i = 0; i < out * in; i++) {
            w[i] = noise(&r) + (i % in < 2 ? 2 : 0);
            all += (double)w[i] * (double)w[i];
        }
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                g[i * n + j] = 0;
                for (int t = 0; t < (out < in ? in : out); t++)
                    g[i * n + j] += out < in ? (double)w[i * in + t] * (double)w[j * in + t] : (double)w[t * in + i] * (double)w[t * in + j];
            }
        eigenvalues(g, n, value);
        for (int i = rank; i < n; i++)
            tail += value[i];
        ok(svd_best(w, out, in, rank, l1, l2, &err), &err);
        double left = left_over(w, l1, l2, out, in, rank);
        if (!(fabs(left - tail) < 1e-6 * all))
            fail_msg("%d x %d rank %d: %.9g is left, %.9g wanted", out, in, rank, left, tail);
        for (int a = 0; a < rank; a++) {
            float most = 0;
            double length = 0;
            for (int i = 0; i < in; i++)
                most = fabsf(l1[a * in + i]) > fabsf(most) ? l1[a * in + i] : most;
            for (int o = 0; o < out; o++)
                length += (double)l2[o * rank + a] * (double)l2[o * rank + a];
            assert_true(most > 0 && fabs(length - value[a]) < 1e-5 * value[0]);
            for (int b = 0; b <= a; b++) {
                double dot = 0;
                for (int i = 0; i < in; i++)
                    dot += (double)l1[a * in + i] * (double)l1[b * in + i];
                assert_true(fabs(dot - (a == b)) < 1e-5);
            }
        }
        Twister t;
        twister_seed(&t, 42);
        ok(svd_sketch(w, out, in, rank, &t, p1, p2, &err), &err);
        assert_true(left_over(w, p1, p2, out, in, rank) >= left - 1e-6 * all); /* the sketch is no better */
    }
}

static void nothing_has_a_best_part(void **state)
{
    (void)state;
    static float w[20 * 6], l1[2 * 20], l2[2 * 20];
    Error err = {0};
    for (int turned = 0; turned < 2; turned++) {
        ok(svd_best(w, turned ? 6 : 20, turned ? 20 : 6, 2, l1, l2, &err), &err);
        for (int i = 0; i < 2 * (turned ? 6 : 20); i++)
            assert_true(l2[i] == 0);
        for (int i = 0; i < 2 * (turned ? 20 : 6); i++)
            assert_true(isfinite(l1[i]));
    }
    assert_int_equal(svd_best(w, 20, 6, 7, l1, l2, &err), ST_INTERNAL);
}

/* ---- as a part of a weight ---- */

enum { OUT = 70, IN = 24, LOW = 3 };

static LowRank *some_part(uint64_t seed, DType stored)
{
    Rng r = rng_new(seed);
    LowRank *l;
    Error err = {0};
    float *l1 = malloc(LOW * IN * sizeof *l1), *l2 = malloc(OUT * LOW * sizeof *l2);
    assert_true(l1 && l2);
    for (int i = 0; i < LOW * IN; i++)
        l1[i] = noise(&r);
    for (int i = 0; i < OUT * LOW; i++)
        l2[i] = noise(&r);
    ok(lowrank_new(&l, OUT, IN, LOW, l1, l2, stored, &err), &err);
    return l;
}

static double value_of(const LowRank *l, int o, int i)
{
    double v = 0;
    for (int k = 0; k < LOW; k++)
        v += (double)l->l2[o * LOW + k] * (double)l->l1[k * IN + i];
    return v;
}

static void edits_are_those_of_the_product(void **state)
{
    (void)state;
    Error err = {0};
    Rotation *r, *q;
    float in[IN], out[OUT], scratch[4096];
    static float w[OUT * IN];
    ok(rotation_hadamard(&r, 8, -1, &err), &err);
    ok(rotation_hadamard(&q, 2, -1, &err), &err);
    for (int i = 0; i < IN; i++)
        in[i] = 1 + (float)i / 7;
    for (int o = 0; o < OUT; o++)
        out[o] = 2 - (float)o / 99;
    assert_true(rotation_bytes(r) <= sizeof scratch && rotation_bytes(q) <= sizeof scratch);
    for (int kind = 0; kind < 4; kind++) {
        static const ChainKind kinds[] = {CHAIN_COLS, CHAIN_ROWS, CHAIN_RIGHT, CHAIN_LEFT};
        LowRank *l = some_part(3, DT_F32), *was = lowrank_share(l);
        for (int o = 0; o < OUT; o++)
            for (int i = 0; i < IN; i++)
                w[o * IN + i] = (float)value_of(l, o, i) * (kind == 0 ? in[i] : kind == 1 ? out[o] : 1);
        if (kind == 2)
            rotation_right(r, w, OUT, IN, IN, scratch);
        if (kind == 3)
            rotation_left(q, w, OUT, IN, IN, scratch);
        ok(lowrank_edit(&l, kinds[kind], kind == 0 ? in : kind == 1 ? out : NULL, kind == 2 ? r : kind == 3 ? q : NULL, &err), &err);
        assert_ptr_not_equal(l, was); /* other owners keep theirs */
        for (int o = 0; o < OUT; o++)
            for (int i = 0; i < IN; i++)
                assert_true(fabs(value_of(l, o, i) - (double)w[o * IN + i]) < 1e-4);
        lowrank_free(l);
        lowrank_free(was);
    }
    LowRank *none = NULL;
    ok(lowrank_edit(&none, CHAIN_COLS, in, NULL, &err), &err);
    assert_null(none);
    rotation_free(r);
    rotation_free(q);
}

static void taking_out_is_a_subtraction(void **state)
{
    (void)state;
    static float w[OUT * IN], x[OUT * IN];
    LowRank *l = some_part(9, DT_BF16);
    Rng r = rng_new(1);
    float *scratch = aligned_alloc(64, (lowrank_scratch(IN, LOW) * sizeof *scratch + 63) / 64 * 64);
    assert_non_null(scratch);
    for (int i = 0; i < OUT * IN; i++)
        w[i] = noise(&r);
    memcpy(x, w, sizeof w);
    lowrank_take(l, math_fast(), DT_F32, 3, OUT - 3, x + 3 * IN, scratch);
    for (int o = 3; o < OUT; o++)
        for (int i = 0; i < IN; i++)
            assert_true(fabs((double)w[o * IN + i] - value_of(l, o, i) - (double)x[o * IN + i]) < 1e-5);
    edit_round(math_fast(), DT_BF16, w, OUT * IN);
    memcpy(x, w, sizeof w);
    lowrank_take(l, math_fast(), DT_BF16, 0, OUT, x, scratch);
    int off = 0;
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) {
            float p = (float)value_of(l, o, i), v;
            edit_round(math_fast(), DT_BF16, &p, 1);
            v = w[o * IN + i] - p;
            edit_round(math_fast(), DT_BF16, &v, 1);
            off += v != x[o * IN + i];
        }
    assert_true(off < 4); /* a product on the edge between two values */
    free(scratch);
    lowrank_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generator_is_the_known_one),     cmocka_unit_test(sketch_is_the_recorded_one),
        cmocka_unit_test(best_is_what_theory_says),       cmocka_unit_test(nothing_has_a_best_part),
        cmocka_unit_test(edits_are_those_of_the_product), cmocka_unit_test(taking_out_is_a_subtraction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
