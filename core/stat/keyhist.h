#ifndef SLIM_STAT_KEYHIST_H
#define SLIM_STAT_KEYHIST_H

#include <stdint.h>

#include "base/error.h"

/* Counts of values by the upper 16 bits of their float32 (sign, exponent, 7 mantissa bits: exact for bf16), kept
 * sparse: what every histogram view derives from. Ordered by value ascending. NaNs are counted apart. */
typedef struct KeyHist {
    int n;              /* distinct keys */
    uint16_t *key;      /* [n] upper half of the float32 bits */
    uint64_t *count;    /* [n] */
    uint64_t total, nan;
} KeyHist;

/* From a dense table of 65,536 counts indexed by key (KeyHist owns what it allocates). */
Status keyhist_from_counts(KeyHist *h, const uint64_t *dense, Error *err);
Status keyhist_copy(KeyHist *out, const KeyHist *h, Error *err);
Status keyhist_add(KeyHist *into, const KeyHist *h, Error *err);
void keyhist_fini(KeyHist *h);
/* Lower and upper bound of the values a key stands for (lo <= hi). */
void keyhist_range(uint16_t key, float *lo, float *hi);
/* Counts of `bins` equal bins over [lo, hi] into out; values outside go to *below, *above (both may be NULL). A key's
 * mass is spread over the bins its range crosses. */
void keyhist_bins(const KeyHist *h, double lo, double hi, int bins, double *out, double *below, double *above);
/* Value at quantile q in [0,1], linear within a key's range. NaN when empty. */
double keyhist_quantile(const KeyHist *h, double q);

#endif
