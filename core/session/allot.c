/* Levels of groups for a goal: what may change, and the rules that make it so. */
#include "session/allot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/budget.h"
#include "session/parts.h"
#include "session/whatif.h"

/* ---- what may change ---- */

/* Marks the groups of which a person's rule that is on takes a linear. */
static int64_t hold_ruled(const Session *s, bool *fixed)
{
    const RuleList *l = &s->assignment->rules;
    int64_t n = 0;
    for (int k = 0; k < l->n; k++)
        for (int64_t j = 0; l->row[k].on && !l->row[k].fitted && j < l->row[k].rule->nclosed; j++) {
            bool *f = &fixed[s->model->linears[l->row[k].rule->closed[j]].group];
            n += !*f;
            *f = true;
        }
    return n;
}

/* Marks what the recipe keeps float, has no level for, or gives several levels. */
static int64_t hold_excluded(const Session *s, bool *fixed)
{
    const Model *m = s->model;
    int64_t n = 0;
    for (int64_t g = 0; g < m->ngroups; g++) {
        const FusedGroup *f = &m->groups[g];
        int16_t first = s->assignment->opened[group_linear(f, 0)];
        bool hold = !first || m->linears[group_linear(f, 0)].layer >= m->cfg.layers;
        for (int32_t j = 1; j < f->count; j++)
            hold |= s->assignment->opened[group_linear(f, j)] != first;
        n += hold && !fixed[g];
        fixed[g] |= hold;
    }
    return n;
}

void allot_fixed(const Session *s, bool free_rules, bool *fixed, FitLeft *left)
{
    left->held = free_rules ? 0 : hold_ruled(s, fixed);
    left->excluded = hold_excluded(s, fixed);
}

/* Whether the engine has something against one group at one level, everything else in float. */
static Status engine_refuses(const Session *s, int64_t g, int k, int16_t *level, bool *refuses, Error *err)
{
    const FusedGroup *f = &s->model->groups[g];
    RuntimeReport r = {0};
    for (int32_t j = 0; j < f->count; j++)
        level[group_linear(f, j)] = (int16_t)k;
    const RuntimeQuery q = {.recipe = s->recipe, .model = s->model, .level = level, .runtime = s->opt.runtime,
                            .peer = s->opt.peer};
    Status st = runtime_check(&q, &r, err);
    *refuses = false;
    for (size_t i = 0; st == ST_OK && i < r.n; i++)
        *refuses |= r.f[i].linear >= 0;
    runtime_report_fini(&r);
    for (int32_t j = 0; j < f->count; j++)
        level[group_linear(f, j)] = 0;
    return st;
}

void engine_says_clear(EngineSays *e)
{
    free(e->refuses);
    *e = (EngineSays){0};
}

/* What it has against every group at every level: it does not depend on the set, and takes a look at the model for each. */
static Status engine_says(Session *s, const GroupTable *t, const bool **out, Error *err)
{
    EngineSays *e = &s->whatifs->engine;
    *out = e->refuses;
    if (e->refuses && e->opened == s->assignment->opened_version && e->runtime == s->opt.runtime && e->peer == s->opt.peer)
        return ST_OK;
    engine_says_clear(e);
    bool *refuses = mem_zarray((size_t)(t->n * t->levels), 1);
    int16_t *level = mem_zarray((size_t)s->model->nlinears, sizeof *level);
    Status st = refuses && level ? ST_OK : error_nomem(err, "the engine's rules");
    for (int64_t i = 0; st == ST_OK && i < t->n * t->levels; i++)
        if (i % t->levels && t->bytes[i] >= 0)
            st = engine_refuses(s, i / t->levels, (int)(i % t->levels), level, &refuses[i], err);
    free(level);
    if (st != ST_OK) {
        free(refuses);
        return st;
    }
    *e = (EngineSays){refuses, s->assignment->opened_version, s->opt.runtime, s->opt.peer};
    *out = refuses;
    return ST_OK;
}

/* Takes away the levels that the engine that was named does not load. */
static Status ask_engine(Session *s, Allot *a, bool glance, Error *err)
{
    enum { GLANCE = 4000000 }; /* linears looked at, in all */
    const bool *refuses;
    if (!s->opt.runtime || (glance && a->table.n * a->table.levels > GLANCE / s->model->nlinears))
        return ST_OK;
    RETURN_IF_ERROR(engine_says(s, a->groups, &refuses, err));
    for (int64_t i = 0; i < a->table.n * a->table.levels; i++) {
        if (!refuses[i] || a->fixed[i / a->table.levels] || a->cost[i] < 0)
            continue;
        a->cost[i] = -1;
        a->left.refused++;
    }
    return ST_OK;
}

static Status known(const Session *s, const Allot *a, Error *err)
{
    const GroupTable *t = a->groups;
    int64_t unknown = 0;
    for (int64_t g = 0; g < t->n; g++) {
        bool any = !a->fixed[g] || !isnan(t->v[g * t->levels + a->set[g]]);
        for (int k = 1; any && !a->fixed[g] && k < t->levels; k++)
            any = !isnan(t->v[g * t->levels + k]) || t->bytes[g * t->levels + k] < 0;
        unknown += !any;
    }
    if (!unknown)
        return ST_OK;
    return error_set(err, ST_USAGE, "block_error is not known for %lld of %lld groups: analyze block_error first",
                     (long long)unknown, (long long)s->model->ngroups);
}

static Status alloc_parts(const Session *s, Allot *a, Error *err)
{
    size_t n = (size_t)a->groups->n;
    a->base = mem_array((size_t)s->model->nlinears, sizeof *a->base);
    a->fixed = mem_zarray(n, sizeof *a->fixed);
    a->set = mem_array(n, sizeof *a->set);
    a->cost = mem_array(n * (size_t)a->groups->levels, sizeof *a->cost);
    return a->base && a->fixed && a->set && a->cost ? ST_OK : error_nomem(err, "the groups' levels");
}

Status allot_open(Session *s, const AllotAsk *ask, Allot *a, Error *err)
{
    *a = (Allot){0};
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    RETURN_IF_ERROR(group_table(s, &a->groups, err));
    RETURN_IF_ERROR(alloc_parts(s, a, err));
    const GroupTable *t = a->groups;
    memcpy(a->base, ask->base ? ask->base : s->assignment->level, (size_t)s->model->nlinears * sizeof *a->base);
    if (ask->fixed)
        memcpy(a->fixed, ask->fixed, (size_t)t->n);
    else
        allot_fixed(s, ask->free, a->fixed, &a->left);
    group_set(s, t, a->base, a->set);
    RETURN_IF_ERROR(known(s, a, err));
    a->others = t->others;
    for (int64_t i = 0; i < t->n * t->levels; i++)
        a->cost[i] = ask->by_bits && t->bytes[i] >= 0 ? (int64_t)t->bits[i] : t->bytes[i];
    a->table = (TuneTable){.n = t->n, .levels = t->levels, .v = t->v, .bytes = a->cost, .fixed = a->fixed, .set = a->set};
    RETURN_IF_ERROR(ask_engine(s, a, ask->glance, err));
    return tune_path(&a->path, &a->table, err);
}

void allot_free(Allot *a)
{
    tune_path_free(&a->path);
    free(a->base);
    free(a->fixed);
    free(a->set);
    free(a->cost);
    *a = (Allot){0};
}

void allot_levels(const Session *s, const Allot *a, const int16_t *set, int16_t *level)
{
    memcpy(level, a->base, (size_t)s->model->nlinears * sizeof *level);
    for (int64_t g = 0; g < a->groups->n; g++) {
        const FusedGroup *f = &s->model->groups[g];
        for (int32_t j = 0; !a->fixed[g] && j < f->count; j++)
            level[group_linear(f, j)] = set[g];
    }
}

/* ---- goals ---- */

static Status wish_loss(const Allot *a, const Points *p, const Goal *goal, TuneWish *out, Error *err)
{
    bool ppl = goal->kind == GOAL_PPL;
    TuneCurve c;
    TunePoint *list = points_list(p);
    if (!list)
        return error_nomem(err, "a prediction");
    Status st = tune_curve(&c, list, p->n, ppl ? TUNE_PPL : TUNE_KL, -1, err);
    free(list);
    RETURN_IF_ERROR(st);
    double at = ppl ? log1p(goal->value) : goal->value;
    double least = tune_curve_at(&c, a->path.s1), most = tune_curve_at(&c, a->path.s0);
    out->s = tune_curve_inverse(&c, at);
    bool any = c.n > 0;
    tune_curve_free(&c);
    if (!any)
        return error_set(err, ST_USAGE, "nothing was measured yet that tells %s: measure first (or tune, which measures)",
                         ppl ? "perplexity" : "KL");
    if (at >= least)
        return ST_OK;
    if (ppl)
        return error_set(err, ST_USAGE, "%s is out of reach: perplexity changes by %+.3g to %+.3g %% as far as is foretold",
                         goal->text, 100 * expm1(least), 100 * expm1(most));
    return error_set(err, ST_USAGE, "%s is out of reach: KL goes from %.3g to %.3g as far as is foretold", goal->text, least,
                     most);
}

static Status wish_cost(const Allot *a, const Goal *goal, TuneWish *out, Error *err)
{
    const int64_t opened = a->groups->opened_bytes;
    double weights = a->groups->weights > 0 ? a->groups->weights : 1;
    if (goal->kind == GOAL_BITS) {
        out->bytes = (int64_t)(goal->value * weights);
        if (out->bytes >= a->path.bytes0)
            return ST_OK;
        return error_set(err, ST_USAGE, "%s is out of reach: from %.3f to %.3f bits per weight can be had", goal->text,
                         (double)a->path.bytes0 / weights, (double)a->path.bytes1 / weights);
    }
    int64_t whole = (int64_t)goal->value + (goal->more ? opened : 0);
    out->bytes = whole - a->others;
    if (out->bytes >= a->path.bytes0)
        return ST_OK;
    return bytes_refused(goal, a->path.bytes0 + a->others, a->path.bytes1 + a->others, opened, err);
}

Status allot_wish(const Allot *a, const Points *p, const Goal *goal, TuneWish *out, Error *err)
{
    *out = (TuneWish){.bytes = INT64_MAX, .s = INFINITY};
    bool loss = goal->kind == GOAL_KL || goal->kind == GOAL_PPL;
    return loss ? wish_loss(a, p, goal, out, err) : wish_cost(a, goal, out, err);
}

/* ---- rules ---- */

/* Wishes for all linears that get this level, of those that have another one now: to the recipe's own where that is it and
 * they are float. */
static Status wish_level(Session *s, RuleList *l, const int16_t *now, const int16_t *level, int to, bool home, bool *hits,
                         Error *err)
{
    const Assignment *a = s->assignment;
    char **texts = NULL;
    int n = 0;
    bool any = false;
    for (int64_t i = 0; i < s->model->nlinears; i++) {
        hits[i] = level[i] == to && now[i] != to && home == (to && !now[i] && a->home[i] == to);
        any |= hits[i];
    }
    if (!any)
        return ST_OK;
    Status st = rules_texts(s, hits, &texts, &n, err);
    if (st == ST_OK)
        st = rules_wish(s, l, (const char *const *)texts, n, home ? WHATIF_QUANTIZE : to, true, err);
    for (int i = 0; i < n; i++)
        free(texts[i]);
    free(texts);
    return st;
}

/* Adds the rules that lead from what the list gives to these levels. now, got: scratch. */
static Status add_rules(Session *s, RuleList *l, const int16_t *level, int16_t *now, int16_t *got, bool *hits, Error *err)
{
    rules_levels(s, l, now);
    for (int home = 1; home >= 0; home--)
        for (int to = s->assignment->nlevels - 1; to >= 0; to--)
            RETURN_IF_ERROR(wish_level(s, l, now, level, to, home, hits, err));
    rules_levels(s, l, got);
    if (memcmp(got, level, (size_t)s->model->nlinears * sizeof *got) != 0)
        return error_set(err, ST_INTERNAL, "the rules do not come to the levels that were chosen");
    return ST_OK;
}

Status levels_apply(Session *s, const int16_t *level, LevelsHow how, int64_t *changed, Error *err)
{
    size_t n = (size_t)s->model->nlinears;
    RuleList l;
    *changed = 0;
    if (memcmp(s->assignment->level, level, n * sizeof *level) == 0)
        return ST_OK;
    RETURN_IF_ERROR(rules_copy(&s->assignment->rules, 0, &l, err));
    for (int i = l.n; i-- > 0;)
        if (how == LEVELS_ANEW && l.row[i].fitted)
            rules_drop(&l, i);
    bool *hits = mem_zarray(n, 1);
    int16_t *now = mem_array(n, sizeof *now), *got = mem_array(n, sizeof *got);
    Status st = hits && now && got ? add_rules(s, &l, level, now, got, hits, err) : error_nomem(err, "the edit");
    free(hits);
    free(now);
    free(got);
    if (st != ST_OK) {
        rules_fini(&l);
        return st;
    }
    return rules_push(s, &l, false, changed, err);
}
