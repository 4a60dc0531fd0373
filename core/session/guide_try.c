/* What trying an entry of the guide means now: another recipe, or other levels, or why it can't be tried. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "recipe/field.h"
#include "session/assignment.h"
#include "session/guide_impl.h"
#include "session/parts.h"
#include "session/points.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/sizes.h"

void candidate_free(Candidate *c)
{
    recipe_free(c->recipe);
    free(c->level);
    *c = (Candidate){0};
}

/* Why it can't be tried: a phrase of its own, or what somebody else says. */
#define CANNOT(c, why, ...) ((c)->state = (why), phrase_set(&(c)->reason, __VA_ARGS__))

static bool built(const char *processor)
{
    const ProcessorType *p;
    for (int i = 0; (p = recipe_rows.processor(i)) != NULL; i++)
        if (strcmp(p->name, processor) == 0)
            return true;
    return false;
}

bool guide_has_processor(const Recipe *r, const char *type)
{
    for (int i = 0; i < recipe_stages(r); i++)
        for (int u = 0; u < recipe_stage(r, i)->nunits; u++) {
            const RecipeUnit *unit = &recipe_stage(r, i)->units[u];
            for (int k = 0; k < unit->nsteps; k++)
                if (strcmp(unit->steps[k].type, type) == 0)
                    return true;
        }
    return false;
}

/* The first of the reasons, without the place in the text. */
static void first_reason(const Str *why, Phrase *out)
{
    char line[200];
    const char *text = str_text(why), *colon = strstr(text, ": ");
    text = colon ? colon + 2 : text;
    snprintf(line, sizeof line, "%.*s", (int)strcspn(text, "\n"), text);
    phrase_set(out, "%s", line);
}

static Status copy_levels(const Session *s, Candidate *c, Error *err)
{
    size_t bytes = (size_t)s->model->nlinears * sizeof *c->level;
    c->level = malloc(bytes + 1);
    if (!c->level)
        return error_nomem(err, "the guide");
    memcpy(c->level, s->assignment->level, bytes);
    return ST_OK;
}

/* What an engine that is named does not load is not tried. */
static Status meets_engine(const Session *s, const Recipe *r, Candidate *c, Error *err)
{
    const RuntimeQuery q = {.recipe = r, .model = s->model, .level = c->level, .runtime = s->opt.runtime, .peer = s->opt.peer};
    RuntimeReport report = {0};
    Status st = s->opt.runtime ? runtime_check(&q, &report, err) : ST_OK;
    if (st == ST_OK && report.n)
        CANNOT(c, GUIDE_LATER, "%.190s", report.f[0].text);
    runtime_report_fini(&report);
    return st;
}

/* "activations ..." or "weights ...", the first word for itself. */
static void tell_varied(const RecipeVaried *v, Phrase *out)
{
    char side[20];
    size_t n = strcspn(v->delta, " ");
    bool first = n < sizeof side && n > 1;
    snprintf(side, sizeof side, "%.*s", first ? (int)n : 0, v->delta);
    phrase_set(out, "%s%s", side, v->delta + (first ? n : 0));
    if (v->changed > 1)
        phrase_add(out, " (%d entries)", v->changed);
}

/* Takes over the recipe that was varied, where it can be measured. */
static Status take_varied(Session *s, RecipeVaried *v, Candidate *c, Error *err)
{
    Str why = {0};
    Status st = copy_levels(s, c, err);
    if (st == ST_OK && !recipe_can_run(v->recipe, &why)) {
        first_reason(&why, &c->reason);
        c->state = GUIDE_MISSING;
    }
    str_free(&why);
    if (st == ST_OK && c->state == GUIDE_TODO)
        st = meets_engine(s, v->recipe, c, err);
    if (st == ST_OK && c->state == GUIDE_TODO) {
        c->recipe = v->recipe;
        v->recipe = NULL;
        tell_varied(v, &c->delta);
    }
    return st;
}

/* Whether a candidate does what is open does already, in other words. */
static bool does_the_same(Session *s, const Candidate *c)
{
    Digest then = recipe_key(s, c->recipe, c->level), now = assignment_key(s, c->level);
    return digest_cmp(&then, &now) == 0;
}

static Status try_vary(Session *s, const GuideRow *row, bool beside, Candidate *c, Error *err)
{
    RecipeVaried v;
    Error own = {0};
    RecipeChange change = row->change;
    change.instead = change.instead && !beside;
    if (row->processor && !built(row->processor)) {
        CANNOT(c, GUIDE_MISSING, "this build does not run %s", row->processor);
        return ST_OK;
    }
    if (row->processor && !row->change.instead && guide_has_processor(s->recipe, row->processor)) {
        CANNOT(c, GUIDE_HAS, "the open recipe has %s", row->processor);
        return ST_OK;
    }
    Status st = recipe_vary(s->recipe, &change, row->id, &v, &own);
    if (st == ST_NOMEM)
        return error_nomem(err, "the guide");
    if (st != ST_OK)
        CANNOT(c, GUIDE_LATER, "%.190s", own.text);
    else if (!v.fits)
        CANNOT(c, GUIDE_LATER, "nothing of the open recipe that this is for");
    else if (!v.changed)
        CANNOT(c, GUIDE_HAS, "the open recipe has it");
    else
        st = take_varied(s, &v, c, err);
    if (st == ST_OK && c->recipe && does_the_same(s, c)) {
        candidate_free(c);
        CANNOT(c, GUIDE_HAS, "the open recipe has it");
    }
    recipe_free(v.recipe);
    return st == ST_NOMEM ? st : ST_OK;
}

/* ---- layers in float ---- */

typedef struct Weighed {
    int64_t group;
    double v;
} Weighed;

static int worst_first(const void *a, const void *b)
{
    const Weighed *x = a, *y = b;
    return x->v != y->v ? (x->v < y->v ? 1 : -1) : (x->group > y->group) - (x->group < y->group);
}

/* Quantized groups of a kind of linear, the worst first. */
static int64_t of_kind(const Session *s, const GroupTable *t, const char *kind, Weighed *out, bool *known)
{
    int64_t n = 0;
    *known = true;
    for (int64_t g = 0; g < t->n; g++) {
        int64_t first = group_linear(&s->model->groups[g], 0);
        const char *dot = strrchr(s->model->linears[first].name, '.');
        if (!dot || strcmp(dot + 1, kind) != 0 || !s->assignment->level[first])
            continue;
        double v = group_v(s, t, g, s->assignment->level);
        *known = *known && isfinite(v);
        out[n++] = (Weighed){g, v};
    }
    qsort(out, (size_t)n, sizeof *out, worst_first);
    return n;
}

static void give_float(const Session *s, const Weighed *w, int64_t from, int64_t to, int16_t *level)
{
    for (int64_t i = from; i < to; i++) {
        const FusedGroup *f = &s->model->groups[w[i].group];
        for (int32_t k = 0; k < f->count; k++)
            level[group_linear(f, k)] = 0;
    }
}

/* What is foretold of levels: of the goal's figure, NaN: nothing. */
static TuneRange foretold(Session *s, const GroupTable *t, const int16_t *level, bool ppl)
{
    TuneRange kl = {.value = NAN, .low = NAN, .high = NAN}, change = kl;
    Points p = {0};
    int16_t *set = mem_array((size_t)t->n, sizeof *set);
    if (set && points_take(s, t, &p, NULL) == ST_OK && p.n) {
        group_set(s, t, level, set);
        double sum = group_sum(t, set);
        if (!isfinite(sum) || points_foretell(&p, t, set, sum, &kl, &change, NULL) != ST_OK)
            kl.value = change.value = NAN;
    }
    points_free(&p);
    free(set);
    return ppl ? change : kl;
}

/* Behind what c->delta says already: bytes, and what is foretold. */
static void tell_levels(const Session *s, Candidate *c, TuneRange r, bool ppl)
{
    SizeReport now, then;
    sizes_of(s, s->recipe, s->assignment->level, &now);
    sizes_of(s, s->recipe, c->level, &then);
    phrase_add(&c->delta, ", %+.2f MiB", ((double)then.bytes - (double)now.bytes) / 1048576);
    if (isfinite(r.value) && ppl)
        phrase_add(&c->delta, "; perplexity %+.2f %% foretold (%+.2f to %+.2f)", 100 * r.value, 100 * r.low, 100 * r.high);
    else if (isfinite(r.value))
        phrase_add(&c->delta, "; KL %.3g foretold (%.2g to %.2g)", r.value, r.low, r.high);
}

/* As many of the worst as are foretold to hold the goal, in steps of five; all where that is not foretold. */
static void grow_floats(Session *s, const Guide *g, const GroupTable *t, const GuideRow *row, const Weighed *w, int64_t n,
                        Candidate *c)
{
    enum { STEP = 5 };
    bool ppl = g->have_goal && g->goal.kind == GOAL_PPL;
    int64_t at = 0;
    TuneRange r = {.value = NAN};
    while (at < n) {
        int64_t to = at + STEP < n ? at + STEP : n;
        give_float(s, w, at, to, c->level);
        at = to;
        r = foretold(s, t, c->level, ppl);
        if (g->have_goal && isfinite(r.value) && r.value <= g->goal.value)
            break;
    }
    phrase_set(&c->delta, "%lld of %lld %s to float", (long long)at, (long long)n, row->layers);
    tell_levels(s, c, r, ppl);
}

static Status try_float(Session *s, Guide *g, const GuideRow *row, Candidate *c, Error *err)
{
    const GroupTable *t;
    bool known;
    RETURN_IF_ERROR(group_table(s, &t, err));
    Weighed *w = mem_array((size_t)t->n + 1, sizeof *w);
    Status st = w ? copy_levels(s, c, err) : error_nomem(err, "the guide");
    int64_t n = st == ST_OK ? of_kind(s, t, row->layers, w, &known) : 0;
    if (st == ST_OK && n == 0)
        CANNOT(c, GUIDE_HAS, "no %s is quantized", row->layers);
    else if (st == ST_OK && !known)
        CANNOT(c, GUIDE_LATER, "which are the worst is not known: S5a first");
    else if (st == ST_OK)
        grow_floats(s, g, t, row, w, n, c);
    if (st == ST_OK && c->state == GUIDE_TODO)
        c->recipe = recipe_hold(s->recipe);
    free(w);
    return st;
}

static Status try_fit(Session *s, Guide *g, Candidate *c, Error *err)
{
    FitDone d;
    Error own = {0};
    if (!g->have_goal) {
        CANNOT(c, GUIDE_LATER, "it needs a goal: guide goal ppl=+1%%");
        return ST_OK;
    }
    Status st = session_fit(s, g->goal.text, &(FitOptions){.dry = true}, &d, &own);
    if (st == ST_NOMEM)
        return error_nomem(err, "the guide");
    if (st != ST_OK) {
        CANNOT(c, GUIDE_LATER, "%.190s", own.text);
        return ST_OK;
    }
    if (d.changed == 0) {
        CANNOT(c, GUIDE_HAS, "what is open is foretold to hold it already");
        fit_done_free(&d);
        return ST_OK;
    }
    bool ppl = g->goal.kind == GOAL_PPL;
    c->level = d.level;
    d.level = NULL;
    c->recipe = recipe_hold(s->recipe);
    phrase_set(&c->delta, "%lld groups get another level", (long long)d.groups);
    tell_levels(s, c, ppl ? d.ppl : d.kl, ppl);
    fit_done_free(&d);
    return ST_OK;
}

/* ---- giving back ---- */

static double figure(const Guide *g, const Effect *e)
{
    return g->goal.kind == GOAL_PPL ? e->ppl_change : e->kl_mean;
}

bool guide_without(const Session *s, int i, int16_t *level)
{
    RuleList l;
    const RuleRow *row = &s->assignment->rules.row[i];
    if (!row->on || row->to != 0 || rules_copy(&s->assignment->rules, 0, &l, NULL) != ST_OK)
        return false;
    l.row[i].on = false;
    rules_levels(s, &l, level);
    rules_fini(&l);
    return memcmp(level, s->assignment->level, (size_t)s->model->nlinears * sizeof *level) != 0;
}

/* The next rule to float whose loss was not measured; else, of those that the goal does not need, the one that gives most
 * bytes back. */
static Status try_give_back(Session *s, Guide *g, Candidate *c, Error *err)
{
    const RuleList *l = &s->assignment->rules;
    int16_t *level = mem_array((size_t)s->model->nlinears, sizeof *level);
    int64_t rules = 0;
    double most = -1;
    RETURN_IF_ERROR(level ? copy_levels(s, c, err) : error_nomem(err, "the guide"));
    bool found = false;
    for (int i = 0; i < l->n && !found; i++) {
        if (!guide_without(s, i, level))
            continue;
        rules++;
        const Measured *m = results_find(s, level, 0);
        SizeReport then, now;
        sizes_of(s, s->recipe, level, &then);
        sizes_of(s, s->recipe, s->assignment->level, &now);
        double back = (double)now.bytes - (double)then.bytes;
        bool holds = m && g->have_goal && figure(g, &m->effect) <= g->goal.value;
        if (m && !(holds && back > most))
            continue;
        found = !m;
        most = back;
        memcpy(c->level, level, (size_t)s->model->nlinears * sizeof *level);
        phrase_set(&c->delta, "without '%.80s': %+.2f MiB", l->row[i].rule->text, -back / 1048576);
    }
    free(level);
    if (!rules)
        CANNOT(c, GUIDE_HAS, "no rule sends layers to float");
    else if (!g->have_goal)
        CANNOT(c, GUIDE_LATER, "it needs a goal: guide goal ppl=+1%%");
    else if (!c->delta.parts)
        CANNOT(c, GUIDE_HAS, "every rule to float is needed");
    else
        c->recipe = recipe_hold(s->recipe);
    return ST_OK;
}

/* ---- all of them ---- */

static Status make(Session *s, Guide *g, const GuideRow *row, Candidate *c, Error *err)
{
    switch (row->kind) {
    case GUIDE_VARY: return try_vary(s, row, false, c, err);
    case GUIDE_FLOAT: return try_float(s, g, row, c, err);
    case GUIDE_FIT: return try_fit(s, g, c, err);
    case GUIDE_GIVE_BACK: return try_give_back(s, g, c, err);
    default: return ST_OK;
    }
}

const Candidate *guide_candidate(Session *s, Guide *g, int i)
{
    const GuideRow *row = &guide_rows[i];
    Candidate *c = &g->candidate[i];
    /* a recipe with other values does not depend on what was found */
    uint64_t results = row->kind == GUIDE_VARY ? (uint64_t)(uintptr_t)s->opt.runtime : s->results->version + g->version;
    bool levels = c->known && c->opened == s->assignment->opened_version && c->version == s->assignment->version;
    /* a search among all groups is not made anew for every row that an analysis brings */
    bool same = levels && (c->results == results || (row->kind != GUIDE_VARY && queue_analyzes(s->queue)));
    if (same && c->recipe)
        c->key = recipe_key(s, c->recipe, c->level); /* data and settings may be others */
    if (same)
        return c;
    candidate_free(c);
    Error err = {0};
    c->state = GUIDE_TODO;
    if (make(s, g, row, c, &err) != ST_OK) {
        candidate_free(c);
        CANNOT(c, GUIDE_LATER, "%.190s", err.text);
    }
    if (c->recipe)
        c->key = recipe_key(s, c->recipe, c->level);
    c->known = true;
    c->opened = s->assignment->opened_version;
    c->version = s->assignment->version;
    c->results = results;
    return c;
}

Status guide_beside(Session *s, int i, Candidate *out, Error *err)
{
    *out = (Candidate){.state = GUIDE_TODO};
    if (!guide_rows[i].change.instead)
        return error_set(err, ST_USAGE, "%s takes no other's place: leave --beside out", guide_rows[i].id);
    return try_vary(s, &guide_rows[i], true, out, err);
}
