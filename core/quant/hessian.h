#ifndef SLIM_QUANT_HESSIAN_H
#define SLIM_QUANT_HESSIAN_H

#include <stdint.h>

#include "base/error.h"
#include "base/pack.h"
#include "base/pool.h"

/* Rows [row0, row0+rows) of a linear's input as it multiplies the weight, into out[rows][in]. [worker] */
typedef void HessianRows(void *ctx, int64_t row0, int64_t rows, float *out);

/* Second moments of `rows` rows: h[in][in] = 2/rows * sum of x xT (specs/quantization.md 7.3). The same bits for every
 * number of threads. ST_CANCELLED when `cancel` (may be NULL) is raised. */
Status hessian_gather(HessianRows *fill, void *ctx, int64_t rows, int64_t in, Pool *pool, const Cancel *cancel,
                      float *h, Error *err);

/* The same in steps: rows come in several calls, or, where several ranks divide the samples, from one rank after the
 * other. h[in][in] is the caller's and whole after hessian_end. */
typedef struct Hessian Hessian;
Status hessian_new(Hessian **out, int64_t in, float *h, Pool *pool, const Cancel *cancel, Error *err);
Status hessian_add(Hessian *g, HessianRows *fill, void *ctx, int64_t rows, Error *err);
Status hessian_end(Hessian *g, Error *err);
/* Rows that it has seen, those merged into it among them. */
int64_t hessian_total(const Hessian *g);
void hessian_free(Hessian *g);
/* The sums so far, and into a new one, which goes on from there: a chain, not a reduction. Products of whole chunks of
 * rows are added in float32, so the order of rows is the order of sums, and a chunk may have rows of two ranks. */
Status hessian_pack(Hessian *g, Pack *out, Error *err);
Status hessian_merge(Hessian *g, Unpack *in, Error *err);
/* Bytes it takes beside h. */
uint64_t hessian_scratch(int64_t in, int threads);

#endif
