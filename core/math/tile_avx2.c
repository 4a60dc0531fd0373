/* AVX2 with FMA. */
#if defined(__x86_64__)
#define TILE_TARGET __attribute__((target("avx2,fma")))
#include "math/tile_x86.h"

enum { TILE_LANES = 8, TILE_WIDE = 2 };
typedef __m256 V;
typedef __m256i VI;
#define V_ZERO() _mm256_setzero_ps()
#define V_LOAD(p) _mm256_load_ps(p)
#define V_LOADU(p) _mm256_loadu_ps(p)
#define V_STOREU(p, v) _mm256_storeu_ps(p, v)
#define V_SPLAT(x) _mm256_set1_ps(x)
#define V_ADD(a, b) _mm256_add_ps(a, b)
#define V_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define VI_LOAD(p) _mm256_load_si256((const void *)(p))
#define VI_SPLAT(x) _mm256_set1_epi32((int)(x))
#define V_HIGH(w) _mm256_castsi256_ps(_mm256_and_si256(w, _mm256_set1_epi32((int)0xffff0000u)))
#define V_LOW(w) _mm256_castsi256_ps(_mm256_slli_epi32(w, 16))
#define TILE_FENCE() (void)0
#include "math/tile_body.h"

/* The 8 x 8 words whose rows r[8] are, transposed. */
TILE_INLINE void transpose(__m256i r[8])
{
    __m256i t[8];
    UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2x128_si256(r[i], r[4 + i], 0x20);
        t[4 + i] = _mm256_permute2x128_si256(r[i], r[4 + i], 0x31);
    }
    UNROLL
    for (int i = 0; i < 8; i++)
        r[i] = t[i];
}

/* Words [t, t + 8) of a row, zero behind the last. */
TILE_INLINE __m256i row_words(const unsigned char *row, int64_t left)
{
    uint32_t part[8] = {0};
    if (left >= 8)
        return _mm256_loadu_si256((const void *)row);
    memcpy(part, row, (size_t)left * sizeof *part);
    return _mm256_loadu_si256((const void *)part);
}

TILE_TARGET static void pack(const void *w, int64_t stride, int64_t n, int64_t words, int cols, uint32_t *out)
{
    for (int64_t t = 0; t < words; t += 8)
        for (int j0 = 0; j0 < cols; j0 += 8) {
            __m256i r[8];
            UNROLL
            for (int j = 0; j < 8; j++)
                r[j] = j0 + j < n ? row_words((const unsigned char *)w + (j0 + j) * stride + t * 4, words - t)
                                  : _mm256_setzero_si256();
            transpose(r);
            UNROLL
            for (int i = 0; i < 8; i++)
                if (t + i < words)
                    _mm256_store_si256((void *)(out + (t + i) * cols + j0), r[i]);
        }
}

/* Eight floats to bf16 in the low halves; a NaN becomes quiet, what is below 2^-126 zero. */
TILE_INLINE __m256i bf16_words(__m256i u)
{
    const __m256i one = _mm256_set1_epi32(1), bias = _mm256_set1_epi32(0x7fff);
    __m256i a = _mm256_and_si256(u, _mm256_set1_epi32(0x7fffffff));
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(bias, _mm256_and_si256(_mm256_srli_epi32(u, 16), one)));
    __m256i nan = _mm256_cmpgt_epi32(a, _mm256_set1_epi32(0x7f800000));
    __m256i tiny = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x00800000), a);
    r = _mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(0x400000)), nan);
    r = _mm256_blendv_epi8(r, _mm256_and_si256(u, _mm256_set1_epi32((int)0x80000000u)), tiny);
    return _mm256_srli_epi32(r, 16);
}

TILE_TARGET static void to_bf16(const float *x, int64_t n, uint16_t *out)
{
    for (int64_t i = 0; i < n; i += 16) {
        float in[16] = {0};
        uint16_t part[16];
        const float *from = n - i < 16 ? memcpy(in, x + i, (size_t)(n - i) * sizeof *in) : x + i;
        __m256i lo = bf16_words(_mm256_loadu_si256((const void *)from));
        __m256i hi = bf16_words(_mm256_loadu_si256((const void *)(from + 8)));
        __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xd8);
        if (n - i >= 16) {
            _mm256_storeu_si256((void *)(out + i), both);
            continue;
        }
        _mm256_storeu_si256((void *)part, both);
        memcpy(out + i, part, (size_t)(n - i) * sizeof *part);
    }
}

const TileOps tile_avx2 = {
    .wide = TILE_WIDE * TILE_LANES, .narrow = TILE_LANES, .f32 = f32,
    .f32_pairs = f32_pairs, .bf16 = bf16, .pack = pack, .round = to_bf16, .flush_begin = flush_begin,
    .flush_end = flush_end,
};
#else
typedef int tile_avx2_absent;
#endif
