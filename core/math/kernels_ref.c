#include "math/kernels.h"

#include <math.h>
#include <string.h>

#include "math/scalar.h"

static void widen_bf16(const uint16_t *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = bf16_to_float(src[i]);
}

static void widen_f16(const uint16_t *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = f16_to_float(src[i]);
}

static void round_bf16(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = bf16_to_float(bf16_of_float(x[i]));
}

static void round_f16(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = f16_to_float(f16_of_float(x[i]));
}

static void exp_all(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = scalar_exp(x[i]);
}

static float max_all(const float *x, int64_t n)
{
    float max = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max + 0.0f;
}

static double exp_sum(float *x, int64_t n, float max, double start)
{
    double sum[SUM_LANES] = {0};
    for (int64_t b = 0; b < n; b += SUM_BLOCK) {
        float lane[SUM_LANES] = {0};
        for (int64_t i = b; i < n && i < b + SUM_BLOCK; i++) {
            x[i] = scalar_exp(x[i] - max);
            lane[i % SUM_LANES] += x[i];
        }
        for (int j = 0; j < SUM_LANES; j++)
            sum[j] += (double)lane[j];
    }
    for (int half = SUM_LANES / 2; half; half /= 2)
        for (int j = 0; j < half; j++)
            sum[j] += sum[j + half];
    return start + sum[0];
}

static void softmax(float *x, int64_t n)
{
    float part = (float)(1.0 / exp_sum(x, n, max_all(x, n), 0));
    for (int64_t i = 0; i < n; i++)
        x[i] = x[i] * part;
}

static void sigmoid(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = scalar_sigmoid(x[i]);
}

static void tanh_all(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = scalar_tanh(x[i]);
}

static void silu_mul(float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        g[i] = scalar_silu(g[i]) * u[i];
}

static void gelu_tanh_mul(float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        g[i] = scalar_gelu_tanh(g[i]) * u[i];
}

/* ---- the C library's ---- */

static void libm_exp(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = expf(x[i]);
}

static double libm_exp_sum(float *x, int64_t n, float max, double start)
{
    for (int64_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        start += (double)x[i];
    }
    return start;
}

static void libm_softmax(float *x, int64_t n)
{
    float max = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        max = x[i] > max || isnan(x[i]) ? x[i] : max;
    float sum = (float)libm_exp_sum(x, n, max, 0);
    for (int64_t i = 0; i < n; i++)
        x[i] = x[i] / sum;
}

static void libm_sigmoid(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = 1.0f / (1.0f + expf(-x[i]));
}

static void libm_tanh(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = tanhf(x[i]);
}

static void libm_silu_mul(float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        g[i] = g[i] / (1.0f + expf(-g[i])) * u[i];
}

static void libm_gelu_tanh_mul(float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float x = g[i];
        g[i] = 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x))) * u[i];
    }
}

/* ---- plain arithmetic ---- */

static void add(const float *a, const float *b, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

static void scale(const float *x, float s, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * s;
}

static void mul(const float *a, const float *b, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] * b[i];
}

static void scale_mul(const float *x, float s, const float *w, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * s * w[i];
}

static void rope(float *a, float *b, const float *c, const float *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float ac = a[i] * c[i], bs = b[i] * s[i], bc = b[i] * c[i], as = a[i] * s[i];
        a[i] = ac - bs;
        b[i] = bc + as;
    }
}

static double sum_sq(const float *x, int64_t n)
{
    double p[8] = {0};
    for (int64_t i = 0; i < n; i++)
        p[i & 7] += (double)x[i] * (double)x[i];
    return ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
}

static void delta_step(float *s, int64_t keys, const float *k, const float *q, const float *v, float decay,
                       float beta, float *o)
{
    for (int j = 0; j < DELTA_COLS; j++) {
        float seen = 0, out = 0;
        for (int64_t i = 0; i < keys; i++) {
            s[i * DELTA_COLS + j] *= decay;
            seen += s[i * DELTA_COLS + j] * k[i];
        }
        float d = (v[j] - seen) * beta;
        for (int64_t i = 0; i < keys; i++) {
            s[i * DELTA_COLS + j] += k[i] * d;
            out += s[i * DELTA_COLS + j] * q[i];
        }
        o[j] = out;
    }
}

enum { REF_ROWS = 4, REF_COLS = 8 };

static void exact_tile(int64_t k, const double *x, const double *w, double *c)
{
    for (int64_t t = 0; t < k; t++)
        for (int i = 0; i < REF_ROWS; i++)
            for (int j = 0; j < REF_COLS; j++)
                c[i * REF_COLS + j] += x[t * REF_ROWS + i] * w[t * REF_COLS + j];
}

/* What both tables have. */
#define PLAIN_ROWS                                                                                                     \
    .widen_bf16 = widen_bf16, .widen_f16 = widen_f16, .round_bf16 = round_bf16, .round_f16 = round_f16, .max = max_all, \
    .add = add, .scale = scale, .mul = mul, .scale_mul = scale_mul, .rope = rope, .sum_sq = sum_sq,                    \
    .delta_step = delta_step, .exact_rows = REF_ROWS, .exact_cols = REF_COLS, .exact_tile = exact_tile

static const MathKernels kernels_reference = {
    .name = "reference",
    PLAIN_ROWS,
    .exp = exp_all,
    .exp_sum = exp_sum,
    .softmax = softmax,
    .sigmoid = sigmoid,
    .tanh = tanh_all,
    .silu_mul = silu_mul,
    .gelu_tanh_mul = gelu_tanh_mul,
};

static const MathKernels kernels_libm = {
    .name = "libm",
    PLAIN_ROWS,
    .exp = libm_exp,
    .exp_sum = libm_exp_sum,
    .softmax = libm_softmax,
    .sigmoid = libm_sigmoid,
    .tanh = libm_tanh,
    .silu_mul = libm_silu_mul,
    .gelu_tanh_mul = libm_gelu_tanh_mul,
};

const MathKernels *math_libm(void)
{
    return &kernels_libm;
}

const MathKernels *math_table(MathLevel l)
{
    if (!math_level_runs(l))
        return NULL;
    switch (l) {
    case MATH_REFERENCE:
        return &kernels_reference;
#if defined(__aarch64__)
    case MATH_NEON:
        return &math_kernels_neon;
#elif defined(__x86_64__)
    case MATH_AVX2:
        return &math_kernels_avx2;
    case MATH_AVX512:
    case MATH_AVX512BF16:
        return &math_kernels_avx512;
#endif
    default:
        return &math_kernels_generic;
    }
}

void math_widen(const MathKernels *k, DType t, const void *src, int64_t n, float *dst)
{
    if (t == DT_BF16)
        k->widen_bf16(src, n, dst);
    else if (t == DT_F16)
        k->widen_f16(src, n, dst);
    else
        memcpy(dst, src, (size_t)n * sizeof *dst);
}

const MathKernels *math_fast(void)
{
    return math_table(math_level());
}
