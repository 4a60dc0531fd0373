#ifndef SLIM_MATH_KERNELS_H
#define SLIM_MATH_KERNELS_H

#include <stdint.h>

#include "base/dtype.h"
#include "math/cpu.h"

/* Every table's exact_rows and exact_cols divide these. */
enum { EXACT_ROWS_STEP = 8, EXACT_COLS_STEP = 48 };

/* Columns of the state that delta_step works on at once. */
enum { DELTA_COLS = 32 };

/* Sums of exponentials: value i goes to lane i % SUM_LANES; a lane adds in float32 over SUM_BLOCK values of the row, its
 * blocks in float64; the lanes are added in halves (j and j + 8, then 4, 2, 1). */
enum { SUM_LANES = 16, SUM_BLOCK = 512 };

/* Element-wise kernels of the forward pass. Every table gives the same bits as the reference, whatever the processor
 * (of a NaN: that it is one): what is fused is part of the definition (scalar.h), and sums have fixed lanes. The exception
 * is math_libm(). Counts may be 0; pointers need no alignment; in and out may be the same array, but must not overlap
 * otherwise. */
typedef struct MathKernels {
    const char *name; /* "reference", "libm", "generic", "neon", "avx2", "avx512" */
    void (*widen_bf16)(const uint16_t *src, int64_t n, float *dst);
    void (*widen_f16)(const uint16_t *src, int64_t n, float *dst);
    /* To the nearest bf16 (fp16), ties to even, kept as float32. NaN stays NaN. */
    void (*round_bf16)(float *x, int64_t n);
    void (*round_f16)(float *x, int64_t n);
    /* x = exp(x), relative error below 1.2e-7 */
    void (*exp)(float *x, int64_t n);
    /* The largest value, +0 for a zero; NaNs are passed over. -inf of none. */
    float (*max)(const float *x, int64_t n);
    /* x = exp(x - max); gives start plus the sum of the results, NaN if there is one. */
    double (*exp_sum)(float *x, int64_t n, float max, double start);
    /* x = exp(x - max) * (1 / sum), both rounded to float32; a NaN, or nothing but -inf, gives NaN all over, as in the
     * reference implementation. */
    void (*softmax)(float *x, int64_t n);
    /* x = 1 / (1 + exp(-x)); x = tanh(x), relative error below 2.5e-7 */
    void (*sigmoid)(float *x, int64_t n);
    void (*tanh)(float *x, int64_t n);
    /* g = act(g) * u */
    void (*silu_mul)(float *g, const float *u, int64_t n);
    void (*gelu_tanh_mul)(float *g, const float *u, int64_t n);
    void (*add)(const float *a, const float *b, float *y, int64_t n);
    /* y = x * s */
    void (*scale)(const float *x, float s, float *y, int64_t n);
    /* y = a * b */
    void (*mul)(const float *a, const float *b, float *y, int64_t n);
    /* y = (x * s) * w */
    void (*scale_mul)(const float *x, float s, const float *w, float *y, int64_t n);
    /* Rotates pairs: a' = a*c - b*s, b' = b*c + a*s, each product rounded to float32. */
    void (*rope)(float *a, float *b, const float *c, const float *s, int64_t n);
    /* Sum of squares in float64 (products are exact), 8 interleaved partial sums added pairwise. */
    double (*sum_sq)(const float *x, int64_t n);
    /* One token of the gated delta rule on DELTA_COLS columns of a head's state s[keys][DELTA_COLS] (specs/models.md
     * 2.5): s *= decay; d = (v - s^T k) * beta; s += k d^T; o = s^T q. Sums run over keys ascending, in float32. */
    void (*delta_step)(float *s, int64_t keys, const float *k, const float *q, const float *v, float decay,
                       float beta, float *o);
    /* c[i][j] += sum over k ascending of x[k][i] * w[k][j], one float64 accumulator an element; x [k][exact_rows],
     * w [k][exact_cols], c [exact_rows][exact_cols]. Operands hold widened float32 values, so every product is exact and
     * the result is the same on every processor. */
    int exact_rows, exact_cols;
    void (*exact_tile)(int64_t k, const double *x, const double *w, double *c);
} MathKernels;

/* Functions of the C library and float64 sums one after the other, for the arithmetic whose bytes must be those of the
 * reference implementation: exp, exp_sum, softmax (x = exp(x - max) / sum), sigmoid, tanh and the gates; all else as in
 * the reference. */
const MathKernels *math_libm(void);
/* That of math_level(); any thread, cheap enough for one call a task. */
const MathKernels *math_fast(void);
/* That of a level; NULL where this processor cannot run it. MATH_REFERENCE: the plain scalar form of each, which always
 * runs. */
const MathKernels *math_table(MathLevel l);

/* n values of a plain dtype (dtype_plain) as float32, unrounded. */
void math_widen(const MathKernels *k, DType t, const void *src, int64_t n, float *dst);

extern const MathKernels math_kernels_generic;
#if defined(__aarch64__)
extern const MathKernels math_kernels_neon;
#endif
#if defined(__x86_64__)
extern const MathKernels math_kernels_avx2, math_kernels_avx512;
#endif

#endif
