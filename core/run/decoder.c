#include "run/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"

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

static Status start_layer(Pass *ps, Error *err)
{
    Runner *r = ps->r;
    const LayerTensors *t = ps->t;
    const TensorInfo *norm[NORM_ROLES];
    int32_t index[LINEAR_ROLES];
    linear_roles(t, index);
    layer_small_tensors(r->m, t, norm);
    RETURN_IF_ERROR(rowplan_make(&ps->plan, ps->in, err));
    for (int i = 0; i < LINEAR_ROLES; i++) {
        if (index[i] < 0)
            continue;
        RETURN_IF_ERROR(pass_linear_start(ps, &ps->lin[i], index[i], err));
    }
    for (int i = 0; i < NORM_ROLES; i++)
        if (norm[i])
            RETURN_IF_ERROR(source_small(&r->src, i < COMP_APE ? &ps->ops : NULL, norm[i], &ps->norm[i], err));
    for (int s = 0; s < ps->in->samples; s++)
        RETURN_IF_ERROR(rope_reserve(&r->rope, &r->m->cfg, ps->local, &r->ops,
                                     ps->in->start[s + 1] - ps->in->start[s], err));
    return ST_OK;
}

static void end_layer(Pass *ps)
{
    for (int i = 0; i < LINEAR_ROLES; i++)
        pass_linear_end(&ps->lin[i]);
    for (int i = 0; i < NORM_ROLES; i++)
        free(ps->norm[i]);
    memset(ps->lin, 0, sizeof ps->lin);
    memset(ps->norm, 0, sizeof ps->norm);
    rowplan_fini(&ps->plan);
}

/* ---- element-wise batches over row tiles ---- */

typedef struct RowJob {
    const Pass *ps;
    const Ops *ops;    /* NULL: the pass's */
    const float *src, *weight;
    float *dst;
    float *q, *k;      /* rotation */
    int64_t ldq, ldk;
    int64_t width;
    const float *up;   /* gate; the residual */
} RowJob;

static int64_t tile_end(const Pass *ps, int64_t index)
{
    return pass_tile_end(index, ps->rows);
}

static void norm_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    const Model *m = j->ps->r->m;
    for (int64_t t = index * PASS_TILE; t < tile_end(j->ps, index); t++)
        ops_norm(j->ops, m->arch->norm, j->src + t * j->width, j->weight, m->cfg.eps, j->width,
                 j->dst + t * j->width);
}

/* dst = R(dst + src) */
static void add_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    for (int64_t t = index * PASS_TILE; t < tile_end(j->ps, index); t++)
        ops_add(j->ops, j->dst + t * j->width, j->src + t * j->width, j->dst + t * j->width, j->width);
}

/* dst = R(up + norm(src)): what a block with a norm behind it adds to the residual stream. */
static void norm_add_task(void *ctx, int64_t index, int worker)
{
    const RowJob *j = ctx;
    RowJob norm = *j;
    norm.dst = (float *)(uintptr_t)j->src;
    norm_task(&norm, index, worker);
    for (int64_t t = index * PASS_TILE; t < tile_end(j->ps, index); t++)
        ops_add(j->ops, j->up + t * j->width, j->src + t * j->width, j->dst + t * j->width, j->width);
}

static void gate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    for (int64_t t = index * PASS_TILE; t < tile_end(j->ps, index); t++)
        ops_gate(j->ops, j->ps->r->m->cfg.act, j->dst + t * j->width, j->up + t * j->width, j->width);
}

/* dst = R(R(act(g)) * u) of rows [g | u]. */
static void gate_halves_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    for (int64_t t = index * PASS_TILE; t < tile_end(j->ps, index); t++) {
        const float *g = j->src + t * 2 * j->width;
        memcpy(j->dst + t * j->width, g, (size_t)j->width * sizeof *g);
        ops_gate(j->ops, j->ps->r->m->cfg.act, j->dst + t * j->width, g + j->width, j->width);
    }
}

static void rotate_heads(const Pass *ps, float *x, int heads, const float *norm, const float *c, const float *s,
                         int64_t half)
{
    const Model *m = ps->r->m;
    bool each = norm && m->cfg.qk_norm == QK_NORM_HEAD;
    int64_t all = (int64_t)heads * m->cfg.head_dim;
    if (norm && !each)
        ops_norm(&ps->ops, m->arch->norm, x, norm, m->cfg.eps, all, x);
    for (int h = 0; h < heads; h++, x += m->cfg.head_dim) {
        if (each)
            ops_norm(&ps->ops, m->arch->norm, x, norm, m->cfg.eps, m->cfg.head_dim, x);
        ops_rope(&ps->ops, x, c, s, half);
    }
}

/* Norms of q and k where the family has them, then the rotation. */
static void rotate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    const Pass *ps = j->ps;
    const ModelConfig *c = &ps->r->m->cfg;
    int64_t t = index * PASS_TILE, end = tile_end(ps, index);
    int lo = pass_sample_of_row(ps, t);
    for (; t < end; t++) {
        while (ps->in->start[lo + 1] <= ps->row0 + t)
            lo++;
        const RopeTable *table = rope_table(&ps->r->rope, c, ps->local, ps->in->start[lo + 1] - ps->in->start[lo]);
        int64_t at = (ps->row0 + t - ps->in->start[lo]) * table->half;
        rotate_heads(ps, j->q + t * j->ldq, c->heads, ps->norm[NORM_Q], table->cos + at, table->sin + at, table->half);
        rotate_heads(ps, j->k + t * j->ldk, c->kv_heads, ps->norm[NORM_K], table->cos + at, table->sin + at,
                     table->half);
    }
}

static Status run_rows(Pass *ps, PoolTask *fn, RowJob *job, Error *err)
{
    job->ps = ps;
    job->ops = job->ops ? job->ops : &ps->ops;
    return pass_tiles(ps, fn, job, ps->rows, err);
}

/* ---- the two blocks of a layer; buffers are those of the chunk ---- */

/* Fills in where a block's last linear writes: into the residual stream, or aside when a norm comes first. */
static void add_to_residual(Stage *st, const float *res, float *out, bool aside)
{
    st->res = aside ? NULL : res;
    st->sum = aside ? NULL : out;
}

/* Tap.linear of the attention taps: -1 but in a layer's second half. */
static int64_t attention_tap(const Pass *ps)
{
    return ps->t == &ps->r->m->layers[ps->layer] ? -1 : ps->lin[L_O].index;
}

/* The taps of a block's output, which stands in b->tap when anyone wants it, and its norm. */
static Status block_output(Pass *ps, const ChunkBuffers *b, LinearRole last, TapKind tap, const float *res,
                           NormRole norm, Error *err)
{
    int64_t h = ps->r->m->cfg.hidden;
    if (!b->tap)
        return ST_OK;
    RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, ps->lin[last].index, b->tap, h, h, err));
    if (tap != TAP_FFN || !ps->r->m->arch->halves)
        RETURN_IF_ERROR(pass_feed_tap(ps, tap, tap == TAP_ATTN ? attention_tap(ps) : -1, b->tap, h, h, err));
    if (b->mix)
        return hyper_write(ps, b->mix, res, b->tap, ps->rows, b->out, err);
    if (!ps->norm[norm])
        return ST_OK;
    return run_rows(ps, norm_add_task, &(RowJob){.src = b->tap, .weight = ps->norm[norm], .dst = b->out, .up = res,
                                                 .width = h}, err);
}

/* Where a head's [q | gate] rows are taken apart: q to dst. */
static void split_gate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    const ModelConfig *c = &j->ps->r->m->cfg;
    int64_t d = c->head_dim;
    for (int64_t t = index * PASS_TILE; t < tile_end(j->ps, index); t++)
        for (int64_t h = 0; h < c->heads; h++)
            memcpy(j->dst + (t * c->heads + h) * d, j->src + (t * c->heads + h) * 2 * d, (size_t)d * sizeof *j->dst);
}

/* dst = R(dst * R(sigmoid(gate))), the gates in their place of src, which they leave changed. */
static void out_gate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    const Ops *ops = j->ops;
    const ModelConfig *c = &j->ps->r->m->cfg;
    int64_t d = c->head_dim;
    for (int64_t t = index * PASS_TILE; t < tile_end(j->ps, index); t++)
        for (int64_t h = 0; h < c->heads; h++) {
            float *o = j->dst + (t * c->heads + h) * d, *gate = (float *)(uintptr_t)j->src;
            gate += (t * c->heads + h) * 2 * d + d;
            ops_sigmoid(ops, gate, d);
            ops_mul(ops, o, gate, o, d);
        }
}

static Status project_heads(Pass *ps, const ChunkBuffers *b, Heads *h, Error *err)
{
    const ModelConfig *c = &ps->r->m->cfg;
    LinearRun *lin = ps->lin;
    bool fused = ps->r->m->arch->fused, gated = ps->r->m->arch->out_gate;
    int64_t nq = (int64_t)c->heads * c->head_dim, nkv = (int64_t)c->kv_heads * c->head_dim, all = nq + 2 * nkv;
    FeedPiece after;
    Stage st = {.ps = ps, .n = fused ? 1 : 3, .lin = {&lin[L_Q], &lin[L_K], &lin[L_V]}, .x = b->x,
                .act_scratch = b->act, .in_mask = pass_tap_mask(ps, TAP_LINEAR_IN, lin[L_Q].lin->input)};
    float *k = b->mid + ps->rows * nq;
    *h = fused ? (Heads){{b->mid, b->mid + nq, b->mid + nq + nkv}, b->mid + ps->rows * all, {all, all, all},
                         {nq, nkv, nkv}, NULL}
               : (Heads){{b->mid, k, k + ps->rows * nkv}, b->mid, {nq, nkv, nkv}, {nq, nkv, nkv},
                         NULL};
    for (int i = 0; i < st.n; i++) {
        st.y[i] = h->x[i];
        st.ldy[i] = h->ld[i];
    }
    if (gated) {
        st.y[0] = h->gate = b->mid + ps->rows * all;
        st.ldy[0] = 2 * nq;
    }
    pass_first_piece(ps, L_O, 1, false, &after);
    RETURN_IF_ERROR(stage_run(&st, NULL, &after, err));
    for (int i = 0; i < st.n; i++)
        RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, lin[i].index, st.y[i], lin[i].lin->out, st.ldy[i], err));
    if (gated)
        RETURN_IF_ERROR(run_rows(ps, split_gate_task, &(RowJob){.src = h->gate, .dst = h->x[0]}, err));
    return run_rows(ps, rotate_task, &(RowJob){.q = h->x[0], .k = h->x[1], .ldq = h->ld[0], .ldk = h->ld[1]}, err);
}

static Status run_attention(AttnRun *at, Error *err)
{
    const Pass *ps = at->ps;
    const ModelConfig *c = &ps->r->m->cfg;
    at->heads = c->heads;
    at->kv_heads = c->kv_heads;
    at->head_dim = c->head_dim;
    at->v_dim = c->v_dim;
    at->scale = (float)c->attn_scale;
    at->softcap = (float)c->attn_softcap;
    at->sinks = ps->norm[SINKS];
    at->window = c->window ? c->window[ps->layer] : 0;
    at->select = indexer_acts(c, ps->plan.longest_sample);
    at->first_task = mem_array((size_t)(ps->s1 - ps->s0) + 1, sizeof *at->first_task);
    if (!at->first_task)
        return error_nomem(err, "attention");
    Status s = attention_run(at, NULL, err);
    free(at->first_task);
    return s;
}

/* The values o_proj reads: projections, scores, weighted sums. */
static Status attention_values(Pass *ps, const ChunkBuffers *b, float **out, Error *err)
{
    const ModelConfig *c = &ps->r->m->cfg;
    Heads h = {.gate = NULL};
    RETURN_IF_ERROR(ps->r->m->arch->mla ? mla_heads(ps, b, &h, err) : project_heads(ps, b, &h, err));
    for (int i = 0; i < 3; i++)
        RETURN_IF_ERROR(pass_feed_tap(ps, (TapKind)(TAP_Q + i), attention_tap(ps), h.x[i], h.width[i], h.ld[i], err));
    AttnRun at = {.ps = ps, .q = h.x[0], .k = h.x[1], .v = h.x[2], .o = h.o, .ldq = h.ld[0], .ldk = h.ld[1],
                  .ldv = h.ld[2], .ldo = (int64_t)c->heads * c->v_dim};
    *out = h.o;
    RETURN_IF_ERROR(run_attention(&at, err));
    return h.gate ? run_rows(ps, out_gate_task, &(RowJob){.src = h.gate, .dst = h.o}, err) : ST_OK;
}

/* The first norm belongs to what comes in: in a mixed layer it rounds to the model dtype, what is behind doesn't. */
static Status input_norm(Pass *ps, const ChunkBuffers *b, Error *err)
{
    Ops ops = ps->ops;
    ops.model = ops.model || ps->dtype == VARIANT_MIXED;
    if (b->mix)
        return hyper_read(ps, &ops, HYPER_ATTN_FN, NORM_INPUT, b->in, ps->rows, b->x, b->mix, err);
    return run_rows(ps, norm_task, &(RowJob){.ops = &ops, .src = b->in, .weight = ps->norm[NORM_INPUT], .dst = b->x,
                                             .width = ps->r->m->cfg.hidden}, err);
}

static Status layer_attention(Pass *ps, const ChunkBuffers *b, Error *err)
{
    const ModelConfig *c = &ps->r->m->cfg;
    bool fused = ps->r->m->arch->fused, aside = ps->norm[NORM_AFTER_ATTN] || b->mix;
    LinearRun *lin = ps->lin;
    FeedPiece after;
    float *values;

    RETURN_IF_ERROR(input_norm(ps, b, err));
    RETURN_IF_ERROR(lin[L_QKVZ].lin    ? delta_values(ps, b, &values, err)
                    : c->compress.kind ? compressed_values(ps, b, &values, err)
                                       : attention_values(ps, b, &values, err));
    Stage out = {.ps = ps, .n = 1, .lin = {&lin[L_O]}, .x = values, .y = {b->tap}, .ldy = {c->hidden},
                 .lds = c->hidden, .act_scratch = b->act, .in_mask = pass_tap_mask(ps, TAP_LINEAR_IN, lin[L_O].index)};
    add_to_residual(&out, b->in, b->out, aside);
    if (!ps->experts)
        pass_first_piece(ps, L_GATE, fused ? 1 : 2, !fused, &after);
    RETURN_IF_ERROR(stage_run(&out, NULL, ps->experts ? NULL : &after, err));
    return block_output(ps, b, L_O, TAP_ATTN, b->in, NORM_AFTER_ATTN, err);
}

/* The gated values of the feed-forward block, [rows][inter], in b->mid; *out points to them. */
static Status gated_values(Pass *ps, const ChunkBuffers *b, float **out, Error *err)
{
    LinearRun *lin = ps->lin;
    bool fused = ps->r->m->arch->fused;
    int64_t width = lin[L_DOWN].lin->in;
    float *g = b->mid;
    FeedPiece after;
    Stage gu = {.ps = ps, .n = fused ? 1 : 2, .lin = {&lin[L_GATE], &lin[L_UP]}, .x = b->x, .gate = !fused,
                .y = {g, b->up}, .ldy = {fused ? 2 * width : width, width}, .act_scratch = b->act,
                .in_mask = pass_tap_mask(ps, TAP_LINEAR_IN, lin[L_GATE].lin->input)};
    pass_first_piece(ps, L_DOWN, 1, false, &after);
    RETURN_IF_ERROR(stage_run(&gu, NULL, &after, err));
    *out = g;
    if (fused) {
        *out = g + ps->rows * 2 * width;
        RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, lin[L_GATE].index, g, 2 * width, 2 * width, err));
        return run_rows(ps, gate_halves_task, &(RowJob){.src = g, .dst = *out, .width = width}, err);
    }
    if (!b->up)
        return ST_OK;
    RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, lin[L_GATE].index, g, width, width, err));
    RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, lin[L_UP].index, b->up, width, width, err));
    return run_rows(ps, gate_task, &(RowJob){.dst = g, .up = b->up, .width = width}, err);
}

static Status layer_ffn(Pass *ps, const ChunkBuffers *b, Error *err)
{
    const ModelConfig *c = &ps->r->m->cfg;
    LinearRun *lin = ps->lin;
    float *g;

    RETURN_IF_ERROR(run_rows(ps, norm_task, &(RowJob){.src = b->out, .weight = ps->norm[NORM_POST], .dst = b->x,
                                                      .width = c->hidden}, err));
    RETURN_IF_ERROR(gated_values(ps, b, &g, err));
    Stage down = {.ps = ps, .n = 1, .lin = {&lin[L_DOWN]}, .x = g, .y = {b->tap}, .ldy = {c->hidden},
                  .lds = c->hidden, .act_scratch = b->act,
                  .in_mask = pass_tap_mask(ps, TAP_LINEAR_IN, lin[L_DOWN].index)};
    add_to_residual(&down, b->out, b->out, ps->norm[NORM_AFTER_FFN] != NULL);
    RETURN_IF_ERROR(stage_run(&down, NULL, b->next.nseg ? &b->next : NULL, err));
    RETURN_IF_ERROR(block_output(ps, b, L_DOWN, TAP_FFN, b->out, NORM_AFTER_FFN, err));
    return ps->t->then || ps->sum ? ST_OK
                                  : pass_feed_tap(ps, TAP_BLOCK_OUT, -1, b->out, c->hidden, c->hidden, err);
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
static void piece_after(const Pass *ps, FeedPiece *p)
{
    const Model *m = ps->r->m;
    p->nseg = 0;
    bool again = ps->b1 < ps->plan.n;
    if (again && ps->experts) /* attention is through */
        pass_first_piece(ps, L_GATE, 2, true, p);
    const LayerTensors *t = again ? ps->t : ps->t->then ? ps->t->then : &m->layers[ps->layer + 1];
    if ((again && ps->experts) || (!again && !ps->t->then && ps->layer + 1 >= m->cfg.layers))
        return;
    int32_t index[STAGE_MAX];
    LinearRun run[STAGE_MAX];
    const LinearRun *lin[STAGE_MAX];
    int n = first_stage(m, t, index);
    for (int i = 0; i < n; i++) {
        run[i] = linear_ahead(ps->r, &m->linears[index[i]]);
        lin[i] = &run[i];
        if (!weight_readable(&run[i].weight.base))
            return;
    }
    stage_first_piece(lin, n, false, ps->piece_max, p);
}

static Status run_chunk(Pass *ps, const RowNeed *need, bool attention, bool ffn, Error *err)
{
    int64_t w = ps->in->width;
    float *at = ps->r->scratch;
    ChunkBuffers b = {.in = ps->in->data + ps->row0 * w, .out = ps->out->data + ps->row0 * w};
    b.x = at;
    at += need->x * ps->rows;
    b.mid = at;
    at += need->mid * ps->rows;
    b.act = at;
    at += need->act * ps->rows;
    b.tap = need->tap ? at : NULL;
    at += need->tap * ps->rows;
    b.up = need->up ? at : NULL;
    at += need->up * ps->rows;
    b.mix = need->mix ? at : NULL;
    if (attention)
        RETURN_IF_ERROR(layer_attention(ps, &b, err));
    if (!ffn)
        return ST_OK;
    piece_after(ps, &b.next);
    return layer_ffn(ps, &b, err);
}

static RowNeed row_need(Pass *ps)
{
    const ModelConfig *c = &ps->r->m->cfg;
    RowNeed n = layer_row_need(ps->r->m, false);
    LinearRun *l = ps->lin, *qkv[] = {&l[L_Q], &l[L_K], &l[L_V]}, *gu[] = {&l[L_GATE], &l[L_UP]};
    LinearRun *latent[] = {l[L_Q_A].lin ? &l[L_Q_A] : &l[L_Q], &l[L_KV_A], &l[L_INDEX_K], &l[L_INDEX_W]};
    LinearRun *queries[] = {&l[L_Q], &l[L_INDEX_Q]}, *delta[] = {&l[L_QKVZ], &l[L_BA]};
    bool fused = ps->r->m->arch->fused;
    LinearRun **start = l[L_QKVZ].lin ? delta : ps->r->m->arch->mla ? latent : qkv;
    int64_t first = stage_distinct_acts(start, start == latent ? 4 : start == delta ? 2 : fused ? 1 : 3);
    int64_t gu_acts = !ps->dense ? 0 : stage_distinct_acts(gu, fused ? 1 : 2);
    n.act = max_i64(first, gu_acts) * c->hidden;
    if (l[L_INDEX_Q].lin)
        n.act = max_i64(n.act, stage_distinct_acts(queries, 2) * l[L_Q].lin->in);
    if (c->compress.kind)
        n.act = max_i64(n.act, compressed_first_acts(ps));
    for (int i = 0; i < LINEAR_ROLES; i++) /* those that run alone */
        if (l[i].form && l[i].form->act && (ps->dense || i != L_DOWN) && i != L_ROUTER && i != L_SHARED_GATE)
            n.act = max_i64(n.act, l[i].lin->in * max_i64(l[i].lin->groups, 1));
    if (!ps->dense) {
        if (pass_tap_mask(ps, TAP_ATTN, -1) | pass_tap_mask(ps, TAP_LINEAR_OUT, l[L_O].index))
            n.tap = c->hidden;
        return n;
    }
    if (pass_tap_mask(ps, TAP_ATTN, attention_tap(ps)) | pass_tap_mask(ps, TAP_FFN, -1) |
        pass_tap_mask(ps, TAP_LINEAR_OUT, l[L_O].index) | pass_tap_mask(ps, TAP_LINEAR_OUT, l[L_DOWN].index))
        n.tap = c->hidden;
    if (!fused && (pass_tap_mask(ps, TAP_LINEAR_OUT, l[L_GATE].index) |
                   pass_tap_mask(ps, TAP_LINEAR_OUT, l[L_UP].index)))
        n.up = c->inter;
    return n;
}

static bool must_be_whole(const Pass *ps)
{
    for (int i = 0; i < LINEAR_ROLES; i++)
        if (ps->lin[i].form && ps->lin[i].form->prepare)
            return true;
    return false;
}

/* Bytes of the pass's streams, and what lies beside them whatever the chunk (ps->fixed is both). */
static uint64_t stream_bytes(const Pass *ps)
{
    const Model *m = ps->r->m;
    uint64_t bytes = (uint64_t)(ps->in->rows * ps->in->width) * sizeof(float) * (ps->in == ps->out ? 1 : 2);
    bytes += (uint64_t)(ps->in->rows * indexer_row_bytes(&m->cfg, ps->plan.longest_sample));
    bool aside = ps->sum || (ps->experts && ps->dense); /* what experts give waits for the dense block */
    return bytes + (aside ? (uint64_t)(ps->in->rows * m->cfg.hidden) * sizeof(float) : 0);
}

/* Rows of the chunks, under the memory limit. */
static Status chunk_rows(Pass *ps, int64_t row_floats, uint64_t worker_bytes, bool whole, int64_t *rows, Error *err)
{
    const Runner *r = ps->r;
    uint64_t row_bytes = (uint64_t)row_floats * sizeof(float), streams = stream_bytes(ps);
    ps->fixed = streams + worker_bytes * (uint64_t)r->threads;
    ps->fixed += 2 * (r->piece < ps->piece_max ? r->piece : ps->piece_max);
    ps->fixed += layer_beside_bytes(r->m, ps->plan.longest_sample);
    int64_t unit = whole ? ps->in->rows : rowplan_largest_whole(&ps->plan);
    *rows = whole ? ps->in->rows : max_i64(CHUNK_ROWS, unit);
    uint64_t limit = r->opt.mem_limit;
    if (!limit)
        return ST_OK;
    uint64_t least = ps->fixed + (uint64_t)unit * row_bytes;
    if (least > limit)
        return error_set(err, ST_NOMEM,
                         "layer %d needs %.1f MB (hidden states %.1f, %lld rows that cannot be cut %.1f, threads and "
                         "weights %.1f) but the limit leaves %.1f MB: raise --mem, or use fewer or shorter texts "
                         "(--max-samples, --seq-len)",
                         ps->layer, (double)least / 1e6, (double)streams / 1e6, (long long)unit,
                         (double)((uint64_t)unit * row_bytes) / 1e6, (double)(ps->fixed - streams) / 1e6,
                         (double)limit / 1e6);
    int64_t fit = (int64_t)((limit - ps->fixed) / row_bytes);
    *rows = fit < *rows ? fit : *rows;
    return ST_OK;
}

static Status run_chunks(Pass *ps, const RowNeed *need, int64_t rows, bool attention, bool ffn, Error *err)
{
    for (ps->b0 = 0; ps->b0 < ps->plan.n; ps->b0 = ps->b1) {
        ps->b1 = rowplan_end(&ps->plan, ps->b0, rows);
        ps->row0 = ps->plan.start[ps->b0];
        ps->rows = ps->plan.start[ps->b1] - ps->row0;
        ps->s0 = ps->plan.sample[ps->b0];
        ps->s1 = ps->plan.sample[ps->b1];
        RETURN_IF_ERROR(run_chunk(ps, need, attention, ffn, err));
    }
    return ST_OK;
}

/* Adds what the experts gave. */
static Status finish_layer(Pass *ps, Error *err)
{
    int64_t h = ps->r->m->cfg.hidden, w = ps->out->width;
    float *out = ps->out->data;
    if (ps->sum) {
        pass_take_all(ps);
        RETURN_IF_ERROR(ps->mix ? hyper_write(ps, ps->mix, out, ps->sum, ps->rows, out, err)
                                : run_rows(ps, add_task, &(RowJob){.src = ps->sum, .dst = out, .width = h}, err));
        RETURN_IF_ERROR(pass_feed_tap(ps, TAP_BLOCK_OUT, -1, out, w, w, err));
    }
    return taps_layer_end(&ps->hub, ps->layer, err);
}

/* One half of a layer, or all of one that has none. */
static Status run_layer(Pass *ps, bool whole, Error *err)
{
    Runner *r = ps->r;
    RowNeed need = row_need(ps);
    WorkerNeed wn = layer_worker_need(r->m, ps->ops.model, ps->plan.longest_sample, ps->plan.largest);
    int64_t rows, most = 0;
    RETURN_IF_ERROR(chunk_rows(ps, row_need_floats(&need), worker_need_bytes(&wn), whole, &rows, err));
    for (int64_t b = 0; b < ps->plan.n; b = rowplan_end(&ps->plan, b, rows))
        most = max_i64(most, ps->plan.start[rowplan_end(&ps->plan, b, rows)] - ps->plan.start[b]);
    RETURN_IF_ERROR(workers_reserve(r, &wn, err));
    size_t floats = (size_t)(most * row_need_floats(&need));
    RETURN_IF_ERROR(scratch_reserve(r, floats, err));
    RETURN_IF_ERROR(run_chunks(ps, &need, rows, true, !ps->experts, err));
    if (ps->experts) {
        scratch_drop(r);
        RETURN_IF_ERROR(moe_run(ps, &ps->sum, err));
    }
    if (ps->experts && ps->dense)
        RETURN_IF_ERROR(scratch_reserve(r, floats, err));
    if (ps->experts && ps->dense)
        RETURN_IF_ERROR(run_chunks(ps, &need, rows, false, true, err));
    return ps->t->then ? ST_OK : finish_layer(ps, err);
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
    Pass ps = {.r = r, .ops = r->ops, .layer = layer, .layers = mtp ? layer + 1 : c->layers, .in = in, .out = out,
                   .hub = {obs, nobs, r->opt.cancel}, .forms = v ? v->forms : NULL,
               .piece_max = feed_piece_max(r->opt.mem_limit),
                   .local = c->compress.kind ? c->compress.kind[layer] == COMPRESS_NONE
                                             : r->m->arch->local_rope && c->window && c->window[layer] > 0};
    bool model = ps.ops.model;
    double done = 0;
    ps.work_done = &done;
    if (model && v)
        ps.dtype = v->dtype;
    ps.sdpa = v && v->sdpa;
    for (ps.t = &r->m->layers[layer]; ps.t; ps.t = ps.t->then)
        ps.work_total += half_work(r->m, ps.t, (double)in->rows);
    ps.work_total += mtp ? 2.0 * (double)c->hidden * (double)c->hidden * (double)in->rows : 0;
    runner_progress(r, "layer", layer, ps.layers, layer * ps.work_total, ps.layers * ps.work_total, false);
    Status st = mtp ? mtp_start(&ps, err) : ST_OK;
    for (ps.t = &r->m->layers[layer]; ps.t && st == ST_OK; ps.t = ps.t->then) {
        ps.experts = ps.t->expert >= 0;
        ps.dense = !ps.experts || r->m->arch->halves;
        ps.ops.model = model; /* small tensors are the model's whatever follows */
        st = start_layer(&ps, err);
        ps.ops.model = model && ps.dtype == VARIANT_MODEL;
        if (st == ST_OK)
            st = run_layer(&ps, must_be_whole(&ps), err);
        end_layer(&ps);
        ps.in = out; /* of a second half */
        ps.dtype = ps.dtype == VARIANT_MIXED ? VARIANT_WIDE : ps.dtype;
    }
    free(ps.sum);
    free(ps.mix);
    if (st == ST_OK)
        runner_progress(r, "layer", layer + 1, ps.layers, (layer + 1) * ps.work_total, ps.layers * ps.work_total, true);
    return st;
}
