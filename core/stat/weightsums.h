#ifndef SLIM_STAT_WEIGHTSUMS_H
#define SLIM_STAT_WEIGHTSUMS_H

#include <stdint.h>

/* Sums over values of a weight: float32 over 128 values, then float64, in an order that no processor changes. */

/* Of a weight w and what became of it, y. */
typedef struct ErrorSums {
    double sq, abs;      /* of w - y */
    double w_sq, y_sq, dot;
    float max;           /* of |w - y| */
} ErrorSums;
/* Adds n values. */
void weightsums_error(const float *w, const float *y, int64_t n, ErrorSums *s);
/* Adds (w - y)^2 of n values. */
void weightsums_sq(const float *w, const float *y, int64_t n, double *sq);

/* Of values around c. */
typedef struct AroundSums {
    double d1, d2, d4;   /* of (w - c), its square, its fourth power */
} AroundSums;
void weightsums_around(const float *w, int64_t n, float c, AroundSums *s);

/* Values within [lo, hi] and beyond; begin with SPLIT_START. */
typedef struct SplitSums {
    int64_t inside;      /* how many */
    float min, max;      /* of those inside */
    float beyond;        /* largest magnitude of the others, -1: there are none */
} SplitSums;
#define SPLIT_START ((SplitSums){.min = INFINITY, .max = -INFINITY, .beyond = -1})
void weightsums_split(const float *w, int64_t n, float lo, float hi, SplitSums *s);

/* y becomes lo where w <= -c and hi where w >= c, c >= 0; adds to *cut how many lie beyond +-c. */
void weightsums_cut(const float *w, int64_t n, float c, float lo, float hi, float *y, int64_t *cut);

#endif
