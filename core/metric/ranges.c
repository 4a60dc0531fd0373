#include "metric/ranges.h"

#include <stdio.h>

#include "metric/divide.h"
#include "metric/rows.h"

QConfig level_without_data(const QConfig *q)
{
    QConfig bare = *q;
    const QuantLevel l = quant_level(&bare);
    if (l.weight && l.weight->prepare)
        snprintf(bare.weight.method, sizeof bare.weight.method, "minmax");
    return bare;
}

bool range_needed(const QuantLevel *l)
{
    return l->runs && l->act->observer;
}

/* That of a linear at such a level, among these scores. */
static const UnitSlot *range_of(const RangeSet *s, const Scores *among, int64_t linear, int level)
{
    const QConfig *q = &s->p->levels[level - 1];
    return scores_unit_at(among, &metric_input_range, linear, scores_level_all(s->p->m, SCOPE_LINEAR, linear, q));
}

static Status keep_ranges(void *ctx, const PassStep *step, Error *err)
{
    RangeSet *s = ctx;
    for (int64_t i = 0; i < step->nscore; i++)
        RETURN_IF_ERROR(scores_put(&s->found, step->score[i].metric, &step->score[i].s, err));
    const PassStep mine = {.done = s->done, .total = s->total, .news = true, .score = step->score, .nscore = step->nscore};
    return s->sink->step(s->sink->ctx, &mine, err);
}

static Status take_known(RangeSet *s, const Scores *known, Error *err)
{
    s->found.origin = known->origin;
    for (int64_t i = 0; i < s->p->m->nlinears; i++)
        for (int k = 1; k <= s->p->nlevels; k++) {
            const UnitSlot *u = range_needed(&s->level[k - 1]) ? range_of(s, known, i, k) : NULL;
            if (!u)
                continue;
            const UnitScore full = scores_unit_full(u, &metric_input_range, i);
            RETURN_IF_ERROR(scores_put(&s->found, &metric_input_range, &full, err));
        }
    return ST_OK;
}

static bool is_missing(const RangeSet *s, const bool *wanted)
{
    const Model *m = s->p->m;
    for (int k = 1; k <= s->p->nlevels; k++)
        for (int64_t i = 0; i < m->nlinears && range_needed(&s->level[k - 1]); i++)
            if (m->linears[i].expert < 0 && wanted[(int64_t)(k - 1) * m->nlinears + i] && !range_of(s, &s->found, i, k))
                return true;
    return false;
}

Status ranges_find(RangeSet *s, const bool *wanted, Error *err)
{
    static const Metric *const range[] = {&metric_input_range, NULL};
    RETURN_IF_ERROR(scores_init(&s->found, s->p->m, err));
    if (s->p->before)
        RETURN_IF_ERROR(take_known(s, s->p->before, err));
    if (!is_missing(s, wanted))
        return ST_OK;
    PassPlan p = *s->p;
    p.pass = metric_input_range.pass;
    p.metrics = range;
    p.first = 0;
    p.h = NULL;
    p.ranks = NULL;
    PassDivision d;
    Status st = pass_divide(&d, &p, s->p->ranks ? s->p->ranks->dist : NULL, err);
    if (st == ST_OK)
        st = pass_run_divided(&d, s->r, &(PassSink){keep_ranges, s}, err);
    pass_divide_end(&d);
    return st;
}

void ranges_recall(const RangeSet *s, LayerForms *forms, const int16_t *level, const FormTypes *t)
{
    for (int64_t i = 0; i < forms->n; i++) {
        int64_t lin = forms->first + i;
        int k = level[lin];
        const UnitSlot *u = k && range_needed(&s->level[k - 1]) ? range_of(s, &s->found, lin, k) : NULL;
        if (u)
            layer_forms_recall(forms, i, t, (float)u->s.part[0], (float)u->s.part[1]);
    }
}
