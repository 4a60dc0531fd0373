/* AVX-512 with VDPBF16PS. */
#if defined(__x86_64__)
#define TILE_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")))
#define V_PAIRS(acc, x, w) _mm512_dpbf16_ps(acc, (__m512bh)(x), (__m512bh)(w))
#include "math/tile_avx512.h"

TILE_TARGET static void to_bf16(const float *x, int64_t n, uint16_t *out)
{
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 left = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : (__mmask16)0xffff;
        __m256bh r = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(left, x + i));
        _mm256_mask_storeu_epi16(out + i, left, (__m256i)r);
    }
}

const TileOps tile_avx512bf16 = {
    .wide = TILE_WIDE * TILE_LANES, .narrow = TILE_LANES, .f32 = f32,
    .f32_pairs = f32_pairs, .bf16 = bf16, .x_halves = true, .pack = pack, .round = to_bf16, .flush_begin = flush_begin,
    .flush_end = flush_end,
};
#else
typedef int tile_avx512bf16_absent;
#endif
