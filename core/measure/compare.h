#ifndef SLIM_MEASURE_COMPARE_H
#define SLIM_MEASURE_COMPARE_H

#include "measure/effect.h"
#include "measure/reference.h"
#include "measure/spread.h"

/* What the numbers of an effect are made from; all borrowed. */
typedef struct Comparison {
    const Reference *f;
    const Predicted *predicted;
    const Texts *eval_texts, *calib_texts;
    uint64_t seed; /* bootstrap */
} Comparison;
/* Fills in the numbers of *e from the quantized model's streams behind the last layer: one pass over its logits. ST_DATA
 * when they are no numbers. */
Status effect_compare(const Comparison *c, Runner *r, const Stream *calib, const Stream *eval, Effect *e, Error *err);

#endif
