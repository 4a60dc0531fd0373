#include "metric/scores.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "metric/metric.h"

void linear_result_fini(LinearResult *r)
{
    free(r->in.channel_max);
    keyhist_fini(&r->in.hist);
    keyhist_fini(&r->weight.hist);
    memset(r, 0, sizeof *r);
}

Status scores_init(Scores *s, const Model *m, Error *err)
{
    *s = (Scores){.m = m, .nlinears = m->nlinears};
    s->linear = mem_zarray((size_t)m->nlinears, sizeof *s->linear);
    s->unit = mem_zarray((size_t)metric_count(), sizeof *s->unit);
    if (s->linear && s->unit)
        return ST_OK;
    free(s->linear);
    free(s->unit);
    *s = (Scores){0};
    return error_nomem(err, "the results");
}

void scores_fini(Scores *s)
{
    for (int64_t i = 0; s->any && i < s->nlinears; i++)
        if (s->linear[i].needs)
            linear_result_fini(&s->linear[i].r);
    for (int k = 0; s->unit && k < metric_count(); k++)
        free(s->unit[k]);
    free(s->linear);
    free(s->unit);
    *s = (Scores){0};
}

void scores_put_linear(Scores *s, LinearResult *r, unsigned needs)
{
    LinearStats *to = &s->linear[r->linear];
    if (to->needs)
        linear_result_fini(&to->r);
    *to = (LinearStats){*r, needs, false, s->arith};
    s->any = true;
}

Status scores_put(Scores *s, const Metric *metric, const UnitScore *u, Error *err)
{
    int k = metric_index(metric);
    int64_t n = k < 0 ? 0 : scope_units(s->m, metric->scope);
    if (u->unit < 0 || u->unit >= n)
        return error_set(err, ST_INTERNAL, "a score of %s for unit %lld of %lld", metric->name, (long long)u->unit,
                         (long long)n);
    if (!s->unit[k] && !(s->unit[k] = mem_zarray((size_t)n, sizeof **s->unit)))
        return error_nomem(err, "the results");
    s->unit[k][u->unit] = (UnitSlot){*u, true, false, s->arith};
    return ST_OK;
}

Status scores_copy_units(Scores *out, const Scores *s, const Metric *const *metrics, Error *err)
{
    RETURN_IF_ERROR(scores_init(out, s->m, err));
    for (int i = 0; metrics[i]; i++)
        for (int64_t u = 0; u < scope_units(s->m, metrics[i]->scope); u++) {
            const UnitSlot *from = scores_unit(s, metrics[i], u);
            Status st = from ? scores_put(out, metrics[i], &from->s, err) : ST_OK;
            if (st != ST_OK) {
                scores_fini(out);
                return st;
            }
        }
    return ST_OK;
}

const UnitSlot *scores_unit(const Scores *s, const Metric *metric, int64_t unit)
{
    int k = s->unit ? metric_index(metric) : -1;
    const UnitSlot *u = k >= 0 && s->unit[k] ? &s->unit[k][unit] : NULL;
    return u && u->known ? u : NULL;
}

void scores_mark_stale(Scores *s)
{
    for (int64_t i = 0; s->any && i < s->m->nlinears; i++)
        s->linear[i].stale = s->linear[i].needs != 0;
    for (int k = 0; s->unit && k < metric_count(); k++)
        for (int64_t u = 0; s->unit[k] && u < scope_units(s->m, metric_table[k]->scope); u++)
            s->unit[k][u].stale = s->unit[k][u].known;
}

void scores_levels(const Model *m, MetricScope scope, const QConfig *levels, const int16_t *level, uint64_t *out)
{
    memset(out, 0, (size_t)scope_units(m, scope) * sizeof *out);
    for (int64_t i = 0; i < m->nlinears; i++) {
        int64_t unit = scope_unit_of(m, scope, i);
        const QConfig *q = level[i] ? &levels[level[i] - 1] : NULL;
        if (unit < 0)
            continue;
        uint64_t h = out[unit] ^ (q ? qspec_key(&q->act) * 31 + qspec_key(&q->weight) : 0); /* in the linears' order */
        out[unit] = (h ^ h >> 29) * 0xBF58476D1CE4E5B9u + 1;
    }
}
