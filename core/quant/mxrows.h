#ifndef SLIM_QUANT_MXROWS_H
#define SLIM_QUANT_MXROWS_H

#include "quant/weightrows.h"
#include "qir/mx.h"

/* Shared by the methods that differ only in how a block gets its exponent. */

/* Exponent of the block x[n], n <= MX_BLOCK; missing elements count as 0. */
typedef float MxExponentFn(const QuantLoops *k, const QSpec *q, const float *x, int64_t n, DType T);

/* WeightQuantizer.quantize and .rows of such a method. */
Status mx_quantize(const WeightTask *t, QWeight *out, MxExponentFn *exponent, Error *err);
void mx_fake_rows(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, MxExponentFn *exponent);
/* Sum of the squared errors of a block at exponent e, every square in T, and their mean in T. */
double mx_block_error(const QuantLoops *k, QType type, const float *x, int64_t n, float e, DType T);
float mx_block_mse(const QuantLoops *k, QType type, const float *x, int64_t n, float e, DType T);

#endif
