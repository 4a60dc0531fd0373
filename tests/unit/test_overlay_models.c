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
#include "tests/lib/folded.h"
#include "tests/lib/noise.h"

/* Edits of whole models that cancel: the logits of the recorded families stay what they were. */

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static uint32_t seed;

static float *vector(int64_t n, float around)
{
    return noise_vector(n, around, &seed);
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
    float *logits = folded_logits(r, t, n);
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

/* A shift of this norm shows, and is gone with its bias. */
static void shift_shows(World *w, const char *family, const char *slot, const TensorInfo *norm)
{
    Error err = {0};
    int64_t n = norm->shape[0];
    float *b = vector(n, 1.5f), *zero = calloc((size_t)n, sizeof *zero);
    assert_non_null(zero);
    ok(overlay_shift_norm(w->edits, norm, b, &err), &err);
    double d = difference(w);
    if (!(d > 1e-4 && d < INFINITY))
        fail_msg("%s: %s: %g", family, slot, d);
    ok(overlay_scale_norm_bias(w->edits, norm, zero, &err), &err);
    float *after = changed(w);
    if (memcmp(after, w->before, (size_t)w->n * sizeof *after) != 0)
        fail_msg("%s: %s: a bias stays", family, slot);
    free(after);
    free(b);
    free(zero);
}

static void every_norm_takes_a_bias(void **state)
{
    (void)state;
    static const char *const families[] = {"qwen3", "gemma3", "deepseek_v3", "deepseek_v4", "qwen3_next", "longcat_flash",
                                           "minimax_m2"};
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        World w;
        seed = 8;
        world_open(&w, families[f], 1);
        shift_shows(&w, families[f], "final norm", w.m->exit.norm);
        for (int u = 0; u < w.m->cfg.layers; u++)
            for (int i = 0; i < w.m->units[u].nblocks; i++)
                for (const Block *b = &w.m->units[u].block[i]; b; b = b->join)
                    for (int k = 0; k < block_smalls(b->type); k++) {
                        const char *slot = b->type->smalls[k].name;
                        if (b->small[k] && strstr(slot, "norm") && strstr(slot, "index") == NULL)
                            shift_shows(&w, families[f], slot, b->small[k]);
                    }
        world_close(&w);
    }
}

/* The bias that a LayerNorm has is the one that is edited. */
static void a_layer_norm_keeps_its_own_bias(void **state)
{
    (void)state;
    World w;
    Error err = {0};
    seed = 3;
    world_open(&w, "deepseek_v32", 1);
    const Source s = {w.m, w.edits}, plain = {w.m, NULL};
    const Block *b = &w.m->units[0].block[0];
    const TensorInfo *norm = b->small[MLA_INDEX_NORM], *own = b->small[MLA_INDEX_BIAS];
    int64_t n = norm->shape[0];
    float *shift = vector(n, 1), *factor = vector(n, 2), *was, *now, *tensor;
    assert_ptr_equal(model_norm_bias(w.m, norm), own);
    assert_null(model_norm_bias(w.m, b->small[MLA_KV_A_NORM]));
    ok(overlay_shift_norm(w.edits, norm, shift, &err), &err);
    ok(overlay_scale_norm_bias(w.edits, norm, factor, &err), &err);
    assert_null(overlay_norm_bias(w.edits, norm));
    ok(source_small(&plain, NULL, own, &was, &err), &err);
    ok(source_norm_bias(&s, NULL, norm, &now, &err), &err);
    ok(source_small(&s, NULL, own, &tensor, &err), &err);
    for (int64_t i = 0; i < n; i++)
        assert_true(now[i] == (was[i] + shift[i]) * factor[i] && now[i] == tensor[i]);
    free(shift);
    free(factor);
    free(was);
    free(now);
    free(tensor);
    world_close(&w);
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

/* ---- memory ---- */

/* Hidden states behind all layers, within a limit (0: none). */
static Status run_within(const World *w, const TokenSet *t, uint64_t limit, Stream *h, Error *err)
{
    Runner *r;
    RunnerOptions opt = {.pool = w->base.pool, .arith = ARITH_FP32, .overlay = w->edits, .mem_limit = limit};
    ok(runner_new(&r, w->m, &opt, err), err);
    Status st = runner_embed(r, t, h, err);
    for (int l = 0; l < w->m->cfg.layers && st == ST_OK; l++)
        st = runner_layer(r, l, NULL, h, h, NULL, 0, err);
    runner_free(r);
    return st;
}

/* A changed model in the tightest limit that is enough, and in what the planner says, gives the bytes of a run without
 * one; what the planner says without the changes is less. */
static void the_planner_knows_of_changes(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "phi3", "deepseek_v3", "gpt_oss", "qwen2_moe"};
    static const int len[] = {300, 20, 500, 1, 120, 400, 60};
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        World w;
        Stream all, h;
        Error err = {0};
        seed = 2;
        world_open(&w, families[f], 2);
        turn_values(&w);
        turn_latent(&w);
        turn_state(&w);
        change_inputs(&w);
        TokenSet *t = test_tokens(len, 7, w.m->cfg.vocab, 4);
        RunnerAsk ask = {.rows = t->start[7], .longest = 500, .threads = 2};
        uint64_t plain = runner_estimate(w.m, &ask);
        ask.inputs = ask.turned = true;
        uint64_t planned = runner_estimate(w.m, &ask), limit = planned / 64;
        assert_true(plain < planned);
        ok(run_within(&w, t, 0, &all, &err), &err);
        for (int enough = 0; enough < 2; limit = enough ? planned : limit + limit / 8) {
            assert_true(limit <= planned + planned / 8);
            Status st = run_within(&w, t, limit, &h, &err);
            if (st == ST_OK)
                assert_memory_equal(h.data, all.data, (size_t)(h.rows * h.width) * sizeof *h.data);
            else if (st != ST_NOMEM || limit >= planned)
                fail_msg("%s: %s", families[f], err.text);
            enough += st == ST_OK;
            stream_fini(&h);
        }
        stream_fini(&all);
        test_tokens_free(t);
        world_close(&w);
    }
}

/* ---- who watches ---- */

/* Inputs of layer 0's linears by the index they are told under. */
typedef struct Seen {
    float *x[MOST];
    int64_t n[MOST];
} Seen;

static bool wants_tap(void *self, Tap tap)
{
    (void)self;
    return tap.kind == TAP_LINEAR_IN && tap.layer == 0;
}

static Status tap_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    (void)err;
    Seen *s = self;
    assert_true(tap.linear < MOST && !s->x[tap.linear]);
    s->n[tap.linear] = start[samples] * width;
    s->x[tap.linear] = malloc((size_t)s->n[tap.linear] * sizeof(float));
    assert_non_null(s->x[tap.linear]);
    return ST_OK;
}

static void tap_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    static const int64_t start[] = {0, 13, 14};
    Seen *s = self;
    for (int64_t t = 0; t < rows; t++)
        memcpy(s->x[tap.linear] + (start[sample] + row0 + t) * width, x + t * ld, (size_t)width * sizeof *x);
}

static const ObserverOps watch = {.name = "inputs", .wants_tap = wants_tap, .tap_begin = tap_begin, .tap_tile = tap_tile};

/* What a form is shown before the pass, and made of it during it. */
typedef struct Watched {
    LinearForm form;
    int64_t width;
    double shown;
    _Atomic int64_t rows;
} Watched;

static Status prepare(void *self, const float *x, const Stream *shape, int64_t width, Pool *pool, Error *err)
{
    (void)pool;
    (void)err;
    Watched *w = self;
    for (int64_t i = 0; i < shape->rows * width; i++)
        w->shown += fabs((double)x[i]);
    return ST_OK;
}

static void act(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    (void)sample;
    Watched *w = self;
    for (int64_t t = 0; t < rows; t++)
        memcpy(out + t * in, x + t * ld, (size_t)in * sizeof *out);
    w->rows += rows;
}

static double sum_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += fabs((double)x[i]);
    return sum;
}

static void run_watched(const World *w, const Overlay *o, Seen *seen, Watched *forms)
{
    static const int lens[] = {13, 1, 9};
    Error err = {0};
    Runner *r;
    Stream h;
    RunnerOptions opt = {.pool = w->base.pool, .arith = ARITH_FP32, .overlay = o};
    TokenSet *t = test_tokens(lens, 3, w->m->cfg.vocab, 3);
    const LinearForm *table[MOST] = {NULL};
    *seen = (Seen){{NULL}, {0}};
    for (int i = 0; i < 3 && forms; i++) {
        forms[i] = (Watched){.form = {.prepare = prepare, .act = act, .self = &forms[i]}};
        table[i] = &forms[i].form;
    }
    const Variant v = {.forms = forms ? table : NULL};
    const Observer obs = {&watch, seen};
    ok(runner_new(&r, w->m, &opt, &err), &err);
    ok(runner_embed(r, t, &h, &err), &err);
    ok(runner_layer(r, 0, &v, &h, &h, &obs, 1, &err), &err);
    stream_fini(&h);
    test_tokens_free(t);
    runner_free(r);
}

static void seen_free(Seen *s)
{
    for (int i = 0; i < MOST; i++)
        free(s->x[i]);
}

/* Observers and forms see what the linear multiplies; those of equal inputs one and the same. */
static void who_watches_sees_the_changed_input(void **state)
{
    (void)state;
    World w;
    Error err = {0};
    Seen plain, now;
    Watched forms[3];
    seed = 4;
    world_open(&w, "llama", 2);
    int64_t h = w.m->cfg.hidden, n = 23 * h;
    float *s = vector(h, 1.5f);
    for (int i = 1; i < 3; i++) /* k and v, not q */
        ok(overlay_input_scale(w.edits, i, s, &err), &err);
    run_watched(&w, NULL, &plain, NULL);
    run_watched(&w, w.edits, &now, forms);
    assert_non_null(plain.x[0]);
    assert_null(plain.x[1]);
    assert_int_equal(now.n[0], n);
    assert_int_equal(now.n[1], n);
    assert_null(now.x[2]);
    assert_memory_equal(now.x[0], plain.x[0], (size_t)n * sizeof *s);
    for (int64_t i = 0; i < n; i++)
        assert_true(now.x[1][i] == plain.x[0][i] * s[i % h]);
    assert_true(fabs(forms[0].shown - sum_of(plain.x[0], n)) < 1e-9);
    assert_true(fabs(forms[1].shown - sum_of(now.x[1], n)) < 1e-9 && fabs(forms[2].shown - forms[1].shown) < 1e-9);
    for (int i = 0; i < 3; i++)
        assert_int_equal(forms[i].rows, 23);
    seen_free(&plain);
    seen_free(&now);
    free(s);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_added_norm_bias_moves_into_linears),
        cmocka_unit_test(every_norm_takes_a_bias),
        cmocka_unit_test(a_layer_norm_keeps_its_own_bias),
        cmocka_unit_test(a_unit_norm_is_scaled),
        cmocka_unit_test(an_untied_head_is_edited_apart),
        cmocka_unit_test(turned_models_compute_the_same),
        cmocka_unit_test(changed_inputs_meet_changed_columns),
        cmocka_unit_test(the_planner_knows_of_changes),
        cmocka_unit_test(who_watches_sees_the_changed_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
