/* dualscale: mxfp4 minmax under a float32 scale of every dual_block_size elements (specs/quantization.md 7.5). */
#include "quant/weightrows.h"

#include <stddef.h>

#include "math/lanes.h"
#include "qir/mx.h"
#include "qir/round.h"

/* x[n] over its outer scale into y (may be x); the scale is 1 for zeros, where the peer divides 0 by 0. */
static float outer_scale(const QuantLoops *k, const float *x, int64_t n, bool peer, float *y)
{
    float amax = mx_amax(k, x, n), s = amax / 6.0f;
    if (s == 0.0f && !peer)
        s = 1.0f;
    for (int64_t i = 0; i < n; i += LANES) {
        VF t;
        load_lanes(&t, x + i, n - i);
        t = t / s;
        store_lanes(&t, y + i, n - i);
    }
    return s;
}

static void quantize_rows(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch)
{
    (void)ctx;
    const QuantLoops *k = quant_loops();
    for (int64_t r = row; r < row + rows; r++) {
        const float *w = t->w + r * t->in;
        for (int64_t b = 0; b < out->outer_blocks; b++) {
            int64_t at = b * out->outer_block, left = t->in - at;
            out->outer[r * out->outer_blocks + b] =
                outer_scale(k, w + at, left < out->outer_block ? left : out->outer_block, t->peer, scratch + at);
        }
        for (int64_t g = 0; g < out->groups; g++) {
            int64_t at = g * MX_BLOCK, n = t->in - at < MX_BLOCK ? t->in - at : MX_BLOCK;
            float e = mx_exponent(QT_MXFP4, mx_amax(k, scratch + at, n), DT_F32);
            out->exponent[r * out->groups + g] = mx_byte(e);
            mx_encode(k, QT_MXFP4, scratch + at, n, e, DT_F32, out->code + r * t->in + at);
        }
    }
}

static Status quantize(const WeightTask *t, QWeight *out, Error *err)
{
    return weight_rows(t, out, quantize_rows, NULL, t->in, err);
}

static void fake_rows(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, bool peer)
{
    const QuantLoops *k = quant_loops();
    for (int64_t r = 0; r < rows; r++, w += in)
        for (int64_t at = 0; at < in; at += q->ext.dual_block) {
            int64_t n = in - at < q->ext.dual_block ? in - at : q->ext.dual_block;
            float s = outer_scale(k, w + at, n, peer, w + at);
            mx_fake_row(QT_MXFP4, w + at, n, DT_F32, w + at);
            for (int64_t i = at; i < at + n; i++)
                w[i] = round_to_dtype(w[i] * s, T);
        }
}

/* Inner blocks that straddle outer ones need the whole row's outer scales at once, which rows() has no room for. */
static bool straddles(const QSpec *q, bool peer)
{
    (void)peer;
    return q->ext.dual_block % MX_BLOCK != 0;
}

const WeightQuantizer weight_dualscale = {
    .key = {.method = "dualscale", .dtype = QT_MXFP4, .scope = QS_DUAL_SCALE, .sym = 1},
    .rowwise = true,
    .quantize = quantize,
    .rows = fake_rows,
    .whole = straddles,
};
