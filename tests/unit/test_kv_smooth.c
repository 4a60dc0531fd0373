#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/headquant.h"
#include "run/source.h"
#include "tests/lib/folded.h"
#include "tests/lib/random_model.h"
#include "tests/lib/recorded_layer.h"

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

/* ---- the peer's recordings ---- */

static const struct {
    const char *name, *model_type, *process;
} recordings[] = {
    {"kv_smooth_linear", "qwen2", "[{type: kv_smooth}]"},
    {"kv_smooth_norm", "qwen3", "[{type: kv_smooth, smooth_factor: 0.7}]"},
};

static void recordings_are_reproduced(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * (sizeof recordings / sizeof *recordings); i++) {
        RecordedLayer l;
        TestRun base;
        Folded f;
        Error err = {0};
        recorded_layer_open(&l, recordings[i / 2].name, recordings[i / 2].model_type);
        test_run_open(&base, l.dir, ARITH_FP32, 2, NULL);
        ok(folded_run(&f, &base, recordings[i / 2].process, i % 2, l.calib, &err), &err);
        recorded_layer_compare(&l, base.m, pipeline_overlay(f.p), 1e-6);
        recorded_layer_outputs(&l, base.r, 1e-5);
        recorded_layer_outputs(&l, f.r, 1e-5);
        folded_fini(&f);
        test_run_close(&base);
        recorded_layer_close(&l);
    }
}

/* ---- what the peer breaks ---- */

/* k_proj of the layer gives nothing in channels `dead` and `dead` + 4, which are rotated together. */
static void kill_channels(const RecordedLayer *l, int dead)
{
    for (int half = 0; half < 2; half++) {
        const NpyArray *w, *b;
        float *row = (float *)(uintptr_t)npz_f32(l->z, &w, "before/self_attn.k_proj.weight") + (dead + 4 * half) * 32;
        memset(row, 0, 32 * sizeof *row);
        ((float *)(uintptr_t)npz_f32(l->z, &b, "before/self_attn.k_proj.bias"))[dead + 4 * half] = 0;
    }
    recorded_layer_write(l, "qwen2");
}

static bool all_finite(const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return false;
    return true;
}

static void a_dead_channel_stays_finite(void **state)
{
    (void)state;
    for (int peer = 0; peer < 2; peer++) {
        RecordedLayer l;
        TestRun base;
        Folded f;
        Error err = {0};
        int64_t n;
        recorded_layer_open(&l, "kv_smooth_linear", "qwen2");
        kill_channels(&l, 2);
        test_run_open(&base, l.dir, ARITH_FP32, 1, NULL);
        float *want = folded_logits(base.r, l.calib, &n);
        Status st = folded_run(&f, &base, "[{type: kv_smooth}]", peer, l.calib, &err);
        ok(st, &err);
        float *got = folded_logits(f.r, l.calib, &n);
        if (peer)
            assert_false(all_finite(got, n)); /* 0 / 0 */
        else
            assert_true(test_worst(want, got, n) < 1e-5);
        free(want);
        free(got);
        folded_fini(&f);
        test_run_close(&base);
        recorded_layer_close(&l);
    }
}

/* ---- what it can't be run for ---- */

static void refused(const char *dir, const char *process, const char *why)
{
    static const int lens[] = {5};
    Status st;
    Told t;
    const char *text = folded_says(dir, process, lens, 1, &st, &t);
    assert_int_equal(st, ST_DATA);
    if (!strstr(text, why))
        fail_msg("'%s' does not say '%s'", text, why);
}

static void what_has_no_keys_is_named(void **state)
{
    (void)state;
    refused("tests/golden/models/deepseek_v3/fp32", "[{type: kv_smooth}]", "'model.layers.0.self_attn': kv_smooth can't be run: "
            "its cache holds one latent vector for all heads, no keys: leave it out with exclude");
    refused("tests/golden/models/deepseek_v4/fp32", "[{type: kv_smooth}]", "one vector that is key and value");
    refused("tests/golden/models/llama/fp32", "[{type: kv_smooth, include: ['*.mlp']}]",
            "kv_smooth selects no attention: its patterns are of modules such as 'model.layers.");
}

/* ---- which layers ---- */

static void patterns_select_attentions(void **state)
{
    (void)state;
    TestRun base;
    Folded f;
    Error err = {0};
    const int lens[] = {9, 4};
    test_run_open(&base, "tests/golden/models/llama/fp32", ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens(lens, 2, base.m->cfg.vocab, 1);
    ok(folded_run(&f, &base, "[{type: kv_smooth, exclude: ['*.0.*']}]", false, t, &err), &err);
    for (int64_t i = 0; i < base.m->nlinears; i++) {
        const Linear *l = &base.m->linears[i];
        bool want = l->layer != 0 && (l->kind == LK_Q || l->kind == LK_K);
        assert_int_equal(overlay_linear(pipeline_overlay(f.p), i) != NULL, want);
    }
    folded_fini(&f);
    test_tokens_free(t);
    test_run_close(&base);
}

/* ---- what it is for ---- */

/* Squared error of the layer's output when its cached keys are int8: one scale a head, or one a channel. */
static double cached_error(const RecordedLayer *l, Runner *r, bool channels)
{
    Error err = {0};
    Stream h, y, q;
    HeadQuant heads = {.m = runner_model(r), .T = DT_F32, .ratio = {0, 1, 0}, .channels = channels};
    const Observer obs = head_quant_observer(&heads);
    double sum = 0;
    ok(runner_embed(r, l->calib, &h, &err), &err);
    ok(stream_copy(&y, &h, &err), &err);
    ok(stream_copy(&q, &h, &err), &err);
    ok(runner_layer(r, 0, NULL, &h, &y, &obs, 1, &err), &err);
    ok(head_quant_fix(&heads, &err), &err);
    const AttnForm form = head_quant_form(&heads);
    ok(runner_layer(r, 0, &(Variant){.attn = &form}, &h, &q, NULL, 0, &err), &err);
    for (int64_t i = 0; i < y.rows * y.width; i++)
        sum += ((double)q.data[i] - (double)y.data[i]) * ((double)q.data[i] - (double)y.data[i]);
    head_quant_fini(&heads);
    stream_fini(&h);
    stream_fini(&y);
    stream_fini(&q);
    return sum;
}

/* Keys with one scale a head lose less; with one a channel (C8) a factor changes nothing. */
static void a_cache_with_few_scales_loses_less(void **state)
{
    (void)state;
    RecordedLayer l;
    TestRun base;
    Folded f;
    Error err = {0};
    recorded_layer_open(&l, "kv_smooth_linear", "qwen2");
    test_run_open(&base, l.dir, ARITH_FP32, 1, NULL);
    ok(folded_run(&f, &base, "[{type: kv_smooth}]", false, l.calib, &err), &err);
    double head = cached_error(&l, base.r, false), head_after = cached_error(&l, f.r, false);
    double channel = cached_error(&l, base.r, true), channel_after = cached_error(&l, f.r, true);
    if (!(head_after < head / 2) || !(fabs(channel_after - channel) < channel / 10))
        fail_msg("a head %g -> %g, a channel %g -> %g", head, head_after, channel, channel_after);
    folded_fini(&f);
    test_run_close(&base);
    recorded_layer_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recordings_are_reproduced),     cmocka_unit_test(a_dead_channel_stays_finite),
        cmocka_unit_test(what_has_no_keys_is_named),     cmocka_unit_test(patterns_select_attentions),
        cmocka_unit_test(a_cache_with_few_scales_loses_less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
