#include "run/block/moe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"

/* The feed-forward block of a layer with experts (specs/models.md 2.3, MoE). It sees all rows of the layer at once:
 * every expert gathers the rows that chose it, so each weight is read once a layer. */

void moe_fini(MoeRun *m)
{
    void *const all[] = {m->x,     m->y,       m->logits, m->w,   m->idx, m->mix, m->scratch, m->all,
                         m->first, m->entry,   m->start,  m->run,    m->gather, m->mid, m->up,  m->out,  m->act};
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
    ops_choice(ops, &g, scratch);
    for (int64_t i = 0; i < g.m && (m->rule->round_logits || m->rule->round_steps); i++)
        ops_round(ops, g.y + i * n, n);
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
        if (st == ST_OK)
            st = cancel_check(r->opt.cancel, err);
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
    wide.dtype = m->rule->router_wide ? DT_F32 : wide.dtype;
    wide.products = ops_choice_products(&wide);
    if (m->rule->router_wide && wide.products == GEMM_BF16)
        wide.products = GEMM_F32;
    Stage st = {.ps = ps, .n = 1, .lin = {l}, .ops = &wide, .x = m->x,
                .y = {m->logits}, .ldy = {n}, .act_scratch = m->act};
    RETURN_IF_ERROR(stage_run(&st, NULL, err));
    return pass_feed_tap(ps, TAP_LINEAR_OUT, l->index, m->logits, n, n, err);
}

/* Which experts got rows of any process. */
static Status meet(MoeRun *m, Error *err)
{
    const RouteForm *f = m->ps->route;
    const int n = m->ps->cfg->moe.experts;
    if (!f)
        return ST_OK;
    int64_t *rows = mem_array((size_t)n, sizeof *rows);
    m->all = mem_array((size_t)n, sizeof *m->all);
    for (int e = 0; rows && e < n; e++)
        rows[e] = m->first[e + 1] - m->first[e];
    Status st = rows && m->all ? f->routed(f->self, rows, m->all, n, err) : error_nomem(err, "the rows of experts");
    free(rows);
    return st;
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
        RETURN_IF_ERROR(pass_tiles(ps, PHASE_LINEAR, logits_task, m, m->rows, err));
    else
        RETURN_IF_ERROR(linear_logits(m, err));
    if (hash)
        RETURN_IF_ERROR(look_up(m, hash, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, choose_task, m, m->rows, err));
    RETURN_IF_ERROR(feed_choices(m, err));
    sort_choices(m);
    return meet(m, err);
}

/* ---- a group of experts ---- */

void moe_gather_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    MoeRun *m = ctx;
    int64_t h = m->ps->cfg->hidden;
    for (int64_t i = index * PASS_TILE; i < pass_tile_end(index, m->group.rows); i++)
        memcpy(m->gather + i * h, m->x + m->entry[m->group.base + i].row * h, (size_t)h * sizeof *m->x);
}

/* The expert's first entry whose row is not before `row`. */
static int64_t entry_of_row(const MoeRun *m, int e, int64_t row)
{
    int64_t lo = m->first[e], hi = m->first[e + 1];
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if (m->entry[mid].row < row)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* y = R(y + R(out * w)) for a tile of the block's rows, expert by expert: the order of every row's sum is theirs. One
 * without weights gives what it gathered. */
static void scatter_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    MoeRun *m = ctx;
    const Ops *ops = &m->ps->ops;
    int64_t h = m->ps->cfg->hidden, end = pass_tile_end(index, m->rows);
    for (int k = 0; k < m->group.n; k++) {
        int e = m->group.e[k];
        float *out = e < m->ps->cfg->moe.experts ? m->out : m->gather;
        for (int64_t i = entry_of_row(m, e, index * PASS_TILE); i < m->first[e + 1] && m->entry[i].row < end; i++) {
            const struct MoeEntry *entry = &m->entry[i];
            float *from = out + (i - m->group.base) * h, *y = m->y + entry->row * h;
            ops_scale(ops, from, entry->w, h);
            ops_add(ops, y, from, y, h);
        }
    }
}

static void gate_rows_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    MoeRun *m = ctx;
    const ModelConfig *c = m->ps->cfg;
    int64_t width = m->shared ? c->moe.shared_inter : c->moe.inter, rows = m->shared ? m->rows : m->group.rows;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, rows); t++)
        ops_gate(&m->ps->ops, c->act, m->mid + t * width, m->up + t * width, width);
}

/* The rows of expert e as packed samples. */
static void expert_shape(const MoeRun *m, int e, int64_t *start, Stream *shape)
{
    const Stream *in = m->ps->in;
    int64_t i = m->first[e];
    *shape = (Stream){.samples = in->samples, .rows = m->first[e + 1] - i, .width = in->width, .start = start,
                      .copy = in->copy, .first = in->first};
    start[0] = 0;
    for (int s = 0; s < in->samples; s++) {
        while (i < m->first[e + 1] && m->entry[i].row < in->start[s + 1])
            i++;
        start[s + 1] = i - m->first[e];
    }
}

/* Index of expert e's gate (part 0), up (1) or down (2). */
static int32_t expert_linear(const MoeRun *m, int e, int part)
{
    return ((const MoeConf *)m->b->b->conf)->expert + 3 * e + expert_place(m->rule, part);
}

static bool weights_watched(const MoeRun *m, int e)
{
    for (int i = 0; i < 3; i++)
        if (taps_weight_wanted(&m->ps->hub, expert_linear(m, e, i)))
            return true;
    return false;
}

/* What it reads is shown to somebody who has to know it of all processes: it runs alone, in all of them at the same turn. */
static bool expert_met(const MoeRun *m, int e)
{
    bool shown = false;
    for (int i = 0; i < 3 && m->all && m->all[e] > 0; i++) {
        const int32_t linear = expert_linear(m, e, i);
        const LinearForm *f = m->ps->forms ? m->ps->forms[linear - m->ps->u->first] : NULL;
        shown = shown || (f && f->prepare) || pass_tap_mask(m->ps, TAP_LINEAR_IN, linear);
    }
    return shown;
}

/* Expert e has something to do: rows, or somebody who looks at its weights or has to know that it has none. */
static bool expert_runs(const MoeRun *m, int e)
{
    return m->first[e + 1] > m->first[e] || weights_watched(m, e) || expert_met(m, e);
}

/* Somebody looks at what it reads, gives, or is made of: it runs alone. */
static bool expert_watched(const MoeRun *m, int e)
{
    const int32_t gate = expert_linear(m, e, 0), up = expert_linear(m, e, 1), down = expert_linear(m, e, 2);
    return weights_watched(m, e) || expert_met(m, e) ||
           (pass_tap_mask(m->ps, TAP_LINEAR_IN, gate) | pass_tap_mask(m->ps, TAP_LINEAR_IN, down) |
            pass_tap_mask(m->ps, TAP_LINEAR_OUT, gate) | pass_tap_mask(m->ps, TAP_LINEAR_OUT, up) |
            pass_tap_mask(m->ps, TAP_LINEAR_OUT, down));
}

static uint64_t gate_up_bytes(const MoeRun *m, int e)
{
    uint64_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        SourceWeight w = source_weight(&m->ps->r->src, &m->ps->r->m->linears[expert_linear(m, e, i)]);
        WeightSpan span = source_span(&w, 0, w.linear->out);
        bytes += span.n + span.scale_n;
    }
    return bytes;
}

/* Bytes of its weights that have to be whole. */
static uint64_t whole_bytes(const MoeRun *m, int e)
{
    uint64_t bytes = 0;
    for (int i = 0; i < 3; i++) {
        SourceWeight w = source_weight(&m->ps->r->src, &m->ps->r->m->linears[expert_linear(m, e, i)]);
        bytes += source_whole_bytes(&w);
    }
    return bytes;
}

/* The group that begins with the first expert from e on that runs: as many as one piece of weights and the room for
 * their rows hold. n 0: there is none. */
static void group_from(const MoeRun *m, int e, Group *g)
{
    uint64_t bytes = 0, whole = 0;
    *g = (Group){.n = 0};
    for (; e < m->ps->cfg->moe.experts && g->n < STAGES_MAX; e++) {
        if (!expert_runs(m, e))
            continue;
        int64_t rows = m->first[e + 1] - m->first[e];
        bool alone = expert_watched(m, e);
        bytes += gate_up_bytes(m, e);
        whole += whole_bytes(m, e);
        if (g->n && (alone || max_u64(bytes, whole) > m->ps->piece_max || g->rows + rows > m->room))
            return;
        g->base = g->n ? g->base : m->first[e];
        g->e[g->n++] = e;
        g->rows += rows;
        if (alone)
            return;
    }
}

/* The first piece of a group's gates and ups. */
static void group_piece(const MoeRun *m, const Group *g, FeedPiece *p)
{
    const Runner *r = m->ps->r;
    p->nseg = 0;
    if (g->n && !g->rows && !weights_watched(m, g->e[0]))
        return;
    for (int k = 0; k < g->n; k++) {
        LinearRun run[2];
        const LinearRun *lin[] = {&run[0], &run[1]};
        for (int i = 0; i < 2; i++)
            run[i] = linear_ahead(r, &r->m->linears[expert_linear(m, g->e[k], i)]);
        if (g->n == 1)
            stage_first_piece(lin, 2, true, m->ps->piece_max, p);
        else
            stages_piece(lin, 2, p);
    }
}

Status moe_start_expert(MoeRun *m, int k, Error *err)
{
    const ModelConfig *c = m->ps->cfg;
    ExpertRun *x = &m->run[k];
    int e = m->group.e[k];
    int64_t row0 = m->first[e] - m->group.base, h = c->hidden, width = c->moe.inter;
    expert_shape(m, e, m->start + (int64_t)k * (m->ps->in->samples + 1), &x->shape);
    x->ps = *m->ps; /* its rows are others */
    x->ps.in = &x->shape;
    x->ps.rows = x->shape.rows;
    x->ps.b0 = x->ps.row0 = x->ps.s0 = 0;
    x->ps.s1 = x->shape.samples;
    x->ps.plan = (RowPlan){0};
    memset(x->lin, 0, sizeof x->lin);
    RETURN_IF_ERROR(rowplan_make(&x->ps.plan, &x->shape, err));
    x->ps.b1 = x->ps.plan.n;
    for (int i = 0; i < 3; i++)
        RETURN_IF_ERROR(pass_linear_start(&x->ps, &x->lin[i], expert_linear(m, e, i), err));
    uint64_t out = pass_tap_mask(&x->ps, TAP_LINEAR_OUT, x->lin[0].index) |
                   pass_tap_mask(&x->ps, TAP_LINEAR_OUT, x->lin[1].index);
    bool none = x->shape.rows == 0, hidden = none && !expert_met(m, e);
    x->gu = (Stage){.ps = &x->ps, .n = 2, .lin = {&x->lin[0], &x->lin[1]}, .x = m->gather + row0 * h, .gate = true,
                    .y = {m->mid + row0 * width, !none && out ? m->up : NULL}, .ldy = {width, width},
                    .act_scratch = m->act ? m->act + stage_acts_floats(h, 2 * m->acts * row0) : NULL, .hidden = hidden};
    x->down = (Stage){.ps = &x->ps, .n = 1, .lin = {&x->lin[2]}, .x = m->mid + row0 * width,
                      .y = {m->out + row0 * h}, .ldy = {h},
                      .act_scratch = m->act ? m->act + stage_acts_floats(width, m->acts * row0) : NULL, .hidden = hidden};
    return ST_OK;
}

void moe_end_expert(MoeRun *m, int k)
{
    for (int i = 0; i < 3; i++)
        pass_linear_end(&m->run[k].lin[i]);
    rowplan_fini(&m->run[k].ps.plan);
}

/* An expert that somebody watches, or whose weights are more than a piece. */
static Status run_alone(MoeRun *m, const FeedPiece *next, Error *err)
{
    const ModelConfig *c = m->ps->cfg;
    ExpertRun *x = &m->run[0];
    Pass *er = &x->ps;
    const LinearRun *down_lin[] = {&x->lin[2]};
    const int64_t gate = x->lin[0].index, up = x->lin[1].index, down = x->lin[2].index, width = c->moe.inter;
    FeedPiece after;
    if (!er->rows && !weights_watched(m, m->group.e[0])) {
        RETURN_IF_ERROR(stage_show_none(&x->gu, err));
        return stage_show_none(&x->down, err);
    }
    stage_first_piece(down_lin, 1, false, er->piece_max, &after);
    RETURN_IF_ERROR(stage_run(&x->gu, &after, err));
    if (x->gu.y[1]) {
        RETURN_IF_ERROR(pass_feed_tap(er, TAP_LINEAR_OUT, gate, m->mid, width, width, err));
        RETURN_IF_ERROR(pass_feed_tap(er, TAP_LINEAR_OUT, up, m->up, width, width, err));
        RETURN_IF_ERROR(pass_tiles(er, PHASE_GATE, gate_rows_task, m, er->rows, err));
    }
    RETURN_IF_ERROR(stage_run(&x->down, next->nseg ? next : NULL, err));
    return er->rows ? pass_feed_tap(er, TAP_LINEAR_OUT, down, m->out, c->hidden, c->hidden, err) : ST_OK;
}

static Status run_together(MoeRun *m, const FeedPiece *next, Error *err)
{
    Stage *gu[STAGES_MAX], *down[STAGES_MAX];
    FeedPiece first, after = {.nseg = 0};
    group_piece(m, &m->group, &first);
    for (int k = 0; k < m->group.n; k++) {
        const LinearRun *lin[] = {&m->run[k].lin[2]};
        gu[k] = &m->run[k].gu;
        down[k] = &m->run[k].down;
        stages_piece(lin, 1, &after);
    }
    RETURN_IF_ERROR(stages_run(gu, m->group.n, &first, &after, err));
    return stages_run(down, m->group.n, &after, next, err);
}

static Status run_group(MoeRun *m, const Group *next, Error *err)
{
    FeedPiece after;
    int started = 0;
    Status st = ST_OK;
    group_piece(m, next, &after);
    while (st == ST_OK && started < m->group.n)
        st = moe_start_expert(m, started++, err);
    if (st == ST_OK && m->group.rows > 0)
        st = pass_tiles(m->ps, PHASE_PACK, moe_gather_task, m, m->group.rows, err);
    if (st == ST_OK)
        st = m->group.n == 1 ? run_alone(m, &after, err) : run_together(m, &after, err);
    if (st == ST_OK && m->group.rows > 0)
        st = pass_tiles(m->ps, PHASE_ELEMENTS, scatter_task, m, m->rows, err);
    for (int k = 0; k < started; k++)
        moe_end_expert(m, k);
    return st;
}

static Status run_experts(MoeRun *m, Error *err)
{
    const MoeConfig *c = &m->ps->cfg->moe;
    Group next;
    for (group_from(m, 0, &next); next.n;) {
        m->group = next;
        group_from(m, m->group.e[m->group.n - 1] + 1, &next);
        RETURN_IF_ERROR(run_group(m, &next, err));
    }
    for (int e = c->experts; e < router_choices(c); e++) {
        m->group = (Group){.e = {e}, .n = 1, .base = m->first[e], .rows = m->first[e + 1] - m->first[e]};
        RETURN_IF_ERROR(pass_tiles(m->ps, PHASE_PACK, moe_gather_task, m, m->group.rows, err));
        RETURN_IF_ERROR(pass_tiles(m->ps, PHASE_ELEMENTS, scatter_task, m, m->rows, err));
    }
    return ST_OK;
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
    m->shared = true;
    Stage gu = {.ps = ps, .n = gated ? 3 : 2, .lin = {&lin[MOE_GATE], &lin[MOE_UP], &lin[MOE_SHARED_GATE]}, .x = m->x,
                .y = {m->mid, m->up, m->logits}, .ldy = {width, width, 1}, .act_scratch = m->act};
    RETURN_IF_ERROR(stage_run(&gu, NULL, err));
    for (int i = 0; i < gu.n; i++)
        RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, gu.lin[i]->index, gu.y[i], gu.ldy[i], gu.ldy[i], err));
    RETURN_IF_ERROR(pass_tiles(m->ps, PHASE_GATE, gate_rows_task, m, m->rows, err));
    Stage down = {.ps = ps, .n = 1, .lin = {&lin[MOE_DOWN]}, .x = m->mid, .y = {m->out}, .ldy = {h},
                  .act_scratch = m->act};
    RETURN_IF_ERROR(stage_run(&down, NULL, err));
    RETURN_IF_ERROR(pass_feed_tap(ps, TAP_LINEAR_OUT, lin[MOE_DOWN].index, m->out, h, h, err));
    return pass_tiles(m->ps, PHASE_ELEMENTS, add_shared_task, m, m->rows, err);
}

/* ---- the block ---- */

/* Bytes for `rows` rows of which `most` go to one expert; acts: inputs that are made for every linear, at most. */
static uint64_t block_bytes(const ModelConfig *c, int64_t rows, int64_t most, int64_t mix, int threads, int acts)
{
    const MoeConfig *e = &c->moe;
    int64_t out = max_i64(most, e->shared_inter ? rows : 0) * c->hidden;
    int64_t values = most * c->hidden + out + 2 * max_i64(most * e->inter, rows * e->shared_inter);
    int64_t made = stage_acts_floats(max_i64(c->hidden, max_i64(e->inter, e->shared_inter)), 3 * acts * rows);
    int64_t choices = router_choices(e);
    int64_t row = 2 * c->hidden + choices + 2 * e->top_k + mix;
    uint64_t floats = (uint64_t)(rows * row + values + made);
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

/* Whether inputs of the unit are changed; or whether branches run beside its linears. */
static bool inputs_changed(const Pass *ps, bool branches)
{
    const Overlay *o = ps->r->opt.overlay;
    for (int32_t i = ps->u->first; i < ps->u->first + ps->u->count; i++)
        if (branches ? overlay_branch(o, i) != NULL : overlay_inputs(o, i) != NULL)
            return true;
    return false;
}

/* Inputs that are made for one linear, at most: changed, fake-quantized, a branch's. */
static int acts_of(const Pass *ps)
{
    bool act = false;
    for (int32_t i = 0; i < ps->u->count; i++)
        act = act || (ps->forms && ps->forms[i] && ps->forms[i]->act);
    return act + inputs_changed(ps, false) + inputs_changed(ps, true);
}

static uint64_t bytes_now(const MoeRun *m, int64_t most, int acts)
{
    int64_t mix = join_mix(m->b->b, m->ps->cfg);
    uint64_t back = m->back ? moe_back_bytes(m->ps->cfg, m->rows, most, mix, inputs_changed(m->ps, false)) : 0;
    return block_bytes(m->ps->cfg, m->rows, most, mix, m->ps->r->threads, acts) + back + m->ps->fixed;
}

static Status check_limit(const MoeRun *m, int64_t most, int acts, Error *err)
{
    uint64_t need = bytes_now(m, most, acts), limit = m->ps->r->opt.mem_limit;
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
    m->x = mem_aligned(rows * h, sizeof *m->x);
    m->y = mem_zarray(rows * h, sizeof *m->y);
    m->logits = mem_aligned(rows * (size_t)router_choices(e), sizeof *m->logits);
    m->w = mem_array(chosen, sizeof *m->w);
    m->idx = mem_array(chosen, sizeof *m->idx);
    m->scratch = mem_array((size_t)ps->r->threads * router_scratch_floats(e), sizeof *m->scratch);
    m->first = mem_zarray((size_t)router_choices(e) + 1, sizeof *m->first);
    m->entry = mem_array(chosen, sizeof *m->entry);
    m->start = mem_array(((size_t)ps->in->samples + 1) * STAGES_MAX, sizeof *m->start);
    m->run = mem_array(STAGES_MAX, sizeof *m->run);
    m->acts = acts_of(ps);
    m->edits = inputs_changed(ps, false);
    m->act = m->acts ? mem_aligned((size_t)stage_acts_floats(width, 3 * m->acts * m->rows), sizeof *m->act) : NULL;
    m->mix = mix ? mem_array(rows * (size_t)mix, sizeof *m->mix) : NULL;
    m->mix_floats = mix;
    if (m->acts && !m->act)
        return error_nomem(err, "the experts' inputs");
    if (!m->x || !m->y || !m->logits || !m->w || !m->idx || !m->scratch || !m->first || !m->entry || !m->start ||
        !m->run || (mix && !m->mix))
        return error_nomem(err, "the experts' rows");
    return ST_OK;
}

/* What depends on how many rows the largest expert got. */
static Status expert_buffers(MoeRun *m, Error *err)
{
    const ModelConfig *c = &m->ps->r->m->cfg;
    const MoeConfig *e = &c->moe;
    bool shared = e->shared_inter > 0;
    uint64_t limit = m->ps->r->opt.mem_limit;
    m->room = max_i64(m->most, min_i64(m->rows, GROUP_ROWS));
    if (limit && bytes_now(m, m->room, m->acts) > limit)
        m->room = m->most;
    RETURN_IF_ERROR(check_limit(m, m->room, m->acts, err));
    int64_t mid = max_i64(m->room * e->inter, shared ? m->rows * e->shared_inter : 0);
    int64_t out = shared ? max_i64(m->rows, m->room) : m->room;
    m->gather = mem_aligned((size_t)(m->room * c->hidden), sizeof *m->gather);
    m->mid = mem_aligned((size_t)mid, sizeof *m->mid);
    m->up = mem_aligned((size_t)mid, sizeof *m->up);
    m->out = mem_aligned((size_t)(out * c->hidden), sizeof *m->out);
    return m->gather && m->mid && m->up && m->out ? ST_OK : error_nomem(err, "the experts' values");
}

Status moe_begin(MoeRun *m, const ChunkBuffers *buf, Error *err)
{
    RETURN_IF_ERROR(check_limit(m, 0, 0, err));
    RETURN_IF_ERROR(moe_buffers(m, err));
    RETURN_IF_ERROR(route(m, buf, err));
    return expert_buffers(m, err);
}

Status moe_outputs(MoeRun *m, Error *err)
{
    RETURN_IF_ERROR(run_experts(m, err));
    return m->ps->cfg->moe.shared_inter ? run_shared(m, err) : ST_OK;
}

static Status run_block(MoeRun *m, const ChunkBuffers *buf, Error *err)
{
    Pass *ps = m->ps;
    int64_t h = ps->cfg->hidden;
    RETURN_IF_ERROR(moe_begin(m, buf, err));
    RETURN_IF_ERROR(moe_outputs(m, err));
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

static int acts_asked(const NeedAsk *ask)
{
    return (ask->level != NULL) + ask->inputs + ask->branches;
}

static void need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    int64_t choices = router_choices(&ask->cfg->moe);
    int64_t mix = join_mix(b, ask->cfg);
    out->whole = block_bytes(ask->cfg, ask->rows, ask->rows, mix, ask->threads, acts_asked(ask));
    out->least = block_bytes(ask->cfg, ask->rows, 0, mix, ask->threads, acts_asked(ask));
    if (b->linear[MOE_ROUTER] < 0)
        need_product(ask, &out->worker, PASS_TILE, choices, ask->cfg->hidden);
}

static double work(const Block *b, const ModelConfig *c)
{
    (void)b;
    return 3.0 * (double)c->moe.inter * (double)c->hidden * c->moe.top_k;
}

static void backward_need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    int64_t mix = join_mix(b, ask->cfg);
    need(b, ask, out);
    out->whole += moe_back_bytes(ask->cfg, ask->rows, ask->rows, mix, ask->inputs);
    out->least += moe_back_bytes(ask->cfg, ask->rows, 0, mix, ask->inputs);
    if (b->linear[MOE_ROUTER] < 0)
        need_product(ask, &out->worker, PASS_TILE, ask->cfg->hidden, router_choices(&ask->cfg->moe));
}

const BlockOps moe_ops = {.whole = true, .need = need, .forward = forward, .work = work, .backward = moe_backward,
                          .backward_need = backward_need};
