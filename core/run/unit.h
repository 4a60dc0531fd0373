#ifndef SLIM_RUN_UNIT_H
#define SLIM_RUN_UNIT_H

#include "run/runner.h"

/* Blocks [from_block, to_block) of a unit (Model.units[unit].block), so that a part of it can be run: attention alone,
 * feed-forward alone. in: the state before from_block; out: the state behind to_block - 1, in place or not (out may be
 * in; otherwise it has in's shape). v, observers and chunks: as runner_layer, which runs them all. TAP_BLOCK_OUT and
 * ObserverOps.layer_end come with the unit's last block. What a block adds behind the unit's last (Block.spec->late) is
 * added behind to_block - 1. */
Status unit_forward(Runner *r, int unit, int from_block, int to_block, const Variant *v, const Stream *in, Stream *out,
                    const Observer *obs, int nobs, Error *err);

/* The first block whose gift is added behind the unit's last (nblocks: none): the states behind it are none of the unit's. */
int unit_first_late(const Unit *u);

struct GradHooks;

/* Through one block of a unit, which read the state `in`: grad is of the state it left and becomes that of `in`. end: of a
 * block that is added behind the unit's last, the gradient of the unit's output, which is used up; its grad is of the state
 * that the block behind it reads, too. NULL for others. Chunks as unit_forward. ST_USAGE where unit_has_gradients says no.
 * Whole units, and hooks: run/gradient.h. */
Status unit_block_backward(Runner *r, int unit, int block, const Variant *v, const Stream *in, Stream *grad, Stream *end,
                           const struct GradHooks *hooks, Error *err);
/* Whether there are gradients through all of a unit's blocks; ST_USAGE naming the first kind that has none. */
Status unit_has_gradients(const Model *m, int unit, Error *err);

#endif
