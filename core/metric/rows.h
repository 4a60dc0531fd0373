#ifndef SLIM_METRIC_ROWS_H
#define SLIM_METRIC_ROWS_H

#include "metric/metric.h"

extern const Metric metric_block_error, metric_input_range, metric_alone, metric_alone_linear, metric_alone_block,
    metric_alone_exact, metric_alone_attention, metric_alone_cache, metric_fisher;

/* What a row that scores a linear's input returns: v, or NaN with a reason when the input was bad, never came, or has
 * no such statistic (`undefined` says why). */
double metric_input_score(const TapSummary *in, double v, const char *undefined, char *why, int why_size);

#endif
