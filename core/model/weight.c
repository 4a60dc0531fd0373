#include "model/weight.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/convert.h"

DType weight_dtype(const Linear *l)
{
    return l->store ? DT_BF16 : l->weight->dtype;
}

bool weight_readable(const Linear *l)
{
    return l->store || dtype_plain(l->weight->dtype);
}

Status weight_check_plain(const TensorInfo *t, Error *err)
{
    return dtype_plain(t->dtype) ? ST_OK
                                 : error_set(err, ST_DATA, "%s: values of type %s cannot be run", t->name,
                                             dtype_name(t->dtype));
}

static int64_t scale_cols(const WeightStore *s)
{
    return div_up(s->in, s->block_in);
}

/* Row of the tensor, counted through all its matrices, that output row r is. */
static int64_t tensor_row(const Linear *l, int64_t r)
{
    return l->out_step ? (l->at + r * l->out_step) / l->in : r;
}

static int64_t scale_row(const WeightStore *s, int64_t row)
{
    return row / s->rows * div_up(s->rows, s->block_out) + row % s->rows / s->block_out;
}

static WeightSpan store_span(const Linear *l, int64_t r0, int64_t r1)
{
    const WeightStore *s = l->store;
    int64_t a = tensor_row(l, r0), b = tensor_row(l, r1 - 1);
    int64_t scale_bytes = scale_cols(s) * dtype_size(s->scale->dtype);
    return (WeightSpan){
        .begin = (uint64_t)(a * s->row_bytes),
        .n = (uint64_t)((b - a + 1) * s->row_bytes),
        .scale_begin = (uint64_t)(scale_row(s, a) * scale_bytes),
        .scale_n = (uint64_t)((scale_row(s, b) - scale_row(s, a) + 1) * scale_bytes),
    };
}

WeightSpan weight_span(const Linear *l, int64_t r0, int64_t r1)
{
    if (r1 <= r0)
        return (WeightSpan){0};
    if (l->store)
        return store_span(l, r0, r1);
    int64_t size = dtype_size(l->weight->dtype), step = l->out_step ? l->out_step : l->in, begin = l->at + r0 * step;
    int64_t n = (r1 - r0 - 1) * step + l->in;
    if (l->out_step && l->in_step != 1) {
        begin = l->at;
        n = (l->out - 1) * l->out_step + (l->in - 1) * l->in_step + 1;
    }
    return (WeightSpan){.begin = (uint64_t)(begin * size), .n = (uint64_t)(n * size)};
}

uint64_t weight_bytes(const Linear *l)
{
    const WeightStore *s = l->store;
    if (!s)
        return (uint64_t)l->out * (uint64_t)l->in * (uint64_t)dtype_size(l->weight->dtype);
    return (uint64_t)(l->out * s->row_bytes) +
           (uint64_t)(div_up(l->out, s->block_out) * scale_cols(s)) * (uint64_t)dtype_size(s->scale->dtype);
}

/* ---- rows ---- */

static float scale_value(DType t, const unsigned char *p, int64_t i)
{
    float f;
    uint16_t h;
    switch (t) {
    case DT_F32:
        memcpy(&f, p + 4 * i, sizeof f);
        return f;
    case DT_BF16:
        memcpy(&h, p + 2 * i, sizeof h);
        return bf16_to_float(h);
    case DT_F16:
        memcpy(&h, p + 2 * i, sizeof h);
        return f16_to_float(h);
    default: /* F8_E8M0, under its own name or as U8 */
        return e8m0_to_float(p[i]);
    }
}

/* n values that share a scale, from code `at` of the row on. */
static void decode(const CodeTable *c, const float *lut, const unsigned char *row, int64_t at, int64_t n, float scale,
                   float *w)
{
    int64_t i = 0;
    if (c->bits == 8) {
        for (; i < n; i++)
            w[i] = lut[row[at + i]] * scale;
        return;
    }
    if (at % 2 && n)
        w[i++] = lut[row[at / 2] >> 4] * scale;
    for (; i + 1 < n; i += 2) {
        unsigned char pair = row[(at + i) / 2];
        w[i] = lut[pair & 15] * scale;
        w[i + 1] = lut[pair >> 4] * scale;
    }
    if (i < n)
        w[i] = lut[row[(at + i) / 2] & 15] * scale;
}

static void store_rows(const MathKernels *k, const Linear *l, int64_t first, const unsigned char *raw,
                       const unsigned char *scale, int64_t r0, int64_t rows, float *w)
{
    const WeightStore *s = l->store;
    int64_t raw0 = tensor_row(l, first), scale0 = scale_row(s, raw0), cols = scale_cols(s);
    float lut[256];
    s->how->code->values(lut);
    for (int64_t o = 0; o < rows; o++) {
        int64_t row = tensor_row(l, r0 + o);
        const unsigned char *codes = raw + (row - raw0) * s->row_bytes;
        for (int64_t g = 0; g < cols; g++) {
            int64_t at = g * s->block_in, n = l->in - at < s->block_in ? l->in - at : s->block_in;
            float v = scale_value(s->scale->dtype, scale, (scale_row(s, row) - scale0) * cols + g);
            decode(s->how->code, lut, codes, at, n, v, w + o * l->in + at);
        }
    }
    if (!s->exact)
        k->round_bf16(w, rows * l->in);
}

/* A weight whose columns are apart; its first value is at raw. */
static void strided_rows(const Linear *l, const unsigned char *raw, int64_t r0, int64_t rows, float *w)
{
    int64_t size = dtype_size(l->weight->dtype);
    for (int64_t i = 0; i < l->in; i++)
        for (int64_t o = 0; o < rows; o++)
            w[o * l->in + i] =
                scale_value(l->weight->dtype, raw + ((r0 + o) * l->out_step + i * l->in_step) * size, 0);
}

void weight_decode(const MathKernels *k, const Linear *l, int64_t first, const void *raw, const void *scale, int64_t r0,
                 int64_t rows, float *w)
{
    DType t = l->weight->dtype;
    const unsigned char *p = raw;
    if (l->store) {
        store_rows(k, l, first, raw, scale, r0, rows, w);
        return;
    }
    if (l->out_step && l->in_step != 1) {
        strided_rows(l, raw, r0, rows, w);
        return;
    }
    int64_t step = l->out_step ? l->out_step : l->in;
    p += (r0 - first) * step * dtype_size(t);
    if (step == l->in) {
        math_widen(k, t, p, rows * l->in, w);
        return;
    }
    for (int64_t o = 0; o < rows; o++)
        math_widen(k, t, p + o * step * dtype_size(t), l->in, w + o * l->in);
}

Status weight_verify(const Model *m, const Linear *l, Error *err)
{
    const TensorInfo *t = l->store ? l->store->shape : NULL;
    if (!t)
        return ST_OK;
    int64_t shape[2];
    int32_t narrow[2];
    bool wide = t->dtype == DT_I64;
    RETURN_IF_ERROR(checkpoint_read(m->ckpt, t, 0, t->nbytes, wide ? (void *)shape : (void *)narrow, err));
    for (int i = 0; i < 2 && !wide; i++)
        shape[i] = narrow[i];
    if (shape[0] == l->out && shape[1] == l->in)
        return ST_OK;
    return error_set(err, ST_DATA, "'%s': tensor '%s' says [%lld,%lld], config.json says [%lld,%lld]",
                     checkpoint_file_path(m->ckpt, t->file), t->name, (long long)shape[0], (long long)shape[1],
                     (long long)l->out, (long long)l->in);
}

Status weight_bias(const Model *m, const Linear *l, float *out, Error *err)
{
    const TensorInfo *t = l->bias;
    int64_t at = l->out_step ? l->bias_at : 0, step = l->out_step ? l->bias_step : 1;
    RETURN_IF_ERROR(weight_check_plain(t, err));
    uint64_t size = (uint64_t)dtype_size(t->dtype), bytes = ((uint64_t)(l->out - 1) * (uint64_t)step + 1) * size;
    unsigned char *raw = mem_aligned(bytes, 1);
    Status st = raw ? checkpoint_read(m->ckpt, t, (uint64_t)at * size, bytes, raw, err) : error_nomem(err, t->name);
    if (st == ST_OK) {
        for (int64_t i = 1; i < l->out && step > 1; i++)
            memcpy(raw + (uint64_t)i * size, raw + (uint64_t)(i * step) * size, size);
        math_widen(math_fast(), t->dtype, raw, l->out, out);
    }
    free(raw);
    return st;
}
