/* 32-byte vectors for x86-64 with AVX2 and FMA; used only where the processor has them. */
#if defined(__x86_64__)
#include <immintrin.h>

#define VEC_BYTES 32
#define VEC_TARGET __attribute__((target("avx2,fma")))
#define VEC_NAME "avx2"
#define VEC_TABLE math_kernels_avx2
#define VEC_EXACT_ROWS 4
#define VEC_EXACT_COLS 12
#define VEC_FMA(acc, a, b) ((acc) = (VD)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(acc)))
#define VEC_MADD(a, b, c) ((VF)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define VEC_MAX(a, b) ((VF)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define VEC_MIN(a, b) ((VF)_mm256_min_ps((__m256)(a), (__m256)(b)))
#include "math/vec_body.h"
#else
typedef int math_kernels_avx2_absent;
#endif
