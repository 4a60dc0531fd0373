#ifndef SLIM_MATH_GEMMSPEED_H
#define SLIM_MATH_GEMMSPEED_H

#include "base/pool.h"

/* How many products of one small size the pool's threads do in a second of their CPU time: to weigh processes against each
 * other. Takes a few hundredths of a second. Above 0. */
double gemm_speed(Pool *pool);

#endif
