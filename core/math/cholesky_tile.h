#ifndef SLIM_MATH_CHOLESKY_TILE_H
#define SLIM_MATH_CHOLESKY_TILE_H

#include <stdbool.h>
#include <stdint.h>

/* The one product of cholesky.c. A matrix is kept in panels of 8 rows, each [columns][8]: column by column, the 8 rows
 * next to each other. Both operands and the result have that form, so nothing is packed. */
enum { CHOLESKY_ROWS = 8, CHOLESKY_PANELS = 3 };

/* Rows of `panels` (1 to CHOLESKY_PANELS) panels, `step` doubles from one to the next in a and in c, 8 columns:
 *   c[row][col] = (set ? 0 : c[row][col]) -/+ sum over k ascending of a[row][k] * b[col][k], a chain of fused
 * multiply-adds: subtracted from c, or, where set, added from zero. c may lie in a: it is written last. */
typedef void CholeskyTileFn(bool set, int64_t k, int panels, int64_t step, const double *a, const double *b, double *c);

/* The fastest that may run here (math/cpu.h); all give the same bytes. */
CholeskyTileFn *cholesky_tile(void);

#endif
