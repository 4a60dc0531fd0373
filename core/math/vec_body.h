/* The vector kernels, written once and compiled for several processors: the including file defines VEC_BYTES (size of
 * a vector register), VEC_TARGET (function attribute that lets the compiler use it), VEC_NAME and VEC_TABLE. Tails go
 * through a small padded buffer, so an element's value never depends on its place. Not a header to include
 * elsewhere. */
#include "math/kernels.h"

#include <math.h>
#include <string.h>

#include "math/convert.h"

enum { VN = VEC_BYTES / 4, DN = VEC_BYTES / 8 };
typedef float VF __attribute__((vector_size(VEC_BYTES)));
typedef int32_t VI __attribute__((vector_size(VEC_BYTES)));
typedef uint32_t VU __attribute__((vector_size(VEC_BYTES)));
typedef uint16_t VH __attribute__((vector_size(VEC_BYTES / 2)));
typedef float VFH __attribute__((vector_size(VEC_BYTES / 2)));
typedef double VD __attribute__((vector_size(VEC_BYTES)));

#define VEC_INLINE VEC_TARGET static inline __attribute__((always_inline))

/* Vectors travel by pointer: passing them by value would depend on the processor's calling convention. */
VEC_INLINE void vload(VF *v, const float *p)
{
    memcpy(v, p, sizeof *v);
}

VEC_INLINE void vstore(float *p, const VF *v)
{
    memcpy(p, v, sizeof *v);
}

VEC_INLINE void vsplat(VF *v, float x)
{
    *v = x - (VF){0};
}

/* where mask is all ones: a, else *v */
VEC_INLINE void vselect(VF *v, const VI *mask, const VF *a)
{
    *v = (VF)(((VI)*a & *mask) | ((VI)*v & ~*mask));
}

/* e^x: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r (Taylor coefficients, degree 7: remainder below 6e-9),
 * times 2^n in two steps so that results below the normal range come out right. NaN passes through, overflow is
 * infinity. */
VEC_INLINE void vexp(VF *v)
{
    VF x = *v, lo, hi;
    vsplat(&lo, -104.0f);
    vsplat(&hi, 89.0f);
    VI nan = x != x, under = x < lo, over = x > hi;
    VF in = x;
    vselect(&x, &under, &lo);
    vselect(&x, &over, &hi);
    VF magic;
    vsplat(&magic, 12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    VF t = x * 1.44269504f + magic;
    VI n = (VI)t - (VI)magic;
    t = t - magic;
    VF r = (x - t * 0.693359375f) - t * -2.12194440e-4f; /* ln 2 in two parts: the first product is exact */
    VF p = r * (1.0f / 5040.0f) + (1.0f / 720.0f);
    p = p * r + (1.0f / 120.0f);
    p = p * r + (1.0f / 24.0f);
    p = p * r + (1.0f / 6.0f);
    p = p * r + 0.5f;
    p = p * (r * r) + r;
    p = p + 1.0f;
    VI half = n >> 1, rest = n - half;
    p = p * (VF)((half + 127) << 23);
    p = p * (VF)((rest + 127) << 23);
    vselect(&p, &nan, &in);
    *v = p;
}

VEC_TARGET static void widen_bf16(const uint16_t *src, int64_t n, float *dst)
{
    int64_t i = 0;
    for (; i + VN <= n; i += VN) {
        VH h;
        memcpy(&h, src + i, sizeof h);
        VU u = __builtin_convertvector(h, VU) << 16;
        memcpy(dst + i, &u, sizeof u);
    }
    for (; i < n; i++)
        dst[i] = bf16_to_float(src[i]);
}

VEC_TARGET static void widen_f16(const uint16_t *src, int64_t n, float *dst)
{
    int64_t i = 0;
    for (; i + VN <= n; i += VN) {
        VH h;
        memcpy(&h, src + i, sizeof h);
        VU u = __builtin_convertvector(h, VU);
        VU sign = (u & 0x8000u) << 16, em = u & 0x7fffu;
        VF v = (VF)((em << 13) + (112u << 23));
        VI small = (VI)(em < 0x400u), big = (VI)(em >= 0x7c00u);
        VF sub = __builtin_convertvector((VI)em, VF) * 0x1p-24f;
        VF inf = (VF)(((em & 0x3ffu) << 13) | 0x7f800000u);
        vselect(&v, &small, &sub);
        vselect(&v, &big, &inf);
        u = (VU)v | sign;
        memcpy(dst + i, &u, sizeof u);
    }
    for (; i < n; i++)
        dst[i] = f16_to_float(src[i]);
}

VEC_TARGET static void round_bf16(float *x, int64_t n)
{
    int64_t i = 0;
    for (; i + VN <= n; i += VN) {
        VU u;
        memcpy(&u, x + i, sizeof u);
        VU r = (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;
        VI nan = (VI)((u & 0x7fffffffu) > 0x7f800000u);
        VF v = (VF)r, q = (VF)((u & 0xffff0000u) | 0x400000u);
        vselect(&v, &nan, &q);
        vstore(x + i, &v);
    }
    for (; i < n; i++)
        x[i] = bf16_to_float(bf16_of_float(x[i]));
}

VEC_TARGET static void round_f16(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = f16_to_float(f16_of_float(x[i]));
}

VEC_TARGET static void exp_all(float *x, int64_t n)
{
    VF v;
    int64_t i = 0;
    for (; i + VN <= n; i += VN) {
        vload(&v, x + i);
        vexp(&v);
        vstore(x + i, &v);
    }
    if (i < n) {
        float tail[VN] = {0};
        memcpy(tail, x + i, (size_t)(n - i) * sizeof *x);
        vload(&v, tail);
        vexp(&v);
        vstore(tail, &v);
        memcpy(x + i, tail, (size_t)(n - i) * sizeof *x);
    }
}

VEC_TARGET static float row_max(const float *x, int64_t n)
{
    VF best, v;
    vsplat(&best, -INFINITY);
    int64_t i = 0;
    for (; i + VN <= n; i += VN) {
        vload(&v, x + i);
        VI gt = (v > best) | (v != v); /* NaN wins and stays */
        vselect(&best, &gt, &v);
    }
    float lane[VN], max = -INFINITY;
    vstore(lane, &best);
    for (int j = 0; j < VN; j++)
        max = lane[j] > max || isnan(lane[j]) ? lane[j] : max;
    for (; i < n; i++)
        max = x[i] > max || isnan(x[i]) ? x[i] : max;
    return max;
}

VEC_TARGET static double row_sum(const float *x, int64_t n)
{
    VD a = {0}, b = {0};
    VFH h;
    double sum = 0;
    int64_t i = 0;
    for (; i + 2 * DN <= n; i += 2 * DN) {
        memcpy(&h, x + i, sizeof h);
        a += __builtin_convertvector(h, VD);
        memcpy(&h, x + i + DN, sizeof h);
        b += __builtin_convertvector(h, VD);
    }
    a += b;
    for (int j = 0; j < DN; j++)
        sum += a[j];
    for (; i < n; i++)
        sum += (double)x[i];
    return sum;
}

VEC_TARGET static void scale(const float *x, float s, float *y, int64_t n)
{
    VF v;
    int64_t i = 0;
    for (; i + VN <= n; i += VN) {
        vload(&v, x + i);
        v = v * s;
        vstore(y + i, &v);
    }
    for (; i < n; i++)
        y[i] = x[i] * s;
}

VEC_TARGET static void softmax(float *x, int64_t n)
{
    float max = row_max(x, n);
    VF v;
    int64_t i = 0;
    for (; i + VN <= n; i += VN) {
        vload(&v, x + i);
        v = v - max;
        vstore(x + i, &v);
    }
    for (; i < n; i++)
        x[i] = x[i] - max;
    exp_all(x, n);
    scale(x, (float)(1.0 / row_sum(x, n)), x, n);
}

/* g = g * u / (1 + e^-z): silu with z = g, gelu_tanh with z = 2 sqrt(2/pi) (g + 0.044715 g^3) */
VEC_INLINE void gate_one(float *g, const float *u, int gelu)
{
    VF x, w, z;
    vload(&x, g);
    vload(&w, u);
    z = -x;
    if (gelu)
        z = (x + x * x * x * 0.044715f) * -1.5957691216057308f;
    vexp(&z);
    x = x / (z + 1.0f) * w;
    vstore(g, &x);
}

VEC_INLINE void gate_all(float *g, const float *u, int64_t n, int gelu)
{
    int64_t i = 0;
    for (; i + VN <= n; i += VN)
        gate_one(g + i, u + i, gelu);
    if (i < n) {
        float a[VN] = {0}, b[VN] = {0};
        memcpy(a, g + i, (size_t)(n - i) * sizeof *g);
        memcpy(b, u + i, (size_t)(n - i) * sizeof *g);
        gate_one(a, b, gelu);
        memcpy(g + i, a, (size_t)(n - i) * sizeof *g);
    }
}

VEC_TARGET static void silu_mul(float *g, const float *u, int64_t n)
{
    gate_all(g, u, n, 0);
}

VEC_TARGET static void gelu_tanh_mul(float *g, const float *u, int64_t n)
{
    gate_all(g, u, n, 1);
}

VEC_TARGET static void add(const float *a, const float *b, float *y, int64_t n)
{
    VF v, w;
    int64_t i = 0;
    for (; i + VN <= n; i += VN) {
        vload(&v, a + i);
        vload(&w, b + i);
        v = v + w;
        vstore(y + i, &v);
    }
    for (; i < n; i++)
        y[i] = a[i] + b[i];
}

VEC_TARGET static void mul(const float *a, const float *b, float *y, int64_t n)
{
    VF v, w;
    int64_t i = 0;
    for (; i + VN <= n; i += VN) {
        vload(&v, a + i);
        vload(&w, b + i);
        v = v * w;
        vstore(y + i, &v);
    }
    for (; i < n; i++)
        y[i] = a[i] * b[i];
}

VEC_TARGET static void rope(float *a, float *b, const float *c, const float *s, int64_t n)
{
    int64_t i = 0;
    for (; i + VN <= n; i += VN) {
        VF x, y, vc, vs, t;
        vload(&x, a + i);
        vload(&y, b + i);
        vload(&vc, c + i);
        vload(&vs, s + i);
        t = x * vc - y * vs;
        y = y * vc + x * vs;
        vstore(a + i, &t);
        vstore(b + i, &y);
    }
    for (; i < n; i++) {
        float ac = a[i] * c[i], bs = b[i] * s[i], bc = b[i] * c[i], as = a[i] * s[i];
        a[i] = ac - bs;
        b[i] = bc + as;
    }
}

VEC_TARGET static double sum_sq(const float *x, int64_t n)
{
    enum { PARTS = 8 / DN };
    VD acc[PARTS] = {{0}};
    double p[8];
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < PARTS; k++) {
            VFH h;
            memcpy(&h, x + i + k * DN, sizeof h);
            VD d = __builtin_convertvector(h, VD);
            acc[k] += d * d;
        }
    memcpy(p, acc, sizeof p);
    for (; i < n; i++)
        p[i & 7] += (double)x[i] * (double)x[i];
    return ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
}

/* The columns' sums stay in registers while the state passes by. */
VEC_TARGET static void delta_step(float *s, int64_t keys, const float *k, const float *q, const float *v, float decay,
                                  float beta, float *o)
{
    enum { PARTS = DELTA_COLS / VN };
    VF sum[PARTS], d[PARTS], w;
#pragma GCC unroll 8
    for (int j = 0; j < PARTS; j++)
        vsplat(&sum[j], 0);
    for (int64_t i = 0; i < keys; i++)
#pragma GCC unroll 8
        for (int j = 0; j < PARTS; j++) {
            float *at = s + i * DELTA_COLS + j * VN;
            vload(&w, at);
            w = w * decay;
            vstore(at, &w);
            sum[j] += w * k[i];
        }
#pragma GCC unroll 8
    for (int j = 0; j < PARTS; j++) {
        vload(&w, v + j * VN);
        d[j] = (w - sum[j]) * beta;
        vsplat(&sum[j], 0);
    }
    for (int64_t i = 0; i < keys; i++)
#pragma GCC unroll 8
        for (int j = 0; j < PARTS; j++) {
            float *at = s + i * DELTA_COLS + j * VN;
            vload(&w, at);
            w += d[j] * k[i];
            vstore(at, &w);
            sum[j] += w * q[i];
        }
#pragma GCC unroll 8
    for (int j = 0; j < PARTS; j++)
        vstore(o + j * VN, &sum[j]);
}

/* Products of float32 values are exact in float64, so a fused multiply-add rounds exactly where the two operations
 * do. */
VEC_TARGET static void exact_tile(int64_t k, const double *x, const double *w, double *c, int64_t ldc)
{
    enum { PARTS = EXACT_COLS / DN };
    VD acc[EXACT_ROWS][PARTS];
#pragma GCC unroll 4
    for (int i = 0; i < EXACT_ROWS; i++)
#pragma GCC unroll 4
        for (int j = 0; j < PARTS; j++)
            memcpy(&acc[i][j], c + i * ldc + j * DN, sizeof(VD));
    for (int64_t t = 0; t < k; t++, x += EXACT_ROWS, w += EXACT_COLS) {
        VD row[PARTS]; /* loaded one by one: a copy of the whole would go through the stack */
#pragma GCC unroll 4
        for (int j = 0; j < PARTS; j++)
            memcpy(&row[j], w + j * DN, sizeof(VD));
#pragma GCC unroll 4
        for (int i = 0; i < EXACT_ROWS; i++) {
            VD v = x[i] - (VD){0}; /* minus zero: keeps the sign of -0, so the compiler drops it */
#pragma GCC unroll 4
            for (int j = 0; j < PARTS; j++)
                VEC_FMA(acc[i][j], v, row[j]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < EXACT_ROWS; i++)
#pragma GCC unroll 4
        for (int j = 0; j < PARTS; j++)
            memcpy(c + i * ldc + j * DN, &acc[i][j], sizeof(VD));
}

const MathKernels VEC_TABLE = {
    .name = VEC_NAME,
    .widen_bf16 = widen_bf16,
    .widen_f16 = widen_f16,
    .round_bf16 = round_bf16,
    .round_f16 = round_f16,
    .exp = exp_all,
    .softmax = softmax,
    .silu_mul = silu_mul,
    .gelu_tanh_mul = gelu_tanh_mul,
    .add = add,
    .scale = scale,
    .mul = mul,
    .rope = rope,
    .sum_sq = sum_sq,
    .delta_step = delta_step,
    .exact_tile = exact_tile,
};
