#ifndef SLIM_MATH_SCALAR_H
#define SLIM_MATH_SCALAR_H

#include <math.h>

#include "math/convert.h"

/* What the kernels compute of one value: the definition that every vector form follows bit for bit, so each fused
 * multiply-add is written as one and nothing else is fused. Polynomials are least-maximum fits of our own; errors are
 * relative. NaN gives NaN. */

/* 1.5 * 2^23: adding it rounds a float below 2^22 to an integer, half to even. */
#define EXP_MAGIC 12582912.0f
/* Beyond these e^x is 0 and infinity. */
#define EXP_LOW -104.0f
#define EXP_HIGH 89.0f
#define EXP_LOG2E 1.44269504f
/* ln 2 in two parts, both negative. */
#define EXP_LN2_HIGH -0.693145752f
#define EXP_LN2_LOW -1.42860677e-6f
/* e^r = 1 + r + r^2 (C2 + ... + C6 r^4) for |r| <= ln 2 / 2, within 4e-9 */
#define EXP_C2 0.49999994f
#define EXP_C3 0.166665211f
#define EXP_C4 0.041668389f
#define EXP_C5 0.00836874545f
#define EXP_C6 0.00138145383f

/* e^x: x = n ln 2 + r, a polynomial in r times 2^n in two steps, so that results below the normal range are rounded
 * once. Within 1e-7. */
static inline float scalar_exp(float x)
{
    x = x < EXP_LOW ? EXP_LOW : x;
    x = x > EXP_HIGH ? EXP_HIGH : x;
    float t = __builtin_fmaf(x, EXP_LOG2E, EXP_MAGIC);
    int32_t n = (int32_t)(bits_of_float(t) - bits_of_float(EXP_MAGIC));
    t = t - EXP_MAGIC;
    float r = __builtin_fmaf(t, EXP_LN2_HIGH, x);
    r = __builtin_fmaf(t, EXP_LN2_LOW, r);
    float p = __builtin_fmaf(r, EXP_C6, EXP_C5);
    p = __builtin_fmaf(p, r, EXP_C4);
    p = __builtin_fmaf(p, r, EXP_C3);
    p = __builtin_fmaf(p, r, EXP_C2);
    p = __builtin_fmaf(p, r, 1.0f);
    p = __builtin_fmaf(p, r, 1.0f);
    int32_t half = n >> 1, rest = n - half;
    p = p * float_of_bits((uint32_t)(half + 127) << 23);
    return p * float_of_bits((uint32_t)(rest + 127) << 23);
}

/* x / (1 + e^-x) */
static inline float scalar_silu(float x)
{
    return x / (scalar_exp(-x) + 1.0f);
}

static inline float scalar_sigmoid(float x)
{
    return 1.0f / (scalar_exp(-x) + 1.0f);
}

/* x / (1 + e^z) with z = -2 sqrt(2/pi) (x + 0.044715 x^3), which is x/2 (1 + tanh(-z/2)) */
#define GELU_Z1 -1.59576912f
#define GELU_Z3 -0.0713548163f

static inline float scalar_gelu_tanh(float x)
{
    float z = x * __builtin_fmaf(x * x, GELU_Z3, GELU_Z1);
    return x / (scalar_exp(z) + 1.0f);
}

/* tanh x = x + x^3 (C0 + ... + C4 x^8) below the bound, within 5e-9; else 1 - 2 / (e^2|x| + 1) with x's sign. */
#define TANH_BOUND 0.625f
#define TANH_C0 -0.333332807f
#define TANH_C1 0.133314312f
#define TANH_C2 -0.053738758f
#define TANH_C3 0.0206358228f
#define TANH_C4 -0.00570118893f

static inline float scalar_tanh(float x)
{
    float a = fabsf(x), s = a * a;
    float p = __builtin_fmaf(s, TANH_C4, TANH_C3);
    p = __builtin_fmaf(p, s, TANH_C2);
    p = __builtin_fmaf(p, s, TANH_C1);
    p = __builtin_fmaf(p, s, TANH_C0);
    p = __builtin_fmaf(p, s * a, a);
    float far = 1.0f - 2.0f / (scalar_exp(a + a) + 1.0f);
    return copysignf(a < TANH_BOUND ? p : far, x);
}

#endif
