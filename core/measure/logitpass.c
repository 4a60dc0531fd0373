#include "measure/logitpass.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/gemm.h"
#include "math/kernels.h"

/* Exponentials as the arithmetic has them. */
static const MathKernels *kernels_for(const Runner *r)
{
    return arith_table[runner_arith(r)].libm ? math_libm() : math_fast();
}

typedef struct HeadPass {
    LogitRows *out;
    const int32_t *next;
    const MathKernels *k;
    double *sum;  /* [rows] of exp(logit - max) so far */
    float *max;   /* [rows] */
    const GemmOps *gemm;
    float *scratch;        /* [threads][scratch_floats]: a panel's exponentials, its share of mean_w, the GEMM's own */
    size_t scratch_floats;
} HeadPass;

/* Takes a panel's logits of one row into its running maximum, sum, target and top token; exp(logit - max) into p. Gives
 * the factor by which everything summed before has to shrink because the maximum grew. */
static float take_row(HeadPass *s, int64_t row, const float *z, int64_t v0, int64_t nv, float *p)
{
    float old = s->max[row], top = s->k->max(z, nv), best = top > old ? top : old;
    for (int64_t at = 0; best > old && at < nv; at++)
        if (z[at] == best) {
            s->out->top[row] = (int32_t)(v0 + at);
            break;
        }
    s->max[row] = best;
    float shrink = best == old ? 1.0f : expf(old - best);
    s->sum[row] = s->sum[row] * (double)shrink;
    memcpy(p, z, (size_t)nv * sizeof *p);
    s->sum[row] = s->k->exp_sum(p, nv, best, s->sum[row]);
    int64_t t = s->next[row] - v0;
    if (t >= 0 && t < nv)
        s->out->target[row] = z[t];
    return shrink;
}

static void plain_panel(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv, const float *logits,
                        int64_t ld, const float *w)
{
    (void)w;
    HeadPass *s = ctx;
    float *p = s->scratch + (size_t)worker * s->scratch_floats;
    for (int64_t r = 0; r < rows; r++)
        take_row(s, row0 + r, logits + r * ld, v0, nv, p);
}

/* As plain_panel, and adds this panel's share to mean_w (not yet divided by the sum). */
static void mean_panel(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv, const float *logits,
                       int64_t ld, const float *w)
{
    HeadPass *s = ctx;
    int64_t hidden = s->out->hidden;
    float *p = s->scratch + (size_t)worker * s->scratch_floats, *share = p + LOGITS_ROWS * LOGITS_COLS;
    for (int64_t r = 0; r < rows; r++) {
        float shrink = take_row(s, row0 + r, logits + r * ld, v0, nv, p + r * nv);
        if (shrink != 1.0f)
            s->k->scale(s->out->mean_w + (row0 + r) * hidden, shrink, s->out->mean_w + (row0 + r) * hidden, hidden);
    }
    GemmArgs g = {.m = rows, .n = hidden, .k = nv, .x = p, .ldx = nv, .w = w, .ldw = hidden, .w_by_k = true, .y = share,
                  .ldy = hidden};
    s->gemm->tile(&g, share + LOGITS_ROWS * hidden);
    float *sum = s->out->mean_w + row0 * hidden;
    s->k->add(sum, share, sum, rows * hidden);
}

/* Scratch of a worker, in floats so that each part stays aligned. */
static size_t panel_floats(const GemmOps *g, int64_t hidden, bool mean_w)
{
    enum { LINE = 16 }; /* floats */
    size_t gemm = g->scratch(LOGITS_ROWS, hidden, LOGITS_COLS) / sizeof(float) + LINE;
    size_t mean = (size_t)(LOGITS_ROWS * hidden) + gemm;
    return ((size_t)(LOGITS_ROWS * LOGITS_COLS) + (mean_w ? mean : 0) + LINE - 1) / LINE * LINE;
}

uint64_t logit_rows_scratch(const Model *m, int threads, bool mean_w)
{
    return (uint64_t)threads * panel_floats(gemm_find(GEMM_F32), m->cfg.hidden, mean_w) * sizeof(float);
}

static bool panel_scratch(HeadPass *s, int threads, bool mean_w)
{
    s->scratch_floats = panel_floats(s->gemm, s->out->hidden, mean_w);
    s->scratch = mem_aligned((size_t)threads * s->scratch_floats, sizeof *s->scratch);
    return s->scratch != NULL;
}

void logit_rows_fini(LogitRows *l)
{
    free(l->lse);
    free(l->target);
    free(l->top);
    free(l->mean_w);
    *l = (LogitRows){0};
}

static Status finish(HeadPass *s, Error *err)
{
    LogitRows *o = s->out;
    for (int64_t r = 0; r < o->rows; r++) {
        o->lse[r] = (double)s->max[r] + log(s->sum[r]);
        if (!isfinite(o->lse[r]) || !isfinite(o->target[r]))
            return error_set(err, ST_DATA, "the logits of evaluation token %lld are not numbers", (long long)r);
        if (o->mean_w)
            s->k->scale(o->mean_w + r * o->hidden, (float)(1 / s->sum[r]), o->mean_w + r * o->hidden, o->hidden);
    }
    return ST_OK;
}

Status logit_rows_run(Runner *r, const Stream *normed, const int32_t *next, bool mean_w, LogitRows *out, Error *err)
{
    size_t n = (size_t)normed->rows;
    *out = (LogitRows){.rows = normed->rows, .hidden = normed->width, .lse = mem_array(n, sizeof *out->lse),
                       .target = mem_array(n, sizeof *out->target), .top = mem_zarray(n, sizeof *out->top)};
    HeadPass s = {.out = out, .next = next, .k = kernels_for(r), .gemm = gemm_find(GEMM_F32),
              .sum = mem_zarray(n, sizeof *s.sum), .max = mem_array(n, sizeof *s.max)};
    if (mean_w)
        out->mean_w = mem_zarray(n, (size_t)normed->width * sizeof *out->mean_w);
    Status st = ST_OK;
    if (!out->lse || !out->target || !out->top || !s.sum || !s.max || (mean_w && !out->mean_w) ||
        !panel_scratch(&s, pool_threads(runner_pool(r)), mean_w))
        st = error_nomem(err, "the logits' sums");
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        s.max[i] = -INFINITY;
        out->target[i] = NAN;
    }
    if (st == ST_OK && n)
        st = runner_logits(r, normed, mean_w ? mean_panel : plain_panel, &s, err);
    if (st == ST_OK)
        st = finish(&s, err);
    free(s.sum);
    free(s.max);
    free(s.scratch);
    if (st != ST_OK)
        logit_rows_fini(out);
    return st;
}

/* ---- the difference form ---- */

typedef struct PairPass {
    const LogitRows *a, *b;
    const int64_t *which;
    const MathKernels *k;
    double *kl;
    float *scratch; /* [threads][2][LOGITS_COLS] */
    atomic_bool torn;
} PairPass;

/* p (e^d - 1 - d) without cancellation; q = p e^d is taken as it is where e^d may be out of a double's sight of p. */
static double kl_term(double d, double p, double q)
{
    double size = fabs(d);
    if (size > 1)
        return q - p - p * d;
    if (size > 0.02)
        return p * (expm1(d) - d);
    return p * (d * d / 2 * (1 + d / 3 * (1 + d / 4 * (1 + d / 5 * (1 + d / 6)))));
}

/* Rows 2i and 2i+1 are row which[i] of both runs. */
static void pair_panel(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv, const float *logits,
                       int64_t ld, const float *w)
{
    (void)v0;
    (void)w;
    PairPass *s = ctx;
    float *p = s->scratch + (size_t)worker * 2 * LOGITS_COLS, *q = p + nv;
    if (row0 % 2 != 0 || rows % 2 != 0) {
        atomic_store(&s->torn, true);
        return;
    }
    for (int64_t r = 0; r < rows; r += 2) {
        int64_t row = s->which[(row0 + r) / 2];
        const float *za = logits + r * ld, *zb = za + ld;
        double la = s->a->lse[row], lb = s->b->lse[row], sum = 0;
        for (int64_t i = 0; i < nv; i++) {
            p[i] = (float)((double)za[i] - la);
            q[i] = (float)((double)zb[i] - lb);
        }
        s->k->exp(p, 2 * nv);
        for (int64_t i = 0; i < nv; i++)
            sum += kl_term(((double)zb[i] - lb) - ((double)za[i] - la), (double)p[i], (double)q[i]);
        s->kl[row] += sum;
    }
}

Status logit_rows_kl(Runner *r, const Stream *normed_a, const LogitRows *a, const Stream *normed_b, const LogitRows *b,
                     const int64_t *which, int64_t n, double *kl, Error *err)
{
    if (n == 0)
        return ST_OK;
    int64_t width = normed_a->width, start[2] = {0, 2 * n};
    size_t row_bytes = (size_t)width * sizeof(float);
    Stream both;
    RETURN_IF_ERROR(stream_init(&both, 1, start, width, err));
    for (int64_t i = 0; i < n; i++) {
        memcpy(both.data + 2 * i * width, normed_a->data + which[i] * width, row_bytes);
        memcpy(both.data + (2 * i + 1) * width, normed_b->data + which[i] * width, row_bytes);
        kl[which[i]] = 0;
    }
    PairPass s = {.a = a, .b = b, .which = which, .k = kernels_for(r), .kl = kl};
    s.scratch = mem_array((size_t)pool_threads(runner_pool(r)) * 2 * LOGITS_COLS, sizeof *s.scratch);
    Status st = s.scratch ? runner_logits(r, &both, pair_panel, &s, err) : error_nomem(err, "the logits' sums");
    free(s.scratch);
    if (st == ST_OK && atomic_load(&s.torn))
        st = error_set(err, ST_INTERNAL, "a block of logits cuts a pair of rows");
    stream_fini(&both);
    return st;
}
