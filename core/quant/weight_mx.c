/* minmax weights in mxfp8 and mxfp4 (specs/quantization.md 7.4). */
#include "quant/mxrows.h"

#include <stddef.h>

static float exponent(const QuantLoops *k, const QSpec *q, const float *x, int64_t n, DType T)
{
    return mx_exponent(q->dtype, mx_amax(k, x, n), T);
}

static Status quantize(const WeightTask *t, QWeight *out, Error *err)
{
    return mx_quantize(t, out, exponent, err);
}

static void fake_rows(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, bool peer)
{
    (void)peer;
    for (int64_t r = 0; r < rows; r++)
        mx_fake_row(q->dtype, w + r * in, in, T, w + r * in);
}

const WeightQuantizer weight_minmax_mxfp8 = {
    .key = {.method = "minmax", .dtype = QT_MXFP8, .scope = QS_PER_BLOCK, .sym = 1},
    .rowwise = true,
    .quantize = quantize,
    .rows = fake_rows,
};

const WeightQuantizer weight_minmax_mxfp4 = {
    .key = {.method = "minmax", .dtype = QT_MXFP4, .scope = QS_PER_BLOCK, .sym = 1},
    .rowwise = true,
    .quantize = quantize,
    .rows = fake_rows,
};
