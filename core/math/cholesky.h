#ifndef SLIM_MATH_CHOLESKY_H
#define SLIM_MATH_CHOLESKY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"

/* A symmetric a[n][n] in, the inverse of its lower Cholesky factor out. */
typedef struct CholeskyTask {
    int64_t n; /* > 0 */
    /* Columns [j, j+m) of row i of a, j + m <= i + 1. [worker] */
    void (*read)(void *ctx, int64_t i, int64_t j, int64_t m, double *row);
    /* The same of inverse(L), a = L L^T, once all of a was read: each value once, in any order. [worker] */
    void (*write)(void *ctx, int64_t i, int64_t j, int64_t m, const double *row);
    void *ctx;
    Pool *pool;           /* NULL: this thread only */
    Phase phase;          /* the part of the work this is */
    const Cancel *cancel; /* may be NULL; looked at every few milliseconds */
} CholeskyTask;

/* In float64 by tiles, whose order is the same for every number of threads and every processor: the same bytes. About
 * 2/3 n^3 operations. *definite: whether a is positive definite (and finite); else nothing was written. ST_NOMEM,
 * ST_CANCELLED. Sources: the factor left-looking, column of tiles by column; the inverse row by row, in the place of
 * the factor, as transposed products of rows with rows (Golub and Van Loan, Matrix Computations, 4.2; Higham, Accuracy and
 * Stability, 14.2). */
Status cholesky_inverse(const CholeskyTask *t, bool *definite, Error *err);
/* Bytes it takes. */
uint64_t cholesky_bytes(int64_t n, int threads);

#endif
