#ifndef SLIM_DIST_DEAL_H
#define SLIM_DIST_DEAL_H

#include <stdint.h>

#include "base/error.h"

/* Things dealt out to ranks, with no word between these: the same on every rank. The most expensive goes first, each to the
 * rank that is done with it first (longest processing time first, Graham 1969); of several to the first of them, counted from
 * `begin` on. speed: [size] above 0, NULL: all are alike. rank_of[n]: who has it; size > 0. */
Status deal_out(const uint64_t *cost, int64_t n, const double *speed, int size, int begin, int32_t *rank_of, Error *err);

#endif
