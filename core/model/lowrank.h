#ifndef SLIM_MODEL_LOWRANK_H
#define SLIM_MODEL_LOWRANK_H

#include "model/editchain.h"

/* A matrix of low rank, l2[out][rank] times l1[rank][in]: what is taken out of a linear's weight, or what runs beside it on
 * the same input (model/overlay.h). Immutable; owners share it. */
typedef struct LowRank {
    int64_t out, in, rank;
    const float *l1, *l2; /* owned */
    DType stored;         /* whose values they are: F32, F16 or BF16 */
    Digest digest;
    void *owners;         /* lowrank.c's */
} LowRank;

/* Takes l1 and l2 (malloc; also after an error), rounded to `stored`. */
Status lowrank_new(LowRank **out, int64_t outputs, int64_t inputs, int64_t rank, float *l1, float *l2, DType stored, Error *err);
LowRank *lowrank_share(const LowRank *l); /* NULL: NULL */
void lowrank_free(LowRank *l);            /* NULL: fine */

/* *l becomes what the edit of this kind (CHAIN_COLS, CHAIN_ROWS: v; CHAIN_RIGHT, CHAIN_LEFT: r, tiled) makes of it; NULL stays
 * NULL. */
Status lowrank_edit(LowRank **l, ChainKind kind, const float *v, const Rotation *r, Error *err);

/* w[rows][in] -= rows [r0, r0 + rows) of it. round: what the product, and what is left, is rounded to; DT_F32: nothing.
 * scratch: lowrank_scratch floats, aligned to 64 bytes. Any thread. */
void lowrank_take(const LowRank *l, const MathKernels *k, DType round, int64_t r0, int64_t rows, float *w, float *scratch);
size_t lowrank_scratch(int64_t in, int64_t rank);

#endif
