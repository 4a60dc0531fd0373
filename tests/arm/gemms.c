/* The rows of core/registry.c that tests/arm.sh builds. */
#include "math/gemm.h"

const GemmOps *const gemm_table[] = {&gemm_f32, &gemm_bf16, &gemm_exact, NULL};
