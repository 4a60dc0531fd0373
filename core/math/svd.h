#ifndef SLIM_MATH_SVD_H
#define SLIM_MATH_SVD_H

#include <stdint.h>

#include "base/error.h"

/* Truncated singular value decompositions: of w[out][in] the part of `rank` that l2[out][rank] times l1[rank][in] is: the
 * rows of l1 are of length 1 and at right angles, and in the order of falling singular values, by which l2 is as long. On
 * this thread (any; gemm_callers for several at once), by OpenBLAS's LAPACK. rank in [1, min(out, in)]. The values of w are
 * finite. */

/* The nearest of this rank (Eckart and Young): the eigenvectors of the smaller one of w'w and ww', in float64, to which the
 * other factor is found by a product with w. Of each row of l1 the value of largest size is positive. */
Status svd_best(const float *w, int64_t out, int64_t in, int64_t rank, float *l1, float *l2, Error *err);

/* A state of the Mersenne Twister (Matsumoto and Nishimura, 1998), as the original seeds it. */
typedef struct Twister {
    uint32_t word[624];
    int at;
} Twister;
void twister_seed(Twister *t, uint32_t seed);
uint32_t twister_next(Twister *t);
/* n numbers of the standard normal distribution, as the original's generator fills a tensor of n >= 16
 * (specs/outlier_suppression.md 15); of fewer the first of 16. */
void twister_normal(Twister *t, float *x, int64_t n);

/* The original's: a random sketch and two power iterations (Halko, Martinsson and Tropp, 2011), in float32. Draws
 * min(out, in) * rank numbers of t. */
Status svd_sketch(const float *w, int64_t out, int64_t in, int64_t rank, Twister *t, float *l1, float *l2, Error *err);

/* Bytes that either takes beside w, l1 and l2. */
uint64_t svd_bytes(int64_t out, int64_t in, int64_t rank);

#endif
