/* grow and trim: a group more or less, by prediction. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/allot.h"
#include "session/assignment.h"
#include "session/parts.h"

/* A group to another level: `rate` is what it loses or gains by the byte. */
typedef struct Step {
    int64_t group;
    int16_t to;
    double rate;
} Step;

static bool can_have(const Allot *a, int64_t g, int k)
{
    int64_t at = g * a->groups->levels + k;
    return a->cost[at] >= 0 && isfinite(a->groups->v[at]);
}

/* The step up of most loss per byte; false: none takes any away. */
static bool step_up(const Allot *a, const int16_t *set, Step *out)
{
    const GroupTable *t = a->groups;
    *out = (Step){.group = -1};
    for (int64_t g = 0; g < t->n; g++)
        for (int k = 0; !a->fixed[g] && can_have(a, g, set[g]) && k < t->levels; k++) {
            int64_t at = g * t->levels + k, now = g * t->levels + set[g];
            int64_t more = can_have(a, g, k) ? a->cost[at] - a->cost[now] : 0;
            double rate = more > 0 ? (t->v[now] - t->v[at]) / (double)more : 0;
            if (rate > out->rate)
                *out = (Step){g, (int16_t)k, rate};
        }
    return out->group >= 0;
}

/* The step down of least loss per byte, never below what the recipe gives (opened[groups]); false: there is none. */
static bool step_down(const Allot *a, const int16_t *opened, const int16_t *set, Step *out)
{
    const GroupTable *t = a->groups;
    *out = (Step){.group = -1, .rate = INFINITY};
    for (int64_t g = 0; g < t->n; g++)
        for (int k = 0; !a->fixed[g] && can_have(a, g, set[g]) && k < t->levels; k++) {
            int64_t at = g * t->levels + k, now = g * t->levels + set[g];
            int64_t less = can_have(a, g, k) ? a->cost[now] - a->cost[at] : 0;
            if (less <= 0 || a->cost[at] < a->cost[g * t->levels + opened[g]])
                continue;
            double rate = (t->v[at] - t->v[now]) / (double)less;
            if (rate < out->rate)
                *out = (Step){g, (int16_t)k, rate};
        }
    return out->group >= 0;
}

static Status none_left(const Allot *a, bool up, Error *err)
{
    if (!up)
        return error_set(err, ST_USAGE, "nothing was given back: every group has the level of the recipe, or the recipe keeps "
                         "it float");
    if (a->left.held)
        return error_set(err, ST_USAGE, "no group is left to give back: %lld are held by rules, %lld by the recipe, all others "
                         "lose nothing", (long long)a->left.held, (long long)a->left.excluded);
    return error_set(err, ST_USAGE, "no group is left to give back: all others lose nothing");
}

static Status take_steps(Session *s, const Allot *a, int n, int16_t *set, int16_t *opened, GrowDone *out, Error *err)
{
    const GroupTable *t = a->groups;
    memcpy(set, a->set, (size_t)t->n * sizeof *set);
    group_set(s, t, s->assignment->opened, opened);
    out->sum_before = group_sum(t, set);
    for (int i = 0; i < abs(n); i++) {
        Step step;
        if (!(n > 0 ? step_up(a, set, &step) : step_down(a, opened, set, &step)))
            break;
        out->bytes += a->cost[step.group * t->levels + step.to] - a->cost[step.group * t->levels + set[step.group]];
        set[step.group] = step.to;
        out->group = step.group;
        out->level = step.to;
        out->groups++;
    }
    if (!out->groups)
        return none_left(a, n > 0, err);
    out->sum = group_sum(t, set);
    return ST_OK;
}

Status session_grow(Session *s, int n, GrowDone *out, Error *err)
{
    Allot a;
    *out = (GrowDone){.group = -1};
    Status st = allot_open(s, &(AllotAsk){.free = n < 0}, &a, err);
    if (st == ST_OK) {
        out->before = session_predict(s);
        size_t groups = (size_t)a.groups->n;
        int16_t *set = mem_array(groups, sizeof *set), *opened = mem_array(groups, sizeof *opened);
        int16_t *level = mem_array((size_t)s->model->nlinears, sizeof *level);
        int64_t changed;
        st = set && opened && level ? take_steps(s, &a, n, set, opened, out, err) : error_nomem(err, "the levels");
        if (st == ST_OK) {
            allot_levels(s, &a, set, level);
            st = levels_apply(s, level, n > 0 ? LEVELS_BESIDE : LEVELS_ANEW, &changed, err);
        }
        free(set);
        free(opened);
        free(level);
    }
    allot_free(&a);
    return st;
}
