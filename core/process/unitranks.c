#include "process/unitranks.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "process/pipeline.h"

/* ---- what every rank has ---- */

/* Of the block at work: the rows of every expert on every rank. */
static Status routed(void *self, const int64_t *rows, int64_t *all, int n, Error *err)
{
    UnitRanks *r = self;
    Pack mine = {0}, *packs = NULL;
    if (n > r->experts)
        return error_set(err, ST_INTERNAL, "%d experts in a block, at most %d in the model", n, r->experts);
    pack_put(&mine, rows, (size_t)n * sizeof *rows);
    Status st = dist_gather_all(r->dist, &mine, &packs, err);
    pack_fini(&mine);
    memset(r->before, 0, (size_t)n * sizeof *r->before);
    memset(r->all, 0, (size_t)n * sizeof *r->all);
    for (int k = 0; st == ST_OK && k < dist_size(r->dist); k++) {
        Unpack in = unpack_of(&packs[k]);
        for (int e = 0; e < n; e++) {
            const int64_t own = unpack_i64(&in);
            r->before[e] += k < dist_rank(r->dist) ? own : 0;
            r->all[e] += own;
        }
    }
    dist_packs_free(packs, dist_size(r->dist));
    memcpy(all, r->all, (size_t)n * sizeof *all);
    return st;
}

/* The lengths of all texts, from those of every rank's. */
static Status gather_texts(UnitRanks *r, const TokenSet *mine, Error *err)
{
    Pack own = {0}, *packs = NULL;
    for (int s = 0; s < mine->samples; s++)
        pack_i64(&own, mine->start[s + 1] - mine->start[s]);
    Status st = dist_gather_all(r->dist, &own, &packs, err);
    pack_fini(&own);
    for (int k = 0; st == ST_OK && k < dist_size(r->dist); k++)
        r->cut[k + 1] = r->cut[k] + (int64_t)(packs[k].len / sizeof(int64_t));
    r->first = (int)r->cut[dist_rank(r->dist)];
    r->samples = (int)r->cut[dist_size(r->dist)];
    r->start = st == ST_OK ? mem_zarray((size_t)r->samples + 1, sizeof *r->start) : NULL;
    if (st == ST_OK && !r->start)
        st = error_nomem(err, "the texts of all ranks");
    for (int k = 0, s = 0; st == ST_OK && k < dist_size(r->dist); k++) {
        Unpack in = unpack_of(&packs[k]);
        for (; in.at != in.end; s++)
            r->start[s + 1] = r->start[s] + unpack_i64(&in);
    }
    dist_packs_free(packs, dist_size(r->dist));
    return st;
}

Status unit_ranks_init(UnitRanks *r, Dist *dist, const TokenSet *mine, const Model *m, Error *err)
{
    *r = (UnitRanks){0};
    if (dist_size(dist) == 1 || !mine)
        return ST_OK;
    *r = (UnitRanks){.dist = dist, .route = {routed, r}};
    for (int u = 0; u < m->nunits; u++)
        r->experts = m->units[u].cfg->moe.experts > r->experts ? m->units[u].cfg->moe.experts : r->experts;
    r->before = mem_zarray((size_t)r->experts, sizeof *r->before);
    r->all = mem_zarray((size_t)r->experts, sizeof *r->all);
    r->pack = mem_array((size_t)dist_size(dist), sizeof *r->pack);
    r->cut = mem_zarray((size_t)dist_size(dist) + 1, sizeof *r->cut);
    if (!r->before || !r->all || !r->pack || !r->cut)
        return error_nomem(err, "the texts of all ranks");
    return gather_texts(r, mine, err);
}

void unit_ranks_fini(UnitRanks *r)
{
    dist_packs_free(r->packs, dist_size(r->dist));
    free(r->start);
    free(r->cut);
    free(r->before);
    free(r->all);
    free(r->pack);
    *r = (UnitRanks){0};
}

const RouteForm *unit_ranks_route(const UnitRanks *r)
{
    return r->dist ? &r->route : NULL;
}

/* ---- for processors ---- */

static UnitRanks *ranks_of(const UnitRun *u)
{
    return u && u->run ? unit_ranks(u) : NULL;
}

Dist *unit_dist(const UnitRun *u)
{
    const UnitRanks *r = ranks_of(u);
    return r ? r->dist : NULL;
}

static Status gather_packs(void *ctx, const Pack *mine, const Pack *const **all, int *n, Error *err)
{
    UnitRanks *r = ctx;
    dist_packs_free(r->packs, dist_size(r->dist));
    r->packs = NULL;
    RETURN_IF_ERROR(dist_gather_all(r->dist, mine, &r->packs, err));
    *n = dist_size(r->dist);
    for (int k = 0; k < *n; k++)
        r->pack[k] = &r->packs[k];
    *all = r->pack;
    return ST_OK;
}

Status unit_gather(const UnitRun *u, Observer o, Error *err)
{
    UnitRanks *r = ranks_of(u);
    if (!r)
        return ST_OK;
    const Ranks ranks = {.gather = gather_packs, .ctx = r, .dist = r->dist};
    Status st = taps_gather(&o, u->unit, &ranks, err);
    dist_packs_free(r->packs, dist_size(r->dist));
    r->packs = NULL;
    return st;
}

Status unit_place(const UnitRun *u, int64_t linear, int64_t rows, UnitPlace *out, Error *err)
{
    const UnitRanks *r = ranks_of(u);
    *out = (UnitPlace){0, rows};
    if (!r)
        return ST_OK;
    const int expert = u->model->linears[linear].expert;
    const int64_t before = r->start[r->first], mine = unit_input(u)->rows, all = r->start[r->samples];
    if (expert >= 0)
        *out = (UnitPlace){r->before[expert], r->all[expert]};
    else if (mine && rows % mine == 0)
        *out = (UnitPlace){before * (rows / mine), all * (rows / mine)};
    else
        return error_set(err, ST_INTERNAL, "'%s' reads %lld rows of %lld tokens: ranks can't tell theirs apart",
                         u->model->linears[linear].name, (long long)rows, (long long)mine);
    return ST_OK;
}

int unit_samples(const UnitRun *u)
{
    const UnitRanks *r = ranks_of(u);
    return r ? r->samples : unit_input(u)->samples;
}

/* ---- beginnings of the unit's input ---- */

/* Sample i of n that are spread over all, and how many of its rows are meant. */
static int64_t spread(const UnitRanks *r, int i, int n, int64_t rows, int *sample)
{
    *sample = (int)((int64_t)i * r->samples / n);
    return min_i64(r->start[*sample + 1] - r->start[*sample], rows);
}

/* Rows of this rank's samples among them, with ids and choices. */
static void pack_beginnings(const UnitRanks *r, const Stream *h, int n, int64_t rows, Pack *out)
{
    const int64_t words = h->select ? h->select_words : 0;
    pack_i64(out, words);
    for (int i = 0; i < n; i++) {
        int sample;
        const int64_t k = spread(r, i, n, rows, &sample);
        if (sample < r->first || sample >= r->first + h->samples)
            continue;
        const int64_t from = h->start[sample - r->first];
        pack_put(out, h->data + from * h->width, (size_t)(k * h->width) * sizeof *h->data);
        if (h->ids)
            pack_put(out, h->ids + from, (size_t)k * sizeof *h->ids);
        if (words)
            pack_put(out, h->select + from * words, (size_t)(k * words) * sizeof *h->select);
    }
}

/* Choices of `words` words a row; 0: of a rank whose samples are all so short that every key before a row is chosen. */
static void take_choices(Stream *out, int64_t row, int64_t rows, int64_t words, Unpack *in)
{
    for (int64_t t = row; t < row + rows; t++) {
        uint32_t *to = out->select + t * out->select_words;
        memset(to, 0, (size_t)out->select_words * sizeof *to);
        if (words)
            unpack_get(in, to, (size_t)words * sizeof *to);
        for (int64_t k = 0; !words && k <= t - row; k++)
            to[k / 32] |= 1u << k % 32;
    }
}

static Status take_beginnings(const UnitRanks *r, const Pack *all, bool ids, int64_t keys, int n, int64_t rows, Stream *out,
                              Error *err)
{
    if (ids && !(out->ids = mem_array((size_t)out->rows + 1, sizeof *out->ids)))
        return error_nomem(err, "token ids");
    if (keys)
        RETURN_IF_ERROR(stream_reserve_select(out, keys, err));
    int i = 0;
    for (int k = 0; k < dist_size(r->dist); k++) {
        Unpack in = unpack_of(&all[k]);
        const int64_t words = unpack_i64(&in);
        for (int sample; i < n && in.at != in.end && !in.bad; i++) {
            const int64_t rank_rows = spread(r, i, n, rows, &sample), row = out->start[i];
            unpack_get(&in, out->data + row * out->width, (size_t)(rank_rows * out->width) * sizeof *out->data);
            if (ids)
                unpack_get(&in, out->ids + row, (size_t)rank_rows * sizeof *out->ids);
            if (keys)
                take_choices(out, row, rank_rows, words, &in);
        }
        if (in.bad || in.at != in.end)
            return error_set(err, ST_INTERNAL, "the beginnings of rank %d's texts are not whole", k);
    }
    return ST_OK;
}

static Status shape_beginnings(const UnitRanks *r, int n, int64_t rows, int64_t width, Stream *out, Error *err)
{
    int sample;
    int64_t *start = mem_zarray((size_t)n + 1, sizeof *start);
    for (int i = 0; start && i < n; i++)
        start[i + 1] = start[i] + spread(r, i, n, rows, &sample);
    Status st = start ? stream_init(out, n, start, width, err) : error_nomem(err, "hidden states");
    free(start);
    return st;
}

/* The most keys that a choice of some rank's is among; 0: no rank has any. */
static int64_t keys_of(const UnitRanks *r, const Pack *all)
{
    int64_t most = 0;
    for (int k = 0; k < dist_size(r->dist); k++) {
        Unpack in = unpack_of(&all[k]);
        most = max_i64(most, unpack_i64(&in) * 32);
    }
    return most;
}

Status unit_beginnings(const UnitRun *u, int n, int64_t rows, Stream *out, Error *err)
{
    const UnitRanks *r = ranks_of(u);
    const Stream *h = unit_input(u);
    Pack mine = {0}, *all = NULL;
    if (!r)
        return stream_beginnings(out, h, n, rows, err);
    *out = (Stream){0};
    pack_beginnings(r, h, n, rows, &mine);
    Status st = dist_gather_all(r->dist, &mine, &all, err);
    pack_fini(&mine);
    if (st == ST_OK)
        st = shape_beginnings(r, n, rows, h->width, out, err);
    if (st == ST_OK)
        st = take_beginnings(r, all, h->ids != NULL, keys_of(r, all), n, rows, out, err);
    dist_packs_free(all, dist_size(r->dist));
    if (st != ST_OK)
        stream_fini(out);
    return st;
}
