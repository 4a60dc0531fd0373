#ifndef SLIM_QIR_ROUND_H
#define SLIM_QIR_ROUND_H

#include "base/dtype.h"
#include "math/convert.h"

/* The float nearest to x that T holds, ties to even (specs/quantization.md 0); T: DT_F32, DT_BF16 or DT_F16. */
static inline float round_to_dtype(float x, DType T)
{
    if (T == DT_BF16)
        return bf16_to_float(bf16_of_float(x));
    return T == DT_F16 ? f16_to_float(f16_of_float(x)) : x;
}

#endif
