#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "io/json.h"
#include "save/outcheck.h"
#include "save/verify.h"
#include "tests/lib/savefeed.h"
#include "tests/lib/tempdir.h"

/* Outputs of a model in which processors have changed more than values: what is laid out for it, and which saver refuses
 * what. */

#define FORMATS "tests/golden/formats/"
#define ASCEND "ascendv1_saver"
#define MINDIE "mindie_format_saver"
#define CT "compressed_tensors"

typedef struct Fixture {
    SaveFeed f;
    char *dir, target[512];
    SavePlan plan;
    const SaveFormat *s;
    char warned[600];
} Fixture;

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static void keep_warning(void *ctx, const char *text)
{
    Fixture *x = ctx;
    snprintf(x->warned, sizeof x->warned, "%s", text);
}

static void fixture_open(Fixture *x, const char *model, const char *name, const char *saver, bool peer)
{
    char at[256], out[256];
    memset(x, 0, sizeof *x);
    snprintf(at, sizeof at, FORMATS "_models/%s", model);
    snprintf(out, sizeof out, FORMATS "%s/out", name);
    savefeed_open(&x->f, at, out, 1000);
    x->dir = temp_folder();
    snprintf(x->target, sizeof x->target, "%s/out", x->dir);
    x->plan = savefeed_plan(&x->f, x->target, peer);
    x->plan.warn = keep_warning;
    x->plan.warn_ctx = x;
    x->s = saver_find(saver);
}

static void fixture_close(Fixture *x)
{
    savefeed_close(&x->f);
    temp_remove(x->dir);
}

static Status no_finding(void *ctx, const OutFound *f, Error *err)
{
    (void)ctx;
    (void)err;
    if (f->bad)
        fail_msg("%s: %s", f->tensor, f->text);
    return ST_OK;
}

static void check_output(const Fixture *x)
{
    OutCheck *o;
    Error err = {0};
    ok(outcheck_open(&o, x->s, x->target, &err), &err);
    if (o)
        ok(outcheck_run(o, no_finding, NULL, &err), &err);
    outcheck_free(o);
}

static void save_all(Fixture *x)
{
    savefeed_end(&x->f, x->s, savefeed_start(x->s, &x->plan), 0);
    VerifyReport r;
    Error err = {0};
    ok(save_verify(&x->plan, x->s, &r, NULL, &err), &err);
    if (r.problems)
        fail_msg("%s", r.problem[0]);
    verify_free(&r);
    check_output(x);
}

static int64_t linear_named(const Model *m, const char *end)
{
    for (int64_t i = 0; i < m->nlinears; i++)
        if (strstr(m->linears[i].name, end))
            return i;
    fail_msg("no linear %s", end);
    return -1;
}

static const TensorInfo *norm_of(const Fixture *x)
{
    return checkpoint_find(x->f.m->ckpt, "model.layers.1.input_layernorm.weight");
}

static Checkpoint *target_weights(const Fixture *x, const char *name)
{
    Checkpoint *c;
    Error err = {0};
    ok(checkpoint_open(&c, temp_path(x->target, name), &err), &err);
    return c;
}

static void read_floats(const Checkpoint *c, const char *name, float *v, int64_t n)
{
    Error err = {0};
    const TensorInfo *t = checkpoint_find(c, name);
    if (!t)
        fail_msg("no tensor %s", name);
    assert_int_equal(t->dtype, DT_F32);
    assert_int_equal(t->nbytes, n * 4);
    ok(checkpoint_read(c, t, 0, t->nbytes, v, &err), &err);
}

/* ---- refusals ---- */

static void want_check(Fixture *x, Status want, const char *text)
{
    Error err = {0};
    x->warned[0] = 0;
    Status st = x->s->ops->check(x->s, &x->plan, &err);
    const char *said = want == ST_OK ? x->warned : err.text;
    if (st != want || (text ? !strstr(said, text) : said[0] != 0))
        fail_msg("%s: got %d: %s", x->s->type, st, said);
}

static void with_norm_bias(Fixture *x)
{
    Error err = {0};
    ok(save_changes_norm_bias(x->f.changes, norm_of(x), &err), &err);
}

static void with_bias(Fixture *x)
{
    Error err = {0};
    ok(save_changes_bias(x->f.changes, linear_named(x->f.m, "1.self_attn.q_proj"), &err), &err);
}

static void with_factor(Fixture *x)
{
    Error err = {0};
    ok(save_changes_input_scale(x->f.changes, linear_named(x->f.m, "1.self_attn.q_proj"), &err), &err);
}

static void with_rotation(Fixture *x)
{
    Error err = {0};
    const SaveMade t = {.name = "model.layers.0.self_attn.o_proj.heads_rotation", .layer = 0, .ndim = 2, .shape = {4, 4},
                        .linear = linear_named(x->f.m, "0.self_attn.o_proj"), .unlisted = true};
    ok(save_changes_made(x->f.changes, &t, &err), &err);
}

static void with_matrix(Fixture *x)
{
    Error err = {0};
    const SaveMade t = {.name = "model.layers.0.q_rot", .linear = -1, .layer = 0, .ndim = 2, .shape = {4, 4}};
    ok(save_changes_made(x->f.changes, &t, &err), &err);
}

static void with_extra(Fixture *x)
{
    Error err = {0};
    const SaveMade t = {.name = "global_rotation", .linear = -1, .layer = -1, .ndim = 2, .shape = {4, 4},
                        .file = "optional/quarot.safetensors"};
    ok(save_changes_made(x->f.changes, &t, &err), &err);
}

static void with_both(Fixture *x)
{
    Error err = {0};
    with_rotation(x);
    ok(save_changes_input_scale(x->f.changes, linear_named(x->f.m, "0.self_attn.o_proj"), &err), &err);
}

static void with_unsaved(Fixture *x)
{
    Error err = {0};
    ok(save_changes_unsaved(x->f.changes, "the rotation behind 'x'", &err), &err);
    ok(save_changes_unsaved(x->f.changes, "another", &err), &err);
}

static void with_turned_input(Fixture *x)
{
    Error err = {0};
    Rotation *r;
    ok(rotation_hadamard(&r, 16, -1, &err), &err);
    ok(overlay_input_rotate(x->f.overlay, linear_named(x->f.m, "0.mlp.down_proj"), r, &err), &err);
    rotation_free(r);
}

static void test_refusals(void **state)
{
    (void)state;
    static const char bias[] = "the bias that a processor gives 'model.layers.1.input_layernorm.weight'";
    static const struct {
        void (*with)(Fixture *);
        const char *saver;
        bool peer;
        Status st;
        const char *text; /* of the error, or of the warning; NULL: neither */
    } rows[] = {
        {with_norm_bias, ASCEND, false, ST_OK, NULL},
        {with_norm_bias, MINDIE, false, ST_OK, NULL},
        {with_norm_bias, CT, false, ST_DATA, bias},
        {with_norm_bias, CT, true, ST_OK, "as the original does"},
        {with_bias, CT, false, ST_DATA, "'model.layers.1.self_attn.q_proj'"},
        {with_bias, ASCEND, false, ST_OK, NULL},
        {with_factor, ASCEND, false, ST_OK, NULL},
        {with_factor, MINDIE, true, ST_OK, NULL},
        {with_factor, CT, true, ST_DATA, "the multiplier of the input of 'model.layers.1.self_attn.q_proj'"},
        {with_rotation, ASCEND, false, ST_OK, NULL},
        {with_rotation, MINDIE, false, ST_DATA, "o_proj.heads_rotation', which is applied at run time"},
        {with_rotation, CT, false, ST_DATA, "o_proj.heads_rotation'"},
        {with_matrix, MINDIE, false, ST_OK, NULL},
        {with_matrix, CT, false, ST_DATA, "model.layers.0.q_rot"},
        {with_extra, ASCEND, false, ST_OK, NULL},
        {with_extra, MINDIE, false, ST_OK, "no place for optional/quarot.safetensors"},
        {with_extra, CT, false, ST_OK, "no place for optional/quarot.safetensors"},
        {with_extra, MINDIE, true, ST_DATA, "export_extra_info"},
        {with_both, ASCEND, false, ST_DATA, "multiplied and rotated at run time"},
        {with_unsaved, ASCEND, false, ST_DATA, "can't write the rotation behind 'x'"},
        {with_turned_input, ASCEND, false, ST_DATA, "the rotation of the input of 'model.layers.0.mlp.down_proj'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Fixture x;
        fixture_open(&x, "qwen3-fp32", "c8_only_fp32", rows[i].saver, rows[i].peer);
        x.plan.cache_layer = NULL;
        want_check(&x, ST_OK, NULL);
        rows[i].with(&x);
        want_check(&x, rows[i].st, rows[i].text);
        fixture_close(&x);
    }
}

/* ---- what is laid out and written ---- */

/* A multiplier of a quantized linear's input and of a float one's, promised or only done. */
static void test_factor(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    float s[64], v[64];
    fixture_open(&x, "qwen3-bf16", "w8a8_dynamic", ASCEND, false);
    int64_t q = linear_named(x.f.m, "1.self_attn.q_proj"), k = linear_named(x.f.m, "1.self_attn.k_proj");
    x.f.level[k] = 0;
    for (int i = 0; i < 64; i++)
        s[i] = 1 + (float)i / 64;
    ok(overlay_input_scale(x.f.overlay, q, s, &err), &err);
    ok(overlay_input_scale(x.f.overlay, q, s, &err), &err);
    ok(save_changes_input_scale(x.f.changes, k, &err), &err); /* never done */
    save_all(&x);
    Checkpoint *c = target_weights(&x, "quant_model_weights-00001-of-00001.safetensors");
    read_floats(c, "model.layers.1.self_attn.q_proj.div.mul_scale", v, 64);
    for (int i = 0; i < 64; i++)
        assert_true(v[i] == s[i] * s[i]);
    read_floats(c, "model.layers.1.self_attn.k_proj.div.mul_scale", v, 64);
    for (int i = 0; i < 64; i++)
        assert_true(v[i] == 1);
    assert_null(checkpoint_find(c, "model.layers.1.self_attn.q_proj.weight"));
    assert_int_equal(checkpoint_find(c, "model.layers.1.self_attn.q_proj.linear.weight")->dtype, DT_I8);
    assert_non_null(checkpoint_find(c, "model.layers.1.self_attn.q_proj.linear.weight_scale"));
    assert_int_equal(checkpoint_find(c, "model.layers.1.self_attn.k_proj.linear.weight")->dtype, DT_BF16);
    checkpoint_free(c);
    /* in the order of the original's writer: the multiplier, then the linear */
    size_t n;
    char *text = temp_get(temp_path(x.target, "quant_model_description.json"), &n);
    const char *scale = strstr(text, "\"model.layers.1.self_attn.q_proj.div.mul_scale\": \"FLOAT\",\n"
                               "    \"model.layers.1.self_attn.q_proj.linear.weight\": \"W8A8_DYNAMIC\"");
    assert_non_null(scale);
    free(text);
    fixture_close(&x);
}

/* The original's multiplier has the weight's type. */
static void test_factor_peer(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    fixture_open(&x, "qwen3-bf16", "w8a8_dynamic", ASCEND, true);
    ok(save_changes_input_scale(x.f.changes, linear_named(x.f.m, "1.self_attn.q_proj"), &err), &err);
    save_all(&x);
    Checkpoint *c = target_weights(&x, "quant_model_weights-00001-of-00001.safetensors");
    assert_int_equal(checkpoint_find(c, "model.layers.1.self_attn.q_proj.div.mul_scale")->dtype, DT_BF16);
    checkpoint_free(c);
    fixture_close(&x);
}

/* Biases that were promised and never came are 0, and what came is there, of a quantized linear and of a float one. */
static void test_biases(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    float b[64], v[64];
    fixture_open(&x, "qwen3-bf16", "w8a8_dynamic", ASCEND, false);
    int64_t o = linear_named(x.f.m, "1.self_attn.o_proj");
    const TensorInfo *other = checkpoint_find(x.f.m->ckpt, "model.norm.weight");
    for (int i = 0; i < 64; i++)
        b[i] = (float)i - 20;
    x.f.level[o] = 0;
    with_bias(&x);
    ok(save_changes_bias(x.f.changes, o, &err), &err);
    with_norm_bias(&x);
    ok(overlay_shift_norm(x.f.overlay, norm_of(&x), b, &err), &err);
    ok(save_changes_norm_bias(x.f.changes, other, &err), &err);
    ok(overlay_add_bias(x.f.overlay, o, b, &err), &err);
    save_all(&x);
    Checkpoint *c = target_weights(&x, "quant_model_weights-00001-of-00001.safetensors");
    read_floats(c, "model.layers.1.input_layernorm.bias", v, 64);
    assert_memory_equal(v, b, sizeof v);
    read_floats(c, "model.norm.bias", v, 64);
    for (int i = 0; i < 64; i++)
        assert_true(v[i] == 0);
    read_floats(c, "model.layers.1.self_attn.q_proj.bias", v, 64);
    for (int i = 0; i < 64; i++)
        assert_true(v[i] == 0);
    assert_int_equal(checkpoint_find(c, "model.layers.1.self_attn.o_proj.bias")->dtype, DT_BF16);
    checkpoint_free(c);
    fixture_close(&x);
}

/* Every saver writes an untied head with its own values, and config.json says that there are two tensors. */
static void test_untied(void **state)
{
    (void)state;
    static const struct {
        const char *saver, *weights, *config;
    } rows[] = {
        {ASCEND, "quant_model_weights.safetensors", "config.json"},
        {MINDIE, "quant_model_weight.safetensors", "config.json"},
        {CT, "model.safetensors", "config.json"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Fixture x;
        Error err = {0};
        fixture_open(&x, "qwen3-bf16-tied", "float_only_tied", rows[i].saver, false);
        x.plan.part_file_size = 0;
        float s[64];
        for (int k = 0; k < 64; k++)
            s[k] = 2;
        assert_true(x.f.m->exit.head == x.f.m->entry.table);
        save_changes_untie(x.f.changes);
        ok(overlay_untie(x.f.overlay, &err), &err);
        ok(overlay_scale_tensor(x.f.overlay, overlay_head(x.f.overlay, x.f.m), s, &err), &err);
        save_all(&x);
        Checkpoint *c = target_weights(&x, rows[i].weights);
        const TensorInfo *head = checkpoint_find(c, "lm_head.weight"), *table = checkpoint_find(c, "model.embed_tokens.weight");
        assert_true(head && table && head->nbytes == table->nbytes && head->dtype == DT_BF16);
        uint16_t a[64], b[64];
        ok(checkpoint_read(c, head, 0, sizeof a, a, &err), &err);
        ok(checkpoint_read(c, table, 0, sizeof b, b, &err), &err);
        for (int k = 0; k < 64; k++)
            assert_true(b[k] == 0 || a[k] - b[k] == 1 << 7); /* twice as large */
        checkpoint_free(c);
        cJSON *o;
        ok(json_parse_file(temp_path(x.target, rows[i].config), 1 << 20, &o, &err), &err);
        assert_true(cJSON_IsFalse(json_get(o, "tie_word_embeddings")));
        cJSON_Delete(o);
        fixture_close(&x);
    }
}

/* ---- reading back ---- */

typedef struct Findings {
    char text[4][300];
    int n;
} Findings;

static Status keep_finding(void *ctx, const OutFound *f, Error *err)
{
    Findings *l = ctx;
    (void)err;
    if (f->bad && l->n < 4)
        snprintf(l->text[l->n++], sizeof l->text[0], "%s %s", f->tensor, f->text);
    return ST_OK;
}

/* The check of an output knows what may be done to inputs, and tells what can't be that. */
static void test_check(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    float s[64], v[12] = {1};
    fixture_open(&x, "qwen3-bf16", "w8a8_dynamic", ASCEND, false);
    const SaveMade t = {.name = "model.layers.0.self_attn.o_proj.heads_rotation", .layer = 0, .ndim = 2, .shape = {4, 3},
                        .linear = linear_named(x.f.m, "0.self_attn.o_proj"), .unlisted = true};
    ok(save_changes_made(x.f.changes, &t, &err), &err);
    for (int i = 0; i < 64; i++)
        s[i] = i == 5 ? 0 : 1;
    ok(overlay_input_scale(x.f.overlay, linear_named(x.f.m, "1.self_attn.q_proj"), s, &err), &err);
    void *self;
    int first;
    ok(x.s->ops->open(&self, x.s, &x.plan, false, &first, &err), &err);
    for (int layer = 0; layer < x.f.m->cfg.layers; layer++) {
        SaveChanges *all = x.f.changes;
        x.f.changes = NULL; /* nothing recorded is given */
        savefeed_layer(&x.f, x.s, self, layer);
        x.f.changes = all;
        if (layer == 0)
            ok(x.s->ops->tensor(self, &(SaveValues){.name = t.name, .n = 12, .values = v}, &err), &err);
        ok(x.s->ops->layer_done(self, layer, &err), &err);
    }
    ok(x.s->ops->finish(self, &err), &err);
    x.s->ops->close(self, false);
    OutCheck *o;
    Findings l = {.n = 0};
    ok(outcheck_open(&o, x.s, x.target, &err), &err);
    ok(outcheck_run(o, keep_finding, &l, &err), &err);
    outcheck_free(o);
    assert_int_equal(l.n, 2);
    assert_non_null(strstr(l.text[0], "heads_rotation is no square matrix of F32"));
    assert_non_null(strstr(l.text[1], "q_proj.div.mul_scale 1 of 64 scales are not above 0, first at [5]"));
    fixture_close(&x);
}

/* ---- gifts ---- */

static void test_gifts(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    float v[16] = {0};
    fixture_open(&x, "qwen3-bf16", "w8a8_dynamic", ASCEND, false);
    const SaveMade t = {.name = "model.layers.0.q_rot", .linear = -1, .layer = 0, .ndim = 2, .shape = {4, 4}};
    void *self;
    with_matrix(&x);
    SaveMade other = t;
    other.shape[0] = 5;
    assert_int_equal(save_changes_made(x.f.changes, &other, &err), ST_INTERNAL);
    self = savefeed_start(x.s, &x.plan);
    assert_int_equal(x.s->ops->tensor(self, &(SaveValues){.name = "nobody", .n = 16, .values = v}, &err), ST_INTERNAL);
    assert_int_equal(x.s->ops->tensor(self, &(SaveValues){.name = t.name, .n = 17, .values = v}, &err), ST_INTERNAL);
    ok(x.s->ops->tensor(self, &(SaveValues){.name = t.name, .n = 8, .values = v}, &err), &err);
    assert_int_equal(x.s->ops->layer_done(self, 0, &err), ST_INTERNAL);
    assert_non_null(strstr(err.text, "'model.layers.0.q_rot' was promised and not handed over"));
    x.s->ops->close(self, false);
    fixture_close(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_factor), cmocka_unit_test(test_factor_peer),
        cmocka_unit_test(test_biases),   cmocka_unit_test(test_untied), cmocka_unit_test(test_gifts),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
