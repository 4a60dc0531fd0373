/* AVX-512 without an instruction for bf16: its pairs are widened as they come. */
#if defined(__x86_64__)
#define TILE_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#include "math/tile_avx512.h"

/* Bits of 16 floats to bf16 in the low halves; a NaN becomes quiet. */
TILE_TARGET static void to_bf16(const float *x, int64_t n, uint16_t *out)
{
    const __m512i one = _mm512_set1_epi32(1), bias = _mm512_set1_epi32(0x7fff), quiet = _mm512_set1_epi32(0x400000);
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff), inf = _mm512_set1_epi32(0x7f800000);
    const __m512i least = _mm512_set1_epi32(0x00800000), sign = _mm512_set1_epi32((int)0x80000000u);
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 left = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : (__mmask16)0xffff;
        __m512i u = _mm512_castps_si512(_mm512_maskz_loadu_ps(left, x + i)), a = _mm512_and_si512(u, magnitude);
        __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(bias, _mm512_and_si512(_mm512_srli_epi32(u, 16), one)));
        r = _mm512_mask_or_epi32(r, _mm512_cmpgt_epi32_mask(a, inf), u, quiet);
        r = _mm512_mask_and_epi32(r, _mm512_cmplt_epi32_mask(a, least), u, sign);
        _mm256_mask_storeu_epi16(out + i, left, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
    }
}

const TileOps tile_avx512 = {
    .wide = TILE_WIDE * TILE_LANES, .narrow = TILE_LANES, .f32 = f32,
    .f32_pairs = f32_pairs, .bf16 = bf16, .pack = pack, .round = to_bf16, .flush_begin = flush_begin,
    .flush_end = flush_end,
};
#else
typedef int tile_avx512_absent;
#endif
