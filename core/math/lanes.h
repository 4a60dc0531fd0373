#ifndef SLIM_MATH_LANES_H
#define SLIM_MATH_LANES_H

#include <stdint.h>
#include <string.h>

#include "base/dtype.h"
#include "math/cpu.h"

/* Loops are written once over vectors of LANES floats, 8 or what the including file says, and compiled for several
 * processors, of which one is chosen at run time. All do the same IEEE operations in the same order, so results do not
 * depend on the processor. Helpers take pointers because passing vectors by value would depend on the target's calling
 * convention. */
#ifndef LANES
#define LANES 8
#endif
typedef float VF __attribute__((vector_size(4 * LANES)));
typedef uint32_t VU __attribute__((vector_size(4 * LANES)));
typedef int32_t VI __attribute__((vector_size(4 * LANES)));
typedef int8_t VB __attribute__((vector_size(LANES)));

#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__)
#define HAVE_AVX2_FORM 1
#define AVX2_FORM __attribute__((target("avx2")))
#define CPU_HAS_AVX2() math_cpu_has(CPU_AVX2_FMA)
#endif

/* Adding and subtracting 1.5 * 2^23 rounds |t| < 2^22 to an integer, half to even, and gives +0 for -0. */
#define RINT_MAGIC 12582912.0f

/* *t = mask ? a : *t, lane by lane. */
INLINE void select_bits(VF *t, const VI *mask, const VU *a)
{
    VU keep = (VU)*t & ~(VU)*mask;
    *t = (VF)(keep | (*a & (VU)*mask));
}

/* Lanes to the nearest bfloat16, ties to even; a NaN becomes the quiet one. */
INLINE void round_bf16(VF *t)
{
    VU u = (VU)*t;
    VU r = (u + 0x7FFFu + ((u >> 16) & 1u)) & 0xFFFF0000u;
    VI number = *t == *t;
    VU nan = (u & 0) | 0x7FC00000u;
    *t = (VF)((r & (VU)number) | (nan & ~(VU)number));
}

/* The same to float16; what is beyond its range becomes infinite. */
INLINE void round_f16(VF *t)
{
    VU u = (VU)*t, sign = u & 0x80000000u, abs_bits = u & 0x7FFFFFFFu;
    VF a = (VF)abs_bits;
    VF r = (VF)((abs_bits + 0xFFFu + ((abs_bits >> 13) & 1u)) & ~(VU)((abs_bits & 0) | 0x1FFFu));
    /* Below 2^-14 the grid is 2^-24, which is the spacing of floats in [0.5, 1). */
    VF sub = (a + 0.5f) - 0.5f;
    VI is_sub = a < 0x1p-14f, is_big = a >= 65520.0f, is_nan = *t != *t;
    VU inf = (u & 0) | 0x7F800000u, nan = (u & 0) | 0x7FC00000u, sub_bits = (VU)sub;
    select_bits(&r, &is_sub, &sub_bits);
    select_bits(&r, &is_big, &inf);
    r = (VF)((VU)r | sign);
    select_bits(&r, &is_nan, &nan);
    *t = r;
}

/* T is a constant at every call, so only one branch is left. */
INLINE void round_to(VF *t, DType T)
{
    if (T == DT_BF16)
        round_bf16(t);
    else if (T == DT_F16)
        round_f16(t);
}

/* The statement with `k` as a constant of T's value, so that each dtype gets a loop of its own. */
#define WITH_DTYPE(T, k, ...)         \
    do {                              \
        if ((T) == DT_BF16) {         \
            const DType k = DT_BF16;  \
            __VA_ARGS__;              \
        } else if ((T) == DT_F16) {   \
            const DType k = DT_F16;   \
            __VA_ARGS__;              \
        } else {                      \
            const DType k = DT_F32;   \
            __VA_ARGS__;              \
        }                             \
    } while (0)

/* min(left, LANES) floats; the other lanes are 0. */
INLINE void load_lanes(VF *t, const float *x, int64_t left)
{
    *t = (VF){0};
    if (left >= LANES)
        memcpy(t, x, sizeof *t);
    else
        memcpy(t, x, sizeof(float) * (size_t)left);
}

/* The first min(left, LANES) lanes. */
INLINE void store_lanes(const VF *t, float *y, int64_t left)
{
    if (left >= LANES)
        memcpy(y, t, sizeof *t);
    else
        memcpy(y, t, sizeof(float) * (size_t)left);
}

/* The low bytes of the lanes' integers, which are within a byte. */
INLINE void store_bytes(const VI *t, void *q, int64_t left)
{
#if LANES == 8 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ /* put together in one word, as x86 and arm can */
    typedef uint64_t VL __attribute__((vector_size(4 * LANES)));
    VU part = ((VU)*t & 0xFFu) << (VU){0, 8, 16, 24, 0, 8, 16, 24};
    VL two = (VL)part | (VL)part >> 32;
    uint64_t all = (uint64_t)(uint32_t)(two[0] | two[1]) | (two[2] | two[3]) << 32;
#else
    VB all = __builtin_convertvector(*t, VB);
#endif
    if (left >= LANES)
        memcpy(q, &all, sizeof all);
    else
        memcpy(q, &all, (size_t)left);
}

#endif
