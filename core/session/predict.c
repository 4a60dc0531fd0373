/* Predictions from the additive metric, fitted to the measurements of the same recipe, data and arithmetic. */
#include <math.h>

#include "session/assignment.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/whatif.h"

/* Whether a measurement belongs to the fit of `newest`; x, y: its sum of local errors and its KL. */
static bool point(const Session *s, Measured *m, const Measured *newest, double *x, double *y)
{
    if (digest_cmp(&m->fit, &newest->fit) != 0 || m->effect.tokens != newest->effect.tokens)
        return false;
    *x = measured_sum(s, m);
    *y = m->effect.kl_mean;
    return *x > 0 && isfinite(*x) && isfinite(*y);
}

/* k of KL = k * sum of local errors: least squares through the origin, and the root mean square of how far, relatively,
 * each measurement is from the fit to the others. */
static void fit(const Session *s, Prediction *p, double *k, double *spread)
{
    Results *r = s->results;
    const Measured *newest = results_newest(s);
    double xy = 0, xx = 0, x, y, square = 0;
    *spread = NAN;
    for (size_t i = 0; newest && i < r->nmeasured; i++)
        if (point(s, &r->measured[i], newest, &x, &y)) {
            xy += x * y;
            xx += x * x;
            p->measurements++;
        }
    p->calibrated = p->measurements > 0;
    if (!p->calibrated)
        return;
    *k = xy / xx;
    for (size_t i = 0; p->measurements > 1 && i < r->nmeasured; i++)
        if (point(s, &r->measured[i], newest, &x, &y)) {
            double others = (xy - x * y) / (xx - x * x) * x;
            square += (y / others - 1) * (y / others - 1);
        }
    if (p->measurements > 1)
        *spread = sqrt(square / p->measurements);
}

static Prediction predict(const Session *s)
{
    const Assignment *a = s->assignment;
    Prediction p = {.share_back = NAN, .kl = NAN, .band = NAN};
    recipe_sizes(s->recipe, s->model, a->level, s->opt.peer, &p.size);
    double all = 0, back = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++) {
        double e = level_error(s, i, a->home[i]);
        all += e;
        back += e - level_error(s, i, a->level[i]);
    }
    p.have = isfinite(all) && all > 0;
    if (!p.have)
        return p;
    double k = NAN, spread;
    p.share_back = back / all;
    fit(s, &p, &k, &spread);
    if (p.calibrated) {
        p.kl = k * local_sum(s, a->level);
        p.band = p.kl * spread;
    }
    return p;
}

Prediction session_predict(Session *s)
{
    WhatIfs *w = s->whatifs;
    if (!s->model || !s->recipe)
        return (Prediction){.share_back = NAN, .kl = NAN, .band = NAN};
    if (!w->predicted_known || w->predicted_version != s->assignment->version ||
        w->predicted_results != s->results->version) {
        w->predicted = predict(s);
        w->predicted_version = s->assignment->version;
        w->predicted_results = s->results->version;
        w->predicted_known = true;
    }
    return w->predicted;
}
