/* Block float activations (specs/quantization.md 5, 7.4, 7.5, 8): every block of 32 has its own exponent. */
#include <math.h>
#include <stddef.h>

#include "quant/quantizer.h"
#include "qir/mx.h"
#include "qir/round.h"

static void mx_rows(const QSpec *q, const ActParam *p, const float *x, int64_t rows, int64_t in, int64_t ld, DType T,
                    bool peer, float *out)
{
    (void)p, (void)peer;
    for (int64_t r = 0; r < rows; r++)
        mx_fake_row(q->dtype, x + r * ld, in, T, out + r * in);
}

/* Outer blocks of dual_block values under a float scale, within them mxfp4. The scale is rounded to T, what it divides
 * is not. A block of zeros: the peer divides by 0. */
static void dual_rows(const QSpec *q, const ActParam *p, const float *x, int64_t rows, int64_t in, int64_t ld, DType T,
                      bool peer, float *out)
{
    (void)p;
    const QuantLoops *k = quant_loops();
    int64_t block = q->ext.dual_block > 0 ? q->ext.dual_block : in;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t a = 0; a < in; a += block) {
            const float *from = x + r * ld + a;
            float *to = out + r * in + a;
            int64_t n = in - a < block ? in - a : block;
            float s = round_to_dtype(mx_amax(k, from, n) / 6.0f, T);
            if (s == 0 && !peer)
                s = 1;
            for (int64_t i = 0; i < n; i++)
                to[i] = from[i] / s;
            mx_fake_row(QT_MXFP4, to, n, DT_F32, to);
            for (int64_t i = 0; i < n; i++)
                to[i] *= s;
        }
}

const ActQuantizer act_mxfp8 = {
    .key = {.method = "minmax", .dtype = QT_MXFP8, .scope = QS_PER_BLOCK, .sym = 1},
    .dynamic = true,
    .rows = mx_rows,
};

const ActQuantizer act_mxfp4 = {
    .key = {.method = "minmax", .dtype = QT_MXFP4, .scope = QS_PER_BLOCK, .sym = 1},
    .dynamic = true,
    .rows = mx_rows,
};

const ActQuantizer act_dualscale = {
    .key = {.method = "dualscale", .dtype = QT_MXFP4, .scope = QS_DUAL_SCALE, .sym = 1},
    .dynamic = true,
    .rows = dual_rows,
};
