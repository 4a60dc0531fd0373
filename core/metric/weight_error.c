#include "metric/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "quant/quantizer.h"
#include "stat/weightsums.h"

/* specs/analysis.md 9.2: what quantizing a weight loses of it, at every level of the recipe in one pass. */

extern const WeightAnalysis weight_error;

enum { SUM_SQ, SUM_ABS, SUM_W, SUM_Y, SUM_DOT, SUM_MAX, SUMS };

/* One kind of weight, of all levels that have it. */
typedef struct Kind {
    const QSpec *q;
    const WeightQuantizer *by;   /* NULL: this build has none */
    bool rows;                   /* rows are independent; otherwise it has to see all of the weight */
    char why[120];               /* it does not fit the linear at hand */
    double total[SUMS];
} Kind;

typedef struct WeightErrors {
    Kind *kind;
    int kinds;
    int *of;                     /* [nlevels] index into kind, -1: the level leaves weights in float */
} WeightErrors;

static DType dtype_of(const PassPlan *p)
{
    return p->peer ? p->m->cfg.dtype : DT_F32;
}

/* gptq needs inputs: what is known without them is the grid that it begins from. */
static Kind kind_of(const QSpec *q, bool peer)
{
    const WeightQuantizer *by = weight_quantizer_find(q);
    if (by && by->prepare)
        by = &weight_minmax_int8; /* its rows are those of any integer grid */
    return (Kind){.q = q, .by = by, .rows = by && by->rows && (by == &weight_minmax_int8 || weight_quantizer_rowwise(by, q, peer))};
}

static Status begin(void *self, const PassPlan *p, int threads, Error *err)
{
    (void)threads;
    WeightErrors *e = self;
    e->kind = mem_zarray((size_t)p->nlevels + 1, sizeof *e->kind);
    e->of = mem_array((size_t)p->nlevels + 1, sizeof *e->of);
    if (!e->kind || !e->of)
        return error_nomem(err, "errors of weights");
    for (int i = 0; i < p->nlevels; i++) {
        const QSpec *q = &p->levels[i].weight;
        int k = 0;
        while (k < e->kinds && qspec_key(e->kind[k].q) != qspec_key(q))
            k++;
        e->of[i] = q->dtype == QT_FLOAT ? -1 : k;
        if (k == e->kinds && e->of[i] >= 0)
            e->kind[e->kinds++] = kind_of(q, p->peer);
    }
    return ST_OK;
}

static void end(void *self)
{
    WeightErrors *e = self;
    free(e->kind);
    free(e->of);
}

static int sums(const void *self)
{
    const WeightErrors *e = self;
    return SUMS * (e->kinds > 0 ? e->kinds : 1);
}

/* Some quantizer has to see whole weights: bytes of the largest, widened and quantized. */
static uint64_t bytes(const PassPlan *p, int threads)
{
    uint64_t most = 0;
    for (int k = 0; k < p->nlevels; k++) {
        const QSpec *q = &p->levels[k].weight;
        Kind kind = q->dtype == QT_FLOAT ? (Kind){.rows = true} : kind_of(q, p->peer);
        for (int64_t i = 0; !kind.rows && kind.by && i < p->m->nlinears; i++) {
            const Linear *l = &p->m->linears[i];
            uint64_t one = (uint64_t)l->out * (uint64_t)l->in * sizeof(float) + qweight_bytes(q, l->out, l->in) +
                           (kind.by->scratch ? kind.by->scratch(q, l->out, l->in, threads) : 0);
            most = one > most ? one : most;
        }
    }
    return most;
}

static bool wants(void *self, const WeightCase *c, int sweep)
{
    WeightErrors *e = self;
    bool any = false;
    for (int k = 0; sweep == 0 && k < e->kinds; k++) {
        Kind *kind = &e->kind[k];
        Error err = {0};
        kind->why[0] = 0;
        memset(kind->total, 0, sizeof kind->total);
        if (!kind->by)
            snprintf(kind->why, sizeof kind->why, "this build has no such weight quantizer");
        else if (qweight_check(kind->q, c->l->out, c->l->in, &err) != ST_OK)
            snprintf(kind->why, sizeof kind->why, "%.119s", err.text);
        any |= kind->rows && !kind->why[0];
    }
    return any;
}

static void put_sums(const ErrorSums *s, double *sum)
{
    sum[SUM_SQ] = s->sq;
    sum[SUM_ABS] = s->abs;
    sum[SUM_W] = s->w_sq;
    sum[SUM_Y] = s->y_sq;
    sum[SUM_DOT] = s->dot;
    sum[SUM_MAX] = (double)s->max;
}

static void block(void *self, const WeightCase *c, int sweep, const WeightBlock *b, const WeightScratch *s, double *sum)
{
    (void)sweep;
    const WeightErrors *e = self;
    int64_t n = b->rows * c->l->in;
    for (int k = 0; k < e->kinds; k++) {
        const Kind *kind = &e->kind[k];
        if (!kind->rows || kind->why[0])
            continue;
        ErrorSums found = {0};
        memcpy(s->copy, b->w, (size_t)n * sizeof *s->copy);
        kind->by->rows(kind->q, s->copy, b->rows, c->l->in, dtype_of(c->plan), c->plan->peer);
        weightsums_error(b->w, s->copy, n, &found);
        put_sums(&found, sum + k * SUMS);
    }
}

static void add_blocks(Kind *kind, const double *sum, int64_t n, int stride, int at)
{
    for (int j = 0; j < SUMS; j++)
        kind->total[j] = j == SUM_MAX ? weights_top(sum, n, stride, at + j) : weights_total(sum, n, stride, at + j);
}

static void swept(void *self, const WeightCase *c, int sweep, const double *sum)
{
    (void)sweep;
    WeightErrors *e = self;
    for (int k = 0; k < e->kinds; k++)
        add_blocks(&e->kind[k], sum, c->blocks, SUMS * e->kinds, k * SUMS);
}

/* ---- quantizers that have to see all of a weight ---- */

typedef struct Whole {
    const float *w;
    const QWeight *q;
    int64_t rows, out, in;
    float *fake;   /* [threads][rows][in] */
    double *sum;   /* [blocks][SUMS] */
    DType T;
} Whole;

static void whole_task(void *ctx, int64_t i, int worker)
{
    const Whole *x = ctx;
    int64_t r0 = i * x->rows, rows = x->out - r0 < x->rows ? x->out - r0 : x->rows;
    float *y = x->fake + (int64_t)worker * x->rows * x->in;
    ErrorSums found = {0};
    qweight_rows(x->q, r0, rows, x->T, y);
    weightsums_error(x->w + r0 * x->in, y, rows * x->in, &found);
    put_sums(&found, x->sum + i * SUMS);
}

static Status compare_whole(Kind *kind, const WeightCase *c, Whole *x, Error *err)
{
    Pool *pool = runner_pool(c->r);
    QWeight q;
    WeightTask t = {.q = kind->q, .w = x->w, .out = x->out, .in = x->in, .T = x->T, .F = DT_F32, .peer = c->plan->peer,
                    .pool = pool, .cancel = runner_cancel(c->r)};
    RETURN_IF_ERROR(qweight_init(&q, kind->q, x->out, x->in, err));
    x->q = &q;
    Status st = kind->by->quantize(&t, &q, err);
    if (st == ST_DATA) {
        snprintf(kind->why, sizeof kind->why, "%.119s", err->text);
        st = ST_OK;
    } else if (st == ST_OK) {
        pool_run(pool, PHASE_STATISTICS, c->blocks, whole_task, x, runner_cancel(c->r));
        st = cancel_check(runner_cancel(c->r), err);
        add_blocks(kind, x->sum, c->blocks, SUMS, 0);
    }
    qweight_fini(&q);
    return st;
}

static Status whole_kinds(WeightErrors *e, const WeightCase *c, Error *err)
{
    Whole x = {.out = c->l->out, .in = c->l->in, .rows = weightwalk_rows(c->l->in), .T = dtype_of(c->plan)};
    float *w = NULL;
    Status st = ST_OK;
    for (int k = 0; st == ST_OK && k < e->kinds; k++) {
        Kind *kind = &e->kind[k];
        if (kind->rows || kind->why[0])
            continue;
        if (!w) {
            int threads = pool_threads(runner_pool(c->r));
            w = mem_array((size_t)x.out * (size_t)x.in, sizeof *w);
            x.fake = mem_array((size_t)threads * (size_t)(x.rows * x.in), sizeof *x.fake);
            x.sum = mem_array((size_t)c->blocks * SUMS, sizeof *x.sum);
            x.w = w;
            st = w && x.fake && x.sum ? runner_weight(c->r, c->linear, -1, w, err) : error_nomem(err, "a weight");
        }
        if (st == ST_OK)
            st = compare_whole(kind, c, &x, err);
    }
    free(w);
    free(x.fake);
    free(x.sum);
    return st;
}

/* ---- scores ---- */

enum { PART_FROBENIUS, PART_RMSE, PART_MAX, PART_MEAN, PART_SQNR, PART_COSINE };
static const MetricPart parts[] = {
    {"frobenius", "", "norm of the error, |W - Q(W)|"},
    {"rmse", "", "root of the mean square error of a value"},
    {"max", "", "largest error of a value"},
    {"mean_abs", "", "mean error of a value"},
    {"sqnr", "dB", "the weight's square over the error's; inf, in JSON null: nothing is lost"},
    {"cosine", "", "between the weight and what became of it"},
    {NULL, NULL, NULL},
};

/* Of a level that quantizes to this kind; NULL: it leaves weights alone. */
static void fill(const Kind *kind, double n, UnitScore *s)
{
    static const double nothing[SUMS] = {0};
    const double *t = kind ? kind->total : nothing;
    double frobenius = sqrt(t[SUM_SQ]), norms = sqrt(t[SUM_W]) * sqrt(t[SUM_Y]);
    s->value = t[SUM_W] > 0 ? sqrt(t[SUM_SQ] / t[SUM_W]) : 0; /* a weight of zeros stays one */
    s->part[PART_FROBENIUS] = frobenius;
    s->part[PART_RMSE] = n > 0 ? sqrt(t[SUM_SQ] / n) : 0;
    s->part[PART_MAX] = t[SUM_MAX];
    s->part[PART_MEAN] = n > 0 ? t[SUM_ABS] / n : 0;
    s->part[PART_SQNR] = t[SUM_SQ] > 0 ? 10 * log10(t[SUM_W] / t[SUM_SQ]) : INFINITY;
    s->part[PART_COSINE] = norms > 0 ? fmin(t[SUM_DOT] / norms, 1) : t[SUM_SQ] > 0 ? 0 : 1;
}

static Status add_level(const WeightErrors *e, const WeightCase *c, int level, WeightScores *out, Error *err)
{
    const QConfig *q = level > 0 ? &c->plan->levels[level - 1] : NULL;
    const Kind *kind = level > 0 && e->of[level - 1] >= 0 ? &e->kind[e->of[level - 1]] : NULL;
    UnitScore s = {.value = NAN, .levels = scores_level_all(c->plan->m, SCOPE_LINEAR, c->linear, q)};
    for (int k = 0; k < METRIC_PARTS; k++)
        s.part[k] = NAN;
    if (!q)
        snprintf(s.why, sizeof s.why, "the recipe has no quantized level to score");
    else if (kind && kind->why[0])
        snprintf(s.why, sizeof s.why, "%s", kind->why);
    else
        fill(kind, c->n, &s);
    if (!s.why[0] && !isfinite(s.value))
        snprintf(s.why, sizeof s.why, "its squares overflow");
    return weights_add(out, &weight_error, c, &s, err);
}

/* The level that the linear is scored at comes last: the newest is what is shown. */
static Status finish(void *self, const WeightCase *c, WeightScores *out, Error *err)
{
    WeightErrors *e = self;
    const int at = c->plan->level[c->linear];
    RETURN_IF_ERROR(whole_kinds(e, c, err));
    for (int k = 1; k <= c->plan->nlevels; k++)
        if (k != at)
            RETURN_IF_ERROR(add_level(e, c, k, out, err));
    return add_level(e, c, at, out, err);
}

const WeightAnalysis weight_error = {
    .metric = {
        .name = "weight_error",
        .title = "Weight error",
        .unit = "of |W|",
        .scope = SCOPE_LINEAR,
        .family = FAMILY_WEIGHT,
        .cost = "reads the weights once, no data",
        .parts = parts,
        .direction = 1,
        .pass = &pass_weights,
        .explain = "|W - Q(W)| / |W|: how much of a weight its level loses, for every level of the recipe in one pass.\n"
                   "Trust it to compare schemes and to find weights that a grid suits badly. gptq counts as the minmax of its\n"
                   "grid, on which it can only improve. It sees no input: it cannot tell which errors the model forgives.",
    },
    .size = sizeof(WeightErrors),
    .begin = begin,
    .end = end,
    .bytes = bytes,
    .sums = sums,
    .wants = wants,
    .block = block,
    .swept = swept,
    .finish = finish,
};
