/* The pass over weights alone: no texts, no activations. */
#include "metric/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "stat/kernel.h"

/* What sweep 0 finds out of a block for everybody. */
typedef struct BlockFacts {
    ScanSums scan;
    int64_t bad_row, bad_column; /* of the first value that is not finite, -1: all are */
    bool nan;
} BlockFacts;

typedef struct Asked {
    const WeightAnalysis *a;
    void *self;
    int sums;
    double *sum; /* [blocks][sums] */
    WeightScores scores; /* of the layer at work */
    bool now;    /* looks at the sweep at work */
} Asked;

typedef struct WeightRun {
    const PassPlan *p;
    Runner *r;
    const PassSink *sink;
    Asked *asked;
    int nasked, sweep;
    WeightCase at;
    BlockFacts *facts;      /* [most blocks of a linear] */
    WeightScratch *scratch; /* [threads] */
    int threads;
    WeightScores scores;    /* of the layer at work, those of one analysis after another's */
} WeightRun;

double weights_total(const double *sum, int64_t n, int stride, int k)
{
    double total = 0;
    for (int64_t i = 0; i < n; i++)
        total += sum[i * stride + k];
    return total;
}

double weights_top(const double *sum, int64_t n, int stride, int k)
{
    double top = n ? sum[k] : 0;
    for (int64_t i = 1; i < n; i++)
        top = fmax(top, sum[i * stride + k]);
    return top;
}

Status weights_add(WeightScores *out, const WeightAnalysis *a, const WeightCase *c, const UnitScore *s, Error *err)
{
    if (!mem_grow(&out->score, &out->cap, out->n + 1, sizeof *out->score))
        return error_nomem(err, "scores of weights");
    out->score[out->n] = (PassScore){&a->metric, *s};
    out->score[out->n++].s.unit = c->linear;
    return ST_OK;
}

/* ---- one linear ---- */

static void look(const WeightBlock *b, int64_t in, BlockFacts *f)
{
    *f = (BlockFacts){.scan = SCAN_START, .bad_row = -1};
    stat_kernels()->scan(b->w, b->rows * in, &f->scan);
    if (f->scan.max_bits < 0x7f800000u)
        return;
    int64_t i = 0;
    while (isfinite(b->w[i]))
        i++;
    f->bad_row = b->row0 + i / in;
    f->bad_column = i % in;
    f->nan = isnan(b->w[i]);
}

static void show_block(void *ctx, const WeightBlock *b)
{
    WeightRun *x = ctx;
    if (x->sweep == 0)
        look(b, x->at.l->in, &x->facts[b->index]);
    for (int i = 0; i < x->nasked; i++) {
        const Asked *k = &x->asked[i];
        if (k->now)
            k->a->block(k->self, &x->at, x->sweep, b, &x->scratch[b->worker], k->sum + b->index * k->sums);
    }
}

/* Puts the blocks' facts together; false, and where, when a value is not finite. */
static bool know(WeightRun *x, char *why, size_t size)
{
    ScanSums all = SCAN_START;
    for (int64_t i = 0; i < x->at.blocks; i++) {
        const BlockFacts *f = &x->facts[i];
        if (f->bad_row >= 0) {
            snprintf(why, size, "weight: %s first at row %lld column %lld", f->nan ? "NaN" : "Inf", (long long)f->bad_row,
                     (long long)f->bad_column);
            return false;
        }
        all.or_bits |= f->scan.or_bits;
        all.sum += f->scan.sum;
        all.min = fminf(all.min, f->scan.min);
        all.max = fmaxf(all.max, f->scan.max);
    }
    x->at.sum = all.sum;
    x->at.min = all.min;
    x->at.max = all.max;
    x->at.fine = (all.or_bits & 0xffffu) == 0;
    return true;
}

/* A score that says why there is none, of every analysis. */
static Status no_scores(WeightRun *x, const char *why, Error *err)
{
    UnitScore s = {.value = NAN};
    for (int k = 0; k < METRIC_PARTS; k++)
        s.part[k] = NAN;
    snprintf(s.why, sizeof s.why, "%s", why);
    for (int i = 0; i < x->nasked; i++) {
        const Metric *m = &x->asked[i].a->metric;
        const int level = x->p->level[x->at.linear];
        s.levels = metric_any_level(m) ? 0
                                : scores_level_all(x->p->m, SCOPE_LINEAR, x->at.linear,
                                                   level ? &x->p->levels[level - 1] : NULL);
        RETURN_IF_ERROR(weights_add(&x->asked[i].scores, x->asked[i].a, &x->at, &s, err));
    }
    return ST_OK;
}

static Status sweeps(WeightRun *x, WeightWalk *w, char *why, size_t size, Error *err)
{
    for (x->sweep = 0; x->sweep < WEIGHT_SWEEPS && !why[0]; x->sweep++) {
        bool any = x->sweep == 0;
        for (int i = 0; i < x->nasked; i++) {
            Asked *k = &x->asked[i];
            k->now = k->a->wants(k->self, &x->at, x->sweep);
            any |= k->now;
            if (k->now)
                memset(k->sum, 0, (size_t)(x->at.blocks * k->sums) * sizeof *k->sum);
        }
        if (!any)
            continue;
        RETURN_IF_ERROR(weightwalk_sweep(w, show_block, x, err));
        if (x->sweep == 0 && !know(x, why, size))
            return ST_OK;
        for (int i = 0; i < x->nasked; i++)
            if (x->asked[i].now)
                x->asked[i].a->swept(x->asked[i].self, &x->at, x->sweep, x->asked[i].sum);
    }
    return ST_OK;
}

/* The selected linear at or behind i, -1: there is none. */
static int64_t next_selected(const PassPlan *p, int64_t i)
{
    while (i < p->m->nlinears && ((p->selected && !p->selected[i]) || p->m->linears[i].layer < 0))
        i++;
    return i < p->m->nlinears ? i : -1;
}

static Status one_linear(WeightRun *x, int64_t linear, Error *err)
{
    const Linear *l = &x->p->m->linears[linear];
    char why[120] = "";
    WeightWalk w;
    x->at = (WeightCase){.plan = x->p, .r = x->r, .linear = linear, .blocks = weightwalk_blocks(l->out, l->in), .l = l,
                         .n = (double)l->out * (double)l->in};
    Error bad = {0};
    Status st = weightwalk_begin(&w, x->r, linear, next_selected(x->p, linear + 1), &bad);
    if (st == ST_DATA)
        return no_scores(x, bad.text, err);
    if (st != ST_OK) {
        *err = bad;
        return st;
    }
    st = sweeps(x, &w, why, sizeof why, err);
    weightwalk_end(&w);
    if (st == ST_OK && why[0])
        return no_scores(x, why, err);
    for (int i = 0; st == ST_OK && i < x->nasked; i++)
        st = x->asked[i].a->finish(x->asked[i].self, &x->at, &x->asked[i].scores, err);
    return st;
}

/* ---- the pass ---- */

static int64_t most_blocks(const Model *m)
{
    int64_t most = 0;
    for (int64_t i = 0; i < m->nlinears; i++)
        most = max_i64(most, weightwalk_blocks(m->linears[i].out, m->linears[i].in));
    return most;
}

static Status begin_asked(WeightRun *x, Error *err)
{
    const PassPlan *p = x->p;
    int64_t blocks = most_blocks(p->m);
    for (int i = 0; p->metrics[i]; i++) {
        Asked *k = &x->asked[x->nasked++];
        k->a = (const WeightAnalysis *)(const void *)p->metrics[i]; /* its first member */
        k->self = mem_zarray(1, k->a->size);
        if (!k->self)
            return error_nomem(err, "an analysis of weights");
        if (k->a->begin)
            RETURN_IF_ERROR(k->a->begin(k->self, p, x->threads, err));
        k->sums = k->a->sums(k->self);
        k->sum = mem_array((size_t)(blocks * k->sums), sizeof *k->sum);
        if (!k->sum)
            return error_nomem(err, "an analysis of weights");
    }
    return ST_OK;
}

static Status run_init(WeightRun *x, Error *err)
{
    size_t n = metric_list_len(x->p->metrics), values = (size_t)weightwalk_values(x->p->m);
    x->threads = pool_threads(runner_pool(x->r));
    x->asked = mem_zarray(n + 1, sizeof *x->asked);
    x->facts = mem_array((size_t)most_blocks(x->p->m), sizeof *x->facts);
    x->scratch = mem_zarray((size_t)x->threads, sizeof *x->scratch);
    bool ok = x->asked && x->facts && x->scratch;
    for (int i = 0; ok && i < x->threads; i++) {
        x->scratch[i].copy = mem_aligned(2 * values + 32, sizeof(float));
        ok = x->scratch[i].copy != NULL;
        x->scratch[i].more = ok ? x->scratch[i].copy + (values + 15) / 16 * 16 : NULL;
    }
    return ok ? begin_asked(x, err) : error_nomem(err, "an analysis of weights");
}

static void run_fini(WeightRun *x)
{
    for (int i = 0; i < x->nasked; i++) {
        if (x->asked[i].self && x->asked[i].a->end)
            x->asked[i].a->end(x->asked[i].self);
        free(x->asked[i].self);
        free(x->asked[i].sum);
        free(x->asked[i].scores.score);
    }
    for (int i = 0; x->scratch && i < x->threads; i++)
        free(x->scratch[i].copy);
    free(x->scratch);
    free(x->asked);
    free(x->facts);
    free(x->scores.score);
}

/* Puts the scores of a layer together. */
static Status gather(WeightRun *x, Error *err)
{
    WeightScores *all = &x->scores;
    all->n = 0;
    for (int i = 0; i < x->nasked; i++) {
        WeightScores *k = &x->asked[i].scores;
        if (!mem_grow(&all->score, &all->cap, all->n + k->n, sizeof *all->score))
            return error_nomem(err, "scores of weights");
        if (k->n)
            memcpy(all->score + all->n, k->score, k->n * sizeof *k->score);
        all->n += k->n;
        k->n = 0;
    }
    return ST_OK;
}

static Status run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    const Model *m = p->m;
    WeightRun x = {.p = p, .r = r, .sink = sink};
    Status st = run_init(&x, err);
    for (int64_t layer = p->first; st == ST_OK && layer < model_depth(m); layer++) {
        const Unit *u = &m->units[layer];
        for (int64_t i = u->first; st == ST_OK && i < u->first + u->count; i++)
            if (!p->selected || p->selected[i])
                st = one_linear(&x, i, err);
        st = st == ST_OK ? gather(&x, err) : st;
        PassStep step = {.news = true, .done = layer + 1, .total = model_depth(m), .score = x.scores.score, .nscore = (int64_t)x.scores.n};
        if (st == ST_OK)
            st = sink->step(sink->ctx, &step, err);
    }
    run_fini(&x);
    return st;
}

/* ---- planning ---- */

static int64_t steps(const PassPlan *p)
{
    return model_depth(p->m);
}

/* The scores, too, that stay or are on their way: of many linears they are more than the tables. */
static uint64_t bytes(const PassPlan *p, int threads)
{
    uint64_t sum = 2 * (uint64_t)threads * (uint64_t)weightwalk_values(p->m) * sizeof(float);
    for (int i = 0; p->metrics[i]; i++) {
        const WeightAnalysis *a = (const WeightAnalysis *)(const void *)p->metrics[i];
        uint64_t levels = metric_any_level(&a->metric) || p->nlevels < 1 ? 1 : (uint64_t)p->nlevels;
        sum += a->bytes ? a->bytes(p, threads) : 0;
        sum += (uint64_t)p->m->nlinears * levels * (sizeof(UnitSlot) + 2 * sizeof(PassScore));
    }
    return sum;
}

static uint64_t need(const PassPlan *p, int threads)
{
    return weightwalk_bytes(p->m, 0, threads, false);
}

const MetricPass pass_weights = {
    .name = "weights",
    .step = "layer",
    .inputs = {"none: no data was read", "none: no data was read"},
    .data_free = true,
    .steps = steps,
    .bytes = bytes,
    .need = need,
    .divides = DIVIDES_UNITS,
    .run = run,
};
