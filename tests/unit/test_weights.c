/* Analyses of weights: against recorded numbers, against their definitions written out value by value in float64, and what
 * they say of weights that have nothing to say. */
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
#include "base/num.h"
#include "io/json.h"
#include "metric/schemes.h"
#include "metric/weights.h"
#include "metric/weightview.h"
#include "qir/qweight.h"
#include "quant/quantizer.h"
#include "session/session.h"
#include "stat/weightsums.h"

#include "tests/lib/bench.h"
#include "tests/lib/random_model.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tiny_model.h"

#define MODEL "tests/golden/analysis/_models/llama-fp32"
enum { ERRORS, OUTLIERS, GROUPS, CLIPPING, KINDS };
static const char *const names[KINDS + 1] = {"weight_error", "weight_outliers", "group_size", "clipping", NULL};

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

/* ---- one run of the pass ---- */

typedef struct Run {
    TestRun b;
    Scores scores;
    QConfig level[4];
    int nlevels;
    int16_t *at;        /* [nlinears] */
    bool *selected;     /* NULL: all */
    int64_t first, steps, asked;
    Cancel cancel, *stop; /* stop: raised after the first step */
} Run;

static const QConfig w8 = {.act = {.dtype = QT_FLOAT}, .weight = {QT_INT8, QS_PER_CHANNEL, true, "minmax", {0}}};
static const QConfig w4 = {.act = {.dtype = QT_FLOAT}, .weight = {QT_INT4, QS_PER_CHANNEL, true, "minmax", {0}}};

static QConfig grouped(int64_t size)
{
    QConfig q = {.act = {.dtype = QT_FLOAT}, .weight = {QT_INT4, QS_PER_GROUP, false, "minmax", {0}}};
    q.weight.ext.group_size = size;
    return q;
}

static void run_open(Run *u, const char *dir, int threads, uint64_t limit, QConfig a, QConfig b)
{
    *u = (Run){.level = {a, b}, .nlevels = 2};
    test_run_open_within(&u->b, dir, ARITH_FP32, threads, limit, &u->cancel);
    ok(scores_init(&u->scores, u->b.m, &err));
    u->at = mem_zarray((size_t)u->b.m->nlinears, sizeof *u->at);
    for (int64_t i = 0; i < u->b.m->nlinears; i++)
        u->at[i] = 1;
}

static void run_close(Run *u)
{
    scores_fini(&u->scores);
    free(u->at);
    free(u->selected);
    test_run_close(&u->b);
}

static Status on_step(void *ctx, const PassStep *step, Error *e)
{
    Run *u = ctx;
    (void)e;
    assert_int_equal(step->done, u->first + ++u->steps);
    assert_true(step->news);
    assert_int_equal(step->total, model_depth(u->b.m));
    for (int64_t i = 0, runs = 0; i < step->nscore; i++) { /* those of a metric stand together: records are made of them so */
        runs += i == 0 || step->score[i].metric != step->score[i - 1].metric;
        assert_true(runs <= u->asked);
        ok(scores_put(&u->scores, step->score[i].metric, &step->score[i].s, &err));
    }
    if (u->stop)
        atomic_store(&u->stop->level, 1);
    return ST_OK;
}

static Status run_pass(Run *u, const char *const *which)
{
    const Metric *metrics[KINDS + 1] = {0};
    u->asked = 0;
    for (int i = 0; which[i]; i++, u->asked++)
        metrics[i] = metric_find(which[i]);
    PassPlan p = {.m = u->b.m, .pass = &pass_weights, .metrics = metrics, .selected = u->selected, .levels = u->level,
                  .nlevels = u->nlevels, .level = u->at, .first = u->first};
    assert_int_equal(pass_weights.steps(&p), model_depth(u->b.m));
    assert_true(pass_weights.bytes(&p, 2) > 0 && pass_weights.need(&p, 2) > 0);
    return pass_weights.run(u->b.r, &p, &(PassSink){on_step, u}, &err);
}

static const KeptScore *score_of(const Run *u, int kind, int64_t linear)
{
    const UnitSlot *s = scores_unit(&u->scores, metric_find(names[kind]), linear);
    assert_non_null(s);
    return &s->s;
}

static double part(const Run *u, int kind, int64_t linear, const char *name)
{
    const Metric *m = metric_find(names[kind]);
    for (int k = 0; k < metric_parts(m); k++)
        if (strcmp(m->parts[k].name, name) == 0)
            return score_of(u, kind, linear)->part[k];
    fail_msg("%s has no part '%s'", names[kind], name);
    return NAN;
}

/* Within 1e-5: sums in float32 over 128 values, and steps of a grid whose scale is rounded to float32. */
static void near(double got, double want, const char *what)
{
    if (!(fabs(got - want) <= 1e-5 * fabs(want) + 1e-12))
        fail_msg("%s: %.9g, not %.9g", what, got, want);
}

/* ---- recorded ---- */

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    assert_non_null(v);
    return v->valuedouble;
}

static void compare_recorded(const Run *u, int64_t i, const cJSON *g)
{
    static const char *const ours[] = {"error_99", "error_99_5", "error_99_9", "error_99_95", "error_100"};
    const cJSON *recon = cJSON_GetObjectItem(g, "recon"), *gs = cJSON_GetObjectItem(g, "recon_gs");
    const cJSON *out = cJSON_GetObjectItem(g, "outliers3"), *clip = cJSON_GetObjectItem(g, "clip"), *best = NULL;
    near(score_of(u, ERRORS, i)->value, number(recon, "relative"), "relative");
    near(part(u, ERRORS, i, "frobenius"), number(recon, "frobenius"), "frobenius");
    near(part(u, ERRORS, i, "rmse"), number(recon, "rmse"), "rmse");
    near(part(u, ERRORS, i, "max"), number(recon, "max_abs"), "max");
    near(part(u, ERRORS, i, "mean_abs"), number(recon, "mean_abs"), "mean_abs");
    near(part(u, ERRORS, i, "sqnr"), -20 * log10(number(recon, "relative")), "sqnr");
    near(part(u, GROUPS, i, "rmse_32"), number(gs, "32"), "rmse_32");
    near(part(u, GROUPS, i, "rmse_64"), number(gs, "64"), "rmse_64");
    near(part(u, GROUPS, i, "rmse_128"), number(gs, "128"), "rmse_128");
    near(part(u, GROUPS, i, "rmse_row"), number(gs, "-1"), "rmse_row");
    near(score_of(u, GROUPS, i)->value, number(gs, "-1") / number(gs, "32"), "group_size");
    near(score_of(u, OUTLIERS, i)->value, number(out, "ratio"), "ratio");
    assert_true(part(u, OUTLIERS, i, "count") == number(out, "count"));
    near(part(u, OUTLIERS, i, "fraction"), number(out, "fraction"), "fraction");
    assert_true(part(u, OUTLIERS, i, "max_outlier") == number(out, "max_mag"));
    assert_true(part(u, OUTLIERS, i, "range") == number(out, "range"));
    assert_true(part(u, OUTLIERS, i, "inlier_range") == number(out, "inlier_range"));
    near(part(u, OUTLIERS, i, "wasted"), number(out, "waste"), "waste");
    for (int k = 0; k < 5; k++) {
        const cJSON *r = cJSON_GetArrayItem(clip, k);
        near(part(u, CLIPPING, i, ours[k]), number(r, "total_error"), ours[k]);
        best = !best || number(r, "total_error") < number(best, "total_error") ? r : best;
    }
    assert_true(part(u, CLIPPING, i, "best") == number(best, "ratio"));
    assert_true(part(u, CLIPPING, i, "clip") == number(best, "clip"));
    assert_true(part(u, CLIPPING, i, "clipped") == number(best, "clipped"));
    near(part(u, CLIPPING, i, "clip_error"), number(best, "clip_error"), "clip_error");
    near(part(u, CLIPPING, i, "quant_error"), number(best, "quant_error"), "quant_error");
    near(score_of(u, CLIPPING, i)->value, 1 - number(best, "total_error") / part(u, CLIPPING, i, "error_100"), "clipping");
}

static void numbers_are_the_recorded_ones(void **state)
{
    (void)state;
    cJSON *golden;
    ok(json_parse_file("tests/golden/analysis/own_tools.llama-fp32.json", 1 << 20, &golden, &err));
    const cJSON *layers = cJSON_GetObjectItem(golden, "layers");
    Run u;
    run_open(&u, MODEL, 2, 0, grouped(32), w8);
    ok(run_pass(&u, names));
    assert_int_equal(cJSON_GetArraySize(layers), u.b.m->nlinears);
    for (int64_t i = 0; i < u.b.m->nlinears; i++)
        compare_recorded(&u, i, cJSON_GetObjectItemCaseSensitive(layers, u.b.m->linears[i].name));
    run_close(&u);
    cJSON_Delete(golden);
}

/* ---- the definitions ---- */

/* A level's weight as its quantizer makes it of the whole. */
static void plain_error(const Run *u, int64_t i, const float *w, const QConfig *q)
{
    const Linear *l = &u->b.m->linears[i];
    const WeightQuantizer *by = weight_quantizer_find(&q->weight);
    WeightTask t = {.q = &q->weight, .w = w, .out = l->out, .in = l->in, .T = DT_F32, .F = DT_F32};
    QWeight made;
    float *y = mem_array((size_t)(l->out * l->in), sizeof *y);
    ok(qweight_init(&made, &q->weight, l->out, l->in, &err));
    ok(by->quantize(&t, &made, &err));
    qweight_rows(&made, 0, l->out, DT_F32, y);
    double sq = 0, ww = 0, yy = 0, wy = 0, most = 0, sum = 0, n = (double)(l->out * l->in);
    for (int64_t k = 0; k < l->out * l->in; k++) {
        double d = (double)w[k] - (double)y[k];
        sq += d * d;
        ww += (double)w[k] * (double)w[k];
        yy += (double)y[k] * (double)y[k];
        wy += (double)w[k] * (double)y[k];
        sum += fabs(d);
        most = fmax(most, fabs(d));
    }
    const UnitSlot *s = scores_unit_at(&u->scores, metric_find("weight_error"), i,
                                       scores_level_all(u->b.m, SCOPE_LINEAR, i, q));
    assert_non_null(s);
    near(s->s.value, sqrt(sq / ww), "relative");
    near(s->s.part[0], sqrt(sq), "frobenius");
    near(s->s.part[1], sqrt(sq / n), "rmse");
    near(s->s.part[2], most, "max");
    near(s->s.part[3], sum / n, "mean_abs");
    near(s->s.part[4], 10 * log10(ww / sq), "sqnr");
    near(s->s.part[5], wy / sqrt(ww * yy), "cosine");
    qweight_fini(&made);
    free(y);
}

static double plain_groups(const float *w, int64_t out, int64_t in, int64_t group)
{
    double sq = 0;
    for (int64_t r = 0; r < out; r++)
        for (int64_t a = 0; a < in; a += group) {
            int64_t b = min_i64(in, a + group);
            double mn = 0, mx = 0;
            for (int64_t k = a; k < b; k++) {
                mn = fmin(mn, (double)w[r * in + k]);
                mx = fmax(mx, (double)w[r * in + k]);
            }
            double s = mx > mn ? (mx - mn) / 15 : 1, z = fmin(fmax(rint(-mn / s), 0), 15);
            for (int64_t k = a; k < b; k++) {
                double q = fmin(fmax(rint((double)w[r * in + k] / s + z), 0), 15), d = (double)w[r * in + k] - (q - z) * s;
                sq += d * d;
            }
        }
    return sq;
}

static void plain_outliers(const Run *u, int64_t i, const float *w, int64_t n)
{
    double sum = 0, var = 0, four = 0, lo = INFINITY, hi = -INFINITY, min = INFINITY, max = -INFINITY, beyond = 0;
    int64_t count = 0;
    for (int64_t k = 0; k < n; k++)
        sum += (double)w[k];
    double mean = sum / (double)n;
    for (int64_t k = 0; k < n; k++) {
        double d = (double)w[k] - mean;
        var += d * d;
        four += d * d * d * d;
    }
    double std = sqrt(var / (double)(n - 1));
    for (int64_t k = 0; k < n; k++) {
        double v = (double)w[k];
        bool out = fabs(v - mean) > 3 * std;
        count += out;
        beyond = out ? fmax(beyond, fabs(v)) : beyond;
        lo = out ? lo : fmin(lo, v);
        hi = out ? hi : fmax(hi, v);
        min = fmin(min, v);
        max = fmax(max, v);
    }
    near(score_of(u, OUTLIERS, i)->value, (max - min) / (hi - lo), "ratio");
    assert_true(part(u, OUTLIERS, i, "count") == (double)count);
    assert_true(part(u, OUTLIERS, i, "max_outlier") == beyond);
    near(part(u, OUTLIERS, i, "std"), std, "std");
    assert_true(fabs(part(u, OUTLIERS, i, "mean") - mean) < 1e-7 * std);
    assert_true(fabs(part(u, OUTLIERS, i, "kurtosis") - (four * (double)n / (var * var) - 3)) < 1e-4);
}

static double plain_clipped(const float *w, int64_t n, double c, int64_t *cut)
{
    double mn = INFINITY, mx = -INFINITY, sq = 0;
    *cut = 0;
    for (int64_t k = 0; k < n; k++) {
        double v = fmin(fmax((double)w[k], -c), c);
        *cut += fabs((double)w[k]) > c;
        mn = fmin(mn, v);
        mx = fmax(mx, v);
    }
    double s = (mx - mn) / 15, z = rint(-mn / s);
    for (int64_t k = 0; k < n; k++) {
        double v = fmin(fmax((double)w[k], -c), c);
        double y = s > 0 ? (fmin(fmax(rint(v / s + z), 0), 15) - z) * s : v, d = (double)w[k] - y;
        sq += d * d;
    }
    return sq;
}

static void plain_clipping(const Run *u, int64_t i, const float *w, int64_t n)
{
    static const double ratio[5] = {0.99, 0.995, 0.999, 0.9995, 1};
    double *a = mem_array((size_t)n, sizeof *a), error[5];
    int64_t cut[5];
    int best = 4;
    for (int64_t k = 0; k < n; k++)
        a[k] = fabs((double)w[k]);
    qsort(a, (size_t)n, sizeof *a, compare_doubles);
    for (int r = 0; r < 5; r++) {
        error[r] = plain_clipped(w, n, a[min_i64((int64_t)((double)n * ratio[r]), n - 1)], &cut[r]);
        near(score_of(u, CLIPPING, i)->part[r], error[r], "clipping");
    }
    for (int r = 4; r-- > 0;)
        best = error[r] < error[best] ? r : best;
    assert_true(part(u, CLIPPING, i, "best") == ratio[best]);
    assert_true(part(u, CLIPPING, i, "clipped") == (double)cut[best]);
    free(a);
}

static void compare_plain(const Run *u)
{
    for (int64_t i = 0; i < u->b.m->nlinears; i++) {
        const Linear *l = &u->b.m->linears[i];
        int64_t n = l->out * l->in;
        float *w = mem_array((size_t)n, sizeof *w);
        static const char *const size[] = {"rmse_32", "rmse_64", "rmse_128", "rmse_256", "rmse_row"};
        ok(runner_weight(u->b.r, i, -1, w, &err));
        plain_error(u, i, w, &u->level[0]);
        plain_error(u, i, w, &u->level[1]);
        for (int k = 0; k < 5; k++) {
            int64_t group = k < 4 ? min_i64(32 << k, l->in) : l->in;
            near(part(u, GROUPS, i, size[k]), sqrt(plain_groups(w, l->out, l->in, group) / (double)n), size[k]);
            near(score_of(u, GROUPS, i)->part[5 + k], 4 + 20.0 / (double)group, "bits");
        }
        plain_outliers(u, i, w, n);
        plain_clipping(u, i, w, n);
        free(w);
    }
}

/* Groups that are short at the end of a row, blocks that are short at the end of a weight, rows of one block. */
static void analyses_are_their_definitions(void **state)
{
    (void)state;
    static const DType types[] = {DT_F32, DT_BF16, DT_F16};
    QConfig sparse = {.weight = {QT_INT8, QS_PER_CHANNEL, true, "w8a8s", {0}}}; /* has to see the whole weight */
    for (size_t k = 0; k < 3; k++) {
        RandomShape s = {.model_type = "llama", .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 22, .hidden = 88,
                         .inter = 1100, .vocab = 20, .dtype = types[k], .seed = 3};
        char dir[64];
        Run u;
        random_model_write(&s, dir);
        run_open(&u, dir, 2, 0, w4, k ? w8 : sparse);
        ok(run_pass(&u, names));
        compare_plain(&u);
        run_close(&u);
        random_model_remove(dir);
    }
}

static void same_values(const Run *a, const Run *b)
{
    for (int k = 0; k < KINDS; k++)
        for (int64_t i = 0; i < a->b.m->nlinears; i++) {
            const KeptScore *x = score_of(a, k, i), *y = score_of(b, k, i);
            for (int p = 0; p < metric_parts(metric_find(names[k])); p++)
                if (x->value != y->value || x->part[p] != y->part[p])
                    fail_msg("%s of linear %d: %g and %g, part %d %g and %g", names[k], (int)i, x->value, y->value, p,
                             x->part[p], y->part[p]);
        }
}

/* Nor on how much is read at once. */
static void threads_change_nothing(void **state)
{
    (void)state;
    RandomShape s = {.model_type = "llama", .layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 32, .hidden = 128,
                     .inter = 9024, .vocab = 20, .dtype = DT_F32, .seed = 5};
    char dir[64];
    Run one, three, little;
    random_model_write(&s, dir);
    run_open(&one, dir, 1, 0, grouped(32), w8);
    run_open(&three, dir, 3, 0, grouped(32), w8);
    run_open(&little, dir, 2, 24 << 20, grouped(32), w8); /* pieces of 1.5 MiB of weights of 4.4 */
    ok(run_pass(&one, names));
    ok(run_pass(&three, names));
    ok(run_pass(&little, names));
    same_values(&one, &three);
    same_values(&one, &little);
    run_close(&one);
    run_close(&three);
    run_close(&little);
    random_model_remove(dir);
}

/* ---- weights that say nothing ---- */

static void put_values(const Model *m, const char *dir, const char *linear, float all, int64_t at, float other)
{
    const Linear *l = &m->linears[model_find_linear(m, linear)];
    size_t n;
    char *file = temp_get(temp_path(dir, "model.safetensors"), &n);
    float *w = (float *)(void *)(file + l->weight->offset);
    for (int64_t i = 0; i < l->out * l->in; i++)
        w[i] = i == at ? other : all;
    temp_put(temp_path(dir, "model.safetensors"), file, n);
    free(file);
}

static void says(const Run *u, int kind, const char *linear, double value, const char *why)
{
    const KeptScore *s = score_of(u, kind, model_find_linear(u->b.m, linear));
    if (!(isnan(value) ? isnan(s->value) : s->value == value) || strcmp(s->why, why) != 0)
        fail_msg("%s of %s: %g '%s', not %g '%s'", names[kind], linear, s->value, s->why, value, why);
}

static void odd_weights_have_scores_or_reasons(void **state)
{
    (void)state;
    static const char q[] = "model.layers.0.self_attn.q_proj", k[] = "model.layers.0.self_attn.k_proj";
    static const char up[] = "model.layers.0.mlp.up_proj", o[] = "model.layers.1.self_attn.o_proj";
    static const char down[] = "model.layers.1.mlp.down_proj", gate[] = "model.layers.1.mlp.gate_proj";
    char *dir = temp_folder();
    tiny_model_write(dir, NULL);
    tiny_model_config(dir, NULL, NULL);
    Model *m = test_model_open(dir, NULL);
    put_values(m, dir, q, 0, 19, NAN);
    put_values(m, dir, k, 1, 3, -INFINITY);
    put_values(m, dir, up, 0.3f, -1, 0);
    put_values(m, dir, o, 0, 10, 5);
    put_values(m, dir, down, 3e38f, 5, -3e38f);
    put_values(m, dir, gate, 1e-30f, 7, -1e-30f);
    model_free(m);
    Run u;
    run_open(&u, dir, 2, 0, w8, grouped(5)); /* no such groups fit */
    ok(run_pass(&u, names));
    for (int i = 0; i < KINDS; i++) {
        says(&u, i, q, NAN, "weight: NaN first at row 2 column 3");
        says(&u, i, k, NAN, "weight: Inf first at row 0 column 3");
    }
    const char *zero = "model.layers.0.self_attn.v_proj";
    says(&u, ERRORS, zero, 0, "");
    says(&u, OUTLIERS, zero, 1, "");
    says(&u, GROUPS, zero, 1, "");
    says(&u, CLIPPING, zero, 0, "");
    assert_true(isinf(part(&u, ERRORS, model_find_linear(u.b.m, zero), "sqnr")));
    says(&u, OUTLIERS, up, 1, ""); /* constant */
    says(&u, CLIPPING, up, 0, "");
    assert_true(part(&u, OUTLIERS, model_find_linear(u.b.m, up), "count") == 0);
    says(&u, OUTLIERS, o, NAN, "all but 1 values are the same");
    for (int64_t i = 0; i < u.b.m->nlinears; i++)
        for (int kind = 0; kind < KINDS; kind++) /* every one has a finite score or says why not */
            assert_true(isfinite(score_of(&u, kind, i)->value) != (score_of(&u, kind, i)->why[0] != 0));
    const UnitSlot *s = scores_unit_at(&u.scores, metric_find("weight_error"), model_find_linear(u.b.m, up),
                                       scores_level_all(u.b.m, SCOPE_LINEAR, model_find_linear(u.b.m, up), &u.level[1]));
    assert_true(s && isnan(s->s.value) && strstr(s->s.why, "group_size"));
    run_close(&u);
    temp_remove(dir);
}

/* Values of a grid far from 0 keep their codes: float32 alone would lose them. */
static void small_steps_far_from_zero(void **state)
{
    (void)state;
    char *dir = temp_folder();
    tiny_model_write(dir, NULL);
    tiny_model_config(dir, NULL, NULL);
    Model *m = test_model_open(dir, NULL);
    put_values(m, dir, "model.layers.0.mlp.up_proj", 1000, 4, 1000.0625f);
    model_free(m);
    Run u;
    run_open(&u, dir, 1, 0, w8, w8);
    ok(run_pass(&u, names));
    assert_true(part(&u, CLIPPING, model_find_linear(u.b.m, "model.layers.0.mlp.up_proj"), "error_100") < 1e-4);
    run_close(&u);
    temp_remove(dir);
}

/* ---- levels, selection, stops ---- */

static void only_what_is_asked_is_there(void **state)
{
    (void)state;
    static const char *const one[] = {"group_size", NULL};
    Run u;
    run_open(&u, MODEL, 2, 0, w8, w4);
    const Model *m = u.b.m;
    u.selected = mem_zarray((size_t)m->nlinears, 1);
    u.selected[3] = u.selected[12] = true;
    u.first = 1; /* as after a stop */
    ok(run_pass(&u, one));
    assert_int_equal(u.steps, m->cfg.layers - 1);
    for (int64_t i = 0; i < m->nlinears; i++) {
        bool there = i == 12;
        assert_int_equal(scores_unit(&u.scores, metric_find("group_size"), i) != NULL, there);
        assert_null(scores_unit(&u.scores, metric_find("weight_error"), i));
    }
    run_close(&u);
}

static void a_stop_keeps_whole_layers(void **state)
{
    (void)state;
    Run u;
    run_open(&u, MODEL, 2, 0, w8, w4);
    u.stop = &u.cancel;
    assert_int_equal(run_pass(&u, names), ST_CANCELLED);
    assert_int_equal(u.steps, 1);
    for (int64_t i = 0; i < u.b.m->nlinears; i++)
        assert_int_equal(scores_unit(&u.scores, metric_find("clipping"), i) != NULL, u.b.m->linears[i].layer == 0);
    run_close(&u);
}

static Score shown(Session *s, const char *metric)
{
    return session_score(s, metric_find(metric), 5);
}

/* A session without a data set or a tokenizer; levels are known from one pass, and what has none is never stale. */
static void sessions_need_no_data(void **state)
{
    (void)state;
    static const char recipe[] =
        "apiversion: modelslim_v1\nspec:\n  process:\n"
        "    - type: linear_quant\n      include: ['*proj']\n      qconfig:\n"
        "        act: {dtype: int8, scope: per_token, method: minmax, symmetric: true}\n"
        "        weight: {dtype: int8, scope: per_channel, method: minmax, symmetric: true}\n"
        "    - type: linear_quant\n      include: ['none']\n      qconfig:\n"
        "        act: {dtype: int8, scope: per_token, method: minmax, symmetric: true}\n"
        "        weight: {dtype: int4, scope: per_channel, method: minmax, symmetric: true}\n";
    char *dir = temp_folder();
    static const char *const copied[] = {"config.json", "model.safetensors"};
    for (int i = 0; i < 2; i++) {
        size_t n;
        char *bytes = temp_get(temp_path(MODEL, copied[i]), &n);
        temp_put(temp_path(dir, copied[i]), bytes, n);
        free(bytes);
    }
    temp_puts(temp_path(dir, "two.yaml"), recipe);
    SessionOptions o;
    Session *s;
    char id[40], *state_dir = temp_folder();
    session_options_default(&o);
    o.threads = 2;
    o.state_dir = state_dir;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, dir, NULL, &err));
    ok(session_open_recipe(s, temp_path(dir, "two.yaml"), NULL, &err));
    ok(session_analyze(s, names, NULL, 0, false, &err));
    ok(session_wait(s, &err));
    assert_int_equal(session_jobs(s), 1);
    assert_int_equal(session_job(s, 0)->ok, KINDS * session_model(s)->nlinears); /* not once for each level */
    assert_int_equal(session_calib_info(s).samples, 0);
    assert_int_equal(session_unit_tokens(s, metric_find("weight_error"), 5), -1);
    double eight = shown(s, "weight_error").value, outliers = shown(s, "weight_outliers").value;
    assert_int_equal(shown(s, "weight_error").state, SCORE_OK);
    const char *target = session_model(s)->linears[5].name;
    ok(session_edit(s, &target, 1, 2, false, NULL, &err));
    assert_int_equal(shown(s, "weight_error").state, SCORE_OK);
    assert_true(shown(s, "weight_error").value > 4 * eight);
    assert_int_equal(shown(s, "weight_outliers").state, SCORE_OK);
    assert_true(shown(s, "weight_outliers").value == outliers);
    ok(session_set(s, "max_samples", "3", &err)); /* other texts */
    assert_int_equal(shown(s, "clipping").state, SCORE_OK);
    ok(session_analyze(s, names, NULL, 0, false, &err)); /* all of it is known */
    assert_int_equal(session_jobs(s), 1);
    double four = shown(s, "weight_error").value;
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    ok(session_restore(&s, &o, id, &err)); /* also to one that goes on with it */
    assert_true(shown(s, "weight_error").value == four && shown(s, "weight_outliers").value == outliers);
    ok(session_undo(s, NULL, &err));
    assert_true(shown(s, "weight_error").state == SCORE_OK && shown(s, "weight_error").value == eight);
    session_free(s);
    temp_remove(dir);
    temp_remove(state_dir);
}

/* ---- pictures of one weight ---- */

static void pictures_are_the_recorded_ones(void **state)
{
    (void)state;
    cJSON *golden;
    ok(json_parse_file("tests/golden/analysis/own_tools.llama-fp32.json", 1 << 20, &golden, &err));
    Model *m = test_model_open(MODEL, NULL);
    const Source s = {.model = m};
    int64_t i = model_find_linear(m, "model.layers.0.mlp.down_proj");
    const cJSON *hist = cJSON_GetObjectItem(golden, "hist_model.layers.0.mlp.down_proj");
    const cJSON *heat = cJSON_GetObjectItem(golden, "heatmap_model.layers.0.mlp.down_proj");
    WeightHist h;
    ok(weight_hist(&s, i, 100, NULL, &h, &err));
    assert_true(h.bins == 100 && h.lo == number(hist, "lo") && h.hi == number(hist, "hi"));
    near(3 * h.std, number(hist, "sigma3"), "sigma3");
    for (int k = 0; k < 100; k++)
        near((double)h.count[k] / h.n / ((h.hi - h.lo) / 100),
             cJSON_GetArrayItem(cJSON_GetObjectItem(hist, "density"), k)->valuedouble, "density");
    weight_hist_fini(&h);
    WeightHeat t;
    ok(weight_heat(&s, i, &(HeatAsk){.q = NULL, .group = 32, .rows = 100, .cols = 100}, NULL, &t, &err));
    assert_true(t.rows == cJSON_GetArraySize(heat) && t.cols == 64 && t.channels == 64);
    for (int g = 0; g < t.rows; g++)
        for (int o = 0; o < 8; o++) {
            near(t.mean[g * t.cols + o], cJSON_GetArrayItem(cJSON_GetArrayItem(heat, g), o)->valuedouble, "heat");
            assert_true(t.max[g * t.cols + o] == t.mean[g * t.cols + o]);
        }
    weight_heat_fini(&t);
    model_free(m);
    cJSON_Delete(golden);
}

/* Fields are the means and the largest of the cells that they stand for, each cell in one. */
static void smaller_maps_are_of_the_same_cells(void **state)
{
    (void)state;
    Model *m = test_model_open(MODEL, NULL);
    const Source s = {.model = m};
    const QConfig q = grouped(32);
    WeightHeat all, few;
    int64_t i = model_find_linear(m, "model.layers.0.mlp.gate_proj");
    ok(weight_heat(&s, i, &(HeatAsk){.q = NULL, .group = 10, .rows = 400, .cols = 400}, NULL, &all, &err)); /* groups of 10, the last of 4 */
    ok(weight_heat(&s, i, &(HeatAsk){.q = NULL, .group = 10, .rows = 3, .cols = 7}, NULL, &few, &err));
    assert_true(all.groups == 7 && all.rows == 7 && few.rows == 3 && few.cols == 7 && few.groups == 7);
    double sum = 0, cells = 0;
    for (int r = 0; r < few.rows; r++)
        for (int c = 0; c < few.cols; c++) {
            double mean = 0, top = 0, n = 0;
            for (int g = 0; g < all.rows; g++)
                for (int o = 0; o < all.cols; o++)
                    if (g * 3 / 7 == r && o * 7 / all.cols == c) {
                        mean += all.mean[g * all.cols + o];
                        top = fmax(top, all.mean[g * all.cols + o]);
                        n++;
                    }
            near(few.mean[r * few.cols + c], mean / n, "mean of a field");
            assert_true(few.max[r * few.cols + c] == top);
            sum += mean;
            cells += n;
        }
    assert_true(cells == (double)all.groups * (double)all.channels);
    near(few.average, sum / cells, "average");
    assert_true(few.top == all.mean[few.top_group * all.cols + few.top_channel]);
    weight_heat_fini(&all);
    weight_heat_fini(&few);
    /* a scheme whose groups are those of 9.1 gives the same map */
    ok(weight_heat(&s, i, &(HeatAsk){.q = &q.weight, .group = 0, .rows = 400, .cols = 400}, NULL, &all, &err));
    ok(weight_heat(&s, i, &(HeatAsk){.q = NULL, .group = 32, .rows = 400, .cols = 400}, NULL, &few, &err));
    for (int k = 0; k < all.rows * all.cols; k++)
        near(all.mean[k], few.mean[k], "field");
    weight_heat_fini(&all);
    weight_heat_fini(&few);
    QSpec whole = {QT_INT8, QS_PER_CHANNEL, true, "w8a8s", {0}};
    assert_int_equal(weight_heat(&s, i, &(HeatAsk){.q = &whole, .group = 0, .rows = 4, .cols = 4}, NULL, &all, &err), ST_USAGE);
    model_free(m);
}

static void histograms_count_every_value(void **state)
{
    (void)state;
    char *dir = temp_folder();
    tiny_model_write(dir, NULL);
    tiny_model_config(dir, NULL, NULL);
    Model *m = test_model_open(dir, NULL);
    put_values(m, dir, "model.layers.0.mlp.up_proj", 0, 10, 4);
    put_values(m, dir, "model.layers.0.mlp.gate_proj", 2, 3, NAN);
    model_free(m);
    m = test_model_open(dir, NULL);
    const Source s = {.model = m};
    WeightHist h;
    ok(weight_hist(&s, model_find_linear(m, "model.layers.0.mlp.up_proj"), 4, NULL, &h, &err));
    assert_true(h.bins == 4 && h.count[0] == 95 && h.count[3] == 1 && h.above == 1 && h.below == 0);
    assert_true(fabs(h.quantile[4]) < 1e-37); /* within the key of 0 */
    weight_hist_fini(&h);
    ok(weight_hist(&s, model_find_linear(m, "model.layers.1.mlp.up_proj"), 4, NULL, &h, &err)); /* all zeros */
    assert_true(h.bins == 1 && h.count[0] == 96 && h.std == 0 && h.above + h.below == 0);
    weight_hist_fini(&h);
    assert_int_equal(weight_hist(&s, model_find_linear(m, "model.layers.0.mlp.gate_proj"), 4, NULL, &h, &err), ST_DATA);
    assert_non_null(strstr(err.text, "NaN at row 0 column 3"));
    Cancel stop;
    atomic_init(&stop.level, 1);
    assert_int_equal(weight_hist(&s, 0, 4, &stop, &h, &err), ST_CANCELLED);
    model_free(m);
    temp_remove(dir);
}

/* ---- schemes ---- */

static void schemes_sum_up_their_linears(void **state)
{
    (void)state;
    SchemeLoss row[2];
    Run u;
    assert_true(scheme_config("W4A16", &row[0].q) && scheme_config("W8A8", &row[1].q));
    row[0].q.weight.ext.group_size = 64;
    run_open(&u, MODEL, 2, 0, row[0].q, row[1].q);
    ok(run_pass(&u, names));
    ok(schemes_compare(u.b.r, row, 2, &err));
    for (int k = 0; k < 2; k++) {
        double sum = 0, worst = 0, error = 0, square = 0;
        int64_t n = 0, at = -1;
        for (int64_t i = 0; i < u.b.m->nlinears; i++) {
            const UnitSlot *s = scores_unit_at(&u.scores, metric_find("weight_error"), i,
                                               scores_level_all(u.b.m, SCOPE_LINEAR, i, &row[k].q));
            if (!isfinite(s->s.value))
                continue; /* 64 does not divide the down projections' 160 inputs */
            n++;
            sum += s->s.value;
            error += s->s.part[0] * s->s.part[0];
            square += s->s.part[0] * s->s.part[0] / (s->s.value * s->s.value);
            at = s->s.value > worst ? i : at;
            worst = fmax(worst, s->s.value);
        }
        assert_true(row[k].linears == n && row[k].unfit == u.b.m->nlinears - n && n > 0);
        assert_true(row[k].worst == worst && row[k].worst_linear == at);
        near(row[k].mean, sum / (double)n, "mean");
        near(row[k].sqnr, 10 * log10(square / error), "sqnr");
        assert_true(row[k].bytes > 0 && row[k].bits > 0);
    }
    assert_true(row[0].unfit == 3 && row[1].unfit == 0);
    run_close(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_the_recorded_ones),
        cmocka_unit_test(analyses_are_their_definitions),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(odd_weights_have_scores_or_reasons),
        cmocka_unit_test(small_steps_far_from_zero),
        cmocka_unit_test(only_what_is_asked_is_there),
        cmocka_unit_test(a_stop_keeps_whole_layers),
        cmocka_unit_test(sessions_need_no_data),
        cmocka_unit_test(pictures_are_the_recorded_ones),
        cmocka_unit_test(smaller_maps_are_of_the_same_cells),
        cmocka_unit_test(histograms_count_every_value),
        cmocka_unit_test(schemes_sum_up_their_linears),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
