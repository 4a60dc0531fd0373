#include "run/pass.h"

/* A panel should stay in the cache of the core that widened it, and be wide enough for the GEMM to pay. */
enum { PANEL_ROWS = 512, PANEL_ROWS_MIN = 128, PANEL_VALUES = 2 << 20 };

int64_t panel_rows(int64_t in)
{
    int64_t rows = PANEL_VALUES / (in > 0 ? in : 1) / 64 * 64;
    return rows > PANEL_ROWS ? PANEL_ROWS : rows < PANEL_ROWS_MIN ? PANEL_ROWS_MIN : rows;
}

int64_t panel_count(int64_t out, int64_t in)
{
    return (out + panel_rows(in) - 1) / panel_rows(in);
}

LinearRun linear_ahead(const Runner *r, const Linear *l)
{
    return (LinearRun){.lin = l, .weight = source_weight(&r->src, l), .panels = panel_count(l->out, l->in)};
}

static int64_t panel_begin(const LinearRun *l, int64_t panel)
{
    int64_t row = panel * panel_rows(l->lin->in);
    return row < l->lin->out ? row : l->lin->out;
}

/* The bytes that hold panels [p0, p1). */
static WeightSpan panels_span(const LinearRun *l, int64_t p0, int64_t p1)
{
    return source_span(&l->weight, panel_begin(l, p0), panel_begin(l, p1));
}

/* Stage panels: gate and up side by side in one, otherwise those of the linears one after the other. */
static int64_t stage_panels(const LinearRun *const *lin, int n, bool gate)
{
    int64_t total = 0;
    for (int i = 0; i < (gate ? 1 : n); i++)
        total += lin[i]->panels;
    return total;
}

/* Panels [*p0, *p1) of linear i that stage panels [g0, g1) hold. */
static void panels_of(const LinearRun *const *lin, int i, bool gate, int64_t g0, int64_t g1, int64_t *p0, int64_t *p1)
{
    int64_t before = 0;
    for (int j = 0; j < i && !gate; j++)
        before += lin[j]->panels;
    int64_t a = g0 - before, b = g1 - before;
    *p0 = a < 0 ? 0 : a > lin[i]->panels ? lin[i]->panels : a;
    *p1 = b < 0 ? 0 : b > lin[i]->panels ? lin[i]->panels : b;
}

static uint64_t panels_bytes(const LinearRun *const *lin, int n, bool gate, int64_t g0, int64_t g1)
{
    uint64_t bytes = 0;
    for (int i = 0; i < n; i++) {
        int64_t p0, p1;
        panels_of(lin, i, gate, g0, g1, &p0, &p1);
        WeightSpan span = panels_span(lin[i], p0, p1);
        bytes += span.n + span.scale_n;
    }
    return bytes;
}

_Static_assert(FEED_SEGMENTS >= 2 * STAGE_MAX, "weight and scales of every linear of a stage");

/* Adds bytes [begin, begin + n) of a tensor to a piece. Views of a stacked tensor may want the same bytes: those are
 * read once. */
static void piece_add(FeedPiece *p, const Checkpoint *file, const TensorInfo *t, uint64_t begin, uint64_t n)
{
    if (!n)
        return;
    for (int i = 0; i < p->nseg; i++) {
        struct FeedSegment *g = &p->seg[i];
        if (g->tensor != t || begin >= g->begin + g->n || g->begin >= begin + n)
            continue;
        uint64_t end = begin + n > g->begin + g->n ? begin + n : g->begin + g->n;
        g->begin = begin < g->begin ? begin : g->begin;
        g->n = end - g->begin;
        return;
    }
    p->seg[p->nseg++] = (struct FeedSegment){file, t, begin, n};
}

/* Where bytes [begin, begin + n) of the tensor lie in a piece whose segments are at data. */
static const void *piece_find(const FeedPiece *p, const void *const data[], const TensorInfo *t, uint64_t begin,
                              uint64_t n)
{
    for (int i = 0; i < p->nseg; i++) {
        const struct FeedSegment *g = &p->seg[i];
        if (g->tensor == t && begin >= g->begin && begin + n <= g->begin + g->n)
            return (const unsigned char *)data[i] + (begin - g->begin);
    }
    return NULL;
}

/* The piece that begins at stage panel g0: as many panels as fit into piece_max bytes, at least one. Returns its
 * end. */
static int64_t make_piece(const LinearRun *const *lin, int n, bool gate, uint64_t piece_max, int64_t g0, FeedPiece *out)
{
    int64_t total = stage_panels(lin, n, gate), g1 = g0 + 1;
    while (g1 < total && panels_bytes(lin, n, gate, g0, g1 + 1) <= piece_max)
        g1++;
    *out = (FeedPiece){0};
    for (int i = 0; i < n; i++) {
        int64_t p0, p1;
        panels_of(lin, i, gate, g0, g1, &p0, &p1);
        WeightSpan span = panels_span(lin[i], p0, p1);
        const SourceWeight *w = &lin[i]->weight;
        piece_add(out, w->file, w->base.weight, span.begin, span.n);
        piece_add(out, w->file, w->base.store ? w->base.store->scale : NULL, span.scale_begin, span.scale_n);
    }
    return g1;
}

void stage_first_piece(const LinearRun *const *lin, int n, bool gate, uint64_t piece_max, FeedPiece *out)
{
    make_piece(lin, n, gate, piece_max, 0, out);
}

/* ---- activations of a variant ---- */

static bool same_act(const LinearForm *a, const LinearForm *b)
{
    return a->act == b->act && (a->self == b->self || (a->act_key && a->act_key == b->act_key));
}

static const LinearForm *act_form(const LinearRun *l)
{
    return l->form && l->form->act ? l->form : NULL;
}

/* The first linear of the stage with the same transform as linear i. */
static int act_owner(LinearRun *const *lin, int i)
{
    for (int j = 0; j < i; j++)
        if (act_form(lin[j]) && same_act(lin[j]->form, lin[i]->form))
            return j;
    return i;
}

int stage_distinct_acts(LinearRun *const *lin, int n)
{
    int distinct = 0;
    for (int i = 0; i < n; i++)
        distinct += act_form(lin[i]) && act_owner(lin, i) == i;
    return distinct;
}

/* Rows of the input that one token has: a block-diagonal linear sees its groups of inputs as rows of their own. */
static int64_t stage_groups(const Stage *st)
{
    return st->lin[0]->lin->groups > 1 ? st->lin[0]->lin->groups : 1;
}

static const Ops *stage_ops(const Stage *st)
{
    return st->ops ? st->ops : &st->ps->ops;
}

static const Stream *stage_shape(const Stage *st)
{
    return st->shape ? st->shape : st->ps->in;
}

typedef struct ActRun {
    const Stage *st;
    const LinearForm *form;
    float *out;
} ActRun;

static void act_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const ActRun *a = ctx;
    const Pass *ps = a->st->ps;
    const Stream *shape = stage_shape(a->st);
    int s = ps->s0 + (int)index;
    int64_t in = a->st->lin[0]->lin->in, r0 = shape->start[s] - ps->row0 * stage_groups(a->st);
    int64_t rows = shape->start[s + 1] - shape->start[s];
    if (rows > 0)
        a->form->act(a->form->self, s, a->st->x + r0 * in, rows, in, in, a->out + r0 * in);
}

/* Lets the forms see the input, then fake-quantizes it: xin[i] is what linear i multiplies. */
static Status run_acts(Stage *st, Error *err)
{
    Pass *ps = st->ps;
    Runner *r = ps->r;
    int64_t in = st->lin[0]->lin->in;
    int64_t rows = ps->rows * stage_groups(st);
    Stream shape = {.samples = ps->in->samples, .rows = rows, .width = in, .start = stage_shape(st)->start};
    for (int i = 0; i < st->n; i++) {
        const LinearForm *f = st->lin[i]->form;
        st->xin[i] = st->x;
        if (f && f->prepare && ps->rows > 0)
            RETURN_IF_ERROR(f->prepare(f->self, st->x, &shape, in, r->opt.pool, err));
    }
    if (ps->rows == 0)
        return ST_OK;
    ActRun run[STAGE_MAX];
    Batch b = {.n = 0};
    int slots = 0;
    for (int i = 0; i < st->n; i++) {
        if (!act_form(st->lin[i]))
            continue;
        int owner = act_owner(st->lin, i);
        if (owner < i) {
            st->xin[i] = st->xin[owner];
            continue;
        }
        float *out = st->act_scratch + (int64_t)slots * rows * in;
        run[slots] = (ActRun){st, st->lin[i]->form, out};
        batch_add(&b, act_task, &run[slots++], ps->s1 - ps->s0);
        st->xin[i] = out;
    }
    return b.n ? batch_run(&b, r->opt.pool, r->opt.cancel, err) : ST_OK;
}

/* ---- the GEMM tasks ---- */

/* The widened panel in slot `slot` of the worker; panels come in order, so the one made last is often the one needed
 * again. */
static const float *widened(Stage *st, Worker *wk, int slot, int i, int64_t panel, bool first_block)
{
    Pass *ps = st->ps;
    LinearRun *l = st->lin[i];
    struct PanelKey *key = &wk->key[slot];
    if (key->serial == ps->r->serial && key->linear == l->index && key->panel == panel)
        return wk->panel[slot];
    int64_t r0 = panel_begin(l, panel), rows = panel_begin(l, panel + 1) - r0, in = l->lin->in;
    float *w = wk->panel[slot];
    const Ops *ops = stage_ops(st);
    source_decode(&l->weight, ops, panel_begin(l, st->raw_panel[i]), st->raw[i], st->raw_scale[i], r0, rows, w);
    if (first_block && l->weight_mask)
        taps_weight_panel(&ps->hub, l->weight_mask, l->index, (int)panel, r0, rows, w, in);
    if (l->form && l->form->weight)
        l->form->weight(l->form->self, r0, rows, in, w);
    *key = (struct PanelKey){ps->r->serial, l->index, panel};
    return w;
}

/* y = R(x·W^T + b) of one panel and one block of rows. */
static void gemm_tile(Stage *st, Worker *wk, int slot, int i, int64_t panel, int64_t block, float *y, int64_t ldy)
{
    Pass *ps = st->ps;
    LinearRun *l = st->lin[i];
    int64_t r0 = panel_begin(l, panel), n = panel_begin(l, panel + 1) - r0, in = l->lin->in;
    int64_t a = ps->plan.start[block], rows = ps->plan.start[block + 1] - a;
    int64_t groups = stage_groups(st), part = l->lin->out / groups, done;
    const float *x = st->xin[i] + (a - ps->row0) * in * groups, *w = widened(st, wk, slot, i, panel, block == 0);
    for (int64_t o = 0; o < n; o += done) { /* the outputs of one group see the same inputs */
        int64_t group = (r0 + o) / part, end = (group + 1) * part - r0;
        done = (end < n ? end : n) - o;
        GemmArgs g = {.m = rows, .n = done, .k = in, .x = x + group * in, .ldx = in * groups, .w = w + o * in,
                      .ldw = in, .y = y + o, .ldy = ldy};
        if (l->bias && !l->bias_apart)
            g.bias = l->bias + r0 + o;
        ops_gemm(stage_ops(st), &g, wk->gemm);
    }
    for (int64_t t = 0; t < rows && l->bias && l->bias_apart; t++)
        ops_add(stage_ops(st), y + t * ldy, l->bias + r0, y + t * ldy, n);
    if (l->energy) {
        double sum = 0;
        for (int64_t t = 0; t < rows; t++)
            sum += stage_ops(st)->k->sum_sq(y + t * ldy, n);
        l->energy[block * l->panels + panel] = sum;
    }
}

static void add_residual(Stage *st, int64_t row, int64_t rows, int64_t col, int64_t n, const float *y, int64_t ldy)
{
    const Ops *ops = stage_ops(st);
    for (int64_t t = 0; t < rows; t++) {
        int64_t at = (row + t) * st->lds + col;
        ops_add(ops, st->res + at, y + t * ldy, st->sum + at, n);
    }
}

static void gate_tile(Stage *st, Worker *wk, int64_t panel, int64_t block)
{
    Pass *ps = st->ps;
    LinearRun *l = st->lin[0];
    int64_t col = panel_begin(l, panel), n = panel_begin(l, panel + 1) - col;
    int64_t row = ps->plan.start[block] - ps->row0, rows = ps->plan.start[block + 1] - ps->plan.start[block];
    float *g = st->y[0] + row * st->ldy[0] + col;
    bool split = st->y[1] != NULL; /* someone watches the two outputs: gating comes later */
    float *u = split ? st->y[1] + row * st->ldy[1] + col : wk->tile;
    int64_t ldu = split ? st->ldy[1] : n;
    gemm_tile(st, wk, 0, 0, panel, block, g, st->ldy[0]);
    gemm_tile(st, wk, 1, 1, panel, block, u, ldu);
    for (int64_t t = 0; t < rows && !split; t++)
        ops_gate(stage_ops(st), ps->r->m->cfg.act, g + t * st->ldy[0], u + t * ldu, n);
}

/* Widens the stage's panel for its observers alone. */
static void look_at_weights(Stage *st, Worker *wk, int64_t panel)
{
    int i = 0;
    while (!st->gate && panel >= st->lin[i]->panels)
        panel -= st->lin[i++]->panels;
    widened(st, wk, 0, i, panel, true);
    if (st->gate)
        widened(st, wk, 1, 1, panel, true);
}

static void stage_task(void *ctx, int64_t index, int worker)
{
    Stage *st = ctx;
    Pass *ps = st->ps;
    Worker *wk = &ps->r->worker[worker];
    int64_t blocks = ps->b1 - ps->b0;
    if (blocks == 0) {
        look_at_weights(st, wk, st->g0 + index);
        return;
    }
    int64_t panel = st->g0 + index / blocks, block = ps->b0 + index % blocks;
    if (st->gate) {
        gate_tile(st, wk, panel, block);
        return;
    }
    int i = 0;
    while (panel >= st->lin[i]->panels)
        panel -= st->lin[i++]->panels;
    LinearRun *l = st->lin[i];
    int64_t col = panel_begin(l, panel), n = panel_begin(l, panel + 1) - col;
    int64_t row = ps->plan.start[block] - ps->row0, rows = ps->plan.start[block + 1] - ps->plan.start[block];
    float *y = st->y[i] ? st->y[i] + row * st->ldy[i] + col : wk->tile;
    int64_t ldy = st->y[i] ? st->ldy[i] : n;
    gemm_tile(st, wk, 0, i, panel, block, y, ldy);
    if (st->sum)
        add_residual(st, row, rows, col, n, y, ldy);
}

static void progress_of_layer(Pass *ps, double work)
{
    Runner *r = ps->r;
    *ps->work_done += work;
    runner_progress(r, "layer", ps->layer, ps->layers, ps->layer * ps->work_total + *ps->work_done,
                    ps->layers * ps->work_total, false);
}

/* ---- observers of the stage ---- */

static Status stage_begin(Stage *st, Error *err)
{
    Pass *ps = st->ps;
    if (ps->b0 > 0)
        return ST_OK;
    for (int i = 0; i < st->n; i++)
        RETURN_IF_ERROR(taps_weight_begin(&ps->hub, st->lin[i]->weight_mask, st->lin[i]->index,
                                          (int)st->lin[i]->panels, err));
    Tap tap = {TAP_LINEAR_IN, ps->layer, st->lin[0]->index};
    return taps_begin(&ps->hub, st->in_mask, tap, stage_shape(st), st->lin[0]->lin->in, err);
}

static Status stage_end(Stage *st, Error *err)
{
    Pass *ps = st->ps;
    if (ps->b0 == 0)
        for (int i = 0; i < st->n; i++)
            RETURN_IF_ERROR(taps_weight_end(&ps->hub, st->lin[i]->weight_mask, st->lin[i]->index, err));
    if (ps->b1 < ps->plan.n)
        return ST_OK;
    Tap tap = {TAP_LINEAR_IN, ps->layer, st->lin[0]->index};
    RETURN_IF_ERROR(taps_end(&ps->hub, st->in_mask, tap, err));
    for (int i = 0; i < st->n; i++) {
        LinearRun *l = st->lin[i];
        if (l->energy)
            RETURN_IF_ERROR(taps_energy(&ps->hub, st->in_mask, l->index, l->energy, ps->plan.n * l->panels,
                                        ps->in->rows, err));
    }
    return ST_OK;
}

Status stage_run(Stage *st, Batch *extra, const FeedPiece *next, Error *err)
{
    Pass *ps = st->ps;
    Runner *r = ps->r;
    const LinearRun *const *lin = (const LinearRun *const *)st->lin;
    RETURN_IF_ERROR(stage_begin(st, err));
    RETURN_IF_ERROR(run_acts(st, err));
    TapFeed in_feed = {&ps->hub, st->in_mask, {TAP_LINEAR_IN, ps->layer, st->lin[0]->index}, stage_shape(st), ps->s0,
                       ps->row0 * stage_groups(st), st->x, st->lin[0]->lin->in, st->lin[0]->lin->in};
    int64_t total = stage_panels(lin, st->n, st->gate);
    FeedPiece piece, after;
    int64_t g1 = make_piece(lin, st->n, st->gate, ps->piece_max, 0, &piece);
    r->serial++;
    for (int64_t g0 = 0; g0 < total; g0 = g1, piece = after) {
        if (g0 > 0)
            g1 = make_piece(lin, st->n, st->gate, ps->piece_max, g0, &piece);
        const void *data[FEED_SEGMENTS];
        RETURN_IF_ERROR(feed_take(r->feed, &piece, data, r->opt.cancel, err));
        if (g1 < total)
            make_piece(lin, st->n, st->gate, ps->piece_max, g1, &after);
        else if (next)
            after = *next;
        else
            after.nseg = 0;
        if (after.nseg)
            feed_want(r->feed, &after);
        st->g0 = g0;
        st->g1 = g1;
        double work = 0;
        for (int i = 0; i < st->n; i++) {
            int64_t p0, p1;
            panels_of(lin, i, st->gate, g0, g1, &p0, &p1);
            WeightSpan span = panels_span(lin[i], p0, p1);
            const Linear *l = &lin[i]->weight.base;
            st->raw_panel[i] = p0;
            st->raw[i] = piece_find(&piece, data, l->weight, span.begin, span.n);
            st->raw_scale[i] =
                l->store ? piece_find(&piece, data, l->store->scale, span.scale_begin, span.scale_n) : NULL;
            int64_t outputs = panel_begin(lin[i], p1) - panel_begin(lin[i], p0);
            work += (double)outputs * (double)lin[i]->lin->in * (double)ps->rows;
        }
        Batch b = {.n = 0};
        batch_add(&b, stage_task, st, (g1 - g0) * (ps->b1 > ps->b0 ? ps->b1 - ps->b0 : 1));
        if (g0 == 0) {
            if (st->in_mask)
                batch_add(&b, taps_task, &in_feed, ps->s1 - ps->s0);
            for (int i = 0; extra && i < extra->n; i++)
                batch_add(&b, extra->part[i].fn, extra->part[i].ctx, extra->part[i].n);
        }
        Status s = batch_run(&b, r->opt.pool, r->opt.cancel, err);
        feed_done(r->feed);
        RETURN_IF_ERROR(s);
        progress_of_layer(ps, work);
    }
    if (extra)
        extra->n = 0;
    return stage_end(st, err);
}
