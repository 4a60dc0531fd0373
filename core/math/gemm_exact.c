/* Products whose sums are float64, k ascending, one accumulator an element: the same bytes on every processor. The bias
 * is added before the one rounding to float32. Panels stay float32 rows: as float64 in the kernel's order they would
 * take twice the room. */
#include "math/gemm.h"

#include <string.h>

#include "base/num.h"
#include "math/unroll.h"

/* Columns of k packed at a time: the packed columns of w stay in the first-level cache while all of x passes by, and the
 * sums are seldom loaded and stored. */
enum { KBLOCK = 256 };

typedef float F4 __attribute__((vector_size(16)));
typedef double D4 __attribute__((vector_size(32)));

static bool runs(void)
{
    return true;
}

static size_t scratch(int64_t m, int64_t n, int64_t k)
{
    (void)k;
    int64_t rows = round_up(m, EXACT_ROWS_STEP), cols = round_up(n, EXACT_COLS_STEP);
    return (size_t)(rows * cols + rows * KBLOCK + EXACT_COLS_STEP * KBLOCK) * sizeof(double);
}

static inline void widen4(const F4 *x, double *out)
{
    D4 d = __builtin_convertvector(*x, D4);
    memcpy(out, &d, sizeof d);
}

/* Four lines whose values lie side by side, transposed. */
static void pack_across(const float *x, int64_t sl, int64_t width, int64_t kn, double *out)
{
    int64_t k = 0;
    for (; k + 4 <= kn; k += 4) {
        F4 a, b, c, d;
        memcpy(&a, x + k, sizeof a);
        memcpy(&b, x + sl + k, sizeof b);
        memcpy(&c, x + 2 * sl + k, sizeof c);
        memcpy(&d, x + 3 * sl + k, sizeof d);
        F4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        F4 ef = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        F4 row[4] = {__builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                     __builtin_shufflevector(ef, gh, 0, 1, 4, 5), __builtin_shufflevector(ef, gh, 2, 3, 6, 7)};
        UNROLL
        for (int j = 0; j < 4; j++)
            widen4(&row[j], out + (k + j) * width);
    }
    for (; k < kn; k++)
        for (int i = 0; i < 4; i++)
            out[k * width + i] = (double)x[i * sl + k];
}

/* Four lines that lie side by side. */
static void pack_along(const float *x, int64_t sk, int64_t width, int64_t kn, double *out)
{
    for (int64_t k = 0; k < kn; k++) {
        F4 v;
        memcpy(&v, x + k * sk, sizeof v);
        widen4(&v, out + k * width);
    }
}

/* Lines [0, count) of k values each, `width` (a multiple of 4) of them side by side: [k][width]; lines from `count` on are
 * zero. Step from line to line sl, along k sk; one of the two is 1. */
static void pack(const float *from, int64_t sl, int64_t sk, int64_t count, int64_t width, int64_t kn, double *out)
{
    for (int64_t i = 0; i < width; i += 4, from += 4 * sl, out += 4)
        if (i + 4 <= count && sk == 1)
            pack_across(from, sl, width, kn, out);
        else if (i + 4 <= count)
            pack_along(from, sk, width, kn, out);
        else
            for (int64_t k = 0; k < kn; k++)
                for (int j = 0; j < 4; j++)
                    out[k * width + j] = i + j < count ? (double)from[j * sl + k * sk] : 0.0;
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
    int64_t xr = kern->exact_rows, wc = kern->exact_cols, rows = round_up(g->m, xr), cols = round_up(g->n, wc);
    double *c = scratch_bytes, *px = c + rows * cols, *pw = px + rows * KBLOCK; /* c: [cols / wc][rows / xr][xr][wc] */
    memset(c, 0, (size_t)(rows * cols) * sizeof *c);
    for (int64_t k0 = 0; k0 < g->k; k0 += KBLOCK) {
        int64_t kn = g->k - k0 < KBLOCK ? g->k - k0 : KBLOCK;
        for (int64_t i0 = 0; i0 < g->m; i0 += xr)
            pack(g->x + i0 * g->ldx + k0, g->ldx, 1, g->m - i0, xr, kn, px + i0 * kn);
        for (int64_t j0 = 0; j0 < g->n; j0 += wc) {
            pack(w + j0 * sj + k0 * sk, sj, sk, g->n - j0, wc, kn, pw);
            for (int64_t i0 = 0; i0 < rows; i0 += xr)
                kern->exact_tile(kn, px + i0 * kn, pw, c + j0 * rows + i0 * wc);
        }
    }
    for (int64_t j0 = 0; j0 < g->n; j0 += wc)
        for (int64_t i = 0; i < g->m; i++)
            for (int64_t j = j0; j < g->n && j < j0 + wc; j++)
                g->y[i * g->ldy + j] = finished(g, c[j0 * rows + i * wc + j - j0], i, j);
}

const GemmOps gemm_exact = {
    .name = "exact",
    .kind = GEMM_EXACT,
    .runs = runs,
    .panel_rows = 8,
    .in_place = true,
    .packed_bytes = gemm_rows_bytes,
    .takes = dtype_plain,
    .pack = gemm_pack_rows,
    .tile = tile,
    .scratch = scratch,
};
