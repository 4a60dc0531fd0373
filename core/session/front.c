/* What can be had from the present set: its outlook, the front, what a goal would come to. */
#include "session/front.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "session/assignment.h"
#include "session/budget.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/whatif.h"

/* ---- the outlook ---- */

void outlook_clear(Outlook *o)
{
    allot_free(&o->allot[0]);
    allot_free(&o->allot[1]);
    points_free(&o->points);
    free(o->rows);
    *o = (Outlook){0};
}

/* The present one, empty where something changed. */
static Outlook *outlook_now(Session *s)
{
    Outlook *o = &s->whatifs->outlook;
    const Assignment *a = s->assignment;
    if (o->known && o->version == a->version && o->opened == a->opened_version && o->results == s->results->version &&
        o->runtime == s->opt.runtime)
        return o;
    outlook_clear(o);
    o->known = true;
    o->version = a->version;
    o->opened = a->opened_version;
    o->results = s->results->version;
    o->runtime = s->opt.runtime;
    return o;
}

static Status open_allot(Session *s, Outlook *o, bool by_bits, Error *err)
{
    int k = by_bits;
    Error own = {0};
    if (o->have[k])
        return ST_OK;
    if (o->failed[k] != ST_OK)
        return error_set(err, o->failed[k], "%s", o->why[k]);
    Status st = allot_open(s, &(AllotAsk){.by_bits = by_bits, .glance = true}, &o->allot[k], &own);
    if (st == ST_OK && !o->points.result)
        st = points_take(s, o->allot[k].groups, &o->points, &own);
    o->have[k] = st == ST_OK;
    if (st == ST_OK)
        return ST_OK;
    allot_free(&o->allot[k]);
    if (st != ST_NOMEM) {
        o->failed[k] = st;
        memcpy(o->why[k], own.text, sizeof own.text);
    }
    return error_set(err, st, "%s", own.text);
}

/* With allot[by_bits] and the points. */
static Status outlook_allot(Session *s, bool by_bits, const Outlook **out, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    Outlook *o = outlook_now(s);
    *out = o;
    return open_allot(s, o, by_bits, err);
}

/* What the line through the measurements says at the ends of the path. */
static Status reach_loss(Outlook *o, Error *err)
{
    TunePoint *list = points_list(&o->points);
    Status st = list ? ST_OK : error_nomem(err, "a prediction");
    for (int what = TUNE_KL; st == ST_OK && what <= TUNE_PPL; what++) {
        TuneCurve c;
        st = tune_curve(&c, list, o->points.n, (TuneWhat)what, -1, err);
        if (st != ST_OK)
            break;
        double low = tune_curve_at(&c, o->allot[0].path.s1), high = tune_curve_at(&c, o->allot[0].path.s0);
        if (what == TUNE_KL) {
            o->reach.kl_low = low;
            o->reach.kl_high = high;
        } else {
            o->reach.ppl_low = expm1(low);
            o->reach.ppl_high = expm1(high);
        }
        tune_curve_free(&c);
    }
    free(list);
    return st;
}

Status outlook_reach(Session *s, const Outlook **out, Error *err)
{
    const GroupTable *t;
    FitLeft left;
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    Outlook *o = outlook_now(s);
    *out = o;
    if (o->reaches)
        return ST_OK;
    RETURN_IF_ERROR(group_table(s, &t, err));
    bool *fixed = mem_zarray((size_t)t->n + 1, 1);
    if (!fixed)
        return error_nomem(err, "the groups' levels");
    allot_fixed(s, false, fixed, &left);
    reach_of(s, t, s->assignment->level, fixed, &o->reach);
    free(fixed);
    if (open_allot(s, o, false, NULL) == ST_OK)
        RETURN_IF_ERROR(reach_loss(o, err));
    o->reaches = true;
    return ST_OK;
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

/* Whether move k's set is among about `most` points; 0: all are. */
static bool is_sampled(const TunePath *p, int64_t k, int64_t knee, int64_t most)
{
    enum { WIDE = 3000000 }; /* groups that are looked at for the points of a wide model's plot */
    most = most && p->n > WIDE / most ? WIDE / p->n : most;
    int64_t every = most ? p->nmoves / most + 1 : 1;
    return k % every == 0 || k == knee || k == p->nmoves;
}

/* The newest measurement of a set, -1: none. */
static int measured_as(const Allot *a, const Points *p, const int16_t *set, int64_t bytes)
{
    for (int i = p->n; i-- > 0;)
        if (p->result[i].bytes == bytes && memcmp(p->result[i].point.set, set, (size_t)a->groups->n * sizeof *set) == 0)
            return i;
    return -1;
}

/* A measured point tells what was measured, and foretells nothing. */
static void put_measured(const Session *s, const Points *p, int i, FrontRow *r)
{
    const TuneRange none = {.value = NAN, .low = NAN, .high = NAN};
    r->kl = r->ppl = none;
    r->measurement = s->results->measured[p->measured[i]].id;
    r->kl_measured = p->result[i].point.kl;
    r->ppl_measured = expm1(p->result[i].point.ppl);
}

/* Walks down the path, set[groups] being changed on the way; told[points]: those that are rows of the path. */
static Status front_rows(const Session *s, const Allot *a, const Points *p, int64_t most, int16_t *set, bool *told,
                         FrontRow *rows, int64_t *n, Error *err)
{
    const TunePath *path = &a->path;
    int64_t knee = tune_knee(path), bytes = path->bytes0;
    double sum = path->s0;
    memcpy(set, path->start, (size_t)path->n * sizeof *set);
    int64_t floats = count_floats(a, set);
    *n = 0;
    for (int64_t k = 0; k <= path->nmoves; k++) {
        const TuneMove *m = k ? &path->move[k - 1] : NULL;
        if (m) {
            set[m->group] = m->to;
            floats += (m->to == 0) - (m->from == 0);
            sum -= m->v;
            bytes += m->bytes;
        }
        int at = measured_as(a, p, set, bytes);
        if (at < 0 && !is_sampled(path, k, knee, most))
            continue;
        FrontRow *r = &rows[(*n)++];
        *r = (FrontRow){.bytes = bytes + a->others, .floats = floats, .group = m ? m->group : -1,
                        .to = m ? m->to : 0, .knee = k && k == knee, .kl_measured = NAN, .ppl_measured = NAN,
                        .sum = k == path->nmoves ? path->s1 : fmax(sum, 0)};
        if (at >= 0) {
            put_measured(s, p, at, r);
            told[at] = true;
        } else {
            RETURN_IF_ERROR(points_foretell(p, a->groups, set, r->sum, &r->kl, &r->ppl, err));
        }
    }
    return ST_OK;
}

/* The measurements beside the path. */
static void measured_rows(const Session *s, const Allot *a, const Points *p, const bool *told, FrontRow *rows, int64_t *n)
{
    for (int i = 0; i < p->n; i++) {
        const TuneResult *m = &p->result[i];
        if (told[i])
            continue;
        FrontRow *r = &rows[(*n)++];
        *r = (FrontRow){.bytes = m->bytes + a->others, .floats = count_floats(a, m->point.set), .sum = m->point.s,
                        .group = -1};
        put_measured(s, p, i, r);
    }
}

static Status make_front(const Session *s, const Allot *a, const Points *p, int64_t most, FrontRow **rows, int64_t *n,
                         Error *err)
{
    *rows = mem_array((size_t)(a->path.nmoves + 1 + p->n), sizeof **rows);
    int16_t *set = mem_array((size_t)a->groups->n, sizeof *set);
    bool *told = mem_zarray((size_t)p->n + 1, 1);
    Status st = *rows && set && told ? front_rows(s, a, p, most, set, told, *rows, n, err) : error_nomem(err, "the front");
    free(set);
    if (st == ST_OK)
        measured_rows(s, a, p, told, *rows, n);
    free(told);
    if (st == ST_OK) {
        qsort(*rows, (size_t)*n, sizeof **rows, by_bytes);
    } else {
        free(*rows);
        *rows = NULL;
    }
    return st;
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
    if (st == ST_OK)
        st = make_front(s, &a, &p, 0, rows, n, err);
    points_free(&p);
    allot_free(&a);
    return st;
}

Status session_front_rows(Session *s, const FrontRow **rows, int64_t *n, Error *err)
{
    const Outlook *now;
    RETURN_IF_ERROR(outlook_allot(s, false, &now, err));
    Outlook *o = &s->whatifs->outlook;
    if (!o->rows)
        RETURN_IF_ERROR(make_front(s, &o->allot[0], &o->points, FRONT_POINTS, &o->rows, &o->nrows, err));
    *rows = o->rows;
    *n = o->nrows;
    return ST_OK;
}

/* ---- a goal that is being typed ---- */

static Status look_at(Session *s, const Outlook *o, const Allot *a, const Goal *goal, int16_t *set, FitLook *out, Error *err)
{
    TuneWish wish;
    int64_t cost;
    double sum;
    const GroupTable *t = a->groups;
    RETURN_IF_ERROR(allot_wish(a, &o->points, goal, &wish, err));
    if (wish.bytes < INT64_MAX)
        RETURN_IF_ERROR(tune_greedy(&a->table, &a->path, &wish, set, err));
    else /* the shortest way: what could be taken back of it takes longer to find */
        tune_path_set(&a->path, min_i64(tune_path_reach(&a->path, wish.s), a->path.nmoves), set, NULL, NULL);
    tune_sums(&a->table, set, &sum, &cost);
    int64_t linears = 0;
    double bits = 0;
    for (int64_t g = 0; g < t->n; g++) {
        int64_t at = g * t->levels + set[g];
        out->groups += set[g] != s->assignment->opened[group_linear(&s->model->groups[g], 0)];
        linears += max_i64(t->bytes[at], 0);
        bits += t->bits[at];
    }
    out->bytes = linears + a->others;
    out->bits = t->weights > 0 ? bits / t->weights : 0;
    return points_foretell(&o->points, t, set, sum, &out->kl, &out->ppl, err);
}

Status session_fit_look(Session *s, const char *text, FitLook *out, Error *err)
{
    Goal goal;
    const Outlook *o = NULL;
    *out = (FitLook){0};
    RETURN_IF_ERROR(goal_parse(text, &goal, err));
    RETURN_IF_ERROR(outlook_allot(s, goal.kind == GOAL_BITS, &o, err));
    const Allot *a = &o->allot[goal.kind == GOAL_BITS];
    int16_t *set = mem_array((size_t)a->groups->n, sizeof *set);
    Status st = set ? look_at(s, o, a, &goal, set, out, err) : error_nomem(err, "the levels");
    free(set);
    return st;
}
