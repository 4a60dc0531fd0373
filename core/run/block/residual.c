#include <string.h>

#include "run/block.h"
#include "run/opsback.h"

/* The plain residual stream: a block reads the normed state, what it gives is added, normed again in some families. */

typedef struct ResidualRun {
    const Ops *ops;
    const ModelConfig *cfg;
    const float *state, *norm, *bias;
    double eps;
    float *x, *y, *out;
    int64_t rows;
} ResidualRun;

static void read_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const ResidualRun *r = ctx;
    int64_t h = r->cfg->hidden;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, r->rows); t++)
        ops_norm(r->ops, r->cfg->norm, r->state + t * h, r->norm, r->bias, r->eps, h, r->x + t * h);
}

static void write_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const ResidualRun *r = ctx;
    int64_t h = r->cfg->hidden;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, r->rows); t++) {
        float *y = r->y + t * h;
        if (r->norm)
            ops_norm(r->ops, r->cfg->norm, y, r->norm, r->bias, r->eps, h, y);
        ops_add(r->ops, r->state + t * h, y, r->out + t * h, h);
    }
}

/* The norm's own, or one that it was given. */
static const float *bias_of(const BlockRun *join, int norm, int bias)
{
    return join->small[bias] ? join->small[bias] : join->shift[norm];
}

static double eps_of(const Pass *ps, const BlockRun *join, int norm)
{
    return join->eps[norm] > 0 ? join->eps[norm] : ps->cfg->eps;
}

static Status read(Pass *ps, const BlockRun *join, const Ops *ops, const float *state, int64_t rows, float *x,
                   float *mix, Error *err)
{
    (void)mix;
    ResidualRun r = {.ops = ops, .cfg = ps->cfg, .state = state, .norm = join->small[RESIDUAL_BEFORE],
                     .bias = bias_of(join, RESIDUAL_BEFORE, RESIDUAL_BEFORE_BIAS), .eps = eps_of(ps, join, RESIDUAL_BEFORE),
                     .x = x, .rows = rows};
    return pass_tiles(ps, PHASE_ELEMENTS, read_task, &r, rows, err);
}

static Status write(Pass *ps, const BlockRun *join, const float *mix, const float *state, float *y, int64_t rows,
                    float *out, Error *err)
{
    (void)mix;
    ResidualRun r = {.ops = &ps->ops, .cfg = ps->cfg, .state = state, .norm = join->small[RESIDUAL_AFTER],
                     .bias = bias_of(join, RESIDUAL_AFTER, RESIDUAL_AFTER_BIAS), .eps = eps_of(ps, join, RESIDUAL_AFTER),
                     .y = y, .out = out, .rows = rows};
    return pass_tiles(ps, PHASE_ELEMENTS, write_task, &r, rows, err);
}

/* ---- gradients ---- */

/* x: dx, or what the norm was given; y: dy; out: the gradient of the state. */
static void write_back_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const ResidualRun *r = ctx;
    int64_t h = r->cfg->hidden;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, r->rows); t++) {
        if (r->norm)
            ops_norm_back(r->ops, r->cfg->norm, r->x + t * h, r->norm, r->eps, h, r->out + t * h, false, r->y + t * h);
        else
            memcpy(r->y + t * h, r->out + t * h, (size_t)h * sizeof *r->y);
    }
}

static void read_back_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const ResidualRun *r = ctx;
    int64_t h = r->cfg->hidden;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, r->rows); t++)
        ops_norm_back(r->ops, r->cfg->norm, r->state + t * h, r->norm, r->eps, h, r->y + t * h, true, r->out + t * h);
}

static Status write_back(Pass *ps, const BlockRun *join, const ChunkBuffers *buf, float *dy, Error *err)
{
    ResidualRun r = {.ops = &ps->ops, .cfg = ps->cfg, .norm = join->small[RESIDUAL_AFTER],
                     .eps = eps_of(ps, join, RESIDUAL_AFTER), .x = buf->tap, .y = dy, .out = buf->out, .rows = ps->rows};
    return pass_tiles(ps, PHASE_ELEMENTS, write_back_task, &r, ps->rows, err);
}

static Status read_back(Pass *ps, const BlockRun *join, const ChunkBuffers *buf, const float *dx, Error *err)
{
    ResidualRun r = {.ops = &ps->front, .cfg = ps->cfg, .state = buf->in, .norm = join->small[RESIDUAL_BEFORE],
                     .eps = eps_of(ps, join, RESIDUAL_BEFORE), .y = (float *)(uintptr_t)dx, .out = buf->out,
                     .rows = ps->rows};
    return pass_tiles(ps, PHASE_ELEMENTS, read_back_task, &r, ps->rows, err);
}

static bool aside(const Block *join)
{
    return join->small[RESIDUAL_AFTER] != NULL;
}

static void need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    (void)b;
    (void)ask;
    (void)out;
}

const BlockOps residual_ops = {.need = need, .read = read, .write = write, .aside = aside,
                               .write_back = write_back, .read_back = read_back};
