/* mse_round: mxfp8 whose block exponent is rounded up or down, whichever errs less (specs/quantization.md 7.5). */
#include "quant/mxrows.h"

#include <math.h>
#include <stddef.h>

static float exponent(const QuantLoops *k, const QSpec *q, const float *x, int64_t n, DType T)
{
    float amax = mx_amax(k, x, n);
    float up = mxfp8_exponent(amax, T, true), down = mxfp8_exponent(amax, T, false);
    float mse_up = mx_block_mse(k, q->dtype, x, n, up, T), mse_down = mx_block_mse(k, q->dtype, x, n, down, T);
    return isfinite(mse_up) && (mse_up < mse_down || !isfinite(mse_down)) ? up : down;
}

static Status quantize(const WeightTask *t, QWeight *out, Error *err)
{
    return mx_quantize(t, out, exponent, err);
}

static void fake_rows(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, bool peer)
{
    (void)peer;
    mx_fake_rows(q, w, rows, in, T, exponent);
}

const WeightQuantizer weight_mse_round = {
    .key = {.method = "mse_round", .dtype = QT_MXFP8, .scope = QS_PER_BLOCK, .sym = 1},
    .rowwise = true,
    .quantize = quantize,
    .rows = fake_rows,
};
