#include "run/sdpa.h"

#include <math.h>

#include "math/convert.h"

enum { VECTOR = 16 };

static const float log2_e = 0x1.715476p+0f, ln_2 = 0x1.62e43p-1f, exp_least = -0x1.5d58ap+6f;

/* 2^s by a cubic correction of s = x log2(e), which the float's exponent and mantissa are then read from. */
static float exp_16bit(float x)
{
    if (!(x >= exp_least))
        return isnan(x) ? x : 0;
    float s = x * log2_e, f = s - floorf(s), r = fmaf(f, -0.079204240219773236f, -0.22433836478672356f);
    r = fmaf(f, r, 0.30354260500649682f);
    r = fmaf(f, r, 0.00010703434948458272f);
    return float_of_bits((uint32_t)(int32_t)fmaf(0x1p23f, s - r, 127 * 0x1p23f));
}

static float exp_float32(float x)
{
    static const float c[] = {0.00828929059f, 0.0418978221f, 0.166676521f, 0.499991506f, 0.999999701f, 1.0f};
    if (!(x >= exp_least))
        return isnan(x) ? x : 0;
    float k = floorf(fmaf(x, log2_e, 0.5f)), r = fmaf(-k, ln_2, x), p = c[0];
    for (int i = 1; i < (int)(sizeof c / sizeof *c); i++)
        p = fmaf(p, r, c[i]);
    return ldexpf(p, (int)k);
}

int64_t sdpa_vector_keys(int64_t t, int64_t len, bool every_key)
{
    int64_t block = len >= 768 ? 256 : len >= 192 ? 64 : 32, end = (t / block + 1) * block;
    return (every_key || end > len ? len : end) / VECTOR * VECTOR;
}

float sdpa_weights(const Ops *o, float *x, float scale, int64_t n, int64_t vector)
{
    float max = -INFINITY;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        x[i] *= scale;
        max = x[i] > max ? x[i] : max;
    }
    for (int64_t i = 0; i < n; i++) {
        x[i] -= max;
        x[i] = i >= vector ? expf(x[i]) : o->dtype == DT_F32 ? exp_float32(x[i]) : exp_16bit(x[i]);
        sum += (double)x[i];
    }
    ops_round(o, x, n);
    return (float)sum;
}
