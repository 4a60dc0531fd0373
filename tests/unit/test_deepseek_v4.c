#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/json.h"
#include "run/block/compressor.h"
#include "run/block/hyper.h"
#include "run/runner.h"
#include "tests/lib/bench.h"
#include "tests/lib/follow.h"
#include "tests/lib/configs.h"
#include "tests/lib/tempdir.h"

static const char model_dir[] = "tests/golden/models/deepseek_v4/fp32";

static uint64_t seed;

/* In [-1, 1). */
static float noise(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(seed >> 40) / (double)(1 << 23) - 1);
}

static void assert_close(const char *what, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * (fabs(want) + 1e-3)))
        fail_msg("%s: %.9g, wanted %.9g", what, got, want);
}

/* ---- hyper-connections ---- */

/* The same in float64, written as the formula stands. */
static void plain_sinkhorn(double *c, int n, int rounds, double eps)
{
    for (int j = 0; j < n; j++) {
        double sum = 0;
        for (int k = 0; k < n; k++)
            sum += exp(c[j * n + k]);
        for (int k = 0; k < n; k++)
            c[j * n + k] = exp(c[j * n + k]) / sum + eps;
    }
    for (int step = 0; step < 2 * rounds - 1; step++) /* columns, rows, columns, … columns */
        for (int i = 0; i < n; i++) {
            double sum = 0;
            for (int m = 0; m < n; m++)
                sum += step % 2 ? c[i * n + m] : c[m * n + i];
            for (int m = 0; m < n; m++)
                c[step % 2 ? i * n + m : m * n + i] /= sum + eps;
        }
}

static void sinkhorn_is_the_plain_form(void **state)
{
    (void)state;
    for (int n = 1; n <= 16; n++)
        for (int rounds = 1; rounds <= 21; rounds += 5) {
            float c[256];
            double d[256];
            for (int i = 0; i < n * n; i++)
                d[i] = (double)(c[i] = 3 * noise());
            hyper_sinkhorn(c, n, rounds, 1e-6f);
            plain_sinkhorn(d, n, rounds, 1e-6);
            for (int i = 0; i < n * n; i++)
                assert_close("entry", (double)c[i], d[i], 2e-5);
            for (int k = 0; k < n; k++) { /* whatever the rounds, columns come last */
                double sum = 0;
                for (int j = 0; j < n; j++)
                    sum += (double)c[j * n + k];
                assert_close("column", sum, 1, 1e-4);
            }
        }
}

static void coefficients_are_the_plain_form(void **state)
{
    (void)state;
    enum { N = 4, SUMS = N * (2 + N) };
    float m[SUMS], base[SUMS], scale[3] = {0.7f, 1.9f, -1.1f}, pre[N], post[N], mix[N * N];
    double want[N * N];
    for (int i = 0; i < SUMS; i++) {
        m[i] = 2 * noise();
        base[i] = noise();
    }
    hyper_coefficients(m, base, scale, N, 20, 1e-3f, pre, post, mix);
    for (int i = 0; i < N; i++) {
        assert_close("pre", (double)pre[i], 1 / (1 + exp(-(double)m[i] * 0.7 - (double)base[i])) + 1e-3, 1e-5);
        assert_close("post", (double)post[i], 2 / (1 + exp(-(double)m[N + i] * 1.9 - (double)base[N + i])), 1e-5);
    }
    for (int i = 0; i < N * N; i++)
        want[i] = (double)m[2 * N + i] * -1.1 + (double)base[2 * N + i];
    plain_sinkhorn(want, N, 20, 1e-3);
    for (int i = 0; i < N * N; i++)
        assert_close("mix", (double)mix[i], want[i], 1e-5);
    float alone[N];
    hyper_pre(m, base, scale[0], N, 1e-3f, alone);
    assert_memory_equal(alone, pre, sizeof pre);
}

/* ---- compressed keys ---- */

static double plain_entry(const Compressor *c, int64_t w, int64_t f)
{
    double sum = 0, out = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t t = c->overlap ? (w - 1) * c->rate : w * c->rate; t < (w + 1) * c->rate; t++) {
            if (t < 0)
                continue;
            int64_t at = c->overlap && t >= w * c->rate ? c->dim + f : f;
            double e = exp((double)c->gate[t * c->width + at] + (double)c->ape[t % c->rate * c->width + at]);
            sum += pass ? 0 : e;
            out += pass ? e / sum * (double)c->kv[t * c->width + at] : 0;
        }
    return out;
}

static void entries_are_the_plain_form(void **state)
{
    (void)state;
    static const struct {
        int64_t rate, dim;
        bool overlap;
    } cases[] = {{4, 16, true}, {4, 130, true}, {1, 3, true}, {7, 65, false}, {128, 64, false}, {1, 1, false}};
    Ops ops = ops_make(ARITH_FP32, DT_F32);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        int64_t rate = cases[k].rate, dim = cases[k].dim, width = cases[k].overlap ? 2 * dim : dim, rows = 4 * rate;
        float *v = malloc((size_t)(2 * rows + rate) * (size_t)width * sizeof *v);
        float *out = malloc((size_t)dim * sizeof *out);
        for (int64_t i = 0; i < (2 * rows + rate) * width; i++)
            v[i] = 4 * noise();
        Compressor c = {v, v + rows * width, v + 2 * rows * width, rate, dim, width, cases[k].overlap};
        for (int64_t w = 0; w < 4; w++) {
            compressor_entry(&c, &ops, w, out);
            for (int64_t f = 0; f < dim; f++)
                assert_close("feature", (double)out[f], plain_entry(&c, w, f), 3e-5);
        }
        free(v);
        free(out);
    }
}

static void the_greatest_are_chosen_and_the_first_among_equals(void **state)
{
    (void)state;
    static const float none[] = {NAN, 1, -0.0f, 0, INFINITY, -INFINITY, 0, 1};
    float x[200], y[200];
    memcpy(x, none, sizeof none);
    choose_greatest(x, 8, 4);
    const float four[] = {0, 1, 1, 0, 1, 0, 0, 1}; /* inf, 1, 1 and the first of the zeros */
    assert_memory_equal(x, four, sizeof four);
    for (int round = 0; round < 200; round++) {
        int n = 1 + round, k = 1 + round * 7 % (n + 3);
        for (int i = 0; i < n; i++)
            y[i] = x[i] = floorf(8 * noise()); /* many equals */
        choose_greatest(x, n, k);
        for (int i = 0; i < n; i++) {
            int before = 0;
            for (int j = 0; j < n; j++)
                before += y[j] > y[i] || (y[j] == y[i] && j < i);
            assert_true(x[i] == (before < k ? 1.0f : 0.0f));
        }
    }
}

/* ---- the model ---- */

static void run_all(TestRun *b, const TokenSet *t, Stream *h)
{
    Error e = {0};
    if (runner_embed(b->r, t, h, &e) != ST_OK)
        fail_msg("%s", e.text);
    assert_int_equal(h->width, 2 * b->m->cfg.hidden);
    for (int l = 0; l < b->m->cfg.layers; l++)
        if (runner_layer(b->r, l, NULL, h, h, NULL, 0, &e) != ST_OK)
            fail_msg("%s", e.text);
}

/* Nobody sees a later token, nor a compressed key that is not complete: every beginning of a text gives the same
 * states, whatever its length is a multiple of. */
static void beginnings_of_a_text_give_the_same_states(void **state)
{
    (void)state;
    TestRun b;
    Stream all, part;
    static const int len[] = {75};
    test_run_open(&b, model_dir, ARITH_EXACT, 2, NULL);
    TokenSet *t = test_tokens(len, 1, b.m->cfg.vocab, 3);
    run_all(&b, t, &all);
    for (int64_t n = 1; n < 75; n += n < 10 ? 1 : 5) {
        int64_t start[2] = {0, n};
        TokenSet some = {.samples = 1, .start = start, .ids = t->ids};
        run_all(&b, &some, &part);
        assert_memory_equal(part.data, all.data, (size_t)(n * all.width) * sizeof *all.data);
        stream_fini(&part);
    }
    stream_fini(&all);
    test_tokens_free(t);
    test_run_close(&b);
}

/* A lower limit means smaller chunks, never another result; too low a limit is said. */
static void chunks_do_not_change_a_bit(void **state)
{
    (void)state;
    enum { TEXTS = 40 };
    int len[TEXTS], limited = 0, refused = 0;
    TestRun b;
    Error e = {0};
    for (int i = 0; i < TEXTS; i++)
        len[i] = 1 + i * 37 % 150;
    test_run_open(&b, model_dir, ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(len, TEXTS, b.m->cfg.vocab, 4);
    Stream want, got;
    run_all(&b, t, &want);
    for (uint64_t limit = 64 << 20; !refused; limit -= limit / 8) {
        RunnerOptions o = {.pool = b.pool, .arith = ARITH_FP32, .mem_limit = limit};
        Runner *r;
        assert_int_equal(runner_new(&r, b.m, &o, &e), ST_OK);
        Status st = runner_embed(r, t, &got, &e);
        for (int l = 0; l < b.m->cfg.layers && st == ST_OK; l++)
            st = runner_layer(r, l, NULL, &got, &got, NULL, 0, &e);
        if (st == ST_OK)
            assert_memory_equal(got.data, want.data, (size_t)(want.rows * want.width) * sizeof *want.data);
        else
            assert_int_equal(st, ST_NOMEM);
        limited += st == ST_OK;
        refused += st != ST_OK;
        stream_fini(&got);
        runner_free(r);
    }
    assert_true(limited > 3);
    stream_fini(&want);
    test_tokens_free(t);
    test_run_close(&b);
}

static void a_cancelled_pass_says_so(void **state)
{
    (void)state;
    static const int len[] = {30, 9};
    Cancel cancel = {0};
    Error e = {0};
    TestRun b;
    Stream h;
    test_run_open(&b, model_dir, ARITH_FP32, 2, &cancel);
    TokenSet *t = test_tokens(len, 2, b.m->cfg.vocab, 5);
    run_all(&b, t, &h);
    atomic_store(&cancel.level, 2);
    for (int l = 0; l < b.m->cfg.layers; l++)
        assert_int_equal(runner_layer(b.r, l, NULL, &h, &h, NULL, 0, &e), ST_CANCELLED);
    atomic_store(&cancel.level, 0);
    stream_fini(&h);
    run_all(&b, t, &h);
    stream_fini(&h);
    test_tokens_free(t);
    test_run_close(&b);
}

/* What-if measurements: float is no change, a part in float runs from its layer on and gives what a full run gives. */
static void effects_are_measured_on_the_whole_state(void **state)
{
    (void)state;
    static const int len[] = {33, 1, 20, 46};
    Error e = {0};
    TestRun b;
    test_run_open(&b, model_dir, ARITH_FP32, 2, NULL);
    TokenSet *calib = test_tokens(len, 4, b.m->cfg.vocab, 6), *eval = test_tokens(len, 3, b.m->cfg.vocab, 7);
    EffectOptions o = {.calib = calib, .eval = eval, .cache_bytes = 1 << 24};
    QConfig q = config_default();
    int16_t *level = calloc((size_t)b.m->nlinears, sizeof *level);
    Effect none, all, part, again;
    EffectLab *lab, *fresh;
    assert_int_equal(effectlab_new(&lab, b.m, &o, &e), ST_OK);
    if (measure_work(lab, b.r, &(Work){.levels = &q, .nlevels = 1, .level = level}, &none, &e) != ST_OK)
        fail_msg("%s", e.text);
    assert_true(none.kl_mean == 0 && none.out_mse == 0);
    for (int64_t i = 0; i < b.m->nlinears; i++)
        level[i] = 1;
    assert_int_equal(measure_work(lab, b.r, &(Work){.levels = &q, .nlevels = 1, .level = level}, &all, &e), ST_OK);
    assert_true(all.kl_mean > 0 && all.out_mse > 0);
    for (int64_t i = 0; i < b.m->nlinears; i++)
        level[i] = b.m->linears[i].layer < 2;
    assert_int_equal(measure_work(lab, b.r, &(Work){.levels = &q, .nlevels = 1, .level = level}, &part, &e), ST_OK);
    assert_int_equal(part.first_layer_run, 2);
    assert_int_equal(effectlab_new(&fresh, b.m, &o, &e), ST_OK);
    assert_int_equal(measure_work(fresh, b.r, &(Work){.levels = &q, .nlevels = 1, .level = level}, &again, &e), ST_OK);
    assert_true(part.kl_mean == again.kl_mean && part.out_mse == again.out_mse && part.out_mse != all.out_mse);
    effectlab_free(lab);
    effectlab_free(fresh);
    free(level);
    test_tokens_free(calib);
    test_tokens_free(eval);
    test_run_close(&b);
}

/* ---- files ---- */

enum { MAX_TENSORS = 256 };

/* A copy of the recorded model in a new folder: config.json with the members of `edits` instead of its own (null takes
 * a member out), tensor `drop` left out, the first values of the table of experts replaced, and an MTP layer. */
static char *write_model(const char *edits, const char *drop, const int64_t *experts)
{
    char *dir = temp_folder(), path[128];
    Error e = {0};
    Checkpoint *c;
    TensorOut t[MAX_TENSORS];
    int n = 0;
    snprintf(path, sizeof path, "%s/config.json", model_dir);
    char *text = temp_get(path, NULL);
    cJSON *config = cJSON_Parse(text), *more = cJSON_Parse(edits), *v;
    assert_non_null(more);
    cJSON_ArrayForEach(v, more)
    {
        cJSON_DeleteItemFromObject(config, v->string);
        cJSON_AddItemToObject(config, v->string, cJSON_Duplicate(v, 1));
    }
    free(text);
    text = cJSON_Print(config);
    temp_puts(temp_path(dir, "config.json"), text);
    free(text);
    cJSON_Delete(config);
    cJSON_Delete(more);
    assert_int_equal(checkpoint_open(&c, model_dir, &e), ST_OK);
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const TensorInfo *f = checkpoint_at(c, i);
        if (drop && strcmp(f->name, drop) == 0)
            continue;
        void *data = malloc(f->nbytes);
        assert_int_equal(checkpoint_read(c, f, 0, f->nbytes, data, &e), ST_OK);
        if (experts && strstr(f->name, "tid2eid"))
            memcpy(data, experts, 2 * sizeof *experts);
        t[n] = (TensorOut){f->name, f->dtype, f->ndim, {0}, data};
        memcpy(t[n++].shape, f->shape, sizeof f->shape);
    }
    static const float zeros[16];
    t[n] = (TensorOut){"mtp.0.e_proj.weight", DT_F32, 2, {4, 4}, zeros};
    t[n + 1] = (TensorOut){"layers.4.attn.wq_a.weight", DT_F32, 2, {4, 4}, zeros};
    assert_int_equal(safetensors_write(temp_path(dir, "model.safetensors"), t, n + 2, NULL, &e), ST_OK);
    for (int i = 0; i < n; i++)
        free((void *)(uintptr_t)t[i].data);
    checkpoint_free(c);
    return dir;
}

static void layers_that_predict_more_tokens_are_no_error(void **state)
{
    (void)state;
    char *dir = write_model("{\"compress_ratios\":[0,4,128,4,0],\"num_nextn_predict_layers\":1}", NULL, NULL);
    Model *m;
    Error e = {0};
    if (model_open(&m, dir, "DeepSeek-V4-Flash", &e) != ST_OK)
        fail_msg("%s", e.text);
    assert_null(m->warning);
    assert_int_equal(m->cfg.layers, 4);
    assert_int_equal(model_find_linear(m, "layers.0.attn.wq_a"), 0);
    assert_int_equal(model_find_linear(m, "layers.4.attn.wq_a"), -1);
    model_free(m);
    temp_remove(dir);
}

static void both_dialects_give_the_same_rotation(void **state)
{
    (void)state;
    char *dir = write_model("{\"rope_scaling\":null,\"rope_theta\":null,\"compress_rope_theta\":null,"
                            "\"rope_parameters\":{\"main\":{\"rope_type\":\"default\",\"rope_theta\":10000.0},"
                            "\"compress\":{"
                            "\"rope_type\":\"yarn\",\"rope_theta\":160000.0,\"factor\":4.0,\"beta_fast\":4,"
                            "\"beta_slow\":1,\"original_max_position_embeddings\":64}}}", NULL, NULL);
    Model *a, *b;
    Error e = {0};
    if (model_open(&a, dir, NULL, &e) != ST_OK || model_open(&b, model_dir, NULL, &e) != ST_OK)
        fail_msg("%s", e.text);
    assert_int_equal(a->cfg.rope.type, ROPE_YARN);
    assert_int_equal(a->cfg.rope_local.type, ROPE_DEFAULT);
    assert_true(a->cfg.rope.theta == 160000 && a->cfg.rope_local.theta == 10000 && a->cfg.rope.dim == 8);
    assert_true(a->cfg.rope.has_attention_factor && a->cfg.rope.attention_factor == 1);
    assert_true(b->cfg.rope.theta == 160000 && b->cfg.rope_local.theta == 10000 && b->cfg.rope_local.dim == 8);
    const RopeParams *r = &a->cfg.rope, *s = &b->cfg.rope;
    assert_true(r->type == s->type && r->factor == s->factor && r->original_max == s->original_max &&
                r->beta_fast == s->beta_fast);
    model_free(a);
    model_free(b);
    temp_remove(dir);
}

static void broken_models_are_refused_in_one_line(void **state)
{
    (void)state;
    static const struct {
        const char *edits, *drop, *fragment;
    } rows[] = {
        {"{\"compress_ratios\":[0,4]}", NULL, "'compress_ratios' must be a list with an entry for each of the 4"},
        {"{\"compress_ratios\":null}", NULL, "it has 0"},
        {"{\"compress_ratios\":[0,4,7,4]}", NULL, "'compress_ratios[2]' must be 0, 4 or 128"},
        {"{\"compress_ratios\":[0,4,\"x\",4]}", NULL, "'compress_ratios[2]'"},
        {"{\"compress_ratios\":[4,4,128,4]}", NULL, "'layers.0.attn.compressor.wkv.weight' is missing"},
        {"{\"compress_rate_csa\":0}", NULL, "'compress_rate_csa' must be between 1"},
        {"{\"compress_rate_hca\":16}", NULL, "'layers.2.attn.compressor.ape' has shape [8,16]"},
        {"{\"hc_mult\":17}", NULL, "'hc_mult' must be between 1 and 16, not 17"},
        {"{\"hc_mult\":4}", NULL, "(hc_mult, hidden_size)"},
        {"{\"hc_eps\":2}", NULL, "'hc_eps' must be between 0 and 1"},
        {"{\"hc_sinkhorn_iters\":0}", NULL, "'hc_sinkhorn_iters'"},
        {"{\"o_groups\":3}", NULL, "'num_attention_heads' 4 is no multiple of 'o_groups' 3"},
        {"{\"o_groups\":null}", NULL, "'o_groups' is missing"},
        {"{\"o_lora_rank\":11}", NULL, "'layers.0.attn.wo_a.weight' has shape"},
        {"{\"q_lora_rank\":null}", NULL, "'q_lora_rank' is missing"},
        {"{\"qk_rope_head_dim\":7}", NULL, "'qk_rope_head_dim' 7 must be even"},
        {"{\"qk_rope_head_dim\":18}", NULL, "'qk_rope_head_dim' 18 must be even and at most"},
        {"{\"num_key_value_heads\":2}", NULL, "'num_key_value_heads' must be 1"},
        {"{\"scoring_func\":\"softmax\"}", NULL, "'scoring_func' is 'softmax'"},
        {"{\"sliding_window\":0}", NULL, "'sliding_window' must be between 1"},
        {"{\"index_topk\":0}", NULL, "'index_topk' must be between 1"},
        {"{\"num_hash_layers\":2}", NULL, "'layers.1.ffn.gate.tid2eid' is missing"},
        {"{\"num_hash_layers\":0}", NULL, "'layers.0.ffn.gate.bias' is missing"},
        {"{\"num_experts_per_tok\":3}", NULL, "must have the shape [128,3]"},
        {"{}", "layers.3.attn.indexer.compressor.norm.weight", "'layers.3.attn.indexer.compressor.norm.weight' is mis"},
        {"{}", "hc_head_base", "'hc_head_base' is missing"},
        {"{}", "layers.1.hc_ffn_scale", "'layers.1.hc_ffn_scale' is missing"},
        {"{}", "layers.2.attn.attn_sink", "'layers.2.attn.attn_sink' is missing"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *dir = write_model(rows[i].edits, rows[i].drop, NULL);
        Model *m;
        Error e = {0};
        if (model_open(&m, dir, NULL, &e) != ST_DATA)
            fail_msg("%s %s: was taken", rows[i].edits, rows[i].drop ? rows[i].drop : "");
        if (!strstr(e.text, rows[i].fragment) || strchr(e.text, '\n'))
            fail_msg("%s: said '%s', not '%s'", rows[i].edits, e.text, rows[i].fragment);
        temp_remove(dir);
    }
}

/* What only the values of the table of experts tell. */
static void tables_of_experts_are_checked_when_they_are_used(void **state)
{
    (void)state;
    static const struct {
        int64_t experts[2];
        const char *fragment;
    } rows[] = {{{0, 4}, "token 0 has expert 4, but there are 4"}, {{-1, 2}, "token 0 has expert -1"},
                {{3, 3}, "token 0 has expert 3 twice"}, {{3, 1}, NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *dir = write_model("{}", NULL, rows[i].experts);
        TestRun b;
        Stream h;
        Error e = {0};
        int64_t start[] = {0, 2};
        int32_t ids[] = {5, 0};
        TokenSet t = {.samples = 1, .start = start, .ids = ids};
        test_run_open(&b, dir, ARITH_FP32, 1, NULL);
        assert_int_equal(runner_embed(b.r, &t, &h, &e), ST_OK);
        assert_int_equal(runner_layer(b.r, 0, NULL, &h, &h, NULL, 0, &e), rows[i].fragment ? ST_DATA : ST_OK);
        if (rows[i].fragment && !strstr(e.text, rows[i].fragment))
            fail_msg("said '%s', not '%s'", e.text, rows[i].fragment);
        stream_fini(&h);
        test_run_close(&b);
        temp_remove(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sinkhorn_is_the_plain_form),
        cmocka_unit_test(coefficients_are_the_plain_form),
        cmocka_unit_test(entries_are_the_plain_form),
        cmocka_unit_test(the_greatest_are_chosen_and_the_first_among_equals),
        cmocka_unit_test(beginnings_of_a_text_give_the_same_states),
        cmocka_unit_test(chunks_do_not_change_a_bit),
        cmocka_unit_test(a_cancelled_pass_says_so),
        cmocka_unit_test(effects_are_measured_on_the_whole_state),
        cmocka_unit_test(layers_that_predict_more_tokens_are_no_error),
        cmocka_unit_test(both_dialects_give_the_same_rotation),
        cmocka_unit_test(broken_models_are_refused_in_one_line),
        cmocka_unit_test(tables_of_experts_are_checked_when_they_are_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
