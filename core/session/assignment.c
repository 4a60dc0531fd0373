/* Targets, edits of levels and tags, undo. */
#include "session/assignment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/parts.h"
#include "session/preset.h"
#include "session/entries.h"
#include "session/table.h"
#include "session/texts.h"
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

/* Whether a hint selects something that can be decided about. */
static bool selectable(const Model *m, const char *text)
{
    Pattern *p;
    bool *hits = mem_zarray((size_t)m->nlinears, 1);
    bool any = hits && pattern_compile(&p, text, NULL) == ST_OK;
    if (any) {
        any = pattern_hits(p, m, hits) > 0;
        pattern_free(p);
    }
    free(hits);
    return any;
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
    bool known = pattern_lint(target, s->model, NULL, &lint, err) == ST_OK;
    if (known && lint.hint[0] && selectable(s->model, lint.hint))
        return error_set(err, ST_DATA, "'%s' selects no layer: did you mean '%s'?", target, lint.hint);
    if (known && strlen(lint.text) > strlen("selects nothing")) /* it knows why */
        return error_set(err, ST_DATA, "'%s' %s", target, lint.text);
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
    Pattern *p = NULL;
    Str text = {0};
    Status st = preset_text(s, target, &text, err);
    if (st == ST_OK)
        st = pattern_compile(&p, str_text(&text), err);
    if (st == ST_OK)
        *count = pattern_hits(p, s->model, hits);
    if (st == ST_OK && *count == 0)
        st = no_hit(s, str_text(&text), err);
    pattern_free(p);
    str_free(&text);
    return st;
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
    rules_fini(&e->before);
    rules_fini(&e->after);
    recipe_free(e->old);
    recipe_free(e->fresh);
    memset(e, 0, sizeof *e);
}

static Status apply_rules(Session *s, const RuleList *rules, Error *err)
{
    Assignment *a = s->assignment;
    RuleList l;
    RETURN_IF_ERROR(rules_copy(rules, 0, &l, err));
    rules_fini(&a->rules);
    a->rules = l;
    rules_levels(s, &a->rules, a->level);
    a->version++;
    table_levels_changed(s->table);
    return ST_OK;
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

static Status apply_recipe(Session *s, const Edit *e, bool forward, Error *err)
{
    RuleList l;
    RETURN_IF_ERROR(rules_copy(forward ? &e->after : &e->before, 0, &l, err));
    return assignment_use_recipe(s, forward ? e->fresh : e->old, &l, err);
}

/* On an error nothing has changed. */
static Status apply(Session *s, const Edit *e, bool forward, Error *err)
{
    switch (e->kind) {
    case EDIT_RULES: return apply_rules(s, forward ? &e->after : &e->before, err);
    case EDIT_RECIPE: return apply_recipe(s, e, forward, err);
    case EDIT_TAG: apply_tags(s->assignment, e, forward); break;
    case EDIT_FILTER: return table_set_filter(s->table, forward ? e->to : e->from, err);
    case EDIT_TEXTS: return texts_set(s, forward ? e->to : e->from, err);
    }
    return ST_OK;
}

/* Read-only, by wish or because another process has the session, only what is looked at changes: tags and the filter. */
static Status may_change(const Session *s, EditKind kind, Error *err)
{
    bool looks = kind == EDIT_TAG || kind == EDIT_FILTER;
    if (looks || s->restoring || !s->read_only)
        return ST_OK;
    return error_set(err, ST_USAGE, s->opt.read_only ? "opened with --read-only: nothing is changed"
                                                     : "this session is open in another process: nothing is changed here");
}

Status edit_push(Session *s, Edit e, Error *err)
{
    Assignment *a = s->assignment;
    Status st = may_change(s, e.kind, err);
    if (st == ST_OK)
        st = mem_grow(&a->edits, &a->cap_edits, a->edit_pos + 1, sizeof *a->edits) ? apply(s, &e, true, err)
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

/* One wish about all targets; "tagged" stands for patterns of what is tagged. */
static Status wish(Session *s, RuleList *l, const char *const *targets, int n, int to, Error *err)
{
    char **texts = NULL;
    int ntexts = 0, k = 0;
    while (k < n && strcmp(targets[k], "tagged") != 0)
        k++;
    if (k == n)
        return rules_wish(s, l, targets, n, to, false, err);
    bool *hits = mem_zarray((size_t)s->model->nlinears, 1);
    int64_t count;
    Status st = hits ? ST_OK : error_nomem(err, "the edit");
    for (int i = 0; i < n && st == ST_OK; i++)
        st = session_target(s, targets[i], hits, &count, err);
    if (st == ST_OK) {
        close_groups(s->model, hits);
        st = rules_texts(s, hits, &texts, &ntexts, err);
    }
    if (st == ST_OK)
        st = rules_wish(s, l, (const char *const *)texts, ntexts, to, false, err);
    for (int i = 0; i < ntexts; i++)
        free(texts[i]);
    free(texts);
    free(hits);
    return st;
}

Status session_edit(Session *s, const char *const *targets, int n, int level, bool include, int64_t *changed,
                    Error *err)
{
    RETURN_IF_ERROR(need_model(s, err));
    if (!include && (level < 0 || level >= s->assignment->nlevels))
        return error_set(err, ST_USAGE, "no level %d: the recipe has %d", level, s->assignment->nlevels);
    RuleList l;
    RETURN_IF_ERROR(rules_copy(&s->assignment->rules, 0, &l, err));
    Status st = wish(s, &l, targets, n, include ? WHATIF_QUANTIZE : level, err);
    if (st != ST_OK) {
        rules_fini(&l);
        return st;
    }
    return rules_push(s, &l, false, changed, err);
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

/* What happened to the rows, where no linear has another level. */
static void describe_rows(const RuleList *from, const RuleList *to, Str *what)
{
    for (int i = 0; i < to->n || i < from->n; i++) {
        const RuleRow *a = i < from->n ? &from->row[i] : NULL, *b = i < to->n ? &to->row[i] : NULL;
        if (a && b && strcmp(a->rule->text, b->rule->text) == 0 && a->to == b->to && a->on == b->on)
            continue;
        if (from->n == to->n && strcmp(a->rule->text, b->rule->text) == 0)
            str_printf(what, "rule '%s' is %s again", b->rule->text, b->on ? "on" : "off");
        else if (from->n == to->n)
            str_printf(what, "rule '%s' stands there again", b->rule->text);
        else
            str_printf(what, "rule '%s' is %s", (from->n > to->n ? a : b)->rule->text, from->n > to->n ? "gone" : "back");
        return;
    }
    str_puts(what, "the rules are as before");
}

static void describe_levels(const Session *s, const Edit *e, bool forward, const int16_t *was, Str *what)
{
    int64_t n = 0, first = -1;
    for (int64_t i = 0; i < s->model->nlinears; i++) {
        bool other = was[i] != s->assignment->level[i];
        first = other && first < 0 ? i : first;
        n += other;
    }
    if (e->kind == EDIT_RECIPE) {
        str_printf(what, "recipe %s is open again", recipe_name(s->recipe));
        if (s->assignment->rules.n)
            str_printf(what, " with its %d rule%s", s->assignment->rules.n, s->assignment->rules.n == 1 ? "" : "s");
        return;
    }
    if (first < 0) {
        describe_rows(forward ? &e->before : &e->after, forward ? &e->after : &e->before, what);
        return;
    }
    str_printf(what, "%s is %s again", s->model->linears[first].name,
               session_level_name(s, s->assignment->level[first]));
    if (n > 1)
        str_printf(what, " and %lld more", (long long)n - 1);
}

static void describe_tags(const Session *s, const Edit *e, bool forward, Str *what)
{
    const EditCell *c = &e->cells[0];
    str_printf(what, "%s %s", (forward ? c->to : c->from) ? "tagged" : "untagged", s->model->linears[c->linear].name);
    if (e->n > 1)
        str_printf(what, " and %d more", e->n - 1);
}

/* Applies a step of the undo list and tells in `what` (may be NULL) what that did. */
static Status step(Session *s, const Edit *e, bool forward, Str *what, Error *err)
{
    size_t n = (size_t)s->model->nlinears;
    bool levels = what && (e->kind == EDIT_RULES || e->kind == EDIT_RECIPE);
    int16_t *was = levels ? mem_array(n, sizeof *was) : NULL;
    if (levels && !was)
        return error_nomem(err, "the edit");
    if (levels)
        memcpy(was, s->assignment->level, n * sizeof *was);
    Status st = apply(s, e, forward, err);
    if (st == ST_OK && levels)
        describe_levels(s, e, forward, was, what);
    else if (st == ST_OK && what && e->kind == EDIT_TAG)
        describe_tags(s, e, forward, what);
    else if (st == ST_OK && what && e->kind == EDIT_TEXTS)
        texts_describe(forward ? e->from : e->to, forward ? e->to : e->from, what);
    else if (st == ST_OK && what)
        str_printf(what, "filter '%s'", forward ? e->to : e->from);
    free(was);
    return st;
}

Status session_undo(Session *s, Str *what, Error *err)
{
    Assignment *a = s->assignment;
    if (a->edit_pos == 0)
        return error_set(err, ST_USAGE, "nothing to undo");
    RETURN_IF_ERROR(may_change(s, a->edits[a->edit_pos - 1].kind, err));
    RETURN_IF_ERROR(step(s, &a->edits[a->edit_pos - 1], false, what, err));
    a->edit_pos--;
    entry_text(s, "undo", NULL);
    return ST_OK;
}

Status session_redo(Session *s, Str *what, Error *err)
{
    Assignment *a = s->assignment;
    if (a->edit_pos == a->nedits)
        return error_set(err, ST_USAGE, "nothing to redo");
    RETURN_IF_ERROR(may_change(s, a->edits[a->edit_pos].kind, err));
    RETURN_IF_ERROR(step(s, &a->edits[a->edit_pos], true, what, err));
    a->edit_pos++;
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
