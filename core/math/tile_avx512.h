/* What the two kinds of AVX-512 share: vectors of sixteen, and how a panel is laid out. Not a header to include
 * elsewhere. */
#include "math/tile_x86.h"

enum { TILE_LANES = 16, TILE_WIDE = 4 };
typedef __m512 V;
typedef __m512i VI;
#define V_ZERO() _mm512_setzero_ps()
#define V_LOAD(p) _mm512_load_ps(p)
#define V_LOADU(p) _mm512_loadu_ps(p)
#define V_STOREU(p, v) _mm512_storeu_ps(p, v)
#define V_SPLAT(x) _mm512_set1_ps(x)
#define V_ADD(a, b) _mm512_add_ps(a, b)
#define V_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define VI_LOAD(p) _mm512_load_si512(p)
#define VI_SPLAT(x) _mm512_set1_epi32((int)(x))
#define V_HIGH(w) _mm512_castsi512_ps(_mm512_and_si512(w, _mm512_set1_epi32((int)0xffff0000u)))
#define V_LOW(w) _mm512_castsi512_ps(_mm512_slli_epi32(w, 16))
#define TILE_FENCE() __asm__ volatile("" ::: "memory")
#include "math/tile_body.h"

/* The 16 x 16 words whose rows r[16] are, transposed. */
TILE_INLINE void transpose(__m512i r[16])
{
    __m512i t[16];
    UNROLL
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    /* r[4 q + i], lane l: column 4 l + i of rows 4 q to 4 q + 3 */
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

TILE_TARGET static void pack(const void *w, int64_t stride, int64_t n, int64_t words, int cols, uint32_t *out)
{
    for (int64_t t = 0; t < words; t += 16)
        for (int j0 = 0; j0 < cols; j0 += 16) {
            __mmask16 left = words - t < 16 ? (__mmask16)((1u << (words - t)) - 1) : (__mmask16)0xffff;
            __m512i r[16];
            UNROLL
            for (int j = 0; j < 16; j++) {
                const unsigned char *row = (const unsigned char *)w + (j0 + j) * stride + t * 4;
                r[j] = j0 + j < n ? _mm512_maskz_loadu_epi32(left, row) : _mm512_setzero_si512();
            }
            transpose(r);
            UNROLL
            for (int i = 0; i < 16; i++)
                if (t + i < words)
                    _mm512_store_si512(out + (t + i) * cols + j0, r[i]);
        }
}
