#include "run/lineargrad.h"
#include "run/opsback.h"

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

/* ---- gradients ---- */

typedef struct DenseDown {
    float *g, *u, *a;  /* the outer linears' outputs, then their gradients; [g | u] of a fused one; what down_proj reads */
    int64_t ld;        /* of g and u */
    float *dy, *da, *dx, *one, *edited;
} DenseDown;

static void lay_out(const DenseConf *c, const ModelConfig *cfg, int64_t edited, Cut *mid, DenseDown *d)
{
    int64_t n = cfg->inter, h = cfg->hidden;
    *d = (DenseDown){.ld = c->fused ? 2 * n : n};
    d->g = cut(mid, d->ld);
    d->u = c->fused ? (d->g ? d->g + n : NULL) : cut(mid, c->plain ? 0 : n);
    d->a = cut(mid, n);
    d->dy = cut(mid, h);
    d->da = cut(mid, n);
    d->dx = cut(mid, h);
    d->one = cut(mid, c->fused || c->plain ? 0 : h);
    d->edited = cut(mid, edited);
}

typedef struct DenseDownRun {
    const Pass *ps;
    const DenseDown *d;
    int64_t width;
} DenseDownRun;

/* What down_proj reads, beside what it is made of. */
static void values_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const DenseDownRun *r = ctx;
    const DenseDown *d = r->d;
    int64_t n = r->width;
    Activation act = r->ps->cfg->act;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, r->ps->rows); t++) {
        memcpy(d->a + t * n, d->g + t * d->ld, (size_t)n * sizeof *d->a);
        if (d->u)
            ops_gate(&r->ps->ops, act, d->a + t * n, d->u + t * d->ld, n);
        else
            ops_act(&r->ps->ops, act, d->a + t * n, n);
    }
}

static void ungate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const DenseDownRun *r = ctx;
    const DenseDown *d = r->d;
    Activation act = r->ps->cfg->act;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, r->ps->rows); t++) {
        float *g = d->g + t * d->ld, *da = d->da + t * r->width;
        if (d->u)
            ops_gate_back(&r->ps->ops, act, g, d->u + t * d->ld, da, r->width);
        else
            ops_act_back(&r->ps->ops, act, g, da, r->width);
    }
}

/* The block's inputs again, as far as down_proj. */
static Status again(Pass *ps, BlockRun *b, const ChunkBuffers *buf, const DenseDown *d, Error *err)
{
    const DenseConf *c = b->b->conf;
    Projection p = {buf->x, c->plain || c->fused ? 1 : 2, {c->plain ? DENSE_UP : DENSE_GATE, DENSE_UP}, {d->g, d->u},
                    {d->ld, d->ld}};
    RETURN_IF_ERROR(block_read(ps, b, buf, err));
    RETURN_IF_ERROR(block_project(ps, b, &p, buf->act, NULL, err));
    DenseDownRun run = {ps, d, b->lin[DENSE_DOWN].lin->in};
    return pass_tiles(ps, PHASE_GATE, values_task, &run, ps->rows, err);
}

/* From the gradients of what the outer linears gave. */
static Status outer(Pass *ps, BlockRun *b, const ChunkBuffers *buf, const DenseDown *d, Error *err)
{
    const DenseConf *c = b->b->conf;
    int64_t h = ps->cfg->hidden;
    LinearBack a = {.x = buf->x, .ldx = h, .g = d->g, .ldg = d->ld, .dx = d->dx, .lddx = h, .rows = ps->rows,
                    .edited = d->edited};
    if (c->plain || c->fused)
        return grad_linear(ps, &b->lin[c->plain ? DENSE_UP : DENSE_GATE], &a, err);
    LinearBack up = a;
    up.g = d->u;
    RETURN_IF_ERROR(grad_linear(ps, &b->lin[DENSE_UP], &up, err));
    a.dx = d->one;
    RETURN_IF_ERROR(grad_linear(ps, &b->lin[DENSE_GATE], &a, err));
    return grad_add(ps, d->one, d->dx, ps->rows * h, err);
}

static Status backward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    LinearRun *down = &b->lin[DENSE_DOWN];
    int64_t n = down->lin->in, h = ps->cfg->hidden;
    Cut mid = {buf->mid, ps->rows, 0};
    DenseDown d;
    lay_out(b->b->conf, ps->cfg, grad_edits_of(ps, b), &mid, &d);
    RETURN_IF_ERROR(again(ps, b, buf, &d, err));
    RETURN_IF_ERROR(grad_begin(ps, b, DENSE_DOWN, d.a, buf, d.dy, err));
    const LinearBack a = {.x = d.a, .ldx = n, .g = d.dy, .ldg = h, .dx = d.da, .lddx = n, .rows = ps->rows,
                          .edited = d.edited};
    RETURN_IF_ERROR(grad_linear(ps, down, &a, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_GATE, ungate_task, &(DenseDownRun){ps, &d, n}, ps->rows, err));
    RETURN_IF_ERROR(outer(ps, b, buf, &d, err));
    return grad_end(ps, b, buf, d.dx, err);
}

static void backward_need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    int slot[STAGE_MAX];
    bool gate;
    int n = first(b, slot, &gate);
    Cut mid = {NULL, 1, 0};
    DenseDown d;
    lay_out(b->conf, ask->cfg, grad_edits(b, ask), &mid, &d);
    out->row.mid = mid.floats;
    out->row.act = need_acts(b, ask, slot, n);
    grad_need_ends(b, ask, DENSE_DOWN, out);
}

const BlockOps dense_ops = {.need = need, .first = first, .forward = forward, .backward = backward,
                            .backward_need = backward_need};
