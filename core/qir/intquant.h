#ifndef SLIM_QIR_INTQUANT_H
#define SLIM_QIR_INTQUANT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"

/* Integer quantization, specs/quantization.md 3. T = storage dtype of the arithmetic: DT_F32, DT_BF16 or DT_F16; every
 * operation rounds to T. All values are float32 holding T-representable numbers. bits: 8 or 4. */
typedef struct QParam {
    float scale, offset; /* offset is 0 when symmetric; dequantized = (q - offset) * scale */
} QParam;

/* Scale and offset of the range [mn, mx], which is widened to hold 0. A NaN in it makes a NaN scale. */
QParam intquant_param(float mn, float mx, int bits, bool symmetric, DType T);
/* q[i] = clamp(rint(x/s + o)); NaN gives 0. */
void intquant_quantize(const float *x, int64_t n, QParam p, int bits, DType T, int8_t *q);
void intquant_dequantize(const int8_t *q, int64_t n, QParam p, DType T, float *y);
/* quantize then dequantize, x and y may be the same. */
void intquant_fake(const float *x, int64_t n, QParam p, int bits, DType T, float *y);
/* The same by a scale and an offset of each value. */
void intquant_fake_each(const float *x, int64_t n, const float *scale, const float *offset, int bits, DType T, float *y);
/* The integers q - o, |.| <= 256, as floats: what intquant_fake gives is R(integer * s). x and y may be the same. */
void intquant_codes(const float *x, int64_t n, QParam p, int bits, DType T, float *y);

/* How well symmetric parameters fit x[n]: sums over q = quantize(x) in double of terms each rounded to T (x*q, q*q) or to
 * M ((x - dequantized)^2 in three steps): specs/quantization.md 7.2. */
typedef struct IntFit {
    double xq, qq, err;
} IntFit;

/* Least and greatest of x[n], n >= 1; both NaN when a NaN is among them. */
void intquant_range(const float *x, int64_t n, float *mn, float *mx);

#endif
