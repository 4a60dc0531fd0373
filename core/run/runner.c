#include "run/need.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/num.h"
#include "run/ready.h"
#include "run/shelf.h"

enum {
    PROGRESS_NS = 100 * 1000 * 1000,
    LOGIT_VALUES = 4 << 20    /* widened head values held at once */
};
static const uint64_t piece_bytes = (uint64_t)64 << 20;

uint64_t feed_piece_max(uint64_t mem_limit)
{
    return mem_limit && mem_limit / 16 < piece_bytes ? mem_limit / 16 : piece_bytes;
}

/* The most bytes of weights one batch of a layer reads: linears that share an input. */
static uint64_t largest_piece(const Source *s)
{
    const Model *m = s->model;
    uint64_t most = 0;
    for (int64_t i = 0; i < m->nlinears; i++) {
        uint64_t sum = 0;
        for (int64_t k = m->linears[i].input; k <= i; k++) { /* few lie between */
            const Linear *l = &m->linears[k];
            SourceWeight w = source_weight(s, l);
            uint64_t bytes = source_weight_bytes(&w);
            if (l->input == m->linears[i].input)
                sum += w.base.out_step ? 2 * bytes : bytes; /* with what lies between the rows of a stacked one */
        }
        if (m->linears[i].expert >= 0) /* several experts are read at once */
            sum *= STAGES_MAX;
        most = max_u64(most, sum);
    }
    return most < piece_bytes ? most : piece_bytes;
}

Status runner_new(Runner **out, const Model *m, const RunnerOptions *opt, Error *err)
{
    *out = NULL;
    gemm_single_thread();
    Runner *r = calloc(1, sizeof *r);
    if (!r)
        return error_nomem(err, "the runner");
    r->m = m;
    r->opt = *opt;
    r->src = (Source){m, opt->overlay};
    r->ops = ops_make(opt->arith, m->cfg.dtype);
    r->ops.rope_fp32 = m->cfg.rope_fp32;
    r->ops.act_limit = (float)m->cfg.moe.act_limit;
    r->ops.act_alpha = (float)m->cfg.moe.act_alpha;
    if (opt->gemm)
        r->ops.gemms[GEMM_F32] = opt->gemm;
    r->threads = pool_threads(opt->pool);
    r->piece = largest_piece(&r->src);
    r->worker = mem_zarray((size_t)r->threads, sizeof *r->worker);
    for (int i = 0; r->worker && i < r->threads; i++)
        r->worker[i] = (Worker){.profile = pool_profile(opt->pool), .number = i};
    Status st = r->worker ? feed_new(&r->feed, pool_profile(opt->pool), err) : error_nomem(err, "the runner");
    if (st == ST_OK && opt->together)
        st = shelf_new(&r->shelf, m, opt->together, err);
    if (r->shelf)
        feed_from_shelf(r->feed, r->shelf);
    if (st == ST_OK)
        st = panels_init(&r->ring, r->threads, err);
    if (st != ST_OK) {
        runner_free(r);
        return st;
    }
    *out = r;
    return ST_OK;
}

Status runner_unchanged(const Runner *r, Runner **out, Error *err)
{
    RunnerOptions opt = r->opt;
    opt.overlay = NULL;
    opt.together = NULL;
    return runner_new(out, r->m, &opt, err);
}

void runner_free(Runner *r)
{
    if (!r)
        return;
    feed_free(r->feed);
    shelf_free(r->shelf);
    panels_fini(&r->ring);
    for (int i = 0; r->worker && i < r->threads; i++) {
        free(r->worker[i].rows);
        free(r->worker[i].tile);
        free(r->worker[i].scores);
        free(r->worker[i].edit);
        free(r->worker[i].gemm);
    }
    free(r->worker);
    free(r->scratch);
    rope_fini(&r->rope);
    free(r);
}

const Model *runner_model(const Runner *r)
{
    return r->m;
}

ArithMode runner_arith(const Runner *r)
{
    return r->opt.arith;
}

const Source *runner_source(const Runner *r)
{
    return &r->src;
}

const Overlay *runner_overlay(const Runner *r)
{
    return r->opt.overlay;
}

Pool *runner_pool(Runner *r)
{
    return r->opt.pool;
}

const Cancel *runner_cancel(const Runner *r)
{
    return r->opt.cancel;
}

Status runner_bring(Runner *r, int layer, Error *err)
{
    return r->shelf ? shelf_hold(r->shelf, layer, r->opt.pool, r->opt.cancel, err) : ST_OK;
}

uint64_t runner_mem_limit(const Runner *r)
{
    return r->opt.mem_limit;
}

void runner_hold(Runner *r, uint64_t bytes)
{
    r->held = bytes;
}

void runner_progress(Runner *r, const char *phase, int64_t done, int64_t total, double wdone, double wtotal, bool now)
{
    if (!r->opt.progress)
        return;
    int64_t t = clock_ns();
    if (!now && t - r->last_progress < PROGRESS_NS)
        return;
    r->last_progress = t;
    r->opt.progress(r->opt.progress_ctx, &(Progress){phase, done, total, wdone, wtotal});
}

static bool reserve(void *buf, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap)
        return true;
    void *old, *grown = mem_aligned(need, size);
    memcpy(&old, buf, sizeof old);
    free(old);
    memcpy(buf, &grown, sizeof grown);
    *cap = grown ? need : 0;
    return grown != NULL;
}

Status workers_reserve(Runner *r, const WorkerNeed *need, Error *err)
{
    for (int i = 0; i < r->threads; i++) {
        Worker *w = &r->worker[i];
        if (!reserve(&w->rows, &w->rows_cap, need->rows, sizeof(float)) ||
            !reserve(&w->tile, &w->tile_cap, need->tile, sizeof(float)) ||
            !reserve(&w->scores, &w->scores_cap, need->scores, sizeof(float)) ||
            !reserve(&w->edit, &w->edit_cap, need->edit, sizeof(float)) ||
            !reserve(&w->gemm, &w->gemm_cap, need->gemm, 1))
            return error_nomem(err, "the buffers of a compute thread");
    }
    return panels_reserve(&r->ring, need->panel, err);
}

uint64_t worker_need_bytes(const WorkerNeed *n, int threads)
{
    uint64_t one = (n->rows + n->tile + n->scores + n->edit) * sizeof(float) + n->gemm;
    return one * (uint64_t)threads + n->panel * (uint64_t)panels_slots(threads);
}

void worker_need_gemm(WorkerNeed *need, const GemmOps *g, int64_t m, int64_t n, int64_t k)
{
    need->gemm = max_u64(need->gemm, g->scratch(m, n, k));
}

Status scratch_reserve(Runner *r, size_t floats, Error *err)
{
    return reserve(&r->scratch, &r->scratch_cap, floats, sizeof *r->scratch)
               ? ST_OK
               : error_nomem(err, "the activations of a layer");
}

void scratch_drop(Runner *r)
{
    free(r->scratch);
    r->scratch = NULL;
    r->scratch_cap = 0;
}

void runner_leave_layers(Runner *r)
{
    scratch_drop(r);
}

/* ---- embedding and final norm ---- */

static Status embed_rows(Runner *r, const Ops *ops, const SourceTensor *e, const int32_t *ids, int64_t rows, int64_t w,
                         float *out, void *raw, float *scratch, Error *err)
{
    int64_t h = r->m->cfg.hidden;
    float scale = sqrtf((float)h);
    ops_round(ops, &scale, 1);
    for (int64_t i = 0; i < rows; i++) {
        int32_t id = ids[i];
        if (id < 0 || id >= r->m->cfg.vocab)
            return error_set(err, ST_DATA, "token id %d is outside the vocabulary of %lld entries", id,
                             (long long)r->m->cfg.vocab);
        RETURN_IF_ERROR(cancel_check(r->opt.cancel, err));
        RETURN_IF_ERROR(source_values(e, ops, id * h, h, raw, scratch, out + i * w, err));
        if (r->m->entry.scaled)
            ops_scale(ops, out + i * w, scale, h);
        for (int64_t c = h; c < w; c += h) /* hyper-connections begin with equal copies */
            memcpy(out + i * w + c, out + i * w, (size_t)h * sizeof *out);
        if (i % 256 == 0)
            runner_progress(r, "embed", i, rows, 0, 0, i == 0);
    }
    return ST_OK;
}

Status embed_ids(Runner *r, const Ops *ops, const TensorInfo *e, const int32_t *ids, int64_t rows, int64_t width,
                 float *out, Error *err)
{
    SourceTensor from = source_tensor(&r->src, e);
    void *raw = mem_aligned((size_t)r->m->cfg.hidden, sizeof(float));
    float *scratch = mem_aligned(source_tensor_scratch(&from), sizeof *scratch);
    Profile *profile = pool_profile(r->opt.pool);
    Phase was = profile_enter(profile, 0, PHASE_READ);
    Status st = raw && scratch ? embed_rows(r, ops, &from, ids, rows, width, out, raw, scratch, err)
                               : error_nomem(err, "the embedding");
    profile_leave(profile, 0, was);
    free(raw);
    free(scratch);
    return st;
}

Status runner_embed(Runner *r, const TokenSet *t, Stream *out, Error *err)
{
    *out = (Stream){0};
    uint64_t bytes = (uint64_t)t->start[t->samples] * (uint64_t)r->m->cfg.stream_width * sizeof(float);
    if (r->opt.mem_limit && bytes > r->opt.mem_limit)
        return error_set(err, ST_NOMEM,
                         "the hidden states of %lld tokens take %.1f MB but the limit is %.1f MB: raise --mem, or use "
                         "fewer texts (--max-samples, --seq-len)",
                         (long long)t->start[t->samples], (double)bytes / 1e6, (double)r->opt.mem_limit / 1e6);
    RETURN_IF_ERROR(stream_init(out, t->samples, t->start, r->m->cfg.stream_width, err));
    out->first = t->first;
    Status st = embed_ids(r, &r->ops, r->m->entry.table, t->ids, out->rows, out->width, out->data, err);
    if (st == ST_OK)
        st = stream_set_ids(out, t->ids, err);
    if (st != ST_OK)
        stream_fini(out);
    return st;
}

typedef struct NormRun {
    Runner *r;
    const Ops *ops;
    const Stream *in;
    Stream *out;
    const float *weight, *bias; /* bias: NULL without one */
} NormRun;

enum { NORM_ROWS = 64 };

static void final_norm_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const NormRun *n = ctx;
    int64_t end = (index + 1) * NORM_ROWS < n->in->rows ? (index + 1) * NORM_ROWS : n->in->rows, w = n->out->width;
    const float *from = n->r->m->cfg.hyper.copies ? n->out->data : n->in->data; /* hyper_end's sum stands there */
    for (int64_t t = index * NORM_ROWS; t < end; t++)
        ops_norm(n->ops, n->r->m->cfg.norm, from + t * w, n->weight, n->bias, n->r->m->cfg.eps, w,
                 n->out->data + t * w);
}

static Status run_final_norm(NormRun *n, const TapHub *hub, Error *err)
{
    Runner *r = n->r;
    if (r->m->cfg.hyper.copies)
        RETURN_IF_ERROR(hyper_end(r, n->ops, n->in->data, n->in->rows, n->out->data, err));
    Batch b = {.n = 0};
    batch_add(&b, PHASE_ELEMENTS, final_norm_task, n, div_up(n->in->rows, NORM_ROWS));
    RETURN_IF_ERROR(batch_run(&b, r->opt.pool, r->opt.cancel, err));
    TapFeed f = {.hub = hub, .tap = {TAP_FINAL_NORM, -1, -1}, .shape = n->out, .x = n->out->data,
                 .width = n->out->width, .ld = n->out->width};
    f.mask = taps_wanted(hub, f.tap);
    if (!f.mask)
        return ST_OK;
    RETURN_IF_ERROR(taps_begin(hub, f.mask, f.tap, n->out, f.width, err));
    batch_add(&b, PHASE_STATISTICS, taps_task, &f, n->out->samples);
    RETURN_IF_ERROR(batch_run(&b, r->opt.pool, r->opt.cancel, err));
    return taps_end(hub, f.mask, f.tap, err);
}

Status exit_norm(Runner *r, const Ops *ops, const Stream *h, Stream *out, const Observer *obs, int nobs, Error *err)
{
    *out = (Stream){0};
    if (nobs > TAPS_MAX_OBSERVERS)
        return error_set(err, ST_INTERNAL, "%d observers of one pass, at most %d", nobs, TAPS_MAX_OBSERVERS);
    float *w, *b = NULL;
    RETURN_IF_ERROR(source_small(&r->src, ops, r->m->exit.norm, &w, err));
    Status st = source_norm_bias(&r->src, ops, r->m->exit.norm, &b, err);
    if (st == ST_OK)
        st = stream_init(out, h->samples, h->start, r->m->cfg.hidden, err);
    TapHub hub = {obs, nobs, r->opt.cancel};
    if (st == ST_OK)
        st = run_final_norm(&(NormRun){r, ops, h, out, w, b}, &hub, err);
    free(w);
    free(b);
    if (st != ST_OK)
        stream_fini(out);
    return st;
}

Status runner_final_norm(Runner *r, const Stream *h, Stream *out, const Observer *obs, int nobs, Error *err)
{
    return exit_norm(r, &r->ops, h, out, obs, nobs, err);
}

/* ---- logits ---- */

typedef struct LogitsRun {
    Runner *r;
    const Ops *ops;
    const Stream *x;
    LogitsPanel *fn;
    void *ctx;
    SourceTensor head;
    float *w;        /* widened head rows [v0, v1) */
    const void *raw; /* the same in the checkpoint's dtype */
    int64_t v0, v1;
    ReadyWeight *ready; /* they go there, too; NULL: nowhere */
    float *out;      /* [rows][vocab] */
} LogitsRun;

/* Rows [v0 + a, v0 + a + n) of the head as products want them: as they lie in the file, where nothing is done to them. */
static void pack_ready(const LogitsRun *l, const void *raw, int64_t a, int64_t n)
{
    const GemmOps *g = ops_gemms(l->ops);
    int64_t h = l->x->width;
    bool plain = l->head.file && !l->head.edit && l->head.base->dtype == DT_BF16 && g->takes(DT_BF16) &&
                 (!l->ops->rounds || l->ops->dtype == DT_BF16);
    void *to = l->ready->data + (size_t)((l->v0 + a) / LOGITS_COLS) * l->ready->step;
    g->pack(plain ? DT_BF16 : DT_F32, plain ? raw : l->w + a * h, n, h, h, to);
}

static void widen_task(void *ctx, int64_t index, int worker)
{
    LogitsRun *l = ctx;
    int64_t h = l->x->width, a = index * LOGITS_COLS, n = l->v1 - l->v0 - a;
    n = n < LOGITS_COLS ? n : LOGITS_COLS;
    const unsigned char *raw = l->raw;
    if (l->head.file)
        raw += (uint64_t)(a * h) * (uint64_t)dtype_size(l->head.base->dtype);
    source_tensor_decode(&l->head, l->ops, raw, (l->v0 + a) * h, n * h, l->r->worker[worker].edit, l->w + a * h);
    if (l->ready)
        pack_ready(l, raw, a, n);
}

static void logits_task(void *ctx, int64_t index, int worker)
{
    LogitsRun *l = ctx;
    Worker *wk = &l->r->worker[worker];
    int64_t h = l->x->width, row0 = index * LOGITS_ROWS;
    int64_t rows = l->x->rows - row0 < LOGITS_ROWS ? l->x->rows - row0 : LOGITS_ROWS;
    for (int64_t v = l->v0; v < l->v1 && !cancel_level(l->r->opt.cancel); v += LOGITS_COLS) {
        int64_t n = l->v1 - v < LOGITS_COLS ? l->v1 - v : LOGITS_COLS;
        const float *w = l->w + (v - l->v0) * h;
        GemmArgs g = {.m = rows, .n = n, .k = h, .x = l->x->data + row0 * h, .ldx = h, .w = w, .ldw = h,
                      .y = wk->tile, .ldy = n};
        ops_gemm(l->ops, &g, wk->gemm);
        if (l->r->m->cfg.final_softcap > 0)
            ops_softcap(l->ops, wk->tile, rows * n, (float)l->r->m->cfg.final_softcap);
        l->fn(l->ctx, worker, row0, rows, v, n, wk->tile, n, w);
    }
}

static int64_t head_group(const Model *m)
{
    int64_t rows = LOGIT_VALUES / m->cfg.hidden / LOGITS_COLS * LOGITS_COLS;
    rows = rows < LOGITS_COLS ? LOGITS_COLS : rows;
    return rows < m->cfg.vocab ? rows : m->cfg.vocab;
}

static FeedPiece head_piece(const Model *m, const SourceTensor *head, int64_t v0)
{
    uint64_t row = (uint64_t)m->cfg.hidden * (uint64_t)dtype_size(head->base->dtype);
    int64_t n = m->cfg.vocab - v0 < head_group(m) ? m->cfg.vocab - v0 : head_group(m);
    return (FeedPiece){.nseg = head->file != NULL,
                       .seg = {{head->file, head->base, (uint64_t)v0 * row, (uint64_t)n * row}}};
}

static Status logits_group(LogitsRun *l, Error *err)
{
    Runner *r = l->r;
    const Model *m = r->m;
    FeedPiece p = head_piece(m, &l->head, l->v0);
    const void *raw[FEED_SEGMENTS] = {NULL};
    RETURN_IF_ERROR(feed_take(r->feed, &p, raw, r->opt.cancel, err));
    l->raw = raw[0];
    if (l->v1 < m->cfg.vocab) {
        FeedPiece next = head_piece(m, &l->head, l->v1);
        if (next.nseg)
            feed_want(r->feed, &next);
    }
    Batch b = {.n = 0};
    batch_add(&b, PHASE_LOGITS, widen_task, l, div_up(l->v1 - l->v0, LOGITS_COLS));
    Status st = batch_run(&b, r->opt.pool, r->opt.cancel, err);
    feed_done(r->feed);
    RETURN_IF_ERROR(st);
    batch_add(&b, PHASE_LOGITS, logits_task, l, div_up(l->x->rows, LOGITS_ROWS));
    return batch_run(&b, r->opt.pool, r->opt.cancel, err);
}

static Status logits_start(LogitsRun *l, Error *err)
{
    const Model *m = l->r->m;
    const TensorInfo *head = overlay_head(l->r->opt.overlay, m);
    if (!head)
        return error_set(err, ST_DATA, "'%s' has no head: it gives no logits", m->path);
    RETURN_IF_ERROR(weight_check_plain(head, err));
    l->head = source_tensor(&l->r->src, head);
    WorkerNeed need = {.tile = LOGITS_ROWS * LOGITS_COLS, .edit = source_tensor_scratch(&l->head)};
    worker_need_gemm(&need, ops_gemms(l->ops), LOGITS_ROWS, LOGITS_COLS, m->cfg.hidden);
    return workers_reserve(l->r, &need, err);
}

static Status logits_groups(LogitsRun *l, Error *err)
{
    Runner *r = l->r;
    const Model *m = r->m;
    scratch_drop(r); /* no layer runs */
    int64_t group = head_group(m);
    l->w = mem_aligned((size_t)(group * l->x->width), sizeof *l->w);
    if (!l->w)
        return error_nomem(err, "the head's weights");
    double row_work = (double)m->cfg.hidden * (double)l->x->rows;
    Status st = ST_OK;
    for (l->v0 = 0; st == ST_OK && l->v0 < m->cfg.vocab; l->v0 = l->v1) {
        l->v1 = l->v0 + group < m->cfg.vocab ? l->v0 + group : m->cfg.vocab;
        runner_progress(r, "logits", l->v0, m->cfg.vocab, (double)l->v0 * row_work, (double)m->cfg.vocab * row_work,
                        l->v0 == 0);
        st = logits_group(l, err);
    }
    free(l->w);
    return st;
}

Status exit_logits(Runner *r, const Ops *ops, const Stream *normed, LogitsPanel *fn, void *ctx, Error *err)
{
    LogitsRun l = {.r = r, .ops = ops, .x = normed, .fn = fn, .ctx = ctx};
    RETURN_IF_ERROR(logits_start(&l, err));
    return logits_groups(&l, err);
}

/* ---- all logits of few rows ---- */

void runner_keep_ready(Runner *r, Ready *ready)
{
    r->ready = ready;
}

static void copy_panel(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv, const float *logits,
                       int64_t ld, const float *w)
{
    (void)worker;
    (void)w;
    const LogitsRun *l = ctx;
    int64_t vocab = l->r->m->cfg.vocab;
    for (int64_t i = 0; i < rows; i++)
        memcpy(l->out + (row0 + i) * vocab + v0, logits + i * ld, (size_t)nv * sizeof *logits);
}

/* One panel of the head for all rows. */
static void ready_logits_task(void *ctx, int64_t index, int worker)
{
    const LogitsRun *l = ctx;
    const ModelConfig *c = &l->r->m->cfg;
    int64_t h = l->x->width, v = index * LOGITS_COLS, n = min_i64(c->vocab - v, LOGITS_COLS);
    for (int64_t row = 0; row < l->x->rows; row += LOGITS_ROWS) {
        int64_t rows = min_i64(l->x->rows - row, LOGITS_ROWS);
        float *y = l->out + row * c->vocab + v;
        GemmArgs g = {.m = rows, .n = n, .k = h, .x = l->x->data + row * h, .ldx = h, .packed_n = n,
                      .packed = l->ready->data + (size_t)index * l->ready->step, .y = y, .ldy = c->vocab};
        ops_gemm(l->ops, &g, l->r->worker[worker].gemm);
        for (int64_t i = 0; i < rows && c->final_softcap > 0; i++)
            ops_softcap(l->ops, y + i * c->vocab, n, (float)c->final_softcap);
    }
}

/* Whether the head's weight is there, made now where there is room. */
static Status head_ready(LogitsRun *l, bool *ready, Error *err)
{
    Ready *all = l->r->ready;
    const GemmOps *g = ops_gemms(l->ops);
    int64_t h = l->x->width, panels = div_up(l->r->m->cfg.vocab, LOGITS_COLS);
    *ready = all && all->head.gemm == g;
    if (*ready || !all || all->refused[all->n] ||
        !ready_room(all, &all->head, all->n, panels, (size_t)round_up((int64_t)g->packed_bytes(LOGITS_COLS, h), 64), 0))
        return ST_OK;
    Stream none = *l->x;
    none.rows = 0;
    LogitsRun fill = *l;
    fill.x = &none;
    fill.ready = &all->head;
    RETURN_IF_ERROR(logits_groups(&fill, err));
    all->head.gemm = g;
    *ready = true;
    return ST_OK;
}

Status runner_logit_rows(Runner *r, const Stream *normed, float *logits, Error *err)
{
    bool ready;
    LogitsRun l = {.r = r, .ops = &r->ops, .x = normed, .fn = copy_panel, .out = logits};
    l.ctx = &l;
    RETURN_IF_ERROR(logits_start(&l, err));
    RETURN_IF_ERROR(head_ready(&l, &ready, err));
    if (!ready)
        return logits_groups(&l, err);
    l.ready = &r->ready->head;
    Batch b = {.n = 0};
    batch_add(&b, PHASE_LOGITS, ready_logits_task, &l, div_up(r->m->cfg.vocab, LOGITS_COLS));
    return batch_run(&b, r->opt.pool, r->opt.cancel, err);
}

Status runner_logits(Runner *r, const Stream *normed, LogitsPanel *fn, void *ctx, Error *err)
{
    return exit_logits(r, &r->ops, normed, fn, ctx, err);
}

/* ---- the planner's bound ---- */

static uint64_t head_piece_bytes(const Model *m)
{
    return (uint64_t)(head_group(m) * m->cfg.hidden) * (uint64_t)dtype_size((m->exit.head ? m->exit.head : m->entry.table)->dtype);
}

RunnerNeed runner_need(const Model *m, const RunnerAsk *a)
{
    int64_t rows = a->rows, chunk = a->whole ? rows : min_i64(rows, max_i64(CHUNK_ROWS, a->longest));
    NeedAsk ask = {.rows = rows, .longest = a->longest, .band = min_i64(rows, BAND_MAX), .threads = a->threads,
                   .level = a->level, .inputs = a->inputs, .branches = a->branches,
                   .gemms = {[NEED_F32] = gemm_find(GEMM_F32), [NEED_PRODUCTS] = gemm_find(arith_products(a->arith, m->cfg.dtype)),
                             [NEED_CODES] = a->level ? gemm_find(GEMM_BF16) : NULL}};
    BlockNeed need = model_need(m, &ask);
    need.worker.edit = a->inputs || a->turned ? model_edit_floats(m) : 0;
    need.worker.edit = a->branches ? max_u64(need.worker.edit, model_branch_floats(m)) : need.worker.edit;
    need_product(&ask, &need.worker, LOGITS_ROWS, LOGITS_COLS, m->cfg.hidden);
    need.worker.tile = max_u64(need.worker.tile, LOGITS_ROWS * LOGITS_COLS);
    RunnerNeed out = {.stream = (uint64_t)(rows * m->cfg.stream_width) * sizeof(float) + (uint64_t)(rows * need.kept),
                      .kept = worker_need_bytes(&need.worker, a->threads) + unit_beside_bytes(m, a->longest),
                      .layer = (uint64_t)(chunk * row_need_floats(&need.row)) * sizeof(float),
                      .head = (uint64_t)(head_group(m) * m->cfg.hidden) * sizeof(float)};
    uint64_t piece = largest_piece(&(Source){m, NULL});
    out.kept += 2 * piece;
    out.kept += a->turned ? linears_whole_bytes(&(Source){m, NULL}, 0, m->nlinears, true, piece) : 0;
    out.ahead = 2 * (max_u64(piece, head_piece_bytes(m)) - piece);
    out.head += out.ahead;
    out.layer = max_u64(out.layer, need.whole); /* never both: scratch_drop */
    out.layer += (uint64_t)(model_late(m) * rows * m->cfg.hidden) * sizeof(float);
    return out;
}

uint64_t runner_whole_bytes(const Model *m, int threads)
{
    uint64_t most = 0;
    for (int64_t i = 0; i < m->nlinears; i++)
        most = max_u64(most, (uint64_t)(m->linears[i].out * m->linears[i].in) * sizeof(float));
    return most + (uint64_t)threads * model_edit_floats(m) * sizeof(float);
}

uint64_t runner_estimate(const Model *m, const RunnerAsk *ask)
{
    RunnerNeed n = runner_need(m, ask);
    return n.stream + n.kept + max_u64(n.layer, n.head);
}

/* ---- what a stream carries beside its state ---- */

bool runner_carries(const Model *m, int layer, const Stream *s)
{
    for (int i = 0; layer >= 0 && layer < m->nunits && i < m->units[layer].nblocks; i++) {
        const Block *b = &m->units[layer].block[i];
        const BlockOps *ops = block_ops(b->type);
        if (ops && ops->carries && ops->carries(b, m->units[layer].cfg, longest_of(s->start, s->samples)))
            return true;
    }
    return false;
}

Status runner_carry(Stream *s, Error *err)
{
    return stream_reserve_select(s, longest_of(s->start, s->samples), err);
}
