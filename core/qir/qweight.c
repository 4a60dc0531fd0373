#include "qir/qweight.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "qir/intquant.h"
#include "qir/mx.h"
#include "qir/round.h"

static bool is_mx(const QSpec *q)
{
    return q->dtype == QT_MXFP8 || q->dtype == QT_MXFP4;
}

static int64_t outer_of(const QSpec *q)
{
    return q->ext.dual_block;
}

Status qweight_check(const QSpec *q, int64_t out, int64_t in, Error *err)
{
    int64_t n;
    if (out <= 0 || in <= 0 || !mul_i64(out, in, &n))
        return error_set(err, ST_DATA, "a weight of %lld outputs x %lld inputs cannot be quantized", (long long)out,
                         (long long)in);
    const bool sparse = q->dtype == QT_FLOAT && q->scope == QS_PER_TENSOR && q->symmetric;
    if ((q->dtype == QT_FLOAT && !sparse) || q->dtype == QT_PLACEHOLDER)
        return error_set(err, ST_DATA, "weights cannot be quantized to %s", qtype_name(q->dtype));
    if (q->scope == QS_PER_GROUP && in % qspec_group(q, in) != 0)
        return error_set(err, ST_DATA,
                         "a weight of %lld outputs x %lld inputs cannot be cut into groups of %lld: choose a "
                         "group_size that divides %lld",
                         (long long)out, (long long)in, (long long)qspec_group(q, in), (long long)in);
    if (q->scope == QS_DUAL_SCALE && outer_of(q) <= 0)
        return error_set(err, ST_DATA, "dual_scale needs ext.dual_block_size above 0");
    if (is_mx(q) && strcmp(q->method, "fouroversix") == 0 && in % MX_BLOCK != 0)
        return error_set(err, ST_DATA,
                         "fouroversix needs inputs in whole blocks of %d, a weight of %lld outputs x %lld inputs has "
                         "%lld left over: use minmax for it",
                         MX_BLOCK, (long long)out, (long long)in, (long long)(in % MX_BLOCK));
    return ST_OK;
}

/* Bytes for codes: the room, or others instead of it. */
static uint8_t *code_room(size_t n, uint8_t **room, size_t *cap)
{
    uint8_t *code = *room;
    if (n > *cap) {
        free(code);
        code = mem_array(n, 1);
    }
    *room = NULL;
    *cap = 0;
    return code;
}

Status qweight_init(QWeight *w, const QSpec *q, int64_t out, int64_t in, Error *err)
{
    uint8_t *none = NULL;
    size_t cap = 0;
    RETURN_IF_ERROR(qweight_init_in(w, q, out, in, &none, &cap, err));
    memset(w->code, 0, (size_t)out * (size_t)in * qweight_code(q->dtype));
    return ST_OK;
}

Status qweight_init_in(QWeight *w, const QSpec *q, int64_t out, int64_t in, uint8_t **room, size_t *cap, Error *err)
{
    *w = (QWeight){0};
    RETURN_IF_ERROR(qweight_check(q, out, in, err));
    int64_t group = qspec_group(q, in), groups = div_up(in, group);
    QWeight n = {.dtype = q->dtype, .scope = q->scope, .symmetric = q->symmetric, .out = out, .in = in, .group = group,
                 .groups = groups};
    size_t params = (size_t)(out * groups);
    n.code = code_room((size_t)out * (size_t)in * qweight_code(q->dtype), room, cap);
    bool ok = n.code != NULL;
    if (q->dtype == QT_FLOAT) {
        n.half = DT_F16;
    } else if (is_mx(q)) {
        n.exponent = mem_zarray(params, 1);
        ok = ok && n.exponent;
    } else {
        n.scale = mem_zarray(params, sizeof *n.scale);
        n.offset = q->symmetric ? NULL : mem_zarray(params, sizeof *n.offset);
        ok = ok && n.scale && (q->symmetric || n.offset);
    }
    if (q->scope == QS_DUAL_SCALE) {
        n.outer_block = outer_of(q);
        n.outer_blocks = div_up(in, n.outer_block);
        n.outer = mem_zarray((size_t)(out * n.outer_blocks), sizeof *n.outer);
        ok = ok && n.outer;
    }
    if (!ok) {
        qweight_fini(&n);
        return error_nomem(err, "a quantized weight");
    }
    *w = n;
    return ST_OK;
}

void qweight_fini(QWeight *w)
{
    free(w->code);
    free(w->scale);
    free(w->offset);
    free(w->exponent);
    free(w->outer);
    *w = (QWeight){0};
}

uint64_t qweight_bytes(const QSpec *q, int64_t out, int64_t in)
{
    if (out <= 0 || in <= 0)
        return 0;
    uint64_t rows = (uint64_t)out, params = rows * (uint64_t)div_up(in, qspec_group(q, in));
    uint64_t n = rows * (uint64_t)in * qweight_code(q->dtype);
    n += q->dtype == QT_FLOAT ? 0 : is_mx(q) ? params : params * (q->symmetric ? 4 : 8);
    if (q->scope == QS_DUAL_SCALE && outer_of(q) > 0)
        n += rows * (uint64_t)div_up(in, outer_of(q)) * 4;
    return n;
}

static void mx_row(const QuantLoops *k, const QWeight *w, int64_t row, DType T, float *y)
{
    DType inner = w->outer ? DT_F32 : T; /* under an outer scale the blocks hold float32 */
    for (int64_t g = 0; g < w->groups; g++) {
        int64_t at = g * w->group, n = w->in - at < w->group ? w->in - at : w->group;
        float e = mx_byte_exponent(w->exponent[row * w->groups + g]);
        mx_decode(k, w->dtype, w->code + row * w->in + at, n, e, inner, y + at);
    }
    for (int64_t i = 0; w->outer && i < w->in; i++)
        y[i] = round_to_dtype(y[i] * w->outer[row * w->outer_blocks + i / w->outer_block], T);
}

static void half_row(const QWeight *w, int64_t row, DType T, float *y)
{
    const uint16_t *code = (const uint16_t *)(const void *)w->code + row * w->in;
    for (int64_t i = 0; i < w->in; i++)
        y[i] = round_to_dtype(w->half == DT_BF16 ? bf16_to_float(code[i]) : f16_to_float(code[i]), T);
}

void qweight_rows(const QWeight *w, int64_t row0, int64_t rows, DType T, float *y)
{
    const QuantLoops *k = quant_loops();
    for (int64_t r = row0; r < row0 + rows; r++, y += w->in) {
        if (w->exponent) {
            mx_row(k, w, r, T, y);
            continue;
        }
        if (w->dtype == QT_FLOAT) {
            half_row(w, r, T, y);
            continue;
        }
        const uint8_t *code = w->code + r * w->in;
        for (int64_t g = 0; g < w->groups; g++) {
            int64_t at = g * w->group, n = w->in - at < w->group ? w->in - at : w->group;
            QParam p = {.scale = w->scale[r * w->groups + g]};
            if (w->dtype == QT_FP8_E4M3) {
                e4m3_decode(code + at, n, p.scale, T, y + at);
                continue;
            }
            p.offset = w->offset ? w->offset[r * w->groups + g] : 0.0f;
            k->dequantize((const int8_t *)code + at, n, p, T, y + at);
        }
    }
}

bool qweight_has_codes(const QSpec *q)
{
    return (q->dtype == QT_INT8 || q->dtype == QT_INT4) && q->scope == QS_PER_CHANNEL && q->symmetric;
}

void qweight_codes(const QWeight *w, int64_t row0, int64_t rows, float *y, float *scale)
{
    for (int64_t r = 0; r < rows; r++) {
        const int8_t *code = (const int8_t *)w->code + (row0 + r) * w->in;
        intquant_dequantize(code, w->in, (QParam){.scale = 1.0f}, DT_F32, y + r * w->in);
        scale[r] = w->scale[row0 + r];
    }
}
