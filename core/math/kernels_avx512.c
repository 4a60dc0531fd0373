/* 64-byte vectors for x86-64 with AVX-512 (F, BW, DQ, VL); used only where the processor has them. */
#if defined(__x86_64__)
#include <immintrin.h>

#define VEC_BYTES 64
#define VEC_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define VEC_NAME "avx512"
#define VEC_TABLE math_kernels_avx512
#define VEC_FMA(acc, a, b) ((acc) = (VD)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(acc)))
#include "math/vec_body.h"
#else
typedef int math_kernels_avx512_absent;
#endif
