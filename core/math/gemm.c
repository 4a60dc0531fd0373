#include "math/gemm.h"

#include <string.h>

#include <cblas.h>

/* Columns of k packed at a time: the packed panel of w stays in the first-level cache. */
enum { KBLOCK = 512 };

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

void gemm_single_thread(void)
{
    openblas_set_num_threads(1);
}

static void sgemm(const GemmArgs *g, float alpha, float beta)
{
    if (g->m <= 0 || g->n <= 0)
        return;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, g->w_by_k ? CblasNoTrans : CblasTrans, (blasint)g->m, (blasint)g->n,
                (blasint)g->k, alpha, g->x, (blasint)g->ldx, g->w, (blasint)g->ldw, beta, g->y, (blasint)g->ldy);
}

void gemm_f32(const GemmArgs *g, float alpha)
{
    sgemm(g, alpha, 0.0f);
}

void gemm_subtract_f32(const GemmArgs *g)
{
    sgemm(g, -1.0f, 1.0f);
}

size_t gemm_exact_scratch(int64_t m, int64_t n)
{
    int64_t rows = round_up(m, EXACT_ROWS), cols = round_up(n, EXACT_COLS);
    return (size_t)(rows * cols + rows * KBLOCK + EXACT_COLS * KBLOCK);
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

/* Outputs [j0, j0+EXACT_COLS) to [k][col]; missing outputs are zero. */
static void pack_w(const GemmArgs *g, int64_t j0, int64_t k0, int64_t kn, double *out)
{
    int64_t sj = g->w_by_k ? 1 : g->ldw, sk = g->w_by_k ? g->ldw : 1;
    int64_t cols = g->n - j0 < EXACT_COLS ? g->n - j0 : EXACT_COLS;
    for (int64_t j = 0; j < EXACT_COLS; j++) {
        const float *w = g->w + (j0 + j) * sj + k0 * sk;
        for (int64_t k = 0; k < kn; k++)
            out[k * EXACT_COLS + j] = j < cols ? (double)w[k * sk] : 0.0;
    }
}

void gemm_exact(const MathKernels *kern, const GemmArgs *g, const float *bias, double *scratch)
{
    int64_t rows = round_up(g->m, EXACT_ROWS), cols = round_up(g->n, EXACT_COLS);
    double *c = scratch, *px = c + rows * cols, *pw = px + rows * KBLOCK;
    memset(c, 0, (size_t)(rows * cols) * sizeof *c);
    for (int64_t k0 = 0; k0 < g->k; k0 += KBLOCK) {
        int64_t kn = g->k - k0 < KBLOCK ? g->k - k0 : KBLOCK;
        pack_x(g, k0, kn, px);
        for (int64_t j0 = 0; j0 < g->n; j0 += EXACT_COLS) {
            pack_w(g, j0, k0, kn, pw);
            for (int64_t i0 = 0; i0 < rows; i0 += EXACT_ROWS)
                kern->exact_tile(kn, px + i0 * kn, pw, c + i0 * cols + j0, cols);
        }
    }
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++)
            g->y[i * g->ldy + j] = (float)(c[i * cols + j] + (bias ? (double)bias[j] : 0.0));
}
