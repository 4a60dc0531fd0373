/* One float pass for all metrics that try a method on each linear: its whole input is there before it is multiplied. */
#include "metric/search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/look.h"
#include "metric/watch.h"
#include "quant/actrange.h"
#include "run/schedule.h"

static const Search *const searches[] = {&search_smooth_alpha, &search_awq, &search_gptq};
enum { SEARCHES = sizeof searches / sizeof *searches, COLUMNS = 64 };

typedef struct SearchPass {
    Runner *r;
    const PassPlan *p;
    const PassSink *sink;
    const Search *of[SEARCHES]; /* [n] that were asked for */
    int n;
    uint64_t *levels;           /* [nlinears] scores_levels */
    float *w, *work;            /* [largest weight] */
    float *column, *probe;      /* [widest input], [SEARCH_TOKENS and what SEARCH_LEAST adds][widest] */
    float *lo, *hi;             /* [widest] */
    double *mean_abs;
    WatchOut out;
} SearchPass;

void search_absent(UnitScore *u, const char *why)
{
    watch_undefined(u, why);
    u->absent = true;
}

/* ---- an input ---- */

typedef struct ChannelRun {
    const float *x;
    int64_t rows, width;
    float *lo, *hi;
    double *mean_abs;
} ChannelRun;

static void channel_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const ChannelRun *c = ctx;
    int64_t from = index * COLUMNS, to = min_i64(from + COLUMNS, c->width);
    for (int64_t j = from; j < to; j++) {
        c->lo[j] = INFINITY;
        c->hi[j] = -INFINITY;
        c->mean_abs[j] = 0;
    }
    for (int64_t r = 0; r < c->rows; r++)
        for (int64_t j = from; j < to; j++) {
            float v = c->x[r * c->width + j];
            c->lo[j] = fminf(c->lo[j], v);
            c->hi[j] = fmaxf(c->hi[j], v);
            c->mean_abs[j] += (double)fabsf(v);
        }
    for (int64_t j = from; j < to; j++)
        c->mean_abs[j] /= (double)c->rows;
}

static int64_t probe_each(const PassPlan *p)
{
    return max_i64(SEARCH_LEAST, div_up(SEARCH_TOKENS, max_i64(1, p->tokens->samples)));
}

/* The beginnings of the texts, until there are enough. */
static int64_t take_probe(const SearchPass *s, const float *x, const Stream *shape, int64_t width)
{
    int64_t n = 0, each = probe_each(s->p);
    for (int i = 0; i < shape->samples && n < SEARCH_TOKENS; i++) {
        int64_t rows = min_i64(each, shape->start[i + 1] - shape->start[i]);
        memcpy(s->probe + n * width, x + shape->start[i] * width, (size_t)(rows * width) * sizeof *x);
        n += rows;
    }
    return n;
}

typedef struct ColumnRun {
    const float *w;
    int64_t out, in;
    float *max;
} ColumnRun;

static void column_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const ColumnRun *c = ctx;
    int64_t from = index * COLUMNS, to = min_i64(from + COLUMNS, c->in);
    for (int64_t r = 0; r < c->out; r++)
        for (int64_t j = from; j < to; j++)
            c->max[j] = fmaxf(c->max[j], fabsf(c->w[r * c->in + j]));
}

/* Largest |W| of each column over all weights that read the input. */
static Status column_max(SearchPass *s, int64_t leader, Error *err)
{
    const Model *m = s->p->m;
    const Unit *u = &m->units[m->linears[leader].layer];
    memset(s->column, 0, (size_t)m->linears[leader].in * sizeof *s->column);
    for (int64_t i = leader; i < u->first + u->count; i++) {
        const Linear *l = &m->linears[i];
        if (pass_input(s->p, i) != leader)
            continue;
        RETURN_IF_ERROR(runner_weight(s->r, i, -1, s->w, err));
        ColumnRun c = {s->w, l->out, l->in, s->column};
        pool_run(runner_pool(s->r), PHASE_STATISTICS, div_up(l->in, COLUMNS), column_task, &c, runner_cancel(s->r));
    }
    return cancel_check(runner_cancel(s->r), err);
}

/* ---- a linear ---- */

static Status check_finite(const Linear *l, const float *w, Error *err)
{
    for (int64_t r = 0; r < l->out; r++) {
        float mn, mx;
        intquant_range(w + r * l->in, l->in, &mn, &mx);
        if (!isfinite(mn) || !isfinite(mx))
            return error_set(err, ST_DATA, "NaN or Inf in its weight, row %lld", (long long)r);
    }
    return ST_OK;
}

/* ST_DATA is the row's own: others have scores. */
static Status try_one(SearchPass *s, const SearchLinear *l, const Search *of, UnitScore *u, Error *err)
{
    Error why = {0};
    Status st = check_finite(l->l, l->w, &why);
    if (st == ST_OK)
        st = of->run(l, u, &why);
    if (st == ST_DATA)
        watch_undefined(u, why.text);
    else if (st != ST_OK)
        return error_set(err, st, "%s", why.text);
    else if (!isfinite(u->value) && !u->why[0])
        watch_undefined(u, "its output is 0 for every token");
    return watch_put(&s->out, of->metric, u, err);
}

static UnitScore new_score(const SearchPass *s, int64_t linear)
{
    return (UnitScore){.unit = linear, .value = NAN, .levels = s->levels[linear]};
}

static Status try_linear(SearchPass *s, const SearchInput *in, int64_t linear, Error *err)
{
    const Linear *l = &s->p->m->linears[linear];
    int level = s->p->level[linear];
    RETURN_IF_ERROR(runner_weight(s->r, linear, -1, s->w, err));
    SearchLinear one = {.in = in, .l = l, .q = level ? &s->p->levels[level - 1] : NULL, .w = s->w, .work = s->work};
    for (int k = 0; k < s->n; k++) {
        UnitScore u = new_score(s, linear);
        u.tokens = in->rows;
        u.samples = in->samples;
        if (!level) {
            search_absent(&u, "it has no level to try");
            RETURN_IF_ERROR(watch_put(&s->out, s->of[k]->metric, &u, err));
        } else {
            RETURN_IF_ERROR(try_one(s, &one, s->of[k], &u, err));
        }
        RETURN_IF_ERROR(cancel_check(runner_cancel(s->r), err));
    }
    return ST_OK;
}

static bool reads(const SearchPass *s, int64_t i, int64_t leader)
{
    return pass_input(s->p, i) == leader && watch_wants(s->p, i);
}

static Status put_reason(SearchPass *s, int64_t linear, const char *why, bool absent, Error *err)
{
    for (int k = 0; k < s->n; k++) {
        UnitScore u = new_score(s, linear);
        watch_undefined(&u, why);
        u.absent = absent;
        RETURN_IF_ERROR(watch_put(&s->out, s->of[k]->metric, &u, err));
    }
    return ST_OK;
}

/* An input with NaN or Inf: the same word for all linears that read it. */
static Status put_bad(SearchPass *s, int64_t leader, const char *why, Error *err)
{
    const Unit *unit = &s->p->m->units[s->p->m->linears[leader].layer];
    for (int64_t i = leader; i < unit->first + unit->count; i++)
        if (reads(s, i, leader))
            RETURN_IF_ERROR(put_reason(s, i, why, false, err));
    return ST_OK;
}

static Status look(void *ctx, int64_t leader, const float *x, const Stream *shape, int64_t width, Error *err)
{
    SearchPass *s = ctx;
    const Unit *unit = &s->p->m->units[s->p->m->linears[leader].layer];
    size_t n = (size_t)shape->samples;
    int64_t rows = shape->start[shape->samples] - shape->start[0];
    if (!rows)
        return ST_OK;
    float *range = mem_array(2 * n, sizeof *range);
    Error why = {0};
    Status st = range ? act_ranges(x, shape, width, runner_pool(s->r), range, range + n, &why)
                      : error_nomem(&why, "ranges of an input");
    free(range);
    if (st == ST_DATA)
        return put_bad(s, leader, why.text, err);
    if (st != ST_OK)
        return error_set(err, st, "%s", why.text);
    ChannelRun c = {x, rows, width, s->lo, s->hi, s->mean_abs};
    pool_run(runner_pool(s->r), PHASE_STATISTICS, div_up(width, COLUMNS), channel_task, &c, runner_cancel(s->r));
    SearchInput in = {.p = s->p, .pool = runner_pool(s->r), .cancel = runner_cancel(s->r), .width = width, .rows = rows,
                      .samples = shape->samples, .x = x, .lo = s->lo, .hi = s->hi, .mean_abs = s->mean_abs,
                      .column = s->column, .probe = s->probe, .nprobe = take_probe(s, x, shape, width)};
    RETURN_IF_ERROR(column_max(s, leader, err));
    for (int64_t i = leader; i < unit->first + unit->count; i++)
        if (reads(s, i, leader))
            RETURN_IF_ERROR(try_linear(s, &in, i, err));
    return ST_OK;
}

/* ---- a unit ---- */

static bool known(const SearchPass *s, int64_t linear)
{
    for (size_t i = 0; i < s->out.n; i++)
        if (s->out.score[i].s.unit == linear)
            return true;
    return false;
}

static Status run_unit(void *self, LayerCtx *ctx, Error *err)
{
    SearchPass *s = self;
    const Unit *u = &s->p->m->units[ctx->layer];
    s->out.n = 0;
    RETURN_IF_ERROR(look_forward(ctx->runner, s->p, ctx->layer, ctx->streams[0], ctx->streams[0], look, s, err));
    for (int64_t i = u->first; i < u->first + u->count; i++)
        if (watch_wants(s->p, i) && !known(s, i))
            RETURN_IF_ERROR(put_reason(s, i, "no token reached it", true, err));
    return ST_OK;
}

static Status unit_done(void *ctx, int unit, Stream **streams, int nstreams, Error *err)
{
    (void)nstreams;
    SearchPass *s = ctx;
    const PassStep gave = {.score = s->out.score, .nscore = (int64_t)s->out.n, .h = streams[0]};
    return pass_tell_layer(s->p, s->sink, unit, &gave, err);
}

/* ---- the pass ---- */

typedef struct Largest {
    int64_t weight, width; /* values */
} Largest;

static Largest largest(const Model *m)
{
    Largest l = {0};
    for (int64_t i = 0; i < m->nlinears; i++) {
        l.weight = max_i64(l.weight, m->linears[i].in * m->linears[i].out);
        l.width = max_i64(l.width, m->linears[i].in);
    }
    return l;
}

static Status begin(SearchPass *s, Error *err)
{
    Largest l = largest(s->p->m);
    size_t width = (size_t)l.width;
    for (int i = 0; i < SEARCHES; i++)
        if (pass_asks(s->p, searches[i]->metric))
            s->of[s->n++] = searches[i];
    s->levels = mem_zarray((size_t)s->p->m->nlinears, sizeof *s->levels);
    s->w = mem_aligned((size_t)l.weight, sizeof *s->w);
    s->work = mem_aligned((size_t)l.weight, sizeof *s->work);
    s->column = mem_array(width, sizeof *s->column);
    s->lo = mem_array(width, sizeof *s->lo);
    s->hi = mem_array(width, sizeof *s->hi);
    s->mean_abs = mem_array(width, sizeof *s->mean_abs);
    s->probe = mem_aligned((size_t)(SEARCH_TOKENS + probe_each(s->p)) * width, sizeof *s->probe);
    if (!s->levels || !s->w || !s->work || !s->column || !s->lo || !s->hi || !s->mean_abs || !s->probe)
        return error_nomem(err, "a search");
    scores_levels(s->p->m, SCOPE_LINEAR, s->p->levels, s->p->level, s->levels);
    return ST_OK;
}

static void end(SearchPass *s)
{
    free(s->levels);
    free(s->w);
    free(s->work);
    free(s->column);
    free(s->lo);
    free(s->hi);
    free(s->mean_abs);
    free(s->probe);
    free(s->out.score);
}

static Status run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    SearchPass s = {.r = r, .p = p, .sink = sink};
    Status st = begin(&s, err);
    if (st == ST_OK)
        st = pass_by_layer(r, p, (LayerJob){"search", run_unit, &s}, unit_done, &s, err);
    end(&s);
    return st;
}

static uint64_t bytes(const PassPlan *p, int threads)
{
    Largest l = largest(p->m);
    uint64_t most = 0, rows = (uint64_t)(SEARCH_TOKENS + probe_each(p));
    for (int64_t i = 0; i < p->m->nlinears; i++)
        for (int k = 0; k < SEARCHES && p->level[i]; k++)
            if (pass_asks(p, searches[k]->metric))
                most = max_u64(most, searches[k]->bytes(&p->m->linears[i], &p->levels[p->level[i] - 1], threads));
    return most + (uint64_t)l.weight * 8 + (uint64_t)l.width * (20 + rows * 4) + (uint64_t)p->m->nlinears * 8;
}

const MetricPass pass_search = {
    .name = "search",
    .step = "layer",
    .stream = true,
    .steps = pass_layers,
    .bytes = bytes,
    .need = look_need,
    .divides = DIVIDES_UNITS,
    .run = run,
};
