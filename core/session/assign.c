/* Levels, targets, tags and undo. */
#include "session/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int session_levels(const Session *s)
{
    return s->nlevels;
}

const char *session_level_name(const Session *s, int level)
{
    return level >= 0 && level < s->nlevels ? s->level_name[level] : "?";
}

int session_level_find(const Session *s, const char *name)
{
    for (int i = 0; i < s->nlevels; i++)
        if (strcmp(s->level_name[i], name) == 0)
            return i;
    return -1;
}

int session_level_of(const Session *s, int64_t linear)
{
    return s->level[linear];
}

bool session_tagged(const Session *s, int64_t linear)
{
    return s->tagged[linear];
}

int64_t session_tag_count(const Session *s)
{
    return s->ntagged;
}

uint64_t session_edit_version(const Session *s)
{
    return s->version;
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
            if (s->tagged[i]) {
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
        for (int32_t i = f->first; i < f->first + f->count; i++)
            any |= hits[i];
        for (int32_t i = f->first; any && i < f->first + f->count; i++)
            hits[i] = true;
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

static void apply(Session *s, const Edit *e, bool forward)
{
    switch (e->kind) {
    case EDIT_LEVEL:
        for (int i = 0; i < e->n; i++)
            s->level[e->cells[i].linear] = forward ? e->cells[i].to : e->cells[i].from;
        s->version++;
        if (s->sort == SORT_LEVEL)
            s->order_stale = true;
        break;
    case EDIT_TAG:
        for (int i = 0; i < e->n; i++) {
            bool on = (forward ? e->cells[i].to : e->cells[i].from) != 0;
            s->ntagged += (int)on - (int)s->tagged[e->cells[i].linear];
            s->tagged[e->cells[i].linear] = on;
        }
        s->tag_version++;
        break;
    case EDIT_FILTER:
        free(s->filter);
        s->filter = dup_or_null(forward ? e->to : e->from);
        s->order_valid = false;
        break;
    }
}

Status edit_push(Session *s, Edit e, Error *err)
{
    if (!mem_grow(&s->edits, &s->cap_edits, s->edit_pos + 1, sizeof *s->edits)) {
        edit_fini(&e);
        return error_nomem(err, "the undo list");
    }
    for (size_t i = s->edit_pos; i < s->nedits; i++)
        edit_fini(&s->edits[i]);
    apply(s, &e, true);
    s->edits[s->edit_pos++] = e;
    s->nedits = s->edit_pos;
    durable_edit(s, &e);
    return ST_OK;
}

/* Builds a level edit from the wanted levels; pushes it when anything changes. */
static Status push_levels(Session *s, const int16_t *want, int64_t *changed, Error *err)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        n += want[i] != s->level[i];
    if (changed)
        *changed = n;
    if (n == 0)
        return ST_OK;
    Edit e = {.kind = EDIT_LEVEL, .cells = mem_array((size_t)n, sizeof(EditCell))};
    if (!e.cells)
        return error_nomem(err, "the edit");
    for (int64_t i = 0; i < s->model->nlinears; i++)
        if (want[i] != s->level[i])
            e.cells[e.n++] = (EditCell){(int32_t)i, s->level[i], want[i]};
    return edit_push(s, e, err);
}

/* level < 0: each linear's own home level. */
static Status set_levels(Session *s, const bool *hits, int level, int64_t *changed, Error *err)
{
    RETURN_IF_ERROR(need_model(s, err));
    size_t n = (size_t)s->model->nlinears;
    if (level >= s->nlevels)
        return error_set(err, ST_USAGE, "no level %d: the recipe has %d", level, s->nlevels);
    bool *closed = mem_array(n, 1);
    int16_t *want = mem_array(n, sizeof *want);
    Status st = closed && want ? ST_OK : error_nomem(err, "the edit");
    if (st == ST_OK) {
        memcpy(closed, hits, n);
        close_groups(s->model, closed);
        for (size_t i = 0; i < n; i++)
            want[i] = !closed[i] ? s->level[i] : level >= 0 ? (int16_t)level : s->level[i] ? s->level[i] : s->home[i];
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

Status session_include(Session *s, const bool *hits, int64_t *changed, Error *err)
{
    return set_levels(s, hits, -1, changed, err);
}

static Status remember_pattern(Session *s, const char *text, Error *err)
{
    for (size_t i = 0; i < s->nwhatif; i++)
        if (strcmp(s->whatif[i].text, text) == 0)
            return ST_OK;
    char *copy = strdup(text);
    if (!copy || !mem_grow(&s->whatif, &s->cap_whatif, s->nwhatif + 1, sizeof *s->whatif)) {
        free(copy);
        return error_nomem(err, "the what-if list");
    }
    s->whatif[s->nwhatif++] = (PatternRow){.text = copy};
    durable_text(s, "whatif", text);
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
        n += hits[i] && s->tagged[i] != on;
    if (n == 0)
        return ST_OK;
    Edit e = {.kind = EDIT_TAG, .cells = mem_array((size_t)n, sizeof(EditCell))};
    if (!e.cells)
        return error_nomem(err, "the edit");
    for (int64_t i = 0; i < s->model->nlinears; i++)
        if (hits[i] && s->tagged[i] != on)
            e.cells[e.n++] = (EditCell){(int32_t)i, s->tagged[i], on};
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
    if (s->edit_pos == 0)
        return error_set(err, ST_USAGE, "nothing to undo");
    const Edit *e = &s->edits[--s->edit_pos];
    apply(s, e, false);
    describe(s, e, false, what);
    durable_move(s, "undo");
    return ST_OK;
}

Status session_redo(Session *s, Str *what, Error *err)
{
    if (s->edit_pos == s->nedits)
        return error_set(err, ST_USAGE, "nothing to redo");
    const Edit *e = &s->edits[s->edit_pos++];
    apply(s, e, true);
    describe(s, e, true, what);
    durable_move(s, "redo");
    return ST_OK;
}

int session_undo_depth(const Session *s)
{
    return (int)s->edit_pos;
}

int session_redo_depth(const Session *s)
{
    return (int)(s->nedits - s->edit_pos);
}
