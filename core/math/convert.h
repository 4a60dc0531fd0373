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

/* 1-4-3, bias 7, no Inf; 0x7f and 0xff are NaN. */
static inline float e4m3_to_float(uint8_t h)
{
    float v = (h & 0x7f) == 0x7f ? float_of_bits(0x7fc00000u) : f16_to_float((uint16_t)((h & 0x7fu) << 7)) * 256.0f;
    return float_of_bits(bits_of_float(v) | (uint32_t)(h & 0x80u) << 24);
}

/* A power of two: 2^(h - 127); 0xff is NaN. */
static inline float e8m0_to_float(uint8_t h)
{
    return float_of_bits(h == 0xff ? 0x7fc00000u : h ? (uint32_t)h << 23 : 0x00400000u);
}

/* 1-2-1, bias 1, in the low four bits. */
static inline float e2m1_to_float(uint8_t h)
{
    uint32_t e = (h >> 1) & 3u, m = h & 1u;
    float v = e ? (float)(2u + m) * (float)(1u << e) * 0.25f : (float)m * 0.5f;
    return h & 8u ? -v : v;
}

#endif
