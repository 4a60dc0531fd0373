/* 64-byte vectors for x86-64 with AVX-512 (F, BW, DQ, VL); used only where the processor has them. */
#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 16
#define VEC_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2")))
#define VEC_TABLE quant_loops_avx512
#define VEC_MIN(a, b) _mm512_min_ps((__m512)(a), (__m512)(b))
#define VEC_MAX(a, b) _mm512_max_ps((__m512)(a), (__m512)(b))
#define VEC_LOW(t) _mm512_cvtps_pd(_mm512_castps512_ps256((__m512)(t)))
#define VEC_HIGH(t) _mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)(t), 1))
#include "qir/loops_body.h"
#else
typedef int quant_loops_avx512_absent;
#endif
