#ifndef SLIM_METRIC_WEIGHTVIEW_H
#define SLIM_METRIC_WEIGHTVIEW_H

#include "base/pool.h"
#include "qir/scheme.h"
#include "run/source.h"

/* Pictures of one weight, made when they are asked for: on the thread that asks, rows at a time. */

/* specs/analysis.md 9.10: equal bins over [lo, hi]; a constant weight has one. */
enum { WEIGHT_QUANTILES = 9 };
extern const double weight_quantiles[WEIGHT_QUANTILES]; /* 0.001 ... 0.999 */
typedef struct WeightHist {
    int bins;
    uint64_t *count;      /* [bins] a value on an edge is in the upper bin, hi in the last */
    double n, lo, hi, mean, std; /* std: of the population */
    uint64_t below, above; /* values more than 3 std from the mean */
    double quantile[WEIGHT_QUANTILES]; /* exact for bfloat16 weights, else to the upper 16 bits of a float32 */
} WeightHist;
/* Caller frees with weight_hist_fini. ST_DATA: a value is not finite, or the weight can't be read; ST_CANCELLED. */
Status weight_hist(const Source *s, int64_t linear, int bins, const Cancel *cancel, WeightHist *out, Error *err);
void weight_hist_fini(WeightHist *h);

/* specs/analysis.md 9.11: cell[g][o] is the mean square error of group g of output channel o, brought down to at most
 * rows x cols fields: the mean of the cells of each, and the largest. */
typedef struct WeightHeat {
    int64_t group, groups, channels; /* values of a group; of the cells */
    int rows, cols;                  /* of the fields: groups downwards, channels to the right */
    double *mean, *max;              /* [rows][cols] */
    double average, top;             /* of all cells */
    int64_t top_group, top_channel;  /* where the largest is */
} WeightHeat;
/* q: how it is quantized; NULL: as 9.1 says, 4 bits in groups of `group` values. Of a q without groups, cells are `group`
 * values. group 0: 32. Caller frees with weight_heat_fini. Errors as of weight_hist, and ST_USAGE when q has to see the whole
 * weight or this build can't quantize so. */
Status weight_heat(const Source *s, int64_t linear, const QSpec *q, int64_t group, int rows, int cols, const Cancel *cancel,
                   WeightHeat *out, Error *err);
void weight_heat_fini(WeightHeat *h);

#endif
