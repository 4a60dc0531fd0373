/* Passes over the model divided over ranks. */
#include "metric/divide.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "metric/metric.h"

/* ---- what a rank's part is ---- */

static void drop_packs(PassDivision *d)
{
    dist_packs_free(d->packs, dist_size(d->dist));
    free(d->pack);
    d->packs = NULL;
    d->pack = NULL;
}

/* Ranks.gather: on rank 0 what all packed, elsewhere nothing. */
static Status gather(void *ctx, const Pack *mine, const Pack *const **all, int *n, Error *err)
{
    PassDivision *d = ctx;
    drop_packs(d);
    *n = 0;
    RETURN_IF_ERROR(dist_gather(d->dist, mine, &d->packs, err));
    if (!d->packs)
        return ST_OK;
    d->pack = mem_array((size_t)dist_size(d->dist), sizeof *d->pack);
    if (!d->pack)
        return error_nomem(err, "what the ranks gathered");
    for (*n = 0; *n < dist_size(d->dist); ++*n)
        d->pack[*n] = &d->packs[*n];
    *all = d->pack;
    return ST_OK;
}

/* Whole layers with what is selected in them, by their weights. */
static Status take_layers(PassDivision *d, Error *err)
{
    const PassPlan *p = d->plan;
    const int size = dist_size(d->dist), rank = dist_rank(d->dist);
    d->own = mem_zarray((size_t)p->m->nlinears + 1, sizeof *d->own);
    if (!d->own)
        return error_nomem(err, "a share of the layers");
    double *load = mem_zarray((size_t)size, sizeof *load);
    if (!load)
        return error_nomem(err, "a share of the layers");
    d->idle = true;
    const Linear *l = p->m->linears;
    for (int64_t i = 0, next; i < p->m->nlinears; i = next) {
        double work = 0;
        for (next = i; next < p->m->nlinears && l[next].layer == l[i].layer; next++)
            work += !p->selected || p->selected[next] ? (double)l[next].in * (double)l[next].out : 0;
        const int to = share_taker(d->dist, load, work);
        for (int64_t k = i; k < next; k++) {
            d->own[k] = to == rank && (!p->selected || p->selected[k]);
            d->idle = d->idle && !d->own[k];
        }
    }
    free(load);
    return ST_OK;
}

PassDivides pass_divides(const PassPlan *p, int ranks)
{
    return p->pass->whole && p->pass->whole(p, ranks) ? DIVIDES_NOT : p->pass->divides;
}

Status pass_divide(PassDivision *d, PassPlan *p, Dist *dist, Error *err)
{
    *d = (PassDivision){.dist = dist, .plan = p, .tokens = p->tokens, .selected = p->selected, .before = p->ranks};
    if (dist_size(dist) == 1)
        return ST_OK;
    d->ranks = (Ranks){.gather = gather, .ctx = d, .dist = dist};
    switch (pass_divides(p, dist_size(dist))) {
    case DIVIDES_NOT:
        d->idle = !dist_leads(dist);
        break;
    case DIVIDES_SAMPLES:
        RETURN_IF_ERROR(share_init(&d->share, dist, p->tokens, err));
        d->ranks.share = &d->share;
        p->tokens = &d->share.mine;
        p->ranks = &d->ranks;
        break;
    case DIVIDES_UNITS:
        RETURN_IF_ERROR(take_layers(d, err));
        p->selected = d->own;
        break;
    case DIVIDES_ITSELF:
        p->ranks = &d->ranks;
        break;
    }
    return ST_OK;
}

void pass_divide_end(PassDivision *d)
{
    if (!d->plan)
        return;
    d->plan->tokens = d->tokens;
    d->plan->selected = d->selected;
    d->plan->ranks = d->before;
    drop_packs(d);
    share_fini(&d->share);
    free(d->own);
    *d = (PassDivision){0};
}

/* ---- the run ---- */

/* What this rank found, for the others. */
typedef struct Found {
    const PassSink *sink;
    Pack pack;
    int64_t total;
} Found;

static Status keep(void *ctx, const PassStep *step, Error *err)
{
    Found *f = ctx;
    f->total = step->total;
    if (!step->news)
        f->pack.len = 0;
    for (int64_t i = 0; i < step->nscore; i++) {
        pack_i64(&f->pack, metric_index(step->score[i].metric));
        pack_put(&f->pack, &step->score[i].s, sizeof step->score[i].s);
    }
    return f->sink->step(f->sink->ctx, step, err);
}

static Status hand_over(const PassDivision *d, Found *f, const Pack *all, Error *err)
{
    PassScore *score = NULL;
    size_t n = 0, cap = 0;
    Status st = ST_OK;
    for (int r = 0; st == ST_OK && r < dist_size(d->dist); r++) {
        Unpack in = unpack_of(&all[r]);
        while (r != dist_rank(d->dist) && st == ST_OK && in.at != in.end && !in.bad) {
            const int64_t at = unpack_i64(&in);
            if (!mem_grow(&score, &cap, n + 1, sizeof *score))
                st = error_nomem(err, "the scores of the ranks");
            else if (at < 0 || at >= metric_count())
                st = error_set(err, ST_INTERNAL, "scores of rank %d are of no metric", r);
            else
                unpack_get(&in, &score[n].s, sizeof score[n].s), score[n++].metric = metric_table[at];
        }
    }
    const PassStep step = {.done = f->total, .total = f->total, .news = true, .score = score, .nscore = (int64_t)n};
    if (st == ST_OK && n)
        st = f->sink->step(f->sink->ctx, &step, err);
    free(score);
    return st;
}

Status pass_run_divided(PassDivision *d, Runner *r, const PassSink *sink, Error *err)
{
    const PassPlan *p = d->plan;
    if (dist_size(d->dist) == 1)
        return p->pass->run(r, p, sink, err);
    Found f = {.sink = sink, .total = 1};
    Status st = d->idle ? ST_OK : p->pass->run(r, p, &(PassSink){keep, &f}, err);
    Pack *all = NULL;
    if (st == ST_OK)
        st = dist_gather_all(d->dist, &f.pack, &all, err);
    if (st == ST_OK)
        st = hand_over(d, &f, all, err);
    dist_packs_free(all, dist_size(d->dist));
    pack_fini(&f.pack);
    return st;
}
