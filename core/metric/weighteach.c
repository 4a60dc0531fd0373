#include "metric/weighteach.h"

#include <math.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/weightwalk.h"

static int64_t rows_at_once(const Linear *l)
{
    return min_i64(weightwalk_rows(l->in), l->out);
}

int64_t weighteach_values(const Linear *l)
{
    return rows_at_once(l) * l->in;
}

float *weighteach_room(const Linear *l, int copies)
{
    return mem_array((size_t)weighteach_values(l) * (size_t)copies, sizeof(float));
}

Status weighteach(const Source *s, const Linear *l, int64_t from, int64_t to, const Cancel *cancel, float *w, WeightEachFn *fn,
                  void *ctx, Error *err)
{
    int64_t step = rows_at_once(l);
    SourceWeight weight = source_weight(s, l);
    Status st = source_prepare(&weight, NULL, NULL, NULL, cancel, err);
    for (int64_t r = from; r < to && st == ST_OK; r += step) {
        int64_t rows = min_i64(step, to - r);
        st = cancel_check(cancel, err);
        if (st == ST_OK)
            st = source_weight_rows(&weight, NULL, r, rows, w, err);
        if (st == ST_OK)
            st = fn(ctx, w, r, rows, err);
    }
    source_release(&weight);
    return st;
}

Status weighteach_finite(const Linear *l, const float *w, int64_t row0, int64_t n, Error *err)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(w[i]))
            return error_set(err, ST_DATA, "%s: %s at row %lld column %lld", l->name, isnan(w[i]) ? "NaN" : "Inf",
                             (long long)(row0 + i / l->in), (long long)(i % l->in));
    return ST_OK;
}

Status weighteach_quantizer(const QSpec *q, const Linear *l, const WeightQuantizer **out, Error *err)
{
    const WeightQuantizer *by = weight_quantizer_find(q);
    if (!by)
        return error_set(err, ST_USAGE, "this build has no such weight quantizer as '%s'", q->method);
    if (by->prepare)
        by = &weight_minmax_int8; /* the rows of any integer grid: what a method with inputs begins from */
    else if (!weight_quantizer_rowwise(by, q, false))
        return error_set(err, ST_USAGE, "'%s' has to see the whole weight: there is no picture of it", q->method);
    *out = by;
    return qweight_check(q, l->out, l->in, err);
}
