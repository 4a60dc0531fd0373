#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/block.h"
#include "run/source.h"
#include "tests/lib/bench.h"

/* Edits of whole models that cancel: the logits of the recorded families stay what they were. */

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static uint32_t seed;

static float noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 16777216.0f - 0.5f;
}

static float *vector(int64_t n, float around)
{
    float *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = around + noise();
    return v;
}

/* ---- a model with an overlay ---- */

typedef struct World {
    TestRun base;
    Overlay *edits;
    const Model *m;
    float *before;
    int64_t n;
} World;

/* [rows][vocab]; caller frees. */
static float *logits_of(Runner *r, int64_t *n)
{
    static const int lens[] = {13, 1, 9};
    const Model *m = runner_model(r);
    TokenSet *t = test_tokens(lens, 3, m->cfg.vocab, 3);
    Error err = {0};
    Stream h, x;
    ok(runner_embed(r, t, &h, &err), &err);
    for (int i = 0; i < m->cfg.layers; i++)
        ok(runner_layer(r, i, NULL, &h, &h, NULL, 0, &err), &err);
    ok(runner_final_norm(r, &h, &x, NULL, 0, &err), &err);
    float *logits = test_logits(r, &x);
    *n = x.rows * m->cfg.vocab;
    stream_fini(&h);
    stream_fini(&x);
    test_tokens_free(t);
    return logits;
}

static void world_open(World *w, const char *family, int threads)
{
    char dir[128];
    Error err = {0};
    snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", family);
    test_run_open(&w->base, dir, ARITH_FP32, threads, NULL);
    w->m = w->base.m;
    w->before = logits_of(w->base.r, &w->n);
    ok(overlay_new(&w->edits, w->m, &err), &err);
}

static void world_close(World *w)
{
    overlay_free(w->edits);
    free(w->before);
    test_run_close(&w->base);
}

/* The logits with the edits; caller frees. */
static float *changed(const World *w)
{
    Error err = {0};
    Runner *r;
    int64_t n;
    RunnerOptions opt = {.pool = w->base.pool, .arith = ARITH_FP32, .overlay = w->edits};
    ok(runner_new(&r, w->m, &opt, &err), &err);
    float *v = logits_of(r, &n);
    assert_int_equal(n, w->n);
    runner_free(r);
    return v;
}

static double difference(const World *w)
{
    float *v = changed(w);
    double d = test_worst(w->before, v, w->n);
    free(v);
    return d;
}

/* ---- norms ---- */

/* What is added to a norm is taken away from the biases of what reads it. */
static void an_added_norm_bias_moves_into_linears(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "gemma2", "qwen2", "phi3"};
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        World w;
        Error err = {0};
        seed = 5;
        world_open(&w, families[f], 2);
        int64_t h = w.m->cfg.hidden;
        for (int u = 0; u < w.m->nunits; u++)
            for (int i = 0; i < w.m->units[u].nblocks; i++) {
                const Block *b = &w.m->units[u].block[i];
                const TensorInfo *norm = b->join->small[RESIDUAL_BEFORE];
                float *shift = vector(h, 0.3f), *back = malloc((size_t)h * sizeof *back);
                assert_non_null(back);
                for (int64_t k = 0; k < h; k++)
                    back[k] = -shift[k];
                ok(overlay_shift_norm(w.edits, norm, shift, &err), &err);
                assert_non_null(overlay_norm_bias(w.edits, norm));
                for (int k = 0; k < block_linears(b->type); k++)
                    if (b->linear[k] >= 0 && strcmp(b->type->linears[k], "o") && strcmp(b->type->linears[k], "down"))
                        ok(overlay_bias_from(w.edits, b->linear[k], back, &err), &err);
                free(shift);
                free(back);
            }
        double d = difference(&w);
        if (!(d < 1e-5))
            fail_msg("%s: %g", families[f], d);
        float *zero = calloc((size_t)h, sizeof *zero); /* without it the other half shows */
        const TensorInfo *norm = w.m->units[0].block[0].join->small[RESIDUAL_BEFORE];
        ok(overlay_scale_norm_bias(w.edits, norm, zero, &err), &err);
        assert_null(overlay_norm_bias(w.edits, norm));
        assert_true(difference(&w) > 1e-3);
        free(zero);
        world_close(&w);
    }
}

/* Of a norm that multiplies by 1 + w. */
static void a_unit_norm_is_scaled(void **state)
{
    (void)state;
    World w;
    Error err = {0};
    seed = 7;
    world_open(&w, "gemma2", 1);
    float *s = vector(w.m->cfg.hidden, 1.2f), *back = vector(w.m->cfg.hidden, 0);
    for (int64_t i = 0; i < w.m->cfg.hidden; i++)
        back[i] = 1 / s[i];
    const Block *b = &w.m->units[1].block[1];
    ok(overlay_scale_unit_norm(w.edits, b->join->small[RESIDUAL_BEFORE], back, &err), &err);
    assert_true(difference(&w) > 1e-3);
    ok(overlay_scale_inputs(w.edits, b->linear[DENSE_GATE], s, &err), &err);
    ok(overlay_scale_inputs(w.edits, b->linear[DENSE_UP], s, &err), &err);
    assert_true(difference(&w) < 1e-5);
    free(s);
    free(back);
    world_close(&w);
}

/* ---- heads ---- */

static void an_untied_head_is_edited_apart(void **state)
{
    (void)state;
    static const char *const families[] = {"qwen2", "llama3", "llama"};
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        World w;
        Error err = {0};
        seed = 6;
        world_open(&w, families[f], 1);
        bool tied = w.m->exit.head == w.m->entry.table;
        float *s = vector(w.m->cfg.hidden, 1.2f), *back = vector(w.m->cfg.hidden, 0);
        for (int64_t i = 0; i < w.m->cfg.hidden; i++)
            back[i] = 1 / s[i];
        assert_ptr_equal(overlay_head(w.edits, w.m), w.m->exit.head);
        ok(overlay_scale_tensor(w.edits, w.m->entry.table, s, &err), &err); /* of both, while they are one */
        ok(overlay_untie(w.edits, &err), &err);
        assert_true(overlay_untied(w.edits) == tied);
        assert_true(difference(&w) > 1e-3);
        const TensorInfo *head = overlay_head(w.edits, w.m);
        assert_true((head == w.m->exit.head) == !tied);
        if (tied)
            ok(overlay_scale_tensor(w.edits, head, back, &err), &err);
        ok(overlay_scale_tensor(w.edits, w.m->entry.table, back, &err), &err);
        assert_true(difference(&w) < 1e-5);
        ok(overlay_scale_tensor(w.edits, w.m->exit.norm, s, &err), &err); /* the head takes over the norm */
        ok(overlay_scale_tensor(w.edits, head, back, &err), &err);
        assert_true(difference(&w) < 1e-5);
        free(s);
        free(back);
        world_close(&w);
    }
}

/* ---- whole models ---- */

enum { MOST = 64 };

typedef struct List {
    int64_t linear[MOST];
    int n;
} List;

static void list_add(List *l, int64_t linear)
{
    assert_true(l->n < MOST);
    if (linear >= 0)
        l->linear[l->n++] = linear;
}

static int64_t expert_linear(const Block *b, int e, int part)
{
    const MoeConf *c = b->conf;
    return c->expert + 3 * e + expert_place(c->rule, part);
}

/* Linears that read the block's normed input, and those that write to the state. */
static void ends_of(const ModelConfig *c, const Block *b, List *readers, List *writers)
{
    static const char *const last[] = {"o", "down", "eh_proj"};
    static const char *const inner[] = {"q_b", "kv_b", "index_q"};
    *readers = *writers = (List){.n = 0};
    for (int k = 0; k < block_linears(b->type); k++) {
        bool writes = false, reads = true;
        for (size_t i = 0; i < 3; i++)
            writes = writes || strcmp(b->type->linears[k], last[i]) == 0;
        for (size_t i = 0; i < 3; i++)
            reads = reads && strcmp(b->type->linears[k], inner[i]) != 0;
        if (b->type == &block_mla && k == MLA_Q && b->linear[MLA_Q_A] >= 0)
            reads = false;
        if (writes || reads)
            list_add(writes ? writers : readers, b->linear[k]);
    }
    for (int e = 0; b->type == &block_moe && e < c->moe.experts; e++)
        for (int part = 0; part < 3; part++)
            list_add(part == 2 ? writers : readers, expert_linear(b, e, part));
}

/* The norm's factors, which become 1. */
static float *take_norm(World *w, const TensorInfo *norm)
{
    Error err = {0};
    const Source s = {w->m, NULL};
    float *gamma, *one = malloc(norm->nbytes);
    bool unit = w->m->cfg.norm == NORM_UNIT;
    assert_non_null(one);
    ok(source_small(&s, NULL, norm, &gamma, &err), &err);
    for (int64_t i = 0; i < norm->shape[0]; i++) {
        gamma[i] += unit;
        one[i] = unit ? 0 : 1;
    }
    ok(overlay_replace_tensor(w->edits, norm, one, &err), &err);
    return gamma;
}

/* Hadamard's, or, where there is none, a mirror: I - 2 v v' / v'v. */
static Rotation *rotation(int64_t n)
{
    Error err = {0};
    Rotation *r;
    if (rotation_hadamard(&r, n, -1, &err) == ST_OK)
        return r;
    float *m = malloc((size_t)(n * n) * sizeof *m), *v = vector(n, 0.2f);
    double sum = 0;
    assert_non_null(m);
    for (int64_t i = 0; i < n; i++)
        sum += (double)v[i] * (double)v[i];
    for (int64_t i = 0; i < n * n; i++)
        m[i] = (float)((i / n == i % n) - 2 * (double)v[i / n] * (double)v[i % n] / sum);
    free(v);
    ok(rotation_dense(&r, m, n, &err), &err);
    return r;
}

static void turn_tensor(World *w, const TensorInfo *t, const float *gamma, const Rotation *r)
{
    Error err = {0};
    if (gamma)
        ok(overlay_scale_tensor(w->edits, t, gamma, &err), &err);
    ok(overlay_rotate_tensor(w->edits, t, r, &err), &err);
}

/* The residual stream times R. */
static void turn_state(World *w)
{
    Error err = {0};
    const Model *m = w->m;
    Rotation *r = rotation(m->cfg.hidden);
    ok(overlay_untie(w->edits, &err), &err);
    turn_tensor(w, m->entry.table, NULL, r);
    for (int u = 0; u < m->cfg.layers; u++)
        for (int i = 0; i < m->units[u].nblocks; i++) {
            const Block *b = &m->units[u].block[i];
            List readers, writers;
            float *gamma = take_norm(w, b->join->small[RESIDUAL_BEFORE]);
            ends_of(&m->cfg, b, &readers, &writers);
            for (int k = 0; k < readers.n; k++) {
                ok(overlay_scale_inputs(w->edits, readers.linear[k], gamma, &err), &err);
                ok(overlay_rotate_inputs(w->edits, readers.linear[k], r, &err), &err);
            }
            for (int k = 0; k < writers.n; k++)
                ok(overlay_rotate_outputs(w->edits, writers.linear[k], r, &err), &err);
            if (b->type == &block_moe && b->small[MOE_ROUTER_WEIGHT])
                turn_tensor(w, b->small[MOE_ROUTER_WEIGHT], gamma, r);
            free(gamma);
        }
    float *gamma = take_norm(w, m->exit.norm);
    turn_tensor(w, overlay_head(w->edits, m), gamma, r);
    free(gamma);
    rotation_free(r);
}

/* Copies of r behind `before` places that stay, `times` times, on the diagonal. */
static Rotation *spread(Rotation *r, int64_t before, int times, bool once)
{
    Error err = {0};
    Rotation *part[2 * MOST], *out;
    int64_t size[2 * MOST];
    int n = 0;
    for (int i = 0; i < times; i++) {
        if (before && (i == 0 || !once)) {
            part[n] = NULL;
            size[n++] = before;
        }
        part[n] = r;
        size[n++] = rotation_size(r);
    }
    ok(rotation_blocks(&out, part, size, n, &err), &err);
    return out;
}

/* What attention sums, times R: values and what reads them. */
static void turn_values(World *w)
{
    Error err = {0};
    const ModelConfig *c = &w->m->cfg;
    for (int u = 0; u < c->layers; u++)
        for (int i = 0; i < w->m->units[u].nblocks; i++) {
            const Block *b = &w->m->units[u].block[i];
            if (b->type != &block_gqa && b->type != &block_mla)
                continue;
            bool mla = b->type == &block_mla, fused = !mla && ((const GqaConf *)b->conf)->fused;
            Rotation *r = rotation(c->v_dim), *values = r;
            if (mla)
                values = spread(r, c->mla.nope, c->heads, false);
            else if (fused)
                values = spread(r, (int64_t)(c->heads + c->kv_heads) * c->head_dim, c->kv_heads, true);
            int64_t v = b->linear[mla ? (int)MLA_KV_B : fused ? (int)GQA_Q : (int)GQA_V];
            ok(overlay_rotate_outputs(w->edits, v, values, &err), &err);
            ok(overlay_rotate_inputs(w->edits, b->linear[mla ? (int)MLA_O : (int)GQA_O], r, &err), &err);
            if (values != r)
                rotation_free(values);
            rotation_free(r);
        }
}

/* The narrow vectors of latent attention times R, their norms moved into what reads them. */
static void turn_latent(World *w)
{
    Error err = {0};
    const ModelConfig *c = &w->m->cfg;
    for (int u = 0; u < c->layers; u++) {
        const Block *b = &w->m->units[u].block[0];
        if (b->type != &block_mla)
            continue;
        Rotation *kv = rotation(c->mla.kv_rank), *q = c->mla.q_rank ? rotation(c->mla.q_rank) : NULL, *all;
        ok(rotation_blocks(&all, (Rotation *[]){kv, NULL}, (int64_t[]){0, c->mla.rope}, 2, &err), &err);
        float *gamma = take_norm(w, b->small[MLA_KV_A_NORM]);
        ok(overlay_rotate_outputs(w->edits, b->linear[MLA_KV_A], all, &err), &err);
        ok(overlay_scale_inputs(w->edits, b->linear[MLA_KV_B], gamma, &err), &err);
        ok(overlay_rotate_inputs(w->edits, b->linear[MLA_KV_B], kv, &err), &err);
        free(gamma);
        if (q) {
            const int readers[] = {MLA_Q, MLA_INDEX_Q};
            gamma = take_norm(w, b->small[MLA_Q_A_NORM]);
            ok(overlay_rotate_outputs(w->edits, b->linear[MLA_Q_A], q, &err), &err);
            for (int k = 0; k < 2; k++)
                if (b->linear[readers[k]] >= 0) {
                    ok(overlay_scale_inputs(w->edits, b->linear[readers[k]], gamma, &err), &err);
                    ok(overlay_rotate_inputs(w->edits, b->linear[readers[k]], q, &err), &err);
                }
            free(gamma);
        }
        rotation_free(kv);
        rotation_free(q);
        rotation_free(all);
    }
}

/* Every second linear's input is changed at run time, and its columns back. */
static void change_inputs(World *w)
{
    Error err = {0};
    for (int64_t i = 0; i < w->m->nlinears; i += 2) {
        int64_t n = w->m->linears[i].in, small = n % 12 == 0 ? 12 : 4;
        Rotation *a = rotation(small), *b = rotation(n / small), *r;
        ok(rotation_kron(&r, a, b, &err), &err);
        float *s = vector(n, 1.3f), *back = vector(n, 0);
        for (int64_t k = 0; k < n; k++)
            back[k] = 1 / s[k];
        ok(overlay_input_scale(w->edits, i, back, &err), &err);
        ok(overlay_input_rotate(w->edits, i, r, &err), &err);
        ok(overlay_scale_inputs(w->edits, i, s, &err), &err);
        ok(overlay_rotate_inputs(w->edits, i, r, &err), &err);
        rotation_free(a);
        rotation_free(b);
        rotation_free(r);
        free(s);
        free(back);
    }
}

typedef void Change(World *w);

static void stays_the_same(const char *family, Change *const *change, int n)
{
    World w;
    float *first = NULL;
    for (int threads = 1; threads <= 3; threads += 2) {
        seed = 9;
        world_open(&w, family, threads);
        for (int i = 0; i < n; i++)
            change[i](&w);
        float *after = changed(&w);
        double d = test_worst(w.before, after, w.n);
        if (!(d < 1e-4))
            fail_msg("%s: %g", family, d);
        assert_memory_not_equal(after, w.before, (size_t)w.n * sizeof *after);
        if (first)
            assert_memory_equal(after, first, (size_t)w.n * sizeof *after);
        free(first);
        first = after;
        world_close(&w);
    }
    free(first);
}

static void turned_models_compute_the_same(void **state)
{
    (void)state;
    static Change *const changes[] = {turn_values, turn_latent, turn_state};
    static const char *const families[] = {"llama",   "llama3",  "mistral", "qwen2",     "qwen3",       "phi3",
                                           "mixtral", "gpt_oss", "glm4_moe", "qwen2_moe", "qwen3_moe",   "minimax_m2",
                                           "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm_moe_dsa"};
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        stays_the_same(families[f], changes, 3);
}

static void changed_inputs_meet_changed_columns(void **state)
{
    (void)state;
    static Change *const changes[] = {change_inputs};
    static const char *const families[] = {"llama", "qwen2", "phi3", "gemma2", "gemma3", "gpt_oss", "qwen2_moe",
                                           "deepseek_v3", "deepseek_v32", "deepseek_v4", "qwen3_next", "longcat_flash"};
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        stays_the_same(families[f], changes, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_added_norm_bias_moves_into_linears),
        cmocka_unit_test(a_unit_norm_is_scaled),
        cmocka_unit_test(an_untied_head_is_edited_apart),
        cmocka_unit_test(turned_models_compute_the_same),
        cmocka_unit_test(changed_inputs_meet_changed_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
