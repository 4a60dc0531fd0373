#include "metric/weights.h"

#include <math.h>
#include <stdio.h>

#include "stat/weightsums.h"

/* specs/analysis.md 9.5: values further than SIGMAS standard deviations from the weight's mean. */

extern const WeightAnalysis weight_outliers;

static const double SIGMAS = 3;

enum { SUM_1, SUM_2, SUM_4, SUM_INSIDE, SUM_LEAST, SUM_MOST, SUM_BEYOND, SUMS };

typedef struct Outliers {
    float center, lo, hi;    /* inliers are within [lo, hi] */
    double mean, std, d4;
    double inside, least, most, beyond;
} Outliers;

static int sums(const void *self)
{
    (void)self;
    return SUMS;
}

/* The values that float32 has within [lo, hi], which are no outliers. */
static void set_limits(Outliers *o)
{
    double lo = o->mean - SIGMAS * o->std, hi = o->mean + SIGMAS * o->std;
    o->lo = (float)lo;
    o->hi = (float)hi;
    if ((double)o->lo < lo)
        o->lo = nextafterf(o->lo, INFINITY);
    if ((double)o->hi > hi)
        o->hi = nextafterf(o->hi, -INFINITY);
}

/* Moments in sweep 1, around the mean that sweep 0 found; who lies where in sweep 2. Of a constant weight nothing is
 * rounded: all of it is one value. */
static bool wants(void *self, const WeightCase *c, int sweep)
{
    Outliers *o = self;
    if (sweep == 0)
        return false;
    bool constant = c->min == c->max;
    if (sweep == 1) {
        *o = (Outliers){.center = (float)(c->sum / c->n), .beyond = -1};
        if (constant) {
            o->mean = o->least = o->most = (double)c->min;
            o->inside = c->n;
        }
    } else if (!constant) {
        set_limits(o);
    }
    return !constant;
}

static void block(void *self, const WeightCase *c, int sweep, const WeightBlock *b, const WeightScratch *scratch, double *sum)
{
    (void)scratch;
    const Outliers *o = self;
    int64_t n = b->rows * c->l->in;
    if (sweep == 1) {
        AroundSums s = {0};
        weightsums_around(b->w, n, o->center, &s);
        sum[SUM_1] = s.d1;
        sum[SUM_2] = s.d2;
        sum[SUM_4] = s.d4;
    } else {
        SplitSums s = SPLIT_START;
        weightsums_split(b->w, n, o->lo, o->hi, &s);
        sum[SUM_INSIDE] = (double)s.inside;
        sum[SUM_LEAST] = -(double)s.min;
        sum[SUM_MOST] = (double)s.max;
        sum[SUM_BEYOND] = (double)s.beyond;
    }
}

static void swept(void *self, const WeightCase *c, int sweep, const double *sum)
{
    Outliers *o = self;
    if (sweep == 1) {
        double d1 = weights_total(sum, c->blocks, SUMS, SUM_1), d2 = weights_total(sum, c->blocks, SUMS, SUM_2);
        o->mean = (double)o->center + d1 / c->n;
        o->std = c->n > 1 ? sqrt(fmax(d2 - d1 * d1 / c->n, 0) / (c->n - 1)) : 0;
        o->d4 = weights_total(sum, c->blocks, SUMS, SUM_4);
    } else {
        o->inside = weights_total(sum, c->blocks, SUMS, SUM_INSIDE);
        o->least = -weights_top(sum, c->blocks, SUMS, SUM_LEAST);
        o->most = weights_top(sum, c->blocks, SUMS, SUM_MOST);
        o->beyond = weights_top(sum, c->blocks, SUMS, SUM_BEYOND);
    }
}

enum { PART_COUNT, PART_FRACTION, PART_OUTLIER, PART_RANGE, PART_INLIERS, PART_WASTE, PART_MEAN, PART_STD, PART_KURTOSIS };
static const MetricPart parts[] = {
    {"count", "", "values beyond 3 standard deviations from the mean"},
    {"fraction", "", "their share"},
    {"max_outlier", "", "the largest magnitude among them"},
    {"range", "", "largest value less least value"},
    {"inlier_range", "", "the same without the outliers"},
    {"wasted", "", "share of the levels of a grid over the range that only outliers use"},
    {"mean", "", "of all values"},
    {"std", "", "of all values"},
    {"kurtosis", "", "of all values, 0: normal"},
    {NULL, NULL, NULL},
};

static Status finish(void *self, const WeightCase *c, WeightScores *out, Error *err)
{
    const Outliers *o = self;
    double range = (double)c->max - (double)c->min, inliers = o->inside > 0 ? o->most - o->least : 0;
    double variance = o->std * o->std * (c->n - 1) / c->n;
    UnitScore s = {.value = inliers > 0 ? range / inliers : range > 0 ? NAN : 1};
    s.part[PART_COUNT] = c->n - o->inside;
    s.part[PART_FRACTION] = (c->n - o->inside) / c->n;
    s.part[PART_OUTLIER] = o->beyond > 0 ? o->beyond : 0;
    s.part[PART_RANGE] = range;
    s.part[PART_INLIERS] = inliers;
    s.part[PART_WASTE] = range > 0 ? 1 - inliers / range : 0;
    s.part[PART_MEAN] = o->mean;
    s.part[PART_STD] = o->std;
    s.part[PART_KURTOSIS] = variance > 0 ? o->d4 / c->n / (variance * variance) - 3 : NAN;
    if (!isfinite(s.value))
        snprintf(s.why, sizeof s.why, inliers > 0 ? "its range overflows" : "all but %.0f values are the same",
                 c->n - o->inside);
    return weights_add(out, &weight_outliers, c, &s, err);
}

const WeightAnalysis weight_outliers = {
    .metric = {
        .name = "weight_outliers",
        .title = "Outliers",
        .unit = "",
        .scope = SCOPE_LINEAR,
        .family = FAMILY_WEIGHT,
        .cost = "reads the weights once, no data",
        .parts = parts,
        .any_level = true,
        .direction = 1,
        .pass = &pass_weights,
        .explain = "Range of a weight over its range without outliers, which lie beyond 3 standard deviations from the mean.\n"
                   "Above 2 most levels of one grid for the whole weight serve a few values: use channels, groups, clipping or\n"
                   "smoothing. Grids of a row or a group each have fewer of them than it says.",
    },
    .size = sizeof(Outliers),
    .sums = sums,
    .wants = wants,
    .block = block,
    .swept = swept,
    .finish = finish,
};
