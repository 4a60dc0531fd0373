#ifndef SLIM_MATH_GEMM_H
#define SLIM_MATH_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "math/kernels.h"

/* Operands of y[m][n] = alpha * x[m][k] · w (+ bias), all row-major, ld in elements. w is [n][k] (a weight: rows are
 * outputs), or [k][n] when `w_by_k`. */
typedef struct GemmArgs {
    int64_t m, n, k;
    const float *x;
    int64_t ldx;
    const float *w;
    int64_t ldw;
    bool w_by_k;
    float *y;
    int64_t ldy;
} GemmArgs;

/* One thread, float32 (OpenBLAS). */
void gemm_f32(const GemmArgs *g, float alpha);

/* The same, y -= x·w. */
void gemm_subtract_f32(const GemmArgs *g);

/* Doubles of scratch gemm_exact needs for tiles up to m x n. */
size_t gemm_exact_scratch(int64_t m, int64_t n);
/* Sums in float64, k ascending, one accumulator an element; bias (NULL or [n]) is added before the one rounding to
 * float32. The same bytes on every processor. */
void gemm_exact(const MathKernels *k, const GemmArgs *g, const float *bias, double *scratch);

/* OpenBLAS keeps to the calling thread from here on (the pool owns the cores). */
void gemm_single_thread(void);

#endif
