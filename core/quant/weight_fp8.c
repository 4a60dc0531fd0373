/* fp8_e4m3 weights, per_channel minmax (specs/quantization.md 7.1). */
#include "quant/weightrows.h"

#include <math.h>
#include <stddef.h>

#include "qir/mx.h"
#include "qir/round.h"

static float row_scale(const float *w, int64_t in, DType T, bool peer)
{
    float top = mx_amax(quant_loops(), w, in), least = round_to_dtype(1e-12f, T);
    float s = round_to_dtype((top < least ? least : top) / 448.0f, T);
    /* float16 has no 1e-12: the peer divides 0 by 0 there */
    return s == 0.0f && !peer ? 0x1p-24f : s;
}

static void quantize_rows(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch)
{
    (void)ctx;
    (void)scratch;
    for (int64_t r = row; r < row + rows; r++) {
        const float *w = t->w + r * t->in;
        out->scale[r] = row_scale(w, t->in, t->T, t->peer);
        e4m3_encode(w, t->in, out->scale[r], t->T, out->code + r * t->in);
    }
}

static Status quantize(const WeightTask *t, QWeight *out, Error *err)
{
    return weight_rows(t, out, quantize_rows, NULL, 0, err);
}

static void fake_rows(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, bool peer)
{
    (void)q;
    for (int64_t r = 0; r < rows; r++, w += in) {
        float s = row_scale(w, in, T, peer);
        (peer ? e4m3_clamp : e4m3_fake)(w, in, s, T, w);
    }
}

const WeightQuantizer weight_minmax_fp8 = {
    .key = {.method = "minmax", .dtype = QT_FP8_E4M3, .scope = QS_PER_CHANNEL, .sym = 1},
    .rowwise = true,
    .quantize = quantize,
    .rows = fake_rows,
};
