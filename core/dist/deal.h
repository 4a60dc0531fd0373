#ifndef SLIM_DIST_DEAL_H
#define SLIM_DIST_DEAL_H

#include <stdint.h>

#include "base/error.h"

/* Things dealt out to ranks, with no word between these: the same on every rank. The most expensive goes first, each to the
 * rank that has least so far (longest processing time first, Graham 1969); of several to the first of them, counted from
 * `begin` on. rank_of[n]: who has it; size > 0. */
Status deal_out(const uint64_t *cost, int64_t n, int size, int begin, int32_t *rank_of, Error *err);

#endif
