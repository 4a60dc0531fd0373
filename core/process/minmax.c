/* The minmax method of activations (specs/quantization.md 4, 5), and the float activation that leaves its input alone. */
#include "process/quantizer.h"

#include <stddef.h>

static QParam int8_param(const QSpec *q, float mn, float mx, DType T)
{
    return intquant_param(mn, mx, 8, q->symmetric, T);
}

static void int8_rows(const QSpec *q, const QParam *p, const float *x, int64_t rows, int64_t in, int64_t ld, DType T,
                      float *out)
{
    for (int64_t r = 0; r < rows; r++) {
        QParam own;
        if (!p) {
            float mn, mx;
            intquant_range(x + r * ld, in, &mn, &mx);
            own = int8_param(q, mn, mx, T);
        }
        intquant_fake(x + r * ld, in, p ? *p : own, 8, T, out + r * in);
    }
}

const ActQuantizer act_float = {
    .key = {.method = NULL, .dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .sym = 1},
};

const ActQuantizer act_minmax_tensor = {
    .key = {.method = "minmax", .dtype = QT_INT8, .scope = QS_PER_TENSOR, .sym = -1},
    .calibrated = true,
    .param = int8_param,
    .rows = int8_rows,
};

const ActQuantizer act_minmax_token = {
    .key = {.method = "minmax", .dtype = QT_INT8, .scope = QS_PER_TOKEN, .sym = 1},
    .param = int8_param,
    .rows = int8_rows,
};
