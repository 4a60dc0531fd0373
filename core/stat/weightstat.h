#ifndef SLIM_STAT_WEIGHTSTAT_H
#define SLIM_STAT_WEIGHTSTAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "stat/keyhist.h"
#include "stat/tapstat.h"

/* Column sums over all output rows of a weight [out][in]; NULL unless `err` was wanted. Row-wise symmetric minmax in
 * float32: s = max(max|w|/127 (int4: /7), 2^-23), q = rint(w/s), dw = w - q s. */
typedef struct WeightTotals {
    double *err8, *err4; /* [in] sum of dw^2 */
    double *sq;          /* [in] sum of w^2 */
    double *err_fake;    /* [fakes][in] sum of dw^2, dw = w - what each fake made of it; NULL without one */
    double min, max, mean, std; /* population std; NaN unless `hist` was wanted, or without a value */
    KeyHist hist;
    bool bad;            /* a NaN or Inf: everything else is undefined */
    char bad_text[160];  /* "NaN first at row 3 column 17" */
} WeightTotals;
void weighttotals_fini(WeightTotals *t);

/* Another quantization whose errors are summed. */
typedef struct WeightFake {
    /* [any thread] w[rows][in], some whole rows, becomes its dequantized form; what cannot be becomes NaN. */
    void (*rows)(const void *ctx, float *w, int64_t rows, int64_t in);
    const void *ctx;
} WeightFake;

/* Statistics of one weight, fed panel by panel by several threads; the totals don't depend on the threads. */
typedef struct WeightStat WeightStat;
Status weightstat_new(WeightStat **out, StatPool *pool, bool err_sums, bool hist, int panels, int64_t in, Error *err);
/* Before the first panel, where err_sums was wanted: sums the errors of these, too (copied; contexts must stay). */
Status weightstat_fakes(WeightStat *s, const WeightFake *fakes, int n, Error *err);
void weightstat_free(WeightStat *s);
/* [any thread] rows [row0, row0 + rows) as float32 [rows][in]; each panel once. Errors are kept for weightstat_end. */
void weightstat_panel(WeightStat *s, int panel, int64_t row0, int64_t rows, const float *w);
/* After the last panel: *out is initialised on success (caller frees it with weighttotals_fini). */
Status weightstat_end(WeightStat *s, WeightTotals *out, Error *err);

#endif
