#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/awqsearch.h"
#include "tests/lib/golden_layer.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search_is_the_recorded_one), cmocka_unit_test(least_loss_wins),
        cmocka_unit_test(first_scales_are_ones),      cmocka_unit_test(dead_channel),
        cmocka_unit_test(heads_share),                cmocka_unit_test(errors_end_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
