#ifndef SLIM_METRIC_WEIGHTEACH_H
#define SLIM_METRIC_WEIGHTEACH_H

#include "base/pool.h"
#include "quant/quantizer.h"
#include "run/source.h"

/* A weight rows at a time, on the thread that asks: what pictures of one weight are made by. */

/* Rows [row0, row0 + rows) as w[rows][in]. */
typedef Status WeightEachFn(void *ctx, const float *w, int64_t row0, int64_t rows, Error *err);
/* Shows rows [from, to) to fn in order; w: room of weighteach_room. ST_CANCELLED; ST_DATA: the weight can't be read. */
Status weighteach(const Source *s, const Linear *l, int64_t from, int64_t to, const Cancel *cancel, float *w, WeightEachFn *fn,
                  void *ctx, Error *err);
/* Values that fn sees at once, at most. */
int64_t weighteach_values(const Linear *l);
/* Room for them, `copies` times; NULL without memory. Caller frees. */
float *weighteach_room(const Linear *l, int copies);
/* ST_DATA naming the first of w[n] that is NaN or Inf; w begins at row0. */
Status weighteach_finite(const Linear *l, const float *w, int64_t row0, int64_t n, Error *err);
/* Who quantizes the linear's rows by themselves: of methods that look at inputs, the minmax of their grid. ST_USAGE: q has to
 * see the whole weight, or this build can't quantize so; ST_DATA: it does not fit the weight. */
Status weighteach_quantizer(const QSpec *q, const Linear *l, const WeightQuantizer **out, Error *err);

#endif
