#include "run/engine.h"

#include <string.h>

/* Multi-head latent attention (specs/models.md 2.4): q, and k and v together, come from narrow normed vectors; the
 * rotated part of k is one for all heads. */

#define LATENT_EPS 1e-6 /* whatever rms_norm_eps says */

enum { MLA_TILE = 64 };

int64_t mla_row_floats(const ModelConfig *c)
{
    const MlaConfig *a = &c->mla;
    int64_t heads = c->heads;
    return a->q_rank + (a->kv_rank + a->rope) + a->kv_rank + heads * (a->nope + a->v) + 2 * heads * c->head_dim +
           heads * a->v + c->index.heads * (c->index.dim + 1) + c->index.dim;
}

/* Where a chunk's intermediate values stand. */
typedef struct MlaRun {
    Pass *ps;
    float *q_a;  /* [rows][q_rank], normed in place */
    float *kv_a; /* [rows][kv_rank + rope] */
    float *c;    /* [rows][kv_rank] normed */
    float *kv_b; /* [rows][heads][nope + v]; the attention's output in the end */
    float *q, *k, *v;
    IndexRun index; /* of a layer that has one */
} MlaRun;

static int64_t tile_last(const Pass *ps, int64_t index)
{
    return (index + 1) * MLA_TILE < ps->rows ? (index + 1) * MLA_TILE : ps->rows;
}

static Status run_tiles(MlaRun *m, PoolTask *fn, Error *err)
{
    Batch b = {.n = 0};
    batch_add(&b, fn, m, (m->ps->rows + MLA_TILE - 1) / MLA_TILE);
    return batch_run(&b, m->ps->r->opt.pool, m->ps->r->opt.cancel, err);
}

static void latent_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const MlaRun *m = ctx;
    const Pass *ps = m->ps;
    const Model *mod = ps->r->m;
    const MlaConfig *a = &mod->cfg.mla;
    for (int64_t t = index * MLA_TILE; t < tile_last(ps, index); t++) {
        float *q = m->q_a + t * a->q_rank;
        if (a->q_rank)
            ops_norm(&ps->ops, mod->arch->norm, q, ps->norm[NORM_Q_A], LATENT_EPS, a->q_rank, q);
        ops_norm(&ps->ops, mod->arch->norm, m->kv_a + t * (a->kv_rank + a->rope), ps->norm[NORM_KV_A], LATENT_EPS,
                 a->kv_rank, m->c + t * a->kv_rank);
        if (a->kv_scale != 1)
            ops_scale(&ps->ops, m->c + t * a->kv_rank, a->kv_scale, a->kv_rank);
    }
}

void mla_rotate(const Pass *ps, bool interleaved, float *x, const float *c, const float *s)
{
    const MlaConfig *a = &ps->r->m->cfg.mla;
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
    const ModelConfig *cfg = &ps->r->m->cfg;
    const MlaConfig *a = &cfg->mla;
    int64_t t = index * MLA_TILE, d = cfg->head_dim, heads = cfg->heads;
    int s = pass_sample_of_row(ps, t);
    for (; t < tile_last(ps, index); t++) {
        while (ps->in->start[s + 1] <= ps->row0 + t)
            s++;
        const RopeTable *table = rope_table(&ps->r->rope, cfg, false, ps->in->start[s + 1] - ps->in->start[s]);
        int64_t at = (ps->row0 + t - ps->in->start[s]) * table->half;
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

/* Up to STAGE_MAX linears over one input; ends with a NULL. */
typedef struct Projection {
    const float *x;
    LinearRun *lin[STAGE_MAX + 1];
    float *y[STAGE_MAX];
} Projection;

/* One stage over the linears, their outputs to the taps; what is read next is `next`'s first piece. */
static Status project(Pass *ps, const Projection *p, float *act, const Projection *next, Error *err)
{
    Stage st = {.ps = ps, .x = p->x, .act_scratch = act,
                .in_mask = pass_tap_mask(ps, TAP_LINEAR_IN, p->lin[0]->index)};
    FeedPiece after;
    int n = 0;
    for (; p->lin[st.n]; st.n++) {
        st.lin[st.n] = p->lin[st.n];
        st.y[st.n] = p->y[st.n];
        st.ldy[st.n] = p->lin[st.n]->lin->out;
    }
    while (next->lin[n])
        n++;
    stage_first_piece((const LinearRun *const *)next->lin, n, false, ps->piece_max, &after);
    RETURN_IF_ERROR(stage_run(&st, NULL, &after, err));
    for (int i = 0; i < st.n; i++)
        RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, st.lin[i]->index, st.y[i], st.ldy[i], st.ldy[i], err));
    return ST_OK;
}

/* Gives each intermediate value of the chunk its place in `at`. */
static void place(MlaRun *m, float *at)
{
    const ModelConfig *c = &m->ps->r->m->cfg;
    const MlaConfig *a = &c->mla;
    int64_t n = m->ps->rows, nq = (int64_t)c->heads * c->head_dim;
    m->q_a = at;
    m->kv_a = m->q_a + n * a->q_rank;
    m->c = m->kv_a + n * (a->kv_rank + a->rope);
    m->kv_b = m->c + n * a->kv_rank;
    m->q = m->kv_b + n * c->heads * (a->nope + a->v);
    m->k = m->q + n * nq;
    m->v = m->k + n * nq;
    m->index = (IndexRun){.ps = m->ps, .q = m->v + n * c->heads * a->v};
    m->index.k = m->index.q + n * c->index.heads * c->index.dim;
    m->index.w = m->index.k + n * c->index.dim;
}

Status mla_heads(Pass *ps, const ChunkBuffers *b, Heads *h, Error *err)
{
    const ModelConfig *c = &ps->r->m->cfg;
    LinearRun *l = ps->lin;
    int64_t nq = (int64_t)c->heads * c->head_dim, nv = (int64_t)c->heads * c->mla.v;
    bool latent = c->mla.q_rank > 0, index = l[L_INDEX_Q].lin != NULL;
    MlaRun m = {.ps = ps};
    place(&m, b->mid);
    const Projection down = {b->x,
                             {latent ? &l[L_Q_A] : &l[L_Q], &l[L_KV_A], index ? &l[L_INDEX_K] : NULL, &l[L_INDEX_W]},
                             {latent ? m.q_a : m.q, m.kv_a, m.index.k, m.index.w}};
    const Projection q = {m.q_a, {&l[L_Q], index ? &l[L_INDEX_Q] : NULL}, {m.q, m.index.q}};
    const Projection kv = {m.c, {&l[L_KV_B]}, {m.kv_b}}, o = {NULL, {&l[L_O]}, {NULL}};
    RETURN_IF_ERROR(project(ps, &down, b->act, latent ? &q : &kv, err));
    RETURN_IF_ERROR(run_tiles(&m, latent_task, err));
    if (latent)
        RETURN_IF_ERROR(project(ps, &q, b->act, &kv, err));
    RETURN_IF_ERROR(project(ps, &kv, b->act, &o, err));
    RETURN_IF_ERROR(run_tiles(&m, heads_task, err));
    if (c->index.heads)
        RETURN_IF_ERROR(index ? indexer_choose(&m.index, err) : indexer_inherit(ps, err));
    *h = (Heads){.x = {m.q, m.k, m.v}, .ld = {nq, nq, nv}, .width = {nq, nq, nv}, .o = m.kv_b};
    return ST_OK;
}
