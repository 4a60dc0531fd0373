#ifndef SLIM_MATH_CONVERT_H
#define SLIM_MATH_CONVERT_H

#include <stdint.h>
#include <string.h>

/* Scalar conversions between float32 and the 16-bit formats; the definition that every vector form follows. */

static inline float float_of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t bits_of_float(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float bf16_to_float(uint16_t h)
{
    return float_of_bits((uint32_t)h << 16);
}

/* Nearest, ties to even; NaN keeps its sign and becomes quiet. */
static inline uint16_t bf16_of_float(float f)
{
    uint32_t u = bits_of_float(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

static inline float f16_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t em = (uint32_t)(h & 0x7fffu);
    if (em >= 0x7c00u)
        return float_of_bits(sign | 0x7f800000u | ((em & 0x3ffu) << 13));
    /* m * 2^-24 for subnormals; the others only move the exponent */
    float v = em < 0x400u ? (float)em * 0x1p-24f : float_of_bits((em << 13) + (112u << 23));
    return float_of_bits(bits_of_float(v) | sign);
}

/* Nearest, ties to even, overflow to infinity; NaN keeps its sign and becomes quiet. */
static inline uint16_t f16_of_float(float f)
{
    uint32_t u = bits_of_float(f), a = u & 0x7fffffffu;
    uint16_t sign = (uint16_t)((u >> 16) & 0x8000u);
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
    if (a >= 0x477ff000u) /* 65520 and above */
        return (uint16_t)(sign | 0x7c00u);
    if (a < 0x38800000u) { /* below 2^-14: the sum's last bit is 2^-24 */
        float v = float_of_bits(a) + 0.5f;
        return (uint16_t)(sign | (uint16_t)(bits_of_float(v) - 0x3f000000u));
    }
    return (uint16_t)(sign | (uint16_t)((a - (112u << 23) + 0xfffu + ((a >> 13) & 1u)) >> 13));
}

#endif
