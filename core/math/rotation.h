#ifndef SLIM_MATH_ROTATION_H
#define SLIM_MATH_ROTATION_H

#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"

/* Orthogonal matrices that a model is turned by. R is n x n and acts on rows: x <- x R. It is kept as what it was made of, so
 * that a Hadamard matrix costs n log n and not n^2 a row. Immutable; one that is made of others keeps a share of them.
 * Every element is the same sum in the same order, whatever the number of rows, threads and processors.
 *
 * The Hadamard rotation of size n, k and m its hadamard_parts, B the base of order k, s its n signs of seed 1234:
 *   R[i][p*m + q] = s[i] * B[p][i / m] * (-1)^popcount((i mod m) & q) / sqrt(n)
 * (as QuaRot: Ashkboos et al., "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", 2024). */
typedef struct Rotation Rotation;

/* block -1: one of size `size`; else size / block copies of that of size `block` on the diagonal. ST_DATA: there is none
 * of this size, or block doesn't divide it. The caller frees every rotation it is given. */
Status rotation_hadamard(Rotation **out, int64_t size, int64_t block, Error *err);
/* B = copies of Hadamard(block) on the diagonal, block -1: 32; those whose number is one of eye[neye] are the identity.
 * P: (x P)[j] = x[(j - 16) mod size]. step 1: B P B; 2: B P B P' B'; 3: B P B P' B' P B P' B'. ST_DATA: another step, or
 * block doesn't divide size. */
Status rotation_shifted(Rotation **out, int64_t size, int64_t block, int step, const int *eye, int neye, Error *err);
/* m[n][n], row-major, from malloc: taken over, also after an error. Nobody checks that it is orthogonal: transforms that are
 * not (FlatQuant's) go the same way. */
Status rotation_dense(Rotation **out, float *m, int64_t n, Error *err);
/* Rows seen as matrices x[size of m][size of n]: x <- M' x N, first N, then M. */
Status rotation_kron(Rotation **out, const Rotation *m, const Rotation *n, Error *err);
/* part[0..n) on the diagonal; NULL: the identity of size[i], which otherwise is the part's own. */
Status rotation_blocks(Rotation **out, Rotation *const *part, const int64_t *size, int n, Error *err);
Status rotation_identity(Rotation **out, int64_t size, Error *err);
Status rotation_transpose(Rotation **out, const Rotation *r, Error *err);

/* One more owner of it; any thread. */
Rotation *rotation_share(const Rotation *r);
void rotation_free(Rotation *r); /* NULL: fine */

int64_t rotation_size(const Rotation *r);
/* Bytes of scratch (aligned to 16) that one call of the two below needs. */
uint64_t rotation_bytes(const Rotation *r);
/* x[rows][width] of rows ld apart: x <- x R in place; R tiled along width, which its size divides. [worker] */
void rotation_right(const Rotation *r, float *x, int64_t rows, int64_t width, int64_t ld, float *scratch);
/* w[rows][cols] of rows ld apart: W <- R' W in place; R tiled along rows, which its size divides. Columns don't depend on
 * each other: w may be any slice of them. [worker] */
void rotation_left(const Rotation *r, float *w, int64_t rows, int64_t cols, int64_t ld, float *scratch);
/* The matrix itself, out[n][n]. ST_NOMEM. */
Status rotation_rows(const Rotation *r, float *out, Error *err);
/* What it is made of. */
void rotation_digest(const Rotation *r, Hasher *h);

#endif
