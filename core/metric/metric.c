#include "metric/rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

const Metric *metric_find(const char *name)
{
    for (const Metric *const *m = metric_table; *m; m++)
        if (!strcmp((*m)->name, name))
            return *m;
    return NULL;
}

int metric_count(void)
{
    int n = 0;
    while (metric_table[n])
        n++;
    return n;
}

int metric_index(const Metric *m)
{
    for (int i = 0; metric_table[i]; i++)
        if (metric_table[i] == m)
            return i;
    return -1;
}

const char *metric_family_title(MetricFamily f)
{
    static const char *const titles[METRIC_FAMILIES] = {
        [FAMILY_DECIDE] = "What quantizing a unit does to the model's output: which layers to give back",
        [FAMILY_ERROR] = "How far quantizing moves something inside the model",
        [FAMILY_INPUT] = "What the inputs of linears look like (they describe, they do not rank damage)",
        [FAMILY_WEIGHT] = "What the weights look like, and what a grid does to them (no data, seconds)"};
    return titles[f];
}

bool metric_any_level(const Metric *m)
{
    return m->any_level || m->pass->any_level;
}

int metric_parts(const Metric *m)
{
    int n = 0;
    while (m->parts && m->parts[n].name)
        n++;
    return n;
}

size_t metric_list_len(const Metric *const *list)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

const Metric **metric_list_copy(const Metric *const *list)
{
    size_t n = metric_list_len(list);
    const Metric **copy = mem_zarray(n + 1, sizeof *copy);
    for (size_t i = 0; copy && i < n; i++)
        copy[i] = list[i];
    return copy;
}

const MetricPass pass_loaded = {.name = "loaded", .step = "score", .data_free = true};

/* ---- scores ---- */

double metric_score(const Metric *m, const Scores *s, int64_t unit, const QConfig *q, char *why, int why_size)
{
    if (m->loaded)
        return m->loaded->value[unit];
    if (m->score)
        return m->score(s, unit, q, why, why_size);
    const UnitSlot *u = scores_unit(s, m, unit);
    if (u && isfinite(u->s.value))
        return u->s.value;
    if (why && why_size > 0)
        snprintf(why, (size_t)why_size, "%s", u && u->s.why[0] ? u->s.why : "the score is not finite");
    return NAN;
}

bool metric_has(const Metric *m, const Scores *s, int64_t unit)
{
    if (m->loaded)
        return isfinite(m->loaded->value[unit]);
    return m->pass->has ? m->pass->has(s, m->scope, unit, m->needs) : scores_unit(s, m, unit) != NULL;
}

bool metric_stale(const Metric *m, const Scores *s, int64_t unit)
{
    const UnitSlot *u = m->pass->has ? NULL : scores_unit(s, m, unit);
    if (!m->pass->has)
        return u && u->stale;
    int64_t from, to;
    scope_linears(s->m, m->scope, unit, &from, &to);
    for (int64_t i = from; i < to; i++)
        if (s->linear[i].stale && scope_unit_of(s->m, m->scope, i) == unit)
            return true;
    return false;
}

unsigned metric_ariths(const Metric *m, const Scores *s, int64_t unit)
{
    const UnitSlot *u = m->pass->has ? NULL : scores_unit(s, m, unit);
    if (!m->pass->has)
        return u ? 1u << u->arith : 0;
    int64_t from, to;
    unsigned set = 0;
    scope_linears(s->m, m->scope, unit, &from, &to);
    for (int64_t i = from; i < to; i++)
        if (s->linear[i].needs && scope_unit_of(s->m, m->scope, i) == unit)
            set |= 1u << s->linear[i].arith;
    return set;
}

double metric_input_score(const TapSummary *in, double v, const char *undefined, char *why, int why_size)
{
    const char *reason = in->bad ? in->bad_text : !in->values ? "no token reached it" : isfinite(v) ? NULL : undefined;
    if (!reason)
        return v;
    if (why && why_size > 0)
        snprintf(why, (size_t)why_size, "%s", reason);
    return NAN;
}
