#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "math/rotation.h"
#include "recipe/field.h"
#include "run/source.h"
#include "tests/lib/folded.h"
#include "tests/lib/npz.h"
#include "tests/lib/random_model.h"

/* quarot: the original's rotated models, the function of every family, and what it refuses. */

enum { HIDDEN = 32, HEAD = 8, TENSORS_MAX = 24 };

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

/* ---- the original's ---- */

/* The recorded model: one layer, with norms of q and k that change nothing, which make it a Qwen3. */
typedef struct Recorded {
    char dir[64];
    Npz *z;
    TestRun base;
    TokenSet *tokens;
} Recorded;

static void write_config(const Recorded *r, DType t)
{
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", r->dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "{\"model_type\":\"qwen3\",\"torch_dtype\":\"%s\",\"hidden_size\":%d,\"intermediate_size\":48,"
            "\"num_hidden_layers\":1,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":%d,"
            "\"vocab_size\":40,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,"
            "\"attention_bias\":true,\"tie_word_embeddings\":false,\"hidden_act\":\"silu\"}\n",
            t == DT_BF16 ? "bfloat16" : "float32", HIDDEN, HEAD);
    assert_int_equal(fclose(f), 0);
}

static void recorded_open(Recorded *r, const char *name, DType dtype, ArithMode arith)
{
    TensorOut t[TENSORS_MAX];
    char path[128];
    float ones[HEAD];
    uint8_t *bytes[TENSORS_MAX];
    int n = 0;
    Error err = {0};
    snprintf(path, sizeof path, "tests/golden/outlier/%s.npz", name);
    *r = (Recorded){.z = npz_open(path)};
    snprintf(r->dir, sizeof r->dir, "/tmp/slimscope-quarot-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    write_config(r, dtype);
    for (int i = 0; i < HEAD; i++)
        ones[i] = 1;
    t[n++] = (TensorOut){"model.layers.0.self_attn.q_norm.weight", DT_F32, 1, {HEAD}, ones};
    t[n++] = (TensorOut){"model.layers.0.self_attn.k_norm.weight", DT_F32, 1, {HEAD}, ones};
    for (int i = 0; i < r->z->count; i++) {
        const NpyArray *a = &r->z->arrays[i];
        if (strncmp(a->name, "before/", 7) != 0)
            continue;
        assert_true(n < TENSORS_MAX);
        t[n++] = (TensorOut){a->name + 7, DT_F32, a->ndim, {a->shape[0], a->ndim == 2 ? a->shape[1] : 0}, a->data};
    }
    for (int i = 0; i < n; i++) {
        int64_t values = t[i].shape[0] * (t[i].ndim == 2 ? t[i].shape[1] : 1);
        bytes[i] = malloc((size_t)values * 4);
        assert_non_null(bytes[i]);
        source_encode(t[i].data, values, dtype, bytes[i]);
        t[i].dtype = dtype;
        t[i].data = bytes[i];
    }
    snprintf(path, sizeof path, "%s/model.safetensors", r->dir);
    ok(safetensors_write(path, t, n, NULL, &err), &err);
    for (int i = 0; i < n; i++)
        free(bytes[i]);
    test_run_open(&r->base, r->dir, arith, 1, NULL);
    r->tokens = test_tokens((const int[]){14}, 1, 40, 3);
}

static void recorded_close(Recorded *r)
{
    test_run_close(&r->base);
    test_tokens_free(r->tokens);
    random_model_remove(r->dir);
    npz_free(r->z);
}

/* What the model has of this name now, as [*n] float32; caller frees. */
static float *now(const Model *m, const Overlay *o, const char *name, int64_t *n)
{
    Error err = {0};
    const Source s = {m, o};
    char module[160];
    float *v = NULL;
    snprintf(module, sizeof module, "%s", name);
    char *end = strrchr(module, '.');
    bool bias = strcmp(end, ".bias") == 0;
    *end = '\0';
    int64_t i = model_find_linear(m, module);
    if (i >= 0 && bias) {
        ok(source_bias(&s, NULL, &m->linears[i], &v, &err), &err);
        *n = m->linears[i].out;
    } else if (i >= 0) {
        *n = m->linears[i].out * m->linears[i].in;
        v = malloc((size_t)*n * sizeof *v);
        assert_non_null(v);
        ok(source_rows(&s, NULL, &m->linears[i], 0, m->linears[i].out, v, &err), &err);
    } else {
        const TensorInfo *t = strcmp(module, "lm_head") == 0 ? overlay_head(o, m) : checkpoint_find(m->ckpt, name);
        assert_non_null(t);
        *n = t->shape[0] * (t->ndim == 2 ? t->shape[1] : 1);
        ok(source_small(&s, NULL, t, &v, &err), &err);
    }
    return v;
}

/* Everything behind the processor against what the original's has; most 0: the same bits. */
static void compare(const Recorded *r, const Overlay *o, double most)
{
    int compared = 0;
    for (int i = 0; i < r->z->count; i++) {
        const NpyArray *a = &r->z->arrays[i];
        int64_t n;
        if (strncmp(a->name, "after/", 6) != 0)
            continue;
        float *v = now(r->base.m, o, a->name + 6, &n);
        assert_int_equal(n, a->count);
        if (most == 0 && memcmp(v, a->data, (size_t)n * sizeof *v) != 0)
            fail_msg("%s: not the same bits", a->name);
        double worst = test_worst(a->data, v, n);
        if (!(worst <= most))
            fail_msg("%s is off by %g of its largest value", a->name, worst);
        free(v);
        compared++;
    }
    assert_int_equal(compared, 15);
}

/* The logits of the recorded tokens, before and after, are those of the unrotated model. */
static void same_logits(const Recorded *r, Runner *after)
{
    int64_t n, m;
    float *want = folded_logits(r->base.r, r->tokens, &n), *got = folded_logits(after, r->tokens, &m);
    assert_int_equal(n, m);
    double worst = test_worst(want, got, n);
    if (!(worst <= 1e-5))
        fail_msg("logits are off by %g of the largest", worst);
    free(want);
    free(got);
}

static const struct {
    const char *name, *process;
    DType dtype;
    bool peer;
    double most;
} recordings[] = {
    {"quarot_offline", "[{type: quarot}]", DT_F32, false, 3e-7},
    {"quarot_offline", "[{type: quarot}]", DT_F32, true, 3e-7},
    {"quarot_block8", "[{type: quarot, block_size: 8}]", DT_F32, false, 3e-7},
    {"quarot_online", "[{type: quarot, online: true, max_tp_size: 2, down_proj_online_layers: [0]}]", DT_F32, false, 4e-7},
    {"quarot_online", "[{type: quarot, online: true, max_tp_size: 2, down_proj_online_layers: [0]}]", DT_F32, true, 4e-7},
    {"quarot_offline_bf16", "[{type: quarot}]", DT_BF16, true, 0},
};

static void recordings_are_reproduced(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof recordings / sizeof *recordings; i++) {
        Recorded r;
        Folded f;
        Error err = {0};
        bool bf16 = recordings[i].dtype == DT_BF16;
        recorded_open(&r, recordings[i].name, recordings[i].dtype, bf16 ? ARITH_EXACT : ARITH_FP32);
        ok(folded_run(&f, &r.base, recordings[i].process, recordings[i].peer, r.tokens, &err), &err);
        compare(&r, pipeline_overlay(f.p), recordings[i].most);
        if (!bf16)
            same_logits(&r, f.r);
        folded_fini(&f);
        recorded_close(&r);
    }
}

/* What comes in at run time is turned as the recorded matrices say. */
static void inputs_are_turned_by_the_recorded_matrices(void **state)
{
    (void)state;
    Recorded r;
    Folded f;
    Error err = {0};
    recorded_open(&r, "quarot_online", DT_F32, ARITH_FP32);
    ok(folded_run(&f, &r.base, recordings[3].process, false, r.tokens, &err), &err);
    const Unit *u = &r.base.m->units[0];
    const float *o = npz_f32(r.z, NULL, "rot_o"), *m = npz_f32(r.z, NULL, "rot_m"), *n = npz_f32(r.z, NULL, "rot_n");
    const EditChain *heads = overlay_inputs(pipeline_overlay(f.p), unit_linear(u, "o"));
    const EditChain *down = overlay_inputs(pipeline_overlay(f.p), unit_linear(u, "down"));
    assert_true(heads && heads->n == 1 && down && down->n == 1);
    float mat[48 * 48];
    assert_int_equal(rotation_rows(heads->step[0].rot, mat, NULL), ST_OK);
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < 32; j++)
            assert_true(mat[i * 32 + j] == (i % 8 == j % 8 ? o[i / 8 * 4 + j / 8] : 0));
    assert_int_equal(rotation_rows(down->step[0].rot, mat, NULL), ST_OK);
    for (int i = 0; i < 48; i++)
        for (int j = 0; j < 48; j++) {
            float want = m[i / 12 * 4 + j / 12] * n[i % 12 * 12 + j % 12], d = mat[i * 48 + j] - want;
            assert_true(d < 1e-7f && d > -1e-7f);
        }
    folded_fini(&f);
    recorded_close(&r);
}

/* Two of them: the stream is turned by their product, and states of the changed model are told so. */
static void turns_add_up(void **state)
{
    (void)state;
    enum { N = 64 };
    TestRun base;
    Folded f;
    Error err;
    int64_t n;
    test_run_open(&base, "tests/golden/models/qwen3/fp32", ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens((const int[]){14}, 1, base.m->cfg.vocab, 3);
    ok(folded_run(&f, &base, "[{type: quarot, block_size: 2}, {type: quarot, block_size: 4}]", false, t, &err), &err);
    float *want = folded_logits(base.r, t, &n), *got = folded_logits(f.r, t, &n), product[N * N], m[N * N];
    assert_true(test_worst(want, got, n) <= 1e-5);
    Rotation *a, *b;
    assert_true(base.m->cfg.hidden <= N);
    const int64_t d = base.m->cfg.hidden;
    ok(rotation_hadamard(&a, d, 2, &err), &err);
    ok(rotation_hadamard(&b, d, 4, &err), &err);
    float *scratch = mem_aligned((size_t)rotation_bytes(b), 1);
    ok(rotation_rows(a, product, &err), &err);
    rotation_right(b, product, d, d, d, scratch);
    ok(rotation_rows(pipeline_turned(f.p), m, &err), &err);
    assert_true(test_worst(product, m, d * d) < 1e-6);
    free(scratch);
    rotation_free(a);
    rotation_free(b);
    free(want);
    free(got);
    folded_fini(&f);
    test_tokens_free(t);
    test_run_close(&base);
}

/* ---- every family ---- */

/* Of heads and widths of any size: blocks of 2. What can't be turned says why, and nothing else can't. */
static void families_keep_their_logits(void **state)
{
    (void)state;
    static const char *const refused[] = {"gemma2", "gemma3", "gemma3_text", "longcat_flash", "deepseek_v4"};
    static const int lens[] = {21, 8, 13};
    glob_t found;
    int turned = 0;
    assert_int_equal(glob("tests/golden/models/*/fp32/config.json", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char dir[512];
        TestRun base;
        Folded f;
        Error err = {0};
        int64_t n, m;
        snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(found.gl_pathv[i], '/') - found.gl_pathv[i]), found.gl_pathv[i]);
        test_run_open(&base, dir, ARITH_FP32, 2, NULL);
        const char *type = base.m->cfg.model_type;
        bool may = true;
        for (size_t k = 0; k < sizeof refused / sizeof *refused; k++)
            may = may && strcmp(refused[k], type) != 0;
        TokenSet *t = test_tokens(lens, 3, base.m->cfg.vocab, 3);
        Status st = folded_run(&f, &base, "[{type: quarot, block_size: 2}]", false, t, &err);
        if ((st == ST_OK) != may)
            fail_msg("%s: %s", type, st == ST_OK ? "was turned" : err.text);
        if (may) {
            float *want = folded_logits(base.r, t, &n), *got = folded_logits(f.r, t, &m);
            double worst = test_worst(want, got, n);
            if (!(worst <= 1e-4))
                fail_msg("%s: logits are off by %g of the largest", type, worst);
            free(want);
            free(got);
            turned++;
        }
        folded_fini(&f);
        test_tokens_free(t);
        test_run_close(&base);
    }
    globfree(&found);
    assert_true(turned >= 17);
}

/* ---- what is refused ---- */

#define QUANT "{type: linear_quant, qconfig: {act: {dtype: int8, scope: per_token, symmetric: true, method: minmax}, " \
              "weight: {dtype: int8, scope: per_channel, symmetric: true, method: minmax}}}"

static const struct {
    const char *dir, *process, *word;
    bool peer;
} refusals[] = {
    {"qwen3", "[{type: kv_smooth}, {type: quarot}]", "'quarot' has to stand before 'kv_smooth'", false},
    {"qwen3", "[" QUANT ", {type: quarot}]", "'quarot' has to stand before 'linear_quant'", false},
    {"qwen3", "[" QUANT ", {type: iter_smooth}]", "'iter_smooth' has to stand before 'linear_quant': it changes what is quantized", false},
    {"qwen3", "[" QUANT ", {type: iter_smooth}]", "'iter_smooth' has to stand before 'linear_quant'", true},
    {"qwen3", "[{type: dynamic_cache, qconfig: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}, {type: iter_smooth}]",
     "'iter_smooth' has to stand before 'dynamic_cache': it changes what is looked at", false},
    {"qwen3", "[{type: dynamic_cache, qconfig: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}, {type: kv_smooth}]",
     "'kv_smooth' has to stand before 'dynamic_cache'", false},
    {"llama", "[{type: quarot}]", "head_dim 10: no Hadamard matrix of size 10", false},
    {"qwen3", "[{type: quarot, block_size: 64}]", "blocks of 64 don't divide size", false},
    {"qwen3", "[{type: quarot, online: true, max_tp_size: 4}]", "max_tp_size 4", false},
    {"qwen3", "[{type: quarot, online: true, max_tp_size: 1, down_proj_online_layers: [0, 99]}]",
     "no down_proj of its own in layer 99", false},
    {"deepseek_v3", "[{type: quarot, online: true, max_tp_size: 1, block_size: 2}]", "no heads that can be mixed", false},
    {"qwen3_next", "[{type: quarot, online: true, max_tp_size: 1, block_size: 2}]", "no heads that can be mixed", false},
    {"mistral", "[{type: quarot, block_size: 2}]", "the original has no rotation for Mistral", true},
    {"llama", "[{type: awq, weight_qconfig: {dtype: int4, scope: per_channel, symmetric: true, method: minmax}}]",
     "the original has no awq for Llama", true},
    {"qwen3", "[{type: group, configs: [{type: iter_smooth}, " QUANT "]}]", "a group shares one forward, so 'iter_smooth'", true},
};

static void what_cannot_be_is_refused_before_the_run(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        char path[128], text[1024];
        Error err = {0};
        Model *m;
        Recipe *r;
        Pipeline *p = NULL;
        snprintf(path, sizeof path, "tests/golden/models/%s/fp32", refusals[i].dir);
        ok(model_open(&m, path, NULL, &err), &err);
        int n = snprintf(text, sizeof text, "apiversion: modelslim_v1\nspec:\n  process: %s\n", refusals[i].process);
        ok(recipe_parse(&r, &recipe_rows, text, (size_t)n, "a test", NULL, &err), &err);
        int16_t *level = calloc((size_t)m->nlinears, sizeof *level);
        Status st = pipeline_new(&p, m, &(Work){.recipe = r, .level = level, .peer = refusals[i].peer}, &err);
        if (st != ST_DATA || !strstr(err.text, refusals[i].word) || strchr(err.text, '\n'))
            fail_msg("%s: '%s' doesn't say '%s'", refusals[i].process, err.text, refusals[i].word);
        free(level);
        recipe_free(r);
        model_free(m);
    }
}

/* The recipe's own check says so, too. */
static void order_is_checked_with_the_recipe(void **state)
{
    (void)state;
    static const struct {
        const char *process;
        bool runs;
    } lists[] = {
        {"[{type: quarot}, " QUANT "]", true},
        {"[" QUANT ", {type: quarot}]", false},
        {"[{type: group, configs: [" QUANT ", {type: quarot}]}]", false},
        {"[{type: group, configs: [" QUANT "]}, {type: quarot}]", false},
        {"[{type: kv_smooth}, {type: group, configs: [{type: quarot}]}]", false},
        {"[{type: quarot}, {type: iter_smooth}, {type: kv_smooth}, " QUANT "]", true},
        {"[" QUANT ", {type: iter_smooth}]", false},
        {"[{type: group, configs: [" QUANT ", {type: kv_smooth}]}]", false},
        {"[{type: online_quarot}, {type: quarot}, " QUANT "]", true},
        {"[" QUANT ", {type: online_quarot}]", true},
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        char text[1024];
        Error err = {0};
        Recipe *r;
        Str why = {0};
        int n = snprintf(text, sizeof text, "apiversion: modelslim_v1\nspec:\n  process: %s\n", lists[i].process);
        ok(recipe_parse(&r, &recipe_rows, text, (size_t)n, "a test", NULL, &err), &err);
        bool runs = recipe_can_run(r, &why);
        if (runs != lists[i].runs || (!runs && !strstr(str_text(&why), "has to stand before")))
            fail_msg("%s: %s", lists[i].process, str_text(&why));
        str_free(&why);
        recipe_free(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recordings_are_reproduced),
        cmocka_unit_test(inputs_are_turned_by_the_recorded_matrices),
        cmocka_unit_test(turns_add_up),
        cmocka_unit_test(families_keep_their_logits),
        cmocka_unit_test(what_cannot_be_is_refused_before_the_run),
        cmocka_unit_test(order_is_checked_with_the_recipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
