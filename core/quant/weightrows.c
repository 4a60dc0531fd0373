#include "quant/weightrows.h"

#include <stdlib.h>

#include "base/mem.h"

/* Elements a task should have: large enough that handing it out costs nothing, small enough to keep all threads busy. */
enum { BLOCK_ELEMENTS = 1 << 18 };

typedef struct Blocks {
    const WeightTask *t;
    QWeight *out;
    WeightRowsFn *fn;
    void *ctx;
    float *scratch;
    int64_t scratch_floats, rows;
} Blocks;

static void block_task(void *ctx, int64_t i, int worker)
{
    Blocks *b = ctx;
    int64_t row = i * b->rows, left = b->t->out - row;
    b->fn(b->t, b->out, row, left < b->rows ? left : b->rows, b->ctx, b->scratch + worker * b->scratch_floats);
}

Status weight_row_blocks(const WeightTask *t, QWeight *out, WeightRowsFn *fn, void *ctx, int64_t block,
                         int64_t scratch_floats, Error *err)
{
    Blocks b = {.t = t, .out = out, .fn = fn, .ctx = ctx, .scratch_floats = scratch_floats, .rows = block};
    int64_t n = (t->out + block - 1) / block;
    b.scratch = mem_array((size_t)scratch_floats * (size_t)(t->pool ? pool_threads(t->pool) : 1), sizeof *b.scratch);
    if (!b.scratch)
        return error_nomem(err, "quantizing a weight");
    if (t->pool)
        pool_run(t->pool, PHASE_QUANT_WEIGHT, n, block_task, &b, t->cancel);
    for (int64_t i = 0; !t->pool && i < n && !cancel_level(t->cancel); i++)
        block_task(&b, i, 0);
    free(b.scratch);
    if (cancel_level(t->cancel))
        return error_set(err, ST_CANCELLED, "stopped while quantizing a weight");
    return ST_OK;
}

Status weight_rows(const WeightTask *t, QWeight *out, WeightRowsFn *fn, void *ctx, int64_t scratch_floats, Error *err)
{
    int64_t rows = BLOCK_ELEMENTS / t->in;
    return weight_row_blocks(t, out, fn, ctx, rows < 1 ? 1 : rows, scratch_floats, err);
}
