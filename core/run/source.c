#include "run/source.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/convert.h"

static Status check_readable(const TensorInfo *t, Error *err)
{
    return dtype_plain(t->dtype) ? ST_OK
                                 : error_set(err, ST_DATA, "%s: values of type %s cannot be run", t->name,
                                             dtype_name(t->dtype));
}

/* Rounds what is not of the pass's dtype already. */
static void settle(const Ops *ops, bool changed, DType t, float *v, int64_t n)
{
    if (ops && (changed || t != ops->dtype))
        ops_round(ops, v, n);
}

void source_encode(const float *v, int64_t n, DType t, void *dst)
{
    uint16_t *half = dst;
    if (t == DT_F32)
        memcpy(dst, v, (size_t)n * sizeof *v);
    for (int64_t i = 0; i < n && t == DT_BF16; i++)
        half[i] = bf16_of_float(v[i]);
    for (int64_t i = 0; i < n && t == DT_F16; i++)
        half[i] = f16_of_float(v[i]);
}

/* ---- weights of linears ---- */

static const LinearEdit *edit_of(const Source *s, const Linear *l)
{
    const Linear *first = s->model->linears;
    uintptr_t at = (uintptr_t)l, from = (uintptr_t)first;
    if (!s->overlay || at < from || at >= (uintptr_t)(first + s->model->nlinears))
        return NULL; /* a loose one */
    return overlay_linear(s->overlay, l - first);
}

SourceWeight source_weight(const Source *s, const Linear *l)
{
    SourceWeight w = {.linear = l, .base = *l, .file = s->model->ckpt, .edit = edit_of(s, l)};
    if (w.edit && w.edit->values)
        w.file = NULL;
    if (!w.edit || !w.edit->derived)
        return w;
    w.file = w.edit->file;
    w.base.weight = w.edit->derived;
    w.base.store = NULL;
    w.base.at = w.base.out_step = w.base.in_step = 0;
    return w;
}

WeightSpan source_span(const SourceWeight *w, int64_t r0, int64_t r1)
{
    return w->file ? weight_span(&w->base, r0, r1) : (WeightSpan){0};
}

uint64_t source_weight_bytes(const SourceWeight *w)
{
    return w->file ? weight_bytes(&w->base) : 0;
}

static void scale_rows(const LinearEdit *e, int64_t r0, int64_t rows, int64_t in, float *w)
{
    const MathKernels *k = math_fast();
    for (int64_t o = 0; o < rows; o++, w += in) {
        if (e->rows)
            k->scale(w, e->rows[r0 + o], w, in);
        if (e->cols)
            k->mul(w, e->cols, w, in);
    }
}

/* Whether the values of the weight are others than the base's. */
static bool changes_values(const SourceWeight *w)
{
    const LinearEdit *e = w->edit;
    return e && (e->values || e->rows || e->cols);
}

void source_decode(const SourceWeight *w, const Ops *ops, int64_t first, const void *raw, const void *scale, int64_t r0,
                   int64_t rows, float *out)
{
    int64_t in = w->linear->in;
    const LinearEdit *e = w->edit;
    if (w->file)
        weight_decode(math_fast(), &w->base, first, raw, scale, r0, rows, out);
    else
        memcpy(out, e->values + r0 * in, (size_t)(rows * in) * sizeof *out);
    if (e)
        scale_rows(e, r0, rows, in, out);
    settle(ops, changes_values(w), weight_dtype(&w->base), out, rows * in);
}

const void *source_plain_rows(const SourceWeight *w, const Ops *ops, int64_t first, const void *raw, int64_t r0,
                              DType *t, int64_t *ld)
{
    const Linear *l = &w->base;
    if (changes_values(w) || l->store || (l->out_step && l->in_step != 1))
        return NULL;
    *t = l->weight->dtype;
    *ld = l->out_step ? l->out_step : l->in;
    if (ops->rounds && *t != ops->dtype)
        return NULL;
    return (const unsigned char *)raw + (uint64_t)((r0 - first) * *ld) * (uint64_t)dtype_size(*t);
}

Status source_rows(const Source *s, const Ops *ops, const Linear *l, int64_t r0, int64_t rows, float *out, Error *err)
{
    SourceWeight w = source_weight(s, l);
    WeightSpan span = source_span(&w, r0, r0 + rows);
    unsigned char *raw = mem_aligned(span.n + 1, 1), *scale = mem_aligned(span.scale_n + 1, 1);
    Status st = raw && scale ? ST_OK : error_nomem(err, l->name);
    if (st == ST_OK && span.n)
        st = checkpoint_read(w.file, w.base.weight, span.begin, span.n, raw, err);
    if (st == ST_OK && span.scale_n)
        st = checkpoint_read(w.file, w.base.store->scale, span.scale_begin, span.scale_n, scale, err);
    if (st == ST_OK)
        source_decode(&w, ops, r0, raw, scale, r0, rows, out);
    free(raw);
    free(scale);
    return st;
}

Status source_check(const Source *s, const Linear *l, Error *err)
{
    SourceWeight w = source_weight(s, l);
    if (!w.file)
        return ST_OK;
    if (!weight_readable(&w.base))
        return error_set(err, ST_DATA, "%s: weights of type %s cannot be run", w.base.weight->name,
                         dtype_name(w.base.weight->dtype));
    return weight_verify(s->model, &w.base, err);
}

/* ---- biases ---- */

static bool source_has_bias(const Source *s, const Linear *l)
{
    const LinearEdit *e = edit_of(s, l);
    return l->bias || (e && e->bias);
}

/* The checkpoint's bias, unrounded. */
static Status read_bias(const Source *s, const Linear *l, float *out, Error *err)
{
    const TensorInfo *t = l->bias;
    int64_t at = l->out_step ? l->bias_at : 0, step = l->out_step ? l->bias_step : 1;
    RETURN_IF_ERROR(check_readable(t, err));
    uint64_t size = (uint64_t)dtype_size(t->dtype), bytes = ((uint64_t)(l->out - 1) * (uint64_t)step + 1) * size;
    unsigned char *raw = mem_aligned(bytes, 1);
    Status st = raw ? checkpoint_read(s->model->ckpt, t, (uint64_t)at * size, bytes, raw, err)
                    : error_nomem(err, t->name);
    if (st == ST_OK) {
        for (int64_t i = 1; i < l->out && step > 1; i++)
            memcpy(raw + (uint64_t)i * size, raw + (uint64_t)(i * step) * size, size);
        math_widen(math_fast(), t->dtype, raw, l->out, out);
    }
    free(raw);
    return st;
}

Status source_bias(const Source *s, const Ops *ops, const Linear *l, float **out, Error *err)
{
    const LinearEdit *e = edit_of(s, l);
    bool changed = e && (e->bias || (l->bias && e->bias_scale));
    *out = NULL;
    if (!source_has_bias(s, l))
        return ST_OK;
    float *b = mem_aligned((size_t)l->out, sizeof *b);
    if (!b)
        return error_nomem(err, l->name);
    Status st = ST_OK;
    if (l->bias)
        st = read_bias(s, l, b, err);
    else
        memset(b, 0, (size_t)l->out * sizeof *b);
    for (int64_t i = 0; changed && st == ST_OK && i < l->out; i++)
        b[i] = (e->bias_scale ? b[i] * e->bias_scale[i] : b[i]) + (e->bias ? e->bias[i] : 0);
    if (st != ST_OK) {
        free(b);
        return st;
    }
    settle(ops, changed, l->bias ? l->bias->dtype : DT_F32, b, l->out);
    *out = b;
    return ST_OK;
}

/* ---- norms, embedding, head and the like ---- */

SourceTensor source_tensor(const Source *s, const TensorInfo *t)
{
    SourceTensor r = {.tensor = t, .base = t, .file = s->model->ckpt, .edit = overlay_tensor(s->overlay, t)};
    if (r.edit && r.edit->values)
        r.file = NULL;
    if (r.edit && r.edit->derived) {
        r.base = r.edit->derived;
        r.file = r.edit->file;
    }
    return r;
}

void source_tensor_decode(const SourceTensor *t, const Ops *ops, const void *raw, int64_t at, int64_t n, float *out)
{
    const TensorEdit *e = t->edit;
    if (t->file)
        math_widen(math_fast(), t->base->dtype, raw, n, out);
    else
        memcpy(out, e->values + at, (size_t)n * sizeof *out);
    int64_t width = t->tensor->ndim ? t->tensor->shape[t->tensor->ndim - 1] : 1;
    for (int64_t i = 0; e && e->scale && i < n; i++)
        out[i] *= e->scale[(at + i) % width];
    settle(ops, e && (e->values || e->scale), t->base->dtype, out, n);
}

Status source_values(const SourceTensor *t, const Ops *ops, int64_t at, int64_t n, void *raw, float *out, Error *err)
{
    uint64_t size = (uint64_t)dtype_size(t->base->dtype);
    RETURN_IF_ERROR(check_readable(t->base, err));
    if (t->file)
        RETURN_IF_ERROR(checkpoint_read(t->file, t->base, (uint64_t)at * size, (uint64_t)n * size, raw, err));
    source_tensor_decode(t, ops, raw, at, n, out);
    return ST_OK;
}

Status source_small(const Source *s, const Ops *ops, const TensorInfo *t, float **out, Error *err)
{
    SourceTensor from = source_tensor(s, t);
    *out = NULL;
    RETURN_IF_ERROR(check_readable(t, err));
    int64_t n = (int64_t)(t->nbytes / (uint64_t)dtype_size(t->dtype));
    void *raw = mem_aligned((size_t)n, sizeof(float));
    float *v = mem_aligned((size_t)n, sizeof *v);
    Status st = raw && v ? source_values(&from, ops, 0, n, raw, v, err) : error_nomem(err, t->name);
    free(raw);
    if (st == ST_OK)
        *out = v;
    else
        free(v);
    return st;
}

Status source_bytes(const Source *s, const TensorInfo *t, uint64_t begin, uint64_t n, void *dst, Error *err)
{
    SourceTensor from = source_tensor(s, t);
    if (!from.edit)
        return checkpoint_read(s->model->ckpt, t, begin, n, dst, err);
    uint64_t size = (uint64_t)dtype_size(t->dtype);
    int64_t count = (int64_t)(n / size);
    void *raw = mem_aligned((size_t)count, sizeof(float));
    float *v = mem_aligned((size_t)count, sizeof *v);
    Status st = raw && v ? source_values(&from, NULL, (int64_t)(begin / size), count, raw, v, err)
                         : error_nomem(err, t->name);
    if (st == ST_OK)
        source_encode(v, count, t->dtype, dst);
    free(raw);
    free(v);
    return st;
}
