#include "run/need.h"

#include <string.h>

#include "base/num.h"
#include "run/block/router.h"
#include "run/lineargrad.h"

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void most_workers(WorkerNeed *w, const WorkerNeed *n)
{
    w->panel = max_size(w->panel, n->panel);
    w->rows = max_size(w->rows, n->rows);
    w->tile = max_size(w->tile, n->tile);
    w->scores = max_size(w->scores, n->scores);
    w->edit = max_size(w->edit, n->edit);
    w->gemm = max_size(w->gemm, n->gemm);
}

static void most(BlockNeed *all, const BlockNeed *n)
{
    RowNeed *a = &all->row;
    const RowNeed *b = &n->row;
    *a = (RowNeed){max_i64(a->x, b->x), max_i64(a->mid, b->mid), max_i64(a->act, b->act), max_i64(a->tap, b->tap),
                   max_i64(a->up, b->up), max_i64(a->mix, b->mix)};
    most_workers(&all->worker, &n->worker);
    all->whole = max_u64(all->whole, n->whole);
    all->least = max_u64(all->least, n->least);
    all->kept = max_i64(all->kept, n->kept);
}

/* Floats that a thread needs to change a linear's weight and inputs. */
static size_t edit_need(const Overlay *o, int64_t linear)
{
    const LinearEdit *e = overlay_linear(o, linear);
    size_t weight = e && e->weight ? e->weight->scratch : 0;
    return e && e->inputs ? max_size(weight, e->inputs->scratch) : weight;
}

/* Panels, tiles and products of the unit's linears. */
static WorkerNeed linears_need(const Model *m, const Unit *u, const NeedAsk *ask)
{
    WorkerNeed w = {0};
    int64_t cols = 0, band = ask->band;
    for (int32_t i = u->first; i < u->first + u->count; i++) /* rows of an expert are packed anew */
        band = m->linears[i].expert >= 0 ? BAND_MAX : band;
    for (int32_t i = u->first; i < u->first + u->count; i++) {
        const Linear *l = &m->linears[i];
        int64_t panel = min_i64(panel_rows(l->in), l->out);
        cols = max_i64(cols, panel);
        w.edit = ask->ps ? max_size(w.edit, edit_need(ask->ps->r->opt.overlay, i)) : w.edit;
        need_product(ask, &w, min_i64(band, STAGE_TILE_ROWS), panel, l->in);
        if (ask->back)
            need_product(ask, &w, min_i64(band, STAGE_TILE_ROWS), min_i64(GRAD_COLS, l->in), l->out);
        need_panel(ask, &w, panel, l->in);
    }
    w.tile = (size_t)(min_i64(band, STAGE_TILE_ROWS) * cols);
    return w;
}

BlockNeed unit_need(const Model *m, const Unit *u, int from, int n, const BlockRun *run, const NeedAsk *ask)
{
    NeedAsk a = *ask;
    BlockNeed all = {.worker = linears_need(m, u, ask)};
    a.linears = m->linears;
    a.cfg = u->cfg;
    for (int i = 0; i < n; i++) {
        const Block *b = &u->block[from + i];
        const BlockOps *ops = block_ops(b->type);
        BlockNeed one = {.kept = 0}, join = {.kept = 0};
        a.run = run ? &run[i] : NULL;
        if (ops && !ask->back)
            ops->need(b, &a, &one);
        if (ops && ask->back && ops->backward_need)
            ops->backward_need(b, &a, &one);
        if (b->join)
            block_ops(b->join->type)->need(b->join, &a, &join);
        most(&all, &one);
        most(&all, &join);
    }
    return all;
}

BlockNeed model_need(const Model *m, const NeedAsk *ask)
{
    BlockNeed all = {.kept = 0};
    for (int i = 0; i < m->nunits; i++) {
        BlockNeed one = unit_need(m, &m->units[i], 0, m->units[i].nblocks, NULL, ask);
        most(&all, &one);
    }
    return all;
}

static uint64_t small_bytes(const Block *b)
{
    uint64_t sum = 0;
    for (int k = 0; k < block_smalls(b->type); k++)
        if (b->small[k] && b->type->smalls[k].kind != SMALL_RAW)
            sum += b->small[k]->nbytes / (uint64_t)dtype_size(b->small[k]->dtype) * sizeof(float);
    return sum;
}

uint64_t unit_beside_bytes(const Model *m, int64_t longest)
{
    uint64_t most_small = 0;
    const RopeParams *rope[2] = {NULL, NULL};
    for (int i = 0; i < m->nunits; i++) {
        uint64_t sum = 0;
        for (int k = 0; k < m->units[i].nblocks; k++) {
            const Block *b = &m->units[i].block[k];
            sum += small_bytes(b) + (b->join ? small_bytes(b->join) : 0);
            rope[b->rope && rope[0] && b->rope != rope[0]] = b->rope ? b->rope : rope[0];
        }
        most_small = max_u64(most_small, sum);
    }
    uint64_t tables = 0;
    for (int i = 0; i < 2; i++)
        tables += rope[i] ? (uint64_t)(longest * rope[i]->dim) * sizeof(float) : 0;
    return most_small + tables;
}

uint64_t linears_whole_bytes(const Source *s, int64_t first, int64_t n, bool any, uint64_t piece)
{
    uint64_t most = 0;
    for (int64_t i = first; i < first + n; i++) {
        uint64_t sum = 0;
        for (int64_t k = s->model->linears[i].input; k <= i; k++) { /* few lie between */
            const Linear *l = &s->model->linears[k];
            SourceWeight w = source_weight(s, l);
            if (l->input == s->model->linears[i].input)
                sum += any ? (uint64_t)(l->out * l->in) * sizeof(float) : source_whole_bytes(&w);
        }
        if (s->model->linears[i].expert >= 0) /* several at once, as long as they are no more than a piece */
            sum = max_u64(sum, min_u64(sum * STAGES_MAX, piece));
        most = max_u64(most, sum);
    }
    return most;
}

size_t model_edit_floats(const Model *m)
{
    enum { PANEL_COLS = 160 }; /* what rotations of this size take, of any kind (math/rotation.h) */
    int64_t most = 0;
    for (int64_t i = 0; i < m->nlinears; i++)
        most = max_i64(most, max_i64(m->linears[i].out, m->linears[i].in));
    int64_t h = m->cfg.hidden; /* the largest that may be a matrix without a form of its own */
    return (size_t)(PANEL_COLS * most) + gemm_find(GEMM_F32)->scratch(PANEL_COLS, h, h) / sizeof(float);
}

size_t model_branch_floats(const Model *m)
{
    size_t most = 0;
    for (int64_t i = 0; i < m->nlinears; i++)
        most = max_size(most, lowrank_scratch(m->linears[i].in, min_i64(m->linears[i].out, m->linears[i].in)));
    return most;
}

int model_late(const Model *m)
{
    for (int i = 0; i < m->nunits; i++)
        for (int k = 0; k < m->units[i].nblocks; k++)
            if (m->units[i].block[k].spec->late)
                return 1;
    return 0;
}
