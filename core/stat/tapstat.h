#ifndef SLIM_STAT_TAPSTAT_H
#define SLIM_STAT_TAPSTAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pack.h"
#include "stat/keyhist.h"

/* Memory that workers take while they look at one sample or panel: as many pieces as there were workers at once. */
typedef struct StatPool StatPool;
Status statpool_new(StatPool **out, Error *err);
void statpool_free(StatPool *p);

/* What is collected of a tap. Minimum, maximum and mean come always, squares with all but `order`. */
typedef struct TapWants {
    bool order;    /* kurtosis, quantile */
    bool std;      /* the std score */
    bool channel;  /* mean square per channel, token maxima */
    bool hist;     /* key histogram, channel maxima */
    bool parts;    /* keeps what each sample gave, for tapstat_pack: [samples][width] doubles more */
} TapWants;

/* Everything about one tap; rows and values count what was seen. */
typedef struct TapTotals {
    int64_t values, rows, width;
    int samples;               /* that had a token */
    double min, max, mean, std; /* population std; NaN when no value was seen, or not wanted */
    double mean_sq;            /* mean of x^2, as these */
    double kurtosis, quantile, std_score; /* specs/analysis.md 2.2; NaN when undefined or not wanted */
    double token_max_sq;       /* mean over tokens of max|x|^2; NaN when not wanted */
    double *channel_sq;        /* [width] mean of x^2, NULL when not wanted */
    float *channel_max;        /* [width] max|x|, NULL when not wanted */
    KeyHist hist;
    bool bad;                  /* a NaN or Inf was seen: everything else is undefined */
    char bad_text[160];        /* "NaN first at sample 7 token 211 channel 88", counted from 0 */
} TapTotals;
void taptotals_fini(TapTotals *t);

/* Statistics of one tap. Samples may be fed by several threads at once, each sample's rows in order by one thread at
 * a time; the totals don't depend on which thread fed what when. */
typedef struct TapStat TapStat;
/* start[samples+1]: first rows of the samples (copied). */
Status tapstat_new(TapStat **out, StatPool *pool, TapWants wants, int samples, const int64_t *start, int64_t width,
                   Error *err);
void tapstat_free(TapStat *t);
/* [any thread] rows [row0, row0 + rows) of a sample. The tiles of a sample lie one behind the other, ld floats a row,
 * and stay where they are until the last has come (ObserverOps.tap_tile). Errors are kept for tapstat_end. */
void tapstat_tile(TapStat *t, int sample, int64_t row0, const float *x, int64_t rows, int64_t ld);
/* After the last tile: *out is initialised on success (caller frees it with taptotals_fini). */
Status tapstat_end(TapStat *t, TapTotals *out, Error *err);
/* What came of these samples, with `parts`. */
Status tapstat_pack(const TapStat *t, Pack *out, Error *err);
/* Before tapstat_end: adds samples that another one packed, behind those that are there. Sums are made in the order of
 * the samples, so the totals have the same bits however these were divided. */
Status tapstat_merge(TapStat *t, Unpack *in, Error *err);
/* Adds n samples without a row. */
Status tapstat_skip(TapStat *t, int64_t n, Error *err);
/* Bytes held for one tap of `rows` rows in samples of at most `longest` rows, `threads` at work, without parts. */
uint64_t tapstat_bytes(TapWants wants, int64_t rows, int64_t longest, int64_t width, int threads);

#endif
