#ifndef SLIM_BASE_NUM_H
#define SLIM_BASE_NUM_H

#include <stdint.h>

/* The whole-number helpers that many files want. */
static inline int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* a / b, rounded up; a >= 0, b > 0. */
static inline int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* The least multiple of `to` that is not below n; n >= 0, to > 0. */
static inline int64_t round_up(int64_t n, int64_t to)
{
    return div_up(n, to) * to;
}

/* For qsort: doubles in rising order. */
static inline int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The longest of n stretches, of which stretch i is [start[i], start[i + 1]). */
static inline int64_t longest_of(const int64_t *start, int n)
{
    int64_t most = 0;
    for (int i = 0; i < n; i++)
        most = max_i64(most, start[i + 1] - start[i]);
    return most;
}

#endif
