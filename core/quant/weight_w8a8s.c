/* w8a8s, ours: int4-sized levels for most of a weight and the few largest values left outside them, in int8
 * (specs/quantization.md 14). */
#include "quant/weightrows.h"

#include <math.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "math/convert.h"
#include "qir/round.h"

#define FRACTION 0.01
#define INLIER_MAX 7.0f
enum { DIGITS = 1 << 11 };

/* One pass of a radix selection over the 31 bits of |w|, from the top: counts of the next digit among the values that
 * share the digits found so far. */
typedef struct Select {
    uint32_t found;
    int shift, width;
    _Atomic uint64_t count[DIGITS];
} Select;

static void count_rows(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch)
{
    (void)out;
    (void)scratch;
    Select *s = ctx;
    uint64_t local[DIGITS] = {0};
    const float *w = t->w + row * t->in;
    for (int64_t i = 0; i < rows * t->in; i++) {
        uint32_t u = bits_of_float(w[i]) & 0x7FFFFFFFu;
        if (u >> (s->shift + s->width) == s->found)
            local[(u >> s->shift) & ((1u << s->width) - 1)]++;
    }
    for (int k = 0; k < DIGITS; k++)
        if (local[k])
            atomic_fetch_add_explicit(&s->count[k], local[k], memory_order_relaxed);
}

/* The k-th largest |w|, k from 1. */
static Status kth_largest(const WeightTask *t, uint64_t k, float *value, Error *err)
{
    static const struct {
        int shift, width;
    } digits[] = {{20, 11}, {10, 10}, {0, 10}};
    Select s;
    s.found = 0;
    for (int pass = 0; pass < 3; pass++) {
        s.shift = digits[pass].shift;
        s.width = digits[pass].width;
        for (int i = 0; i < DIGITS; i++)
            atomic_init(&s.count[i], 0);
        RETURN_IF_ERROR(weight_rows(t, NULL, count_rows, &s, 0, err));
        uint32_t d = (1u << s.width) - 1;
        for (; d > 0 && s.count[d] < k; d--)
            k -= s.count[d];
        s.found = s.found << s.width | d;
    }
    *value = float_of_bits(s.found);
    return ST_OK;
}

static float row_scale(const float *w, int64_t in, float threshold, DType T)
{
    float inlier = 0.0f, top = 0.0f;
    for (int64_t i = 0; i < in; i++) {
        float a = fabsf(w[i]);
        top = a > top || isnan(a) ? a : top;
        if (a <= threshold)
            inlier = a > inlier ? a : inlier;
    }
    if (isnan(top))
        return NAN;
    /* a row of nothing but outliers takes int8's whole range; a row of zeros the least scale, as everywhere */
    float s = round_to_dtype(inlier > 0.0f ? inlier / INLIER_MAX : top / 127.0f, T);
    return s < 0x1p-23f ? 0x1p-23f : s;
}

static void quantize_rows(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch)
{
    (void)scratch;
    float threshold = *(const float *)ctx;
    for (int64_t r = row; r < row + rows; r++) {
        const float *w = t->w + r * t->in;
        out->scale[r] = row_scale(w, t->in, threshold, t->T);
        intquant_quantize(w, t->in, (QParam){.scale = out->scale[r]}, 8, t->T, (int8_t *)out->code + r * t->in);
    }
}

static Status quantize(const WeightTask *t, QWeight *out, Error *err)
{
    double share = t->q->ext.fraction > 0 ? t->q->ext.fraction : FRACTION;
    if (!(share < 1))
        return error_set(err, ST_DATA, "w8a8s: fraction %g must be below 1", share);
    uint64_t k = (uint64_t)((double)t->out * (double)t->in * share);
    float threshold = INFINITY; /* no outliers */
    if (k > 0)
        RETURN_IF_ERROR(kth_largest(t, k, &threshold, err));
    return weight_rows(t, out, quantize_rows, &threshold, 0, err);
}

const WeightQuantizer weight_w8a8s = {
    .key = {.method = "w8a8s", .dtype = QT_INT8, .scope = QS_PER_CHANNEL, .sym = 1, .owner = QUANT_OURS},
    .quantize = quantize,
};
