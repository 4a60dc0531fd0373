#include "session/scored.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/table.h"

static void drop(Scored *c)
{
    free(c->value);
    free(c->state);
    free(c->level);
    *c = (Scored){0};
}

void scored_close(ScoredTable *t)
{
    for (int i = 0; i < SCORED_KEPT; i++)
        drop(&t->kept[i]);
}

static bool room(Scored *c, int64_t n)
{
    if (c->linears == n && c->value)
        return true;
    drop(c);
    c->value = mem_array((size_t)n, sizeof *c->value);
    c->state = mem_array((size_t)n, sizeof *c->state);
    c->level = mem_array((size_t)n, sizeof *c->level);
    c->linears = n;
    return c->value && c->state && c->level;
}

static void look_at(const Session *s, Scored *c, int64_t i)
{
    Score sc = results_score(s, c->metric, i);
    c->state[i] = (uint8_t)sc.state;
    c->value[i] = scored_has(c, i) ? sc.value : 0;
    c->level[i] = scored_level(s->assignment, i);
}

/* Whether there is no score at all, which is seen at once. */
static bool none_yet(const Session *s, const Metric *m)
{
    const Scores *sc = &s->results->scores;
    return !m->loaded && (m->pass->has ? !sc->any : !sc->unit[metric_index(m)]);
}

static void look_at_all(const Session *s, Scored *c)
{
    bool none = none_yet(s, c->metric);
    for (int64_t i = 0; i < c->linears; i++) {
        if (!none) {
            look_at(s, c, i);
            continue;
        }
        c->state[i] = SCORE_NONE;
        c->value[i] = 0;
        c->level[i] = scored_level(s->assignment, i);
    }
}

/* Those that have got another level. */
static bool look_at_edited(const Session *s, Scored *c)
{
    bool any = false;
    for (int64_t i = 0; i < c->linears; i++)
        if (c->level[i] != scored_level(s->assignment, i)) {
            look_at(s, c, i);
            any = true;
        }
    return any;
}

static bool look_at_news(const Session *s, Scored *c)
{
    const Results *r = s->results;
    const Metric *m = c->metric;
    bool any = false;
    for (uint64_t at = c->news; at < r->nnews; at++) {
        const ScoreNews *n = &r->news[at % SCORE_NEWS];
        int64_t from, to, unit = n->metric ? n->unit : scope_unit_of(s->model, m->scope, n->unit);
        if (n->metric != (m->pass->has ? NULL : m) || unit < 0)
            continue;
        scope_linears(s->model, m->scope, unit, &from, &to);
        for (int64_t i = from; i < to; i++)
            if (scope_unit_of(s->model, m->scope, i) == unit)
                look_at(s, c, i);
        any = true;
    }
    return any;
}

static Scored *slot_of(ScoredTable *t, const Metric *m)
{
    Scored *oldest = &t->kept[0];
    for (int i = 0; i < SCORED_KEPT; i++) {
        if (t->kept[i].metric == m)
            return &t->kept[i];
        if (t->kept[i].used < oldest->used)
            oldest = &t->kept[i];
    }
    oldest->metric = NULL;
    return oldest;
}

const Scored *scored_of(const Session *s, const Metric *m)
{
    const Results *r = s->results;
    ScoredTable *t = &s->table->scored;
    if (!m->pass->has && !m->loaded)
        results_compare_levels(s); /* which may change any */
    Scored *c = slot_of(t, m);
    uint64_t whole = t->whole + (m->pass->has ? 0 : r->chosen);
    bool change = true;
    c->used = ++t->used;
    if (c->metric != m || c->whole != whole || c->linears != s->model->nlinears || r->nnews - c->news > SCORE_NEWS) {
        if (!room(c, s->model->nlinears)) {
            drop(c);
            return NULL;
        }
        c->metric = m;
        look_at_all(s, c);
    } else {
        change = c->version != s->assignment->version && look_at_edited(s, c);
        change |= look_at_news(s, c);
    }
    c->whole = whole;
    c->version = s->assignment->version;
    c->news = r->nnews;
    c->made = change ? ++t->made : c->made;
    return c;
}
