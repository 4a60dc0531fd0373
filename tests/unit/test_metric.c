/* The metrics end to end: against the peer's recorded runs, and against definitions written out in float64. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "io/json.h"
#include "math/convert.h"
#include "metric/metric.h"
#include "quant/quantizer.h"
#include "qir/mx.h"
#include "text/calib.h"

#include "tests/lib/bench.h"

static const char *const calib_path = "tests/golden/analysis/_models/calib5.jsonl";

/* ---- one analysis ---- */

typedef struct Run {
    Model *m;
    Pool *pool;
    Runner *r;
    TokenSet *t;
    LinearResult *res; /* [nlinears], linear -1 where nothing came */
    int calls;
    Stream kept;       /* output of layer `keep` */
    int keep;
    const QConfig *levels; /* [nlevels] whose weights are also scored */
    int nlevels;
    bool peer;
} Run;

static void run_open(Run *u, const char *dir, ArithMode arith, int threads, int max_samples, int64_t seq_len)
{
    Error e = {0};
    CalibFile *c = NULL;
    Tokenizer *tok = NULL;
    *u = (Run){.keep = -1};
    if (model_open(&u->m, dir, NULL, &e) != ST_OK || pool_new(&u->pool, threads, &e) != ST_OK ||
        calib_open(&c, calib_path, true, NULL, &e) != ST_OK || tokenizer_open(&tok, dir, &e) != ST_OK ||
        tokens_make(&u->t, c, tok, max_samples, seq_len, u->m->cfg.vocab, NULL, &e) != ST_OK)
        fail_msg("%s: %s", dir, e.text);
    tokenizer_free(tok);
    calib_free(c);
    RunnerOptions o = {.pool = u->pool, .arith = arith};
    assert_int_equal(runner_new(&u->r, u->m, &o, &e), ST_OK);
    u->res = calloc((size_t)u->m->nlinears, sizeof *u->res);
    for (int64_t i = 0; i < u->m->nlinears; i++)
        u->res[i].linear = -1;
}

static void run_close(Run *u)
{
    for (int64_t i = 0; i < u->m->nlinears; i++)
        linear_result_fini(&u->res[i]);
    free(u->res);
    stream_fini(&u->kept);
    tokens_free(u->t);
    runner_free(u->r);
    pool_free(u->pool);
    model_free(u->m);
}

static Status on_layer(void *ctx, const PassStep *step, Error *err)
{
    Run *u = ctx;
    LinearResult *r = step->linear;
    int layer = (int)step->done - 1, n = step->nlinear;
    assert_int_equal(step->total, model_depth(u->m));
    int64_t last = -1;
    for (int i = 0; i < n; i++) {
        assert_true(r[i].linear > last);
        assert_int_equal(u->m->linears[r[i].linear].layer, layer);
        last = r[i].linear;
        u->res[last] = r[i];
    }
    u->calls++;
    return layer == u->keep ? stream_copy(&u->kept, step->h, err) : ST_OK;
}

static void run_from(Run *u, unsigned needs, const bool *selected, int first, Stream *h)
{
    Error e = {0};
    PassPlan p = {.m = u->m, .pass = &pass_statistics, .needs = needs, .selected = selected, .levels = u->levels,
                  .nlevels = u->nlevels, .tokens = u->t, .peer = u->peer, .first = first, .h = h};
    if (pass_statistics.run(u->r, &p, &(PassSink){on_layer, u}, &e) != ST_OK)
        fail_msg("%s", e.text);
}

static void run_all(Run *u, unsigned needs, const bool *selected)
{
    run_from(u, needs, selected, 0, NULL);
}

static double score_of(const Run *u, const Metric *m, int64_t linear, const QConfig *q)
{
    char why[160] = "";
    double v = test_score(m, &u->res[linear], q, why, sizeof why);
    if (isnan(v))
        fail_msg("%s of %s: %s", m->name, u->m->linears[linear].name, why);
    return v;
}

/* ---- the peer's recorded runs ---- */

static void compare_recorded(const Run *u, const char *run, const char *metric, double tol)
{
    char path[200];
    Error e = {0};
    cJSON *doc;
    snprintf(path, sizeof path, "tests/golden/analysis/%s.%s.json", run, metric);
    if (json_parse_file(path, 1 << 20, &doc, &e) != ST_OK)
        fail_msg("%s", e.text);
    const cJSON *list = json_get(doc, "layer_scores");
    int n = cJSON_GetArraySize(list);
    assert_int_equal(n, u->m->nlinears);
    double *want = malloc((size_t)n * sizeof *want), *got = malloc((size_t)n * sizeof *got), worst = 0;
    const char *where = "";
    for (int i = 0; i < n; i++) {
        const cJSON *row = cJSON_GetArrayItem(list, i);
        int64_t k = model_find_linear(u->m, json_get(row, "name")->valuestring);
        assert_true(k >= 0);
        want[i] = json_get(row, "score")->valuedouble;
        got[i] = score_of(u, metric_find(metric), k, NULL);
        double d = fabs(got[i] - want[i]) / fabs(want[i]);
        if (d > worst) {
            worst = d;
            where = u->m->linears[k].name;
        }
    }
    printf("# %-10s %-8s worst relative difference %.2e at %s\n", run, metric, worst, where);
    assert_true(worst <= tol);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            if (want[i] - want[j] > tol * fmax(fabs(want[i]), fabs(want[j])))
                assert_true(got[i] > got[j]);
            if (want[i] == want[j] && u->m->linears[i].input == u->m->linears[j].input)
                assert_true(got[i] == got[j]); /* one group of topk */
        }
    free(want);
    free(got);
    cJSON_Delete(doc);
}

typedef struct Recorded {
    const char *run, *dir;
    ArithMode arith;
    double std, kurtosis, quantile; /* tolerances; 0: not recorded */
} Recorded;

static void recorded_case(const Recorded *c)
{
    Run u;
    run_open(&u, c->dir, c->arith, 2, 0, 0);
    u.peer = true;
    run_all(&u, NEED_ORDER | NEED_STD, NULL);
    compare_recorded(&u, c->run, "std", c->std);
    compare_recorded(&u, c->run, "kurtosis", c->kurtosis);
    if (c->quantile > 0)
        compare_recorded(&u, c->run, "quantile", c->quantile);
    run_close(&u);
}

#define MODELS "tests/golden/analysis/_models/"

static void recorded_fp32(void **state)
{
    (void)state;
    static const Recorded c[] = {
        {"llama-fp32", MODELS "llama-fp32", ARITH_FP32, 5e-5, 5e-5, 5e-5},
        {"qwen3-fp32", MODELS "qwen3-fp32", ARITH_FP32, 5e-5, 5e-5, 5e-5},
        {"demo-fp32", "lab_models/demo", ARITH_FP32, 5e-5, 5e-5, 5e-5},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++)
        recorded_case(&c[i]);
}

/* With the peer's fused attention and its approximate exp the first layer is exact. From there on a sum that the peer adds in
 * another order rounds another way now and then; one ulp of an extreme value moves a score by up to 1e-2. */
static void recorded_model_mode(void **state)
{
    (void)state;
    static const Recorded c[] = {
        {"llama-bf16", MODELS "llama-bf16", ARITH_EXACT, 2e-3, 1.2e-2, 0},
        {"qwen3-bf16", MODELS "qwen3-bf16", ARITH_EXACT, 6e-3, 8e-3, 6e-3},
        {"qwen3-fp16", MODELS "qwen3-fp16", ARITH_EXACT, 2e-3, 2e-3, 0},
        {"demo-bf16", "lab_models/demo", ARITH_EXACT, 1.01e-2, 2e-2, 1e-2},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++)
        recorded_case(&c[i]);
}

/* ---- results depend on nothing but the inputs ---- */

enum { ALL = NEED_ORDER | NEED_STD | NEED_CHANNEL | NEED_WEIGHT | NEED_OUTPUT | NEED_HIST };

static void same_result(const LinearResult *a, const LinearResult *b)
{
    assert_int_equal(a->linear, b->linear);
    const double x[] = {a->in.min, a->in.max, a->in.mean, a->in.std, a->in.kurtosis, a->in.quantile, a->in.std_score,
                        a->in.token_max_sq, a->in.mean_sq, a->weight.min, a->weight.max, a->weight.mean, a->weight.std};
    const double y[] = {b->in.min, b->in.max, b->in.mean, b->in.std, b->in.kurtosis, b->in.quantile, b->in.std_score,
                        b->in.token_max_sq, b->in.mean_sq, b->weight.min, b->weight.max, b->weight.mean, b->weight.std};
    assert_memory_equal(x, y, sizeof x);
    assert_memory_equal(&a->err.weight_err, &b->err.weight_err, sizeof a->err.weight_err);
    assert_memory_equal(&a->err.act_err, &b->err.act_err, sizeof a->err.act_err);
    assert_true(a->err.output_sq == b->err.output_sq && a->err.have == b->err.have);
    assert_int_equal(a->in.hist.total, b->in.hist.total);
    assert_int_equal(a->weight.hist.n, b->weight.hist.n);
    assert_memory_equal(a->in.channel_max, b->in.channel_max, (size_t)a->in.width * sizeof(float));
}

static void threads_resume_and_selection_change_nothing(void **state)
{
    (void)state;
    const char *dir = "tests/golden/analysis/_models/llama-fp32";
    Run a, b, c;
    run_open(&a, dir, ARITH_FP32, 1, 0, 0);
    a.keep = 0;
    run_all(&a, ALL, NULL);
    assert_int_equal(a.calls, a.m->cfg.layers);
    run_open(&b, dir, ARITH_FP32, 3, 0, 0);
    run_all(&b, ALL, NULL);
    run_open(&c, dir, ARITH_FP32, 2, 0, 0);
    bool *sel = calloc((size_t)c.m->nlinears, sizeof *sel);
    int64_t count = 0;
    for (int64_t i = 0; i < c.m->nlinears; i++)
        sel[i] = c.m->linears[i].kind == LK_V || c.m->linears[i].kind == LK_DOWN;
    run_from(&c, ALL, sel, 1, &a.kept); /* from the layer after the kept stream */
    assert_int_equal(c.calls, c.m->cfg.layers - 1);
    for (int64_t i = 0; i < a.m->nlinears; i++) {
        const LinearResult *r = &a.res[i];
        same_result(r, &b.res[i]);
        assert_int_equal(r->in.hist.total, r->in.values);
        assert_int_equal(r->weight.hist.total, a.m->linears[i].in * a.m->linears[i].out);
        if (c.res[i].linear < 0)
            continue;
        count++;
        assert_true(sel[i] && a.m->linears[i].layer > 0);
        same_result(r, &c.res[i]);
    }
    assert_int_equal(count, 2 * (a.m->cfg.layers - 1));
    free(sel);
    run_close(&a);
    run_close(&b);
    run_close(&c);
}

/* ---- local_error against float64, and against the error it stands for ---- */

/* Keeps the input rows of every linear. */
typedef struct Capture {
    const Model *m;
    int64_t rows, *start;
    float **x; /* [nlinears] rows of the first linear of each input */
} Capture;

static bool capture_wants(void *self, Tap tap)
{
    (void)self;
    return tap.kind == TAP_LINEAR_IN;
}

static void capture_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                         int64_t ld)
{
    const Capture *c = self;
    for (int64_t r = 0; r < rows; r++)
        memcpy(c->x[tap.linear] + (c->start[sample] + row0 + r) * width, x + r * ld, (size_t)width * sizeof *x);
}

static Capture capture(Run *u)
{
    static const ObserverOps ops = {.name = "capture", .wants_tap = capture_wants, .tap_tile = capture_tile};
    Capture c = {u->m, u->t->start[u->t->samples], u->t->start, calloc((size_t)u->m->nlinears, sizeof(float *))};
    for (int64_t i = 0; i < u->m->nlinears; i++)
        if (u->m->linears[i].input == i)
            c.x[i] = malloc((size_t)(c.rows * u->m->linears[i].in) * sizeof(float));
    Observer obs = {&ops, &c};
    Error e;
    Stream h;
    assert_int_equal(runner_embed(u->r, u->t, &h, &e), ST_OK);
    for (int l = 0; l < u->m->cfg.layers; l++)
        assert_int_equal(runner_layer(u->r, l, NULL, &h, &h, &obs, 1, &e), ST_OK);
    stream_fini(&h);
    return c;
}

static void capture_free(Capture *c)
{
    for (int64_t i = 0; i < c->m->nlinears; i++)
        free(c->x[i]);
    free(c->x);
}

static double *weight_of(const Model *m, int64_t linear)
{
    const TensorInfo *t = m->linears[linear].weight;
    int64_t n = m->linears[linear].in * m->linears[linear].out;
    Error e;
    void *raw = malloc(t->nbytes);
    double *w = malloc((size_t)n * sizeof *w);
    assert_int_equal(checkpoint_read(m->ckpt, t, 0, t->nbytes, raw, &e), ST_OK);
    for (int64_t i = 0; i < n; i++)
        w[i] = t->dtype == DT_F32 ? (double)((float *)raw)[i] : (double)bf16_to_float(((uint16_t *)raw)[i]);
    free(raw);
    return w;
}

/* One row fake-quantized, symmetric minmax. */
static void fake_row(const double *w, int64_t in, int top, double *out)
{
    double mx = 0;
    for (int64_t j = 0; j < in; j++)
        mx = fmax(mx, fabs(w[j]));
    double s = fmax(mx / top, 0x1p-23);
    for (int64_t j = 0; j < in; j++)
        out[j] = rint(w[j] / s) * s;
}

typedef struct Level {
    QConfig q;
    int wtop; /* 127, 7, 0: float */
    int act;  /* 0 static sym, 1 static asym, 2 per token, 3 float */
} Level;

static const Level levels[] = {
    {{{QT_INT8, QS_PER_TENSOR, true, "minmax", {0}}, {QT_INT8, QS_PER_CHANNEL, true, "minmax", {0}}}, 127, 0},
    {{{QT_INT8, QS_PER_TENSOR, false, "minmax", {0}}, {QT_INT8, QS_PER_CHANNEL, true, "minmax", {0}}}, 127, 1},
    {{{QT_INT8, QS_PER_TOKEN, true, "minmax", {0}}, {QT_INT4, QS_PER_CHANNEL, true, "minmax", {0}}}, 7, 2},
    {{{QT_FLOAT, QS_PER_TENSOR, true, "", {0}}, {QT_INT4, QS_PER_CHANNEL, true, "minmax", {0}}}, 7, 3},
};

/* DECISIONS' formula, word by word. y: sum over tokens of |y|^2, bias left out (these models have none). */
static double plain_local_error(const Capture *c, int64_t linear, const double *w, const Level *l)
{
    const Linear *lin = &c->m->linears[linear];
    const float *x = c->x[lin->input];
    double mx = -INFINITY, mn = INFINITY, tok = 0, e = 0, y = 0;
    double *m2 = calloc((size_t)lin->in, sizeof *m2), *d = malloc((size_t)lin->in * sizeof *d);
    for (int64_t t = 0; t < c->rows; t++) {
        double top = 0;
        for (int64_t j = 0; j < lin->in; j++) {
            double v = (double)x[t * lin->in + j];
            m2[j] += v * v / (double)c->rows;
            mx = fmax(mx, v);
            mn = fmin(mn, v);
            top = fmax(top, fabs(v));
        }
        tok += top / 127 * (top / 127) / (double)c->rows;
    }
    double s = l->act == 0 ? fmax(mx, -mn) / 127 : (fmax(mx, 0) - fmin(mn, 0)) / 255;
    double s2 = l->act == 2 ? tok : l->act == 3 ? 0 : s * s;
    for (int64_t o = 0; o < lin->out; o++) {
        fake_row(w + o * lin->in, lin->in, l->wtop, d);
        for (int64_t j = 0; j < lin->in; j++) {
            double v = w[o * lin->in + j];
            e += m2[j] * (v - d[j]) * (v - d[j]) + fmin(s2 / 12, m2[j]) * v * v;
        }
        for (int64_t t = 0; t < c->rows; t++) {
            double sum = 0;
            for (int64_t j = 0; j < lin->in; j++)
                sum += (double)x[t * lin->in + j] * w[o * lin->in + j];
            y += sum * sum / (double)c->rows;
        }
    }
    free(m2);
    free(d);
    return e / y;
}

static void local_error_is_its_formula(void **state)
{
    (void)state;
    static const char *const dirs[] = {"tests/golden/analysis/_models/llama-fp32",
                                       "tests/golden/analysis/_models/qwen3-bf16"};
    double worst = 0;
    for (int d = 0; d < 2; d++) {
        Run u;
        run_open(&u, dirs[d], ARITH_FP32, 2, 3, 0);
        run_all(&u, metric_find("local_error")->needs, NULL);
        Capture c = capture(&u);
        for (int64_t i = 0; i < u.m->nlinears; i++) {
            double *w = weight_of(u.m, i);
            for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
                double want = plain_local_error(&c, i, w, &levels[l]);
                double got = score_of(&u, metric_find("local_error"), i, &levels[l].q);
                worst = fmax(worst, fabs(got - want) / want);
            }
            free(w);
        }
        capture_free(&c);
        run_close(&u);
    }
    printf("# local_error differs from float64 by %.1e\n", worst);
    assert_true(worst < 1e-5);
}

/* Sum over channels of m2_j-weighted squared errors of a table's quantizer run on the whole weight, over |y|^2. */
static double table_error(const Capture *c, int64_t linear, const double *w, const QSpec *q)
{
    const Linear *lin = &c->m->linears[linear];
    const float *x = c->x[lin->input];
    int64_t in = lin->in, n = in * lin->out;
    float *f = malloc((size_t)n * sizeof *f), *back = malloc((size_t)n * sizeof *back);
    double e = 0, y = 0;
    for (int64_t i = 0; i < n; i++)
        f[i] = (float)w[i];
    QWeight out;
    assert_int_equal(qweight_init(&out, q, lin->out, in, NULL), ST_OK);
    WeightTask t = {.q = q, .w = f, .out = lin->out, .in = in, .T = DT_F32, .F = DT_F32};
    assert_int_equal(weight_quantizer_find(q)->quantize(&t, &out, NULL), ST_OK);
    qweight_rows(&out, 0, lin->out, DT_F32, back);
    for (int64_t r = 0; r < c->rows; r++)
        for (int64_t o = 0; o < lin->out; o++) {
            double sum = 0;
            for (int64_t j = 0; j < in; j++)
                sum += (double)x[r * in + j] * w[o * in + j];
            y += sum * sum;
        }
    for (int64_t j = 0; j < in; j++) {
        double m2 = 0, d2 = 0;
        for (int64_t r = 0; r < c->rows; r++)
            m2 += (double)x[r * in + j] * (double)x[r * in + j];
        for (int64_t o = 0; o < lin->out; o++)
            d2 += (w[o * in + j] - (double)back[o * in + j]) * (w[o * in + j] - (double)back[o * in + j]);
        e += m2 * d2;
    }
    qweight_fini(&out);
    free(f);
    free(back);
    return e / y;
}

#define FLOAT_IN {.dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .symmetric = true}

static void local_error_takes_any_weight_quantizer(void **state)
{
    (void)state;
    static const QConfig asked[] = {
        {FLOAT_IN, {QT_INT4, QS_PER_GROUP, true, "minmax", {.group_size = 32}}},
        {FLOAT_IN, {QT_INT4, QS_PER_CHANNEL, true, "ssz", {0}}},
        {FLOAT_IN, {QT_MXFP4, QS_PER_BLOCK, true, "minmax", {0}}},
        {FLOAT_IN, {QT_FP8_E4M3, QS_PER_CHANNEL, true, "minmax", {0}}},
        {FLOAT_IN, {QT_MXFP4, QS_PER_BLOCK, true, "ceil_x", {.search = true}}},
        {FLOAT_IN, {QT_INT4, QS_PER_GROUP, true, "minmax", {.group_size = 7}}},
        {FLOAT_IN, {QT_INT4, QS_PER_GROUP, false, "gptq", {.group_size = 32}}},
        {FLOAT_IN, {QT_INT4, QS_PER_CHANNEL, true, "gptq", {0}}},
    };
    QSpec weights[LOCAL_EXTRA];
    assert_int_equal(local_error_specs(asked, 8, weights), 7); /* gptq per_channel symmetric is scored as minmax, which is always there */
    Run u;
    run_open(&u, "tests/golden/analysis/_models/llama-fp32", ARITH_FP32, 2, 3, 0);
    u.levels = asked;
    u.nlevels = 8;
    run_all(&u, metric_find("local_error")->needs, NULL);
    Capture c = capture(&u);
    char why[160];
    for (int64_t i = 0; i < u.m->nlinears; i++) {
        double *w = weight_of(u.m, i);
        for (int k = 0; k < 4; k++) {
            double want = table_error(&c, i, w, &asked[k].weight);
            double got = score_of(&u, metric_find("local_error"), i, &asked[k]);
            if (!(fabs(got - want) <= 1e-4 * want))
                fail_msg("%s, %s: %g, wanted %g", u.m->linears[i].name, asked[k].weight.method, got, want);
        }
        double searched = score_of(&u, metric_find("local_error"), i, &asked[4]);
        assert_true(searched > 0 && searched < 0.5);
        assert_true(isnan(test_score(metric_find("local_error"), &u.res[i], &asked[5], why, sizeof why)));
        assert_non_null(strstr(why, "group_size"));
        const Metric *le = metric_find("local_error");
        /* gptq as minmax of its grid; the asymmetric one is finer */
        double group = score_of(&u, le, i, &asked[0]), gptq = score_of(&u, le, i, &asked[6]);
        assert_true(gptq > 0 && gptq < group * 1.2);
        assert_true(score_of(&u, le, i, &asked[7]) == score_of(&u, le, i, &levels[3].q));
        free(w);
    }
    capture_free(&c);
    run_close(&u);
}

/* The noise that stands for float activations, against quantizing the inputs themselves. */
static void float_activations_have_about_their_own_noise(void **state)
{
    (void)state;
    static const QType types[] = {QT_MXFP8, QT_MXFP4};
    Run u;
    run_open(&u, "tests/golden/analysis/_models/qwen3-bf16", ARITH_FP32, 2, 3, 0);
    run_all(&u, metric_find("local_error")->needs, NULL);
    Capture c = capture(&u);
    double least = 1, most = 1;
    for (int64_t i = 0; i < u.m->nlinears; i++) {
        const Linear *lin = &u.m->linears[i];
        double *w = weight_of(u.m, i);
        float *y = malloc((size_t)lin->in * sizeof *y);
        for (int t = 0; t < 2; t++) {
            double e = 0;
            for (int64_t r = 0; r < c.rows; r++) {
                const float *x = c.x[lin->input] + r * lin->in;
                mx_fake_row(types[t], x, lin->in, DT_F32, y);
                for (int64_t j = 0; j < lin->in; j++)
                    for (int64_t o = 0; o < lin->out; o++)
                        e += ((double)x[j] - (double)y[j]) * ((double)x[j] - (double)y[j]) * w[o * lin->in + j] *
                             w[o * lin->in + j] / (double)c.rows;
            }
            double ratio = u.res[i].err.act_err[4 + t] / e;
            least = fmin(least, ratio);
            most = fmax(most, ratio);
        }
        free(y);
        free(w);
    }
    printf("# expected over true error of mx activations: %.2f to %.2f\n", least, most);
    assert_true(least > 0.5 && most < 2);
    capture_free(&c);
    run_close(&u);
}

/* True W8A8 output error of a linear, static symmetric activations: |XW - QX QW|^2 / |XW|^2. */
static double true_error(const Capture *c, int64_t linear)
{
    const Linear *lin = &c->m->linears[linear];
    const float *x = c->x[lin->input];
    int64_t in = lin->in, nx = c->rows * in;
    double *w = weight_of(c->m, linear), *wq = malloc((size_t)in * sizeof *wq), *xq = malloc((size_t)nx * sizeof *xq);
    double top = 0, e = 0, y = 0;
    for (int64_t i = 0; i < nx; i++)
        top = fmax(top, fabs((double)x[i]));
    for (int64_t i = 0; i < nx; i++)
        xq[i] = rint((double)x[i] / (top / 127)) * (top / 127);
    for (int64_t o = 0; o < lin->out; o++) {
        fake_row(w + o * in, in, 127, wq);
        for (int64_t t = 0; t < c->rows; t++) {
            double a = 0, b = 0;
            for (int64_t j = 0; j < in; j++) {
                a += (double)x[t * in + j] * w[o * in + j];
                b += xq[t * in + j] * wq[j];
            }
            e += (a - b) * (a - b);
            y += a * a;
        }
    }
    free(w);
    free(wq);
    free(xq);
    return e / y;
}

static double spearman(const double *a, const double *b, int64_t n)
{
    double d2 = 0;
    for (int64_t i = 0; i < n; i++) {
        double ra = 0, rb = 0;
        for (int64_t j = 0; j < n; j++) {
            ra += a[j] < a[i];
            rb += b[j] < b[i];
        }
        d2 += (ra - rb) * (ra - rb);
    }
    return 1 - 6 * d2 / ((double)n * ((double)n * (double)n - 1));
}

static void local_error_ranks_as_the_true_error_does(void **state)
{
    (void)state;
    Run u;
    run_open(&u, "lab_models/demo", ARITH_FP32, 2, 1, 40);
    run_all(&u, metric_find("local_error")->needs, NULL);
    Capture c = capture(&u);
    int64_t n = u.m->nlinears;
    double *got = malloc((size_t)n * sizeof *got), *want = malloc((size_t)n * sizeof *want);
    for (int64_t i = 0; i < n; i++) {
        got[i] = score_of(&u, metric_find("local_error"), i, &levels[0].q);
        want[i] = true_error(&c, i);
    }
    double rho = spearman(got, want, n);
    printf("# Spearman of local_error with the true W8A8 output error: %.4f\n", rho);
    assert_true(rho > 0.97);
    free(got);
    free(want);
    capture_free(&c);
    run_close(&u);
}

/* The demo model's two bad layers (its card) are among the first three. */
static void demo_ranks_its_bad_layers_first(void **state)
{
    (void)state;
    static const char *const bad[] = {"model.layers.1.mlp.down_proj", "model.layers.6.mlp.down_proj"};
    static const char *const metric[] = {"kurtosis", "local_error"};
    Run u;
    run_open(&u, "lab_models/demo", ARITH_FP32, 2, 0, 0);
    run_all(&u, metric_find("kurtosis")->needs | metric_find("local_error")->needs, NULL);
    for (int k = 0; k < 2; k++)
        for (int b = 0; b < 2; b++) {
            int64_t i = model_find_linear(u.m, bad[b]);
            double s = score_of(&u, metric_find(metric[k]), i, &levels[1].q);
            int above = 0;
            for (int64_t j = 0; j < u.m->nlinears; j++)
                above += score_of(&u, metric_find(metric[k]), j, &levels[1].q) > s;
            printf("# %s: %s is number %d with %.4g\n", metric[k], bad[b], above + 1, s);
            assert_true(above < 3);
        }
    run_close(&u);
}

/* ---- scores that aren't there say why ---- */

static void missing_scores_have_a_reason(void **state)
{
    (void)state;
    char why[160];
    LinearResult none = {.in = {.kurtosis = NAN, .quantile = NAN, .std_score = NAN}}, bad = none, ok = none;
    bad.in.bad = true;
    bad.in.values = 10;
    snprintf(bad.in.bad_text, sizeof bad.in.bad_text, "NaN first at sample 7 token 211 channel 88");
    for (const Metric *const *m = metric_table; *m; m++) {
        assert_ptr_equal(metric_find((*m)->name), *m);
        assert_true(strlen((*m)->title) && (*m)->unit && strchr((*m)->explain, '\n'));
        if ((*m)->pass != &pass_statistics)
            continue;
        assert_true(isnan(test_score(*m, &none, &levels[0].q, why, sizeof why)));
        assert_string_equal(why, "no token reached it");
        assert_true(isnan(test_score(*m, &bad, &levels[0].q, why, sizeof why)));
        assert_string_equal(why, bad.in.bad_text);
        assert_true(isnan(test_score(*m, &bad, NULL, NULL, 0)));
    }
    assert_null(metric_find("curtosis"));
    const Metric *le = metric_find("local_error");
    ok.in.values = 10;
    ok.err = (LocalError){.have = true, .weight_err = {3, 5}, .act_err = {1, 2, 4, 8, 16, 32}, .output_sq = 10};
    assert_true(test_score(le, &ok, &levels[0].q, why, sizeof why) == 0.4);
    assert_true(test_score(le, &ok, &levels[1].q, why, sizeof why) == 0.5);
    assert_true(test_score(le, &ok, &levels[2].q, why, sizeof why) == 0.9);
    assert_true(test_score(le, &ok, &levels[3].q, why, sizeof why) == 0.5);
    QConfig f = {.act = {.scope = QS_PER_TENSOR, .symmetric = true},
                 .weight = {.scope = QS_PER_CHANNEL, .symmetric = true}};
    QConfig other = levels[0].q;
    assert_true(local_error_score(&ok.err, &f) == 0 && local_error_score(&ok.err, NULL) == 0);
    other.weight.scope = QS_PER_GROUP;
    assert_true(isnan(test_score(le, &ok, &other, why, sizeof why)));
    assert_non_null(strstr(why, "local_error again"));
    QSpec specs[LOCAL_EXTRA];
    assert_int_equal(local_error_specs(&other, 1, specs), 1);
    assert_false(local_error_covers(&ok.err, specs, 1));
    ok.err.extras = 1;
    ok.err.extra[0].key = qspec_key(specs);
    ok.err.extra[0].err = 9;
    assert_true(local_error_covers(&ok.err, specs, 1));
    assert_true(test_score(le, &ok, &other, why, sizeof why) == 1.0);
    ok.err.extra[0].err = NAN;
    assert_true(isnan(test_score(le, &ok, &other, why, sizeof why)));
    assert_non_null(strstr(why, "group_size"));
    other.weight.ext.steps = 3; /* another spec */
    assert_true(isnan(local_error_score(&ok.err, &other)));
    ok.err.extras = 0;
    assert_true(isnan(test_score(le, &ok, NULL, why, sizeof why)));
    assert_non_null(strstr(why, "recipe"));
    ok.weight.bad = true;
    snprintf(ok.weight.bad_text, sizeof ok.weight.bad_text, "Inf first at row 3 column 17");
    assert_true(isnan(test_score(le, &ok, &levels[0].q, why, sizeof why)));
    assert_string_equal(why, "weight: Inf first at row 3 column 17");
    ok.weight.bad = false;
    ok.err = (LocalError){.have = true}; /* an input of zeros: no error */
    assert_true(test_score(le, &ok, &levels[0].q, why, sizeof why) == 0);
}

static void more_kinds_of_weights_than_a_pass_sums_have_a_reason(void **state)
{
    (void)state;
    QConfig many[LOCAL_EXTRA + 1];
    QSpec specs[LOCAL_EXTRA];
    char why[160] = "";
    LinearResult r = {.in = {.values = 1}, .err = {.have = true, .output_sq = 1, .extras = LOCAL_EXTRA}};
    for (int i = 0; i <= LOCAL_EXTRA; i++)
        many[i] = (QConfig){FLOAT_IN, {QT_INT4, QS_PER_GROUP, true, "minmax", {.group_size = 32 << i}}};
    assert_int_equal(local_error_specs(many, LOCAL_EXTRA + 1, specs), LOCAL_EXTRA);
    for (int i = 0; i < LOCAL_EXTRA; i++) {
        r.err.extra[i].key = qspec_key(&specs[i]);
        r.err.extra[i].err = 1 + i;
        assert_true(test_score(metric_find("local_error"), &r, &many[i], why, sizeof why) == 1 + i);
    }
    assert_true(isnan(test_score(metric_find("local_error"), &r, &many[LOCAL_EXTRA], why, sizeof why)));
    assert_non_null(strstr(why, "8 other kinds"));
    assert_true(local_error_covers(&r.err, specs, LOCAL_EXTRA)); /* another pass would find no more */
}

static void bounds_are_checked_and_estimated(void **state)
{
    (void)state;
    Run u;
    Error e;
    run_open(&u, "tests/golden/analysis/_models/llama-fp32", ARITH_FP32, 1, 1, 0);
    PassPlan p = {.m = u.m, .needs = NEED_ORDER, .first = u.m->cfg.layers + 1};
    assert_int_equal(pass_statistics.run(u.r, &p, NULL, &e), ST_USAGE);
    uint64_t few = pass_statistics_bytes(u.m, NEED_ORDER, 0, 100, 100, 1), more = pass_statistics_bytes(u.m, ALL, 0, 100, 100, 1);
    assert_true(few > 0 && more > few && pass_statistics_bytes(u.m, ALL, 0, 100, 100, 4) > more && pass_statistics_bytes(u.m, ALL, 2, 100, 100, 1) > more &&
                pass_statistics_bytes(u.m, ALL, 0, 200, 100, 1) > more);
    run_close(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_fp32),
        cmocka_unit_test(recorded_model_mode),
        cmocka_unit_test(threads_resume_and_selection_change_nothing),
        cmocka_unit_test(local_error_is_its_formula),
        cmocka_unit_test(local_error_takes_any_weight_quantizer),
        cmocka_unit_test(float_activations_have_about_their_own_noise),
        cmocka_unit_test(local_error_ranks_as_the_true_error_does),
        cmocka_unit_test(demo_ranks_its_bad_layers_first),
        cmocka_unit_test(missing_scores_have_a_reason),
        cmocka_unit_test(more_kinds_of_weights_than_a_pass_sums_have_a_reason),
        cmocka_unit_test(bounds_are_checked_and_estimated),
    };
    return cmocka_run_group_tests_name("metric", tests, NULL, NULL);
}
