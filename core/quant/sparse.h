#ifndef SLIM_QUANT_SPARSE_H
#define SLIM_QUANT_SPARSE_H

#include "quant/quantizer.h"

/* What weights of float_sparse are in the end (specs/quantization.md 12): values of float16 of few bits. */

/* x, a value of float16, with two bits behind the point of its mantissa; below 2^-8 a power of two; what is no normal number
 * is 0. keep: it stays as it is, but between 2^-14 and 2^-8. */
float sparse_round(float x, bool keep);

/* Makes the pruned weight w[out][in], values of t->T, what is written: the 2 % of it that lose most, each times importance of
 * its input, stay. importance[in]: as the peer's scaler row, in any unit; NULL: all the same. `out` is the caller's
 * (qweight_init). w is overwritten. */
Status sparse_settle(const WeightTask *t, float *w, const float *importance, QWeight *out, Error *err);
/* Bytes it takes. */
uint64_t sparse_bytes(int64_t in, int threads);

/* Pruned values of so many. */
int64_t sparse_count(const QSpec *q, int64_t values);

#endif
