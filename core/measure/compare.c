#include "measure/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Below this many nats a token's KL is taken by the difference form, because the short form subtracts numbers that are
 * nearly equal: float32 logits leave it about 1e-6 nats of noise. */
#define KL_SHORT_FORM_MIN 1e-4

/* KL of every predicted token: lse_q - lse_f - m.(h_q - h_f) with m = sum_v p_f(v) W_v (DESIGN 6); exactly 0 where both
 * hidden states are the same; the difference form where the result is small, or where logits are rounded. */
static Status token_kl(const Comparison *c, Runner *r, const Stream *normed, const LogitRows *rows, double *kl,
                       Error *err)
{
    const Reference *f = c->f;
    int64_t predicted = c->predicted->n, *which = mem_array((size_t)predicted, sizeof *which), n = 0;
    int64_t width = normed->width;
    if (!which)
        return error_nomem(err, "the divergence of each token");
    for (int64_t i = 0; i < predicted; i++) {
        const float *hq = normed->data + i * width, *hf = f->normed.data + i * width;
        kl[i] = 0;
        if (memcmp(hq, hf, (size_t)width * sizeof *hq) == 0)
            continue;
        if (f->rows.mean_w) {
            const float *m = f->rows.mean_w + i * width;
            double dot = 0;
            for (int64_t k = 0; k < width; k++)
                dot += (double)m[k] * ((double)hq[k] - (double)hf[k]);
            kl[i] = rows->lse[i] - f->rows.lse[i] - dot;
        }
        if (kl[i] < KL_SHORT_FORM_MIN)
            which[n++] = i;
    }
    Status st = logit_rows_kl(r, &f->normed, &f->rows, normed, rows, which, n, kl, err);
    free(which);
    return st;
}

static Status fill_eval(const Comparison *c, const LogitRows *q, double *kl, Effect *e, Error *err)
{
    const Reference *f = c->f;
    int64_t predicted = c->predicted->n;
    enum { KL, TOP, NLL_F, NLL_Q, NLL_MORE, SUMS };
    UnitSums u[SUMS] = {{0}};
    Status st = ST_OK;
    for (int k = 0; k < SUMS && st == ST_OK; k++)
        st = unit_sums_init(&u[k], c->eval_texts->count, err);
    if (st == ST_OK) {
        for (int64_t i = 0; i < predicted; i++) {
            int t = c->eval_texts->of_sample[c->predicted->sample_of[i]];
            u[KL].sum[t] += kl[i];
            u[TOP].sum[t] += f->rows.top[i] == q->top[i];
            double nll_f = f->rows.lse[i] - (double)f->rows.target[i], nll_q = q->lse[i] - (double)q->target[i];
            u[NLL_F].sum[t] += nll_f;
            u[NLL_Q].sum[t] += nll_q;
            u[NLL_MORE].sum[t] += nll_q - nll_f;
            for (int k = 0; k < SUMS; k++)
                u[k].count[t] += 1;
        }
        uint64_t seed = c->seed; /* the same draws for all, so that their errors belong together */
        e->kl_mean = unit_sums_mean(&u[KL]);
        e->kl_se = unit_sums_error(&u[KL], seed, NULL);
        e->top1 = unit_sums_mean(&u[TOP]);
        e->top1_se = unit_sums_error(&u[TOP], seed, NULL);
        e->ppl_float = exp(unit_sums_mean(&u[NLL_F]));
        e->ppl_float_se = unit_sums_error(&u[NLL_F], seed, exp);
        e->ppl_quant = exp(unit_sums_mean(&u[NLL_Q]));
        e->ppl_quant_se = unit_sums_error(&u[NLL_Q], seed, exp);
        e->ppl_change = exp(unit_sums_mean(&u[NLL_MORE])) - 1;
        e->ppl_change_se = unit_sums_error(&u[NLL_MORE], seed, exp);
        e->kl_median = sorted_median(kl, predicted);
        e->kl_p99 = sorted_rank(kl, predicted, 0.99);
        e->kl_max = kl[predicted - 1];
    }
    for (int k = 0; k < SUMS; k++)
        unit_sums_fini(&u[k]);
    return st;
}

static Status fill_calib(const Comparison *c, const Stream *calib, Effect *e, Error *err)
{
    UnitSums u;
    RETURN_IF_ERROR(unit_sums_init(&u, c->calib_texts->count, err));
    for (int s = 0; s < calib->samples; s++) {
        int t = c->calib_texts->of_sample[s];
        int64_t end = calib->start[s + 1] * calib->width;
        for (int64_t i = calib->start[s] * calib->width; i < end; i++) {
            double d = (double)calib->data[i] - (double)c->f->last[i];
            u.sum[t] += d * d;
        }
        u.count[t] += (double)((calib->start[s + 1] - calib->start[s]) * calib->width);
    }
    e->out_mse = unit_sums_mean(&u);
    e->out_mse_se = unit_sums_error(&u, c->seed ^ 0x5bd1e995u, NULL);
    unit_sums_fini(&u);
    return ST_OK;
}

Status effect_compare(const Comparison *c, Runner *r, const Stream *calib, const Stream *eval, Effect *e, Error *err)
{
    Stream normed;
    LogitRows rows;
    RETURN_IF_ERROR(predicted_rows(c->predicted, r, eval, &normed, err));
    Status st = logit_rows_run(r, &normed, c->predicted->next, false, &rows, err);
    if (st != ST_OK) {
        if (st == ST_DATA)
            error_prefix(err, st, "the quantized model: ");
        stream_fini(&normed);
        return st;
    }
    double *kl = mem_array((size_t)c->predicted->n, sizeof *kl);
    st = kl ? token_kl(c, r, &normed, &rows, kl, err) : error_nomem(err, "the divergence of each token");
    if (st == ST_OK)
        st = fill_eval(c, &rows, kl, e, err);
    if (st == ST_OK)
        st = fill_calib(c, calib, e, err);
    free(kl);
    logit_rows_fini(&rows);
    stream_fini(&normed);
    return st;
}
