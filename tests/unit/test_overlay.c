#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/convert.h"
#include "process/sink_save.h"
#include "recipe/recipe.h"
#include "run/source.h"
#include "save/verify.h"
#include "tests/lib/bench.h"
#include "tests/lib/noise.h"
#include "tests/lib/folded.h"
#include "tests/lib/follow.h"
#include "tests/lib/random_model.h"
#include "tests/lib/tempdir.h"

/* A model that an overlay changes against the same model changed by hand in its file. All edits are exact in BF16, so
 * nothing may differ by a bit. */

static const RandomShape shape = {"qwen2", 2, 4, 2, 24, 72, 200, 300, 0, DT_BF16, 7};
static const int lens[] = {17, 9};

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

/* Values of BF16. */
static float *noises(int64_t n, uint32_t seed)
{
    float *v = noise_vector(n, 0, &seed);
    for (int64_t i = 0; i < n; i++)
        v[i] = bf16_to_float(bf16_of_float(v[i]));
    return v;
}

/* Powers of two: exact in every dtype. */
static float *powers(int64_t n, uint32_t seed)
{
    float *v = noises(n, seed);
    for (int64_t i = 0; i < n; i++)
        v[i] = ldexpf(1, (int)(v[i] * 6));
    return v;
}

/* ---- by hand ---- */

typedef struct Hand {
    TensorOut t[64];
    int n;
    char dir[64];
} Hand;

static void *packed(const float *v, int64_t n)
{
    uint16_t *h = malloc((size_t)n * sizeof *h);
    assert_non_null(h);
    source_encode(v, n, DT_BF16, h);
    return h;
}

static void hand_put(Hand *h, const char *name, const float *v, int ndim, int64_t rows, int64_t cols)
{
    int i = 0;
    while (i < h->n && strcmp(h->t[i].name, name) != 0)
        i++;
    assert_true(i < 64);
    if (i < h->n)
        free((void *)(uintptr_t)h->t[i].data);
    else
        h->n++;
    h->t[i] = (TensorOut){name, DT_BF16, ndim, {rows, cols}, packed(v, rows * (ndim == 2 ? cols : 1))};
}

static void hand_open(Hand *h, const Model *m)
{
    *h = (Hand){.n = 0};
    for (int64_t i = 0; i < checkpoint_count(m->ckpt); i++) {
        const TensorInfo *t = checkpoint_at(m->ckpt, i);
        float *v = test_tensor(m->ckpt, t);
        hand_put(h, t->name, v, t->ndim, t->shape[0], t->shape[1]);
        free(v);
    }
}

static void hand_write(Hand *h)
{
    Error err = {0};
    char path[128];
    random_model_write(&shape, h->dir); /* for its config.json */
    snprintf(path, sizeof path, "%s/model.safetensors", h->dir);
    ok(safetensors_write(path, h->t, h->n, NULL, &err), &err);
    for (int i = 0; i < h->n; i++)
        free((void *)(uintptr_t)h->t[i].data);
}

/* ---- the two models ---- */

typedef struct World {
    char dir[64], *tmp;
    TestRun base;   /* without overlay */
    Overlay *edits;
    TestRun hand;
    Hand file;
} World;

static int64_t linear(const Model *m, const char *name)
{
    int64_t i = model_find_linear(m, name);
    assert_true(i >= 0);
    return i;
}

static const TensorInfo *tensor(const Model *m, const char *name)
{
    const TensorInfo *t = checkpoint_find(m->ckpt, name);
    assert_non_null(t);
    return t;
}

/* The file of tensors that "a processor has made". */
static void write_derived(World *w, const float *down, const float *embed)
{
    Error err = {0};
    char path[256];
    void *d = packed(down, shape.hidden * shape.inter);
    TensorOut t[] = {{"down", DT_BF16, 2, {shape.hidden, shape.inter}, d},
                     {"embed", DT_F32, 2, {shape.vocab, shape.hidden}, embed}};
    snprintf(path, sizeof path, "%s", temp_path(w->tmp, "derived.safetensors"));
    ok(safetensors_write(path, t, 2, NULL, &err), &err);
    free(d);
    ok(overlay_file(w->edits, path, "test", &err), &err);
}

static void edit_linears(World *w)
{
    const Model *m = w->base.m;
    Error err = {0};
    int64_t q = shape.heads * shape.head_dim, kv = shape.kv_heads * shape.head_dim, h = shape.hidden, in = shape.inter;
    float *v = noises(q * h, 1);
    hand_put(&w->file, "model.layers.0.self_attn.q_proj.weight", v, 2, q, h);
    ok(overlay_replace(w->edits, linear(m, "model.layers.0.self_attn.q_proj"), v, &err), &err);

    float *old = test_tensor(m->ckpt, tensor(m, "model.layers.0.self_attn.k_proj.bias"));
    v = noises(kv, 2);
    hand_put(&w->file, "model.layers.0.self_attn.k_proj.bias", v, 1, kv, 0);
    for (int64_t i = 0; i < kv; i++)
        v[i] -= old[i];
    ok(overlay_add_bias(w->edits, linear(m, "model.layers.0.self_attn.k_proj"), v, &err), &err);
    free(old);
    free(v);

    v = noises(h, 3);
    ok(overlay_add_bias(w->edits, linear(m, "model.layers.0.self_attn.o_proj"), v, &err), &err);
    hand_put(&w->file, "model.layers.0.self_attn.o_proj.bias", v, 1, h, 0);
    free(v);

    float *rows = powers(kv, 4), *cols = powers(h, 5), *b;
    old = test_tensor(m->ckpt, tensor(m, "model.layers.1.self_attn.v_proj.weight"));
    b = test_tensor(m->ckpt, tensor(m, "model.layers.1.self_attn.v_proj.bias"));
    for (int64_t i = 0; i < kv * h; i++)
        old[i] *= rows[i / h] * rows[i / h] * cols[i % h];
    for (int64_t i = 0; i < kv; i++)
        b[i] *= rows[i] * rows[i];
    hand_put(&w->file, "model.layers.1.self_attn.v_proj.weight", old, 2, kv, h);
    hand_put(&w->file, "model.layers.1.self_attn.v_proj.bias", b, 1, kv, 0);
    int64_t at = linear(m, "model.layers.1.self_attn.v_proj");
    ok(overlay_scale_outputs(w->edits, at, rows, &err), &err);
    ok(overlay_scale_inputs(w->edits, at, cols, &err), &err);
    ok(overlay_scale_outputs(w->edits, at, rows, &err), &err); /* factors multiply */
    free(rows);
    free(cols);
    free(old);
    free(b);

    float *down = noises(h * in, 6), *embed = noises(shape.vocab * h, 7);
    write_derived(w, down, embed);
    hand_put(&w->file, "model.layers.1.mlp.down_proj.weight", down, 2, h, in);
    hand_put(&w->file, "model.embed_tokens.weight", embed, 2, shape.vocab, h);
    at = linear(m, "model.layers.1.mlp.down_proj");
    ok(overlay_scale_inputs(w->edits, at, down, &err), &err); /* dropped by the new base */
    ok(overlay_derive(w->edits, at, "down", &err), &err);
    ok(overlay_derive_tensor(w->edits, m->entry.table, "embed", &err), &err);
    free(down);
    free(embed);
}

static void edit_tensors(World *w)
{
    const Model *m = w->base.m;
    Error err = {0};
    int64_t h = shape.hidden;
    const TensorInfo *t = tensor(m, "model.layers.0.post_attention_layernorm.weight");
    float *s = powers(h, 8), *v = test_tensor(m->ckpt, t);
    ok(overlay_scale_tensor(w->edits, t, s, &err), &err);
    for (int64_t i = 0; i < h; i++)
        v[i] *= s[i];
    hand_put(&w->file, t->name, v, 1, h, 0);
    free(v);
    v = test_tensor(m->ckpt, m->exit.head);
    ok(overlay_scale_tensor(w->edits, m->exit.head, s, &err), &err);
    for (int64_t i = 0; i < shape.vocab * h; i++)
        v[i] *= s[i % h];
    hand_put(&w->file, m->exit.head->name, v, 2, shape.vocab, h);
    free(v);
    free(s);
    v = noises(h, 9);
    hand_put(&w->file, m->exit.norm->name, v, 1, h, 0);
    ok(overlay_replace_tensor(w->edits, m->exit.norm, v, &err), &err);
}

static void world_open(World *w, ArithMode arith, int threads)
{
    Error err = {0};
    *w = (World){.tmp = temp_folder()};
    random_model_write(&shape, w->dir);
    test_run_open(&w->base, w->dir, arith, threads, NULL);
    hand_open(&w->file, w->base.m);
    ok(overlay_new(&w->edits, w->base.m, &err), &err);
    edit_linears(w);
    edit_tensors(w);
    hand_write(&w->file);
    test_run_open(&w->hand, w->file.dir, arith, threads, NULL);
}

static void world_close(World *w)
{
    overlay_free(w->edits);
    test_run_close(&w->base);
    test_run_close(&w->hand);
    random_model_remove(w->dir);
    random_model_remove(w->file.dir);
    temp_remove(w->tmp);
}

/* A runner of the base model with the overlay. */
static Runner *changed_runner(const World *w)
{
    Error err = {0};
    Runner *r;
    RunnerOptions o = {.pool = w->base.pool, .arith = runner_arith(w->base.r), .overlay = w->edits};
    ok(runner_new(&r, w->base.m, &o, &err), &err);
    return r;
}

/* ---- passes ---- */

/* [rows][vocab]; caller frees. */
static float *logits_of(Runner *r, int64_t *n)
{
    const Model *m = runner_model(r);
    TokenSet *t = test_tokens(lens, 2, m->cfg.vocab, 3);
    float *logits = folded_logits(r, t, n);
    test_tokens_free(t);
    return logits;
}

static void passes_see_what_was_changed(void **state)
{
    (void)state;
    for (int mode = 0; mode < 4; mode++) {
        World w;
        int64_t n;
        world_open(&w, mode % 2 ? ARITH_EXACT : ARITH_FP32, mode / 2 ? 3 : 1);
        Runner *r = changed_runner(&w), *plain;
        float *want = logits_of(w.hand.r, &n), *got = logits_of(r, &n), *before = logits_of(w.base.r, &n);
        assert_memory_equal(got, want, (size_t)n * sizeof *got);
        assert_true(test_worst(before, got, n) > 0.1);
        Error err = {0};
        ok(runner_unchanged(r, &plain, &err), &err);
        float *back = logits_of(plain, &n);
        assert_memory_equal(back, before, (size_t)n * sizeof *back);
        runner_free(plain);
        runner_free(r);
        free(want);
        free(got);
        free(before);
        free(back);
        world_close(&w);
    }
}

static void quantizers_see_what_was_changed(void **state)
{
    (void)state;
    World w;
    Error err = {0};
    world_open(&w, ARITH_FP32, 2);
    Runner *r = changed_runner(&w);
    const Model *m = w.base.m;
    for (int64_t i = 0; i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        size_t n = (size_t)(l->out * l->in) * sizeof(float);
        float *a = malloc(n), *b = malloc(n), *p, *q;
        assert_true(a && b);
        ok(runner_weight(r, i, i + 1 < m->nlinears ? i + 1 : -1, a, &err), &err);
        ok(runner_weight(w.hand.r, i, -1, b, &err), &err);
        assert_memory_equal(a, b, n);
        ok(runner_bias(r, i, &p, &err), &err);
        ok(runner_bias(w.hand.r, i, &q, &err), &err);
        assert_true(!p == !q);
        if (p)
            assert_memory_equal(p, q, (size_t)l->out * sizeof *p);
        free(a);
        free(b);
        free(p);
        free(q);
    }
    runner_free(r);
    world_close(&w);
}

/* A norm's values by 1/s and the columns of what reads it by s: the same model. */
static void scaled_norms_and_columns_cancel(void **state)
{
    (void)state;
    static const char *const readers[2][3] = {{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                                              {"mlp.gate_proj", "mlp.up_proj", NULL}};
    static const char *const norms[2] = {"input_layernorm", "post_attention_layernorm"};
    World w;
    Error err = {0};
    Overlay *o, *half;
    world_open(&w, ARITH_FP32, 2);
    const Model *m = w.base.m;
    ok(overlay_new(&o, m, &err), &err);
    ok(overlay_new(&half, m, &err), &err);
    for (int layer = 0; layer < shape.layers; layer++)
        for (int i = 0; i < 2; i++) {
            char name[128];
            float *s = noises(shape.hidden, (uint32_t)(layer * 2 + i + 20)), *back = noises(shape.hidden, 1);
            for (int64_t k = 0; k < shape.hidden; k++) {
                s[k] = 1.3f + s[k];
                back[k] = 1 / s[k];
            }
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, norms[i]);
            ok(overlay_scale_tensor(o, tensor(m, name), back, &err), &err);
            ok(overlay_scale_tensor(half, tensor(m, name), back, &err), &err);
            for (int k = 0; k < 3 && readers[i][k]; k++) {
                snprintf(name, sizeof name, "model.layers.%d.%s", layer, readers[i][k]);
                ok(overlay_scale_inputs(o, linear(m, name), s, &err), &err);
            }
            free(s);
            free(back);
        }
    int64_t n;
    float *before = logits_of(w.base.r, &n);
    overlay_free(w.edits);
    w.edits = o;
    Runner *r = changed_runner(&w);
    float *after = logits_of(r, &n);
    assert_true(test_worst(before, after, n) < 1e-4);
    runner_free(r);
    free(after);
    w.edits = half;
    r = changed_runner(&w);
    after = logits_of(r, &n);
    assert_true(test_worst(before, after, n) > 0.01);
    runner_free(r);
    free(after);
    free(before);
    overlay_free(o);
    world_close(&w); /* and half */
}

/* ---- what is written ---- */

static void quantize(Runner *r, const Overlay *edits, const char *dir, bool all_float, VerifyReport *report,
                     VerifyReport *unchanged)
{
    const Model *m = runner_model(r);
    Recipe *recipe;
    Error err = {0};
    QConfig levels[4];
    int16_t *level = calloc((size_t)m->nlinears, sizeof *level);
    assert_non_null(level);
    ok(recipe_open(&recipe, &recipe_rows, "lab_practice/default/default-w8a8-dynamic.yaml", NULL, &err), &err);
    int n = recipe_entries(recipe);
    assert_true(n <= 4);
    for (int i = 0; i < n; i++)
        levels[i] = recipe_entry(recipe, i)->q;
    if (!all_float)
        ok(recipe_assign(recipe, m, level, &err), &err);
    const SaveFormat *saver = saver_find("ascendv1_saver");
    SavePlan plan = {.model = m, .dir = dir, .model_type = "", .levels = levels, .nlevels = n, .level = level};
    Pipeline *p;
    ok(pipeline_new(&p, m, &(Work){.recipe = recipe, .level = level}, &err), &err);
    SaveResult res;
    ok(save_run(p, r, &(SaveOptions){.savers = &saver, .plans = &plan, .nsavers = 1}, &res, &err), &err);
    pipeline_free(p);
    ok(save_verify(&plan, saver, unchanged, NULL, &err), &err);
    plan.overlay = edits;
    ok(save_verify(&plan, saver, report, NULL, &err), &err);
    recipe_free(recipe);
    free(level);
}

static void same_tensors(const char *a, const char *b)
{
    static const char *const names[] = {"quant_model_weights.safetensors",
                                        "quant_model_weight_w8a8_dynamic.safetensors"};
    Checkpoint *x = NULL, *y = NULL;
    Error err = {0};
    for (size_t i = 0; i < 2 && !x; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", a, names[i]);
        if (checkpoint_open(&x, path, &err) != ST_OK)
            continue;
        snprintf(path, sizeof path, "%s/%s", b, names[i]);
        ok(checkpoint_open(&y, path, &err), &err);
    }
    if (!x)
        fail_msg("%s", err.text);
    assert_int_equal(checkpoint_count(x), checkpoint_count(y));
    for (int64_t i = 0; i < checkpoint_count(x); i++) {
        const TensorInfo *t = checkpoint_at(x, i), *u = checkpoint_find(y, t->name);
        if (!u || u->dtype != t->dtype || u->nbytes != t->nbytes)
            fail_msg("%s: absent, or of another dtype or size", t->name);
        unsigned char *p = malloc(t->nbytes), *q = malloc(t->nbytes);
        assert_true(p && q);
        ok(checkpoint_read(x, t, 0, t->nbytes, p, &err), &err);
        ok(checkpoint_read(y, u, 0, t->nbytes, q, &err), &err);
        if (memcmp(p, q, t->nbytes) != 0)
            fail_msg("%s differs", t->name);
        free(p);
        free(q);
    }
    checkpoint_free(x);
    checkpoint_free(y);
}

static void savers_write_what_was_changed(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        World w;
        char a[300], b[300];
        VerifyReport good, bad, hand, same;
        world_open(&w, ARITH_FP32, 2);
        snprintf(a, sizeof a, "%s", temp_path(w.tmp, "overlay"));
        snprintf(b, sizeof b, "%s", temp_path(w.tmp, "hand"));
        Runner *r = changed_runner(&w);
        quantize(r, w.edits, a, kind == 0, &good, &bad);
        quantize(w.hand.r, NULL, b, kind == 0, &hand, &same);
        same_tensors(a, b);
        if (good.problems)
            fail_msg("%s", good.problem[0]);
        assert_true(bad.problems > 0); /* an added bias, other norms */
        assert_int_equal(hand.problems, 0);
        assert_int_equal(good.quantized, kind == 0 ? 0 : w.base.m->nlinears);
        for (int64_t i = 0; i < good.n; i++)
            if (kind && !(good.rows[i].error < 0.02))
                fail_msg("%s: %g", w.base.m->linears[good.rows[i].linear].name, good.rows[i].error);
        verify_free(&good);
        verify_free(&bad);
        verify_free(&hand);
        verify_free(&same);
        runner_free(r);
        world_close(&w);
    }
}

static void a_stopped_run_of_another_model_is_not_continued(void **state)
{
    (void)state;
    World w;
    Error err = {0};
    void *self;
    int first;
    char dir[300];
    world_open(&w, ARITH_FP32, 1);
    const Model *m = w.base.m;
    snprintf(dir, sizeof dir, "%s", temp_path(w.tmp, "out"));
    int16_t *level = calloc((size_t)m->nlinears, sizeof *level);
    const SaveFormat *s = saver_find("ascendv1_saver");
    /* the names and sizes of what is written are those of the unchanged model: only values differ */
    Overlay *o;
    float *f = powers(shape.hidden, 1);
    ok(overlay_new(&o, m, &err), &err);
    ok(overlay_scale_tensor(o, m->exit.norm, f, &err), &err);
    SavePlan plan = {.model = m, .overlay = o, .dir = dir, .model_type = "", .level = level};
    ok(s->ops->open(&self, s, &plan, false, &first, &err), &err);
    ok(s->ops->layer_done(self, 0, &err), &err);
    s->ops->close(self, true);
    plan.overlay = NULL;
    assert_int_equal(s->ops->open(&self, s, &plan, true, &first, &err), ST_DATA);
    assert_non_null(strstr(err.text, "changed"));
    plan.overlay = o;
    ok(s->ops->open(&self, s, &plan, true, &first, &err), &err);
    assert_int_equal(first, 1);
    s->ops->close(self, false);
    overlay_free(o);
    free(f);
    free(level);
    world_close(&w);
}

/* ---- what is kept ---- */

static void measured_effects_do_not_mix(void **state)
{
    (void)state;
    World w;
    Error err = {0};
    world_open(&w, ARITH_FP32, 2);
    TokenSet *t = test_tokens(lens, 2, w.base.m->cfg.vocab, 3);
    EffectOptions o = {.calib = t, .eval = t, .cache_bytes = 1 << 24, .seed = 1};
    EffectLab *lab;
    Effect plain, changed, again;
    int16_t *level = calloc((size_t)w.base.m->nlinears, sizeof *level);
    Runner *r = changed_runner(&w);
    ok(effectlab_new(&lab, w.base.m, &o, &err), &err);
    ok(measure_work(lab, r, &(Work){.level = level}, &changed, &err), &err);
    assert_false(changed.from_cache);
    assert_true(changed.kl_mean > 0.01); /* against the unchanged model, though that was never run before */
    ok(measure_work(lab, w.base.r, &(Work){.level = level}, &plain, &err), &err);
    assert_true(plain.kl_mean == 0);
    ok(measure_work(lab, r, &(Work){.level = level}, &again, &err), &err);
    assert_true(again.from_cache && again.kl_mean == changed.kl_mean);
    runner_free(r);
    effectlab_free(lab);
    test_tokens_free(t);
    free(level);
    world_close(&w);
}

static void a_digest_names_every_edit(void **state)
{
    (void)state;
    World w;
    Error err = {0};
    Overlay *o[4];
    char hex[4][65], none[65] = "x";
    world_open(&w, ARITH_FP32, 1);
    const Model *m = w.base.m;
    float *s = powers(shape.hidden, 1), *u = powers(shape.hidden, 2);
    overlay_digest(NULL, none);
    assert_string_equal(none, "");
    for (int i = 0; i < 4; i++) {
        ok(overlay_new(&o[i], m, &err), &err);
        overlay_digest(o[i], none);
        assert_string_equal(none, "");
        assert_null(overlay_linear(o[i], 0));
    }
    ok(overlay_scale_inputs(o[0], 0, s, &err), &err);
    ok(overlay_scale_inputs(o[1], 0, s, &err), &err);
    ok(overlay_scale_inputs(o[2], 0, u, &err), &err);
    ok(overlay_scale_inputs(o[3], 1, s, &err), &err);
    for (int i = 0; i < 4; i++)
        overlay_digest(o[i], hex[i]);
    assert_string_equal(hex[0], hex[1]);
    assert_string_not_equal(hex[0], hex[2]);
    assert_string_not_equal(hex[0], hex[3]);
    ok(overlay_scale_tensor(o[1], m->exit.norm, u, &err), &err);
    overlay_digest(o[1], hex[1]);
    assert_string_not_equal(hex[0], hex[1]);
    for (int i = 0; i < 4; i++)
        overlay_free(o[i]);
    free(s);
    free(u);
    world_close(&w);
}

static void wrong_derived_tensors_are_refused(void **state)
{
    (void)state;
    World w;
    Error err = {0};
    world_open(&w, ARITH_FP32, 1);
    int64_t up = linear(w.base.m, "model.layers.0.mlp.up_proj");
    assert_int_equal(overlay_derive(w.edits, up, "down", &err), ST_DATA);
    assert_non_null(strstr(err.text, "shape"));
    assert_int_equal(overlay_derive(w.edits, up, "nothing", &err), ST_DATA);
    assert_non_null(strstr(err.text, "nothing"));
    assert_int_equal(overlay_derive_tensor(w.edits, w.base.m->exit.norm, "embed", &err), ST_DATA);
    assert_int_equal(overlay_scale_inputs(w.edits, w.base.m->nlinears, NULL, &err), ST_INTERNAL);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_see_what_was_changed),
        cmocka_unit_test(quantizers_see_what_was_changed),
        cmocka_unit_test(scaled_norms_and_columns_cancel),
        cmocka_unit_test(savers_write_what_was_changed),
        cmocka_unit_test(a_stopped_run_of_another_model_is_not_continued),
        cmocka_unit_test(measured_effects_do_not_mix),
        cmocka_unit_test(a_digest_names_every_edit),
        cmocka_unit_test(wrong_derived_tensors_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
