/* 16-byte vectors that every processor of the build has: SSE2 on x86-64, NEON on arm64; what the compiler makes of them
 * elsewhere. Fused multiply-adds are fmaf, which is slow where the build's processor has no instruction for it. */
#define VEC_BYTES 16
#define VEC_TARGET
#define VEC_NAME "generic"
#define VEC_TABLE math_kernels_generic
#define VEC_EXACT_ROWS 4
#define VEC_EXACT_COLS 4
#define VEC_FMA(acc, a, b) ((acc) += (a) * (b))
#define VEC_MADD(a, b, c) \
    ((VF){__builtin_fmaf((a)[0], (b)[0], (c)[0]), __builtin_fmaf((a)[1], (b)[1], (c)[1]), \
          __builtin_fmaf((a)[2], (b)[2], (c)[2]), __builtin_fmaf((a)[3], (b)[3], (c)[3])})
#define VEC_CHOOSE(mask, a, b) ((VF)(((VI)(a) & (mask)) | ((VI)(b) & ~(mask))))
#define VEC_MAX(a, b) VEC_CHOOSE((a) > (b), a, b)
#define VEC_MIN(a, b) VEC_CHOOSE((a) < (b), a, b)
#include "math/vec_body.h"
