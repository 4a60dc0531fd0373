#include "session/disagree.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* A tenth of all ranks it high, the other half of them low; block_error is off where it is this factor from alone. */
enum { EXTREME_SHARE = 10, BLIND_FACTOR = 3 };

static const char block_error[] = "block_error", alone[] = "alone";

/* What metrics that know nothing of the residual stream look at. */
static const struct Local {
    const char *metric, *extreme, *ordinary;
} locals[] = {
    {"kurtosis", "its input is spiky", "ordinary input"},
    {"std", "its input has a value far out", "ordinary input"},
    {"quantile", "its input has a wide range", "ordinary input"},
    {"local_error", "its own output moves much", "its own output hardly moves"},
};

static const struct Local *local_of(const Metric *m)
{
    for (size_t i = 0; i < sizeof locals / sizeof *locals; i++)
        if (strcmp(locals[i].metric, m->name) == 0)
            return &locals[i];
    return NULL;
}

/* Larger scopes hold more linears. */
static MetricScope coarser(MetricScope a, MetricScope b)
{
    static const int size[METRIC_SCOPES] = {[SCOPE_LINEAR] = 0, [SCOPE_GROUP] = 1, [SCOPE_ATTENTION] = 2, [SCOPE_BLOCK] = 3,
                                            [SCOPE_MODEL] = 4};
    return size[a] >= size[b] ? a : b;
}

void unit_values(const Session *s, const Metric *m, MetricScope scope, double *out)
{
    const Model *model = session_model(s);
    for (int64_t u = 0; u < scope_units(model, scope); u++)
        out[u] = NAN;
    for (int64_t i = 0; i < model->nlinears; i++) {
        int64_t u = scope_unit_of(model, scope, i);
        Score sc = u < 0 ? (Score){.value = NAN} : session_score(s, m, i);
        double v = sc.value * m->direction;
        if (u >= 0 && (sc.state == SCORE_OK || sc.state == SCORE_STALE) && !(out[u] >= v))
            out[u] = v;
    }
}

static bool high(double rank, int64_t n)
{
    return rank <= (double)((n + EXTREME_SHARE - 1) / EXTREME_SHARE);
}

static bool low(double rank, int64_t n)
{
    return 2 * rank > (double)(n + 1);
}

/* rank, other: by a metric that looks at the linear alone, and by block_error. */
static Disagreement stream_cause(double rank, double other, int64_t n)
{
    if (high(rank, n) && low(other, n))
        return DISAGREE_STAYS;
    return high(other, n) && low(rank, n) ? DISAGREE_REACHES : DISAGREE_NOT;
}

static Disagreement blind_cause(double error, double kl, double scale)
{
    double expected = error * scale;
    if (!(scale > 0) || !(error > 0) || !(kl > 0))
        return DISAGREE_NOT;
    if (kl > BLIND_FACTOR * expected)
        return DISAGREE_UNDER;
    return kl * BLIND_FACTOR < expected ? DISAGREE_OVER : DISAGREE_NOT;
}

static bool named(const Metric *m, const char *name)
{
    return strcmp(m->name, name) == 0;
}

static Disagreement cause_of(const MetricPair *p, const PairRow *r)
{
    double ratio = p->agreement.median_ratio;
    if (local_of(p->a) && named(p->b, block_error))
        return stream_cause(r->rank_a, r->rank_b, p->n);
    if (local_of(p->b) && named(p->a, block_error))
        return stream_cause(r->rank_b, r->rank_a, p->n);
    if (named(p->a, block_error) && named(p->b, alone))
        return blind_cause(r->a, r->b, ratio);
    if (named(p->a, alone) && named(p->b, block_error))
        return blind_cause(r->b, r->a, 1 / ratio);
    return DISAGREE_NOT;
}

static double moved(const PairRow *r)
{
    return fabs(r->rank_a - r->rank_b);
}

static int cause_first(const void *pa, const void *pb)
{
    const PairRow *a = pa, *b = pb;
    if ((a->why == DISAGREE_NOT) != (b->why == DISAGREE_NOT))
        return a->why == DISAGREE_NOT ? 1 : -1;
    if (moved(a) != moved(b))
        return moved(a) > moved(b) ? -1 : 1;
    return a->unit < b->unit ? -1 : a->unit > b->unit;
}

/* x, y: values of all units; what is not known in both becomes NaN in both. */
static Status fill_rows(MetricPair *p, double *x, double *y, Error *err)
{
    double *rank = mem_array((size_t)p->units * 2, sizeof *rank), *rx = rank, *ry = rank + p->units;
    p->row = mem_array((size_t)p->units, sizeof *p->row);
    Status st = rank && p->row ? ST_OK : error_nomem(err, "the ranks of two metrics");
    for (int64_t u = 0; u < p->units; u++)
        if (isnan(x[u]) || isnan(y[u]))
            x[u] = y[u] = NAN;
    if (st == ST_OK)
        st = agree_ranks(x, p->units, rx, err);
    if (st == ST_OK)
        st = agree_ranks(y, p->units, ry, err);
    for (int64_t u = 0; st == ST_OK && u < p->units; u++)
        if (!isnan(x[u]))
            p->row[p->n++] = (PairRow){.unit = u, .a = x[u] * p->a->direction, .b = y[u] * p->b->direction,
                                       .rank_a = rx[u], .rank_b = ry[u]};
    free(rank);
    return st;
}

Status metric_pair(const Session *s, const Metric *a, const Metric *b, MetricPair *out, Error *err)
{
    *out = (MetricPair){.a = a, .b = b, .scope = coarser(a->scope, b->scope)};
    out->units = scope_units(session_model(s), out->scope);
    double *x = mem_array((size_t)out->units * 2, sizeof *x), *y = x + out->units;
    if (!x)
        return error_nomem(err, "the scores of two metrics");
    unit_values(s, a, out->scope, x);
    unit_values(s, b, out->scope, y);
    Status st = fill_rows(out, x, y, err);
    if (st == ST_OK)
        st = agree(x, y, out->units, PAIR_TOP, &out->agreement, err);
    free(x);
    if (st == ST_OK && out->n < 2)
        st = error_set(err, ST_DATA, "%s and %s are both known of %lld %ss only: analyze %s %s", a->name, b->name,
                       (long long)out->n, scope_name(out->scope), a->name, b->name);
    if (st != ST_OK) {
        metric_pair_fini(out);
        return st;
    }
    for (int64_t i = 0; i < out->n; i++)
        out->row[i].why = cause_of(out, &out->row[i]);
    qsort(out->row, (size_t)out->n, sizeof *out->row, cause_first);
    return ST_OK;
}

void metric_pair_fini(MetricPair *p)
{
    free(p->row);
    *p = (MetricPair){0};
}

/* ---- in words ---- */

/* The score of `alone` for a unit, NaN: not known; *below: half of those that are known are larger. */
static double alone_of(const Session *s, MetricScope scope, int64_t unit, bool *below)
{
    const Metric *m = metric_find(alone);
    int64_t known = 0, larger = 0;
    *below = false;
    if (!m || m->scope != scope)
        return NAN;
    Score sc = session_unit_score(s, m, unit);
    for (int64_t u = 0; u < scope_units(session_model(s), scope); u++) {
        Score other = session_unit_score(s, m, u);
        known += isfinite(other.value);
        larger += other.value > sc.value;
    }
    *below = isfinite(sc.value) && 2 * larger >= known && known > 1;
    return sc.value;
}

static void stream_why(const Session *s, const MetricPair *p, const PairRow *r, Str *out)
{
    bool first = local_of(p->a) != NULL;
    const struct Local *l = local_of(first ? p->a : p->b);
    double rank = first ? r->rank_a : r->rank_b, other = first ? r->rank_b : r->rank_a;
    bool small;
    double kl = alone_of(s, p->scope, r->unit, &small);
    if (r->why == DISAGREE_STAYS)
        str_printf(out, "%s (%s #%g), but the error does not reach the residual stream: %s #%g", l->extreme, l->metric, rank,
                   block_error, other);
    else
        str_printf(out, "%s (%s #%g), but what it writes moves the residual stream: %s #%g", l->ordinary, l->metric, rank,
                   block_error, other);
    if (isfinite(kl))
        str_printf(out, ", %s KL %.2g%s", alone, kl, r->why == DISAGREE_STAYS && small ? ": leave it quantized" : "");
    else
        str_printf(out, "; %s decides", alone);
}

void metric_pair_why(const Session *s, const MetricPair *p, const PairRow *r, Str *out)
{
    bool error_first = named(p->a, block_error);
    double ratio = p->agreement.median_ratio, scale = error_first ? ratio : 1 / ratio;
    double error = error_first ? r->a : r->b, kl = error_first ? r->b : r->a;
    if (r->why == DISAGREE_STAYS || r->why == DISAGREE_REACHES)
        stream_why(s, p, r, out);
    else if (r->why != DISAGREE_NOT)
        str_printf(out, "%s is blind behind the block and rates it %.1f times too %s: believe %s", block_error,
                   r->why == DISAGREE_UNDER ? kl / (error * scale) : error * scale / kl,
                   r->why == DISAGREE_UNDER ? "low" : "high", alone);
}
