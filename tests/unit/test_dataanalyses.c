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

/* ---- a pass ---- */

/* What came of it; the input of step `keep` is kept. */
typedef struct Got {
    PassScore *s;
    int64_t n;
    int64_t keep;
    Stream kept;
} Got;

static Status take(void *ctx, const PassStep *step, Error *e)
{
    Got *g = ctx;
    g->s = realloc(g->s, (size_t)(g->n + step->nscore) * sizeof *g->s + 1);
    assert_non_null(g->s);
    memcpy(g->s + g->n, step->score, (size_t)step->nscore * sizeof *g->s);
    g->n += step->nscore;
    return step->done == g->keep ? stream_copy(&g->kept, step->h, e) : ST_OK;
}

static void got_free(Got *g)
{
    free(g->s);
    stream_fini(&g->kept);
}

static const Metric *const inputs[] = {&metric_act_outliers, &metric_output_outliers, NULL};
static const Metric *const all[] = {&metric_act_outliers, &metric_output_outliers, &metric_massive, &metric_coverage,
                                    &metric_expert_load, NULL};

static void run_pass(TestRun *b, const TokenSet *t, const Metric *const *metrics, const bool *selected, Got *g)
{
    PassPlan p = {.m = b->m, .pass = &pass_watch, .metrics = metrics, .selected = selected, .tokens = t};
    ok(pass_watch.run(b->r, &p, &(PassSink){take, g}, &err));
}

static const UnitScore *score_of(const Got *g, const Metric *m, int64_t unit)
{
    for (int64_t i = 0; i < g->n; i++)
        if (g->s[i].metric == m && g->s[i].s.unit == unit)
            return &g->s[i].s;
    fail_msg("%s has no score of unit %lld", m->name, (long long)unit);
    return NULL;
}

static double part(const UnitScore *u, const Metric *m, const char *name)
{
    for (int k = 0; m->parts[k].name; k++)
        if (strcmp(m->parts[k].name, name) == 0)
            return u->part[k];
    fail_msg("%s has no part %s", m->name, name);
    return NAN;
}

static TokenSet *llama_tokens(const Model *m)
{
    CalibFile *c = NULL;
    Tokenizer *tok = NULL;
    TokenSet *t = NULL;
    ok(calib_open(&c, "tests/golden/analysis/_models/calib5.jsonl", true, NULL, &err));
    ok(tokenizer_open(&tok, LLAMA, &err));
    ok(tokens_make(&t, c, tok, 0, 0, m->cfg.vocab, NULL, &err));
    tokenizer_free(tok);
    calib_free(c);
    return t;
}

/* ---- a forward whose values are kept ---- */

typedef struct Kept {
    float *x;      /* packed rows of the samples, one behind the other */
    int64_t *at;   /* [samples] rows of each */
    int64_t width;
} Kept;

typedef struct Keeper {
    const Model *m;
    const TokenSet *t;
    Kept *in, *out; /* [nlinears] */
    float *scratch; /* of what a sample's rows are moved to */
} Keeper;

static bool keep_wants(void *self, Tap tap)
{
    (void)self;
    return tap.kind == TAP_LINEAR_IN || tap.kind == TAP_LINEAR_OUT;
}

/* One thread, so samples come in their order. */
static void keep_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    (void)row0;
    Keeper *k = self;
    Kept *kept = tap.kind == TAP_LINEAR_IN ? &k->in[tap.linear] : &k->out[tap.linear];
    int64_t before = 0;
    if (!kept->at)
        kept->at = calloc((size_t)k->t->samples, sizeof *kept->at);
    assert_non_null(kept->at);
    for (int s = 0; s < k->t->samples; s++)
        before += kept->at[s];
    kept->width = width;
    kept->x = realloc(kept->x, (size_t)((before + rows) * width) * sizeof *kept->x);
    assert_non_null(kept->x);
    for (int64_t r = 0; r < rows; r++)
        memcpy(kept->x + (before + r) * width, x + r * ld, (size_t)width * sizeof *x);
    kept->at[sample] += rows;
}

static void keep_forward(Keeper *k, const char *dir, const TokenSet *t)
{
    static const ObserverOps ops = {.name = "keeper", .wants_tap = keep_wants, .tap_tile = keep_tile};
    TestRun b;
    Stream h;
    test_run_open(&b, dir, ARITH_FP32, 1, NULL);
    *k = (Keeper){.m = b.m, .t = t, .in = calloc((size_t)b.m->nlinears, sizeof *k->in),
                  .out = calloc((size_t)b.m->nlinears, sizeof *k->out)};
    ok(runner_embed(b.r, t, &h, &err));
    for (int l = 0; l < b.m->cfg.layers; l++)
        ok(runner_layer(b.r, l, NULL, &h, &h, &(Observer){&ops, k}, 1, &err));
    stream_fini(&h);
    test_run_close(&b);
}

static void keep_free(Keeper *k, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        free(k->in[i].x);
        free(k->in[i].at);
        free(k->out[i].x);
        free(k->out[i].at);
    }
    free(k->in);
    free(k->out);
}

static void near(double got, double want, double tol)
{
    if (!(fabs(got - want) <= tol * fabs(want)) && !(isnan(got) && isnan(want)))
        fail_msg("%.17g, not %.17g", got, want);
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
    TokenSet *t = llama_tokens(b.m);
    run_pass(&b, t, inputs, NULL, &g);
    for (int64_t i = 0; i < b.m->nlinears; i++)
        for (int out = 0; out < 2; out++) {
            char key[160];
            snprintf(key, sizeof key, "%s:%s", b.m->linears[i].name, out ? "out" : "in");
            const cJSON *want = json_get(json_get(doc, "activations"), key);
            const UnitScore *u = score_of(&g, inputs[out], i);
            assert_non_null(want);
            for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++)
                near(part(u, inputs[out], pairs[k][0]), json_get(want, pairs[k][1])->valuedouble, 2e-6);
            near(u->value, json_get(want, "ratio")->valuedouble, 2e-6);
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
    Keeper k;
    Got g = {.keep = -1};
    int named = 0;
    test_run_open(&b, "lab_models/demo", ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, 5, b.m->cfg.vocab, 3);
    run_pass(&b, t, inputs, NULL, &g);
    keep_forward(&k, "lab_models/demo", t);
    for (int64_t i = 0; i < b.m->nlinears; i++)
        for (int out = 0; out < 2; out++) {
            const Kept *kept = out ? &k.out[i] : &k.in[b.m->linears[i].input];
            int *flags = calloc((size_t)kept->width, sizeof *flags);
            float *top = calloc((size_t)kept->width, sizeof *top);
            const UnitScore *u = score_of(&g, inputs[out], i);
            plain_flags(kept, 5, flags, top);
            for (int c = 0; c < 3; c++) {
                double id = part(u, inputs[out], channel[c]), n = part(u, inputs[out], texts[c]);
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
    keep_free(&k, b.m->nlinears);
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
    near(u->value, max / median, 1e-12);
    near(part(u, m, "max"), max, 0);
    near(part(u, m, "median"), median, 0);
    assert_int_equal((int64_t)part(u, m, "sample"), sample);
    assert_int_equal((int64_t)part(u, m, "token"), row - h->start[sample]);
    assert_int_equal((int64_t)part(u, m, "channel"), at % h->width);
    assert_int_equal((int64_t)part(u, m, "massive"), massive);
    double middle = plain_median(norm, h->rows);
    for (int64_t t = 0; t < h->rows; t++)
        sinks += norm[t] > 10 * middle;
    near(part(u, m, "sinks"), 100.0 * (double)sinks / (double)h->rows, 1e-12);
    near(part(u, m, "norm"), middle, 1e-12);
    near(part(u, m, "first"), plain_median(first, h->samples) / middle, 1e-12);
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
            const UnitScore *u = score_of(&g, one[0], l);
            ok(runner_layer(b.r, l, NULL, &h, &h, NULL, 0, &err));
            check_massive(&h, u);
            assert_true((part(u, one[0], "massive") > 0) == (spoilt == 1));
            assert_true((part(u, one[0], "sinks") > 0) == (spoilt == 1));
        }
        if (!spoilt)
            spoil_embedding(dir, t->ids[0], 30000);
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
    Keeper k;
    Got g = {.keep = -1};
    int unseen_all = 0;
    test_run_open(&b, MOE, ARITH_FP32, 2, NULL);
    int n = b.m->cfg.moe.experts;
    TokenSet *t = test_tokens(lengths, 2, b.m->cfg.vocab, 1);
    run_pass(&b, t, both, NULL, &g);
    keep_forward(&k, MOE, t);
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
        const UnitScore *u = score_of(&g, both[0], l);
        near(u->value, 1 - entropy * log(2) / log(n), 1e-9);
        near(part(u, both[0], "entropy"), entropy, 1e-9);
        near(part(u, both[0], "effective"), pow(2, entropy), 1e-9);
        near(part(u, both[0], "largest"), 100 * largest / sum, 1e-12);
        assert_int_equal((int)part(u, both[0], "unseen"), unseen);
        assert_int_equal((int)part(u, both[0], "experts"), n);
        assert_int_equal(u->tokens, 3);
        unseen_all += unseen;
        for (int64_t i = b.m->units[l].first; i < b.m->units[l].first + b.m->units[l].count; i++) {
            int e = b.m->linears[i].expert;
            u = score_of(&g, both[1], i);
            assert_int_equal(u->absent, e < 0);
            near(u->value, e < 0 ? NAN : tokens[e] * n / sum, 1e-12);
            near(u->part[1], e < 0 ? NAN : 100 * tokens[e] / sum, 1e-12);
        }
    }
    assert_true(unseen_all > 0);
    keep_free(&k, b.m->nlinears);
    got_free(&g);
    test_tokens_free(t);
    test_run_close(&b);
}

/* ---- what all of them have in common ---- */

static void same_scores(const Got *a, const Got *b)
{
    assert_int_equal(a->n, b->n);
    for (int64_t i = 0; i < a->n; i++)
        assert_memory_equal(&a->s[i], &b->s[i], sizeof *a->s);
}

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
        ok(pass_watch.run(b.r, &p, &(PassSink){take, &g[k]}, &err));
        test_run_close(&b);
    }
    assert_true(g[0].n > 100);
    same_scores(&g[0], &g[1]);
    same_scores(&g[0], &g[2]);
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
    assert_string_equal(score_of(&g, &metric_act_outliers, 0)->why, "NaN first at sample 1 token 4 channel 0");
    const char *why = score_of(&g, &metric_massive, 0)->why; /* attention takes it to the text's other tokens */
    assert_memory_equal(why, "NaN first at sample 1 token ", strlen("NaN first at sample 1 token "));
    assert_true(isnan(score_of(&g, &metric_act_outliers, 3)->value));
    assert_true(score_of(&g, &metric_coverage, 0)->absent && score_of(&g, &metric_expert_load, 2)->absent);
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
    assert_string_equal(score_of(&g, &metric_act_outliers, 0)->why, "every value is 0");
    assert_string_equal(score_of(&g, &metric_massive, 1)->why, "every value is 0");
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
    assert_int_equal(g.n, 5);
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
