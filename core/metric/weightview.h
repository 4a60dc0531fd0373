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

/* specs/analysis.md 9.11: cell[g][o] is the mean square error of group g of output channel o, of a part of the weight
 * brought down to at most rows x cols fields: the mean of the cells of each, and the largest. */
typedef struct HeatArea {
    int64_t group0, groups, channel0, channels; /* a count of 0: all from there on */
} HeatArea;
typedef struct HeatAsk {
    const QSpec *q;  /* how it is quantized; NULL: as 9.1 says, 4 bits in groups of `group` values */
    int64_t group;   /* of a q without groups: values of a cell; 0: 32 */
    HeatArea area;
    int rows, cols;
} HeatAsk;
typedef struct WeightHeat {
    int64_t group, groups, channels; /* values of a group; groups and channels of the weight */
    HeatArea area;                   /* that the fields are of */
    int rows, cols;                  /* of the fields: groups downwards, channels to the right */
    double *mean, *max;              /* [rows][cols] */
    double average, top;             /* of the area's cells */
    int64_t top_group, top_channel;  /* where the largest is, in the weight */
} WeightHeat;
/* Reads the rows of the area's channels only. Caller frees with weight_heat_fini. Errors as of weight_hist, and ST_USAGE when q
 * has to see the whole weight or this build can't quantize so. */
Status weight_heat(const Source *s, int64_t linear, const HeatAsk *ask, const Cancel *cancel, WeightHeat *out, Error *err);
void weight_heat_fini(WeightHeat *h);

/* The values of one cell: group area.group0 of channel area.channel0. */
typedef struct WeightCell {
    int64_t group, channel, first, n; /* its first column, and how many */
    float *value, *made;              /* [n] as they are; as quantized and back */
} WeightCell;
/* Reads one row. Caller frees with weight_cell_fini. Errors as of weight_heat. */
Status weight_cell(const Source *s, int64_t linear, const HeatAsk *ask, WeightCell *out, Error *err);
void weight_cell_fini(WeightCell *c);

#endif
