#include "run/taps.h"

/* Values in one tile: about a millisecond of an observer's work, so that a cancel is seen soon. */
enum { TILE_VALUES = 1 << 18 };

uint64_t taps_wanted(const TapHub *h, Tap tap)
{
    uint64_t mask = 0;
    for (int i = 0; i < h->nobs; i++) {
        const ObserverOps *o = h->obs[i].ops;
        if (o->wants_tap && o->wants_tap(h->obs[i].self, tap))
            mask |= (uint64_t)1 << i;
    }
    return mask;
}

uint64_t taps_weight_wanted(const TapHub *h, int64_t linear)
{
    uint64_t mask = 0;
    for (int i = 0; i < h->nobs; i++) {
        const ObserverOps *o = h->obs[i].ops;
        if (o->wants_weight && o->wants_weight(h->obs[i].self, linear))
            mask |= (uint64_t)1 << i;
    }
    return mask;
}

static bool in_mask(uint64_t mask, int i)
{
    return mask >> i & 1;
}

Status taps_begin(const TapHub *h, uint64_t mask, Tap tap, const Stream *shape, int64_t width, Error *err)
{
    for (int i = 0; i < h->nobs; i++) {
        const Observer *o = &h->obs[i];
        if (in_mask(mask, i) && o->ops->tap_begin)
            RETURN_IF_ERROR(o->ops->tap_begin(o->self, tap, shape->samples, shape->start, width, err));
    }
    return ST_OK;
}

Status taps_end(const TapHub *h, uint64_t mask, Tap tap, Error *err)
{
    for (int i = 0; i < h->nobs; i++) {
        const Observer *o = &h->obs[i];
        if (in_mask(mask, i) && o->ops->tap_end)
            RETURN_IF_ERROR(o->ops->tap_end(o->self, tap, err));
    }
    return ST_OK;
}

Status taps_weight_begin(const TapHub *h, uint64_t mask, int64_t linear, int panels, Error *err)
{
    for (int i = 0; i < h->nobs; i++) {
        const Observer *o = &h->obs[i];
        if (in_mask(mask, i) && o->ops->weight_begin)
            RETURN_IF_ERROR(o->ops->weight_begin(o->self, linear, panels, err));
    }
    return ST_OK;
}

Status taps_weight_end(const TapHub *h, uint64_t mask, int64_t linear, Error *err)
{
    for (int i = 0; i < h->nobs; i++) {
        const Observer *o = &h->obs[i];
        if (in_mask(mask, i) && o->ops->weight_end)
            RETURN_IF_ERROR(o->ops->weight_end(o->self, linear, err));
    }
    return ST_OK;
}

bool taps_energy_wanted(const TapHub *h, uint64_t mask)
{
    for (int i = 0; i < h->nobs; i++)
        if (in_mask(mask, i) && h->obs[i].ops->output_energy)
            return true;
    return false;
}

Status taps_energy(const TapHub *h, uint64_t mask, int64_t linear, const double *sums, int64_t n, int64_t rows,
                   Error *err)
{
    for (int i = 0; i < h->nobs; i++) {
        const Observer *o = &h->obs[i];
        if (in_mask(mask, i) && o->ops->output_energy)
            RETURN_IF_ERROR(o->ops->output_energy(o->self, linear, sums, n, rows, err));
    }
    return ST_OK;
}

Status taps_layer_end(const TapHub *h, int layer, Error *err)
{
    for (int i = 0; i < h->nobs; i++) {
        const Observer *o = &h->obs[i];
        if (o->ops->layer_end)
            RETURN_IF_ERROR(o->ops->layer_end(o->self, layer, err));
    }
    return ST_OK;
}

Status taps_gather(const Observer *o, int layer, const Ranks *ranks, Error *err)
{
    Pack mine = {0};
    const Pack *const *all;
    int n = 0;
    if (!o->ops->pack || !o->ops->merge)
        return error_set(err, ST_INTERNAL, "'%s' has to see all samples itself: it can't be divided", o->ops->name);
    Status st = o->ops->pack(o->self, layer, &mine, err);
    if (st == ST_OK)
        st = ranks->gather(ranks->ctx, &mine, &all, &n, err);
    for (int i = 0; st == ST_OK && i < n; i++) {
        Unpack in = unpack_of(all[i]);
        st = o->ops->merge(o->self, layer, &in, err);
        if (st == ST_OK && (in.bad || in.at != in.end))
            st = error_set(err, ST_INTERNAL, "'%s': what rank %d packed is not whole", o->ops->name, i);
    }
    pack_fini(&mine);
    return st;
}

void taps_task(void *feed, int64_t sample, int worker)
{
    (void)worker;
    const TapFeed *f = feed;
    int s = f->s0 + (int)sample;
    int64_t rows = f->shape->start[s + 1] - f->shape->start[s];
    const float *x = f->x + (f->shape->start[s] - f->row0) * f->ld;
    int64_t step = f->width > 0 && f->width < TILE_VALUES ? TILE_VALUES / f->width : 1;
    for (int64_t r = 0; r < rows && !cancel_level(f->hub->cancel); r += step) {
        int64_t n = rows - r < step ? rows - r : step;
        for (int i = 0; i < f->hub->nobs; i++) {
            const Observer *o = &f->hub->obs[i];
            if (in_mask(f->mask, i) && o->ops->tap_tile)
                o->ops->tap_tile(o->self, f->tap, s, r, x + r * f->ld, n, f->width, f->ld);
        }
    }
}

void taps_weight_panel(const TapHub *h, uint64_t mask, int64_t linear, int panel, int64_t row0, int64_t rows,
                       const float *w, int64_t in)
{
    for (int i = 0; i < h->nobs; i++) {
        const Observer *o = &h->obs[i];
        if (in_mask(mask, i) && o->ops->weight_panel)
            o->ops->weight_panel(o->self, linear, panel, row0, rows, w, in);
    }
}

void batch_add(Batch *b, Phase phase, PoolTask *fn, void *ctx, int64_t n)
{
    if (n > 0 && b->n < BATCH_MAX)
        b->part[b->n] = (struct BatchPart){phase, fn, ctx, n};
    b->n += n > 0;
}

static void batch_task(void *ctx, int64_t index, int worker)
{
    const Batch *b = ctx;
    for (int i = 0; i < b->n; i++) {
        if (index < b->part[i].n) {
            Phase was = profile_enter(b->profile, worker, b->part[i].phase);
            b->part[i].fn(b->part[i].ctx, index, worker);
            profile_leave(b->profile, worker, was);
            return;
        }
        index -= b->part[i].n;
    }
}

Status batch_run(Batch *b, Pool *pool, const Cancel *cancel, Error *err)
{
    int64_t n = 0;
    if (b->n > BATCH_MAX)
        return error_set(err, ST_INTERNAL, "%d kinds of task in one batch, at most %d", b->n, BATCH_MAX);
    for (int i = 0; i < b->n; i++)
        n += b->part[i].n;
    b->profile = pool_profile(pool);
    if (!cancel_level(cancel))
        pool_run(pool, PHASE_OTHER, n, batch_task, b, cancel);
    b->n = 0;
    return cancel_check(cancel, err);
}
