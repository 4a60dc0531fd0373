#ifndef SLIM_MATH_KERNELS_H
#define SLIM_MATH_KERNELS_H

#include <stdint.h>

#include "base/dtype.h"
#include "math/cpu.h"

/* Shape of the register tile of exact_tile. */
enum { EXACT_ROWS = 4, EXACT_COLS = 8 };

/* Columns of the state that delta_step works on at once. */
enum { DELTA_COLS = 32 };

/* Element-wise kernels of the forward pass. Every table gives the same values for widen, round, add, scale, rope,
 * sum_sq, delta_step and exact_tile (bit for bit: no product-sum is fused where that could round differently); exp,
 * softmax and the gates are libm in the reference and a polynomial in the others (relative error below 3e-7). Counts
 * may be 0; pointers need no alignment; in and out may be the same array, but must not overlap otherwise. */
typedef struct MathKernels {
    const char *name; /* "reference", "generic", "avx2", "avx512" */
    void (*widen_bf16)(const uint16_t *src, int64_t n, float *dst);
    void (*widen_f16)(const uint16_t *src, int64_t n, float *dst);
    /* To the nearest bf16 (fp16), ties to even, kept as float32. NaN stays NaN. */
    void (*round_bf16)(float *x, int64_t n);
    void (*round_f16)(float *x, int64_t n);
    /* x = exp(x) */
    void (*exp)(float *x, int64_t n);
    /* x = exp(x - max) / sum; all -inf gives NaN, as in the reference implementation. n > 0. */
    void (*softmax)(float *x, int64_t n);
    /* g = act(g) * u */
    void (*silu_mul)(float *g, const float *u, int64_t n);
    void (*gelu_tanh_mul)(float *g, const float *u, int64_t n);
    void (*add)(const float *a, const float *b, float *y, int64_t n);
    /* y = x * s */
    void (*scale)(const float *x, float s, float *y, int64_t n);
    /* y = a * b */
    void (*mul)(const float *a, const float *b, float *y, int64_t n);
    /* Rotates pairs: a' = a*c - b*s, b' = b*c + a*s, each product rounded to float32. */
    void (*rope)(float *a, float *b, const float *c, const float *s, int64_t n);
    /* Sum of squares in float64 (products are exact), 8 interleaved partial sums added pairwise. */
    double (*sum_sq)(const float *x, int64_t n);
    /* One token of the gated delta rule on DELTA_COLS columns of a head's state s[keys][DELTA_COLS] (specs/models.md
     * 2.5): s *= decay; d = (v - s^T k) * beta; s += k d^T; o = s^T q. Sums run over keys ascending, in float32. */
    void (*delta_step)(float *s, int64_t keys, const float *k, const float *q, const float *v, float decay,
                       float beta, float *o);
    /* c[i][j] += sum over k ascending of x[k][i] * w[k][j], one float64 accumulator an element. Operands hold widened
     * float32 values, so every product is exact and the result is the same on every processor. ldc: doubles per row
     * of c. */
    void (*exact_tile)(int64_t k, const double *x, const double *w, double *c, int64_t ldc);
} MathKernels;

/* The plain scalar form of each. */
const MathKernels *math_reference(void);
/* That of math_level(); any thread, cheap enough for one call a task. */
const MathKernels *math_fast(void);
/* That of a level; NULL where this processor cannot run it. */
const MathKernels *math_table(MathLevel l);

/* n values of a plain dtype (dtype_plain) as float32, unrounded. */
void math_widen(const MathKernels *k, DType t, const void *src, int64_t n, float *dst);

extern const MathKernels math_kernels_generic;
#if defined(__x86_64__)
extern const MathKernels math_kernels_avx2, math_kernels_avx512;
#endif

#endif
