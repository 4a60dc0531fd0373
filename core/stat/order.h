#ifndef SLIM_STAT_ORDER_H
#define SLIM_STAT_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "stat/kernel.h"

/* Sampled order statistics of a sample's values (specs/analysis.md 2.1): every value when there are fewer than 100,
 * else sorted[50], sorted[150], …
 *
 * One pass counts the values in fine buckets (as fine as the number of values asks for), which tells the buckets that
 * hold a wanted rank; a second pass picks only the values of those and sorts them. The result is exact, except that
 * above `exact_max` values the dense body (not the tails, not the surroundings of the quartiles) is interpolated
 * within buckets of at most 2^-11 of the value. */

/* A worker's memory, reused from sample to sample. Zero-initialise to start. */
typedef struct OrderScratch {
    uint32_t *table;     /* counts per fine bucket */
    uint32_t *bits;      /* which buckets are picked */
    float *value, *tmp;  /* picked values, and room to sort them */
    struct OrderPick *pick;
    size_t table_cap, bits_cap, value_cap, tmp_cap, pick_cap;
    /* state between order_count and the calls after it */
    KeyMap map;
    int64_t n;           /* values */
    bool sorted;         /* few values: `value` holds all of them in order, the table isn't used */
    uint32_t or_bits;
    int64_t tiny;        /* values in the two middle buckets, after order_pick put them first in `value` */
} OrderScratch;
void order_scratch_fini(OrderScratch *s);

enum { ORDER_STEP = 100, ORDER_EXACT_MAX = 100000 };

/* How many values order_pick gives for a sample of n. */
int64_t order_count_of(int64_t n);

/* Counts a sample of finite values [rows][width]; `sums` are its scan. */
Status order_count(OrderScratch *s, const StatKernels *k, const float *x, int64_t rows, int64_t width, int64_t ld,
                   const ScanSums *sums, Error *err);
/* After order_count of the same values: the sampled order statistics, ascending, into out[order_count_of(rows*width)]
 * (NULL: not wanted). tiny: also picks what order_hist needs. exact_max: ORDER_EXACT_MAX (tests pass others). */
Status order_pick(OrderScratch *s, const StatKernels *k, const float *x, int64_t rows, int64_t width, int64_t ld,
                  bool tiny, int64_t exact_max, float *out, Error *err);
/* After order_pick with `tiny`: adds the sample to a table of counts by 16-bit key. */
void order_hist(const OrderScratch *s, uint64_t dense[65536]);

/* One sample's sampled order statistics, ascending. */
typedef struct OrderList {
    const float *v;
    int64_t n;
} OrderList;
/* specs/analysis.md 2.2 over the concatenation of the lists. NaN when there is no value. Finite values only. */
double order_kurtosis(const OrderList *l, int count);
double order_quantile(const OrderList *l, int count);

#endif
