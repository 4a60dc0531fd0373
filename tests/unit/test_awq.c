#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/awqsearch.h"
#include "tests/lib/thread_ranks.h"
#include "tests/lib/folded.h"
#include "tests/lib/golden_layer.h"
#include "tests/lib/recorded_layer.h"

/* awq: its search against what the original found, and by its properties. */

static const QSpec int4 = {.dtype = QT_INT4, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "minmax"};

/* ---- the recorded layer ---- */

enum { UP_DOWN, OV, NORM_QKV, NORM_GATE_UP, PARTS };
static const struct Part {
    int n, target[3];
} parts[PARTS] = {
    {1, {GL_DOWN}}, {1, {GL_O}}, {3, {GL_K, GL_Q, GL_V}}, {2, {GL_GATE, GL_UP}},
};

typedef struct Watched {
    GoldenLayer *g;
    int part;
    Pool *pool;
    double gold[GL_TOKENS * GL_HIDDEN];
} Watched;

static void block_out(const Watched *b, float *const *w, double *y)
{
    const float *x = b->g->x[parts[b->part].target[0]];
    if (b->part == NORM_QKV)
        golden_attention(b->g, w, x, y);
    else if (b->part == NORM_GATE_UP)
        golden_mlp(b->g, w, x, y);
    else
        golden_linear_out(b->g, w, parts[b->part].target[0], x, y);
}

static Status block_loss(void *ctx, const float *s, double *loss, Error *err)
{
    Watched *b = ctx;
    float *w[GL_LINEARS], changed[3][GL_INTER * GL_INTER];
    double y[GL_TOKENS * GL_HIDDEN], sum = 0;
    memcpy(w, b->g->w, sizeof w);
    for (int i = 0; i < parts[b->part].n; i++) {
        int l = parts[b->part].target[i];
        memcpy(changed[i], w[l], (size_t)(b->g->out[l] * b->g->in[l]) * sizeof(float));
        RETURN_IF_ERROR(awq_fake(&int4, s, true, changed[i], b->g->out[l], b->g->in[l], b->pool, NULL, err));
        w[l] = changed[i];
    }
    block_out(b, w, y);
    for (int i = 0; i < GL_TOKENS * GL_HIDDEN; i++)
        sum += (y[i] - b->gold[i]) * (y[i] - b->gold[i]);
    *loss = sum / (GL_TOKENS * GL_HIDDEN);
    return ST_OK;
}

static void means(const float *x, int64_t in, float *a)
{
    for (int64_t j = 0; j < in; j++) {
        double sum = 0;
        for (int64_t r = 0; r < GL_TOKENS; r++)
            sum += fabs((double)x[r * in + j]);
        a[j] = (float)(sum / GL_TOKENS);
    }
}

static void is_recorded(const char *file, bool ov, Pool *pool)
{
    GoldenLayer g;
    golden_layer_open(&g, file);
    const NpyArray *rec = npz_find(g.file, "awq_losses");
    assert_non_null(rec);
    const double *want = rec->data;
    for (int part = 0; part < PARTS; part++) {
        if (part == OV && !ov)
            continue;
        const int first = parts[part].target[0];
        float a[GL_INTER], s[GL_INTER];
        double losses[20];
        AwqFound found;
        Watched b = {.g = &g, .part = part, .pool = pool};
        block_out(&b, g.w, b.gold);
        means(g.x[first], g.in[first], a);
        AwqTask t = {.mean = a, .in = g.in[first], .grid = 20, .peer = true, .loss = block_loss, .ctx = &b};
        assert_int_equal(awq_search(&t, s, losses, &found, NULL), ST_OK);
        assert_true(found.any);
        for (int k = 0; k < 20; k++, want++)
            assert_true(fabs(losses[k] - *want) <= 5e-6 * *want);
        if (part == UP_DOWN || part == OV)
            golden_divide_rows(&g, part == OV ? GL_V : GL_UP, s);
        else
            golden_divide_norm(&g, part == NORM_QKV ? GL_NORM_IN : GL_NORM_POST, s);
        for (int i = 0; i < parts[part].n; i++)
            golden_multiply_columns(&g, parts[part].target[i], s);
    }
    assert_int_equal(want - (const double *)rec->data, rec->count);
    golden_layer_is_after(&g, 1e-5);
    golden_layer_close(&g);
}

static void search_is_the_recorded_one(void **state)
{
    (void)state;
    Pool *pool;
    assert_int_equal(pool_new(&pool, 2, NULL), ST_OK);
    is_recorded("awq_gqa", false, pool);
    is_recorded("awq_mha", true, pool);
    pool_free(pool);
}

/* ---- properties ---- */

typedef struct Curve {
    const double *loss;
    int calls;
    float last[8];
} Curve;

static Status curve_loss(void *ctx, const float *s, double *loss, Error *err)
{
    (void)err;
    Curve *c = ctx;
    memcpy(c->last, s, sizeof c->last);
    *loss = c->loss[c->calls++];
    return ST_OK;
}

static AwqFound searched(const AwqTask *like, Curve *c, float *s)
{
    AwqTask t = *like;
    AwqFound f;
    t.loss = curve_loss;
    t.ctx = c;
    c->calls = 0;
    assert_int_equal(awq_search(&t, s, NULL, &f, NULL), ST_OK);
    return f;
}

static void least_loss_wins(void **state)
{
    (void)state;
    const float a[8] = {1, 1, 1, 1, 1, 1, 1, 16};
    const double curve[4] = {3, 2, 2, 2.5}, none[4] = {NAN, NAN, NAN, NAN}, some[4] = {NAN, NAN, 7, NAN};
    float s[8];
    AwqTask t = {.mean = a, .in = 8, .grid = 4};
    Curve c = {.loss = curve};
    AwqFound f = searched(&t, &c, s);
    assert_true(f.any && f.ratio == 0.25 && f.loss == 2.0 && f.before == 3.0 && c.calls == 4);
    /* 16^(1/4) = 2 over the square root of 2 */
    assert_true(fabsf(s[7] - 1.41421356f) < 1e-6f && fabsf(s[0] - 0.70710678f) < 1e-6f);
    c.loss = none;
    f = searched(&t, &c, s);
    assert_true(!f.any && isnan(f.loss) && s[7] == 1.0f);
    c.loss = some;
    f = searched(&t, &c, s);
    assert_true(f.any && f.ratio == 0.5 && isnan(f.before));
}

/* Of the scales alone, as ranks at once may ask for it; no number for small exponents of one. */
static Status far_loss(void *ctx, const float *s, double *loss, Error *err)
{
    (void)ctx, (void)err;
    *loss = 0;
    for (int i = 0; i < 8; i++)
        *loss += ((double)s[i] - 0.9 - i / 9.0) * ((double)s[i] - 0.9 - i / 9.0);
    *loss = s[0] == s[7] ? NAN : *loss;
    return ST_OK;
}

typedef struct Turns {
    double losses[THREAD_RANKS_MOST][20];
    float s[THREAD_RANKS_MOST][8];
    AwqFound found[THREAD_RANKS_MOST];
} Turns;

static void take_turns(Dist *d, ThreadRank *p)
{
    static const float a[8] = {1, 1.5f, 0, 3, 0.2f, 1, 1, 16};
    Turns *t = p->ctx;
    const AwqTask task = {.mean = a, .in = 8, .grid = 7, .loss = far_loss, .dist = d};
    p->status = awq_search(&task, t->s[p->rank], t->losses[p->rank], &t->found[p->rank], &p->error);
}

static void ranks_find_what_one_does(void **state)
{
    (void)state;
    ThreadRank p[THREAD_RANKS_MOST];
    Turns one = {0}, many = {0};
    thread_ranks_run(1, take_turns, &one, p);
    assert_true(one.found[0].any && isnan(one.found[0].before));
    for (int n = 2; n <= THREAD_RANKS_MOST; n++) {
        thread_ranks_run(n, take_turns, &many, p);
        for (int r = 0; r < n; r++) {
            assert_int_equal(p[r].status, ST_OK);
            assert_memory_equal(one.losses[0], many.losses[r], sizeof one.losses[0]);
            assert_memory_equal(one.s[0], many.s[r], sizeof one.s[0]);
            assert_true(one.found[0].ratio == many.found[r].ratio && one.found[0].loss == many.found[r].loss);
        }
    }
}

static void first_scales_are_ones(void **state)
{
    (void)state;
    const float a[8] = {3, 0.1f, 8, 1, 2, 5, 1, 16};
    const double rising[2] = {1, 2};
    float s[8];
    Curve c = {.loss = rising};
    AwqFound f = searched(&(AwqTask){.mean = a, .in = 8, .grid = 2}, &c, s);
    assert_true(f.any && f.ratio == 0.0);
    for (int j = 0; j < 8; j++)
        assert_true(s[j] == 1.0f);
}

/* A channel that calibration never used keeps its weights; the original squashes them. */
static void dead_channel(void **state)
{
    (void)state;
    const float a[8] = {0, 1, 1, 1, 1, 1, 1, 16};
    const double falling[4] = {4, 3, 2, 1};
    float s[8];
    for (int peer = 0; peer < 2; peer++) {
        Curve c = {.loss = falling};
        searched(&(AwqTask){.mean = a, .in = 8, .grid = 4, .peer = peer}, &c, s);
        assert_true(peer ? s[0] < 0.1f * s[1] : s[0] == 1.0f);
        if (!peer)
            assert_true(fabsf(s[7] * s[1] - 1) < 1e-6f); /* the middle of those in use */
    }
}

/* Heads that share a value head: one scale, by the mean of both, so that its rows can take it. */
static void heads_share(void **state)
{
    (void)state;
    const float a[8] = {1, 4, 3, 12, 5, 5, 7, 3}; /* heads 0, 1 and 2, 3 share */
    const double falling[2] = {2, 1};
    float s[8];
    Curve c = {.loss = falling};
    searched(&(AwqTask){.mean = a, .in = 8, .heads = 4, .kv_heads = 2, .grid = 2}, &c, s);
    assert_true(s[0] == s[2] && s[1] == s[3] && s[4] == s[6] && s[5] == s[7]);
    assert_true(fabsf(s[1] / s[0] - 2.0f) < 1e-6f); /* sqrt(8 / 2) */
    searched(&(AwqTask){.mean = a, .in = 8, .heads = 4, .kv_heads = 2, .grid = 2, .peer = true}, &c, s);
    assert_true(s[0] != s[2]);
}

static Status broken_loss(void *ctx, const float *s, double *loss, Error *err)
{
    (void)ctx, (void)s;
    *loss = 1;
    return error_set(err, ST_CANCELLED, "stopped");
}

static void errors_end_it(void **state)
{
    (void)state;
    const float a[2] = {1, 2};
    float s[2];
    AwqFound f;
    Error e = {0};
    AwqTask t = {.mean = a, .in = 2, .grid = 4, .loss = broken_loss};
    assert_int_equal(awq_search(&t, s, NULL, &f, &e), ST_CANCELLED);
    assert_false(f.any);
}

/* ---- the processor ---- */

#define WEIGHT "weight_qconfig: {dtype: int4, scope: per_channel, symmetric: true, method: minmax}"

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

/* The block runs again in the runner; with a search of its own for every sub-graph in their order. */
static void processor_is_the_recorded_one(void **state)
{
    (void)state;
    static const struct {
        const char *file, *process;
        bool peer;
    } runs[] = {
        {"awq_gqa", "[{type: awq, " WEIGHT "}]", true}, /* what it finds for this family has no ov */
        {"awq_gqa", "[{type: awq, " WEIGHT ", enable_subgraph_type: [up-down, norm-linear]}]", false},
        {"awq_mha", "[{type: awq, " WEIGHT "}]", false},
    };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        RecordedLayer l;
        TestRun base;
        Folded f;
        Error err = {0};
        recorded_layer_open(&l, runs[i].file, "qwen2");
        test_run_open(&base, l.dir, ARITH_FP32, 2, NULL);
        ok(folded_run(&f, &base, runs[i].process, runs[i].peer, l.calib, &err), &err);
        recorded_layer_compare(&l, base.m, pipeline_overlay(f.p), 1e-5);
        recorded_layer_outputs(&l, f.r, 1e-5);
        folded_fini(&f);
        test_run_close(&base);
        recorded_layer_close(&l);
    }
}

static int64_t linear_of(const Model *m, const char *name)
{
    int64_t i = model_find_linear(m, name);
    assert_true(i >= 0);
    return i;
}

/* Heads that share a value head take scales that its rows can take. The original gives up on them. */
static void shared_heads_are_scaled(void **state)
{
    (void)state;
    RecordedLayer l;
    TestRun base;
    Error err;
    recorded_layer_open(&l, "awq_gqa", "qwen2");
    test_run_open(&base, l.dir, ARITH_FP32, 1, NULL);
    int64_t v = linear_of(base.m, "model.layers.0.self_attn.v_proj"), o = linear_of(base.m, "model.layers.0.self_attn.o_proj");
    for (int peer = 0; peer < 2; peer++) {
        Folded f;
        ok(folded_run(&f, &base, "[{type: awq, " WEIGHT ", enable_subgraph_type: [ov]}]", peer, l.calib, &err), &err);
        assert_int_equal(overlay_linear(pipeline_overlay(f.p), v) != NULL, !peer);
        assert_int_equal(overlay_linear(pipeline_overlay(f.p), o) != NULL, !peer);
        recorded_layer_outputs(&l, f.r, 1e-5);
        folded_fini(&f);
    }
    test_run_close(&base);
    recorded_layer_close(&l);
}

/* The original with a table that has an ov of shared heads: left alone, as its error is passed over. */
static void original_leaves_shared_heads_alone(void **state)
{
    (void)state;
    const int lens[] = {12, 7};
    TestRun base;
    Folded f;
    Error err;
    test_run_open(&base, "tests/golden/models/qwen3/fp32", ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens(lens, 2, base.m->cfg.vocab, 1);
    int64_t v = linear_of(base.m, "model.layers.0.self_attn.v_proj"), o = linear_of(base.m, "model.layers.0.self_attn.o_proj");
    for (int peer = 0; peer < 2; peer++) {
        ok(folded_run(&f, &base, "[{type: awq, " WEIGHT ", enable_subgraph_type: [ov]}]", peer, t, &err), &err);
        assert_int_equal(overlay_linear(pipeline_overlay(f.p), v) != NULL, !peer);
        assert_int_equal(overlay_linear(pipeline_overlay(f.p), o) != NULL, !peer);
        folded_fini(&f);
    }
    test_tokens_free(t);
    test_run_close(&base);
}

/* Of a grid of one the only ratio is 0, which scales by 1. */
static void grid_is_the_recipes(void **state)
{
    (void)state;
    RecordedLayer l;
    TestRun base;
    Error err;
    recorded_layer_open(&l, "awq_gqa", "qwen2");
    test_run_open(&base, l.dir, ARITH_FP32, 1, NULL);
    const Linear *down = &base.m->linears[linear_of(base.m, "model.layers.0.mlp.down_proj")];
    float *was = malloc((size_t)down->in * sizeof *was), *now = malloc((size_t)down->in * sizeof *now);
    assert_true(was && now);
    ok(source_rows(runner_source(base.r), NULL, down, 0, 1, was, &err), &err);
    for (int grid = 1; grid <= 20; grid += 19) {
        Folded f;
        char process[400];
        snprintf(process, sizeof process, "[{type: awq, " WEIGHT ", n_grid: %d, enable_subgraph_type: [up-down]}]", grid);
        ok(folded_run(&f, &base, process, false, l.calib, &err), &err);
        ok(source_rows(runner_source(f.r), NULL, down, 0, 1, now, &err), &err);
        assert_int_equal(memcmp(was, now, (size_t)down->in * sizeof *now) == 0, grid == 1);
        folded_fini(&f);
    }
    free(was);
    free(now);
    test_run_close(&base);
    recorded_layer_close(&l);
}

/* Scales of channels that nothing folds divide the input at run time. The original forgets that. */
static void run_time_scales_keep_the_function(void **state)
{
    (void)state;
    RecordedLayer l;
    TestRun base;
    Folded f;
    Error err;
    recorded_layer_open(&l, "awq_gqa", "qwen2");
    test_run_open(&base, l.dir, ARITH_FP32, 2, NULL);
    ok(folded_run(&f, &base, "[{type: awq, " WEIGHT ", enable_subgraph_type: [non-fusion]}]", false, l.calib, &err), &err);
    for (int64_t i = 0; i < base.m->nlinears; i++) {
        assert_non_null(overlay_linear(pipeline_overlay(f.p), i));
        assert_non_null(overlay_inputs(pipeline_overlay(f.p), i));
    }
    recorded_layer_outputs(&l, f.r, 1e-5);
    folded_fini(&f);
    test_run_close(&base);
    recorded_layer_close(&l);
}

static void same_digest(const TestRun *a, const TestRun *b, const char *process, const TokenSet *t, bool same)
{
    char digest[2][65];
    const TestRun *run[2] = {a, b};
    Error err;
    for (int i = 0; i < 2; i++) {
        Folded f;
        ok(folded_run(&f, run[i], process, false, t, &err), &err);
        overlay_digest(pipeline_overlay(f.p), digest[i]);
        folded_fini(&f);
    }
    assert_int_equal(strcmp(digest[0], digest[1]) == 0, same);
}

static void threads_make_no_difference(void **state)
{
    (void)state;
    static const char *const models[] = {"tests/golden/models/llama/fp32", "tests/golden/models/qwen3_moe/fp32"};
    const int lens[] = {40, 7, 25};
    for (size_t i = 0; i < 2; i++) {
        TestRun one, three;
        test_run_open(&one, models[i], ARITH_FP32, 1, NULL);
        test_run_open(&three, models[i], ARITH_FP32, 3, NULL);
        TokenSet *t = test_tokens(lens, 3, one.m->cfg.vocab, 2);
        same_digest(&one, &three, "[{type: awq, " WEIGHT ", n_grid: 5}]", t, true);
        test_tokens_free(t);
        test_run_close(&one);
        test_run_close(&three);
    }
}

/* Experts that no token chose stay as they are. */
static void unused_experts_stay(void **state)
{
    (void)state;
    folded_experts_of_one_token("[{type: awq, " WEIGHT ", enable_subgraph_type: [up-down]}]");
}

static void poison(const RecordedLayer *l, const char *tensor)
{
    *(float *)(uintptr_t)npz_f32(l->z, NULL, "before/%s", tensor) = NAN;
    recorded_layer_write(l, "qwen2");
}

static void bad_input_is_named(void **state)
{
    (void)state;
    RecordedLayer l;
    TestRun base;
    Folded f;
    Error err;
    recorded_layer_open(&l, "awq_mha", "qwen2");
    poison(&l, "mlp.down_proj.weight");
    test_run_open(&base, l.dir, ARITH_FP32, 1, NULL);
    assert_int_equal(folded_run(&f, &base, "[{type: awq, " WEIGHT "}]", false, l.calib, &err), ST_DATA);
    if (!strstr(err.text, "'model.layers.0.mlp.down_proj': its weight holds NaN at [0,0]"))
        fail_msg("%s", err.text);
    folded_fini(&f);
    /* the original passes it over */
    ok(folded_run(&f, &base, "[{type: awq, " WEIGHT ", enable_subgraph_type: [up-down]}]", true, l.calib, &err), &err);
    assert_null(overlay_linear(pipeline_overlay(f.p), linear_of(base.m, "model.layers.0.mlp.up_proj")));
    folded_fini(&f);
    assert_int_equal(folded_run(&f, &base, "[{type: awq}]", false, l.calib, &err), ST_DATA);
    if (!strstr(err.text, "weight_qconfig"))
        fail_msg("%s", err.text);
    folded_fini(&f);
    assert_int_equal(folded_run(&f, &base, "[{type: awq, " WEIGHT ", n_grid: 0}]", false, l.calib, &err), ST_DATA);
    folded_fini(&f);
    test_run_close(&base);
    recorded_layer_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search_is_the_recorded_one), cmocka_unit_test(least_loss_wins),
        cmocka_unit_test(ranks_find_what_one_does), cmocka_unit_test(first_scales_are_ones),      cmocka_unit_test(dead_channel),
        cmocka_unit_test(heads_share),                cmocka_unit_test(errors_end_it),
        cmocka_unit_test(processor_is_the_recorded_one), cmocka_unit_test(shared_heads_are_scaled),
        cmocka_unit_test(original_leaves_shared_heads_alone),
        cmocka_unit_test(grid_is_the_recipes),
        cmocka_unit_test(run_time_scales_keep_the_function),
        cmocka_unit_test(threads_make_no_difference), cmocka_unit_test(unused_experts_stay),
        cmocka_unit_test(bad_input_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
