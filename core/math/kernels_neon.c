/* 16-byte vectors for arm64 with NEON's fused multiply-add. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define VEC_BYTES 16
#define VEC_TARGET
#define VEC_NAME "neon"
#define VEC_TABLE math_kernels_neon
#define VEC_EXACT_ROWS 4
#define VEC_EXACT_COLS 12
#define VEC_FMA(acc, a, b) ((acc) = (VD)vfmaq_f64((float64x2_t)(acc), (float64x2_t)(a), (float64x2_t)(b)))
#define VEC_MADD(a, b, c) ((VF)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define VEC_CHOOSE(mask, a, b) ((VF)vbslq_f32(mask, (float32x4_t)(a), (float32x4_t)(b)))
#define VEC_MAX(a, b) VEC_CHOOSE(vcgtq_f32((float32x4_t)(a), (float32x4_t)(b)), a, b)
#define VEC_MIN(a, b) VEC_CHOOSE(vcltq_f32((float32x4_t)(a), (float32x4_t)(b)), a, b)
#include "math/vec_body.h"
#else
typedef int math_kernels_neon_absent;
#endif
