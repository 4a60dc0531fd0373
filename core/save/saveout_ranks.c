#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"
#include "dist/deal.h"
#include "dist/dist.h"
#include "save/saveout.h"

/* Several ranks that write one output: what each of them copies, and what they learn of each other. */

/* ---- float tensors ---- */

static bool is_copied(const SaveOut *s, const SaveItem *it)
{
    return it->kind == SI_TENSOR || save_is_added(it) || (it->kind == SI_LINEAR && s->plan->level[it->linear] <= 0);
}

static uint64_t item_bytes(const SaveOut *s, size_t item)
{
    uint64_t sum = 0;
    for (size_t t = (size_t)s->tensor_of[item]; t < s->layout.n && s->layout.t[t].item == (int32_t)item; t++)
        sum += s->layout.t[t].nbytes;
    return sum;
}

static Status deal_layer(SaveOut *s, int layer, int64_t *item, uint64_t *cost, int32_t *rank, Error *err)
{
    int64_t n = 0;
    for (size_t i = 0; i < s->walk.n; i++)
        if (s->walk.items[i].layer == layer && is_copied(s, &s->walk.items[i])) {
            cost[n] = item_bytes(s, i);
            item[n++] = (int64_t)i;
        }
    RETURN_IF_ERROR(deal_out(cost, n, NULL, dist_size(s->plan->dist), layer + 1, rank, err));
    for (int64_t k = 0; k < n; k++)
        s->rank_of[item[k]] = rank[k];
    return ST_OK;
}

Status saveout_deal(SaveOut *s, Error *err)
{
    if (dist_size(s->plan->dist) == 1)
        return ST_OK;
    int64_t *item = mem_array(s->walk.n, sizeof *item);
    uint64_t *cost = mem_array(s->walk.n, sizeof *cost);
    int32_t *rank = mem_array(s->walk.n, sizeof *rank);
    s->rank_of = mem_zarray(s->walk.n, sizeof *s->rank_of);
    Status st = item && cost && rank && s->rank_of ? ST_OK : error_nomem(err, "the list of tensors");
    for (int layer = -1; st == ST_OK && layer < model_depth(s->plan->model); layer++)
        st = deal_layer(s, layer, item, cost, rank, err);
    free(item);
    free(cost);
    free(rank);
    return st;
}

bool saveout_copies(const SaveOut *s, size_t item)
{
    return !s->rank_of || s->rank_of[item] == dist_rank(s->plan->dist);
}

/* ---- opening ---- */

/* What rank 0 found, for all. */
typedef struct Opening {
    unsigned char mark[16]; /* of the folder that it opened (store_mark) */
    int32_t resume, finished, is_ready, changed, packed, layers_done;
} Opening;

static Status make_mark(const SaveOut *s, unsigned char *mark, size_t n, Error *err)
{
    if (getrandom(mark, n, 0) != (ssize_t)n)
        return error_set(err, ST_IO, "the system gives no random numbers");
    return store_mark(&s->store, mark, n, err);
}

static Status take_opening(SaveOut *s, const Opening *o, bool *resume, Error *err)
{
    *resume = o->resume;
    s->finished = o->finished;
    s->is_ready = o->is_ready;
    s->changed = o->changed;
    s->layers_done = o->layers_done;
    if (o->packed && !(s->packed = mem_zarray((size_t)s->layout.files, 1)))
        return error_nomem(err, "the list of files");
    return s->finished ? ST_OK : store_join(&s->store, s->plan->dir, s->format->type, &s->layout, o->mark, sizeof o->mark, err);
}

Status saveout_join(SaveOut *s, bool *resume, Error *err)
{
    Dist *d = s->plan->dist;
    Opening o = {.resume = *resume, .finished = s->finished, .is_ready = s->is_ready, .changed = s->changed,
                 .packed = s->packed != NULL, .layers_done = s->layers_done};
    if (dist_leads(d) && !s->finished)
        RETURN_IF_ERROR(make_mark(s, o.mark, sizeof o.mark, err));
    RETURN_IF_ERROR(dist_from_first(d, &o, sizeof o, err));
    RETURN_IF_ERROR(dist_from_first(d, s->state, (size_t)s->plan->model->nlinears, err));
    if (!dist_leads(d))
        RETURN_IF_ERROR(take_opening(s, &o, resume, err));
    return dist_meet(d, err);
}

/* ---- a layer ---- */

Status saveout_gather(SaveOut *s, int layer, Error *err)
{
    Dist *d = s->plan->dist;
    const Unit *u = &s->plan->model->units[layer];
    uint8_t *state = s->state + u->first;
    Pack mine = {0}, *all;
    pack_put(&mine, state, (size_t)u->count);
    Status st = dist_gather_all(d, &mine, &all, err);
    pack_fini(&mine);
    for (int r = 0; st == ST_OK && r < dist_size(d); r++)
        for (size_t i = 0; i < all[r].len && i < (size_t)u->count; i++) {
            state[i] |= all[r].data[i];
            s->changed = s->changed || (state[i] & (SAVE_KEPT_FLOAT | SAVE_NO_ZERO));
        }
    dist_packs_free(all, dist_size(d));
    return st;
}
