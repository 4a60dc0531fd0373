#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/block/compressed.h"
#include "run/lineargrad.h"
#include "run/opsback.h"

/* Gradients through compressed attention. Which entries a row looks at stays as it is, so the indexer has none. All heads look at
 * the same keys, which are the values too: a task takes some of the heads through a text, and what the parts give for its keys
 * is added in their order. */

enum { HEAD_PARTS = 4 };

typedef struct CompDown {
    CompressedRun r;
    float *base;             /* where the forward's values stand */
    float *dy, *do_a, *go;   /* gradients: of what the block gives, of what wo_a gave, of what attention gave */
    float *dq, *dqr, *dx, *one, *edited;
    float *dkv[HEAD_PARTS];  /* [rows][head_dim] of the window's keys; the first becomes the sum */
    float *dentry[HEAD_PARTS]; /* the same of entries, placed as they are */
    float *dcomp_kv, *dcomp_gate; /* [rows][width] */
} CompDown;

static int64_t comp_width(const ModelConfig *m, CompressKind kind)
{
    return kind == COMPRESS_NONE ? 0 : kind == COMPRESS_SPARSE ? 2 * m->head_dim : m->head_dim;
}

static int64_t entry_width(const ModelConfig *m, CompressKind kind)
{
    return kind == COMPRESS_NONE ? 0 : div_up(m->head_dim, m->compress.rate[kind]);
}

static void lay_out(const ModelConfig *m, CompressKind kind, int64_t edited, Cut *mid, CompDown *b)
{
    const CompressConfig *c = &m->compress;
    int64_t d = m->head_dim, q = m->heads * d;
    b->base = cut(mid, comp_row_floats(m));
    b->r.raw_qr = cut(mid, c->q_rank);
    b->r.raw_kv = cut(mid, d);
    b->r.raw_q = cut(mid, q);
    b->r.kept_q = cut(mid, q);
    b->dy = cut(mid, m->hidden);
    b->do_a = cut(mid, c->groups * c->group_rank);
    b->go = cut(mid, q);
    b->dq = cut(mid, q);
    b->dqr = cut(mid, c->q_rank);
    b->dx = cut(mid, m->hidden);
    b->one = cut(mid, m->hidden);
    b->edited = cut(mid, edited);
    for (int i = 0; i < HEAD_PARTS; i++) {
        b->dkv[i] = cut(mid, d);
        b->dentry[i] = cut(mid, entry_width(m, kind));
    }
    b->dcomp_kv = cut(mid, comp_width(m, kind));
    b->dcomp_gate = cut(mid, comp_width(m, kind));
}

/* ---- the attention ---- */

/* What a tile takes of the worker's scores behind the forward's. */
typedef struct Room {
    float *dkeys;            /* [keys][head_dim] */
    float *ds, *turned;      /* [rows][keys], [keys][rows] */
} Room;

static void turn(const float *x, int64_t rows, int64_t cols, float *y)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            y[j * rows + i] = x[i * cols + j];
}

/* One head's rows of a tile: dq, and what they add to the keys. */
static void head_back(const CompDown *b, const QueryTile *t, const Room *room, Worker *wk, int64_t head)
{
    const CompressedRun *r = &b->r;
    const Ops *o = &r->ps->ops;
    int64_t d = r->m->head_dim, ld = r->m->heads * d, rows = t->t1 - t->t0, n = t->window + t->entries;
    int64_t at = (t->base + t->t0) * ld + head * d;
    const float *q = r->kept_q + at, *go = b->go + at;
    float scale = (float)r->m->attn_scale;
    GemmArgs qk = {.m = rows, .n = n, .k = d, .x = q, .ldx = ld, .w = t->keys, .ldw = d, .y = t->scores, .ldy = n};
    ops_scores(o, &qk, scale, wk->gemm);
    GemmArgs gv = {.m = rows, .n = n, .k = d, .x = go, .ldx = ld, .w = t->keys, .ldw = d, .y = room->ds, .ldy = n};
    ops_product(o, &gv, wk->gemm);
    for (int64_t i = 0; i < rows; i++) {
        comp_shares(r, t, t->t0 + i, t->scores + i * n, r->b->small[COMP_SINKS][head]);
        ops_softmax_back(t->scores + i * n, room->ds + i * n, n, scale);
    }
    GemmArgs dq = {.m = rows, .n = d, .k = n, .x = room->ds, .ldx = n, .w = t->keys, .ldw = d, .w_by_k = true, .y = b->dq + at,
                   .ldy = ld};
    ops_product(o, &dq, wk->gemm);
    turn(t->scores, rows, n, room->turned);
    GemmArgs dv = {.m = n, .n = d, .k = rows, .x = room->turned, .ldx = rows, .w = go, .ldw = ld, .w_by_k = true,
                   .y = room->dkeys, .ldy = d, .beta = 1};
    ops_product(o, &dv, wk->gemm);
    turn(room->ds, rows, n, room->turned);
    GemmArgs dk = {.m = n, .n = d, .k = rows, .x = room->turned, .ldx = rows, .w = q, .ldw = ld, .w_by_k = true,
                   .y = room->dkeys, .ldy = d, .beta = 1};
    ops_product(o, &dk, wk->gemm);
}

static void heads_task(void *ctx, int64_t index, int worker)
{
    const CompDown *b = ctx;
    const CompressedRun *r = &b->r;
    const Pass *ps = r->ps;
    Worker *wk = &ps->r->worker[worker];
    int part = (int)(index % HEAD_PARTS), s = ps->s0 + (int)(index / HEAD_PARTS);
    int64_t d = r->m->head_dim, heads = r->m->heads, len = ps->in->start[s + 1] - ps->in->start[s];
    int64_t row = ps->in->start[s] - ps->row0;
    float *kv = b->dkv[part] + row * d, *entry = b->dentry[part] ? b->dentry[part] + row / r->rate * d : NULL;
    const RopeTable *rope = rope_table(&ps->r->rope, r->m, r->b->b->rope, len);
    memset(kv, 0, (size_t)(len * d) * sizeof *kv);
    if (entry)
        memset(entry, 0, (size_t)(len / r->rate * d) * sizeof *entry);
    for (int64_t t0 = 0; t0 < len && !cancel_level(ps->r->opt.cancel); t0 += QUERY_ROWS) {
        QueryTile t;
        comp_tile(r, s, t0, wk, &t);
        int64_t n = t.window + t.entries, rows = t.t1 - t.t0;
        Room room = {.dkeys = t.scores + rows * (n + 2 * t.entries)};
        room.ds = room.dkeys + n * d;
        room.turned = room.ds + rows * n;
        memset(room.dkeys, 0, (size_t)(n * d) * sizeof *room.dkeys);
        for (int64_t h = heads * part / HEAD_PARTS; h < heads * (part + 1) / HEAD_PARTS; h++) {
            for (int64_t i = 0; i < rows; i++) /* what the sum gave was turned back */
                comp_rotate(r, rope, t0 + i, false, b->go + ((row + t0 + i) * heads + h) * d, d);
            head_back(b, &t, &room, wk, h);
        }
        ps->ops.k->add(kv + t.lo * d, room.dkeys, kv + t.lo * d, t.window * d);
        if (t.entries)
            ps->ops.k->add(entry, room.dkeys + t.window * d, entry, t.entries * d);
    }
}

static Status attention_down(CompDown *b, Error *err)
{
    const Pass *ps = b->r.ps;
    Batch batch = {.n = 0};
    int64_t d = b->r.m->head_dim, entries = b->dentry[0] ? ps->rows / b->r.rate * d : 0;
    batch_add(&batch, PHASE_ATTENTION, heads_task, b, (int64_t)(ps->s1 - ps->s0) * HEAD_PARTS);
    if (entries) /* between the texts there are none */
        memset(b->dentry[0], 0, (size_t)entries * sizeof(float));
    RETURN_IF_ERROR(batch_run(&batch, ps->r->opt.pool, ps->r->opt.cancel, err));
    for (int i = 1; i < HEAD_PARTS; i++)
        RETURN_IF_ERROR(grad_add(ps, b->dkv[i], b->dkv[0], ps->rows * d, err));
    return ST_OK;
}

/* ---- entries, and what is before the scores ---- */

static void entries_down_task(void *ctx, int64_t index, int worker)
{
    const CompDown *b = ctx;
    const CompressedRun *r = &b->r;
    const Pass *ps = r->ps;
    int64_t t = index * PASS_TILE, end = pass_tile_end(index, ps->rows), d = r->m->head_dim;
    int64_t width = comp_width(r->m, r->kind);
    float *raw = ps->r->worker[worker].scores;
    RowAt at = {.sample = -1};
    for (; t < end; t++) {
        at = comp_row_at(r, t, at.sample);
        if ((at.pos + 1) % r->rate)
            continue;
        int64_t row = ps->in->start[at.sample] - ps->row0, w = at.pos / r->rate, place = (row / r->rate + w) * d;
        const Compressor c = {.kv = r->comp_kv + row * width, .gate = r->comp_gate + row * width, .ape = r->b->small[COMP_APE],
                              .rate = r->rate, .dim = d, .width = width, .overlap = r->kind == COMPRESS_SPARSE};
        float *g = b->dentry[0] + place;
        for (int i = 1; i < HEAD_PARTS; i++)
            ps->ops.k->add(g, b->dentry[i] + place, g, d);
        comp_rotate(r, at.rope, w * r->rate, true, g, d);
        compressor_entry(&c, &ps->ops, w, raw);
        ops_norm_back(&ps->ops, NORM_LATE, raw, r->b->small[COMP_NORM], r->m->eps, d, g, false, g);
        compressor_back(&c, &ps->ops, w, raw, g, b->dcomp_kv + row * width, b->dcomp_gate + row * width);
    }
}

/* Of x / sqrt(mean of x^2 + eps). */
static void plain_norm_back(const Ops *o, double eps, const float *x, int64_t n, float *g)
{
    double s = 1 / sqrt(o->k->sum_sq(x, n) / (double)n + (double)(float)eps), along = s * s / (double)n * ops_dot(x, g, n);
    for (int64_t i = 0; i < n; i++)
        g[i] = (float)(s * ((double)g[i] - along * (double)x[i]));
}

static void queries_down_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const CompDown *b = ctx;
    const CompressedRun *r = &b->r;
    const Ops *o = &r->ps->ops;
    int64_t d = r->m->head_dim;
    RowAt at = {.sample = -1};
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, r->ps->rows); t++) {
        at = comp_row_at(r, t, at.sample);
        for (int64_t h = 0; h < r->m->heads; h++) {
            float *g = b->dq + (t * r->m->heads + h) * d;
            comp_rotate(r, at.rope, at.pos, true, g, d);
            plain_norm_back(o, r->m->eps, r->raw_q + (t * r->m->heads + h) * d, d, g);
        }
        float *kv = b->dkv[0] + t * d;
        comp_rotate(r, at.rope, at.pos, true, kv, d);
        ops_norm_back(o, NORM_LATE, r->raw_kv + t * d, r->b->small[COMP_KV_A_NORM], r->m->eps, d, kv, false, kv);
    }
}

static void latent_down_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const CompDown *b = ctx;
    const CompressedRun *r = &b->r;
    int64_t rank = r->c->q_rank;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, r->ps->rows); t++)
        ops_norm_back(&r->ps->ops, NORM_LATE, r->raw_qr + t * rank, r->b->small[COMP_Q_A_NORM], r->m->eps, rank,
                      b->dqr + t * rank, false, b->dqr + t * rank);
}

/* ---- the block ---- */

/* dx = through one linear; more: added to what is there. */
static Status linear_down(CompDown *b, int slot, const float *x, const float *g, float *dx, bool more, Error *err)
{
    LinearRun *l = &b->r.b->lin[slot];
    int64_t in = l->lin->in * max_i64(l->lin->groups, 1);
    const LinearBack a = {.x = x, .ldx = in, .g = g, .ldg = l->lin->out, .dx = more ? b->one : dx, .lddx = in,
                          .rows = b->r.ps->rows, .edited = b->edited};
    RETURN_IF_ERROR(grad_linear(b->r.ps, l, &a, err));
    return more ? grad_add(b->r.ps, b->one, dx, b->r.ps->rows * in, err) : ST_OK;
}

static Status entries_down(CompDown *b, const ChunkBuffers *buf, Error *err)
{
    const Pass *ps = b->r.ps;
    size_t n = (size_t)(ps->rows * comp_width(b->r.m, b->r.kind)) * sizeof(float);
    memset(b->dcomp_kv, 0, n); /* tokens behind the last whole window are in none */
    memset(b->dcomp_gate, 0, n);
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, entries_down_task, b, ps->rows, err));
    RETURN_IF_ERROR(linear_down(b, COMP_GATE, buf->x, b->dcomp_gate, b->dx, false, err));
    return linear_down(b, COMP_KV, buf->x, b->dcomp_kv, b->dx, true, err);
}

Status compressed_backward(Pass *ps, BlockRun *blk, const ChunkBuffers *buf, Error *err)
{
    CompDown b = {.r = comp_of(ps, blk)};
    Cut mid = {buf->mid, ps->rows, 0};
    lay_out(ps->cfg, b.r.kind, grad_edits_of(ps, blk), &mid, &b);
    RETURN_IF_ERROR(comp_run(&b.r, buf, b.base, err));
    RETURN_IF_ERROR(grad_begin(ps, blk, COMP_O, b.r.o, buf, b.dy, err));
    RETURN_IF_ERROR(linear_down(&b, COMP_O, b.r.o, b.dy, b.do_a, false, err));
    RETURN_IF_ERROR(linear_down(&b, COMP_O_A, b.r.q, b.do_a, b.go, false, err));
    RETURN_IF_ERROR(attention_down(&b, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, queries_down_task, &b, ps->rows, err));
    RETURN_IF_ERROR(linear_down(&b, COMP_Q, b.r.qr, b.dq, b.dqr, false, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, latent_down_task, &b, ps->rows, err));
    if (b.r.rate)
        RETURN_IF_ERROR(entries_down(&b, buf, err));
    RETURN_IF_ERROR(linear_down(&b, COMP_KV_A, buf->x, b.dkv[0], b.dx, b.r.rate > 0, err));
    RETURN_IF_ERROR(linear_down(&b, COMP_Q_A, buf->x, b.dqr, b.dx, true, err));
    return grad_end(ps, blk, buf, b.dx, err);
}

void compressed_back_need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    const CompressedConf *conf = b->conf;
    const ModelConfig *m = ask->cfg;
    int64_t keys = comp_most_keys(m, conf->window, ask->longest);
    Cut mid = {NULL, 1, 0};
    CompDown d = {.base = NULL};
    lay_out(m, conf->kind, grad_edits(b, ask), &mid, &d);
    out->row.mid = mid.floats;
    out->worker.scores += (size_t)(keys * m->head_dim + 2 * QUERY_ROWS * keys);
    need_product(ask, &out->worker, keys, m->head_dim, QUERY_ROWS);
    grad_need_ends(b, ask, COMP_O, out);
}
