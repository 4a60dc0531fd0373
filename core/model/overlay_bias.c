#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "model/overlay.h"
#include "model/weight.h"

/* What a constant part of a linear's input gives: the one edit that has to look at a weight. */

enum { ROWS_VALUES = 1 << 18 }; /* of a weight that are looked at a time */

typedef struct Reading {
    const LinearEdit *edit; /* NULL: none */
    Linear base;
    const Checkpoint *file; /* NULL: in memory */
} Reading;

/* Rows of the base. */
static Status read_rows(const Reading *r, int64_t r0, int64_t rows, float *w, Error *err)
{
    const Linear *l = &r->base;
    if (!r->file) {
        memcpy(w, r->edit->values + r0 * l->in, (size_t)(rows * l->in) * sizeof *w);
        return ST_OK;
    }
    WeightSpan span = weight_span(l, r0, r0 + rows);
    unsigned char *raw = mem_aligned(span.n + 1, 1), *scale = mem_aligned(span.scale_n + 1, 1);
    Status st = raw && scale ? ST_OK : error_nomem(err, l->name);
    if (st == ST_OK)
        st = checkpoint_read(r->file, l->weight, span.begin, span.n, raw, err);
    if (st == ST_OK && span.scale_n)
        st = checkpoint_read(r->file, l->store->scale, span.scale_begin, span.scale_n, scale, err);
    if (st == ST_OK)
        weight_decode(math_fast(), l, r0, raw, scale, r0, rows, w);
    free(raw);
    free(scale);
    return st;
}

/* y[r0...] = W beta of rows that are decoded. */
static void multiply(const Linear *l, const float *w, const float *beta, int64_t r0, int64_t rows, float *y)
{
    int64_t part = l->out / max_i64(l->groups, 1);
    for (int64_t o = r0; o < r0 + rows; o++, w += l->in) {
        const float *x = beta + o / part * l->in;
        double sum = 0;
        for (int64_t i = 0; i < l->in; i++)
            sum += (double)w[i] * (double)x[i];
        y[o] = (float)sum;
    }
}

static Status product(const Reading *r, const float *beta, float *y, Error *err)
{
    const Linear *l = &r->base;
    const EditChain *c = r->edit ? r->edit->weight : NULL;
    bool all = (c && c->whole) || (l->out_step && l->in_step != 1); /* rows are not had without the others */
    int64_t step = all ? l->out : min_i64(l->out, max_i64(1, ROWS_VALUES / l->in));
    float *w = mem_aligned((size_t)(step * l->in), sizeof *w), *scratch = mem_aligned(c ? c->scratch : 0, sizeof *scratch);
    Status st = w && scratch ? ST_OK : error_nomem(err, l->name);
    for (int64_t r0 = 0; st == ST_OK && r0 < l->out; r0 += step) {
        int64_t rows = min_i64(step, l->out - r0);
        st = read_rows(r, r0, rows, w, err);
        if (st != ST_OK)
            break;
        if (c && c->whole)
            editchain_all(c, math_fast(), rows, l->in, w, scratch);
        else if (c)
            editchain_rows(c, 0, c->n, math_fast(), r0, rows, l->in, w, scratch);
        multiply(l, w, beta, r0, rows, y);
    }
    free(w);
    free(scratch);
    return st;
}

/* y more by what the low-rank branch gives of it. */
static Status add_branch(const Linear *l, const LowRank *b, const float *beta, float *y, Error *err)
{
    int64_t groups = b ? max_i64(l->groups, 1) : 0, part = l->out / max_i64(l->groups, 1);
    double *a = b ? mem_array((size_t)b->rank, sizeof *a) : NULL;
    if (b && !a)
        return error_nomem(err, l->name);
    for (int64_t g = 0; g < groups; g++) {
        for (int64_t k = 0; k < b->rank; k++) {
            a[k] = 0;
            for (int64_t i = 0; i < l->in; i++)
                a[k] += (double)b->l1[k * l->in + i] * (double)beta[g * l->in + i];
        }
        for (int64_t r = g * part; r < (g + 1) * part; r++) {
            double sum = (double)y[r];
            for (int64_t k = 0; k < b->rank; k++)
                sum += (double)b->l2[r * b->rank + k] * a[k];
            y[r] = (float)sum;
        }
    }
    free(a);
    return ST_OK;
}

Status overlay_bias_from(Overlay *o, int64_t linear, const float *beta, Error *err)
{
    Reading r = {.edit = overlay_linear(o, linear)};
    r.base = overlay_base(o, overlay_model(o), &overlay_model(o)->linears[linear], &r.file);
    float *y = mem_array((size_t)r.base.out, sizeof *y);
    Status st = y ? ST_OK : error_nomem(err, r.base.name);
    if (st == ST_OK && r.file && !weight_readable(&r.base))
        st = error_set(err, ST_DATA, "%s: weights of type %s cannot be run", r.base.weight->name,
                       dtype_name(r.base.weight->dtype));
    if (st == ST_OK)
        st = product(&r, beta, y, err);
    if (st == ST_OK)
        st = add_branch(&r.base, overlay_branch(o, linear), beta, y, err);
    if (st == ST_OK)
        st = overlay_add_bias(o, linear, y, err);
    free(y);
    return st;
}
