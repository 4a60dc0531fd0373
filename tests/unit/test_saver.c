#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/file.h"
#include "save/debug_saver.h"
#include "save/format.h"
#include "save/terms.h"
#include "tests/lib/npz.h"
#include "tests/lib/savefeed.h"
#include "tests/lib/tempdir.h"

#define FORMATS "tests/golden/formats/"

/* ---- the peer's recorded runs, fed with what they themselves contain ---- */

typedef struct Case {
    const char *name, *saver;
    double size;             /* part_file_size */
    uint64_t bytes;          /* of runs recorded with a smaller unit */
    int fp32_from;           /* layer from which the activations were float32 */
    const char *second;      /* another saver of the same run, with part_file_size 0 */
} Case;

#define ASCEND "ascendv1_saver"
#define MINDIE "mindie_format_saver"
#define CT "compressed_tensors"
#define DEBUG "debug_info"
enum { NEVER = 1000 };
static const Case cases[] = {
    {"float_only", ASCEND, 4, 0, NEVER, NULL},
    {"float_only_tied", ASCEND, 4, 0, NEVER, NULL},
    {"w8a8_static", ASCEND, 4, 0, NEVER, NULL},
    {"w8a8_static_sym", ASCEND, 4, 0, NEVER, NULL},
    {"w8a8_static_fp32_llama", ASCEND, 4, 0, NEVER, NULL},
    {"w8a8_static_tied_fallback", ASCEND, 4, 0, NEVER, NULL},
    {"w8a8_nosplit", ASCEND, 0, 0, NEVER, NULL},
    {"w8a8_pdmix", ASCEND, 4, 0, NEVER, NULL},
    {"w8a8_pdmix_fp16_bias", ASCEND, 4, 0, NEVER, NULL},
    {"w8a8_dynamic", ASCEND, 4, 0, NEVER, NULL},
    {"w8a8_dynamic_fp16", ASCEND, 4, 0, NEVER, NULL},
    {"w8a8_dynamic_pergroup_gptq", ASCEND, 4, 0, NEVER, NULL},
    {"w8a16", ASCEND, 4, 0, NEVER, NULL},
    {"w8a16_modelwise_llama", ASCEND, 4, 0, NEVER, NULL},
    {"w8a16_pergroup_gptq", ASCEND, 4, 0, NEVER, NULL},
    {"w4a8", ASCEND, 4, 0, NEVER, NULL},
    {"fp8_dynamic", ASCEND, 4, 0, NEVER, NULL},
    {"mxfp8", ASCEND, 4, 0, NEVER, NULL},
    {"w4a8_mxfp", ASCEND, 4, 0, NEVER, NULL},
    {"w4a4_mxfp4", ASCEND, 4, 0, NEVER, NULL},
    {"w4a4_autoround_mixed", ASCEND, 4, 0, NEVER, NULL},
    {"w4a4_pergroup_autoround", ASCEND, 4, 0, NEVER, NULL},
    {"c8_fp16", ASCEND, 4, 0, NEVER, NULL},
    {"c8_only_bf16", ASCEND, 4, 0, NEVER, NULL},
    {"c8_only_bf16_lastsample", ASCEND, 4, 0, NEVER, NULL},
    {"c8_only_fp32", ASCEND, 4, 0, NEVER, NULL},
    {"w8a8c8_asym", ASCEND, 4, 0, 1, NULL},
    {"moe_w8a8_mixed", ASCEND, 4, 0, NEVER, NULL},
    {"sharded_w8a8_static", ASCEND, 1, 65536, NEVER, NULL},
    {"sharded_tiny", ASCEND, 1, 20000, NEVER, NULL},
    {"two_savers", ASCEND, 4, 0, NEVER, MINDIE},
    {"mindie_float_only", MINDIE, 0, 0, NEVER, NULL},
    {"mindie_w8a8_static", MINDIE, 0, 0, NEVER, NULL},
    {"mindie_w8a8_static_fp16", MINDIE, 0, 0, NEVER, NULL},
    {"mindie_w8a8_static_split", MINDIE, 4, 0, NEVER, NULL},
    {"mindie_w8a8_dynamic", MINDIE, 0, 0, NEVER, NULL},
    {"mindie_modelwise", MINDIE, 0, 0, NEVER, NULL},
    {"mindie_mixed", MINDIE, 0, 0, NEVER, NULL},
    {"mindie_mxfp8", MINDIE, 0, 0, NEVER, NULL},
    {"mindie_w4a4_mxfp4", MINDIE, 0, 0, NEVER, NULL},
    {"ct_float_only", CT, 4, 0, NEVER, NULL},
    {"ct_nosplit", CT, 0, 0, NEVER, NULL},
    {"ct_w8a8_static", CT, 4, 0, NEVER, NULL},
    {"ct_w8a8_static_sym", CT, 4, 0, NEVER, NULL},
    {"ct_w8a8_dynamic", CT, 4, 0, NEVER, NULL},
    {"ct_mixed_fallback_fp32", CT, 4, 0, NEVER, NULL},
    {"ct_w8a16_unsupported_fp32", CT, 4, 0, NEVER, NULL},
    {"ct_pdmix_unsupported_fp32", CT, 4, 0, NEVER, NULL},
    {"sharded_ct", CT, 1, 65536, NEVER, NULL},
    {"smooth_quant_w8a8_fp32", ASCEND, 4, 0, NEVER, NULL},
    {"smooth_quant_shift_w8a8_fp32", ASCEND, 4, 0, NEVER, NULL},
    {"iter_smooth_default_llama", ASCEND, 4, 0, NEVER, NULL},
    {"iter_smooth_w8a8_fp32", ASCEND, 4, 0, NEVER, NULL},
    {"iter_smooth_ovud_w8a8_bf16", ASCEND, 4, 0, NEVER, NULL},
    {"flex_smooth_w8a8_pdmix", ASCEND, 4, 0, NEVER, NULL},
    {"quarot_debug", ASCEND, 4, 0, NEVER, DEBUG},
    {"quarot_online_w8a8", ASCEND, 4, 0, NEVER, NULL},
    {"flatquant_w8a8_dynamic", ASCEND, 4, 0, NEVER, NULL},
    {"flatquant_mxfp4", ASCEND, 4, 0, NEVER, NULL},
    {"debug_two_namespaces", ASCEND, 4, 0, NEVER, DEBUG},
    {"w8a8_debug", ASCEND, 4, 0, NEVER, DEBUG},
};

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static void case_paths(const Case *c, char model[256], char out[256])
{
    char path[256];
    size_t n;
    snprintf(path, sizeof path, FORMATS "%s/MODEL", c->name);
    char *text = temp_get(path, &n);
    text[strcspn(text, "\n")] = 0;
    snprintf(model, 256, FORMATS "_models/%s", text);
    snprintf(out, 256, FORMATS "%s/out", c->name);
    free(text);
}

/* Files of `made` that the recording has must be equal; all others must be the model's own side files. */
static void compare_below(const char *made, const char *out, const char *name)
{
    char a[600], b[600];
    snprintf(a, sizeof a, "%s/%s", made, name);
    snprintf(b, sizeof b, "%s/%s", out, name);
    assert_int_equal(temp_entries(a), temp_entries(b));
    DIR *d = opendir(a);
    const struct dirent *e;
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        char x[1024], y[1024];
        snprintf(x, sizeof x, "%s/%s", a, e->d_name);
        snprintf(y, sizeof y, "%s/%s", b, e->d_name);
        if (e->d_name[0] != '.')
            assert_same_file(x, y);
    }
    closedir(d);
}

static void compare_folders(const char *made, const char *out, const char *model)
{
    int seen = 0, wanted = 0;
    DIR *d = opendir(made);
    const struct dirent *e;
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        char a[1024], b[1024];
        if (e->d_name[0] == '.') /* the manifest, beside the peer's files, too */
            continue;
        snprintf(a, sizeof a, "%s/%s", made, e->d_name);
        snprintf(b, sizeof b, "%s/%s", out, e->d_name);
        if (dir_exists(a)) {
            seen++;
            compare_below(made, out, e->d_name);
            continue;
        }
        if (file_exists(b))
            seen++;
        else
            snprintf(b, sizeof b, "%s/%s", model, e->d_name);
        assert_same_file(a, b);
    }
    closedir(d);
    d = opendir(out);
    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        wanted += e->d_name[0] != '.' && !strstr(e->d_name, "best_practice");
    closedir(d);
    assert_int_equal(seen, wanted);
}

static void run_case(void **state)
{
    const Case *c = *state;
    char model[256], out[256];
    SaveFeed f;
    case_paths(c, model, out);
    savefeed_open(&f, model, out, c->fp32_from);
    char *dir = temp_folder();
    SavePlan plan = savefeed_plan(&f, temp_path(dir, "target dir"), true);
    char target[512];
    snprintf(target, sizeof target, "%s", plan.dir);
    plan.dir = target;
    plan.part_file_size = c->bytes ? (double)c->bytes / 0x1p30 : c->size;
    const SaveFormat *a = saver_find(c->saver), *b = c->second ? saver_find(c->second) : NULL;
    if (c->second && strcmp(c->second, DEBUG) == 0)
        b = &saver_debug_info;
    SavePlan other = plan;
    other.part_file_size = 0;
    void *one = savefeed_start(a, &plan), *two = b ? savefeed_start(b, &other) : NULL;
    savefeed_end(&f, a, one, 0);
    if (b)
        savefeed_end(&f, b, two, 0);
    compare_folders(target, out, model);
    savefeed_close(&f);
    temp_remove(dir);
}

/* ---- numbers ---- */

typedef struct OneLinear {
    TensorInfo weight;
    Linear linear;
    Model model;
} OneLinear;

static SavePlan one_linear(OneLinear *o, const char *name, DType T, int64_t out, int64_t in, bool peer)
{
    memset(o, 0, sizeof *o);
    o->weight.dtype = T;
    o->linear = (Linear){.name = name, .weight = &o->weight, .out = out, .in = in};
    o->model.linears = &o->linear;
    o->model.nlinears = 1;
    o->model.cfg.dtype = T;
    return (SavePlan){.model = &o->model, .peer = peer};
}

/* Bytes of one part, compared. */
static void assert_part(const SavePlan *plan, const SaveLinear *l, QPart p, const void *want, size_t n)
{
    void *buf = NULL;
    size_t cap = 0;
    const void *data;
    Error err = {0};
    ok(save_part_data(plan, l, &p, &buf, &cap, &data, &err), &err);
    assert_memory_equal(data, want, n);
    free(buf);
}

static void terms_of(const Npz *z, const char *type, DType T, const char *scope, int bias)
{
    OneLinear o;
    SavePlan plan = one_linear(&o, "x", T, 32, 64, true);
    char key[64];
    float w[32 * 64], scale[32];
    snprintf(key, sizeof key, "%s.%s.bias%d", type, scope, bias);
    memcpy(w, npz_f32(z, NULL, "%s.W", key), sizeof w);
    for (int r = 0; r < 32; r++) {
        float mn, mx;
        intquant_range(w + r * 64, 64, &mn, &mx);
        scale[r] = intquant_param(mn, mx, 8, true, T).scale;
    }
    QWeight q = {.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = true, .out = 32, .in = 64, .group = 64,
                 .groups = 1, .scale = scale, .code = (uint8_t *)(uintptr_t)npz_i8(z, NULL, "%s.out.weight", key)};
    SaveLinear l = {.weight = &q, .has_act = true, .act_dtype = T};
    l.act.scale = npz_f32(z, NULL, "%s.out.input_scale", key)[0];
    l.act.offset = npz_f32(z, NULL, "%s.out.input_offset", key)[0];
    l.bias = bias ? npz_f32(z, NULL, "%s.b", key) : NULL;
    QPart deq = {.kind = PART_DEQ_SCALE, .dtype = DT_F32, .ndim = 1, .shape = {32}};
    QPart qb = {.kind = PART_QUANT_BIAS, .dtype = DT_I32, .ndim = 1, .shape = {32}};
    assert_part(&plan, &l, deq, npz_f32(z, NULL, "%s.out.deq_scale", key), 128);
    assert_part(&plan, &l, qb, npz_find(z, "%s.out.quant_bias", key)->data, 128);
    if (strcmp(scope, "pd_mix") == 0)
        assert_memory_equal(scale, npz_f32(z, NULL, "%s.out.weight_scale", key), 128);
    if (bias) {
        QPart b = {.kind = PART_BIAS, .dtype = DT_F32, .ndim = 1, .shape = {32}};
        assert_part(&plan, &l, b, npz_f32(z, NULL, "%s.out.bias", key), 128);
    }
    /* ours: both factors in float64 */
    plan.peer = false;
    float exact[32];
    int32_t exact_bias[32];
    for (int i = 0; i < 32; i++) {
        double d = (double)l.act.scale * scale[i], sum = 0;
        for (int k = 0; k < 64; k++)
            sum += ((const int8_t *)q.code)[i * 64 + k];
        exact[i] = (float)d;
        exact_bias[i] = (int32_t)lrint((l.bias ? l.bias[i] / d : 0) - sum * l.act.offset);
    }
    assert_part(&plan, &l, deq, exact, sizeof exact);
    assert_part(&plan, &l, qb, exact_bias, sizeof exact_bias);
}

static void test_terms(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/saver_terms.npz");
    for (int bias = 0; bias < 2; bias++) {
        terms_of(z, "f32", DT_F32, "per_tensor", bias);
        terms_of(z, "f32", DT_F32, "pd_mix", bias);
        terms_of(z, "bf16", DT_BF16, "per_tensor", bias);
        terms_of(z, "bf16", DT_BF16, "pd_mix", bias);
    }
    npz_free(z);
}

static void test_pack4(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/saver_terms.npz");
    OneLinear o;
    SavePlan plan = one_linear(&o, "x.up_proj", DT_F32, 32, 64, true);
    QWeight q = {.dtype = QT_INT4, .scope = QS_PER_CHANNEL, .symmetric = true, .out = 32, .in = 64, .group = 64,
                 .groups = 1, .scale = (float *)(uintptr_t)npz_f32(z, NULL, "pack4.scale"),
                 .code = (uint8_t *)(uintptr_t)npz_i8(z, NULL, "pack4.q")};
    SaveLinear l = {.weight = &q};
    assert_part(&plan, &l, (QPart){.kind = PART_INT4_ROWS, .dtype = DT_I8, .ndim = 2, .shape = {16, 64}},
                npz_i8(z, NULL, "pack4.packed"), 16 * 64);
    assert_part(&plan, &l, (QPart){.kind = PART_SCALE_BIAS, .dtype = DT_F32, .ndim = 2, .shape = {32, 1}},
                npz_f32(z, NULL, "pack4.scale_bias.x.up_proj"), 128);
    o.linear.name = "x.down_proj";
    assert_part(&plan, &l, (QPart){.kind = PART_SCALE_BIAS, .dtype = DT_F32, .ndim = 2, .shape = {32, 16}},
                npz_f32(z, NULL, "pack4.scale_bias.x.down_proj"), 2048);
    npz_free(z);
}

static void test_scale_bias_columns(void **state)
{
    (void)state;
    assert_int_equal(scale_bias_columns("model.layers.0.mlp.gate_up_proj", 64, true), 1);
    assert_int_equal(scale_bias_columns("a.o_proj", 64, true), 16);
    assert_int_equal(scale_bias_columns("a.o_proj", 40, true), 20); /* the peer's slices of 2 */
    assert_int_equal(scale_bias_columns("a.o_proj", 8, true), 0);
    assert_int_equal(scale_bias_columns("a.o_proj", 35, true), 0);
    assert_int_equal(scale_bias_columns("a.q_a_proj", 64, true), 64); /* left unsummed */
    assert_int_equal(scale_bias_columns("a.o_proj", 8, false), 16);
    assert_int_equal(scale_bias_columns("a.q_a_proj", 64, false), 1);
    assert_int_equal(scale_bias_columns("down_proj.q_proj", 64, false), 1);
    assert_int_equal(scale_bias_columns("q_proj.down_proj", 64, false), 16);
}

/* Ours with 8 inputs: 16 columns, those beyond the inputs 0. */
static void test_scale_bias_short(void **state)
{
    (void)state;
    OneLinear o;
    SavePlan plan = one_linear(&o, "x.down_proj", DT_F32, 2, 20, false);
    uint8_t code[40];
    float scale[2] = {0.5f, 0.25f}, want[32] = {0};
    for (int i = 0; i < 40; i++) {
        code[i] = (uint8_t)(int8_t)(i % 7 - 3);
        want[i / 20 * 16 + i % 20 / 2] += 8 * (float)(i % 7 - 3) * scale[i / 20];
    }
    QWeight q = {.dtype = QT_INT4, .scope = QS_PER_CHANNEL, .out = 2, .in = 20, .group = 20, .groups = 1,
                 .scale = scale, .code = code};
    SaveLinear l = {.weight = &q};
    assert_part(&plan, &l, (QPart){.kind = PART_SCALE_BIAS, .dtype = DT_F32, .ndim = 2, .shape = {2, 16}}, want,
                sizeof want);
}

/* ---- a run that stops and goes on ---- */

typedef struct Fixture {
    SaveFeed f;
    char *dir, model[256], out[256], target[512];
    SavePlan plan;
    const SaveFormat *s;
} Fixture;

static void fixture_open(Fixture *x, const char *name, bool peer)
{
    const Case *c = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (strcmp(cases[i].name, name) == 0)
            c = &cases[i];
    assert_non_null(c);
    case_paths(c, x->model, x->out);
    savefeed_open(&x->f, x->model, x->out, c->fp32_from);
    x->dir = temp_folder();
    snprintf(x->target, sizeof x->target, "%s/t", x->dir);
    x->plan = savefeed_plan(&x->f, x->target, peer);
    x->plan.part_file_size = c->bytes ? (double)c->bytes / 0x1p30 : c->size;
    x->s = saver_find(c->saver);
}

static void fixture_close(Fixture *x)
{
    savefeed_close(&x->f);
    temp_remove(x->dir);
}

static void test_resume(void **state)
{
    (void)state;
    static const char *const names[] = {"sharded_w8a8_static", "w8a8c8_asym", "mindie_mixed", "ct_w8a8_static_sym",
                                        "quarot_online_w8a8", "smooth_quant_shift_w8a8_fp32", "flatquant_w8a8_dynamic"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        Fixture x;
        Error err = {0};
        int first = -1;
        fixture_open(&x, names[i], true);
        void *self = savefeed_start(x.s, &x.plan);
        savefeed_layers(&x.f, x.s, self, 0, 1);
        savefeed_layer(&x.f, x.s, self, 1); /* the layer that is lost */
        x.s->ops->close(self, true);
        assert_int_equal(temp_entries(x.target), 1);
        /* another recipe can't go on with it, and does not destroy it */
        int16_t was = x.f.level[3];
        x.f.level[3] = 0;
        assert_int_equal(x.s->ops->open(&self, x.s, &x.plan, true, &first, &err), ST_DATA);
        assert_non_null(strstr(err.text, "the recipe quantizes other layers"));
        x.f.level[3] = was;
        x.f.levels[0].weight.ext.percdamp += 0.5;
        assert_int_equal(x.s->ops->open(&self, x.s, &x.plan, true, &first, &err), ST_DATA);
        x.f.levels[0].weight.ext.percdamp -= 0.5;
        ok(x.s->ops->open(&self, x.s, &x.plan, true, &first, &err), &err);
        assert_int_equal(first, 1);
        savefeed_end(&x.f, x.s, self, 0); /* another saver may be behind: finished layers are taken and left */
        compare_folders(x.target, x.out, x.model);
        fixture_close(&x);
    }
}

/* The process is killed in the middle of a layer: what was synced is there, the lock is gone with it. */
static void test_killed(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    int first = -1, status;
    fixture_open(&x, "sharded_w8a8_static", true);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        void *run = savefeed_start(x.s, &x.plan);
        savefeed_layers(&x.f, x.s, run, 0, 1);
        savefeed_layer(&x.f, x.s, run, 1);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    void *self;
    ok(x.s->ops->open(&self, x.s, &x.plan, true, &first, &err), &err);
    assert_int_equal(first, 1);
    savefeed_end(&x.f, x.s, self, 1);
    compare_folders(x.target, x.out, x.model);
    struct stat st;
    char path[700];
    snprintf(path, sizeof path, "%s/quant_model_weights-00001-of-00004.safetensors", x.target);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600); /* as the peer's */
    snprintf(path, sizeof path, "%s/quant_model_description.json", x.target);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    fixture_close(&x);
}

static void test_resume_damaged(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    int first = -1;
    fixture_open(&x, "w8a8_dynamic", true);
    void *self = savefeed_start(x.s, &x.plan);
    savefeed_layers(&x.f, x.s, self, 0, 1);
    x.s->ops->close(self, true);
    char path[600];
    snprintf(path, sizeof path, "%s/.slimscope-ascendv1_saver/part-00001", x.target);
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(x.s->ops->open(&self, x.s, &x.plan, true, &first, &err), ST_DATA);
    assert_non_null(strstr(err.text, "gone or damaged"));
    /* a new start takes its place */
    savefeed_end(&x.f, x.s, savefeed_start(x.s, &x.plan), 0);
    compare_folders(x.target, x.out, x.model);
    fixture_close(&x);
}

/* Stopped between the last layer and the end, twice; then with nothing left to resume. */
static void test_resume_late(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    int first = -1;
    fixture_open(&x, "sharded_tiny", true);
    void *self = savefeed_start(x.s, &x.plan);
    savefeed_layers(&x.f, x.s, self, 0, x.f.m->cfg.layers);
    x.s->ops->close(self, true);
    /* a name that can't be replaced stops the final step */
    char path[600];
    snprintf(path, sizeof path, "%s/quant_model_description.json", x.target);
    assert_int_equal(mkdir(path, 0700), 0);
    ok(x.s->ops->open(&self, x.s, &x.plan, true, &first, &err), &err);
    assert_int_equal(first, x.f.m->cfg.layers);
    assert_int_equal(x.s->ops->finish(self, &err), ST_IO);
    x.s->ops->close(self, true);
    assert_int_equal(rmdir(path), 0);
    ok(x.s->ops->open(&self, x.s, &x.plan, true, &first, &err), &err);
    assert_int_equal(first, x.f.m->cfg.layers);
    ok(x.s->ops->finish(self, &err), &err);
    x.s->ops->close(self, false);
    compare_folders(x.target, x.out, x.model);
    ok(x.s->ops->open(&self, x.s, &x.plan, true, &first, &err), &err);
    assert_int_equal(first, x.f.m->cfg.layers); /* the output is whole */
    ok(x.s->ops->finish(self, &err), &err);
    x.s->ops->close(self, false);
    compare_folders(x.target, x.out, x.model);
    fixture_close(&x);
}

int main(void)
{
    enum { N = sizeof cases / sizeof cases[0] };
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(test_terms),
        cmocka_unit_test(test_pack4),
        cmocka_unit_test(test_scale_bias_columns),
        cmocka_unit_test(test_scale_bias_short),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_resume_damaged),
        cmocka_unit_test(test_resume_late),
    };
    enum { M = sizeof others / sizeof others[0] };
    struct CMUnitTest tests[N + M];
    for (int i = 0; i < N; i++)
        tests[i] = (struct CMUnitTest){cases[i].name, run_case, NULL, NULL, (void *)&cases[i]};
    memcpy(tests + N, others, sizeof others);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
