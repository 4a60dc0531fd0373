/* NEON. Its own flushing looks at a result before it is rounded, x86's after: each step flushes here. */
#if defined(__aarch64__)
#define TILE_TARGET
#include <arm_neon.h>

#include "math/flush.h"
#include "math/tile.h"

enum { TILE_LANES = 4, TILE_WIDE = 4 };
typedef float32x4_t V;
typedef uint32x4_t VI;
#define V_ZERO() vdupq_n_f32(0)
#define V_LOAD(p) vld1q_f32(p)
#define V_LOADU(p) vld1q_f32(p)
#define V_STOREU(p, v) vst1q_f32(p, v)
#define V_SPLAT(x) vdupq_n_f32(x)
#define V_ADD(a, b) vaddq_f32(a, b)
#define V_FMA(a, b, c) vfmaq_f32(c, a, b)
#define VI_LOAD(p) vld1q_u32(p)
#define VI_SPLAT(x) vdupq_n_u32(x)
#define V_HIGH(w) vreinterpretq_f32_u32(vandq_u32(w, vdupq_n_u32(0xffff0000u)))
#define V_LOW(w) vreinterpretq_f32_u32(vshlq_n_u32(w, 16))
#define V_STEP(a, b, c) step(a, b, c)
#define V_FLUSH(v) without_tiny(v)
#define TILE_FENCE() (void)0

/* Zeros of their sign where a lane lies below 2^-126. */
static inline V without_tiny(V v)
{
    VI tiny = vcltq_f32(vabsq_f32(v), vdupq_n_f32(FLT_MIN)), sign = vdupq_n_u32(0x80000000u);
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), vbicq_u32(tiny, sign)));
}

/* A lane of just 2^-126 may have been less before it was rounded: rare, so those go one by one. */
static inline V step(V a, V b, V c)
{
    V r = vfmaq_f32(c, a, b);
    if (__builtin_expect(vmaxvq_u32(vceqq_f32(vabsq_f32(r), vdupq_n_f32(FLT_MIN))) == 0, 1))
        return without_tiny(r);
    float x[4], w[4], sum[4];
    vst1q_f32(x, a);
    vst1q_f32(w, b);
    vst1q_f32(sum, c);
    for (int i = 0; i < 4; i++)
        sum[i] = flushed_step(x[i], w[i], sum[i]);
    return vld1q_f32(sum);
}
#include "math/tile_body.h"

static void pack(const void *w, int64_t stride, int64_t n, int64_t words, int cols, uint32_t *out)
{
    tile_generic.pack(w, stride, n, words, cols, out);
}

static void to_bf16(const float *x, int64_t n, uint16_t *out)
{
    tile_generic.round(x, n, out);
}

const TileOps tile_neon = {
    .wide = TILE_WIDE * TILE_LANES, .narrow = TILE_LANES, .f32 = f32, .f32_pairs = f32_pairs, .bf16 = bf16,
    .pack = pack, .round = to_bf16,
};
#else
typedef int tile_neon_absent;
#endif
