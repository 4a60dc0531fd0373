#ifndef SLIM_MATH_HADAMARD_H
#define SLIM_MATH_HADAMARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Hadamard matrices: entries +1 and -1, rows orthogonal. Those of the orders below are built from their constructions,
 * every other size is one of them times a power of two. */

/* The parts of Hadamard(n) = base(k) and Sylvester's of order m = n / k; k is the largest order there is with a power of two
 * beside it, 1 for a power of two. False: there is none of this size. */
bool hadamard_parts(int64_t n, int *k, int64_t *m);
/* ST_DATA with the sizes that there are, where hadamard_parts has none; `what`: whose size n is, NULL: nobody's. */
Status hadamard_check(int64_t n, const char *what, Error *err);

/* The matrix of one of the orders (1 and those of hadamard_parts), row-major b[k][k]. Paley's first construction
 * (R.E.A.C. Paley, 1933), Williamson's (J. Williamson, 1944; the blocks of L.D. Baumert, S.W. Golomb and M. Hall), or
 * [[M, M], [M, -M]] (Sylvester, 1867). ST_NOMEM. */
Status hadamard_base(int k, signed char *b, Error *err);

/* s[n]: +1 or -1 by the lowest bit of the n first numbers of an MT19937 (M. Matsumoto and T. Nishimura, 1998) of this
 * seed. */
void hadamard_signs(uint32_t seed, int64_t n, float *s);

/* n as a product a * b, a <= b, as near to each other as may be, of two sizes up to 256 that are 1, 2 or multiples of 4.
 * False: it is none. */
bool hadamard_split(int64_t n, int64_t *a, int64_t *b);

#endif
