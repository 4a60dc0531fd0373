#include "math/cpu.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

static const char variable[] = "SLIMSCOPE_KERNELS", openblas[] = "openblas";

/* ---- the processor ---- */

static bool always(void)
{
    return true;
}

static bool neon(void)
{
#if defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return true;
#else
    return false;
#endif
}

#if defined(__x86_64__)
static bool avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool avx512(void)
{
    return avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool avx512_bf16(void)
{
    return avx512() && __builtin_cpu_supports("avx512bf16");
}

static bool avx512_vnni(void)
{
    return avx512() && __builtin_cpu_supports("avx512vnni");
}
#else
static bool never(void)
{
    return false;
}
#define avx2 never
#define avx512 never
#define avx512_bf16 never
#define avx512_vnni never
#endif

/* ---- tables ---- */

static const struct {
    const char *name;
    bool (*runs)(void);
} levels[MATH_LEVELS] = {
    [MATH_REFERENCE] = {"reference", always}, [MATH_GENERIC] = {"generic", always},
    [MATH_NEON] = {"neon", neon},             [MATH_AVX2] = {"avx2", avx2},
    [MATH_AVX512] = {"avx512", avx512},       [MATH_AVX512BF16] = {"avx512bf16", avx512_bf16},
};

/* From which level on each may be used. */
static const struct {
    bool (*has)(void);
    MathLevel from;
} features[] = {
    [CPU_NEON] = {neon, MATH_NEON},
    [CPU_AVX2_FMA] = {avx2, MATH_AVX2},
    [CPU_AVX512] = {avx512, MATH_AVX512},
    [CPU_AVX512_BF16] = {avx512_bf16, MATH_AVX512BF16},
    [CPU_AVX512_VNNI] = {avx512_vnni, MATH_AVX512},
};

const char *math_level_name(MathLevel l)
{
    return levels[l].name;
}

bool math_level_runs(MathLevel l)
{
    return levels[l].runs();
}

/* The level of a name, MATH_LEVELS for none. */
static MathLevel level_named(const char *name)
{
    MathLevel l = MATH_REFERENCE;
    while (l < MATH_LEVELS && strcmp(levels[l].name, name) != 0)
        l++;
    return l;
}

MathLevel math_level(void)
{
    const char *name = getenv(variable);
    MathLevel l = name && *name ? level_named(name) : MATH_LEVELS;
    if (l < MATH_LEVELS && levels[l].runs())
        return l;
    for (l = MATH_LEVELS - 1; !levels[l].runs();)
        l--;
    return l;
}

bool math_cpu_has(CpuFeature f)
{
    return features[f].has() && math_level() >= features[f].from;
}

bool math_openblas(void)
{
    const char *name = getenv(variable);
    return name && strcmp(name, openblas) == 0;
}

Status math_check(Error *err)
{
    const char *name = getenv(variable);
    if (!name || !*name || math_openblas())
        return ST_OK;
    MathLevel named = level_named(name);
    if (named < MATH_LEVELS && levels[named].runs())
        return ST_OK;
    Str there = {0};
    for (MathLevel l = MATH_REFERENCE; l < MATH_LEVELS; l++)
        if (levels[l].runs())
            str_printf(&there, "%s%s", there.len ? ", " : "", levels[l].name);
    str_printf(&there, ", or %s", openblas);
    Status st = error_set(err, ST_USAGE, named < MATH_LEVELS ? "%s: this processor cannot run '%s'; it runs %s"
                                                             : "%s: there are no kernels '%s'; this processor runs %s",
                          variable, name, str_text(&there));
    str_free(&there);
    return st;
}
