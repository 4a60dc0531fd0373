#include "stat/weightsums.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "math/lanes.h"

enum { FLUSH = 16 * LANES };

INLINE void add_up(double *to, const VF *v)
{
    for (int k = 0; k < LANES; k++)
        *to += (double)(*v)[k];
}

INLINE void absolute(VF *t)
{
    *t = (VF)((VU)*t & 0x7FFFFFFFu);
}

INLINE void larger(VF *most, const VF *t)
{
    VI more = *t > *most;
    VU bits = (VU)*t;
    select_bits(most, &more, &bits);
}

INLINE void smaller(VF *least, const VF *t)
{
    VI less = *t < *least;
    VU bits = (VU)*t;
    select_bits(least, &less, &bits);
}

/* Each loop is written once; FORMS makes its plain and its AVX2 form and the function that chooses. */
#ifdef HAVE_AVX2_FORM
#define FORMS(name, params, args)                          \
    AVX2_FORM static void name##_avx2 params { name##_loop args; } \
    static void name##_plain params { name##_loop args; }  \
    void name params                                       \
    {                                                      \
        if (CPU_HAS_AVX2())                                \
            name##_avx2 args;                              \
        else                                               \
            name##_plain args;                             \
    }
#else
#define FORMS(name, params, args) void name params { name##_loop args; }
#endif

INLINE void weightsums_error_loop(const float *w, const float *y, int64_t n, ErrorSums *s)
{
    VF most = {0};
    for (int64_t b = 0; b < n; b += FLUSH) {
        VF sq = {0}, sab = {0}, ww = {0}, yy = {0}, wy = {0};
        int64_t e = b + FLUSH < n ? b + FLUSH : n;
        for (int64_t i = b; i < e; i += LANES) {
            VF p, q, d;
            load_lanes(&p, w + i, e - i);
            load_lanes(&q, y + i, e - i);
            d = p - q;
            sq += d * d;
            ww += p * p;
            yy += q * q;
            wy += p * q;
            absolute(&d);
            sab += d;
            larger(&most, &d);
        }
        add_up(&s->sq, &sq);
        add_up(&s->abs, &sab);
        add_up(&s->w_sq, &ww);
        add_up(&s->y_sq, &yy);
        add_up(&s->dot, &wy);
    }
    for (int k = 0; k < LANES; k++)
        s->max = most[k] > s->max ? most[k] : s->max;
}
FORMS(weightsums_error, (const float *w, const float *y, int64_t n, ErrorSums *s), (w, y, n, s))

INLINE void square(VF *sum, const float *w, const float *y, int64_t left)
{
    VF p, q;
    load_lanes(&p, w, left);
    load_lanes(&q, y, left);
    p = p - q;
    *sum += p * p;
}

/* Two sums side by side: one alone would wait for itself. */
INLINE void weightsums_sq_loop(const float *w, const float *y, int64_t n, double *sq)
{
    for (int64_t b = 0; b < n; b += FLUSH) {
        VF even = {0}, odd = {0};
        int64_t e = b + FLUSH < n ? b + FLUSH : n, i = b;
        for (; i + 2 * LANES <= e; i += 2 * LANES) {
            square(&even, w + i, y + i, LANES);
            square(&odd, w + i + LANES, y + i + LANES, LANES);
        }
        for (; i < e; i += LANES)
            square(&even, w + i, y + i, e - i);
        even += odd;
        add_up(sq, &even);
    }
}
FORMS(weightsums_sq, (const float *w, const float *y, int64_t n, double *sq), (w, y, n, sq))

INLINE void weightsums_around_loop(const float *w, int64_t n, float c, AroundSums *s)
{
    int64_t full = n - n % LANES;
    for (int64_t b = 0; b < full; b += FLUSH) {
        VF d1 = {0}, d2 = {0}, d4 = {0};
        int64_t e = b + FLUSH < full ? b + FLUSH : full;
        for (int64_t i = b; i < e; i += LANES) {
            VF d;
            memcpy(&d, w + i, sizeof d);
            d = d - c;
            d1 += d;
            d = d * d;
            d2 += d;
            d4 += d * d;
        }
        add_up(&s->d1, &d1);
        add_up(&s->d2, &d2);
        add_up(&s->d4, &d4);
    }
    for (int64_t i = full; i < n; i++) { /* no lane may stay 0: that would be a value */
        float d = w[i] - c, q = d * d;
        s->d1 += (double)d;
        s->d2 += (double)q;
        s->d4 += (double)(q * q);
    }
}
FORMS(weightsums_around, (const float *w, int64_t n, float c, AroundSums *s), (w, n, c, s))

INLINE void weightsums_split_loop(const float *w, int64_t n, float lo, float hi, SplitSums *s)
{
    VF low = (VF){0} + INFINITY, high = (VF){0} - INFINITY, out = (VF){0} - 1.0f;
    int64_t full = n - n % LANES;
    for (int64_t b = 0; b < full; b += FLUSH) {
        VI inside = {0};
        int64_t e = b + FLUSH < full ? b + FLUSH : full;
        for (int64_t i = b; i < e; i += LANES) {
            VF t, in, other;
            memcpy(&t, w + i, sizeof t);
            VI is_in = (t >= lo) & (t <= hi), is_out = ~is_in;
            VU bits = (VU)t;
            inside -= is_in;
            in = low;
            select_bits(&in, &is_in, &bits);
            smaller(&low, &in);
            in = high;
            select_bits(&in, &is_in, &bits);
            larger(&high, &in);
            other = out;
            absolute(&t);
            bits = (VU)t;
            select_bits(&other, &is_out, &bits);
            larger(&out, &other);
        }
        for (int k = 0; k < LANES; k++)
            s->inside += inside[k];
    }
    for (int64_t i = full; i < n; i++) {
        bool in = w[i] >= lo && w[i] <= hi;
        s->inside += in;
        s->min = in && w[i] < s->min ? w[i] : s->min;
        s->max = in && w[i] > s->max ? w[i] : s->max;
        s->beyond = !in && fabsf(w[i]) > s->beyond ? fabsf(w[i]) : s->beyond;
    }
    for (int k = 0; k < LANES; k++) {
        s->min = low[k] < s->min ? low[k] : s->min;
        s->max = high[k] > s->max ? high[k] : s->max;
        s->beyond = out[k] > s->beyond ? out[k] : s->beyond;
    }
}
FORMS(weightsums_split, (const float *w, int64_t n, float lo, float hi, SplitSums *s), (w, n, lo, hi, s))

INLINE void weightsums_cut_loop(const float *w, int64_t n, float c, float lo, float hi, float *y, int64_t *cut)
{
    const VU high = (VU)((VF){0} + hi), low = (VU)((VF){0} + lo);
    for (int64_t b = 0; b < n; b += FLUSH) {
        VI beyond = {0};
        int64_t e = b + FLUSH < n ? b + FLUSH : n;
        for (int64_t i = b; i < e; i += LANES) {
            VF t, v;
            load_lanes(&t, w + i, e - i);
            load_lanes(&v, y + i, e - i);
            VI more = t >= c, less = t <= -c;
            beyond -= (t > c) | (t < -c);
            select_bits(&v, &more, &high);
            select_bits(&v, &less, &low);
            store_lanes(&v, y + i, e - i);
        }
        for (int k = 0; k < LANES; k++)
            *cut += beyond[k];
    }
}
FORMS(weightsums_cut, (const float *w, int64_t n, float c, float lo, float hi, float *y, int64_t *cut),
      (w, n, c, lo, hi, y, cut))
