#ifndef SLIM_METRIC_SAMPLEPARTS_H
#define SLIM_METRIC_SAMPLEPARTS_H

#include "metric/metric.h"

/* Parts of a score that is a mean over samples: how far other samples would move it, and which has most of it. */
enum { SAMPLE_ERROR, SAMPLE_MOST, SAMPLE_SHARE };
extern const MetricPart sample_parts[]; /* in this order, then the end */

/* Adds a sample's value x >= 0 to u->sum, u->samples and these parts of u, which begin at 0. The error is the standard
 * error of the mean, from the sums so far (Welford, Technometrics 4, 1962), NaN with one sample: in closed form, because
 * drawing samples with replacement gives the same (within 10 %, test_sampleparts) and its own noise, and so that a pass can go on after a stop. */
void sample_add(UnitScore *u, double x, int sample);

/* Which part of a metric's scores is its standard error ("error"), -1: it has none. */
int metric_error_part(const Metric *m);
/* Whether values a >= b with these errors do not differ surely: their intervals of two errors meet. NaN errors: false. */
bool errors_meet(double a, double error_a, double b, double error_b);

#endif
