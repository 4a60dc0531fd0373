#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tiny_model.h"

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
    tiny_model_write(dir, NULL);
    Error e = {0};
    Model *m;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        tiny_model_config(dir, NULL, refused[i].add);
        assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
        if (!strstr(e.text, refused[i].fragment) || !strstr(e.text, "is not built in (llama, qwen2, qwen3") ||
            !strstr(e.text, "config.json"))
            fail_msg("%s: '%s' lacks '%s'", refused[i].add, e.text, refused[i].fragment);
    }
    tiny_model_config(dir, NULL, "{\"model_type\":\"internlm9\",\"num_experts\":0,\"attn_logit_softcapping\":null,"
        "\"residual_multiplier\":1.0}");
    m = test_model_open(dir, NULL);
    assert_string_equal(m->cfg.model_type, "internlm9");
    assert_string_equal(m->arch->model_type, "llama");
    assert_non_null(strstr(m->warning, "model_type 'internlm9' is not built in"));
    assert_int_equal(m->nlinears, 14);
    model_free(m);
    static const struct {
        TensorChange change;
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
        tiny_model_write(dir, &shapes[i].change);
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
        Model *m = test_model_open("tests/golden/models/qwen3/fp32", rows[i].type);
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
        {"deepseek_v4", {"DeepSeek-V4-Flash", "DeepSeek-V4-Pro"}},
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
        for (const ArchName *n = (*a)->names; n && n->name; n++)
            assert_ptr_equal(arch_find(n->name), *a);
    }
    assert_string_equal(linear_kind_name(LK_DOWN), "down_proj");
    assert_string_equal(linear_kind_name(LK_OTHER), "other");
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
        Model *m = test_model_open(want[i].path, NULL);
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
    Model *a = test_model_open("tests/golden/models/gemma3/fp32", NULL);
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
    Model *b = test_model_open(dir, NULL);
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
        {"tests/golden/models/deepseek_v3/fp32", "model.layers.0.self_attn.kv_a_proj_with_mqa", "qkv_a", LK_OTHER, 24,
         40, 2},
        {"tests/golden/models/deepseek_v3/fp32", "model.layers.0.self_attn.q_b_proj", ".", LK_Q, 96, 24, 1},
        {"tests/golden/models/deepseek_v3/fp32", "model.layers.2.mlp.shared_experts.down_proj", ".", LK_DOWN, 40, 48,
         1},
        {"tests/golden/models/gpt_oss/fp32", "model.layers.1.mlp.experts.2.up_proj", "experts", LK_UP, 32, 40, 12},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        Model *m = test_model_open(want[i].path, NULL);
        int64_t at = model_find_linear(m, want[i].name);
        if (at < 0)
            fail_msg("%s is missing", want[i].name);
        const Linear *l = &m->linears[at];
        assert_true(l->kind == want[i].kind && l->out == want[i].out && l->in == want[i].in);
        assert_string_equal(m->groups[l->group].label, want[i].label);
        assert_int_equal(m->groups[l->group].count, want[i].count);
        model_free(m);
    }
    Model *m = test_model_open("tests/golden/models/deepseek_v3/fp32", "kimi_k2"); /* the same row */
    assert_null(m->warning);
    assert_int_equal(model_find_linear(m, "model.layers.1.mlp.gate"), -1); /* no linear there: not quantizable */
    model_free(m);
}

/* q_a and kv_a are one group wherever there is a q_a; another linear stands between them. */
static void latents_are_fused(void **state)
{
    (void)state;
    static const char *const families[][3] = {
        {"deepseek_v3", "q_a_proj", "kv_a_proj_with_mqa"},
        {"deepseek_v32", "q_a_proj", "kv_a_proj_with_mqa"}, {"glm_moe_dsa", "q_a_proj", "kv_a_proj_with_mqa"},
        {"longcat_flash", "q_a_proj", "kv_a_proj_with_mqa"}, {"deepseek_v4", "wq_a", "wkv"},
        {"deepseek_v2", NULL, NULL}, /* q_lora_rank null */
        {"llama", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char path[96];
        int n = 0;
        snprintf(path, sizeof path, "tests/golden/models/%s/fp32", families[i][0]);
        Model *m = test_model_open(path, NULL);
        for (int64_t k = 0; k < m->ngroups; k++) {
            const FusedGroup *g = &m->groups[k];
            for (int32_t j = 0; j < g->count; j++)
                assert_int_equal(m->linears[group_linear(g, j)].group, k);
            if (strcmp(g->label, "qkv_a") != 0)
                continue;
            n++;
            assert_int_equal(g->count, 2);
            for (int32_t j = 0; j < 2; j++)
                assert_string_equal(strrchr(m->linears[group_linear(g, j)].name, '.') + 1, families[i][1 + j]);
        }
        assert_int_equal(n > 0, families[i][1] != NULL);
        model_free(m);
    }
}

/* Linears that every engine keeps float, by their last names, and no others. */
static void kept_linears_of_the_families(void **state)
{
    (void)state;
    static const struct {
        const char *family, *names[5];
    } want[] = {
        {"llama", {NULL}},
        {"gpt_oss", {NULL}}, /* its router is no linear */
        {"mixtral", {".block_sparse_moe.gate"}},
        {"qwen2_moe", {".mlp.gate", ".shared_expert_gate"}},
        {"qwen3_next", {".mlp.gate", ".shared_expert_gate"}},
        {"deepseek_v3", {".kv_b_proj"}},
        {"deepseek_v32", {".kv_b_proj", ".indexer.wk", ".indexer.weights_proj"}},
        {"longcat_flash", {".kv_b_proj", ".router.classifier"}},
        {"deepseek_v4", {".compressor.wkv", ".compressor.wgate", ".indexer.weights_proj"}},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        char path[96];
        int64_t found[5] = {0};
        snprintf(path, sizeof path, "tests/golden/models/%s/fp32", want[i].family);
        Model *m = test_model_open(path, NULL);
        for (int64_t k = 0; k < m->nlinears; k++) {
            const char *name = m->linears[k].name;
            bool named = false;
            for (int j = 0; j < 5 && want[i].names[j]; j++) {
                size_t n = strlen(want[i].names[j]), len = strlen(name);
                bool here = len > n && strcmp(name + len - n, want[i].names[j]) == 0;
                found[j] += here;
                named |= here;
            }
            if (m->linears[k].kept != named)
                fail_msg("%s: %s", want[i].family, name);
        }
        for (int j = 0; j < 5 && want[i].names[j]; j++)
            assert_true(found[j] > 0);
        model_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_types_run_or_are_refused),
        cmocka_unit_test(user_types_are_compared),
        cmocka_unit_test(the_peers_names_are_known),
        cmocka_unit_test(table_is_sound),
        cmocka_unit_test(windows_of_the_families),
        cmocka_unit_test(nested_rope_parameters),
        cmocka_unit_test(linears_of_the_families),
        cmocka_unit_test(latents_are_fused),
        cmocka_unit_test(kept_linears_of_the_families),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
