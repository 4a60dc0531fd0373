#include "tune/predict.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"

static bool above_zero(double x)
{
    return isfinite(x) && x > 0;
}

/* The median of what `stride` apart pairs of both lists give, from index `from` on. */
static double median_ratio(const double *alone, const double *block, int64_t n, int64_t from, int64_t stride,
                           int64_t *pairs)
{
    double *r = mem_array((size_t)n, sizeof *r);
    int64_t k = 0;
    for (int64_t i = from; r && i < n; i += stride)
        if (above_zero(alone[i]) && above_zero(block[i]))
            r[k++] = alone[i] / block[i];
    double median = NAN;
    if (k > 0) {
        qsort(r, (size_t)k, sizeof *r, compare_doubles);
        median = k % 2 ? r[k / 2] : 0.5 * (r[k / 2 - 1] + r[k / 2]);
    }
    free(r);
    *pairs = k;
    return median;
}

double tune_scale(const double *alone, const double *block, int64_t n, int64_t *pairs)
{
    return median_ratio(alone, block, n, 0, 1, pairs);
}

/* How far, in logarithms, a value of block times c is from alone: 1.4826 times the median distance, which is the standard
 * deviation were it normal. NaN with fewer than SPREAD_PAIRS pairs. */
enum { SPREAD_PAIRS = 8 };
static double spread_around(const double *alone, const double *block, int64_t n, int64_t from, int64_t stride, double c)
{
    double *d = mem_array((size_t)n, sizeof *d), spread = NAN;
    int64_t k = 0;
    for (int64_t i = from; d && i < n; i += stride)
        if (above_zero(alone[i]) && above_zero(block[i]))
            d[k++] = fabs(log(alone[i] / (c * block[i])));
    if (k >= SPREAD_PAIRS) {
        qsort(d, (size_t)k, sizeof *d, compare_doubles);
        spread = 1.4826 * d[k / 2];
    }
    free(d);
    return spread;
}

/* Two estimates of one value, each trusted by its variance (in logarithms): alone by its standard error, the other by its
 * spread. */
static double blend(double alone, double error, double other, double spread)
{
    if (!(above_zero(alone) && above_zero(error) && above_zero(other) && above_zero(spread)))
        return alone;
    double r = error / alone, w = r * r / (r * r + spread * spread);
    return alone * pow(other / alone, fmin(w, 0.5));
}

void tune_weights(const double *alone, const double *error, const double *block, int64_t n, int levels, double *v)
{
    int64_t pairs, all = n * levels;
    double any = tune_scale(alone, block, all, &pairs);
    for (int k = 0; k < levels; k++) {
        double c = median_ratio(alone, block, all, k, levels, &pairs);
        double spread = spread_around(alone, block, all, k, levels, c);
        c = isfinite(c) ? c : isfinite(any) ? any : 1;
        for (int64_t i = k; i < all; i += levels) {
            double other = c * block[i];
            double x = isfinite(alone[i]) ? blend(alone[i], error ? error[i] : NAN, other, spread) : other;
            v[i] = k == 0 ? 0 : isfinite(x) ? fmax(x, 0) : NAN;
        }
    }
}

/* ---- the curve ---- */

static double value_of(const TunePoint *p, TuneWhat what)
{
    return what == TUNE_KL ? p->kl : p->ppl;
}

static bool usable(const TunePoint *p, TuneWhat what)
{
    return isfinite(p->s) && p->s > 0 && isfinite(value_of(p, what));
}

static int by_s(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return x[0] != y[0] ? compare_doubles(x, y) : compare_doubles(x + 1, y + 1);
}

/* Points of one s become one, with their mean. */
static int join_equal(double (*at)[2], int n)
{
    int k = 0;
    for (int i = 0; i < n;) {
        int from = i;
        double sum = 0;
        while (i < n && at[i][0] == at[from][0])
            sum += at[i++][1];
        at[k][0] = at[from][0];
        at[k++][1] = sum / (i - from);
    }
    return k;
}

/* Neighbours that fall get their mean, until none falls. */
static void pool(double (*at)[2], int n)
{
    for (int i = 0; i < n; i++) {
        at[i][1] = fmax(at[i][1], 0);
        int from = i;
        double sum = at[i][1];
        while (from > 0 && at[from - 1][1] > sum / (i - from + 1))
            sum += at[--from][1];
        for (int k = from; k <= i; k++)
            at[k][1] = sum / (i - from + 1);
    }
}

Status tune_curve(TuneCurve *c, const TunePoint *p, int np, TuneWhat what, int skip, Error *err)
{
    *c = (TuneCurve){.at = mem_array((size_t)np + 1, sizeof *c->at)};
    if (!c->at)
        return error_nomem(err, "a prediction");
    for (int i = 0; i < np; i++)
        if (i != skip && usable(&p[i], what)) {
            c->at[c->n][0] = p[i].s;
            c->at[c->n++][1] = value_of(&p[i], what);
        }
    qsort(c->at, (size_t)c->n, sizeof *c->at, by_s);
    c->n = join_equal(c->at, c->n);
    pool(c->at, c->n);
    return ST_OK;
}

void tune_curve_free(TuneCurve *c)
{
    free(c->at);
    *c = (TuneCurve){0};
}

/* The slope of the piece that ends at point i. */
static double slope(const TuneCurve *c, int i)
{
    double s0 = i ? c->at[i - 1][0] : 0, y0 = i ? c->at[i - 1][1] : 0;
    return (c->at[i][1] - y0) / (c->at[i][0] - s0);
}

static double last_slope(const TuneCurve *c)
{
    for (int i = c->n - 1; i >= 0; i--)
        if (slope(c, i) > 0)
            return slope(c, i);
    return 0;
}

double tune_curve_at(const TuneCurve *c, double s)
{
    if (!c->n)
        return NAN;
    for (int i = 0; i < c->n; i++)
        if (s <= c->at[i][0])
            return c->at[i][1] - (c->at[i][0] - s) * slope(c, i);
    return c->at[c->n - 1][1] + (s - c->at[c->n - 1][0]) * last_slope(c);
}

double tune_curve_inverse(const TuneCurve *c, double y)
{
    if (!c->n || y < 0)
        return c->n ? 0 : NAN;
    for (int i = 0; i < c->n; i++)
        if (c->at[i][1] > y)
            return c->at[i][0] - (c->at[i][1] - y) / slope(c, i);
    double rise = last_slope(c);
    return rise > 0 ? c->at[c->n - 1][0] + (y - c->at[c->n - 1][1]) / rise : INFINITY;
}

/* ---- predictions ---- */

static int groups_apart(const int16_t *a, const int16_t *b, int64_t n)
{
    int d = 0;
    for (int64_t i = 0; i < n; i++)
        d += a[i] != b[i];
    return d;
}

/* The measured set that a step of a few groups leads from, the nearest, of equal ones the newest; -1: none. */
static int neighbour(const TunePoint *p, int np, TuneWhat what, const int16_t *set, int64_t n, int skip)
{
    int best = -1, least = TUNE_STEP + 1;
    for (int i = np; i-- > 0;) {
        int d = i != skip && usable(&p[i], what) ? groups_apart(p[i].set, set, n) : least;
        if (d < least) {
            best = i;
            least = d;
        }
    }
    return best;
}

/* The value of a set by the points but one; *step: how. */
static Status foretell(const TunePoint *p, int np, TuneWhat what, const int16_t *set, int64_t n, double s, int skip,
                       double *value, bool *step, Error *err)
{
    int near = neighbour(p, np, what, set, n, skip);
    *step = near >= 0;
    if (near >= 0) {
        *value = value_of(&p[near], what) * (s / p[near].s);
        return ST_OK;
    }
    TuneCurve c;
    RETURN_IF_ERROR(tune_curve(&c, p, np, what, skip, err));
    *value = tune_curve_at(&c, s);
    tune_curve_free(&c);
    return ST_OK;
}

/* Whether a point has others on both sides; (0, 0) is one. */
static bool between(const TunePoint *p, int np, TuneWhat what, int i)
{
    for (int k = 0; k < np; k++)
        if (k != i && usable(&p[k], what) && p[k].s > p[i].s)
            return true;
    return false;
}

/* The factor within which nine of ten predictions of this kind lie, by the points' own errors; 0: too few. */
static Status own_factor(const TunePoint *p, int np, TuneWhat what, int64_t n, bool step, double *factor, Error *err)
{
    double square = 0;
    int k = 0;
    for (int i = 0; i < np; i++) {
        double value;
        bool by_step;
        if (!usable(&p[i], what) || value_of(&p[i], what) <= 0)
            continue;
        RETURN_IF_ERROR(foretell(p, np, what, p[i].set, n, p[i].s, i, &value, &by_step, err));
        if (by_step != step || (!step && !between(p, np, what, i)) || !above_zero(value))
            continue;
        double d = log(value / value_of(&p[i], what));
        square += d * d;
        k++;
    }
    *factor = k >= 2 ? exp((1.645 + 2.3 / k) * sqrt(square / k)) : 0;
    return ST_OK;
}

Status tune_predict(const TunePoint *p, int np, TuneWhat what, const int16_t *set, int64_t n, double s, TuneRange *out,
                    Error *err)
{
    *out = (TuneRange){.value = NAN, .low = NAN, .high = NAN, .factor = NAN};
    for (int i = 0; i < np; i++)
        out->measurements += usable(&p[i], what);
    if (!out->measurements || !isfinite(s))
        return ST_OK;
    RETURN_IF_ERROR(foretell(p, np, what, set, n, s, -1, &out->value, &out->step, err));
    double own = 0;
    if (out->measurements >= 3)
        RETURN_IF_ERROR(own_factor(p, np, what, n, out->step, &own, err));
    out->rough = own == 0;
    out->factor = own > 0 ? fmax(own, 1.03) : out->measurements == 1 ? 1.5 : out->step ? 1.12 : 1.15;
    double less = out->value / out->factor, more = out->value * out->factor;
    out->low = fmin(less, more);
    out->high = fmax(less, more);
    return ST_OK;
}
