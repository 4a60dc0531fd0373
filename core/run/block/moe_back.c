#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/block/moe.h"
#include "run/opsback.h"

/* Gradients through a layer's experts. Which experts a row takes stays as it is; the weights it gives them do not. Down the
 * order of the forward: the shared expert, the experts from the last to the first, the router. */

typedef struct MoeBack {
    MoeRun m;
    const ChunkBuffers *buf;
    float *dy, *dx;   /* [rows][hidden] of what the block gives, and of what it reads */
    float *dmix;      /* of what the join needs, NULL: nothing */
    float *logits;    /* [rows][choices] as they were, then their gradients */
    float *dw;        /* [rows][top_k] of the weights */
    float *a, *da;    /* [room][...] what the down projection at work reads, and its gradient */
    float *g, *one;   /* [room][hidden] of what an expert gives; of what one linear reads */
    float *edited;    /* LinearBack.edited, NULL: nothing is done to inputs */
    int32_t *row;     /* [room] rows of the stream */
    int64_t rows, width; /* of the expert at work */
    bool all;         /* it sees all rows: the shared one */
} MoeBack;

/* Rows that one expert or the shared one has at most. */
static int64_t room_of(const ModelConfig *c, int64_t rows, int64_t most)
{
    return c->moe.shared_inter ? max_i64(rows, most) : most;
}

static int64_t mid_of(const ModelConfig *c, int64_t rows, int64_t most)
{
    return max_i64(most * c->moe.inter, rows * c->moe.shared_inter);
}

static int64_t widest(const ModelConfig *c)
{
    return max_i64(c->hidden, max_i64(c->moe.inter, c->moe.shared_inter));
}

uint64_t moe_back_bytes(const ModelConfig *c, int64_t rows, int64_t most, int64_t mix, bool edits)
{
    int64_t room = room_of(c, rows, most);
    int64_t floats = rows * (2 * c->hidden + router_choices(&c->moe) + c->moe.top_k + mix) + 2 * mid_of(c, rows, most) +
                     room * 2 * c->hidden + room + (edits ? room * widest(c) : 0);
    return (uint64_t)floats * sizeof(float);
}

static void back_fini(MoeBack *b)
{
    void *const all[] = {b->dy, b->dx, b->dmix, b->logits, b->dw, b->a, b->da, b->g, b->one, b->edited, b->row};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    moe_fini(&b->m);
}

static Status back_buffers(MoeBack *b, Error *err)
{
    const MoeRun *m = &b->m;
    const ModelConfig *c = m->ps->cfg;
    size_t rows = (size_t)m->rows, h = (size_t)c->hidden, choices = (size_t)router_choices(&c->moe);
    size_t room = (size_t)room_of(c, m->rows, m->room), mid = (size_t)mid_of(c, m->rows, m->room);
    b->dy = mem_aligned(rows * h, sizeof *b->dy);
    b->dx = mem_zarray(rows * h, sizeof *b->dx);
    b->dmix = m->mix ? mem_aligned(rows * (size_t)m->mix_floats, sizeof *b->dmix) : NULL;
    b->logits = mem_aligned(rows * choices, sizeof *b->logits);
    b->dw = mem_zarray(rows * (size_t)c->moe.top_k, sizeof *b->dw);
    b->a = mem_aligned(mid, sizeof *b->a);
    b->da = mem_aligned(mid, sizeof *b->da);
    b->g = mem_aligned(room * h, sizeof *b->g);
    b->one = mem_aligned(room * h, sizeof *b->one);
    b->row = mem_array(room, sizeof *b->row);
    b->edited = m->edits ? mem_aligned(room * (size_t)widest(c), sizeof *b->edited) : NULL;
    if (!b->dy || !b->dx || (m->mix && !b->dmix) || !b->logits || !b->dw || !b->a || !b->da || !b->g || !b->one || !b->row ||
        (m->edits && !b->edited))
        return error_nomem(err, "the experts' gradients");
    memcpy(b->logits, m->logits, rows * choices * sizeof *b->logits);
    return ST_OK;
}

/* ---- one expert, or the shared one ---- */

/* a = act(g) u, of all that the expert at work has. */
static void values_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const MoeBack *b = ctx;
    const Pass *ps = b->m.ps;
    int64_t t = index * PASS_TILE, n = b->width;
    for (; t < pass_tile_end(index, b->rows); t++) {
        memcpy(b->a + t * n, b->m.mid + t * n, (size_t)n * sizeof *b->a);
        ops_gate(&ps->ops, ps->cfg->act, b->a + t * n, b->m.up + t * n, n);
    }
}

static void ungate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const MoeBack *b = ctx;
    const Pass *ps = b->m.ps;
    int64_t t = index * PASS_TILE, n = b->width;
    for (; t < pass_tile_end(index, b->rows); t++)
        ops_gate_back(&ps->ops, ps->cfg->act, b->m.mid + t * n, b->m.up + t * n, b->da + t * n, n);
}

/* From g, of what it gave, to what it read, into one; *lin: gate, up, down. */
static Status expert_down(MoeBack *b, LinearRun *const lin[3], const float *x, Error *err)
{
    Pass *ps = b->m.ps;
    int64_t h = ps->cfg->hidden, n = b->width;
    const int32_t *row = b->all ? NULL : b->row;
    LinearBack down = {.x = b->a, .ldx = n, .g = b->g, .ldg = h, .dx = b->da, .lddx = n, .row = row, .rows = b->rows,
                       .edited = b->edited};
    RETURN_IF_ERROR(grad_linear(ps, lin[2], &down, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_GATE, ungate_task, b, b->rows, err));
    LinearBack in = {.x = x, .ldx = h, .g = b->m.up, .ldg = n, .dx = b->g, .lddx = h, .row = row, .rows = b->rows,
                     .edited = b->edited};
    RETURN_IF_ERROR(grad_linear(ps, lin[1], &in, err)); /* g is no longer wanted */
    in.g = b->m.mid;
    in.dx = b->one;
    RETURN_IF_ERROR(grad_linear(ps, lin[0], &in, err));
    return grad_add(ps, b->g, b->one, b->rows * h, err);
}

/* ---- the experts ---- */

/* Where the row's weight of expert e stands. */
static int64_t weight_of(const MoeRun *m, int64_t row, int e)
{
    int64_t k = m->ps->cfg->moe.top_k, at = row * k;
    while (m->idx[at] != e)
        at++;
    return at;
}

/* g = w dy, and dw = out dy. One without weights gives what it gathered. */
static void weighed_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    MoeBack *b = ctx;
    const MoeRun *m = &b->m;
    const Ops *ops = &m->ps->ops;
    int64_t h = m->ps->cfg->hidden;
    int e = m->group.e[0];
    const float *out = e < m->ps->cfg->moe.experts ? m->out : m->gather;
    for (int64_t i = index * PASS_TILE; i < pass_tile_end(index, b->rows); i++) {
        const struct MoeEntry *entry = &m->entry[m->group.base + i];
        const float *dy = b->dy + entry->row * h;
        b->row[i] = (int32_t)entry->row;
        b->dw[weight_of(m, entry->row, e)] = (float)ops_dot(out + i * h, dy, h);
        ops->k->scale(dy, entry->w, b->g + i * h, h);
    }
}

/* dx += what is of the rows that the expert has, each of them once. */
static void spread_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    MoeBack *b = ctx;
    const MoeRun *m = &b->m;
    int64_t h = m->ps->cfg->hidden;
    const float *from = m->group.e[0] < m->ps->cfg->moe.experts ? b->one : b->g;
    for (int64_t i = index * PASS_TILE; i < pass_tile_end(index, b->rows); i++) {
        float *dx = b->dx + m->entry[m->group.base + i].row * h;
        m->ps->ops.k->add(dx, from + i * h, dx, h);
    }
}

/* The expert's forward again, up to what it gives. */
static Status expert_again(MoeBack *b, ExpertRun *x, Error *err)
{
    MoeRun *m = &b->m;
    x->gu.gate = false;
    x->gu.y[1] = m->up;
    RETURN_IF_ERROR(stage_run(&x->gu, NULL, err));
    RETURN_IF_ERROR(pass_tiles(m->ps, PHASE_GATE, values_task, b, b->rows, err));
    x->down.x = b->a;
    return stage_run(&x->down, NULL, err);
}

static Status one_expert(MoeBack *b, int e, Error *err)
{
    MoeRun *m = &b->m;
    ExpertRun *x = &m->run[0];
    bool none = e >= m->ps->cfg->moe.experts; /* of those without weights */
    m->group = (Group){.e = {e}, .n = 1, .base = m->first[e], .rows = m->first[e + 1] - m->first[e]};
    b->rows = m->group.rows;
    b->width = m->ps->cfg->moe.inter;
    if (b->rows == 0)
        return ST_OK;
    RETURN_IF_ERROR(pass_tiles(m->ps, PHASE_PACK, moe_gather_task, m, b->rows, err));
    Status st = none ? ST_OK : moe_start_expert(m, 0, err);
    if (st == ST_OK && !none)
        st = expert_again(b, x, err);
    if (st == ST_OK)
        st = pass_tiles(m->ps, PHASE_ELEMENTS, weighed_task, b, b->rows, err);
    if (st == ST_OK && !none)
        st = expert_down(b, (LinearRun *[]){&x->lin[0], &x->lin[1], &x->lin[2]}, m->gather, err);
    if (!none)
        moe_end_expert(m, 0);
    return st == ST_OK ? pass_tiles(m->ps, PHASE_ELEMENTS, spread_task, b, b->rows, err) : st;
}

/* ---- the shared expert ---- */

/* g = dy, or s dy, and the gradient of what the gate s was made of in its place. */
static void shared_gate_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    MoeBack *b = ctx;
    const MoeRun *m = &b->m;
    int64_t h = m->ps->cfg->hidden;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, m->rows); t++) {
        const float *dy = b->dy + t * h;
        if (!m->b->lin[MOE_SHARED_GATE].lin) {
            memcpy(b->g + t * h, dy, (size_t)h * sizeof *dy);
            continue;
        }
        float s = 1.0f / (1.0f + expf(-m->logits[t])), d = (float)ops_dot(m->out + t * h, dy, h);
        ops_sigmoid_back(&s, &d, 1);
        m->ps->ops.k->scale(dy, s, b->g + t * h, h);
        m->logits[t] = d;
    }
}

static Status shared_expert(MoeBack *b, Error *err)
{
    MoeRun *m = &b->m;
    Pass *ps = m->ps;
    LinearRun *lin = m->b->lin, *gate = &lin[MOE_SHARED_GATE];
    int64_t h = ps->cfg->hidden;
    b->rows = m->rows;
    b->width = ps->cfg->moe.shared_inter;
    b->all = true;
    Stage gu = {.ps = ps, .n = gate->lin ? 3 : 2, .lin = {&lin[MOE_GATE], &lin[MOE_UP], gate}, .x = m->x,
                .y = {m->mid, m->up, m->logits}, .ldy = {b->width, b->width, 1}, .act_scratch = m->act};
    Stage down = {.ps = ps, .n = 1, .lin = {&lin[MOE_DOWN]}, .x = b->a, .y = {m->out}, .ldy = {h}, .act_scratch = m->act};
    RETURN_IF_ERROR(stage_run(&gu, NULL, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_GATE, values_task, b, b->rows, err));
    if (gate->lin)
        RETURN_IF_ERROR(stage_run(&down, NULL, err));
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, shared_gate_task, b, b->rows, err));
    if (gate->lin) {
        const LinearBack a = {.x = m->x, .ldx = h, .g = m->logits, .ldg = 1, .dx = b->one, .lddx = h, .rows = b->rows,
                              .edited = b->edited};
        RETURN_IF_ERROR(grad_linear(ps, gate, &a, err));
        RETURN_IF_ERROR(grad_add(ps, b->one, b->dx, b->rows * h, err));
    }
    RETURN_IF_ERROR(expert_down(b, (LinearRun *[]){&lin[MOE_GATE], &lin[MOE_UP], &lin[MOE_DOWN]}, m->x, err));
    b->all = false;
    return grad_add(ps, b->one, b->dx, b->rows * h, err);
}

/* ---- the router ---- */

static void unweigh_task(void *ctx, int64_t index, int worker)
{
    MoeBack *b = ctx;
    const MoeRun *m = &b->m;
    const MoeConfig *c = &m->ps->cfg->moe;
    float *scratch = m->scratch + (size_t)worker * router_scratch_floats(c);
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, m->rows); t++)
        router_back(m->rule, c, &m->ps->ops, b->logits + t * router_choices(c), m->idx + t * c->top_k, b->dw + t * c->top_k,
                    scratch);
}

/* dx += dlogits W of a router that is no linear. */
static void unroute_task(void *ctx, int64_t index, int worker)
{
    MoeBack *b = ctx;
    const MoeRun *m = &b->m;
    int64_t h = m->ps->cfg->hidden, n = router_choices(&m->ps->cfg->moe), t = index * PASS_TILE;
    GemmArgs g = {.m = pass_tile_end(index, m->rows) - t, .n = h, .k = n, .x = b->logits + t * n, .ldx = n, .w = m->router,
                  .ldw = h, .w_by_k = true, .y = b->dx + t * h, .ldy = h, .beta = 1};
    ops_product(&m->ps->ops, &g, m->ps->r->worker[worker].gemm);
}

static Status unroute(MoeBack *b, Error *err)
{
    MoeRun *m = &b->m;
    Pass *ps = m->ps;
    int64_t h = ps->cfg->hidden, n = router_choices(&ps->cfg->moe);
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, unweigh_task, b, m->rows, err));
    if (m->router)
        return pass_tiles(ps, PHASE_LINEAR, unroute_task, b, m->rows, err);
    const LinearBack a = {.x = m->x, .ldx = h, .g = b->logits, .ldg = n, .dx = b->dy, .lddx = h, .rows = m->rows,
                          .edited = b->edited}; /* dy is no longer wanted */
    RETURN_IF_ERROR(grad_linear(ps, &m->b->lin[MOE_ROUTER], &a, err));
    return grad_add(ps, b->dy, b->dx, m->rows * h, err);
}

/* ---- the block ---- */

static Status run_back(MoeBack *b, Error *err)
{
    MoeRun *m = &b->m;
    Pass *ps = m->ps;
    const BlockOps *join = m->b->join->ops;
    RETURN_IF_ERROR(moe_begin(m, b->buf, err));
    RETURN_IF_ERROR(back_buffers(b, err));
    if (join->aside(m->b->join->b))
        RETURN_IF_ERROR(moe_outputs(m, err));
    ChunkBuffers at = *b->buf;
    at.tap = m->y;
    at.mix = m->mix;
    at.up = b->dmix;
    if (m->b->b->spec->late) /* what it gives is added there, and to nothing here */
        at.out = ps->grad->late;
    RETURN_IF_ERROR(join->write_back(ps, m->b->join, &at, b->dy, err));
    at.out = b->buf->out;
    if (ps->cfg->moe.shared_inter)
        RETURN_IF_ERROR(shared_expert(b, err));
    for (int e = router_choices(&ps->cfg->moe) - 1; e >= 0; e--)
        RETURN_IF_ERROR(one_expert(b, e, err));
    RETURN_IF_ERROR(unroute(b, err));
    return join->read_back(ps, m->b->join, &at, b->dx, err);
}

Status moe_backward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    MoeBack back = {.m = {.ps = ps, .b = b, .rule = ((const MoeConf *)b->b->conf)->rule, .rows = ps->rows, .back = true},
                    .buf = buf};
    Status st = ps->rows > 0 ? run_back(&back, err) : ST_OK;
    back_fini(&back);
    return st;
}
