/* What OpenBLAS reaches on its own: the best float32 matrix product of M x K by N x K (a linear: y = x W^T) with its
 * own threads, in GFLOP/s, one figure on stdout. usage: gemm_peak [M N K [ROUNDS [THREADS]]] */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cblas.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *filled(size_t n, unsigned seed)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; x && i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
    return x;
}

int main(int argc, char **argv)
{
    int m = argc > 3 ? atoi(argv[1]) : 2048, n = argc > 3 ? atoi(argv[2]) : 3072, k = argc > 3 ? atoi(argv[3]) : 1024;
    int rounds = argc > 4 ? atoi(argv[4]) : 20;
    if (argc > 5)
        openblas_set_num_threads(atoi(argv[5]));
    float *x = filled((size_t)m * (size_t)k, 1), *w = filled((size_t)n * (size_t)k, 2),
        *y = filled((size_t)m * (size_t)n, 3);
    if (!x || !w || !y)
        return 1;
    double best = 0, total = 0;
    for (int i = 0; i <= rounds; i++) {
        double t = seconds();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0f, x, k, w, k, 0.0f, y, n);
        t = seconds() - t;
        double rate = 2e-9 * m * n * k / t;
        best = i > 0 && rate > best ? rate : best; /* the first round warms up */
        total += i > 0 ? t : 0;
    }
    printf("%.1f\n", best);
    fprintf(stderr, "best %.1f, mean %.1f GFLOP/s over %d rounds\n", best, 2e-9 * m * n * k * rounds / total, rounds);
    free(x);
    free(w);
    free(y);
    return 0;
}
