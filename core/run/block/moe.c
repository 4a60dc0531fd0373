#include "run/block.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/block/router.h"

/* The feed-forward block of a layer with experts (specs/models.md 2.3, MoE). It sees all rows of the layer at once:
 * every expert gathers the rows that chose it, so each weight is read once a layer. */

typedef struct MoeRun {
    Pass *ps;
    BlockRun *b;
    const MoeRule *rule;
    int64_t rows;
    float *x, *y;          /* [rows][hidden]: what the block reads, the sum of what the experts give */
    float *logits;         /* [rows][choices] */
    float *w;              /* [rows][top_k] */
    int32_t *idx;          /* [rows][top_k], ascending */
    const float *router, *bias;  /* widened; NULL: the router is a linear; there is no bias */
    float *mix;            /* what the join needs, NULL: nothing */
    float *scratch;        /* [threads][router_scratch_floats] */
    int64_t *first;        /* [choices + 1] of each expert in entry */
    struct MoeEntry {
        int64_t row;
        float w;
    } *entry;              /* [rows * top_k] by expert, then by row */
    int64_t most;          /* rows of the expert that has most */
    int64_t *start;        /* [samples + 1] rows of the expert at work */
    float *gather, *mid, *up, *out, *act; /* [rows of a block][...] */
    int expert;            /* at work */
} MoeRun;

static void moe_fini(MoeRun *m)
{
    void *const all[] = {m->x,     m->y,       m->logits, m->w,   m->idx, m->mix, m->scratch,
                         m->first, m->entry,   m->start,  m->gather, m->mid, m->up,     m->out,  m->act};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* ---- what the block reads, and who takes it ---- */

/* Logits of a router that is no linear: in float32 whatever the arithmetic of the rest, or as the row says. */
static void logits_task(void *ctx, int64_t index, int worker)
{
    MoeRun *m = ctx;
    const Ops *ops = &m->ps->ops;
    const ModelConfig *c = m->ps->cfg;
    void *scratch = m->ps->r->worker[worker].gemm;
    int64_t h = c->hidden, n = router_choices(&c->moe), t = index * PASS_TILE;
    GemmArgs g = {.m = pass_tile_end(index, m->rows) - t, .n = n, .k = h, .x = m->x + t * h, .ldx = h, .w = m->router,
                  .ldw = h, .y = m->logits + t * n, .ldy = n};
    if (m->rule->round_logits) /* bias is the linear's own */
        g.bias = m->bias;
    if (m->rule->round_logits || m->rule->round_steps)
        ops_gemm(ops, &g, scratch);
    else
        ops_product(ops, &g, scratch);
}

static void choose_task(void *ctx, int64_t index, int worker)
{
    MoeRun *m = ctx;
    const MoeConfig *c = &m->ps->cfg->moe;
    const float *bias = m->rule->round_logits ? NULL : m->bias;
    float *scratch = m->scratch + (size_t)worker * router_scratch_floats(c);
    bool chosen = m->b->b->small[MOE_HASH] != NULL;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, m->rows); t++) {
        const float *logits = m->logits + t * router_choices(c);
        int32_t *idx = m->idx + t * c->top_k;
        if (chosen)
            router_weigh(m->rule, c, &m->ps->ops, logits, scratch, idx, m->w + t * c->top_k);
        else
            router_choose(m->rule, c, &m->ps->ops, logits, bias, scratch, idx, m->w + t * c->top_k);
    }
}

/* One token's experts as the checkpoint's table has them. */
static Status check_row(const MoeRun *m, const TensorInfo *t, int32_t id, const int64_t *row, int32_t *idx, Error *err)
{
    const MoeConfig *c = &m->ps->cfg->moe;
    for (int j = 0; j < c->top_k; j++) {
        if (row[j] < 0 || row[j] >= c->experts)
            return error_set(err, ST_DATA, "%s: token %d has expert %lld, but there are %d", t->name, id,
                             (long long)row[j], c->experts);
        idx[j] = (int32_t)row[j];
        for (int i = 0; i < j; i++)
            if (idx[i] == idx[j])
                return error_set(err, ST_DATA, "%s: token %d has expert %d twice", t->name, id, idx[j]);
    }
    return ST_OK;
}

/* The experts of every row by its token's id. */
static Status look_up(MoeRun *m, const TensorInfo *t, Error *err)
{
    const Runner *r = m->ps->r;
    const int32_t *ids = m->ps->in->ids;
    int k = m->ps->cfg->moe.top_k;
    if (!ids)
        return error_set(err, ST_INTERNAL, "layer %d chooses experts by token, but the tokens are not known",
                         m->ps->layer);
    size_t size = (size_t)dtype_size(t->dtype), bytes = size * (size_t)k;
    int64_t *row = mem_array((size_t)k, sizeof *row);
    int32_t *narrow = mem_array((size_t)k, sizeof *narrow);
    Status st = row && narrow ? ST_OK : error_nomem(err, "the experts of a token");
    for (int64_t i = 0; i < m->rows && st == ST_OK; i++) {
        bool wide = t->dtype == DT_I64;
        st = source_bytes(&r->src, t, (uint64_t)ids[i] * bytes, bytes, wide ? (void *)row : (void *)narrow, err);
        for (int j = 0; j < k && !wide; j++)
            row[j] = narrow[j];
        if (st == ST_OK)
            st = check_row(m, t, ids[i], row, m->idx + i * k, err);
        if (st == ST_OK && cancel_level(r->opt.cancel))
            st = error_set(err, ST_CANCELLED, "cancelled");
    }
    free(row);
    free(narrow);
    return st;
}

/* Sorts the choices by expert; rows keep their order, so those of a sample stay together. */
static void sort_choices(MoeRun *m)
{
    const MoeConfig *c = &m->ps->cfg->moe;
    int64_t n = m->rows * c->top_k, at = 0;
    for (int64_t i = 0; i < n; i++)
        m->first[m->idx[i] + 1]++;
    for (int e = 0; e < router_choices(c); e++) {
        int64_t rows = m->first[e + 1];
        m->most = rows > m->most ? rows : m->most;
        m->first[e] = at; /* the next free place while they are filled in */
        at += rows;
    }
    for (int64_t i = 0; i < n; i++)
        m->entry[m->first[m->idx[i]]++] = (struct MoeEntry){i / c->top_k, m->w[i]};
    for (int e = router_choices(c); e > 0; e--)
        m->first[e] = m->first[e - 1];
    m->first[0] = 0;
}

static Status feed_choices(MoeRun *m, Error *err)
{
    Pass *ps = m->ps;
    const MoeConfig *c = &ps->cfg->moe;
    int64_t k = c->top_k;
    RETURN_IF_ERROR(pass_feed_tap(ps, TAP_ROUTER, -1, m->logits, router_choices(c), router_choices(c), err));
    RETURN_IF_ERROR(pass_feed_tap(ps, TAP_EXPERT_WEIGHTS, -1, m->w, k, k, err));
    if (!pass_tap_mask(ps, TAP_EXPERTS, -1))
        return ST_OK;
    float *idx = mem_array((size_t)(m->rows * k), sizeof *idx);
    if (!idx)
        return error_nomem(err, "the chosen experts");
    for (int64_t i = 0; i < m->rows * k; i++)
        idx[i] = (float)m->idx[i];
    Status st = pass_feed_tap(ps, TAP_EXPERTS, -1, idx, k, k, err);
    free(idx);
    return st;
}

/* Logits of a router that is a linear: in float32 without rounding where the row says so. */
static Status linear_logits(MoeRun *m, Error *err)
{
    Pass *ps = m->ps;
    LinearRun *l = &m->b->lin[MOE_ROUTER];
    Ops wide = ps->ops;
    int64_t n = router_choices(&ps->cfg->moe);
    wide.dtype = DT_F32;
    Stage st = {.ps = ps, .n = 1, .lin = {l}, .ops = m->rule->router_wide ? &wide : NULL, .x = m->x,
                .y = {m->logits}, .ldy = {n}, .act_scratch = m->act,
                .in_mask = pass_tap_mask(ps, TAP_LINEAR_IN, l->index)};
    RETURN_IF_ERROR(stage_run(&st, NULL, NULL, err));
    return pass_feed_tap(ps, TAP_LINEAR_OUT, l->index, m->logits, n, n, err);
}

static Status route(MoeRun *m, const ChunkBuffers *buf, Error *err)
{
    Pass *ps = m->ps;
    const BlockRun *join = m->b->join;
    const TensorInfo *hash = m->b->b->small[MOE_HASH];
    const Ops *ops = m->b->front ? &ps->front : &ps->ops;
    RETURN_IF_ERROR(join->ops->read(ps, join, ops, buf->in, m->rows, m->x, m->mix, err));
    m->bias = m->b->small[MOE_ROUTER_BIAS];
    m->router = m->b->small[MOE_ROUTER_WEIGHT];
    if (m->router)
        RETURN_IF_ERROR(pass_tiles(ps, logits_task, m, m->rows, err));
    else
        RETURN_IF_ERROR(linear_logits(m, err));
    if (hash)
        RETURN_IF_ERROR(look_up(m, hash, err));
    RETURN_IF_ERROR(pass_tiles(ps, choose_task, m, m->rows, err));
    RETURN_IF_ERROR(feed_choices(m, err));
    sort_choices(m);
    return ST_OK;
}

/* ---- one expert ---- */

static void gather_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    MoeRun *m = ctx;
    int64_t h = m->ps->cfg->hidden, first = m->first[m->expert], rows = m->first[m->expert + 1] - first;
    for (int64_t i = index * PASS_TILE; i < pass_tile_end(index, rows); i++)
        memcpy(m->gather + i * h, m->x + m->entry[first + i].row * h, (size_t)h * sizeof *m->x);
}

/* y = R(y + R(out * w)): an expert's rows are all different. One without weights gives what it gathered. */
static void scatter_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    MoeRun *m = ctx;
    const Ops *ops = &m->ps->ops;
    int64_t h = m->ps->cfg->hidden, first = m->first[m->expert], rows = m->first[m->expert + 1] - first;
    float *out = m->expert < m->ps->cfg->moe.experts ? m->out : m->gather;
    for (int64_t i = index * PASS_TILE; i < pass_tile_end(index, rows); i++) {
        const struct MoeEntry *e = &m->entry[first + i];
        ops_scale(ops, out + i * h, e->w, h);
        ops_add(ops, m->y + e->row * h, out + i * h, m->y + e->row * h, h);
    }
}

static void gate_rows_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    MoeRun *m = ctx;
    const ModelConfig *c = m->ps->cfg;
    bool shared = m->expert < 0;
    int64_t width = shared ? c->moe.shared_inter : c->moe.inter;
    int64_t rows = shared ? m->rows : m->first[m->expert + 1] - m->first[m->expert];
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, rows); t++)
        ops_gate(&m->ps->ops, c->act, m->mid + t * width, m->up + t * width, width);
}

/* The rows of expert e as packed samples. */
static void expert_shape(const MoeRun *m, int e, Stream *shape)
{
    const Stream *in = m->ps->in;
    int64_t i = m->first[e];
    *shape = (Stream){.samples = in->samples, .rows = m->first[e + 1] - i, .width = in->width, .start = m->start,
                      .copy = in->copy};
    m->start[0] = 0;
    for (int s = 0; s < in->samples; s++) {
        while (i < m->first[e + 1] && m->entry[i].row < in->start[s + 1])
            i++;
        m->start[s + 1] = i - m->first[e];
    }
}

/* The three linears of an expert: gate, up, down. */
static Status expert_stages(MoeRun *m, Pass *er, LinearRun lin[3], const FeedPiece *next, Error *err)
{
    const ModelConfig *c = er->cfg;
    const LinearRun *down_lin[] = {&lin[2]};
    int64_t width = c->moe.inter, h = c->hidden;
    const int64_t gate = lin[0].index, up = lin[1].index, down = lin[2].index;
    bool none = er->rows == 0;
    FeedPiece after;
    bool split = !none && (pass_tap_mask(er, TAP_LINEAR_OUT, gate) | pass_tap_mask(er, TAP_LINEAR_OUT, up));
    Stage gu = {.ps = er, .n = 2, .lin = {&lin[0], &lin[1]}, .x = m->gather, .gate = true,
                .y = {m->mid, split ? m->up : NULL}, .ldy = {width, width}, .act_scratch = m->act,
                .in_mask = none ? 0 : pass_tap_mask(er, TAP_LINEAR_IN, gate)};
    stage_first_piece(down_lin, 1, false, er->piece_max, &after);
    RETURN_IF_ERROR(stage_run(&gu, NULL, &after, err));
    if (split) {
        RETURN_IF_ERROR(pass_feed_tap(er, TAP_LINEAR_OUT, gate, m->mid, width, width, err));
        RETURN_IF_ERROR(pass_feed_tap(er, TAP_LINEAR_OUT, up, m->up, width, width, err));
        RETURN_IF_ERROR(pass_tiles(er, gate_rows_task, m, er->rows, err));
    }
    Stage st = {.ps = er, .n = 1, .lin = {&lin[2]}, .x = m->mid, .y = {m->out}, .ldy = {h},
                .act_scratch = m->act, .in_mask = none ? 0 : pass_tap_mask(er, TAP_LINEAR_IN, down)};
    RETURN_IF_ERROR(stage_run(&st, NULL, next->nseg ? next : NULL, err));
    return none ? ST_OK : pass_feed_tap(er, TAP_LINEAR_OUT, down, m->out, h, h, err);
}

/* Index of expert e's gate (part 0), up (1) or down (2). */
static int32_t expert_linear(const MoeRun *m, int e, int part)
{
    return ((const MoeConf *)m->b->b->conf)->expert + 3 * e + expert_place(m->rule, part);
}

/* Expert e has something to do: rows, or somebody who looks at its weights. */
static bool expert_runs(const MoeRun *m, int e)
{
    if (m->first[e + 1] > m->first[e])
        return true;
    for (int i = 0; i < 3; i++)
        if (taps_weight_wanted(&m->ps->hub, expert_linear(m, e, i)))
            return true;
    return false;
}

/* The first piece of weights of the expert after e. */
static void piece_of_next(const MoeRun *m, int e, FeedPiece *p)
{
    const Pass *ps = m->ps;
    int experts = ps->cfg->moe.experts;
    p->nseg = 0;
    for (e++; e < experts && !expert_runs(m, e);)
        e++;
    if (e >= experts)
        return;
    LinearRun run[2];
    const LinearRun *lin[] = {&run[0], &run[1]};
    for (int i = 0; i < 2; i++) {
        run[i] = linear_ahead(ps->r, &ps->r->m->linears[expert_linear(m, e, i)]);
    }
    stage_first_piece(lin, 2, true, ps->piece_max, p);
}

static Status run_expert(MoeRun *m, int e, Error *err)
{
    Pass er = *m->ps; /* its rows are others */
    LinearRun lin[3] = {{NULL}, {NULL}, {NULL}};
    Stream shape;
    FeedPiece next;
    m->expert = e;
    expert_shape(m, e, &shape);
    er.in = &shape;
    er.rows = shape.rows;
    er.b0 = er.row0 = er.s0 = 0;
    er.s1 = shape.samples;
    Status st = rowplan_make(&er.plan, &shape, err);
    er.b1 = er.plan.n;
    for (int i = 0; i < 3 && st == ST_OK; i++)
        st = pass_linear_start(&er, &lin[i], expert_linear(m, e, i), err);
    piece_of_next(m, e, &next);
    if (st == ST_OK && shape.rows > 0)
        st = pass_tiles(m->ps, gather_task, m, shape.rows, err);
    if (st == ST_OK)
        st = expert_stages(m, &er, lin, &next, err);
    if (st == ST_OK && shape.rows > 0)
        st = pass_tiles(m->ps, scatter_task, m, shape.rows, err);
    for (int i = 0; i < 3; i++)
        pass_linear_end(&lin[i]);
    rowplan_fini(&er.plan);
    return st;
}

/* ---- the shared expert ---- */

/* y = R(y + shared), the shared expert's output scaled first where it has a gate. */
static void add_shared_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    MoeRun *m = ctx;
    const Pass *ps = m->ps;
    int64_t h = ps->cfg->hidden;
    const float *gate = m->b->lin[MOE_SHARED_GATE].lin ? m->logits : NULL; /* the logits' place is free by now */
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, m->rows); t++) {
        if (gate) {
            float s = 1.0f / (1.0f + expf(-gate[t]));
            ops_round(&ps->ops, &s, 1);
            ops_scale(&ps->ops, m->out + t * h, s, h);
        }
        ops_add(&ps->ops, m->y + t * h, m->out + t * h, m->y + t * h, h);
    }
}

static Status run_shared(MoeRun *m, Error *err)
{
    Pass *ps = m->ps;
    LinearRun *lin = m->b->lin;
    const ModelConfig *c = ps->cfg;
    int64_t width = c->moe.shared_inter, h = c->hidden;
    bool gated = lin[MOE_SHARED_GATE].lin != NULL;
    m->expert = -1;
    Stage gu = {.ps = ps, .n = gated ? 3 : 2, .lin = {&lin[MOE_GATE], &lin[MOE_UP], &lin[MOE_SHARED_GATE]}, .x = m->x,
                .y = {m->mid, m->up, m->logits}, .ldy = {width, width, 1}, .act_scratch = m->act,
                .in_mask = pass_tap_mask(ps, TAP_LINEAR_IN, lin[MOE_GATE].index)};
    RETURN_IF_ERROR(stage_run(&gu, NULL, NULL, err));
    for (int i = 0; i < gu.n; i++)
        RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, gu.lin[i]->index, gu.y[i], gu.ldy[i], gu.ldy[i], err));
    RETURN_IF_ERROR(pass_tiles(m->ps, gate_rows_task, m, m->rows, err));
    Stage down = {.ps = ps, .n = 1, .lin = {&lin[MOE_DOWN]}, .x = m->mid, .y = {m->out}, .ldy = {h},
                  .act_scratch = m->act, .in_mask = pass_tap_mask(ps, TAP_LINEAR_IN, lin[MOE_DOWN].index)};
    RETURN_IF_ERROR(stage_run(&down, NULL, NULL, err));
    RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, lin[MOE_DOWN].index, m->out, h, h, err));
    return pass_tiles(m->ps, add_shared_task, m, m->rows, err);
}

/* ---- the block ---- */

/* Bytes for `rows` rows of which `most` go to one expert; act: room for any variant's inputs. */
static uint64_t block_bytes(const ModelConfig *c, int64_t rows, int64_t most, int64_t mix, int threads, bool act)
{
    const MoeConfig *e = &c->moe;
    int64_t out = max_i64(most, e->shared_inter ? rows : 0) * c->hidden;
    int64_t values = most * c->hidden + out + 2 * max_i64(most * e->inter, rows * e->shared_inter);
    int64_t acts = act ? 3 * rows * max_i64(c->hidden, max_i64(e->inter, e->shared_inter)) : 0;
    int64_t choices = router_choices(e);
    int64_t row = 2 * c->hidden + choices + 2 * e->top_k + mix;
    uint64_t floats = (uint64_t)(rows * row + values + acts);
    uint64_t router = (uint64_t)((c->hidden + 2) * choices) + router_scratch_floats(e) * (uint64_t)threads;
    return (floats + router) * sizeof(float) + (uint64_t)(rows * e->top_k) * sizeof(struct MoeEntry);
}

/* Floats that the join keeps of a row. */
static int64_t join_mix(const Block *b, const ModelConfig *c)
{
    BlockNeed need = {.kept = 0};
    block_ops(b->join->type)->need(b->join, &(NeedAsk){.cfg = c}, &need);
    return need.row.mix;
}

static bool has_act(const Pass *ps)
{
    for (int32_t i = 0; i < ps->u->count && ps->forms; i++)
        if (ps->forms[i] && ps->forms[i]->act)
            return true;
    return false;
}

static Status check_limit(const MoeRun *m, int64_t most, bool act, Error *err)
{
    const Runner *r = m->ps->r;
    uint64_t need = block_bytes(m->ps->cfg, m->rows, most, join_mix(m->b->b, m->ps->cfg), r->threads, act);
    uint64_t limit = r->opt.mem_limit;
    need += m->ps->fixed;
    if (!limit || need <= limit)
        return ST_OK;
    return error_set(err, ST_NOMEM,
                     "the experts of layer %d need %.1f MB for %lld rows but the limit leaves %.1f MB: raise --mem, or "
                     "use fewer or shorter texts (--max-samples, --seq-len)",
                     m->ps->layer, (double)need / 1e6, (long long)m->rows, (double)limit / 1e6);
}

static Status moe_buffers(MoeRun *m, Error *err)
{
    Pass *ps = m->ps;
    const ModelConfig *c = ps->cfg;
    const MoeConfig *e = &c->moe;
    int64_t mix = join_mix(m->b->b, c), width = max_i64(c->hidden, max_i64(e->inter, e->shared_inter));
    size_t rows = (size_t)m->rows, chosen = rows * (size_t)e->top_k, h = (size_t)c->hidden;
    bool act = has_act(ps);
    m->x = mem_aligned(rows * h, sizeof *m->x);
    m->y = mem_zarray(rows * h, sizeof *m->y);
    m->logits = mem_aligned(rows * (size_t)router_choices(e), sizeof *m->logits);
    m->w = mem_array(chosen, sizeof *m->w);
    m->idx = mem_array(chosen, sizeof *m->idx);
    m->scratch = mem_array((size_t)ps->r->threads * router_scratch_floats(e), sizeof *m->scratch);
    m->first = mem_zarray((size_t)router_choices(e) + 1, sizeof *m->first);
    m->entry = mem_array(chosen, sizeof *m->entry);
    m->start = mem_array((size_t)ps->in->samples + 1, sizeof *m->start);
    m->act = act ? mem_aligned(3 * rows * (size_t)width, sizeof *m->act) : NULL;
    m->mix = mix ? mem_array(rows * (size_t)mix, sizeof *m->mix) : NULL;
    if (act && !m->act)
        return error_nomem(err, "the experts' inputs");
    if (!m->x || !m->y || !m->logits || !m->w || !m->idx || !m->scratch || !m->first || !m->entry || !m->start ||
        (mix && !m->mix))
        return error_nomem(err, "the experts' rows");
    return ST_OK;
}

/* What depends on how many rows the largest expert got. */
static Status expert_buffers(MoeRun *m, Error *err)
{
    const ModelConfig *c = &m->ps->r->m->cfg;
    const MoeConfig *e = &c->moe;
    bool shared = e->shared_inter > 0;
    int64_t mid = max_i64(m->most * e->inter, shared ? m->rows * e->shared_inter : 0);
    int64_t out = shared ? m->rows : m->most;
    RETURN_IF_ERROR(check_limit(m, m->most, m->act != NULL, err));
    m->gather = mem_aligned((size_t)(m->most * c->hidden), sizeof *m->gather);
    m->mid = mem_aligned((size_t)mid, sizeof *m->mid);
    m->up = mem_aligned((size_t)mid, sizeof *m->up);
    m->out = mem_aligned((size_t)(out * c->hidden), sizeof *m->out);
    return m->gather && m->mid && m->up && m->out ? ST_OK : error_nomem(err, "the experts' values");
}

static Status run_block(MoeRun *m, const ChunkBuffers *buf, Error *err)
{
    Pass *ps = m->ps;
    const MoeConfig *c = &ps->cfg->moe;
    int64_t h = ps->cfg->hidden;
    RETURN_IF_ERROR(check_limit(m, 0, false, err));
    RETURN_IF_ERROR(moe_buffers(m, err));
    RETURN_IF_ERROR(route(m, buf, err));
    RETURN_IF_ERROR(expert_buffers(m, err));
    for (int e = 0; e < c->experts; e++)
        if (expert_runs(m, e))
            RETURN_IF_ERROR(run_expert(m, e, err));
    for (m->expert = c->experts; m->expert < router_choices(c); m->expert++) {
        int64_t rows = m->first[m->expert + 1] - m->first[m->expert];
        RETURN_IF_ERROR(pass_tiles(ps, gather_task, m, rows, err));
        RETURN_IF_ERROR(pass_tiles(ps, scatter_task, m, rows, err));
    }
    if (c->shared_inter)
        RETURN_IF_ERROR(run_shared(m, err));
    return pass_feed_tap(ps, TAP_FFN, block_tap_linear(m->b, MOE_DOWN), m->y, h, h, err);
}

static Status forward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    MoeRun m = {.ps = ps, .b = b, .rule = ((const MoeConf *)b->b->conf)->rule, .rows = ps->rows};
    Status st = m.rows > 0 ? run_block(&m, buf, err) : ST_OK;
    if (st == ST_OK && m.rows > 0 && b->b->spec->late) {
        *ps->late = (PassLate){b, m.y, m.mix};
        m.y = m.mix = NULL;
    } else if (st == ST_OK && m.rows > 0) {
        st = b->join->ops->write(ps, b->join, m.mix, buf->in, m.y, m.rows, buf->out, err);
    }
    moe_fini(&m);
    return st;
}

static void need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    int64_t choices = router_choices(&ask->cfg->moe);
    out->whole = block_bytes(ask->cfg, ask->rows, ask->rows, join_mix(b, ask->cfg), ask->threads, ask->act);
    if (b->linear[MOE_ROUTER] < 0)
        need_product(ask, &out->worker, PASS_TILE, choices, ask->cfg->hidden);
}

static double work(const Block *b, const ModelConfig *c)
{
    (void)b;
    return 3.0 * (double)c->moe.inter * (double)c->hidden * c->moe.top_k;
}

const BlockOps moe_ops = {.whole = true, .need = need, .forward = forward, .work = work};
