#ifndef SLIM_METRIC_LOCAL_ERROR_H
#define SLIM_METRIC_LOCAL_ERROR_H

#include "metric/result.h"
#include "stat/tapstat.h"
#include "stat/weightstat.h"

/* Quantizes weights by `q`, which must outlive it, for weightstat_fakes. */
WeightFake local_error_fake(const QSpec *q);
/* Parts of one linear; w->err_fake belongs to weights[n]. */
LocalError local_error_of(const TapTotals *t, const WeightTotals *w, const QSpec *weights, int n, double output_sq);

#endif
