/* 16-byte vectors: SSE2 on x86-64, NEON on arm64; what the compiler makes of them elsewhere. */
#if defined(__x86_64__)
#include <emmintrin.h>

#define VEC_LOW(t) _mm_cvtps_pd((__m128)(t))
#define VEC_HIGH(t) _mm_cvtps_pd(_mm_movehl_ps((__m128)(t), (__m128)(t)))
#define VEC_MIN(a, b) _mm_min_ps((__m128)(a), (__m128)(b))
#define VEC_MAX(a, b) _mm_max_ps((__m128)(a), (__m128)(b))
#endif
#define LANES 4
#define VEC_TARGET
#define VEC_TABLE quant_loops_generic
#include "qir/loops_body.h"
