/* fouroversix: mxfp4 whose block maximum is put on 6 or on 4, whichever errs less (specs/quantization.md 7.5). */
#include "quant/mxrows.h"

#include <math.h>
#include <stddef.h>

#include "qir/round.h"

/* Nearest integer to log2(amax / most); half way: to the odd neighbour. A zero block: 0. */
static float nearest(float amax, float most, DType T)
{
    float s = round_to_dtype(amax / most, T);
    if (s <= 0.0f)
        return 0.0f;
    float l = mx_log2(s, T), whole = floorf(l), part = round_to_dtype(l - whole, T);
    if (part > round_to_dtype((float)(0.5 + 1e-6), T))
        return whole + 1.0f;
    if (part < round_to_dtype((float)(0.5 - 1e-6), T))
        return whole;
    return fmodf(whole, 2.0f) == 0.0f ? whole + 1.0f : whole;
}

static float exponent(const QuantLoops *k, const QSpec *q, const float *x, int64_t n, DType T)
{
    float amax = mx_amax(k, x, n), six = nearest(amax, 6.0f, T), four = nearest(amax, 4.0f, T);
    if (six == four)
        return six;
    return mx_block_mse(k, q->dtype, x, n, six, T) <= mx_block_mse(k, q->dtype, x, n, four, T) ? six : four;
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

const WeightQuantizer weight_fouroversix = {
    .key = {.method = "fouroversix", .dtype = QT_MXFP4, .scope = QS_PER_BLOCK, .sym = 1},
    .rowwise = true,
    .quantize = quantize,
    .rows = fake_rows,
};
