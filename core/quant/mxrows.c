#include "quant/mxrows.h"

#include "qir/round.h"

static void quantize_rows(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch)
{
    (void)scratch;
    MxExponentFn *exponent = *(MxExponentFn **)ctx;
    const QuantLoops *k = quant_loops();
    for (int64_t r = row; r < row + rows; r++)
        for (int64_t g = 0; g < out->groups; g++) {
            int64_t at = r * t->in + g * MX_BLOCK, left = t->in - g * MX_BLOCK;
            int64_t n = left < MX_BLOCK ? left : MX_BLOCK;
            float e = exponent(k, t->q, t->w + at, n, t->T);
            out->exponent[r * out->groups + g] = mx_byte(e);
            mx_encode(k, out->dtype, t->w + at, n, e, t->T, out->code + at);
        }
}

Status mx_quantize(const WeightTask *t, QWeight *out, MxExponentFn *exponent, Error *err)
{
    return weight_rows(t, out, quantize_rows, &exponent, 0, err);
}

void mx_fake_rows(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, MxExponentFn *exponent)
{
    const QuantLoops *k = quant_loops();
    for (int64_t r = 0; r < rows; r++, w += in)
        for (int64_t i = 0; i < in; i += MX_BLOCK) {
            int64_t n = in - i < MX_BLOCK ? in - i : MX_BLOCK;
            mx_fake_block(k, q->dtype, w + i, n, exponent(k, q, w + i, n, T), T, w + i);
        }
}

double mx_block_error(const QuantLoops *k, QType type, const float *x, int64_t n, float e, DType T)
{
    float y[MX_BLOCK];
    double sum = 0.0;
    mx_fake_block(k, type, x, n, e, T, y);
    for (int64_t i = 0; i < n; i++) {
        float d = round_to_dtype(x[i] - y[i], T);
        sum += (double)round_to_dtype(d * d, T);
    }
    return sum;
}

float mx_block_mse(const QuantLoops *k, QType type, const float *x, int64_t n, float e, DType T)
{
    return round_to_dtype((float)(mx_block_error(k, type, x, n, e, T) / MX_BLOCK), T);
}
