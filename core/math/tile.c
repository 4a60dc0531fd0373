#include "math/tile.h"

static const TileOps *const rows[MATH_LEVELS] = {
    [MATH_REFERENCE] = &tile_generic,
    [MATH_GENERIC] = &tile_generic,
#if defined(__x86_64__)
    [MATH_AVX2] = &tile_avx2,
    [MATH_AVX512] = &tile_avx512,
    [MATH_AVX512BF16] = &tile_avx512bf16,
#elif defined(__aarch64__)
    [MATH_NEON] = &tile_neon,
#endif
};

const TileOps *tile_ops(MathLevel l)
{
    return rows[l];
}
