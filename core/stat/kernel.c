#include "stat/kernel.h"

#include <math.h>
#include <string.h>

#include "math/cpu.h"
#include "math/unroll.h"

enum { LANES = 8, FLUSH = 64 * LANES, GROUP = 8, WGROUP = 4 };

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

/* Adds the lanes to *s in lane order. */
static void flush(double *s, const float *lane)
{
    for (int k = 0; k < LANES; k++)
        *s += (double)lane[k];
}

static void scan_scalar(const float *x, int64_t n, ScanSums *s)
{
    int64_t full = n & ~(int64_t)(LANES - 1);
    for (int64_t b = 0; b < full; b += FLUSH) {
        float sum[LANES] = {0}, sab[LANES] = {0};
        int64_t e = b + FLUSH < full ? b + FLUSH : full;
        for (int64_t i = b; i < e; i += LANES)
            for (int k = 0; k < LANES; k++) {
                float v = x[i + k];
                uint32_t u = bits_of(v) & 0x7fffffffu;
                s->max_bits = u > s->max_bits ? u : s->max_bits;
                s->or_bits |= u;
                s->min = v < s->min ? v : s->min;
                s->max = v > s->max ? v : s->max;
                sum[k] += v;
                sab[k] += fabsf(v);
            }
        flush(&s->sum, sum);
        flush(&s->sum_abs, sab);
    }
    for (int64_t i = full; i < n; i++) {
        uint32_t u = bits_of(x[i]) & 0x7fffffffu;
        s->max_bits = u > s->max_bits ? u : s->max_bits;
        s->or_bits |= u;
        s->min = x[i] < s->min ? x[i] : s->min;
        s->max = x[i] > s->max ? x[i] : s->max;
        s->sum += (double)x[i];
        s->sum_abs += (double)fabsf(x[i]);
    }
}

static void column_group(const float *x, int rows, int64_t ld, float *cmin, float *cmax, double *csq, float *rowmax)
{
    float q[GROUP], mn = *cmin, mx = *cmax;
    for (int r = 0; r < rows; r++) {
        float v = x[r * ld];
        mn = v < mn ? v : mn;
        mx = v > mx ? v : mx;
        q[r] = v * v;
        float a = fabsf(v);
        rowmax[r] = a > rowmax[r] ? a : rowmax[r];
    }
    *cmin = mn;
    *cmax = mx;
    float sum = rows == 1 ? q[0] : ((q[0] + q[1]) + (q[2] + q[3])) + ((q[4] + q[5]) + (q[6] + q[7]));
    *csq += (double)sum;
}

static void columns_scalar(const float *x, int64_t rows, int64_t width, int64_t ld, float *cmin, float *cmax,
                           double *csq, float *rowmax)
{
    for (int64_t r = 0; r < rows;) {
        int g = rows - r >= GROUP ? GROUP : 1;
        memset(rowmax + r, 0, (size_t)g * sizeof *rowmax);
        for (int64_t j = 0; j < width; j++)
            column_group(x + r * ld + j, g, ld, cmin + j, cmax + j, csq + j, rowmax + r);
        r += g;
    }
}

static void shift_scalar(const float *x, int64_t n, const float *m, float c, double *s1, double *s2)
{
    int64_t full = n & ~(int64_t)(LANES - 1);
    for (int64_t b = 0; b < full; b += FLUSH) {
        float a1[LANES] = {0}, a2[LANES] = {0};
        int64_t e = b + FLUSH < full ? b + FLUSH : full;
        for (int64_t i = b; i < e; i += LANES)
            for (int k = 0; k < LANES; k++) {
                float d = (x[i + k] - m[i + k]) - c;
                a1[k] += d;
                a2[k] += d * d;
            }
        flush(s1, a1);
        flush(s2, a2);
    }
    for (int64_t i = full; i < n; i++) {
        float d = (x[i] - m[i]) - c;
        *s1 += (double)d;
        *s2 += (double)(d * d);
    }
}

static void count_scalar(const float *x, int64_t n, KeyMap map, uint32_t *table)
{
    for (int64_t i = 0; i < n; i++)
        table[keymap_bucket(map, x[i])]++;
}

static int64_t filter_scalar(const float *x, int64_t n, KeyMap map, const uint32_t *bits, float *out)
{
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t b = (uint32_t)keymap_bucket(map, x[i]);
        out[k] = x[i];
        k += bits[b >> 5] >> (b & 31) & 1;
    }
    return k;
}

/* The value that has at most r values below it and more than r not above it. */
static float select_scalar(const float *v, int n, int r)
{
    for (int i = 0; i < n; i++) {
        int below = 0, upto = 0;
        for (int k = 0; k < n; k++) {
            below += v[k] < v[i];
            upto += v[k] <= v[i];
        }
        if (below <= r && r < upto)
            return v[i];
    }
    return v[0];
}

/* Squared distance of w from its place on the grid of step s. |w/s| is far below 2^22, where adding and subtracting
 * 1.5*2^23 rounds half to even. */
static float grid_error(float w, float s)
{
    const float magic = 12582912.0f;
    float q = (w / s + magic) - magic;
    float d = w - q * s;
    return d * d;
}

static void weight_column(const float *w, int rows, int64_t in, const float *s8, const float *s4, float *c8,
                          float *c4, float *c2)
{
    float e8[WGROUP], e4[WGROUP], q[WGROUP];
    for (int r = 0; r < rows; r++) {
        float v = w[r * in];
        e8[r] = grid_error(v, s8[r]);
        e4[r] = grid_error(v, s4[r]);
        q[r] = v * v;
    }
    if (rows == 1) {
        *c8 += e8[0];
        *c4 += e4[0];
        *c2 += q[0];
        return;
    }
    *c8 += (e8[0] + e8[1]) + (e8[2] + e8[3]);
    *c4 += (e4[0] + e4[1]) + (e4[2] + e4[3]);
    *c2 += (q[0] + q[1]) + (q[2] + q[3]);
}

static void weight_scalar(const float *w, int64_t rows, int64_t in, const float *s8, const float *s4, float *c8,
                          float *c4, float *c2)
{
    for (int64_t r = 0; r < rows;) {
        int g = rows - r >= WGROUP ? WGROUP : 1;
        for (int64_t j = 0; j < in; j++)
            weight_column(w + r * in + j, g, in, s8 + r, s4 + r, c8 + j, c4 + j, c2 + j);
        r += g;
    }
}

static const StatKernels kernels_scalar = {
    .name = "scalar",
    .scan = scan_scalar,
    .columns = columns_scalar,
    .shift = shift_scalar,
    .count = count_scalar,
    .filter = filter_scalar,
    .select = select_scalar,
    .weight = weight_scalar,
};

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))

/* Adds the lanes of v to *s in lane order. */
AVX2 static void flush_avx2(double *s, __m256 v)
{
    float lane[LANES];
    _mm256_storeu_ps(lane, v);
    flush(s, lane);
}

AVX2 static void scan_avx2(const float *x, int64_t n, ScanSums *s)
{
    const __m256 absmask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256i mx = _mm256_setzero_si256(), orb = _mm256_setzero_si256();
    __m256 lowest = _mm256_set1_ps(INFINITY), highest = _mm256_set1_ps(-INFINITY);
    int64_t full = n & ~(int64_t)(LANES - 1);
    for (int64_t b = 0; b < full; b += FLUSH) {
        __m256 sum = _mm256_setzero_ps(), sab = _mm256_setzero_ps();
        int64_t e = b + FLUSH < full ? b + FLUSH : full;
        for (int64_t i = b; i < e; i += LANES) {
            __m256 v = _mm256_loadu_ps(x + i), a = _mm256_and_ps(v, absmask);
            sum = _mm256_add_ps(sum, v);
            sab = _mm256_add_ps(sab, a);
            lowest = _mm256_min_ps(v, lowest);
            highest = _mm256_max_ps(v, highest);
            mx = _mm256_max_epu32(mx, _mm256_castps_si256(a));
            orb = _mm256_or_si256(orb, _mm256_castps_si256(a));
        }
        flush_avx2(&s->sum, sum);
        flush_avx2(&s->sum_abs, sab);
    }
    uint32_t lm[LANES], lo[LANES];
    float fl[LANES], fh[LANES];
    _mm256_storeu_ps(fl, lowest);
    _mm256_storeu_ps(fh, highest);
    _mm256_storeu_si256((__m256i *)lm, mx);
    _mm256_storeu_si256((__m256i *)lo, orb);
    for (int k = 0; k < LANES; k++) {
        s->max_bits = lm[k] > s->max_bits ? lm[k] : s->max_bits;
        s->or_bits |= lo[k];
        s->min = fl[k] < s->min ? fl[k] : s->min;
        s->max = fh[k] > s->max ? fh[k] : s->max;
    }
    if (full < n)
        scan_scalar(x + full, n - full, s);
}

/* Eight rows at once; their largest magnitudes go to rowmax[8]. */
AVX2 static void columns8_avx2(const float *x, int64_t width, int64_t ld, float *cmin, float *cmax, double *csq,
                               float *rowmax)
{
    const __m256 absmask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 rm[GROUP];
    for (int r = 0; r < GROUP; r++)
        rm[r] = _mm256_setzero_ps();
    int64_t full = width & ~(int64_t)(LANES - 1);
    for (int64_t j = 0; j < full; j += LANES) {
        __m256 mn = _mm256_loadu_ps(cmin + j), mx = _mm256_loadu_ps(cmax + j), pair[GROUP / 2];
        for (int r = 0; r < GROUP; r += 2) {
            __m256 a = _mm256_loadu_ps(x + r * ld + j), b = _mm256_loadu_ps(x + (r + 1) * ld + j);
            mn = _mm256_min_ps(mn, _mm256_min_ps(a, b));
            mx = _mm256_max_ps(mx, _mm256_max_ps(a, b));
            rm[r] = _mm256_max_ps(rm[r], _mm256_and_ps(a, absmask));
            rm[r + 1] = _mm256_max_ps(rm[r + 1], _mm256_and_ps(b, absmask));
            pair[r / 2] = _mm256_add_ps(_mm256_mul_ps(a, a), _mm256_mul_ps(b, b));
        }
        __m256 q = _mm256_add_ps(_mm256_add_ps(pair[0], pair[1]), _mm256_add_ps(pair[2], pair[3]));
        _mm256_storeu_ps(cmin + j, mn);
        _mm256_storeu_ps(cmax + j, mx);
        __m256d lo = _mm256_cvtps_pd(_mm256_castps256_ps128(q)), hi = _mm256_cvtps_pd(_mm256_extractf128_ps(q, 1));
        _mm256_storeu_pd(csq + j, _mm256_add_pd(_mm256_loadu_pd(csq + j), lo));
        _mm256_storeu_pd(csq + j + 4, _mm256_add_pd(_mm256_loadu_pd(csq + j + 4), hi));
    }
    for (int r = 0; r < GROUP; r++) {
        float lane[LANES];
        _mm256_storeu_ps(lane, rm[r]);
        rowmax[r] = 0;
        for (int k = 0; k < LANES; k++)
            rowmax[r] = lane[k] > rowmax[r] ? lane[k] : rowmax[r];
    }
    for (int64_t j = full; j < width; j++)
        column_group(x + j, GROUP, ld, cmin + j, cmax + j, csq + j, rowmax);
}

AVX2 static void columns_avx2(const float *x, int64_t rows, int64_t width, int64_t ld, float *cmin, float *cmax,
                              double *csq, float *rowmax)
{
    int64_t r = 0;
    for (; r + GROUP <= rows; r += GROUP)
        columns8_avx2(x + r * ld, width, ld, cmin, cmax, csq, rowmax + r);
    if (r < rows)
        columns_scalar(x + r * ld, rows - r, width, ld, cmin, cmax, csq, rowmax + r);
}

AVX2 static void shift_avx2(const float *x, int64_t n, const float *m, float c, double *s1, double *s2)
{
    const __m256 cc = _mm256_set1_ps(c);
    int64_t full = n & ~(int64_t)(LANES - 1);
    for (int64_t b = 0; b < full; b += FLUSH) {
        __m256 a1 = _mm256_setzero_ps(), a2 = _mm256_setzero_ps();
        int64_t e = b + FLUSH < full ? b + FLUSH : full;
        for (int64_t i = b; i < e; i += LANES) {
            __m256 d = _mm256_sub_ps(_mm256_sub_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(m + i)), cc);
            a1 = _mm256_add_ps(a1, d);
            a2 = _mm256_add_ps(a2, _mm256_mul_ps(d, d));
        }
        flush_avx2(s1, a1);
        flush_avx2(s2, a2);
    }
    if (full < n)
        shift_scalar(x + full, n - full, m + full, c, s1, s2);
}

/* Buckets of eight values. */
AVX2 static inline __m256i buckets_avx2(const float *x, __m256i base, __m128i shift, __m256i half)
{
    __m256i v = _mm256_loadu_si256((const __m256i *)x);
    __m256i a = _mm256_and_si256(v, _mm256_set1_epi32(0x7fffffff));
    __m256i t = _mm256_srl_epi32(_mm256_sub_epi32(_mm256_max_epu32(a, base), base), shift);
    return _mm256_add_epi32(_mm256_xor_si256(t, _mm256_srai_epi32(v, 31)), half);
}

AVX2 static void count_avx2(const float *x, int64_t n, KeyMap map, uint32_t *table)
{
    const __m256i base = _mm256_set1_epi32((int)map.base), half = _mm256_set1_epi32(map.half);
    const __m128i shift = _mm_cvtsi32_si128(map.shift);
    uint32_t b[2 * LANES];
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        _mm256_storeu_si256((__m256i *)b, buckets_avx2(x + i, base, shift, half));
        _mm256_storeu_si256((__m256i *)(b + LANES), buckets_avx2(x + i + LANES, base, shift, half));
        for (int k = 0; k < 2 * LANES; k++)
            table[b[k]]++;
    }
    count_scalar(x + i, n - i, map, table);
}

AVX2 static int64_t filter_avx2(const float *x, int64_t n, KeyMap map, const uint32_t *bits, float *out)
{
    const __m256i base = _mm256_set1_epi32((int)map.base), half = _mm256_set1_epi32(map.half);
    const __m128i shift = _mm_cvtsi32_si128(map.shift);
    uint32_t b[2 * LANES];
    int64_t i = 0, hits = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        _mm256_storeu_si256((__m256i *)b, buckets_avx2(x + i, base, shift, half));
        _mm256_storeu_si256((__m256i *)(b + LANES), buckets_avx2(x + i + LANES, base, shift, half));
        for (int k = 0; k < 2 * LANES; k++) {
            out[hits] = x[i + k];
            hits += bits[b[k] >> 5] >> (b[k] & 31) & 1;
        }
    }
    return hits + filter_scalar(x + i, n - i, map, bits, out + hits);
}

AVX2 static float select_avx2(const float *v, int n, int r)
{
    float pad[STAT_SELECT_MAX];
    int vectors = (n + LANES - 1) / LANES;
    memcpy(pad, v, (size_t)n * sizeof *pad);
    for (int k = n; k < vectors * LANES; k++)
        pad[k] = INFINITY;
    for (int i = 0; i < n; i++) {
        __m256 c = _mm256_set1_ps(pad[i]);
        __m256i below = _mm256_setzero_si256(), upto = below;
        for (int k = 0; k < vectors; k++) {
            __m256 x = _mm256_loadu_ps(pad + k * LANES);
            below = _mm256_sub_epi32(below, _mm256_castps_si256(_mm256_cmp_ps(x, c, _CMP_LT_OQ)));
            upto = _mm256_sub_epi32(upto, _mm256_castps_si256(_mm256_cmp_ps(x, c, _CMP_LE_OQ)));
        }
        /* both counts at once: sums of the lanes of below in the low half, of upto in the high half */
        __m256i s = _mm256_hadd_epi32(below, upto);
        s = _mm256_hadd_epi32(s, s);
        __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
        if (_mm_cvtsi128_si32(t) <= r && r < _mm_extract_epi32(t, 1))
            return pad[i];
    }
    return pad[0];
}

AVX2 static inline __m256 grid_error_avx2(__m256 w, __m256 s)
{
    const __m256 magic = _mm256_set1_ps(12582912.0f);
    __m256 q = _mm256_sub_ps(_mm256_add_ps(_mm256_div_ps(w, s), magic), magic);
    __m256 d = _mm256_sub_ps(w, _mm256_mul_ps(q, s));
    return _mm256_mul_ps(d, d);
}

AVX2 static void weight4_avx2(const float *w, int64_t in, const float *s8, const float *s4, float *c8, float *c4,
                              float *c2)
{
    int64_t full = in & ~(int64_t)(LANES - 1);
    for (int64_t j = 0; j < full; j += LANES) {
        __m256 e8[2], e4[2], q[2];
        for (int p = 0; p < 2; p++) {
            __m256 a = _mm256_loadu_ps(w + 2 * p * in + j), b = _mm256_loadu_ps(w + (2 * p + 1) * in + j);
            e8[p] = _mm256_add_ps(grid_error_avx2(a, _mm256_set1_ps(s8[2 * p])),
                                  grid_error_avx2(b, _mm256_set1_ps(s8[2 * p + 1])));
            e4[p] = _mm256_add_ps(grid_error_avx2(a, _mm256_set1_ps(s4[2 * p])),
                                  grid_error_avx2(b, _mm256_set1_ps(s4[2 * p + 1])));
            q[p] = _mm256_add_ps(_mm256_mul_ps(a, a), _mm256_mul_ps(b, b));
        }
        _mm256_storeu_ps(c8 + j, _mm256_add_ps(_mm256_loadu_ps(c8 + j), _mm256_add_ps(e8[0], e8[1])));
        _mm256_storeu_ps(c4 + j, _mm256_add_ps(_mm256_loadu_ps(c4 + j), _mm256_add_ps(e4[0], e4[1])));
        _mm256_storeu_ps(c2 + j, _mm256_add_ps(_mm256_loadu_ps(c2 + j), _mm256_add_ps(q[0], q[1])));
    }
    for (int64_t j = full; j < in; j++)
        weight_column(w + j, WGROUP, in, s8, s4, c8 + j, c4 + j, c2 + j);
}

AVX2 static void weight_avx2(const float *w, int64_t rows, int64_t in, const float *s8, const float *s4, float *c8,
                             float *c4, float *c2)
{
    int64_t r = 0;
    for (; r + WGROUP <= rows; r += WGROUP)
        weight4_avx2(w + r * in, in, s8 + r, s4 + r, c8, c4, c2);
    if (r < rows)
        weight_scalar(w + r * in, rows - r, in, s8 + r, s4 + r, c8, c4, c2);
}

static const StatKernels kernels_avx2 = {
    .name = "avx2",
    .scan = scan_avx2,
    .columns = columns_avx2,
    .shift = shift_avx2,
    .count = count_avx2,
    .filter = filter_avx2,
    .select = select_avx2,
    .weight = weight_avx2,
};

/* ---- AVX-512: the same but for what compressing and counting bits of masks make faster ---- */

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,popcnt")))
enum { WIDE = 16, RANGES = 5, PART = 4096, WORTH_RANGES = 4 * PART };

/* Words of `bits` with none set, [from, to). */
typedef struct Gap {
    int32_t from, to;
} Gap;

/* The RANGES - 1 widest gaps between words that have bits, widest first; *n of them. Gives the words from the first with
 * a bit to the last, empty if there is none. */
static Gap widest_gaps(const uint32_t *bits, int32_t words, Gap gap[RANGES], int *n)
{
    Gap all = {0, 0};
    *n = 0;
    for (int32_t w = 0; w < words; w++) {
        if (!bits[w])
            continue;
        Gap g = {all.to, w};
        if (!all.to)
            all.from = w;
        else if (g.to > g.from) {
            int i = *n;
            for (; i > 0 && gap[i - 1].to - gap[i - 1].from < g.to - g.from; i--)
                gap[i] = gap[i - 1];
            gap[i] = g;
            *n += *n < RANGES - 1;
        }
        all.to = w + 1;
    }
    return all;
}

/* Magnitude at which step t of a map begins, infinity beyond the last. */
static float step_begin(KeyMap map, int32_t t)
{
    uint64_t u = map.base + ((uint64_t)t << map.shift);
    uint32_t bits = u < 0x7f800000u ? (uint32_t)u : 0x7f800000u;
    float f;
    memcpy(&f, &bits, sizeof f);
    return t > 0 ? f : 0.0f;
}

/* Intervals that hold the values of all buckets whose bit is set; the others are [inf, -inf]. */
static void find_ranges(KeyMap map, const uint32_t *bits, float lo[RANGES], float hi[RANGES])
{
    Gap gap[RANGES];
    int n, r = 0;
    Gap left = widest_gaps(bits, (2 * map.half + 31) / 32, gap, &n);
    for (; r < RANGES && left.to > left.from; r++) {
        Gap next = {left.to, left.to};
        for (int i = 0; i < n; i++)
            if (gap[i].from > left.from && gap[i].from < next.from)
                next = gap[i];
        int32_t from = 32 * left.from, to = 32 * next.from; /* buckets [from, to) */
        lo[r] = from >= map.half ? step_begin(map, from - map.half) : -step_begin(map, map.half - from);
        hi[r] = to >= map.half ? step_begin(map, to - map.half) : -step_begin(map, map.half - to);
        left.from = next.to;
    }
    for (; r < RANGES; r++) {
        lo[r] = INFINITY;
        hi[r] = -INFINITY;
    }
}

/* The values that lie in one of the ranges, in their order; n is a multiple of WIDE. out: room for WIDE more. */
AVX512 static int64_t in_ranges(const float *x, int64_t n, const float *lo, const float *hi, float *out)
{
    __m512 a[RANGES], b[RANGES];
    int64_t hits = 0;
    for (int r = 0; r < RANGES; r++) {
        a[r] = _mm512_set1_ps(lo[r]);
        b[r] = _mm512_set1_ps(hi[r]);
    }
    for (int64_t i = 0; i < n; i += WIDE) {
        __m512 v = _mm512_loadu_ps(x + i);
        __mmask16 in = 0;
        UNROLL
        for (int r = 0; r < RANGES; r++)
            in |= _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(v, a[r], _CMP_GE_OQ), v, b[r], _CMP_LE_OQ);
        _mm512_storeu_ps(out + hits, _mm512_maskz_compress_ps(in, v));
        hits += _mm_popcnt_u32(in);
    }
    return hits;
}

/* Of many values few are picked, and those from both tails and around the quartiles: what lies far from them is passed over
 * before anything is looked up, as long as that keeps less than half. */
AVX512 static int64_t filter_avx512(const float *x, int64_t n, KeyMap map, const uint32_t *bits, float *out)
{
    if (n < WORTH_RANGES)
        return filter_avx2(x, n, map, bits, out);
    float lo[RANGES], hi[RANGES], part[PART + WIDE];
    int64_t i = 0, hits = 0, near = 0;
    find_ranges(map, bits, lo, hi);
    for (; i + PART <= n && near < PART / 2; i += PART) {
        near = in_ranges(x + i, PART, lo, hi, part);
        hits += filter_avx2(part, near, map, bits, out + hits);
    }
    return hits + filter_avx2(x + i, n - i, map, bits, out + hits);
}

AVX512 static float select_avx512(const float *v, int n, int r)
{
    float pad[STAT_SELECT_MAX];
    int vectors = (n + WIDE - 1) / WIDE;
    memcpy(pad, v, (size_t)n * sizeof *pad);
    for (int k = n; k < vectors * WIDE; k++)
        pad[k] = INFINITY;
    for (int i = 0; i < n; i++) {
        __m512 c = _mm512_set1_ps(pad[i]);
        int below = 0, upto = 0;
        for (int k = 0; k < vectors; k++) {
            __m512 x = _mm512_loadu_ps(pad + k * WIDE);
            below += _mm_popcnt_u32(_mm512_cmp_ps_mask(x, c, _CMP_LT_OQ));
            upto += _mm_popcnt_u32(_mm512_cmp_ps_mask(x, c, _CMP_LE_OQ));
        }
        if (below <= r && r < upto)
            return pad[i];
    }
    return pad[0];
}

static const StatKernels kernels_avx512 = {
    .name = "avx512",
    .scan = scan_avx2,
    .columns = columns_avx2,
    .shift = shift_avx2,
    .count = count_avx2,
    .filter = filter_avx512,
    .select = select_avx512,
    .weight = weight_avx2,
};
#endif

const StatKernels *stat_table(MathLevel l)
{
    if (!math_level_runs(l))
        return NULL;
#if defined(__x86_64__)
    if (l >= MATH_AVX512)
        return &kernels_avx512;
    if (l >= MATH_AVX2)
        return &kernels_avx2;
#endif
    return &kernels_scalar;
}

const StatKernels *stat_kernels(void)
{
    return stat_table(math_level());
}
