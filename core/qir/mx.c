#include "qir/mx.h"

#include <math.h>

#include "qir/round.h"

/* ---- elements ---- */

void e4m3_clamp(const float *x, int64_t n, float scale, DType T, float *y)
{
    for (int64_t i = 0; i < n; i++) {
        float v = round_to_dtype(x[i] / scale, T);
        v = v > 448.0f ? 448.0f : v < -448.0f ? -448.0f : v;
        y[i] = round_to_dtype(v * scale, T);
    }
}

/* ---- exponents ---- */

float mx_log2(float v, DType T)
{
    /* double log2, rounded: what a correctly rounded log2f gives */
    return round_to_dtype((float)log2((double)v), T);
}

/* floor of mx_log2, which rounding can lift to the next integer just below a power of two. */
static float log2_floor(float v, DType T)
{
    uint32_t u = bits_of_float(v);
    if (T == DT_F32 && u - 0x00800000u < 0x7F000000u && (u & 0x7FFFFFu) < 0x7FFF00u)
        return (float)((int)(u >> 23) - 127); /* farther from it than any rounding of a float32 */
    return floorf(mx_log2(v, T));
}

static float clip(float e, float lo, float hi)
{
    return e < lo ? lo : e > hi ? hi : e; /* NaN stays */
}

float mx_exponent(QType t, float amax, DType T)
{
    if (t == QT_MXFP4) {
        float v = round_to_dtype(round_to_dtype(amax / 0.875f, T) + 9.6e-7f, T);
        return clip(round_to_dtype(log2_floor(v, T) - 2.0f, T), -129.0f, 125.0f);
    }
    return mxfp8_exponent(amax, T, false);
}

float mxfp8_exponent(float amax, DType T, bool up)
{
    float v = amax == 0.0f ? round_to_dtype(0x1p-126f, T) : amax;
    float e = round_to_dtype((up ? ceilf(mx_log2(v, T)) : log2_floor(v, T)) - 8.0f, T);
    if (e > 127.0f)
        return NAN;
    return e < -127.0f ? -127.0f : e;
}

/* 2^e in T. */
static float mx_scale(float e, DType T)
{
    return round_to_dtype(exp2f(e), T);
}

uint8_t mx_byte(float e)
{
    if (isnan(e))
        return 255;
    return (uint8_t)clip(e + 127.0f, 0.0f, 254.0f);
}

float mx_byte_exponent(uint8_t b)
{
    return b == 255 ? NAN : (float)b - 127.0f;
}

/* ---- blocks ---- */

float mx_amax(const QuantLoops *k, const float *x, int64_t n)
{
    return k->amax(x, n);
}

void e4m3_encode(const float *x, int64_t n, float scale, DType T, uint8_t *code)
{
    quant_loops()->e4m3_encode(x, n, scale, T, code);
}

void e4m3_fake(const float *x, int64_t n, float scale, DType T, float *y)
{
    quant_loops()->e4m3_fake(x, n, scale, T, y);
}

void mx_encode(const QuantLoops *k, QType t, const float *x, int64_t n, float e, DType T, uint8_t *code)
{
    k->mx_encode(t, x, n, mx_scale(e, T), code);
}

void mx_decode(const QuantLoops *k, QType t, const uint8_t *code, int64_t n, float e, DType T, float *y)
{
    k->mx_decode(t, code, n, mx_scale(e, T), T, y);
}

void e4m3_decode(const uint8_t *code, int64_t n, float scale, DType T, float *y)
{
    quant_loops()->mx_decode(QT_MXFP8, code, n, scale, T, y);
}

void mx_fake_block(const QuantLoops *k, QType t, const float *x, int64_t n, float e, DType T, float *y)
{
    k->mx_fake(t, x, n, mx_scale(e, T), T, y);
}

void mx_fake_row(QType t, const float *x, int64_t n, DType T, float *y)
{
    const QuantLoops *k = quant_loops();
    for (int64_t i = 0; i < n; i += MX_BLOCK) {
        int64_t len = n - i < MX_BLOCK ? n - i : MX_BLOCK;
        k->mx_fake(t, x + i, len, mx_scale(mx_exponent(t, k->amax(x + i, len), T), T), T, y + i);
    }
}
