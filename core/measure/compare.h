#ifndef SLIM_MEASURE_COMPARE_H
#define SLIM_MEASURE_COMPARE_H

#include "measure/blocks.h"
#include "measure/effect.h"
#include "measure/reference.h"
#include "measure/spread.h"

/* What the numbers of an effect are made from; all borrowed. */
typedef struct Comparison {
    const Reference *f;
    const Predicted *predicted;     /* of this rank's share of the evaluation set */
    const Predicted *predicted_all; /* of all of it; the same with one rank */
    struct Dist *dist;              /* NULL: one rank */
    const int32_t *block_of; /* [predicted_all->n] */
    const Texts *eval_texts, *calib_texts;
    uint64_t seed; /* bootstrap */
} Comparison;
/* Fills in the numbers of *e, and the sums of *blocks, from the quantized model's streams behind the last layer: one pass
 * over its logits. ST_DATA when they are no numbers. */
Status effect_compare(const Comparison *c, Runner *r, const Stream *calib, const Stream *eval, Effect *e,
                      TokenBlocks *blocks, Error *err);

#endif
