#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/json.h"
#include "run/block/router.h"
#include "tests/lib/bench.h"
#include "tests/lib/tempdir.h"

/* LongCat-Flash: layers of two halves with experts beside them, and experts without weights. */

static const char longcat[] = "tests/golden/models/longcat_flash/fp32";
enum { EXPERTS = 4, ZERO = 2, PER_LAYER = 3 * EXPERTS + 1 + 2 * 5 + 2 * 3 };

/* In the order in which the library defines the modules. */
static void linears_stand_in_definition_order(void **state)
{
    (void)state;
    static const char *const attn[] = {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"};
    static const char *const mlp[] = {"gate_proj", "up_proj", "down_proj"};
    Model *m;
    Error e = {0};
    if (model_open(&m, longcat, "LongCat-Flash-Chat", &e) != ST_OK)
        fail_msg("%s", e.text);
    assert_null(m->warning); /* weights of experts that need none are not worth a word */
    assert_int_equal(m->nlinears, 2 * PER_LAYER);
    for (int layer = 0; layer < 2; layer++) {
        char want[100];
        int64_t i = layer * PER_LAYER;
        assert_true(m->units[layer].first == i && m->units[layer].count == PER_LAYER);
        for (int k = 0; k < 3 * EXPERTS; k++, i++) {
            snprintf(want, sizeof want, "model.layers.%d.mlp.experts.%d.%s", layer, k / 3, mlp[k % 3]);
            assert_string_equal(m->linears[i].name, want);
        }
        snprintf(want, sizeof want, "model.layers.%d.mlp.router.classifier", layer);
        assert_string_equal(m->linears[i].name, want);
        assert_int_equal(m->linears[i++].kind, LK_ROUTER);
        for (int k = 0; k < 10; k++, i++) {
            snprintf(want, sizeof want, "model.layers.%d.self_attn.%d.%s", layer, k / 5, attn[k % 5]);
            assert_string_equal(m->linears[i].name, want);
        }
        for (int k = 0; k < 6; k++, i++) {
            snprintf(want, sizeof want, "model.layers.%d.mlps.%d.%s", layer, k / 3, mlp[k % 3]);
            assert_string_equal(m->linears[i].name, want);
        }
    }
    model_free(m);
}

/* ---- taps ---- */

typedef struct Count {
    const Model *m;
    int begun[2][TAP_EXPERT_WEIGHTS + 1], second[2], ended, layers;
    float *block; /* what the last TAP_BLOCK_OUT gave */
    const TokenSet *t;
} Count;

static bool count_wants(void *self, Tap tap)
{
    (void)self;
    (void)tap;
    return true;
}

static Status count_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    (void)samples;
    (void)start;
    (void)width;
    (void)err;
    Count *c = self;
    c->begun[tap.layer][tap.kind]++;
    if (tap.kind == TAP_ATTN && tap.linear >= 0) {
        assert_string_equal(c->m->linears[tap.linear].name + strlen("model.layers.0."), "self_attn.1.o_proj");
        c->second[tap.layer]++;
    }
    return ST_OK;
}

static void count_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                       int64_t ld)
{
    Count *c = self;
    for (int64_t i = 0; tap.kind == TAP_BLOCK_OUT && i < rows; i++)
        memcpy(c->block + (c->t->start[sample] + row0 + i) * width, x + i * ld, (size_t)width * sizeof *x);
}

static Status count_end(void *self, Tap tap, Error *err)
{
    (void)tap;
    (void)err;
    ((Count *)self)->ended++;
    return ST_OK;
}

static Status count_layer(void *self, int layer, Error *err)
{
    (void)err;
    assert_int_equal(((Count *)self)->layers++, layer);
    return ST_OK;
}

static void a_layer_ends_once(void **state)
{
    (void)state;
    static const ObserverOps ops = {.name = "count", .wants_tap = count_wants, .tap_begin = count_begin,
                                    .tap_tile = count_tile, .tap_end = count_end, .layer_end = count_layer};
    static const int len[] = {12, 1, 40};
    TestRun b;
    Stream h, out;
    Error e = {0};
    test_run_open(&b, longcat, ARITH_EXACT, 2, NULL);
    TokenSet *t = test_tokens(len, 3, b.m->cfg.vocab, 2);
    assert_int_equal(runner_embed(b.r, t, &h, &e), ST_OK);
    assert_int_equal(stream_init(&out, h.samples, h.start, h.width, &e), ST_OK);
    Count c = {.m = b.m, .t = t, .block = calloc((size_t)(h.rows * h.width), sizeof(float))};
    Observer obs = {&ops, &c};
    size_t bytes = (size_t)(h.rows * h.width) * sizeof *h.data;
    float *in = malloc(bytes);
    for (int layer = 0; layer < 2; layer++) {
        memcpy(in, h.data, bytes);
        assert_int_equal(runner_layer(b.r, layer, NULL, &h, &out, &obs, 1, &e), ST_OK);
        assert_memory_equal(in, h.data, bytes);
        assert_int_equal(runner_layer(b.r, layer, NULL, &h, &h, NULL, 0, &e), ST_OK);
        assert_memory_equal(out.data, h.data, bytes); /* in place or not, watched or not */
        assert_memory_equal(c.block, h.data, bytes);
        const int *n = c.begun[layer];
        assert_true(n[TAP_BLOCK_OUT] == 1 && n[TAP_FFN] == 1 && n[TAP_ROUTER] == 1 && n[TAP_EXPERTS] == 1);
        assert_true(n[TAP_ATTN] == 2 && n[TAP_Q] == 2 && n[TAP_K] == 2 && n[TAP_V] == 2 && c.second[layer] == 1);
    }
    int begun = 0;
    for (int i = 0; i <= TAP_EXPERT_WEIGHTS; i++)
        begun += c.begun[0][i] + c.begun[1][i];
    assert_int_equal(begun, c.ended);
    assert_int_equal(c.layers, 2);
    free(in);
    free(c.block);
    stream_fini(&h);
    stream_fini(&out);
    test_tokens_free(t);
    test_run_close(&b);
}

static void experts_without_weights_are_numbered_last(void **state)
{
    (void)state;
    const Ops ops = ops_make(ARITH_FP32, DT_F32);
    MoeConfig c = {.experts = EXPERTS, .zero = ZERO, .top_k = 2, .groups = 1, .top_groups = 1, .scale = 1.5};
    MoeRule rule = {.score = SCORE_SOFTMAX, .scaled = true};
    const float logits[EXPERTS + ZERO] = {0, 1, 0, 0, 3, 2}, bias[EXPERTS + ZERO] = {0, 1, 0, 0, 0, 0};
    float scratch[64], w[2];
    int32_t idx[2];
    assert_true(router_choices(&c) == EXPERTS + ZERO && router_scratch_floats(&c) <= 64);
    router_choose(&rule, &c, &ops, logits, NULL, scratch, idx, w);
    double sum = 3 + exp(1) + exp(3) + exp(2);
    assert_true(idx[0] == 4 && idx[1] == 5);
    assert_true(fabs((double)w[0] - 1.5 * exp(3) / sum) < 1e-6 && fabs((double)w[1] - 1.5 * exp(2) / sum) < 1e-6);
    router_choose(&rule, &c, &ops, logits, bias, scratch, idx, w);
    assert_true(idx[0] == 1 && idx[1] == 4 && fabs((double)w[0] - 1.5 * exp(1) / sum) < 1e-6);
}

/* ---- config.json ---- */

static void broken_models_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *drop, *add, *fragment;
    } rows[] = {
        {"num_layers", NULL, "'num_layers' is missing"},
        {"ffn_hidden_size", NULL, "'ffn_hidden_size' is missing"},
        {"moe_topk", NULL, "'moe_topk' is missing"},
        {"expert_ffn_hidden_size", NULL, "'expert_ffn_hidden_size' is missing"},
        {NULL, "{\"moe_topk\": 7}", "'moe_topk' must be between 1 and 6"},
        {NULL, "{\"zero_expert_num\": -1}", "'zero_expert_num' must be between 0 and"},
        {NULL, "{\"zero_expert_num\": 1}", "mlp.router.e_score_correction_bias' has shape [6], config.json says [5]"},
        {NULL, "{\"zero_expert_type\": \"copy\"}", "'zero_expert_type' is 'copy': supported is identity"},
        {NULL, "{\"num_layers\": 3}", "model.layers.2.post_attention_layernorm.0.weight' is missing"},
        {NULL, "{\"n_routed_experts\": 5, \"zero_expert_num\": 1}", "mlp.experts.4.down_proj.weight' is missing"},
        {NULL, "{\"mla_scale_q_lora\": 3}", "'mla_scale_q_lora' must be true or false"},
    };
    size_t n, size;
    char path[200];
    snprintf(path, sizeof path, "%s/config.json", longcat);
    char *text = temp_get(path, &n);
    snprintf(path, sizeof path, "%s/model.safetensors", longcat);
    char *weights = temp_get(path, &size);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *dir = temp_folder();
        cJSON *config = cJSON_Parse(text), *more = cJSON_Parse(rows[i].add ? rows[i].add : "{}"), *v;
        assert_non_null(more);
        if (rows[i].drop)
            cJSON_DeleteItemFromObject(config, rows[i].drop);
        cJSON_ArrayForEach(v, more)
        {
            cJSON_DeleteItemFromObject(config, v->string);
            cJSON_AddItemToObject(config, v->string, cJSON_Duplicate(v, 1));
        }
        char *changed = cJSON_Print(config);
        temp_puts(temp_path(dir, "config.json"), changed);
        temp_put(temp_path(dir, "model.safetensors"), weights, size);
        Model *m;
        Error e = {0};
        assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
        if (!strstr(e.text, rows[i].fragment))
            fail_msg("'%s' lacks '%s'", e.text, rows[i].fragment);
        free(changed);
        cJSON_Delete(config);
        cJSON_Delete(more);
        temp_remove(dir);
    }
    free(text);
    free(weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linears_stand_in_definition_order),
        cmocka_unit_test(a_layer_ends_once),
        cmocka_unit_test(experts_without_weights_are_numbered_last),
        cmocka_unit_test(broken_models_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
