#ifndef SLIM_MATH_LAPACK_H
#define SLIM_MATH_LAPACK_H

#include "math/cholesky.h"

/* cholesky_inverse by OpenBLAS's LAPACK (dpotrf, dtrtri), on this thread: what our own is held against, and what
 * SLIMSCOPE_KERNELS=openblas asks for. Not stopped on the way. The pool reads and writes nothing. */
Status lapack_inverse(const CholeskyTask *t, bool *definite, Error *err);
uint64_t lapack_bytes(int64_t n);

#endif
