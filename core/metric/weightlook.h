#ifndef SLIM_METRIC_WEIGHTLOOK_H
#define SLIM_METRIC_WEIGHTLOOK_H

#include "base/pool.h"
#include "qir/scheme.h"
#include "run/source.h"
#include "stat/histview.h"

/* One reading of one weight: what its histograms and profiles are drawn from, on the thread that asks. */
typedef struct WeightLook {
    int64_t out, in;
    KeyHist values;              /* all of them; NaNs apart */
    double min, max, mean, std;  /* of the finite ones, std of the population; 0 where there is none */
    float *row_max, *col_max;    /* [out], [in] max|w| of the finite ones */
    int64_t bad;                 /* values that are NaN or Inf, and where the first is: */
    char bad_text[80];           /* "NaN first at row 2 column 3" */
    /* quantized and back, rows that hold a NaN or Inf left out; `made` is empty where that was not asked for */
    KeyHist made;
    HistGrid grid;               /* the integer grid with the step of the group in the middle; step 0: none */
    double square, error, worst; /* sums of w^2 and of (w - made)^2 over those rows; largest |w - made| */
} WeightLook;

/* q NULL: only the weight itself. Caller frees with weight_look_fini. ST_DATA: it can't be read; ST_USAGE: q has to see the whole
 * weight, or this build can't quantize so; ST_CANCELLED. */
Status weight_look(const Source *s, int64_t linear, const QSpec *q, const Cancel *cancel, WeightLook *out, Error *err);
void weight_look_fini(WeightLook *l);

#endif
