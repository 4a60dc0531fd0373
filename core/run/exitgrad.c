/* The loss behind the last unit, and its gradient. One pass over the head: the running maximum and sum of a row's
 * exponentials, the sum of the head's rows weighted by them, and the token that is drawn. */
#include "run/exitgrad.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/rng.h"
#include "run/pass.h"

typedef struct ExitRun {
    Runner *r;
    const Stream *h;
    const ExitLoss *loss;
    const GemmOps *gemm;
    float cap;             /* on logits, 0: none */
    bool *drawn;           /* [rows] the label is */
    double *sum;           /* [rows] of exp(logit - max) so far */
    float *max;            /* [rows] */
    float *picked;         /* [rows][hidden] the head's row of the label, times the cap's slope there */
    float *grad;           /* [rows][hidden] sum of exp(logit - max) slope W so far; in the end the gradient */
    float *weight;         /* of the final norm */
    float *scratch;        /* [threads][scratch_floats] */
    size_t scratch_floats;
} ExitRun;

Status exit_has_gradients(const Model *m, Error *err)
{
    if (!m->exit.head)
        return error_set(err, ST_USAGE, "'%s' has no head: there is no loss to take gradients of", m->path);
    if (m->cfg.hyper.copies)
        return error_set(err, ST_USAGE, "no gradients through hyper-connections yet (behind the last layer)");
    return ST_OK;
}

/* ---- the panels of the head ---- */

/* exp(z - max) of a panel into p, whose sum is added; what was summed before shrinks where the maximum grew. Gives the
 * panel's own sum. */
static double take_panel(ExitRun *x, int64_t row, const float *z, int64_t nv, float *p)
{
    const MathKernels *f = x->r->ops.f;
    int64_t hidden = x->h->width;
    float old = x->max[row], top = f->max(z, nv), best = top > old ? top : old;
    if (best > old) {
        float shrink = expf(old - best);
        x->sum[row] *= (double)shrink;
        x->r->ops.k->scale(x->grad + row * hidden, shrink, x->grad + row * hidden, hidden);
        x->max[row] = best;
    }
    memcpy(p, z, (size_t)nv * sizeof *p);
    double own = f->exp_sum(p, nv, best, 0);
    x->sum[row] += own;
    return own;
}

/* Whether the token that is drawn is one of this panel's, by a sampling of weighted items one after the other: the panel
 * takes over with its share of all that came so far, and the same number says which of its tokens. -1: it does not. */
static int64_t draw(const ExitRun *x, int64_t row, int64_t v0, int64_t nv, const float *p, double own)
{
    Rng g = rng_of(x->loss->seed, x->loss->key ? x->loss->key[row] : (uint64_t)row);
    g = rng_of(g.state, (uint64_t)v0);
    double at = rng_unit(&g) * x->sum[row], below = 0;
    if (!(at < own))
        return -1;
    int64_t last = 0;
    for (int64_t v = 0; v < nv; v++) {
        below += (double)p[v];
        last = p[v] > 0 ? v : last;
        if (at < below)
            return v;
    }
    return last; /* the sums' own rounding */
}

static float slope(const ExitRun *x, float z)
{
    return x->cap > 0 ? 1 - (z / x->cap) * (z / x->cap) : 1;
}

static void take_row(ExitRun *x, int64_t row, const float *z, int64_t v0, int64_t nv, const float *w, float *p)
{
    int64_t hidden = x->h->width, v = x->loss->label[row] - v0;
    double own = take_panel(x, row, z, nv, p);
    if (x->drawn[row]) {
        v = draw(x, row, v0, nv, p, own);
        if (v >= 0)
            x->loss->label[row] = (int32_t)(v0 + v);
    }
    if (v >= 0 && v < nv)
        x->r->ops.k->scale(w + v * hidden, slope(x, z[v]), x->picked + row * hidden, hidden);
    for (int64_t i = 0; i < nv && x->cap > 0; i++)
        p[i] *= slope(x, z[i]);
}

static void panel(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv, const float *logits, int64_t ld,
                  const float *w)
{
    ExitRun *x = ctx;
    int64_t hidden = x->h->width;
    float *p = x->scratch + (size_t)worker * x->scratch_floats;
    for (int64_t r = 0; r < rows; r++)
        if (x->loss->label[row0 + r] == LABEL_NONE)
            memset(p + r * nv, 0, (size_t)nv * sizeof *p);
        else
            take_row(x, row0 + r, logits + r * ld, v0, nv, w, p + r * nv);
    GemmArgs g = {.m = rows, .n = hidden, .k = nv, .x = p, .ldx = nv, .w = w, .ldw = hidden, .w_by_k = true,
                  .y = x->grad + row0 * hidden, .ldy = hidden, .beta = 1};
    x->gemm->tile(&g, p + LOGITS_ROWS * LOGITS_COLS);
}

/* ---- the final norm ---- */

/* y = x_hat w with x_hat = (x - mean) scale, where a norm takes the mean off: dx = scale (gw - mean gw - x_hat mean(gw x_hat)),
 * gw = g w. */
static void norm_back(const ModelConfig *c, const float *x, const float *w, float *g)
{
    int64_t n = c->hidden;
    bool centred = c->norm == NORM_LAYER;
    double mean = 0, square = 0, gw_mean = 0, gw_x = 0;
    for (int64_t i = 0; i < n && centred; i++)
        mean += (double)x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double v = (double)x[i] - mean;
        g[i] *= c->norm == NORM_UNIT ? 1 + w[i] : w[i];
        square += v * v;
        gw_mean += centred ? (double)g[i] / (double)n : 0;
        gw_x += (double)g[i] * v;
    }
    double scale = 1 / sqrt(square / (double)n + c->eps), along = gw_x * scale * scale / (double)n;
    for (int64_t i = 0; i < n; i++)
        g[i] = (float)(scale * ((double)g[i] - gw_mean - ((double)x[i] - mean) * along));
}

enum { NORM_ROWS = 64 };

static void rows_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const ExitRun *x = ctx;
    int64_t n = x->h->width, end = min_i64((index + 1) * NORM_ROWS, x->h->rows);
    for (int64_t t = index * NORM_ROWS; t < end; t++) {
        float *g = x->grad + t * n;
        if (x->loss->label[t] == LABEL_NONE) {
            memset(g, 0, (size_t)n * sizeof *g);
            continue;
        }
        double part = 1 / x->sum[t];
        for (int64_t i = 0; i < n; i++)
            g[i] = (float)((double)g[i] * part - (double)x->picked[t * n + i]);
        norm_back(&x->r->m->cfg, x->h->data + t * n, x->weight, g);
    }
}

/* ---- the whole ---- */

static size_t scratch_floats(const GemmOps *g, int64_t hidden)
{
    enum { LINE = 16 }; /* floats */
    size_t gemm = g->scratch(LOGITS_ROWS, hidden, LOGITS_COLS) / sizeof(float);
    return (LOGITS_ROWS * LOGITS_COLS + gemm + LINE - 1) / LINE * LINE;
}

static Status begin(ExitRun *x, Stream *grad, Error *err)
{
    const Model *m = x->r->m;
    size_t rows = (size_t)x->h->rows, hidden = (size_t)x->h->width, threads = (size_t)x->r->threads;
    x->scratch_floats = scratch_floats(x->gemm, x->h->width);
    x->drawn = mem_zarray(rows + 1, sizeof *x->drawn);
    x->sum = mem_zarray(rows + 1, sizeof *x->sum);
    x->max = mem_array(rows + 1, sizeof *x->max);
    x->picked = mem_zarray(rows * hidden + 1, sizeof *x->picked);
    x->scratch = mem_aligned(threads * x->scratch_floats, sizeof *x->scratch);
    if (!x->drawn || !x->sum || !x->max || !x->picked || !x->scratch)
        return error_nomem(err, "gradients of the loss");
    for (size_t t = 0; t < rows; t++) {
        int32_t label = x->loss->label[t];
        if (label < LABEL_NONE || label >= m->cfg.vocab)
            return error_set(err, ST_DATA, "token id %d is outside the vocabulary of %lld entries", label,
                             (long long)m->cfg.vocab);
        x->drawn[t] = label == LABEL_DRAW;
        x->max[t] = -INFINITY;
    }
    RETURN_IF_ERROR(source_small(&x->r->src, &x->r->ops, m->exit.norm, &x->weight, err));
    RETURN_IF_ERROR(stream_init(grad, x->h->samples, x->h->start, x->h->width, err));
    memset(grad->data, 0, rows * hidden * sizeof *grad->data);
    x->grad = grad->data;
    return ST_OK;
}

/* The gradient behind the norm, once all panels came by. */
static Status check_rows(const ExitRun *x, Error *err)
{
    for (int s = 0; s < x->h->samples; s++)
        for (int64_t t = x->h->start[s]; t < x->h->start[s + 1]; t++)
            if (x->loss->label[t] != LABEL_NONE && !(isfinite(x->sum[t]) && isfinite(x->max[t])))
                return error_set(err, ST_DATA, "the logits of sample %d token %lld are no numbers", x->loss->first + s,
                                 (long long)(t - x->h->start[s]));
    return ST_OK;
}

static Status run(ExitRun *x, Error *err)
{
    Stream normed;
    RETURN_IF_ERROR(runner_final_norm(x->r, x->h, &normed, NULL, 0, err));
    Status st = runner_logits(x->r, &normed, panel, x, err);
    stream_fini(&normed);
    if (st == ST_OK)
        st = check_rows(x, err);
    if (st != ST_OK)
        return st;
    Batch b = {.n = 0};
    batch_add(&b, PHASE_ELEMENTS, rows_task, x, div_up(x->h->rows, NORM_ROWS));
    return batch_run(&b, x->r->opt.pool, x->r->opt.cancel, err);
}

Status exit_gradient(Runner *r, const Stream *h, const ExitLoss *loss, Stream *grad, Error *err)
{
    *grad = (Stream){0};
    RETURN_IF_ERROR(exit_has_gradients(r->m, err));
    ExitRun x = {.r = r, .h = h, .loss = loss, .gemm = gemm_find(GEMM_F32), .cap = (float)r->m->cfg.final_softcap};
    Status st = begin(&x, grad, err);
    if (st == ST_OK)
        st = run(&x, err);
    free(x.drawn);
    free(x.sum);
    free(x.max);
    free(x.picked);
    free(x.scratch);
    free(x.weight);
    if (st != ST_OK)
        stream_fini(grad);
    return st;
}

uint64_t exit_gradient_bytes(const Model *m, int64_t rows, int threads)
{
    uint64_t row = sizeof(bool) + sizeof(double) + sizeof(float) * (uint64_t)(1 + 2 * m->cfg.hidden);
    return (uint64_t)rows * row + (uint64_t)threads * scratch_floats(gemm_find(GEMM_F32), m->cfg.hidden) * sizeof(float);
}
