/* First-order sensitivity: products of gradients and output errors by their definition, the score against it where the gradient
 * is known from the end, and what it foretells against the loss itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "metric/errordots.h"
#include "metric/leveled.h"
#include "metric/ranges.h"
#include "metric/rows.h"
#include "run/exitgrad.h"

#include "tests/lib/bench.h"
#include "tests/lib/passrun.h"
#include "tests/lib/random_model.h"

static const RandomShape shape = {"qwen3", 3, 4, 2, 8, 40, 150, 130, 0, DT_F32, 4};

#define INT(bits_, scope_, symmetric_) {.dtype = QT_INT##bits_, .scope = scope_, .symmetric = symmetric_, .method = "minmax"}
static const QConfig levels[] = {{INT(8, QS_PER_TENSOR, false), INT(8, QS_PER_CHANNEL, true)},
                                 {INT(8, QS_PER_TOKEN, true), INT(8, QS_PER_CHANNEL, true)},
                                 {INT(8, QS_PER_TOKEN, true), INT(4, QS_PER_CHANNEL, true)}};
enum { LEVELS = 3 };

typedef struct World {
    char dir[64];
    TestRun b;
    TokenSet *t;
    int16_t *at;
    PassPlan p;
} World;

static const Metric *const metrics[] = {&metric_fisher, NULL};

static void world_open(World *w, int threads, uint64_t limit, const int *lengths, int samples)
{
    if (!w->dir[0])
        random_model_write(&shape, w->dir);
    test_run_open_within(&w->b, w->dir, ARITH_FP32, threads, limit, NULL);
    w->t = test_tokens(lengths, samples, w->b.m->cfg.vocab, 12);
    w->at = calloc((size_t)w->b.m->nlinears, sizeof *w->at);
    for (int64_t i = 0; i < w->b.m->nlinears; i++)
        w->at[i] = 1;
    w->p = (PassPlan){.m = w->b.m, .pass = metric_fisher.pass, .metrics = metrics, .levels = levels, .nlevels = LEVELS,
                      .level = w->at, .tokens = w->t, .seed = 42};
}

static void world_close(World *w)
{
    free(w->at);
    test_tokens_free(w->t);
    test_run_close(&w->b);
}

/* ---- g . dy ---- */

/* What it should be, of one linear: x' W'^T - x W^T by the quantizers written out. */
static void by_definition(const Model *m, int64_t linear, int level, double lo, double hi, const float *x, const float *g,
                          int64_t rows, double *dot)
{
    const Linear *l = &m->linears[linear];
    float *w = test_weight(m, linear);
    double *wq = test_doubles(w, l->out * l->in), *xq = test_doubles(x, rows * l->in);
    test_fake_weight(wq, l->out, l->in, level == 2 ? 4 : 8);
    test_fake_input(xq, rows, l->in, level == 0, lo, hi);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t o = 0; o < l->out; o++) {
            double dy = 0;
            for (int64_t i = 0; i < l->in; i++)
                dy += xq[t * l->in + i] * wq[o * l->in + i] - (double)x[t * l->in + i] * (double)w[o * l->in + i];
            dot[t] += (double)g[t * l->out + o] * dy;
        }
    free(w);
    free(wq);
    free(xq);
}

static float *random_rows(int64_t n, uint64_t seed)
{
    Rng r = rng_new(seed);
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(rng_unit(&r) * 4 - 1.5);
    return x;
}

/* Hands one chunk of a linear's rows over, with g W as a product of its own. */
static void hand_over(const World *w, ErrorDots *d, int64_t linear, const float *x, const float *g, const int32_t *row,
                      int64_t row0, int64_t rows)
{
    const Linear *l = &w->b.m->linears[linear];
    float *weight = test_weight(w->b.m, linear), *dx = calloc((size_t)(rows * l->in), sizeof *dx);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < l->in; i++) {
            double sum = 0;
            for (int64_t o = 0; o < l->out; o++)
                sum += (double)g[t * l->out + o] * (double)weight[o * l->in + i];
            dx[t * l->in + i] = (float)sum;
        }
    const LinearGrad h = {.linear = linear, .x = x, .ldx = l->in, .g = g, .ldg = l->out, .row = row, .row0 = row0,
                          .rows = rows, .dx = dx, .lddx = l->in};
    const GradHooks hooks = errordots_hooks(d);
    assert_int_equal(hooks.linear(hooks.self, &h, NULL), ST_OK);
    free(weight);
    free(dx);
}

static void dots_are_those_of_the_definition(void **state)
{
    (void)state;
    static const int lengths[] = {30, 1, 69};
    World w = {.dir = ""};
    world_open(&w, 2, 0, lengths, 3);
    const Model *m = w.b.m;
    const Unit *u = &m->units[1];
    const Stream rows = {.samples = 3, .rows = 100, .width = 40, .start = w.t->start};
    LeveledSet set;
    LayerForms forms[LEVELS] = {{0}};
    assert_int_equal(leveled_init_without_data(&set, w.b.r, &w.p, NULL), ST_OK);
    for (int k = 0; k < LEVELS; k++) {
        assert_int_equal(layer_forms_init(&forms[k], m, &set.of[k].opt, u->first, u->count, NULL), ST_OK);
        for (int64_t i = 0; k == 0 && i < u->count; i++)
            layer_forms_recall(&forms[k], i, &set.types, -1.4f, 2.4f); /* some values lie outside */
        assert_int_equal(layer_forms_stage(&forms[k], 0, FORM_FIXED, &set.types, NULL), ST_OK);
    }
    ErrorDots d;
    assert_int_equal(errordots_begin(&d, w.b.r, 1, forms, LEVELS, &rows, NULL), ST_OK);
    int32_t q = unit_linear(u, "q"), k = unit_linear(u, "k"), down = unit_linear(u, "down");
    d.wanted[m->linears[q].group - d.group0] = d.wanted[m->linears[down].group - d.group0] = true;
    float *x = random_rows(100 * 40, 1), *gq = random_rows(100 * 32, 2), *gk = random_rows(100 * 16, 3);
    float *xd = random_rows(100 * 150, 4), *gd = random_rows(100 * 40, 5), *xs = malloc(9 * 150 * sizeof *xs), *gs = malloc(9 * 40 * sizeof *gs);
    for (int64_t at = 0; at < 100; at += 64) { /* two chunks */
        int64_t n = at ? 36 : 64;
        hand_over(&w, &d, k, x + at * 40, gk + at * 16, NULL, at, n);
        hand_over(&w, &d, q, x + at * 40, gq + at * 32, NULL, at, n);
    }
    int32_t some[9] = {0, 3, 29, 30, 31, 40, 77, 98, 99}; /* rows that were chosen, as an expert's */
    for (int i = 0; i < 9; i++) {
        memcpy(xs + i * 150, xd + some[i] * 150, 150 * sizeof *xs);
        memcpy(gs + i * 40, gd + some[i] * 40, 40 * sizeof *gs);
    }
    hand_over(&w, &d, down, xs, gs, some, 0, 9);
    hand_over(&w, &d, unit_linear(u, "o"), x, gq, NULL, 0, 0);
    assert_int_equal(errordots_finish(&d, NULL), ST_OK);
    for (int level = 0; level < LEVELS; level++) {
        double qk[100] = {0}, few[9] = {0};
        by_definition(m, q, level, -1.4, 2.4, x, gq, 100, qk);
        by_definition(m, k, level, -1.4, 2.4, x, gk, 100, qk);
        by_definition(m, down, level, -1.4, 2.4, xs, gs, 9, few);
        const double *is = errordots_rows(&d, level, m->linears[q].group), *of = errordots_rows(&d, level, m->linears[down].group);
        double size = 0;
        for (int t = 0; t < 100; t++)
            size += qk[t] * qk[t] / 100;
        int flips = 0; /* a value that lies between two steps may round the other way in float32 */
        for (int t = 0; t < 100; t++) {
            flips += fabs(is[t] - qk[t]) > 1e-4 * sqrt(size);
            assert_true(fabs(is[t] - qk[t]) < 0.1 * sqrt(size));
        }
        assert_true(flips <= 2);
        for (int i = 0, t = 0; t < 100; t++) {
            bool one = i < 9 && some[i] == t;
            assert_true(one ? fabs(of[t] - few[i]) < 2e-5 * (fabs(few[i]) + sqrt(size)) : of[t] == 0);
            i += one;
        }
    }
    errordots_end(&d);
    for (int i = 0; i < LEVELS; i++)
        layer_forms_fini(&forms[i]);
    leveled_fini(&set);
    free(x), free(gq), free(gk), free(xd), free(gd), free(xs), free(gs);
    world_close(&w);
    random_model_remove(w.dir);
}

/* ---- the score ---- */

static const UnitScore *score_at(const World *w, const Got *g, int64_t group, int level)
{
    uint64_t digest = scores_level_all(w->b.m, SCOPE_GROUP, group, &levels[level]);
    for (int64_t i = 0; i < g->n; i++)
        if (g->s[i].metric == &metric_fisher && g->s[i].s.unit == group && g->s[i].s.levels == digest)
            return &g->s[i].s;
    fail_msg("no score of group %lld", (long long)group);
    return NULL;
}

/* What leaves the last layer adds to the residual stream: the gradient there is that of what its last linear gives. */
static void the_last_linear_is_scored_by_its_definition(void **state)
{
    (void)state;
    static const int lengths[] = {30, 1, 17};
    World w = {.dir = ""};
    world_open(&w, 2, 0, lengths, 3);
    Got got = {.keep = -1};
    test_pass(w.b.r, &w.p, &got);
    int32_t down = unit_linear(&w.b.m->units[2], "down");
    KeptForward k;
    kept_forward(&k, w.dir, w.t);
    Stream h, grad;
    int32_t label[48];
    uint64_t key[48];
    assert_int_equal(runner_embed(w.b.r, w.t, &h, NULL), ST_OK);
    for (int u = 0; u < 3; u++)
        assert_int_equal(runner_layer(w.b.r, u, NULL, &h, &h, NULL, 0, NULL), ST_OK);
    for (int s = 0; s < 3; s++)
        for (int64_t t = w.t->start[s]; t < w.t->start[s + 1]; t++) {
            label[t] = LABEL_DRAW;
            key[t] = (uint64_t)s << 32 | (uint64_t)(t - w.t->start[s]);
        }
    assert_int_equal(exit_gradient(w.b.r, &h, &(ExitLoss){label, key, 42, 0}, &grad, NULL), ST_OK);
    double lo = 0, hi = 0;
    for (int64_t i = 0; i < 48 * 150; i++) {
        lo = fmin(lo, (double)k.in[down].x[i]);
        hi = fmax(hi, (double)k.in[down].x[i]);
    }
    for (int level = 0; level < LEVELS; level++) {
        double dot[48] = {0}, mean[3] = {0}, tokens = 0, texts = 0;
        by_definition(w.b.m, down, level, lo, hi, k.in[down].x, grad.data, 48, dot);
        for (int s = 0; s < 3; s++) {
            double text = 0;
            for (int64_t t = w.t->start[s]; t < w.t->start[s + 1]; t++) {
                tokens += dot[t] * dot[t] / 96;
                mean[s] += dot[t] * dot[t] / 2 / (double)(w.t->start[s + 1] - w.t->start[s]);
                text += dot[t];
            }
            texts += text * text / 96;
        }
        const UnitScore *u = score_at(&w, &got, w.b.m->linears[down].group, level);
        double least = fmin(fmin(mean[0], mean[1]), mean[2]), most = fmax(fmax(mean[0], mean[1]), mean[2]);
        test_near(u->value, mean[0] + mean[1] + mean[2] - least - most, 5e-3); /* roundings flip */
        test_near(test_part(u, &metric_fisher, "mean"), tokens, 5e-3);
        test_near(test_part(u, &metric_fisher, "error"), (most - least) / 2, 5e-3);
        test_near(test_part(u, &metric_fisher, "text"), texts, 2e-2);
        assert_int_equal(u->tokens, 48);
    }
    stream_fini(&grad);
    stream_fini(&h);
    kept_free(&k);
    got_free(&got);
    world_close(&w);
    random_model_remove(w.dir);
}

/* Summed over a text before it is squared it is the KL divergence itself, in second order, once many tokens were drawn. */
static void it_foretells_the_divergence(void **state)
{
    (void)state;
    enum { TEXTS = 40, SEEDS = 8 };
    static const Metric *const alone[] = {&metric_alone, NULL};
    int lengths[TEXTS];
    World w = {.dir = ""};
    for (int i = 0; i < TEXTS; i++)
        lengths[i] = 12;
    world_open(&w, 2, 0, lengths, TEXTS);
    w.p.levels = levels + 2;
    w.p.nlevels = 1;
    PassPlan loss = w.p;
    loss.pass = metric_alone.pass;
    loss.metrics = alone;
    loss.probe = 12 * TEXTS;
    Got kl = {.keep = -1};
    test_pass(w.b.r, &loss, &kl);
    double *mean = calloc((size_t)w.b.m->ngroups, sizeof *mean);
    for (int seed = 0; seed < SEEDS; seed++) {
        Got got = {.keep = -1};
        w.p.seed = (uint64_t)seed;
        w.p.probe = 64 * TEXTS;
        test_pass(w.b.r, &w.p, &got);
        for (int64_t g = 0; g < w.b.m->ngroups; g++)
            mean[g] += test_part(got_score(&got, &metric_fisher, g), &metric_fisher, "text") / SEEDS;
        got_free(&got);
    }
    for (int64_t g = 0; g < w.b.m->ngroups; g++) {
        double is = got_score(&kl, &metric_alone, g)->value;
        if (!(mean[g] > 0.7 * is && mean[g] < 1.4 * is))
            fail_msg("group %lld: %g, and the divergence is %g", (long long)g, mean[g], is);
    }
    free(mean);
    got_free(&kl);
    world_close(&w);
    random_model_remove(w.dir);
}

/* ---- what it depends on ---- */

static const int five[] = {200, 90, 1, 64, 300};

static void threads_and_memory_change_nothing(void **state)
{
    (void)state;
    static const int long_texts[] = {800, 300, 1, 64, 900};
    World w = {.dir = ""};
    Got want = {.keep = -1};
    world_open(&w, 1, 0, long_texts, 5);
    w.p.probe = 4500;
    test_pass(w.b.r, &w.p, &want);
    assert_int_equal(want.n, w.b.m->ngroups * LEVELS + w.b.m->nlinears); /* and ranges */
    world_close(&w);
    for (int k = 0; k < 2; k++) {
        Got got = {.keep = -1};
        world_open(&w, 3, k ? 16 << 20 : 0, long_texts, 5); /* few inputs of layers are kept */
        w.p.probe = 4500;
        test_pass(w.b.r, &w.p, &got);
        got_same(&want, &got);
        got_free(&got);
        world_close(&w);
    }
    got_free(&want);
    random_model_remove(w.dir);
}

static void what_is_known_is_not_done_again(void **state)
{
    (void)state;
    World w = {.dir = ""};
    Got all = {.keep = -1}, rest = {.keep = -1}, none = {.keep = -1}, data = {.keep = -1};
    Scores known;
    world_open(&w, 2, 0, five, 5);
    test_pass(w.b.r, &w.p, &all);
    assert_int_equal(scores_init(&known, w.b.m, NULL), ST_OK);
    int64_t half = w.b.m->groups[0].count ? w.b.m->linears[w.b.m->units[1].first].group : 0;
    for (int64_t i = 0; i < all.n; i++)
        if (all.s[i].metric != &metric_fisher || all.s[i].s.unit >= half)
            assert_int_equal(scores_put(&known, all.s[i].metric, &all.s[i].s, NULL), ST_OK);
    w.p.before = &known;
    test_pass(w.b.r, &w.p, &rest);
    assert_int_equal(rest.n, half * LEVELS);
    for (int64_t g = 0; g < half; g++)
        for (int k = 0; k < LEVELS; k++)
            assert_memory_equal(score_at(&w, &rest, g, k), score_at(&w, &all, g, k), sizeof(UnitScore));
    assert_false(w.p.pass->answered(&w.p, &known));
    for (int64_t i = 0; i < rest.n; i++)
        assert_int_equal(scores_put(&known, rest.s[i].metric, &rest.s[i].s, NULL), ST_OK);
    assert_true(w.p.pass->answered(&w.p, &known));
    test_pass(w.b.r, &w.p, &none);
    assert_int_equal(none.n, 0);
    w.p.data_labels = true; /* of other tokens it is another score */
    assert_false(w.p.pass->answered(&w.p, &known));
    test_pass(w.b.r, &w.p, &data);
    assert_int_equal(data.n, w.b.m->ngroups * LEVELS);
    const UnitScore *a = score_at(&w, &all, 2, 1), *b = score_at(&w, &data, 2, 1);
    assert_true(a->value != b->value && test_part(a, &metric_fisher, "labels") == 0 && test_part(b, &metric_fisher, "labels") == 1);
    scores_fini(&known);
    got_free(&all), got_free(&rest), got_free(&none), got_free(&data);
    world_close(&w);
    random_model_remove(w.dir);
}

static Status no_step(void *ctx, const PassStep *step, Error *err)
{
    (void)ctx, (void)step, (void)err;
    fail();
    return ST_OK;
}

static void families_without_gradients_are_refused(void **state)
{
    (void)state;
    Error e;
    TestRun b;
    const int lengths[] = {5};
    test_run_open(&b, "tests/golden/models/deepseek_v4/fp32", ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens(lengths, 1, b.m->cfg.vocab, 1);
    int16_t *at = calloc((size_t)b.m->nlinears, sizeof *at);
    PassPlan p = {.m = b.m, .pass = metric_fisher.pass, .metrics = metrics, .levels = levels, .nlevels = 1, .level = at, .tokens = t};
    assert_int_equal(p.pass->run(b.r, &p, &(PassSink){no_step, NULL}, &e), ST_USAGE);
    assert_string_equal(e.text, "fisher walks gradients back through the model: no gradients through hyper-connections yet "
                                "(behind the last layer)");
    free(at);
    test_tokens_free(t);
    test_run_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dots_are_those_of_the_definition),
        cmocka_unit_test(the_last_linear_is_scored_by_its_definition),
        cmocka_unit_test(it_foretells_the_divergence),
        cmocka_unit_test(threads_and_memory_change_nothing),
        cmocka_unit_test(what_is_known_is_not_done_again),
        cmocka_unit_test(families_without_gradients_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
