#include "process/awqblock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "quant/awqsearch.h"
#include "quant/products.h"
#include "quant/quantizer.h"
#include "run/unit.h"

/* A target's form. */
typedef struct AwqTarget {
    const AwqBlock *block;
    int64_t linear;
    float *made; /* [out][in] of the present scales; NULL: its rows are made as they are read */
    LinearForm form;
} AwqTarget;

struct AwqBlock {
    const SmoothCtx *c;
    const Subgraph *g;
    int unit;
    QSpec q;
    const WeightQuantizer *rows; /* NULL: the quantizer has to see all of a weight */
    const float *s;              /* present scales */
    /* one target: its product */
    const SmoothStats *stats;
    float *w, *y;                /* [out][in]; [ntokens][out] as it is */
    /* several: blocks [from, to) of the unit */
    int from, to;
    AwqTarget *target;           /* [n] */
    int n;
    const LinearForm **table;    /* [linears of the unit] */
    Stream in, out;              /* before the block, behind it */
    float *gold;                 /* [rows][width] what it gave as it is */
    int64_t width;               /* 0: not known yet */
    double *sum;                 /* [samples] squared differences */
    bool first;                  /* gold is being made */
    bool fed;                    /* what the block gives is shown by a tap of its own */
};

/* Its quantizer, where rows are independent. */
static const WeightQuantizer *rowwise(const QSpec *q, bool peer)
{
    const WeightQuantizer *w = weight_quantizer_find(q);
    return w && w->rows && !w->prepare && weight_quantizer_rowwise(w, q, peer) ? w : NULL;
}

/* ---- one target ---- */

static const Linear *linear_at(const AwqBlock *b, int64_t i)
{
    return &b->c->model->linears[i];
}

static Status plain_product(AwqBlock *b, Error *err)
{
    const Linear *l = linear_at(b, b->g->targets[0]);
    b->w = mem_aligned((size_t)(l->out * l->in), sizeof *b->w);
    b->y = mem_aligned((size_t)(b->stats->ntokens * l->out), sizeof *b->y);
    if (!b->w || !b->y)
        return error_nomem(err, l->name);
    RETURN_IF_ERROR(runner_weight(b->c->runner, b->g->targets[0], -1, b->w, err));
    const Product p = {.x = b->stats->tokens, .w = b->w, .rows = b->stats->ntokens, .in = l->in, .out = l->out};
    return product_make(&p, runner_pool(b->c->runner), runner_cancel(b->c->runner), b->y, err);
}

static Status product_loss(AwqBlock *b, double *loss, Error *err)
{
    Runner *r = b->c->runner;
    const Linear *l = linear_at(b, b->g->targets[0]);
    ProductSums sums;
    RETURN_IF_ERROR(runner_weight(b->c->runner, b->g->targets[0], -1, b->w, err));
    RETURN_IF_ERROR(awq_fake(&b->q, b->s, b->c->peer, b->w, l->out, l->in, runner_pool(r), runner_cancel(r), err));
    const Product p = {.x = b->stats->tokens, .w = b->w, .rows = b->stats->ntokens, .in = l->in, .out = l->out};
    RETURN_IF_ERROR(product_error(&p, runner_pool(r), runner_cancel(r), b->y, &sums, err));
    *loss = sums.error / ((double)p.rows * (double)p.out);
    return ST_OK;
}

/* ---- what the block gives ---- */

static bool wants_tap(void *self, Tap tap)
{
    const AwqBlock *b = self;
    return b->to == b->from + 1 && (tap.kind == TAP_ATTN || tap.kind == TAP_FFN) && tap.layer == b->unit;
}

static Status room_for_output(AwqBlock *b, int64_t width, Error *err)
{
    if (!b->first)
        return ST_OK;
    b->width = width;
    b->gold = mem_aligned((size_t)(b->in.rows * width), sizeof *b->gold);
    return b->gold ? ST_OK : error_nomem(err, "a block's output");
}

static Status tap_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    (void)tap, (void)samples, (void)start;
    AwqBlock *b = self;
    b->fed = true;
    return room_for_output(b, width, err);
}

/* Rows of one sample, in order. */
static void look(AwqBlock *b, int sample, int64_t row, const float *x, int64_t rows, int64_t ld)
{
    double sum = 0;
    for (int64_t r = 0; r < rows; r++) {
        float *gold = b->gold + (row + r) * b->width;
        for (int64_t j = 0; j < b->width && !b->first; j++) {
            double d = (double)x[r * ld + j] - (double)gold[j];
            sum += d * d;
        }
        if (b->first)
            memcpy(gold, x + r * ld, (size_t)b->width * sizeof *x);
    }
    b->sum[sample] += sum;
}

static void tap_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    (void)tap, (void)width;
    AwqBlock *b = self;
    look(b, sample, b->in.start[sample] + row0, x, rows, ld);
}

static const ObserverOps output_ops = {
    .name = "a block's output",
    .wants_tap = wants_tap,
    .tap_begin = tap_begin,
    .tap_tile = tap_tile,
};

static Status run_block(AwqBlock *b, Error *err)
{
    const Observer obs = {&output_ops, b};
    const Variant v = {.forms = b->first ? NULL : b->table};
    for (int i = 0; i < b->in.samples; i++)
        b->sum[i] = 0;
    RETURN_IF_ERROR(unit_forward(b->c->runner, b->unit, b->from, b->to, &v, &b->in, &b->out, &obs, 1, err));
    if (b->fed)
        return ST_OK;
    RETURN_IF_ERROR(room_for_output(b, b->out.width, err));
    for (int i = 0; i < b->out.samples; i++)
        look(b, i, b->out.start[i], b->out.data + b->out.start[i] * b->out.width, b->out.start[i + 1] - b->out.start[i],
             b->out.width);
    return ST_OK;
}

/* ---- the targets' forms ---- */

static void form_rows(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    const AwqTarget *t = self;
    const AwqBlock *b = t->block;
    if (t->made) {
        memcpy(w, t->made + row0 * in, (size_t)(rows * in) * sizeof *w);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < in; j++)
            w[r * in + j] *= b->s[j];
    b->rows->rows(&b->q, w, rows, in, DT_F32, b->c->peer);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < in; j++)
            w[r * in + j] /= b->s[j];
}

static Status make_weights(AwqBlock *b, Error *err)
{
    Runner *r = b->c->runner;
    for (int i = 0; i < b->n; i++) {
        AwqTarget *t = &b->target[i];
        const Linear *l = linear_at(b, t->linear);
        if (!t->made)
            continue;
        RETURN_IF_ERROR(runner_weight(b->c->runner, t->linear, -1, t->made, err));
        RETURN_IF_ERROR(awq_fake(&b->q, b->s, b->c->peer, t->made, l->out, l->in, runner_pool(r), runner_cancel(r), err));
    }
    return ST_OK;
}

/* A router stays as it is. */
static Status set_forms(AwqBlock *b, Error *err)
{
    const Unit *u = &b->c->model->units[b->unit];
    b->target = mem_zarray((size_t)b->g->ntargets, sizeof *b->target);
    b->table = mem_zarray((size_t)u->count, sizeof *b->table);
    if (!b->target || !b->table)
        return error_nomem(err, b->g->key);
    for (int i = 0; i < b->g->ntargets; i++) {
        const Linear *l = linear_at(b, b->g->targets[i]);
        if (l->kind == LK_ROUTER)
            continue;
        AwqTarget *t = &b->target[b->n++];
        *t = (AwqTarget){.block = b, .linear = b->g->targets[i], .form = {.weight = form_rows, .self = t}};
        if (!b->rows && !(t->made = mem_aligned((size_t)(l->out * l->in), sizeof *t->made)))
            return error_nomem(err, l->name);
        b->table[t->linear - u->first] = &t->form;
    }
    return ST_OK;
}

/* ---- where it is ---- */

static bool block_has(const Block *b, const Linear *l, int64_t linear)
{
    if (l->expert >= 0)
        return b->type == &block_moe;
    for (int i = 0; i < block_linears(b->type); i++)
        if (b->linear[i] == linear)
            return true;
    return false;
}

static void find_block(AwqBlock *b)
{
    const Unit *u = &b->c->model->units[b->unit];
    b->from = u->nblocks;
    for (int t = 0; t < b->g->ntargets; t++)
        for (int k = 0; k < u->nblocks; k++)
            if (block_has(&u->block[k], linear_at(b, b->g->targets[t]), b->g->targets[t])) {
                b->from = k < b->from ? k : b->from;
                b->to = k + 1 > b->to ? k + 1 : b->to;
            }
}

static Status open_block(AwqBlock *b, Error *err)
{
    find_block(b);
    if (b->to <= b->from)
        return error_set(err, ST_INTERNAL, "'%s' belongs to no block of layer %d", b->g->key, b->unit);
    b->sum = mem_zarray((size_t)b->c->input->samples, sizeof *b->sum);
    if (!b->sum)
        return error_nomem(err, b->g->key);
    RETURN_IF_ERROR(set_forms(b, err));
    RETURN_IF_ERROR(stream_copy(&b->in, b->c->input, err));
    if (b->from)
        RETURN_IF_ERROR(unit_forward(b->c->runner, b->unit, 0, b->from, NULL, &b->in, &b->in, NULL, 0, err));
    RETURN_IF_ERROR(stream_copy(&b->out, &b->in, err));
    b->first = true;
    RETURN_IF_ERROR(run_block(b, err));
    b->first = false;
    return ST_OK;
}

/* ---- public ---- */

Status awq_block_new(AwqBlock **out, const SmoothCtx *c, const Subgraph *g, const SmoothStats *s, const QSpec *q,
                     Error *err)
{
    *out = NULL;
    AwqBlock *b = mem_zarray(1, sizeof *b);
    if (!b)
        return error_nomem(err, g->key);
    *b = (AwqBlock){.c = c, .g = g, .q = fake_weight_spec(q), .stats = s, .unit = c->model->linears[g->targets[0]].layer};
    b->rows = rowwise(&b->q, c->peer);
    Status st = g->ntargets == 1 ? plain_product(b, err) : open_block(b, err);
    if (st != ST_OK)
        awq_block_free(b);
    else
        *out = b;
    return st;
}

void awq_block_free(AwqBlock *b)
{
    if (!b)
        return;
    for (int i = 0; b->target && i < b->n; i++)
        free(b->target[i].made);
    stream_fini(&b->in);
    stream_fini(&b->out);
    free(b->target);
    free(b->table);
    free(b->gold);
    free(b->sum);
    free(b->w);
    free(b->y);
    free(b);
}

Status awq_block_loss(void *block, const float *s, double *loss, Error *err)
{
    AwqBlock *b = block;
    double sum = 0;
    b->s = s;
    if (b->g->ntargets == 1)
        return product_loss(b, loss, err);
    RETURN_IF_ERROR(make_weights(b, err));
    RETURN_IF_ERROR(run_block(b, err));
    for (int i = 0; i < b->in.samples; i++)
        sum += b->sum[i];
    *loss = sum / ((double)b->in.rows * (double)b->width);
    return ST_OK;
}

uint64_t awq_block_bytes(const Model *m, const Subgraph *g, const QSpec *q, int64_t rows, bool peer, int threads)
{
    const QSpec plain = fake_weight_spec(q);
    bool made = !rowwise(&plain, peer);
    uint64_t weights = 0, most = 0, fake = 0;
    for (int i = 0; i < g->ntargets; i++) {
        const Linear *l = &m->linears[g->targets[i]];
        uint64_t bytes = (uint64_t)l->out * (uint64_t)l->in * sizeof(float);
        weights += bytes;
        most = max_u64(most, (uint64_t)l->out);
        fake = max_u64(fake, fake_weight_bytes(q, l->out, l->in, peer, threads));
    }
    if (g->ntargets == 1)
        return weights + (uint64_t)rows * most * sizeof(float) + product_bytes(g->width, threads) + fake;
    return (made ? weights + fake : 0) + (uint64_t)rows * (uint64_t)(2 * m->cfg.stream_width + m->cfg.hidden) * sizeof(float);
}
