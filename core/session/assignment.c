/* Targets, edits of levels and tags, undo. */
#include "session/assignment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/parts.h"
#include "session/entries.h"
#include "session/table.h"
#include "session/whatif.h"

int session_level_of(const Session *s, int64_t linear)
{
    return s->assignment->level[linear];
}

bool session_tagged(const Session *s, int64_t linear)
{
    return s->assignment->tagged[linear];
}

int64_t session_tag_count(const Session *s)
{
    return s->assignment->ntagged;
}

uint64_t session_edit_version(const Session *s)
{
    return s->assignment->version;
}

static Status need_model(const Session *s, Error *err)
{
    return s->model ? ST_OK : error_set(err, ST_USAGE, "no model is open: open MODEL first");
}

/* Name nearest to what was typed, for the error. */
static Status no_hit(const Session *s, const char *target, Error *err)
{
    int best = 6;
    const char *name = NULL;
    for (int64_t i = 0; i < s->model->nlinears && i < 5000; i++) {
        int d = str_distance(target, s->model->linears[i].name, best);
        if (d < best) {
            best = d;
            name = s->model->linears[i].name;
        }
    }
    if (name)
        return error_set(err, ST_DATA, "'%s' selects no layer: did you mean '%s'?", target, name);
    Lint lint;
    if (pattern_lint(target, s->model, NULL, &lint, err) == ST_OK && lint.hint[0])
        return error_set(err, ST_DATA, "'%s' selects no layer: did you mean '%s'?", target, lint.hint);
    return error_set(err, ST_DATA, "'%s' selects no layer: names look like '%s'", target,
                     s->model->nlinears ? s->model->linears[0].name : "(none)");
}

Status session_target(const Session *s, const char *target, bool *hits, int64_t *count, Error *err)
{
    RETURN_IF_ERROR(need_model(s, err));
    int64_t n = 0;
    if (strcmp(target, "tagged") == 0) {
        for (int64_t i = 0; i < s->model->nlinears; i++)
            if (s->assignment->tagged[i]) {
                hits[i] = true;
                n++;
            }
        *count = n;
        return n ? ST_OK : error_set(err, ST_DATA, "no layer is tagged: tag some first (Space, or tag PATTERN)");
    }
    int64_t exact = map_get(&s->by_name, target, strlen(target), -1);
    if (exact >= 0) {
        hits[exact] = true;
        *count = 1;
        return ST_OK;
    }
    Pattern *p;
    RETURN_IF_ERROR(pattern_compile(&p, target, err));
    *count = pattern_hits(p, s->model, hits);
    pattern_free(p);
    return *count ? ST_OK : no_hit(s, target, err);
}

void close_groups(const Model *m, bool *hits)
{
    for (int64_t g = 0; g < m->ngroups; g++) {
        const FusedGroup *f = &m->groups[g];
        bool any = false;
        for (int32_t k = 0; k < f->count; k++)
            any |= hits[group_linear(f, k)];
        for (int32_t k = 0; any && k < f->count; k++)
            hits[group_linear(f, k)] = true;
    }
}

/* ---- edits ---- */

void edit_fini(Edit *e)
{
    free(e->cells);
    free(e->from);
    free(e->to);
    memset(e, 0, sizeof *e);
}

static void apply_levels(Session *s, const Edit *e, bool forward)
{
    for (int i = 0; i < e->n; i++)
        s->assignment->level[e->cells[i].linear] = forward ? e->cells[i].to : e->cells[i].from;
    s->assignment->version++;
    table_levels_changed(s->table);
}

static void apply_tags(Assignment *a, const Edit *e, bool forward)
{
    for (int i = 0; i < e->n; i++) {
        bool on = (forward ? e->cells[i].to : e->cells[i].from) != 0;
        a->ntagged += (int)on - (int)a->tagged[e->cells[i].linear];
        a->tagged[e->cells[i].linear] = on;
    }
    a->tag_version++;
}

/* On an error nothing has changed. */
static Status apply(Session *s, const Edit *e, bool forward, Error *err)
{
    switch (e->kind) {
    case EDIT_LEVEL: apply_levels(s, e, forward); break;
    case EDIT_TAG: apply_tags(s->assignment, e, forward); break;
    case EDIT_FILTER: return table_set_filter(s->table, forward ? e->to : e->from, err);
    }
    return ST_OK;
}

Status edit_push(Session *s, Edit e, Error *err)
{
    Assignment *a = s->assignment;
    Status st = mem_grow(&a->edits, &a->cap_edits, a->edit_pos + 1, sizeof *a->edits)
                    ? apply(s, &e, true, err)
                    : error_nomem(err, "the undo list");
    if (st != ST_OK) {
        edit_fini(&e);
        return st;
    }
    for (size_t i = a->edit_pos; i < a->nedits; i++)
        edit_fini(&a->edits[i]);
    a->edits[a->edit_pos++] = e;
    a->nedits = a->edit_pos;
    entry_edit(s, &e);
    return ST_OK;
}

/* Builds a level edit from the wanted levels; pushes it when anything changes. */
static Status push_levels(Session *s, const int16_t *want, int64_t *changed, Error *err)
{
    const int16_t *level = s->assignment->level;
    int64_t n = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        n += want[i] != level[i];
    if (changed)
        *changed = n;
    if (n == 0)
        return ST_OK;
    Edit e = {.kind = EDIT_LEVEL, .cells = mem_array((size_t)n, sizeof(EditCell))};
    if (!e.cells)
        return error_nomem(err, "the edit");
    for (int64_t i = 0; i < s->model->nlinears; i++)
        if (want[i] != level[i])
            e.cells[e.n++] = (EditCell){(int32_t)i, level[i], want[i]};
    return edit_push(s, e, err);
}

/* level < 0: each linear's own home level. */
static Status set_levels(Session *s, const bool *hits, int level, int64_t *changed, Error *err)
{
    RETURN_IF_ERROR(need_model(s, err));
    const Assignment *a = s->assignment;
    size_t n = (size_t)s->model->nlinears;
    if (level >= a->nlevels)
        return error_set(err, ST_USAGE, "no level %d: the recipe has %d", level, a->nlevels);
    bool *closed = mem_array(n, 1);
    int16_t *want = mem_array(n, sizeof *want);
    Status st = closed && want ? ST_OK : error_nomem(err, "the edit");
    if (st == ST_OK) {
        memcpy(closed, hits, n);
        close_groups(s->model, closed);
        for (size_t i = 0; i < n; i++) {
            int16_t own = a->level[i] ? a->level[i] : a->home[i];
            want[i] = !closed[i] ? a->level[i] : level >= 0 ? (int16_t)level : own;
        }
        st = push_levels(s, want, changed, err);
    }
    free(closed);
    free(want);
    return st;
}

Status session_set_level(Session *s, const bool *hits, int level, int64_t *changed, Error *err)
{
    if (level < 0)
        return error_set(err, ST_USAGE, "no level %d", level);
    return set_levels(s, hits, level, changed, err);
}

static Status session_include(Session *s, const bool *hits, int64_t *changed, Error *err)
{
    return set_levels(s, hits, -1, changed, err);
}

static Status remember_pattern(Session *s, const char *text, Error *err)
{
    bool added;
    RETURN_IF_ERROR(whatif_add(s->whatifs, text, &added, err));
    if (added)
        entry_text(s, "whatif", text);
    return ST_OK;
}

Status session_edit(Session *s, const char *const *targets, int n, int level, bool include, int64_t *changed,
                    Error *err)
{
    RETURN_IF_ERROR(need_model(s, err));
    bool *hits = mem_zarray((size_t)s->model->nlinears, 1);
    if (!hits)
        return error_nomem(err, "the edit");
    Status st = ST_OK;
    for (int i = 0; i < n && st == ST_OK; i++) {
        int64_t count;
        st = session_target(s, targets[i], hits, &count, err);
    }
    if (st == ST_OK)
        st = include ? session_include(s, hits, changed, err) : session_set_level(s, hits, level, changed, err);
    free(hits);
    for (int i = 0; i < n && st == ST_OK && !include && level == 0; i++)
        if (strcmp(targets[i], "tagged") != 0)
            st = remember_pattern(s, targets[i], err);
    return st;
}

Status session_tag(Session *s, const bool *hits, bool on, Error *err)
{
    RETURN_IF_ERROR(need_model(s, err));
    int64_t n = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        n += hits[i] && s->assignment->tagged[i] != on;
    if (n == 0)
        return ST_OK;
    Edit e = {.kind = EDIT_TAG, .cells = mem_array((size_t)n, sizeof(EditCell))};
    if (!e.cells)
        return error_nomem(err, "the edit");
    for (int64_t i = 0; i < s->model->nlinears; i++)
        if (hits[i] && s->assignment->tagged[i] != on)
            e.cells[e.n++] = (EditCell){(int32_t)i, s->assignment->tagged[i], on};
    return edit_push(s, e, err);
}

static void describe(const Session *s, const Edit *e, bool forward, Str *what)
{
    if (!what)
        return;
    if (e->kind == EDIT_FILTER) {
        str_printf(what, "filter '%s'", (forward ? e->to : e->from) ? (forward ? e->to : e->from) : "");
        return;
    }
    const EditCell *c = &e->cells[0];
    int16_t v = forward ? c->to : c->from;
    if (e->kind == EDIT_TAG)
        str_printf(what, "%s %s", v ? "tagged" : "untagged", s->model->linears[c->linear].name);
    else
        str_printf(what, "%s is %s again", s->model->linears[c->linear].name, session_level_name(s, v));
    if (e->n > 1)
        str_printf(what, " and %d more", e->n - 1);
}

Status session_undo(Session *s, Str *what, Error *err)
{
    Assignment *a = s->assignment;
    if (a->edit_pos == 0)
        return error_set(err, ST_USAGE, "nothing to undo");
    const Edit *e = &a->edits[a->edit_pos - 1];
    RETURN_IF_ERROR(apply(s, e, false, err));
    a->edit_pos--;
    describe(s, e, false, what);
    entry_text(s, "undo", NULL);
    return ST_OK;
}

Status session_redo(Session *s, Str *what, Error *err)
{
    Assignment *a = s->assignment;
    if (a->edit_pos == a->nedits)
        return error_set(err, ST_USAGE, "nothing to redo");
    const Edit *e = &a->edits[a->edit_pos];
    RETURN_IF_ERROR(apply(s, e, true, err));
    a->edit_pos++;
    describe(s, e, true, what);
    entry_text(s, "redo", NULL);
    return ST_OK;
}

int session_undo_depth(const Session *s)
{
    return (int)s->assignment->edit_pos;
}

int session_redo_depth(const Session *s)
{
    return (int)(s->assignment->nedits - s->assignment->edit_pos);
}
