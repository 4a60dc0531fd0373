#include "process/roundstep.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/share.h"

/* ---- ranks ---- */

static const char what[] = "texts of a training step";

static int ranks(const RoundRanks *r)
{
    return dist_size(r->dist);
}

Status round_ranks_exchange(const RoundRanks *r, void *data, const int64_t *to, size_t size, Error *err)
{
    const int n = ranks(r);
    uint64_t *cut = mem_array((size_t)n + 1, sizeof *cut);
    if (!cut)
        return error_nomem(err, what);
    for (int k = 0; k <= n; k++)
        cut[k] = (uint64_t)to[k] * size;
    Status st = dist_exchange(r->dist, data, cut, err);
    free(cut);
    return st;
}

RoundRanks round_ranks_of(const RoundTask *t)
{
    const UnitRanks *r = t->ranks;
    return r ? (RoundRanks){r->dist, r->samples, r->start, r->cut} : (RoundRanks){.samples = t->in->samples, .start = t->in->start};
}

/* n pieces [start[i], start[i + 1]) dealt out by the ranks' speeds: to[ranks + 1]. */
static Status deal(const RoundRanks *r, const int64_t *start, int n, int64_t *to, Error *err)
{
    const TokenSet pieces = {.samples = n, .start = (int64_t *)start};
    int *cut = mem_array((size_t)ranks(r) + 1, sizeof *cut);
    Status st = cut ? share_cuts(&pieces, dist_speeds(r->dist), ranks(r), cut, err) : error_nomem(err, what);
    for (int k = 0; st == ST_OK && k <= ranks(r); k++)
        to[k] = cut[k];
    free(cut);
    return st;
}

Status round_ranks_rows(const RoundRanks *r, int64_t out, int64_t parts, int64_t tile, int64_t *to, Error *err)
{
    const int64_t part = out / parts, tiles = div_up(part, tile), n = tiles * parts;
    int64_t *row = mem_array((size_t)n + 1, sizeof *row);
    if (!row)
        return error_nomem(err, what);
    for (int64_t i = 0; i <= n; i++)
        row[i] = i / tiles * part + i % tiles * tile;
    Status st = deal(r, row, (int)n, to, err);
    for (int k = 0; st == ST_OK && k <= ranks(r); k++)
        to[k] = row[to[k]];
    free(row);
    return st;
}

/* ---- texts ---- */

static void begin(const RoundRanks *r, RoundBatch *b, int n)
{
    for (int k = 0; k < n; k++)
        b->start[k + 1] = b->start[k] + r->start[b->text[k] + 1] - r->start[b->text[k]];
    b->n = b->to = n;
}

/* Where a text's rows lie: in a rank's streams, or in what the ranks put together. */
typedef struct Source {
    const float *in, *want;
    const int32_t *ids; /* NULL: not known */
} Source;

static Status stream_of(const RoundBatch *b, int64_t width, Stream *s, Error *err)
{
    int64_t start[AUTOROUND_BATCH + 1] = {0};
    for (int k = b->from; k < b->to; k++)
        start[k - b->from + 1] = b->start[k + 1] - b->start[b->from];
    return stream_init(s, b->to - b->from, start, width, err);
}

/* b->in and b->want of this rank's texts, of which from[k] is where text[k] lies. */
static Status copy_texts(RoundBatch *b, const Source *from, int64_t width, Error *err)
{
    if (b->from == b->to)
        return ST_OK;
    RETURN_IF_ERROR(stream_of(b, width, &b->in, err));
    RETURN_IF_ERROR(stream_of(b, width, &b->want, err));
    int32_t *ids = from[b->from].ids ? mem_array((size_t)b->in.rows, sizeof *ids) : NULL;
    if (from[b->from].ids && !ids)
        return error_nomem(err, what);
    for (int k = b->from; k < b->to; k++) {
        const int64_t at = b->start[k] - b->start[b->from], n = b->start[k + 1] - b->start[k];
        memcpy(b->in.data + at * width, from[k].in, (size_t)(n * width) * sizeof(float));
        memcpy(b->want.data + at * width, from[k].want, (size_t)(n * width) * sizeof(float));
        if (ids)
            memcpy(ids + at, from[k].ids, (size_t)n * sizeof *ids);
    }
    Status st = ids ? stream_set_ids(&b->in, ids, err) : ST_OK;
    free(ids);
    return st;
}

static Source own_text(const RoundTask *t, int text)
{
    const int64_t row = t->in->start[text], width = t->in->width;
    return (Source){t->in->data + row * width, t->want->data + row * width, t->in->ids ? t->in->ids + row : NULL};
}

/* What the ranks have of a step's texts, put together, one rank's behind the other's. */
typedef struct Together {
    float *in, *want; /* [rows][width] */
    int32_t *ids;     /* [rows] */
    int64_t *to;      /* [ranks + 1] rows that are of each rank's streams */
} Together;

static void together_fini(Together *g)
{
    free(g->in);
    free(g->want);
    free(g->ids);
    free(g->to);
}

/* This rank's text into its place there. */
static void put_text(const Together *g, int64_t at, const Source *own, int64_t rows, int64_t width)
{
    memcpy(g->in + at * width, own->in, (size_t)(rows * width) * sizeof *g->in);
    memcpy(g->want + at * width, own->want, (size_t)(rows * width) * sizeof *g->want);
    if (g->ids)
        memcpy(g->ids + at, own->ids, (size_t)rows * sizeof *g->ids);
}

static Status put_together(const RoundRanks *r, const RoundTask *t, const RoundBatch *b, Together *g, Source *from, Error *err)
{
    const int64_t width = t->in->width, rows = b->start[b->n];
    int64_t at = 0;
    g->to = mem_zarray((size_t)ranks(r) + 1, sizeof *g->to);
    g->in = mem_array((size_t)(rows * width) + 1, sizeof *g->in);
    g->want = mem_array((size_t)(rows * width) + 1, sizeof *g->want);
    g->ids = t->in->ids ? mem_array((size_t)rows + 1, sizeof *g->ids) : NULL;
    if (!g->to || !g->in || !g->want || (t->in->ids && !g->ids))
        return error_nomem(err, what);
    for (int k = 0; k < ranks(r); g->to[++k] = at)
        for (int i = 0; i < b->n; i++) {
            const int64_t n = b->start[i + 1] - b->start[i];
            if (b->text[i] < r->cut[k] || b->text[i] >= r->cut[k + 1])
                continue;
            from[i] = (Source){g->in + at * width, g->want + at * width, g->ids ? g->ids + at : NULL};
            if (k == dist_rank(r->dist)) {
                const Source own = own_text(t, b->text[i] - (int)r->cut[k]);
                put_text(g, at, &own, n, width);
            }
            at += n;
        }
    RETURN_IF_ERROR(round_ranks_exchange(r, g->in, g->to, (size_t)width * sizeof *g->in, err));
    RETURN_IF_ERROR(round_ranks_exchange(r, g->want, g->to, (size_t)width * sizeof *g->want, err));
    return g->ids ? round_ranks_exchange(r, g->ids, g->to, sizeof *g->ids, err) : ST_OK;
}

Status round_batch_own(const RoundRanks *r, const RoundTask *t, int at, int n, RoundBatch *b, Error *err)
{
    Source from[AUTOROUND_BATCH];
    *b = (RoundBatch){.n = n};
    for (int k = 0; k < n; k++) {
        b->text[k] = at + k + (r->cut ? (int)r->cut[dist_rank(r->dist)] : 0);
        from[k] = own_text(t, at + k);
    }
    begin(r, b, n);
    return copy_texts(b, from, t->in->width, err);
}

Status round_batch_take(const RoundRanks *r, const RoundTask *t, const int *text, int n, RoundBatch *b, Error *err)
{
    Source from[AUTOROUND_BATCH];
    Together g = {0};
    *b = (RoundBatch){.n = n};
    memcpy(b->text, text, (size_t)n * sizeof *text);
    begin(r, b, n);
    for (int k = 0; k < n && !r->dist; k++)
        from[k] = own_text(t, text[k]);
    if (!r->dist)
        return copy_texts(b, from, t->in->width, err);
    b->cut = mem_array((size_t)ranks(r) + 1, sizeof *b->cut);
    Status st = b->cut ? deal(r, b->start, n, b->cut, err) : error_nomem(err, what);
    if (st == ST_OK)
        st = put_together(r, t, b, &g, from, err);
    if (st == ST_OK) {
        b->from = (int)b->cut[dist_rank(r->dist)];
        b->to = (int)b->cut[dist_rank(r->dist) + 1];
        st = copy_texts(b, from, t->in->width, err);
    }
    together_fini(&g);
    return st;
}

void round_batch_fini(RoundBatch *b)
{
    stream_fini(&b->in);
    stream_fini(&b->want);
    free(b->cut);
}

/* ---- rows of gradients ---- */

static int64_t stream_row(const LinearGrad *g, int64_t row)
{
    return g->row ? g->row[row] : g->row0 + row;
}

int64_t round_text_end(const RoundBatch *b, const LinearGrad *g, int64_t row, int *text)
{
    const int64_t *start = b->in.start;
    int s = 0;
    while (start[s + 1] <= stream_row(g, row))
        s++;
    *text = b->from + s;
    int64_t end = row + 1;
    while (end < g->rows && stream_row(g, end) < start[s + 1])
        end++;
    return end;
}

/* No more than is needed: it is large, and the next steps need as much. */
static Status make_room(RoundRows *k, int64_t rows, int64_t in, int64_t out, Error *err)
{
    if (rows <= k->room)
        return ST_OK;
    float *x = mem_array((size_t)(rows * in), sizeof *x), *g = mem_array((size_t)(rows * out), sizeof *g);
    if (!x || !g) {
        free(x);
        free(g);
        return error_nomem(err, what);
    }
    if (k->rows) {
        memcpy(x, k->x, (size_t)(k->rows * in) * sizeof *x);
        memcpy(g, k->g, (size_t)(k->rows * out) * sizeof *g);
    }
    free(k->x);
    free(k->g);
    k->x = x;
    k->g = g;
    k->room = rows;
    return ST_OK;
}

Status round_rows_add(RoundRows *k, const RoundBatch *b, const LinearGrad *g, int64_t in, int64_t out, Error *err)
{
    RETURN_IF_ERROR(make_room(k, k->rows + g->rows, in, out, err));
    for (int64_t i = 0; i < g->rows; i++, k->rows++) {
        memcpy(k->x + k->rows * in, g->x + i * g->ldx, (size_t)in * sizeof *k->x);
        memcpy(k->g + k->rows * out, g->g + i * g->ldg, (size_t)out * sizeof *k->g);
    }
    for (int64_t i = 0, end; i < g->rows; i = end) {
        int text;
        end = round_text_end(b, g, i, &text);
        k->of[text] += end - i;
    }
    return ST_OK;
}

Status round_rows_count(const RoundRanks *r, const RoundBatch *b, RoundRows *rows, int n, Error *err)
{
    int64_t *of = mem_zarray((size_t)b->n * (size_t)n + 1, sizeof *of);
    if (!of)
        return error_nomem(err, what);
    for (int k = b->from; k < b->to; k++)
        for (int i = 0; i < n; i++)
            of[(int64_t)k * n + i] = rows[i].of[k];
    Status st = round_ranks_exchange(r, of, b->cut, (size_t)n * sizeof *of, err);
    for (int k = 0; st == ST_OK && k < b->n; k++)
        for (int i = 0; i < n; i++)
            rows[i].of[k] = of[(int64_t)k * n + i];
    free(of);
    return st;
}

Status round_rows_all(const RoundRanks *r, const RoundBatch *b, const RoundRows *k, const float *own, int64_t width, float **all,
                      Error *err)
{
    int64_t before = 0, *to = mem_zarray((size_t)ranks(r) + 1, sizeof *to);
    for (int i = 0; to && i < ranks(r); i++) {
        to[i + 1] = to[i];
        for (int64_t s = b->cut[i]; s < b->cut[i + 1]; s++)
            to[i + 1] += k->of[s];
        before = i == dist_rank(r->dist) ? to[i] : before;
    }
    *all = to ? mem_array((size_t)(to[ranks(r)] * width) + 1, sizeof **all) : NULL;
    if (*all && k->rows)
        memcpy(*all + before * width, own, (size_t)(k->rows * width) * sizeof **all);
    Status st = *all ? round_ranks_exchange(r, *all, to, (size_t)width * sizeof **all, err) : error_nomem(err, what);
    free(to);
    return st;
}
