#include "qir/intquant.h"

#include <math.h>
#include <string.h>

#include "math/lanes.h"

static float round_scalar(float x, DType T)
{
    VF v = {x};
    round_to(&v, T);
    return v[0];
}

/* *t becomes the integer level of *t, as float. */
INLINE void level_of(VF *t, QParam p, float lo, float hi, DType T)
{
    *t = *t / p.scale;
    round_to(t, T);
    *t = *t + p.offset;
    round_to(t, T);
    VI number = *t == *t;
    *t = (VF)((VU)*t & (VU)number);
    VF low = (VF){0} + lo, high = (VF){0} + hi;
    VI below = *t < lo, above = *t > hi; /* the bounds are integers: clamping before rounding is the same */
    VU low_bits = (VU)low, high_bits = (VU)high;
    select_bits(t, &below, &low_bits);
    select_bits(t, &above, &high_bits);
    *t = (*t + RINT_MAGIC) - RINT_MAGIC;
}

INLINE void value_of(VF *t, QParam p, DType T)
{
    *t = *t - p.offset;
    round_to(t, T);
    *t = *t * p.scale;
    round_to(t, T);
}

INLINE void fake_loop(const float *x, int64_t n, QParam p, float lo, float hi, DType T, float *y)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VF t;
        load_lanes(&t, x + i, n - i);
        level_of(&t, p, lo, hi, T);
        value_of(&t, p, T);
        store_lanes(&t, y + i, n - i);
    }
}

INLINE void quantize_loop(const float *x, int64_t n, QParam p, float lo, float hi, DType T, int8_t *q)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VF t;
        load_lanes(&t, x + i, n - i);
        level_of(&t, p, lo, hi, T);
        VI level = __builtin_convertvector(t, VI);
        store_bytes(&level, q + i, n - i);
    }
}

INLINE void quantize_body(const float *x, int64_t n, QParam p, int bits, DType T, int8_t *q)
{
    float lo = bits == 4 ? -8.0f : -128.0f, hi = bits == 4 ? 7.0f : 127.0f;
    WITH_DTYPE(T, k, quantize_loop(x, n, p, lo, hi, k, q));
}

INLINE void dequantize_loop(const int8_t *q, int64_t n, QParam p, DType T, float *y)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VB b = {0};
        if (n - i >= LANES)
            memcpy(&b, q + i, sizeof b);
        else
            memcpy(&b, q + i, (size_t)(n - i));
        VF t = __builtin_convertvector(b, VF);
        value_of(&t, p, T);
        store_lanes(&t, y + i, n - i);
    }
}

INLINE void dequantize_body(const int8_t *q, int64_t n, QParam p, DType T, float *y)
{
    WITH_DTYPE(T, k, dequantize_loop(q, n, p, k, y));
}

INLINE void codes_loop(const float *x, int64_t n, QParam p, float lo, float hi, DType T, float *y)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VF t;
        load_lanes(&t, x + i, n - i);
        level_of(&t, p, lo, hi, T);
        t = t - p.offset;
        round_to(&t, T);
        store_lanes(&t, y + i, n - i);
    }
}

INLINE void codes_body(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
    float lo = bits == 4 ? -8.0f : -128.0f, hi = bits == 4 ? 7.0f : 127.0f;
    WITH_DTYPE(T, k, codes_loop(x, n, p, lo, hi, k, y));
}

INLINE void fake_body(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
    float lo = bits == 4 ? -8.0f : -128.0f, hi = bits == 4 ? 7.0f : 127.0f;
    WITH_DTYPE(T, k, fake_loop(x, n, p, lo, hi, k, y));
}

/* Lane sums are added in lane order, so that every form gives the same bits. */
static double sum_lanes(const VD *v)
{
    double s = 0.0;
    for (int k = 0; k < LANES; k++)
        s += (*v)[k];
    return s;
}

INLINE void fit_loop(const float *x, int64_t n, QParam p, float lo, float hi, DType T, DType M, IntFit *out)
{
    VD xq = {0}, qq = {0}, err = {0};
    for (int64_t i = 0; i < n; i += LANES) {
        VF t, q, d, a;
        load_lanes(&t, x + i, n - i); /* missing lanes are 0, which adds nothing */
        q = t;
        level_of(&q, p, lo, hi, T);
        a = t * q;
        round_to(&a, T);
        xq += __builtin_convertvector(a, VD);
        a = q * q;
        round_to(&a, T);
        qq += __builtin_convertvector(a, VD);
        d = q;
        value_of(&d, p, T);
        d = t - d;
        round_to(&d, M);
        d = d * d;
        round_to(&d, M);
        err += __builtin_convertvector(d, VD);
    }
    *out = (IntFit){.xq = sum_lanes(&xq), .qq = sum_lanes(&qq), .err = sum_lanes(&err)};
}

INLINE void fit_body(const float *x, int64_t n, float scale, int bits, DType T, DType M, IntFit *out)
{
    float lo = bits == 4 ? -8.0f : -128.0f, hi = bits == 4 ? 7.0f : 127.0f;
    QParam p = {.scale = scale};
    if (T == DT_F32)
        fit_loop(x, n, p, lo, hi, DT_F32, DT_F32, out);
    else if (T == DT_BF16 && M == DT_F32)
        fit_loop(x, n, p, lo, hi, DT_BF16, DT_F32, out);
    else if (T == DT_BF16)
        fit_loop(x, n, p, lo, hi, DT_BF16, DT_BF16, out);
    else if (M == DT_F32)
        fit_loop(x, n, p, lo, hi, DT_F16, DT_F32, out);
    else
        fit_loop(x, n, p, lo, hi, DT_F16, DT_F16, out);
}

INLINE void range_body(const float *x, int64_t n, float *mn, float *mx)
{
    VF lo = {0}, hi;
    VI bad = {0};
    lo += x[0];
    hi = lo;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VF t;
        memcpy(&t, x + i, sizeof t);
        VI less = t < lo, more = t > hi;
        VU bits = (VU)t;
        select_bits(&lo, &less, &bits);
        select_bits(&hi, &more, &bits);
        bad |= t != t;
    }
    float a = x[0], b = x[0];
    int any = 0;
    for (int k = 0; k < LANES; k++) {
        a = lo[k] < a ? lo[k] : a;
        b = hi[k] > b ? hi[k] : b;
        any |= bad[k];
    }
    for (; i < n; i++) {
        a = x[i] < a ? x[i] : a;
        b = x[i] > b ? x[i] : b;
        any |= isnan(x[i]);
    }
    if (any || isnan(x[0]))
        a = b = NAN;
    *mn = a;
    *mx = b;
}

static void fake_any(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
    fake_body(x, n, p, bits, T, y);
}

static void codes_any(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
    codes_body(x, n, p, bits, T, y);
}

static void quantize_any(const float *x, int64_t n, QParam p, int bits, DType T, int8_t *q)
{
    quantize_body(x, n, p, bits, T, q);
}

static void dequantize_any(const int8_t *q, int64_t n, QParam p, DType T, float *y)
{
    dequantize_body(q, n, p, T, y);
}

static void fit_any(const float *x, int64_t n, float scale, int bits, DType T, DType M, IntFit *out)
{
    fit_body(x, n, scale, bits, T, M, out);
}

static void range_any(const float *x, int64_t n, float *mn, float *mx)
{
    range_body(x, n, mn, mx);
}

#ifdef HAVE_AVX2_FORM
AVX2_FORM static void fake_avx2(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
    fake_body(x, n, p, bits, T, y);
}

AVX2_FORM static void codes_avx2(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
    codes_body(x, n, p, bits, T, y);
}

AVX2_FORM static void quantize_avx2(const float *x, int64_t n, QParam p, int bits, DType T, int8_t *q)
{
    quantize_body(x, n, p, bits, T, q);
}

AVX2_FORM static void dequantize_avx2(const int8_t *q, int64_t n, QParam p, DType T, float *y)
{
    dequantize_body(q, n, p, T, y);
}

AVX2_FORM static void fit_avx2(const float *x, int64_t n, float scale, int bits, DType T, DType M, IntFit *out)
{
    fit_body(x, n, scale, bits, T, M, out);
}

AVX2_FORM static void range_avx2(const float *x, int64_t n, float *mn, float *mx)
{
    range_body(x, n, mn, mx);
}
#endif

void intquant_fake(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
#ifdef HAVE_AVX2_FORM
    if (CPU_HAS_AVX2()) {
        fake_avx2(x, n, p, bits, T, y);
        return;
    }
#endif
    fake_any(x, n, p, bits, T, y);
}

void intquant_codes(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
#ifdef HAVE_AVX2_FORM
    if (CPU_HAS_AVX2()) {
        codes_avx2(x, n, p, bits, T, y);
        return;
    }
#endif
    codes_any(x, n, p, bits, T, y);
}

void intquant_range(const float *x, int64_t n, float *mn, float *mx)
{
#ifdef HAVE_AVX2_FORM
    if (CPU_HAS_AVX2()) {
        range_avx2(x, n, mn, mx);
        return;
    }
#endif
    range_any(x, n, mn, mx);
}

/* As torch.maximum: a NaN on either side wins. */
static float max_nan(float a, float b)
{
    if (isnan(a) || isnan(b))
        return NAN;
    return a > b ? a : b;
}

QParam intquant_param(float mn, float mx, int bits, bool symmetric, DType T)
{
    const float eps = round_scalar(0x1p-23f, T);
    mn = -max_nan(-mn, 0.0f);
    mx = max_nan(mx, 0.0f);
    if (symmetric) {
        float divisor = (float)((1 << (bits - 1)) - 1);
        float s = round_scalar(max_nan(-mn, mx) / divisor, T);
        return (QParam){.scale = max_nan(s, eps), .offset = 0.0f};
    }
    float divisor = (float)((1 << bits) - 1);
    float high = round_scalar(mx / divisor, T), low = round_scalar(mn / divisor, T);
    float s = max_nan(round_scalar(high - low, T), eps);
    float o = rintf(round_scalar(-mn / s, T));
    o = round_scalar(o - (float)(1 << (bits - 1)), T);
    return (QParam){.scale = s, .offset = o};
}

void intquant_quantize(const float *x, int64_t n, QParam p, int bits, DType T, int8_t *q)
{
#ifdef HAVE_AVX2_FORM
    if (CPU_HAS_AVX2()) {
        quantize_avx2(x, n, p, bits, T, q);
        return;
    }
#endif
    quantize_any(x, n, p, bits, T, q);
}

void intquant_dequantize(const int8_t *q, int64_t n, QParam p, DType T, float *y)
{
#ifdef HAVE_AVX2_FORM
    if (CPU_HAS_AVX2()) {
        dequantize_avx2(q, n, p, T, y);
        return;
    }
#endif
    dequantize_any(q, n, p, T, y);
}

IntFit intquant_fit(const float *x, int64_t n, float scale, int bits, DType T, DType M)
{
    IntFit f;
#ifdef HAVE_AVX2_FORM
    if (CPU_HAS_AVX2()) {
        fit_avx2(x, n, scale, bits, T, M, &f);
        return f;
    }
#endif
    fit_any(x, n, scale, bits, T, M, &f);
    return f;
}
