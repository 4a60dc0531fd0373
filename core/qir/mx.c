#include "qir/mx.h"

#include <math.h>

#include "math/lanes.h"
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

INLINE void abs_of(VF *t, VU *sign)
{
    *sign = (VU)*t & 0x80000000u;
    *t = (VF)((VU)*t & 0x7FFFFFFFu);
}

/* Level of a in binade *e of `bits` bits behind the point, half up, at most `most`; a NaN stays one. */
INLINE void level_in(VF *a, const VI *e, int bits, float most)
{
    VF to_level = (VF)((VU)(127 + bits - *e) << 23);
    VF t = *a * to_level + 0.5f, top = (VF){0} + most;
    VI above = t > top;
    VU top_bits = (VU)top;
    select_bits(&t, &above, &top_bits);
    VI number = t == t;
    VF whole = __builtin_convertvector(__builtin_convertvector((VF)((VU)t & (VU)number), VI), VF);
    VU whole_bits = (VU)whole;
    select_bits(&t, &number, &whole_bits);
    *a = t;
}

/* Lanes of x over 2^e: level t of the element's binade and the exponent p of that binade (biased as the code is); a NaN
 * quotient leaves t NaN. */
INLINE void fp8_level(VF *a, VI *p)
{
    VU u = (VU)*a;
    VI e = (VI)(u >> 23) - 127;
    VI low = e < -6, high = e > 8;
    e = (e & ~low) | (low & -6);
    e = (e & ~high) | (high & 8);
    level_in(a, &e, 3, 64.0f);
    *p = e;
}

/* As fp8_level of |a| <= 448, but half to even. */
INLINE void e4m3_level(VF *a, VI *p)
{
    VI e = (VI)((VU)*a >> 23) - 127;
    VI low = e < -6;
    e = (e & ~low) | (low & -6);
    *a = (*a * (VF)((VU)(127 + 3 - e) << 23) + RINT_MAGIC) - RINT_MAGIC;
    *p = e;
}

INLINE void e4m3_quotient(VF *t, VU *sign, float scale, DType T)
{
    *t = *t / scale;
    round_to(t, T);
    abs_of(t, sign);
    VF most = (VF){0} + 448.0f;
    VI above = *t > most;
    VU most_bits = (VU)most;
    select_bits(t, &above, &most_bits);
}

INLINE void e4m3_encode_loop(const float *x, int64_t n, float scale, DType T, uint8_t *code)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VF a;
        VU sign;
        VI p;
        load_lanes(&a, x + i, n - i);
        e4m3_quotient(&a, &sign, scale, T);
        VI nan = a != a;
        a = (VF)((VU)a & ~(VU)nan);
        e4m3_level(&a, &p);
        VI c = ((p + 7) << 3) + __builtin_convertvector(a, VI) - 8;
        c = (c & ~nan) | (nan & 0x7f) | (VI)(sign >> 24);
        store_bytes(&c, code + i, n - i);
    }
}

INLINE void e4m3_fake_loop(const float *x, int64_t n, float scale, DType T, float *y)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VF a;
        VU sign;
        VI p;
        load_lanes(&a, x + i, n - i);
        e4m3_quotient(&a, &sign, scale, T);
        VI nan = a != a;
        VU nan_bits = (VU)a;
        a = (VF)((VU)a & ~(VU)nan);
        e4m3_level(&a, &p);
        a = a * (VF)((VU)(127 - 3 + p) << 23);
        a = (VF)((VU)a | sign) * scale;
        select_bits(&a, &nan, &nan_bits);
        round_to(&a, T);
        store_lanes(&a, y + i, n - i);
    }
}

INLINE void e4m3_encode_body(const float *x, int64_t n, float scale, DType T, uint8_t *code)
{
    WITH_DTYPE(T, k, e4m3_encode_loop(x, n, scale, k, code));
}

INLINE void e4m3_fake_body(const float *x, int64_t n, float scale, DType T, float *y)
{
    WITH_DTYPE(T, k, e4m3_fake_loop(x, n, scale, k, y));
}

INLINE void fp4_level(VF *a, VI *p)
{
    VI two = *a >= 2.0f, four = *a >= 4.0f;
    VI e = -(two + four); /* 0, 1, 2 */
    level_in(a, &e, 1, 8.0f);
    *p = e;
}

/* |x| over the block's scale, and the sign of x; 0 has none and stays 0 whatever the scale. */
INLINE void quotient(VF *t, VU *sign, float scale)
{
    VI nonzero = *t != 0.0f;
    abs_of(t, sign);
    *sign &= (VU)nonzero;
    *t = *t / scale;
    *t = (VF)((VU)*t & (VU)nonzero & 0x7FFFFFFFu);
}

INLINE void encode_loop(QType t, const float *x, int64_t n, float scale, uint8_t *code)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VF a;
        VU sign;
        VI p, bad, c;
        load_lanes(&a, x + i, n - i);
        quotient(&a, &sign, scale);
        bad = a != a;
        if (t == QT_MXFP8) {
            fp8_level(&a, &p);
            a = (VF)((VU)a & ~(VU)bad);
            c = ((p + 7) << 3) + __builtin_convertvector(a, VI) - 8;
            VI over = (c > 0x7e);
            c = (c & ~over) | (over & 0x7e);
            c = (c & ~bad) | (bad & 0x7f);
            c |= (VI)(sign >> 24);
        } else {
            fp4_level(&a, &p);
            VI nan = a != a;
            a = (VF)((VU)a & ~(VU)nan);
            c = (__builtin_convertvector(a, VI) + 2 * p) & ~nan;
            VI over = (c > 7);
            c = (c & ~over) | (over & 7);
            c |= (VI)(sign >> 28);
        }
        store_bytes(&c, code + i, n - i);
    }
}

INLINE void fake_loop(QType t, const float *x, int64_t n, float scale, DType T, float *y)
{
    const float most = t == QT_MXFP8 ? 448.0f : 6.0f;
    for (int64_t i = 0; i < n; i += LANES) {
        VF a;
        VU sign;
        VI p;
        load_lanes(&a, x + i, n - i);
        quotient(&a, &sign, scale);
        if (t == QT_MXFP8) {
            fp8_level(&a, &p);
            a = a * (VF)((VU)(127 - 3 + p) << 23);
        } else {
            fp4_level(&a, &p);
            a = a * (VF)((VU)(127 - 1 + p) << 23);
        }
        VF top = (VF){0} + most;
        VI above = a > most;
        VU top_bits = (VU)top;
        select_bits(&a, &above, &top_bits);
        a = (VF)((VU)a | sign) * scale;
        round_to(&a, T);
        store_lanes(&a, y + i, n - i);
    }
}

INLINE void fake_body(QType t, const float *x, int64_t n, float scale, DType T, float *y)
{
    if (t == QT_MXFP8)
        WITH_DTYPE(T, k, fake_loop(QT_MXFP8, x, n, scale, k, y));
    else
        WITH_DTYPE(T, k, fake_loop(QT_MXFP4, x, n, scale, k, y));
}

/* Codes of m mantissa bits below the sign and exponents of one bias to their values times scale. */
INLINE void decode_loop(QType t, const uint8_t *code, int64_t n, float scale, DType T, float *y)
{
    const int bits = t == QT_MXFP4 ? 1 : 3, bias = t == QT_MXFP4 ? 1 : 7, sign_at = t == QT_MXFP4 ? 28 : 24;
    const int top = t == QT_MXFP4 ? 7 : 0x7f;
    for (int64_t i = 0; i < n; i += LANES) {
        VB b = {0};
        if (n - i >= LANES)
            memcpy(&b, code + i, sizeof b);
        else
            memcpy(&b, code + i, (size_t)(n - i));
        VI c = __builtin_convertvector(b, VI), e = (c & top) >> bits, m = c & ((1 << bits) - 1);
        VI normal = e != 0;
        m |= normal & (1 << bits);
        e += ~normal & 1; /* the values below the first binade have its exponent */
        VF v = __builtin_convertvector(m, VF) * (VF)((VU)(e + (127 - bias - bits)) << 23);
        VI nan = (c & top) == (t == QT_MXFP4 ? 8 : 0x7f); /* e2m1 has none */
        VU sign = (VU)c << sign_at & 0x80000000u;
        v = (VF)((VU)v | (VU)nan | sign) * scale;
        round_to(&v, T);
        store_lanes(&v, y + i, n - i);
    }
}

INLINE void decode_body(QType t, const uint8_t *code, int64_t n, float scale, DType T, float *y)
{
    if (t != QT_MXFP4)
        WITH_DTYPE(T, k, decode_loop(QT_MXFP8, code, n, scale, k, y));
    else
        WITH_DTYPE(T, k, decode_loop(QT_MXFP4, code, n, scale, k, y));
}

INLINE float amax_body(const float *x, int64_t n)
{
    VF top = {0};
    VI bad = {0};
    for (int64_t i = 0; i < n; i += LANES) {
        VF t;
        VU sign;
        load_lanes(&t, x + i, n - i);
        abs_of(&t, &sign);
        bad |= t != t;
        VI more = t > top;
        VU bits = (VU)t;
        select_bits(&top, &more, &bits);
    }
    float m = 0.0f;
    int any = 0;
    for (int k = 0; k < LANES; k++) {
        m = top[k] > m ? top[k] : m;
        any |= bad[k];
    }
    return any ? NAN : m;
}

/* Which form; the loops above are inlined into each. */
typedef struct MxLoops {
    void (*encode)(QType t, const float *x, int64_t n, float scale, uint8_t *code);
    void (*fake)(QType t, const float *x, int64_t n, float scale, DType T, float *y);
    float (*amax)(const float *x, int64_t n);
    void (*e4m3_encode)(const float *x, int64_t n, float scale, DType T, uint8_t *code);
    void (*e4m3_fake)(const float *x, int64_t n, float scale, DType T, float *y);
    void (*decode)(QType t, const uint8_t *code, int64_t n, float scale, DType T, float *y);
} MxLoops;

#define MX_FORM(NAME, ATTR)                                                                                        \
    ATTR static void encode_##NAME(QType t, const float *x, int64_t n, float scale, uint8_t *code)                 \
    {                                                                                                              \
        if (t == QT_MXFP8)                                                                                         \
            encode_loop(QT_MXFP8, x, n, scale, code);                                                              \
        else                                                                                                       \
            encode_loop(QT_MXFP4, x, n, scale, code);                                                              \
    }                                                                                                              \
    ATTR static void fake_##NAME(QType t, const float *x, int64_t n, float scale, DType T, float *y)               \
    {                                                                                                              \
        fake_body(t, x, n, scale, T, y);                                                                           \
    }                                                                                                              \
    ATTR static float amax_##NAME(const float *x, int64_t n)                                                       \
    {                                                                                                              \
        return amax_body(x, n);                                                                                    \
    }                                                                                                              \
    ATTR static void e4m3_encode_##NAME(const float *x, int64_t n, float scale, DType T, uint8_t *code)            \
    {                                                                                                              \
        e4m3_encode_body(x, n, scale, T, code);                                                                    \
    }                                                                                                              \
    ATTR static void e4m3_fake_##NAME(const float *x, int64_t n, float scale, DType T, float *y)                   \
    {                                                                                                              \
        e4m3_fake_body(x, n, scale, T, y);                                                                         \
    }                                                                                                              \
    ATTR static void decode_##NAME(QType t, const uint8_t *code, int64_t n, float scale, DType T, float *y)        \
    {                                                                                                              \
        decode_body(t, code, n, scale, T, y);                                                                      \
    }                                                                                                              \
    static const MxLoops loops_##NAME = {encode_##NAME, fake_##NAME, amax_##NAME, e4m3_encode_##NAME,              \
                                         e4m3_fake_##NAME, decode_##NAME};

MX_FORM(any, )
#ifdef HAVE_AVX2_FORM
MX_FORM(avx2, AVX2_FORM)
#endif

static const MxLoops *loops(void)
{
#ifdef HAVE_AVX2_FORM
    if (CPU_HAS_AVX2())
        return &loops_avx2;
#endif
    return &loops_any;
}

float mx_amax(const float *x, int64_t n)
{
    return loops()->amax(x, n);
}

void e4m3_encode(const float *x, int64_t n, float scale, DType T, uint8_t *code)
{
    loops()->e4m3_encode(x, n, scale, T, code);
}

void e4m3_fake(const float *x, int64_t n, float scale, DType T, float *y)
{
    loops()->e4m3_fake(x, n, scale, T, y);
}

void mx_encode(QType t, const float *x, int64_t n, float e, DType T, uint8_t *code)
{
    loops()->encode(t, x, n, mx_scale(e, T), code);
}

void mx_decode(QType t, const uint8_t *code, int64_t n, float e, DType T, float *y)
{
    loops()->decode(t, code, n, mx_scale(e, T), T, y);
}

void e4m3_decode(const uint8_t *code, int64_t n, float scale, DType T, float *y)
{
    loops()->decode(QT_MXFP8, code, n, scale, T, y);
}

void mx_fake_block(QType t, const float *x, int64_t n, float e, DType T, float *y)
{
    loops()->fake(t, x, n, mx_scale(e, T), T, y);
}

void mx_fake_row(QType t, const float *x, int64_t n, DType T, float *y)
{
    const MxLoops *l = loops();
    for (int64_t i = 0; i < n; i += MX_BLOCK) {
        int64_t len = n - i < MX_BLOCK ? n - i : MX_BLOCK;
        l->fake(t, x + i, len, mx_scale(mx_exponent(t, l->amax(x + i, len), T), T), T, y + i);
    }
}
