#include "run/share.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Where texts may be cut: behind each that has a token, *n of them. [*n + 1] the text that comes next, the first for 0. */
static int *places(const TokenSet *t, int *n)
{
    int *at = mem_array((size_t)t->samples + 1, sizeof *at);
    *n = 0;
    for (int i = 0; at && i < t->samples; i++) {
        at[*n] = *n ? at[*n] : 0;
        if (t->start[i + 1] > t->start[i])
            at[++*n] = i + 1;
    }
    return at;
}

/* The place that is nearest to `rows`, of (from, most]. */
static int nearest(const TokenSet *t, const int *at, double rows, int from, int most)
{
    int best = from + 1;
    while (best < most && fabs((double)t->start[at[best + 1]] - rows) <= fabs((double)t->start[at[best]] - rows))
        best++;
    return best;
}

Status share_cuts(const TokenSet *t, const double *speed, int size, int *cut, Error *err)
{
    int n, k = 0;
    int *at = places(t, &n);
    if (!at)
        return error_nomem(err, "a share of the texts");
    const int some = n < size ? n : size;
    double all = 0, before = 0;
    for (int r = 0; r < some; r++)
        all += speed ? speed[r] : 1;
    cut[0] = 0;
    for (int r = 1; r < size; r++) {
        before += speed ? speed[r - 1] : 1;
        if (r < some)
            k = nearest(t, at, (double)t->start[t->samples] * before / all, k, n - (some - r));
        cut[r] = r < some ? at[k] : t->samples;
    }
    cut[size] = t->samples;
    free(at);
    return ST_OK;
}

int share_taker(const Dist *d, double *load, double work)
{
    const double *speed = dist_speeds(d);
    int best = 0;
    for (int r = 1; r < dist_size(d); r++)
        if ((load[r] + work) / (speed ? speed[r] : 1) < (load[best] + work) / (speed ? speed[best] : 1))
            best = r;
    load[best] += work;
    return best;
}

int share_most(const TokenSet *t)
{
    int n = 0;
    for (int i = 0; i < t->samples; i++)
        n += t->start[i + 1] > t->start[i];
    return n;
}

bool share_all_have(const TokenSet *t, int size)
{
    return share_most(t) >= size;
}

Status share_init(Share *s, Dist *d, const TokenSet *whole, Error *err)
{
    const int size = dist_size(d), rank = dist_rank(d);
    int *cut = mem_array((size_t)size + 1, sizeof *cut);
    *s = (Share){.dist = d, .whole = whole};
    Status st = cut ? share_cuts(whole, dist_speeds(d), size, cut, err) : error_nomem(err, "a share of the texts");
    if (st == ST_OK) {
        s->first = cut[rank];
        st = tokens_part(&s->mine, whole, cut[rank], cut[rank + 1] - cut[rank], err);
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
