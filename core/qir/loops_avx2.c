/* 32-byte vectors for x86-64 with AVX2; used only where the processor has them. */
#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 8
#define VEC_TARGET __attribute__((target("avx2")))
#define VEC_TABLE quant_loops_avx2
#define VEC_MIN(a, b) _mm256_min_ps((__m256)(a), (__m256)(b))
#define VEC_MAX(a, b) _mm256_max_ps((__m256)(a), (__m256)(b))
#define VEC_LOW(t) _mm256_cvtps_pd(_mm256_castps256_ps128((__m256)(t)))
#define VEC_HIGH(t) _mm256_cvtps_pd(_mm256_extractf128_ps((__m256)(t), 1))
#include "qir/loops_body.h"
#else
typedef int quant_loops_avx2_absent;
#endif
