#ifndef SLIM_QUANT_WEIGHTROWS_H
#define SLIM_QUANT_WEIGHTROWS_H

#include "quant/quantizer.h"

/* Shared by the weight quantizers. */

/* Rows [row, row + rows) of the task into out; scratch: as many floats as weight_rows was asked for. */
typedef void WeightRowsFn(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch);
/* Runs fn over blocks of rows on t->pool; blocks depend only on the shape. ST_CANCELLED after t->cancel was raised. */
Status weight_rows(const WeightTask *t, QWeight *out, WeightRowsFn *fn, void *ctx, int64_t scratch_floats, Error *err);
/* The same with blocks of `block` rows. */
Status weight_row_blocks(const WeightTask *t, QWeight *out, WeightRowsFn *fn, void *ctx, int64_t block,
                         int64_t scratch_floats, Error *err);
/* Bits of an integer spec. */
static inline int weight_bits(const QSpec *q)
{
    return q->dtype == QT_INT4 ? 4 : 8;
}

#endif
