#include "quant/flexsearch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "dist/dist.h"
#include "qir/loops.h"
#include "qir/round.h"
#include "quant/products.h"
#include "quant/quantizer.h"

#define LEAST 1e-5f /* of statistics and scales */
enum { ROWS = 64 };

/* ---- scales ---- */

/* pow as the arithmetic has it: the exponent rounds, too. In double, so that it is the same on every processor. */
static float power(float x, double e, DType T)
{
    return round_to_dtype((float)pow((double)x, (double)round_to_dtype((float)e, T)), T);
}

static float at_least(float x, float least)
{
    return x < least ? least : x; /* NaN stays */
}

static float one_scale(const FlexScale *f, float a, float w, double alpha, double beta)
{
    DType wide = f->A == f->T ? f->T : DT_F32;
    float q = round_to_dtype(power(a, alpha, f->A) / power(w, beta, f->T), wide);
    return round_to_dtype(at_least(q, LEAST), f->A);
}

/* Statistics of channel j as they count. */
static void statistics_of(const FlexScale *f, bool peer, int64_t j, float *a, float *w)
{
    *a = peer ? f->a[j] : at_least(f->a[j], LEAST);
    *w = f->w ? at_least(f->w[j], round_to_dtype(LEAST, f->T)) : 1.0f;
}

/* The scale of dimension c of value head k. */
static float shared_scale(const FlexScale *f, bool peer, int64_t k, int64_t c, double alpha, double beta)
{
    int64_t share = f->heads / f->kv_heads, dim = f->in / f->heads;
    float most_a = 0, most_w = 0;
    double sum = 0;
    for (int64_t h = k * share; h < (k + 1) * share; h++) {
        float a, w;
        statistics_of(f, peer, h * dim + c, &a, &w);
        most_a = a > most_a || isnan(a) ? a : most_a;
        most_w = w > most_w || isnan(w) ? w : most_w;
        sum += (double)one_scale(f, a, w, alpha, beta);
    }
    return f->mean ? round_to_dtype((float)(sum / (double)share), f->A) : one_scale(f, most_a, most_w, alpha, beta);
}

void flex_scales(const FlexScale *f, bool peer, double alpha, double beta, float *s, float *source)
{
    if (!f->heads) {
        for (int64_t j = 0; j < f->in; j++) {
            float a, w;
            statistics_of(f, peer, j, &a, &w);
            s[j] = one_scale(f, a, w, alpha, beta);
        }
        return;
    }
    int64_t share = f->heads / f->kv_heads, dim = f->in / f->heads;
    for (int64_t k = 0; k < f->kv_heads; k++)
        for (int64_t c = 0; c < dim; c++) {
            float v = shared_scale(f, peer, k, c, alpha, beta);
            for (int64_t h = k * share; h < (k + 1) * share; h++)
                s[h * dim + c] = v;
            if (source)
                source[k * dim + c] = v;
        }
}

/* ---- one try ---- */

typedef struct Try {
    const FlexTask *t;
    const FlexTarget *of;
    const ActQuantizer *act; /* NULL: int8 by rows */
    float *s;                /* [in] */
    float *w, *wq;           /* [out][in] */
    float *xq;               /* [rows][in] */
    float *y;                /* [rows][out] in float */
    ActParam fixed;
    const ActParam *param;   /* NULL: each row its own */
} Try;

static DType rounding(const FlexTask *t)
{
    return t->peer ? t->scale.T : DT_F32;
}

/* Each row by its largest magnitude. Without one it is 0; the peer divides by it. */
static void int8_rows(float *x, int64_t rows, int64_t in, bool peer, DType T)
{
    const QuantLoops *k = quant_loops();
    for (int64_t r = 0; r < rows; r++) {
        float mn, mx, *v = x + r * in;
        k->range(v, in, &mn, &mx);
        float d = round_to_dtype((-mn > mx ? -mn : mx) / 127.0f, T);
        if (d == 0.0f) {
            for (int64_t j = 0; j < in; j++)
                v[j] = peer ? NAN : 0.0f;
            continue;
        }
        k->fake(v, in, (QParam){.scale = d}, 8, T, v);
        float least = round_to_dtype(-127.0f * d, T);
        for (int64_t j = 0; j < in && T != DT_F32; j++)
            v[j] = v[j] < least ? least : v[j]; /* rounding may have reached -128 */
    }
}

/* y = x * s or, back, x / s. */
static void scale_row(const float *x, const float *s, bool back, int64_t n, DType T, float *y)
{
    if (T == DT_F32 && back)
        for (int64_t j = 0; j < n; j++)
            y[j] = x[j] / s[j];
    else if (T == DT_F32)
        for (int64_t j = 0; j < n; j++)
            y[j] = x[j] * s[j];
    else
        for (int64_t j = 0; j < n; j++)
            y[j] = round_to_dtype(back ? x[j] / s[j] : x[j] * s[j], T);
}

static void divide_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Try *y = ctx;
    const int64_t in = y->t->scale.in, from = index * ROWS, n = min_i64(ROWS, y->of->rows - from);
    const DType T = rounding(y->t);
    for (int64_t r = from; r < from + n; r++)
        scale_row(y->of->x + r * in, y->s, true, in, T, y->xq + r * in);
    if (!y->t->q)
        int8_rows(y->xq + from * in, n, in, y->t->peer, T);
}

static void input_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Try *y = ctx;
    const int64_t in = y->t->scale.in, from = index * ROWS, n = min_i64(ROWS, y->of->rows - from);
    float *x = y->xq + from * in;
    y->act->rows(&y->t->q->act, y->param, x, n, in, in, rounding(y->t), y->t->peer, x);
}

static void scale_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Try *y = ctx;
    const int64_t in = y->t->scale.in, from = index * ROWS, n = min_i64(ROWS, y->of->out - from);
    const DType T = rounding(y->t);
    for (int64_t r = from; r < from + n; r++)
        scale_row(y->w + r * in, y->s, false, in, T, y->wq + r * in);
    if (!y->t->q)
        int8_rows(y->wq + from * in, n, in, y->t->peer, T);
}

/* Fixed parameters from all the tokens, which calibration would show as one sample. */
static Status fix_input(Try *y, Error *err)
{
    const ActObserver *o = y->act->observer;
    const QSpec *q = &y->t->q->act;
    const int64_t n = y->of->rows * y->t->scale.in;
    void *self = mem_zarray(1, o->size);
    float lo, hi;
    if (!self)
        return error_nomem(err, "activation ranges");
    intquant_range(y->xq, n, &lo, &hi);
    if (isfinite(lo) && isfinite(hi)) {
        o->feed(self, o->values ? y->xq : NULL, n, lo, hi, y->t->peer);
        o->range(self, q, y->t->peer, rounding(y->t), &lo, &hi);
    }
    y->fixed = act_param_of(y->act, q, lo, hi, rounding(y->t), y->t->peer);
    y->param = &y->fixed;
    free(self);
    return ST_OK;
}

/* As the configured quantizer has it. The peer's deployed dynamic int8 ones take a scale for each column. */
static Status quantize_input(Try *y, Error *err)
{
    const FlexTask *t = y->t;
    const int64_t in = t->scale.in;
    y->param = NULL;
    if (!y->act->rows)
        return ST_OK;
    if (t->peer && y->act->dynamic && y->act->sample && t->q->weight.scope == QS_PER_CHANNEL) {
        act_columns(y->act, &t->q->act, y->xq, y->of->rows, in, in, rounding(t), y->xq);
        return ST_OK;
    }
    if (y->act->observer && !y->act->dynamic)
        RETURN_IF_ERROR(fix_input(y, err));
    pool_run(t->pool, PHASE_QUANT_ACT, div_up(y->of->rows, ROWS), input_task, y, t->cancel);
    return ST_OK;
}

static Status error_of(Try *y, double *error, double *square, Error *err)
{
    const FlexTask *t = y->t;
    const int64_t in = t->scale.in;
    ProductSums sums;
    pool_run(t->pool, PHASE_QUANT_ACT, div_up(y->of->rows, ROWS), divide_task, y, t->cancel);
    pool_run(t->pool, PHASE_QUANT_WEIGHT, div_up(y->of->out, ROWS), scale_task, y, t->cancel);
    if (t->q) {
        RETURN_IF_ERROR(quantize_input(y, err));
        RETURN_IF_ERROR(t->peer ? fake_weight_peer(&t->q->weight, t->scale.T, y->wq, y->of->out, in, t->pool, t->cancel, err)
                                : fake_weight(&t->q->weight, y->wq, y->of->out, in, t->pool, t->cancel, err));
    }
    const Product p = {.x = y->xq, .w = y->wq, .bias = y->of->bias, .rows = y->of->rows, .in = in, .out = y->of->out,
                       .T = rounding(t)};
    RETURN_IF_ERROR(product_error(&p, t->pool, t->cancel, y->y, &sums, err));
    *error += sums.error;
    *square = sums.square;
    return ST_OK;
}

/* ---- one phase: all its tries ---- */

typedef struct FlexPhase {
    double alpha[FLEX_GRID], beta[FLEX_GRID];
    int known; /* a try whose error the phase before found, -1: none */
    double error[FLEX_GRID];
    float tried[FLEX_GRID];
} FlexPhase;

/* The scales of a try: ours those that would be folded, the peer's a plain product of powers. */
static void try_scales(const FlexTask *t, double alpha, double beta, float *s)
{
    const FlexScale *f = &t->scale;
    if (!t->peer) {
        flex_scales(f, false, alpha, beta, s, NULL);
        return;
    }
    for (int64_t j = 0; j < f->in; j++) {
        float a = power(f->a[j], alpha, f->T);
        s[j] = f->w ? round_to_dtype(a * power(f->w[j], -beta, f->T), f->T) : a;
    }
}

/* Whether try i is this rank's turn. */
static bool is_mine(const FlexTask *t, int i)
{
    return i % dist_size(t->dist) == dist_rank(t->dist);
}

/* square: of the target's products, as far as a try was made of them. */
static Status target_phase(Try *y, FlexPhase *p, double *square, Error *err)
{
    const FlexTask *t = y->t;
    Product plain = {.x = y->of->x, .w = y->w, .bias = t->peer ? NULL : y->of->bias, .rows = y->of->rows,
                     .in = t->scale.in, .out = y->of->out, .T = rounding(t)};
    RETURN_IF_ERROR(product_make(&plain, t->pool, t->cancel, y->y, err));
    for (int i = 0; i < FLEX_GRID; i++) {
        if (i == p->known || isnan(p->error[i]) || !is_mine(t, i))
            continue;
        try_scales(t, p->alpha[i], p->beta[i], y->s);
        RETURN_IF_ERROR(error_of(y, &p->error[i], square, err));
    }
    return ST_OK;
}

#define UNTRIED (-1.0) /* in place of a square */

/* Every try's errors from the rank whose turn it was, and squares from one that made a try. */
static Status share_phase(const FlexTask *t, FlexPhase *p, double *square, Error *err)
{
    const int size = dist_size(t->dist);
    Pack mine = {0}, *all = NULL;
    if (size == 1)
        return ST_OK;
    pack_put(&mine, p->error, sizeof p->error);
    pack_put(&mine, square, (size_t)t->n * sizeof *square);
    Status st = dist_gather_all(t->dist, &mine, &all, err);
    pack_fini(&mine);
    for (int r = 0; st == ST_OK && r < size; r++) {
        Unpack in = unpack_of(&all[r]);
        for (int i = 0; i < FLEX_GRID; i++) {
            const double error = unpack_f64(&in);
            p->error[i] = i % size == r ? error : p->error[i];
        }
        for (int i = 0; i < t->n; i++) {
            const double own = unpack_f64(&in);
            square[i] = square[i] == UNTRIED ? own : square[i];
        }
    }
    dist_packs_free(all, size);
    return st;
}

static Status try_targets(Try *y, FlexPhase *p, double *square, Error *err)
{
    const FlexTask *t = y->t;
    for (int i = 0; i < t->n; i++) {
        square[i] = UNTRIED;
        y->of = &t->targets[i];
        if (!y->of->rows)
            continue;
        RETURN_IF_ERROR(t->weight(t->ctx, i, y->w, err));
        RETURN_IF_ERROR(target_phase(y, p, &square[i], err));
    }
    return share_phase(t, p, square, err);
}

/* Errors of all targets together, each target's weight read once. */
static Status run_phase(Try *y, FlexPhase *p, Error *err)
{
    const FlexTask *t = y->t;
    const DType T = rounding(t);
    double square = 0, count = 0, *own = mem_array((size_t)t->n, sizeof *own);
    Status st = own ? try_targets(y, p, own, err) : error_nomem(err, "the search for smoothing scales");
    for (int i = 0; st == ST_OK && i < t->n; i++) {
        square += own[i] == UNTRIED ? 0 : own[i];
        count += (double)t->targets[i].rows * (double)t->targets[i].out;
    }
    free(own);
    RETURN_IF_ERROR(st);
    float norm = round_to_dtype(sqrtf(round_to_dtype((float)(square / count), T)), T);
    for (int i = 0; i < FLEX_GRID; i++) {
        if (i == p->known)
            continue;
        float e = round_to_dtype(sqrtf(round_to_dtype((float)(p->error[i] / count), T)), T);
        p->tried[i] = round_to_dtype(e / norm, T);
    }
    return ST_OK;
}

/* Of equal ones the last. */
static int best_of(const FlexPhase *p, float *best)
{
    int at = -1;
    for (int i = 0; i < FLEX_GRID; i++)
        if (p->tried[i] <= *best) {
            *best = p->tried[i];
            at = i;
        }
    return at;
}

static Status search_alpha(Try *y, FlexFound *out, int *at, float *best, Error *err)
{
    FlexPhase p = {.known = -1};
    for (int i = 0; i < FLEX_GRID; i++) {
        p.alpha[i] = flex_exponent(i);
        p.beta[i] = y->t->q ? 0 : y->t->has_beta ? y->t->beta : flex_exponent(FLEX_GRID - 1 - i);
    }
    RETURN_IF_ERROR(run_phase(y, &p, err));
    memcpy(out->tried[0], p.tried, sizeof p.tried);
    *at = best_of(&p, best);
    out->alpha = *at < 0 ? 0 : p.alpha[*at];
    return ST_OK;
}

static Status search_beta(Try *y, FlexFound *out, int alpha_at, float *best, Error *err)
{
    FlexPhase p = {.known = alpha_at < 0 ? -1 : FLEX_GRID - 1 - alpha_at};
    for (int i = 0; i < FLEX_GRID; i++) {
        p.alpha[i] = out->alpha;
        p.beta[i] = flex_exponent(i);
    }
    if (p.known >= 0)
        p.tried[p.known] = out->tried[0][alpha_at];
    RETURN_IF_ERROR(run_phase(y, &p, err));
    memcpy(out->tried[1], p.tried, sizeof p.tried);
    int at = best_of(&p, best);
    out->any = out->any || at >= 0;
    out->beta = at < 0 ? 0 : p.beta[at];
    return ST_OK;
}

static Status search(Try *y, FlexFound *out, Error *err)
{
    const FlexTask *t = y->t;
    float best = INFINITY;
    int at = -1;
    if (t->has_alpha)
        out->alpha = t->alpha;
    else
        RETURN_IF_ERROR(search_alpha(y, out, &at, &best, err));
    out->any = at >= 0;
    out->beta = t->has_beta ? t->beta : 0;
    if (!t->q && !t->has_beta)
        RETURN_IF_ERROR(search_beta(y, out, at, &best, err));
    out->error = out->any ? best : NAN;
    return ST_OK;
}

Status flex_search(const FlexTask *t, FlexFound *out, Error *err)
{
    *out = (FlexFound){.error = NAN};
    size_t w = 0, x = 0, g = 0, in = (size_t)t->scale.in;
    for (int i = 0; i < t->n; i++) {
        size_t rows = (size_t)t->targets[i].rows, o = (size_t)t->targets[i].out;
        x = rows * in > x ? rows * in : x;
        g = rows * o > g ? rows * o : g;
        w = o * in > w ? o * in : w;
    }
    if (!x)
        return ST_OK;
    Try y = {.t = t, .s = mem_array(in, sizeof *y.s), .w = mem_aligned(w, sizeof *y.w), .wq = mem_aligned(w, sizeof *y.wq),
             .xq = mem_aligned(x, sizeof *y.xq), .y = mem_aligned(g, sizeof *y.y)};
    Status st = y.s && y.w && y.wq && y.xq && y.y ? ST_OK : error_nomem(err, "the search for smoothing scales");
    if (st == ST_OK && t->q && !(y.act = act_quantizer_find(&t->q->act)))
        st = error_set(err, ST_DATA, "this build has no quantizer for its input");
    if (st == ST_OK)
        st = search(&y, out, err);
    free(y.s);
    free(y.w);
    free(y.wq);
    free(y.xq);
    free(y.y);
    return st;
}

uint64_t flex_search_bytes(const QConfig *q, int64_t rows, int64_t out, int64_t in, bool peer, int threads)
{
    uint64_t w = (uint64_t)out * (uint64_t)in, x = (uint64_t)rows * (uint64_t)in, y = (uint64_t)rows * (uint64_t)out;
    return (2 * w + x + y + (uint64_t)in) * sizeof(float) + product_bytes(in, threads) +
           (q ? fake_weight_bytes(&q->weight, out, in, peer, threads) : 0);
}
