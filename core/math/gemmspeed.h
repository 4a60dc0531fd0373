#ifndef SLIM_MATH_GEMMSPEED_H
#define SLIM_MATH_GEMMSPEED_H

#include "base/pool.h"

/* How many products of one small size the pool's threads do in a few hundredths of a second: to weigh processes that work at
 * the same time against each other. Above 0. */
double gemm_speed(Pool *pool);

#endif
