#ifndef SLIM_RUN_BLOCK_INDEXER_H
#define SLIM_RUN_BLOCK_INDEXER_H

#include "run/block/attention.h"

/* What the indexer's three linears gave, [rows] of the chunk. */
typedef struct IndexRun {
    Pass *ps;
    const BlockRun *b;
    const RopeParams *rope;
    const float *norm, *bias; /* of the keys' LayerNorm */
    float *q; /* [heads][dim] a row; rotated in place */
    float *k; /* [dim] a row; normed and rotated in place */
    float *w; /* [heads] a row */
    const Rotation *turn_q, *turn_k; /* by which q and k are turned then (overlay_scored); NULL: by none */
    float *scratch;      /* [threads][turn_floats] for that */
    int64_t turn_floats;
    int64_t *first_task; /* [samples of the chunk + 1] */
} IndexRun;
/* What its block keeps of a text: the keys. */
enum { INDEXER_PAST = ATTENTION_PAST_SLOTS };
/* Which keys the chunk's rows look at, into ps->out->select, for samples longer than ModelConfig.index.top_k; nothing
 * when there is none. Makes use of ix. (specs/models.md 2.5) */
Status indexer_choose(IndexRun *ix, Error *err);
/* Takes over for the chunk's rows what the unit before chose. */
Status indexer_inherit(Pass *ps, Error *err);
/* Whether a pass over samples up to `longest` rows chooses keys at all; bytes of the choices for a row. */
bool indexer_acts(const ModelConfig *c, int64_t longest);
int64_t indexer_row_bytes(const ModelConfig *c, int64_t longest);

/* Rotates x[ModelConfig.mla.rope] in place by one row of a table. Neighbouring pairs come out as [first ones | second
 * ones]: in q and k alike, so their product does not notice. */
void mla_rotate(const Pass *ps, bool interleaved, float *x, const float *cos, const float *sin);

#endif
