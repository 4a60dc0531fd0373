/* 16-byte vectors: SSE2 on x86-64, NEON on arm64; what the compiler makes of them elsewhere. */
#define VEC_BYTES 16
#define VEC_TARGET
#define VEC_NAME "generic"
#define VEC_TABLE math_kernels_generic
#define VEC_FMA(acc, a, b) ((acc) += (a) * (b))
#include "math/vec_body.h"
