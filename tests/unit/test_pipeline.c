#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/forms.h"
#include "model/block.h"
#include "tests/lib/bench.h"
#include "tests/lib/configs.h"
#include "tests/lib/follow.h"
#include "tests/lib/npz.h"

static QConfig config_of(QType at, QScope as, bool sym, QType wt)
{
    QConfig c = config_default();
    c.act = (QSpec){.dtype = at, .scope = as, .symmetric = sym};
    strcpy(c.act.method, at == QT_FLOAT ? "none" : "minmax");
    c.weight.dtype = wt;
    return c;
}

/* Levels 1..5 of every test. */
enum { STATIC_ASYM = 1, STATIC_SYM, TOKEN8, TOKEN4, WEIGHT8, NLEVELS = 5 };

static void fill_levels(QConfig *q)
{
    q[STATIC_ASYM - 1] = config_default();
    q[STATIC_SYM - 1] = config_of(QT_INT8, QS_PER_TENSOR, true, QT_INT8);
    q[TOKEN8 - 1] = config_of(QT_INT8, QS_PER_TOKEN, true, QT_INT8);
    q[TOKEN4 - 1] = config_of(QT_INT8, QS_PER_TOKEN, true, QT_INT4);
    q[WEIGHT8 - 1] = config_of(QT_FLOAT, QS_PER_TENSOR, true, QT_INT8);
}

/* ---- the peer's recorded layer-wise flow (golden/quant/flow.npz): layers b(relu(a(x))) of 16 x 16 linears ---- */

typedef struct FlowLinear {
    float w[256], bias[16];
} FlowLinear;

static void flow_linear(const Npz *z, const LinearForm *f, const char *name, const float *x, const Stream *shape,
                        Pool *pool, float *y)
{
    FlowLinear l;
    float xq[18 * 16];
    memcpy(l.w, npz_f32(z, NULL, "W.%s.weight", name), sizeof l.w);
    memcpy(l.bias, npz_f32(z, NULL, "W.%s.bias", name), sizeof l.bias);
    memcpy(xq, x, sizeof xq);
    if (f) {
        if (f->prepare)
            assert_int_equal(f->prepare(f->self, x, shape, 16, pool, NULL), ST_OK);
        for (int s = 0; s < 3; s++)
            f->act(f->self, s, x + s * 96, 6, 16, 16, xq + s * 96);
        for (int row = 0; f->weight && row < 16; row += 4 + row * 2) /* in two panels */
            f->weight(f->self, row, row ? 12 : 4, 16, l.w + row * 16);
    }
    for (int r = 0; r < 18; r++)
        for (int o = 0; o < 16; o++) {
            double sum = (double)l.bias[o];
            for (int k = 0; k < 16; k++)
                sum += (double)xq[r * 16 + k] * (double)l.w[o * 16 + k];
            y[r * 16 + o] = (float)sum;
        }
}

static void check_flow_param(const Npz *z, const char *kase, const char *name, QParam p)
{
    float s = *npz_f32(z, NULL, "%s.%s.input_scale", kase, name);
    float o = *npz_f32(z, NULL, "%s.%s.input_offset", kase, name);
    if (fabsf(p.scale - s) > 1e-6f * s || p.offset != o)
        fail_msg("%s %s: scale %.9g offset %g, wanted %.9g %g", kase, name, (double)p.scale, (double)p.offset,
                 (double)s, (double)o);
}

static void check_flow_weight(const Npz *z, const char *kase, const char *name, LayerForms *f, int64_t i)
{
    QWeight q;
    assert_int_equal(layer_forms_take(f, i, &q, NULL), ST_OK);
    assert_memory_equal(q.code, npz_i8(z, NULL, "%s.%s.weight", kase, name), 256);
    assert_memory_equal(q.scale, npz_f32(z, NULL, "%s.%s.weight_scale", kase, name), 64);
    qweight_fini(&q);
}

typedef struct FlowFile {
    const Npz *z;
    const char *const *names;
} FlowFile;

static Status flow_weight(void *ctx, int64_t linear, float *w, Error *err)
{
    (void)err;
    const FlowFile *f = ctx;
    memcpy(w, npz_f32(f->z, NULL, "W.%s.weight", f->names[linear]), 256 * sizeof *w);
    return ST_OK;
}

typedef struct Flow {
    const Npz *z;
    Pool *pool;
    const char *kase, *method;
    bool two;    /* b belongs to a second processor, which runs through what the first deployed */
    int b_level; /* 0: as a data-free second processor, which runs no calibration forward */
} Flow;

static const char *const flow_names[] = {"layers.0.a", "layers.0.b", "layers.1.a", "layers.1.b"};

static void flow_layer(const Flow *t, LayerForms *f, int layer, const float *x, float *y)
{
    const FormTypes f32 = {DT_F32, DT_F32, DT_F32};
    int64_t start[4] = {0, 6, 12, 18};
    Stream shape = {.samples = 3, .rows = 18, .width = 16, .start = start};
    float a[18 * 16];
    for (int pass = 0; pass <= (int)t->two; pass++) {
        if (pass > 0)
            assert_int_equal(layer_forms_stage(f, 1, FORM_DEPLOYED, &f32, NULL), ST_OK);
        assert_int_equal(layer_forms_stage(f, t->two ? pass + 1 : 0, FORM_CALIBRATE, &f32, NULL), ST_OK);
        flow_linear(t->z, f->table[0], flow_names[2 * layer], x, &shape, t->pool, a);
        for (int i = 0; i < 18 * 16; i++)
            a[i] = a[i] > 0 ? a[i] : 0;
        flow_linear(t->z, f->table[1], flow_names[2 * layer + 1], a, &shape, t->pool, y);
    }
    for (int i = 0; i < 2; i++) {
        QParam p;
        DType T;
        assert_int_equal(layer_forms_param(f, i, &p, &T), i == 0 || t->b_level != 0);
        if (i == 1 && !t->b_level)
            continue;
        check_flow_weight(t->z, t->kase, flow_names[2 * layer + i], f, i);
        check_flow_param(t->z, t->kase, flow_names[2 * layer + i], p);
    }
}

static void run_flow(const Flow *t)
{
    Linear linears[4];
    int16_t b_level = (int16_t)t->b_level, level[4] = {1, b_level, 1, b_level};
    QConfig q[2] = {config_default(), config_default()};
    for (int i = 0; i < 2; i++)
        snprintf(q[i].weight.method, sizeof q[i].weight.method, "%s", t->method);
    for (int i = 0; i < 4; i++)
        linears[i] = (Linear){.name = flow_names[i], .out = 16, .in = 16, .layer = i / 2, .group = i, .input = i};
    Model m = {.linears = linears, .nlinears = 4, .cfg = {.layers = 2}};
    const QuantLevel levels[2] = {quant_level(&q[0]), quant_level(&q[1])};
    FormsOptions o = {.levels = levels, .level = level, .peer = true, .weight = DT_F32, .pool = t->pool,
                      .read = flow_weight, .ctx = &(FlowFile){t->z, flow_names}};
    float x[18 * 16], y[18 * 16];
    for (int s = 0; s < 3; s++)
        memcpy(x + s * 96, npz_f32(t->z, NULL, "x%d", s), 96 * sizeof *x);
    for (int layer = 0; layer < 2; layer++) {
        LayerForms f;
        assert_int_equal(layer_forms_init(&f, &m, &o, 2 * layer, 2, NULL), ST_OK);
        flow_layer(t, &f, layer, x, y);
        layer_forms_fini(&f);
        memcpy(x, y, sizeof x);
        for (int s = 0; s < 3 && layer == 0; s++) {
            const float *want = npz_f32(t->z, NULL, "%s.layer1_in%d", t->kase, s);
            for (int i = 0; i < 96; i++)
                if (fabsf(y[s * 96 + i] - want[i]) > 1e-6f)
                    fail_msg("%s: layer 1 gets %.9g in sample %d, wanted %.9g", t->kase, (double)y[s * 96 + i], s,
                             (double)want[i]);
        }
    }
}

static void flow_equals_the_recorded_one(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/flow.npz");
    Pool *pool;
    assert_int_equal(pool_new(&pool, 2, NULL), ST_OK);
    const Flow cases[] = {
        {z, pool, "static", "minmax", false, 1}, {z, pool, "group", "minmax", false, 1},
        {z, pool, "static_dyn", "minmax", false, 0}, {z, pool, "two", "minmax", true, 2},
        {z, pool, "gptq", "gptq", false, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run_flow(&cases[i]);
    pool_free(pool);
    npz_free(z);
}

/* ---- an independent Llama layer in float64, every linear quantized by hand-written loops ---- */

typedef struct RefQuant {
    int level;
    float scale, offset;
    bool fixed;
} RefQuant;

static float fake(float x, float s, float o, float lo, float hi)
{
    float q = rintf(x / s + o);
    q = q < lo ? lo : q > hi ? hi : q;
    return (q - o) * s;
}

static float most(float a, float b)
{
    return a > b ? a : b;
}

static void range_of(const float *x, int64_t n, float *mn, float *mx)
{
    for (int64_t i = 0; i < n; i++) {
        *mn = x[i] < *mn ? x[i] : *mn;
        *mx = x[i] > *mx ? x[i] : *mx;
    }
}

static void ref_static(RefQuant *q, float mn, float mx)
{
    if (q->level == STATIC_SYM) {
        q->scale = most(most(-mn, mx) / 127, 1.1920929e-07f);
        q->offset = 0;
    } else {
        q->scale = most(mx / 255 - mn / 255, 1.1920929e-07f);
        q->offset = rintf(-mn / q->scale) - 128;
    }
}

/* x[rows][in] in place. peer: specs/quantization.md 5. */
static void ref_act(RefQuant *q, float *x, const Stream *shape, int64_t in, bool peer)
{
    float mn = 0, mx = 0;
    if (q->level == 0 || q->level == WEIGHT8)
        return;
    if (q->level == TOKEN8 || q->level == TOKEN4) {
        for (int s = 0; s < shape->samples; s++) {
            float smn = 0, smx = 0;
            range_of(x + shape->start[s] * in, (shape->start[s + 1] - shape->start[s]) * in, &smn, &smx);
            for (int64_t r = shape->start[s]; r < shape->start[s + 1]; r++) {
                float a = 0, b = 0;
                range_of(x + r * in, in, &a, &b);
                float scale = most(most(peer ? -smn : -a, peer ? smx : b) / 127, 1.1920929e-07f);
                for (int64_t k = 0; k < in; k++)
                    x[r * in + k] = fake(x[r * in + k], scale, 0, -128, 127);
            }
        }
        return;
    }
    if (!q->fixed && !peer) {
        range_of(x, shape->rows * in, &mn, &mx);
        ref_static(q, mn, mx);
    }
    for (int s = 0; s < shape->samples; s++) {
        int64_t a = shape->start[s] * in, b = shape->start[s + 1] * in;
        if (!q->fixed && peer) {
            range_of(x + a, b - a, &mn, &mx);
            ref_static(q, mn, mx);
        }
        for (int64_t i = a; i < b; i++)
            x[i] = fake(x[i], q->scale, q->offset, -128, 127);
    }
    q->fixed = true;
}

/* y[rows][out] of a linear of the model. */
static void ref_linear(const Model *m, int64_t index, RefQuant *q, const double *x, const Stream *shape, bool peer,
                       double *y)
{
    const Linear *l = &m->linears[index];
    float *w = test_tensor(m->ckpt, l->weight), *xf = malloc((size_t)(shape->rows * l->in) * sizeof *xf);
    assert_non_null(xf);
    for (int64_t i = 0; i < shape->rows * l->in; i++)
        xf[i] = (float)x[i];
    ref_act(q, xf, shape, l->in, peer);
    for (int64_t o = 0; o < l->out && q->level; o++) {
        float mn = 0, mx = 0, top = q->level == TOKEN4 ? 7 : 127;
        range_of(w + o * l->in, l->in, &mn, &mx);
        float s = most(most(-mn, mx) / top, 1.1920929e-07f);
        for (int64_t k = 0; k < l->in; k++)
            w[o * l->in + k] = fake(w[o * l->in + k], s, 0, -top - 1, top);
    }
    for (int64_t r = 0; r < shape->rows; r++)
        for (int64_t o = 0; o < l->out; o++) {
            double sum = 0;
            for (int64_t k = 0; k < l->in; k++)
                sum += (double)xf[r * l->in + k] * (double)w[o * l->in + k];
            y[r * l->out + o] = sum;
        }
    free(w);
    free(xf);
}

static void ref_norm(const Model *m, const TensorInfo *t, const double *x, int64_t rows, double *y)
{
    int64_t n = m->cfg.hidden;
    float *w = test_tensor(m->ckpt, t);
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t k = 0; k < n; k++)
            sum += x[r * n + k] * x[r * n + k];
        for (int64_t k = 0; k < n; k++)
            y[r * n + k] = x[r * n + k] / sqrt(sum / (double)n + m->cfg.eps) * (double)w[k];
    }
    free(w);
}

static void ref_rope(double *x, const Stream *shape, int heads, int d, double theta)
{
    for (int s = 0; s < shape->samples; s++)
        for (int64_t r = shape->start[s]; r < shape->start[s + 1]; r++)
            for (int h = 0; h < heads; h++)
                for (int k = 0; k < d / 2; k++) {
                    double *p = x + (r * heads + h) * d + k, a = p[0], b = p[d / 2];
                    double angle = (double)(r - shape->start[s]) * pow(theta, -2.0 * k / d);
                    p[0] = a * cos(angle) - b * sin(angle);
                    p[d / 2] = b * cos(angle) + a * sin(angle);
                }
}

static void ref_attention(const double *q, const double *k, const double *v, const Stream *shape, int heads, int d,
                          double *o)
{
    double p[256];
    for (int s = 0; s < shape->samples; s++)
        for (int64_t r = shape->start[s]; r < shape->start[s + 1]; r++)
            for (int h = 0; h < heads; h++) {
                double top = -INFINITY, sum = 0;
                int64_t n = r - shape->start[s] + 1;
                assert_true(n <= 256);
                for (int64_t j = 0; j < n; j++) {
                    p[j] = 0;
                    for (int e = 0; e < d; e++)
                        p[j] += q[(r * heads + h) * d + e] * k[((shape->start[s] + j) * heads + h) * d + e] / sqrt(d);
                    top = p[j] > top ? p[j] : top;
                }
                for (int64_t j = 0; j < n; j++)
                    sum += p[j] = exp(p[j] - top);
                for (int e = 0; e < d; e++) {
                    double y = 0;
                    for (int64_t j = 0; j < n; j++)
                        y += p[j] / sum * v[((shape->start[s] + j) * heads + h) * d + e];
                    o[(r * heads + h) * d + e] = y;
                }
            }
}

static void ref_layer(const Model *m, int layer, RefQuant *q, const Stream *shape, bool peer, double *h)
{
    const Unit *t = &m->units[layer];
    int64_t rows = shape->rows, H = m->cfg.hidden, I = m->cfg.inter;
    double *x = malloc((size_t)(rows * I) * sizeof *x), *b[4];
    assert_non_null(x);
    for (int i = 0; i < 4; i++)
        assert_non_null(b[i] = malloc((size_t)(rows * I) * sizeof **b));
    ref_norm(m, unit_small(t, "norm"), h, rows, x);
    ref_linear(m, unit_linear(t, "q"), &q[unit_linear(t, "q")], x, shape, peer, b[0]);
    ref_linear(m, unit_linear(t, "k"), &q[unit_linear(t, "k")], x, shape, peer, b[1]);
    ref_linear(m, unit_linear(t, "v"), &q[unit_linear(t, "v")], x, shape, peer, b[2]);
    ref_rope(b[0], shape, m->cfg.heads, m->cfg.head_dim, m->cfg.rope.theta);
    ref_rope(b[1], shape, m->cfg.heads, m->cfg.head_dim, m->cfg.rope.theta);
    ref_attention(b[0], b[1], b[2], shape, m->cfg.heads, m->cfg.head_dim, b[3]);
    ref_linear(m, unit_linear(t, "o"), &q[unit_linear(t, "o")], b[3], shape, peer, b[0]);
    for (int64_t i = 0; i < rows * H; i++)
        h[i] += b[0][i];
    ref_norm(m, t->block[1].join->small[RESIDUAL_BEFORE], h, rows, x);
    ref_linear(m, unit_linear(t, "gate"), &q[unit_linear(t, "gate")], x, shape, peer, b[0]);
    ref_linear(m, unit_linear(t, "up"), &q[unit_linear(t, "up")], x, shape, peer, b[1]);
    for (int64_t i = 0; i < rows * I; i++)
        b[2][i] = b[0][i] / (1 + exp(-b[0][i])) * b[1][i];
    ref_linear(m, unit_linear(t, "down"), &q[unit_linear(t, "down")], b[2], shape, peer, b[3]);
    for (int64_t i = 0; i < rows * H; i++)
        h[i] += b[3][i];
    for (int i = 0; i < 4; i++)
        free(b[i]);
    free(x);
}

static double *widened(const Stream *s)
{
    double *h = malloc((size_t)(s->rows * s->width) * sizeof *h);
    assert_non_null(h);
    for (int64_t i = 0; i < s->rows * s->width; i++)
        h[i] = (double)s->data[i];
    return h;
}

/* |got - want| over |want - plain|: how much of the quantization's effect is not as the reference has it. */
static double miss(const Stream *got, const double *want, const double *plain)
{
    double a = 0, b = 0;
    for (int64_t i = 0; i < got->rows * got->width; i++) {
        double d = (double)got->data[i] - want[i], e = want[i] - plain[i];
        a += d * d;
        b += e * e;
    }
    assert_true(b > 0);
    return sqrt(a / b);
}

static void check_params(const QParam *found, const Model *m, const RefQuant *q)
{
    for (int64_t i = 0; i < m->nlinears; i++) {
        float s = found[i].scale, o = found[i].offset;
        bool is_static = q[i].level == STATIC_ASYM || q[i].level == STATIC_SYM;
        assert_int_equal(s != 0, is_static);
        if (is_static && (fabsf(s - q[i].scale) > 1e-4f * s || fabsf(o - q[i].offset) > 1))
            fail_msg("'%s': scale %g offset %g, wanted %g %g", m->linears[i].name, (double)s, (double)o,
                     (double)q[i].scale, (double)q[i].offset);
    }
}

static void check_model(const int16_t *level, bool peer, int threads)
{
    static const int calib_len[] = {9, 1, 17, 5}, eval_len[] = {12, 7};
    TestRun b;
    test_run_open(&b, "tests/golden/models/llama/fp32", ARITH_FP32, threads, NULL);
    const Model *m = b.m;
    TokenSet *t[2] = {test_tokens(calib_len, 4, m->cfg.vocab, 1), test_tokens(eval_len, 2, m->cfg.vocab, 2)};
    QConfig q[NLEVELS];
    fill_levels(q);
    const Work w = {.levels = q, .nlevels = NLEVELS, .level = level, .peer = peer};
    Follow f = {.calib = t[0], .eval = t[1], .spoiled = -1};
    RefQuant *rq = calloc((size_t)m->nlinears, sizeof *rq), *none = calloc((size_t)m->nlinears, sizeof *none);
    double *want[2], *plain[2];
    for (int i = 0; i < 2; i++) {
        Stream s;
        assert_int_equal(runner_embed(b.r, t[i], &s, NULL), ST_OK);
        want[i] = widened(&s);
        plain[i] = widened(&s);
        stream_fini(&s);
    }
    for (int64_t i = 0; i < m->nlinears; i++)
        rq[i].level = level[i];
    assert_int_equal(follow_run(&f, b.r, &w, NULL), ST_OK);
    const Stream *s = f.s;
    for (int layer = 0; layer < m->cfg.layers; layer++)
        for (int i = 0; i < 2; i++) { /* calibration first: it fixes the ranges */
            ref_layer(m, layer, rq, &s[i], peer, want[i]);
            ref_layer(m, layer, none, &s[i], peer, plain[i]);
        }
    double a = miss(&s[0], want[0], plain[0]), c = miss(&s[1], want[1], plain[1]);
    print_message("peer %d level %d: off by %.2g (calibration), %.2g (evaluation) of the effect\n", peer, level[0],
                  a, c);
    assert_true(a < 1e-3 && c < 1e-3);
    check_params(f.param, m, rq);
    for (int i = 0; i < 2; i++) {
        test_tokens_free(t[i]);
        free(want[i]);
        free(plain[i]);
    }
    free(rq);
    free(none);
    follow_fini(&f);
    test_run_close(&b);
}

static void every_level_equals_the_reference(void **state)
{
    (void)state;
    int16_t level[21];
    for (int peer = 0; peer < 2; peer++)
        for (int l = 1; l <= NLEVELS; l++) {
            for (int i = 0; i < 21; i++)
                level[i] = (int16_t)l;
            check_model(level, peer, 1 + peer);
        }
}

static void mixed_levels_and_single_linears(void **state)
{
    (void)state;
    int16_t level[21];
    for (int i = 0; i < 21; i++)
        level[i] = (int16_t)(i * 5 % (NLEVELS + 1)); /* q, k and v at different levels too */
    check_model(level, false, 2);
    memset(level, 0, sizeof level);
    level[6] = STATIC_ASYM; /* one down_proj */
    check_model(level, false, 2);
    memset(level, 0, sizeof level);
    level[8] = STATIC_SYM; /* k alone, its leader float */
    level[16] = TOKEN4;
    check_model(level, true, 1);
}

/* ---- contract ---- */

static void what_cannot_run_is_refused_by_name(void **state)
{
    (void)state;
    TestRun b;
    Error e = {0};
    test_run_open(&b, "tests/golden/models/llama/fp32", ARITH_FP32, 1, NULL);
    QConfig q[2] = {config_default(), config_default()};
    int16_t level[21] = {0};
    const Work w = {.levels = q, .nlevels = 2, .level = level};
    Pipeline *p;
    strcpy(q[1].weight.method, "lookup");
    assert_int_equal(pipeline_new(&p, b.m, &w, &e), ST_OK); /* not used: no matter */
    pipeline_free(p);
    level[4] = 2;
    assert_int_equal(pipeline_new(&p, b.m, &w, &e), ST_USAGE);
    assert_null(p);
    assert_non_null(strstr(e.text, b.m->linears[4].name));
    assert_non_null(strstr(e.text, "lookup"));
    q[1] = config_of(QT_INT8, QS_PER_TOKEN, false, QT_INT8);
    assert_int_equal(pipeline_new(&p, b.m, &w, &e), ST_USAGE);
    q[1] = config_of(QT_MXFP8, QS_PER_BLOCK, true, QT_INT8); /* no saver writes the pair */
    assert_int_equal(pipeline_new(&p, b.m, &w, &e), ST_USAGE);
    q[1] = config_of(QT_FLOAT, QS_PER_TENSOR, true, QT_INT8);
    q[1].weight.symmetric = false; /* a scheme that can be written, but not by minmax */
    assert_int_equal(pipeline_new(&p, b.m, &w, &e), ST_USAGE);
    level[4] = 3;
    assert_int_equal(pipeline_new(&p, b.m, &w, &e), ST_INTERNAL);
    pipeline_free(NULL);
    test_run_close(&b);
}

static void nan_in_a_calibrated_input_names_the_linear(void **state)
{
    (void)state;
    TestRun b;
    Error e = {0};
    static const int len[] = {3, 4};
    test_run_open(&b, "tests/golden/models/llama/fp32", ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(len, 2, b.m->cfg.vocab, 3);
    QConfig q = config_default();
    int16_t level[21] = {[3] = 1}; /* o_proj */
    const Work w = {.levels = &q, .nlevels = 1, .level = level};
    Follow f = {.calib = t, .spoiled = 5 * b.m->cfg.stream_width + 2};
    assert_int_equal(follow_run(&f, b.r, &w, &e), ST_DATA);
    assert_non_null(strstr(e.text, "layers.0.self_attn.o_proj"));
    assert_non_null(strstr(e.text, "sample 1"));
    follow_fini(&f);
    test_tokens_free(t);
    test_run_close(&b);
}

static void run_model_mode(int threads, Stream s[2])
{
    static const int calib_len[] = {30, 200, 3}, eval_len[] = {40, 140};
    TestRun b;
    test_run_open(&b, "tests/golden/models/qwen3/bf16", ARITH_EXACT, threads, NULL);
    QConfig q = config_default();
    int16_t level[21];
    for (int i = 0; i < 21; i++)
        level[i] = i != 9;
    const Work w = {.levels = &q, .nlevels = 1, .level = level};
    Follow f = {.calib = test_tokens(calib_len, 3, b.m->cfg.vocab, 4),
                .eval = test_tokens(eval_len, 2, b.m->cfg.vocab, 5), .spoiled = -1};
    assert_int_equal(follow_run(&f, b.r, &w, NULL), ST_OK);
    for (int i = 0; i < 21; i++) {
        uint32_t bits = 0;
        memcpy(&bits, &f.param[i].scale, sizeof bits);
        assert_int_equal(bits & 0xFFFF, 0); /* parameters are bf16 values */
        assert_int_equal(bits != 0, i != 9);
    }
    s[0] = f.s[0];
    s[1] = f.s[1];
    free(f.param);
    test_tokens_free((TokenSet *)f.calib);
    test_tokens_free((TokenSet *)f.eval);
    test_run_close(&b);
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    Stream a[2], b[2];
    run_model_mode(1, a);
    run_model_mode(3, b);
    for (int i = 0; i < 2; i++) {
        assert_memory_equal(a[i].data, b[i].data, (size_t)(a[i].rows * a[i].width) * sizeof(float));
        for (int64_t k = 0; k < a[i].rows * a[i].width; k++) {
            uint32_t bits;
            memcpy(&bits, a[i].data + k, sizeof bits);
            assert_int_equal(bits & 0xFFFF, 0);
        }
        stream_fini(&a[i]);
        stream_fini(&b[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flow_equals_the_recorded_one),
        cmocka_unit_test(every_level_equals_the_reference),
        cmocka_unit_test(mixed_levels_and_single_linears),
        cmocka_unit_test(what_cannot_run_is_refused_by_name),
        cmocka_unit_test(nan_in_a_calibrated_input_names_the_linear),
        cmocka_unit_test(threads_do_not_change_a_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
