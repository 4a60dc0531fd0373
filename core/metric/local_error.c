#include "metric/local_error.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "metric/rows.h"
#include "quant/products.h"
#include "quant/quantizer.h"
#include "qir/mx.h"

/* ---- weights ---- */

/* Index into LocalError.weight_err, -1: among the extras, -2: stays float. */
static int weight_kind(const QSpec *w)
{
    if (w->dtype == QT_FLOAT)
        return -2;
    bool grid = strcmp(w->method, "minmax") == 0 || strcmp(w->method, "gptq") == 0;
    if (w->scope != QS_PER_CHANNEL || !w->symmetric || !grid)
        return -1;
    return w->dtype == QT_INT8 ? 0 : w->dtype == QT_INT4 ? 1 : -1;
}

int local_error_specs(const QConfig *levels, int n, QSpec out[LOCAL_EXTRA])
{
    int found = 0;
    for (int i = 0; i < n; i++) {
        const QSpec *w = &levels[i].weight;
        if (weight_kind(w) != -1 || !weight_quantizer_find(w))
            continue;
        bool known = false;
        for (int k = 0; k < found; k++)
            known = known || qspec_key(&out[k]) == qspec_key(w);
        if (!known && found < LOCAL_EXTRA)
            out[found++] = *w;
    }
    return found;
}

_Static_assert(LOCAL_EXTRA == 8, "reason() says how many");

static const double *extra_of(const LocalError *e, const QSpec *w)
{
    uint64_t key = qspec_key(w);
    for (int k = 0; k < e->extras; k++)
        if (e->extra[k].key == key)
            return &e->extra[k].err;
    return NULL;
}

bool local_error_covers(const LocalError *e, const QSpec *specs, int n)
{
    for (int i = 0; i < n; i++)
        if (!extra_of(e, &specs[i]))
            return false;
    return true;
}

/* Some rows as if they were the whole weight: what a method finds from all of it (a threshold, a search) is estimated. */
static bool fake_part(const WeightQuantizer *k, const QSpec *q, float *w, int64_t rows, int64_t in)
{
    QWeight out;
    WeightTask t = {.q = q, .w = w, .out = rows, .in = in, .T = DT_F32, .F = DT_F32};
    if (qweight_init(&out, q, rows, in, NULL) != ST_OK)
        return false;
    bool ok = k->quantize(&t, &out, NULL) == ST_OK;
    if (ok)
        qweight_rows(&out, 0, rows, DT_F32, w);
    qweight_fini(&out);
    return ok;
}

static void fake_rows(const void *ctx, float *w, int64_t rows, int64_t in)
{
    const QSpec *q = ctx;
    const WeightQuantizer *k = weight_quantizer_find(q);
    bool ok = k && qweight_check(q, rows, in, NULL) == ST_OK;
    const QSpec plain = fake_weight_spec(q);
    if (ok && q->dtype == QT_FLOAT)
        ok = fake_part(weight_quantizer_find(&plain), &plain, w, rows, in);
    else if (ok && k->prepare)
        weight_minmax_int8.rows(q, w, rows, in, DT_F32, false); /* any integer grid */
    else if (ok && weight_quantizer_rowwise(k, q, false))
        k->rows(q, w, rows, in, DT_F32, false);
    else
        ok = ok && fake_part(k, q, w, rows, in);
    for (int64_t i = 0; !ok && i < rows * in; i++)
        w[i] = NAN;
}

WeightFake local_error_fake(const QSpec *q)
{
    return (WeightFake){.rows = fake_rows, .ctx = q};
}

/* ---- activations ---- */

/* Index into LocalError.act_err, -1: not known, -2: stays float. */
static int act_kind(const QSpec *a)
{
    switch (a->dtype) {
    case QT_FLOAT:
        return -2;
    case QT_INT8:
        if (a->scope == QS_PER_TENSOR)
            return a->symmetric ? 0 : 1;
        return a->scope == QS_PD_MIX || (a->scope == QS_PER_TOKEN && a->symmetric) ? 2 : -1;
    case QT_INT4:
        return a->scope == QS_PER_TOKEN && a->symmetric ? 3 : -1;
    case QT_FP8_E4M3:
    case QT_MXFP8:
        return 4;
    case QT_MXFP4:
        return 5;
    default:
        return -1;
    }
}

/* Mean squared rounding error of a float element as a share of its square: step^2/12 with the step 2^-3 (e4m3) or 2^-1
 * (e2m1) of the binade, for magnitudes spread evenly over the logarithm (mean of 4^floor(log2 x)/x^2: 0.541). */
#define E4M3_SHARE (0.541 / 64 / 12)
#define E2M1_SHARE (0.541 / 4 / 12)
/* Below its first binade e2m1 has a fixed step, on average 0.102 of the block's maximum. */
#define E2M1_STEP_SQ (0.102 * 0.102)

/* Mean square of the largest of a block's values: normally distributed, unless one channel stands out. */
static double block_top_sq(const double *m2, int64_t n)
{
    double sum = 0, top = 0;
    for (int64_t j = 0; j < n; j++) {
        sum += m2[j];
        top = fmax(top, m2[j]);
    }
    return fmax(top, 7 * sum / (double)n);
}

/* Expected squared error of channel j of a block whose mean square maximum is top. */
static double e2m1_noise(double m2, double top)
{
    double share = top > 0 ? sqrt(top / (top + 40 * m2)) : 0; /* of values below the first binade: 0.4 when normal */
    return E2M1_SHARE * m2 + share * E2M1_STEP_SQ / 12 * top;
}

/* DECISIONS, local_error: e = sum_j m2_j |dW_j|^2 + sum_j min(s^2/12, m2_j) |W_j|^2, for every kind of weight and
 * activation; formats without a fixed step have their own noise instead of s^2/12. */
LocalError local_error_of(const TapTotals *t, const WeightTotals *w, const QSpec *weights, int n, double output_sq)
{
    LocalError e = {.output_sq = output_sq};
    if (!t->channel_sq || !w->sq || t->bad || w->bad || !t->rows || isnan(output_sq))
        return e;
    double top = fmax(fabs(t->max), fabs(t->min)), range = fmax(t->max, 0) - fmin(t->min, 0), block = 0;
    double noise[LOCAL_ACTS] = {top * top / (127.0 * 127.0) / 12, range * range / (255.0 * 255.0) / 12,
                                t->token_max_sq / (127.0 * 127.0) / 12, t->token_max_sq / (7.0 * 7.0) / 12};
    e.have = true;
    e.extras = w->err_fake ? n : 0;
    for (int k = 0; k < e.extras; k++)
        e.extra[k].key = qspec_key(&weights[k]);
    for (int64_t j = 0; j < t->width; j++) {
        double m2 = t->channel_sq[j];
        if (j % MX_BLOCK == 0)
            block = block_top_sq(t->channel_sq + j, t->width - j < MX_BLOCK ? t->width - j : MX_BLOCK);
        e.weight_err[0] += m2 * w->err8[j];
        e.weight_err[1] += m2 * w->err4[j];
        for (int k = 0; k < e.extras; k++)
            e.extra[k].err += m2 * w->err_fake[k * t->width + j];
        noise[4] = E4M3_SHARE * m2;
        noise[5] = e2m1_noise(m2, block);
        for (int k = 0; k < LOCAL_ACTS; k++)
            e.act_err[k] += fmin(noise[k], m2) * w->sq[j];
    }
    return e;
}

/* ---- the score ---- */

static double weight_error(const LocalError *e, const QSpec *w)
{
    int k = weight_kind(w);
    if (k >= 0)
        return e->weight_err[k];
    const double *extra = k == -1 ? extra_of(e, w) : NULL;
    return k == -2 ? 0 : extra ? *extra : NAN;
}

double local_error_score(const LocalError *e, const QConfig *q)
{
    if (!q)
        return 0;
    int a = act_kind(&q->act);
    if (weight_kind(&q->weight) == -2 && a == -2)
        return 0;
    if (!e->have || a == -1)
        return NAN;
    double sum = weight_error(e, &q->weight) + (a >= 0 ? e->act_err[a] : 0);
    return sum == 0 ? 0 : sum / e->output_sq;
}

static const char *reason(const LinearResult *r, const QConfig *q)
{
    if (!q)
        return "the recipe has no quantized level to score";
    if (!r->err.have)
        return r->in.values ? "local_error was not collected" : "no token reached it";
    if (act_kind(&q->act) == -1)
        return "local_error knows no such activations";
    if (weight_kind(&q->weight) == -1 && !weight_quantizer_find(&q->weight))
        return "this build has no such weight quantizer";
    const double *extra = weight_kind(&q->weight) == -1 ? extra_of(&r->err, &q->weight) : NULL;
    if (weight_kind(&q->weight) == -1 && !extra && r->err.extras == LOCAL_EXTRA)
        return "a pass sums the errors of 8 other kinds of weights, and the recipe has more";
    if (weight_kind(&q->weight) == -1 && !extra)
        return "the pass was made before its level was known: run local_error again";
    if (extra && isnan(*extra))
        return "the weight does not fit its level (group_size must divide the inputs)";
    return "its output is zero, or its squares overflow";
}

static double score(const Scores *s, int64_t unit, const QConfig *q, char *why, int why_size)
{
    const LinearResult *r = &s->linear[unit].r;
    double v = q ? local_error_score(&r->err, q) : NAN;
    if (isfinite(v) && !r->in.bad && !r->weight.bad)
        return v;
    if (why && why_size > 0) {
        if (r->weight.bad)
            snprintf(why, (size_t)why_size, "weight: %s", r->weight.bad_text);
        else
            snprintf(why, (size_t)why_size, "%s", r->in.bad ? r->in.bad_text : reason(r, q));
    }
    return NAN;
}

const Metric metric_local_error = {
    .name = "local_error",
    .title = "Local error",
    .unit = "of |y|^2",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_ERROR,
    .cost = "one float pass over the calibration set",
    .direction = 1,
    .pass = &pass_statistics,
    .needs = NEED_CHANNEL | NEED_WEIGHT | NEED_OUTPUT,
    .explain = "Expected squared error of the layer's output at its level, as a share of the output's own square.\n"
               "Sees weights and activations, and changes with the scheme.\n"
               "It stops at the layer's output: it cannot tell which errors the rest of the model forgives.",
    .score = score,
};
