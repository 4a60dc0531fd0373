#include "session/ranking.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/radix.h"
#include "metric/sampleparts.h"
#include "session/columns.h"
#include "session/parts.h"
#include "session/table.h"

void ranks_free(Ranking *r)
{
    free(r->rank);
    free(r->tied);
    *r = (Ranking){0};
}

typedef struct Place {
    int64_t linear, unit;
    double value; /* falling: the worst is the smallest */
} Place;

static double error_of(const Session *s, const Metric *m, int64_t unit)
{
    int part = metric_error_part(m);
    const double *parts = part >= 0 && unit >= 0 ? session_unit_parts(s, m, unit) : NULL;
    return parts ? parts[part] : NAN;
}

/* Linears of one unit stand together: they have its score and its rank. */
static void number(const Session *s, const Metric *m, const Place *p, int64_t n, Ranking *r)
{
    int64_t rank = 0, before = 0; /* place where the unit of the rank above begins */
    double error = NAN;
    for (int64_t i = 0, end; i < n; i = end) {
        double own = error_of(s, m, p[i].unit);
        bool meets = rank > 0 && errors_meet(-p[before].value, error, -p[i].value, own);
        rank++;
        for (end = i; end < n && p[end].unit == p[i].unit; end++) {
            r->rank[p[end].linear] = rank;
            r->tied[p[end].linear] = meets;
        }
        for (int64_t k = before; meets && k < i; k++)
            r->tied[p[k].linear] = true;
        before = i;
        error = own;
    }
}

static bool room(Ranking *r, int64_t n)
{
    if (r->linears != n) {
        ranks_free(r);
        r->rank = mem_array((size_t)n, sizeof *r->rank);
        r->tied = mem_array((size_t)n, sizeof *r->tied);
        r->linears = r->rank && r->tied ? n : 0;
    }
    return r->rank && r->tied;
}

static bool rank_all(const Session *s, const Scored *sc, Ranking *r)
{
    const Metric *m = sc->metric;
    int64_t total = s->model->nlinears, n = 0;
    RadixPair *by = mem_array((size_t)total, sizeof *by);
    Place *p = mem_array((size_t)total, sizeof *p);
    for (int64_t i = 0; by && p && i < total; i++)
        if (scored_has(sc, i))
            by[n++] = (RadixPair){radix_of_double(-sc->value[i] * m->direction), i};
    bool fine = by && p && radix_sort(by, n);
    for (int64_t i = 0; fine && i < n; i++) {
        int64_t linear = by[i].value;
        p[i] = (Place){linear, scope_unit_of(s->model, m->scope, linear), -sc->value[linear] * m->direction};
    }
    if (fine)
        number(s, m, p, n, r);
    free(by);
    free(p);
    return fine;
}

/* Makes it anew where it is of other scores. false: memory is short, and all ranks are 0. */
static bool ranks_make(const Session *s, const Metric *m, Ranking *r)
{
    int64_t total = s->model->nlinears;
    const Scored *sc = m ? scored_of(s, m) : NULL;
    uint64_t made = sc ? sc->made : 0;
    if (r->valid && r->metric == m && r->linears == total && r->made == made)
        return true;
    if (!room(r, total))
        return false;
    memset(r->rank, 0, (size_t)total * sizeof *r->rank);
    memset(r->tied, 0, (size_t)total * sizeof *r->tied);
    r->metric = m;
    r->made = made;
    r->valid = sc ? rank_all(s, sc, r) : !m;
    return r->valid;
}

/* ---- what the table shows of it ---- */

int64_t session_rank(Session *s, int64_t linear)
{
    Ranking *r = &s->table->ranks;
    return ranks_make(s, s->table->metric, r) ? r->rank[linear] : 0;
}

bool session_tied(Session *s, int64_t linear)
{
    Ranking *r = &s->table->ranks;
    return ranks_make(s, s->table->metric, r) && r->tied[linear];
}

int64_t session_second_rank(Session *s, int64_t linear)
{
    Ranking *r = &s->table->second_ranks;
    return s->table->second && ranks_make(s, s->table->second, r) ? r->rank[linear] : 0;
}

double session_interval(const Session *s, const Metric *m, int64_t linear)
{
    Score sc = session_score(s, m, linear);
    if (sc.state != SCORE_OK && sc.state != SCORE_STALE)
        return NAN;
    double share = 2 * error_of(s, m, scope_unit_of(s->model, m->scope, linear)) / fabs(sc.value);
    return isfinite(share) ? share : NAN;
}
