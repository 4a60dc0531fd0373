#include "qir/intquant.h"

#include <math.h>
#include <string.h>

/* The loops are written once over vectors of eight and compiled twice on x86-64: for any processor, and for those with
 * AVX2, chosen at run time. Both do the same IEEE operations in the same order, so results do not depend on the
 * processor. Helpers take pointers because passing vectors by value would depend on the target's calling convention. */
enum { LANES = 8 };
typedef float VF __attribute__((vector_size(4 * LANES)));
typedef uint32_t VU __attribute__((vector_size(4 * LANES)));
typedef int32_t VI __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__)
#define HAVE_AVX2_FORM 1
#define AVX2_FORM __attribute__((target("avx2")))
#define CPU_HAS_AVX2() __builtin_cpu_supports("avx2")
#endif

/* Adding and subtracting 1.5 * 2^23 rounds |t| < 2^22 to an integer, half to even, and gives +0 for -0. */
#define RINT_MAGIC 12582912.0f

/* *t = mask ? a : *t, lane by lane. */
INLINE void select_bits(VF *t, const VI *mask, const VU *a)
{
    VU keep = (VU)*t & ~(VU)*mask;
    *t = (VF)(keep | (*a & (VU)*mask));
}

INLINE void round_bf16(VF *t)
{
    VU u = (VU)*t;
    VU r = (u + 0x7FFFu + ((u >> 16) & 1u)) & 0xFFFF0000u;
    VI number = *t == *t;
    VU nan = (u & 0) | 0x7FC00000u;
    *t = (VF)((r & (VU)number) | (nan & ~(VU)number));
}

INLINE void round_f16(VF *t)
{
    VU u = (VU)*t, sign = u & 0x80000000u, abs_bits = u & 0x7FFFFFFFu;
    VF a = (VF)abs_bits;
    VF r = (VF)((abs_bits + 0xFFFu + ((abs_bits >> 13) & 1u)) & ~(VU)((abs_bits & 0) | 0x1FFFu));
    /* Below 2^-14 the grid is 2^-24, which is the spacing of floats in [0.5, 1). */
    VF sub = (a + 0.5f) - 0.5f;
    VI is_sub = a < 0x1p-14f, is_big = a >= 65520.0f, is_nan = *t != *t;
    VU inf = (u & 0) | 0x7F800000u, nan = (u & 0) | 0x7FC00000u, sub_bits = (VU)sub;
    select_bits(&r, &is_sub, &sub_bits);
    select_bits(&r, &is_big, &inf);
    r = (VF)((VU)r | sign);
    select_bits(&r, &is_nan, &nan);
    *t = r;
}

/* T is a constant at every call, so only one branch is left. */
INLINE void round_to(VF *t, DType T)
{
    if (T == DT_BF16)
        round_bf16(t);
    else if (T == DT_F16)
        round_f16(t);
}

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
        size_t bytes = sizeof(float) * (size_t)(n - i < LANES ? n - i : LANES);
        VF t = {0};
        if (bytes == sizeof t)
            memcpy(&t, x + i, sizeof t);
        else
            memcpy(&t, x + i, bytes);
        level_of(&t, p, lo, hi, T);
        value_of(&t, p, T);
        if (bytes == sizeof t)
            memcpy(y + i, &t, sizeof t);
        else
            memcpy(y + i, &t, bytes);
    }
}

INLINE void fake_body(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
    float lo = bits == 4 ? -8.0f : -128.0f, hi = bits == 4 ? 7.0f : 127.0f;
    if (T == DT_BF16)
        fake_loop(x, n, p, lo, hi, DT_BF16, y);
    else if (T == DT_F16)
        fake_loop(x, n, p, lo, hi, DT_F16, y);
    else
        fake_loop(x, n, p, lo, hi, DT_F32, y);
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

static void range_any(const float *x, int64_t n, float *mn, float *mx)
{
    range_body(x, n, mn, mx);
}

#ifdef HAVE_AVX2_FORM
AVX2_FORM static void fake_avx2(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
    fake_body(x, n, p, bits, T, y);
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
    float lo = bits == 4 ? -8.0f : -128.0f, hi = bits == 4 ? 7.0f : 127.0f;
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t left = n - i < LANES ? n - i : LANES;
        VF t = {0};
        memcpy(&t, x + i, sizeof(float) * (size_t)left);
        if (T == DT_BF16)
            level_of(&t, p, lo, hi, DT_BF16);
        else if (T == DT_F16)
            level_of(&t, p, lo, hi, DT_F16);
        else
            level_of(&t, p, lo, hi, DT_F32);
        for (int64_t k = 0; k < left; k++)
            q[i + k] = (int8_t)t[k];
    }
}

void intquant_dequantize(const int8_t *q, int64_t n, QParam p, DType T, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = round_scalar(round_scalar((float)q[i] - p.offset, T) * p.scale, T);
}

void intquant_weight_rows(float *w, int64_t rows, int64_t in, int bits, DType T, float *scale)
{
    for (int64_t r = 0; r < rows; r++) {
        float mn, mx;
        intquant_range(w + r * in, in, &mn, &mx);
        QParam p = intquant_param(mn, mx, bits, true, T);
        intquant_fake(w + r * in, in, p, bits, T, w + r * in);
        if (scale)
            scale[r] = p.scale;
    }
}
