/* Weights of autoround_quant (specs/quantization.md 11) as they are before they are trained: the grid of its scales, each
 * element to the nearest. What training finds takes their place (layer_forms_put). */
#include "quant/weightrows.h"

#include <stddef.h>

#include "quant/autoround.h"

static void quantize_rows(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch)
{
    (void)ctx;
    (void)scratch;
    const AutoRound a = autoround_of(t->q, t->w, t->out, t->in, t->T);
    autoround_codes(&a, row, rows, t->peer, out);
}

static Status quantize(const WeightTask *t, QWeight *out, Error *err)
{
    return weight_rows(t, out, quantize_rows, NULL, 0, err);
}

static void fake_rows(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, bool peer)
{
    (void)peer;
    const AutoRound a = autoround_of(q, w, rows, in, T);
    autoround_rows(&a, 0, rows, w);
}

#define AUTOROUND(NAME, DTYPE, SCOPE)                                                                      \
    const WeightQuantizer NAME = {                                                                         \
        .key = {.method = "autoround", .dtype = DTYPE, .scope = SCOPE, .sym = -1, .owner = QUANT_STEP},    \
        .rowwise = true,                                                                                   \
        .quantize = quantize,                                                                              \
        .rows = fake_rows,                                                                                 \
    }

AUTOROUND(weight_autoround_int8, QT_INT8, QS_PER_CHANNEL);
AUTOROUND(weight_autoround_int4, QT_INT4, QS_PER_CHANNEL);
AUTOROUND(weight_autoround_int8_group, QT_INT8, QS_PER_GROUP);
AUTOROUND(weight_autoround_int4_group, QT_INT4, QS_PER_GROUP);
