#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/flexsearch.h"
#include "run/source.h"
#include "tests/lib/thread_ranks.h"
#include "tests/lib/folded.h"
#include "tests/lib/golden_layer.h"
#include "tests/lib/recorded_layer.h"

/* The searches of flex_smooth_quant and flex_awq_ssz against what the original found, and by their properties. */

/* ---- the recorded layer ---- */

enum { UP_DOWN, OV, NORM_QKV, NORM_GATE_UP, PARTS };
static const struct Part {
    int n, target[3];
} parts[PARTS] = {
    {1, {GL_DOWN}}, {1, {GL_O}}, {3, {GL_K, GL_Q, GL_V}}, {2, {GL_GATE, GL_UP}},
};

/* The targets' weights one below the other, as the original has them. */
typedef struct Joined {
    int64_t out, in;
    float *w;
} Joined;

static Joined join(const GoldenLayer *g, const struct Part *p)
{
    Joined j = {.in = g->in[p->target[0]]};
    for (int i = 0; i < p->n; i++)
        j.out += g->out[p->target[i]];
    j.w = malloc((size_t)(j.out * j.in) * sizeof *j.w);
    assert_non_null(j.w);
    float *to = j.w;
    for (int i = 0; i < p->n; i++) {
        int64_t n = g->out[p->target[i]] * j.in;
        memcpy(to, g->w[p->target[i]], (size_t)n * sizeof *to);
        to += n;
    }
    return j;
}

static Status joined_weight(void *ctx, int i, float *w, Error *err)
{
    (void)i, (void)err;
    const Joined *j = ctx;
    memcpy(w, j->w, (size_t)(j->out * j->in) * sizeof *w);
    return ST_OK;
}

static void fold(GoldenLayer *g, int part, const float *s, const float *source)
{
    if (part == UP_DOWN)
        golden_divide_rows(g, GL_UP, s);
    if (part == OV)
        golden_divide_rows(g, GL_V, source);
    if (part == NORM_QKV || part == NORM_GATE_UP)
        golden_divide_norm(g, part == NORM_QKV ? GL_NORM_IN : GL_NORM_POST, s);
    for (int i = 0; i < parts[part].n; i++)
        golden_multiply_columns(g, parts[part].target[i], s);
}

static void largest(const float *x, int64_t rows, int64_t in, bool mean, float *a)
{
    for (int64_t j = 0; j < in; j++) {
        double sum = 0, most = 0;
        for (int64_t r = 0; r < rows; r++) {
            sum += fabs((double)x[r * in + j]);
            most = fmax(most, fabs((double)x[r * in + j]));
        }
        a[j] = (float)(mean ? sum / (double)rows : most);
    }
}

typedef struct Case {
    const char *file;
    const QConfig *q;
    double alpha, beta; /* 0: they are searched for */
    bool mean;          /* groups of heads by the mean of their scales */
} Case;

/* One sub-graph: what the search finds, and the scales that are folded. */
static void smooth_part(GoldenLayer *g, const Case *c, Pool *pool, int part)
{
    Joined j = join(g, &parts[part]);
    const float *x = g->x[parts[part].target[0]];
    float a[GL_INTER], w[GL_INTER], s[GL_INTER], source[GL_INTER];
    largest(x, GL_TOKENS, j.in, false, a);
    largest(j.w, j.out, j.in, false, w);
    const FlexTarget target = {.x = x, .rows = GL_TOKENS, .out = j.out,
                               .bias = part < NORM_QKV ? g->b[parts[part].target[0]] : NULL};
    FlexTask t = {.targets = &target, .n = 1, .scale = {.a = a, .w = c->q ? NULL : w, .in = j.in, .T = DT_F32, .A = DT_F32},
                  .weight = joined_weight, .ctx = &j, .q = c->q, .peer = true, .pool = pool};
    FlexFound found = {.alpha = c->alpha, .beta = c->beta};
    if (c->alpha <= 0)
        assert_int_equal(flex_search(&t, &found, NULL), ST_OK);
    const NpyArray *want = npz_find(g->file, "alpha_beta");
    assert_non_null(want);
    const double *ab = want->data;
    if (c->alpha <= 0) {
        assert_true(found.any && fabs(found.alpha - ab[2 * part]) < 1e-12);
        assert_true(c->q || fabs(found.beta - ab[2 * part + 1]) < 1e-12);
    }
    if (c->q)
        largest(x, GL_TOKENS, j.in, true, a); /* not what it searched with */
    FlexScale scale = {.a = a, .w = t.scale.w, .in = j.in, .mean = c->mean, .T = DT_F32, .A = DT_F32};
    if (part == OV) {
        scale.heads = GL_HEADS;
        scale.kv_heads = g->kv_heads;
    }
    flex_scales(&scale, true, found.alpha, found.beta, s, source);
    const float *rec = npz_f32(g->file, NULL, part == UP_DOWN        ? "scale/0_UpDownSubgraph_scales"
                                              : part == OV           ? "scale/1_OVSubgraph_o_scales"
                                              : part == NORM_QKV     ? "scale/2_NormLinearSubgraph_scales"
                                                                     : "scale/3_NormLinearSubgraph_scales");
    for (int64_t k = 0; k < j.in; k++)
        assert_true(fabs((double)s[k] - (double)rec[k]) <= 1e-5 * (double)rec[k]);
    fold(g, part, s, source);
    free(j.w);
}

static void is_recorded(const Case *c)
{
    GoldenLayer g;
    Pool *pool;
    assert_int_equal(pool_new(&pool, 2, NULL), ST_OK);
    golden_layer_open(&g, c->file);
    for (int i = 0; i < PARTS; i++)
        smooth_part(&g, c, pool, i);
    golden_layer_is_after(&g, 1e-5);
    golden_layer_close(&g);
    pool_free(pool);
}

static void flex_smooth_is_the_recorded_one(void **state)
{
    (void)state;
    is_recorded(&(Case){.file = "flex_smooth_max"});
    is_recorded(&(Case){.file = "flex_smooth_mean", .mean = true});
    is_recorded(&(Case){.file = "flex_smooth_fixed", .alpha = 0.8, .beta = 0.3});
}

static const QConfig w4a8 = {
    .act = {.dtype = QT_INT8, .scope = QS_PER_TOKEN, .symmetric = true, .method = "minmax"},
    .weight = {.dtype = QT_INT4, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "ssz", .ext = {.steps = 10}},
};
static const QConfig w8a8 = {
    .act = {.dtype = QT_INT8, .scope = QS_PER_TENSOR, .method = "minmax"},
    .weight = {.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "minmax"},
};

static void flex_awq_is_the_recorded_one(void **state)
{
    (void)state;
    is_recorded(&(Case){.file = "flex_awq_ssz_w4a8dyn", .q = &w4a8});
    is_recorded(&(Case){.file = "flex_awq_ssz_w8a8stat", .q = &w8a8});
}

/* ---- properties ---- */

enum { ROWS = 200, IN = 70, OUT = 33 };

typedef struct World {
    float x[ROWS * IN], w[2][OUT * IN], bias[OUT], a[IN], max[IN];
    FlexTarget target[2];
    FlexTask task;
    int reads;
} World;

static Status world_weight(void *ctx, int i, float *w, Error *err)
{
    (void)err;
    World *v = ctx;
    v->reads++;
    memcpy(w, v->w[i], sizeof v->w[i]);
    return ST_OK;
}

static uint64_t seed;

static float noise(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(seed >> 11) / (double)(UINT64_C(1) << 53) - 0.5);
}

/* Inputs of which some channels are 40 times as large. */
static World *world(Pool *pool, bool peer)
{
    World *v = calloc(1, sizeof *v);
    assert_non_null(v);
    seed = 5;
    for (int i = 0; i < ROWS * IN; i++)
        v->x[i] = noise() * (i % IN % 11 == 3 ? 40.0f : 1.0f);
    for (int i = 0; i < 2 * OUT * IN; i++)
        v->w[i / (OUT * IN)][i % (OUT * IN)] = noise();
    for (int i = 0; i < OUT; i++)
        v->bias[i] = 3 * noise();
    largest(v->x, ROWS, IN, false, v->a);
    largest(v->w[0], 2 * OUT, IN, false, v->max);
    for (int i = 0; i < 2; i++)
        v->target[i] = (FlexTarget){.x = v->x, .rows = ROWS, .out = OUT};
    v->task = (FlexTask){.targets = v->target, .n = 2, .scale = {.a = v->a, .w = v->max, .in = IN, .T = DT_F32, .A = DT_F32},
                         .weight = world_weight, .ctx = v, .peer = peer, .pool = pool};
    return v;
}

static FlexFound found_by(World *v)
{
    FlexFound f;
    Error e = {0};
    assert_int_equal(flex_search(&v->task, &f, &e), ST_OK);
    return f;
}

/* The error by its definition, in float64. */
static double plain_error(const World *v, double alpha, double beta)
{
    double error = 0, square = 0;
    for (int k = 0; k < v->task.n; k++) {
        static double aq[ROWS * IN], wq[OUT * IN];
        for (int side = 0; side < 2; side++) {
            double *q = side ? wq : aq;
            const float *from = side ? v->w[k] : v->x;
            for (int r = 0; r < (side ? OUT : ROWS); r++) {
                double most = 0;
                for (int j = 0; j < IN; j++) {
                    double s = pow((double)v->a[j], alpha) / pow((double)v->max[j], beta);
                    q[r * IN + j] = (double)from[r * IN + j] * (side ? s : 1 / s);
                    most = fmax(most, fabs(q[r * IN + j]));
                }
                for (int j = 0; j < IN; j++)
                    q[r * IN + j] = rint(q[r * IN + j] / (most / 127)) * (most / 127);
            }
        }
        for (int r = 0; r < ROWS; r++)
            for (int o = 0; o < OUT; o++) {
                double y = 0, z = 0;
                for (int j = 0; j < IN; j++) {
                    y += (double)v->x[r * IN + j] * (double)v->w[k][o * IN + j];
                    z += aq[r * IN + j] * wq[o * IN + j];
                }
                error += (z - y) * (z - y);
                square += y * y;
            }
    }
    return sqrt(error / square);
}

static void errors_are_those_of_the_definition(void **state)
{
    (void)state;
    Pool *pool;
    assert_int_equal(pool_new(&pool, 2, NULL), ST_OK);
    World *v = world(pool, false);
    FlexFound f = found_by(v);
    assert_int_equal(v->reads, 4); /* each weight once a phase */
    assert_true(flex_search_bytes(NULL, ROWS, OUT, IN, false, 2) >= sizeof v->x + sizeof v->w + ROWS * OUT * sizeof(float));
    for (int i = 0; i < FLEX_GRID; i += 5) {
        double want = plain_error(v, flex_exponent(i), 1 - flex_exponent(i));
        assert_true(fabs((double)f.tried[0][i] - want) < 2e-3 * want);
        want = plain_error(v, f.alpha, flex_exponent(i));
        assert_true(fabs((double)f.tried[1][i] - want) < 2e-3 * want);
    }
    assert_true(f.alpha > 0.4 && (double)f.error < 0.5 * plain_error(v, 0, 0)); /* large channels are made smaller */
    for (int i = 0; i < FLEX_GRID; i++)
        assert_true(f.error <= f.tried[0][i] && f.error <= f.tried[1][i]);
    free(v);
    pool_free(pool);
}

static void threads_make_no_difference(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        FlexFound f[2];
        for (int threads = 1; threads <= 3; threads += 2) {
            Pool *pool;
            assert_int_equal(pool_new(&pool, threads, NULL), ST_OK);
            World *v = world(pool, false);
            v->task.q = kind == 0 ? NULL : kind == 1 ? &w4a8 : &w8a8;
            f[threads / 2] = found_by(v);
            free(v);
            pool_free(pool);
        }
        assert_memory_equal(&f[0].tried, &f[1].tried, kind ? sizeof f[0].tried[0] : sizeof f[0].tried);
        assert_true(f[0].alpha == f[1].alpha && f[0].beta == f[1].beta);
    }
}

/* One exponent that is given stays, and the other one is searched for. */
typedef struct Turns {
    World *world[THREAD_RANKS_MOST];
    FlexFound found[THREAD_RANKS_MOST];
} Turns;

static void take_turns(Dist *d, ThreadRank *p)
{
    Turns *t = p->ctx;
    FlexTask *task = &t->world[p->rank]->task;
    task->dist = d;
    p->status = pool_new(&task->pool, 1, &p->error);
    if (p->status == ST_OK)
        p->status = flex_search(task, &t->found[p->rank], &p->error);
    pool_free(task->pool);
}

static void ranks_find_what_one_does(void **state)
{
    (void)state;
    for (int k = 0; k < 3; k++) { /* ours, the peer's, one where nothing can be told of a target */
        ThreadRank p[THREAD_RANKS_MOST];
        Turns t;
        FlexFound want = {0};
        for (int n = 1; n <= 4; n += 3) {
            for (int r = 0; r < n; r++) {
                t.world[r] = world(NULL, k == 1);
                if (k == 2)
                    t.world[r]->w[1][5] = NAN;
            }
            thread_ranks_run(n, take_turns, &t, p);
            want = n == 1 ? t.found[0] : want;
            for (int r = 0; r < n; r++) {
                assert_int_equal(p[r].status, ST_OK);
                assert_memory_equal(want.tried, t.found[r].tried, sizeof want.tried);
                assert_true(want.any == t.found[r].any && want.alpha == t.found[r].alpha && want.beta == t.found[r].beta);
                free(t.world[r]);
            }
        }
        assert_true(want.any == (k < 2));
    }
}

static void one_given(void **state)
{
    (void)state;
    Pool *pool;
    assert_int_equal(pool_new(&pool, 1, NULL), ST_OK);
    World *v = world(pool, false);
    v->task.has_alpha = true;
    v->task.alpha = 0.35;
    FlexFound f = found_by(v);
    assert_true(f.any && f.alpha == 0.35 && f.tried[0][0] == 0.0f && v->reads == 2);
    assert_true(fabs((double)f.tried[1][10] - plain_error(v, 0.35, 0.5)) < 2e-3 * plain_error(v, 0.35, 0.5));
    v->task.has_alpha = false;
    v->task.has_beta = true;
    v->task.beta = 0.1;
    f = found_by(v);
    assert_true(f.any && f.beta == 0.1 && f.tried[1][0] == 0.0f);
    assert_true(fabs((double)f.tried[0][10] - plain_error(v, 0.5, 0.1)) < 2e-3 * plain_error(v, 0.5, 0.1));
    free(v);
    pool_free(pool);
}

/* What makes the original find nothing is nothing special here. */
static void dead_channels_and_rows(void **state)
{
    (void)state;
    Pool *pool;
    assert_int_equal(pool_new(&pool, 2, NULL), ST_OK);
    for (int kind = 0; kind < 4; kind++)
        for (int peer = 0; peer < 2; peer++) {
            World *v = world(pool, peer);
            v->task.n = 1;
            for (int r = 0; r < ROWS; r++)
                v->x[r * IN + 7] = kind == 0 ? 0.0f : v->x[r * IN + 7];
            for (int o = 0; o < OUT; o++)
                v->w[0][o * IN + 7] = kind == 1 ? 0.0f : v->w[0][o * IN + 7];
            for (int j = 0; j < IN; j++) {
                v->w[0][5 * IN + j] = kind == 2 ? 0.0f : v->w[0][5 * IN + j];
                v->x[9 * IN + j] = kind == 3 ? 0.0f : v->x[9 * IN + j];
            }
            largest(v->x, ROWS, IN, false, v->a);
            largest(v->w[0], OUT, IN, false, v->max);
            FlexFound f = found_by(v);
            if (!peer)
                assert_true(f.any && f.alpha > 0.4 && isfinite(f.error));
            else if (kind == 0)
                assert_true(f.alpha == 0.0); /* 0/0 above it */
            else if (kind == 1)
                assert_true(f.alpha == 1.0 && f.beta == 0.0); /* 0 to a negative power below it */
            else
                assert_true(!f.any && f.alpha == 0.0 && f.beta == 0.0);
            free(v);
        }
    pool_free(pool);
}

static void nothing_to_go_by(void **state)
{
    (void)state;
    Pool *pool;
    assert_int_equal(pool_new(&pool, 1, NULL), ST_OK);
    World *v = world(pool, false);
    v->target[0].rows = v->target[1].rows = 0; /* experts that no token chose */
    FlexFound f = found_by(v);
    assert_true(!f.any && f.alpha == 0.0 && v->reads == 0);
    v->target[1].rows = 1; /* one token */
    f = found_by(v);
    assert_true(f.any && isfinite(f.error) && v->reads == 2);
    for (int j = 0; j < IN; j++)
        v->x[j] = NAN;
    f = found_by(v);
    assert_true(!f.any && f.alpha == 0.0 && isnan(f.error));
    free(v);
    pool_free(pool);
}

/* A bias is on both sides: it changes no choice. In the original it is a constant error. */
static void biases(void **state)
{
    (void)state;
    Pool *pool;
    assert_int_equal(pool_new(&pool, 1, NULL), ST_OK);
    for (int peer = 0; peer < 2; peer++) {
        World *v = world(pool, peer);
        v->task.q = &w4a8;
        v->task.n = 1;
        v->task.scale.w = NULL;
        FlexFound plain = found_by(v);
        v->target[0].bias = v->bias;
        FlexFound with = found_by(v);
        if (peer)
            assert_true(with.error > 2 * plain.error);
        else
            assert_true(with.error <= plain.error * 1.001f && with.alpha == plain.alpha);
        free(v);
    }
    pool_free(pool);
}

/* Heads that share a value head share scales, also while they are searched for. */
static void heads_share(void **state)
{
    (void)state;
    const float a[8] = {1, 4, 9, 2, 16, 1, 3, 5}, w[8] = {1, 1, 4, 1, 1, 1, 1, 9};
    float s[8], v[4];
    FlexScale f = {.a = a, .w = w, .in = 8, .heads = 4, .kv_heads = 2, .T = DT_F32, .A = DT_F32};
    flex_scales(&f, false, 0.5, 0.5, s, v);
    /* heads 0 and 1 share dimensions 0, 1; 2 and 3 the others */
    assert_true(fabsf(v[0] - 1.5f) < 1e-6f && s[0] == v[0] && s[2] == v[0]); /* sqrt(9 / 4) */
    assert_true(fabsf(v[1] - 2.0f) < 1e-6f && s[1] == v[1] && s[3] == v[1]);
    assert_true(fabsf(v[2] - 4.0f) < 1e-6f && s[4] == v[2] && s[6] == v[2]);
    f.mean = true;
    flex_scales(&f, false, 0.5, 0.5, s, v);
    assert_true(fabsf(v[0] - 1.25f) < 1e-6f && s[2] == v[0]); /* (1 + 1.5) / 2 */
}

/* ---- the processors ---- */

#define W4A8                                                                     \
    "qconfig: {act: {dtype: int8, scope: per_token, symmetric: true, method: minmax}, " \
    "weight: {dtype: int4, scope: per_channel, symmetric: true, method: ssz}}"
#define SMOOTH "[{type: flex_smooth_quant}]"
#define AWQ "[{type: flex_awq_ssz, " W4A8 "}]"

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static int64_t linear_of(const Model *m, const char *name)
{
    int64_t i = model_find_linear(m, name);
    assert_true(i >= 0);
    return i;
}

/* The factor of each column of a linear. */
static void factors_of(const Folded *f, const TestRun *base, const char *name, float *s)
{
    const Linear *l = &base->m->linears[linear_of(base->m, name)];
    float *was = malloc((size_t)l->in * sizeof *was);
    Error err = {0};
    assert_non_null(was);
    ok(source_rows(runner_source(base->r), NULL, l, 0, 1, was, &err), &err);
    ok(source_rows(runner_source(f->r), NULL, l, 0, 1, s, &err), &err);
    for (int64_t i = 0; i < l->in; i++)
        s[i] /= was[i];
    free(was);
}

static void given_exponents_give_their_scales(void **state)
{
    (void)state;
    RecordedLayer l;
    GoldenLayer g;
    TestRun base;
    Folded f;
    Error err;
    float got[GL_INTER], a[GL_INTER], w[GL_INTER];
    recorded_layer_open(&l, "flex_smooth_max", "qwen2");
    golden_layer_open(&g, "flex_smooth_max");
    test_run_open(&base, l.dir, ARITH_FP32, 2, NULL);
    largest(g.x[GL_DOWN], GL_TOKENS, GL_INTER, false, a);
    largest(g.w[GL_DOWN], GL_HIDDEN, GL_INTER, false, w);
    ok(folded_run(&f, &base, "[{type: flex_smooth_quant, alpha: 0.6, beta: 0.2, enable_subgraph_type: [up-down]}]", false,
                 l.calib, &err), &err);
    factors_of(&f, &base, "model.layers.0.mlp.down_proj", got);
    for (int i = 0; i < GL_INTER; i++)
        assert_true(fabs((double)got[i] - pow((double)a[i], 0.6) / pow((double)w[i], 0.2)) < 1e-5 * (double)got[i]);
    folded_fini(&f);
    /* by the mean input, in the search as well, where the original takes the largest */
    largest(g.x[GL_DOWN], GL_TOKENS, GL_INTER, true, a);
    ok(folded_run(&f, &base, "[{type: flex_awq_ssz, alpha: 0.6, beta: 0.2, " W4A8 ", enable_subgraph_type: [up-down]}]",
                 false, l.calib, &err), &err);
    factors_of(&f, &base, "model.layers.0.mlp.down_proj", got);
    for (int i = 0; i < GL_INTER; i++)
        assert_true(fabs((double)got[i] - pow((double)a[i], 0.6)) < 1e-5 * (double)got[i]);
    folded_fini(&f);
    golden_layer_close(&g);
    test_run_close(&base);
    recorded_layer_close(&l);
}

/* The original's heads that share a value head: the largest of their columns, then the formula; with next to no exponent of the
 * inputs it is the weights' alone. */
static void shared_heads_take_the_largest_column(void **state)
{
    (void)state;
    enum { HEADS = 4, SHARE = 2, DIM = 16, WIDE = HEADS * DIM };
    const int lens[] = {12, 7};
    float got[WIDE], w[WIDE] = {0};
    TestRun base;
    Folded f;
    Error err;
    test_run_open(&base, "tests/golden/models/qwen3/fp32", ARITH_FP32, 1, NULL);
    const Linear *o = &base.m->linears[linear_of(base.m, "model.layers.0.self_attn.o_proj")];
    assert_true(o->in == WIDE && base.m->cfg.heads == HEADS && base.m->cfg.kv_heads * SHARE == HEADS);
    float *rows = malloc((size_t)(o->out * o->in) * sizeof *rows);
    assert_non_null(rows);
    ok(source_rows(runner_source(base.r), NULL, o, 0, o->out, rows, &err), &err);
    for (int64_t i = 0; i < o->out * WIDE; i++) {
        int64_t c = i % WIDE, shared = c / DIM / SHARE * SHARE * DIM + c % DIM; /* the first of those that share */
        w[shared] = fmaxf(w[shared], fabsf(rows[i]));
    }
    TokenSet *t = test_tokens(lens, 2, base.m->cfg.vocab, 1);
    ok(folded_run(&f, &base, "[{type: flex_smooth_quant, alpha: 0.0000001, beta: 0.5, enable_subgraph_type: [ov]}]", true, t, &err),
       &err);
    factors_of(&f, &base, "model.layers.0.self_attn.o_proj", got);
    for (int c = 0; c < WIDE; c++) {
        double want = 1 / sqrt((double)w[c / DIM / SHARE * SHARE * DIM + c % DIM]);
        if (!(fabs((double)got[c] - want) < 1e-4 * want))
            fail_msg("channel %d: %g, not %g", c, (double)got[c], want);
    }
    free(rows);
    folded_fini(&f);
    test_tokens_free(t);
    test_run_close(&base);
}

/* What the layer's function is stays; columns of all that read one norm have the same factor. */
static void readers_share_their_scales(void **state)
{
    (void)state;
    static const char *const process[] = {SMOOTH, AWQ};
    for (int k = 0; k < 2; k++) {
        RecordedLayer l;
        TestRun base;
        Folded f;
        Error err;
        float q[GL_HIDDEN], v[GL_HIDDEN];
        recorded_layer_open(&l, "flex_smooth_max", "qwen2");
        test_run_open(&base, l.dir, ARITH_FP32, 2, NULL);
        ok(folded_run(&f, &base, process[k], false, l.calib, &err), &err);
        recorded_layer_outputs(&l, f.r, 1e-5);
        factors_of(&f, &base, "model.layers.0.self_attn.q_proj", q);
        factors_of(&f, &base, "model.layers.0.self_attn.k_proj", v);
        for (int i = 0; i < GL_HIDDEN; i++)
            assert_true(fabsf(q[i] - v[i]) < 1e-5f * q[i]);
        assert_true(fabsf(q[0] / q[1] - 1) > 1e-3f);
        folded_fini(&f);
        test_run_close(&base);
        recorded_layer_close(&l);
    }
}

/* Channels that nothing folds: the inputs are divided at run time. */
static void run_time_scales_keep_the_function(void **state)
{
    (void)state;
    static const char *const process[] = {"[{type: flex_smooth_quant, enable_subgraph_type: [non-fusion]}]",
                                          "[{type: flex_awq_ssz, " W4A8 ", enable_subgraph_type: [non-fusion]}]"};
    for (int k = 0; k < 2; k++) {
        RecordedLayer l;
        TestRun base;
        Folded f;
        Error err;
        recorded_layer_open(&l, "flex_smooth_max", "qwen2");
        test_run_open(&base, l.dir, ARITH_FP32, 2, NULL);
        ok(folded_run(&f, &base, process[k], false, l.calib, &err), &err);
        for (int64_t i = 0; i < base.m->nlinears; i++)
            assert_non_null(overlay_inputs(pipeline_overlay(f.p), i));
        recorded_layer_outputs(&l, f.r, 1e-5);
        folded_fini(&f);
        test_run_close(&base);
        recorded_layer_close(&l);
    }
}

static void runs_are_equal(const char *model, const char *process)
{
    const int lens[] = {40, 7, 25};
    char digest[2][65];
    for (int threads = 1; threads <= 3; threads += 2) {
        TestRun base;
        Folded f;
        Error err;
        test_run_open(&base, model, ARITH_FP32, threads, NULL);
        TokenSet *t = test_tokens(lens, 3, base.m->cfg.vocab, 2);
        ok(folded_run(&f, &base, process, false, t, &err), &err);
        overlay_digest(pipeline_overlay(f.p), digest[threads / 2]);
        folded_fini(&f);
        test_tokens_free(t);
        test_run_close(&base);
    }
    assert_string_equal(digest[0], digest[1]);
}

static void runs_do_not_depend_on_threads(void **state)
{
    (void)state;
    runs_are_equal("tests/golden/models/llama/fp32", SMOOTH);
    runs_are_equal("tests/golden/models/qwen3_moe/fp32", SMOOTH);
    runs_are_equal("tests/golden/models/qwen3_moe/fp32", AWQ);
}

/* Experts that no token chose stay as they are; one token is enough for the others. */
static void unused_experts_stay(void **state)
{
    (void)state;
    folded_experts_of_one_token("[{type: flex_smooth_quant, enable_subgraph_type: [up-down]}]");
}

static void poison(const RecordedLayer *l, const char *tensor)
{
    *(float *)(uintptr_t)npz_f32(l->z, NULL, "before/%s", tensor) = NAN;
    recorded_layer_write(l, "qwen2");
}

static void says(const TestRun *base, const char *process, const TokenSet *t, const char *why)
{
    Folded f;
    Error err;
    assert_int_equal(folded_run(&f, base, process, false, t, &err), ST_DATA);
    if (!strstr(err.text, why))
        fail_msg("%s", err.text);
    folded_fini(&f);
}

static void bad_input_is_named(void **state)
{
    (void)state;
    static const char bad[] = "'model.layers.0.mlp.down_proj': its weight holds NaN at [0,0]";
    RecordedLayer l;
    TestRun base;
    recorded_layer_open(&l, "flex_smooth_max", "qwen2");
    poison(&l, "mlp.down_proj.weight");
    test_run_open(&base, l.dir, ARITH_FP32, 1, NULL);
    says(&base, SMOOTH, l.calib, bad);
    says(&base, AWQ, l.calib, bad);
    says(&base, "[{type: flex_smooth_quant, alpha: 0.5, beta: 0.5}]", l.calib, bad);
    says(&base, "[{type: flex_awq_ssz}]", l.calib, "qconfig");
    says(&base, "[{type: flex_smooth_quant, alpha: 1}]", l.calib, "alpha");
    says(&base, "[{type: flex_smooth_quant, enable_subgraph_type: [vo]}]", l.calib, "'vo'");
    test_run_close(&base);
    recorded_layer_close(&l);
}

/* An exponent that is given holds, which is said: the original drops it. */
static void one_exponent_is_told(void **state)
{
    (void)state;
    static const char text[] = "apiversion: modelslim_v1\nspec:\n  process: [{type: flex_smooth_quant, alpha: 0.7}]\n";
    Recipe *r;
    Error err = {0};
    ok(recipe_parse(&r, &recipe_rows, text, strlen(text), "a test", NULL, &err), &err);
    bool told = false;
    for (int i = 0; i < recipe_notes(r); i++)
        told = told || strstr(recipe_note(r, i)->text, "alpha alone");
    assert_true(told);
    recipe_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flex_smooth_is_the_recorded_one),
        cmocka_unit_test(flex_awq_is_the_recorded_one),
        cmocka_unit_test(errors_are_those_of_the_definition),
        cmocka_unit_test(threads_make_no_difference),
        cmocka_unit_test(ranks_find_what_one_does),
        cmocka_unit_test(one_given),
        cmocka_unit_test(dead_channels_and_rows),
        cmocka_unit_test(nothing_to_go_by),
        cmocka_unit_test(biases),
        cmocka_unit_test(heads_share),
        cmocka_unit_test(given_exponents_give_their_scales),
        cmocka_unit_test(shared_heads_take_the_largest_column),
        cmocka_unit_test(readers_share_their_scales),
        cmocka_unit_test(run_time_scales_keep_the_function),
        cmocka_unit_test(runs_do_not_depend_on_threads),
        cmocka_unit_test(unused_experts_stay),
        cmocka_unit_test(bad_input_is_named),
        cmocka_unit_test(one_exponent_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
