#ifndef SLIM_QUANT_PRODUCTS_H
#define SLIM_QUANT_PRODUCTS_H

#include "base/error.h"
#include "base/pool.h"
#include "quant/quantizer.h"

/* Outputs of one linear computed beside the pass, and how far a changed one is from them. Sums are float64, in an order
 * that does not depend on the number of threads. */

typedef struct ProductSums {
    double error;   /* sum of (y' - y)^2 */
    double square;  /* of y^2 */
    double changed; /* of y'^2 */
    double cross;   /* of y y' */
    double max;     /* |y' - y| */
} ProductSums;

/* Operands: x[rows][in], w[out][in], bias [out] or NULL. */
typedef struct Product {
    const float *x, *w, *bias;
    int64_t rows, in, out;
    DType T; /* F16, BF16: products, differences and squares are each rounded to it; any other: nothing is */
} Product;
/* y[rows][out] = x w^T + bias. */
Status product_make(const Product *p, Pool *pool, const Cancel *cancel, float *y, Error *err);
/* The product against y[rows][out]. */
Status product_compare(const Product *p, Pool *pool, const Cancel *cancel, const float *y, ProductSums *sums, Error *err);
/* The same with error and square alone, which is quicker; the other sums are 0. */
Status product_error(const Product *p, Pool *pool, const Cancel *cancel, const float *y, ProductSums *sums, Error *err);
/* Sum over rows d of d[rows][in] of d H d^T, H [in][in] symmetric: what an error of a weight does to its output, by the
 * second moments of the input. Never below 0. */
Status product_form(const float *d, int64_t rows, int64_t in, const float *h, Pool *pool, const Cancel *cancel, double *sum,
                    Error *err);
/* Bytes that each of them takes. */
uint64_t product_bytes(int64_t in, int threads);

/* What a weight is fake-quantized by where its input isn't looked at: gptq as the minmax of its grid, admm as what is
 * pruned by size alone, which they can only be better than. */
QSpec fake_weight_spec(const QSpec *q);
/* Fake-quantizes the weight w[out][in] in place by fake_weight_spec(q). ST_DATA where the spec does not
 * fit, or this build has no quantizer for it. */
Status fake_weight(const QSpec *q, float *w, int64_t out, int64_t in, Pool *pool, const Cancel *cancel, Error *err);
/* The same in an arithmetic of the peer's: in T, what is kept in float32. */
Status fake_weight_peer(const QSpec *q, DType T, float *w, int64_t out, int64_t in, Pool *pool, const Cancel *cancel,
                        Error *err);
/* Bytes of either, beside w. */
uint64_t fake_weight_bytes(const QSpec *q, int64_t out, int64_t in, bool peer, int threads);

#endif
