#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include <cmocka.h>

#include "model/block.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tiny_model.h"

/* ---- real models ---- */

static const struct {
    const char *path, *type;
    int64_t params;
    int layers, heads, kv, head_dim, bias_per_layer;
    bool tied;
    DType dtype;
    RopeType rope;
    double theta;
} golden[] = {
    {"tests/golden/models/llama/fp32", "llama", 49880, 3, 4, 4, 10, 0, false, DT_F32, ROPE_DEFAULT, 1e4},
    {"tests/golden/models/llama/bf16", "llama", 49880, 3, 4, 4, 10, 0, false, DT_BF16, ROPE_DEFAULT, 1e4},
    {"tests/golden/models/llama3/fp32", "llama", 51408, 3, 4, 2, 12, 0, true, DT_F32, ROPE_LLAMA3, 5e5},
    {"tests/golden/models/llama3/bf16", "llama", 51408, 3, 4, 2, 12, 0, true, DT_BF16, ROPE_LLAMA3, 5e5},
    {"tests/golden/models/qwen2/fp32", "qwen2", 49344, 3, 6, 2, 8, 3, true, DT_F32, ROPE_DEFAULT, 1e6},
    {"tests/golden/models/qwen2/bf16", "qwen2", 49344, 3, 6, 2, 8, 3, true, DT_BF16, ROPE_DEFAULT, 1e6},
    {"tests/golden/models/qwen3/fp32", "qwen3", 53816, 3, 4, 2, 16, 0, false, DT_F32, ROPE_DEFAULT, 1e6},
    {"tests/golden/models/qwen3/bf16", "qwen3", 53816, 3, 4, 2, 16, 0, false, DT_BF16, ROPE_DEFAULT, 1e6},
    {"lab_models/demo", "qwen3", 5509888, 8, 8, 2, 32, 0, true, DT_BF16, ROPE_DEFAULT, 1e4},
};

static void check_layer(const Model *m, int layer)
{
    static const struct {
        const char *suffix;
        LinearKind kind;
        const char *label;
        int first, count;
    } want[7] = {
        {"self_attn.q_proj", LK_Q, "qkv", 0, 3}, {"self_attn.k_proj", LK_K, "qkv", 0, 3},
        {"self_attn.v_proj", LK_V, "qkv", 0, 3}, {"self_attn.o_proj", LK_O, ".", 3, 1},
        {"mlp.gate_proj", LK_GATE, "gu", 4, 2},  {"mlp.up_proj", LK_UP, "gu", 4, 2},
        {"mlp.down_proj", LK_DOWN, ".", 6, 1},
    };
    const ModelConfig *c = &m->cfg;
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    int64_t out[7] = {q, kv, kv, c->hidden, c->inter, c->inter, c->hidden};
    int64_t in[7] = {c->hidden, c->hidden, c->hidden, q, c->hidden, c->hidden, c->inter};
    for (int i = 0; i < 7; i++) {
        int64_t at = layer * 7 + i;
        const Linear *l = &m->linears[at];
        char name[128];
        snprintf(name, sizeof name, "model.layers.%d.%s", layer, want[i].suffix);
        assert_string_equal(l->name, name);
        assert_int_equal(model_find_linear(m, name), at);
        assert_true(l->kind == want[i].kind && l->layer == layer && l->out == out[i] && l->in == in[i]);
        assert_int_equal(l->input, layer * 7 + want[i].first);
        const FusedGroup *g = &m->groups[l->group];
        assert_true(g->first == layer * 7 + want[i].first && g->count == want[i].count);
        assert_string_equal(g->label, want[i].label);
        assert_int_equal(strncmp(l->weight->name, name, strlen(name)), 0);
        assert_true(l->weight->shape[0] == l->out && l->weight->shape[1] == l->in);
        if (l->bias)
            assert_true(l->bias->ndim == 1 && l->bias->shape[0] == l->out);
    }
    const Unit *t = &m->units[layer];
    static const char *const slots[] = {"q", "k", "v", "o", "gate", "up", "down"};
    for (int i = 0; i < 7; i++)
        assert_int_equal(unit_linear(t, slots[i]), layer * 7 + i);
    assert_int_equal(unit_linear(t, "no such slot"), -1);
    assert_true(unit_small(t, "norm") && t->block[1].join->small[RESIDUAL_BEFORE]);
    assert_int_equal(unit_small(t, "q_norm") != NULL, m->cfg.qk_norm);
    assert_int_equal(unit_small(t, "k_norm") != NULL, m->cfg.qk_norm);
}

static void golden_models_open(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        Model *m = test_model_open(golden[i].path, NULL);
        assert_string_equal(m->arch->model_type, golden[i].type);
        assert_string_equal(m->cfg.model_type, golden[i].type);
        assert_int_equal(m->cfg.layers, golden[i].layers);
        assert_int_equal(m->nlinears, 7 * golden[i].layers);
        assert_int_equal(m->ngroups, 4 * golden[i].layers);
        assert_int_equal(m->params, golden[i].params);
        assert_true(m->cfg.heads == golden[i].heads && m->cfg.kv_heads == golden[i].kv &&
            m->cfg.head_dim == golden[i].head_dim);
        assert_int_equal(m->cfg.tied, golden[i].tied);
        assert_int_equal(m->exit.head == m->entry.table, golden[i].tied);
        assert_int_equal(m->cfg.dtype, golden[i].dtype);
        assert_int_equal(m->cfg.rope.type, golden[i].rope);
        assert_true(m->cfg.rope.theta == golden[i].theta && m->cfg.rope.dim == m->cfg.head_dim);
        assert_null(m->warning);
        assert_int_equal(strlen(m->fingerprint), 64);
        int biases = 0;
        for (int l = 0; l < m->cfg.layers; l++)
            check_layer(m, l);
        for (int64_t l = 0; l < m->nlinears; l++)
            biases += m->linears[l].bias != NULL;
        assert_int_equal(biases, golden[i].bias_per_layer * golden[i].layers);
        assert_int_equal(checkpoint_bytes_read(m->ckpt), 0);
        assert_int_equal(model_find_linear(m, "model.layers.0.mlp"), -1);
        model_free(m);
    }
    Model *m = test_model_open("tests/golden/models/qwen2/fp32", NULL); /* windows on the last layer only */
    assert_true(m->cfg.window[0] == 0 && m->cfg.window[1] == 0 && m->cfg.window[2] == 6);
    model_free(m);
    m = test_model_open("tests/golden/models/llama3/fp32", NULL);
    const RopeParams *r = &m->cfg.rope;
    assert_true(r->factor == 8 && r->low_freq_factor == 1 && r->high_freq_factor == 4 && r->original_max == 64);
    model_free(m);
}

/* ---- what a config and its tensors must have ---- */

static const struct {
    const char *drop, *add, *fragment;
} bad_configs[] = {
    {"hidden_size", NULL, "'hidden_size' is missing"},
    {"vocab_size", NULL, "'vocab_size' is missing"},
    {"num_hidden_layers", NULL, "'num_hidden_layers' is missing"},
    {"num_attention_heads", NULL, "'num_attention_heads' is missing"},
    {"intermediate_size", NULL, "'intermediate_size' is missing"},
    {NULL, "{\"hidden_size\":null}", "'hidden_size' is missing"},
    {"model_type", NULL, "neither 'model_type' nor 'architectures'"},
    {NULL, "{\"model_type\":7}", "'model_type' must be a string"},
    {NULL, "{\"hidden_size\":0}", "'hidden_size' must be between 1 and"},
    {NULL, "{\"hidden_size\":-8}", "'hidden_size' must be between 1 and"},
    {NULL, "{\"hidden_size\":8.5}", "'hidden_size' must be a whole number"},
    {NULL, "{\"hidden_size\":\"8\"}", "'hidden_size' must be a whole number, not a string"},
    {NULL, "{\"hidden_size\":4000000000}", "'hidden_size' must be between 1 and"},
    {NULL, "{\"vocab_size\":1e300}", "'vocab_size' must be a whole number"},
    {NULL, "{\"num_hidden_layers\":1000000000}", "'num_hidden_layers' must be between 1 and 10000"},
    {NULL, "{\"num_attention_heads\":3,\"num_key_value_heads\":2}", "3 is no multiple of 'num_key_value_heads' 2"},
    {NULL, "{\"num_attention_heads\":3}", "'hidden_size' 8 is no multiple of 'num_attention_heads' 3"},
    {NULL, "{\"num_key_value_heads\":0}", "'num_key_value_heads' must be between"},
    {NULL, "{\"head_dim\":3}", "head_dim 3 must be an even number"},
    {NULL, "{\"head_dim\":-4}", "'head_dim' must be between"},
    {NULL, "{\"rms_norm_eps\":-1}", "'rms_norm_eps' must be between 0 and 1"},
    {NULL, "{\"rms_norm_eps\":\"x\"}", "'rms_norm_eps' must be a number"},
    {NULL, "{\"hidden_act\":\"relu2\"}", "'hidden_act' is 'relu2'"},
    {NULL, "{\"torch_dtype\":\"float8\"}", "'torch_dtype' is 'float8'"},
    {NULL, "{\"dtype\":\"int8\"}", "'dtype' is 'int8'"},
    {NULL, "{\"tie_word_embeddings\":1}", "'tie_word_embeddings' must be true or false"},
    {NULL, "{\"quantization_config\":{\"bits\":4}}", "'quant_method' is missing"},
    {NULL, "{\"rope_scaling\":7}", "'rope_scaling' must be an object"},
    {NULL, "{\"rope_scaling\":{\"type\":\"mrope\"}}", "'rope_type' is 'mrope'"},
    {NULL, "{\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"}}}",
     "'rope_parameters.full_attention'"},
    {NULL, "{\"rope_scaling\":{\"type\":\"linear\"}}", "rope type linear needs 'factor'"},
    {NULL, "{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":-2}}", "'factor' must be positive"},
    {NULL, "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}",
     "needs 'original_max_position_embeddings'"},
    {NULL, "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"original_max_position_embeddings\":32}}",
     "'low_freq_factor'"},
    {NULL, "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"original_max_position_embeddings\":0}}",
     "must be positive, not 0"},
    {NULL, "{\"rope_scaling\":{\"rope_type\":\"longrope\",\"short_factor\":[1,1]}}",
     "'long_factor' must be a list of 2 numbers"},
    {NULL, "{\"rope_scaling\":{\"rope_type\":\"longrope\",\"short_factor\":[1],\"long_factor\":[1,1]}}",
     "'short_factor' must be a list of 2 numbers (half the rotated dimensions), found 1"},
    {NULL, "{\"rope_scaling\":{\"rope_type\":\"longrope\",\"short_factor\":[1,-1],\"long_factor\":[1,1]}}",
     "must hold positive"},
    {NULL, "{\"rope_theta\":0}", "'rope_theta' must be positive"},
    {NULL, "{\"partial_rotary_factor\":0.5,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}",
     "this family rotates whole heads"},
    {NULL, "{\"model_type\":\"phi3\",\"partial_rotary_factor\":null}", "'partial_rotary_factor' is null"},
    {NULL, "{\"use_bidirectional_attention\":true}", "'use_bidirectional_attention': its tokens look at those behind"},
    {"max_position_embeddings", "{\"model_type\":\"newllama\",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}}",
     "'max_position_embeddings' is missing: rope type dynamic needs it"},
    {NULL, "{\"model_type\":\"phi3\",\"partial_rotary_factor\":1.5}", "must be an even number of dimensions"},
    {NULL, "{\"layer_types\":[\"full_attention\"]}", "an entry for each of the 2 layers"},
    {NULL, "{\"layer_types\":[\"full_attention\",\"linear_attention\"]}", "'layer_types[1]' is 'linear_attention'"},
    {NULL, "{\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", "no sliding_window is in use"},
    {NULL, "{\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"sliding_window\":0}",
     "'sliding_window' must be positive"},
};

static void config_errors_name_the_key(void **state)
{
    (void)state;
    char *dir = temp_folder();
    tiny_model_write(dir, NULL);
    tiny_model_config(dir, NULL, NULL);
    model_free(test_model_open(dir, NULL));
    for (size_t i = 0; i < sizeof bad_configs / sizeof *bad_configs; i++) {
        Error e = {0};
        Model *m;
        tiny_model_config(dir, bad_configs[i].drop, bad_configs[i].add);
        if (model_open(&m, dir, NULL, &e) != ST_DATA || m)
            fail_msg("row %zu (%s) was not refused: %s", i, bad_configs[i].fragment, e.text);
        if (!strstr(e.text, bad_configs[i].fragment) || !strstr(e.text, "config.json"))
            fail_msg("row %zu: '%s' lacks '%s' or the file", i, e.text, bad_configs[i].fragment);
    }
    temp_remove(dir);
}

static void tensor_errors_name_file_and_tensor(void **state)
{
    (void)state;
    static const struct {
        TensorChange change;
        const char *fragment;
    } rows[] = {
        {{.name = "model.embed_tokens.weight", .drop = true}, "tensor 'model.embed_tokens.weight' is missing"},
        {{.name = "model.norm.weight", .drop = true}, "tensor 'model.norm.weight' is missing"},
        {{.name = "model.layers.1.mlp.up_proj.weight", .drop = true},
         "tensor 'model.layers.1.mlp.up_proj.weight' is missing"},
        {{.name = "model.layers.0.input_layernorm.weight", .drop = true},
         "'model.layers.0.input_layernorm.weight' is missing"},
        {{.name = "model.layers.0.self_attn.q_proj.weight", .rows = 8, .cols = 9},
         "'model.layers.0.self_attn.q_proj.weight' has shape [8,9], config.json says [8,8] (num_attention_heads x "
         "head_dim, hidden_size)"},
        {{.name = "model.layers.0.self_attn.q_proj.weight", .rows = 64}, "has shape [64], config.json says [8,8]"},
        {{.name = "model.layers.0.self_attn.k_proj.weight", .rows = 8, .cols = 8}, "num_key_value_heads x head_dim"},
        {{.name = "model.embed_tokens.weight", .rows = 9, .cols = 8},
         "has shape [9,8], config.json says [10,8] (vocab_size, hidden_size)"},
        {{.name = "lm_head.weight", .rows = 11, .cols = 8}, "'lm_head.weight' has shape [11,8]"},
        {{.name = "model.norm.weight", .rows = 8, .cols = 1}, "has shape [8,1], config.json says [8] (hidden_size)"},
        {{.name = "model.layers.1.mlp.down_proj.weight", .dtype = DT_F8_E4M3},
         "'model.layers.1.mlp.down_proj.weight' is F8_E4M3"},
        {{.name = "model.norm.weight", .dtype = DT_F64}, "'model.norm.weight' is F64: only F32, F16 and BF16"},
        {{.name = "model.layers.1.mlp.down_proj.bias", .add = true, .rows = 9},
         "'model.layers.1.mlp.down_proj.bias' has shape [9]"},
    };
    char *dir = temp_folder();
    tiny_model_config(dir, NULL, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Error e = {0};
        Model *m;
        tiny_model_write(dir, &rows[i].change);
        assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
        if (!strstr(e.text, rows[i].fragment) || !strstr(e.text, "model.safetensors"))
            fail_msg("row %zu: '%s' lacks '%s' or the file", i, e.text, rows[i].fragment);
    }
    tiny_model_write(dir, NULL);
    tiny_model_config(dir, NULL, "{\"num_hidden_layers\":3}");
    Error e = {0};
    Model *m;
    assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
    assert_non_null(strstr(e.text, "'model.layers.2.input_layernorm.weight' is missing"));
    unlink(temp_path(dir, "config.json"));
    assert_int_equal(model_open(&m, dir, NULL, &e), ST_IO);
    assert_non_null(strstr(e.text, "config.json': No such file"));
    temp_puts(temp_path(dir, "config.json"), "[1]");
    assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
    temp_puts(temp_path(dir, "config.json"), "{\"a\":1,\n\"a\" 2}");
    assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
    assert_non_null(strstr(e.text, "config.json:2:5: expected ':' after a key"));
    temp_remove(dir);
}

static void optional_tensors_count(void **state)
{
    (void)state;
    char *dir = temp_folder();
    tiny_model_config(dir, NULL, NULL);
    tiny_model_write(dir, NULL);
    Model *m = test_model_open(dir, NULL);
    int64_t all = m->params;
    assert_int_equal(all, 2 * 80 + 8 + 2 * (16 + 64 + 32 + 32 + 64 + 3 * 96));
    assert_ptr_not_equal(m->exit.head, m->entry.table);
    model_free(m);
    const TensorChange no_head = {.name = "lm_head.weight", .drop = true};
    tiny_model_write(dir, &no_head); /* absent, and not tied: there are no logits */
    m = test_model_open(dir, NULL);
    assert_true(!m->cfg.tied && !m->exit.head && m->params == all - 80);
    assert_non_null(strstr(m->warning, "there is no lm_head.weight and tie_word_embeddings is false"));
    model_free(m);
    tiny_model_config(dir, NULL, "{\"tie_word_embeddings\":true}");
    m = test_model_open(dir, NULL);
    assert_true(m->exit.head == m->entry.table && !m->exit.spare && m->params == all - 80 && !m->warning);
    model_free(m);
    tiny_model_write(dir, NULL); /* there, but ignored; it is equal (all is zero), so nobody needs to know */
    m = test_model_open(dir, NULL);
    assert_true(m->exit.head == m->entry.table && m->exit.spare && m->params == all - 80 && !m->warning);
    model_free(m);
    const TensorChange half = {.name = "lm_head.weight", .dtype = DT_BF16};
    tiny_model_write(dir, &half); /* another one */
    m = test_model_open(dir, NULL);
    assert_true(m->exit.head == m->entry.table && m->exit.spare);
    assert_non_null(strstr(m->warning, "'lm_head.weight' is not the table of embeddings, but tie_word_embeddings is true"));
    model_free(m);
    const TensorChange bias = {.name = "model.layers.1.self_attn.o_proj.bias", .add = true, .rows = 8};
    tiny_model_write(dir, &bias);
    tiny_model_config(dir, "torch_dtype", "{\"attention_bias\":false}"); /* the tensor decides */
    m = test_model_open(dir, NULL);
    assert_non_null(m->linears[7 + 3].bias);
    assert_null(m->linears[3].bias);
    assert_int_equal(m->params, all + 8);
    assert_int_equal(m->cfg.dtype, DT_F32); /* from the embedding */
    model_free(m);
    const TensorChange odd = {.name = "model.layers.0.self_attn.extra.weight", .add = true, .rows = 8};
    tiny_model_write(dir, &odd);
    Error err = {0};
    assert_int_equal(model_open(&m, dir, NULL, &err), ST_DATA);
    assert_non_null(strstr(err.text, "tensor 'model.layers.0.self_attn.extra.weight' has no place in a llama decoder"));
    static const char *const ignored[] = {"model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.1.self_attn.masked_bias", "model.layers.0.self_attn.k_proj.k_scale",
        "model.layers.2.mtp.weight", "mtp.fc.weight"};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
        const TensorChange c = {.name = ignored[i], .add = true, .rows = 8};
        tiny_model_write(dir, &c);
        m = test_model_open(dir, NULL);
        assert_null(m->warning);
        assert_int_equal(m->params, all);
        model_free(m);
    }
    temp_remove(dir);
}

/* A config.json cut or damaged anywhere is an error or a model, never a crash. */
static void damaged_configs_never_crash(void **state)
{
    (void)state;
    char *dir = temp_folder();
    tiny_model_write(dir, NULL);
    char text[sizeof TINY_MODEL_CONFIG];
    uint32_t rng = 7;
    for (int round = 0; round < 3000; round++) {
        memcpy(text, TINY_MODEL_CONFIG, sizeof text);
        size_t n = sizeof text - 1;
        if (round < (int)n) {
            n = (size_t)round;
        } else {
            rng = rng * 1664525u + 1013904223u;
            text[(rng >> 8) % n] = (char)((rng >> 24) % 2 ? '0' + (rng >> 25) % 10 : rng >> 24);
        }
        temp_put(temp_path(dir, "config.json"), text, n);
        Error e = {0};
        Model *m;
        Status st = model_open(&m, dir, NULL, &e);
        assert_true(st == ST_OK || st == ST_DATA);
        model_free(m);
    }
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_models_open),
        cmocka_unit_test(config_errors_name_the_key),
        cmocka_unit_test(tensor_errors_name_file_and_tensor),
        cmocka_unit_test(optional_tensors_count),
        cmocka_unit_test(damaged_configs_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
