#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "process/adaptfind.h"
#include "tests/lib/folded.h"
#include "tests/lib/npz.h"

/* adapt_rotation: the search against the original's matrices, and by what a rotation is. */

enum { N = 32 };

static const char file[] = "tests/golden/outlier/adapt_rotation.npz";

static void *room(int64_t n, size_t size)
{
    void *p = mem_aligned((size_t)n, size);
    assert_non_null(p);
    return p;
}

/* The activations of both layers, one behind the other. */
static float *golden_acts(const Npz *z, int64_t *rows)
{
    const NpyArray *a, *b;
    const float *l0 = npz_f32(z, &a, "l0"), *l1 = npz_f32(z, &b, "l1");
    float *x = room(a->count + b->count, sizeof *x);
    memcpy(x, l0, (size_t)a->count * sizeof *x);
    memcpy(x + a->count, l1, (size_t)b->count * sizeof *x);
    *rows = (a->count + b->count) / N;
    return x;
}

static Rotation *start(void)
{
    Rotation *r;
    assert_int_equal(rotation_hadamard(&r, N, -1, NULL), ST_OK);
    return r;
}

static double deviation(const float *m, int64_t n)
{
    double worst;
    assert_int_equal(adapt_deviation(m, n, NULL, &worst, NULL), ST_OK);
    return worst;
}

/* Mean loss of rounding x h. */
static double loss_of(const float *x, int64_t rows, const float *h, int bits)
{
    float *y = room(rows * N, sizeof *y), *q = room(rows * N, sizeof *q);
    double s = 0;
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < N; j++) {
            double v = 0;
            for (int k = 0; k < N; k++)
                v += (double)x[i * N + k] * (double)h[k * N + j];
            y[i * N + j] = (float)v;
        }
    adapt_round(y, rows, N, bits, q);
    for (int64_t i = 0; i < rows * N; i++)
        s += ((double)y[i] - (double)q[i]) * ((double)y[i] - (double)q[i]);
    free(y);
    free(q);
    return sqrt(s) / (double)(rows * N);
}

static void test_rounding(void **state)
{
    (void)state;
    Npz *z = npz_open(file);
    const NpyArray *a;
    const float *in = npz_f32(z, &a, "q_in"), *want = npz_f32(z, NULL, "q_int4");
    float *q = room(a->count, sizeof *q);
    adapt_round(in, a->shape[0], a->shape[1], 4, q);
    assert_memory_equal(q, want, (size_t)a->count * sizeof *q);
    free(q);
    npz_free(z);
}

static void test_original(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int bits, steps;
    } all[] = {{"H_int4_1", 4, 1}, {"H_int4_20", 4, 20}, {"H_int8_1", 8, 1}, {"H_int8_20", 8, 20}};
    Npz *z = npz_open(file);
    Rotation *r = start();
    float *h = room(N * N, sizeof *h);
    assert_int_equal(rotation_rows(r, h, NULL), ST_OK);
    const float *r0 = npz_f32(z, NULL, "R0");
    for (int i = 0; i < N * N; i++)
        assert_true(fabsf(h[i] - r0[i]) < 1e-7f);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int peer = 0; peer < 2; peer++) {
            const float *want = npz_f32(z, NULL, "%s", all[i].name);
            int64_t rows;
            float *x = golden_acts(z, &rows), *keep = golden_acts(z, &rows), worst = 0;
            const AdaptTask t = {.acts = x, .rows = rows, .n = N, .start = r, .bits = all[i].bits, .steps = all[i].steps,
                                 .peer = peer};
            assert_int_equal(adapt_find(&t, h, NULL), ST_OK);
            for (int j = 0; j < N * N; j++)
                worst = fmaxf(worst, fabsf(h[j] - want[j]));
            if (peer && worst > 2e-5f)
                fail_msg("%s: %g off", all[i].name, (double)worst);
            assert_true(deviation(h, N) < 2e-6);
            double ours = loss_of(keep, rows, h, all[i].bits), theirs = loss_of(keep, rows, want, all[i].bits);
            if (ours > 1.02 * theirs)
                fail_msg("%s: loses %g, the original %g", all[i].name, ours, theirs);
            free(x);
            free(keep);
        }
    free(h);
    rotation_free(r);
    npz_free(z);
}

/* Fewer rows than dimensions, one row, none that isn't zero: a rotation all the same, which leaves alone what nobody
 * looks at. */
static void test_few_rows(void **state)
{
    (void)state;
    Npz *z = npz_open(file);
    Rotation *r = start();
    float *h = room(N * N, sizeof *h), *r0 = room(N * N, sizeof *r0);
    assert_int_equal(rotation_rows(r, r0, NULL), ST_OK);
    for (int few = 0; few <= 4; few++) {
        int64_t rows;
        float *x = golden_acts(z, &rows);
        if (few == 0)
            memset(x, 0, N * sizeof *x);
        const AdaptTask t = {.acts = x, .rows = few ? few : 1, .n = N, .start = r, .bits = 4, .steps = 20};
        Error err = {0};
        if (adapt_find(&t, h, &err) != ST_OK)
            fail_msg("%d rows: %s", few, err.text);
        assert_true(deviation(h, N) < 2e-6);
        double moved = 0; /* trace of R0' H: N where nothing was turned, at most 2 less for each direction that was */
        for (int i = 0; i < N * N; i++)
            moved += (double)h[i] * (double)r0[i];
        if (moved < N - 4.0 * few - 1e-3)
            fail_msg("%d rows turned everything: trace %g", few, moved);
        free(x);
    }
    free(h);
    free(r0);
    rotation_free(r);
    npz_free(z);
}

static void test_threads(void **state)
{
    (void)state;
    enum { WIDE = 384, ROWS = 500 };
    Rotation *r;
    assert_int_equal(rotation_hadamard(&r, WIDE, -1, NULL), ST_OK);
    float *h[2];
    for (int i = 0; i < 2; i++) {
        Pool *pool;
        uint32_t seed = 7;
        float *x = room((int64_t)ROWS * WIDE, sizeof *x);
        for (int k = 0; k < ROWS * WIDE; k++) {
            seed = seed * 1664525u + 1013904223u;
            x[k] = (float)(int32_t)seed / 2147483648.0f * (k % 37 == 0 ? 20.0f : 1.0f);
        }
        h[i] = room(WIDE * WIDE, sizeof *h[i]);
        assert_int_equal(pool_new(&pool, i ? 3 : 1, NULL), ST_OK);
        const AdaptTask t = {.acts = x, .rows = ROWS, .n = WIDE, .start = r, .bits = 4, .steps = 3, .pool = pool};
        assert_int_equal(adapt_find(&t, h[i], NULL), ST_OK);
        assert_true(deviation(h[i], WIDE) < 1e-5);
        pool_free(pool);
        free(x);
    }
    assert_memory_equal(h[0], h[1], (size_t)WIDE * WIDE * sizeof *h[0]);
    free(h[0]);
    free(h[1]);
    rotation_free(r);
}

/* A person sees how far a prior stage is: behind each layer, and behind each step of the search. */
static void test_prior_stages_tell_where_they_are(void **state)
{
    (void)state;
    TestRun base;
    Folded f;
    Error err;
    const int lens[] = {12, 9};
    test_run_open(&base, "tests/golden/models/qwen3/fp32", ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens(lens, 2, base.m->cfg.vocab, 1);
    if (folded_run(&f, &base, "[{type: adapt_rotation, stage: 2}]\n  prior: [{process: [{type: adapt_rotation, stage: 1, steps: 2}]}]",
                   false, t, &err) != ST_OK)
        fail_msg("%s", err.text);
    assert_int_equal(f.layers, model_depth(base.m));
    assert_int_equal(f.steps, 2);
    assert_true(f.over);
    folded_fini(&f);
    test_tokens_free(t);
    test_run_close(&base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_original),
        cmocka_unit_test(test_few_rows),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_prior_stages_tell_where_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
