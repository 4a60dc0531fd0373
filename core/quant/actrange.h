#ifndef SLIM_QUANT_ACTRANGE_H
#define SLIM_QUANT_ACTRANGE_H

#include "base/error.h"
#include "base/pool.h"
#include "run/stream.h"

/* Least and greatest value of every sample of x (rows packed as in `shape`, `width` wide) into mn, mx [samples]; an
 * empty sample gets +inf, -inf. NaN and Inf: ST_DATA naming sample and rows. The same for every number of threads. */
Status act_ranges(const float *x, const Stream *shape, int64_t width, Pool *pool, float *mn, float *mx, Error *err);

#endif
