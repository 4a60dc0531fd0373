#ifndef SLIM_PROCESS_FLATTRAIN_H
#define SLIM_PROCESS_FLATTRAIN_H

#include "process/flatfold.h"

/* The training of one unit's transforms (specs/outlier_suppression.md 14): its linears compute with transformed, clipped
 * weights and inputs of 4 bits; what the unit gives is held against what it gave in float, and the transforms, diagonals and
 * clip factors are moved by AdamW. Nothing in the model changes. */
typedef struct FlatTask {
    Runner *r;
    const FlatPlace *place;
    const Stream *in, *target; /* what the unit reads, and what it gives in float */
    int epochs;
    bool peer;                 /* samples beyond a multiple of FLAT_BATCH are dropped: fewer are not trained at all */
    uint64_t seed;             /* of the transforms that it begins with */
    void (*told)(void *ctx, int64_t step, int64_t steps, double loss); /* behind every step; may be NULL */
    void *ctx;
} FlatTask;
enum { FLAT_BATCH = 4 };

/* Mean squared error of the unit's output, over the samples of the first and of the last epoch; -1: there was none. */
typedef struct FlatLoss {
    double first, last;
} FlatLoss;

/* *out is initialised, also after an error (flat_found_fini). ST_DATA naming the unit, the sample and the epoch where the
 * error is no number. */
Status flat_train(const FlatTask *t, FlatFound *out, FlatLoss *loss, Error *err);
/* Bytes it takes beside the runner's and the two streams, in batches of the longest of `samples` samples. */
uint64_t flat_train_bytes(const Model *m, const FlatPlace *p, int64_t samples, int64_t longest, int threads);

#endif
