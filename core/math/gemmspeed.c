#include "math/gemmspeed.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "math/gemm.h"

enum { ROWS = 64, OUTPUTS = 64, INPUTS = 512, MILLISECONDS = 30 };

typedef struct Probe {
    const GemmOps *ops;
    int64_t until;
    size_t scratch;      /* bytes */
    atomic_llong done;   /* products */
} Probe;

static void probe_task(void *ctx, int64_t index, int worker)
{
    (void)index, (void)worker;
    Probe *p = ctx;
    const size_t nx = (size_t)ROWS * INPUTS, ny = (size_t)ROWS * OUTPUTS;
    float *x = mem_aligned(nx + ny, sizeof *x);
    void *w = mem_aligned(p->ops->packed_bytes(OUTPUTS, INPUTS), 1), *scratch = mem_aligned(p->scratch, 1);
    if (x && w && scratch) {
        for (size_t i = 0; i < nx; i++)
            x[i] = (float)(i % 7) - 3;
        p->ops->pack(DT_F32, x, OUTPUTS, INPUTS, INPUTS, w);
        const GemmArgs g = {.m = ROWS, .n = OUTPUTS, .k = INPUTS, .x = x, .ldx = INPUTS, .packed = w, .packed_n = OUTPUTS,
                            .y = x + nx, .ldy = OUTPUTS};
        for (; clock_ns() < p->until; atomic_fetch_add(&p->done, 1))
            p->ops->tile(&g, scratch);
    }
    free(x);
    free(w);
    free(scratch);
}

double gemm_speed(Pool *pool)
{
    Probe p = {.ops = gemm_find(GEMM_F32), .until = clock_ns() + MILLISECONDS * (int64_t)1000000};
    p.scratch = p.ops->scratch(ROWS, OUTPUTS, INPUTS);
    pool_run(pool, PHASE_OTHER, pool_threads(pool), probe_task, &p, NULL);
    return (double)atomic_load(&p.done) + 1;
}
