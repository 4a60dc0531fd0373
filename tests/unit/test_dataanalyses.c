/* Metrics that look at what flows through the model: against recorded figures, and against plain loops over a forward
 * whose values are kept. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "io/json.h"
#include "metric/watch.h"

#include "tests/lib/bench.h"
#include "tests/lib/passrun.h"
#include "tests/lib/random_model.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tiny_model.h"

#define LLAMA "tests/golden/analysis/_models/llama-fp32"
#define MOE "tests/golden/models/qwen3_moe/fp32"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static const Metric *const inputs[] = {&metric_act_outliers, &metric_output_outliers, NULL};
static const Metric *const all[] = {&metric_act_outliers, &metric_output_outliers, &metric_massive, &metric_coverage,
                                    &metric_expert_load, &metric_text_range, NULL};

static void run_pass(TestRun *b, const TokenSet *t, const Metric *const *metrics, const bool *selected, Got *g)
{
    PassPlan p = {.m = b->m, .pass = &pass_watch, .metrics = metrics, .selected = selected, .tokens = t};
    test_pass(b->r, &p, g);
}

/* ---- outliers ---- */

static void outliers_are_the_recorded_ones(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"max", "max"}, {"mean", "mean"}, {"std", "std_max"}, {"channels", "outlier_channels_max"}};
    cJSON *doc;
    TestRun b;
    Got g = {.keep = -1};
    ok(json_parse_file("tests/golden/analysis/own_tools.llama-fp32.json", 1 << 20, &doc, &err));
    test_run_open(&b, LLAMA, ARITH_FP32, 2, NULL);
    TokenSet *t = test_calib_tokens(LLAMA, b.m);
    run_pass(&b, t, inputs, NULL, &g);
    for (int64_t i = 0; i < b.m->nlinears; i++)
        for (int out = 0; out < 2; out++) {
            char key[160];
            snprintf(key, sizeof key, "%s:%s", b.m->linears[i].name, out ? "out" : "in");
            const cJSON *want = json_get(json_get(doc, "activations"), key);
            const UnitScore *u = got_score(&g, inputs[out], i);
            assert_non_null(want);
            for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++)
                test_near(test_part(u, inputs[out], pairs[k][0]), json_get(want, pairs[k][1])->valuedouble, 2e-6);
            test_near(u->value, json_get(want, "ratio")->valuedouble, 2e-6);
            assert_int_equal(u->samples, 5);
        }
    got_free(&g);
    tokens_free(t);
    test_run_close(&b);
    cJSON_Delete(doc);
}

/* Channels of kept rows that are outliers, and in how many samples. */
static void plain_flags(const Kept *k, int samples, int *flags, float *top)
{
    int64_t row = 0;
    for (int s = 0; s < samples; s++) {
        double all_max = 0;
        float *max = calloc((size_t)k->width, sizeof *max);
        for (int64_t r = 0; r < k->at[s]; r++)
            for (int64_t j = 0; j < k->width; j++)
                max[j] = fmaxf(max[j], fabsf(k->x[(row + r) * k->width + j]));
        row += k->at[s];
        for (int64_t j = 0; j < k->width; j++)
            all_max += (double)max[j];
        for (int64_t j = 0; j < k->width; j++) {
            flags[j] += (double)max[j] > 6 * all_max / (double)k->width;
            top[j] = fmaxf(top[j], max[j]);
        }
        free(max);
    }
}

static void worst_channels_are_those_of_plain_loops(void **state)
{
    (void)state;
    static const char *const channel[] = {"channel1", "channel2", "channel3"}, *const texts[] = {"texts1", "texts2", "texts3"};
    const int lengths[] = {40, 1, 90, 17, 33};
    TestRun b;
    KeptForward k;
    Got g = {.keep = -1};
    int named = 0;
    test_run_open(&b, "lab_models/demo", ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, 5, b.m->cfg.vocab, 3);
    run_pass(&b, t, inputs, NULL, &g);
    kept_forward(&k, "lab_models/demo", t);
    for (int64_t i = 0; i < b.m->nlinears; i++)
        for (int out = 0; out < 2; out++) {
            const Kept *kept = out ? &k.out[i] : &k.in[b.m->linears[i].input];
            int *flags = calloc((size_t)kept->width, sizeof *flags);
            float *top = calloc((size_t)kept->width, sizeof *top);
            const UnitScore *u = got_score(&g, inputs[out], i);
            plain_flags(kept, 5, flags, top);
            for (int c = 0; c < 3; c++) {
                double id = test_part(u, inputs[out], channel[c]), n = test_part(u, inputs[out], texts[c]);
                int64_t best = 0;
                for (int64_t j = 1; j < kept->width; j++)
                    if (flags[j] > flags[best] || (flags[j] == flags[best] && flags[j] > 0 && top[j] > top[best]))
                        best = j;
                if (flags[best] <= 0) {
                    assert_true(isnan(id) && isnan(n));
                    continue;
                }
                assert_int_equal((int64_t)id, best);
                assert_int_equal((int)n, flags[best]);
                flags[best] = 0;
                named++;
            }
            free(flags);
            free(top);
        }
    assert_true(named > 5); /* the model has such channels */
    kept_free(&k);
    got_free(&g);
    test_tokens_free(t);
    test_run_close(&b);
}

/* ---- massive activations ---- */

static double plain_median(double *v, int64_t n)
{
    qsort(v, (size_t)n, sizeof *v, compare_doubles);
    return (v[(n - 1) / 2] + v[n / 2]) / 2;
}

static void check_massive(const Stream *h, const UnitScore *u)
{
    const Metric *m = &metric_massive;
    int64_t n = h->rows * h->width, at = 0, massive = 0, sinks = 0;
    double *v = malloc((size_t)n * sizeof *v), *norm = calloc((size_t)h->rows, sizeof *norm), first[8];
    for (int64_t i = 0; i < n; i++) {
        v[i] = fabs((double)h->data[i]);
        at = v[i] > v[at] ? i : at;
        norm[i / h->width] += v[i] * v[i];
    }
    double max = v[at], median = plain_median(v, n);
    for (int64_t i = 0; i < n; i++)
        massive += v[i] > 100 && v[i] > 1000 * median;
    for (int64_t t = 0; t < h->rows; t++)
        norm[t] = sqrt(norm[t]);
    for (int s = 0; s < h->samples; s++)
        first[s] = norm[h->start[s]];
    int64_t row = at / h->width, sample = 0;
    while (h->start[sample + 1] <= row)
        sample++;
    test_near(u->value, max / median, 1e-12);
    test_near(test_part(u, m, "max"), max, 0);
    test_near(test_part(u, m, "median"), median, 0);
    assert_int_equal((int64_t)test_part(u, m, "sample"), sample);
    assert_int_equal((int64_t)test_part(u, m, "token"), row - h->start[sample]);
    assert_int_equal((int64_t)test_part(u, m, "channel"), at % h->width);
    assert_int_equal((int64_t)test_part(u, m, "massive"), massive);
    double middle = plain_median(norm, h->rows);
    for (int64_t t = 0; t < h->rows; t++)
        sinks += norm[t] > 10 * middle;
    test_near(test_part(u, m, "sinks"), 100.0 * (double)sinks / (double)h->rows, 1e-12);
    test_near(test_part(u, m, "norm"), middle, 1e-12);
    test_near(test_part(u, m, "first"), plain_median(first, h->samples) / middle, 1e-12);
    free(v);
    free(norm);
}

/* Of the embedding's row `token`, channel 3 becomes `value`. */
static void spoil_embedding(const char *dir, int token, float value)
{
    Model *m = test_model_open(dir, NULL);
    size_t n;
    const TensorInfo *e = checkpoint_find(m->ckpt, "model.embed_tokens.weight");
    char path[100];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    char *bytes = temp_get(path, &n);
    memcpy(bytes + e->offset + (uint64_t)(token * e->shape[1] + 3) * sizeof value, &value, sizeof value);
    temp_put(path, bytes, n);
    free(bytes);
    model_free(m);
}

static const RandomShape shape = {"llama", 2, 4, 2, 8, 32, 48, 64, 0, DT_F32, 7};

static void massive_is_that_of_plain_loops(void **state)
{
    (void)state;
    static const Metric *const one[] = {&metric_massive, NULL};
    const int lengths[] = {70, 33, 1, 64};
    char dir[64];
    random_model_write(&shape, dir);
    for (int spoilt = 0; spoilt < 2; spoilt++) {
        TestRun b;
        Got g = {.keep = -1};
        Stream h;
        test_run_open(&b, dir, ARITH_FP32, 2, NULL);
        TokenSet *t = test_tokens(lengths, 4, b.m->cfg.vocab, 5);
        run_pass(&b, t, one, NULL, &g);
        ok(runner_embed(b.r, t, &h, &err));
        for (int l = 0; l < b.m->cfg.layers; l++) {
            const UnitScore *u = got_score(&g, one[0], l);
            ok(runner_layer(b.r, l, NULL, &h, &h, NULL, 0, &err));
            check_massive(&h, u);
            assert_true((test_part(u, one[0], "massive") > 0) == (spoilt == 1));
            assert_true((test_part(u, one[0], "sinks") > 0) == (spoilt == 1));
        }
        if (!spoilt) { /* one token far above the others, one at 20 times their norm */
            float norm = (float)test_part(got_score(&g, one[0], 0), one[0], "norm");
            spoil_embedding(dir, t->ids[0], 30000);
            spoil_embedding(dir, t->ids[70], 20 * norm);
        }
        stream_fini(&h);
        got_free(&g);
        test_tokens_free(t);
        test_run_close(&b);
    }
    random_model_remove(dir);
}

/* ---- experts ---- */

static void coverage_counts_what_experts_were_given(void **state)
{
    (void)state;
    static const Metric *const both[] = {&metric_coverage, &metric_expert_load, NULL};
    const int lengths[] = {2, 1};
    TestRun b;
    KeptForward k;
    Got g = {.keep = -1};
    int unseen_all = 0;
    test_run_open(&b, MOE, ARITH_FP32, 2, NULL);
    int n = b.m->cfg.moe.experts;
    TokenSet *t = test_tokens(lengths, 2, b.m->cfg.vocab, 1);
    run_pass(&b, t, both, NULL, &g);
    kept_forward(&k, MOE, t);
    for (int l = 0; l < b.m->cfg.layers; l++) {
        double tokens[64] = {0}, sum = 0, entropy = 0, largest = 0;
        int unseen = 0;
        for (int e = 0; e < n; e++) {
            char name[96];
            snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%d.gate_proj", l, e);
            const Kept *kept = &k.in[b.m->linears[model_find_linear(b.m, name)].input];
            for (int s = 0; kept->at && s < 2; s++)
                tokens[e] += (double)kept->at[s];
            sum += tokens[e];
            unseen += tokens[e] == 0;
            largest = fmax(largest, tokens[e]);
        }
        for (int e = 0; e < n; e++)
            entropy -= tokens[e] > 0 ? tokens[e] / sum * log(tokens[e] / sum) / log(2) : 0;
        const UnitScore *u = got_score(&g, both[0], l);
        test_near(u->value, 1 - entropy * log(2) / log(n), 1e-9);
        test_near(test_part(u, both[0], "entropy"), entropy, 1e-9);
        test_near(test_part(u, both[0], "effective"), pow(2, entropy), 1e-9);
        test_near(test_part(u, both[0], "largest"), 100 * largest / sum, 1e-12);
        assert_int_equal((int)test_part(u, both[0], "unseen"), unseen);
        assert_int_equal((int)test_part(u, both[0], "experts"), n);
        assert_int_equal(u->tokens, 3);
        unseen_all += unseen;
        for (int64_t i = b.m->units[l].first; i < b.m->units[l].first + b.m->units[l].count; i++) {
            int e = b.m->linears[i].expert;
            u = got_score(&g, both[1], i);
            assert_int_equal(u->absent, e < 0);
            test_near(u->value, e < 0 ? NAN : tokens[e] * n / sum, 1e-12);
            test_near(u->part[1], e < 0 ? NAN : 100 * tokens[e] / sum, 1e-12);
        }
    }
    assert_true(unseen_all > 0);
    kept_free(&k);
    got_free(&g);
    test_tokens_free(t);
    test_run_close(&b);
}

/* ---- what all of them have in common ---- */

static void threads_and_a_stop_change_nothing(void **state)
{
    (void)state;
    const int lengths[] = {60, 200, 9, 1};
    Got g[3] = {{.keep = -1}, {.keep = 1}, {.keep = -1}};
    TokenSet *t = NULL;
    for (int k = 0; k < 3; k++) {
        TestRun b;
        test_run_open(&b, MOE, ARITH_FP32, k ? 3 : 1, NULL);
        t = t ? t : test_tokens(lengths, 4, b.m->cfg.vocab, 11);
        PassPlan p = {.m = b.m, .pass = &pass_watch, .metrics = all, .tokens = t, .first = k == 2, .h = &g[1].kept};
        if (k == 2) { /* behind what the run before kept */
            while (g[2].n < g[1].n && g[1].s[g[2].n].s.unit >= 0 &&
                   (g[1].s[g[2].n].metric->scope == SCOPE_BLOCK ? g[1].s[g[2].n].s.unit
                                                                : b.m->linears[g[1].s[g[2].n].s.unit].layer) == 0)
                g[2].n++;
            g[2].s = malloc((size_t)g[2].n * sizeof *g[2].s);
            memcpy(g[2].s, g[1].s, (size_t)g[2].n * sizeof *g[2].s);
            ok(stream_set_ids(&g[1].kept, t->ids, &err));
        }
        test_pass(b.r, &p, &g[k]);
        test_run_close(&b);
    }
    assert_true(g[0].n > 100);
    got_same(&g[0], &g[1]);
    got_same(&g[0], &g[2]);
    for (int k = 0; k < 3; k++)
        got_free(&g[k]);
    test_tokens_free(t);
}

static void bad_and_empty_inputs_have_a_reason(void **state)
{
    (void)state;
    const int lengths[] = {20, 30};
    char dir[64];
    TestRun b;
    Got g = {.keep = -1};
    random_model_write(&shape, dir);
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, 2, b.m->cfg.vocab, 5);
    int token = 4; /* of the second text, where no earlier one is the same */
    for (int i = 0; i < 20 + token; i++)
        t->ids[i] = t->ids[i] == t->ids[20 + token] ? (t->ids[i] + 1) % (int32_t)b.m->cfg.vocab : t->ids[i];
    test_run_close(&b);
    spoil_embedding(dir, t->ids[20 + token], NAN);
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    run_pass(&b, t, all, NULL, &g);
    assert_string_equal(got_score(&g, &metric_act_outliers, 0)->why, "NaN first at sample 1 token 4 channel 0");
    const char *why = got_score(&g, &metric_massive, 0)->why; /* attention takes it to the text's other tokens */
    assert_memory_equal(why, "NaN first at sample 1 token ", strlen("NaN first at sample 1 token "));
    assert_true(isnan(got_score(&g, &metric_act_outliers, 3)->value));
    assert_true(got_score(&g, &metric_coverage, 0)->absent && got_score(&g, &metric_expert_load, 2)->absent);
    test_run_close(&b);
    got_free(&g);
    test_tokens_free(t);
    random_model_remove(dir);

    char *tiny = temp_folder(); /* all weights are 0 */
    g = (Got){.keep = -1};
    tiny_model_write(tiny, NULL);
    tiny_model_config(tiny, NULL, NULL);
    test_run_open(&b, tiny, ARITH_FP32, 1, NULL);
    t = test_tokens(lengths, 2, b.m->cfg.vocab, 5);
    run_pass(&b, t, all, NULL, &g);
    assert_string_equal(got_score(&g, &metric_act_outliers, 0)->why, "every value is 0");
    assert_string_equal(got_score(&g, &metric_massive, 1)->why, "every value is 0");
    test_run_close(&b);
    got_free(&g);
    test_tokens_free(t);
    temp_remove(tiny);
}

static void only_what_is_selected_is_scored(void **state)
{
    (void)state;
    const int lengths[] = {8};
    TestRun b;
    Got g = {.keep = -1};
    test_run_open(&b, LLAMA, ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens(lengths, 1, b.m->cfg.vocab, 5);
    bool *sel = calloc((size_t)b.m->nlinears, sizeof *sel);
    sel[b.m->units[1].first + 2] = true;
    run_pass(&b, t, all, sel, &g);
    assert_int_equal(g.n, 6);
    for (int64_t i = 0; i < g.n; i++)
        assert_int_equal(g.s[i].s.unit, g.s[i].metric->scope == SCOPE_BLOCK ? 1 : b.m->units[1].first + 2);
    free(sel);
    got_free(&g);
    test_tokens_free(t);
    test_run_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outliers_are_the_recorded_ones),
        cmocka_unit_test(worst_channels_are_those_of_plain_loops),
        cmocka_unit_test(massive_is_that_of_plain_loops),
        cmocka_unit_test(coverage_counts_what_experts_were_given),
        cmocka_unit_test(threads_and_a_stop_change_nothing),
        cmocka_unit_test(bad_and_empty_inputs_have_a_reason),
        cmocka_unit_test(only_what_is_selected_is_scored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
