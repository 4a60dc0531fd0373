#ifndef SLIM_RUN_NEED_H
#define SLIM_RUN_NEED_H

#include "run/block.h"

/* What a pass over a unit needs. The planner asks before a run, the pass itself when it knows its forms. */

/* Rows that one chunk takes when memory is no question: enough to make re-reading the weights for the next one
 * cheap. */
enum { CHUNK_ROWS = 4096 };

/* The most that any of blocks [from, from + n) needs, and that the panels and tiles of the unit's linears take. run:
 * the blocks of the pass that asks (NULL without). ask: cfg, linears and run are filled in here. Of a backward pass (back) what
 * the blocks need is all of it. */
BlockNeed unit_need(const Model *m, const Unit *u, int from, int n, const BlockRun *run, const NeedAsk *ask);
/* The same over all units of the model. */
BlockNeed model_need(const Model *m, const NeedAsk *ask);
/* Bytes of position tables and of the small tensors of any unit, widened. */
uint64_t unit_beside_bytes(const Model *m, int64_t longest);
/* Bytes of weights of linears [first, first + n) that have to be whole at a time (source_whole), read `piece` bytes at
 * once; any: each of them may have to be. */
uint64_t linears_whole_bytes(const Source *s, int64_t first, int64_t n, bool any, uint64_t piece);
/* Floats that a thread needs to turn weights of this model, at most. */
size_t model_edit_floats(const Model *m);
/* The same to take matrices of low rank out of them. */
size_t model_branch_floats(const Model *m);
/* Rows whose results wait for the end of a unit, as share of the stream: 1 where a unit has a late block, else 0. */
int model_late(const Model *m);

#endif
