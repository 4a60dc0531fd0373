#include "run/block/attention.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "run/lineargrad.h"
#include "run/opsback.h"

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

/* q, k and v before what is done to heads. */
static Status project_heads(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Heads *h, Error *err)
{
    const GqaConf *conf = b->b->conf;
    HeadsRun run = {ps, b, h};
    FeedPiece after;
    Projection p;
    place(ps, conf, buf, h, &p);
    block_piece(ps, b, &(int){GQA_O}, 1, false, &after);
    RETURN_IF_ERROR(block_project(ps, b, &p, buf->act, &after, err));
    return conf->gate ? pass_tiles(ps, PHASE_PACK, split_gate_task, &run, ps->rows, err) : ST_OK;
}

/* Over heads that were turned, into h->o. */
static Status attend(Pass *ps, BlockRun *b, const Heads *h, AttnRun *at, Error *err)
{
    const GqaConf *conf = b->b->conf;
    *at = (AttnRun){.window = conf->window, .sinks = b->small[GQA_SINKS], .every_key = conf->every_key};
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, rotate_task, &(HeadsRun){ps, b, h}, ps->rows, err));
    return attention_heads(ps, b, GQA_O, h, at, err);
}

static Status forward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    Heads h;
    AttnRun at;
    RETURN_IF_ERROR(block_read(ps, b, buf, err));
    RETURN_IF_ERROR(project_heads(ps, b, buf, &h, err));
    RETURN_IF_ERROR(attend(ps, b, &h, &at, err));
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

/* Floats of a row of what `place` places. */
static int64_t heads_floats(const GqaConf *conf, const ModelConfig *c)
{
    int64_t q = (int64_t)c->heads * c->head_dim, floats = q + 2 * (int64_t)c->kv_heads * c->head_dim;
    if (conf->fused) /* what comes out of a fused linear is used in place, the result stands beside it */
        floats += q;
    if (conf->gate) /* what q_proj gives stands beside q */
        floats += 2 * q;
    return floats;
}

static void need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    int slot[STAGE_MAX];
    bool gate;
    int n = first(b, slot, &gate);
    out->row.mid = heads_floats(b->conf, ask->cfg);
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

/* ---- gradients ---- */

typedef struct GqaDown {
    HeadsRun run;
    Heads h;
    AttnRun at;
    float *base, *o, *og; /* where the heads stand; the attention's output; the same times its gates */
    float *raw[2];        /* q and k before their norms, NULL without */
    float *dy, *go;       /* gradients: of what the block gives, of og and then of o */
    float *d[3], *dx, *one, *edited;
    int64_t ld[3];
} GqaDown;

static void lay_out(const Block *b, const ModelConfig *c, int64_t edited, Cut *mid, GqaDown *d)
{
    const GqaConf *conf = b->conf;
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim, width[3] = {q, kv, kv};
    d->base = cut(mid, heads_floats(conf, c));
    d->o = cut(mid, q);
    d->og = conf->gate ? cut(mid, q) : d->o;
    d->raw[0] = cut(mid, b->small[GQA_Q_NORM] ? q : 0);
    d->raw[1] = cut(mid, b->small[GQA_K_NORM] ? kv : 0);
    d->dy = cut(mid, c->hidden);
    d->go = cut(mid, q);
    float *all = conf->fused ? cut(mid, q + 2 * kv) : NULL;
    for (int i = 0; i < 3; i++) {
        d->d[i] = !conf->fused ? cut(mid, width[i]) : all ? all + (i ? q + (i - 1) * kv : 0) : NULL;
        d->ld[i] = conf->fused ? q + 2 * kv : width[i];
    }
    d->dx = cut(mid, c->hidden);
    d->one = cut(mid, conf->fused ? 0 : c->hidden);
    d->edited = cut(mid, edited);
}

static void keep_raw_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const GqaDown *j = ctx;
    const Heads *h = &j->h;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, j->run.ps->rows); t++)
        for (int i = 0; i < 2; i++)
            if (j->raw[i])
                memcpy(j->raw[i] + t * h->width[i], h->x[i] + t * h->ld[i], (size_t)h->width[i] * sizeof(float));
}

static void unrotate_heads(const GqaDown *j, int part, int64_t t, const RopeTable *table, int64_t pos)
{
    const ModelConfig *c = j->run.ps->cfg;
    const Ops *ops = &j->run.ps->ops;
    const float *norm = j->run.b->small[part ? GQA_K_NORM : GQA_Q_NORM];
    const float *raw = norm ? j->raw[part] + t * j->h.width[part] : NULL;
    bool each = norm && ((const GqaConf *)j->run.b->b->conf)->qk_norm == QK_NORM_HEAD;
    int64_t n = j->h.width[part], d = c->head_dim;
    float *g = j->d[part] + t * j->ld[part];
    for (int64_t i = 0; i < n; i += d) {
        if (table)
            ops_rope_back(ops, g + i, table->cos + pos * table->half, table->sin + pos * table->half, table->half);
        if (each)
            ops_norm_back(ops, c->norm, raw + i, norm, c->eps, d, g + i, false, g + i);
    }
    if (norm && !each)
        ops_norm_back(ops, c->norm, raw, norm, c->eps, n, g, false, g);
}

static void unrotate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const GqaDown *j = ctx;
    const Pass *ps = j->run.ps;
    const RopeParams *rope = j->run.b->b->rope;
    int64_t t = index * PASS_TILE, end = pass_tile_end(index, ps->rows);
    int s = pass_sample_of_row(ps, t);
    for (; t < end; t++) {
        while (ps->in->start[s + 1] <= ps->row0 + t)
            s++;
        int64_t pos = ps->row0 + t - ps->in->start[s];
        const RopeTable *table = rope ? rope_table(&ps->r->rope, ps->cfg, rope, stream_length(ps->in, s)) : NULL;
        unrotate_heads(j, 0, t, table, pos);
        unrotate_heads(j, 1, t, table, pos);
    }
}

/* og = o times the gates, whose place then holds their sigmoids. */
static void gated_task(void *ctx, int64_t index, int worker)
{
    const GqaDown *j = ctx;
    int64_t t = index * PASS_TILE, q = j->h.width[0], rows = pass_tile_end(index, j->run.ps->rows) - t;
    memcpy(j->og + t * q, j->o + t * q, (size_t)(rows * q) * sizeof *j->og);
    Heads out = j->h;
    out.o = j->og;
    out_gate_task(&(HeadsRun){j->run.ps, j->run.b, &out}, index, worker);
}

/* go, of og, becomes that of o; the place of the gates holds theirs. */
static void ungate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const GqaDown *j = ctx;
    const MathKernels *k = j->run.ps->ops.k;
    int64_t d = j->run.ps->cfg->head_dim, q = j->h.width[0];
    for (int64_t at = index * PASS_TILE * q; at < pass_tile_end(index, j->run.ps->rows) * q; at += d) {
        float *gate = j->h.gate + 2 * at + d, *of = j->og + at, *go = j->go + at; /* og is no longer wanted */
        k->mul(j->o + at, go, of, d);
        k->mul(go, gate, go, d);
        ops_sigmoid_back(gate, of, d);
        memcpy(gate, of, (size_t)d * sizeof *gate);
    }
}

/* The gradient of q to its place beside the gate's. */
static void join_gate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const GqaDown *j = ctx;
    int64_t d = j->run.ps->cfg->head_dim, q = j->h.width[0];
    for (int64_t at = index * PASS_TILE * q; at < pass_tile_end(index, j->run.ps->rows) * q; at += d)
        memcpy(j->h.gate + 2 * at, j->d[0] + at, (size_t)d * sizeof(float));
}

/* The forward again, as far as o_proj. */
static Status again(Pass *ps, BlockRun *b, const ChunkBuffers *buf, GqaDown *d, Error *err)
{
    ChunkBuffers at = *buf;
    at.mid = d->base;
    RETURN_IF_ERROR(block_read(ps, b, buf, err));
    RETURN_IF_ERROR(project_heads(ps, b, &at, &d->h, err));
    d->h.o = d->o;
    if (d->raw[0] || d->raw[1])
        RETURN_IF_ERROR(pass_tiles(ps, PHASE_PACK, keep_raw_task, d, ps->rows, err));
    RETURN_IF_ERROR(attend(ps, b, &d->h, &d->at, err));
    d->at.ops = &ps->ops;
    return d->h.gate ? pass_tiles(ps, PHASE_GATE, gated_task, d, ps->rows, err) : ST_OK;
}

/* dx of the linears that gave q, k and v. */
static Status unproject(Pass *ps, BlockRun *b, const ChunkBuffers *buf, const GqaDown *d, Error *err)
{
    const GqaConf *conf = b->b->conf;
    int64_t hidden = ps->cfg->hidden;
    int n = conf->fused ? 1 : 3;
    for (int i = n - 1; i >= 0; i--) {
        bool gated = i == 0 && conf->gate;
        float *to = i == n - 1 ? d->dx : d->one;
        const LinearBack a = {.x = buf->x, .ldx = hidden, .g = gated ? d->h.gate : d->d[i],
                              .ldg = gated ? 2 * d->h.width[0] : d->ld[i], .dx = to, .lddx = hidden, .rows = ps->rows,
                              .edited = d->edited};
        RETURN_IF_ERROR(grad_linear(ps, &b->lin[qkv[i]], &a, err));
        if (to == d->one)
            RETURN_IF_ERROR(grad_add(ps, d->one, d->dx, ps->rows * hidden, err));
    }
    return ST_OK;
}

static Status backward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    GqaDown d = {.run = {ps, b, NULL}};
    Cut mid = {buf->mid, ps->rows, 0};
    lay_out(b->b, ps->cfg, grad_edits_of(ps, b), &mid, &d);
    RETURN_IF_ERROR(again(ps, b, buf, &d, err));
    RETURN_IF_ERROR(grad_begin(ps, b, GQA_O, d.og, buf, d.dy, err));
    int64_t q = d.h.width[0];
    const LinearBack o = {.x = d.og, .ldx = q, .g = d.dy, .ldg = ps->cfg->hidden, .dx = d.go, .lddx = q, .rows = ps->rows,
                          .edited = d.edited};
    RETURN_IF_ERROR(grad_linear(ps, &b->lin[GQA_O], &o, err));
    if (d.h.gate)
        RETURN_IF_ERROR(pass_tiles(ps, PHASE_GATE, ungate_task, &d, ps->rows, err));
    const AttnBack back = {.at = &d.at, .go = d.go, .ldgo = q, .d = {d.d[0], d.d[1], d.d[2]},
                           .ldd = {d.ld[0], d.ld[1], d.ld[2]}};
    RETURN_IF_ERROR(attention_backward(&back, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, unrotate_task, &d, ps->rows, err));
    if (d.h.gate)
        RETURN_IF_ERROR(pass_tiles(ps, PHASE_PACK, join_gate_task, &d, ps->rows, err));
    RETURN_IF_ERROR(unproject(ps, b, buf, &d, err));
    return grad_end(ps, b, buf, d.dx, err);
}

static void backward_need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    int slot[STAGE_MAX];
    bool gate;
    int n = first(b, slot, &gate);
    Cut mid = {NULL, 1, 0};
    GqaDown d = {.at = {0}};
    lay_out(b, ask->cfg, grad_edits(b, ask), &mid, &d);
    out->row.mid = mid.floats;
    out->row.act = need_acts(b, ask, slot, n);
    attention_back_need(ask, out);
    grad_need_ends(b, ask, GQA_O, out);
}

const BlockOps gqa_ops = {.need = need, .first = first, .forward = forward, .past = past, .backward = backward,
                          .backward_need = backward_need};
