/* The innermost loops of products, written once and compiled for several processors: the including file defines
 *   TILE_TARGET      function attribute
 *   TILE_WIDE        vectors of a wide panel (a narrow one has one)
 *   V, VI            vectors of TILE_LANES floats, and of as many 32-bit words
 *   V_ZERO() V_LOAD(p) (aligned) V_LOADU(p) V_STOREU(p, v) V_SPLAT(float) V_ADD(a, b) V_FMA(a, b, c) = a * b + c
 *   VI_LOAD(p) VI_SPLAT(uint32_t) V_HIGH(words) V_LOW(words): the odd and the even bf16 of each word as float32
 *   TILE_FENCE() between the even and the odd step of a pair: nothing, or what keeps the loads of both apart
 *   V_PAIRS(acc, words x, words w): both steps of bf16 over pairs, where the processor has it
 *   V_STEP(a, b, c) V_FLUSH(v): a step of bf16 and what it flushes, where flush_begin cannot have the processor do it
 * Not a header to include elsewhere. */
#include <string.h>

#include "math/unroll.h"

#define TILE_INLINE TILE_TARGET static inline __attribute__((always_inline))

#ifndef V_STEP
#define V_STEP(a, b, c) V_FMA(a, b, c)
#define V_FLUSH(v) (v)
#endif

/* acc[rows][cols] to y, which they are added to when `add`. */
TILE_INLINE void put(const TileCall *c, const int rows, const int cols, const int flush, V acc[TILE_ROWS][TILE_WIDE])
{
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int j = 0; j < cols; j++) {
            float *y = c->y + i * c->ldy + j * TILE_LANES;
            V sum = c->add ? V_ADD(V_LOADU(y), acc[i][j]) : acc[i][j];
            V_STOREU(y, flush ? V_FLUSH(sum) : sum);
        }
}

TILE_INLINE void clear(const int rows, const int cols, V acc[TILE_ROWS][TILE_WIDE])
{
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int j = 0; j < cols; j++)
            acc[i][j] = V_ZERO();
}

TILE_INLINE void f32_body(const TileCall *c, const int rows, const int cols)
{
    V acc[TILE_ROWS][TILE_WIDE], w[TILE_WIDE];
    const float *x[TILE_ROWS], *p = c->w;
    clear(rows, cols, acc);
    UNROLL
    for (int i = 0; i < rows; i++)
        x[i] = (const float *)c->x + i * c->ldx;
    for (int64_t k = 0; k < c->k; k++, p += cols * TILE_LANES) {
        UNROLL
        for (int j = 0; j < cols; j++)
            w[j] = V_LOAD(p + j * TILE_LANES);
        UNROLL
        for (int i = 0; i < rows; i++) {
            V v = V_SPLAT(x[i][k]);
            UNROLL
            for (int j = 0; j < cols; j++)
                acc[i][j] = V_FMA(v, w[j], acc[i][j]);
        }
    }
    put(c, rows, cols, 0, acc);
}

/* One product of each pair: the even or the odd one. */
TILE_INLINE void half_step(const int rows, const int cols, const int odd, const int flush,
                           const float *const x[TILE_ROWS], int64_t k, const uint32_t *p, V acc[TILE_ROWS][TILE_WIDE])
{
    V w[TILE_WIDE];
    UNROLL
    for (int j = 0; j < cols; j++) {
        w[j] = odd ? V_HIGH(VI_LOAD(p + j * TILE_LANES)) : V_LOW(VI_LOAD(p + j * TILE_LANES));
        w[j] = flush ? V_FLUSH(w[j]) : w[j];
    }
    UNROLL
    for (int i = 0; i < rows; i++) {
        V v = V_SPLAT(x[i][k + odd]);
        UNROLL
        for (int j = 0; j < cols; j++)
            acc[i][j] = flush ? V_STEP(v, w[j], acc[i][j]) : V_FMA(v, w[j], acc[i][j]);
    }
}

TILE_INLINE void f32_pairs_body(const TileCall *c, const int rows, const int cols)
{
    V acc[TILE_ROWS][TILE_WIDE];
    const float *x[TILE_ROWS];
    const uint32_t *p = c->w;
    int64_t k = 0;
    clear(rows, cols, acc);
    UNROLL
    for (int i = 0; i < rows; i++)
        x[i] = (const float *)c->x + i * c->ldx;
    for (; k + 1 < c->k; k += 2, p += cols * TILE_LANES) {
        half_step(rows, cols, 0, 0, x, k, p, acc);
        TILE_FENCE(); /* or they fill the registers that the sums need */
        half_step(rows, cols, 1, 0, x, k, p, acc);
    }
    if (k < c->k)
        half_step(rows, cols, 0, 0, x, k, p, acc);
    put(c, rows, cols, 0, acc);
}

#ifdef V_PAIRS
/* The bf16 pair of x at k. */
static inline uint32_t pair_at(const uint16_t *x, int64_t k)
{
    uint32_t p;
    memcpy(&p, x + k, sizeof p);
    return p;
}

TILE_INLINE void bf16_body(const TileCall *c, const int rows, const int cols)
{
    V acc[TILE_ROWS][TILE_WIDE];
    VI w[TILE_WIDE];
    const uint16_t *x[TILE_ROWS];
    const uint32_t *p = c->w;
    clear(rows, cols, acc);
    UNROLL
    for (int i = 0; i < rows; i++)
        x[i] = (const uint16_t *)c->x + i * c->ldx;
    for (int64_t k = 0; k < c->k; k += 2, p += cols * TILE_LANES) {
        UNROLL
        for (int j = 0; j < cols; j++)
            w[j] = VI_LOAD(p + j * TILE_LANES);
        UNROLL
        for (int i = 0; i < rows; i++) {
            VI v = VI_SPLAT(pair_at(x[i], k));
            UNROLL
            for (int j = 0; j < cols; j++)
                acc[i][j] = V_PAIRS(acc[i][j], v, w[j]);
        }
    }
    put(c, rows, cols, 1, acc);
}
#else
TILE_INLINE void bf16_body(const TileCall *c, const int rows, const int cols)
{
    V acc[TILE_ROWS][TILE_WIDE];
    const float *x[TILE_ROWS];
    const uint32_t *p = c->w;
    clear(rows, cols, acc);
    UNROLL
    for (int i = 0; i < rows; i++)
        x[i] = (const float *)c->x + i * c->ldx;
    for (int64_t k = 0; k < c->k; k += 2, p += cols * TILE_LANES) {
        half_step(rows, cols, 1, 1, x, k, p, acc);
        TILE_FENCE();
        half_step(rows, cols, 0, 1, x, k, p, acc);
    }
    put(c, rows, cols, 1, acc);
}
#endif

#define TILE_CASES(name, cols)            \
    switch (c->rows) {                    \
    case 1: name##_body(c, 1, cols); break; \
    case 2: name##_body(c, 2, cols); break; \
    case 3: name##_body(c, 3, cols); break; \
    case 4: name##_body(c, 4, cols); break; \
    case 5: name##_body(c, 5, cols); break; \
    default: name##_body(c, 6, cols); break; \
    }

#define TILE_FN(name)                             \
    TILE_TARGET static void name(const TileCall *c) \
    {                                             \
        if (c->wide) {                            \
            TILE_CASES(name, TILE_WIDE)           \
        } else {                                  \
            TILE_CASES(name, 1)                   \
        }                                         \
    }
TILE_FN(f32)
TILE_FN(f32_pairs)
TILE_FN(bf16)
