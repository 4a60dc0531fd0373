/* fp8_e4m3 activations (specs/quantization.md 5, 7.1): per token, and per tensor from calibration. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "quant/quantizer.h"
#include "qir/mx.h"
#include "qir/round.h"

static QParam fp8_param(const QSpec *q, float mn, float mx, DType T)
{
    (void)q;
    float a = fmaxf(fabsf(mn), fabsf(mx)), least = round_to_dtype(1e-12f, T);
    return (QParam){.scale = round_to_dtype((a > least ? a : least) / 448.0f, T)};
}

/* The peer only clamps: the grid comes in when a weight is exported. A scale that float16 rounds to 0 means that
 * nothing is left of the row. */
static void fp8_fake(const float *x, int64_t n, float s, DType T, bool peer, float *y)
{
    if (peer)
        e4m3_clamp(x, n, s, T, y);
    else if (s > 0)
        e4m3_fake(x, n, s, T, y);
    else
        memset(y, 0, (size_t)n * sizeof *y);
}

static void fp8_rows(const QSpec *q, const ActParam *p, const float *x, int64_t rows, int64_t in, int64_t ld, DType T,
                     bool peer, float *out)
{
    for (int64_t r = 0; r < rows; r++) {
        float mn = 0, mx = 0;
        if (!p)
            intquant_range(x + r * ld, in, &mn, &mx);
        fp8_fake(x + r * ld, in, p ? p->p.scale : fp8_param(q, mn, mx, T).scale, T, peer, out + r * in);
    }
}

const ActQuantizer act_fp8_token = {
    .key = {.method = "minmax", .dtype = QT_FP8_E4M3, .scope = QS_PER_TOKEN, .sym = 1},
    .dynamic = true,
    .sample = fp8_param,
    .rows = fp8_rows,
};

const ActQuantizer act_fp8_tensor = {
    .key = {.method = "minmax", .dtype = QT_FP8_E4M3, .scope = QS_PER_TENSOR, .sym = 1},
    .observer = &act_observer_minmax,
    .param = fp8_param,
    .rows = fp8_rows,
};
