#ifndef SLIM_MATH_TILE_H
#define SLIM_MATH_TILE_H

#include <stdbool.h>
#include <stdint.h>

#include "math/cpu.h"

/* The innermost loops of products y = x·w^T, once for each kind of processor. A product is the same chain of fused
 * multiply-adds in all of them, whatever the tile:
 *   f32:  c_j = the chain over TILE_CHUNK products, k ascending, from +0
 *   bf16: the same over pairs (2t, 2t + 1), the odd one first, where an input, a step and a sum below 2^-126 count as 0 of
 *         its sign (VDPBF16PS; DAZ and FTZ of x86); an odd k is padded by a zero
 *   y = ((c_0 + c_1) + c_2) + ...
 * so their results have the same bits. NaN is NaN, of no certain payload. */
enum {
    TILE_ROWS = 6,    /* rows of x that one call takes at most */
    TILE_CHUNK = 256, /* products of one chain; even */
    TILE_COLS_MAX = 64
};

/* One call: rows (1 to TILE_ROWS) of x times one panel of w, k products (at most TILE_CHUNK); y[rows][cols] = c, or
 * y + c when `add`. cols: those of the panel, wide or narrow. */
typedef struct TileCall {
    int rows;
    bool wide, add;
    int64_t k;
    const void *x;  /* float32; for bf16 products rounded, as TileOps.x_halves says, and a zero behind an odd k */
    int64_t ldx;    /* elements */
    const void *w;  /* 64-byte aligned (32 for narrow panels): see TileOps.pack */
    float *y;
    int64_t ldy;
} TileCall;

typedef void TileFn(const TileCall *c);

/* One kind of processor. Nothing allocates; a bf16 product stands between flush_begin and flush_end. */
typedef struct TileOps {
    int wide, narrow;  /* outputs of a wide and of a narrow panel; wide is a multiple of narrow */
    TileFn *f32;       /* f32 x, w of float32 words */
    TileFn *f32_pairs; /* f32 x, w of pairs of bf16 */
    TileFn *bf16;      /* rounded x, w of pairs of bf16 */
    bool x_halves;     /* which are bf16 then, not float32 that hold bf16 */
    /* out[word][cols] = word `word` of row j, zero for rows from n on: 32-bit words (float32, or pairs of bf16 with the
     * even one low) of rows that are `stride` bytes apart and need no alignment. */
    void (*pack)(const void *w, int64_t stride, int64_t n, int64_t words, int cols, uint32_t *out);
    /* n float32 to bf16, to nearest, ties to even; below 2^-126 to 0 of its sign. */
    void (*round)(const float *x, int64_t n, uint16_t *out);
    /* Lets the processor flush as above, until the end; NULL: bf16 does it itself. Gives what flush_end restores. */
    unsigned (*flush_begin)(void);
    void (*flush_end)(unsigned before);
} TileOps;

/* What a level computes with; only where math_level_runs. The lowest two are the definition in plain C. */
const TileOps *tile_ops(MathLevel l);

extern const TileOps tile_generic;
#if defined(__x86_64__)
extern const TileOps tile_avx2, tile_avx512, tile_avx512bf16;
#elif defined(__aarch64__)
extern const TileOps tile_neon;
#endif

#endif
