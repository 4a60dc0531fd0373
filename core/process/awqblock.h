#ifndef SLIM_PROCESS_AWQBLOCK_H
#define SLIM_PROCESS_AWQBLOCK_H

#include "process/smooth.h"

/* What a sub-graph's targets lose in the output of the block that they stand in (specs/outlier_suppression.md 7): the part
 * of the unit from the first block with a target to the last one runs again with Q(w s)/s in their place, on a sample of
 * texts. A target alone is its own block: its product with a sample of tokens. */
typedef struct AwqBlock AwqBlock;

/* Runs what stands before the block, and the block as it is. q: the weights' quantizer. */
Status awq_block_new(AwqBlock **out, const SmoothCtx *c, const Subgraph *g, const SmoothStats *s, const QSpec *q,
                     Error *err);
void awq_block_free(AwqBlock *b);
/* AwqTask.loss, ctx: the block. */
Status awq_block_loss(void *block, const float *s, double *loss, Error *err);
/* Bytes that it takes at most, beside the sample and what passes take. rows: of the sample. */
uint64_t awq_block_bytes(const Model *m, const Subgraph *g, const QSpec *q, int64_t rows, bool peer, int threads);

#endif
