#ifndef SLIM_MEASURE_SPREAD_H
#define SLIM_MEASURE_SPREAD_H

#include <stdint.h>

#include "base/error.h"
#include "text/calib.h"

/* Which rows were drawn together: the texts of a token set. Rows of one text are not independent, so errors are found
 * by drawing whole texts. A set of one text falls back to its windows. */
typedef struct Texts {
    int count;
    int texts;        /* distinct texts, before the fallback */
    int *of_sample;   /* [samples] unit of each sample */
} Texts;
Status texts_of(const TokenSet *t, Texts *out, Error *err);
void texts_fini(Texts *t);

/* A mean as sum / count per unit. */
typedef struct UnitSums {
    double *sum, *count; /* [units] */
    int units;
} UnitSums;
Status unit_sums_init(UnitSums *u, int units, Error *err);
void unit_sums_fini(UnitSums *u);
double unit_sums_mean(const UnitSums *u);
/* Standard deviation of the mean over RESAMPLES draws of the units with replacement, the same for the same seed; NaN
 * with fewer than two units. */
double unit_sums_error(const UnitSums *u, uint64_t seed);

/* Sorts x[n] in place: the middle (mean of the two middle ones), and the value that at least `share` of all do not
 * exceed. n >= 1. */
double sorted_median(double *x, int64_t n);
double sorted_rank(const double *sorted, int64_t n, double share);

#endif
