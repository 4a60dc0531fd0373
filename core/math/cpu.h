#ifndef SLIM_MATH_CPU_H
#define SLIM_MATH_CPU_H

#include <stdbool.h>

#include "base/error.h"

/* What kernels may use of the processor, in one place. Every choice of a form at run time asks here, so that the
 * environment's SLIMSCOPE_KERNELS=NAME holds for the whole program. All calls: any thread, cheap enough for one a task. */

/* Ascending: a level may use what those before it use. */
typedef enum MathLevel {
    MATH_REFERENCE,  /* the plain scalar loops that define every result */
    MATH_GENERIC,    /* 16-byte vectors that every processor has */
    MATH_NEON,       /* arm64 */
    MATH_AVX2,       /* AVX2 and FMA */
    MATH_AVX512,     /* and AVX-512 F, CD, BW, DQ, VL */
    MATH_AVX512BF16, /* and AVX-512 BF16 */
    MATH_LEVELS
} MathLevel;

/* Instructions beyond those that the compiler may use anywhere. */
typedef enum CpuFeature { CPU_NEON, CPU_AVX2_FMA, CPU_AVX512, CPU_AVX512_BF16, CPU_AVX512_VNNI } CpuFeature;

/* "reference", "generic", "neon", "avx2", "avx512", "avx512bf16" */
const char *math_level_name(MathLevel l);
/* Whether this build and processor can run it, whatever the environment says. */
bool math_level_runs(MathLevel l);
/* The one that SLIMSCOPE_KERNELS names, else the highest that runs. A name that math_check refuses counts as none. */
MathLevel math_level(void);
/* Whether kernels may use these instructions: the processor has them, and math_level() does not stand below them. */
bool math_cpu_has(CpuFeature f);
/* SLIMSCOPE_KERNELS=openblas: products of float32 and Cholesky factors are OpenBLAS's, whose sums have an order of their own
 * on each processor; all else is at the highest level. To compare with. */
bool math_openblas(void);
/* ST_USAGE where SLIMSCOPE_KERNELS (empty: as if it were not set) names no level, or one that does not run here. Once at
 * start. */
Status math_check(Error *err);

#endif
