/* Float32 products by OpenBLAS, where SLIMSCOPE_KERNELS asks for them: to compare with. It packs both operands itself on
 * every call, so a packed panel is its rows. */
#include "math/gemm.h"

#include <cblas.h>
#include <sys/mman.h>

/* OpenBLAS's own: what each caller of a product holds while it runs. A buffer stays mapped when it is let go, for the next
 * caller. Weak: a build that hides them takes its chance. */
extern void *blas_memory_alloc(int kind) __attribute__((weak));
extern void blas_memory_free(void *buffer) __attribute__((weak));

enum { CALLERS_MAX = 256 };

/* The largest that a build has by default, with a page for its alignment. */
#define BUFFER_BYTES (((size_t)128 << 20) + (64 << 10))

void gemm_single_thread(void)
{
    openblas_set_num_threads(1);
}

Status gemm_ready(int threads, Error *err)
{
    return math_openblas() ? gemm_callers(threads, err) : ST_OK;
}

Status gemm_callers(int threads, Error *err)
{
    if (!blas_memory_alloc || !blas_memory_free)
        return ST_OK;
    void *buffer[CALLERS_MAX];
    int n = 0;
    Status st = ST_OK;
    for (; n < threads && n < CALLERS_MAX && st == ST_OK; n++) {
        void *room = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room != MAP_FAILED)
            munmap(room, BUFFER_BYTES);
        buffer[n] = room == MAP_FAILED ? NULL : blas_memory_alloc(0);
        if (!buffer[n])
            st = error_set(err, ST_NOMEM,
                           "no address space for OpenBLAS's buffer of thread %d (128 MiB each): lower --threads, or raise "
                           "the limit (ulimit -v)",
                           n + 1);
    }
    while (n-- > 0)
        if (buffer[n])
            blas_memory_free(buffer[n]);
    return st;
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
    for (int64_t i = 0; i < g->m && g->bias; i++)
        math_fast()->add(g->y + i * g->ldy, g->bias, g->y + i * g->ldy, g->n);
}

/* What it touches of a thread's buffer of its own is counted as ours: both operands packed, whose steps in the shared
 * dimension are bounded. */
static size_t scratch_bytes(int64_t m, int64_t n, int64_t k)
{
    enum { EDGE = 16, LINE = 64, MOST = 8 << 20 };
    double bytes = (double)(m + n + 2 * EDGE) * (double)(k + EDGE) * sizeof(float);
    return bytes < MOST ? (size_t)bytes / LINE * LINE : MOST;
}

const GemmOps gemm_openblas = {
    .name = "openblas",
    .kind = GEMM_F32,
    .runs = math_openblas,
    .panel_rows = 64,
    .in_place = true,
    .packed_bytes = gemm_rows_bytes,
    .takes = dtype_plain,
    .pack = gemm_pack_rows,
    .tile = tile,
    .scratch = scratch_bytes,
};
