#include "run/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"

enum { ROW_TILE = 64 }; /* rows of one element-wise task */

/* ---- one pass ---- */

Status layer_linear_start(LayerRun *lr, LinearRun *l, int32_t index, Error *err)
{
    const Linear *lin = &lr->r->m->linears[index];
    int32_t first = lr->r->m->layers[lr->layer].first;
    *l = (LinearRun){.lin = lin, .index = index, .form = lr->forms ? lr->forms[index - first] : NULL,
                     .panels = panel_count(lin->out, lin->in)};
    if (!weight_readable(lin))
        return error_set(err, ST_DATA, "%s: weights of type %s cannot be run", lin->weight->name,
                         dtype_name(lin->weight->dtype));
    RETURN_IF_ERROR(weight_verify(lr->r->m, lin, err));
    l->weight_mask = taps_weight_wanted(&lr->hub, index);
    uint64_t in_mask = taps_wanted(&lr->hub, (Tap){TAP_LINEAR_IN, lr->layer, lin->input});
    if (taps_energy_wanted(&lr->hub, in_mask)) {
        l->energy = mem_zarray((size_t)(lr->blocks.n * l->panels), sizeof *l->energy);
        if (!l->energy)
            return error_nomem(err, "output energies");
    }
    l->bias_apart = lin->out_step > 0;
    if (!lin->bias)
        return ST_OK;
    return lin->out_step ? load_values(lr->r, lin->bias, lin->bias_at, lin->bias_step, lin->out, &l->bias, err)
                         : load_vector(lr->r, lin->bias, &l->bias, err);
}

static void linear_roles(const LayerTensors *t, int32_t index[LINEAR_ROLES])
{
    const int32_t all[LINEAR_ROLES] = {
        [L_Q] = t->q, [L_K] = t->k, [L_V] = t->v, [L_O] = t->o, [L_GATE] = t->gate, [L_UP] = t->up,
        [L_DOWN] = t->down, [L_Q_A] = t->q_a, [L_KV_A] = t->kv_a, [L_KV_B] = t->kv_b,
        [L_INDEX_Q] = t->index_q, [L_INDEX_K] = t->index_k, [L_INDEX_W] = t->index_w,
        [L_QKVZ] = t->qkvz, [L_BA] = t->ba, [L_ROUTER] = t->router_linear, [L_SHARED_GATE] = t->shared_gate,
        [L_O_A] = t->o_a, [L_COMP_KV] = t->comp_kv, [L_COMP_GATE] = t->comp_gate,
        [L_INDEX_COMP_KV] = t->index_comp_kv, [L_INDEX_COMP_GATE] = t->index_comp_gate,
    };
    memcpy(index, all, sizeof all);
}

/* Multiply-adds of the half over `rows` rows. */
static double half_work(const Model *m, const LayerTensors *t, double rows)
{
    int32_t index[LINEAR_ROLES];
    double work = t->expert >= 0 ? 3.0 * (double)m->cfg.moe.inter * (double)m->cfg.hidden * m->cfg.moe.top_k : 0;
    linear_roles(t, index);
    for (int i = 0; i < LINEAR_ROLES; i++)
        if (index[i] >= 0)
            work += (double)m->linears[index[i]].out * (double)m->linears[index[i]].in;
    return work * rows;
}

static Status start_layer(LayerRun *lr, Error *err)
{
    Runner *r = lr->r;
    const LayerTensors *t = lr->t;
    const TensorInfo *norm[NORM_ROLES];
    int32_t index[LINEAR_ROLES];
    linear_roles(t, index);
    layer_small_tensors(r->m, t, norm);
    RETURN_IF_ERROR(blocks_plan(&lr->blocks, lr->in, err));
    for (int i = 0; i < LINEAR_ROLES; i++) {
        if (index[i] < 0)
            continue;
        RETURN_IF_ERROR(layer_linear_start(lr, &lr->lin[i], index[i], err));
    }
    for (int i = 0; i < NORM_ROLES; i++)
        if (norm[i])
            RETURN_IF_ERROR(i < COMP_APE ? load_vector(r, norm[i], &lr->norm[i], err)
                                         : load_kept(r, norm[i], &lr->norm[i], err));
    for (int s = 0; s < lr->in->samples; s++)
        RETURN_IF_ERROR(rope_reserve(&r->rope, &r->m->cfg, lr->local, &r->ops,
                                     lr->in->start[s + 1] - lr->in->start[s], err));
    return ST_OK;
}

void layer_linear_end(LinearRun *l)
{
    free(l->bias);
    free(l->energy);
}

static void end_layer(LayerRun *lr)
{
    for (int i = 0; i < LINEAR_ROLES; i++)
        layer_linear_end(&lr->lin[i]);
    for (int i = 0; i < NORM_ROLES; i++)
        free(lr->norm[i]);
    memset(lr->lin, 0, sizeof lr->lin);
    memset(lr->norm, 0, sizeof lr->norm);
    blocks_fini(&lr->blocks);
}

uint64_t layer_tap_mask(const LayerRun *lr, TapKind kind, int64_t linear)
{
    return taps_wanted(&lr->hub, (Tap){kind, lr->layer, linear});
}

Status layer_feed_tap(LayerRun *lr, TapKind kind, int64_t linear, const float *x, int64_t width, int64_t ld,
                      Error *err)
{
    Tap tap = {kind, lr->layer, linear};
    TapFeed f = {&lr->hub, taps_wanted(&lr->hub, tap), tap, lr->in, lr->s0, lr->row0, x, width, ld};
    if (!f.mask)
        return ST_OK;
    if (lr->b0 == 0)
        RETURN_IF_ERROR(taps_begin(&lr->hub, f.mask, tap, lr->in, width, err));
    Batch b = {.n = 0};
    batch_add(&b, taps_task, &f, lr->s1 - lr->s0);
    RETURN_IF_ERROR(batch_run(&b, lr->r->opt.pool, lr->r->opt.cancel, err));
    return lr->b1 == lr->blocks.n ? taps_end(&lr->hub, f.mask, tap, err) : ST_OK;
}

/* ---- element-wise batches over row tiles ---- */

typedef struct RowJob {
    LayerRun *lr;
    const float *src, *weight;
    float *dst;
    float *q, *k;      /* rotation */
    int64_t ldq, ldk;
    int64_t width;
    const float *up;   /* gate; the residual */
} RowJob;

static int64_t tile_count(const LayerRun *lr)
{
    return (lr->rows + ROW_TILE - 1) / ROW_TILE;
}

static int64_t tile_end(const LayerRun *lr, int64_t index)
{
    return (index + 1) * ROW_TILE < lr->rows ? (index + 1) * ROW_TILE : lr->rows;
}

static void norm_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    const Model *m = j->lr->r->m;
    for (int64_t t = index * ROW_TILE; t < tile_end(j->lr, index); t++)
        ops_norm(&j->lr->r->ops, m->arch->norm, j->src + t * j->width, j->weight, m->cfg.eps, j->width,
                 j->dst + t * j->width);
}

/* dst = R(dst + src) */
static void add_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    for (int64_t t = index * ROW_TILE; t < tile_end(j->lr, index); t++)
        ops_add(&j->lr->r->ops, j->dst + t * j->width, j->src + t * j->width, j->dst + t * j->width, j->width);
}

/* dst = R(up + norm(src)): what a block with a norm behind it adds to the residual stream. */
static void norm_add_task(void *ctx, int64_t index, int worker)
{
    const RowJob *j = ctx;
    RowJob norm = *j;
    norm.dst = (float *)(uintptr_t)j->src;
    norm_task(&norm, index, worker);
    for (int64_t t = index * ROW_TILE; t < tile_end(j->lr, index); t++)
        ops_add(&j->lr->r->ops, j->up + t * j->width, j->src + t * j->width, j->dst + t * j->width, j->width);
}

static void gate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    for (int64_t t = index * ROW_TILE; t < tile_end(j->lr, index); t++)
        ops_gate(&j->lr->r->ops, j->lr->r->m->cfg.act, j->dst + t * j->width, j->up + t * j->width, j->width);
}

/* dst = R(R(act(g)) * u) of rows [g | u]. */
static void gate_halves_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    for (int64_t t = index * ROW_TILE; t < tile_end(j->lr, index); t++) {
        const float *g = j->src + t * 2 * j->width;
        memcpy(j->dst + t * j->width, g, (size_t)j->width * sizeof *g);
        ops_gate(&j->lr->r->ops, j->lr->r->m->cfg.act, j->dst + t * j->width, g + j->width, j->width);
    }
}

static void rotate_heads(const LayerRun *lr, float *x, int heads, const float *norm, const float *c, const float *s,
                         int64_t half)
{
    const Model *m = lr->r->m;
    bool each = norm && m->cfg.qk_norm == QK_NORM_HEAD;
    int64_t all = (int64_t)heads * m->cfg.head_dim;
    if (norm && !each)
        ops_norm(&lr->r->ops, m->arch->norm, x, norm, m->cfg.eps, all, x);
    for (int h = 0; h < heads; h++, x += m->cfg.head_dim) {
        if (each)
            ops_norm(&lr->r->ops, m->arch->norm, x, norm, m->cfg.eps, m->cfg.head_dim, x);
        ops_rope(&lr->r->ops, x, c, s, half);
    }
}

int layer_sample_of_row(const LayerRun *lr, int64_t t)
{
    int lo = lr->s0, hi = lr->s1;
    while (hi - lo > 1) {
        int mid = lo + (hi - lo) / 2;
        if (lr->in->start[mid] <= lr->row0 + t)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* Norms of q and k where the family has them, then the rotation. */
static void rotate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    const LayerRun *lr = j->lr;
    const ModelConfig *c = &lr->r->m->cfg;
    int64_t t = index * ROW_TILE, end = tile_end(lr, index);
    int lo = layer_sample_of_row(lr, t);
    for (; t < end; t++) {
        while (lr->in->start[lo + 1] <= lr->row0 + t)
            lo++;
        const RopeTable *table = rope_table(&lr->r->rope, c, lr->local, lr->in->start[lo + 1] - lr->in->start[lo]);
        int64_t at = (lr->row0 + t - lr->in->start[lo]) * table->half;
        rotate_heads(lr, j->q + t * j->ldq, c->heads, lr->norm[NORM_Q], table->cos + at, table->sin + at, table->half);
        rotate_heads(lr, j->k + t * j->ldk, c->kv_heads, lr->norm[NORM_K], table->cos + at, table->sin + at,
                     table->half);
    }
}

static Status run_rows(LayerRun *lr, PoolTask *fn, RowJob *job, Error *err)
{
    job->lr = lr;
    Batch b = {.n = 0};
    batch_add(&b, fn, job, tile_count(lr));
    return batch_run(&b, lr->r->opt.pool, lr->r->opt.cancel, err);
}

/* ---- the two blocks of a layer; buffers are those of the chunk ---- */

void layer_next_stage(const LayerRun *lr, int first, int n, bool gate, FeedPiece *p)
{
    const LinearRun *lin[STAGE_MAX];
    for (int i = 0; i < n; i++)
        lin[i] = &lr->lin[first + i];
    stage_first_piece(lin, n, gate, lr->piece_max, p);
}

/* Fills in where a block's last linear writes: into the residual stream, or aside when a norm comes first. */
static void add_to_residual(Stage *st, const float *res, float *out, bool aside)
{
    st->res = aside ? NULL : res;
    st->sum = aside ? NULL : out;
}

/* Tap.linear of the attention taps: -1 but in a layer's second half. */
static int64_t attention_tap(const LayerRun *lr)
{
    return lr->t == &lr->r->m->layers[lr->layer] ? -1 : lr->lin[L_O].index;
}

/* The taps of a block's output, which stands in b->tap when anyone wants it, and its norm. */
static Status block_output(LayerRun *lr, const ChunkBuffers *b, LinearRole last, TapKind tap, const float *res,
                           NormRole norm, Error *err)
{
    int64_t h = lr->r->m->cfg.hidden;
    if (!b->tap)
        return ST_OK;
    RETURN_IF_ERROR(layer_feed_tap(lr, TAP_LINEAR_OUT, lr->lin[last].index, b->tap, h, h, err));
    if (tap != TAP_FFN || !lr->r->m->arch->halves)
        RETURN_IF_ERROR(layer_feed_tap(lr, tap, tap == TAP_ATTN ? attention_tap(lr) : -1, b->tap, h, h, err));
    if (b->mix)
        return hyper_write(lr, b->mix, res, b->tap, lr->rows, b->out, err);
    if (!lr->norm[norm])
        return ST_OK;
    return run_rows(lr, norm_add_task, &(RowJob){.src = b->tap, .weight = lr->norm[norm], .dst = b->out, .up = res,
                                                 .width = h}, err);
}

/* Where a head's [q | gate] rows are taken apart: q to dst. */
static void split_gate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    const ModelConfig *c = &j->lr->r->m->cfg;
    int64_t d = c->head_dim;
    for (int64_t t = index * ROW_TILE; t < tile_end(j->lr, index); t++)
        for (int64_t h = 0; h < c->heads; h++)
            memcpy(j->dst + (t * c->heads + h) * d, j->src + (t * c->heads + h) * 2 * d, (size_t)d * sizeof *j->dst);
}

/* dst = R(dst * R(sigmoid(gate))), the gates in their place of src, which they leave changed. */
static void out_gate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    const Ops *ops = &j->lr->r->ops;
    const ModelConfig *c = &j->lr->r->m->cfg;
    int64_t d = c->head_dim;
    for (int64_t t = index * ROW_TILE; t < tile_end(j->lr, index); t++)
        for (int64_t h = 0; h < c->heads; h++) {
            float *o = j->dst + (t * c->heads + h) * d, *gate = (float *)(uintptr_t)j->src;
            gate += (t * c->heads + h) * 2 * d + d;
            ops_sigmoid(ops, gate, d);
            ops_mul(ops, o, gate, o, d);
        }
}

static Status project_heads(LayerRun *lr, const ChunkBuffers *b, Heads *h, Error *err)
{
    const ModelConfig *c = &lr->r->m->cfg;
    LinearRun *lin = lr->lin;
    bool fused = lr->r->m->arch->fused, gated = lr->r->m->arch->out_gate;
    int64_t nq = (int64_t)c->heads * c->head_dim, nkv = (int64_t)c->kv_heads * c->head_dim, all = nq + 2 * nkv;
    FeedPiece after;
    Stage st = {.lr = lr, .n = fused ? 1 : 3, .lin = {&lin[L_Q], &lin[L_K], &lin[L_V]}, .x = b->x,
                .act_scratch = b->act, .in_mask = layer_tap_mask(lr, TAP_LINEAR_IN, lin[L_Q].lin->input)};
    float *k = b->mid + lr->rows * nq;
    *h = fused ? (Heads){{b->mid, b->mid + nq, b->mid + nq + nkv}, b->mid + lr->rows * all, {all, all, all},
                         {nq, nkv, nkv}, NULL}
               : (Heads){{b->mid, k, k + lr->rows * nkv}, b->mid, {nq, nkv, nkv}, {nq, nkv, nkv},
                         NULL};
    for (int i = 0; i < st.n; i++) {
        st.y[i] = h->x[i];
        st.ldy[i] = h->ld[i];
    }
    if (gated) {
        st.y[0] = h->gate = b->mid + lr->rows * all;
        st.ldy[0] = 2 * nq;
    }
    layer_next_stage(lr, L_O, 1, false, &after);
    RETURN_IF_ERROR(stage_run(&st, NULL, &after, err));
    for (int i = 0; i < st.n; i++)
        RETURN_IF_ERROR(layer_feed_tap(lr, TAP_LINEAR_OUT, lin[i].index, st.y[i], lin[i].lin->out, st.ldy[i], err));
    if (gated)
        RETURN_IF_ERROR(run_rows(lr, split_gate_task, &(RowJob){.src = h->gate, .dst = h->x[0]}, err));
    return run_rows(lr, rotate_task, &(RowJob){.q = h->x[0], .k = h->x[1], .ldq = h->ld[0], .ldk = h->ld[1]}, err);
}

static Status run_attention(AttnRun *at, Error *err)
{
    const LayerRun *lr = at->lr;
    const ModelConfig *c = &lr->r->m->cfg;
    at->heads = c->heads;
    at->kv_heads = c->kv_heads;
    at->head_dim = c->head_dim;
    at->v_dim = c->v_dim;
    at->scale = (float)c->attn_scale;
    at->softcap = (float)c->attn_softcap;
    at->sinks = lr->norm[SINKS];
    at->window = c->window ? c->window[lr->layer] : 0;
    at->select = indexer_acts(c, lr->blocks.longest_sample);
    at->first_task = mem_array((size_t)(lr->s1 - lr->s0) + 1, sizeof *at->first_task);
    if (!at->first_task)
        return error_nomem(err, "attention");
    Status s = attention_run(at, NULL, err);
    free(at->first_task);
    return s;
}

/* The values o_proj reads: projections, scores, weighted sums. */
static Status attention_values(LayerRun *lr, const ChunkBuffers *b, float **out, Error *err)
{
    const ModelConfig *c = &lr->r->m->cfg;
    Heads h = {.gate = NULL};
    RETURN_IF_ERROR(lr->r->m->arch->mla ? mla_heads(lr, b, &h, err) : project_heads(lr, b, &h, err));
    for (int i = 0; i < 3; i++)
        RETURN_IF_ERROR(layer_feed_tap(lr, (TapKind)(TAP_Q + i), attention_tap(lr), h.x[i], h.width[i], h.ld[i], err));
    AttnRun at = {.lr = lr, .q = h.x[0], .k = h.x[1], .v = h.x[2], .o = h.o, .ldq = h.ld[0], .ldk = h.ld[1],
                  .ldv = h.ld[2], .ldo = (int64_t)c->heads * c->v_dim};
    *out = h.o;
    RETURN_IF_ERROR(run_attention(&at, err));
    return h.gate ? run_rows(lr, out_gate_task, &(RowJob){.src = h.gate, .dst = h.o}, err) : ST_OK;
}

/* The first norm belongs to what comes in: in a mixed layer it rounds to the model dtype, what is behind doesn't. */
static Status input_norm(LayerRun *lr, const ChunkBuffers *b, Error *err)
{
    Ops *ops = &lr->r->ops;
    bool model = ops->model;
    ops->model = model || lr->dtype == VARIANT_MIXED;
    Status st = b->mix ? hyper_read(lr, HYPER_ATTN_FN, NORM_INPUT, b->in, lr->rows, b->x, b->mix, err)
                       : run_rows(lr, norm_task, &(RowJob){.src = b->in, .weight = lr->norm[NORM_INPUT], .dst = b->x,
                                                           .width = lr->r->m->cfg.hidden}, err);
    ops->model = model;
    return st;
}

static Status layer_attention(LayerRun *lr, const ChunkBuffers *b, Error *err)
{
    const ModelConfig *c = &lr->r->m->cfg;
    bool fused = lr->r->m->arch->fused, aside = lr->norm[NORM_AFTER_ATTN] || b->mix;
    LinearRun *lin = lr->lin;
    FeedPiece after;
    float *values;

    RETURN_IF_ERROR(input_norm(lr, b, err));
    RETURN_IF_ERROR(lin[L_QKVZ].lin    ? delta_values(lr, b, &values, err)
                    : c->compress.kind ? compressed_values(lr, b, &values, err)
                                       : attention_values(lr, b, &values, err));
    Stage out = {.lr = lr, .n = 1, .lin = {&lin[L_O]}, .x = values, .y = {b->tap}, .ldy = {c->hidden},
                 .lds = c->hidden, .act_scratch = b->act, .in_mask = layer_tap_mask(lr, TAP_LINEAR_IN, lin[L_O].index)};
    add_to_residual(&out, b->in, b->out, aside);
    if (!lr->experts)
        layer_next_stage(lr, L_GATE, fused ? 1 : 2, !fused, &after);
    RETURN_IF_ERROR(stage_run(&out, NULL, lr->experts ? NULL : &after, err));
    return block_output(lr, b, L_O, TAP_ATTN, b->in, NORM_AFTER_ATTN, err);
}

/* The gated values of the feed-forward block, [rows][inter], in b->mid; *out points to them. */
static Status gated_values(LayerRun *lr, const ChunkBuffers *b, float **out, Error *err)
{
    LinearRun *lin = lr->lin;
    bool fused = lr->r->m->arch->fused;
    int64_t width = lin[L_DOWN].lin->in;
    float *g = b->mid;
    FeedPiece after;
    Stage gu = {.lr = lr, .n = fused ? 1 : 2, .lin = {&lin[L_GATE], &lin[L_UP]}, .x = b->x, .gate = !fused,
                .y = {g, b->up}, .ldy = {fused ? 2 * width : width, width}, .act_scratch = b->act,
                .in_mask = layer_tap_mask(lr, TAP_LINEAR_IN, lin[L_GATE].lin->input)};
    layer_next_stage(lr, L_DOWN, 1, false, &after);
    RETURN_IF_ERROR(stage_run(&gu, NULL, &after, err));
    *out = g;
    if (fused) {
        *out = g + lr->rows * 2 * width;
        RETURN_IF_ERROR(layer_feed_tap(lr, TAP_LINEAR_OUT, lin[L_GATE].index, g, 2 * width, 2 * width, err));
        return run_rows(lr, gate_halves_task, &(RowJob){.src = g, .dst = *out, .width = width}, err);
    }
    if (!b->up)
        return ST_OK;
    RETURN_IF_ERROR(layer_feed_tap(lr, TAP_LINEAR_OUT, lin[L_GATE].index, g, width, width, err));
    RETURN_IF_ERROR(layer_feed_tap(lr, TAP_LINEAR_OUT, lin[L_UP].index, b->up, width, width, err));
    return run_rows(lr, gate_task, &(RowJob){.dst = g, .up = b->up, .width = width}, err);
}

static Status layer_ffn(LayerRun *lr, const ChunkBuffers *b, Error *err)
{
    const ModelConfig *c = &lr->r->m->cfg;
    LinearRun *lin = lr->lin;
    float *g;

    RETURN_IF_ERROR(run_rows(lr, norm_task, &(RowJob){.src = b->out, .weight = lr->norm[NORM_POST], .dst = b->x,
                                                      .width = c->hidden}, err));
    RETURN_IF_ERROR(gated_values(lr, b, &g, err));
    Stage down = {.lr = lr, .n = 1, .lin = {&lin[L_DOWN]}, .x = g, .y = {b->tap}, .ldy = {c->hidden},
                  .lds = c->hidden, .act_scratch = b->act,
                  .in_mask = layer_tap_mask(lr, TAP_LINEAR_IN, lin[L_DOWN].index)};
    add_to_residual(&down, b->out, b->out, lr->norm[NORM_AFTER_FFN] != NULL);
    RETURN_IF_ERROR(stage_run(&down, NULL, b->next.nseg ? &b->next : NULL, err));
    RETURN_IF_ERROR(block_output(lr, b, L_DOWN, TAP_FFN, b->out, NORM_AFTER_FFN, err));
    return lr->t->then || lr->sum ? ST_OK
                                  : layer_feed_tap(lr, TAP_BLOCK_OUT, -1, b->out, c->hidden, c->hidden, err);
}

/* The linears a layer, or its second half, begins with. */
static int first_stage(const Model *m, const LayerTensors *t, int32_t index[STAGE_MAX])
{
    if (m->cfg.compress.kind)
        return compressed_first(t, index);
    const int32_t mla[] = {t->q_a < 0 ? t->q : t->q_a, t->kv_a, t->index_k, t->index_w}, delta[] = {t->qkvz, t->ba};
    const int32_t gqa[] = {t->q, t->k, t->v};
    const int32_t *from = t->qkvz >= 0 ? delta : m->arch->mla ? mla : gqa;
    int n = t->index_k >= 0 ? 4 : from != gqa ? 2 : m->arch->fused ? 1 : 3;
    memcpy(index, from, (size_t)n * sizeof *index);
    return n;
}

/* What is read after this chunk's last stage: the same again, or what comes after it. */
static void piece_after(const LayerRun *lr, FeedPiece *p)
{
    const Model *m = lr->r->m;
    p->nseg = 0;
    bool again = lr->b1 < lr->blocks.n;
    if (again && lr->experts) /* attention is through */
        layer_next_stage(lr, L_GATE, 2, true, p);
    const LayerTensors *t = again ? lr->t : lr->t->then ? lr->t->then : &m->layers[lr->layer + 1];
    if ((again && lr->experts) || (!again && !lr->t->then && lr->layer + 1 >= m->cfg.layers))
        return;
    int32_t index[STAGE_MAX];
    LinearRun run[STAGE_MAX];
    const LinearRun *lin[STAGE_MAX];
    int n = first_stage(m, t, index);
    for (int i = 0; i < n; i++) {
        const Linear *l = &m->linears[index[i]];
        if (!weight_readable(l))
            return;
        run[i] = (LinearRun){.lin = l, .panels = panel_count(l->out, l->in)};
        lin[i] = &run[i];
    }
    stage_first_piece(lin, n, false, lr->piece_max, p);
}

static Status run_chunk(LayerRun *lr, const RowNeed *need, bool attention, bool ffn, Error *err)
{
    int64_t w = lr->in->width;
    float *at = lr->r->scratch;
    ChunkBuffers b = {.in = lr->in->data + lr->row0 * w, .out = lr->out->data + lr->row0 * w};
    b.x = at;
    at += need->x * lr->rows;
    b.mid = at;
    at += need->mid * lr->rows;
    b.act = at;
    at += need->act * lr->rows;
    b.tap = need->tap ? at : NULL;
    at += need->tap * lr->rows;
    b.up = need->up ? at : NULL;
    at += need->up * lr->rows;
    b.mix = need->mix ? at : NULL;
    if (attention)
        RETURN_IF_ERROR(layer_attention(lr, &b, err));
    if (!ffn)
        return ST_OK;
    piece_after(lr, &b.next);
    return layer_ffn(lr, &b, err);
}

static RowNeed row_need(LayerRun *lr)
{
    const ModelConfig *c = &lr->r->m->cfg;
    RowNeed n = layer_row_need(lr->r->m, false);
    LinearRun *l = lr->lin, *qkv[] = {&l[L_Q], &l[L_K], &l[L_V]}, *gu[] = {&l[L_GATE], &l[L_UP]};
    LinearRun *latent[] = {l[L_Q_A].lin ? &l[L_Q_A] : &l[L_Q], &l[L_KV_A], &l[L_INDEX_K], &l[L_INDEX_W]};
    LinearRun *queries[] = {&l[L_Q], &l[L_INDEX_Q]}, *delta[] = {&l[L_QKVZ], &l[L_BA]};
    bool fused = lr->r->m->arch->fused;
    LinearRun **start = l[L_QKVZ].lin ? delta : lr->r->m->arch->mla ? latent : qkv;
    int64_t first = stage_distinct_acts(start, start == latent ? 4 : start == delta ? 2 : fused ? 1 : 3);
    int64_t gu_acts = !lr->dense ? 0 : stage_distinct_acts(gu, fused ? 1 : 2);
    n.act = max_i64(first, gu_acts) * c->hidden;
    if (l[L_INDEX_Q].lin)
        n.act = max_i64(n.act, stage_distinct_acts(queries, 2) * l[L_Q].lin->in);
    if (c->compress.kind)
        n.act = max_i64(n.act, compressed_first_acts(lr));
    for (int i = 0; i < LINEAR_ROLES; i++) /* those that run alone */
        if (l[i].form && l[i].form->act && (lr->dense || i != L_DOWN) && i != L_ROUTER && i != L_SHARED_GATE)
            n.act = max_i64(n.act, l[i].lin->in * max_i64(l[i].lin->groups, 1));
    if (!lr->dense) {
        if (layer_tap_mask(lr, TAP_ATTN, -1) | layer_tap_mask(lr, TAP_LINEAR_OUT, l[L_O].index))
            n.tap = c->hidden;
        return n;
    }
    if (layer_tap_mask(lr, TAP_ATTN, attention_tap(lr)) | layer_tap_mask(lr, TAP_FFN, -1) |
        layer_tap_mask(lr, TAP_LINEAR_OUT, l[L_O].index) | layer_tap_mask(lr, TAP_LINEAR_OUT, l[L_DOWN].index))
        n.tap = c->hidden;
    if (!fused && (layer_tap_mask(lr, TAP_LINEAR_OUT, l[L_GATE].index) |
                   layer_tap_mask(lr, TAP_LINEAR_OUT, l[L_UP].index)))
        n.up = c->inter;
    return n;
}

static bool must_be_whole(const LayerRun *lr)
{
    for (int i = 0; i < LINEAR_ROLES; i++)
        if (lr->lin[i].form && lr->lin[i].form->prepare)
            return true;
    return false;
}

/* Bytes of the pass's streams, and what lies beside them whatever the chunk (lr->fixed is both). */
static uint64_t stream_bytes(const LayerRun *lr)
{
    const Model *m = lr->r->m;
    uint64_t bytes = (uint64_t)(lr->in->rows * lr->in->width) * sizeof(float) * (lr->in == lr->out ? 1 : 2);
    bytes += (uint64_t)(lr->in->rows * indexer_row_bytes(&m->cfg, lr->blocks.longest_sample));
    bool aside = lr->sum || (lr->experts && lr->dense); /* what experts give waits for the dense block */
    return bytes + (aside ? (uint64_t)(lr->in->rows * m->cfg.hidden) * sizeof(float) : 0);
}

/* Rows of the chunks, under the memory limit. */
static Status chunk_rows(LayerRun *lr, int64_t row_floats, uint64_t worker_bytes, bool whole, int64_t *rows, Error *err)
{
    const Runner *r = lr->r;
    uint64_t row_bytes = (uint64_t)row_floats * sizeof(float), streams = stream_bytes(lr);
    lr->fixed = streams + worker_bytes * (uint64_t)r->threads;
    lr->fixed += 2 * (r->piece < lr->piece_max ? r->piece : lr->piece_max);
    lr->fixed += layer_beside_bytes(r->m, lr->blocks.longest_sample);
    int64_t unit = whole ? lr->in->rows : blocks_largest_unit(&lr->blocks);
    *rows = whole ? lr->in->rows : max_i64(CHUNK_ROWS, unit);
    uint64_t limit = r->opt.mem_limit;
    if (!limit)
        return ST_OK;
    uint64_t least = lr->fixed + (uint64_t)unit * row_bytes;
    if (least > limit)
        return error_set(err, ST_NOMEM,
                         "layer %d needs %.1f MB (hidden states %.1f, %lld rows that cannot be cut %.1f, threads and "
                         "weights %.1f) but the limit leaves %.1f MB: raise --mem, or use fewer or shorter texts "
                         "(--max-samples, --seq-len)",
                         lr->layer, (double)least / 1e6, (double)streams / 1e6, (long long)unit,
                         (double)((uint64_t)unit * row_bytes) / 1e6, (double)(lr->fixed - streams) / 1e6,
                         (double)limit / 1e6);
    int64_t fit = (int64_t)((limit - lr->fixed) / row_bytes);
    *rows = fit < *rows ? fit : *rows;
    return ST_OK;
}

static Status run_chunks(LayerRun *lr, const RowNeed *need, int64_t rows, bool attention, bool ffn, Error *err)
{
    for (lr->b0 = 0; lr->b0 < lr->blocks.n; lr->b0 = lr->b1) {
        lr->b1 = blocks_end(&lr->blocks, lr->b0, rows);
        lr->row0 = lr->blocks.start[lr->b0];
        lr->rows = lr->blocks.start[lr->b1] - lr->row0;
        lr->s0 = lr->blocks.sample[lr->b0];
        lr->s1 = lr->blocks.sample[lr->b1];
        RETURN_IF_ERROR(run_chunk(lr, need, attention, ffn, err));
    }
    return ST_OK;
}

void layer_take_all(LayerRun *lr)
{
    lr->b0 = lr->row0 = 0;
    lr->b1 = lr->blocks.n;
    lr->rows = lr->in->rows;
    lr->s0 = 0;
    lr->s1 = lr->in->samples;
}

/* Adds what the experts gave. */
static Status finish_layer(LayerRun *lr, Error *err)
{
    int64_t h = lr->r->m->cfg.hidden, w = lr->out->width;
    float *out = lr->out->data;
    if (lr->sum) {
        layer_take_all(lr);
        RETURN_IF_ERROR(lr->mix ? hyper_write(lr, lr->mix, out, lr->sum, lr->rows, out, err)
                                : run_rows(lr, add_task, &(RowJob){.src = lr->sum, .dst = out, .width = h}, err));
        RETURN_IF_ERROR(layer_feed_tap(lr, TAP_BLOCK_OUT, -1, out, w, w, err));
    }
    return taps_layer_end(&lr->hub, lr->layer, err);
}

/* One half of a layer, or all of one that has none. */
static Status run_layer(LayerRun *lr, bool whole, Error *err)
{
    Runner *r = lr->r;
    RowNeed need = row_need(lr);
    WorkerNeed wn = layer_worker_need(r->m, r->ops.model, lr->blocks.longest_sample, lr->blocks.largest);
    int64_t rows, most = 0;
    RETURN_IF_ERROR(chunk_rows(lr, row_need_floats(&need), worker_need_bytes(&wn), whole, &rows, err));
    for (int64_t b = 0; b < lr->blocks.n; b = blocks_end(&lr->blocks, b, rows))
        most = max_i64(most, lr->blocks.start[blocks_end(&lr->blocks, b, rows)] - lr->blocks.start[b]);
    RETURN_IF_ERROR(workers_reserve(r, &wn, err));
    size_t floats = (size_t)(most * row_need_floats(&need));
    RETURN_IF_ERROR(scratch_reserve(r, floats, err));
    RETURN_IF_ERROR(run_chunks(lr, &need, rows, true, !lr->experts, err));
    if (lr->experts) {
        scratch_drop(r);
        RETURN_IF_ERROR(moe_run(lr, &lr->sum, err));
    }
    if (lr->experts && lr->dense)
        RETURN_IF_ERROR(scratch_reserve(r, floats, err));
    if (lr->experts && lr->dense)
        RETURN_IF_ERROR(run_chunks(lr, &need, rows, false, true, err));
    return lr->t->then ? ST_OK : finish_layer(lr, err);
}

Status runner_layer(Runner *r, int layer, const Variant *v, const Stream *in, Stream *out, const Observer *obs,
                    int nobs, Error *err)
{
    if (layer < 0 || layer >= model_depth(r->m))
        return error_set(err, ST_INTERNAL, "there is no layer %d: the model has %d", layer, model_depth(r->m));
    if (nobs > TAPS_MAX_OBSERVERS)
        return error_set(err, ST_INTERNAL, "%d observers of one pass, at most %d", nobs, TAPS_MAX_OBSERVERS);
    const ModelConfig *c = &r->m->cfg;
    bool mtp = layer >= c->layers;
    LayerRun lr = {.r = r, .layer = layer, .layers = mtp ? layer + 1 : c->layers, .in = in, .out = out,
                   .hub = {obs, nobs, r->opt.cancel}, .forms = v ? v->forms : NULL, .piece_max = feed_piece_max(r->opt.mem_limit),
                   .local = c->compress.kind ? c->compress.kind[layer] == COMPRESS_NONE
                                             : r->m->arch->local_rope && c->window && c->window[layer] > 0};
    bool model = r->ops.model;
    if (model && v)
        lr.dtype = v->dtype;
    lr.sdpa = v && v->sdpa;
    for (lr.t = &r->m->layers[layer]; lr.t; lr.t = lr.t->then)
        lr.work_total += half_work(r->m, lr.t, (double)in->rows);
    lr.work_total += mtp ? 2.0 * (double)c->hidden * (double)c->hidden * (double)in->rows : 0;
    runner_progress(r, "layer", layer, lr.layers, layer * lr.work_total, lr.layers * lr.work_total, false);
    Status st = mtp ? mtp_start(&lr, err) : ST_OK;
    for (lr.t = &r->m->layers[layer]; lr.t && st == ST_OK; lr.t = lr.t->then) {
        lr.experts = lr.t->expert >= 0;
        lr.dense = !lr.experts || r->m->arch->halves;
        st = start_layer(&lr, err); /* position tables are the model's whatever follows */
        r->ops.model = model && lr.dtype == VARIANT_MODEL;
        if (st == ST_OK)
            st = run_layer(&lr, must_be_whole(&lr), err);
        r->ops.model = model;
        end_layer(&lr);
        lr.in = out; /* of a second half */
        lr.dtype = lr.dtype == VARIANT_MIXED ? VARIANT_WIDE : lr.dtype;
    }
    free(lr.sum);
    free(lr.mix);
    if (st == ST_OK)
        runner_progress(r, "layer", layer + 1, lr.layers, (layer + 1) * lr.work_total, lr.layers * lr.work_total, true);
    return st;
}
