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

static Model *open_ok(const char *path, const char *type)
{
    Error e = {0};
    Model *m;
    if (model_open(&m, path, type, &e) != ST_OK)
        fail_msg("%s: %s", path, e.text);
    return m;
}

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
    const LayerTensors *t = &m->layers[layer];
    assert_true(t->q == layer * 7 && t->k == t->q + 1 && t->v == t->q + 2 && t->o == t->q + 3 && t->gate == t->q + 4 &&
                t->up == t->q + 5 && t->down == t->q + 6);
    assert_true(t->input_norm && t->post_norm && (t->q_norm != NULL) == m->arch->qk_norm &&
        (t->k_norm != NULL) == m->arch->qk_norm);
}

static void golden_models_open(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        Model *m = open_ok(golden[i].path, NULL);
        assert_string_equal(m->arch->model_type, golden[i].type);
        assert_string_equal(m->cfg.model_type, golden[i].type);
        assert_int_equal(m->cfg.layers, golden[i].layers);
        assert_int_equal(m->nlinears, 7 * golden[i].layers);
        assert_int_equal(m->ngroups, 4 * golden[i].layers);
        assert_int_equal(m->params, golden[i].params);
        assert_true(m->cfg.heads == golden[i].heads && m->cfg.kv_heads == golden[i].kv &&
            m->cfg.head_dim == golden[i].head_dim);
        assert_int_equal(m->cfg.tied, golden[i].tied);
        assert_int_equal(m->head == m->embed, golden[i].tied);
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
    Model *m = open_ok("tests/golden/models/qwen2/fp32", NULL); /* windows on the last layer only */
    assert_true(m->cfg.window[0] == 0 && m->cfg.window[1] == 0 && m->cfg.window[2] == 6);
    model_free(m);
    m = open_ok("tests/golden/models/llama3/fp32", NULL);
    const RopeParams *r = &m->cfg.rope;
    assert_true(r->factor == 8 && r->low_freq_factor == 1 && r->high_freq_factor == 4 && r->original_max == 64);
    model_free(m);
}

/* ---- a small model whose config and tensors can be changed ---- */

static const char base_config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":12,\"vocab_size\":10,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,"
    "\"rope_theta\":10000.0,\"torch_dtype\":\"float32\"}";

/* What to do to the tensor list: drop `name`, or write it as dtype or with another shape; or add `name`. */
typedef struct Change {
    const char *name;
    bool drop, add;
    DType dtype;
    int64_t rows, cols;
} Change;

enum { MAX_TENSORS = 64 };

static int add_tensor(TensorOut *t, int n, char names[][96], const char *name, int64_t rows, int64_t cols)
{
    static const float zeros[1024];
    snprintf(names[n], 96, "%s", name);
    t[n] = (TensorOut){names[n], DT_F32, cols ? 2 : 1, {rows, cols}, zeros};
    return n + 1;
}

static void write_tiny(const char *dir, const Change *ch)
{
    static const struct {
        const char *name;
        int64_t rows, cols;
    } layer[] = {
        {"input_layernorm.weight", 8, 0}, {"post_attention_layernorm.weight", 8, 0},
        {"self_attn.q_proj.weight", 8, 8}, {"self_attn.k_proj.weight", 4, 8},
        {"self_attn.v_proj.weight", 4, 8}, {"self_attn.o_proj.weight", 8, 8},
        {"mlp.gate_proj.weight", 12, 8}, {"mlp.up_proj.weight", 12, 8},
        {"mlp.down_proj.weight", 8, 12},
    };
    TensorOut t[MAX_TENSORS];
    char names[MAX_TENSORS][96], name[96];
    int n = add_tensor(t, 0, names, "model.embed_tokens.weight", 10, 8);
    n = add_tensor(t, n, names, "model.norm.weight", 8, 0);
    n = add_tensor(t, n, names, "lm_head.weight", 10, 8);
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < sizeof layer / sizeof *layer; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s", l, layer[i].name);
            n = add_tensor(t, n, names, name, layer[i].rows, layer[i].cols);
        }
    if (ch && ch->add)
        n = add_tensor(t, n, names, ch->name, ch->rows, ch->cols);
    for (int i = 0; ch && !ch->add && i < n; i++) {
        if (strcmp(t[i].name, ch->name) != 0)
            continue;
        if (ch->drop)
            t[i--] = t[--n];
        else if (ch->rows)
            t[i] = (TensorOut){t[i].name, t[i].dtype, ch->cols ? 2 : 1, {ch->rows, ch->cols}, t[i].data};
        else
            t[i].dtype = ch->dtype;
    }
    Error e = {0};
    assert_int_equal(safetensors_write(temp_path(dir, "model.safetensors"), t, n, NULL, &e), ST_OK);
}

/* base_config with `edits` ("key":value, …) put in front and the same keys of the base taken out. */
static void put_config(const char *dir, const char *drop, const char *add)
{
    cJSON *c = cJSON_Parse(base_config), *more = cJSON_Parse(add ? add : "{}"), *v;
    assert_non_null(more);
    if (drop)
        cJSON_DeleteItemFromObject(c, drop);
    cJSON_ArrayForEach(v, more)
    {
        cJSON_DeleteItemFromObject(c, v->string);
        cJSON_AddItemToObject(c, v->string, cJSON_Duplicate(v, 1));
    }
    char *text = cJSON_Print(c);
    temp_puts(temp_path(dir, "config.json"), text);
    free(text);
    cJSON_Delete(c);
    cJSON_Delete(more);
}

static void config_errors_name_the_key(void **state)
{
    (void)state;
    static const struct {
        const char *drop, *add, *fragment;
    } rows[] = {
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
        {NULL, "{\"quantization_config\":{\"quant_method\":\"awq\"}}", "quant_method 'awq' is not read"},
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
        {NULL, "{\"partial_rotary_factor\":1.5}", "must be an even number of dimensions"},
        {NULL, "{\"layer_types\":[\"full_attention\"]}", "an entry for each of the 2 layers"},
        {NULL, "{\"layer_types\":[\"full_attention\",\"linear_attention\"]}", "'layer_types[1]' is 'linear_attention'"},
        {NULL, "{\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", "no sliding_window is in use"},
        {NULL, "{\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"sliding_window\":0}",
         "'sliding_window' must be positive"},
    };
    char *dir = temp_folder();
    write_tiny(dir, NULL);
    put_config(dir, NULL, NULL);
    model_free(open_ok(dir, NULL));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Error e = {0};
        Model *m;
        put_config(dir, rows[i].drop, rows[i].add);
        if (model_open(&m, dir, NULL, &e) != ST_DATA || m)
            fail_msg("row %zu (%s) was not refused: %s", i, rows[i].fragment, e.text);
        if (!strstr(e.text, rows[i].fragment) || !strstr(e.text, "config.json"))
            fail_msg("row %zu: '%s' lacks '%s' or the file", i, e.text, rows[i].fragment);
    }
    temp_remove(dir);
}

static void tensor_errors_name_file_and_tensor(void **state)
{
    (void)state;
    static const struct {
        Change change;
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
    put_config(dir, NULL, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Error e = {0};
        Model *m;
        write_tiny(dir, &rows[i].change);
        assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
        if (!strstr(e.text, rows[i].fragment) || !strstr(e.text, "model.safetensors"))
            fail_msg("row %zu: '%s' lacks '%s' or the file", i, e.text, rows[i].fragment);
    }
    write_tiny(dir, NULL);
    put_config(dir, NULL, "{\"num_hidden_layers\":3}");
    Error e = {0};
    Model *m;
    assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
    assert_non_null(strstr(e.text, "'model.layers.2.input_layernorm.weight' is missing"));
    unlink(temp_path(dir, "config.json"));
    assert_int_equal(model_open(&m, dir, NULL, &e), ST_IO);
    assert_non_null(strstr(e.text, "config.json': No such file"));
    temp_puts(temp_path(dir, "config.json"), "[1]");
    assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
    temp_puts(temp_path(dir, "config.json"), "{\"a\":1,\n\"a\":2}");
    assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
    assert_non_null(strstr(e.text, "config.json:2:1: key 'a' is there twice"));
    temp_remove(dir);
}

static void optional_tensors_count(void **state)
{
    (void)state;
    char *dir = temp_folder();
    put_config(dir, NULL, NULL);
    write_tiny(dir, NULL);
    Model *m = open_ok(dir, NULL);
    int64_t all = m->params;
    assert_int_equal(all, 2 * 80 + 8 + 2 * (16 + 64 + 32 + 32 + 64 + 3 * 96));
    assert_ptr_not_equal(m->head, m->embed);
    model_free(m);
    const Change no_head = {.name = "lm_head.weight", .drop = true};
    write_tiny(dir, &no_head); /* absent: tied, whatever the config says */
    m = open_ok(dir, NULL);
    assert_true(m->cfg.tied && m->head == m->embed && m->params == all - 80);
    model_free(m);
    write_tiny(dir, NULL);
    put_config(dir, NULL, "{\"tie_word_embeddings\":true}"); /* there, but ignored */
    m = open_ok(dir, NULL);
    assert_true(m->head == m->embed && m->params == all - 80);
    model_free(m);
    const Change bias = {.name = "model.layers.1.self_attn.o_proj.bias", .add = true, .rows = 8};
    write_tiny(dir, &bias);
    put_config(dir, "torch_dtype", "{\"attention_bias\":false}"); /* the tensor decides */
    m = open_ok(dir, NULL);
    assert_non_null(m->linears[7 + 3].bias);
    assert_null(m->linears[3].bias);
    assert_int_equal(m->params, all + 8);
    assert_int_equal(m->cfg.dtype, DT_F32); /* from the embedding */
    model_free(m);
    const Change odd = {.name = "model.layers.0.self_attn.extra.weight", .add = true, .rows = 8};
    write_tiny(dir, &odd);
    m = open_ok(dir, NULL);
    assert_non_null(strstr(m->warning, "1 tensors of the decoder layers are not used, the first is "
        "'model.layers.0.self_attn.extra"));
    model_free(m);
    static const char *const ignored[] = {"model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.2.mtp.weight", "mtp.fc.weight"};
    for (int i = 0; i < 3; i++) {
        const Change c = {.name = ignored[i], .add = true, .rows = 8};
        write_tiny(dir, &c);
        m = open_ok(dir, NULL);
        assert_null(m->warning);
        assert_int_equal(m->params, all);
        model_free(m);
    }
    temp_remove(dir);
}

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
                a->eps == b->eps && a->act == b->act && a->tied == b->tied && a->dtype == b->dtype);
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
    Model *a = open_ok(path, NULL), *b = open_ok(dir, NULL);
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
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        reopen(golden[i].path, swap_dialect);
        reopen(golden[i].path, add_nulls);
    }
}

static void dialect_rules(void **state)
{
    (void)state;
    static const struct {
        const char *add;
        RopeType type;
        double theta, factor;
        int64_t original;
        int dim;
    } rows[] = {
        {"{}", ROPE_DEFAULT, 1e4, 1, 64, 4},
        {"{\"rope_theta\":null}", ROPE_DEFAULT, 1e4, 1, 64, 4},
        {"{\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2,\"rope_theta\":77}}", ROPE_LINEAR, 77, 2, 64, 4},
        /* a live rope_scaling wins over rope_parameters; a dead one does not */
        {"{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":3},\"rope_parameters\":{\"rope_type\":\"linear\","
         "\"factor\":2}}", ROPE_DYNAMIC,
         1e4, 3, 64, 4},
        {"{\"rope_scaling\":null,\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2}}", ROPE_LINEAR, 1e4, 2,
         64, 4},
        {"{\"partial_rotary_factor\":0.5}", ROPE_DEFAULT, 1e4, 1, 64, 2},
        {"{\"partial_rotary_factor\":1,\"rope_parameters\":{\"rope_type\":null,\"partial_rotary_factor\":0.5}}",
         ROPE_DEFAULT, 1e4, 1, 64, 2},
        {"{\"rope_scaling\":{\"type\":\"yarn\",\"original_max_position_embeddings\":16,\"beta_fast\":0,"
         "\"beta_slow\":null}}", ROPE_YARN, 1e4, 4,
         16, 4},
        {"{\"rope_scaling\":{\"type\":\"su\",\"short_factor\":[1,2],\"long_factor\":[3,4]},"
         "\"original_max_position_embeddings\":32}",
         ROPE_LONGROPE, 1e4, 2, 32, 4},
    };
    char *dir = temp_folder();
    write_tiny(dir, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_config(dir, NULL, rows[i].add);
        Model *m = open_ok(dir, NULL);
        const RopeParams *r = &m->cfg.rope;
        if (r->type != rows[i].type || r->theta != rows[i].theta || r->factor != rows[i].factor ||
            r->original_max != rows[i].original || r->dim != rows[i].dim)
            fail_msg("%s: type %d theta %g factor %g original %lld dim %d", rows[i].add, (int)r->type, r->theta,
                r->factor,
                     (long long)r->original_max, r->dim);
        assert_true(r->beta_fast == 32 && r->beta_slow == 1 && r->truncate);
        if (r->type == ROPE_LONGROPE)
            assert_true(r->short_factor[1] == 2 && r->long_factor[0] == 3);
        model_free(m);
    }
    put_config(dir, NULL, "{\"rope_scaling\":{\"type\":\"yarn\",\"factor\":8,\"attention_factor\":1.5,\"mscale\":1,"
        "\"mscale_all_dim\":0.75,"
                          "\"beta_fast\":4,\"truncate\":false}}");
    Model *m = open_ok(dir, NULL);
    const RopeParams *r = &m->cfg.rope;
    assert_true(r->has_attention_factor && r->attention_factor == 1.5 && r->mscale == 1 && r->mscale_all_dim == 0.75 &&
                r->beta_fast == 4 && !r->truncate && r->original_max == 64);
    model_free(m);
    put_config(dir, "model_type", "{\"architectures\":[\"LlamaForCausalLM\"]}");
    m = open_ok(dir, NULL);
    assert_string_equal(m->cfg.model_type, "llama");
    model_free(m);
    /* multimodal files hold the decoder's keys one level down */
    Str nested = {0};
    str_printf(&nested, "{\"model_type\":\"some_vl\",\"text_config\":%s}", base_config);
    temp_puts(temp_path(dir, "config.json"), nested.s);
    m = open_ok(dir, NULL);
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
    write_tiny(dir, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_config(dir, NULL, rows[i].add);
        Model *m = open_ok(dir, NULL);
        if (m->cfg.window[0] != rows[i].want[0] || m->cfg.window[1] != rows[i].want[1])
            fail_msg("%s: windows %lld %lld", rows[i].add, (long long)m->cfg.window[0], (long long)m->cfg.window[1]);
        model_free(m);
    }
    temp_remove(dir);
}

/* ---- types ---- */

static void unknown_types_run_or_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *add, *fragment;
    } refused[] = {
        {"{\"model_type\":\"newmoe\",\"num_experts\":8}", "it is a mixture of experts ('num_experts')"},
        {"{\"model_type\":\"newmix\",\"num_local_experts\":8}", "it is a mixture of experts ('num_local_experts')"},
        {"{\"model_type\":\"deepseek_v9\",\"n_routed_experts\":256}",
         "it is a mixture of experts ('n_routed_experts')"},
        {"{\"model_type\":\"minicpm3\",\"kv_lora_rank\":256}", "multi-head latent attention (MLA) ('kv_lora_rank')"},
        {"{\"model_type\":\"gemma9\",\"attn_logit_softcapping\":50.0}", "caps the attention scores"},
        {"{\"model_type\":\"granite\",\"embedding_multiplier\":12}", "scales the embeddings"},
        {"{\"model_type\":\"smollm3\",\"no_rope_layers\":[1,0]}", "no rotary embedding"},
        {"{\"model_type\":\"olmo\",\"clip_qkv\":8}", "clips q, k and v"},
        {"{\"model_type\":\"step3p5\"}", "the gates of its heads and its mixture of experts are not built in"},
        {"{\"model_type\":\"gemma\"}", "norms and embeddings are scaled differently"},
        {"{\"model_type\":\"newwindow\",\"sliding_window\":8}", "'sliding_window' is set"},
        {"{\"model_type\":\"new\",\"hidden_act\":\"relu\"}", "'hidden_act' is 'relu'"},
    };
    char *dir = temp_folder();
    write_tiny(dir, NULL);
    Error e = {0};
    Model *m;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        put_config(dir, NULL, refused[i].add);
        assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
        if (!strstr(e.text, refused[i].fragment) || !strstr(e.text, "is not built in (llama, qwen2, qwen3") ||
            !strstr(e.text, "config.json"))
            fail_msg("%s: '%s' lacks '%s'", refused[i].add, e.text, refused[i].fragment);
    }
    put_config(dir, NULL, "{\"model_type\":\"internlm9\",\"num_experts\":0,\"attn_logit_softcapping\":null,"
        "\"residual_multiplier\":1.0}");
    m = open_ok(dir, NULL);
    assert_string_equal(m->cfg.model_type, "internlm9");
    assert_string_equal(m->arch->model_type, "llama");
    assert_non_null(strstr(m->warning, "model_type 'internlm9' is not built in"));
    assert_int_equal(m->nlinears, 14);
    model_free(m);
    static const struct {
        Change change;
        const char *fragment;
    } shapes[] = {
        {{.name = "model.layers.0.self_attn.sinks", .add = true, .rows = 2},
         "tensor 'model.layers.0.self_attn.sinks' has no place"},
        {{.name = "model.layers.1.pre_feedforward_layernorm.weight", .add = true, .rows = 8},
         "has no place in a Llama decoder"},
        {{.name = "model.layers.1.mlp.gate_proj.weight", .drop = true},
         "tensor 'model.layers.1.mlp.gate_proj.weight' is missing"},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        write_tiny(dir, &shapes[i].change);
        assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
        if (!strstr(e.text, shapes[i].fragment) || !strstr(e.text, "'internlm9' is not built in"))
            fail_msg("'%s' lacks '%s'", e.text, shapes[i].fragment);
    }
    temp_remove(dir);
}

static void user_types_are_compared(void **state)
{
    (void)state;
    static const struct {
        const char *type, *warning; /* NULL: none */
    } rows[] = {
        {NULL, NULL},
        {"qwen3", NULL},
        {"Qwen3-8B", NULL},
        {"Qwen3-32B", NULL},
        {"qwen3-8b", "--model_type 'qwen3-8b' is not known: config.json says 'qwen3'"}, /* case matters */
        {"Whatever", "is not known"},
        {"QwQ-32B", "--model_type 'QwQ-32B' means 'qwen2', but config.json says 'qwen3'"},
        {"llama", "means 'llama', but config.json says 'qwen3'"},
        {"", "is not known"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Model *m = open_ok("tests/golden/models/qwen3/fp32", rows[i].type);
        if (!rows[i].warning != !m->warning || (m->warning && !strstr(m->warning, rows[i].warning)))
            fail_msg("%s: warning '%s'", rows[i].type ? rows[i].type : "(none)", m->warning ? m->warning : "(none)");
        assert_string_equal(m->arch->model_type, "qwen3");
        model_free(m);
    }
    assert_string_equal(arch_find("DeepSeek-R1-Distill-Qwen-7B")->model_type, "qwen2");
    assert_null(arch_find("Qwen3"));
}

/* What the peer takes as --model_type for text models (specs/models.md 1.3), and the family it means. */
static void the_peers_names_are_known(void **state)
{
    (void)state;
    static const struct {
        const char *family, *names[12];
    } rows[] = {
        {"qwen2", {"Qwen1.5-110B", "Qwen2-7B", "Qwen2-7B-Instruct", "Qwen2-72B"}},
        {"qwen2", {"Qwen2.5-7B-Instruct", "Qwen2.5-32B-Instruct", "Qwen2.5-72B-Instruct", "Qwen2.5-Coder-7B-Instruct",
                   "DeepSeek-R1-Distill-Qwen-1.5B", "DeepSeek-R1-Distill-Qwen-7B", "Qwen-QwQ-32B", "QwQ-32B"}},
        {"qwen3", {"Qwen3-8B", "Qwen3-14B", "Qwen3-32B"}},
        {"qwen3_moe", {"Qwen3-30B", "Qwen3-235B", "Qwen3-Coder-480B-A35B"}},
        {"qwen3_next", {"Qwen3-Next-80B-A3B-Instruct"}},
        {"deepseek_v3", {"DeepSeek-V3", "DeepSeek-V3-0324", "DeepSeek-R1", "DeepSeek-R1-0528", "DeepSeek-V3.1",
                         "DeepSeek-V3.1-Terminus", "Kimi-K2-Instruct-0905", "Kimi-K2-Thinking", "kimi_k2"}},
        {"deepseek_v32", {"DeepSeek-V3.2-Exp", "DeepSeek-V3.2"}},
        {"glm_moe_dsa", {"GLM-5", "GLM-5.1"}},
        {"glm4_moe", {"GLM-4.5", "GLM-4.6", "GLM-4.7"}},
        {"glm4_moe_lite", {"GLM-4.7-Flash"}},
        {"minimax_m2", {"MiniMax-M2.7"}},
        {"longcat_flash", {"LongCat-Flash-Chat"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int k = 0; rows[i].names[k]; k++) {
            const Arch *a = arch_find(rows[i].names[k]);
            if (!a || strcmp(a->model_type, rows[i].family) != 0)
                fail_msg("%s: %s", rows[i].names[k], a ? a->model_type : "unknown");
        }
    assert_null(arch_find("Step-3.5-Flash")); /* the peer only reads its weights, it cannot run it either */
}

/* Names and aliases of the table are unique, titles are there. */
static void table_is_sound(void **state)
{
    (void)state;
    for (const Arch *const *a = arch_table; *a; a++) {
        assert_true((*a)->title && *(*a)->title);
        assert_true((*a)->default_theta > 0 && (*a)->default_eps > 0);
        assert_ptr_equal(arch_find((*a)->model_type), *a);
        for (const char *const *s = (*a)->aliases; s && *s; s++)
            assert_ptr_equal(arch_find(*s), *a);
    }
    assert_string_equal(linear_kind_name(LK_DOWN), "down_proj");
    assert_string_equal(linear_kind_name(LK_OTHER), "other");
}

/* A config.json cut or damaged anywhere is an error or a model, never a crash. */
static void damaged_configs_never_crash(void **state)
{
    (void)state;
    char *dir = temp_folder();
    write_tiny(dir, NULL);
    char text[sizeof base_config];
    uint32_t rng = 7;
    for (int round = 0; round < 3000; round++) {
        memcpy(text, base_config, sizeof text);
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

/* ---- families ---- */

static void windows_of_the_families(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        int64_t window[4];
    } want[] = {
        {"tests/golden/models/mistral/fp32", {8, 8, 8}},     {"tests/golden/models/phi3/fp32", {10, 10}},
        {"tests/golden/models/gemma2/fp32", {8, 0, 8, 0}},   {"tests/golden/models/gemma3/fp32", {8, 8, 0}},
        {"tests/golden/models/mixtral/fp32", {0, 0, 0}},     {"tests/golden/models/qwen2_moe/fp32", {0, 0, 0}},
        {"tests/golden/models/gpt_oss/fp32", {8, 0}},        {"tests/golden/models/glm4_moe/fp32", {0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        Model *m = open_ok(want[i].path, NULL);
        for (int l = 0; l < m->cfg.layers; l++)
            assert_int_equal(m->cfg.window[l], want[i].window[l]);
        assert_null(m->warning); /* every tensor has its place */
        model_free(m);
    }
}

/* Gemma 3 in the second dialect: rope parameters by layer type. */
static void nested_rope_parameters(void **state)
{
    (void)state;
    Model *a = open_ok("tests/golden/models/gemma3/fp32", NULL);
    char *dir = temp_folder();
    size_t n;
    char *weights = temp_get("tests/golden/models/gemma3/fp32/model.safetensors", &n);
    temp_put(temp_path(dir, "model.safetensors"), weights, n);
    temp_puts(temp_path(dir, "config.json"),
              "{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma3_text\",\"vocab_size\":128,"
              "\"hidden_size\":40,\"intermediate_size\":56,\"num_hidden_layers\":3,\"num_attention_heads\":4,"
              "\"num_key_value_heads\":2,\"max_position_embeddings\":256,\"rms_norm_eps\":1e-05,\"head_dim\":16,"
              "\"query_pre_attn_scalar\":24,\"sliding_window\":8,\"dtype\":\"float32\",\"layer_types\":"
              "[\"sliding_attention\",\"sliding_attention\",\"full_attention\"],\"rope_parameters\":{"
              "\"full_attention\":{\"rope_type\":\"linear\",\"factor\":8.0,\"rope_theta\":1000000.0},"
              "\"sliding_attention\":{\"rope_type\":\"default\",\"rope_theta\":10000.0}}}}");
    Model *b = open_ok(dir, NULL);
    assert_true(a->arch == b->arch && a->cfg.tied && b->cfg.tied && a->cfg.attn_scale == b->cfg.attn_scale);
    const RopeParams *r[2] = {&a->cfg.rope, &b->cfg.rope}, *l[2] = {&a->cfg.rope_local, &b->cfg.rope_local};
    for (int i = 0; i < 2; i++) {
        assert_true(r[i]->type == ROPE_LINEAR && r[i]->factor == 8 && r[i]->theta == 1e6 && r[i]->dim == 16);
        assert_true(l[i]->type == ROPE_DEFAULT && l[i]->theta == 1e4 && l[i]->dim == 16);
    }
    assert_memory_equal(a->cfg.window, b->cfg.window, 3 * sizeof *a->cfg.window);
    model_free(a);
    model_free(b);
    free(weights);
    temp_remove(dir);
}

/* Linears under the names the hub gives them, experts as one group, stacked experts as views. */
static void linears_of_the_families(void **state)
{
    (void)state;
    static const struct {
        const char *path, *name, *label;
        LinearKind kind;
        int64_t out, in;
        int count;
    } want[] = {
        {"tests/golden/models/phi3/fp32", "model.layers.1.self_attn.qkv_proj", ".", LK_QKV, 128, 64, 1},
        {"tests/golden/models/phi3/fp32", "model.layers.0.mlp.gate_up_proj", ".", LK_GATE_UP, 112, 64, 1},
        {"tests/golden/models/mixtral/fp32", "model.layers.2.block_sparse_moe.experts.3.w2", "experts", LK_DOWN, 40, 32,
         12},
        {"tests/golden/models/mixtral/fp32", "model.layers.0.block_sparse_moe.gate", ".", LK_ROUTER, 4, 40, 1},
        {"tests/golden/models/qwen2_moe/fp32", "model.layers.1.mlp.up_proj", "gu", LK_UP, 56, 40, 2},
        {"tests/golden/models/qwen2_moe/fp32", "model.layers.2.mlp.shared_expert_gate", ".", LK_OTHER, 1, 40, 1},
        {"tests/golden/models/deepseek_v3/fp32", "model.layers.0.self_attn.kv_a_proj_with_mqa", ".", LK_OTHER, 24, 40,
         1},
        {"tests/golden/models/deepseek_v3/fp32", "model.layers.2.mlp.shared_experts.down_proj", ".", LK_DOWN, 40, 48,
         1},
        {"tests/golden/models/gpt_oss/fp32", "model.layers.1.mlp.experts.2.up_proj", "experts", LK_UP, 32, 40, 12},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        Model *m = open_ok(want[i].path, NULL);
        int64_t at = model_find_linear(m, want[i].name);
        if (at < 0)
            fail_msg("%s is missing", want[i].name);
        const Linear *l = &m->linears[at];
        assert_true(l->kind == want[i].kind && l->out == want[i].out && l->in == want[i].in);
        assert_string_equal(m->groups[l->group].label, want[i].label);
        assert_int_equal(m->groups[l->group].count, want[i].count);
        model_free(m);
    }
    Model *m = open_ok("tests/golden/models/deepseek_v3/fp32", "kimi_k2"); /* the same row */
    assert_null(m->warning);
    assert_int_equal(model_find_linear(m, "model.layers.1.mlp.gate"), -1); /* no linear there: not quantizable */
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_models_open),
        cmocka_unit_test(config_errors_name_the_key),
        cmocka_unit_test(tensor_errors_name_file_and_tensor),
        cmocka_unit_test(optional_tensors_count),
        cmocka_unit_test(dialects_and_nulls_mean_the_same),
        cmocka_unit_test(dialect_rules),
        cmocka_unit_test(windows_of_the_qwen_line),
        cmocka_unit_test(unknown_types_run_or_are_refused),
        cmocka_unit_test(user_types_are_compared),
        cmocka_unit_test(the_peers_names_are_known),
        cmocka_unit_test(table_is_sound),
        cmocka_unit_test(windows_of_the_families),
        cmocka_unit_test(nested_rope_parameters),
        cmocka_unit_test(linears_of_the_families),
        cmocka_unit_test(damaged_configs_never_crash),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
