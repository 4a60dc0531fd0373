#include "run/pass.h"
#include "run/ready.h"
#include "run/stageinput.h"

#include <string.h>

#include "base/num.h"

/* A panel should stay in the caches while all its tiles are made, and be wide enough for the GEMM to pay. */
enum { PANEL_ROWS = 512, PANEL_ROWS_MIN = 128, PANEL_VALUES = 2 << 20 };

int64_t panel_rows(int64_t in)
{
    int64_t rows = PANEL_VALUES / (in > 0 ? in : 1) / 64 * 64;
    return rows > PANEL_ROWS ? PANEL_ROWS : rows < PANEL_ROWS_MIN ? PANEL_ROWS_MIN : rows;
}

static int64_t panel_count(int64_t out, int64_t in)
{
    return div_up(out, panel_rows(in));
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
_Static_assert(FEED_SEGMENTS >= 4 * STAGES_MAX, "weight and scales of the two linears of every stage of a group");

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

static void piece_add_panels(FeedPiece *p, const LinearRun *l, int64_t p0, int64_t p1)
{
    WeightSpan span = panels_span(l, p0, p1);
    const SourceWeight *w = &l->weight;
    piece_add(p, w->file, w->base.weight, span.begin, span.n);
    piece_add(p, w->file, w->base.store ? w->base.store->scale : NULL, span.scale_begin, span.scale_n);
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
    out->nseg = 0;
    for (int i = 0; i < n; i++) {
        int64_t p0, p1;
        panels_of(lin, i, gate, g0, g1, &p0, &p1);
        piece_add_panels(out, lin[i], p0, p1);
    }
    return g1;
}

void stages_piece(const LinearRun *const *lin, int n, FeedPiece *piece)
{
    for (int i = 0; i < n; i++)
        piece_add_panels(piece, lin[i], 0, lin[i]->panels);
}

void stage_first_piece(const LinearRun *const *lin, int n, bool gate, uint64_t piece_max, FeedPiece *out)
{
    make_piece(lin, n, gate, piece_max, 0, out);
}

/* ---- the GEMM tasks ---- */

/* Tasks of one stage panel; without rows there is one, for who watches the weights. */
static int64_t tasks_of_panel(const Stage *st)
{
    return st->ps->b1 > st->ps->b0 ? st->ps->b1 - st->ps->b0 : 1;
}

/* Makes a panel ready: decoded, rounded, shown to who watches the weights, replaced by the form, packed. Bytes that
 * need none of it go straight to the pack. stays: it outlives the piece that was read. */
static void prepare_panel(Stage *st, Worker *wk, int i, int64_t panel, bool stays, void *dst)
{
    Pass *ps = st->ps;
    LinearRun *l = st->lin[i];
    const Ops *ops = stage_ops(st);
    const GemmOps *gemm = stage_gemms(st, i);
    int64_t r0 = panel_begin(l, panel), rows = panel_begin(l, panel + 1) - r0, in = l->lin->in;
    int64_t first = panel_begin(l, st->raw_panel[i]), ld;
    DType t;
    bool watched = ps->b0 == 0 && l->weight_mask, formed = l->codes || (l->form && l->form->weight);
    const void *plain = watched || formed ? NULL : source_plain_rows(&l->weight, ops, first, st->raw[i], r0, &t, &ld);
    if (plain && gemm->takes(t)) {
        bool once = !stays && tasks_of_panel(st) == 1 && ps->rows <= STAGE_TILE_ROWS && stage_groups(st) == 1;
        if (!once || !gemm->wrap || !gemm->wrap(t, plain, rows, in, ld, dst))
            gemm->pack(t, plain, rows, in, ld, dst);
        return;
    }
    float *w = gemm->in_place ? dst : wk->rows;
    source_decode(&l->weight, ops, first, st->raw[i], st->raw_scale[i], r0, rows, wk->edit, w);
    if (watched) {
        worker_enter(wk, PHASE_STATISTICS);
        taps_weight_panel(&ps->hub, l->weight_mask, l->index, (int)panel, r0, rows, w, in);
        worker_leave(wk, PHASE_DECODE);
    }
    if (formed) {
        worker_enter(wk, PHASE_QUANT_WEIGHT);
        if (l->codes)
            l->form->weight_codes(l->form->self, r0, rows, in, w, l->scale + r0);
        else
            l->form->weight(l->form->self, r0, rows, in, w);
        worker_leave(wk, PHASE_DECODE);
    }
    gemm->pack(DT_F32, w, rows, in, in, dst);
}

/* Rows of one band that a tile takes, and where they are: the chunk's first row of the tile, and how many. */
typedef struct TileRows {
    int64_t block, row, rows;
} TileRows;

/* y = R(x_scale * w_scale * y + b) of n outputs from r0 on, which see the same inputs: what products of codes stand for.
 * x_scale: of the tile's rows, `groups` apart. */
static void scale_codes(Stage *st, const LinearRun *l, const float *x_scale, int64_t groups, int64_t r0, const GemmArgs *g)
{
    const Ops *ops = stage_ops(st);
    float *y = g->y;
    for (int64_t t = 0; t < g->m; t++, y += g->ldy, x_scale += groups) {
        ops->k->scale_mul(y, *x_scale, l->scale + r0, y, g->n);
        if (l->bias && !l->bias_apart)
            ops->k->add(y, l->bias + r0, y, g->n);
        ops_round(ops, y, g->n);
    }
}

/* What runs beside n outputs from r0 on, which see the same inputs: y = R(y + R(l2 a)). a: of the tile's rows, lda apart. */
static void add_branch(const Stage *st, Worker *wk, const LowRank *low, const float *a, int64_t lda, int64_t r0, const GemmArgs *of)
{
    enum { COLS = 64 };
    const Ops *ops = stage_ops(st);
    float part[COLS];
    GemmArgs g = {.m = of->m, .n = of->n, .k = low->rank, .x = a, .ldx = lda, .w = low->l2 + r0 * low->rank, .ldw = low->rank,
                  .y = of->y, .ldy = of->ldy, .beta = 1};
    if (!ops->rounds) {
        ops_product(ops, &g, wk->gemm);
        return;
    }
    for (int64_t t = 0; t < of->m; t++)
        for (int64_t c = 0; c < of->n; c += COLS) {
            float *y = of->y + t * of->ldy + c;
            GemmArgs one = {.m = 1, .n = min_i64(COLS, of->n - c), .k = low->rank, .x = a + t * lda, .ldx = lda,
                            .w = g.w + c * low->rank, .ldw = low->rank, .y = part, .ldy = COLS};
            ops_gemm(ops, &one, wk->gemm);
            ops_add(ops, y, part, y, one.n);
        }
}

/* Samples end a sum as bands do: the sums are the same whatever samples are in the pass. */
static void add_energy(Stage *st, Worker *wk, LinearRun *l, int64_t panel, const TileRows *at, const float *y, int64_t ldy)
{
    const Pass *ps = st->ps;
    const int64_t n = panel_begin(l, panel + 1) - panel_begin(l, panel);
    int64_t s = pass_sample_of_row(ps, at->row);
    Phase was = worker_enter(wk, PHASE_STATISTICS);
    for (int64_t t = 0; t < at->rows; t++) {
        while (ps->in->start[s + 1] <= ps->row0 + at->row + t)
            s++;
        l->energy[(at->block + s) * l->panels + panel] += stage_ops(st)->k->sum_sq(y + t * ldy, n);
    }
    worker_leave(wk, was);
}

/* y = R(x·W^T + b) of one panel and some rows of a band; tiles of a band in ascending order, on one worker. */
static void gemm_tile(Stage *st, Worker *wk, const void *packed, int i, int64_t panel, const TileRows *at, float *y,
                      int64_t ldy)
{
    LinearRun *l = st->lin[i];
    const Ops *ops = stage_ops(st);
    int64_t r0 = panel_begin(l, panel), n = panel_begin(l, panel + 1) - r0, in = l->lin->in;
    int64_t groups = stage_groups(st), part = l->lin->out / groups, rank = l->low ? l->low->rank : 0, done;
    for (int64_t o = 0; o < n; o += done) { /* the outputs of one group see the same inputs */
        int64_t group = (r0 + o) / part, end = (group + 1) * part - r0, row = at->row * groups + group;
        done = (end < n ? end : n) - o;
        GemmArgs g = {.m = at->rows, .n = done, .k = in, .x = st->xin[i] + row * in, .ldx = in * groups,
                      .packed = packed, .packed_n = n, .packed_first = o, .y = y + o, .ldy = ldy};
        if (st->xpack[i]) {
            g.px = (const unsigned char *)st->xpack[i] + row * st->ldpack[i];
            g.ldpx = st->ldpack[i] * groups;
        }
        if (l->codes) {
            stage_gemms(st, i)->tile(&g, wk->gemm);
            scale_codes(st, l, st->xscale[i] + row, groups, r0 + o, &g);
        } else {
            g.bias = l->bias && !l->bias_apart ? l->bias + r0 + o : NULL;
            ops_gemm(ops, &g, wk->gemm);
        }
        if (l->low)
            add_branch(st, wk, l->low, st->xlow[i] + row * rank, groups * rank, r0 + o, &g);
    }
    for (int64_t t = 0; t < at->rows && l->bias && l->bias_apart; t++)
        ops_add(ops, y + t * ldy, l->bias + r0, y + t * ldy, n);
    if (l->energy)
        add_energy(st, wk, l, panel, at, y, ldy);
}

static void add_residual(Stage *st, const Worker *wk, int64_t row, int64_t rows, int64_t col, int64_t n, const float *y,
                         int64_t ldy)
{
    const Ops *ops = stage_ops(st);
    Phase was = worker_enter(wk, PHASE_ELEMENTS);
    for (int64_t t = 0; t < rows; t++) {
        int64_t at = (row + t) * st->lds + col;
        ops_add(ops, st->res + at, y + t * ldy, st->sum + at, n);
    }
    worker_leave(wk, was);
}

static void gate_tile(Stage *st, Worker *wk, const void *const packed[2], int64_t panel, const TileRows *at)
{
    Pass *ps = st->ps;
    LinearRun *l = st->lin[0];
    int64_t col = panel_begin(l, panel), n = panel_begin(l, panel + 1) - col;
    float *g = st->y[0] + at->row * st->ldy[0] + col;
    bool split = st->y[1] != NULL; /* someone watches the two outputs: gating comes later */
    float *u = split ? st->y[1] + at->row * st->ldy[1] + col : wk->tile;
    int64_t ldu = split ? st->ldy[1] : n;
    gemm_tile(st, wk, packed[0], 0, panel, at, g, st->ldy[0]);
    gemm_tile(st, wk, packed[1], 1, panel, at, u, ldu);
    Phase was = worker_enter(wk, PHASE_GATE);
    for (int64_t t = 0; t < at->rows && !split; t++)
        ops_gate(stage_ops(st), ps->r->m->cfg.act, g + t * st->ldy[0], u + t * ldu, n);
    worker_leave(wk, was);
}

/* The linear that stage panel g belongs to, *panel its own number of it. */
static int linear_of_panel(const Stage *st, int64_t g, int64_t *panel)
{
    int i = 0;
    while (!st->gate && g >= st->lin[i]->panels)
        g -= st->lin[i++]->panels;
    *panel = g;
    return i;
}

static void plain_tile(Stage *st, Worker *wk, const void *packed, int64_t g, const TileRows *at)
{
    int64_t panel;
    int i = linear_of_panel(st, g, &panel);
    LinearRun *l = st->lin[i];
    int64_t col = panel_begin(l, panel), n = panel_begin(l, panel + 1) - col;
    float *y = st->y[i] ? st->y[i] + at->row * st->ldy[i] + col : wk->tile;
    int64_t ldy = st->y[i] ? st->ldy[i] : n;
    gemm_tile(st, wk, packed, i, panel, at, y, ldy);
    if (st->sum)
        add_residual(st, wk, at->row, at->rows, col, n, y, ldy);
}

/* One band of stage panel g. */
static void band_tiles(Stage *st, Worker *wk, const void *const packed[2], int64_t g, int64_t block)
{
    const Pass *ps = st->ps;
    int64_t end = ps->plan.start[block + 1] - ps->row0;
    TileRows at = {.block = block, .row = ps->plan.start[block] - ps->row0};
    for (; at.row < end && !cancel_level(ps->r->opt.cancel); at.row += at.rows) {
        at.rows = min_i64(end - at.row, STAGE_TILE_ROWS);
        if (st->gate)
            gate_tile(st, wk, packed, g, &at);
        else
            plain_tile(st, wk, packed[0], g, &at);
    }
}

/* ---- a wave: what one pool call multiplies, panels [g0, g1) of each of its stages ---- */

typedef struct Wave {
    Stage *const *st;
    int n;
    Runner *r;
    bool ready; /* its panels are there already, and stay */
    int64_t entries, tasks;
} Wave;

/* Panels that a task of the stage uses, each an entry of the ring. */
static int entries_of_panel(const Stage *st)
{
    return st->gate ? 2 : 1;
}

static void wave_plan(Wave *w)
{
    for (int i = 0; i < w->n; i++) {
        Stage *st = w->st[i];
        st->entry0 = w->entries;
        st->task0 = w->tasks;
        w->entries += (st->g1 - st->g0) * entries_of_panel(st);
        w->tasks += (st->g1 - st->g0) * tasks_of_panel(st);
    }
}

/* The stage that has this entry, or this task. */
static Stage *stage_at(const Wave *w, int64_t at, bool task)
{
    int lo = 0, hi = w->n;
    while (hi - lo > 1) {
        int mid = lo + (hi - lo) / 2;
        if ((task ? w->st[mid]->task0 : w->st[mid]->entry0) <= at)
            lo = mid;
        else
            hi = mid;
    }
    return w->st[lo];
}

static int64_t entry_users(const void *ctx, int64_t entry)
{
    return tasks_of_panel(stage_at(ctx, entry, false));
}

static void prepare_entry(void *ctx, int64_t entry, int worker, void *dst)
{
    const Wave *w = ctx;
    Stage *st = stage_at(w, entry, false);
    int64_t at = entry - st->entry0, panel = st->g0 + at / entries_of_panel(st);
    int i = st->gate ? (int)(at % 2) : linear_of_panel(st, panel, &panel);
    Worker *wk = &w->r->worker[worker];
    Phase was = worker_enter(wk, PHASE_DECODE);
    prepare_panel(st, wk, i, panel, false, dst);
    worker_leave(wk, was);
}

static ReadyWeight *ready_of(const Stage *st, int i)
{
    return &st->ps->r->ready->linear[st->lin[i]->index];
}

/* Entry k of stage panel g, where it stays. */
static unsigned char *ready_panel(const Stage *st, int64_t g, int k)
{
    int64_t panel = g;
    int i = st->gate ? k : linear_of_panel(st, g, &panel);
    const ReadyWeight *w = ready_of(st, i);
    return w->data + (size_t)panel * w->step;
}

static void wave_task(void *ctx, int64_t index, int worker)
{
    const Wave *w = ctx;
    Stage *st = stage_at(w, index, true);
    PanelRing *ring = &w->r->ring;
    int entries = entries_of_panel(st);
    int64_t tasks = tasks_of_panel(st), g = (index - st->task0) / tasks;
    int64_t block = st->ps->b0 + (index - st->task0) % tasks, entry = st->entry0 + g * entries;
    const void *packed[2];
    for (int k = 0; k < entries; k++) {
        packed[k] = w->ready ? ready_panel(st, st->g0 + g, k) : panels_get(ring, entry + k, worker, w->r->opt.cancel);
        if (!packed[k])
            return;
    }
    if (st->ps->b1 > st->ps->b0)
        band_tiles(st, &w->r->worker[worker], packed, st->g0 + g, block);
    for (int k = 0; k < entries && !w->ready; k++)
        panels_done(ring, entry + k);
}

static void progress_of_layer(Pass *ps, double work)
{
    Runner *r = ps->r;
    *ps->work_done += work;
    runner_progress(r, "layer", ps->layer, ps->layers, ps->layer * ps->work_total + *ps->work_done,
                    ps->layers * ps->work_total, false);
}

/* ---- observers of the stage ---- */

/* The tap of an input that linear i is the first to read. */
static Tap input_tap(const Stage *st, int i)
{
    return (Tap){TAP_LINEAR_IN, st->ps->layer, st->lin[i]->index};
}

static Status stage_begin(Stage *st, Error *err)
{
    Pass *ps = st->ps;
    stage_readers(st);
    for (int i = 0; i < st->n; i++)
        st->in_mask[i] = st->hidden || st->reads[i] < i ? 0 : pass_tap_mask(ps, TAP_LINEAR_IN, st->lin[i]->index);
    if (ps->b0 > 0)
        return ST_OK;
    for (int i = 0; i < st->n; i++)
        RETURN_IF_ERROR(taps_weight_begin(&ps->hub, st->lin[i]->weight_mask, st->lin[i]->index,
                                          (int)st->lin[i]->panels, err));
    for (int i = 0; i < st->n; i++)
        RETURN_IF_ERROR(taps_begin(&ps->hub, st->in_mask[i], input_tap(st, i), stage_shape(st), st->lin[0]->lin->in, err));
    return ST_OK;
}

/* The sums of the samples' parts, those of panels made one. */
static Status tell_energy(const Stage *st, const LinearRun *l, uint64_t mask, Error *err)
{
    const Pass *ps = st->ps;
    const int64_t all = ps->plan.n + ps->in->samples;
    int64_t n = 0;
    for (int64_t i = 0; i < all; i++) {
        double sum = 0;
        for (int64_t g = 0; g < l->panels; g++)
            sum += l->energy[i * l->panels + g];
        if (sum != 0)
            l->energy[n++] = sum;
    }
    return taps_energy(&ps->hub, mask, l->index, l->energy, n, ps->in->rows, err);
}

static Status stage_end(Stage *st, Error *err)
{
    Pass *ps = st->ps;
    if (ps->b0 == 0)
        for (int i = 0; i < st->n; i++)
            RETURN_IF_ERROR(taps_weight_end(&ps->hub, st->lin[i]->weight_mask, st->lin[i]->index, err));
    if (ps->b1 < ps->plan.n)
        return ST_OK;
    for (int i = 0; i < st->n; i++)
        RETURN_IF_ERROR(taps_end(&ps->hub, st->in_mask[i], input_tap(st, i), err));
    for (int i = 0; i < st->n; i++) {
        const LinearRun *l = st->lin[i];
        if (l->energy)
            RETURN_IF_ERROR(tell_energy(st, l, st->in_mask[st->reads[i]], err));
    }
    return ST_OK;
}

/* Points the stage to its panels [g0, g1) within a piece that was read. Returns the multiply-adds to come. */
static double stage_take_piece(Stage *st, int64_t g0, int64_t g1, const FeedPiece *piece, const void *const data[])
{
    const LinearRun *const *lin = (const LinearRun *const *)st->lin;
    double work = 0;
    st->g0 = g0;
    st->g1 = g1;
    for (int i = 0; i < st->n; i++) {
        int64_t p0, p1;
        panels_of(lin, i, st->gate, g0, g1, &p0, &p1);
        WeightSpan span = panels_span(lin[i], p0, p1);
        const Linear *l = &lin[i]->weight.base;
        st->raw_panel[i] = p0;
        st->raw[i] = piece_find(piece, data, l->weight, span.begin, span.n);
        st->raw_scale[i] = l->store ? piece_find(piece, data, l->store->scale, span.scale_begin, span.scale_n) : NULL;
        int64_t outputs = panel_begin(lin[i], p1) - panel_begin(lin[i], p0);
        work += (double)outputs * (double)lin[i]->lin->in * (double)st->ps->rows;
    }
    return work;
}

static void wave_begin(Wave *w, Batch *b)
{
    wave_plan(w);
    if (!w->ready)
        panels_begin(&w->r->ring, &(PanelWork){w->entries, entry_users, prepare_entry, w});
    batch_add(b, PHASE_LINEAR, wave_task, w, w->tasks);
}

/* Weights that have to be whole before a row of them is there. */
static Status make_whole(Stage *st, Error *err)
{
    const RunnerOptions *opt = &st->ps->r->opt;
    for (int i = 0; i < st->n; i++)
        RETURN_IF_ERROR(source_prepare(&st->lin[i]->weight, stage_ops(st), NULL, opt->pool, opt->cancel, err));
    return ST_OK;
}

static void drop_whole(const Stage *st)
{
    for (int i = 0; i < st->n; i++)
        source_release(&st->lin[i]->weight);
}

/* Has who watches the inputs see the chunk's. */
static void feed_inputs(const Stage *st, TapFeed feed[STAGE_MAX], Batch *b)
{
    const Pass *ps = st->ps;
    int64_t in = st->lin[0]->lin->in;
    for (int i = 0; i < st->n; i++) {
        feed[i] = (TapFeed){&ps->hub, st->in_mask[i], input_tap(st, i), stage_shape(st), ps->s0,
                            ps->row0 * stage_groups(st), st->xsrc[i], in, in};
        if (st->in_mask[i])
            batch_add(b, PHASE_STATISTICS, taps_task, &feed[i], ps->s1 - ps->s0);
    }
}

static Status run_stage(Stage *st, const FeedPiece *next, Error *err)
{
    Pass *ps = st->ps;
    Runner *r = ps->r;
    const LinearRun *const *lin = (const LinearRun *const *)st->lin;
    TapFeed in_feed[STAGE_MAX];
    RETURN_IF_ERROR(stage_begin(st, err));
    RETURN_IF_ERROR(stage_inputs(&st, 1, err));
    int64_t total = stage_panels(lin, st->n, st->gate);
    FeedPiece piece, after;
    int64_t g1 = make_piece(lin, st->n, st->gate, ps->piece_max, 0, &piece);
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
        double work = stage_take_piece(st, g0, g1, &piece, data);
        Wave wave = {.st = &st, .n = 1, .r = r};
        Batch b = {.n = 0};
        wave_begin(&wave, &b);
        if (g0 == 0)
            feed_inputs(st, in_feed, &b);
        Status s = batch_run(&b, r->opt.pool, r->opt.cancel, err);
        feed_done(r->feed);
        RETURN_IF_ERROR(s);
        progress_of_layer(ps, work);
    }
    return stage_end(st, err);
}

Status stage_show_none(Stage *st, Error *err)
{
    RETURN_IF_ERROR(stage_begin(st, err));
    RETURN_IF_ERROR(stage_inputs(&st, 1, err));
    return stage_end(st, err);
}

/* ---- weights that stay (run/ready.h) ---- */

static bool is_ready(const Stage *st, int i)
{
    return ready_of(st, i)->gemm == stage_gemms(st, i);
}

/* Takes room for the stage's weights that are not there. False: there isn't enough for all. */
static bool take_room(Stage *st, bool *missing)
{
    Ready *r = st->ps->r->ready;
    for (int i = 0; i < st->n; i++) {
        LinearRun *l = st->lin[i];
        int64_t in = l->lin->in, rows = min_i64(panel_rows(in), l->lin->out);
        if (is_ready(st, i))
            continue;
        *missing = true;
        if (r->refused[l->index] ||
            !ready_room(r, ready_of(st, i), l->index, l->panels,
                        (size_t)round_up((int64_t)stage_gemms(st, i)->packed_bytes(rows, in), 64), l->codes ? l->lin->out : 0))
            return false;
    }
    return true;
}

/* One panel of a wave, where it stays; of a linear that is there already nothing. */
static void ready_task(void *ctx, int64_t index, int worker)
{
    const Wave *w = ctx;
    Stage *st = w->st[0];
    int entries = entries_of_panel(st), k = (int)(index % entries);
    int64_t g = st->g0 + index / entries, panel = g;
    int i = st->gate ? k : linear_of_panel(st, g, &panel);
    if (!is_ready(st, i))
        prepare_panel(st, &w->r->worker[worker], i, panel, true, ready_panel(st, g, k));
}

static Status fill_ready(Stage *st, Error *err)
{
    Runner *r = st->ps->r;
    const LinearRun *const *lin = (const LinearRun *const *)st->lin;
    int64_t total = stage_panels(lin, st->n, st->gate);
    RETURN_IF_ERROR(make_whole(st, err));
    Status s = ST_OK;
    for (int64_t g0 = 0, g1; g0 < total && s == ST_OK; g0 = g1) {
        FeedPiece piece;
        const void *data[FEED_SEGMENTS];
        Wave w = {.st = &st, .n = 1, .r = r, .ready = true};
        Batch b = {.n = 0};
        g1 = make_piece(lin, st->n, st->gate, st->ps->piece_max, g0, &piece);
        if ((s = feed_take(r->feed, &piece, data, r->opt.cancel, err)) != ST_OK)
            break;
        stage_take_piece(st, g0, g1, &piece, data);
        batch_add(&b, PHASE_DECODE, ready_task, &w, (g1 - g0) * entries_of_panel(st));
        s = batch_run(&b, r->opt.pool, r->opt.cancel, err);
        feed_done(r->feed);
    }
    drop_whole(st);
    RETURN_IF_ERROR(s);
    for (int i = 0; i < st->n; i++) {
        ReadyWeight *w = ready_of(st, i);
        if (!is_ready(st, i) && w->scale)
            memcpy(w->scale, st->lin[i]->scale, (size_t)st->lin[i]->lin->out * sizeof *w->scale);
        w->gemm = stage_gemms(st, i);
    }
    return ST_OK;
}

/* Whether all weights of the stage are there, made now where there is room. */
static Status get_ready(Stage *st, bool *ready, Error *err)
{
    bool missing = false;
    *ready = st->ps->r->ready && take_room(st, &missing);
    if (*ready && missing)
        RETURN_IF_ERROR(fill_ready(st, err));
    for (int i = 0; i < st->n && *ready; i++)
        if (st->lin[i]->codes)
            memcpy(st->lin[i]->scale, ready_of(st, i)->scale, (size_t)st->lin[i]->lin->out * sizeof(float));
    return ST_OK;
}

/* The stages' products with weights that are there; nobody watches. */
static Status run_ready(Stage *const *st, int n, Error *err)
{
    Runner *r = st[0]->ps->r;
    Wave wave = {.st = st, .n = n, .r = r, .ready = true};
    Batch b = {.n = 0};
    for (int i = 0; i < n; i++) {
        stage_readers(st[i]);
        st[i]->g0 = 0;
        st[i]->g1 = stage_panels((const LinearRun *const *)st[i]->lin, st[i]->n, st[i]->gate);
    }
    RETURN_IF_ERROR(stage_inputs(st, n, err));
    wave_begin(&wave, &b);
    return batch_run(&b, r->opt.pool, r->opt.cancel, err);
}

Status stage_run(Stage *st, const FeedPiece *next, Error *err)
{
    bool ready;
    RETURN_IF_ERROR(get_ready(st, &ready, err));
    if (ready)
        return run_ready(&st, 1, err);
    Status s = make_whole(st, err);
    if (s == ST_OK)
        s = run_stage(st, next, err);
    drop_whole(st);
    return s;
}

static Status run_stages(Stage *const *st, int n, const FeedPiece *piece, const FeedPiece *next, Error *err)
{
    Runner *r = st[0]->ps->r;
    const void *data[FEED_SEGMENTS];
    Wave wave = {.st = st, .n = n, .r = r};
    Batch b = {.n = 0};
    double work = 0;
    for (int i = 0; i < n; i++)
        stage_readers(st[i]);
    RETURN_IF_ERROR(stage_inputs(st, n, err));
    RETURN_IF_ERROR(feed_take(r->feed, piece, data, r->opt.cancel, err));
    if (next && next->nseg)
        feed_want(r->feed, next);
    for (int i = 0; i < n; i++)
        work += stage_take_piece(st[i], 0, stage_panels((const LinearRun *const *)st[i]->lin, st[i]->n, st[i]->gate),
                                 piece, data);
    wave_begin(&wave, &b);
    Status s = batch_run(&b, r->opt.pool, r->opt.cancel, err);
    feed_done(r->feed);
    RETURN_IF_ERROR(s);
    progress_of_layer(st[0]->ps, work);
    return ST_OK;
}

Status stages_run(Stage *const *st, int n, const FeedPiece *piece, const FeedPiece *next, Error *err)
{
    Status s = ST_OK;
    bool all = true, ready;
    for (int i = 0; i < n; i++) {
        RETURN_IF_ERROR(get_ready(st[i], &ready, err));
        all = all && ready;
    }
    if (all)
        return run_ready(st, n, err);
    for (int i = 0; i < n && s == ST_OK; i++)
        s = make_whole(st[i], err);
    if (s == ST_OK)
        s = run_stages(st, n, piece, next, err);
    for (int i = 0; i < n; i++)
        drop_whole(st[i]);
    return s;
}
