#include "run/engine.h"

/* Whole weights for those who quantize them: read through the runner's feed, so that the next one is read while this
 * one is worked on. */

enum { WIDEN_ROWS = 128 };

typedef struct WidenRun {
    Runner *r;
    const Linear *lin;
    const void *raw, *scale;
    float *w;
} WidenRun;

static FeedPiece whole_piece(const Linear *l)
{
    WeightSpan s = weight_span(l, 0, l->out);
    FeedPiece p = {.nseg = 1, .seg = {{l->weight, s.begin, s.n}}};
    if (l->store)
        p.seg[p.nseg++] = (struct FeedSegment){l->store->scale, s.scale_begin, s.scale_n};
    return p;
}

static void widen_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const WidenRun *j = ctx;
    const Linear *l = j->lin;
    const Ops *ops = &j->r->ops;
    int64_t r0 = index * WIDEN_ROWS, rows = l->out - r0 < WIDEN_ROWS ? l->out - r0 : WIDEN_ROWS;
    float *w = j->w + r0 * l->in;
    weight_decode(ops->k, l, 0, j->raw, j->scale, r0, rows, w);
    if (weight_dtype(l) != ops->dtype)
        ops_round(ops, w, rows * l->in);
}

Status runner_weight(Runner *r, int64_t linear, int64_t ahead, float *w, Error *err)
{
    const Linear *l = &r->m->linears[linear];
    if (!weight_readable(l))
        return error_set(err, ST_DATA, "%s: weights of type %s cannot be run", l->weight->name,
                         dtype_name(l->weight->dtype));
    RETURN_IF_ERROR(weight_verify(r->m, l, err));
    FeedPiece p = whole_piece(l);
    const void *data[FEED_SEGMENTS];
    RETURN_IF_ERROR(feed_take(r->feed, &p, data, r->opt.cancel, err));
    if (ahead >= 0) {
        FeedPiece next = whole_piece(&r->m->linears[ahead]);
        feed_want(r->feed, &next);
    }
    WidenRun j = {r, l, data[0], l->store ? data[1] : NULL, w};
    Batch b = {.n = 0};
    batch_add(&b, widen_task, &j, (l->out + WIDEN_ROWS - 1) / WIDEN_ROWS);
    Status st = batch_run(&b, r->opt.pool, r->opt.cancel, err);
    feed_done(r->feed);
    return st;
}

Status runner_bias(Runner *r, int64_t linear, float **b, Error *err)
{
    const Linear *l = &r->m->linears[linear];
    *b = NULL;
    if (!l->bias)
        return ST_OK;
    return l->out_step ? load_values(r, &r->ops, l->bias, l->bias_at, l->bias_step, l->out, b, err)
                       : load_vector(r, &r->ops, l->bias, b, err);
}
