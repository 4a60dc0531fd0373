#include "run/pass.h"

#include "base/num.h"

/* Whole weights for those who quantize them: read through the runner's feed, so that the next one is read while this
 * one is worked on. */

enum { WIDEN_ROWS = 128 };

typedef struct WidenRun {
    Runner *r;
    const SourceWeight *weight;
    const void *raw, *scale;
    float *w;
} WidenRun;

static void widen_task(void *ctx, int64_t index, int worker)
{
    const WidenRun *j = ctx;
    const Linear *l = j->weight->linear;
    int64_t r0 = index * WIDEN_ROWS, rows = l->out - r0 < WIDEN_ROWS ? l->out - r0 : WIDEN_ROWS;
    source_decode(j->weight, &j->r->ops, 0, j->raw, j->scale, r0, rows, j->r->worker[worker].edit, j->w + r0 * l->in);
}

Status runner_weight(Runner *r, int64_t linear, int64_t ahead, float *w, Error *err)
{
    const Linear *l = &r->m->linears[linear];
    RETURN_IF_ERROR(source_check(&r->src, l, err));
    SourceWeight weight = source_weight(&r->src, l);
    if (source_whole(&weight))
        return source_prepare(&weight, &r->ops, w, r->opt.pool, r->opt.cancel, err);
    RETURN_IF_ERROR(workers_reserve(r, &(WorkerNeed){.edit = source_scratch(&weight)}, err));
    FeedPiece p = source_piece(&weight, 0, weight.linear->out);
    const void *data[FEED_SEGMENTS] = {NULL};
    RETURN_IF_ERROR(feed_take(r->feed, &p, data, r->opt.cancel, err));
    if (ahead >= 0) {
        SourceWeight after = source_weight(&r->src, &r->m->linears[ahead]);
        FeedPiece next = source_piece(&after, 0, after.linear->out);
        if (next.nseg)
            feed_want(r->feed, &next);
    }
    WidenRun j = {r, &weight, data[0], data[1], w};
    Batch b = {.n = 0};
    batch_add(&b, PHASE_DECODE, widen_task, &j, div_up(l->out, WIDEN_ROWS));
    Status st = batch_run(&b, r->opt.pool, r->opt.cancel, err);
    feed_done(r->feed);
    return st;
}

Status runner_bias(Runner *r, int64_t linear, float **b, Error *err)
{
    return source_bias(&r->src, &r->ops, &r->m->linears[linear], b, err);
}
