/* Gradients through the blocks, against central differences of the forward along directions, kind by kind in every family
 * that is recorded; of weights by the pairs that hooks are given; and that they depend on nothing but the values. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "run/block.h"
#include "run/gradient.h"

#include "tests/lib/bench.h"
#include "tests/lib/mtp_model.h"
#include "tests/lib/noise.h"
#include "tests/lib/random_model.h"
#include "tests/lib/tempdir.h"

/* ---- a unit, a loss, a direction ---- */

typedef struct Point {
    TestRun b;
    TokenSet *t;
    Stream in;
    float *c; /* the loss is sum(c * out), in float64 */
} Point;

static void fill(float *x, int64_t n, float scale, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = 2 * scale * noise_next(&seed);
}

static int64_t values(const Stream *s)
{
    return s->rows * s->width;
}

static void point_open_with(Point *p, const char *dir, const int *lengths, int samples)
{
    test_run_open(&p->b, dir, ARITH_FP32, 2, NULL);
    p->t = test_tokens(lengths, samples, p->b.m->cfg.vocab, 21);
    assert_int_equal(runner_embed(p->b.r, p->t, &p->in, NULL), ST_OK);
    p->c = malloc((size_t)values(&p->in) * sizeof *p->c);
    assert_non_null(p->c);
    fill(p->c, values(&p->in), 1, 5);
    float *more = malloc((size_t)values(&p->in) * sizeof *more);
    assert_non_null(more);
    fill(more, values(&p->in), 0.5f, 6);
    for (int64_t i = 0; i < values(&p->in); i++)
        p->in.data[i] += more[i];
    free(more);
}

static void point_open(Point *p, const char *dir)
{
    point_open_with(p, dir, (int[]){9, 1, 23}, 3);
}

static void point_close(Point *p)
{
    free(p->c);
    stream_fini(&p->in);
    test_tokens_free(p->t);
    test_run_close(&p->b);
}

/* Of blocks [from, to) for this state. */
static double loss(Point *p, int unit, int from, int to, const Variant *v, const Stream *in)
{
    Stream out;
    Error e = {0};
    assert_int_equal(stream_copy(&out, in, NULL), ST_OK);
    if (unit_forward(p->b.r, unit, from, to, v, in, &out, NULL, 0, &e) != ST_OK)
        fail_msg("%s", e.text);
    double sum = 0;
    for (int64_t i = 0; i < values(&out); i++)
        sum += (double)p->c[i] * (double)out.data[i];
    stream_fini(&out);
    return sum;
}

static double norm2(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* Central differences of two steps, without what goes with the square of the step. side[4]: the losses at -2, -1, 1 and 2
 * steps. */
static const double steps[4] = {-2, -1, 1, 2};

static double difference(const double side[4], double eps)
{
    return (8 * (side[2] - side[1]) - (side[3] - side[0])) / (12 * eps);
}

/* Along u, a step of which is made so long as `part` of x. */
static double slope(Point *p, int unit, int from, int to, const Variant *v, float *u, double part)
{
    int64_t n = values(&p->in);
    double eps = part * norm2(p->in.data, n) / norm2(u, n), side[4];
    Stream at;
    assert_int_equal(stream_copy(&at, &p->in, NULL), ST_OK);
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < n; i++)
            at.data[i] = (float)((double)p->in.data[i] + steps[k] * eps * (double)u[i]);
        side[k] = loss(p, unit, from, to, v, &at);
    }
    stream_fini(&at);
    return difference(side, eps);
}

/* The gradient g against differences along parts of it, picked at random: what is wrong anywhere is in some of them. */
static void check_directions(Point *p, int unit, int from, int to, const Variant *v, const Stream *g, double tol,
                             const char *what)
{
    int64_t n = values(g);
    float *u = malloc((size_t)n * sizeof *u);
    assert_non_null(u);
    double all = norm2(g->data, n);
    assert_true(isfinite(all) && all > 0);
    for (uint32_t k = 0; k < 4; k++) {
        uint32_t seed = 77 + k;
        double want = 0;
        for (int64_t i = 0; i < n; i++) {
            float r = noise_next(&seed);
            u[i] = k == 3 ? r * (float)(all / sqrt((double)n)) : r > 0 ? g->data[i] : 0;
            want += (double)u[i] * (double)g->data[i];
        }
        double got = 0, size = all * norm2(u, n), part = 2e-4;
        do /* the experts and keys that are chosen may be others at the end of a step: then a shorter one */
            got = slope(p, unit, from, to, v, u, part);
        while (!(fabs(got - want) <= tol * size) && (part /= 4) > 5e-6);
        if (!(fabs(got - want) <= tol * size))
            fail_msg("%s, layer %d, blocks %d to %d: %.8g along direction %u, the gradient says %.8g (of %.3g)", what, unit, from,
                     to, got, k, want, size);
    }
    free(u);
}

static void gradient(Point *p, int unit, int block, const Variant *v, const GradHooks *h, Stream *g)
{
    Error e = {0};
    assert_int_equal(stream_copy(g, &p->in, NULL), ST_OK);
    memcpy(g->data, p->c, (size_t)values(g) * sizeof *g->data);
    Status st = block < 0 ? unit_backward(p->b.r, unit, v, &p->in, g, h, &e)
                          : unit_block_backward(p->b.r, unit, block, v, &p->in, g, NULL, h, &e);
    if (st != ST_OK)
        fail_msg("%s", e.text);
}

/* ---- every family ---- */

static const char *const families[] = {
    "llama", "llama3", "mistral", "phi3", "qwen2", "qwen3", "gemma2", "gemma3", "mixtral", "qwen2_moe", "qwen3_moe", "glm4_moe",
    "gpt_oss", "minimax_m2", "qwen3_next", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm_moe_dsa", "deepseek_v4",
    "longcat_flash",
};

/* Every block of the units from `first` on that have gradients, alone, and the unit. */
static void check_units(const char *dir, const char *name, int first, int *checked)
{
    Point p;
    if (strcmp(name, "qwen3_next") == 0) /* states are kept every so many tokens */
        point_open_with(&p, dir, (int[]){70, 1, 9}, 3);
    else
        point_open(&p, dir);
    for (int unit = first; unit < p.b.m->nunits; unit++) {
        const Unit *u = &p.b.m->units[unit];
        Stream g;
        if (unit_has_gradients(p.b.m, unit, NULL) != ST_OK)
            continue;
        for (int i = 0; i < u->nblocks; i++, ++*checked) {
            if (u->block[i].spec->late)
                continue; /* within its unit */
            gradient(&p, unit, i, NULL, NULL, &g);
            check_directions(&p, unit, i, i + 1, NULL, &g, 1e-3, name);
            stream_fini(&g);
        }
        gradient(&p, unit, -1, NULL, NULL, &g);
        check_directions(&p, unit, 0, u->nblocks, NULL, &g, 1e-3, name);
        stream_fini(&g);
    }
    point_close(&p);
}

static void gradients_are_differences_in_every_family(void **state)
{
    (void)state;
    const char *only = getenv("FAMILY");
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        int checked = 0;
        char dir[128];
        if (only && strcmp(only, families[i]) != 0)
            continue;
        snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", families[i]);
        check_units(dir, families[i], 0, &checked);
        print_message("# %s: %d blocks\n", families[i], checked);
    }
}

static void gradients_are_differences_before_multi_token_prediction(void **state)
{
    (void)state;
    char *dir = mtp_model_write(&(MtpRecipe){.model = "tests/golden/models/glm4_moe/fp32"});
    int checked = 0;
    Model *m;
    assert_int_equal(model_open(&m, dir, NULL, NULL), ST_OK);
    int layers = m->cfg.layers;
    model_free(m);
    check_units(dir, "mtp", layers, &checked);
    assert_int_equal(checked, 3);
    temp_remove(dir);
}

/* ---- weights, by the pairs that hooks are given ---- */

/* One linear of a unit, its weight moved by eps * d. */
typedef struct Moved {
    int64_t linear, out, in, groups;
    double *g; /* [out][in] sum of g' x */
    float *d;
    double eps;
    int64_t rows;
    const Model *m;
} Moved;

static void move_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    const Moved *m = self;
    for (int64_t i = 0; i < rows * in; i++)
        w[i] = (float)((double)w[i] + m->eps * (double)m->d[row0 * in + i]);
}

static Status add_pairs(void *self, const LinearGrad *g, Error *err)
{
    (void)err;
    Moved *m = self;
    if (g->linear != m->linear)
        return ST_OK;
    for (int64_t t = 0; t < g->rows; t++)
        for (int64_t o = 0; o < m->out; o++)
            for (int64_t i = 0; i < m->in; i++)
                m->g[o * m->in + i] += (double)g->g[t * g->ldg + o] *
                                       (double)g->x[t * g->ldx + o / (m->out / m->groups) * m->in + i];
    m->rows += g->rows;
    return ST_OK;
}

static void check_weight(Point *p, int unit, int64_t linear, const char *what)
{
    const Model *model = p->b.m;
    const Unit *u = &model->units[unit];
    const Linear *l = &model->linears[linear];
    int64_t n = l->out * l->in;
    Moved m = {.linear = linear, .out = l->out, .in = l->in, .groups = l->groups > 1 ? l->groups : 1, .g = calloc((size_t)n, sizeof *m.g),
               .d = calloc((size_t)n, sizeof *m.d), .m = model};
    const LinearForm **forms = calloc((size_t)u->count, sizeof *forms);
    assert_true(m.g && m.d && forms);
    const GradHooks h = {add_pairs, &m};
    Stream g;
    gradient(p, unit, -1, NULL, &h, &g);
    stream_fini(&g);
    const LinearForm form = {.weight = move_weight, .self = &m};
    const Variant v = {.forms = forms};
    forms[linear - u->first] = &form;
    double all = 0, along = 0, want = 0, side[4];
    uint32_t seed = 3;
    for (int64_t i = 0; i < n; i++) {
        m.d[i] = noise_next(&seed) > 0 ? (float)m.g[i] : 0;
        all += m.g[i] * m.g[i];
        along += (double)m.d[i] * (double)m.d[i];
        want += (double)m.d[i] * m.g[i];
    }
    float *w = malloc((size_t)n * sizeof *w);
    assert_non_null(w);
    assert_int_equal(runner_weight(p->b.r, linear, -1, w, NULL), ST_OK);
    double eps = all > 0 ? 2e-3 * norm2(w, n) / sqrt(along) : 0, tol = 1e-3 * sqrt(all * along), got = want;
    for (int tries = 0; tries < 5 && all > 0 && (tries == 0 || !(fabs(got - want) <= tol)); tries++, eps /= 4) {
        for (int k = 0; k < 4; k++) {
            m.eps = steps[k] * eps;
            side[k] = loss(p, unit, 0, u->nblocks, &v, &p->in);
        }
        got = difference(side, eps);
    }
    if (!(fabs(got - want) <= tol))
        fail_msg("%s, %s: %.8g, the pairs say %.8g (of %.3g)", what, l->name, got, want, tol * 1e3);
    free(w);
    free(m.g);
    free(m.d);
    free(forms);
}

static void pairs_are_gradients_of_weights(void **state)
{
    (void)state;
    const char *only = getenv("FAMILY");
    for (size_t k = 0; k < sizeof families / sizeof *families; k++) {
        char dir[128];
        Point p;
        if (only && strcmp(only, families[k]) != 0)
            continue;
        snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", families[k]);
        point_open(&p, dir);
        int unit = p.b.m->nunits - 1;
        const Unit *u = &p.b.m->units[unit];
        int64_t expert = unit_experts(u);
        for (int64_t l = u->first; l < u->first + u->count && unit_has_gradients(p.b.m, unit, NULL) == ST_OK; l++)
            if (expert < 0 || l < expert + 6 || p.b.m->linears[l].expert < 0) /* two of the experts */
                check_weight(&p, unit, l, families[k]);
        point_close(&p);
    }
}

/* ---- forms ---- */

/* Weights to a coarse grid; inputs halved. */
static void grid(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    (void)self;
    (void)row0;
    for (int64_t i = 0; i < rows * in; i++)
        w[i] = roundf(w[i] * 64) / 64;
}

static void halve(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    (void)self;
    (void)sample;
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < in; i++)
            out[t * in + i] = 0.5f * x[t * ld + i];
}

typedef struct Straight {
    TestRun *b;
    int calls;
    bool clear;
} Straight;

/* dx is g times the weight on its grid, whatever became of the input. */
static Status check_straight(void *self, const LinearGrad *g, Error *err)
{
    Straight *s = self;
    const Linear *l = &s->b->m->linears[g->linear];
    (void)err;
    s->calls++;
    assert_non_null(g->form);
    float *w = malloc((size_t)(l->out * l->in) * sizeof *w);
    assert_non_null(w);
    for (int64_t o = 0; o < l->out; o++)
        for (int64_t i = 0; i < l->in; i++)
            w[o * l->in + i] = 0;
    assert_int_equal(source_rows(runner_source(s->b->r), NULL, l, 0, l->out, w, NULL), ST_OK);
    grid(NULL, 0, l->out, l->in, w);
    for (int64_t t = 0; t < g->rows; t += 7)
        for (int64_t i = 0; i < l->in; i++) {
            double want = 0, size = 0;
            for (int64_t o = 0; o < l->out; o++) {
                want += (double)g->g[t * g->ldg + o] * (double)w[o * l->in + i];
                size += fabs((double)g->g[t * g->ldg + o] * (double)w[o * l->in + i]);
            }
            if (!(fabs(want - (double)g->dx[t * g->lddx + i]) <= 1e-5 * size + 1e-12))
                fail_msg("%s: %g, not %g", l->name, (double)g->dx[t * g->lddx + i], want);
        }
    for (int64_t t = 0; t < g->rows && s->clear; t++)
        memset(g->dx + t * g->lddx, 0, (size_t)l->in * sizeof *g->dx);
    free(w);
    return ST_OK;
}

static void check_forms(const char *name)
{
    char dir[128];
    Point p;
    snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", name);
    point_open(&p, dir);
    const Unit *u = &p.b.m->units[0];
    const LinearForm weight = {.weight = grid}, both = {.weight = grid, .act = halve};
    const LinearForm **forms = calloc((size_t)u->count, sizeof *forms);
    assert_non_null(forms);
    const Variant v = {.forms = forms};
    Straight s = {.b = &p.b};
    const GradHooks h = {check_straight, &s};
    Stream g;
    for (int32_t i = 0; i < u->count; i++)
        forms[i] = &weight;
    gradient(&p, 0, -1, &v, NULL, &g);
    check_directions(&p, 0, 0, u->nblocks, &v, &g, 1e-3, name);
    stream_fini(&g);
    for (int32_t i = 0; i < u->count; i++)
        forms[i] = &both;
    gradient(&p, 0, -1, &v, &h, &g);
    assert_true(s.calls >= 4);
    stream_fini(&g);
    s.clear = true; /* what a hook leaves in dx is what goes on: nothing but the residual stream */
    gradient(&p, 0, -1, &v, &h, &g);
    assert_memory_equal(g.data, p.c, (size_t)values(&g) * sizeof *g.data);
    stream_fini(&g);
    free(forms);
    point_close(&p);
}

static void forms_are_taken_as_they_stand(void **state)
{
    (void)state;
    check_forms("qwen3");
    check_forms("phi3");
}

/* ---- a changed model ---- */

/* Inputs scaled and turned, a branch beside another linear. */
static void change(Overlay *o, const Unit *u, const Model *m)
{
    Rotation *turn;
    uint32_t seed = 8;
    for (int32_t i = u->first; i < u->first + u->count; i++) {
        const Linear *l = &m->linears[i];
        float *s = noise_vector(l->in, 1, &seed), *l1 = noise_vector(3 * l->in, 0, &seed), *l2 = noise_vector(3 * l->out, 0, &seed);
        LowRank *low;
        assert_true(s && l1 && l2);
        if (i % 2 == 0) {
            assert_int_equal(overlay_input_scale(o, i, s, NULL), ST_OK);
            assert_int_equal(rotation_shifted(&turn, l->in, 8, 1, NULL, 0, NULL), ST_OK);
            assert_int_equal(overlay_input_rotate(o, i, turn, NULL), ST_OK);
            rotation_free(turn);
        }
        assert_int_equal(lowrank_new(&low, l->out, l->in, 3, l1, l2, DT_F32, NULL), ST_OK);
        if (i % 3 == 0)
            assert_int_equal(overlay_low_rank(o, i, low, low, NULL), ST_OK);
        lowrank_free(low);
        free(s);
    }
}

static void changes_of_the_model_are_passed_back_through(void **state)
{
    (void)state;
    Point p;
    Overlay *o;
    Stream g;
    point_open(&p, "tests/golden/models/qwen3/fp32");
    const Unit *u = &p.b.m->units[0];
    assert_int_equal(overlay_new(&o, p.b.m, NULL), ST_OK);
    change(o, u, p.b.m);
    runner_free(p.b.r);
    const RunnerOptions opt = {.pool = p.b.pool, .overlay = o, .arith = ARITH_FP32};
    assert_int_equal(runner_new(&p.b.r, p.b.m, &opt, NULL), ST_OK);
    gradient(&p, 0, -1, NULL, NULL, &g);
    check_directions(&p, 0, 0, u->nblocks, NULL, &g, 1e-3, "changed");
    stream_fini(&g);
    for (int64_t l = u->first; l < u->first + u->count; l++)
        check_weight(&p, 0, l, "changed");
    runner_free(p.b.r);
    p.b.r = NULL;
    overlay_free(o);
    point_close(&p);
}

/* ---- of nothing but the values ---- */

static const RandomShape shapes[] = {
    {"qwen3", 1, 6, 2, 16, 72, 200, 130, 0, DT_F32, 4},
    {"qwen2", 1, 4, 4, 8, 40, 72, 130, 0, DT_BF16, 9},
};

typedef struct Chunks {
    int calls;
} Chunks;

static Status count_calls(void *self, const LinearGrad *g, Error *err)
{
    (void)g;
    (void)err;
    ((Chunks *)self)->calls++;
    return ST_OK;
}

/* The gradient of unit 0 as so many threads within so many bytes have it; false where they are too few. */
static bool gradient_within(const char *dir, int threads, uint64_t limit, Stream *g, int *calls)
{
    Point p;
    Error e = {0};
    static const int lengths[] = {700, 3, 520, 900, 400, 800, 1, 900, 600, 700};
    point_open_with(&p, dir, lengths, 10);
    test_run_close(&p.b);
    test_run_open_within(&p.b, dir, ARITH_FP32, threads, limit, NULL);
    Chunks c = {0};
    const GradHooks h = {count_calls, &c};
    assert_int_equal(stream_copy(g, &p.in, NULL), ST_OK);
    memcpy(g->data, p.c, (size_t)values(g) * sizeof *g->data);
    Status st = unit_backward(p.b.r, 0, NULL, &p.in, g, &h, &e);
    if (st != ST_OK)
        assert_int_equal(st, ST_NOMEM);
    *calls = c.calls;
    point_close(&p);
    return st == ST_OK;
}

static void neither_threads_nor_chunks_change_a_byte(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        char dir[64];
        Stream one, g;
        int calls, least, most = 0;
        random_model_write(&shapes[k], dir);
        assert_true(gradient_within(dir, 1, 0, &one, &least));
        uint64_t limit = 0;
        for (int tries = 0; tries < 12; tries++) {
            bool fits = gradient_within(dir, 1 + tries % 3, limit, &g, &calls);
            if (fits)
                assert_memory_equal(g.data, one.data, (size_t)values(&g) * sizeof *g.data);
            most = fits && calls > most ? calls : most;
            stream_fini(&g);
            limit = tries < 2 ? 0 : limit ? limit * 3 / 4 : 24 << 20;
        }
        assert_true(most > least);
        stream_fini(&one);
        random_model_remove(dir);
    }
}

/* A part of every weight that runs beside it changes nothing: the gradients are those of the model as it was. */
static void branches_have_gradients(void **state)
{
    (void)state;
    static const char *const some[] = {"qwen3", "mixtral", "deepseek_v2", "gemma2"};
    for (size_t k = 0; k < sizeof some / sizeof *some; k++) {
        char dir[128];
        Point p;
        Overlay *o;
        Runner *r;
        Stream want, got;
        Error e = {0};
        snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", some[k]);
        point_open(&p, dir);
        assert_int_equal(overlay_new(&o, p.b.m, &e), ST_OK);
        for (int64_t i = 0; i < p.b.m->nlinears; i++) {
            const Linear *l = &p.b.m->linears[i];
            LowRank *low;
            float *l1 = malloc((size_t)(2 * l->in) * sizeof *l1), *l2 = malloc((size_t)(2 * l->out) * sizeof *l2);
            assert_true(l1 && l2);
            fill(l1, 2 * l->in, 0.1f, (uint32_t)i + 1);
            fill(l2, 2 * l->out, 0.5f, (uint32_t)i + 2);
            assert_int_equal(lowrank_new(&low, l->out, l->in, 2, l1, l2, DT_F32, &e), ST_OK);
            assert_int_equal(overlay_low_rank(o, i, low, low, &e), ST_OK);
            lowrank_free(low);
        }
        const RunnerOptions opt = {.pool = runner_pool(p.b.r), .arith = ARITH_FP32, .overlay = o};
        assert_int_equal(runner_new(&r, p.b.m, &opt, &e), ST_OK);
        Runner *plain = p.b.r;
        gradient(&p, 0, -1, NULL, NULL, &want);
        p.b.r = r;
        gradient(&p, 0, -1, NULL, NULL, &got);
        p.b.r = plain;
        double worst = test_worst(want.data, got.data, values(&want));
        if (!(worst < 2e-4))
            fail_msg("%s: off by %g of the largest", some[k], worst);
        stream_fini(&want);
        stream_fini(&got);
        runner_free(r);
        overlay_free(o);
        point_close(&p);
    }
}

static void nan_stays_in_its_text(void **state)
{
    (void)state;
    static const char *const some[] = {"qwen3", "gemma2", "phi3"};
    for (size_t k = 0; k < sizeof some / sizeof *some; k++) {
        char dir[128];
        Point p;
        Stream plain, g;
        snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", some[k]);
        point_open(&p, dir);
        gradient(&p, 0, -1, NULL, NULL, &plain);
        int64_t w = p.in.width, row = p.in.start[1];
        p.in.data[row * w + 3] = NAN;
        p.c[(p.in.start[2] + 2) * w] = INFINITY;
        gradient(&p, 0, -1, NULL, NULL, &g);
        assert_memory_equal(g.data, plain.data, (size_t)(row * w) * sizeof *g.data);
        assert_true(isnan(g.data[row * w + 1]));
        assert_false(isfinite((double)g.data[p.in.start[2] * w]));
        stream_fini(&g);
        stream_fini(&plain);
        point_close(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_differences_in_every_family),
        cmocka_unit_test(gradients_are_differences_before_multi_token_prediction),
        cmocka_unit_test(pairs_are_gradients_of_weights),
        cmocka_unit_test(forms_are_taken_as_they_stand),
        cmocka_unit_test(changes_of_the_model_are_passed_back_through),
        cmocka_unit_test(neither_threads_nor_chunks_change_a_byte),
        cmocka_unit_test(branches_have_gradients),
        cmocka_unit_test(nan_stays_in_its_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
