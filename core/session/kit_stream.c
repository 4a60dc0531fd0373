/* What the job thread does: streams between layers, kept so that a stopped analysis goes on. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/divide.h"
#include "session/entries.h"
#include "session/kit_impl.h"
#include "session/streamfile.h"

/* Bytes that a rank sends at a time. */
enum { PIECE_BYTES = 16 << 20 };

/* Of a copy: states, tokens, what an indexer chose. */
static uint64_t stream_bytes(const Model *m, const TokenSet *t)
{
    uint64_t rows = (uint64_t)t->start[t->samples], words = ((uint64_t)longest_of(t->start, t->samples) + 31) / 32;
    return rows * ((uint64_t)m->cfg.stream_width + 1 + (m->cfg.index.top_k ? words : 0)) * sizeof(float);
}

static const Share *share_of(const Job *j)
{
    return j->plan.ranks ? j->plan.ranks->share : NULL;
}

/* Whether this process has all texts of all layers. */
static bool has_all(const Job *j)
{
    return dist_size(j->opt.dist) == 1 || (!j->plan.ranks && j->plan.pass->divides != DIVIDES_UNITS);
}

Status kit_keep_begin(Kit *k, const Job *j, uint64_t taken, uint64_t *copy, Error *err)
{
    const Share *share = share_of(j);
    const bool keeps = k->keeper && j->plan.pass->stream && (share || has_all(j));
    const uint64_t pieces = share ? (uint64_t)dist_size(j->opt.dist) * PIECE_BYTES : 0;
    *copy = keeps ? stream_bytes(j->model, pass_texts(&j->plan)) + pieces : 0;
    k->lend = taken + *copy > kit_mem_limit(j);
    k->gathers = false;
    if (share) {
        uint8_t gathers = keeps && !j->aside && !k->lend;
        if (keeps && !j->aside && k->lend)
            kit_warn(k, "the texts of all ranks don't fit into --mem here: should the analysis stop, it begins anew");
        RETURN_IF_ERROR(dist_from_first(j->opt.dist, &gathers, sizeof gathers, err));
        k->gathers = gathers != 0;
    }
    *copy = k->lend ? 0 : *copy;
    return ST_OK;
}

/* ---- the stream of all ranks ---- */

/* Keys that row t of a sample may look at, into `words` words: what the indexer chose, all before it where it chose none. */
static void put_chosen(const Stream *h, int64_t row, int64_t t, int64_t words, uint32_t *out)
{
    const int64_t have = h->select ? min_i64(words, h->select_words) : 0;
    memset(out, 0, (size_t)words * sizeof *out);
    if (have)
        memcpy(out, h->select + row * h->select_words, (size_t)have * sizeof *out);
    for (int64_t i = 0; !h->select && i <= t; i++)
        out[i / 32] |= (uint32_t)1 << i % 32;
}

/* Rows [from, from + n) of this rank. */
static void pack_rows(const Stream *h, int64_t from, int64_t n, int64_t words, uint32_t *one, Pack *out)
{
    int s = 0;
    pack_put(out, h->data + from * h->width, (size_t)(n * h->width) * sizeof *h->data);
    for (int64_t r = from; words && r < from + n; r++) {
        while (h->start[s + 1] <= r)
            s++;
        put_chosen(h, r, r - h->start[s], words, one);
        pack_put(out, one, (size_t)words * sizeof *one);
    }
}

static void take_rows(Stream *whole, int64_t at, int64_t n, const Pack *from)
{
    Unpack in = unpack_of(from);
    unpack_get(&in, whole->data + at * whole->width, (size_t)(n * whole->width) * sizeof *whole->data);
    if (whole->select)
        unpack_get(&in, whole->select + at * whole->select_words, (size_t)(n * whole->select_words) * sizeof *whole->select);
}

/* Piece after piece, cut[size + 1] as share_cuts. */
static Status gather_rows(const Share *s, const Stream *h, const int *cut, int64_t words, uint32_t *one, Stream *whole, Error *err)
{
    const int64_t *start = s->whole->start, step = max_i64(1, PIECE_BYTES / ((h->width + words) * (int64_t)sizeof(float)));
    const int size = dist_size(s->dist);
    int64_t most = 0;
    for (int r = 0; r < size; r++)
        most = max_i64(most, start[cut[r + 1]] - start[cut[r]]);
    for (int64_t at = 0; at < most; at += step) {
        Pack mine = {0}, *all = NULL;
        if (at < h->rows)
            pack_rows(h, at, min_i64(step, h->rows - at), words, one, &mine);
        const Status st = dist_gather(s->dist, &mine, &all, err);
        pack_fini(&mine);
        RETURN_IF_ERROR(st);
        for (int r = 0; all && r < size; r++) {
            const int64_t rows = start[cut[r + 1]] - start[cut[r]];
            if (at < rows)
                take_rows(whole, start[cut[r]] + at, min_i64(step, rows - at), &all[r]);
        }
        dist_packs_free(all, size);
    }
    return ST_OK;
}

/* On rank 0 the stream of all texts behind a layer; elsewhere it stays empty. */
static Status gather_stream(const Share *s, const Model *m, int next, const Stream *h, Stream *whole, Error *err)
{
    const TokenSet *t = s->whole;
    const int64_t keys = longest_of(t->start, t->samples);
    const Stream shape = {.samples = t->samples, .rows = t->start[t->samples], .start = t->start};
    const bool carried = runner_carries(m, next, &shape);
    const int64_t words = carried ? (keys + 31) / 32 : 0;
    int *cut = mem_array((size_t)dist_size(s->dist) + 1, sizeof *cut);
    uint32_t *one = mem_array((size_t)words + 1, sizeof *one);
    Status st = cut && one ? share_cuts(t, dist_speeds(s->dist), dist_size(s->dist), cut, err) : error_nomem(err, "hidden states");
    if (st == ST_OK && dist_leads(s->dist))
        st = stream_init(whole, t->samples, t->start, h->width, err);
    if (st == ST_OK && dist_leads(s->dist) && carried)
        st = stream_reserve_select(whole, keys, err);
    if (st == ST_OK)
        st = gather_rows(s, h, cut, words, one, whole, err);
    free(cut);
    free(one);
    return st;
}

Status kit_keep_layer(Kit *k, const PassStep *step, Error *err)
{
    const Job *j = k->job;
    Stream whole = {0};
    if (k->gathers) {
        const Status st = gather_stream(share_of(j), j->model, (int)step->done, step->h, &whole, err);
        if (st != ST_OK) {
            stream_fini(&whole);
            return st;
        }
    }
    if (!k->keeper || j->aside)
        return ST_OK;
    if (k->gathers || has_all(j)) {
        const Stream *h = k->gathers ? &whole : step->h;
        KeptLayer l;
        entry_layer(j, step, &l);
        l.carried = runner_carries(j->model, (int)step->done, h);
        keeper_layer(k->keeper, &l, h, k->lend || k->gathers);
    } else { /* its stream is a part of the texts, or its scores of the layers */
        Str b = {0};
        entry_rows(j, step, &b);
        keeper_put_patiently(k->keeper, &b);
    }
    stream_fini(&whole);
    return ST_OK;
}

/* ---- going on ---- */

/* Of the stream of all texts this rank's. */
static Status take_share(const Share *s, const Model *m, int next, Stream *h, Error *err)
{
    Stream own = {0};
    Status st = stream_slice(&own, h, s->first, s->mine.samples, err);
    const int64_t words = (longest_of(s->mine.start, s->mine.samples) + 31) / 32;
    if (st == ST_OK && own.select && (words != own.select_words || !runner_carries(m, next, &own))) {
        free(own.select);
        own.select = NULL;
        own.select_words = 0;
        st = runner_carries(m, next, &own) ? stream_reserve_select(&own, words * 32, err) : ST_OK;
        for (int64_t r = 0; st == ST_OK && own.select && r < own.rows; r++)
            memcpy(own.select + r * words, h->select + (h->start[s->first] + r) * h->select_words, (size_t)words * sizeof *own.select);
    }
    stream_fini(h);
    *h = own;
    return st;
}

Status kit_kept_stream(Kit *k, const Job *j, Stream *h, Error *err)
{
    int layer = (int)j->plan.first - 1;
    RETURN_IF_ERROR(streamfile_read(k->folder, j->row->run, layer, j->stream_sha, j->model, h, err));
    Status st = ST_OK;
    if (h->samples != k->calib->samples ||
        memcmp(h->start, k->calib->start, ((size_t)h->samples + 1) * sizeof *h->start) != 0)
        st = error_set(err, ST_DATA, "the saved stream of layer %d belongs to other texts: run the analysis anew",
                       layer);
    if (st == ST_OK)
        st = stream_set_ids(h, k->calib->ids, err);
    if (st == ST_OK && share_of(j))
        st = take_share(share_of(j), j->model, layer + 1, h, err);
    if (st != ST_OK)
        stream_fini(h);
    return st;
}
