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
    for (size_t i = 0; i < a->nedits; i++)
        edit_fini(&a->edits[i]);
    a->nedits = a->edit_pos = 0;
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
static void name_levels(const QConfig *levels, int n, char (*name)[48])
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

/* Everything of the recipe's levels into a fresh assignment, of which the caller frees what is there. */
static Status read_levels(const Recipe *r, const Model *m, Assignment *a, Error *err)
{
    size_t n = (size_t)recipe_entries(r), linears = (size_t)m->nlinears;
    a->nlevels = (int)n + 1;
    a->levels = mem_zarray(n + 1, sizeof *a->levels);
    a->level_name = mem_zarray(n + 1, sizeof *a->level_name);
    a->level = mem_zarray(linears, sizeof *a->level);
    a->home = mem_zarray(linears, sizeof *a->home);
    if (!a->levels || !a->level_name || !a->level || !a->home)
        return error_nomem(err, "the recipe");
    for (size_t i = 0; i < n; i++)
        a->levels[i] = recipe_entry(r, (int)i)->q;
    name_levels(a->levels, (int)n, a->level_name);
    RETURN_IF_ERROR(recipe_assign(r, m, a->level, err));
    return find_homes(r, m, a->level, a->home, err);
}

Status assignment_use_recipe(Session *s, Recipe *r, Error *err)
{
    Assignment *a = s->assignment, fresh = {0};
    Status st = read_levels(r, s->model, &fresh, err);
    if (st != ST_OK) {
        assignment_close(&fresh);
        return st;
    }
    levels_free(a);
    whatif_clear(s->whatifs);
    results_forget_measured(s->results);
    recipe_free(s->recipe);
    s->recipe = r;
    a->nlevels = fresh.nlevels;
    a->levels = fresh.levels;
    a->level_name = fresh.level_name;
    memcpy(a->level, fresh.level, (size_t)s->model->nlinears * sizeof *a->level);
    memcpy(a->opened, fresh.level, (size_t)s->model->nlinears * sizeof *a->opened);
    memcpy(a->home, fresh.home, (size_t)s->model->nlinears * sizeof *a->home);
    free(fresh.level);
    free(fresh.home);
    a->version++;
    table_scores_changed(s->table);
    return ST_OK;
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
