#include <string.h>

#include "base/num.h"
#include "run/block/attention.h"
#include "run/block/indexer.h"
#include "run/lineargrad.h"
#include "run/opsback.h"

/* Multi-head latent attention (specs/models.md 2.4): q, and k and v together, come from narrow normed vectors; the
 * rotated part of k is one for all heads. */

#define LATENT_EPS 1e-6 /* whatever rms_norm_eps says */

static int64_t row_floats(const ModelConfig *c)
{
    const MlaConfig *a = &c->mla;
    int64_t heads = c->heads;
    return a->q_rank + (a->kv_rank + a->rope) + a->kv_rank + heads * (a->nope + a->v) + 2 * heads * c->head_dim +
           heads * a->v + c->index.heads * (c->index.dim + 1) + c->index.dim;
}

/* Where a chunk's intermediate values stand. */
typedef struct MlaRun {
    Pass *ps;
    const BlockRun *b;
    float *q_a;  /* [rows][q_rank], normed in place */
    float *kv_a; /* [rows][kv_rank + rope] */
    float *c;    /* [rows][kv_rank] normed */
    float *kv_b; /* [rows][heads][nope + v]; the attention's output in the end */
    float *q, *k, *v;
    IndexRun index; /* of a layer that has one */
} MlaRun;

static void latent_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const MlaRun *m = ctx;
    const Pass *ps = m->ps;
    const MlaConfig *a = &ps->cfg->mla;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, ps->rows); t++) {
        float *q = m->q_a + t * a->q_rank;
        if (a->q_rank)
            ops_norm(&ps->ops, ps->cfg->norm, q, m->b->small[MLA_Q_A_NORM], m->b->shift[MLA_Q_A_NORM], LATENT_EPS,
                     a->q_rank, q);
        ops_norm(&ps->ops, ps->cfg->norm, m->kv_a + t * (a->kv_rank + a->rope), m->b->small[MLA_KV_A_NORM],
                 m->b->shift[MLA_KV_A_NORM], LATENT_EPS, a->kv_rank, m->c + t * a->kv_rank);
        if (a->kv_scale != 1)
            ops_scale(&ps->ops, m->c + t * a->kv_rank, a->kv_scale, a->kv_rank);
    }
}

void mla_rotate(const Pass *ps, bool interleaved, float *x, const float *c, const float *s)
{
    const MlaConfig *a = &ps->cfg->mla;
    int half = a->rope / 2;
    float apart[MLA_ROPE_MAX];
    if (interleaved) {
        for (int j = 0; j < half; j++) {
            apart[j] = x[2 * j];
            apart[half + j] = x[2 * j + 1];
        }
        memcpy(x, apart, (size_t)a->rope * sizeof *x);
    }
    ops_rope(&ps->ops, x, c, s, half);
}

/* Rotates q and the shared part of k, and puts every head's k and v together. */
static void heads_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const MlaRun *m = ctx;
    const Pass *ps = m->ps;
    const ModelConfig *cfg = ps->cfg;
    const MlaConfig *a = &cfg->mla;
    int64_t t = index * PASS_TILE, d = cfg->head_dim, heads = cfg->heads;
    int s = pass_sample_of_row(ps, t);
    for (; t < pass_tile_end(index, ps->rows); t++) {
        while (ps->in->start[s + 1] <= ps->row0 + t)
            s++;
        const RopeTable *table = rope_table(&ps->r->rope, cfg, m->b->b->rope, stream_length(ps->in, s));
        int64_t at = (ps->row0 + t - ps->in->start[s] + stream_seen(ps->in, s)) * table->half;
        float *shared = m->kv_a + t * (a->kv_rank + a->rope) + a->kv_rank;
        if (a->q_scale != 1)
            ops_scale(&ps->ops, m->q + t * heads * d, a->q_scale, heads * d);
        mla_rotate(ps, a->interleaved, shared, table->cos + at, table->sin + at);
        for (int64_t h = 0; h < heads; h++) {
            const float *kv = m->kv_b + (t * heads + h) * (a->nope + a->v);
            float *k = m->k + (t * heads + h) * d;
            mla_rotate(ps, a->interleaved, m->q + (t * heads + h) * d + a->nope, table->cos + at, table->sin + at);
            memcpy(k, kv, (size_t)a->nope * sizeof *k);
            memcpy(k + a->nope, shared, (size_t)a->rope * sizeof *k);
            memcpy(m->v + (t * heads + h) * a->v, kv + a->nope, (size_t)a->v * sizeof *k);
        }
    }
}

/* Gives each intermediate value of the chunk its place in `at`. */
static void place(MlaRun *m, float *at)
{
    const ModelConfig *c = m->ps->cfg;
    const MlaConfig *a = &c->mla;
    int64_t n = m->ps->rows, nq = (int64_t)c->heads * c->head_dim;
    m->q_a = at;
    m->kv_a = m->q_a + n * a->q_rank;
    m->c = m->kv_a + n * (a->kv_rank + a->rope);
    m->kv_b = m->c + n * a->kv_rank;
    m->q = m->kv_b + n * c->heads * (a->nope + a->v);
    m->k = m->q + n * nq;
    m->v = m->k + n * nq;
    m->index = (IndexRun){.ps = m->ps, .b = m->b, .rope = m->b->b->rope, .norm = m->b->small[MLA_INDEX_NORM],
                          .bias = m->b->small[MLA_INDEX_BIAS], .q = m->v + n * c->heads * a->v};
    m->index.turn_q = overlay_scored(m->ps->r->opt.overlay, m->b->b->linear[MLA_INDEX_Q]);
    m->index.turn_k = overlay_scored(m->ps->r->opt.overlay, m->b->b->linear[MLA_INDEX_K]);
    m->index.k = m->index.q + n * c->index.heads * c->index.dim;
    m->index.w = m->index.k + n * c->index.dim;
}

/* q, k and v of the heads. raw: room for q_a before its norm; NULL: nobody wants it. */
static Status project(MlaRun *m, BlockRun *b, const ChunkBuffers *buf, float *raw, Error *err)
{
    Pass *ps = m->ps;
    const ModelConfig *c = ps->cfg;
    bool latent = c->mla.q_rank > 0, index = b->lin[MLA_INDEX_Q].lin != NULL;
    FeedPiece q_piece, kv_piece, o_piece;
    const Projection down = {buf->x, index ? 4 : 2, {latent ? MLA_Q_A : MLA_Q, MLA_KV_A, MLA_INDEX_K, MLA_INDEX_W},
                             {latent ? m->q_a : m->q, m->kv_a, m->index.k, m->index.w}, {0}};
    const Projection q = {m->q_a, index ? 2 : 1, {MLA_Q, MLA_INDEX_Q}, {m->q, m->index.q}, {0}};
    const Projection kv = {m->c, 1, {MLA_KV_B}, {m->kv_b}, {0}};
    block_piece(ps, b, q.slot, q.n, false, &q_piece);
    block_piece(ps, b, kv.slot, kv.n, false, &kv_piece);
    block_piece(ps, b, &(int){MLA_O}, 1, false, &o_piece);
    RETURN_IF_ERROR(block_project(ps, b, &down, buf->act, latent ? &q_piece : &kv_piece, err));
    if (raw)
        memcpy(raw, m->q_a, (size_t)(ps->rows * c->mla.q_rank) * sizeof *raw);
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, latent_task, m, ps->rows, err));
    if (latent)
        RETURN_IF_ERROR(block_project(ps, b, &q, buf->act, &kv_piece, err));
    RETURN_IF_ERROR(block_project(ps, b, &kv, buf->act, &o_piece, err));
    return pass_tiles(ps, PHASE_ELEMENTS, heads_task, m, ps->rows, err);
}

/* The keys that are looked at, and the attention over them, into o. */
static Status attend(MlaRun *m, BlockRun *b, float *o, AttnRun *at, Error *err)
{
    Pass *ps = m->ps;
    const ModelConfig *c = ps->cfg;
    int64_t nq = (int64_t)c->heads * c->head_dim, nv = (int64_t)c->heads * c->mla.v;
    if (c->index.heads)
        RETURN_IF_ERROR(b->lin[MLA_INDEX_Q].lin ? indexer_choose(&m->index, err) : indexer_inherit(ps, err));
    const Heads h = {.x = {m->q, m->k, m->v}, .ld = {nq, nq, nv}, .width = {nq, nq, nv}, .o = o};
    *at = (AttnRun){.window = ((const MlaConf *)b->b->conf)->window,
                    .select = indexer_acts(c, ps->plan.longest_sample)};
    return attention_heads(ps, b, MLA_O, &h, at, err);
}

static Status forward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    MlaRun m = {.ps = ps, .b = b};
    AttnRun at;
    RETURN_IF_ERROR(block_read(ps, b, buf, err));
    place(&m, buf->mid);
    RETURN_IF_ERROR(project(&m, b, buf, NULL, err));
    RETURN_IF_ERROR(attend(&m, b, m.kv_b, &at, err));
    return block_end(ps, b, MLA_O, m.kv_b, buf, err);
}

static int first(const Block *b, int slot[STAGE_MAX], bool *gate)
{
    const int all[] = {b->linear[MLA_Q_A] >= 0 ? MLA_Q_A : MLA_Q, MLA_KV_A, MLA_INDEX_K, MLA_INDEX_W};
    memcpy(slot, all, sizeof all);
    *gate = false;
    return b->linear[MLA_INDEX_K] >= 0 ? 4 : 2;
}

static void need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    const ModelConfig *c = ask->cfg;
    int slot[STAGE_MAX];
    bool gate;
    int n = first(b, slot, &gate);
    out->row.mid = row_floats(c);
    out->row.act = max_i64(need_acts(b, ask, slot, n), need_acts(b, ask, &(int){MLA_KV_B}, 1));
    if (c->mla.q_rank)
        out->row.act = max_i64(out->row.act, need_acts(b, ask, (const int[]){MLA_Q, MLA_INDEX_Q},
                                                       b->linear[MLA_INDEX_Q] >= 0 ? 2 : 1));
    attention_need(ask, out);
    if (indexer_acts(c, ask->longest)) {
        out->worker.scores *= 2;
        need_product(ask, &out->worker, ATTENTION_ROWS_MAX, ask->longest, c->index.dim);
    }
    out->kept = indexer_row_bytes(c, ask->longest);
    need_ends(b, ask, MLA_O, out);
}

static bool carries(const Block *b, const ModelConfig *cfg, int64_t longest)
{
    return ((const MlaConf *)b->conf)->inherits && indexer_acts(cfg, longest);
}

static void past(const Block *b, const ModelConfig *cfg, PastShape *out)
{
    attention_past(cfg, out);
    if (b->linear[MLA_INDEX_K] >= 0)
        out->row[INDEXER_PAST] = cfg->index.dim;
}

/* ---- gradients: of attention over the keys that were chosen; the choice stays as it is, so the indexer has none ---- */

typedef struct MlaDown {
    MlaRun m;
    AttnRun at;
    float *base, *o, *raw;      /* where `place` places; the attention's output; q_a before its norm, NULL without */
    float *dy, *go, *d[3];      /* gradients: of what the block gives, of o, and of q, k and v */
    float *dkv_b, *dc, *dkv_a, *dq_a, *dx, *one, *edited;
} MlaDown;

static void lay_out(const ModelConfig *c, int64_t edited, Cut *mid, MlaDown *d)
{
    const MlaConfig *a = &c->mla;
    int64_t nq = (int64_t)c->heads * c->head_dim, nv = (int64_t)c->heads * a->v;
    d->base = cut(mid, row_floats(c));
    d->o = cut(mid, nv);
    d->raw = cut(mid, a->q_rank);
    d->dy = cut(mid, c->hidden);
    d->go = cut(mid, nv);
    d->d[0] = cut(mid, nq);
    d->d[1] = cut(mid, nq);
    d->d[2] = cut(mid, nv);
    d->dkv_b = cut(mid, c->heads * (int64_t)(a->nope + a->v));
    d->dc = cut(mid, a->kv_rank);
    d->dkv_a = cut(mid, a->kv_rank + a->rope);
    d->dq_a = cut(mid, a->q_rank);
    d->dx = cut(mid, c->hidden);
    d->one = cut(mid, c->hidden);
    d->edited = cut(mid, edited);
}

/* The transpose of mla_rotate. */
static void unrotate(const Pass *ps, float *g, const float *c, const float *s)
{
    const MlaConfig *a = &ps->cfg->mla;
    int half = a->rope / 2;
    float apart[MLA_ROPE_MAX];
    ops_rope_back(&ps->ops, g, c, s, half);
    if (!a->interleaved)
        return;
    memcpy(apart, g, (size_t)a->rope * sizeof *g);
    for (int j = 0; j < half; j++) {
        g[2 * j] = apart[j];
        g[2 * j + 1] = apart[half + j];
    }
}

/* From q, k and v of the heads to what kv_b and the linears of q gave, and to the rotated part of kv_a. */
static void unheads_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const MlaDown *j = ctx;
    const Pass *ps = j->m.ps;
    const ModelConfig *cfg = ps->cfg;
    const MlaConfig *a = &cfg->mla;
    int64_t t = index * PASS_TILE, d = cfg->head_dim, heads = cfg->heads, part = a->nope + a->v;
    int s = pass_sample_of_row(ps, t);
    for (; t < pass_tile_end(index, ps->rows); t++) {
        while (ps->in->start[s + 1] <= ps->row0 + t)
            s++;
        const RopeTable *table = rope_table(&ps->r->rope, cfg, j->m.b->b->rope, stream_length(ps->in, s));
        int64_t at = (ps->row0 + t - ps->in->start[s]) * table->half;
        float *shared = j->dkv_a + t * (a->kv_rank + a->rope) + a->kv_rank;
        memset(shared, 0, (size_t)a->rope * sizeof *shared);
        for (int64_t h = 0; h < heads; h++) {
            const float *dk = j->d[1] + (t * heads + h) * d;
            float *dkv = j->dkv_b + (t * heads + h) * part;
            unrotate(ps, j->d[0] + (t * heads + h) * d + a->nope, table->cos + at, table->sin + at);
            memcpy(dkv, dk, (size_t)a->nope * sizeof *dk);
            memcpy(dkv + a->nope, j->d[2] + (t * heads + h) * a->v, (size_t)a->v * sizeof *dk);
            ps->ops.k->add(shared, dk + a->nope, shared, a->rope);
        }
        unrotate(ps, shared, table->cos + at, table->sin + at);
        if (a->q_scale != 1)
            ps->ops.k->scale(j->d[0] + t * heads * d, a->q_scale, j->d[0] + t * heads * d, heads * d);
    }
}

/* Back through the norms of the narrow vectors. */
static void unlatent_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const MlaDown *j = ctx;
    const Pass *ps = j->m.ps;
    const MlaConfig *a = &ps->cfg->mla;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, ps->rows); t++) {
        int64_t wide = t * (a->kv_rank + a->rope);
        float *dc = j->dc + t * a->kv_rank;
        if (a->kv_scale != 1)
            ps->ops.k->scale(dc, a->kv_scale, dc, a->kv_rank);
        ops_norm_back(&ps->ops, ps->cfg->norm, j->m.kv_a + wide, j->m.b->small[MLA_KV_A_NORM], LATENT_EPS, a->kv_rank, dc,
                      false, j->dkv_a + wide);
        if (a->q_rank)
            ops_norm_back(&ps->ops, ps->cfg->norm, j->raw + t * a->q_rank, j->m.b->small[MLA_Q_A_NORM], LATENT_EPS, a->q_rank,
                          j->dq_a + t * a->q_rank, false, j->dq_a + t * a->q_rank);
    }
}

/* One linear of the way down. */
static Status down_linear(Pass *ps, BlockRun *b, const MlaDown *d, int slot, const float *x, const float *g, float *dx, Error *err)
{
    const Linear *l = b->lin[slot].lin;
    const LinearBack a = {.x = x, .ldx = l->in, .g = g, .ldg = l->out, .dx = dx, .lddx = l->in, .rows = ps->rows,
                          .edited = d->edited};
    return grad_linear(ps, &b->lin[slot], &a, err);
}

static Status backward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    const ModelConfig *c = ps->cfg;
    int64_t nq = (int64_t)c->heads * c->head_dim, nv = (int64_t)c->heads * c->mla.v, rank = c->mla.q_rank;
    MlaDown d = {.m = {.ps = ps, .b = b}};
    Cut mid = {buf->mid, ps->rows, 0};
    lay_out(c, grad_edits_of(ps, b), &mid, &d);
    RETURN_IF_ERROR(block_read(ps, b, buf, err));
    place(&d.m, d.base);
    RETURN_IF_ERROR(project(&d.m, b, buf, d.raw, err));
    RETURN_IF_ERROR(attend(&d.m, b, d.o, &d.at, err));
    d.at.ops = &ps->ops;
    RETURN_IF_ERROR(grad_begin(ps, b, MLA_O, d.o, buf, d.dy, err));
    RETURN_IF_ERROR(down_linear(ps, b, &d, MLA_O, d.o, d.dy, d.go, err));
    RETURN_IF_ERROR(attention_backward(&(AttnBack){.at = &d.at, .go = d.go, .ldgo = nv, .d = {d.d[0], d.d[1], d.d[2]},
                                                   .ldd = {nq, nq, nv}}, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, unheads_task, &d, ps->rows, err));
    RETURN_IF_ERROR(down_linear(ps, b, &d, MLA_KV_B, d.m.c, d.dkv_b, d.dc, err));
    if (rank)
        RETURN_IF_ERROR(down_linear(ps, b, &d, MLA_Q, d.m.q_a, d.d[0], d.dq_a, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, unlatent_task, &d, ps->rows, err));
    RETURN_IF_ERROR(down_linear(ps, b, &d, MLA_KV_A, buf->x, d.dkv_a, d.dx, err));
    RETURN_IF_ERROR(down_linear(ps, b, &d, rank ? MLA_Q_A : MLA_Q, buf->x, rank ? d.dq_a : d.d[0], d.one, err));
    RETURN_IF_ERROR(grad_add(ps, d.one, d.dx, ps->rows * c->hidden, err));
    return grad_end(ps, b, buf, d.dx, err);
}

static void backward_need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    Cut mid = {NULL, 1, 0};
    MlaDown d = {.base = NULL};
    BlockNeed forward = {.kept = 0};
    need(b, ask, &forward);
    lay_out(ask->cfg, grad_edits(b, ask), &mid, &d);
    out->kept = forward.kept;
    attention_back_need(ask, out);
    out->worker.scores = max_u64(out->worker.scores, forward.worker.scores);
    out->worker.gemm = max_u64(out->worker.gemm, forward.worker.gemm);
    grad_need_ends(b, ask, MLA_O, out);
    out->row.mid = mid.floats;
    out->row.act = max_i64(out->row.act, forward.row.act);
}

const BlockOps mla_ops = {.need = need, .first = first, .forward = forward, .past = past, .carries = carries,
                          .backward = backward, .backward_need = backward_need};
