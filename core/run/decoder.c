#include "run/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { NORM_INPUT, NORM_POST, NORM_Q, NORM_K };
enum { ROW_TILE = 64 }; /* rows of one element-wise task */

/* ---- cutting rows ---- */

static void add_block(BlockPlan *p, int64_t end, int sample_after)
{
    p->start[p->n + 1] = end;
    p->sample[p->n + 1] = sample_after;
    int64_t rows = end - p->start[p->n];
    p->largest = rows > p->largest ? rows : p->largest;
    p->n++;
}

Status blocks_plan(BlockPlan *p, const Stream *shape, Error *err)
{
    int64_t most = shape->rows / BLOCK_GOOD + shape->samples + 2;
    *p = (BlockPlan){0};
    p->start = mem_zarray((size_t)most, sizeof *p->start);
    p->sample = mem_zarray((size_t)most, sizeof *p->sample);
    if (!p->start || !p->sample)
        return error_nomem(err, "the row plan");
    for (int s = 0; s < shape->samples; s++) {
        int64_t r0 = shape->start[s], r1 = shape->start[s + 1], open = p->start[p->n];
        p->longest_sample = r1 - r0 > p->longest_sample ? r1 - r0 : p->longest_sample;
        if (r0 > open && r1 - open > BLOCK_MAX) {
            add_block(p, r0, s);
            open = r0;
        }
        int64_t parts = (r1 - open + BLOCK_MAX - 1) / BLOCK_MAX;
        for (int64_t i = 1; i < parts; i++) /* only a sample alone is cut */
            add_block(p, open + (r1 - open) * i / parts, -1);
        if (r1 - open >= BLOCK_GOOD)
            add_block(p, r1, s + 1);
    }
    if (p->start[p->n] < shape->rows)
        add_block(p, shape->rows, shape->samples);
    p->sample[p->n] = shape->samples;
    return ST_OK;
}

void blocks_fini(BlockPlan *p)
{
    free(p->start);
    free(p->sample);
    *p = (BlockPlan){0};
}

/* The block after the chunk that begins at block b0: whole samples, up to `rows` rows, at least one unit. */
static int64_t chunk_end(const BlockPlan *p, int64_t b0, int64_t rows)
{
    int64_t end = b0;
    for (int64_t b = b0 + 1; b <= p->n; b++) {
        if (p->sample[b] < 0)
            continue;
        if (end > b0 && p->start[b] - p->start[b0] > rows)
            break;
        end = b;
    }
    return end;
}

/* Rows of the largest unit that cannot be cut. */
static int64_t largest_unit(const BlockPlan *p)
{
    int64_t most = 0;
    for (int64_t b = 0; b < p->n;) {
        int64_t e = chunk_end(p, b, 0);
        most = p->start[e] - p->start[b] > most ? p->start[e] - p->start[b] : most;
        b = e;
    }
    return most;
}

/* ---- what a layer needs ---- */

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

int64_t row_need_floats(const RowNeed *n)
{
    return n->x + n->mid + n->act + n->tap + n->up;
}

RowNeed layer_row_need(const Model *m, bool act)
{
    const ModelConfig *c = &m->cfg;
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    RowNeed n = {.x = c->hidden, .mid = max64(q + 2 * kv, c->inter)};
    if (act)
        n.act = max64(3 * c->hidden, max64(q, c->inter));
    return n;
}

static size_t panel_values(int64_t out, int64_t in)
{
    int64_t rows = panel_rows(in) < out ? panel_rows(in) : out;
    return (size_t)(rows * in);
}

WorkerNeed layer_worker_need(const Model *m, bool model_mode, int64_t longest, int64_t largest_block)
{
    const ModelConfig *c = &m->cfg;
    WorkerNeed w = {0};
    int64_t cols = 0;
    for (int64_t i = 0; i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        size_t n = panel_values(l->out, l->in);
        w.panel[0] = n > w.panel[0] ? n : w.panel[0];
        if (l->kind == LK_UP)
            w.panel[1] = n > w.panel[1] ? n : w.panel[1];
        cols = max64(cols, panel_rows(l->in) < l->out ? panel_rows(l->in) : l->out);
    }
    w.tile = (size_t)(largest_block * cols);
    w.scores = (size_t)attention_scores_floats(longest);
    if (model_mode) {
        size_t a = gemm_exact_scratch(largest_block, cols);
        size_t b = gemm_exact_scratch(ATTENTION_ROWS_MAX, max64(longest, c->head_dim));
        w.exact = a > b ? a : b;
    }
    return w;
}

/* ---- one pass ---- */

static Status start_linear(LayerRun *lr, int32_t index, const LinearForm *form, Error *err)
{
    if (lr->nlin >= LAYER_LINEARS_MAX)
        return error_set(err, ST_INTERNAL, "layer %d has more than %d linears", lr->layer, LAYER_LINEARS_MAX);
    LinearRun *l = &lr->lin[lr->nlin++];
    const Linear *lin = &lr->r->m->linears[index];
    *l = (LinearRun){.lin = lin, .index = index, .form = form, .panels = panel_count(lin->out, lin->in)};
    if (!ops_can_widen(lin->weight->dtype))
        return error_set(err, ST_DATA, "%s: weights of type %s cannot be run", lin->weight->name,
                         dtype_name(lin->weight->dtype));
    l->weight_mask = taps_weight_wanted(&lr->hub, index);
    uint64_t in_mask = taps_wanted(&lr->hub, (Tap){TAP_LINEAR_IN, lr->layer, lin->input});
    if (taps_energy_wanted(&lr->hub, in_mask)) {
        l->energy = mem_zarray((size_t)(lr->blocks.n * l->panels), sizeof *l->energy);
        if (!l->energy)
            return error_nomem(err, "output energies");
    }
    return lin->bias ? load_vector(lr->r, lin->bias, &l->bias, err) : ST_OK;
}

/* The layer's first linear in definition order: Variant.forms is indexed from it. */
static int64_t first_linear(const Model *m, int layer)
{
    int64_t i = m->layers[layer].q;
    while (i > 0 && m->linears[i - 1].layer == layer)
        i--;
    return i;
}

enum { L_Q, L_K, L_V, L_O, L_GATE, L_UP, L_DOWN };

static Status start_layer(LayerRun *lr, const Variant *v, Error *err)
{
    Runner *r = lr->r;
    const LayerTensors *t = &r->m->layers[lr->layer];
    const TensorInfo *norm[4] = {t->input_norm, t->post_norm, t->q_norm, t->k_norm};
    const int32_t index[] = {t->q, t->k, t->v, t->o, t->gate, t->up, t->down};
    int64_t first = first_linear(r->m, lr->layer);
    RETURN_IF_ERROR(blocks_plan(&lr->blocks, lr->in, err));
    for (size_t i = 0; i < sizeof index / sizeof *index; i++) {
        const LinearForm *form = v && v->forms ? v->forms[index[i] - first] : NULL;
        RETURN_IF_ERROR(start_linear(lr, index[i], form, err));
        const Linear *l = &r->m->linears[index[i]];
        lr->work_total += (double)l->out * (double)l->in * (double)lr->in->rows;
    }
    for (int i = 0; i < 4; i++)
        if (norm[i])
            RETURN_IF_ERROR(load_vector(r, norm[i], &lr->norm[i], err));
    for (int s = 0; s < lr->in->samples; s++)
        RETURN_IF_ERROR(rope_reserve(&r->rope, &r->m->cfg, &r->ops, lr->in->start[s + 1] - lr->in->start[s], err));
    return ST_OK;
}

static void end_layer(LayerRun *lr)
{
    for (int i = 0; i < lr->nlin; i++) {
        free(lr->lin[i].bias);
        free(lr->lin[i].energy);
    }
    for (int i = 0; i < 4; i++)
        free(lr->norm[i]);
    blocks_fini(&lr->blocks);
}

static uint64_t tap_mask(const LayerRun *lr, TapKind kind, int64_t linear)
{
    return taps_wanted(&lr->hub, (Tap){kind, lr->layer, linear});
}

/* Feeds one tap from the chunk's rows, at once. */
static Status feed_tap(LayerRun *lr, TapKind kind, int64_t linear, const float *x, int64_t width, Error *err)
{
    Tap tap = {kind, lr->layer, linear};
    TapFeed f = {&lr->hub, taps_wanted(&lr->hub, tap), tap, lr->in, lr->s0, lr->row0, x, width, width};
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
    int64_t width;
    const float *up;   /* gate */
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

static void gate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    for (int64_t t = index * ROW_TILE; t < tile_end(j->lr, index); t++)
        ops_gate(&j->lr->r->ops, j->lr->r->m->cfg.act, j->dst + t * j->width, j->up + t * j->width, j->width);
}

static void rotate_heads(const LayerRun *lr, float *x, int heads, const float *norm, const float *c, const float *s,
                         int64_t half)
{
    const Model *m = lr->r->m;
    for (int h = 0; h < heads; h++, x += m->cfg.head_dim) {
        if (norm)
            ops_norm(&lr->r->ops, m->arch->norm, x, norm, m->cfg.eps, m->cfg.head_dim, x);
        ops_rope(&lr->r->ops, x, c, s, half);
    }
}

/* Per-head norms of q and k where the family has them, then the rotation. */
static void rotate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const RowJob *j = ctx;
    const LayerRun *lr = j->lr;
    const ModelConfig *c = &lr->r->m->cfg;
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    int64_t t = index * ROW_TILE, end = tile_end(lr, index);
    int lo = lr->s0, hi = lr->s1; /* the sample of row t */
    while (hi - lo > 1) {
        int mid = lo + (hi - lo) / 2;
        if (lr->in->start[mid] <= lr->row0 + t)
            lo = mid;
        else
            hi = mid;
    }
    for (; t < end; t++) {
        while (lr->in->start[lo + 1] <= lr->row0 + t)
            lo++;
        const RopeTable *table = rope_table(&lr->r->rope, c, lr->in->start[lo + 1] - lr->in->start[lo]);
        int64_t at = (lr->row0 + t - lr->in->start[lo]) * table->half;
        rotate_heads(lr, j->q + t * q, c->heads, lr->norm[NORM_Q], table->cos + at, table->sin + at, table->half);
        rotate_heads(lr, j->k + t * kv, c->kv_heads, lr->norm[NORM_K], table->cos + at, table->sin + at, table->half);
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

typedef struct ChunkBuffers {
    float *x, *mid, *act, *tap, *up;
    const float *in;
    float *out;
    FeedPiece next; /* what is read after the last stage; nseg 0: nothing */
} ChunkBuffers;

static void next_stage(const LayerRun *lr, int first, int n, bool gate, FeedPiece *p)
{
    const LinearRun *lin[STAGE_MAX];
    for (int i = 0; i < n; i++)
        lin[i] = &lr->lin[first + i];
    stage_first_piece(lin, n, gate, lr->piece_max, p);
}

static Status layer_attention(LayerRun *lr, const ChunkBuffers *b, Error *err)
{
    const ModelConfig *c = &lr->r->m->cfg;
    int64_t nq = (int64_t)c->heads * c->head_dim, nkv = (int64_t)c->kv_heads * c->head_dim;
    float *q = b->mid, *k = q + lr->rows * nq, *v = k + lr->rows * nkv;
    float *const qkv[] = {q, k, v};
    const int64_t width[] = {nq, nkv, nkv};
    LinearRun *lin = lr->lin;
    FeedPiece after;

    RETURN_IF_ERROR(run_rows(lr, norm_task, &(RowJob){.src = b->in, .weight = lr->norm[NORM_INPUT], .dst = b->x,
                                                      .width = c->hidden}, err));
    Stage st = {.lr = lr, .n = 3, .lin = {&lin[L_Q], &lin[L_K], &lin[L_V]}, .x = b->x, .y = {q, k, v},
                .ldy = {nq, nkv, nkv}, .act_scratch = b->act, .in_mask = tap_mask(lr, TAP_LINEAR_IN, lin[L_Q].index)};
    next_stage(lr, L_O, 1, false, &after);
    RETURN_IF_ERROR(stage_run(&st, NULL, &after, err));
    for (int i = 0; i < 3; i++)
        RETURN_IF_ERROR(feed_tap(lr, TAP_LINEAR_OUT, lin[i].index, qkv[i], width[i], err));
    RETURN_IF_ERROR(run_rows(lr, rotate_task, &(RowJob){.q = q, .k = k}, err));
    for (int i = 0; i < 3; i++)
        RETURN_IF_ERROR(feed_tap(lr, (TapKind)(TAP_Q + i), -1, qkv[i], width[i], err));

    AttnRun at = {.lr = lr, .q = q, .k = k, .v = v, .o = q, .ldq = nq, .ldk = nkv, .ldv = nkv, .heads = c->heads,
                  .kv_heads = c->kv_heads, .head_dim = c->head_dim, .scale = (float)(1.0 / sqrt((double)c->head_dim)),
                  .window = c->window ? c->window[lr->layer] : 0};
    at.first_task = mem_array((size_t)(lr->s1 - lr->s0) + 1, sizeof *at.first_task);
    if (!at.first_task)
        return error_nomem(err, "attention");
    Status s = attention_run(&at, NULL, err);
    free(at.first_task);
    RETURN_IF_ERROR(s);

    Stage out = {.lr = lr, .n = 1, .lin = {&lin[L_O]}, .x = q, .y = {b->tap}, .ldy = {c->hidden}, .res = b->in,
                 .sum = b->out, .lds = c->hidden, .act_scratch = b->act,
                 .in_mask = tap_mask(lr, TAP_LINEAR_IN, lin[L_O].index)};
    next_stage(lr, L_GATE, 2, true, &after);
    RETURN_IF_ERROR(stage_run(&out, NULL, &after, err));
    if (b->tap) {
        RETURN_IF_ERROR(feed_tap(lr, TAP_LINEAR_OUT, lin[L_O].index, b->tap, c->hidden, err));
        RETURN_IF_ERROR(feed_tap(lr, TAP_ATTN, -1, b->tap, c->hidden, err));
    }
    return ST_OK;
}

static Status layer_ffn(LayerRun *lr, const ChunkBuffers *b, Error *err)
{
    const ModelConfig *c = &lr->r->m->cfg;
    LinearRun *lin = lr->lin;
    float *g = b->mid;
    FeedPiece after;

    RETURN_IF_ERROR(run_rows(lr, norm_task, &(RowJob){.src = b->out, .weight = lr->norm[NORM_POST], .dst = b->x,
                                                      .width = c->hidden}, err));
    Stage gu = {.lr = lr, .n = 2, .lin = {&lin[L_GATE], &lin[L_UP]}, .x = b->x, .gate = true, .y = {g, b->up},
                .ldy = {c->inter, c->inter}, .act_scratch = b->act,
                .in_mask = tap_mask(lr, TAP_LINEAR_IN, lin[L_GATE].index)};
    next_stage(lr, L_DOWN, 1, false, &after);
    RETURN_IF_ERROR(stage_run(&gu, NULL, &after, err));
    if (b->up) {
        RETURN_IF_ERROR(feed_tap(lr, TAP_LINEAR_OUT, lin[L_GATE].index, g, c->inter, err));
        RETURN_IF_ERROR(feed_tap(lr, TAP_LINEAR_OUT, lin[L_UP].index, b->up, c->inter, err));
        RETURN_IF_ERROR(run_rows(lr, gate_task, &(RowJob){.dst = g, .up = b->up, .width = c->inter}, err));
    }
    Stage down = {.lr = lr, .n = 1, .lin = {&lin[L_DOWN]}, .x = g, .y = {b->tap}, .ldy = {c->hidden}, .res = b->out,
                  .sum = b->out, .lds = c->hidden, .act_scratch = b->act,
                  .in_mask = tap_mask(lr, TAP_LINEAR_IN, lin[L_DOWN].index)};
    RETURN_IF_ERROR(stage_run(&down, NULL, b->next.nseg ? &b->next : NULL, err));
    if (b->tap) {
        RETURN_IF_ERROR(feed_tap(lr, TAP_LINEAR_OUT, lin[L_DOWN].index, b->tap, c->hidden, err));
        RETURN_IF_ERROR(feed_tap(lr, TAP_FFN, -1, b->tap, c->hidden, err));
    }
    return feed_tap(lr, TAP_BLOCK_OUT, -1, b->out, c->hidden, err);
}

/* What is read after this chunk's last stage: the same layer again, or the layer after it. */
static void piece_after(const LayerRun *lr, FeedPiece *p)
{
    const Model *m = lr->r->m;
    p->nseg = 0;
    int layer = lr->b1 < lr->blocks.n ? lr->layer : lr->layer + 1;
    if (layer >= m->cfg.layers)
        return;
    const int32_t index[] = {m->layers[layer].q, m->layers[layer].k, m->layers[layer].v};
    LinearRun run[3];
    const LinearRun *lin[3];
    for (int i = 0; i < 3; i++) {
        const Linear *l = &m->linears[index[i]];
        if (!ops_can_widen(l->weight->dtype))
            return;
        run[i] = (LinearRun){.lin = l, .panels = panel_count(l->out, l->in)};
        lin[i] = &run[i];
    }
    stage_first_piece(lin, 3, false, lr->piece_max, p);
}

static Status run_chunk(LayerRun *lr, const RowNeed *need, Error *err)
{
    int64_t h = lr->r->m->cfg.hidden;
    float *at = lr->r->scratch;
    ChunkBuffers b = {.in = lr->in->data + lr->row0 * h, .out = lr->out->data + lr->row0 * h};
    b.x = at;
    at += need->x * lr->rows;
    b.mid = at;
    at += need->mid * lr->rows;
    b.act = at;
    at += need->act * lr->rows;
    b.tap = need->tap ? at : NULL;
    at += need->tap * lr->rows;
    b.up = need->up ? at : NULL;
    piece_after(lr, &b.next);
    RETURN_IF_ERROR(layer_attention(lr, &b, err));
    return layer_ffn(lr, &b, err);
}

static RowNeed row_need(LayerRun *lr)
{
    const ModelConfig *c = &lr->r->m->cfg;
    RowNeed n = layer_row_need(lr->r->m, false);
    LinearRun *l = lr->lin, *qkv[] = {&l[L_Q], &l[L_K], &l[L_V]}, *gu[] = {&l[L_GATE], &l[L_UP]};
    n.act = max64(stage_distinct_acts(qkv, 3), stage_distinct_acts(gu, 2)) * c->hidden;
    for (int i = L_O; i <= L_DOWN; i += L_DOWN - L_O)
        if (l[i].form && l[i].form->act)
            n.act = max64(n.act, l[i].lin->in);
    if (tap_mask(lr, TAP_ATTN, -1) | tap_mask(lr, TAP_FFN, -1) | tap_mask(lr, TAP_LINEAR_OUT, l[L_O].index) |
        tap_mask(lr, TAP_LINEAR_OUT, l[L_DOWN].index))
        n.tap = c->hidden;
    if (tap_mask(lr, TAP_LINEAR_OUT, l[L_GATE].index) | tap_mask(lr, TAP_LINEAR_OUT, l[L_UP].index))
        n.up = c->inter;
    return n;
}

static bool must_be_whole(const LayerRun *lr)
{
    for (int i = 0; i < lr->nlin; i++)
        if (lr->lin[i].form && lr->lin[i].form->prepare)
            return true;
    return false;
}

/* Rows of the chunks, under the memory limit. */
static Status chunk_rows(const LayerRun *lr, int64_t row_floats, uint64_t worker_bytes, bool whole, int64_t *rows,
                         Error *err)
{
    const Runner *r = lr->r;
    uint64_t row_bytes = (uint64_t)row_floats * sizeof(float);
    uint64_t streams = (uint64_t)(lr->in->rows * lr->in->width) * sizeof(float) * (lr->in == lr->out ? 1 : 2);
    uint64_t fixed = streams + worker_bytes * (uint64_t)r->threads + 2 * lr->piece_max;
    int64_t unit = whole ? lr->in->rows : largest_unit(&lr->blocks);
    *rows = whole ? lr->in->rows : max64(CHUNK_ROWS, unit);
    uint64_t limit = r->opt.mem_limit;
    if (!limit)
        return ST_OK;
    uint64_t least = fixed + (uint64_t)unit * row_bytes;
    if (least > limit)
        return error_set(err, ST_NOMEM,
                         "layer %d needs %.1f MB (hidden states %.1f, %lld rows that cannot be cut %.1f, threads and "
                         "weights %.1f) but the limit is %.1f MB: raise --mem, or use fewer or shorter texts "
                         "(--max-samples, --seq-len)",
                         lr->layer, (double)least / 1e6, (double)streams / 1e6, (long long)unit,
                         (double)((uint64_t)unit * row_bytes) / 1e6, (double)(fixed - streams) / 1e6,
                         (double)limit / 1e6);
    int64_t fit = (int64_t)((limit - fixed) / row_bytes);
    *rows = fit < *rows ? fit : *rows;
    return ST_OK;
}

static Status run_layer(LayerRun *lr, bool whole, Error *err)
{
    Runner *r = lr->r;
    RowNeed need = row_need(lr);
    WorkerNeed wn = layer_worker_need(r->m, r->ops.model, lr->blocks.longest_sample, lr->blocks.largest);
    int64_t rows, most = 0;
    RETURN_IF_ERROR(chunk_rows(lr, row_need_floats(&need), worker_need_bytes(&wn), whole, &rows, err));
    for (int64_t b = 0; b < lr->blocks.n; b = chunk_end(&lr->blocks, b, rows))
        most = max64(most, lr->blocks.start[chunk_end(&lr->blocks, b, rows)] - lr->blocks.start[b]);
    RETURN_IF_ERROR(workers_reserve(r, &wn, err));
    size_t floats = (size_t)(most * row_need_floats(&need));
    if (floats > r->scratch_cap) {
        free(r->scratch);
        r->scratch_cap = 0;
        r->scratch = mem_aligned(floats, sizeof *r->scratch);
        if (!r->scratch)
            return error_nomem(err, "the activations of a layer");
        r->scratch_cap = floats;
    }
    for (lr->b0 = 0; lr->b0 < lr->blocks.n; lr->b0 = lr->b1) {
        lr->b1 = chunk_end(&lr->blocks, lr->b0, rows);
        lr->row0 = lr->blocks.start[lr->b0];
        lr->rows = lr->blocks.start[lr->b1] - lr->row0;
        lr->s0 = lr->blocks.sample[lr->b0];
        lr->s1 = lr->blocks.sample[lr->b1];
        RETURN_IF_ERROR(run_chunk(lr, &need, err));
    }
    return taps_layer_end(&lr->hub, lr->layer, err);
}

Status runner_layer(Runner *r, int layer, const Variant *v, const Stream *in, Stream *out, const Observer *obs,
                    int nobs, Error *err)
{
    if (layer < 0 || layer >= r->m->cfg.layers)
        return error_set(err, ST_INTERNAL, "there is no layer %d: the model has %d", layer, r->m->cfg.layers);
    if (nobs > TAPS_MAX_OBSERVERS)
        return error_set(err, ST_INTERNAL, "%d observers of one pass, at most %d", nobs, TAPS_MAX_OBSERVERS);
    LayerRun lr = {.r = r, .layer = layer, .in = in, .out = out, .hub = {obs, nobs, r->opt.cancel},
                   .piece_max = feed_piece_max(r->opt.mem_limit)};
    Status st = start_layer(&lr, v, err);
    const ModelConfig *c = &r->m->cfg;
    runner_progress(r, "layer", layer, c->layers, layer * lr.work_total, c->layers * lr.work_total, false);
    bool whole = false;
    if (st == ST_OK)
        whole = must_be_whole(&lr);
    if (st == ST_OK)
        st = run_layer(&lr, whole, err);
    end_layer(&lr);
    if (st == ST_OK)
        runner_progress(r, "layer", layer + 1, c->layers, (layer + 1) * lr.work_total, c->layers * lr.work_total, true);
    return st;
}
