#include "run/block/compressed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/block/attention.h"

/* Attention over a window of keys and over compressed ones (specs/models.md 2.5, DeepSeek-V4). All heads look at the
 * same keys, which are the values too. */

/* What is kept of a text: the keys, what entries are made of, and the entries. */
enum {
    PAST_KV, PAST_COMP_KV, PAST_COMP_GATE, PAST_INDEX_KV, PAST_INDEX_GATE, PAST_ENTRY, PAST_INDEX_ENTRY, PAST_PARTS
};
_Static_assert((int)PAST_PARTS <= (int)PAST_SLOTS, "what compressed attention keeps");

/* ---- sizes ---- */

/* Floats of a row that only layers of this kind have. */
static int64_t kind_floats(const ModelConfig *m, CompressKind kind)
{
    const CompressConfig *c = &m->compress;
    int64_t rate = c->rate[kind], d = m->head_dim, di = c->index_dim;
    if (kind == COMPRESS_NONE)
        return 0;
    if (kind == COMPRESS_HEAVY)
        return 2 * d + div_up(d, rate);
    return 4 * d + 4 * di + c->index_heads * (1 + di) + div_up(d, rate) + div_up(di, rate);
}

int64_t comp_row_floats(const ModelConfig *m)
{
    const CompressConfig *c = &m->compress;
    return c->q_rank + (int64_t)m->heads * m->head_dim + m->head_dim + c->groups * c->group_rank +
           max_i64(kind_floats(m, COMPRESS_SPARSE), kind_floats(m, COMPRESS_HEAVY));
}

/* Compressed keys of a text of `longest` tokens, at most. */
static int64_t most_entries(const CompressConfig *c, int64_t longest)
{
    return longest / min_i64(c->rate[COMPRESS_SPARSE], c->rate[COMPRESS_HEAVY]);
}

int64_t comp_most_keys(const ModelConfig *m, int64_t window, int64_t longest)
{
    return min_i64(longest, window - 1 + QUERY_ROWS) + most_entries(&m->compress, longest);
}

static size_t scores_floats(const ModelConfig *m, int64_t window, int64_t longest)
{
    int64_t keys = comp_most_keys(m, window, longest), entries = most_entries(&m->compress, longest);
    return (size_t)(keys * m->head_dim + QUERY_ROWS * (keys + 2 * entries));
}

static void place(CompressedRun *r, float *at)
{
    const CompressConfig *c = r->c;
    int64_t rows = r->ps->rows, d = r->m->head_dim, di = c->index_dim, rate = r->rate;
    bool sparse = r->kind == COMPRESS_SPARSE;
    int64_t width = r->kind == COMPRESS_NONE ? 0 : sparse ? 2 * d : d, index_width = sparse ? 2 * di : 0;
    const struct {
        float **to;
        int64_t n; /* of a row */
    } part[] = {
        {&r->qr, c->q_rank}, {&r->q, r->m->heads * d}, {&r->kv, d}, {&r->o, c->groups * c->group_rank},
        {&r->comp_kv, width}, {&r->comp_gate, width}, {&r->index_kv, index_width}, {&r->index_gate, index_width},
        {&r->index_w, sparse ? c->index_heads : 0}, {&r->index_q, sparse ? c->index_heads * di : 0},
        {&r->entry, rate ? div_up(d, rate) : 0}, {&r->index_entry, sparse ? div_up(di, rate) : 0},
    };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        *part[i].to = at;
        at += rows * part[i].n;
    }
    float *const y[] = {r->qr, r->kv, r->comp_kv, r->comp_gate, r->index_kv, r->index_gate, r->index_w};
    memcpy(r->y, y, sizeof y);
}

/* ---- projections ---- */

RowAt comp_row_at(const CompressedRun *r, int64_t t, int from)
{
    const Pass *ps = r->ps;
    RowAt at = {.sample = from < 0 ? pass_sample_of_row(ps, t) : from};
    while (ps->in->start[at.sample + 1] <= ps->row0 + t)
        at.sample++;
    const int64_t *start = ps->in->start + at.sample;
    at.pos = ps->row0 + t - start[0] + stream_seen(ps->in, at.sample);
    at.rope = rope_table(&ps->r->rope, r->m, r->b->b->rope, stream_length(ps->in, at.sample));
    return at;
}

/* Rotates the last dimensions of x[dim] as of position `pos`. */
void comp_rotate(const CompressedRun *r, const RopeTable *rope, int64_t pos, bool back, float *x, int64_t dim)
{
    ops_rope_pairs(&r->ps->ops, x + dim - r->c->rope, rope->cos + pos * rope->half, rope->sin + pos * rope->half,
                   rope->half, back);
}

static void latent_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const CompressedRun *r = ctx;
    const Pass *ps = r->ps;
    const Ops *o = &ps->ops;
    int64_t t = index * PASS_TILE, end = min_i64(t + PASS_TILE, ps->rows), d = r->m->head_dim, rank = r->c->q_rank;
    RowAt at = {.sample = -1};
    for (; t < end; t++) {
        at = comp_row_at(r, t, at.sample);
        float *qr = r->qr + t * rank, *kv = r->kv + t * d;
        ops_norm(o, NORM_LATE, qr, r->b->small[COMP_Q_A_NORM], r->b->shift[COMP_Q_A_NORM], r->m->eps, rank, qr);
        ops_norm(o, NORM_LATE, kv, r->b->small[COMP_KV_A_NORM], r->b->shift[COMP_KV_A_NORM], r->m->eps, d, kv);
        comp_rotate(r, at.rope, at.pos, false, kv, d);
    }
}

/* x = R(x * R(1 / sqrt(mean of x^2 + eps))) */
static void plain_norm(const Ops *o, double eps, float *x, int64_t n)
{
    float mean = (float)(o->k->sum_sq(x, n) / (double)n), s = (float)(1.0 / sqrt((double)(mean + (float)eps)));
    ops_round(o, &s, 1);
    ops_scale(o, x, s, n);
}

static void queries_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const CompressedRun *r = ctx;
    const Pass *ps = r->ps;
    int64_t t = index * PASS_TILE, end = min_i64(t + PASS_TILE, ps->rows), d = r->m->head_dim, di = r->c->index_dim;
    RowAt at = {.sample = -1};
    for (; t < end; t++) {
        at = comp_row_at(r, t, at.sample);
        for (int64_t h = 0; h < r->m->heads; h++) {
            float *q = r->q + (t * r->m->heads + h) * d;
            plain_norm(&ps->ops, r->m->eps, q, d);
            comp_rotate(r, at.rope, at.pos, false, q, d);
        }
        for (int64_t h = 0; h < r->c->index_heads && r->kind == COMPRESS_SPARSE; h++)
            comp_rotate(r, at.rope, at.pos, false, r->index_q + (t * r->c->index_heads + h) * di, di);
    }
}

/* ---- compressed keys ---- */

/* What the rows of a sample's text gave for `part`, `width` floats each, from the first one on: in the chunk, or in what was
 * kept of the text. */
static float *text_rows(const CompressedRun *r, int part, int sample, float *chunk, int64_t width)
{
    const Pass *ps = r->ps;
    return ps->in->past ? past_at(ps, r->b, part, sample) : chunk + (ps->in->start[sample] - ps->row0) * width;
}

/* The same of its entries: whole windows before a text never take more than its rows. */
static float *text_entries(const CompressedRun *r, int sample, bool index)
{
    const Pass *ps = r->ps;
    int64_t dim = index ? r->c->index_dim : r->m->head_dim;
    return ps->in->past ? past_at(ps, r->b, index ? PAST_INDEX_ENTRY : PAST_ENTRY, sample)
                        : (index ? r->index_entry : r->entry) + (ps->in->start[sample] - ps->row0) / r->rate * dim;
}

/* Entry w of a text, normed and rotated. */
static void make_entry(const CompressedRun *r, const RowAt *at, int64_t w, bool index)
{
    const Pass *ps = r->ps;
    const Ops *o = &ps->ops;
    bool overlap = r->kind == COMPRESS_SPARSE;
    int64_t dim = index ? r->c->index_dim : r->m->head_dim, width = overlap ? 2 * dim : dim;
    Compressor c = {.kv = text_rows(r, index ? PAST_INDEX_KV : PAST_COMP_KV, at->sample, index ? r->index_kv : r->comp_kv,
                                    width),
                    .gate = text_rows(r, index ? PAST_INDEX_GATE : PAST_COMP_GATE, at->sample,
                                      index ? r->index_gate : r->comp_gate, width),
                    .ape = r->b->small[index ? COMP_INDEX_APE : COMP_APE], .rate = r->rate, .dim = dim, .width = width,
                    .overlap = overlap};
    float *x = text_entries(r, at->sample, index) + w * dim;
    compressor_entry(&c, o, w, x);
    int norm = index ? COMP_INDEX_NORM : COMP_NORM;
    ops_norm(o, NORM_LATE, x, r->b->small[norm], r->b->shift[norm], r->m->eps, dim, x);
    comp_rotate(r, at->rope, w * r->rate, false, x, dim);
    if (ps->attn && !index) /* a key like those of the window */
        ps->attn->replace(ps->attn->self, block_tap_linear(r->b, COMP_O), 1, x, 1, dim);
}

/* The entries whose last tokens are among the task's rows. */
static void entries_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const CompressedRun *r = ctx;
    int64_t t = index * PASS_TILE, end = min_i64(t + PASS_TILE, r->ps->rows);
    RowAt at = {.sample = -1};
    for (; t < end && !cancel_level(r->ps->r->opt.cancel); t++) {
        at = comp_row_at(r, t, at.sample);
        if ((at.pos + 1) % r->rate)
            continue;
        make_entry(r, &at, at.pos / r->rate, false);
        if (r->kind == COMPRESS_SPARSE)
            make_entry(r, &at, at.pos / r->rate, true);
    }
}

/* ---- attention ---- */

static int64_t visible(const CompressedRun *r, int64_t t)
{
    return r->kind == COMPRESS_NONE ? 0 : (t + 1) / r->rate;
}

/* chosen: sum over the indexer's heads of weight * relu(q · k), then the best of each row. */
static void choose_entries(const CompressedRun *r, QueryTile *b, Worker *wk)
{
    const CompressConfig *c = r->c;
    const Ops *o = &r->ps->ops;
    int64_t rows = b->t1 - b->t0, n = b->entries, di = c->index_dim, heads = c->index_heads;
    float of_head = (float)(1.0 / sqrt((double)heads)), of_dim = (float)(1.0 / sqrt((double)di));
    memset(b->chosen, 0, (size_t)(rows * n) * sizeof *b->chosen);
    for (int64_t h = 0; h < heads; h++) {
        GemmArgs g = {.m = rows, .n = n, .k = di, .x = r->index_q + ((b->base + b->t0) * heads + h) * di,
                      .ldx = heads * di, .w = text_entries(r, b->sample, true), .ldw = di, .y = b->part,
                      .ldy = n};
        ops_choice(o, &g, wk->gemm);
        for (int64_t t = 0; t < rows; t++) {
            float w = r->index_w[(b->base + b->t0 + t) * heads + h] * of_head;
            float *sum = b->chosen + t * n, *p = b->part + t * n;
            for (int64_t i = 0; i < n; i++)
                sum[i] += (p[i] > 0 ? p[i] * of_dim : 0) * w;
        }
    }
    for (int64_t t = 0; t < rows; t++)
        choose_greatest(b->chosen + t * n, visible(r, b->t0 + t), c->index_top);
}

/* Softmax over n scores and one more that no value belongs to; only the shares are rounded. */
static void softmax_sink(const Ops *o, float *x, int64_t n, float sink)
{
    float max = sink, sum = 0;
    for (int64_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < n; i++)
        x[i] -= max;
    o->f->exp(x, n);
    double all = (double)expf(sink - max);
    for (int64_t i = 0; i < n; i++)
        all += (double)x[i];
    sum = (float)all;
    for (int64_t i = 0; i < n; i++)
        x[i] /= sum;
    ops_round(o, x, n);
}

/* Shares of one row's keys from their scores, 0 where it does not look. */
void comp_shares(const CompressedRun *r, const QueryTile *b, int64_t t, float *row, float sink)
{
    int64_t first = max_i64(t - r->window + 1 - b->lo, 0), last = t + 1 - b->lo, k = 0;
    int64_t all = b->window + b->entries, seen = b->window + visible(r, t);
    const float *chosen = b->chosen ? b->chosen + (t - b->t0) * b->entries - b->window : NULL;
    for (int64_t s = first; s < seen; s++) /* together, so that nothing hidden is in the sum */
        if (s < b->window ? s < last : !chosen || chosen[s] > 0)
            row[k++] = row[s];
    softmax_sink(&r->ps->ops, row, k, sink);
    for (int64_t s = all - 1; s >= 0; s--) {
        bool looks = s >= first && s < seen && (s < b->window ? s < last : !chosen || chosen[s] > 0);
        row[s] = looks ? row[--k] : 0;
    }
}

static void attend(const CompressedRun *r, const QueryTile *b, Worker *wk, int64_t head)
{
    const Ops *o = &r->ps->ops;
    int64_t d = r->m->head_dim, ld = r->m->heads * d, rows = b->t1 - b->t0, n = b->window + b->entries;
    float *q = r->q + (b->base + b->t0) * ld + head * d;
    GemmArgs g = {.m = rows, .n = n, .k = d, .x = q, .ldx = ld, .w = b->keys, .ldw = d, .y = b->scores, .ldy = n};
    ops_scores(o, &g, (float)r->m->attn_scale, wk->gemm);
    for (int64_t t = b->t0; t < b->t1; t++)
        comp_shares(r, b, t, b->scores + (t - b->t0) * n, r->b->small[COMP_SINKS][head]);
    GemmArgs pv = {.m = rows, .n = d, .k = n, .x = b->scores, .ldx = n, .w = b->keys, .ldw = d, .w_by_k = true,
                   .y = q, .ldy = ld};
    ops_gemm(o, &pv, wk->gemm);
}

void comp_tile(const CompressedRun *r, int s, int64_t t0, Worker *wk, QueryTile *b)
{
    const Pass *ps = r->ps;
    int64_t d = r->m->head_dim, seen = stream_seen(ps->in, s), len = stream_length(ps->in, s);
    *b = (QueryTile){.sample = s, .base = ps->in->start[s] - ps->row0 - seen, .t0 = t0, .t1 = min_i64(t0 + QUERY_ROWS, len),
                     .lo = max_i64(t0 - r->window + 1, 0), .keys = wk->scores};
    b->window = b->t1 - b->lo;
    b->entries = visible(r, b->t1 - 1);
    b->scores = b->keys + (b->window + b->entries) * d;
    memcpy(b->keys, text_rows(r, PAST_KV, s, r->kv, d) + b->lo * d, (size_t)(b->window * d) * sizeof *b->keys);
    if (b->entries)
        memcpy(b->keys + b->window * d, text_entries(r, s, false), (size_t)(b->entries * d) * sizeof *b->keys);
    if (r->kind == COMPRESS_SPARSE && b->entries > r->c->index_top) {
        b->chosen = b->scores + (b->t1 - b->t0) * (b->window + b->entries);
        b->part = b->chosen + (b->t1 - b->t0) * b->entries;
        choose_entries(r, b, wk);
    }
}

static void attention_task(void *ctx, int64_t index, int worker)
{
    const CompressedRun *r = ctx;
    const Pass *ps = r->ps;
    Worker *wk = &ps->r->worker[worker];
    int lo = 0, hi = ps->s1 - ps->s0;
    while (hi - lo > 1) {
        int mid = lo + (hi - lo) / 2;
        *(r->first_task[mid] <= index ? &lo : &hi) = mid;
    }
    int s = ps->s0 + lo;
    int64_t d = r->m->head_dim, heads = r->m->heads;
    QueryTile b;
    comp_tile(r, s, stream_seen(ps->in, s) + (index - r->first_task[lo]) * QUERY_ROWS, wk, &b);
    for (int64_t h = 0; h < heads && !cancel_level(ps->r->opt.cancel); h++)
        attend(r, &b, wk, h);
    const RopeTable *rope = rope_table(&ps->r->rope, r->m, r->b->b->rope, stream_length(ps->in, s));
    for (int64_t t = b.t0; t < b.t1; t++) /* keys were rotated, and so are what their sum gives */
        for (int64_t h = 0; h < heads; h++)
            comp_rotate(r, rope, t, true, r->q + ((b.base + t) * heads + h) * d, d);
}

static Status run_attention(CompressedRun *r, Error *err)
{
    const Pass *ps = r->ps;
    int n = ps->s1 - ps->s0;
    r->first_task[0] = 0;
    for (int i = 0; i < n; i++) {
        int64_t len = ps->in->start[ps->s0 + i + 1] - ps->in->start[ps->s0 + i]; /* of the queries */
        r->first_task[i + 1] = r->first_task[i] + div_up(len, QUERY_ROWS);
    }
    Batch b = {.n = 0};
    batch_add(&b, PHASE_ATTENTION, attention_task, r, r->first_task[n]);
    return batch_run(&b, ps->r->opt.pool, ps->r->opt.cancel, err);
}

/* ---- the block ---- */

/* Each group of heads through its own rows of wo_a. */
static Status project_groups(CompressedRun *r, const ChunkBuffers *buf, Error *err)
{
    Pass *ps = r->ps;
    LinearRun *l = &r->b->lin[COMP_O_A];
    int64_t groups = r->c->groups, ld = groups * r->c->group_rank;
    FeedPiece after;
    for (int s = 0; s <= ps->in->samples; s++)
        r->start[s] = ps->in->start[s] * groups;
    Stream shape = {.samples = ps->in->samples, .rows = ps->in->rows * groups, .width = l->lin->in, .start = r->start,
                    .first = ps->in->first};
    Stage st = {.ps = ps, .n = 1, .lin = {l}, .x = r->q, .shape = &shape, .y = {r->o}, .ldy = {ld},
                .act_scratch = buf->act, .packs = true};
    block_piece(ps, r->b, &(int){COMP_O}, 1, false, &after);
    RETURN_IF_ERROR(stage_run(&st, &after, err));
    return pass_feed_tap(ps, TAP_LINEAR_OUT, l->index, r->o, ld, ld, err);
}

static Status feed_heads(CompressedRun *r, Error *err)
{
    int64_t d = r->m->head_dim, q = r->m->heads * d, linear = block_tap_linear(r->b, COMP_O);
    RETURN_IF_ERROR(pass_feed_tap(r->ps, TAP_Q, linear, r->q, q, q, err));
    RETURN_IF_ERROR(pass_feed_tap(r->ps, TAP_K, linear, r->kv, d, d, err));
    RETURN_IF_ERROR(pass_feed_tap(r->ps, TAP_V, linear, r->kv, d, d, err));
    return attention_replace(r->ps, linear, (float *[]){r->q, r->kv, NULL}, (const int64_t[]){q, d, 0}, err);
}

static int first(const Block *b, int slot[STAGE_MAX], bool *gate)
{
    static const int all[] = {COMP_Q_A, COMP_KV_A, COMP_KV, COMP_GATE, COMP_INDEX_KV, COMP_INDEX_GATE, COMP_INDEX_W};
    memcpy(slot, all, sizeof all);
    *gate = false;
    return b->linear[COMP_INDEX_W] >= 0 ? 7 : b->linear[COMP_KV] >= 0 ? 4 : 2;
}

/* The queries, and the indexer's where there is one. */
static int queries(const Block *b, int slot[2])
{
    slot[0] = COMP_Q;
    slot[1] = COMP_INDEX_Q;
    return b->linear[COMP_INDEX_Q] >= 0 ? 2 : 1;
}

/* Floats of a row of each part (PAST_*). */
static void past_widths(const ModelConfig *m, CompressKind kind, int64_t width[PAST_PARTS])
{
    const CompressConfig *c = &m->compress;
    bool sparse = kind == COMPRESS_SPARSE;
    int64_t d = m->head_dim, rate = c->rate[kind], comp = kind == COMPRESS_NONE ? 0 : sparse ? 2 * d : d;
    int64_t index = sparse ? 2 * c->index_dim : 0;
    const int64_t all[PAST_PARTS] = {d, comp, comp, index, index, rate ? div_up(d, rate) : 0,
                                     sparse ? div_up(c->index_dim, rate) : 0};
    memcpy(width, all, sizeof all);
}

static void keep_rows(const CompressedRun *r)
{
    const float *const part[] = {r->kv, r->comp_kv, r->comp_gate, r->index_kv, r->index_gate};
    int64_t width[PAST_PARTS];
    past_widths(r->m, r->kind, width);
    for (int i = 0; i < PAST_ENTRY; i++)
        if (width[i])
            past_put(r->ps, r->b, i, part[i], width[i]);
}

/* A copy for who wants one. */
static void keep(float *to, const float *x, int64_t n)
{
    if (to)
        memcpy(to, x, (size_t)n * sizeof *to);
}

static Status run_block(CompressedRun *r, const ChunkBuffers *buf, Error *err)
{
    Pass *ps = r->ps;
    BlockRun *b = r->b;
    Projection in = {.x = buf->x}, q = {.x = r->qr, .y = {r->q, r->index_q}};
    FeedPiece q_piece, o_piece;
    bool gate;
    in.n = first(b->b, in.slot, &gate);
    memcpy(in.y, r->y, sizeof r->y);
    q.n = queries(b->b, q.slot);
    block_piece(ps, b, q.slot, 1, false, &q_piece);
    block_piece(ps, b, &(int){COMP_O_A}, 1, false, &o_piece);
    RETURN_IF_ERROR(block_project(ps, b, &in, buf->act, &q_piece, err));
    keep(r->raw_qr, r->qr, ps->rows * r->c->q_rank);
    keep(r->raw_kv, r->kv, ps->rows * r->m->head_dim);
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, latent_task, r, ps->rows, err));
    RETURN_IF_ERROR(block_project(ps, b, &q, buf->act, &o_piece, err));
    keep(r->raw_q, r->q, ps->rows * r->m->heads * r->m->head_dim);
    RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, queries_task, r, ps->rows, err));
    RETURN_IF_ERROR(feed_heads(r, err));
    keep(r->kept_q, r->q, ps->rows * r->m->heads * r->m->head_dim);
    if (ps->in->past)
        keep_rows(r);
    if (r->rate)
        RETURN_IF_ERROR(pass_tiles(ps, PHASE_ELEMENTS, entries_task, r, ps->rows, err));
    RETURN_IF_ERROR(run_attention(r, err));
    return project_groups(r, buf, err);
}

CompressedRun comp_of(Pass *ps, BlockRun *b)
{
    const CompressedConf *conf = b->b->conf;
    const ModelConfig *m = ps->cfg;
    return (CompressedRun){.ps = ps, .b = b, .m = m, .c = &m->compress, .kind = conf->kind, .window = conf->window,
                           .rate = m->compress.rate[conf->kind]};
}

Status comp_run(CompressedRun *r, const ChunkBuffers *buf, float *at, Error *err)
{
    Pass *ps = r->ps;
    RETURN_IF_ERROR(block_read(ps, r->b, buf, err));
    r->first_task = mem_array((size_t)(ps->s1 - ps->s0) + 1, sizeof *r->first_task);
    r->start = mem_array((size_t)ps->in->samples + 1, sizeof *r->start);
    Status st = r->first_task && r->start ? ST_OK : error_nomem(err, "attention");
    place(r, at);
    if (st == ST_OK)
        st = run_block(r, buf, err);
    free(r->first_task);
    free(r->start);
    return st;
}

static Status forward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    CompressedRun r = comp_of(ps, b);
    RETURN_IF_ERROR(comp_run(&r, buf, buf->mid, err));
    return block_end(ps, b, COMP_O, r.o, buf, err);
}

static void need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    const ModelConfig *c = ask->cfg;
    int64_t window = ((const CompressedConf *)b->conf)->window, keys = comp_most_keys(c, window, ask->longest);
    int slot[STAGE_MAX], q[2];
    bool gate;
    int n = first(b, slot, &gate);
    out->row.mid = comp_row_floats(c);
    out->row.act = max_i64(need_acts(b, ask, slot, n), need_acts(b, ask, &(int){COMP_O_A}, 1));
    out->row.act = max_i64(out->row.act, need_acts(b, ask, q, queries(b, q)));
    out->worker.scores = scores_floats(c, window, ask->longest);
    need_product(ask, &out->worker, QUERY_ROWS, keys, c->head_dim);
    need_product(ask, &out->worker, QUERY_ROWS, c->head_dim, keys);
    need_ends(b, ask, COMP_O, out);
}

static void past(const Block *b, const ModelConfig *cfg, PastShape *out)
{
    int64_t width[PAST_PARTS];
    past_widths(cfg, ((const CompressedConf *)b->conf)->kind, width);
    memcpy(out->row, width, sizeof width);
}

static void backward_need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    need(b, ask, out);
    compressed_back_need(b, ask, out);
}

const BlockOps compressed_ops = {.need = need, .first = first, .forward = forward, .past = past,
                                 .backward = compressed_backward, .backward_need = backward_need};
