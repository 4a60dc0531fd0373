#ifndef SLIM_METRIC_OUTPUTS_H
#define SLIM_METRIC_OUTPUTS_H

#include "metric/metric.h"

/* The pass in which a float model's units are computed again with linears, groups or whole blocks quantized at each level
 * of the plan, and their outputs compared. */

/* Tokens on which they are, from the beginnings of the texts; ranges of static levels are those of all tokens. */
enum { OUTPUT_TOKENS = 1024, OUTPUT_LEAST = 16 };

extern const Metric metric_output_error, metric_residual_error, metric_block_output;
extern const MetricPass pass_outputs;

#endif
