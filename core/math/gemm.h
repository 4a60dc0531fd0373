#ifndef SLIM_MATH_GEMM_H
#define SLIM_MATH_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "math/kernels.h"

/* Operands of y[m][n] = alpha * x[m][k]·w + beta * y (+ bias), all row-major, ld in elements. w is [n][k] (a weight:
 * rows are outputs), or [k][n] when `w_by_k`. */
typedef struct GemmArgs {
    int64_t m, n, k;
    const float *x;
    int64_t ldx;
    const float *w;
    int64_t ldw;
    bool w_by_k;
    /* instead of w: outputs [packed_first, packed_first + n) of a panel of packed_n outputs that pack has laid out */
    const void *packed;
    int64_t packed_n, packed_first;
    const void *px;           /* x as pack_x has laid it out, rows ldpx bytes apart; NULL: it is done on the way */
    int64_t ldpx;
    const float *bias;        /* [n], or NULL */
    float *y;
    int64_t ldy;
    float alpha;              /* 0 stands for 1 */
    float beta;               /* 0: y is not read */
    const MathKernels *kern;  /* forms to compute with, NULL: math_fast() */
} GemmArgs;

typedef enum GemmKind {
    GEMM_F32,   /* float32 sums in the order of math/tile.h */
    GEMM_BF16,  /* operands rounded to bf16, float32 sums in the order of math/tile.h */
    GEMM_EXACT, /* float64 sums, k ascending, rounded once */
    GEMM_KINDS
} GemmKind;

/* How products of matrices are computed: a row of gemm_table. Of all rows but OpenBLAS's an element has the same bytes on
 * every processor, whatever the tiles. Everything is one thread's; nothing allocates. */
typedef struct GemmOps {
    const char *name;
    GemmKind kind;
    bool (*runs)(void);       /* on this processor, in this build */
    int64_t panel_rows;       /* panels of a weight have a multiple of so many outputs, a divisor of 64 */
    /* A weight's panel in a layout of its own, made once and multiplied many times: bytes of n outputs with k inputs;
     * whether pack reads values of this dtype (F32 always); pack: w [n][k] into `packed` (64-byte aligned), which may
     * be w itself when in_place. */
    bool in_place;
    size_t (*packed_bytes)(int64_t n, int64_t k);
    bool (*takes)(DType t);
    void (*pack)(DType t, const void *w, int64_t n, int64_t k, int64_t ldw, void *packed);
    /* In place of pack, for a panel that is multiplied once, by few rows: w, of a dtype that pack takes, stays where it is
     * until then, and is laid out piece by piece on the way. Whether it did; NULL: it can't. */
    bool (*wrap)(DType t, const void *w, int64_t n, int64_t k, int64_t ldw, void *packed);
    /* The same as pack of float32 w [k][ldw]: inputs are rows. A product may use the first of its k alone. NULL: there is
     * none. */
    void (*pack_by_k)(const float *w, int64_t n, int64_t k, int64_t ldw, void *packed);
    /* x in a layout of its own, made once for all panels: bytes of a row of k values (a multiple of 4), 0: x is taken as it
     * is. pack_x: x [m][ldx] to rows ld bytes apart, which may be x itself where they are not longer. */
    size_t (*row_bytes)(int64_t k);
    void (*pack_x)(const float *x, int64_t ldx, int64_t m, int64_t k, void *to, int64_t ld);
    /* y as above, from w or from a packed panel. */
    void (*tile)(const GemmArgs *g, void *scratch);
    /* Bytes of scratch (a multiple of 64, aligned to 16) that products up to this size need. Grow with every argument. */
    size_t (*scratch)(int64_t m, int64_t n, int64_t k);
} GemmOps;
extern const GemmOps gemm_openblas, gemm_f32, gemm_bf16, gemm_exact;
extern const GemmOps *const gemm_table[]; /* NULL-terminated (core/registry.c) */
/* The first row of this kind that runs here, NULL: there is none. */
const GemmOps *gemm_find(GemmKind kind);

/* Packing for rows of the table that multiply a weight as it lies: float32 [n][k]. */
size_t gemm_rows_bytes(int64_t n, int64_t k);
void gemm_pack_rows(DType t, const void *w, int64_t n, int64_t k, int64_t ldw, void *packed);

/* OpenBLAS keeps to the calling thread from here on (the pool owns the cores). */
void gemm_single_thread(void);
/* Where its products are asked for, has OpenBLAS map what `threads` (1 to 256) callers at a time need: once for a pool,
 * before its first product. Without room for that in the address space OpenBLAS would ask for ever; here it is ST_NOMEM. */
Status gemm_ready(int threads, Error *err);
/* The same for who calls its LAPACK from tasks of a pool, whatever multiplies otherwise. */
Status gemm_callers(int threads, Error *err);

#endif
