#include "run/block/attention.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

/* Attention over scores (specs/models.md 2.3), each key head serving some query heads. */

static const int qkv[] = {GQA_Q, GQA_K, GQA_V};

/* Element-wise work on the rows of a chunk. */
typedef struct HeadsRun {
    const Pass *ps;
    const BlockRun *b;
    const Heads *h;
} HeadsRun;

static void rotate_heads(const HeadsRun *j, float *x, int heads, int slot, const RopeTable *table, int64_t pos)
{
    const ModelConfig *c = j->ps->cfg;
    const Ops *ops = &j->ps->ops;
    const float *norm = j->b->small[slot], *bias = j->b->shift[slot];
    bool each = norm && ((const GqaConf *)j->b->b->conf)->qk_norm == QK_NORM_HEAD;
    int64_t all = (int64_t)heads * c->head_dim;
    if (norm && !each)
        ops_norm(ops, c->norm, x, norm, bias, c->eps, all, x);
    for (int i = 0; i < heads; i++, x += c->head_dim) {
        if (each)
            ops_norm(ops, c->norm, x, norm, bias, c->eps, c->head_dim, x);
        if (table)
            ops_rope(ops, x, table->cos + pos * table->half, table->sin + pos * table->half, table->half);
    }
}

/* Norms of q and k where the family has them, then the rotation. */
static void rotate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const HeadsRun *j = ctx;
    const Pass *ps = j->ps;
    const ModelConfig *c = ps->cfg;
    const RopeParams *rope = j->b->b->rope;
    int64_t t = index * PASS_TILE, end = pass_tile_end(index, ps->rows);
    int s = pass_sample_of_row(ps, t);
    for (; t < end; t++) {
        while (ps->in->start[s + 1] <= ps->row0 + t)
            s++;
        int64_t pos = ps->row0 + t - ps->in->start[s] + stream_seen(ps->in, s);
        const RopeTable *table = rope ? rope_table(&ps->r->rope, c, rope, stream_length(ps->in, s)) : NULL;
        rotate_heads(j, j->h->x[0] + t * j->h->ld[0], c->heads, GQA_Q_NORM, table, pos);
        rotate_heads(j, j->h->x[1] + t * j->h->ld[1], c->kv_heads, GQA_K_NORM, table, pos);
    }
}

/* Where a head's [q | gate] rows are taken apart: q to its place. */
static void split_gate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const HeadsRun *j = ctx;
    const ModelConfig *c = j->ps->cfg;
    int64_t d = c->head_dim;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, j->ps->rows); t++)
        for (int64_t h = 0; h < c->heads; h++)
            memcpy(j->h->x[0] + (t * c->heads + h) * d, j->h->gate + (t * c->heads + h) * 2 * d,
                   (size_t)d * sizeof *j->h->gate);
}

/* o = R(o * R(sigmoid(gate))), the gates in their place, which is left changed. */
static void out_gate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const HeadsRun *j = ctx;
    const Ops *ops = &j->ps->ops;
    const ModelConfig *c = j->ps->cfg;
    int64_t d = c->head_dim;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, j->ps->rows); t++)
        for (int64_t h = 0; h < c->heads; h++) {
            float *o = j->h->o + (t * c->heads + h) * d, *gate = j->h->gate + (t * c->heads + h) * 2 * d + d;
            ops_sigmoid(ops, gate, d);
            ops_mul(ops, o, gate, o, d);
        }
}

/* Where q, k and v stand in buf->mid, and what of them the linears give where. */
static void place(const Pass *ps, const GqaConf *conf, const ChunkBuffers *buf, Heads *h, Projection *p)
{
    const ModelConfig *c = ps->cfg;
    int64_t nq = (int64_t)c->heads * c->head_dim, nkv = (int64_t)c->kv_heads * c->head_dim, all = nq + 2 * nkv;
    float *k = buf->mid + ps->rows * nq;
    *h = conf->fused ? (Heads){{buf->mid, buf->mid + nq, buf->mid + nq + nkv}, buf->mid + ps->rows * all,
                               {all, all, all}, {nq, nkv, nkv}, NULL}
                     : (Heads){{buf->mid, k, k + ps->rows * nkv}, buf->mid, {nq, nkv, nkv}, {nq, nkv, nkv}, NULL};
    *p = (Projection){.x = buf->x, .n = conf->fused ? 1 : 3};
    for (int i = 0; i < p->n; i++) {
        p->slot[i] = qkv[i];
        p->y[i] = h->x[i];
        p->ld[i] = h->ld[i];
    }
    if (conf->gate) {
        p->y[0] = h->gate = buf->mid + ps->rows * all;
        p->ld[0] = 2 * nq;
    }
}

static Status project_heads(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Heads *h, Error *err)
{
    const GqaConf *conf = b->b->conf;
    HeadsRun run = {ps, b, h};
    FeedPiece after;
    Projection p;
    place(ps, conf, buf, h, &p);
    block_piece(ps, b, &(int){GQA_O}, 1, false, &after);
    RETURN_IF_ERROR(block_project(ps, b, &p, buf->act, &after, err));
    if (conf->gate)
        RETURN_IF_ERROR(pass_tiles(ps, PHASE_PACK, split_gate_task, &run, ps->rows, err));
    return pass_tiles(ps, PHASE_ELEMENTS, rotate_task, &run, ps->rows, err);
}

static Status forward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    const GqaConf *conf = b->b->conf;
    Heads h;
    RETURN_IF_ERROR(block_read(ps, b, buf, err));
    RETURN_IF_ERROR(project_heads(ps, b, buf, &h, err));
    AttnRun at = {.window = conf->window, .sinks = b->small[GQA_SINKS], .every_key = conf->every_key};
    RETURN_IF_ERROR(attention_heads(ps, b, GQA_O, &h, &at, err));
    if (h.gate)
        RETURN_IF_ERROR(pass_tiles(ps, PHASE_GATE, out_gate_task, &(HeadsRun){ps, b, &h}, ps->rows, err));
    return block_end(ps, b, GQA_O, h.o, buf, err);
}

static int first(const Block *b, int slot[STAGE_MAX], bool *gate)
{
    *gate = false;
    memcpy(slot, qkv, sizeof qkv);
    return ((const GqaConf *)b->conf)->fused ? 1 : 3;
}

static void need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    const GqaConf *conf = b->conf;
    const ModelConfig *c = ask->cfg;
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    int slot[STAGE_MAX];
    bool gate;
    int n = first(b, slot, &gate);
    out->row.mid = q + 2 * kv;
    if (conf->fused) /* what comes out of a fused linear is used in place, the result stands beside it */
        out->row.mid += q;
    if (conf->gate) /* what q_proj gives stands beside q */
        out->row.mid += 2 * q;
    out->row.act = need_acts(b, ask, slot, n);
    attention_need(ask, out);
    need_ends(b, ask, GQA_O, out);
}

static void past(const Block *b, const ModelConfig *cfg, PastShape *out)
{
    attention_past(cfg, out);
    if (((const GqaConf *)b->conf)->every_key)
        out->cannot = "attention whose tokens look at those behind them";
}

const BlockOps gqa_ops = {.need = need, .first = first, .forward = forward, .past = past};
