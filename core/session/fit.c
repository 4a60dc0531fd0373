/* fit: levels by prediction alone. */
#include <stdlib.h>

#include "base/mem.h"
#include "session/allot.h"
#include "session/assignment.h"
#include "session/parts.h"
#include "session/sizes.h"

void fit_done_free(FitDone *d)
{
    free(d->level);
    *d = (FitDone){0};
}

static Status chosen(Session *s, const Allot *a, const Points *p, const int16_t *set, FitDone *out, Error *err)
{
    const GroupTable *t = a->groups;
    out->level = mem_array((size_t)s->model->nlinears, sizeof *out->level);
    if (!out->level)
        return error_nomem(err, "the levels");
    allot_levels(s, a, set, out->level);
    for (int64_t i = 0; i < s->model->nlinears; i++)
        out->changed += out->level[i] != a->base[i];
    for (int64_t g = 0; g < t->n; g++)
        out->groups += set[g] != a->set[g];
    out->left = a->left;
    out->sum_before = group_sum(t, a->set);
    out->sum = group_sum(t, set);
    sizes_of(s, s->recipe, a->base, &out->before);
    sizes_of(s, s->recipe, out->level, &out->after);
    return points_foretell(p, t, set, out->sum, &out->kl, &out->ppl, err);
}

static Status fit_set(Session *s, const Allot *a, const Points *p, const Goal *goal, FitDone *out, Error *err)
{
    TuneWish wish;
    RETURN_IF_ERROR(allot_wish(a, p, goal, &wish, err));
    int16_t *set = mem_array((size_t)a->groups->n, sizeof *set);
    Status st = set ? tune_allocate(&a->table, &a->path, &wish, set, err) : error_nomem(err, "the levels");
    if (st == ST_OK)
        st = chosen(s, a, p, set, out, err);
    free(set);
    return st;
}

Status session_fit(Session *s, const char *text, const FitOptions *o, FitDone *out, Error *err)
{
    Goal goal;
    Allot a;
    Points p = {0};
    int64_t changed;
    *out = (FitDone){0};
    RETURN_IF_ERROR(goal_parse(text, &goal, err));
    Status st = allot_open(s, &(AllotAsk){.free = o->free, .by_bits = goal.kind == GOAL_BITS}, &a, err);
    if (st == ST_OK)
        st = points_take(s, a.groups, &p, err);
    if (st == ST_OK)
        st = fit_set(s, &a, &p, &goal, out, err);
    if (st == ST_OK && !o->dry)
        st = levels_apply(s, out->level, LEVELS_ANEW, &changed, err);
    points_free(&p);
    allot_free(&a);
    if (st != ST_OK)
        fit_done_free(out);
    return st;
}
