/* Levels of the recipe: their names, and the level of each linear as it gives them. */
#include "session/assignment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/table.h"
#include "session/whatif.h"

static void levels_free(Assignment *a)
{
    free(a->levels);
    free(a->level_name);
    a->levels = NULL;
    a->level_name = NULL;
    a->nlevels = 0;
}

Status assignment_open(Assignment *a, const Model *m, Error *err)
{
    size_t n = (size_t)m->nlinears;
    a->level = mem_zarray(n, sizeof *a->level);
    a->opened = mem_zarray(n, sizeof *a->opened);
    a->home = mem_zarray(n, sizeof *a->home);
    a->tagged = mem_zarray(n, sizeof *a->tagged);
    return a->level && a->opened && a->home && a->tagged ? ST_OK : error_nomem(err, "the assignment");
}

void assignment_close(Assignment *a)
{
    levels_free(a);
    rules_fini(&a->rules);
    for (size_t i = 0; i < a->nedits; i++)
        edit_fini(&a->edits[i]);
    a->nedits = a->edit_pos = 0;
    free(a->edits);
    free(a->level);
    free(a->opened);
    free(a->home);
    free(a->tagged);
    a->edits = NULL;
    a->cap_edits = 0;
    a->level = a->opened = a->home = NULL;
    a->tagged = NULL;
    a->ntagged = 0;
}

/* Twins of one scheme are numbered: W8A8, W8A8#2. */
void name_levels(const QConfig *levels, int n, char (*name)[48])
{
    strcpy(name[0], "float");
    for (int i = 0; i < n; i++) {
        const Scheme *scheme = scheme_find(&levels[i]);
        const char *base = scheme ? scheme->name : "unwritable";
        int twin = 1;
        for (int k = 0; k < i; k++) {
            const Scheme *other = scheme_find(&levels[k]);
            twin += other && scheme && strcmp(other->name, scheme->name) == 0;
        }
        if (twin > 1)
            snprintf(name[i + 1], sizeof name[i + 1], "%s#%d", base, twin);
        else
            snprintf(name[i + 1], sizeof name[i + 1], "%s", base);
    }
}

/* Level a float linear goes back to: the first entry whose include list takes it, else level 1. */
static Status find_homes(const Recipe *r, const Model *m, const int16_t *level, int16_t *home, Error *err)
{
    bool *hits = mem_zarray((size_t)m->nlinears, 1);
    if (!hits)
        return error_nomem(err, "the assignment");
    Status st = ST_OK;
    for (int e = 0; e < recipe_entries(r) && st == ST_OK; e++) {
        const RecipeEntry *re = recipe_entry(r, e);
        memset(hits, 0, (size_t)m->nlinears);
        for (int k = 0; k < re->ninclude && st == ST_OK; k++) {
            Pattern *p;
            st = pattern_compile(&p, re->include[k], err);
            if (st == ST_OK) {
                pattern_hits(p, m, hits);
                pattern_free(p);
            }
        }
        for (int64_t i = 0; i < m->nlinears; i++)
            if (hits[i] && !home[i])
                home[i] = (int16_t)(e + 1);
    }
    for (int64_t i = 0; i < m->nlinears; i++) {
        if (level[i])
            home[i] = level[i];
        else if (!home[i])
            home[i] = recipe_entries(r) > 0 ? 1 : 0;
    }
    free(hits);
    return st;
}

Status assignment_read(const Recipe *r, const Model *m, Assignment *a, Error *err)
{
    size_t n = (size_t)recipe_entries(r), linears = (size_t)m->nlinears;
    a->nlevels = (int)n + 1;
    a->levels = mem_zarray(n + 1, sizeof *a->levels);
    a->level_name = mem_zarray(n + 1, sizeof *a->level_name);
    a->opened = mem_zarray(linears, sizeof *a->opened);
    a->home = mem_zarray(linears, sizeof *a->home);
    if (!a->levels || !a->level_name || !a->opened || !a->home)
        return error_nomem(err, "the recipe");
    for (size_t i = 0; i < n; i++)
        a->levels[i] = recipe_entry(r, (int)i)->q;
    name_levels(a->levels, (int)n, a->level_name);
    RETURN_IF_ERROR(recipe_assign(r, m, a->opened, err));
    return find_homes(r, m, a->opened, a->home, err);
}

Status assignment_reset(Assignment *a, const Model *m, Error *err)
{
    size_t n = (size_t)m->nlinears;
    a->level = mem_array(n, sizeof *a->level);
    a->tagged = mem_zarray(n, sizeof *a->tagged);
    if (!a->level || !a->tagged)
        return error_nomem(err, "the assignment");
    memcpy(a->level, a->opened, n * sizeof *a->level);
    return ST_OK;
}

Status assignment_use_recipe(Session *s, Recipe *r, RuleList *rules, Error *err)
{
    Assignment *a = s->assignment, fresh = {0};
    size_t bytes = (size_t)s->model->nlinears * sizeof *a->level;
    Status st = ST_OK;
    if (session_busy(s) && !s->calib_name && strcmp(recipe_dataset(r), session_calib(s)) != 0)
        st = error_set(err, ST_USAGE, "a job runs: stop it before opening a recipe with other calibration data");
    if (st == ST_OK)
        st = assignment_read(r, s->model, &fresh, err);
    if (st != ST_OK) {
        assignment_close(&fresh);
        rules_fini(rules);
        return st;
    }
    recipe_hold(r);
    recipe_free(s->recipe);
    s->recipe = r;
    levels_free(a);
    a->nlevels = fresh.nlevels;
    a->levels = fresh.levels;
    a->level_name = fresh.level_name;
    memcpy(a->opened, fresh.opened, bytes);
    memcpy(a->home, fresh.home, bytes);
    free(fresh.opened);
    free(fresh.home);
    rules_fini(&a->rules);
    a->rules = *rules;
    *rules = (RuleList){0};
    rules_levels(s, &a->rules, a->level);
    a->version++;
    a->opened_version++;
    results_mark_stale(s);
    table_scores_changed(s->table);
    return ST_OK;
}

/* The present rules under another recipe's levels, by their names; those that it has not go. `what` says which. */
static Status carry_rules(Session *s, const Recipe *r, RuleList *out, Str *what, Error *err)
{
    const Assignment *a = s->assignment;
    int levels = recipe_entries(r), dropped = 0;
    const char *lost = NULL;
    QConfig *config = mem_zarray((size_t)levels + 1, sizeof *config);
    char (*name)[48] = mem_zarray((size_t)levels + 1, sizeof *name);
    Status st = config && name ? rules_copy(&a->rules, 0, out, err) : error_nomem(err, "the recipe");
    for (int i = 0; st == ST_OK && i < levels; i++)
        config[i] = recipe_entry(r, i)->q;
    if (st == ST_OK)
        name_levels(config, levels, name);
    for (int i = 0; st == ST_OK && i < out->n;) {
        RuleRow *row = &out->row[i];
        int k = 1;
        while (row->to > 0 && k <= levels && strcmp(name[k], a->level_name[row->to]) != 0)
            k++;
        if (row->to <= 0 || k <= levels) {
            row->to = row->to > 0 ? (int16_t)k : row->to;
            i++;
            continue;
        }
        lost = lost ? lost : a->level_name[row->to];
        dropped++;
        rules_drop(out, i);
    }
    if (st == ST_OK && what && out->n)
        str_printf(what, "%d rule%s kept, ", out->n, out->n == 1 ? "" : "s");
    if (dropped && what)
        str_printf(what, "%d dropped (it has no level %s), ", dropped, lost);
    free(config);
    free(name);
    return st;
}

static int64_t count_float(const Session *s)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        n += s->assignment->level[i] == 0;
    return n;
}

Status assignment_change_recipe(Session *s, Recipe *r, RuleList *rules, Str *what, Error *err)
{
    Assignment *a = s->assignment;
    Edit e = {.kind = EDIT_RECIPE};
    Str kept = {0};
    Status st = rules_copy(&a->rules, 0, &e.before, err);
    if (st == ST_OK && rules)
        st = rules_copy(rules, 0, &e.after, err);
    else if (st == ST_OK)
        st = carry_rules(s, r, &e.after, &kept, err);
    if (st != ST_OK) {
        edit_fini(&e);
        str_free(&kept);
        return st;
    }
    e.old = recipe_hold(s->recipe);
    e.fresh = recipe_hold(r);
    st = edit_push(s, e, err);
    if (st == ST_OK && what)
        str_printf(what, "recipe %s: %s%lld of %lld linears float; undo goes back", recipe_name(r), str_text(&kept),
                   (long long)count_float(s), (long long)s->model->nlinears);
    str_free(&kept);
    return st;
}

const QConfig *level_config(const Assignment *a, int level)
{
    return level > 0 && level < a->nlevels ? &a->levels[level - 1] : NULL;
}

int session_levels(const Session *s)
{
    return s->assignment->nlevels;
}

const char *session_level_name(const Session *s, int level)
{
    const Assignment *a = s->assignment;
    return level >= 0 && level < a->nlevels ? a->level_name[level] : "?";
}

int session_level_find(const Session *s, const char *name)
{
    for (int i = 0; i < s->assignment->nlevels; i++)
        if (strcmp(s->assignment->level_name[i], name) == 0)
            return i;
    return -1;
}
