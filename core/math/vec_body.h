/* The vector kernels, written once and compiled for several processors. The including file defines
 *   VEC_BYTES                  size of a vector register
 *   VEC_TARGET                 function attribute that lets the compiler use it
 *   VEC_NAME, VEC_TABLE        of the table
 *   VEC_FMA(acc, a, b)         VD acc += a * b of products that are exact (fused or not)
 *   VEC_EXACT_ROWS, _COLS      shape of its exact_tile
 *   VEC_MADD(a, b, c)          VF a * b + c, fused
 *   VEC_MAX(a, b), VEC_MIN     VF a > b ? a : b, a < b ? a : b
 * and may define
 *   VEC_SCALE(p, t)            VF p * 2^t, rounded once
 *   VEC_LOAD_PART, VEC_STORE_PART, VEC_KEEP (see vload_part, vstore_part, vkeep)
 * A tail goes through a padded vector, so an element's value never depends on its place. Not a header to include
 * elsewhere. */
#include "math/kernels.h"

#include <math.h>
#include <string.h>

#include "math/scalar.h"
#include "math/unroll.h"

enum { VN = VEC_BYTES / 4, DN = VEC_BYTES / 8 };
typedef float VF __attribute__((vector_size(VEC_BYTES)));
typedef int32_t VI __attribute__((vector_size(VEC_BYTES)));
typedef uint32_t VU __attribute__((vector_size(VEC_BYTES)));
typedef uint16_t VH __attribute__((vector_size(VEC_BYTES / 2)));
typedef float VFH __attribute__((vector_size(VEC_BYTES / 2)));
typedef double VD __attribute__((vector_size(VEC_BYTES)));
typedef double VDAnywhere __attribute__((vector_size(VEC_BYTES), aligned(8), may_alias));

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

/* The first n < VN values, fill in the other lanes. */
VEC_INLINE void vload_part(VF *v, const float *p, int64_t n, float fill)
{
#ifdef VEC_LOAD_PART
    *v = VEC_LOAD_PART(p, n, fill);
#else
    vsplat(v, fill);
    memcpy(v, p, (size_t)n * sizeof *p);
#endif
}

VEC_INLINE void vstore_part(float *p, const VF *v, int64_t n)
{
#ifdef VEC_STORE_PART
    VEC_STORE_PART(p, *v, n);
#else
    memcpy(p, v, (size_t)n * sizeof *p);
#endif
}

/* Zero in the lanes from n on. */
VEC_INLINE void vkeep(VF *v, int64_t n)
{
#ifdef VEC_KEEP
    *v = VEC_KEEP(*v, n);
#else
    float lane[VN];
    vstore(lane, v);
    vload_part(v, lane, n, 0);
#endif
}

/* ---- functions of one vector: scalar.h in VN lanes ---- */

VEC_INLINE void vexp(VF *v)
{
    VF magic, low, high, k, p, q;
    vsplat(&magic, EXP_MAGIC);
    vsplat(&low, EXP_LOW);
    vsplat(&high, EXP_HIGH);
    VF x = VEC_MAX(low, *v);
    x = VEC_MIN(high, x);
    vsplat(&k, EXP_LOG2E);
    VF t = VEC_MADD(x, k, magic);
#ifndef VEC_SCALE
    VI n = (VI)((VU)t - (VU)magic);
#endif
    t = t - magic;
    vsplat(&k, EXP_LN2_HIGH);
    VF r = VEC_MADD(t, k, x);
    vsplat(&k, EXP_LN2_LOW);
    r = VEC_MADD(t, k, r);
    vsplat(&k, EXP_C6);
    vsplat(&q, EXP_C5);
    p = VEC_MADD(r, k, q);
    vsplat(&q, EXP_C4);
    p = VEC_MADD(p, r, q);
    vsplat(&q, EXP_C3);
    p = VEC_MADD(p, r, q);
    vsplat(&q, EXP_C2);
    p = VEC_MADD(p, r, q);
    vsplat(&q, 1.0f);
    p = VEC_MADD(p, r, q);
    p = VEC_MADD(p, r, q);
#ifdef VEC_SCALE
    *v = VEC_SCALE(p, t);
#else
    VI half = n >> 1, rest = n - half;
    p = p * (VF)((VU)(half + 127) << 23);
    *v = p * (VF)((VU)(rest + 127) << 23);
#endif
}

VEC_INLINE void vsigmoid(VF *v)
{
    VF z = -*v;
    vexp(&z);
    *v = 1.0f / (z + 1.0f);
}

VEC_INLINE void vsilu(VF *v)
{
    VF z = -*v;
    vexp(&z);
    *v = *v / (z + 1.0f);
}

VEC_INLINE void vgelu_tanh(VF *v)
{
    VF z1, z3;
    vsplat(&z1, GELU_Z1);
    vsplat(&z3, GELU_Z3);
    VF x = *v, s = x * x, z = VEC_MADD(s, z3, z1);
    z = x * z;
    vexp(&z);
    *v = x / (z + 1.0f);
}

VEC_INLINE void vtanh(VF *v)
{
    VF k, p, bound;
    VI sign = (VI)*v & INT32_MIN;
    VF a = (VF)((VI)*v & INT32_MAX), s = a * a, sa = s * a;
    vsplat(&p, TANH_C4);
    vsplat(&k, TANH_C3);
    p = VEC_MADD(s, p, k);
    vsplat(&k, TANH_C2);
    p = VEC_MADD(p, s, k);
    vsplat(&k, TANH_C1);
    p = VEC_MADD(p, s, k);
    vsplat(&k, TANH_C0);
    p = VEC_MADD(p, s, k);
    p = VEC_MADD(p, sa, a);
    VF far = a + a;
    vexp(&far);
    far = 1.0f - 2.0f / (far + 1.0f);
    vsplat(&bound, TANH_BOUND);
    VI near = a < bound;
    vselect(&far, &near, &p);
    *v = (VF)((VI)far | sign);
}

/* ---- kernels ---- */

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

/* A kernel x = f(x) from a function of one vector. */
#define VEC_MAP(name, f)                                    \
    VEC_TARGET static void name(float *x, int64_t n)        \
    {                                                       \
        VF v;                                               \
        int64_t i = 0;                                      \
        for (; i + VN <= n; i += VN) {                      \
            vload(&v, x + i);                               \
            f(&v);                                          \
            vstore(x + i, &v);                              \
        }                                                   \
        if (i < n) {                                        \
            vload_part(&v, x + i, n - i, 0);                \
            f(&v);                                          \
            vstore_part(x + i, &v, n - i);                  \
        }                                                   \
    }
VEC_MAP(exp_all, vexp)
VEC_MAP(sigmoid, vsigmoid)
VEC_MAP(tanh_all, vtanh)

/* The largest value does not depend on the order: NaNs never enter, and zeros end as one. */
VEC_TARGET static float max_all(const float *x, int64_t n)
{
    enum { PARTS = 4 };
    VF best[PARTS], v;
    for (int j = 0; j < PARTS; j++)
        vsplat(&best[j], -INFINITY);
    int64_t i = 0;
    for (; i + PARTS * VN <= n; i += PARTS * VN)
        UNROLL
        for (int j = 0; j < PARTS; j++) {
            vload(&v, x + i + j * VN);
            best[j] = VEC_MAX(v, best[j]);
        }
    for (; i + VN <= n; i += VN) {
        vload(&v, x + i);
        best[0] = VEC_MAX(v, best[0]);
    }
    if (i < n) {
        vload_part(&v, x + i, n - i, -INFINITY);
        best[1] = VEC_MAX(v, best[1]);
    }
    best[0] = VEC_MAX(best[0], best[1]);
    best[2] = VEC_MAX(best[2], best[3]);
    best[0] = VEC_MAX(best[0], best[2]);
    float lane[VN];
    vstore(lane, &best[0]);
    for (int half = VN / 2; half; half /= 2)
        for (int j = 0; j < half; j++)
            lane[j] = lane[j + half] > lane[j] ? lane[j + half] : lane[j];
    return lane[0] + 0.0f;
}

enum { SUM_FLOATS = SUM_LANES / VN, SUM_DOUBLES = SUM_LANES / DN };

/* SUM_LANES exponentials, or the first n < SUM_LANES of them, added to the lanes. */
VEC_INLINE void exp_lanes(float *x, float max, VF *lane)
{
    VF v;
    UNROLL
    for (int j = 0; j < SUM_FLOATS; j++) {
        vload(&v, x + j * VN);
        v = v - max;
        vexp(&v);
        vstore(x + j * VN, &v);
        lane[j] += v;
    }
}

VEC_INLINE void exp_lanes_part(float *x, int64_t n, float max, VF *lane)
{
    VF v;
    for (int j = 0; j < SUM_FLOATS && n > 0; j++, x += VN, n -= VN) {
        int64_t part = n < VN ? n : VN;
        if (n < VN)
            vload_part(&v, x, n, 0);
        else
            vload(&v, x);
        v = v - max;
        vexp(&v);
        if (n < VN) {
            vstore_part(x, &v, part);
            vkeep(&v, part);
        } else {
            vstore(x, &v);
        }
        lane[j] += v;
    }
}

VEC_TARGET static double exp_sum(float *x, int64_t n, float max, double start)
{
    VD sum[SUM_DOUBLES] = {{0}};
    for (int64_t b = 0; b < n; b += SUM_BLOCK) {
        VF lane[SUM_FLOATS] = {{0}};
        int64_t end = b + SUM_BLOCK < n ? b + SUM_BLOCK : n, i = b;
        for (; i + SUM_LANES <= end; i += SUM_LANES)
            exp_lanes(x + i, max, lane);
        if (i < end)
            exp_lanes_part(x + i, end - i, max, lane);
        UNROLL
        for (int j = 0; j < SUM_DOUBLES; j++) {
            VFH h;
            memcpy(&h, (const char *)lane + j * (int)sizeof h, sizeof h);
            sum[j] += __builtin_convertvector(h, VD);
        }
    }
    UNROLL
    for (int half = SUM_DOUBLES / 2; half; half /= 2)
        UNROLL
        for (int j = 0; j < half; j++)
            sum[j] += sum[j + half];
    double d[DN];
    memcpy(d, sum, sizeof d);
    UNROLL
    for (int half = DN / 2; half; half /= 2)
        UNROLL
        for (int j = 0; j < half; j++)
            d[j] += d[j + half];
    return start + d[0];
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
    scale(x, (float)(1.0 / exp_sum(x, n, max_all(x, n), 0)), x, n);
}

/* A kernel g = f(g) * u. */
#define VEC_GATE(name, f)                                                 \
    VEC_TARGET static void name(float *g, const float *u, int64_t n)      \
    {                                                                     \
        VF v, w;                                                          \
        int64_t i = 0;                                                    \
        for (; i + VN <= n; i += VN) {                                    \
            vload(&v, g + i);                                             \
            vload(&w, u + i);                                             \
            f(&v);                                                        \
            v = v * w;                                                    \
            vstore(g + i, &v);                                            \
        }                                                                 \
        if (i < n) {                                                      \
            vload_part(&v, g + i, n - i, 0);                              \
            vload_part(&w, u + i, n - i, 0);                              \
            f(&v);                                                        \
            v = v * w;                                                    \
            vstore_part(g + i, &v, n - i);                                \
        }                                                                 \
    }
VEC_GATE(silu_mul, vsilu)
VEC_GATE(gelu_tanh_mul, vgelu_tanh)

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

VEC_TARGET static void scale_mul(const float *x, float s, const float *w, float *y, int64_t n)
{
    VF v, u;
    int64_t i = 0;
    for (; i + VN <= n; i += VN) {
        vload(&v, x + i);
        vload(&u, w + i);
        v = v * s;
        v = v * u;
        vstore(y + i, &v);
    }
    for (; i < n; i++)
        y[i] = x[i] * s * w[i];
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
    UNROLL
    for (int j = 0; j < PARTS; j++)
        vsplat(&sum[j], 0);
    for (int64_t i = 0; i < keys; i++)
        UNROLL
        for (int j = 0; j < PARTS; j++) {
            float *at = s + i * DELTA_COLS + j * VN;
            vload(&w, at);
            w = w * decay;
            vstore(at, &w);
            sum[j] += w * k[i];
        }
    UNROLL
    for (int j = 0; j < PARTS; j++) {
        vload(&w, v + j * VN);
        d[j] = (w - sum[j]) * beta;
        vsplat(&sum[j], 0);
    }
    for (int64_t i = 0; i < keys; i++)
        UNROLL
        for (int j = 0; j < PARTS; j++) {
            float *at = s + i * DELTA_COLS + j * VN;
            vload(&w, at);
            w += d[j] * k[i];
            vstore(at, &w);
            sum[j] += w * q[i];
        }
    UNROLL
    for (int j = 0; j < PARTS; j++)
        vstore(o + j * VN, &sum[j]);
}

/* Products of float32 values are exact in float64, so a fused multiply-add rounds exactly where the two operations
 * do. The accumulators stay in registers: as many as there are, less a row of w and a value of x. */
VEC_TARGET static void exact_tile(int64_t k, const double *x, const double *w, double *c)
{
    enum { ROWS = VEC_EXACT_ROWS, COLS = VEC_EXACT_COLS, PARTS = COLS / DN };
    VD acc[ROWS][PARTS];
    if (k <= 0)
        return;
    UNROLL
    for (int i = 0; i < ROWS; i++)
        UNROLL
        for (int j = 0; j < PARTS; j++)
            acc[i][j] = *(const VDAnywhere *)(c + i * COLS + j * DN); /* memcpy would go through the stack */
    do { /* at least once: else the accumulators would go through memory */
        VD row[PARTS];
        UNROLL
        for (int j = 0; j < PARTS; j++)
            row[j] = *(const VDAnywhere *)(w + j * DN);
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            VD v = x[i] - (VD){0}; /* minus zero: keeps the sign of -0, so the compiler drops it */
            UNROLL
            for (int j = 0; j < PARTS; j++)
                VEC_FMA(acc[i][j], v, row[j]);
        }
        x += ROWS;
        w += COLS;
    } while (--k > 0);
    UNROLL
    for (int i = 0; i < ROWS; i++)
        UNROLL
        for (int j = 0; j < PARTS; j++)
            *(VDAnywhere *)(c + i * COLS + j * DN) = acc[i][j];
}

const MathKernels VEC_TABLE = {
    .name = VEC_NAME,
    .widen_bf16 = widen_bf16,
    .widen_f16 = widen_f16,
    .round_bf16 = round_bf16,
    .round_f16 = round_f16,
    .exp = exp_all,
    .max = max_all,
    .exp_sum = exp_sum,
    .softmax = softmax,
    .sigmoid = sigmoid,
    .tanh = tanh_all,
    .silu_mul = silu_mul,
    .gelu_tanh_mul = gelu_tanh_mul,
    .add = add,
    .scale = scale,
    .mul = mul,
    .scale_mul = scale_mul,
    .rope = rope,
    .sum_sq = sum_sq,
    .delta_step = delta_step,
    .exact_rows = VEC_EXACT_ROWS,
    .exact_cols = VEC_EXACT_COLS,
    .exact_tile = exact_tile,
};
