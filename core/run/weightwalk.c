#include "run/weightwalk.h"

#include <string.h>

#include "base/num.h"
#include "run/pass.h"

/* Enough that handing a block out costs nothing, few enough that it stays in a core's cache with a copy of it. */
enum { BLOCK_VALUES = 1 << 16 };

int64_t weightwalk_rows(int64_t in)
{
    return max_i64(1, BLOCK_VALUES / max_i64(in, 1));
}

int64_t weightwalk_blocks(int64_t out, int64_t in)
{
    return div_up(out, weightwalk_rows(in));
}

int64_t weightwalk_values(const Model *m)
{
    int64_t most = 0;
    for (int64_t i = 0; i < m->nlinears; i++)
        most = max_i64(most, min_i64(weightwalk_rows(m->linears[i].in), m->linears[i].out) * m->linears[i].in);
    return most;
}

static uint64_t span_bytes(const SourceWeight *w, int64_t r0, int64_t r1)
{
    WeightSpan s = source_span(w, r0, r1);
    return s.n + s.scale_n;
}

/* Rows read at once under the limit: whole blocks. Where a row cannot be read without all the others, all. */
static int64_t piece_rows(const SourceWeight *w, uint64_t limit)
{
    int64_t out = w->linear->out, block = min_i64(weightwalk_rows(w->linear->in), out);
    uint64_t all = span_bytes(w, 0, out), one = span_bytes(w, 0, block), most = feed_piece_max(limit);
    if (all <= most || one >= all)
        return out;
    return min_i64(out, (int64_t)max_u64(1, most / one) * block);
}

Status weightwalk_begin(WeightWalk *w, Runner *r, int64_t linear, int64_t ahead, Error *err)
{
    const Linear *l = &r->m->linears[linear];
    *w = (WeightWalk){.r = r, .ahead = ahead};
    RETURN_IF_ERROR(source_check(&r->src, l, err));
    w->weight = source_weight(&r->src, l);
    RETURN_IF_ERROR(source_prepare(&w->weight, &r->ops, NULL, r->opt.pool, r->opt.cancel, err));
    w->block = weightwalk_rows(l->in);
    w->piece = piece_rows(&w->weight, r->opt.mem_limit);
    return workers_reserve(r, &(WorkerNeed){.rows = (size_t)(min_i64(w->block, l->out) * l->in),
                                            .edit = source_scratch(&w->weight)}, err);
}

/* What is read while rows [0, end) of a sweep are looked at. */
static void want_next(WeightWalk *w, int64_t end)
{
    const Linear *l = w->weight.linear;
    FeedPiece next = {.nseg = 0};
    if (end < l->out) {
        next = source_piece(&w->weight, end, min_i64(l->out, end + w->piece));
    } else if (w->piece >= l->out && w->ahead >= 0) { /* of several pieces the first may be wanted again */
        SourceWeight after = source_weight(&w->r->src, &w->r->m->linears[w->ahead]);
        next = source_piece(&after, 0, min_i64(after.linear->out, piece_rows(&after, w->r->opt.mem_limit)));
    }
    if (next.nseg)
        feed_want(w->r->feed, &next);
}

typedef struct Blocks {
    WeightWalk *w;
    int64_t first, end; /* rows of the piece */
    WeightBlockFn *fn;
    void *ctx;
} Blocks;

static void block_task(void *ctx, int64_t i, int worker)
{
    const Blocks *b = ctx;
    const WeightWalk *w = b->w;
    Worker *wk = &w->r->worker[worker];
    int64_t r0 = b->first + i * w->block, rows = min_i64(w->block, b->end - r0);
    source_decode(&w->weight, &w->r->ops, b->first, w->data[0], w->data[1], r0, rows, wk->edit, wk->rows);
    Phase was = worker_enter(wk, PHASE_STATISTICS);
    b->fn(b->ctx, &(WeightBlock){.index = r0 / w->block, .row0 = r0, .rows = rows, .w = wk->rows, .worker = worker});
    worker_leave(wk, was);
}

static void let_go(WeightWalk *w)
{
    if (w->held)
        feed_done(w->r->feed);
    w->held = false;
}

Status weightwalk_sweep(WeightWalk *w, WeightBlockFn *fn, void *ctx, Error *err)
{
    int64_t out = w->weight.linear->out;
    for (int64_t r0 = 0; r0 < out; r0 += w->piece) {
        Blocks b = {w, r0, min_i64(out, r0 + w->piece), fn, ctx};
        if (!w->held) {
            FeedPiece p = source_piece(&w->weight, r0, b.end);
            RETURN_IF_ERROR(feed_take(w->r->feed, &p, w->data, w->r->opt.cancel, err));
            w->held = true;
            want_next(w, b.end);
        }
        Batch batch = {.n = 0};
        batch_add(&batch, PHASE_DECODE, block_task, &b, div_up(b.end - r0, w->block));
        RETURN_IF_ERROR(batch_run(&batch, w->r->opt.pool, w->r->opt.cancel, err));
        if (w->piece < out)
            let_go(w);
    }
    return ST_OK;
}

void weightwalk_end(WeightWalk *w)
{
    let_go(w);
    source_release(&w->weight);
}

uint64_t weightwalk_bytes(const Model *m, uint64_t limit, int threads, bool turned)
{
    const Source src = {.model = m};
    uint64_t piece = 0;
    for (int64_t i = 0; i < m->nlinears; i++) {
        SourceWeight w = source_weight(&src, &m->linears[i]);
        piece = max_u64(piece, span_bytes(&w, 0, piece_rows(&w, limit)));
    }
    /* one at work, one read ahead, and what the allocator keeps of one that was outgrown */
    return 3 * piece + (uint64_t)threads * (uint64_t)weightwalk_values(m) * sizeof(float) +
           (turned ? runner_whole_bytes(m, threads) : 0);
}
