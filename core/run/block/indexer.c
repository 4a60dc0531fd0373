#include "run/block/indexer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"

/* The indexer of sparse attention (specs/models.md 2.5): few, narrow heads score every key, and a query looks at the
 * best of them only. All in float32 but for the places where R() is written. */

#define INDEX_EPS 1e-6 /* of the keys' LayerNorm, whatever rms_norm_eps says */

enum { INDEX_TILE = 64, DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS };

bool indexer_acts(const ModelConfig *c, int64_t longest)
{
    return c->index.heads > 0 && longest > c->index.top_k;
}

int64_t indexer_row_bytes(const ModelConfig *c, int64_t longest)
{
    return indexer_acts(c, longest) ? (longest + 31) / 32 * (int64_t)sizeof(uint32_t) : 0;
}

static int64_t sample_length(const Pass *ps, int s)
{
    return stream_length(ps->in, s);
}

static void turn_rows(const Pass *ps, const Rotation *r, float *x, int64_t rows, int64_t d, float *scratch)
{
    if (!r)
        return;
    rotation_right(r, x, rows, d, d, scratch);
    ops_round(&ps->ops, x, rows * d);
}

/* Norms the keys and rotates keys and queries, of rows whose sample has more keys than are chosen, or may have some time. */
static void rotate_task(void *ctx, int64_t index, int worker)
{
    const IndexRun *ix = ctx;
    const Pass *ps = ix->ps;
    const ModelConfig *c = ps->cfg;
    float *scratch = ix->scratch ? ix->scratch + worker * ix->turn_floats : NULL;
    int64_t t = index * INDEX_TILE, end = t + INDEX_TILE < ps->rows ? t + INDEX_TILE : ps->rows, d = c->index.dim;
    int s = pass_sample_of_row(ps, t);
    for (; t < end; t++) {
        while (ps->in->start[s + 1] <= ps->row0 + t)
            s++;
        if (!ps->in->past && sample_length(ps, s) <= c->index.top_k)
            continue;
        const RopeTable *table = rope_table(&ps->r->rope, c, ix->rope, sample_length(ps, s));
        int64_t at = (ps->row0 + t - ps->in->start[s] + stream_seen(ps->in, s)) * table->half;
        ops_norm(&ps->ops, NORM_LAYER, ix->k + t * d, ix->norm, ix->bias, INDEX_EPS, d, ix->k + t * d);
        mla_rotate(ps, c->index.interleaved, ix->k + t * d, table->cos + at, table->sin + at);
        for (int64_t h = 0; h < c->index.heads; h++)
            mla_rotate(ps, c->index.interleaved, ix->q + (t * c->index.heads + h) * d, table->cos + at,
                       table->sin + at);
        turn_rows(ps, ix->turn_k, ix->k + t * d, 1, d, scratch);
        turn_rows(ps, ix->turn_q, ix->q + t * c->index.heads * d, c->index.heads, d, scratch);
    }
}

static Status turn_room(IndexRun *ix, Error *err)
{
    uint64_t q = ix->turn_q ? rotation_bytes(ix->turn_q) : 0, k = ix->turn_k ? rotation_bytes(ix->turn_k) : 0;
    ix->turn_floats = round_up((int64_t)(max_u64(q, k) / sizeof(float)), 16);
    if (!ix->turn_floats)
        return ST_OK;
    ix->scratch = mem_aligned((size_t)(pool_threads(ix->ps->r->opt.pool) * ix->turn_floats), sizeof(float));
    return ix->scratch ? ST_OK : error_nomem(err, "the indexer");
}

/* A number that orders as the float does; both zeros are one. */
static uint32_t order_key(float x)
{
    uint32_t u;
    x += 0.0f;
    memcpy(&u, &x, sizeof u);
    return u >> 31 ? ~u : u | 0x80000000u;
}

/* The k-th greatest of n >= k keys, digit by digit, and how many are greater. */
static uint32_t kth_greatest(const float *x, int64_t n, int64_t k, int64_t *greater)
{
    uint32_t prefix = 0, mask = 0;
    *greater = 0;
    for (int shift = 32 - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        int64_t count[DIGITS] = {0};
        for (int64_t i = 0; i < n; i++) {
            uint32_t u = order_key(x[i]);
            if ((u & mask) == prefix)
                count[u >> shift & (DIGITS - 1)]++;
        }
        uint32_t digit = DIGITS - 1;
        while (*greater + count[digit] < k)
            *greater += count[digit--];
        prefix |= digit << shift;
        mask |= (uint32_t)(DIGITS - 1) << shift;
    }
    return prefix;
}

/* Sets the bits of the k greatest of n scores; of equals the first ones. */
static void choose_row(const float *x, int64_t n, int64_t k, uint32_t *bits, int64_t words)
{
    memset(bits, 0, (size_t)words * sizeof *bits);
    int64_t greater = 0;
    uint32_t limit = n > k ? kth_greatest(x, n, k, &greater) : 0;
    int64_t equals = k - greater;
    for (int64_t s = 0; s < n; s++) {
        uint32_t u = order_key(x[s]);
        if (n <= k || u > limit || (u == limit && equals-- > 0))
            bits[s / 32] |= (uint32_t)1 << s % 32;
    }
}

/* sum over heads of w * relu(d^-1/2 q·k) into acc [rows][keys]. */
static void score_rows(const IndexRun *ix, Worker *wk, int64_t base, const float *k, int64_t t0, int64_t t1, float *acc)
{
    const Ops *ops = &ix->ps->ops;
    const IndexConfig *c = &ix->ps->cfg->index;
    int64_t rows = t1 - t0, keys = t1, d = c->dim, heads = c->heads;
    float dim_scale = (float)(1.0 / sqrt((double)d)), head_scale = (float)(1.0 / sqrt((double)heads));
    memset(acc, 0, (size_t)(rows * keys) * sizeof *acc);
    for (int64_t h = 0; h < heads; h++) {
        GemmArgs g = {.m = rows, .n = keys, .k = d, .x = ix->q + ((base + t0) * heads + h) * d, .ldx = heads * d,
                      .w = k, .ldw = d, .y = wk->scores, .ldy = keys};
        ops_choice(ops, &g, wk->gemm);
        for (int64_t t = 0; t < rows; t++) {
            const float *y = wk->scores + t * keys;
            float *sum = acc + t * keys, w = ix->w[(base + t0 + t) * heads + h] * head_scale;
            for (int64_t s = 0; s <= t0 + t; s++)
                sum[s] += w * (y[s] > 0 ? y[s] * dim_scale : y[s] <= 0 ? 0 : y[s]); /* NaN stays one */
        }
    }
}

static int64_t sample_tasks(const IndexConfig *c, int64_t len, int64_t seen)
{
    int64_t rows = attention_query_rows(len);
    return len > c->top_k ? div_up(len - seen, rows) : 0;
}

static void choose_task(void *ctx, int64_t index, int worker)
{
    const IndexRun *ix = ctx;
    const Pass *ps = ix->ps;
    Worker *wk = &ps->r->worker[worker];
    int lo = 0, hi = ps->s1 - ps->s0; /* the last sample whose first task is not after index; shorter ones have none */
    while (hi - lo > 1) {
        int mid = lo + (hi - lo) / 2;
        if (ix->first_task[mid] <= index)
            lo = mid;
        else
            hi = mid;
    }
    int s = ps->s0 + lo;
    int64_t len = sample_length(ps, s), seen = stream_seen(ps->in, s), begin = ps->in->start[s] - seen;
    int64_t rows = attention_query_rows(len), t0 = seen + (index - ix->first_task[lo]) * rows;
    int64_t t1 = t0 + rows < len ? t0 + rows : len, words = ps->out->select_words;
    const float *k = ps->in->past ? past_at(ps, ix->b, INDEXER_PAST, s) : ix->k + (begin - ps->row0) * ps->cfg->index.dim;
    float *acc = wk->scores + (t1 - t0) * t1;
    if (cancel_level(ps->r->opt.cancel))
        return;
    score_rows(ix, wk, begin - ps->row0, k, t0, t1, acc);
    for (int64_t t = t0; t < t1; t++)
        choose_row(acc + (t - t0) * t1, t + 1, ps->cfg->index.top_k, ps->out->select + (begin + t) * words, words);
}

Status indexer_choose(IndexRun *ix, Error *err)
{
    Pass *ps = ix->ps;
    const ModelConfig *c = ps->cfg;
    int n = ps->s1 - ps->s0;
    bool acts = indexer_acts(c, ps->plan.longest_sample);
    if (!acts && !ps->in->past)
        return ST_OK;
    RETURN_IF_ERROR(turn_room(ix, err));
    Batch b = {.n = 0};
    batch_add(&b, PHASE_ATTENTION, rotate_task, ix, div_up(ps->rows, INDEX_TILE));
    Status turned = batch_run(&b, ps->r->opt.pool, ps->r->opt.cancel, err);
    free(ix->scratch);
    ix->scratch = NULL;
    RETURN_IF_ERROR(turned);
    if (ps->in->past)
        past_put(ps, ix->b, INDEXER_PAST, ix->k, c->index.dim);
    if (!acts)
        return ST_OK;
    RETURN_IF_ERROR(stream_reserve_select(ps->out, ps->plan.longest_sample, err));
    ix->first_task = mem_array((size_t)n + 1, sizeof *ix->first_task);
    if (!ix->first_task)
        return error_nomem(err, "the indexer");
    ix->first_task[0] = 0;
    for (int i = 0; i < n; i++)
        ix->first_task[i + 1] = ix->first_task[i] + sample_tasks(&c->index, sample_length(ps, ps->s0 + i),
                                                                 stream_seen(ps->in, ps->s0 + i));
    batch_add(&b, PHASE_ATTENTION, choose_task, ix, ix->first_task[n]);
    Status st = batch_run(&b, ps->r->opt.pool, ps->r->opt.cancel, err);
    free(ix->first_task);
    return st;
}

Status indexer_inherit(Pass *ps, Error *err)
{
    if (!indexer_acts(ps->cfg, ps->plan.longest_sample))
        return ST_OK;
    const Stream *in = ps->in;
    int64_t words = (ps->plan.longest_sample + 31) / 32;
    if (!in->select || in->select_words != words)
        return error_set(err, ST_INTERNAL, "layer %d takes over the keys an earlier layer chose, but they "
                         "were not kept", ps->layer);
    if (in == ps->out)
        return ST_OK;
    RETURN_IF_ERROR(stream_reserve_select(ps->out, ps->plan.longest_sample, err));
    memcpy(ps->out->select + ps->row0 * words, in->select + ps->row0 * words,
           (size_t)(ps->rows * words) * sizeof *in->select);
    return ST_OK;
}
