#include "run/engine.h"

/* Whole weights for those who quantize them: read through the runner's feed, so that the next one is read while this
 * one is worked on. */

enum { WIDEN_ROWS = 128 };

typedef struct WidenRun {
    Runner *r;
    const Linear *lin;
    const unsigned char *raw;
    float *w;
} WidenRun;

static FeedPiece whole_piece(const Linear *l)
{
    uint64_t size = (uint64_t)dtype_size(l->weight->dtype);
    FeedPiece p = {.nseg = 1, .seg = {{l->weight, 0, (uint64_t)(l->out * l->in) * size}}};
    if (l->out_step) {
        p.seg[0].begin = (uint64_t)l->at * size;
        p.seg[0].n = (uint64_t)((l->out - 1) * l->out_step + (l->in - 1) * l->in_step + 1) * size;
    }
    return p;
}

static void widen_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const WidenRun *j = ctx;
    const Linear *l = j->lin;
    size_t size = (size_t)dtype_size(l->weight->dtype);
    int64_t r0 = index * WIDEN_ROWS, rows = l->out - r0 < WIDEN_ROWS ? l->out - r0 : WIDEN_ROWS;
    float *w = j->w + r0 * l->in;
    if (!l->out_step) {
        ops_widen(&j->r->ops, l->weight->dtype, j->raw + (size_t)(r0 * l->in) * size, rows * l->in, w);
        return;
    }
    for (int64_t o = 0; o < rows; o++)
        for (int64_t i = 0; i < l->in; i++) {
            float one[1];
            const unsigned char *src = j->raw + (size_t)((r0 + o) * l->out_step + i * l->in_step) * size;
            ops_widen(&j->r->ops, l->weight->dtype, src, 1, one);
            w[o * l->in + i] = one[0];
        }
}

Status runner_weight(Runner *r, int64_t linear, int64_t ahead, float *w, Error *err)
{
    const Linear *l = &r->m->linears[linear];
    if (!ops_can_widen(l->weight->dtype))
        return error_set(err, ST_DATA, "%s: weights of type %s cannot be run", l->weight->name,
                         dtype_name(l->weight->dtype));
    FeedPiece p = whole_piece(l);
    const void *data[FEED_SEGMENTS];
    RETURN_IF_ERROR(feed_take(r->feed, &p, data, r->opt.cancel, err));
    if (ahead >= 0) {
        FeedPiece next = whole_piece(&r->m->linears[ahead]);
        feed_want(r->feed, &next);
    }
    WidenRun j = {r, l, data[0], w};
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
    return l->out_step ? load_values(r, l->bias, l->bias_at, l->bias_step, l->out, b, err)
                       : load_vector(r, l->bias, b, err);
}
