/* The block float formats' loops, compiled for several processors: see loops.h. */

VEC_INLINE void abs_of(VF *t, VU *sign)
{
    *sign = (VU)*t & 0x80000000u;
    *t = (VF)((VU)*t & 0x7FFFFFFFu);
}

/* Level of a in binade *e of `bits` bits behind the point, half up, at most `most`; a NaN stays one. */
VEC_INLINE void level_in(VF *a, const VI *e, int bits, float most)
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
VEC_INLINE void fp8_level(VF *a, VI *p)
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
VEC_INLINE void e4m3_level(VF *a, VI *p)
{
    VI e = (VI)((VU)*a >> 23) - 127;
    VI low = e < -6;
    e = (e & ~low) | (low & -6);
    *a = (*a * (VF)((VU)(127 + 3 - e) << 23) + RINT_MAGIC) - RINT_MAGIC;
    *p = e;
}

VEC_INLINE void e4m3_quotient(VF *t, VU *sign, float scale, DType T)
{
    *t = *t / scale;
    round_to(t, T);
    abs_of(t, sign);
    VF most = (VF){0} + 448.0f;
    VI above = *t > most;
    VU most_bits = (VU)most;
    select_bits(t, &above, &most_bits);
}

VEC_INLINE void e4m3_encode_loop(const float *x, int64_t n, float scale, DType T, uint8_t *code)
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

VEC_INLINE void e4m3_fake_loop(const float *x, int64_t n, float scale, DType T, float *y)
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

VEC_TARGET static void fp8_encode(const float *x, int64_t n, float scale, DType T, uint8_t *code)
{
    WITH_DTYPE(T, k, e4m3_encode_loop(x, n, scale, k, code));
}

VEC_TARGET static void fp8_fake(const float *x, int64_t n, float scale, DType T, float *y)
{
    WITH_DTYPE(T, k, e4m3_fake_loop(x, n, scale, k, y));
}

VEC_INLINE void fp4_level(VF *a, VI *p)
{
    VI two = *a >= 2.0f, four = *a >= 4.0f;
    VI e = -(two + four); /* 0, 1, 2 */
    level_in(a, &e, 1, 8.0f);
    *p = e;
}

/* |x| over the block's scale, and the sign of x; 0 has none and stays 0 whatever the scale. */
VEC_INLINE void quotient(VF *t, VU *sign, float scale)
{
    VI nonzero = *t != 0.0f;
    abs_of(t, sign);
    *sign &= (VU)nonzero;
    *t = *t / scale;
    *t = (VF)((VU)*t & (VU)nonzero & 0x7FFFFFFFu);
}

VEC_INLINE void mx_encode_loop(QType t, const float *x, int64_t n, float scale, uint8_t *code)
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

VEC_INLINE void mx_fake_loop(QType t, const float *x, int64_t n, float scale, DType T, float *y)
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

VEC_TARGET static void mx_fake(QType t, const float *x, int64_t n, float scale, DType T, float *y)
{
    if (t == QT_MXFP8)
        WITH_DTYPE(T, k, mx_fake_loop(QT_MXFP8, x, n, scale, k, y));
    else
        WITH_DTYPE(T, k, mx_fake_loop(QT_MXFP4, x, n, scale, k, y));
}

/* Codes of m mantissa bits below the sign and exponents of one bias to their values times scale. */
VEC_INLINE void mx_decode_loop(QType t, const uint8_t *code, int64_t n, float scale, DType T, float *y)
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

VEC_TARGET static void mx_decode_codes(QType t, const uint8_t *code, int64_t n, float scale, DType T, float *y)
{
    if (t != QT_MXFP4)
        WITH_DTYPE(T, k, mx_decode_loop(QT_MXFP8, code, n, scale, k, y));
    else
        WITH_DTYPE(T, k, mx_decode_loop(QT_MXFP4, code, n, scale, k, y));
}

VEC_TARGET static float largest(const float *x, int64_t n)
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

VEC_TARGET static void mx_encode_codes(QType t, const float *x, int64_t n, float scale, uint8_t *code)
{
    if (t == QT_MXFP8)
        mx_encode_loop(QT_MXFP8, x, n, scale, code);
    else
        mx_encode_loop(QT_MXFP4, x, n, scale, code);
}
