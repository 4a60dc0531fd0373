#include "qir/intquant.h"

#include <math.h>

#include "qir/loops.h"
#include "qir/round.h"

/* As torch.maximum: a NaN on either side wins. */
static float max_nan(float a, float b)
{
    if (isnan(a) || isnan(b))
        return NAN;
    return a > b ? a : b;
}

QParam intquant_param(float mn, float mx, int bits, bool symmetric, DType T)
{
    const float eps = round_to_dtype(0x1p-23f, T);
    mn = -max_nan(-mn, 0.0f);
    mx = max_nan(mx, 0.0f);
    if (symmetric) {
        float divisor = (float)((1 << (bits - 1)) - 1);
        float s = round_to_dtype(max_nan(-mn, mx) / divisor, T);
        return (QParam){.scale = max_nan(s, eps), .offset = 0.0f};
    }
    float divisor = (float)((1 << bits) - 1);
    float high = round_to_dtype(mx / divisor, T), low = round_to_dtype(mn / divisor, T);
    float s = max_nan(round_to_dtype(high - low, T), eps);
    float o = rintf(round_to_dtype(-mn / s, T));
    o = round_to_dtype(o - (float)(1 << (bits - 1)), T);
    return (QParam){.scale = s, .offset = o};
}

void intquant_quantize(const float *x, int64_t n, QParam p, int bits, DType T, int8_t *q)
{
    quant_loops()->quantize(x, n, p, bits, T, q);
}

void intquant_dequantize(const int8_t *q, int64_t n, QParam p, DType T, float *y)
{
    quant_loops()->dequantize(q, n, p, T, y);
}

void intquant_fake(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
    quant_loops()->fake(x, n, p, bits, T, y);
}

void intquant_fake_each(const float *x, int64_t n, const float *scale, const float *offset, int bits, DType T, float *y)
{
    quant_loops()->fake_each(x, n, scale, offset, bits, T, y);
}

void intquant_codes(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
    quant_loops()->codes(x, n, p, bits, T, y);
}

void intquant_range(const float *x, int64_t n, float *mn, float *mx)
{
    quant_loops()->range(x, n, mn, mx);
}
