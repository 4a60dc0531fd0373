/* What each kind of product reaches in each of its forms, and OpenBLAS, beside what the processor can do at most: JSON, a
 * line each, GFLOP/s by the CPU time of one thread; then the factor of gptq on all cores, by the CPU time of all. Others may use the machine, and its cores share their units: a peak is
 * looked at before every round, and the share is that of the same moments. usage: kernels [SIDE-OF-THE-FACTOR] */
#ifdef HAVE_OPENBLAS
#include <cblas.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "math/cholesky.h"
#include "math/cpu.h"
#include "math/gemm.h"
#include "tests/bench/peak.h"

enum { PANEL = 512, ROWS_MOST = 768, SIDE = 1024, FEW_SIDE = 2048 };
static const int few[] = {6, 16, 48, 128};
static const double least = 0.12; /* seconds of a measurement */

static const char *const kind_names[GEMM_KINDS] = {[GEMM_F32] = "f32", [GEMM_BF16] = "bf16", [GEMM_EXACT] = "exact"};

/* What bounds a product of this kind at this level; PEAKS: no instruction of its own. */
static PeakKind bound_of(GemmKind kind, MathLevel l)
{
    if (kind == GEMM_BF16 && l == MATH_AVX512BF16)
        return PEAK_BF16_512;
    if (l >= MATH_AVX512)
        return kind == GEMM_EXACT ? PEAK_F64_512 : PEAK_F32_512;
    if (l == MATH_AVX2)
        return kind == GEMM_EXACT ? PEAK_F64_256 : PEAK_F32_256;
    if (l == MATH_NEON)
        return kind == GEMM_EXACT ? PEAK_F64_NEON : PEAK_F32_NEON;
    return PEAKS;
}

typedef struct Bench {
    float *x, *y, *wide;    /* [ROWS_MOST][FEW_SIDE], [ROWS_MOST][PANEL], [FEW_SIDE][FEW_SIDE] */
    uint16_t *w;            /* the same in bf16, as a checkpoint has it */
    void *packed, *px, *scratch;
} Bench;

/* m rows times a square weight. */
typedef void ProductFn(const Bench *b, const GemmOps *g, int64_t m, int64_t side);

/* As a stage makes it: x packed once, then each panel packed and multiplied by all rows. */
static void product(const Bench *b, const GemmOps *g, int64_t m, int64_t side)
{
    DType t = g->takes(DT_BF16) ? DT_BF16 : DT_F32;
    const int64_t ldpx = g->row_bytes ? (int64_t)g->row_bytes(side) : 0;
    if (ldpx)
        g->pack_x(b->x, side, m, side, b->px, ldpx);
    for (int64_t n0 = 0; n0 < side; n0 += PANEL) {
        const void *w = t == DT_BF16 ? (const void *)(b->w + n0 * side) : (const void *)(b->wide + n0 * side);
        g->pack(t, w, PANEL, side, side, b->packed);
        GemmArgs a = {.m = m, .n = PANEL, .k = side, .x = b->x, .ldx = side, .packed = b->packed, .packed_n = PANEL,
                      .y = b->y, .ldy = PANEL, .px = ldpx ? b->px : NULL, .ldpx = ldpx};
        g->tile(&a, b->scratch);
    }
}

#ifdef HAVE_OPENBLAS
static void sgemm(const Bench *b, const GemmOps *g, int64_t m, int64_t side)
{
    (void)g;
    for (int64_t n0 = 0; n0 < side; n0 += PANEL)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)m, PANEL, (blasint)side, 1, b->x, (blasint)side,
                    b->wide + n0 * side, (blasint)side, 0, b->y, PANEL);
}
#endif

/* Measures and prints one. side: inputs and outputs. */
static void tell(const Bench *b, ProductFn *fn, const GemmOps *g, const char *kind, const char *level, PeakKind bound,
                 int64_t m, int64_t side)
{
    double took = 0, peak = 0, ops = 2e-9 * (double)m * (double)side * (double)side;
    int n = 0;
    fn(b, g, m, side); /* the first warms up */
    for (; n < 3 || took < least; n++) {
        peak += bound < PEAKS ? 1 / peak_gflops(bound) : 0;
        double begin = thread_seconds();
        fn(b, g, m, side);
        took += thread_seconds() - begin;
        if (took > 2)
            break;
    }
    n += took > 2; /* left in the middle */
    printf("{\"kind\":\"%s\",\"level\":\"%s\",\"rows\":%lld,\"side\":%lld,\"gflops\":%.2f", kind, level, (long long)m,
           (long long)side, n * ops / took);
    if (bound < PEAKS)
        printf(",\"bound\":\"%s\",\"share\":%.3f", peak_name(bound), ops * peak / took);
    puts("}");
    fflush(stdout);
}

static void level_rates(const Bench *b, MathLevel l, bool with_few)
{
    setenv("SLIMSCOPE_KERNELS", math_level_name(l), 1);
    for (int k = 0; k < GEMM_KINDS; k++) {
        const GemmOps *g = gemm_find((GemmKind)k);
        if (!g)
            continue;
        int64_t m = l <= MATH_GENERIC ? ROWS_MOST / 8 : ROWS_MOST;
        tell(b, product, g, kind_names[k], math_level_name(l), bound_of((GemmKind)k, l), m, SIDE);
        for (size_t i = 0; with_few && k != GEMM_EXACT && i < sizeof few / sizeof few[0]; i++)
            tell(b, product, g, kind_names[k], math_level_name(l), bound_of((GemmKind)k, l), few[i], FEW_SIDE);
    }
}

/* ---- the factor ---- */

static void read_row(void *ctx, int64_t i, int64_t j, int64_t m, double *row)
{
    (void)ctx;
    for (int64_t k = 0; k < m; k++)
        row[k] = i == j + k ? 2.0 : 0x1p-10;
}

static void drop_row(void *ctx, int64_t i, int64_t j, int64_t m, const double *row)
{
    (void)ctx;
    (void)i;
    (void)j;
    (void)m;
    (void)row;
}

static int tell_factor(int64_t n, MathLevel l)
{
    Pool *pool;
    Error err;
    bool definite;
    PeakKind bound = bound_of(GEMM_EXACT, l); /* float64, too */
    if (pool_new(&pool, 0, &err) != ST_OK)
        return 1;
    double peak = bound < PEAKS ? peak_gflops(bound) : 0, begin = process_seconds();
    Status st = cholesky_inverse(&(CholeskyTask){.n = n, .read = read_row, .write = drop_row, .pool = pool}, &definite, &err);
    double took = process_seconds() - begin, rate = 2e-9 / 3 * (double)n * (double)n * (double)n / took;
    peak = bound < PEAKS ? (peak + peak_gflops(bound)) / 2 : 0;
    printf("{\"kind\":\"factor\",\"level\":\"%s\",\"rows\":%lld,\"side\":%lld,\"gflops\":%.2f,\"cpu\":%.3f,\"threads\":%d",
           math_level_name(l), (long long)n, (long long)n, rate, took, pool_threads(pool));
    if (peak > 0)
        printf(",\"bound\":\"%s\",\"share\":%.3f", peak_name(bound), rate / peak);
    puts("}");
    pool_free(pool);
    return st != ST_OK || !definite;
}

static float value(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / 8388608.0f - 1.0f;
}

static bool make(Bench *b)
{
    size_t packed = 0, scratch = 64;
    for (int k = 0; k < GEMM_KINDS; k++) {
        const GemmOps *g = gemm_find((GemmKind)k);
        packed = g && g->packed_bytes(PANEL, FEW_SIDE) > packed ? g->packed_bytes(PANEL, FEW_SIDE) : packed;
        scratch = g && g->scratch(ROWS_MOST, PANEL, FEW_SIDE) > scratch ? g->scratch(ROWS_MOST, PANEL, FEW_SIDE) : scratch;
    }
    size_t nx = (size_t)ROWS_MOST * FEW_SIDE, nw = (size_t)FEW_SIDE * FEW_SIDE;
    b->x = mem_aligned(nx, sizeof *b->x);
    b->y = mem_aligned((size_t)ROWS_MOST * PANEL, sizeof *b->y);
    b->wide = mem_aligned(nw, sizeof *b->wide);
    b->w = mem_aligned(nw, sizeof *b->w);
    b->px = mem_aligned(nx, sizeof *b->x);
    b->packed = mem_aligned(packed, 1);
    b->scratch = mem_aligned(scratch, 1);
    if (!b->x || !b->y || !b->wide || !b->w || !b->px || !b->packed || !b->scratch)
        return false;
    unsigned seed = 1;
    for (size_t i = 0; i < nx; i++)
        b->x[i] = value(&seed);
    for (size_t i = 0; i < nw; i++) {
        uint32_t bits;
        b->wide[i] = value(&seed);
        memcpy(&bits, &b->wide[i], sizeof bits);
        bits &= 0xffff0000u;
        b->w[i] = (uint16_t)(bits >> 16);
        memcpy(&b->wide[i], &bits, sizeof bits);
    }
    return true;
}

int main(int argc, char **argv)
{
    Bench b = {0};
    unsetenv("SLIMSCOPE_KERNELS");
    MathLevel top = math_level();
#ifdef HAVE_OPENBLAS
    openblas_set_num_threads(1);
#endif
    if (!make(&b))
        return 1;
    for (int k = 0; k < PEAKS; k++)
        if (peak_runs((PeakKind)k))
            printf("{\"peak\":\"%s\",\"gflops\":%.1f}\n", peak_name((PeakKind)k), peak_gflops((PeakKind)k));
    for (int l = MATH_LEVELS; l-- > MATH_GENERIC;)
        if (math_level_runs((MathLevel)l))
            level_rates(&b, (MathLevel)l, (MathLevel)l == top);
#ifdef HAVE_OPENBLAS
    PeakKind bound = bound_of(GEMM_F32, top);
    tell(&b, sgemm, NULL, "openblas", openblas_get_corename(), bound, ROWS_MOST, SIDE);
    for (size_t i = 0; i < sizeof few / sizeof few[0]; i++)
        tell(&b, sgemm, NULL, "openblas", openblas_get_corename(), bound, few[i], FEW_SIDE);
#endif
    unsetenv("SLIMSCOPE_KERNELS");
    return tell_factor(argc > 1 ? atoi(argv[1]) : 4096, top);
}
