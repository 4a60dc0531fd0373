#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/config.h"
#include "model/defaults.h"
#include "run/runner.h"
#include "tests/lib/bench.h"
#include "tests/lib/stacked_model.h"
#include "tests/lib/tempdir.h"

/* What keys of config.json mean that are seldom there, or seldom absent: Hugging Face's logits of the last positions
 * (float32, tests/golden/configs), and the defaults of its configuration classes. */

/* ---- recorded logits ---- */

static TokenSet *ids_of(const char *dir)
{
    char path[400];
    int lengths[1] = {1};
    snprintf(path, sizeof path, "%s/ids.txt", dir);
    char *text = temp_get(path, NULL);
    for (const char *c = text; *c; c++)
        lengths[0] += *c == ',';
    TokenSet *t = test_tokens(lengths, 1, 1, 1);
    char *at = text;
    for (int i = 0; i < lengths[0]; i++, at++)
        t->ids[i] = (int32_t)strtol(at, &at, 10);
    free(text);
    return t;
}

/* How far the last `rows` logits of one text are from those wanted. */
static double logits_off(const char *dir, const TokenSet *t, const float *want, int64_t rows)
{
    Error e = {0};
    TestRun b;
    Stream h, out;
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    if (runner_embed(b.r, t, &h, &e) != ST_OK)
        fail_msg("%s", e.text);
    for (int l = 0; l < b.m->cfg.layers; l++)
        if (runner_layer(b.r, l, NULL, &h, &h, NULL, 0, &e) != ST_OK)
            fail_msg("%s", e.text);
    assert_int_equal(runner_final_norm(b.r, &h, &out, NULL, 0, &e), ST_OK);
    float *got = test_logits(b.r, &out);
    int64_t n = rows * b.m->cfg.vocab;
    double worst = test_worst(want, got + out.rows * b.m->cfg.vocab - n, n);
    free(got);
    stream_fini(&h);
    stream_fini(&out);
    test_run_close(&b);
    return worst;
}

static void compare_logits(const char *dir, const TokenSet *t, const float *want, int64_t rows)
{
    double worst = logits_off(dir, t, want, rows);
    if (!(worst <= 3e-5))
        fail_msg("%s: logits are off by %g", dir, worst);
}

static float *tensor_of(const char *dir, const char *file, const char *name)
{
    char path[400];
    Error e = {0};
    Checkpoint *c;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    assert_int_equal(checkpoint_open(&c, path, &e), ST_OK);
    float *v = test_tensor(c, checkpoint_find(c, name));
    checkpoint_free(c);
    return v;
}

static void recorded_logits(void **state)
{
    (void)state;
    static const char root[] = "tests/golden/configs";
    DIR *d = opendir(root);
    const struct dirent *e;
    int seen = 0;
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        char dir[300];
        if (e->d_name[0] == '.')
            continue;
        snprintf(dir, sizeof dir, "%s/%s", root, e->d_name);
        TokenSet *t = ids_of(dir);
        float *want = tensor_of(dir, "hf.safetensors", "logits_last8");
        compare_logits(dir, t, want, 8);
        free(want);
        test_tokens_free(t);
        seen++;
    }
    closedir(d);
    assert_int_equal(seen, 7);
}

/* ---- recorded models with other keys ---- */

/* A folder with the model's tensors and its config.json changed. */
static char *variant_folder(const cJSON *row)
{
    char path[300], from[600], cwd[200], *dir = temp_folder();
    Error e = {0};
    cJSON *c;
    const cJSON *v;
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(path, sizeof path, "tests/golden/models/%s/fp32", json_get(row, "model")->valuestring);
    snprintf(from, sizeof from, "%s/%s/model.safetensors", cwd, path);
    assert_int_equal(symlink(from, temp_path(dir, "model.safetensors")), 0);
    snprintf(from, sizeof from, "%s/config.json", path);
    assert_int_equal(json_parse_file(from, 1 << 20, &c, &e), ST_OK);
    cJSON_ArrayForEach(v, json_get(row, "drop"))
        cJSON_DeleteItemFromObjectCaseSensitive(c, v->valuestring);
    cJSON_ArrayForEach(v, json_get(row, "set"))
    {
        cJSON_DeleteItemFromObjectCaseSensitive(c, v->string);
        cJSON_AddItemToObject(c, v->string, cJSON_Duplicate(v, true));
    }
    char *text = cJSON_PrintUnformatted(c);
    temp_puts(temp_path(dir, "config.json"), text);
    free(text);
    cJSON_Delete(c);
    return dir;
}

/* Rope types, routing, windows, caps, epsilons, activations and lengths that no recorded model has: the logits of the last
 * two positions by a numpy decoder written from the equations (its tables of the scaled ropes in Hugging Face's order). */
static void variants_are_those_of_a_reference_decoder(void **state)
{
    (void)state;
    static const char root[] = "tests/golden/variants";
    Error e = {0};
    cJSON *rows;
    const cJSON *row;
    int i = 0, bad = 0;
    double worst = 0;
    assert_int_equal(json_parse_file("tests/golden/variants/variants.json", 1 << 20, &rows, &e), ST_OK);
    cJSON_ArrayForEach(row, rows)
    {
        char name[16], *dir = variant_folder(row);
        int length = (int)json_get(row, "length")->valuedouble;
        Model *m;
        if (model_open(&m, dir, NULL, &e) != ST_OK)
            fail_msg("variant %d: %s", i, e.text);
        TokenSet *t = test_tokens(&length, 1, 1, 1);
        for (int64_t k = 0; k < length; k++)
            t->ids[k] = (int32_t)((7 * k * k + 3 * k + 5) % m->cfg.vocab);
        model_free(m);
        snprintf(name, sizeof name, "%d", i++);
        float *want = tensor_of(root, "variants.safetensors", name);
        double off = logits_off(dir, t, want, length < 2 ? length : 2);
        worst = off > worst ? off : worst;
        if (!(off <= 3e-5)) {
            char *text = cJSON_PrintUnformatted(row);
            print_message("! off by %.2g: %s\n", off, text);
            free(text);
            bad++;
        }
        free(want);
        test_tokens_free(t);
        temp_remove(dir);
    }
    cJSON_Delete(rows);
    print_message("%d variants, worst %.2g\n", i, worst);
    assert_int_equal(bad, 0);
}

/* ---- stacked experts ---- */

/* As transformers writes them with save_original_format=False: recorded logits again. */
static void stacked_experts_give_the_recorded_logits(void **state)
{
    (void)state;
    static const struct {
        const char *arch;
        StackedForm form;
        bool spare; /* as many as experts without weights */
    } rows[] = {
        {"mixtral", {.block = "mlp"}, false},
        {"minimax_m2", {.block = "mlp"}, false},
        {"longcat_flash", {.block = NULL}, false},
        {"longcat_flash", {.block = NULL}, true},
        {"qwen2_moe", {.block = NULL}, false},
        {"qwen3_moe", {.block = NULL}, false},
        {"qwen3_next", {.block = NULL}, false},
        {"glm4_moe", {.block = NULL}, false},
        {"deepseek_v2", {.block = NULL}, false},
        {"deepseek_v3", {.block = NULL}, false},
        {"deepseek_v32", {.block = NULL}, false},
        {"glm_moe_dsa", {.block = NULL}, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char from[128], *dir = temp_folder();
        Model *m;
        Error e = {0};
        snprintf(from, sizeof from, "tests/golden/models/%s/fp32", rows[i].arch);
        if (model_open(&m, from, NULL, &e) != ST_OK)
            fail_msg("%s", e.text);
        StackedForm form = rows[i].form;
        form.spare = rows[i].spare ? m->cfg.moe.zero : 0;
        stacked_model_write(m, from, dir, &form);
        float *ids = tensor_of(from, "golden.safetensors", "input_ids");
        float *want = tensor_of(from, "golden.safetensors", "logits");
        enum { LENGTH = 20 };
        TokenSet *t = test_tokens((int[]){LENGTH}, 1, 1, 1);
        for (int k = 0; k < LENGTH; k++)
            t->ids[k] = (int32_t)ids[k];
        compare_logits(dir, t, want, LENGTH);
        test_tokens_free(t);
        free(ids);
        free(want);
        model_free(m);
        temp_remove(dir);
    }
}

/* ---- keys that are not there ---- */

static double figure(const ModelConfig *c, const char *what)
{
    const struct {
        const char *name;
        double value;
    } all[] = {
        {"positions", (double)c->max_positions},
        {"scale", c->attn_scale},
        {"attn softcap", c->attn_softcap},
        {"final softcap", c->final_softcap},
        {"window 0", (double)c->window[0]},
        {"head", c->head_dim},
        {"rotated", c->rope.dim},
        {"rope", c->rope.type},
        {"theta", c->rope.theta},
        {"factor", c->rope.factor},
        {"original", (double)c->rope.original_max},
        {"truncate", c->rope.truncate},
        {"routed", c->moe.scale},
        {"groups", c->moe.groups},
        {"top groups", c->moe.top_groups},
        {"renorm", c->moe.renorm},
        {"shared", c->moe.inter ? (double)(c->moe.shared_inter / c->moe.inter) : 0},
        {"zero", c->moe.zero},
        {"experts in layer 0", c->moe.layer && c->moe.layer[0]},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, what) == 0)
            return all[i].value;
    fail_msg("no figure '%s'", what);
    return 0;
}

/* config.json of a recorded model without `drop` and with `put` (JSON, "": absent) under `key`. */
static cJSON *changed_config(const char *arch, const char *drop, const char *key, const char *put)
{
    char path[200];
    Error e = {0};
    cJSON *c;
    snprintf(path, sizeof path, "tests/golden/models/%s/fp32/config.json", arch);
    assert_int_equal(json_parse_file(path, 1 << 20, &c, &e), ST_OK);
    if (drop)
        cJSON_DeleteItemFromObjectCaseSensitive(c, drop);
    cJSON_DeleteItemFromObjectCaseSensitive(c, key);
    if (*put)
        cJSON_AddItemToObject(c, key, cJSON_Parse(put));
    return c;
}

static Status read_changed(cJSON *c, const char *arch, Arena *a, ModelConfig *cfg, Error *e)
{
    bool has_dtype;
    const Arch *row = arch_find(arch);
    assert_non_null(row);
    RETURN_IF_ERROR(config_defaults(c, row, e));
    return config_read(c, row, true, a, cfg, &has_dtype, e);
}

static void absent_keys_mean_what_the_class_says(void **state)
{
    (void)state;
    static const struct {
        const char *arch, *type, *drop, *key, *put, *what;
        double want;
    } rows[] = {
        {"gemma2", "gemma2", NULL, "query_pre_attn_scalar", "", "scale", 1.0 / 16},
        {"gemma2", "gemma2", NULL, "attn_logit_softcapping", "", "attn softcap", 50},
        {"gemma2", "gemma2", NULL, "attn_logit_softcapping", "null", "attn softcap", 0},
        {"gemma2", "gemma2", NULL, "final_logit_softcapping", "", "final softcap", 30},
        {"gemma2", "gemma2", NULL, "final_logit_softcapping", "null", "final softcap", 0},
        {"gemma3", "gemma3_text", NULL, "query_pre_attn_scalar", "", "scale", 1.0 / 16},
        {"gemma3", "gemma3_text", NULL, "final_logit_softcapping", "12.5", "final softcap", 12.5},
        {"gemma3", "gemma3_text", NULL, "final_logit_softcapping", "", "final softcap", 0},
        {"gpt_oss", "gpt_oss", "rope_parameters", "rope_scaling", "", "factor", 32},
        {"gpt_oss", "gpt_oss", "rope_parameters", "rope_scaling", "null", "original", 4096},
        {"gpt_oss", "gpt_oss", "rope_scaling", "rope_parameters", "null", "rope", ROPE_YARN},
        {"gpt_oss", "gpt_oss", "rope_scaling", "rope_parameters", "", "truncate", 0},
        {"gpt_oss", "gpt_oss", "rope_scaling", "rope_parameters", "{\"rope_type\":\"default\"}", "rope", ROPE_DEFAULT},
        {"gpt_oss", "gpt_oss", "rope_parameters", "rope_scaling",
         "{\"rope_type\":\"yarn\",\"factor\":2.0,\"truncate\":null}", "truncate", 0},
        {"mistral", "mistral", NULL, "sliding_window", "", "window 0", 4096},
        {"mistral", "mistral", NULL, "sliding_window", "null", "window 0", 0},
        {"mixtral", "mixtral", NULL, "sliding_window", "", "window 0", 0},
        {"qwen3_moe", "qwen3_moe", NULL, "head_dim", "", "head", 10},
        {"qwen3_moe", "qwen3_moe", NULL, "norm_topk_prob", "", "renorm", 0},
        {"qwen3_next", "qwen3_next", NULL, "norm_topk_prob", "", "renorm", 1},
        {"qwen3_next", "qwen3_next", NULL, "norm_topk_prob", "null", "renorm", 0},
        {"phi3", "phi3", NULL, "max_position_embeddings", "", "positions", 4096},
        {"llama", "llama", NULL, "max_position_embeddings", "", "positions", 2048},
        {"llama", "llama", NULL, "partial_rotary_factor", "0.5", "rotated", 10},
        {"qwen2", "qwen2", NULL, "partial_rotary_factor", "0.5", "rotated", 8},
        {"deepseek_v3", "deepseek_v3", "rope_scaling", "partial_rotary_factor", "0.5", "rotated", 8},
        {"deepseek_v3", "deepseek_v3", NULL, "routed_scaling_factor", "", "routed", 2.5},
        {"deepseek_v3", "deepseek_v3", NULL, "norm_topk_prob", "", "renorm", 1},
        {"deepseek_v3", "deepseek_v3", NULL, "norm_topk_prob", "null", "renorm", 0},
        {"deepseek_v3", "deepseek_v3", NULL, "n_shared_experts", "", "shared", 1},
        {"deepseek_v3", "deepseek_v3", NULL, "first_k_dense_replace", "", "experts in layer 0", 0},
        {"deepseek_v3", "deepseek_v3", NULL, "topk_group", "", "top groups", 4},
        {"deepseek_v32", "deepseek_v32", NULL, "routed_scaling_factor", "", "routed", 2.5},
        {"deepseek_v32", "deepseek_v32", NULL, "n_shared_experts", "", "shared", 1},
        {"glm_moe_dsa", "glm_moe_dsa", NULL, "routed_scaling_factor", "", "routed", 2.5},
        {"glm_moe_dsa", "glm_moe_dsa", "rope_theta", "rope_parameters", "", "theta", 10000},
        {"glm_moe_dsa", "glm_moe_dsa", NULL, "n_shared_experts", "", "shared", 1},
        {"deepseek_v3", "glm4_moe_lite", NULL, "routed_scaling_factor", "", "routed", 1.8},
        {"deepseek_v3", "glm4_moe_lite", NULL, "n_shared_experts", "", "shared", 1},
        {"longcat_flash", "longcat_flash", NULL, "routed_scaling_factor", "", "routed", 6},
        {"longcat_flash", "longcat_flash", NULL, "zero_expert_num", "", "zero", 256},
        {"deepseek_v4", "deepseek_v4", NULL, "routed_scaling_factor", "", "routed", 1.5},
        {"deepseek_v4", "deepseek_v4", NULL, "n_shared_experts", "", "shared", 1},
        {"deepseek_v2", "deepseek_v2", NULL, "n_shared_experts", "", "shared", 2},
        {"deepseek_v2", "deepseek_v2", NULL, "n_shared_experts", "null", "shared", 0},
        {"glm4_moe", "glm4_moe", NULL, "n_shared_experts", "", "shared", 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Arena a = {0};
        Error e = {0};
        ModelConfig cfg = {.layers = 0};
        cJSON *c = changed_config(rows[i].arch, rows[i].drop, rows[i].key, rows[i].put);
        if (read_changed(c, rows[i].type, &a, &cfg, &e) != ST_OK)
            fail_msg("%s without '%s': %s", rows[i].type, rows[i].key, e.text);
        if (figure(&cfg, rows[i].what) != rows[i].want)
            fail_msg("%s, '%s' %s: %s is %g, not %g", rows[i].type, rows[i].key, rows[i].put, rows[i].what,
                     figure(&cfg, rows[i].what), rows[i].want);
        cJSON_Delete(c);
        arena_free(&a);
    }
}

static void nulls_without_a_meaning_are_named(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"glm4_moe", "partial_rotary_factor"}, {"phi3", "partial_rotary_factor"},
                                          {"gemma2", "query_pre_attn_scalar"}, {"deepseek_v3", "routed_scaling_factor"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Arena a = {0};
        Error e = {0};
        ModelConfig cfg = {.layers = 0};
        cJSON *c = changed_config(rows[i][0], NULL, rows[i][1], "null");
        assert_int_equal(read_changed(c, rows[i][0], &a, &cfg, &e), ST_DATA);
        assert_non_null(strstr(e.text, rows[i][1]));
        assert_non_null(strstr(e.text, "is null"));
        cJSON_Delete(c);
        arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_logits),
        cmocka_unit_test(variants_are_those_of_a_reference_decoder),
        cmocka_unit_test(stacked_experts_give_the_recorded_logits),
        cmocka_unit_test(absent_keys_mean_what_the_class_says),
        cmocka_unit_test(nulls_without_a_meaning_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
