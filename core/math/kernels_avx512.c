/* 64-byte vectors for x86-64 with AVX-512 (F, BW, DQ, VL); used only where the processor has them. */
#if defined(__x86_64__)
#include <immintrin.h>

#define VEC_BYTES 64
#define VEC_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define VEC_NAME "avx512"
#define VEC_TABLE math_kernels_avx512
#define VEC_EXACT_ROWS 8
#define VEC_EXACT_COLS 16
#define VEC_FMA(acc, a, b) ((acc) = (VD)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(acc)))
#define VEC_MADD(a, b, c) ((VF)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define VEC_MAX(a, b) ((VF)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define VEC_MIN(a, b) ((VF)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define VEC_SCALE(p, t) ((VF)_mm512_scalef_ps((__m512)(p), (__m512)(t)))
#define FIRST(n) ((__mmask16)((1u << (n)) - 1))
#define VEC_LOAD_PART(p, n, fill) ((VF)_mm512_mask_loadu_ps(_mm512_set1_ps(fill), FIRST(n), p))
#define VEC_STORE_PART(p, v, n) _mm512_mask_storeu_ps(p, FIRST(n), (__m512)(v))
#define VEC_KEEP(v, n) ((VF)_mm512_maskz_mov_ps(FIRST(n), (__m512)(v)))
#include "math/vec_body.h"
#else
typedef int math_kernels_avx512_absent;
#endif
