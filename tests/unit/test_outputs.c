/* Output errors, against plain loops over a forward whose values are kept, and against layers with quantizers of the
 * test's own. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metric/outputs.h"
#include "run/unit.h"

#include "tests/lib/bench.h"
#include "tests/lib/passrun.h"
#include "tests/lib/random_model.h"
#include "tests/lib/tempdir.h"

#define LLAMA "tests/golden/analysis/_models/llama-fp32"

static Error err;

static const Metric *const all[] = {&metric_output_error, &metric_residual_error, &metric_block_output, NULL};

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static void run_from(TestRun *b, const TokenSet *t, const QConfig *q, int nlevels, int64_t first, Stream *h, Got *g)
{
    int16_t *level = calloc((size_t)b->m->nlinears, sizeof *level);
    for (int64_t i = 0; i < b->m->nlinears; i++)
        level[i] = 1;
    PassPlan p = {.m = b->m, .pass = &pass_outputs, .metrics = all, .tokens = t, .levels = q, .nlevels = nlevels,
                  .level = level, .first = first, .h = h};
    test_pass(b->r, &p, g);
    free(level);
}

static void run_pass(TestRun *b, const TokenSet *t, const QConfig *q, Got *g)
{
    run_from(b, t, q, 1, 0, NULL, g);
}

typedef struct World {
    TestRun b;
    TokenSet *t;
    KeptForward k;
    Got g;
    QConfig q;
} World;

static void world_open(World *w, const char *scheme)
{
    *w = (World){.g.keep = -1};
    assert_true(scheme_config(scheme, &w->q));
    test_run_open(&w->b, LLAMA, ARITH_FP32, 2, NULL);
    w->t = test_calib_tokens(LLAMA, w->b.m);
    kept_forward(&w->k, LLAMA, w->t);
    run_pass(&w->b, w->t, &w->q, &w->g);
}

static void world_close(World *w)
{
    got_free(&w->g);
    kept_free(&w->k);
    tokens_free(w->t);
    test_run_close(&w->b);
}

static int64_t linear_at(const World *w, int layer, const char *name)
{
    char full[160];
    snprintf(full, sizeof full, "model.layers.%d.%s", layer, name);
    return model_find_linear(w->b.m, full);
}

/* Of 1,024 tokens over 5 texts, the first 205 of each, or all. */
enum { EACH = 205 };

/* Those rows of kept values. */
static double *probe_of(const World *w, const Kept *k, int64_t *rows)
{
    double *x = malloc((size_t)(5 * EACH * k->width) * sizeof *x);
    *rows = 0;
    for (int s = 0; s < 5; s++)
        for (int64_t r = w->t->start[s]; r < w->t->start[s + 1] && r < w->t->start[s] + EACH; r++, ++*rows)
            for (int64_t j = 0; j < k->width; j++)
                x[*rows * k->width + j] = (double)k->x[r * k->width + j];
    return x;
}

/* y = x w^T */
static double *product(const double *x, const double *w, int64_t rows, int64_t in, int64_t out)
{
    double *y = calloc((size_t)(rows * out), sizeof *y);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < out; c++)
            for (int64_t j = 0; j < in; j++)
                y[r * out + c] += x[r * in + j] * w[c * in + j];
    return y;
}

/* A linear's probe, its weight, and both quantized. */
typedef struct Plain {
    double *x, *w, *xq, *wq;
    int64_t rows, in, out;
} Plain;

static Plain plain_of(const World *w, int64_t i)
{
    const Linear *l = &w->b.m->linears[i];
    const Kept *k = &w->k.in[l->input];
    bool fixed = w->q.act.scope == QS_PER_TENSOR;
    float *f = test_weight(w->b.m, i);
    double lo = INFINITY, hi = -INFINITY;
    Plain p = {.in = l->in, .out = l->out, .w = test_doubles(f, l->in * l->out), .wq = test_doubles(f, l->in * l->out)};
    for (int64_t e = 0; e < k->rows * k->width; e++) {
        lo = fmin(lo, (double)k->x[e]);
        hi = fmax(hi, (double)k->x[e]);
    }
    p.x = probe_of(w, k, &p.rows);
    p.xq = probe_of(w, k, &p.rows);
    test_fake_input(p.xq, p.rows, p.in, fixed, lo, hi);
    test_fake_weight(p.wq, p.out, p.in, w->q.weight.dtype == QT_INT4 ? 4 : 8);
    free(f);
    return p;
}

static void plain_free(Plain *p)
{
    free(p->x);
    free(p->w);
    free(p->xq);
    free(p->wq);
}

/* ---- linears ---- */

static double distance(const double *y, const double *z, int64_t n, double *square, double *cross, double *changed, double *max)
{
    double error = 0;
    *square = *cross = *changed = *max = 0;
    for (int64_t i = 0; i < n; i++) {
        error += (z[i] - y[i]) * (z[i] - y[i]);
        *square += y[i] * y[i];
        *cross += y[i] * z[i];
        *changed += z[i] * z[i];
        *max = fmax(*max, fabs(z[i] - y[i]));
    }
    return error;
}

static void output_errors_are_those_of_plain_loops(void **state)
{
    (void)state;
    static const char *const schemes[] = {"W8A8", "W4A8_DYNAMIC"};
    for (int s = 0; s < 2; s++) {
        World w;
        world_open(&w, schemes[s]);
        for (int64_t i = 0; i < w.b.m->nlinears; i++) {
            const UnitScore *u = got_score(&w.g, all[0], i);
            Plain p = plain_of(&w, i);
            double square, cross, changed, max, rest[4], n = (double)(p.rows * p.out);
            double *y = product(p.x, p.w, p.rows, p.in, p.out), *z = product(p.xq, p.wq, p.rows, p.in, p.out);
            double *by_w = product(p.x, p.wq, p.rows, p.in, p.out), *by_x = product(p.xq, p.w, p.rows, p.in, p.out);
            double error = distance(y, z, p.rows * p.out, &square, &cross, &changed, &max);
            test_near(u->value, error / square, 1e-3);
            test_near(test_part(u, all[0], "mse"), error / n, 1e-3);
            test_near(test_part(u, all[0], "sqnr"), 10 * log10(square / error), 1e-3);
            test_near(test_part(u, all[0], "cosine"), cross / sqrt(square * changed), 1e-6);
            test_near(test_part(u, all[0], "max"), max, 2e-2);
            test_near(test_part(u, all[0], "from_weight"),
                      distance(y, by_w, p.rows * p.out, &rest[0], &rest[1], &rest[2], &rest[3]) / square, 1e-3);
            test_near(test_part(u, all[0], "from_input"),
                      distance(y, by_x, p.rows * p.out, &rest[0], &rest[1], &rest[2], &rest[3]) / square, 1e-3);
            assert_int_equal(u->tokens, p.rows);
            plain_free(&p);
            free(y);
            free(z);
            free(by_w);
            free(by_x);
        }
        world_close(&w);
    }
}

/* ---- groups ---- */

/* What is added to the stream by groups that are one linear: behind attention that of o_proj, at the end that of
 * down_proj, whose streams the pass before a norm shows. */
static double residual_plain(const World *w, const Stream *after, int64_t i, double *first)
{
    Plain p = plain_of(w, i);
    double *y = product(p.x, p.w, p.rows, p.in, p.out), *z = product(p.xq, p.wq, p.rows, p.in, p.out), sum = 0;
    int64_t row = 0;
    *first = 0;
    for (int s = 0; s < 5; s++)
        for (int64_t r = w->t->start[s]; r < w->t->start[s + 1] && r < w->t->start[s] + EACH; r++, row++) {
            double error = 0, square = 0;
            for (int64_t j = 0; j < p.out; j++) {
                double h = (double)after->data[r * p.out + j], d = z[row * p.out + j] - y[row * p.out + j];
                error += d * d;
                square += h * h;
            }
            sum += error / square / (double)p.rows;
            *first += r == w->t->start[s] ? error / square / 5 : 0;
        }
    free(y);
    free(z);
    plain_free(&p);
    return sum;
}

static void residual_errors_are_those_of_plain_loops(void **state)
{
    (void)state;
    World w;
    Stream h, middle;
    world_open(&w, "W8A8");
    ok(runner_embed(w.b.r, w.t, &h, &err));
    for (int l = 0; l < w.b.m->cfg.layers; l++) {
        double first;
        int64_t o = linear_at(&w, l, "self_attn.o_proj"), down = linear_at(&w, l, "mlp.down_proj");
        ok(stream_copy(&middle, &h, &err));
        ok(unit_forward(w.b.r, l, 0, 1, NULL, &h, &middle, NULL, 0, &err));
        ok(unit_forward(w.b.r, l, 1, 2, NULL, &middle, &h, NULL, 0, &err));
        const UnitScore *u = got_score(&w.g, all[1], w.b.m->linears[o].group);
        test_near(u->value, residual_plain(&w, &middle, o, &first), 1e-3);
        test_near(test_part(u, all[1], "first"), first, 3e-3);
        u = got_score(&w.g, all[1], w.b.m->linears[down].group);
        test_near(u->value, residual_plain(&w, &h, down, &first), 1e-3);
        stream_fini(&middle);
    }
    stream_fini(&h);
    world_close(&w);
}

/* ---- whole blocks, and groups of several linears, by forms of the test's own ---- */

static void own_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    (void)self, (void)row0;
    double *d = test_doubles(w, rows * in);
    test_fake_weight(d, rows, in, 4);
    for (int64_t i = 0; i < rows * in; i++)
        w[i] = (float)d[i];
    free(d);
}

static void own_act(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    (void)self, (void)sample;
    for (int64_t r = 0; r < rows; r++) {
        double *d = test_doubles(x + r * ld, in);
        test_fake_input(d, 1, in, false, 0, 0);
        for (int64_t j = 0; j < in; j++)
            out[r * in + j] = (float)d[j];
        free(d);
    }
}

/* Sums over the probe's rows of a changed stream. */
static void check_changed(const World *w, const Stream *plain, const Stream *changed, const UnitScore *u, bool block)
{
    double error = 0, square = 0, other = 0, cross = 0, ratio = 0, rows = 0;
    for (int s = 0; s < 5; s++)
        for (int64_t r = w->t->start[s]; r < w->t->start[s + 1] && r < w->t->start[s] + EACH; r++, rows++) {
            double e = 0, q = 0;
            for (int64_t j = 0; j < plain->width; j++) {
                double a = (double)plain->data[r * plain->width + j], b = (double)changed->data[r * plain->width + j];
                e += (b - a) * (b - a);
                q += a * a;
                other += b * b;
                cross += a * b;
            }
            error += e;
            square += q;
            ratio += e / q;
        }
    if (!block) {
        test_near(u->value, ratio / rows, 1e-3);
        test_near(test_part(u, all[1], "ratio"), error / square, 1e-3);
        return;
    }
    test_near(u->value, error / square, 1e-3);
    test_near(test_part(u, all[2], "mse"), error / (rows * (double)plain->width), 1e-3);
    test_near(test_part(u, all[2], "sqnr"), 10 * log10(square / error), 1e-3);
    test_near(test_part(u, all[2], "cosine"), cross / sqrt(square * other), 1e-6);
    test_near(test_part(u, all[2], "token"), ratio / rows, 1e-3);
}

static void blocks_are_those_of_own_forms(void **state)
{
    (void)state;
    static const char *const kinds[] = {"self_attn.q_proj", "mlp.gate_proj"};
    const LinearForm own = {.weight = own_weight, .act = own_act};
    World w;
    Stream h, plain, changed, part;
    world_open(&w, "W4A8_DYNAMIC");
    ok(runner_embed(w.b.r, w.t, &h, &err));
    for (int l = 0; l < w.b.m->cfg.layers; l++) {
        const LinearForm *table[16] = {0};
        const Variant v = {.forms = table};
        ok(stream_copy(&plain, &h, &err));
        ok(stream_copy(&changed, &h, &err));
        ok(stream_copy(&part, &h, &err));
        ok(runner_layer(w.b.r, l, NULL, &h, &plain, NULL, 0, &err));
        for (int i = 0; i < w.b.m->units[l].count; i++)
            table[i] = &own;
        ok(runner_layer(w.b.r, l, &v, &h, &changed, NULL, 0, &err));
        check_changed(&w, &plain, &changed, got_score(&w.g, all[2], l), true);
        for (int k = 0; k < 2; k++) {
            int64_t group = w.b.m->linears[linear_at(&w, l, kinds[k])].group;
            for (int i = 0; i < w.b.m->units[l].count; i++)
                table[i] = w.b.m->linears[w.b.m->units[l].first + i].group == group ? &own : NULL;
            memcpy(part.data, h.data, (size_t)(h.rows * h.width) * sizeof *h.data);
            ok(unit_forward(w.b.r, l, 0, k + 1, NULL, &h, &part, NULL, 0, &err));
            ok(unit_forward(w.b.r, l, 0, k + 1, &v, &h, &changed, NULL, 0, &err));
            check_changed(&w, &part, &changed, got_score(&w.g, all[1], group), false);
        }
        stream_fini(&h);
        h = plain;
        stream_fini(&changed);
        stream_fini(&part);
    }
    stream_fini(&h);
    world_close(&w);
}

/* ---- what all of them have in common ---- */

static void threads_a_stop_and_other_levels_change_nothing(void **state)
{
    (void)state;
    const int lengths[] = {60, 100, 9, 1};
    Got g[4] = {{.keep = -1}, {.keep = 1}, {.keep = -1}, {.keep = -1}};
    QConfig q[2];
    TokenSet *t = NULL;
    assert_true(scheme_config("W8A8", &q[0]) && scheme_config("W4A8_DYNAMIC", &q[1]));
    for (int k = 0; k < 4; k++) {
        TestRun b;
        test_run_open(&b, LLAMA, ARITH_FP32, k ? 3 : 1, NULL);
        t = t ? t : test_tokens(lengths, 4, b.m->cfg.vocab, 11);
        if (k == 2) { /* behind what the run before kept */
            g[2].n = g[1].n / b.m->cfg.layers;
            g[2].s = malloc((size_t)g[2].n * sizeof *g[2].s);
            memcpy(g[2].s, g[1].s, (size_t)g[2].n * sizeof *g[2].s);
            ok(stream_set_ids(&g[1].kept, t->ids, &err));
        }
        run_from(&b, t, q, k == 3 ? 2 : 1, k == 2, &g[1].kept, &g[k]);
        test_run_close(&b);
    }
    got_same(&g[0], &g[1]);
    got_same(&g[0], &g[2]);
    assert_int_equal(g[3].n, 2 * g[0].n); /* both levels; the first comes first */
    for (int64_t i = 0; i < g[0].n; i++) {
        assert_memory_equal(&g[3].s[2 * i], &g[0].s[i], sizeof *g[0].s);
        assert_true(g[3].s[2 * i + 1].s.levels != g[0].s[i].s.levels);
        assert_true(g[3].s[2 * i + 1].s.value != g[0].s[i].s.value);
    }
    for (int k = 0; k < 4; k++)
        got_free(&g[k]);
    test_tokens_free(t);
}

static const RandomShape shape = {"llama", 2, 4, 2, 8, 32, 48, 64, 0, DT_F32, 7};

static void a_bad_value_stops_no_other_row(void **state)
{
    (void)state;
    const int lengths[] = {20, 30};
    char dir[64], path[100];
    TestRun b;
    QConfig q;
    size_t n;
    random_model_write(&shape, dir);
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    const TensorInfo *e = checkpoint_find(b.m->ckpt, "model.layers.1.mlp.up_proj.weight");
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    char *bytes = temp_get(path, &n);
    memcpy(bytes + e->offset + 8, &(float){NAN}, sizeof(float));
    test_run_close(&b);
    temp_put(path, bytes, n);
    free(bytes);
    for (int s = 0; s < 2; s++) {
        Got g = {.keep = -1};
        assert_true(scheme_config(s ? "W4A8_DYNAMIC" : "W8A8", &q));
        test_run_open(&b, dir, ARITH_FP32, 2, NULL);
        TokenSet *t = test_tokens(lengths, 2, b.m->cfg.vocab, 5);
        run_pass(&b, t, &q, &g);
        int64_t down = model_find_linear(b.m, "model.layers.1.mlp.down_proj");
        for (int64_t i = 0; i < b.m->units[0].count; i++)
            assert_true(got_score(&g, all[0], i)->value > 0);
        assert_true(got_score(&g, all[2], 0)->value > 0);
        for (int64_t i = b.m->units[1].first; i < model_find_linear(b.m, "model.layers.1.mlp.up_proj"); i++)
            assert_true(got_score(&g, all[0], i)->value > 0); /* before it in its layer, too */
        assert_true(isnan(got_score(&g, all[0], down)->value) && got_score(&g, all[0], down)->why[0]);
        assert_true(isnan(got_score(&g, all[2], 1)->value) && got_score(&g, all[2], 1)->why[0]);
        assert_true(s || strstr(got_score(&g, all[0], down)->why, "NaN"));
        got_free(&g);
        test_tokens_free(t);
        test_run_close(&b);
    }
    random_model_remove(dir);
}

static void experts_are_scored_where_they_are_reached(void **state)
{
    (void)state;
    const int lengths[] = {3, 1};
    TestRun b;
    QConfig q;
    Got g = {.keep = -1};
    int64_t unseen = 0;
    test_run_open(&b, "tests/golden/models/qwen3_moe/fp32", ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, 2, b.m->cfg.vocab, 1);
    assert_true(scheme_config("W8A8_DYNAMIC", &q));
    run_pass(&b, t, &q, &g);
    for (int64_t i = 0; i < b.m->nlinears; i++) {
        const UnitScore *u = got_score(&g, all[0], i);
        unseen += u->absent;
        assert_true(u->absent ? b.m->linears[i].expert >= 0 : u->value > 0);
        assert_true(got_score(&g, all[1], b.m->linears[i].group)->value > 0);
    }
    assert_true(unseen > 0);
    got_free(&g);
    g = (Got){.keep = -1}; /* static: a layer with an unseen expert keeps all of them in float */
    assert_true(scheme_config("W8A8", &q));
    run_pass(&b, t, &q, &g);
    for (int64_t i = 0; i < b.m->nlinears; i++) {
        const UnitScore *u = got_score(&g, all[0], i);
        assert_true(b.m->linears[i].expert < 0 ? u->value > 0 : u->absent);
        assert_true(b.m->linears[i].expert < 0 || strstr(u->why, "no token"));
    }
    got_free(&g);
    test_tokens_free(t);
    test_run_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_errors_are_those_of_plain_loops),
        cmocka_unit_test(residual_errors_are_those_of_plain_loops),
        cmocka_unit_test(blocks_are_those_of_own_forms),
        cmocka_unit_test(threads_a_stop_and_other_levels_change_nothing),
        cmocka_unit_test(a_bad_value_stops_no_other_row),
        cmocka_unit_test(experts_are_scored_where_they_are_reached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
