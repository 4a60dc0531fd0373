/* fit and front: levels by prediction alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/allot.h"
#include "session/assignment.h"
#include "session/parts.h"

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
    recipe_sizes(s->recipe, s->model, a->base, s->opt.peer, &out->before);
    recipe_sizes(s->recipe, s->model, out->level, s->opt.peer, &out->after);
    return points_foretell(p, t, set, out->sum, &out->kl, &out->ppl, err);
}

static Status fit_set(Session *s, const Allot *a, const Points *p, const Goal *goal, FitDone *out, Error *err)
{
    TuneWish wish;
    RETURN_IF_ERROR(allot_wish(s, a, p, goal, &wish, err));
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
        st = levels_apply(s, out->level, &changed, err);
    points_free(&p);
    allot_free(&a);
    if (st != ST_OK)
        fit_done_free(out);
    return st;
}

/* ---- the front ---- */

static int by_bytes(const void *a, const void *b)
{
    const FrontRow *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return (x->kl_measured == x->kl_measured) - (y->kl_measured == y->kl_measured);
}

static int64_t count_floats(const Allot *a, const int16_t *set)
{
    int64_t n = 0;
    for (int64_t g = 0; g < a->groups->n; g++)
        n += set[g] == 0;
    return n;
}

static Status front_rows(const Allot *a, const Points *p, int16_t *set, FrontRow *rows, Error *err)
{
    int64_t knee = tune_knee(&a->path);
    for (int64_t k = 0; k <= a->path.nmoves; k++) {
        FrontRow *r = &rows[k];
        *r = (FrontRow){.group = k ? a->path.move[k - 1].group : -1, .to = k ? a->path.move[k - 1].to : 0,
                        .knee = k && k == knee, .kl_measured = NAN, .ppl_measured = NAN};
        tune_path_set(&a->path, k, set, &r->sum, &r->bytes);
        r->bytes += a->others;
        r->floats = count_floats(a, set);
        RETURN_IF_ERROR(points_foretell(p, a->groups, set, r->sum, &r->kl, &r->ppl, err));
    }
    return ST_OK;
}

static void measured_rows(const Allot *a, const Points *p, FrontRow *rows)
{
    const TuneRange none = {.value = NAN, .low = NAN, .high = NAN};
    for (int i = 0; i < p->n; i++) {
        const TuneResult *m = &p->result[i];
        rows[i] = (FrontRow){.bytes = m->bytes + a->others, .floats = count_floats(a, m->point.set), .sum = m->point.s,
                             .kl = none, .ppl = none, .kl_measured = m->point.kl, .ppl_measured = expm1(m->point.ppl),
                             .group = -1};
    }
}

Status session_front(Session *s, bool free_rules, FrontRow **rows, int64_t *n, Error *err)
{
    Allot a;
    Points p = {0};
    *rows = NULL;
    *n = 0;
    Status st = allot_open(s, &(AllotAsk){.free = free_rules}, &a, err);
    if (st == ST_OK)
        st = points_take(s, a.groups, &p, err);
    if (st == ST_OK) {
        *n = a.path.nmoves + 1 + p.n;
        *rows = mem_array((size_t)*n, sizeof **rows);
        int16_t *set = mem_array((size_t)a.groups->n, sizeof *set);
        st = *rows && set ? front_rows(&a, &p, set, *rows, err) : error_nomem(err, "the front");
        free(set);
    }
    if (st == ST_OK) {
        measured_rows(&a, &p, *rows + a.path.nmoves + 1);
        qsort(*rows, (size_t)*n, sizeof **rows, by_bytes);
    } else {
        free(*rows);
        *rows = NULL;
    }
    points_free(&p);
    allot_free(&a);
    return st;
}
