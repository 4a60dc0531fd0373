#ifndef SLIM_STAT_KERNEL_H
#define SLIM_STAT_KERNEL_H

#include <math.h>
#include <stdint.h>

#include "math/cpu.h"

/* Inner loops of the statistics: a scalar reference and a fast form of each, which give the same bits (sums are kept
 * in the same eight lanes and flushed to double at the same places). */

/* Sums over finite values, from SCAN_START; max_bits and or_bits are over the bits without the sign, so max_bits >=
 * 0x7f800000 tells of a NaN or Inf. */
typedef struct ScanSums {
    uint32_t max_bits, or_bits;
    float min, max;
    double sum, sum_abs;
} ScanSums;
#define SCAN_START ((ScanSums){.min = INFINITY, .max = -INFINITY})

/* How values are mapped to fine buckets, ascending with the value: t = (max(|bits|, base) - base) >> shift, bucket =
 * half + t or, for a negative value, half - 1 - t. Bucket half (and half - 1) holds everything too small to be told
 * apart. */
typedef struct KeyMap {
    uint32_t base;
    int shift;
    int32_t half;
} KeyMap;

enum { STAT_SELECT_MAX = 128 };

typedef struct StatKernels {
    const char *name;
    /* Adds n values. */
    void (*scan)(const float *x, int64_t n, ScanSums *s);
    /* Widens cmin, cmax and adds x^2 to csq, all [width]; rowmax[rows] = max|x| of each row. */
    void (*columns)(const float *x, int64_t rows, int64_t width, int64_t ld, float *cmin, float *cmax, double *csq,
                    float *rowmax);
    /* Adds d and d^2 of d = (x - m) - c over one row of n values. */
    void (*shift)(const float *x, int64_t n, const float *m, float c, double *s1, double *s2);
    /* table[bucket(x)]++. */
    void (*count)(const float *x, int64_t n, KeyMap map, uint32_t *table);
    /* Copies the values whose bucket has its bit set to out (room for one more than the number of hits); gives their
     * number. */
    int64_t (*filter)(const float *x, int64_t n, KeyMap map, const uint32_t *bits, float *out);
    /* Value of rank r (from 0) of n <= STAT_SELECT_MAX finite values. */
    float (*select)(const float *v, int n, int r);
    /* Rows of a weight: adds per column (w - s8 q8)^2, (w - s4 q4)^2 and w^2 to c8, c4, c2 [in]; s8, s4 are the rows'
     * scales. */
    void (*weight)(const float *w, int64_t rows, int64_t in, const float *s8, const float *s4, float *c8, float *c4,
                   float *c2);
} StatKernels;

/* The form of a level, NULL where this processor cannot run it. MATH_REFERENCE: the scalar one. */
const StatKernels *stat_table(MathLevel l);
/* That of math_level(). */
const StatKernels *stat_kernels(void);

static inline int32_t keymap_bucket(KeyMap map, float x)
{
    union {
        float f;
        uint32_t u;
    } v = {x};
    uint32_t a = v.u & 0x7fffffffu;
    int32_t t = (int32_t)((a > map.base ? a - map.base : 0) >> map.shift);
    return v.u >> 31 ? map.half - 1 - t : map.half + t;
}

#endif
