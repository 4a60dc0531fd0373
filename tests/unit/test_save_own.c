#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "base/str.h"
#include "io/file.h"
#include "io/json.h"
#include "save/debug_info.h"
#include "save/verify.h"
#include "tests/lib/savefeed.h"
#include "tests/lib/tempdir.h"

/* Outputs in the default mode: what differs from the peer on purpose, and everything that can go wrong. */

#define FORMATS "tests/golden/formats/"

typedef struct Fixture {
    SaveFeed f;
    char *dir, target[512], model[256];
    SavePlan plan;
    const SaveFormat *s;
    int warnings;
} Fixture;

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static void count_warning(void *ctx, const char *text)
{
    assert_null(strchr(text, '\n'));
    ++*(int *)ctx;
}

static void fixture_open(Fixture *x, const char *model, const char *name, const char *saver, bool peer)
{
    char out[256];
    memset(x, 0, sizeof *x);
    snprintf(x->model, sizeof x->model, "%s%s", strchr(model, '/') ? "" : FORMATS "_models/", model);
    snprintf(out, sizeof out, FORMATS "%s/out", name);
    savefeed_open(&x->f, x->model, out, 1000);
    x->dir = temp_folder();
    snprintf(x->target, sizeof x->target, "%s/out", x->dir);
    x->plan = savefeed_plan(&x->f, x->target, peer);
    x->plan.warn = count_warning;
    x->plan.warn_ctx = &x->warnings;
    x->s = saver_find(saver);
}

static void fixture_close(Fixture *x)
{
    savefeed_close(&x->f);
    temp_remove(x->dir);
}

static void save_all(Fixture *x)
{
    savefeed_end(&x->f, x->s, savefeed_start(x->s, &x->plan), 0);
}

static const char *target_file(const Fixture *x, const char *name)
{
    return temp_path(x->target, name);
}

static cJSON *target_json(const Fixture *x, const char *name)
{
    cJSON *o;
    Error err = {0};
    ok(json_parse_file(target_file(x, name), 1 << 22, &o, &err), &err);
    return o;
}

static const char *text_of(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsString(v) ? v->valuestring : "";
}

/* ---- verify ---- */

static VerifyReport verify(const Fixture *x)
{
    VerifyReport r;
    Error err = {0};
    ok(save_verify(&x->plan, x->s, &r, NULL, &err), &err);
    return r;
}

static void test_verify(void **state)
{
    (void)state;
    static const struct {
        const char *model, *name, *saver;
        double least, most; /* relative error of every quantized linear */
    } cases[] = {
        {"qwen3-bf16", "w8a8_static", "ascendv1_saver", 1e-3, 1.2e-2},
        {"qwen3-fp16", "w8a8_pdmix_fp16_bias", "ascendv1_saver", 1e-3, 1.2e-2},
        {"llama-fp32", "w8a8_static_fp32_llama", "ascendv1_saver", 1e-3, 1.2e-2},
        {"llama-fp32", "w8a16_pergroup_gptq", "ascendv1_saver", 1e-3, 1.2e-2},
        {"qwen3-bf16", "w4a8", "ascendv1_saver", 5e-2, 0.25},
        {"qwen3-bf16", "fp8_dynamic", "ascendv1_saver", 1e-2, 4e-2},
        {"qwen3-bf16", "mxfp8", "ascendv1_saver", 1e-2, 4e-2},
        {"qwen3-bf16", "w4a8_mxfp", "ascendv1_saver", 5e-2, 0.2},
        {"qwen3-bf16", "mindie_w8a8_dynamic", "mindie_format_saver", 1e-3, 1.2e-2},
        {"qwen3-bf16", "ct_w8a8_dynamic", "compressed_tensors", 1e-3, 1.2e-2},
        {"qwen3_moe-bf16", "moe_w8a8_mixed", "ascendv1_saver", 1e-3, 1.2e-2},
        {"qwen3-bf16", "c8_only_bf16", "ascendv1_saver", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Fixture x;
        fixture_open(&x, cases[i].model, cases[i].name, cases[i].saver, false);
        x.plan.part_file_size = 50000 / 0x1p30;
        save_all(&x);
        VerifyReport r = verify(&x);
        int64_t planned = 0;
        if (r.problems)
            fail_msg("%s: %lld problems: %s", cases[i].name, (long long)r.problems, r.problem[0]);
        for (int64_t k = 0; k < r.n; k++) {
            planned += x.f.level[k] > 0;
            bool is_float = strcmp(r.rows[k].label, "FLOAT") == 0;
            if (!(is_float ? r.rows[k].error == 0 : r.rows[k].error > cases[i].least && r.rows[k].error < cases[i].most))
                fail_msg("%s: %s has error %g", cases[i].name, x.f.m->linears[r.rows[k].linear].name, r.rows[k].error);
        }
        assert_int_equal(r.n, x.f.m->nlinears);
        assert_int_equal(r.quantized, planned);
        verify_free(&r);
        fixture_close(&x);
    }
}

/* One byte flipped, a file gone, a label gone. */
static void test_verify_finds(void **state)
{
    (void)state;
    Fixture x;
    fixture_open(&x, "qwen3-bf16", "w8a8_dynamic", "ascendv1_saver", false);
    x.plan.part_file_size = 50000 / 0x1p30;
    save_all(&x);
    int fd = open(target_file(&x, "quant_model_weights-00001-of-00004.safetensors"), O_RDWR);
    assert_true(fd >= 0);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    /* the first file's last tensor is an int8 weight: a whole row wrong */
    char row[64];
    memset(row, 127, sizeof row);
    assert_int_equal(pwrite(fd, row, sizeof row, st.st_size - 64), 64);
    close(fd);
    VerifyReport r = verify(&x);
    assert_int_equal(r.problems, 0);
    assert_true(r.rows[r.worst].error > 0.1);
    verify_free(&r);
    /* the last file holds lm_head alone */
    fd = open(target_file(&x, "quant_model_weights-00004-of-00004.safetensors"), O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pwrite(fd, row, 1, st.st_size - 2), 1);
    close(fd);
    r = verify(&x);
    assert_int_equal(r.problems, 1);
    assert_string_equal(r.problem[0], "'lm_head.weight' differs from the model's");
    verify_free(&r);
    fd = open(target_file(&x, "quant_model_weights-00004-of-00004.safetensors"), O_RDWR);
    assert_int_equal(pwrite(fd, "\xc0\x7f", 2, st.st_size - 2), 2);
    close(fd);
    r = verify(&x);
    assert_int_equal(r.problems, 2);
    assert_string_equal(r.problem[1], "'lm_head.weight' has NaN");
    verify_free(&r);
    assert_int_equal(unlink(target_file(&x, "quant_model_weights-00004-of-00004.safetensors")), 0);
    r = verify(&x);
    assert_int_equal(r.problems, 1);
    assert_string_equal(r.problem[0], "'lm_head.weight' is missing");
    verify_free(&r);
    temp_puts(target_file(&x, "quant_model_description.json"), "{}");
    r = verify(&x);
    assert_int_equal(r.problems, 15);
    verify_free(&r);
    Error err = {0};
    assert_int_equal(save_verify(&x.plan, saver_find("mindie_format_saver"), &r, NULL, &err), ST_DATA);
    verify_free(&r);
    fixture_close(&x);
}

/* ---- what is better than the peer's ---- */

static void test_labels(void **state)
{
    (void)state;
    Fixture x;
    fixture_open(&x, "qwen3-bf16", "w4a8", "ascendv1_saver", false);
    save_all(&x);
    cJSON *o = target_json(&x, "quant_model_description.json");
    assert_string_equal(text_of(o, "model_quant_type"), "W4A8_DYNAMIC"); /* the peer calls it FLOAT */
    cJSON_Delete(o);
    struct stat st;
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(stat(target_file(&x, "quant_model_weights-00001-of-00001.safetensors"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
    fixture_close(&x);
}

/* Dynamic int8 by groups, asymmetric: the offsets are written; the peer writes zeros. */
static void test_real_offsets(void **state)
{
    (void)state;
    for (int peer = 0; peer < 2; peer++) {
        Fixture x;
        Error err = {0};
        fixture_open(&x, "llama-fp32", "w8a8_dynamic_pergroup_gptq", "ascendv1_saver", peer);
        int64_t i = 0;
        while (i < x.f.m->nlinears && (x.f.level[i] == 0 || x.f.levels[x.f.level[i] - 1].weight.scope != QS_PER_GROUP))
            i++;
        assert_true(i < x.f.m->nlinears && x.f.m->linears[i].layer == 0);
        x.f.levels[x.f.level[i] - 1].weight.symmetric = false;
        void *self = savefeed_start(x.s, &x.plan);
        savefeed_layer(&x.f, x.s, self, 0);
        SaveLinear l;
        QWeight w;
        savefeed_linear(&x.f, i, &l, &w);
        free(w.offset);
        int64_t n = w.out * w.groups;
        float *offset = calloc((size_t)n, sizeof *offset);
        for (int64_t k = 0; k < n; k++)
            offset[k] = (float)(k % 9 - 3);
        w.offset = offset;
        ok(x.s->ops->linear(self, &l, &err), &err); /* a second time: it replaces the first */
        ok(x.s->ops->layer_done(self, 0, &err), &err);
        savefeed_end(&x.f, x.s, self, 1);
        SaveFeed made;
        savefeed_open(&made, x.model, x.target, 1000);
        float *got = savefeed_floats(&made, x.f.m->linears[i].name, ".weight_offset");
        for (int64_t k = 0; k < n; k++)
            assert_true(got[k] == (peer ? 0 : offset[k]));
        free(got);
        savefeed_close(&made);
        savefeed_drop(&l, &w);
        fixture_close(&x);
    }
}

static void test_compressed_own(void **state)
{
    (void)state;
    Fixture x;
    fixture_open(&x, "qwen3-bf16", "ct_w8a8_static_sym", "compressed_tensors", false);
    x.f.levels[0].act.symmetric = true;
    save_all(&x);
    cJSON *o = target_json(&x, "config.json");
    const cJSON *q = json_get(o, "quantization_config"), *g = json_get(json_get(q, "config_groups"), "group_0");
    assert_true(cJSON_IsTrue(json_get(json_get(g, "input_activations"), "symmetric")));
    cJSON_Delete(o);
    fixture_close(&x);
    fixture_open(&x, "qwen3-bf16", "ct_w8a8_static", "compressed_tensors", false);
    save_all(&x);
    SaveFeed made;
    const Checkpoint *c;
    savefeed_open(&made, x.model, x.target, 1000);
    const TensorInfo *t = savefeed_find(&made, "model.layers.1.mlp.up_proj.input_zero_point", &c);
    assert_int_equal(t->dtype, DT_I8);
    assert_int_equal(savefeed_find(&made, "model.layers.1.mlp.up_proj.weight_scale", &c)->dtype, DT_F32);
    savefeed_close(&made);
    fixture_close(&x);
    /* what no loader takes is refused; the peer's mode warns and writes it */
    Error err = {0};
    fixture_open(&x, "qwen3-fp32", "ct_pdmix_unsupported_fp32", "compressed_tensors", false);
    assert_int_equal(x.s->ops->check(x.s, &x.plan, &err), ST_DATA);
    assert_non_null(strstr(err.text, "W8A8_MIX"));
    assert_int_equal(x.warnings, 0);
    x.plan.peer = true;
    assert_int_equal(x.s->ops->check(x.s, &x.plan, &err), ST_OK);
    assert_int_equal(x.warnings, 1);
    fixture_close(&x);
}

/* The target of a group, or the list of what is left alone. */
static const char *only_text(const cJSON *list)
{
    assert_int_equal(cJSON_GetArraySize(list), 1);
    return cJSON_GetArrayItem(list, 0)->valuestring;
}

static void assert_targets(const Fixture *x, const char *first, const char *second)
{
    cJSON *o = target_json(x, "config.json");
    const cJSON *g = json_get(json_get(o, "quantization_config"), "config_groups");
    const char *const want[2] = {first, second};
    for (int i = 0; i < 2; i++)
        assert_string_equal(only_text(json_get(cJSON_GetArrayItem(g, i), "targets")), want[i]);
    cJSON_Delete(o);
}

/* Each of several groups names its linears; the peer's all name the class, of which a loader takes the last. */
static void test_compressed_groups(void **state)
{
    (void)state;
    for (int peer = 0; peer < 2; peer++) {
        Fixture x;
        fixture_open(&x, "qwen3-fp32", "ct_mixed_fallback_fp32", "compressed_tensors", peer);
        save_all(&x);
        assert_targets(&x, peer ? "Linear" : "re:model\\.layers\\.(?:0|1)\\.self_attn\\.(?:k_proj|o_proj|q_proj|v_proj)(?![.\\w])",
                       peer ? "Linear" : "re:model\\.layers\\.(?:0|1)\\.mlp\\.(?:gate_proj|up_proj)(?![.\\w])");
        fixture_close(&x);
    }
}

/* Tied embeddings: lm_head only when the model has one of its own. */
static void test_tied(void **state)
{
    (void)state;
    for (int peer = 0; peer < 2; peer++) {
        Fixture x;
        SaveFeed made;
        const Checkpoint *c;
        fixture_open(&x, "qwen2-bf16-tied", "float_only", "ascendv1_saver", peer);
        x.plan.part_file_size = 0;
        memset(x.f.level, 0, (size_t)x.f.m->nlinears * sizeof *x.f.level);
        save_all(&x);
        savefeed_open(&made, x.model, x.target, 1000);
        assert_true((savefeed_find(&made, "lm_head.weight", &c) != NULL) == (peer == 1));
        savefeed_close(&made);
        fixture_close(&x);
    }
}

/* ---- linears that stay float after all ---- */

static void keep(Fixture *x, void *self, int64_t linear)
{
    Error err = {0};
    ok(x->s->ops->keep_float(self, linear, &err), &err);
}

static void run_with_kept(Fixture *x, const int64_t *kept, int n, bool stop)
{
    Error err = {0};
    void *self = savefeed_start(x->s, &x->plan);
    for (int layer = 0; layer < x->f.m->cfg.layers; layer++) {
        savefeed_layer(&x->f, x->s, self, layer);
        for (int k = 0; k < n; k++)
            if (x->f.m->linears[kept[k]].layer == layer)
                keep(x, self, kept[k]);
        ok(x->s->ops->layer_done(self, layer, &err), &err);
        if (stop) {
            int first;
            x->s->ops->close(self, true);
            ok(x->s->ops->open(&self, x->s, &x->plan, true, &first, &err), &err);
            assert_int_equal(first, layer + 1);
        }
    }
    ok(x->s->ops->finish(self, &err), &err);
    x->s->ops->close(self, false);
}

static void assert_same_folders(const char *a, const char *b)
{
    int n = 0;
    DIR *d = opendir(a);
    const struct dirent *e;
    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        if (e->d_name[0] == '.') { /* a manifest tells of the plan, too */
            n += strncmp(e->d_name, ".slimscope.", 11) == 0;
        } else {
            assert_same_file(temp_path(a, e->d_name), temp_path(b, e->d_name));
            n++;
        }
    closedir(d);
    assert_int_equal(n, temp_entries(b));
}

/* In the peer's layout the result is the one of a plan that knew it before; sharded or not, stopped or not. */
static void test_keep_float(void **state)
{
    (void)state;
    static const uint64_t limits[] = {0, 30000, 4000};
    static const int64_t kept[] = {5, 9, 10, 20};
    for (int i = 0; i < 6; i++) {
        Fixture x, y;
        fixture_open(&x, "qwen3_moe-bf16", "moe_w8a8_mixed", "ascendv1_saver", true);
        fixture_open(&y, "qwen3_moe-bf16", "moe_w8a8_mixed", "ascendv1_saver", true);
        x.plan.part_file_size = y.plan.part_file_size = (double)limits[i % 3] / 0x1p30;
        for (int k = 0; k < 4; k++)
            y.f.level[kept[k]] = 0;
        run_with_kept(&x, kept, 4, i >= 3);
        save_all(&y);
        assert_same_folders(x.target, y.target);
        fixture_close(&x);
        fixture_close(&y);
    }
}

/* In the default mode tensors keep their file: only those that hold one of them are written again. */
static void test_keep_float_own(void **state)
{
    (void)state;
    static const int64_t kept[] = {5, 9, 20};
    for (int stop = 0; stop < 2; stop++) {
        Fixture x;
        fixture_open(&x, "qwen3_moe-bf16", "moe_w8a8_mixed", "ascendv1_saver", false);
        x.plan.part_file_size = 30000 / 0x1p30;
        run_with_kept(&x, kept, 3, stop);
        VerifyReport r = verify(&x);
        assert_int_equal(r.problems, 0);
        int floats = 0;
        for (int64_t k = 0; k < r.n; k++)
            for (int j = 0; j < 3; j++)
                if (r.rows[k].linear == kept[j]) {
                    assert_string_equal(r.rows[k].label, "FLOAT");
                    floats++;
                }
        assert_int_equal(floats, 3);
        verify_free(&r);
        fixture_close(&x);
    }
}

/* ---- side files and extras ---- */

static void link_model(const char *from, const char *to)
{
    char cwd[4096], a[5000], b[5000];
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_int_equal(mkdir(to, 0700), 0);
    DIR *d = opendir(from);
    const struct dirent *e;
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(a, sizeof a, "%s/%s/%s", cwd, from, e->d_name);
        snprintf(b, sizeof b, "%s/%s", to, e->d_name);
        assert_int_equal(symlink(a, b), 0);
    }
    closedir(d);
}

static void test_side_files(void **state)
{
    (void)state;
    char *dir = temp_folder(), model[512];
    snprintf(model, sizeof model, "%s/a model", dir);
    link_model(FORMATS "_models/qwen3-bf16", model);
    temp_puts(temp_path(model, "tokenizer.model"), "spm");
    temp_puts(temp_path(model, "x.tiktoken"), "tik");
    temp_puts(temp_path(model, "LICENSE"), "free");
    temp_puts(temp_path(model, "quant_model_description.json"), "{\"foreign\": 1}");
    temp_puts(temp_path(model, "my_index.json"), "{}");
    temp_puts(temp_path(model, "weights.bin"), "no");
    temp_puts(temp_path(model, ".hidden.json"), "{}");
    assert_int_equal(mkdir(temp_path(model, "folder.json"), 0700), 0);
    Fixture x;
    fixture_open(&x, model, "float_only", "ascendv1_saver", false);
    save_all(&x);
    assert_same_file(target_file(&x, "tokenizer.model"), temp_path(model, "tokenizer.model"));
    assert_same_file(target_file(&x, "tokenizer.json"), FORMATS "_models/qwen3-bf16/tokenizer.json");
    assert_true(file_exists(target_file(&x, "x.tiktoken")) && file_exists(target_file(&x, "LICENSE")));
    assert_false(file_exists(target_file(&x, "my_index.json")) || file_exists(target_file(&x, "weights.bin"))
                 || file_exists(target_file(&x, ".hidden.json")));
    cJSON *o = target_json(&x, "quant_model_description.json");
    assert_string_equal(text_of(o, "model_quant_type"), "FLOAT");
    cJSON_Delete(o);
    assert_same_file(target_file(&x, "config.json"), FORMATS "_models/qwen3-bf16/config.json");
    fixture_close(&x);
    temp_remove(dir);
}

/* A checkpoint with more than the decoder uses: buffers, layers beyond the last. */
static void test_extras(void **state)
{
    (void)state;
    static const float one[2] = {1, 2};
    static const char *const names[] = {"model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.9.eh_proj.weight",
                                        "mtp.norm.weight"};
    char *dir = temp_folder(), model[512];
    snprintf(model, sizeof model, "%s/m", dir);
    link_model(FORMATS "_models/qwen3_moe-bf16", model);
    /* one more file of tensors, and an index that knows it */
    TensorOut t[3];
    for (int i = 0; i < 3; i++)
        t[i] = (TensorOut){.name = names[i], .dtype = DT_F32, .ndim = 1, .shape = {2}, .data = one};
    Error err = {0};
    ok(safetensors_write(temp_path(model, "extra.safetensors"), t, 3, NULL, &err), &err);
    cJSON *index;
    ok(json_parse_file(temp_path(model, "model.safetensors.index.json"), 1 << 20, &index, &err), &err);
    for (int i = 0; i < 3; i++)
        cJSON_AddStringToObject(cJSON_GetObjectItem(index, "weight_map"), names[i], "extra.safetensors");
    char *text = cJSON_Print(index);
    assert_int_equal(unlink(temp_path(model, "model.safetensors.index.json")), 0);
    temp_puts(temp_path(model, "model.safetensors.index.json"), text);
    free(text);
    cJSON_Delete(index);
    for (int peer = 0; peer < 2; peer++) {
        Fixture x;
        fixture_open(&x, model, "moe_w8a8_mixed", "ascendv1_saver", peer);
        save_all(&x);
        cJSON *o = target_json(&x, "quant_model_description.json");
        for (int i = 0; i < 3; i++)
            assert_string_equal(text_of(o, names[i]), peer ? "" : "FLOAT");
        cJSON_Delete(o);
        VerifyReport r = verify(&x);
        assert_int_equal(r.problems, 0);
        verify_free(&r);
        fixture_close(&x);
    }
    temp_remove(dir);
}

/* ---- debug info ---- */

static void test_debug_info(void **state)
{
    (void)state;
    Fixture x;
    DebugInfo *d;
    Error err = {0};
    fixture_open(&x, "qwen3-bf16", "w8a8_static", "ascendv1_saver", false);
    ok(debug_info_new(&d, &err), &err);
    for (int64_t i = 0; i < 2; i++) {
        SaveLinear l;
        QWeight w;
        savefeed_linear(&x.f, i, &l, &w);
        const DebugLinear of = debug_linear_of(&l);
        ok(debug_info_linear(d, x.f.m, &of, &err), &err);
        savefeed_drop(&l, &w);
    }
    ok(debug_info_text(d, "run", "name", "a\n\xc3\xa9", &err), &err);
    ok(debug_info_number(d, "run", "n", 1, &err), &err);
    ok(debug_info_number(d, "run", "n", 2, &err), &err); /* replaces */
    Str json = {0};
    ok(debug_info_save(d, false, temp_path(x.dir, "debug_info.safetensors"), &json, &err), &err);
    debug_info_free(d);
    cJSON *o;
    ok(json_parse(json.s, json.len, "debug info", &o, &err), &err);
    str_free(&json);
    const cJSON *scale = json_get(json_get(o, "weight"), "model.layers.0.self_attn.k_proj.scale");
    assert_string_equal(text_of(scale, "_key"), "weight/model.layers.0.self_attn.k_proj.scale");
    assert_true(json_get(json_get(o, "run"), "n")->valuedouble == 2);
    assert_string_equal(text_of(json_get(o, "run"), "name"), "a\n\xc3\xa9");
    assert_true(json_get(json_get(o, "activation"), "model.layers.0.self_attn.q_proj.scale")->valuedouble > 0);
    assert_int_equal(cJSON_GetArraySize(json_get(o, "weight")), 6);
    Checkpoint *c;
    ok(checkpoint_open(&c, temp_path(x.dir, "debug_info.safetensors"), &err), &err);
    assert_int_equal(checkpoint_count(c), 2);
    assert_int_equal(checkpoint_find(c, text_of(scale, "_key"))->shape[0], 32);
    checkpoint_free(c);
    cJSON_Delete(o);
    fixture_close(&x);
}

/* ---- what can go wrong ---- */

static void refuse(Fixture *x, Status want, const char *text)
{
    void *self;
    int first;
    Error err = {0};
    Status st = x->s->ops->open(&self, x->s, &x->plan, false, &first, &err);
    if (st != want || !strstr(err.text, text))
        fail_msg("got %d: %s", st, err.text);
    assert_null(self);
}

static void test_bad_targets(void **state)
{
    (void)state;
    Fixture x;
    char path[600];
    fixture_open(&x, "qwen3-bf16", "w8a8_dynamic", "ascendv1_saver", false);
    temp_puts(x.target, "a file");
    refuse(&x, ST_IO, "cannot make folder");
    snprintf(path, sizeof path, "%s/below", x.target);
    x.plan.dir = path;
    refuse(&x, ST_IO, "cannot make folder");
    x.plan.dir = "/proc/slimscope";
    refuse(&x, ST_IO, "cannot make folder '/proc/slimscope'");
    x.plan.dir = "/proc";
    refuse(&x, ST_IO, "/proc");
    x.plan.dir = x.model;
    refuse(&x, ST_USAGE, "the model's own folder");
    assert_int_equal(unlink(x.target), 0);
    x.plan.dir = x.target;
    assert_int_equal(mkdir(x.target, 0700), 0);
    assert_int_equal(mkdir(target_file(&x, "quant_model_weights-00001-of-00001.safetensors"), 0700), 0);
    refuse(&x, ST_IO, "a folder of this name is there");
    assert_int_equal(temp_entries(x.target), 1); /* nothing of ours stays */
    fixture_close(&x);
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    fixture_open(&x, "qwen3-bf16", "w8a8_dynamic", "ascendv1_saver", false);
    void *self = savefeed_start(x.s, &x.plan), *other;
    int first;
    savefeed_layers(&x.f, x.s, self, 0, 2);
    assert_int_equal(x.s->ops->open(&other, x.s, &x.plan, false, &first, &err), ST_IO);
    assert_non_null(strstr(err.text, "another run"));
    ok(x.s->ops->finish(self, &err), &err);
    x.s->ops->close(self, false);
    VerifyReport r = verify(&x);
    assert_int_equal(r.problems, 0);
    verify_free(&r);
    fixture_close(&x);
}

static int open_limited(void *ctx)
{
    Fixture *x = ctx;
    void *self;
    int first;
    Error err = {0};
    Status st = x->s->ops->open(&self, x->s, &x->plan, false, &first, &err);
    return st == ST_IO && strstr(err.text, "does not allow a file of") && !file_exists(x->target) ? 7 : (int)st;
}

static void test_no_room(void **state)
{
    (void)state;
    Fixture x;
    fixture_open(&x, "qwen3-bf16", "w8a8_dynamic", "ascendv1_saver", false);
    assert_int_equal(temp_with_limit(60000, open_limited, &x), 7);
    assert_false(dir_exists(x.target));
    fixture_close(&x);
}

/* Names, level and weights that can't be packed. */
static void test_odd_shapes(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    fixture_open(&x, "qwen3-bf16", "w4a8", "ascendv1_saver", false);
    Linear *l = &x.f.m->linears[4]; /* layer 0's gate_proj */
    l->out = 127;
    assert_int_equal(x.s->ops->check(x.s, &x.plan, &err), ST_DATA);
    assert_non_null(strstr(err.text, "'model.layers.0.mlp.gate_proj' has 127 outputs"));
    l->out = 128;
    x.f.m->linears[6].in = 8; /* down_proj: fewer inputs than slices */
    assert_int_equal(x.s->ops->check(x.s, &x.plan, &err), ST_OK);
    x.plan.peer = true;
    assert_int_equal(x.s->ops->check(x.s, &x.plan, &err), ST_DATA);
    assert_non_null(strstr(err.text, "16 slices"));
    x.f.m->linears[6].in = 128;
    fixture_close(&x);
    fixture_open(&x, "qwen3-bf16", "w4a8_mxfp", "ascendv1_saver", false);
    x.f.m->linears[4].in = 63;
    assert_int_equal(x.s->ops->check(x.s, &x.plan, &err), ST_DATA);
    assert_non_null(strstr(err.text, "has 63 inputs"));
    x.f.m->linears[4].in = 64;
    x.s = saver_find("mindie_format_saver");
    assert_int_equal(x.s->ops->check(x.s, &x.plan, &err), ST_DATA);
    assert_non_null(strstr(err.text, "mindie_format_saver can't write W4A8_MXFP"));
    fixture_close(&x);
    fixture_open(&x, "qwen3-bf16", "c8_only_bf16", "compressed_tensors", false);
    assert_int_equal(x.s->ops->check(x.s, &x.plan, &err), ST_DATA);
    assert_non_null(strstr(err.text, "C8"));
    fixture_close(&x);
}

/* What a format has no words for is refused by its name, whatever the scheme. */
static void test_unknown_schemes(void **state)
{
    (void)state;
    Fixture x;
    int refused[3] = {0};
    fixture_open(&x, "qwen3-bf16", "w8a8_dynamic", "ascendv1_saver", false);
    for (const Scheme *s = scheme_table; s->name; s++) {
        const char *method = s->weight_method ? s->weight_method : "minmax";
        QSpec act = {.dtype = s->act_type, .scope = s->act_scope, .symmetric = s->act_sym != 0};
        QSpec weight = {.dtype = s->weight_type, .scope = s->weight_scope, .symmetric = s->weight_sym != 0};
        snprintf(weight.method, sizeof weight.method, "%s", method);
        x.f.levels[0] = (QConfig){act, weight};
        assert_ptr_equal(scheme_find(&x.f.levels[0]), s);
        for (int i = 0; saver_table[i]; i++) {
            Error err = {0};
            Status st = saver_table[i]->ops->check(saver_table[i], &x.plan, &err);
            if (st != ST_OK && (st != ST_DATA || !strstr(err.text, s->name) || !strstr(err.text, saver_table[i]->type)))
                fail_msg("%s by %s: %s", s->name, saver_table[i]->type, err.text);
            refused[i] += st != ST_OK;
        }
    }
    assert_int_equal(refused[0], 0);
    assert_true(refused[1] > 5 && refused[2] > 10);
    fixture_close(&x);
}

static void test_files(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    SaveFile *files;
    int n;
    fixture_open(&x, "qwen3-bf16", "w8a8_dynamic", "ascendv1_saver", true);
    x.plan.part_file_size = 20000 / 0x1p30;
    ok(x.s->ops->files(x.s, &x.plan, &files, &n, &err), &err);
    assert_int_equal(n, 18);
    assert_string_equal(files[0].name, "quant_model_weights-00001-of-00008.safetensors");
    assert_int_equal(files[0].bytes, 15328); /* as recorded in sharded_tiny */
    assert_int_equal(files[7].bytes, 49240);
    assert_string_equal(files[8].name, "quant_model_weights.safetensors.index.json");
    assert_string_equal(files[9].name, "quant_model_description.json");
    assert_int_equal(files[9].bytes, 0);
    int configs = 0; /* of the model's folder, once */
    for (int i = 10; i < n; i++)
        configs += strcmp(files[i].name, "config.json") == 0;
    assert_int_equal(configs, 1);
    free(files);
    assert_false(dir_exists(x.target));
    fixture_close(&x);
    assert_null(saver_find("saver"));
    assert_null(saver_find(NULL));
}

/* A linear that was never handed over, a layer out of turn. */
static void test_misuse(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    fixture_open(&x, "qwen3-bf16", "w8a8_dynamic", "ascendv1_saver", false);
    void *self = savefeed_start(x.s, &x.plan);
    assert_int_equal(x.s->ops->layer_done(self, 0, &err), ST_INTERNAL);
    assert_int_equal(x.s->ops->layer_done(self, 1, &err), ST_INTERNAL);
    assert_int_equal(x.s->ops->finish(self, &err), ST_INTERNAL);
    x.s->ops->close(self, false);
    assert_false(dir_exists(x.target));
    fixture_close(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verify),        cmocka_unit_test(test_verify_finds),
        cmocka_unit_test(test_labels),        cmocka_unit_test(test_real_offsets),
        cmocka_unit_test(test_compressed_own), cmocka_unit_test(test_compressed_groups),
        cmocka_unit_test(test_tied),
        cmocka_unit_test(test_keep_float),    cmocka_unit_test(test_keep_float_own),
        cmocka_unit_test(test_side_files),    cmocka_unit_test(test_extras),
        cmocka_unit_test(test_debug_info),
        cmocka_unit_test(test_bad_targets),   cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_no_room),       cmocka_unit_test(test_odd_shapes),
        cmocka_unit_test(test_unknown_schemes),
        cmocka_unit_test(test_files),         cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
