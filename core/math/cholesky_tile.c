#include "math/cholesky_tile.h"

#include <math.h>
#include <string.h>

#include "math/cpu.h"
#include "math/unroll.h"

#define INLINE static inline __attribute__((always_inline))

enum { R = CHOLESKY_ROWS };

/* ---- any processor: the definition ---- */

static void tile_any(bool set, int64_t k, int panels, int64_t step, const double *a, const double *b, double *c)
{
    for (int p = 0; p < panels; p++, a += step, c += step) {
        double acc[R][R] = {{0}};
        for (int j = 0; j < R && !set; j++)
            for (int i = 0; i < R; i++)
                acc[j][i] = c[j * R + i];
        for (int64_t t = 0; t < k; t++)
            for (int j = 0; j < R; j++)
                for (int i = 0; i < R; i++)
                    acc[j][i] = fma(set ? a[t * R + i] : -a[t * R + i], b[t * R + j], acc[j][i]);
        memcpy(c, acc, sizeof acc);
    }
}

#if defined(__x86_64__)
#include <immintrin.h>

/* ---- AVX-512: a panel's 8 rows are one vector; 24 sums, 3 of a and one of b fill the registers ---- */

#define AVX512 __attribute__((target("avx512f,avx2,fma")))

AVX512 INLINE void wide(bool set, int64_t k, const int panels, int64_t step, const double *a, const double *b, double *c)
{
    __m512d acc[CHOLESKY_PANELS][R];
    UNROLL
    for (int p = 0; p < panels; p++)
        UNROLL
        for (int j = 0; j < R; j++)
            acc[p][j] = set ? _mm512_setzero_pd() : _mm512_loadu_pd(c + p * step + j * R);
    for (int64_t t = 0; t < k; t++, a += R, b += R) {
        __m512d row[CHOLESKY_PANELS];
        UNROLL
        for (int p = 0; p < panels; p++)
            row[p] = _mm512_loadu_pd(a + p * step);
        UNROLL
        for (int j = 0; j < R; j++) {
            __m512d v = _mm512_set1_pd(b[j]);
            UNROLL
            for (int p = 0; p < panels; p++)
                acc[p][j] = set ? _mm512_fmadd_pd(row[p], v, acc[p][j]) : _mm512_fnmadd_pd(row[p], v, acc[p][j]);
        }
    }
    UNROLL
    for (int p = 0; p < panels; p++)
        UNROLL
        for (int j = 0; j < R; j++)
            _mm512_storeu_pd(c + p * step + j * R, acc[p][j]);
}

AVX512 static void tile_avx512(bool set, int64_t k, int panels, int64_t step, const double *a, const double *b,
                               double *c)
{
    if (panels == 3 && !set)
        wide(false, k, 3, step, a, b, c);
    else if (panels == 3)
        wide(true, k, 3, step, a, b, c);
    else if (panels == 2)
        wide(set, k, 2, step, a, b, c);
    else
        wide(set, k, 1, step, a, b, c);
}

/* ---- AVX2: half panels of 4 rows, three of them by 4 columns are 12 sums ---- */

#define AVX2 __attribute__((target("avx2,fma")))
enum { HALF = R / 2, HALVES = 3 };

/* Columns j0 on of `halves` half panels, which begin at a[p] and c[p], to out[column][half]. */
AVX2 INLINE void narrow(bool set, int64_t k, const int halves, const double *const *a, const double *b,
                        const double *const *c, int j0, double (*out)[HALVES][HALF])
{
    __m256d acc[HALVES][HALF];
    UNROLL
    for (int p = 0; p < halves; p++)
        UNROLL
        for (int j = 0; j < HALF; j++)
            acc[p][j] = set ? _mm256_setzero_pd() : _mm256_loadu_pd(c[p] + (j0 + j) * R);
    const double *a0 = a[0], *a1 = a[halves > 1 ? 1 : 0], *a2 = a[halves > 2 ? 2 : 0];
    for (int64_t t = 0; t < k * R; t += R) {
        __m256d row[HALVES] = {_mm256_loadu_pd(a0 + t), _mm256_loadu_pd(a1 + t), _mm256_loadu_pd(a2 + t)};
        UNROLL
        for (int j = 0; j < HALF; j++) {
            __m256d v = _mm256_broadcast_sd(b + t + j0 + j);
            UNROLL
            for (int p = 0; p < halves; p++)
                acc[p][j] = set ? _mm256_fmadd_pd(row[p], v, acc[p][j]) : _mm256_fnmadd_pd(row[p], v, acc[p][j]);
        }
    }
    UNROLL
    for (int p = 0; p < halves; p++)
        UNROLL
        for (int j = 0; j < HALF; j++)
            _mm256_storeu_pd(out[j0 + j][p], acc[p][j]);
}

AVX2 static void narrow_rows(bool set, int64_t k, int halves, const double *const *a, const double *b, double *const *c)
{
    double out[R][HALVES][HALF]; /* all columns before any is written: c may lie in a */
    const double *const from[HALVES] = {c[0], c[1], c[2]};
    for (int j = 0; j < R; j += HALF)
        if (halves == 3 && !set)
            narrow(false, k, 3, a, b, from, j, out);
        else if (halves == 3)
            narrow(true, k, 3, a, b, from, j, out);
        else if (halves == 2)
            narrow(set, k, 2, a, b, from, j, out);
        else
            narrow(set, k, 1, a, b, from, j, out);
    for (int j = 0; j < R; j++)
        for (int p = 0; p < halves; p++)
            memcpy(c[p] + j * R, out[j][p], sizeof out[j][p]);
}

static void tile_avx2(bool set, int64_t k, int panels, int64_t step, const double *a, const double *b, double *c)
{
    for (int h = 0; h < 2 * panels; h += HALVES) {
        const double *from[HALVES] = {0};
        double *to[HALVES] = {0};
        int n = 2 * panels - h < HALVES ? 2 * panels - h : HALVES;
        for (int p = 0; p < n; p++) {
            int64_t at = (h + p) / 2 * step + (h + p) % 2 * HALF;
            from[p] = a + at;
            to[p] = c + at;
        }
        narrow_rows(set, k, n, from, b, to);
    }
}
#endif

CholeskyTileFn *cholesky_tile(void)
{
#if defined(__x86_64__)
    if (math_cpu_has(CPU_AVX512))
        return tile_avx512;
    if (math_cpu_has(CPU_AVX2_FMA))
        return tile_avx2;
#endif
    return tile_any;
}
