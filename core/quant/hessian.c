#include "quant/hessian.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/gemm.h"

/* Rows are taken in chunks; for each the tiles of the upper triangle add their share. A tile belongs to one task and
 * chunks follow one another, so the order of every sum is fixed. */
enum { CHUNK = 512, FILL = 64, TILE = 256 };

typedef struct Gather {
    HessianRows *fill;
    void *ctx;
    int64_t in, row0, rows; /* of the chunk */
    float *x, *xt;          /* [CHUNK][in], [in][CHUNK] */
    float *tile;            /* [threads][TILE * TILE] */
    float *h, scale;
    int64_t tiles;          /* along one side */
} Gather;

static void fill_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    Gather *g = ctx;
    int64_t a = index * FILL, n = g->rows - a < FILL ? g->rows - a : FILL;
    g->fill(g->ctx, g->row0 + a, n, g->x + a * g->in);
    for (int64_t r = a; r < a + n; r++)
        for (int64_t k = 0; k < g->in; k++)
            g->xt[k * CHUNK + r] = g->x[r * g->in + k];
}

/* Rows and columns of tile `index` of the upper triangle. */
static void tile_of(const Gather *g, int64_t index, int64_t *r, int64_t *c)
{
    int64_t row = 0;
    while (index >= g->tiles - row)
        index -= g->tiles - row++;
    *r = row * TILE;
    *c = (row + index) * TILE;
}

static int64_t side(const Gather *g, int64_t at)
{
    return g->in - at < TILE ? g->in - at : TILE;
}

static void add_task(void *ctx, int64_t index, int worker)
{
    Gather *g = ctx;
    int64_t r, c;
    tile_of(g, index, &r, &c);
    float *y = g->tile + (int64_t)worker * TILE * TILE;
    GemmArgs a = {.m = side(g, r), .n = side(g, c), .k = g->rows, .x = g->xt + r * CHUNK, .ldx = CHUNK,
                  .w = g->xt + c * CHUNK, .ldw = CHUNK, .y = y, .ldy = TILE};
    gemm_f32(&a, 1.0f);
    for (int64_t i = 0; i < a.m; i++)
        for (int64_t j = 0; j < a.n; j++)
            g->h[(r + i) * g->in + c + j] += y[i * TILE + j];
}

static void finish_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    Gather *g = ctx;
    int64_t r, c;
    tile_of(g, index, &r, &c);
    for (int64_t i = r; i < r + side(g, r); i++)
        for (int64_t j = i > c ? i : c; j < c + side(g, c); j++) {
            float v = g->h[i * g->in + j] * g->scale;
            g->h[i * g->in + j] = v;
            g->h[j * g->in + i] = v;
        }
}

Status hessian_gather(HessianRows *fill, void *ctx, int64_t rows, int64_t in, Pool *pool, const Cancel *cancel,
                      float *h, Error *err)
{
    Gather g = {.fill = fill, .ctx = ctx, .in = in, .h = h, .scale = 2.0f / (float)rows,
                .tiles = (in + TILE - 1) / TILE};
    size_t threads = (size_t)pool_threads(pool);
    g.x = mem_aligned((size_t)in * CHUNK, sizeof *g.x);
    g.xt = mem_aligned((size_t)in * CHUNK, sizeof *g.xt);
    g.tile = mem_aligned(threads * TILE * TILE, sizeof *g.tile);
    Status st = g.x && g.xt && g.tile ? ST_OK : error_nomem(err, "the second moments of a linear's input");
    int64_t pairs = g.tiles * (g.tiles + 1) / 2;
    memset(h, 0, (size_t)(in * in) * sizeof *h);
    for (int64_t r = 0; st == ST_OK && r < rows; r += CHUNK) {
        g.row0 = r;
        g.rows = rows - r < CHUNK ? rows - r : CHUNK;
        pool_run(pool, (g.rows + FILL - 1) / FILL, fill_task, &g, cancel);
        pool_run(pool, pairs, add_task, &g, cancel);
        if (cancel_level(cancel))
            st = error_set(err, ST_CANCELLED, "cancelled");
    }
    if (st == ST_OK)
        pool_run(pool, pairs, finish_task, &g, NULL);
    free(g.x);
    free(g.xt);
    free(g.tile);
    return st;
}

uint64_t hessian_scratch(int64_t in, int threads)
{
    return ((uint64_t)in * CHUNK * 2 + (uint64_t)threads * TILE * TILE) * sizeof(float);
}
