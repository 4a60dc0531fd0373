#ifndef SLIM_QIR_MX_H
#define SLIM_QIR_MX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"
#include "qir/loops.h"
#include "qir/scheme.h"

/* Block float formats of specs/quantization.md 7.4 (mxfp8, mxfp4) and the e4m3 element (7.1). T: dtype of the
 * arithmetic; values are float32 holding T-representable numbers. Exponents are integers held in a float, -127..127 or
 * NaN. k: quant_loops(), looked up once for many blocks. */
enum { MX_BLOCK = 32 };

/* x/scale in T, clamped to +-448 (Inf too) and rounded to the nearest e4m3: codes, or codes times scale rounded to T. x
 * and y may be the same. */
void e4m3_encode(const float *x, int64_t n, float scale, DType T, uint8_t *code);
void e4m3_fake(const float *x, int64_t n, float scale, DType T, float *y);
/* e4m3_fake without the grid, to which the peer rounds only when it writes a file. */
void e4m3_clamp(const float *x, int64_t n, float scale, DType T, float *y);
/* Their values times scale, rounded to T. */
void e4m3_decode(const uint8_t *code, int64_t n, float scale, DType T, float *y);

/* Shared exponent of a block whose largest magnitude is amax (not NaN), by the minmax rule of `t` (QT_MXFP8 or
 * QT_MXFP4). A NaN amax gives NaN. */
float mx_exponent(QType t, float amax, DType T);
/* As mx_exponent(QT_MXFP8, …), or with the logarithm rounded up. */
float mxfp8_exponent(float amax, DType T, bool up);
/* log2 rounded to T. */
float mx_log2(float v, DType T);
/* max |x| of n values; NaN when one is NaN. */
float mx_amax(const QuantLoops *k, const float *x, int64_t n);
/* E8M0 byte of an exponent and back; 255 is NaN. */
uint8_t mx_byte(float e);
float mx_byte_exponent(uint8_t b);
/* Codes of n <= MX_BLOCK values of a block with exponent e. What is beyond the largest element is put on it (a scale can
 * be 0 in float16), as the peer does when it writes a file. */
void mx_encode(const QuantLoops *k, QType t, const float *x, int64_t n, float e, DType T, uint8_t *code);
/* Their values times 2^e, rounded to T. */
void mx_decode(const QuantLoops *k, QType t, const uint8_t *code, int64_t n, float e, DType T, float *y);
/* mx_encode then mx_decode in one pass; x and y may be the same. */
void mx_fake_block(const QuantLoops *k, QType t, const float *x, int64_t n, float e, DType T, float *y);
/* A row cut in blocks of MX_BLOCK (the last may be short), each with the exponent of the minmax rule; x and y may be
 * the same. */
void mx_fake_row(QType t, const float *x, int64_t n, DType T, float *y);

#endif
