#include "run/lineargrad.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/need.h"

/* dx[rows][in] = g[rows][out] W[out][in], some rows of W at a time: decoded as float32, replaced by the form, packed by columns,
 * multiplied. What a value sums depends on the weight's shape alone. */

enum {
    WEIGHT_VALUES = 8 << 20, /* of the rows held at once */
    DECODE_ROWS = 128        /* of a task; forms are given whole multiples from the first row on */
};

/* Rows of a weight that are held at once. */
static int64_t rows_at_once(const Linear *l)
{
    int64_t part = l->out / max_i64(l->groups, 1), rows = WEIGHT_VALUES / max_i64(l->in, 1) / DECODE_ROWS * DECODE_ROWS;
    return min_i64(part, max_i64(rows, DECODE_ROWS));
}

static size_t panel_bytes(const GemmOps *g, int64_t outs)
{
    return (size_t)round_up((int64_t)g->packed_bytes(GRAD_COLS, outs), 64);
}

static size_t packed_size(const Linear *l, const GemmOps *g)
{
    return g->pack_by_k ? (size_t)div_up(l->in, GRAD_COLS) * panel_bytes(g, rows_at_once(l)) : 0;
}

static void most_room(const Unit *u, const Linear *linears, const GemmOps *g, size_t *values, size_t *packed)
{
    *values = *packed = 0;
    for (int32_t i = u->first; i < u->first + u->count; i++) {
        const Linear *l = &linears[i];
        *values = max_u64(*values, (uint64_t)(rows_at_once(l) * l->in));
        *packed = max_u64(*packed, packed_size(l, g));
    }
}

uint64_t passgrad_bytes(const Unit *u, const Linear *linears, const GemmOps *g)
{
    size_t values, packed;
    most_room(u, linears, g, &values, &packed);
    return values * sizeof(float) + packed;
}

Status passgrad_init(PassGrad *p, const Unit *u, const Linear *linears, const GemmOps *g, Error *err)
{
    size_t values, packed;
    most_room(u, linears, g, &values, &packed);
    p->weight = mem_aligned(values, sizeof *p->weight);
    p->packed = mem_aligned(packed, 1);
    if (p->weight && p->packed)
        return ST_OK;
    passgrad_fini(p);
    return error_nomem(err, "a weight of a backward pass");
}

void passgrad_fini(PassGrad *p)
{
    free(p->weight);
    free(p->packed);
    p->weight = NULL;
    p->packed = NULL;
}

/* ---- the product ---- */

typedef struct Down {
    const Pass *ps;
    const LinearRun *l;
    const LinearBack *a;
    const GemmOps *gemm;
    int64_t o0, outs;       /* rows of the weight at work, of one group */
    const void *raw, *scale;
    int64_t bands, panels;
} Down;

static void decode_task(void *ctx, int64_t index, int worker)
{
    const Down *d = ctx;
    const LinearRun *l = d->l;
    Worker *wk = &d->ps->r->worker[worker];
    int64_t in = l->lin->in, at = index * DECODE_ROWS, rows = min_i64(DECODE_ROWS, d->outs - at);
    float *w = d->ps->grad->weight + at * in;
    source_decode(&l->weight, &d->ps->ops, d->o0, d->raw, d->scale, d->o0 + at, rows, wk->edit, w);
    if (!l->form || !l->form->weight)
        return;
    Phase was = worker_enter(wk, PHASE_QUANT_WEIGHT);
    l->form->weight(l->form->self, d->o0 + at, rows, in, w);
    worker_leave(wk, was);
}

static void pack_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Down *d = ctx;
    int64_t in = d->l->lin->in, c0 = index * GRAD_COLS;
    d->gemm->pack_by_k(d->ps->grad->weight + c0, min_i64(GRAD_COLS, in - c0), d->outs, in,
                       d->ps->grad->packed + (size_t)index * panel_bytes(d->gemm, d->outs));
}

/* One band of rows with one panel of inputs. */
static void down_task(void *ctx, int64_t index, int worker)
{
    const Down *d = ctx;
    const LinearBack *a = d->a;
    const Linear *l = d->l->lin;
    int64_t panel = index / d->bands, row = index % d->bands * STAGE_TILE_ROWS, c0 = panel * GRAD_COLS;
    int64_t groups = max_i64(l->groups, 1), group = d->o0 / (l->out / groups);
    GemmArgs g = {.m = min_i64(STAGE_TILE_ROWS, a->rows - row), .n = min_i64(GRAD_COLS, l->in - c0), .k = d->outs,
                  .x = a->g + row * a->ldg + d->o0, .ldx = a->ldg,
                  .y = a->dx + row * a->lddx + group * l->in + c0, .ldy = a->lddx,
                  .beta = d->o0 % (l->out / groups) ? 1 : 0};
    if (d->gemm->pack_by_k) {
        g.packed = d->ps->grad->packed + (size_t)panel * panel_bytes(d->gemm, d->outs);
        g.packed_n = g.n;
    } else {
        g.w = d->ps->grad->weight + c0;
        g.ldw = l->in;
        g.w_by_k = true;
    }
    d->gemm->tile(&g, d->ps->r->worker[worker].gemm);
}

/* Rows [d->o0, d->o0 + d->outs) of the weight. */
static Status down_rows(Down *d, Error *err)
{
    Runner *r = d->ps->r;
    const SourceWeight *w = &d->l->weight;
    FeedPiece p = source_piece(w, d->o0, d->o0 + d->outs);
    const void *data[FEED_SEGMENTS] = {NULL};
    Batch b = {.n = 0};
    RETURN_IF_ERROR(feed_take(r->feed, &p, data, r->opt.cancel, err));
    if (d->o0 + d->outs < d->l->lin->out) {
        int64_t next = d->o0 + d->outs;
        FeedPiece after = source_piece(w, next, min_i64(next + d->outs, d->l->lin->out));
        if (after.nseg)
            feed_want(r->feed, &after);
    }
    d->raw = data[0];
    d->scale = data[1];
    batch_add(&b, PHASE_DECODE, decode_task, d, div_up(d->outs, DECODE_ROWS));
    Status st = batch_run(&b, r->opt.pool, r->opt.cancel, err);
    feed_done(r->feed);
    RETURN_IF_ERROR(st);
    if (d->gemm->pack_by_k) {
        batch_add(&b, PHASE_PACK, pack_task, d, d->panels);
        RETURN_IF_ERROR(batch_run(&b, r->opt.pool, r->opt.cancel, err));
    }
    batch_add(&b, PHASE_LINEAR, down_task, d, d->panels * d->bands);
    return batch_run(&b, r->opt.pool, r->opt.cancel, err);
}

static Status product(Pass *ps, LinearRun *l, const LinearBack *a, Error *err)
{
    const Runner *r = ps->r;
    int64_t part = l->lin->out / max_i64(l->lin->groups, 1), step = rows_at_once(l->lin);
    Down d = {.ps = ps, .l = l, .a = a, .gemm = ops_gemms(&ps->ops), .bands = div_up(a->rows, STAGE_TILE_ROWS),
              .panels = div_up(l->lin->in, GRAD_COLS)};
    RETURN_IF_ERROR(source_prepare(&l->weight, &ps->ops, NULL, r->opt.pool, r->opt.cancel, err));
    Status st = ST_OK;
    for (; st == ST_OK && d.o0 < l->lin->out; d.o0 += d.outs) {
        d.outs = min_i64(step, part - d.o0 % part);
        st = down_rows(&d, err);
    }
    source_release(&l->weight);
    return st;
}

/* ---- the low-rank branch ---- */

typedef struct BranchBack {
    const LinearRun *l;
    const LinearBack *a;
    const Pass *ps;
    const GemmOps *gemm;
    float *t; /* [rows][groups][rank] g l2 */
} BranchBack;

/* dx += (g l2) l1 of some rows. */
static void branch_task(void *ctx, int64_t index, int worker)
{
    const BranchBack *d = ctx;
    const LinearBack *a = d->a;
    const LowRank *low = d->l->low;
    int64_t groups = max_i64(d->l->lin->groups, 1), part = low->out / groups;
    int64_t r0 = index * PASS_TILE, rows = pass_tile_end(index, a->rows) - r0;
    for (int64_t g = 0; g < groups; g++) {
        float *t = d->t + (r0 * groups + g) * low->rank;
        GemmArgs first = {.m = rows, .n = low->rank, .k = part, .x = a->g + r0 * a->ldg + g * part, .ldx = a->ldg,
                          .w = low->l2 + g * part * low->rank, .ldw = low->rank, .w_by_k = true, .y = t, .ldy = groups * low->rank};
        GemmArgs then = {.m = rows, .n = low->in, .k = low->rank, .x = t, .ldx = groups * low->rank, .w = low->l1, .ldw = low->in,
                         .w_by_k = true, .y = a->dx + r0 * a->lddx + g * low->in, .ldy = a->lddx, .beta = 1};
        d->gemm->tile(&first, d->ps->r->worker[worker].gemm);
        d->gemm->tile(&then, d->ps->r->worker[worker].gemm);
    }
}

/* Its input is the linear's, before any form: a hook's gradient is of the weight alone. */
static Status add_branch(Pass *ps, const LinearRun *l, const LinearBack *a, Error *err)
{
    BranchBack d = {.l = l, .a = a, .ps = ps, .gemm = ops_gemms(&ps->ops)};
    WorkerNeed need = {.gemm = 0};
    worker_need_gemm(&need, d.gemm, PASS_TILE, l->low->rank, l->low->out);
    worker_need_gemm(&need, d.gemm, PASS_TILE, l->low->in, l->low->rank);
    d.t = mem_array((size_t)(a->rows * max_i64(l->lin->groups, 1) * l->low->rank), sizeof *d.t);
    if (!d.t)
        return error_nomem(err, l->lin->name);
    Status st = workers_reserve(ps->r, &need, err);
    if (st == ST_OK)
        st = pass_tiles(ps, PHASE_LINEAR, branch_task, &d, a->rows, err);
    free(d.t);
    return st;
}

/* ---- what is done to the input ---- */

typedef struct EditBack {
    const Pass *ps;
    const EditChain *chain;
    Rotation **turned; /* [chain->n] the transposes, NULL where a step only multiplies */
    const float *x;
    float *to;
    int64_t in, rows, ldx, ldto;
} EditBack;

static void edit_task(void *ctx, int64_t index, int worker)
{
    const EditBack *e = ctx;
    int64_t t = index * PASS_TILE, end = pass_tile_end(index, e->rows);
    for (int64_t i = t; i < end; i++)
        memcpy(e->to + i * e->in, e->x + i * e->ldx, (size_t)e->in * sizeof *e->to);
    editchain_rows(e->chain, 0, e->chain->n, e->ps->ops.k, t, end - t, e->in, e->to + t * e->in,
                   e->ps->r->worker[worker].edit);
}

/* Steps are linear: in reverse, each transposed. A limit is passed straight through, as quantizing the input is. */
static void unedit_task(void *ctx, int64_t index, int worker)
{
    const EditBack *e = ctx;
    int64_t t = index * PASS_TILE, rows = pass_tile_end(index, e->rows) - t;
    float *d = e->to + t * e->ldto;
    for (int i = e->chain->n - 1; i >= 0; i--) {
        if (e->turned[i])
            rotation_right(e->turned[i], d, rows, e->in, e->ldto, e->ps->r->worker[worker].edit);
        for (int64_t k = 0; k < rows && e->chain->step[i].kind == CHAIN_COLS; k++)
            e->ps->ops.k->mul(d + k * e->ldto, e->chain->step[i].v, d + k * e->ldto, e->in);
    }
}

/* a->edited = the input as the linear is given it. */
static Status edit_input(Pass *ps, const LinearRun *l, const LinearBack *a, Error *err)
{
    int64_t groups = max_i64(l->lin->groups, 1); /* rows of their own to such a linear */
    EditBack e = {.ps = ps, .chain = l->inputs, .x = a->x, .to = a->edited, .in = l->lin->in, .rows = a->rows * groups,
                  .ldx = a->ldx / groups};
    RETURN_IF_ERROR(workers_reserve(ps->r, &(WorkerNeed){.edit = l->inputs->scratch}, err));
    return pass_tiles(ps, PHASE_ELEMENTS, edit_task, &e, e.rows, err);
}

static Status unedit(Pass *ps, const LinearRun *l, const LinearBack *a, Error *err)
{
    const EditChain *c = l->inputs;
    Rotation **turned = mem_zarray((size_t)c->n, sizeof *turned);
    WorkerNeed need = {.edit = 0};
    Status st = turned ? ST_OK : error_nomem(err, "a backward pass");
    for (int i = 0; i < c->n && st == ST_OK; i++) {
        if (!c->step[i].rot)
            continue;
        st = rotation_transpose(&turned[i], c->step[i].rot, err);
        if (st == ST_OK)
            need.edit = max_u64(need.edit, rotation_bytes(turned[i]) / sizeof(float) + 1);
    }
    if (st == ST_OK)
        st = workers_reserve(ps->r, &need, err);
    EditBack e = {.ps = ps, .chain = c, .turned = turned, .to = a->dx, .in = l->lin->in,
                  .rows = a->rows * max_i64(l->lin->groups, 1), .ldto = a->lddx / max_i64(l->lin->groups, 1)};
    if (st == ST_OK)
        st = pass_tiles(ps, PHASE_ELEMENTS, unedit_task, &e, e.rows, err);
    for (int i = 0; i < c->n && turned; i++)
        rotation_free(turned[i]);
    free(turned);
    return st;
}

int64_t grad_edits(const Block *b, const NeedAsk *ask)
{
    int64_t most = 0;
    for (int i = 0; i < block_linears(b->type); i++) {
        const Linear *l = b->linear[i] >= 0 ? &ask->linears[b->linear[i]] : NULL;
        bool edited = ask->run ? ask->run->lin[i].inputs != NULL : ask->inputs;
        most = l && edited ? max_i64(most, l->in * max_i64(l->groups, 1)) : most;
    }
    return most;
}

int64_t grad_edits_of(const Pass *ps, const BlockRun *b)
{
    return grad_edits(b->b, &(NeedAsk){.linears = ps->r->m->linears, .run = b});
}

/* ---- one linear ---- */

Status grad_linear(Pass *ps, LinearRun *l, const LinearBack *a, Error *err)
{
    const GradHooks *h = ps->grad->hooks;
    if (a->rows == 0)
        return ST_OK;
    RETURN_IF_ERROR(product(ps, l, a, err));
    if (h && l->inputs)
        RETURN_IF_ERROR(edit_input(ps, l, a, err));
    if (h) {
        const LinearGrad g = {.linear = l->index, .form = l->form, .x = l->inputs ? a->edited : a->x,
                              .ldx = l->inputs ? l->lin->in * max_i64(l->lin->groups, 1) : a->ldx, .g = a->g, .ldg = a->ldg, .row = a->row,
                              .row0 = ps->row0, .rows = a->rows, .dx = a->dx, .lddx = a->lddx};
        RETURN_IF_ERROR(h->linear(h->self, &g, err));
    }
    if (l->low)
        RETURN_IF_ERROR(add_branch(ps, l, a, err));
    return l->inputs ? unedit(ps, l, a, err) : ST_OK;
}

/* ---- what blocks share ---- */

typedef struct AddRun {
    const Pass *ps;
    const float *x;
    float *y;
    int64_t n;
} AddRun;

enum { ADD_VALUES = 1 << 15 };

static void add_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const AddRun *a = ctx;
    int64_t at = index * ADD_VALUES, n = min_i64(ADD_VALUES, a->n - at);
    a->ps->ops.k->add(a->y + at, a->x + at, a->y + at, n);
}

Status grad_add(const Pass *ps, const float *x, float *y, int64_t n, Error *err)
{
    AddRun a = {ps, x, y, n};
    Batch b = {.n = 0};
    batch_add(&b, PHASE_ELEMENTS, add_task, &a, div_up(n, ADD_VALUES));
    return batch_run(&b, ps->r->opt.pool, ps->r->opt.cancel, err);
}

Status grad_begin(Pass *ps, BlockRun *b, int slot, const float *x, const ChunkBuffers *buf, float *dy, Error *err)
{
    const BlockOps *join = b->join->ops;
    int64_t h = ps->cfg->hidden;
    if (join->aside(b->join->b)) {
        Stage out = {.ps = ps, .n = 1, .lin = {&b->lin[slot]}, .x = x, .y = {buf->tap}, .ldy = {h},
                     .act_scratch = buf->act, .packs = true};
        RETURN_IF_ERROR(stage_run(&out, NULL, err));
    }
    return join->write_back(ps, b->join, buf, dy, err);
}

Status grad_end(Pass *ps, BlockRun *b, const ChunkBuffers *buf, const float *dx, Error *err)
{
    return b->join->ops->read_back(ps, b->join, buf, dx, err);
}

void grad_need_ends(const Block *b, const NeedAsk *ask, int last, BlockNeed *out)
{
    out->row.x = ask->cfg->hidden;
    if (!block_ops(b->join->type)->aside(b->join))
        return;
    out->row.tap = ask->cfg->hidden;
    out->row.act = max_i64(out->row.act, need_acts(b, ask, &last, 1));
}
