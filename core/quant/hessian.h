#ifndef SLIM_QUANT_HESSIAN_H
#define SLIM_QUANT_HESSIAN_H

#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"

/* Rows [row0, row0+rows) of a linear's input as it multiplies the weight, into out[rows][in]. [worker] */
typedef void HessianRows(void *ctx, int64_t row0, int64_t rows, float *out);

/* Second moments of `rows` rows: h[in][in] = 2/rows * sum of x xT (specs/quantization.md 7.3). The same bits for every
 * number of threads. ST_CANCELLED when `cancel` (may be NULL) is raised. */
Status hessian_gather(HessianRows *fill, void *ctx, int64_t rows, int64_t in, Pool *pool, const Cancel *cancel,
                      float *h, Error *err);
/* Bytes hessian_gather takes beside h. */
uint64_t hessian_scratch(int64_t in, int threads);

#endif
