#ifndef SLIM_RUN_COMPRESSOR_H
#define SLIM_RUN_COMPRESSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "run/ops.h"

/* Compressed keys of one text (specs/models.md 2.5, DeepSeek-V4). */
typedef struct Compressor {
    const float *kv, *gate; /* [tokens][width] */
    const float *ape;       /* [rate][width] */
    int64_t rate;           /* tokens of an entry */
    int64_t dim, width;     /* of an entry; width is dim, or twice that with overlap */
    bool overlap;           /* an entry is also made of the tokens of the one before */
} Compressor;

/* Entry w, whose tokens must all be there: out[dim] = R(sum over its tokens of R(kv * R(softmax(gate + ape)))), each
 * feature by itself. */
void compressor_entry(const Compressor *c, const Ops *o, int64_t w, float *out);

/* Gradients of entry w, out as compressor_entry gives it, g of it: set at its slots of dkv and dgate, [tokens][width]; no two
 * entries have one of the same feature. */
void compressor_back(const Compressor *c, const Ops *o, int64_t w, const float *out, const float *g, float *dkv, float *dgate);

/* Replaces the k greatest of n numbers by 1 and the others by 0; among equals the first are taken. k > 0. */
void choose_greatest(float *x, int64_t n, int64_t k);

#endif
