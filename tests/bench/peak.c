#include "tests/bench/peak.h"

#include <time.h>

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double thread_seconds(void)
{
    return seconds_of(CLOCK_THREAD_CPUTIME_ID);
}

double process_seconds(void)
{
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

/* n turns of COUNT independent chains: enough of them to hide the latency of each. The empty asm keeps the compiler from
 * seeing that nothing changes, and from leaving a chain out. */
#define LOOP(NAME, TARGET, TYPE, COUNT, REG, ZERO, STEP)                                                               \
    TARGET static void NAME(int64_t n)                                                                                 \
    {                                                                                                                  \
        TYPE a[COUNT], x = ZERO, y = ZERO;                                                                             \
        for (int i = 0; i < COUNT; i++)                                                                                \
            a[i] = ZERO;                                                                                               \
        for (int64_t t = 0; t < n; t++) {                                                                              \
            _Pragma("GCC unroll 32") for (int i = 0; i < COUNT; i++) a[i] = STEP;                                      \
            __asm__ volatile("" : "+" REG(x), "+" REG(y));                                                             \
        }                                                                                                              \
        for (int i = 0; i < COUNT; i++)                                                                                \
            __asm__ volatile("" ::REG(a[i]));                                                                          \
    }

#if defined(__x86_64__)
#include <immintrin.h>
#define ON(FEATURES) __attribute__((target(FEATURES)))
LOOP(f32_256, ON("avx2,fma"), __m256, 12, "x", _mm256_setzero_ps(), _mm256_fmadd_ps(x, y, a[i]))
LOOP(f64_256, ON("avx2,fma"), __m256d, 12, "x", _mm256_setzero_pd(), _mm256_fmadd_pd(x, y, a[i]))
LOOP(f32_512, ON("avx512f"), __m512, 24, "v", _mm512_setzero_ps(), _mm512_fmadd_ps(x, y, a[i]))
LOOP(f64_512, ON("avx512f"), __m512d, 24, "v", _mm512_setzero_pd(), _mm512_fmadd_pd(x, y, a[i]))
LOOP(bf16_512, ON("avx512f,avx512bf16"), __m512, 24, "v", _mm512_setzero_ps(),
     _mm512_dpbf16_ps(a[i], (__m512bh)x, (__m512bh)y))

static bool has_fma(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_512(void)
{
    return __builtin_cpu_supports("avx512f");
}

static bool has_bf16(void)
{
    return __builtin_cpu_supports("avx512bf16");
}
#elif defined(__aarch64__)
#include <arm_neon.h>
LOOP(f32_neon, , float32x4_t, 24, "w", vdupq_n_f32(0), vfmaq_f32(a[i], x, y))
LOOP(f64_neon, , float64x2_t, 24, "w", vdupq_n_f64(0), vfmaq_f64(a[i], x, y))

static bool always(void)
{
    return true;
}
#endif

static const struct Peak {
    const char *name;
    void (*loop)(int64_t turns);
    bool (*runs)(void);
    int ops; /* of a turn */
} peaks[PEAKS] = {
#if defined(__x86_64__)
    [PEAK_F32_256] = {"f32 FMA, 256 bits", f32_256, has_fma, 12 * 16},
    [PEAK_F64_256] = {"f64 FMA, 256 bits", f64_256, has_fma, 12 * 8},
    [PEAK_F32_512] = {"f32 FMA, 512 bits", f32_512, has_512, 24 * 32},
    [PEAK_F64_512] = {"f64 FMA, 512 bits", f64_512, has_512, 24 * 16},
    [PEAK_BF16_512] = {"bf16 VDPBF16PS", bf16_512, has_bf16, 24 * 64},
#elif defined(__aarch64__)
    [PEAK_F32_NEON] = {"f32 FMLA", f32_neon, always, 24 * 8},
    [PEAK_F64_NEON] = {"f64 FMLA", f64_neon, always, 24 * 4},
#endif
};

const char *peak_name(PeakKind k)
{
    return peaks[k].name;
}

bool peak_runs(PeakKind k)
{
    return peaks[k].loop && peaks[k].runs();
}

double peak_gflops(PeakKind k)
{
    const int64_t turns = INT64_C(1500000000) / peaks[k].ops;
    double begin = thread_seconds();
    peaks[k].loop(turns);
    return 1e-9 * peaks[k].ops * (double)turns / (thread_seconds() - begin);
}
