#ifndef SLIM_MATH_FLUSH_H
#define SLIM_MATH_FLUSH_H

#include <float.h>
#include <math.h>
#include <stdbool.h>

/* A step of the bf16 products (math/tile.h) in plain C. */

/* Below 2^-126: 0 of its sign. */
static inline float flushed(float v)
{
    return fabsf(v) < FLT_MIN ? copysignf(0, v) : v;
}

/* Rounded without a lower end of the exponents, then flushed: what lies below 2^-126 by less than half of the last of 24
 * bits becomes 2^-126. Near there float64 holds the product exactly, and TwoSum (Knuth) what it loses of the sum. */
static inline float flushed_step(float x, float w, float sum)
{
    float r = fmaf(x, w, sum);
    if (fabsf(r) != FLT_MIN)
        return flushed(r);
    double p = (double)x * (double)w, s = (double)sum, exact = p + s, t = exact - p;
    double lost = (p - (exact - t)) + (s - t), sign = exact < 0 ? -1 : 1, least = 0x1p-126 * (1 - 0x1p-25);
    bool tiny = sign * exact < least || (sign * exact == least && sign * lost < 0);
    return tiny ? copysignf(0, r) : r;
}

#endif
