#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/lineargrad.h"
#include "run/need.h"

/* One unit, or some of its blocks: those that can run together chunk by chunk, the others over all rows at once. */

typedef struct PartRun {
    Pass ps;
    int from, n;     /* blocks [from, from + n) of the unit */
    BlockRun *block, *join; /* [n] */
    PassLate late;
    int64_t rows;    /* of a chunk, at most */
    RowNeed need;    /* of a row */
    size_t scratch;  /* floats of the largest chunk */
} PartRun;

/* ---- start and end ---- */

/* A bias that a norm without one was given. */
static Status added_bias(const Pass *ps, const Ops *ops, const TensorInfo *t, float **out, Error *err)
{
    const Source *src = &ps->r->src;
    return overlay_norm_bias(src->overlay, t) ? source_norm_bias(src, ops, t, out, err) : ST_OK;
}

static Status start_block(Pass *ps, const Block *b, BlockRun *run, BlockRun *join, Error *err)
{
    const BlockType *t = b->type;
    *run = (BlockRun){.b = b, .ops = block_ops(t)};
    if (!run->ops)
        return error_set(err, ST_INTERNAL, "blocks of kind %s compute nothing", t->name);
    for (int i = 0; i < block_linears(t); i++)
        if (b->linear[i] >= 0)
            RETURN_IF_ERROR(pass_linear_start(ps, &run->lin[i], b->linear[i], err));
    for (int i = 0; i < block_smalls(t); i++) {
        if (!b->small[i] || t->smalls[i].kind == SMALL_RAW)
            continue;
        const Ops *ops = t->smalls[i].kind == SMALL_KEPT ? NULL : &ps->ops;
        RETURN_IF_ERROR(source_small(&ps->r->src, ops, b->small[i], &run->small[i], err));
        RETURN_IF_ERROR(added_bias(ps, ops, b->small[i], &run->shift[i], err));
        const TensorEdit *e = overlay_tensor(ps->r->src.overlay, b->small[i]);
        run->eps[i] = e ? e->eps : 0;
    }
    for (int s = 0; b->rope && s < ps->in->samples; s++)
        RETURN_IF_ERROR(rope_reserve(&ps->r->rope, ps->cfg, b->rope, &ps->r->ops, stream_length(ps->in, s), err));
    run->join = b->join ? join : NULL;
    return b->join ? start_block(ps, b->join, join, NULL, err) : ST_OK;
}

static void end_block(BlockRun *b)
{
    for (int i = 0; i < BLOCK_LINEARS_MAX; i++)
        pass_linear_end(&b->lin[i]);
    for (int i = 0; i < BLOCK_SMALLS_MAX; i++) {
        free(b->small[i]);
        free(b->shift[i]);
    }
}

static double work_of(const Model *m, const Unit *u, const Block *b)
{
    const BlockOps *ops = block_ops(b->type);
    double work = ops && ops->work ? ops->work(b, u->cfg) : 0;
    for (int i = 0; i < block_linears(b->type); i++)
        if (b->linear[i] >= 0)
            work += (double)m->linears[b->linear[i]].out * (double)m->linears[b->linear[i]].in;
    return work;
}

/* Everything the blocks read beside their weights, in the arithmetic of the model whatever the variant's is. */
static Status start_unit(PartRun *u, Error *err)
{
    Pass *ps = &u->ps;
    u->block = mem_zarray((size_t)u->n, sizeof *u->block);
    u->join = mem_zarray((size_t)u->n, sizeof *u->join);
    if (!u->block || !u->join)
        return error_nomem(err, "the blocks of a layer");
    RETURN_IF_ERROR(rowplan_make(&ps->plan, ps->in, err));
    for (int s = 0; s < ps->in->samples; s++)
        ps->plan.longest_sample = max_i64(ps->plan.longest_sample, stream_length(ps->in, s));
    for (int i = 0; i < u->n; i++) {
        const Block *b = &ps->u->block[u->from + i];
        RETURN_IF_ERROR(start_block(ps, b, &u->block[i], &u->join[i], err));
        u->block[i].front = u->from + i == 0;
        ps->work_total += work_of(ps->r->m, ps->u, b) * (double)ps->in->rows;
    }
    return ST_OK;
}

static void end_unit(PartRun *u)
{
    for (int i = 0; i < u->n && u->block && u->join; i++) {
        end_block(&u->block[i]);
        end_block(&u->join[i]);
    }
    free(u->block);
    free(u->join);
    free(u->late.y);
    free(u->late.mix);
    rowplan_fini(&u->ps.plan);
}

/* ---- rows of a chunk ---- */

/* A form has to see the whole input of its linear, or of an attention, at once. */
static bool must_be_whole(const PartRun *u)
{
    if (u->ps.attn && u->ps.attn->prepare)
        return true;
    for (int i = 0; i < u->n; i++)
        for (int k = 0; k < BLOCK_LINEARS_MAX; k++) {
            const LinearForm *f = u->block[i].lin[k].form;
            if (f && f->prepare && !f->parts)
                return true;
        }
    return false;
}

/* Bytes of the pass's streams and those that wait, and what lies beside them whatever the chunk (ps->fixed is both). */
static uint64_t stream_bytes(const PartRun *u, const BlockNeed *need)
{
    const Pass *ps = &u->ps;
    uint64_t bytes = (uint64_t)(ps->in->rows * ps->in->width) * sizeof(float) * (ps->in->data == ps->out->data ? 1 : 2);
    bytes += (uint64_t)(ps->in->rows * need->kept) + ps->r->held;
    for (int i = 0; i < u->n; i++)
        if (ps->u->block[u->from + i].spec->late)
            bytes += (uint64_t)(ps->in->rows * ps->cfg->hidden) * sizeof(float);
    return bytes;
}

/* Rows of the chunks, under the memory limit. */
static Status chunk_rows(PartRun *u, const BlockNeed *need, bool whole, Error *err)
{
    Pass *ps = &u->ps;
    const Runner *r = ps->r;
    int64_t row_floats = row_need_floats(&need->row);
    uint64_t row_bytes = (uint64_t)row_floats * sizeof(float), streams = stream_bytes(u, need);
    ps->fixed = streams + worker_need_bytes(&need->worker, r->threads);
    ps->fixed += 2 * (r->piece < ps->piece_max ? r->piece : ps->piece_max);
    ps->fixed += unit_beside_bytes(r->m, ps->plan.longest_sample);
    ps->fixed += ps->grad ? passgrad_bytes(ps->u, r->m->linears, ops_gemms(&ps->ops)) : 0;
    ps->fixed += linears_whole_bytes(&r->src, ps->u->first, ps->u->count, false, ps->piece_max);
    int64_t least_rows = whole ? ps->in->rows : rowplan_largest_whole(&ps->plan);
    u->rows = whole ? ps->in->rows : max_i64(CHUNK_ROWS, least_rows);
    uint64_t limit = r->opt.mem_limit;
    if (!limit)
        return ST_OK;
    uint64_t least = ps->fixed + (uint64_t)least_rows * row_bytes;
    if (least > limit)
        return error_set(err, ST_NOMEM,
                         "layer %d needs %.1f MB (hidden states %.1f, %lld rows that cannot be cut %.1f, threads and "
                         "weights %.1f) but the limit leaves %.1f MB: raise --mem, or use fewer or shorter texts "
                         "(--max-samples, --seq-len)",
                         ps->layer, (double)least / 1e6, (double)streams / 1e6, (long long)least_rows,
                         (double)((uint64_t)least_rows * row_bytes) / 1e6, (double)(ps->fixed - streams) / 1e6,
                         (double)limit / 1e6);
    if (row_bytes)
        u->rows = min_i64(u->rows, (int64_t)((limit - ps->fixed) / row_bytes));
    return ST_OK;
}

/* ---- what is read next ---- */

/* The first piece of the unit's block i, when that is known before it runs. */
static void first_piece(const Pass *ps, const Unit *u, int i, FeedPiece *p)
{
    const Model *m = ps->r->m;
    const Block *b = &u->block[i];
    const BlockOps *ops = block_ops(b->type);
    int slot[STAGE_MAX];
    bool gate = false;
    LinearRun run[STAGE_MAX];
    const LinearRun *lin[STAGE_MAX];
    int n = ops && ops->first ? ops->first(b, slot, &gate) : 0;
    p->nseg = 0;
    for (int k = 0; k < n; k++) {
        const Linear *l = &m->linears[b->linear[slot[k]]];
        run[k] = linear_ahead(ps->r, l);
        lin[k] = &run[k];
        if (!weight_readable(&run[k].weight.base))
            return;
    }
    if (n)
        stage_first_piece(lin, n, gate, ps->piece_max, p);
}

/* What is read after block i of the chunks of [lo, hi): the next one, the first of them again, or what comes then. */
static void piece_after(const PartRun *u, int i, int lo, int hi, FeedPiece *p)
{
    const Pass *ps = &u->ps;
    const Model *m = ps->r->m;
    int next = i + 1 < hi ? i + 1 : ps->b1 < ps->plan.n ? lo : hi;
    p->nseg = 0;
    if (next < u->n)
        first_piece(ps, ps->u, u->from + next, p);
    else if (u->from + next == ps->u->nblocks && ps->layer + 1 < m->nunits)
        first_piece(ps, &m->units[ps->layer + 1], 0, p);
}

/* ---- running ---- */

/* The buffers of block i in the present chunk. */
static ChunkBuffers chunk_buffers(const PartRun *u, int i)
{
    const Pass *ps = &u->ps;
    const RowNeed *n = &u->need;
    int64_t w = ps->in->width, rows = ps->rows;
    float *at = ps->r->scratch;
    ChunkBuffers b = {.in = (i == 0 ? ps->in->data : ps->out->data) + ps->row0 * w,
                      .out = ps->out->data + ps->row0 * w};
    const struct {
        float **to;
        int64_t n;
    } part[] = {{&b.x, n->x}, {&b.mid, n->mid}, {&b.act, n->act}, {&b.tap, n->tap}, {&b.up, n->up}, {&b.mix, n->mix}};
    for (size_t k = 0; k < sizeof part / sizeof *part && at; k++) {
        *part[k].to = part[k].n ? at : NULL;
        at += part[k].n * rows;
    }
    return b;
}

/* What of the present chunk's band follows from b0. */
static void take_chunk(PartRun *u)
{
    Pass *ps = &u->ps;
    ps->b1 = rowplan_end(&ps->plan, ps->b0, u->rows);
    ps->row0 = ps->plan.start[ps->b0];
    ps->rows = ps->plan.start[ps->b1] - ps->row0;
    ps->s0 = ps->plan.sample[ps->b0];
    ps->s1 = ps->plan.sample[ps->b1];
}

static Status run_chunks(PartRun *u, int lo, int hi, Error *err)
{
    Pass *ps = &u->ps;
    int64_t w = ps->out->width;
    RETURN_IF_ERROR(scratch_reserve(ps->r, u->scratch, err));
    for (ps->b0 = 0; ps->b0 < ps->plan.n; ps->b0 = ps->b1) {
        take_chunk(u);
        for (int i = lo; i < hi; i++) {
            ChunkBuffers b = chunk_buffers(u, i);
            piece_after(u, i, lo, hi, &b.next);
            RETURN_IF_ERROR(u->block[i].ops->forward(ps, &u->block[i], &b, err));
        }
        if (u->from + hi == ps->u->nblocks && !u->late.y)
            RETURN_IF_ERROR(pass_feed_tap(ps, TAP_BLOCK_OUT, -1, ps->out->data + ps->row0 * w, w, w, err));
    }
    return ST_OK;
}

/* A block that sees all rows brings its own buffers. */
static Status run_whole(PartRun *u, int i, BlockFn *fn, Error *err)
{
    Pass *ps = &u->ps;
    scratch_drop(ps->r);
    pass_take_all(ps);
    ChunkBuffers b = {.in = i == 0 ? ps->in->data : ps->out->data, .out = ps->out->data};
    return fn(ps, &u->block[i], &b, err);
}

/* What was left for the end, and the unit's last tap where the chunks have not fed it. */
static Status finish(PartRun *u, Error *err)
{
    Pass *ps = &u->ps;
    int64_t w = ps->out->width;
    const PassLate *l = &u->late;
    bool end = u->from + u->n == ps->u->nblocks;
    pass_take_all(ps);
    if (l->y)
        RETURN_IF_ERROR(l->b->join->ops->write(ps, l->b->join, l->mix, ps->out->data, l->y, ps->rows, ps->out->data,
                                               err));
    if (end && (l->y || u->block[u->n - 1].ops->whole))
        RETURN_IF_ERROR(pass_feed_tap(ps, TAP_BLOCK_OUT, -1, ps->out->data, w, w, err));
    return end ? taps_layer_end(&ps->hub, ps->layer, err) : ST_OK;
}

static NeedAsk ask_of(const Pass *ps)
{
    return (NeedAsk){.threads = ps->r->threads, .rows = ps->in->rows, .longest = ps->plan.longest_sample,
                     .band = ps->plan.largest,
                     .gemms = {[NEED_F32] = ps->ops.gemms[GEMM_F32], [NEED_PRODUCTS] = ops_gemms(&ps->ops),
                               [NEED_CODES] = ps->forms ? ps->ops.gemms[GEMM_BF16] : NULL}};
}

/* Chunks, and buffers for them. */
static Status make_room(PartRun *u, bool back, Error *err)
{
    Pass *ps = &u->ps;
    NeedAsk ask = ask_of(ps);
    ask.ps = ps;
    ask.back = back;
    BlockNeed need = unit_need(ps->r->m, ps->u, u->from, u->n, u->block, &ask);
    int64_t most = 0;
    u->need = need.row;
    RETURN_IF_ERROR(chunk_rows(u, &need, must_be_whole(u), err));
    for (int64_t b = 0; b < ps->plan.n; b = rowplan_end(&ps->plan, b, u->rows))
        most = max_i64(most, ps->plan.start[rowplan_end(&ps->plan, b, u->rows)] - ps->plan.start[b]);
    u->scratch = (size_t)(most * row_need_floats(&need.row));
    return workers_reserve(ps->r, &need.worker, err);
}

static Status run_unit(PartRun *u, Error *err)
{
    RETURN_IF_ERROR(make_room(u, false, err));
    for (int i = 0, end; i < u->n; i = end) {
        end = i + 1;
        if (u->block[i].ops->whole) {
            RETURN_IF_ERROR(run_whole(u, i, u->block[i].ops->forward, err));
            continue;
        }
        while (end < u->n && !u->block[end].ops->whole)
            end++;
        RETURN_IF_ERROR(run_chunks(u, i, end, err));
    }
    return finish(u, err);
}

static Status check_call(const Runner *r, int unit, int from, int to, int nobs, Error *err)
{
    if (unit < 0 || unit >= r->m->nunits)
        return error_set(err, ST_INTERNAL, "there is no layer %d: the model has %d", unit, r->m->nunits);
    if (from < 0 || from >= to || to > r->m->units[unit].nblocks)
        return error_set(err, ST_INTERNAL, "layer %d has no blocks %d to %d: there are %d", unit, from, to,
                         r->m->units[unit].nblocks);
    if (nobs > TAPS_MAX_OBSERVERS)
        return error_set(err, ST_INTERNAL, "%d observers of one pass, at most %d", nobs, TAPS_MAX_OBSERVERS);
    return ST_OK;
}

/* A part at rest: blocks [from, to) of a unit. done: where its work is counted. */
static PartRun part_of(Runner *r, int unit, int from, int to, const Variant *v, const Stream *in, Stream *out,
                       TapHub hub, double *done)
{
    const Unit *at = &r->m->units[unit];
    PartRun u = {.from = from, .n = to - from};
    u.ps = (Pass){.r = r, .ops = r->ops, .front = r->ops, .u = at, .cfg = at->cfg, .layer = unit,
                  .layers = unit < r->m->cfg.layers ? r->m->cfg.layers : unit + 1, .in = in, .out = out,
                  .hub = hub, .forms = v ? v->forms : NULL, .attn = v ? v->attn : NULL, .route = v ? v->route : NULL,
                  .sdpa = v && v->sdpa, .bare = v && v->bare,
                  .piece_max = feed_piece_max(r->opt.mem_limit), .work_done = done};
    return u;
}

/* ---- before anything runs ---- */

static Status unit_fits(Runner *r, int unit, const Stream *shape, const RowPlan *plan, const int16_t *level, bool whole,
                        Error *err)
{
    double done = 0;
    PartRun u = part_of(r, unit, 0, r->m->units[unit].nblocks, NULL, shape, NULL, (TapHub){.nobs = 0}, &done);
    Pass *ps = &u.ps;
    ps->out = (Stream *)(uintptr_t)shape; /* in place; nothing is written */
    ps->plan = *plan;
    NeedAsk ask = ask_of(ps);
    ask.level = level;
    BlockNeed need = unit_need(r->m, ps->u, 0, u.n, NULL, &ask);
    RETURN_IF_ERROR(chunk_rows(&u, &need, whole, err));
    uint64_t limit = r->opt.mem_limit, least = ps->fixed + need.least;
    if (!limit || least <= limit)
        return ST_OK;
    return error_set(err, ST_NOMEM,
                     "layer %d needs %.1f MB for all %lld rows at once but the limit leaves %.1f MB: raise --mem, or use "
                     "fewer or shorter texts (--max-samples, --seq-len)",
                     unit, (double)least / 1e6, (long long)shape->rows, (double)limit / 1e6);
}

Status runner_fits(Runner *r, const TokenSet *t, int units, const int16_t *level, bool whole, Error *err)
{
    Stream shape = {.samples = t->samples, .rows = t->start[t->samples], .width = r->m->cfg.stream_width,
                    .start = t->start};
    RowPlan plan = {0};
    Status st = rowplan_make(&plan, &shape, err);
    for (int unit = 0; unit < units && st == ST_OK; unit++)
        st = unit_fits(r, unit, &shape, &plan, level, whole, err);
    rowplan_fini(&plan);
    return st;
}

/* Where operations round: what a variant computes in, once what the blocks read has been widened. */
static void take_dtype(Pass *ps, const Variant *v)
{
    VariantDtype dtype = ps->r->ops.rounds && v ? v->dtype : VARIANT_MODEL;
    if (dtype != VARIANT_MODEL)
        ops_widen(&ps->ops);
    if (dtype == VARIANT_WIDE)
        ops_widen(&ps->front);
}

Status unit_forward(Runner *r, int unit, int from_block, int to_block, const Variant *v, const Stream *in, Stream *out,
                    const Observer *obs, int nobs, Error *err)
{
    RETURN_IF_ERROR(check_call(r, unit, from_block, to_block, nobs, err));
    double done = 0;
    PartRun u = part_of(r, unit, from_block, to_block, v, in, out, (TapHub){obs, nobs, r->opt.cancel}, &done);
    Pass *ps = &u.ps;
    ps->late = &u.late;
    Status st = start_unit(&u, err);
    runner_progress(r, "layer", unit, ps->layers, unit * ps->work_total, ps->layers * ps->work_total, false);
    take_dtype(ps, v);
    if (st == ST_OK)
        st = run_unit(&u, err);
    end_unit(&u);
    if (st == ST_OK)
        runner_progress(r, "layer", unit + 1, ps->layers, (unit + 1) * ps->work_total, ps->layers * ps->work_total,
                        true);
    return st;
}

Status runner_layer(Runner *r, int layer, const Variant *v, const Stream *in, Stream *out, const Observer *obs,
                    int nobs, Error *err)
{
    int n = layer >= 0 && layer < r->m->nunits ? r->m->units[layer].nblocks : 0;
    return unit_forward(r, layer, 0, n, v, in, out, obs, nobs, err);
}

/* ---- gradients ---- */

Status unit_has_gradients(const Model *m, int unit, Error *err)
{
    const Unit *u = &m->units[unit];
    for (int i = 0; i < u->nblocks; i++) {
        const BlockOps *ops = block_ops(u->block[i].type);
        const Block *join = u->block[i].join;
        const BlockOps *joins = join ? block_ops(join->type) : NULL;
        if (!ops || !ops->backward)
            return error_set(err, ST_USAGE, "no gradients through %s yet (layer %d)", u->block[i].type->name, unit);
        if (joins && !joins->write_back)
            return error_set(err, ST_USAGE, "no gradients through %s yet (layer %d)", join->type->name, unit);
        if (u->block[i].spec->late && !ops->whole)
            return error_set(err, ST_USAGE, "no gradients through %s that is added behind its layer's last block yet "
                             "(layer %d)", u->block[i].type->name, unit);
    }
    return ST_OK;
}

static Status backward_chunks(PartRun *u, Error *err)
{
    Pass *ps = &u->ps;
    const BlockOps *ops = u->block[0].ops;
    if (ops->whole)
        return run_whole(u, 0, ops->backward, err);
    RETURN_IF_ERROR(scratch_reserve(ps->r, u->scratch, err));
    for (ps->b0 = 0; ps->b0 < ps->plan.n; ps->b0 = ps->b1) {
        take_chunk(u);
        ChunkBuffers b = chunk_buffers(u, 0);
        RETURN_IF_ERROR(ops->backward(ps, &u->block[0], &b, err));
    }
    return ST_OK;
}

Status unit_block_backward(Runner *r, int unit, int block, const Variant *v, const Stream *in, Stream *grad, Stream *end,
                           const GradHooks *hooks, Error *err)
{
    RETURN_IF_ERROR(check_call(r, unit, block, block + 1, 0, err));
    RETURN_IF_ERROR(unit_has_gradients(r->m, unit, err));
    double done = 0;
    PartRun u = part_of(r, unit, block, block + 1, v, in, grad, (TapHub){NULL, 0, r->opt.cancel}, &done);
    u.ps.late = &u.late;
    PassGrad room = {.hooks = hooks, .late = end ? end->data : NULL};
    if (in->past)
        return error_set(err, ST_INTERNAL, "no gradients through texts that go on");
    if (!end != !r->m->units[unit].block[block].spec->late)
        return error_set(err, ST_INTERNAL, "block %d of layer %d: what is added behind the last block has a gradient of its "
                         "own", block, unit);
    u.ps.grad = &room;
    Status st = start_unit(&u, err);
    ops_widen(&u.ps.ops);
    ops_widen(&u.ps.front);
    if (st == ST_OK)
        st = passgrad_init(&room, u.ps.u, r->m->linears, ops_gemms(&u.ps.ops), err);
    if (st == ST_OK)
        st = make_room(&u, true, err);
    if (st == ST_OK)
        st = backward_chunks(&u, err);
    passgrad_fini(&room);
    end_unit(&u);
    return st;
}

int unit_first_late(const Unit *u)
{
    int k = 0;
    while (k < u->nblocks && !u->block[k].spec->late)
        k++;
    return k;
}
