/* Products whose sums are float64, k ascending, one accumulator an element: the same bytes on every processor. The bias
 * is added before the one rounding to float32. Panels stay float32 rows: as float64 in the kernel's order they would
 * take twice the room. */
#include "math/gemm.h"

#include <string.h>

/* Columns of k packed at a time: the packed panel of w stays in the first-level cache. */
enum { KBLOCK = 512 };

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static bool runs(void)
{
    return true;
}

static size_t scratch(int64_t m, int64_t n, int64_t k)
{
    (void)k;
    int64_t rows = round_up(m, EXACT_ROWS), cols = round_up(n, EXACT_COLS);
    return (size_t)(rows * cols + rows * KBLOCK + EXACT_COLS * KBLOCK) * sizeof(double);
}

/* x[rows][kn] to groups of EXACT_ROWS rows, [group][k][row]; missing rows are zero. */
static void pack_x(const GemmArgs *g, int64_t k0, int64_t kn, double *out)
{
    for (int64_t i0 = 0; i0 < g->m; i0 += EXACT_ROWS, out += EXACT_ROWS * kn)
        for (int64_t i = 0; i < EXACT_ROWS; i++) {
            const float *x = g->x + (i0 + i) * g->ldx + k0;
            for (int64_t k = 0; k < kn; k++)
                out[k * EXACT_ROWS + i] = i0 + i < g->m ? (double)x[k] : 0.0;
        }
}

/* Outputs [j0, j0+EXACT_COLS) to [k][col]; missing outputs are zero. Step from output to output sj, along k sk. */
static void pack_w(const GemmArgs *g, const float *from, int64_t sj, int64_t sk, int64_t j0, int64_t k0, int64_t kn,
                   double *out)
{
    int64_t cols = g->n - j0 < EXACT_COLS ? g->n - j0 : EXACT_COLS;
    for (int64_t j = 0; j < EXACT_COLS; j++) {
        const float *w = from + (j0 + j) * sj + k0 * sk;
        for (int64_t k = 0; k < kn; k++)
            out[k * EXACT_COLS + j] = j < cols ? (double)w[k * sk] : 0.0;
    }
}

static float finished(const GemmArgs *g, double sum, int64_t i, int64_t j)
{
    if (g->alpha != 0)
        sum *= (double)g->alpha;
    if (g->beta != 0)
        sum += (double)g->beta * (double)g->y[i * g->ldy + j];
    return (float)(sum + (g->bias ? (double)g->bias[j] : 0.0));
}

static void tile(const GemmArgs *g, void *scratch_bytes)
{
    const MathKernels *kern = g->kern ? g->kern : math_fast();
    const float *w = g->packed ? (const float *)g->packed + g->packed_first * g->k : g->w;
    int64_t sj = g->packed ? g->k : g->w_by_k ? 1 : g->ldw, sk = !g->packed && g->w_by_k ? g->ldw : 1;
    int64_t rows = round_up(g->m, EXACT_ROWS), cols = round_up(g->n, EXACT_COLS);
    double *c = scratch_bytes, *px = c + rows * cols, *pw = px + rows * KBLOCK;
    memset(c, 0, (size_t)(rows * cols) * sizeof *c);
    for (int64_t k0 = 0; k0 < g->k; k0 += KBLOCK) {
        int64_t kn = g->k - k0 < KBLOCK ? g->k - k0 : KBLOCK;
        pack_x(g, k0, kn, px);
        for (int64_t j0 = 0; j0 < g->n; j0 += EXACT_COLS) {
            pack_w(g, w, sj, sk, j0, k0, kn, pw);
            for (int64_t i0 = 0; i0 < rows; i0 += EXACT_ROWS)
                kern->exact_tile(kn, px + i0 * kn, pw, c + i0 * cols + j0, cols);
        }
    }
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++)
            g->y[i * g->ldy + j] = finished(g, c[i * cols + j], i, j);
}

const GemmOps gemm_exact = {
    .name = "exact",
    .kind = GEMM_EXACT,
    .runs = runs,
    .panel_rows = EXACT_COLS,
    .in_place = true,
    .packed_bytes = gemm_rows_bytes,
    .takes = dtype_plain,
    .pack = gemm_pack_rows,
    .tile = tile,
    .scratch = scratch,
};
