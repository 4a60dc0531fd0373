#include "run/block.h"

#include "base/num.h"

const BlockOps *block_ops(const BlockType *t)
{
    for (const BlockKind *k = block_table; k->type; k++)
        if (k->type == t)
            return k->ops;
    return NULL;
}

Status block_read(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    return b->join->ops->read(ps, b->join, b->front ? &ps->front : &ps->ops, buf->in, ps->rows, buf->x, buf->mix, err);
}

int64_t block_tap_linear(const BlockRun *b, int slot)
{
    return b->b->nth ? b->lin[slot].index : -1;
}

/* The block's own tap on what it gives; only a unit's first feed-forward block has one. */
static bool output_tap(const Block *b, TapKind *kind)
{
    *kind = b->type->role == ROLE_ATTENTION ? TAP_ATTN : TAP_FFN;
    return b->type->role == ROLE_ATTENTION || (b->type->role == ROLE_FEED_FORWARD && b->nth == 0);
}

Status block_end(Pass *ps, BlockRun *b, int slot, const float *x, const ChunkBuffers *buf, Error *err)
{
    LinearRun *l = &b->lin[slot];
    int64_t h = ps->cfg->hidden;
    bool aside = b->join->ops->aside(b->join->b);
    TapKind kind;
    Stage out = {.ps = ps, .n = 1, .lin = {l}, .x = x, .y = {buf->tap}, .ldy = {h}, .lds = h, .act_scratch = buf->act,
                 .packs = true,
                 .res = aside ? NULL : buf->in, .sum = aside ? NULL : buf->out};
    RETURN_IF_ERROR(stage_run(&out, buf->next.nseg ? &buf->next : NULL, err));
    if (!buf->tap)
        return ST_OK;
    RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, l->index, buf->tap, h, h, err));
    if (output_tap(b->b, &kind))
        RETURN_IF_ERROR(pass_feed_tap(ps, kind, block_tap_linear(b, slot), buf->tap, h, h, err));
    return aside ? b->join->ops->write(ps, b->join, buf->mix, buf->in, buf->tap, ps->rows, buf->out, err) : ST_OK;
}

Status block_project(Pass *ps, BlockRun *b, const Projection *p, float *act, const FeedPiece *next, Error *err)
{
    Stage st = {.ps = ps, .n = p->n, .x = p->x, .act_scratch = act, .packs = true};
    for (int i = 0; i < p->n; i++) {
        st.lin[i] = &b->lin[p->slot[i]];
        st.y[i] = p->y[i];
        st.ldy[i] = p->ld[i] ? p->ld[i] : st.lin[i]->lin->out;
    }
    RETURN_IF_ERROR(stage_run(&st, next, err));
    for (int i = 0; i < p->n; i++)
        RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, st.lin[i]->index, st.y[i], st.lin[i]->lin->out, st.ldy[i],
                                      err));
    return ST_OK;
}

void block_piece(const Pass *ps, const BlockRun *b, const int *slot, int n, bool gate, FeedPiece *out)
{
    const LinearRun *lin[STAGE_MAX];
    for (int i = 0; i < n; i++)
        lin[i] = &b->lin[slot[i]];
    stage_first_piece(lin, n, gate, ps->piece_max, out);
}

/* ---- what a block needs ---- */

int64_t row_need_floats(const RowNeed *n)
{
    return n->x + n->mid + n->act + n->tap + n->up + n->mix;
}

int64_t need_acts(const Block *b, const NeedAsk *ask, const int *slot, int n)
{
    const GemmOps *products = ask->gemms[NEED_PRODUCTS];
    if (ask->run) {
        LinearRun *lin[STAGE_MAX];
        for (int i = 0; i < n; i++)
            lin[i] = (LinearRun *)(uintptr_t)&ask->run->lin[slot[i]];
        return stage_input_floats(lin, n, products);
    }
    const Linear *first = &ask->linears[b->linear[slot[0]]];
    int64_t acts = (ask->inputs + ask->branches) * n, plain = 0; /* a branch's rank is at most the inputs' number */
    for (int i = 0; i < n; i++) {
        int16_t level = ask->level ? ask->level[b->linear[slot[i]]] : 0;
        acts += level > 0 && (i == 0 || level != ask->level[b->linear[slot[0]]]);
        plain |= level == 0;
    }
    return (stage_acts_floats(first->in, acts) + (plain ? stage_plain_floats(first->in, products) : 0)) *
           max_i64(first->groups, 1);
}

bool need_watched(const NeedAsk *ask, TapKind kind, int64_t linear)
{
    return ask->ps && pass_tap_mask(ask->ps, kind, linear);
}

void need_ends(const Block *b, const NeedAsk *ask, int last, BlockNeed *out)
{
    TapKind kind;
    bool own = output_tap(b, &kind), watched = false;
    if (ask->run)
        watched = need_watched(ask, TAP_LINEAR_OUT, ask->run->lin[last].index) ||
                  (own && need_watched(ask, kind, block_tap_linear(ask->run, last)));
    out->row.x = ask->cfg->hidden;
    if (watched || block_ops(b->join->type)->aside(b->join))
        out->row.tap = ask->cfg->hidden;
    out->row.act = max_i64(out->row.act, need_acts(b, ask, &last, 1));
}

void need_product(const NeedAsk *ask, WorkerNeed *w, int64_t m, int64_t n, int64_t k)
{
    for (int i = 0; i < NEED_GEMMS; i++)
        if (ask->gemms[i])
            worker_need_gemm(w, ask->gemms[i], m, n, k);
}

void need_panel(const NeedAsk *ask, WorkerNeed *w, int64_t n, int64_t k)
{
    for (int i = 0; i < NEED_GEMMS; i++) {
        const GemmOps *g = ask->gemms[i];
        if (!g)
            continue;
        w->panel = max_u64(w->panel, g->packed_bytes(n, k));
        w->rows = g->in_place ? w->rows : max_u64(w->rows, (uint64_t)(n * k));
    }
}
