#include <string.h>

#include "base/num.h"
#include "run/block/attention.h"
#include "run/block/indexer.h"

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

static Status forward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    const ModelConfig *c = ps->cfg;
    int64_t nq = (int64_t)c->heads * c->head_dim, nv = (int64_t)c->heads * c->mla.v;
    bool latent = c->mla.q_rank > 0, index = b->lin[MLA_INDEX_Q].lin != NULL;
    MlaRun m = {.ps = ps, .b = b};
    FeedPiece q_piece, kv_piece, o_piece;
    RETURN_IF_ERROR(block_read(ps, b, buf, err));
    place(&m, buf->mid);
    const Projection down = {buf->x, index ? 4 : 2, {latent ? MLA_Q_A : MLA_Q, MLA_KV_A, MLA_INDEX_K, MLA_INDEX_W},
                             {latent ? m.q_a : m.q, m.kv_a, m.index.k, m.index.w}, {0}};
    const Projection q = {m.q_a, index ? 2 : 1, {MLA_Q, MLA_INDEX_Q}, {m.q, m.index.q}, {0}};
    const Projection kv = {m.c, 1, {MLA_KV_B}, {m.kv_b}, {0}};
    block_piece(ps, b, q.slot, q.n, false, &q_piece);
    block_piece(ps, b, kv.slot, kv.n, false, &kv_piece);
    block_piece(ps, b, &(int){MLA_O}, 1, false, &o_piece);
    RETURN_IF_ERROR(block_project(ps, b, &down, buf->act, latent ? &q_piece : &kv_piece, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, latent_task, &m, ps->rows, err));
    if (latent)
        RETURN_IF_ERROR(block_project(ps, b, &q, buf->act, &kv_piece, err));
    RETURN_IF_ERROR(block_project(ps, b, &kv, buf->act, &o_piece, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, heads_task, &m, ps->rows, err));
    if (c->index.heads)
        RETURN_IF_ERROR(index ? indexer_choose(&m.index, err) : indexer_inherit(ps, err));
    Heads h = {.x = {m.q, m.k, m.v}, .ld = {nq, nq, nv}, .width = {nq, nq, nv}, .o = m.kv_b};
    AttnRun at = {.window = ((const MlaConf *)b->b->conf)->window,
                  .select = indexer_acts(c, ps->plan.longest_sample)};
    RETURN_IF_ERROR(attention_heads(ps, b, MLA_O, &h, &at, err));
    return block_end(ps, b, MLA_O, h.o, buf, err);
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

const BlockOps mla_ops = {.need = need, .first = first, .forward = forward, .past = past, .carries = carries};
