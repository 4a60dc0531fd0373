#include "quant/hessian.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/gemm.h"

/* Rows are taken in chunks; for each the tiles of the upper triangle add their share. A tile belongs to one task and
 * chunks follow one another, so the order of every sum is fixed. */
enum { CHUNK = 512, FILL = 64, TILE = 256, LINE = 16 };

struct Hessian {
    int64_t in, tiles;      /* along one side */
    float *h;               /* of the chunks so far, upper triangle */
    bool fresh;             /* there was none: h holds nothing yet */
    int64_t total, rows;    /* rows in h; of the chunk that is not full yet */
    float *x, *xt;          /* the chunk: [CHUNK][in], [in][CHUNK] */
    float *tile;            /* [threads][TILE * TILE] */
    const GemmOps *gemm;
    unsigned char *scratch; /* [threads][scratch_bytes] */
    size_t scratch_bytes;
    float scale;
    Pool *pool;
    const Cancel *cancel;
    /* what a fill task reads: rows [from, from + n) */
    HessianRows *fill;
    void *ctx;
    int64_t from, n;
};

Status hessian_new(Hessian **out, int64_t in, float *h, Pool *pool, const Cancel *cancel, Error *err)
{
    Hessian *g = mem_zarray(1, sizeof *g);
    if (!g)
        return error_nomem(err, "the second moments of a linear's input");
    *g = (Hessian){.in = in, .tiles = (in + TILE - 1) / TILE, .h = h, .pool = pool, .cancel = cancel,
                   .gemm = gemm_find(GEMM_F32)};
    g->scratch_bytes = g->gemm->scratch(TILE, TILE, CHUNK);
    g->scratch = mem_aligned((size_t)pool_threads(pool), g->scratch_bytes);
    g->x = mem_aligned((size_t)in * CHUNK, sizeof *g->x);
    g->xt = mem_aligned((size_t)in * CHUNK, sizeof *g->xt);
    g->tile = mem_aligned((size_t)pool_threads(pool) * TILE * TILE, sizeof *g->tile);
    if (!g->x || !g->xt || !g->tile || !g->scratch) {
        hessian_free(g);
        return error_nomem(err, "the second moments of a linear's input");
    }
    g->fresh = true;
    *out = g;
    return ST_OK;
}

int64_t hessian_total(const Hessian *g)
{
    return g->total + g->rows;
}

void hessian_free(Hessian *g)
{
    if (!g)
        return;
    free(g->x);
    free(g->xt);
    free(g->tile);
    free(g->scratch);
    free(g);
}

/* ---- adding rows ---- */

static void transpose(Hessian *g, int64_t a, int64_t n)
{
    for (int64_t k0 = 0; k0 < g->in; k0 += LINE) /* by cache lines of both */
        for (int64_t r0 = a; r0 < a + n; r0 += LINE) {
            int64_t r1 = r0 + LINE < a + n ? r0 + LINE : a + n;
            for (int64_t k = k0; k < g->in && k < k0 + LINE; k++)
                for (int64_t r = r0; r < r1; r++)
                    g->xt[k * CHUNK + r] = g->x[r * g->in + k];
        }
}

static void fill_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    Hessian *g = ctx;
    int64_t a = index * FILL, n = g->n - a < FILL ? g->n - a : FILL;
    g->fill(g->ctx, g->from + a, n, g->x + (g->rows + a) * g->in);
    transpose(g, g->rows + a, n);
}

/* Rows and columns of tile `index` of the upper triangle. */
static void tile_of(const Hessian *g, int64_t index, int64_t *r, int64_t *c)
{
    int64_t row = 0;
    while (index >= g->tiles - row)
        index -= g->tiles - row++;
    *r = row * TILE;
    *c = (row + index) * TILE;
}

static int64_t side(const Hessian *g, int64_t at)
{
    return g->in - at < TILE ? g->in - at : TILE;
}

/* The tile and its mirror image. */
static void zero_tile(const Hessian *g, int64_t r, int64_t c)
{
    for (int64_t i = r; i < r + side(g, r); i++)
        memset(g->h + i * g->in + c, 0, (size_t)side(g, c) * sizeof *g->h);
    for (int64_t i = c; i < c + side(g, c) && r != c; i++)
        memset(g->h + i * g->in + r, 0, (size_t)side(g, r) * sizeof *g->h);
}

static void zero_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Hessian *g = ctx;
    int64_t r, c;
    tile_of(g, index, &r, &c);
    zero_tile(g, r, c);
}

static void add_task(void *ctx, int64_t index, int worker)
{
    Hessian *g = ctx;
    int64_t r, c;
    tile_of(g, index, &r, &c);
    float *y = g->tile + (int64_t)worker * TILE * TILE;
    GemmArgs a = {.m = side(g, r), .n = side(g, c), .k = g->rows, .x = g->xt + r * CHUNK, .ldx = CHUNK,
                  .w = g->xt + c * CHUNK, .ldw = CHUNK, .y = y, .ldy = TILE};
    if (g->fresh)
        zero_tile(g, r, c);
    g->gemm->tile(&a, g->scratch + (size_t)worker * g->scratch_bytes);
    for (int64_t i = 0; i < a.m; i++)
        for (int64_t j = 0; j < a.n; j++)
            g->h[(r + i) * g->in + c + j] += y[i * TILE + j];
}

static int64_t pairs(const Hessian *g)
{
    return g->tiles * (g->tiles + 1) / 2;
}

/* The chunk goes into the sums. */
static void close_chunk(Hessian *g)
{
    if (g->rows)
        pool_run(g->pool, PHASE_QUANT_WEIGHT, pairs(g), add_task, g, g->cancel);
    g->fresh = g->fresh && !g->rows;
    g->total += g->rows;
    g->rows = 0;
}

/* What no row has touched is 0. */
static void settle(Hessian *g)
{
    if (g->fresh)
        pool_run(g->pool, PHASE_QUANT_WEIGHT, pairs(g), zero_task, g, g->cancel);
    g->fresh = false;
}

static Status stopped(const Hessian *g, Error *err)
{
    return cancel_check(g->cancel, err);
}

Status hessian_add(Hessian *g, HessianRows *fill, void *ctx, int64_t rows, Error *err)
{
    g->fill = fill;
    g->ctx = ctx;
    for (g->from = 0; g->from < rows; g->from += g->n) {
        g->n = rows - g->from < CHUNK - g->rows ? rows - g->from : CHUNK - g->rows;
        pool_run(g->pool, PHASE_QUANT_WEIGHT, (g->n + FILL - 1) / FILL, fill_task, g, g->cancel);
        g->rows += g->n;
        if (g->rows == CHUNK)
            close_chunk(g);
        RETURN_IF_ERROR(stopped(g, err));
    }
    return ST_OK;
}

static void finish_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    Hessian *g = ctx;
    int64_t r, c;
    tile_of(g, index, &r, &c);
    for (int64_t i = r; i < r + side(g, r); i++)
        for (int64_t j = i > c ? i : c; j < c + side(g, c); j++) {
            float v = g->h[i * g->in + j] * g->scale;
            g->h[i * g->in + j] = v;
            g->h[j * g->in + i] = v;
        }
}

Status hessian_end(Hessian *g, Error *err)
{
    close_chunk(g);
    settle(g);
    RETURN_IF_ERROR(stopped(g, err));
    g->scale = 2.0f / (float)g->total;
    pool_run(g->pool, PHASE_QUANT_WEIGHT, pairs(g), finish_task, g, g->cancel);
    return stopped(g, err);
}

Status hessian_gather(HessianRows *fill, void *ctx, int64_t rows, int64_t in, Pool *pool, const Cancel *cancel,
                      float *h, Error *err)
{
    Hessian *g;
    RETURN_IF_ERROR(hessian_new(&g, in, h, pool, cancel, err));
    Status st = hessian_add(g, fill, ctx, rows, err);
    if (st == ST_OK)
        st = hessian_end(g, err);
    hessian_free(g);
    return st;
}

/* ---- several ranks ---- */

Status hessian_pack(Hessian *g, Pack *out, Error *err)
{
    settle(g);
    RETURN_IF_ERROR(stopped(g, err));
    pack_i64(out, g->in);
    pack_i64(out, g->total);
    pack_i64(out, g->rows);
    pack_put(out, g->h, (size_t)(g->in * g->in) * sizeof *g->h);
    pack_put(out, g->x, (size_t)(g->rows * g->in) * sizeof *g->x);
    return out->oom ? error_nomem(err, "the second moments of a linear's input") : ST_OK;
}

Status hessian_merge(Hessian *g, Unpack *in, Error *err)
{
    int64_t width = unpack_i64(in), total = unpack_i64(in), rows = unpack_i64(in);
    if (in->bad || width != g->in || rows < 0 || rows >= CHUNK || g->total || g->rows)
        return error_set(err, ST_INTERNAL, "second moments of %lld inputs do not go on as those of %lld",
                         (long long)width, (long long)g->in);
    g->fresh = false;
    unpack_get(in, g->h, (size_t)(width * width) * sizeof *g->h);
    unpack_get(in, g->x, (size_t)(rows * width) * sizeof *g->x);
    if (in->bad)
        return error_set(err, ST_INTERNAL, "second moments from another rank are not whole");
    g->total = total;
    g->rows = rows;
    transpose(g, 0, rows);
    return ST_OK;
}

uint64_t hessian_scratch(int64_t in, int threads)
{
    uint64_t gemm = gemm_find(GEMM_F32)->scratch(TILE, TILE, CHUNK);
    return (uint64_t)in * CHUNK * 2 * sizeof(float) + (uint64_t)threads * (TILE * TILE * sizeof(float) + gemm);
}
