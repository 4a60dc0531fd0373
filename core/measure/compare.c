#include "measure/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "dist/dist.h"

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

/* Sums over tokens, nats. */
typedef struct TokenSums {
    double kl, agree, nll_float, nll_quant, nll_more, tokens;
} TokenSums;

static void add_sums(TokenSums *to, const TokenSums *s)
{
    to->kl += s->kl;
    to->agree += s->agree;
    to->nll_float += s->nll_float;
    to->nll_quant += s->nll_quant;
    to->nll_more += s->nll_more;
    to->tokens += s->tokens;
}

/* What is known of one token, as it goes from rank to rank. */
typedef struct TokenFigures {
    double kl, nll_float, nll_quant, agree;
} TokenFigures;

/* Those of every rank, one behind the other's: all predicted tokens, which the caller frees; of this rank's kl[] and rows. */
static Status gather_figures(const Comparison *c, const LogitRows *q, const double *kl, TokenFigures **out, Error *err)
{
    const LogitRows *f = &c->f->rows;
    Pack mine = {0}, *all = NULL;
    for (int64_t i = 0; i < c->predicted->n; i++) {
        const TokenFigures t = {.kl = kl[i], .nll_float = f->lse[i] - (double)f->target[i],
                                .nll_quant = q->lse[i] - (double)q->target[i], .agree = f->top[i] == q->top[i]};
        pack_put(&mine, &t, sizeof t);
    }
    Status st = dist_gather_all(c->dist, &mine, &all, err);
    size_t n = 0, room = (size_t)c->predicted_all->n;
    *out = st == ST_OK ? mem_array(room, sizeof **out) : NULL;
    if (st == ST_OK && !*out)
        st = error_nomem(err, "the figures of each token");
    for (int r = 0; st == ST_OK && r < dist_size(c->dist); r++) {
        const size_t k = all[r].len / sizeof **out;
        if (k > room - n)
            st = error_set(err, ST_INTERNAL, "the ranks have more tokens than there are");
        else
            memcpy(*out + n, all[r].data, k * sizeof **out);
        n += k;
    }
    dist_packs_free(all, dist_size(c->dist));
    pack_fini(&mine);
    return st;
}

/* Every token's share of its block and of its text (text[] is zero). */
static void sum_tokens(const Comparison *c, const TokenFigures *figures, TokenBlocks *blocks, TokenSums *text)
{
    TokenSums block = {0};
    for (int64_t i = 0; i < c->predicted_all->n; i++) {
        const TokenFigures *g = &figures[i];
        TokenSums t = {.kl = g->kl, .agree = g->agree, .nll_float = g->nll_float, .nll_quant = g->nll_quant, .tokens = 1};
        t.nll_more = t.nll_quant - t.nll_float;
        if (i == 0 || c->block_of[i] != c->block_of[i - 1])
            block = (TokenSums){0};
        add_sums(&block, &t);
        add_sums(&text[c->eval_texts->of_sample[c->predicted_all->sample_of[i]]], &t);
        TokenBlock *b = &blocks->b[c->block_of[i]];
        b->kl = (float)block.kl;
        b->nll_float = (float)block.nll_float;
        b->nll_more = (float)block.nll_more;
        b->agree = (uint16_t)block.agree;
    }
}

/* An error of exp(mean) is the mean's times exp(mean). */
static Status fill_eval(const Comparison *c, const TokenFigures *figures, double *kl, Effect *e, TokenBlocks *blocks,
                        Error *err)
{
    TokenSums *text = mem_zarray((size_t)c->eval_texts->count, sizeof *text), all = {0};
    int64_t predicted = c->predicted_all->n;
    if (!text)
        return error_nomem(err, "sums per text");
    sum_tokens(c, figures, blocks, text);
    for (int64_t i = 0; i < predicted; i++)
        kl[i] = figures[i].kl;
    for (int i = 0; i < c->eval_texts->count; i++)
        add_sums(&all, &text[i]);
    free(text);
    e->kl_mean = all.kl / all.tokens;
    e->kl_se = blocks_error(blocks, block_kl);
    e->top1 = all.agree / all.tokens;
    e->top1_se = blocks_error(blocks, block_agree);
    e->ppl_float = exp(all.nll_float / all.tokens);
    e->ppl_float_se = e->ppl_float * blocks_error(blocks, block_nll_float);
    e->ppl_quant = exp(all.nll_quant / all.tokens);
    e->ppl_quant_se = e->ppl_quant * blocks_error(blocks, block_nll_quant);
    e->ppl_change = exp(all.nll_more / all.tokens) - 1;
    e->ppl_change_se = (1 + e->ppl_change) * blocks_error(blocks, block_nll_more);
    e->kl_median = sorted_median(kl, predicted);
    e->kl_p99 = sorted_rank(kl, predicted, 0.99);
    e->kl_max = kl[predicted - 1];
    return ST_OK;
}

/* Squared differences of a rank's calibration samples: sum and number of values of each. */
static Status gather_calib(const Comparison *c, const Stream *calib, Pack **all, Error *err)
{
    Pack mine = {0};
    for (int s = 0; s < calib->samples; s++) {
        double sum = 0;
        int64_t end = calib->start[s + 1] * calib->width;
        for (int64_t i = calib->start[s] * calib->width; i < end; i++) {
            double d = (double)calib->data[i] - (double)c->f->last[i];
            sum += d * d;
        }
        pack_f64(&mine, sum);
        pack_f64(&mine, (double)((calib->start[s + 1] - calib->start[s]) * calib->width));
    }
    Status st = dist_gather_all(c->dist, &mine, all, err);
    pack_fini(&mine);
    return st;
}

static Status fill_calib(const Comparison *c, const Stream *calib, Effect *e, Error *err)
{
    UnitSums u;
    Pack *all;
    int s = 0;
    RETURN_IF_ERROR(unit_sums_init(&u, c->calib_texts->count, err));
    Status st = gather_calib(c, calib, &all, err);
    for (int r = 0; st == ST_OK && r < dist_size(c->dist); r++) {
        Unpack in = unpack_of(&all[r]);
        for (; in.at != in.end && !in.bad; s++) {
            int t = c->calib_texts->of_sample[s];
            u.sum[t] += unpack_f64(&in);
            u.count[t] += unpack_f64(&in);
        }
    }
    if (st == ST_OK) {
        dist_packs_free(all, dist_size(c->dist));
        e->out_mse = unit_sums_mean(&u);
        e->out_mse_se = unit_sums_error(&u, c->seed ^ 0x5bd1e995u);
    }
    unit_sums_fini(&u);
    return st;
}

Status effect_compare(const Comparison *c, Runner *r, const Stream *calib, const Stream *eval, Effect *e,
                      TokenBlocks *blocks, Error *err)
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
    double *kl = mem_array((size_t)c->predicted_all->n, sizeof *kl);
    TokenFigures *figures = NULL;
    st = kl ? token_kl(c, r, &normed, &rows, kl, err) : error_nomem(err, "the divergence of each token");
    if (st == ST_OK)
        st = gather_figures(c, &rows, kl, &figures, err);
    if (st == ST_OK)
        st = fill_eval(c, figures, kl, e, blocks, err);
    if (st == ST_OK)
        st = fill_calib(c, calib, e, err);
    free(kl);
    free(figures);
    logit_rows_fini(&rows);
    stream_fini(&normed);
    return st;
}
