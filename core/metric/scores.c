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
    s->units = mem_zarray((size_t)metric_count(), sizeof *s->units);
    if (s->linear && s->unit && s->units)
        return ST_OK;
    free(s->linear);
    free(s->unit);
    free(s->units);
    *s = (Scores){0};
    return error_nomem(err, "the results");
}

/* ---- what a slot keeps ---- */

/* One block: the parts, the text behind them. */
static bool keep(KeptScore *to, const Metric *m, const UnitScore *u)
{
    size_t n = (size_t)metric_parts(m) * sizeof *to->part, text = u->why[0] ? strlen(u->why) + 1 : 0;
    *to = (KeptScore){.value = u->value, .sum = u->sum, .tokens = u->tokens, .levels = u->levels, .samples = u->samples,
                      .absent = u->absent, .why = ""};
    if (n + text == 0)
        return true;
    to->part = malloc(n + text);
    if (!to->part)
        return false;
    memcpy(to->part, u->part, n);
    if (text)
        to->why = memcpy((char *)to->part + n, u->why, text);
    return true;
}

UnitScore scores_unit_full(const UnitSlot *u, const Metric *metric, int64_t unit)
{
    UnitScore full = {.unit = unit, .value = u->s.value, .sum = u->s.sum, .tokens = u->s.tokens, .samples = u->s.samples,
                      .levels = u->s.levels, .absent = u->s.absent};
    if (u->s.part)
        memcpy(full.part, u->s.part, (size_t)metric_parts(metric) * sizeof *full.part);
    memcpy(full.why, u->s.why, strlen(u->s.why) + 1);
    return full;
}

static void slot_free(UnitSlot *slot)
{
    for (int i = 0; i < slot->nothers; i++)
        free(slot->other[i].s.part);
    free(slot->other);
    free(slot->s.part);
}

void scores_fini(Scores *s)
{
    for (int64_t i = 0; s->any && i < s->nlinears; i++)
        if (s->linear[i].needs)
            linear_result_fini(&s->linear[i].r);
    for (int k = 0; s->unit && k < metric_count(); k++) {
        for (int64_t u = 0; s->unit[k] && u < s->units[k]; u++)
            slot_free(&s->unit[k][u]);
        free(s->unit[k]);
    }
    free(s->linear);
    free(s->unit);
    free(s->units);
    *s = (Scores){0};
}

void scores_put_linear(Scores *s, LinearResult *r, unsigned needs)
{
    LinearStats *to = &s->linear[r->linear];
    if (to->needs)
        linear_result_fini(&to->r);
    *to = (LinearStats){*r, needs, false, s->arith, s->origin.data};
    s->any = true;
}

/* Keeps what a slot holds of other levels beside what comes; the oldest goes when there are many. */
static bool keep_other(UnitSlot *slot)
{
    UnitSlot *grown = slot->other;
    if (slot->nothers == SCORES_OTHERS) {
        free(grown[0].s.part);
        memmove(grown, grown + 1, (SCORES_OTHERS - 1) * sizeof *grown);
        slot->nothers--;
    } else if (!(grown = realloc(slot->other, ((size_t)slot->nothers + 1) * sizeof *grown))) {
        return false;
    }
    slot->other = grown;
    slot->other[slot->nothers] = *slot;
    slot->other[slot->nothers].other = NULL;
    slot->other[slot->nothers++].nothers = 0;
    return true;
}

/* Which of the others is of these levels, -1: none. */
static int find_other(const UnitSlot *slot, uint64_t levels)
{
    int i = slot->nothers;
    while (i-- > 0 && slot->other[i].s.levels != levels)
        ;
    return i;
}

static void drop_other(UnitSlot *slot, int i)
{
    free(slot->other[i].s.part);
    memmove(slot->other + i, slot->other + i + 1, (size_t)(slot->nothers - i - 1) * sizeof *slot->other);
    slot->nothers--;
}

static uint64_t origin_of(const Metric *m, const ScoreOrigin *o)
{
    return m->pass->data_free ? o->model : m->pass->eval ? o->eval : o->data;
}

static Status put_slot(Scores *s, const Metric *metric, const UnitScore *u, ArithMode arith, uint64_t made, Error *err)
{
    int k = metric_index(metric);
    int64_t n = k < 0 ? 0 : scope_units(s->m, metric->scope);
    if (u->unit < 0 || u->unit >= n)
        return error_set(err, ST_INTERNAL, "a score of %s for unit %lld of %lld", metric->name, (long long)u->unit,
                         (long long)n);
    if (!s->unit[k] && !(s->unit[k] = mem_zarray((size_t)n, sizeof **s->unit)))
        return error_nomem(err, "the results");
    s->units[k] = n;
    UnitSlot *slot = &s->unit[k][u->unit];
    int at = find_other(slot, u->levels);
    KeptScore kept;
    if (!keep(&kept, metric, u))
        return error_nomem(err, "the results");
    if (at >= 0)
        drop_other(slot, at);
    bool other = slot->known && slot->s.levels != u->levels;
    if (other && !keep_other(slot)) {
        free(kept.part);
        return error_nomem(err, "the results");
    }
    if (!other)
        free(slot->s.part);
    slot->s = kept;
    slot->known = true;
    slot->stale = false;
    slot->arith = arith;
    slot->made = made;
    return ST_OK;
}

Status scores_put(Scores *s, const Metric *metric, const UnitScore *u, Error *err)
{
    return put_slot(s, metric, u, s->arith, origin_of(metric, &s->origin), err);
}

static Status copy_slot(Scores *out, const Metric *m, int64_t unit, const UnitSlot *from, uint64_t origin, Error *err)
{
    if (from->made != origin)
        return ST_OK;
    const UnitScore full = scores_unit_full(from, m, unit);
    return put_slot(out, m, &full, from->arith, from->made, err);
}

Status scores_copy_units(Scores *out, const Scores *s, const Metric *const *metrics, const ScoreOrigin *origin, Error *err)
{
    for (int i = 0; metrics && metrics[i]; i++)
        for (int64_t u = 0; u < scope_units(s->m, metrics[i]->scope); u++) {
            const UnitSlot *from = scores_unit(s, metrics[i], u);
            for (int k = 0; from && k < from->nothers; k++)
                RETURN_IF_ERROR(copy_slot(out, metrics[i], u, &from->other[k], origin_of(metrics[i], origin), err));
            if (from)
                RETURN_IF_ERROR(copy_slot(out, metrics[i], u, from, origin_of(metrics[i], origin), err));
        }
    return ST_OK;
}

const UnitSlot *scores_unit(const Scores *s, const Metric *metric, int64_t unit)
{
    int k = s->unit ? metric_index(metric) : -1;
    const UnitSlot *u = k >= 0 && s->unit[k] ? &s->unit[k][unit] : NULL;
    return u && u->known ? u : NULL;
}

const UnitSlot *scores_unit_at(const Scores *s, const Metric *metric, int64_t unit, uint64_t levels)
{
    const UnitSlot *u = scores_unit(s, metric, unit);
    if (!u || u->s.levels == levels)
        return u;
    int i = find_other(u, levels);
    return i < 0 ? NULL : &u->other[i];
}

void scores_choose(Scores *s, const Metric *metric, int64_t unit, uint64_t levels, const ScoreOrigin *now)
{
    int k = s->unit ? metric_index(metric) : -1;
    UnitSlot *slot = k >= 0 && s->unit[k] ? &s->unit[k][unit] : NULL;
    if (!slot || !slot->known)
        return;
    int at = slot->s.levels == levels ? -1 : find_other(slot, levels);
    if (at >= 0) {
        UnitSlot chosen = slot->other[at], *other = slot->other;
        int n = slot->nothers;
        other[at] = *slot;
        other[at].other = NULL;
        other[at].nothers = 0;
        *slot = chosen;
        slot->other = other;
        slot->nothers = n;
    }
    uint64_t origin = origin_of(metric, now);
    for (int i = 0; i < slot->nothers; i++)
        slot->other[i].stale = slot->other[i].made != origin;
    slot->stale = slot->made != origin || slot->s.levels != levels;
}

void scores_mark_stale(Scores *s, const ScoreOrigin *now)
{
    for (int64_t i = 0; s->any && i < s->m->nlinears; i++)
        s->linear[i].stale = s->linear[i].needs != 0 && s->linear[i].made != now->data;
}

static uint64_t level_key(const QConfig *q)
{
    return q ? qspec_key(&q->act) * 31 + qspec_key(&q->weight) : 0;
}

/* The digest of the linears before it, in their order, with one more. */
static uint64_t add_level(uint64_t h, uint64_t key)
{
    h ^= key;
    return (h ^ h >> 29) * 0xBF58476D1CE4E5B9u + 1;
}

/* Keys of the levels met lately: there are few. Zeroed at first: that of float is 0. */
typedef struct LevelMemo {
    const QConfig *levels;
    struct { int16_t level; uint64_t key; } of[16];
} LevelMemo;

static uint64_t memo_key(LevelMemo *memo, int16_t level)
{
    int at = level % (int)(sizeof memo->of / sizeof *memo->of);
    if (memo->of[at].level != level) {
        memo->of[at].level = level;
        memo->of[at].key = level_key(level ? &memo->levels[level - 1] : NULL);
    }
    return memo->of[at].key;
}

void scores_levels(const Model *m, MetricScope scope, const QConfig *levels, const int16_t *level, uint64_t *out)
{
    LevelMemo memo = {.levels = levels};
    memset(out, 0, (size_t)scope_units(m, scope) * sizeof *out);
    for (int64_t i = 0; i < m->nlinears; i++) {
        int64_t unit = scope_unit_of(m, scope, i);
        if (unit >= 0)
            out[unit] = add_level(out[unit], memo_key(&memo, level[i]));
    }
}

uint64_t scores_unit_levels(const Model *m, MetricScope scope, int64_t unit, const QConfig *levels, const int16_t *level)
{
    LevelMemo memo = {.levels = levels};
    int64_t from, to;
    uint64_t h = 0;
    scope_linears(m, scope, unit, &from, &to);
    for (int64_t i = from; i < to; i++)
        if (scope_unit_of(m, scope, i) == unit)
            h = add_level(h, memo_key(&memo, level[i]));
    return h;
}

uint64_t scores_level_all(const Model *m, MetricScope scope, int64_t unit, const QConfig *q)
{
    int64_t from, to;
    uint64_t h = 0, key = level_key(q);
    scope_linears(m, scope, unit, &from, &to);
    for (int64_t i = from; i < to; i++)
        if (scope_unit_of(m, scope, i) == unit)
            h = add_level(h, key);
    return h;
}
