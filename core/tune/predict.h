#ifndef SLIM_TUNE_PREDICT_H
#define SLIM_TUNE_PREDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* What quantizing does to a model, foretold from its fused groups one by one and from sets that were measured.
 * A set gives each group a level, 0: float. v of a group at a level is the KL to expect with it alone at that level; of
 * a set, s is the sum of v, in which KL is close to linear: groups act nearly by themselves. */

/* The median of alone / block over the n groups where both are known and above zero; NaN without one. *pairs: how many. */
double tune_scale(const double *alone, const double *block, int64_t n, int64_t *pairs);
/* v[n][levels] of values of the same shape (NaN: not known), where level 0 is float and weighs nothing: alone where it is
 * known, else scale * block with the scale of that level's pairs, without any that of all levels' pairs, without any of
 * these 1 (a line through measured points does not mind). NaN where neither is known. error: the standard error of alone
 * (few tokens are noisy), NULL or NaN: not known; where it is, v is the mean, in logarithms, of alone and scale * block, each
 * weighed by its variance: of the first its error, of the second its spread around all the pairs. */
void tune_weights(const double *alone, const double *error, const double *block, int64_t n, int levels, double *v);

/* A set that was measured. */
typedef struct TunePoint {
    double s, kl;
    double ppl;         /* ln(perplexity / the float model's) */
    const int16_t *set; /* [n] borrowed */
} TunePoint;
typedef enum TuneWhat { TUNE_KL, TUNE_PPL } TuneWhat;

/* What is foretold, and where it lies nine times in ten. */
typedef struct TuneRange {
    double value, low, high; /* NaN: nothing was measured */
    double factor;           /* between value and either end */
    bool rough;              /* the range is experience with other models, not this one's own errors */
    bool step;               /* by the ratio to a measured set a few groups away */
    int measurements;        /* behind it */
} TuneRange;

/* Steps: sets that differ from a measured one in at most so many groups. */
enum { TUNE_STEP = 5 };

/* y at s: linear between (0, 0) and the measured points, made non-decreasing (pool adjacent violators); beyond the last
 * the slope of the last piece that rises. */
typedef struct TuneCurve {
    int n;
    double (*at)[2]; /* [n] of s, y: rising s, not falling y */
} TuneCurve;
/* skip: a point to leave out, -1: none. Free with tune_curve_free. */
Status tune_curve(TuneCurve *c, const TunePoint *p, int np, TuneWhat what, int skip, Error *err);
void tune_curve_free(TuneCurve *c);
double tune_curve_at(const TuneCurve *c, double s); /* NaN without a point */
/* The largest s with y(s) <= y. 0 below the first rise; INFINITY where the curve never rises above; NaN without a point. */
double tune_curve_inverse(const TuneCurve *c, double y);

/* What a set of n groups with sum s will show. A set a few groups from a measured one: that one's value times the ratio of
 * the sums; any other: the curve. Range: a factor of 1.5 after one measurement; after two 1.15 (steps 1.12), roughly.
 * From three on, where two or more measured sets are foretold by the others in the same way as this one (of the curve
 * those that lie between others, of steps those with a neighbour), from these k errors, in logarithms: 1.645 + 2.3/k
 * (about Student's) times their root mean square. Never below a factor of 1.03, which noise alone makes. */
Status tune_predict(const TunePoint *p, int np, TuneWhat what, const int16_t *set, int64_t n, double s, TuneRange *out,
                    Error *err);

#endif
