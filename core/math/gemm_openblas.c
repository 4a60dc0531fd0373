/* What OpenBLAS, whose LAPACK we use, has to be told. */
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
