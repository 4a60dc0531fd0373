#include "math/gemmspeed.h"

#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "math/gemm.h"

enum { ROWS = 64, OUTPUTS = 64, INPUTS = 512, TRIES = 40, LEAST = 5 };

typedef struct Probe {
    const GemmOps *ops;
    size_t scratch;      /* bytes */
    double *speed;       /* [threads] */
} Probe;

/* Seconds of CPU time that this thread took: others on its core don't count. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of the best of several tries: the first ones wait for memory, and clocks rise. */
static double best_of(const GemmOps *ops, const GemmArgs *g, void *scratch)
{
    double best = 0;
    for (int i = 0; i < TRIES; i++) {
        const double begin = cpu_seconds();
        for (int k = 0; k < LEAST; k++)
            ops->tile(g, scratch);
        const double rate = LEAST / (cpu_seconds() - begin + 1e-9);
        best = rate > best ? rate : best;
    }
    return best;
}

static void probe_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Probe *p = ctx;
    const size_t nx = (size_t)ROWS * INPUTS, ny = (size_t)ROWS * OUTPUTS;
    float *x = mem_aligned(nx + ny, sizeof *x);
    void *w = mem_aligned(p->ops->packed_bytes(OUTPUTS, INPUTS), 1), *scratch = mem_aligned(p->scratch, 1);
    if (x && w && scratch) {
        for (size_t i = 0; i < nx; i++)
            x[i] = (float)(i % 7) - 3;
        p->ops->pack(DT_F32, x, OUTPUTS, INPUTS, INPUTS, w);
        const GemmArgs g = {.m = ROWS, .n = OUTPUTS, .k = INPUTS, .x = x, .ldx = INPUTS, .packed = w, .packed_n = OUTPUTS,
                            .y = x + nx, .ldy = OUTPUTS};
        p->speed[index] = best_of(p->ops, &g, scratch);
    }
    free(x);
    free(w);
    free(scratch);
}

double gemm_speed(Pool *pool)
{
    const int n = pool_threads(pool);
    double sum = 1;
    Probe p = {.ops = gemm_find(GEMM_F32), .speed = mem_zarray((size_t)n, sizeof *p.speed)};
    p.scratch = p.ops->scratch(ROWS, OUTPUTS, INPUTS);
    if (p.speed)
        pool_run(pool, PHASE_OTHER, n, probe_task, &p, NULL);
    for (int i = 0; p.speed && i < n; i++)
        sum += p.speed[i];
    free(p.speed);
    return sum;
}
