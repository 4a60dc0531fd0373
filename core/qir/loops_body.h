/* The quantizers' loops, written once and compiled for several processors: the including file defines LANES (floats of a
 * vector register: 4, 8 or 16), VEC_TARGET (function attribute that lets the compiler use it), VEC_TABLE and, where the
 * processor has them, VEC_MIN(a, b) = a < b ? a : b, VEC_MAX, and VEC_LOW and VEC_HIGH, half of the lanes as doubles. Not
 * a header to include elsewhere. */
#include "qir/loops.h"

#include <math.h>
#include <string.h>

#include "math/lanes.h"
#include "math/unroll.h"

#define VEC_INLINE VEC_TARGET INLINE

#include "qir/int_body.h"
#include "qir/mx_body.h"

const QuantLoops VEC_TABLE = {
    .quantize = int_quantize,
    .dequantize = int_dequantize,
    .fake = int_fake,
    .fake_each = int_fake_each,
    .codes = int_codes,
    .range = int_range,
    .fit = int_fit,
    .gptq_columns = gptq_columns,
    .amax = largest,
    .mx_encode = mx_encode_codes,
    .mx_decode = mx_decode_codes,
    .mx_fake = mx_fake,
    .e4m3_encode = fp8_encode,
    .e4m3_fake = fp8_fake,
};
