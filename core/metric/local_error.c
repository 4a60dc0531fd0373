#include "metric/rows.h"

#include <math.h>
#include <stdio.h>

/* Index into LocalError.weight_err, -1: not collected, -2: stays float. */
static int weight_kind(const QSpec *w)
{
    if (w->dtype == QT_FLOAT)
        return -2;
    if (w->scope != QS_PER_CHANNEL || !w->symmetric)
        return -1;
    return w->dtype == QT_INT8 ? 0 : w->dtype == QT_INT4 ? 1 : -1;
}

/* Index into LocalError.act_err, as weight_kind. */
static int act_kind(const QSpec *a)
{
    if (a->dtype == QT_FLOAT)
        return -2;
    if (a->dtype != QT_INT8)
        return -1;
    if (a->scope == QS_PER_TENSOR)
        return a->symmetric ? 0 : 1;
    return a->scope == QS_PER_TOKEN && a->symmetric ? 2 : -1;
}

double local_error_score(const LocalError *e, const QConfig *q)
{
    if (!q)
        return 0;
    int w = weight_kind(&q->weight), a = act_kind(&q->act);
    if (w == -2 && a == -2)
        return 0;
    if (!e->have || w == -1 || a == -1)
        return NAN;
    double sum = (w >= 0 ? e->weight_err[w] : 0) + (a >= 0 ? e->act_err[a] : 0);
    return sum == 0 ? 0 : sum / e->output_sq;
}

static const char *reason(const LinearResult *r, const QConfig *q)
{
    if (!q)
        return "the recipe has no quantized level to score";
    if (!r->err.have)
        return r->in.values ? "local_error was not collected" : "no token reached it";
    if (weight_kind(&q->weight) == -1 || act_kind(&q->act) == -1)
        return "local_error knows int8 and int4 per_channel symmetric weights, and int8 per_tensor or per_token "
               "activations";
    return "its output is zero, or its squares overflow";
}

static double score(const LinearResult *r, const QConfig *q, char *why, int why_size)
{
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
    .direction = 1,
    .additive = true,
    .needs = NEED_CHANNEL | NEED_WEIGHT | NEED_OUTPUT,
    .explain = "Expected squared error of the layer's output at its level, as a share of the output's own square.\n"
               "Sees weights and activations, and changes with the scheme; sums over layers predict a recipe's cost.\n"
               "It stops at the layer's output: it cannot tell which errors the rest of the model forgives.",
    .score = score,
};
