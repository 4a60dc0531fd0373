/* minmax weights, int8 and int4, per_channel and per_group (specs/quantization.md 3, 7.1; per_group is ours). */
#include "quant/weightrows.h"

#include <stddef.h>

#include "qir/loops.h"

static void quantize_rows(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch)
{
    (void)ctx;
    (void)scratch;
    const QuantLoops *k = quant_loops();
    int bits = weight_bits(t->q);
    for (int64_t g = row * out->groups; g < (row + rows) * out->groups; g++) {
        const float *w = t->w + g * out->group;
        float mn, mx;
        k->range(w, out->group, &mn, &mx);
        QParam p = intquant_param(mn, mx, bits, t->q->symmetric, t->T);
        k->quantize(w, out->group, p, bits, t->T, (int8_t *)out->code + g * out->group);
        out->scale[g] = p.scale;
        if (out->offset)
            out->offset[g] = p.offset;
    }
}

static Status quantize(const WeightTask *t, QWeight *out, Error *err)
{
    return weight_rows(t, out, quantize_rows, NULL, 0, err);
}

static void fake_rows(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, bool peer)
{
    (void)peer;
    const QuantLoops *k = quant_loops();
    int64_t group = qspec_group(q, in);
    int bits = weight_bits(q);
    for (int64_t i = 0; i < rows * in; i += group) {
        float mn, mx;
        k->range(w + i, group, &mn, &mx);
        k->fake(w + i, group, intquant_param(mn, mx, bits, q->symmetric, T), bits, T, w + i);
    }
}

static void code_rows(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, float *scale)
{
    int bits = weight_bits(q);
    for (int64_t r = 0; r < rows; r++) {
        float mn, mx;
        intquant_range(w + r * in, in, &mn, &mx);
        QParam p = intquant_param(mn, mx, bits, true, T);
        intquant_codes(w + r * in, in, p, bits, T, w + r * in);
        scale[r] = p.scale;
    }
}

#define MINMAX(NAME, DTYPE, SCOPE, SYM, OWNER, CODES)                                            \
    const WeightQuantizer NAME = {                                                               \
        .key = {.method = "minmax", .dtype = DTYPE, .scope = SCOPE, .sym = SYM, .owner = OWNER}, \
        .rowwise = true,                                                                         \
        .quantize = quantize,                                                                    \
        .rows = fake_rows,                                                                       \
        .codes = CODES,                                                                          \
    }

MINMAX(weight_minmax_int8, QT_INT8, QS_PER_CHANNEL, 1, QUANT_BOTH, code_rows);
MINMAX(weight_minmax_int4, QT_INT4, QS_PER_CHANNEL, 1, QUANT_BOTH, code_rows);
MINMAX(weight_minmax_int8_group, QT_INT8, QS_PER_GROUP, -1, QUANT_OURS, NULL);
MINMAX(weight_minmax_int4_group, QT_INT4, QS_PER_GROUP, -1, QUANT_OURS, NULL);
