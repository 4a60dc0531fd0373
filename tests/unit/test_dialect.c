#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "io/json.h"
#include "model/model.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tiny_model.h"

/* ---- dialects ---- */

static cJSON *load(const char *path)
{
    char *text = temp_get(path, NULL);
    cJSON *j = cJSON_Parse(text);
    free(text);
    assert_non_null(j);
    return j;
}

static void same_config(const ModelConfig *a, const ModelConfig *b)
{
    assert_true(a->hidden == b->hidden && a->inter == b->inter && a->vocab == b->vocab &&
        a->max_positions == b->max_positions &&
                a->layers == b->layers && a->heads == b->heads && a->kv_heads == b->kv_heads &&
                    a->head_dim == b->head_dim &&
                a->moe.renorm == b->moe.renorm && a->eps == b->eps && a->act == b->act && a->tied == b->tied && a->dtype == b->dtype);
    assert_memory_equal(a->window, b->window, (size_t)a->layers * sizeof *a->window);
    RopeParams x = a->rope, y = b->rope;
    assert_true(x.type == y.type && x.theta == y.theta && x.factor == y.factor &&
        x.low_freq_factor == y.low_freq_factor &&
                x.high_freq_factor == y.high_freq_factor && x.original_max == y.original_max && x.dim == y.dim);
}

/* torch_dtype, rope_theta, rope_scaling <-> dtype, rope_parameters. */
static void swap_dialect(cJSON *c)
{
    cJSON *dtype = cJSON_DetachItemFromObject(c, "torch_dtype");
    if (dtype) {
        cJSON_AddItemToObject(c, "dtype", dtype);
        cJSON *theta = cJSON_DetachItemFromObject(c, "rope_theta"), *rope;
        rope = cJSON_DetachItemFromObject(c, "rope_scaling");
        if (!cJSON_IsObject(rope)) {
            cJSON_Delete(rope);
            rope = cJSON_CreateObject();
            cJSON_AddStringToObject(rope, "rope_type", "default");
        }
        cJSON_AddItemToObject(rope, "rope_theta", theta);
        cJSON_AddItemToObject(c, "rope_parameters", rope);
    } else {
        cJSON_AddItemToObject(c, "torch_dtype", cJSON_DetachItemFromObject(c, "dtype"));
        cJSON *rope = cJSON_DetachItemFromObject(c, "rope_parameters");
        cJSON_AddItemToObject(c, "rope_theta", cJSON_DetachItemFromObject(rope, "rope_theta"));
        cJSON_AddItemToObject(c, "rope_scaling", rope);
    }
}

static void reopen(const char *path, void (*edit)(cJSON *c))
{
    char *dir = temp_folder(), cwd[4096], target[8192];
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(target, sizeof target, "%s/%s/model.safetensors", cwd, path);
    assert_int_equal(symlink(target, temp_path(dir, "model.safetensors")), 0);
    char original[4096];
    snprintf(original, sizeof original, "%s/config.json", path);
    cJSON *c = load(original);
    edit(c);
    char *text = cJSON_Print(c);
    temp_puts(temp_path(dir, "config.json"), text);
    free(text);
    cJSON_Delete(c);
    Model *a = test_model_open(path, NULL), *b = test_model_open(dir, NULL);
    same_config(&a->cfg, &b->cfg);
    assert_int_equal(a->params, b->params);
    assert_string_not_equal(a->fingerprint, b->fingerprint); /* other bytes of config.json */
    model_free(a);
    model_free(b);
    temp_remove(dir);
}

static void add_nulls(cJSON *c)
{
    static const char *const keys[] = {"head_dim",   "rope_scaling",  "rope_parameters", "layer_types",
           "sliding_window",
                                       "dtype",      "torch_dtype",   "hidden_act",      "attention_bias",
                                       "quantization_config",
                                       "rms_norm_eps", "partial_rotary_factor", "num_key_value_heads",
                                       "tie_word_embeddings"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!cJSON_HasObjectItem(c, keys[i]))
            cJSON_AddNullToObject(c, keys[i]);
}

static void dialects_and_nulls_mean_the_same(void **state)
{
    (void)state;
    static const char *const models[] = {
        "tests/golden/models/llama/fp32",
        "tests/golden/models/llama/bf16",
        "tests/golden/models/llama3/fp32",
        "tests/golden/models/llama3/bf16",
        "tests/golden/models/qwen2/fp32",
        "tests/golden/models/qwen2/bf16",
        "tests/golden/models/qwen3/fp32",
        "tests/golden/models/qwen3/bf16",
        "lab_models/demo",
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        reopen(models[i], swap_dialect);
        reopen(models[i], add_nulls);
    }
}

static void drop_defaults(cJSON *c)
{
    cJSON_DeleteItemFromObject(c, "partial_rotary_factor");
    cJSON_DeleteItemFromObject(c, "norm_topk_prob");
}

/* Each family's own defaults: the golden configs spell out what they are. */
static void families_fill_in_what_is_missing(void **state)
{
    (void)state;
    static const char *const models[] = {
        "tests/golden/models/glm4_moe/fp32",    "tests/golden/models/qwen3_next/fp32",
        "tests/golden/models/deepseek_v3/fp32", "tests/golden/models/deepseek_v32/fp32",
        "tests/golden/models/glm_moe_dsa/fp32",
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        reopen(models[i], drop_defaults);
}

static const struct {
    const char *add;
    RopeType type;
    double theta, factor;
    int64_t original;
    int dim;
} dialects[] = {
    {"{}", ROPE_DEFAULT, 1e4, 1, 64, 4},
    {"{\"rope_theta\":null}", ROPE_DEFAULT, 1e4, 1, 64, 4},
    {"{\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2,\"rope_theta\":77}}", ROPE_LINEAR, 77, 2, 64, 4},
    /* a live rope_scaling wins over rope_parameters; a dead one does not */
    {"{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":3},\"rope_parameters\":{\"rope_type\":\"linear\","
     "\"factor\":2}}", ROPE_DYNAMIC,
     1e4, 3, 64, 4},
    {"{\"rope_scaling\":null,\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2}}", ROPE_LINEAR, 1e4, 2,
     64, 4},
    /* no key of Llama's; a type that isn't built in may mean it */
    {"{\"partial_rotary_factor\":0.5}", ROPE_DEFAULT, 1e4, 1, 64, 4},
    {"{\"rotary_dim\":2}", ROPE_DEFAULT, 1e4, 1, 64, 4},
    {"{\"model_type\":\"newllama\",\"partial_rotary_factor\":0.5}", ROPE_DEFAULT, 1e4, 1, 64, 2},
    {"{\"model_type\":\"newllama\",\"partial_rotary_factor\":1,"
     "\"rope_parameters\":{\"rope_type\":null,\"partial_rotary_factor\":0.5}}",
     ROPE_DEFAULT, 1e4, 1, 64, 2},
    {"{\"rope_scaling\":{\"type\":\"yarn\",\"original_max_position_embeddings\":16,\"beta_fast\":0,"
     "\"beta_slow\":null}}", ROPE_YARN, 1e4, 4,
     16, 4},
    {"{\"rope_scaling\":{\"type\":\"su\",\"short_factor\":[1,2],\"long_factor\":[3,4]},"
     "\"original_max_position_embeddings\":32}",
     ROPE_LONGROPE, 1e4, 2, 32, 4},
};

static void dialect_rules(void **state)
{
    (void)state;
    char *dir = temp_folder();
    tiny_model_write(dir, NULL);
    for (size_t i = 0; i < sizeof dialects / sizeof *dialects; i++) {
        tiny_model_config(dir, NULL, dialects[i].add);
        Model *m = test_model_open(dir, NULL);
        const RopeParams *r = &m->cfg.rope;
        if (r->type != dialects[i].type || r->theta != dialects[i].theta || r->factor != dialects[i].factor ||
            r->original_max != dialects[i].original || r->dim != dialects[i].dim)
            fail_msg("%s: type %d theta %g factor %g original %lld dim %d", dialects[i].add, (int)r->type, r->theta,
                r->factor,
                     (long long)r->original_max, r->dim);
        assert_true(r->beta_fast == 32 && r->beta_slow == 1 && r->truncate);
        if (r->type == ROPE_LONGROPE)
            assert_true(r->short_factor[1] == 2 && r->long_factor[0] == 3);
        model_free(m);
    }
    tiny_model_config(dir, NULL,
                      "{\"rope_scaling\":{\"type\":\"yarn\",\"factor\":8,\"attention_factor\":1.5,\"mscale\":1,"
                      "\"mscale_all_dim\":0.75,\"beta_fast\":4,\"truncate\":false}}");
    Model *m = test_model_open(dir, NULL);
    const RopeParams *r = &m->cfg.rope;
    assert_true(r->has_attention_factor && r->attention_factor == 1.5 && r->mscale == 1 && r->mscale_all_dim == 0.75 &&
                r->beta_fast == 4 && !r->truncate && r->original_max == 64);
    model_free(m);
    tiny_model_config(dir, "model_type", "{\"architectures\":[\"LlamaForCausalLM\"]}");
    m = test_model_open(dir, NULL);
    assert_string_equal(m->cfg.model_type, "llama");
    model_free(m);
    /* multimodal files hold the decoder's keys one level down */
    Str nested = {0};
    str_printf(&nested, "{\"model_type\":\"some_vl\",\"text_config\":%s}", TINY_MODEL_CONFIG);
    temp_puts(temp_path(dir, "config.json"), nested.s);
    m = test_model_open(dir, NULL);
    assert_string_equal(m->cfg.model_type, "llama");
    str_free(&nested);
    model_free(m);
    temp_remove(dir);
}

static void windows_of_the_qwen_line(void **state)
{
    (void)state;
    static const struct {
        const char *add;
        int64_t want[2];
    } rows[] = {
        {"{\"model_type\":\"qwen2\"}", {0, 0}},
        {"{\"model_type\":\"qwen2\",\"use_sliding_window\":false,\"sliding_window\":5,\"max_window_layers\":0}",
         {0, 0}},
        {"{\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"sliding_window\":5,\"max_window_layers\":1}", {0, 5}},
        {"{\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"sliding_window\":5,\"max_window_layers\":0}", {5, 5}},
        {"{\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"sliding_window\":5}", {0, 0}}, /* from layer 28 on */
        {"{\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"max_window_layers\":1}", {0, 4096}},
        /* an explicit list wins */
        {"{\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"sliding_window\":5,\"max_window_layers\":1,"
         "\"layer_types\":[\"sliding_attention\",\"full_attention\"]}", {5, 0}},
        {"{\"model_type\":\"llama\",\"sliding_window\":5}", {0, 0}}, /* no key of Llama's */
        {"{\"model_type\":\"llama\",\"layer_types\":[\"full_attention\",\"full_attention\"]}", {0, 0}},
        {"{\"model_type\":\"newllama\",\"sliding_window\":5,\"layer_types\":[\"full_attention\","
         "\"sliding_attention\"]}", {0, 5}},
    };
    char *dir = temp_folder();
    tiny_model_write(dir, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tiny_model_config(dir, NULL, rows[i].add);
        Model *m = test_model_open(dir, NULL);
        if (m->cfg.window[0] != rows[i].want[0] || m->cfg.window[1] != rows[i].want[1])
            fail_msg("%s: windows %lld %lld", rows[i].add, (long long)m->cfg.window[0], (long long)m->cfg.window[1]);
        model_free(m);
    }
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dialects_and_nulls_mean_the_same),
        cmocka_unit_test(families_fill_in_what_is_missing),
        cmocka_unit_test(dialect_rules),
        cmocka_unit_test(windows_of_the_qwen_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
