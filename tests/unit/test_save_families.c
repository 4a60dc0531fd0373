#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "io/file.h"
#include "io/json.h"
#include "save/verify.h"
#include "save/walk.h"
#include "tests/lib/configs.h"
#include "tests/lib/savefeed.h"
#include "tests/lib/tempdir.h"

/* Every family that is built in: its linears quantized by the obvious rule, written, read back and compared. */

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static void quantize_rows(const Model *m, int64_t i, QType dtype, QWeight *w)
{
    const Linear *l = &m->linears[i];
    Error err = {0};
    float *all = malloc(l->weight->nbytes);
    assert_int_equal(l->weight->dtype, DT_F32);
    ok(checkpoint_read(m->ckpt, l->weight, 0, l->weight->nbytes, all, &err), &err);
    int64_t step = l->out_step ? l->out_step : l->in, in_step = l->out_step ? l->in_step : 1;
    *w = (QWeight){.dtype = dtype, .scope = QS_PER_CHANNEL, .symmetric = true, .out = l->out, .in = l->in,
                   .group = l->in, .groups = 1};
    w->code = malloc((size_t)(l->out * l->in));
    w->scale = malloc((size_t)l->out * sizeof(float));
    for (int64_t o = 0; o < l->out; o++) {
        const float *row = all + l->at + o * step;
        float mx = 1e-30f;
        for (int64_t k = 0; k < l->in; k++)
            mx = fmaxf(mx, fabsf(row[k * in_step]));
        w->scale[o] = mx / (dtype == QT_INT4 ? 7 : 127);
        for (int64_t k = 0; k < l->in; k++)
            w->code[o * l->in + k] = (uint8_t)(int8_t)lrintf(row[k * in_step] / w->scale[o]);
    }
    free(all);
}

static float *bias_of(const Model *m, int64_t i)
{
    const Linear *l = &m->linears[i];
    Error err = {0};
    if (!l->bias)
        return NULL;
    float *all = malloc(l->bias->nbytes), *b = malloc((size_t)l->out * sizeof *b);
    ok(checkpoint_read(m->ckpt, l->bias, 0, l->bias->nbytes, all, &err), &err);
    for (int64_t o = 0; o < l->out; o++)
        b[o] = l->out_step ? all[l->bias_at + o * (l->bias_step ? l->bias_step : 1)] : all[o];
    free(all);
    return b;
}

static void save_family(const Model *m, const SavePlan *plan, const SaveFormat *s)
{
    Error err = {0};
    void *self = savefeed_start(s, plan);
    for (int layer = 0; layer < m->cfg.layers; layer++) {
        for (int64_t i = 0; i < m->nlinears; i++) {
            QWeight w;
            if (m->linears[i].layer != layer || plan->level[i] == 0)
                continue;
            quantize_rows(m, i, plan->levels->weight.dtype, &w);
            float *bias = bias_of(m, i);
            SaveLinear l = {.linear = i, .config = plan->levels, .scheme = scheme_find(plan->levels), .weight = &w,
                            .act_dtype = DT_F32, .bias = bias};
            ok(s->ops->linear(self, &l, &err), &err);
            free(w.code);
            free(w.scale);
            free(bias);
        }
        ok(s->ops->layer_done(self, layer, &err), &err);
    }
    ok(s->ops->finish(self, &err), &err);
    s->ops->close(self, false);
}

/* A model saved with each n-th linear (every; 0: none) as W8A8_DYNAMIC or, with bits 4, W4A8_DYNAMIC. */
typedef struct Saved {
    Model *m;
    char *dir, target[512];
    QConfig q;
    int16_t *level;
    SavePlan plan;
} Saved;

static void saved_open(Saved *s, const char *model, const char *model_type, int every, int bits, bool peer)
{
    Error err = {0};
    *s = (Saved){.dir = temp_folder(), .q = config_default()};
    ok(model_open(&s->m, model, model_type, &err), &err);
    s->q.act = (QSpec){.dtype = QT_INT8, .scope = QS_PER_TOKEN, .symmetric = true, .method = "minmax"};
    if (bits == 4)
        s->q.weight.dtype = QT_INT4;
    s->level = calloc((size_t)s->m->nlinears, sizeof *s->level);
    for (int64_t i = 0; every && i < s->m->nlinears; i++)
        s->level[i] = i % every == 0;
    snprintf(s->target, sizeof s->target, "%s", temp_path(s->dir, "out"));
    s->plan = (SavePlan){.model = s->m, .dir = s->target, .model_type = model_type, .levels = &s->q, .nlevels = 1,
                         .level = s->level, .part_file_size = 1000000 / 0x1p30, .peer = peer};
}

static void saved_close(Saved *s)
{
    free(s->level);
    model_free(s->m);
    temp_remove(s->dir);
}

/* every: quantize each n-th linear, 0 none. */
static void run_family(const char *model, int every)
{
    Saved s;
    Error err = {0};
    saved_open(&s, model, NULL, every, 8, false);
    save_family(s.m, &s.plan, saver_find("ascendv1_saver"));
    VerifyReport r;
    ok(save_verify(&s.plan, saver_find("ascendv1_saver"), &r, NULL, &err), &err);
    if (r.problems)
        fail_msg("%s: %lld problems: %s", model, (long long)r.problems, r.problem[0]);
    for (int64_t k = 0; k < r.n; k++)
        if (!(r.rows[k].error < 1.5e-2))
            fail_msg("%s: %s has error %g", model, s.m->linears[r.rows[k].linear].name, r.rows[k].error);
    verify_free(&r);
    saved_close(&s);
}

static void test_families(void **state)
{
    (void)state;
    int n = 0;
    DIR *d = opendir("tests/golden/models");
    const struct dirent *e;
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        char model[400];
        snprintf(model, sizeof model, "tests/golden/models/%s/fp32", e->d_name);
        if (e->d_name[0] == '.' || !dir_exists(model))
            continue;
        run_family(model, 1);
        run_family(model, 3);
        n++;
    }
    closedir(d);
    assert_true(n >= 15);
}

/* ---- compressed-tensors ---- */

static const SaveFormat *compressed(void)
{
    return saver_find("compressed_tensors");
}

/* Experts that every loader has in one tensor are no linears of this format; as they are they can stay. */
static void test_stacked_experts(void **state)
{
    (void)state;
    Saved s;
    Error err = {0};
    saved_open(&s, "tests/golden/models/gpt_oss/fp32", NULL, 1, 8, false);
    assert_int_equal(compressed()->ops->check(compressed(), &s.plan, &err), ST_DATA);
    assert_string_equal(err.text, "compressed_tensors can't write the experts of gpt_oss one by one "
                                  "('model.layers.0.mlp.experts.0.gate_proj'): what loads this family wants them "
                                  "stacked, in floats; exclude '*.experts.*', or use ascendv1_saver");
    s.plan.peer = true; /* writes it, as the original does */
    ok(compressed()->ops->check(compressed(), &s.plan, &err), &err);
    s.plan.peer = false;
    for (int64_t i = 0; i < s.m->nlinears; i++)
        s.level[i] = s.m->linears[i].expert < 0;
    save_family(s.m, &s.plan, compressed());
    VerifyReport r;
    ok(save_verify(&s.plan, compressed(), &r, NULL, &err), &err);
    assert_int_equal(r.problems, 0);
    verify_free(&r);
    saved_close(&s);
}

static void keep_warning(void *ctx, const char *text)
{
    snprintf(ctx, 300, "%s", text);
}

/* One by one is not how every loader wants them. */
static void test_warned_experts(void **state)
{
    (void)state;
    Saved s;
    Error err = {0};
    char text[300] = "";
    saved_open(&s, "tests/golden/models/mixtral/fp32", NULL, 1, 8, false);
    s.plan.warn = keep_warning;
    s.plan.warn_ctx = text;
    ok(compressed()->ops->check(compressed(), &s.plan, &err), &err);
    assert_string_equal(text, "compressed_tensors has a tensor for each expert, as vLLM loads them: transformers 5 and "
                              "later read no int8 experts");
    *text = 0;
    for (int64_t i = 0; i < s.m->nlinears; i++)
        s.level[i] = s.m->linears[i].expert < 0;
    ok(compressed()->ops->check(compressed(), &s.plan, &err), &err);
    assert_string_equal(text, "");
    saved_close(&s);
}

/* The one entry of `ignore`; the caller frees. */
static char *ignored(const Saved *s)
{
    cJSON *o;
    Error err = {0};
    ok(json_parse_file(temp_path(s->target, "config.json"), 1 << 22, &o, &err), &err);
    const cJSON *list = json_get(json_get(o, "quantization_config"), "ignore");
    assert_int_equal(cJSON_GetArraySize(list), 1);
    char *text = strdup(list->child->valuestring);
    cJSON_Delete(o);
    return text;
}

/* Routers that are no linears, and experts also under the names that vLLM asks for. */
static void test_ignored(void **state)
{
    (void)state;
    static const struct {
        const char *model, *want;
    } rows[] = {
        {"deepseek_v3", "|gate|shared_experts"},
        {"mixtral", "(?:down_proj|gate_proj|up_proj|w1|w2|w3)"},
    };
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        Saved s;
        char model[128];
        snprintf(model, sizeof model, "tests/golden/models/%s/fp32", rows[k].model);
        saved_open(&s, model, NULL, 1, 8, false);
        for (int64_t i = 0; i < s.m->nlinears; i++)
            s.level[i] = s.m->linears[i].kind == LK_O;
        save_family(s.m, &s.plan, compressed());
        char *text = ignored(&s);
        if (!strstr(text, rows[k].want))
            fail_msg("%s: no %s in %s", rows[k].model, rows[k].want, text);
        free(text);
        saved_close(&s);
    }
}

/* ---- the order of an expert's linears ---- */

static cJSON *target_json(const Saved *s, const char *name)
{
    cJSON *o;
    Error err = {0};
    ok(json_parse_file(temp_path(s->target, name), 1 << 22, &o, &err), &err);
    return o;
}

/* Number of the member of this name, -1 when there is none. */
static int place_of(const cJSON *o, const char *module, const char *part, const char *suffix)
{
    char name[256];
    int n = 0;
    snprintf(name, sizeof name, "%s%s%s", module, part, suffix);
    for (const cJSON *v = o->child; v; v = v->next, n++)
        if (strcmp(v->string, name) == 0)
            return n;
    return -1;
}

/* Modules as the reference code defines them: in the description, in the index, and in the model's own order, which
 * ties in a ranking keep. */
static void check_order(const char *model, const char *experts, const char *shared, const char *const part[3])
{
    Saved s;
    char path[256], module[200];
    snprintf(path, sizeof path, "tests/golden/models/%s/fp32", model);
    saved_open(&s, path, NULL, 1, 8, false);
    save_family(s.m, &s.plan, saver_find("ascendv1_saver"));
    cJSON *label = target_json(&s, "quant_model_description.json");
    cJSON *index = target_json(&s, "quant_model_weights.safetensors.index.json");
    int last = -1, last_index = -1;
    int64_t last_linear = -1;
    for (int e = 0; e < s.m->cfg.moe.experts + (shared != NULL); e++) {
        if (e < s.m->cfg.moe.experts)
            snprintf(module, sizeof module, "%s.%d.", experts, e);
        else
            snprintf(module, sizeof module, "%s.", shared);
        for (int i = 0; i < 3; i++) {
            char name[256];
            snprintf(name, sizeof name, "%s%s", module, part[i]);
            int at = place_of(label, module, part[i], ".weight");
            int at_index = place_of(json_get(index, "weight_map"), module, part[i], ".weight");
            int64_t linear = model_find_linear(s.m, name);
            if (at <= last || at_index <= last_index || (e < s.m->cfg.moe.experts && linear <= last_linear))
                fail_msg("%s: %s is out of order", model, name);
            last = at;
            last_index = at_index;
            last_linear = linear;
        }
    }
    cJSON_Delete(label);
    cJSON_Delete(index);
    saved_close(&s);
}

static void test_expert_order(void **state)
{
    (void)state;
    static const char *const w123[] = {"w1", "w2", "w3"}, *const named[] = {"gate_proj", "up_proj", "down_proj"};
    check_order("mixtral", "model.layers.1.block_sparse_moe.experts", NULL, w123);
    check_order("minimax_m2", "model.layers.1.block_sparse_moe.experts", NULL, w123);
    check_order("deepseek_v4", "layers.1.ffn.experts", "layers.1.ffn.shared_experts", w123);
    check_order("qwen3_moe", "model.layers.0.mlp.experts", NULL, named);
    check_order("deepseek_v3", "model.layers.1.mlp.experts", "model.layers.1.mlp.shared_experts", named);
}

/* ---- what single families want beyond the format ---- */

/* Members of the written config.json, in both modes; NULL: none of this name. */
static void check_config(const char *model_type, int bits, const char *mtp, const char *others, const char *experts)
{
    for (int peer = 0; peer < 2; peer++) {
        Saved s;
        saved_open(&s, "tests/golden/models/deepseek_v3/fp32", model_type, 1, bits, peer);
        for (int64_t i = 0; i < s.m->nlinears; i++) /* the experts alone: enough to count */
            s.level[i] = s.m->linears[i].expert >= 0;
        save_family(s.m, &s.plan, saver_find("ascendv1_saver"));
        cJSON *o = target_json(&s, "config.json");
        const struct {
            const char *key, *want;
        } keys[] = {{"mtp_quantize", mtp}, {"quantize", others}, {"moe_quantize", experts}, {"mla_quantize", others}};
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            const cJSON *v = json_get(o, keys[i].key);
            if (!keys[i].want)
                assert_null(v);
            else if (!v || !cJSON_IsString(v) || strcmp(v->valuestring, keys[i].want) != 0)
                fail_msg("%s, %d bits: %s is not '%s'", model_type ? model_type : "-", bits, keys[i].key, keys[i].want);
        }
        assert_non_null(json_get(o, "hidden_size"));
        cJSON_Delete(o);
        saved_close(&s);
    }
}

static void test_config_keys(void **state)
{
    (void)state;
    check_config(NULL, 4, "w8a8_dynamic", "w8a8_dynamic", "w4a8_dynamic");
    check_config("DeepSeek-R1", 4, "w8a8_dynamic", "w8a8_dynamic", "w4a8_dynamic");
    check_config("Kimi-K2-Thinking", 4, NULL, "w8a8_dynamic", "w4a8_dynamic");
    check_config(NULL, 8, NULL, NULL, NULL);
}

/* The model's tensors cut to BF16 (all are float32) in a folder of its own. */
static void make_bf16(const char *from, const char *to)
{
    char path[600], *b, *config;
    size_t n, nconfig;
    Error err = {0};
    uint64_t head;
    snprintf(path, sizeof path, "%s/model.safetensors", from);
    ok(file_read(path, 1 << 24, &b, &n, &err), &err);
    snprintf(path, sizeof path, "%s/config.json", from);
    ok(file_read(path, 1 << 20, &config, &nconfig, &err), &err);
    memcpy(&head, b, sizeof head);
    cJSON *o = cJSON_ParseWithLength(b + 8, (size_t)head);
    assert_non_null(o);
    for (cJSON *t = o->child; t; t = t->next) {
        cJSON *range = cJSON_GetObjectItemCaseSensitive(t, "data_offsets");
        if (!range)
            continue;
        assert_string_equal(json_get(t, "dtype")->valuestring, "F32");
        assert_true(cJSON_ReplaceItemInObjectCaseSensitive(t, "dtype", cJSON_CreateString("BF16")));
        for (cJSON *v = range->child; v; v = v->next)
            cJSON_SetNumberValue(v, v->valuedouble / 2);
    }
    char *text = cJSON_PrintUnformatted(o), *data = b + 8 + head;
    uint64_t len = strlen(text);
    size_t values = (n - 8 - (size_t)head) / 4, total = 8 + (size_t)len + 2 * values;
    char *out = malloc(total);
    memcpy(out, &len, sizeof len);
    memcpy(out + 8, text, (size_t)len);
    for (size_t i = 0; i < values; i++)
        memcpy(out + 8 + len + 2 * i, data + 4 * i + 2, 2);
    assert_int_equal(mkdir(to, 0700), 0);
    snprintf(path, sizeof path, "%s/model.safetensors", to);
    ok(file_write_atomic(path, out, total, &err), &err);
    snprintf(path, sizeof path, "%s/config.json", to);
    ok(file_write_atomic(path, config, nconfig, &err), &err);
    cJSON_Delete(o);
    free(text);
    free(out);
    free(b);
    free(config);
}

/* weight and bias: the router's tensors of layer 1, the bias before the weight. */
static void check_router(const char *model, const char *weight, const char *bias)
{
    char from[256], *dir = temp_folder(), bf16[512];
    snprintf(from, sizeof from, "tests/golden/models/%s/fp32", model);
    snprintf(bf16, sizeof bf16, "%s", temp_path(dir, "bf16"));
    make_bf16(from, bf16);
    for (int peer = 0; peer < 2; peer++) {
        Saved s;
        Checkpoint *c;
        VerifyReport r;
        Error err = {0};
        saved_open(&s, bf16, NULL, 0, 8, peer);
        save_family(s.m, &s.plan, saver_find("ascendv1_saver"));
        ok(save_verify(&s.plan, saver_find("ascendv1_saver"), &r, NULL, &err), &err);
        assert_int_equal(r.problems, 0);
        verify_free(&r);
        ok(checkpoint_open(&c, temp_path(s.target, "quant_model_weights-00001-of-00001.safetensors"), &err), &err);
        const char *const names[] = {weight, bias};
        for (int k = 0; k < 2; k++) {
            const TensorInfo *to = checkpoint_find(c, names[k]), *src = checkpoint_find(s.m->ckpt, names[k]);
            assert_non_null(to);
            assert_int_equal(to->dtype, peer ? DT_F32 : DT_BF16);
            size_t n = (size_t)src->nbytes / 2;
            char *a = malloc(2 * n), *b = malloc(4 * n);
            ok(checkpoint_read(s.m->ckpt, src, 0, 2 * n, a, &err), &err);
            ok(checkpoint_read(c, to, 0, to->nbytes, b, &err), &err);
            for (size_t i = 0; i < n; i++) { /* float32 whose low half is 0, or the same bytes */
                assert_memory_equal(peer ? b + 4 * i + 2 : b + 2 * i, a + 2 * i, 2);
                assert_true(!peer || (b[4 * i] == 0 && b[4 * i + 1] == 0));
            }
            free(a);
            free(b);
        }
        cJSON *o = target_json(&s, "quant_model_description.json");
        assert_true(!peer || place_of(o, bias, "", "") < place_of(o, weight, "", ""));
        assert_true(place_of(o, bias, "", "") >= 0);
        cJSON_Delete(o);
        checkpoint_free(c);
        saved_close(&s);
    }
    temp_remove(dir);
}

static void test_wide_routers(void **state)
{
    (void)state;
    check_router("minimax_m2", "model.layers.1.block_sparse_moe.gate.weight",
                 "model.layers.1.block_sparse_moe.e_score_correction_bias");
    check_router("longcat_flash", "model.layers.1.mlp.router.classifier.weight",
                 "model.layers.1.mlp.router.e_score_correction_bias");
}

/* The order of writing (Arch.order) and the order in which the model numbers its linears are one. */
static void test_order_of_linears(void **state)
{
    (void)state;
    static const char *const models[] = {
        "deepseek_v2/fp32", "deepseek_v3/bf16", "deepseek_v32/fp32", "gemma2/bf16", "gemma3/fp32", "glm4_moe/bf16",
        "glm_moe_dsa/fp32", "gpt_oss/bf16", "llama/bf16", "longcat_flash/fp32", "minimax_m2/fp32", "mixtral/bf16",
        "phi3/bf16", "qwen2_moe/bf16", "qwen3_moe/bf16", "qwen3_next/fp32", "deepseek_v4/fp32",
    };
    for (size_t k = 0; k < sizeof models / sizeof models[0]; k++) {
        char path[128];
        Model *m;
        Error err = {0};
        SaveWalk w;
        snprintf(path, sizeof path, "tests/golden/models/%s", models[k]);
        ok(model_open(&m, path, NULL, &err), &err);
        int16_t *level = malloc((size_t)m->nlinears * sizeof *level);
        for (int64_t i = 0; i < m->nlinears; i++)
            level[i] = 1; /* stacked experts one by one */
        ok(save_walk(&w, &(SavePlan){.model = m, .dir = "", .level = level}, &err), &err);
        int64_t before = -1;
        for (size_t i = 0; i < w.n; i++) {
            const SaveItem *it = &w.items[i];
            /* w1, w2, w3, of which the model has gate and up side by side: w1, w3, w2 */
            if (it->kind != SI_LINEAR || strstr(it->name, "ffn.shared_experts.w"))
                continue;
            if (it->linear <= before)
                fail_msg("%s: '%s' is written behind '%s'", models[k], it->name, m->linears[before].name);
            before = it->linear;
        }
        assert_true(before >= m->nlinears - 4);
        save_walk_free(&w);
        free(level);
        model_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families), cmocka_unit_test(test_expert_order),
                                       cmocka_unit_test(test_config_keys), cmocka_unit_test(test_wide_routers),
                                       cmocka_unit_test(test_order_of_linears),
                                       cmocka_unit_test(test_stacked_experts), cmocka_unit_test(test_warned_experts),
                                       cmocka_unit_test(test_ignored)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
