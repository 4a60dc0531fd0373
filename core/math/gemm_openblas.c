/* Float32 products by OpenBLAS. It packs both operands itself on every call, so a packed panel is its rows. */
#include "math/gemm.h"

#include <cblas.h>

void gemm_single_thread(void)
{
    openblas_set_num_threads(1);
}

static bool runs(void)
{
    return true;
}

static void tile(const GemmArgs *g, void *scratch)
{
    (void)scratch;
    if (g->m <= 0 || g->n <= 0)
        return;
    const float *w = g->packed ? (const float *)g->packed + g->packed_first * g->k : g->w;
    int64_t ldw = g->packed ? g->k : g->ldw;
    bool by_k = !g->packed && g->w_by_k;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, by_k ? CblasNoTrans : CblasTrans, (blasint)g->m, (blasint)g->n,
                (blasint)g->k, g->alpha == 0 ? 1.0f : g->alpha, g->x, (blasint)g->ldx, w, (blasint)ldw, g->beta, g->y,
                (blasint)g->ldy);
    const MathKernels *kern = g->kern ? g->kern : math_fast();
    for (int64_t i = 0; i < g->m && g->bias; i++)
        kern->add(g->y + i * g->ldy, g->bias, g->y + i * g->ldy, g->n);
}

static size_t scratch(int64_t m, int64_t n, int64_t k)
{
    (void)m;
    (void)n;
    (void)k;
    return 0;
}

/* What it touches of a thread's buffer: both operands packed, whose steps in the shared dimension are bounded. */
static size_t own(int64_t m, int64_t n, int64_t k)
{
    enum { EDGE = 16, MOST = 8 << 20 };
    double bytes = (double)(m + n + 2 * EDGE) * (double)(k + EDGE) * sizeof(float);
    return bytes < MOST ? (size_t)bytes : MOST;
}

const GemmOps gemm_openblas = {
    .name = "openblas",
    .runs = runs,
    .panel_rows = 64,
    .in_place = true,
    .packed_bytes = gemm_rows_bytes,
    .takes = dtype_plain,
    .pack = gemm_pack_rows,
    .tile = tile,
    .scratch = scratch,
    .own = own,
};
