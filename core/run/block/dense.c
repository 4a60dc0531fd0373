#include "run/block.h"

#include <string.h>

#include "base/num.h"

/* Feed-forward block (specs/models.md 2.3): down(act(gate(x)) * up(x)), or down(act(up(x))) without a gate. */

typedef struct DenseRun {
    const Pass *ps;
    const float *src, *up;
    float *dst;
    int64_t width;
} DenseRun;

static void gate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const DenseRun *d = ctx;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, d->ps->rows); t++)
        ops_gate(&d->ps->ops, d->ps->cfg->act, d->dst + t * d->width, d->up + t * d->width, d->width);
}

/* dst = R(R(act(g)) * u) of rows [g | u]. */
static void gate_halves_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const DenseRun *d = ctx;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, d->ps->rows); t++) {
        const float *g = d->src + t * 2 * d->width;
        memcpy(d->dst + t * d->width, g, (size_t)d->width * sizeof *g);
        ops_gate(&d->ps->ops, d->ps->cfg->act, d->dst + t * d->width, g + d->width, d->width);
    }
}

static void act_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const DenseRun *d = ctx;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, d->ps->rows); t++)
        ops_act(&d->ps->ops, d->ps->cfg->act, d->dst + t * d->width, d->width);
}

/* The linears that read the input: gate and up as one batch that ends with the gated product, unless the two are one
 * tensor. */
static int first(const Block *b, int slot[STAGE_MAX], bool *gate)
{
    const DenseConf *c = b->conf;
    *gate = !c->plain && !c->fused;
    slot[0] = c->plain ? DENSE_UP : DENSE_GATE;
    slot[1] = DENSE_UP;
    return *gate ? 2 : 1;
}

/* The values down_proj reads, [rows][inter], in buf->mid; *out points to them. */
static Status values(Pass *ps, BlockRun *b, const ChunkBuffers *buf, float **out, Error *err)
{
    const DenseConf *c = b->b->conf;
    LinearRun *lin = b->lin;
    int64_t width = lin[DENSE_DOWN].lin->in;
    float *g = buf->mid;
    FeedPiece after;
    block_piece(ps, b, &(int){DENSE_DOWN}, 1, false, &after);
    *out = c->fused ? g + ps->rows * 2 * width : g;
    if (c->plain || c->fused) {
        const Projection one = {buf->x, 1, {c->fused ? DENSE_GATE : DENSE_UP}, {g}, {0}};
        RETURN_IF_ERROR(block_project(ps, b, &one, buf->act, &after, err));
        return pass_tiles(ps, PHASE_GATE, c->fused ? gate_halves_task : act_task,
                          &(DenseRun){.ps = ps, .src = g, .dst = *out, .width = width}, ps->rows, err);
    }
    Stage gu = {.ps = ps, .n = 2, .lin = {&lin[DENSE_GATE], &lin[DENSE_UP]}, .x = buf->x, .gate = true,
                .y = {g, buf->up}, .ldy = {width, width}, .act_scratch = buf->act, .packs = true};
    RETURN_IF_ERROR(stage_run(&gu, &after, err));
    if (!buf->up)
        return ST_OK;
    RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, lin[DENSE_GATE].index, g, width, width, err));
    RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, lin[DENSE_UP].index, buf->up, width, width, err));
    return pass_tiles(ps, PHASE_GATE, gate_task, &(DenseRun){.ps = ps, .up = buf->up, .dst = g, .width = width}, ps->rows, err);
}

static Status forward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    float *g;
    RETURN_IF_ERROR(block_read(ps, b, buf, err));
    RETURN_IF_ERROR(values(ps, b, buf, &g, err));
    return block_end(ps, b, DENSE_DOWN, g, buf, err);
}

static void need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    const DenseConf *c = b->conf;
    int slot[STAGE_MAX];
    bool gate;
    int n = first(b, slot, &gate);
    out->row.mid = ask->cfg->inter * (c->fused ? 3 : 1); /* what a fused linear gives stands beside the result */
    out->row.act = need_acts(b, ask, slot, n);
    if (gate && (need_watched(ask, TAP_LINEAR_OUT, b->linear[DENSE_GATE]) ||
                 need_watched(ask, TAP_LINEAR_OUT, b->linear[DENSE_UP])))
        out->row.up = ask->cfg->inter;
    need_ends(b, ask, DENSE_DOWN, out);
}

const BlockOps dense_ops = {.need = need, .first = first, .forward = forward};
