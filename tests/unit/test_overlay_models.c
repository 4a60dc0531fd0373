#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/block.h"
#include "run/source.h"
#include "tests/lib/bench.h"

/* Edits of whole models that cancel: the logits of the recorded families stay what they were. */

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static uint32_t seed;

static float noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 16777216.0f - 0.5f;
}

static float *vector(int64_t n, float around)
{
    float *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = around + noise();
    return v;
}

/* ---- a model with an overlay ---- */

typedef struct World {
    TestRun base;
    Overlay *edits;
    const Model *m;
    float *before;
    int64_t n;
} World;

/* [rows][vocab]; caller frees. */
static float *logits_of(Runner *r, int64_t *n)
{
    static const int lens[] = {13, 1, 9};
    const Model *m = runner_model(r);
    TokenSet *t = test_tokens(lens, 3, m->cfg.vocab, 3);
    Error err = {0};
    Stream h, x;
    ok(runner_embed(r, t, &h, &err), &err);
    for (int i = 0; i < m->cfg.layers; i++)
        ok(runner_layer(r, i, NULL, &h, &h, NULL, 0, &err), &err);
    ok(runner_final_norm(r, &h, &x, NULL, 0, &err), &err);
    float *logits = test_logits(r, &x);
    *n = x.rows * m->cfg.vocab;
    stream_fini(&h);
    stream_fini(&x);
    test_tokens_free(t);
    return logits;
}

static void world_open(World *w, const char *family, int threads)
{
    char dir[128];
    Error err = {0};
    snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", family);
    test_run_open(&w->base, dir, ARITH_FP32, threads, NULL);
    w->m = w->base.m;
    w->before = logits_of(w->base.r, &w->n);
    ok(overlay_new(&w->edits, w->m, &err), &err);
}

static void world_close(World *w)
{
    overlay_free(w->edits);
    free(w->before);
    test_run_close(&w->base);
}

/* The logits with the edits; caller frees. */
static float *changed(const World *w)
{
    Error err = {0};
    Runner *r;
    int64_t n;
    RunnerOptions opt = {.pool = w->base.pool, .arith = ARITH_FP32, .overlay = w->edits};
    ok(runner_new(&r, w->m, &opt, &err), &err);
    float *v = logits_of(r, &n);
    assert_int_equal(n, w->n);
    runner_free(r);
    return v;
}

static double difference(const World *w)
{
    float *v = changed(w);
    double d = test_worst(w->before, v, w->n);
    free(v);
    return d;
}

/* ---- norms ---- */

/* What is added to a norm is taken away from the biases of what reads it. */
static void an_added_norm_bias_moves_into_linears(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "gemma2", "qwen2", "phi3"};
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        World w;
        Error err = {0};
        seed = 5;
        world_open(&w, families[f], 2);
        int64_t h = w.m->cfg.hidden;
        for (int u = 0; u < w.m->nunits; u++)
            for (int i = 0; i < w.m->units[u].nblocks; i++) {
                const Block *b = &w.m->units[u].block[i];
                const TensorInfo *norm = b->join->small[RESIDUAL_BEFORE];
                float *shift = vector(h, 0.3f), *back = malloc((size_t)h * sizeof *back);
                assert_non_null(back);
                for (int64_t k = 0; k < h; k++)
                    back[k] = -shift[k];
                ok(overlay_shift_norm(w.edits, norm, shift, &err), &err);
                assert_non_null(overlay_norm_bias(w.edits, norm));
                for (int k = 0; k < block_linears(b->type); k++)
                    if (b->linear[k] >= 0 && strcmp(b->type->linears[k], "o") && strcmp(b->type->linears[k], "down"))
                        ok(overlay_bias_from(w.edits, b->linear[k], back, &err), &err);
                free(shift);
                free(back);
            }
        double d = difference(&w);
        if (!(d < 1e-5))
            fail_msg("%s: %g", families[f], d);
        float *zero = calloc((size_t)h, sizeof *zero); /* without it the other half shows */
        const TensorInfo *norm = w.m->units[0].block[0].join->small[RESIDUAL_BEFORE];
        ok(overlay_scale_norm_bias(w.edits, norm, zero, &err), &err);
        assert_null(overlay_norm_bias(w.edits, norm));
        assert_true(difference(&w) > 1e-3);
        free(zero);
        world_close(&w);
    }
}

/* Of a norm that multiplies by 1 + w. */
static void a_unit_norm_is_scaled(void **state)
{
    (void)state;
    World w;
    Error err = {0};
    seed = 7;
    world_open(&w, "gemma2", 1);
    float *s = vector(w.m->cfg.hidden, 1.2f), *back = vector(w.m->cfg.hidden, 0);
    for (int64_t i = 0; i < w.m->cfg.hidden; i++)
        back[i] = 1 / s[i];
    const Block *b = &w.m->units[1].block[1];
    ok(overlay_scale_unit_norm(w.edits, b->join->small[RESIDUAL_BEFORE], back, &err), &err);
    assert_true(difference(&w) > 1e-3);
    ok(overlay_scale_inputs(w.edits, b->linear[DENSE_GATE], s, &err), &err);
    ok(overlay_scale_inputs(w.edits, b->linear[DENSE_UP], s, &err), &err);
    assert_true(difference(&w) < 1e-5);
    free(s);
    free(back);
    world_close(&w);
}

/* ---- heads ---- */

static void an_untied_head_is_edited_apart(void **state)
{
    (void)state;
    static const char *const families[] = {"qwen2", "llama3", "llama"};
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        World w;
        Error err = {0};
        seed = 6;
        world_open(&w, families[f], 1);
        bool tied = w.m->exit.head == w.m->entry.table;
        float *s = vector(w.m->cfg.hidden, 1.2f), *back = vector(w.m->cfg.hidden, 0);
        for (int64_t i = 0; i < w.m->cfg.hidden; i++)
            back[i] = 1 / s[i];
        assert_ptr_equal(overlay_head(w.edits, w.m), w.m->exit.head);
        ok(overlay_scale_tensor(w.edits, w.m->entry.table, s, &err), &err); /* of both, while they are one */
        ok(overlay_untie(w.edits, &err), &err);
        assert_true(overlay_untied(w.edits) == tied);
        assert_true(difference(&w) > 1e-3);
        const TensorInfo *head = overlay_head(w.edits, w.m);
        assert_true((head == w.m->exit.head) == !tied);
        if (tied)
            ok(overlay_scale_tensor(w.edits, head, back, &err), &err);
        ok(overlay_scale_tensor(w.edits, w.m->entry.table, back, &err), &err);
        assert_true(difference(&w) < 1e-5);
        ok(overlay_scale_tensor(w.edits, w.m->exit.norm, s, &err), &err); /* the head takes over the norm */
        ok(overlay_scale_tensor(w.edits, head, back, &err), &err);
        assert_true(difference(&w) < 1e-5);
        free(s);
        free(back);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_added_norm_bias_moves_into_linears),
        cmocka_unit_test(a_unit_norm_is_scaled),
        cmocka_unit_test(an_untied_head_is_edited_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
