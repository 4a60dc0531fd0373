#ifndef SLIM_STAT_AGREE_H
#define SLIM_STAT_AGREE_H

#include <stdint.h>

#include "base/error.h"

/* Whether two lists of figures of the same things order them alike. */
typedef struct Agreement {
    int64_t n;         /* things that both have a figure for: neither is NaN */
    double spearman;   /* correlation of the ranks, ties at their mean rank; NaN with n < 2 or where one list is constant */
    double kendall;    /* tau-b, which takes ties out of both counts; NaN in the same cases */
    int64_t tenth, both_tenth; /* size of the largest tenth, rounded up, and how many are in that of both */
    int64_t top, both_top;     /* the same of the `top` largest */
    double median_ratio;       /* of y / x over the things where both are above 0; NaN without such */
} Agreement;

/* Of x[n] and y[n], infinities as the largest of numbers. top: cut to n. Among equal figures the one that comes first
 * is the larger. O(n log n): Kendall's count by merge sort (Knight, J. Am. Stat. Assoc. 61, 1966). */
Status agree(const double *x, const double *y, int64_t n, int64_t top, Agreement *out, Error *err);

/* Ranks of x[n], the largest 1, ties at their mean rank; NaN where x is. */
Status agree_ranks(const double *x, int64_t n, double *rank, Error *err);

/* Jaccard index of two sets of k things that share `both`: both / all of either. NaN of empty ones. */
double agree_jaccard(int64_t both, int64_t k);

#endif
