#ifndef SLIM_MATH_LAPACK_H
#define SLIM_MATH_LAPACK_H

#include <stdbool.h>
#include <stdint.h>

/* Overwrites the symmetric positive definite a[n][n] (row-major, lower triangle read) with inverse(L) where a = L L^T;
 * the upper triangle is left as it was. false: not positive definite, or n is too large for LAPACK; a is then
 * destroyed. One thread (LAPACK of OpenBLAS). */
bool lapack_inverse_factor(double *a, int64_t n);

#endif
