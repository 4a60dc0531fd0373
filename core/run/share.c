#include "run/share.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "run/rowplan.h"

/* Bands of the texts; -1 without memory. */
static int64_t whole_bands(const TokenSet *t, RowPlan *p, Error *err)
{
    const Stream shape = {.samples = t->samples, .rows = t->start[t->samples], .start = t->start};
    int64_t n = 0;
    if (rowplan_make(p, &shape, err) != ST_OK)
        return -1;
    for (int64_t b = 1; b <= p->n; b++) /* those that end inside of a sample are no place to cut */
        if (p->sample[b] >= 0) {
            p->start[++n] = p->start[b];
            p->sample[n] = p->sample[b];
        }
    return n;
}

/* The band that ends nearest to `rows`, of (from, most]. */
static int64_t nearest(const RowPlan *p, int64_t rows, int64_t from, int64_t most)
{
    int64_t best = from + 1;
    while (best < most && llabs(p->start[best + 1] - rows) <= llabs(p->start[best] - rows))
        best++;
    return best;
}

Status share_cuts(const TokenSet *t, int size, int *cut, Error *err)
{
    RowPlan p;
    const int64_t bands = whole_bands(t, &p, err), rows = t->start[t->samples];
    if (bands < 0)
        return ST_NOMEM;
    const int some = bands < size ? (int)bands : size;
    int64_t at = 0;
    cut[0] = 0;
    for (int r = 1; r < size; r++) {
        if (r < some)
            at = nearest(&p, rows * r / some, at, bands - (some - r));
        cut[r] = r < some ? p.sample[at] : t->samples;
    }
    cut[size] = t->samples;
    rowplan_fini(&p);
    return ST_OK;
}

bool share_all_have(const TokenSet *t, int size)
{
    RowPlan p;
    const int64_t bands = whole_bands(t, &p, NULL);
    rowplan_fini(&p);
    return bands >= size;
}

Status share_init(Share *s, Dist *d, const TokenSet *whole, Error *err)
{
    const int size = dist_size(d), rank = dist_rank(d);
    int *cut = mem_array((size_t)size + 1, sizeof *cut);
    *s = (Share){.dist = d, .whole = whole, .mine = *whole};
    s->mine.start = NULL;
    Status st = cut ? share_cuts(whole, size, cut, err) : error_nomem(err, "a share of the texts");
    if (st == ST_OK) {
        s->first = cut[rank];
        s->mine.samples = cut[rank + 1] - cut[rank];
        s->mine.ids = whole->ids + whole->start[s->first];
        s->mine.item = whole->item ? whole->item + s->first : NULL;
        s->mine.start = mem_array((size_t)s->mine.samples + 1, sizeof *s->mine.start);
        for (int i = 0; s->mine.start && i <= s->mine.samples; i++)
            s->mine.start[i] = whole->start[s->first + i] - whole->start[s->first];
        st = s->mine.start ? ST_OK : error_nomem(err, "a share of the texts");
    }
    free(cut);
    return st;
}

/* Rows of sample i of n that are spread over all, at most `rows`. */
static int64_t begins(const TokenSet *t, int i, int n, int64_t rows, int *sample)
{
    *sample = (int)((int64_t)i * t->samples / n);
    const int64_t all = t->start[*sample + 1] - t->start[*sample];
    return all < rows ? all : rows;
}

static Status gather_beginnings(const Share *s, const Stream *h, int n, int64_t rows, Pack **all, Error *err)
{
    Pack mine = {0};
    for (int i = 0; i < n; i++) {
        int sample;
        const int64_t k = begins(s->whole, i, n, rows, &sample);
        if (sample < s->first || sample >= s->first + s->mine.samples)
            continue;
        const int64_t from = h->start[sample - s->first];
        pack_put(&mine, h->data + from * h->width, (size_t)(k * h->width) * sizeof *h->data);
    }
    const Status st = dist_gather_all(s->dist, &mine, all, err);
    pack_fini(&mine);
    return st;
}

Status share_beginnings(const Share *s, Stream *out, const Stream *h, int n, int64_t rows, Error *err)
{
    Pack *all = NULL;
    int64_t *start = mem_zarray((size_t)n + 1, sizeof *start), at = 0;
    int32_t *ids = mem_array((size_t)(n * rows) + 1, sizeof *ids);
    int sample;
    *out = (Stream){0};
    Status st = start && ids ? ST_OK : error_nomem(err, "hidden states");
    for (int i = 0; st == ST_OK && i < n; i++) {
        const int64_t k = begins(s->whole, i, n, rows, &sample);
        memcpy(ids + start[i], s->whole->ids + s->whole->start[sample], (size_t)k * sizeof *ids);
        start[i + 1] = start[i] + k;
    }
    if (st == ST_OK)
        st = gather_beginnings(s, h, n, rows, &all, err);
    if (st == ST_OK)
        st = stream_init(out, n, start, h->width, err);
    if (st == ST_OK)
        st = stream_set_ids(out, ids, err);
    for (int r = 0; st == ST_OK && r < dist_size(s->dist); r++) {
        const int64_t k = (int64_t)(all[r].len / sizeof *out->data);
        if (k > out->rows * out->width - at)
            st = error_set(err, ST_INTERNAL, "the ranks have more rows than there are");
        else if (k)
            memcpy(out->data + at, all[r].data, (size_t)k * sizeof *out->data);
        at += k;
    }
    if (all)
        dist_packs_free(all, dist_size(s->dist));
    free(start);
    free(ids);
    if (st != ST_OK)
        stream_fini(out);
    return st;
}

void share_fini(Share *s)
{
    free(s->mine.start);
    *s = (Share){0};
}
