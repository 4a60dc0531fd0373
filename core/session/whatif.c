/* Figures of the what-if list and of a pattern that is being typed. */
#include "session/whatif.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/parts.h"
#include "session/preset.h"
#include "session/results.h"

void whatif_clear(WhatIfs *w)
{
    free(w->view);
    outlook_clear(&w->outlook);
    engine_says_clear(&w->engine);
    kept_sets_clear(&w->sets);
    interactions_clear(&w->interactions);
    group_table_free(&w->groups);
    *w = (WhatIfs){0};
}

/* What a list of linears, of whole groups, changes from one level each to another: bytes, and the sum of v that is gained;
 * how many linears change. */
typedef struct Change {
    const int32_t *linear; /* [n] ascending */
    int64_t n;
    int16_t *from, *to;    /* [nlinears] filled for those of the list */
    int64_t bytes, changed;
    double gained, bits;
} Change;

static void add_up(const Session *s, Change *c)
{
    const GroupTable *t = &s->whatifs->groups;
    SizeMemo memo = {0};
    c->bytes = c->changed = 0;
    c->gained = c->bits = 0;
    for (int64_t j = 0; j < c->n; j++) {
        int32_t i = c->linear[j];
        int64_t g = s->model->linears[i].group;
        if (c->from[i] != c->to[i]) {
            c->changed++;
            c->bytes += (int64_t)recipe_memo_bytes(&memo, s->recipe, s->model, i, c->to[i], s->opt.peer) -
                        (int64_t)recipe_memo_bytes(&memo, s->recipe, s->model, i, c->from[i], s->opt.peer);
            c->bits += recipe_linear_bits(s->recipe, s->model, i, c->to[i]) -
                       recipe_linear_bits(s->recipe, s->model, i, c->from[i]);
        }
        if (group_linear(&s->model->groups[g], 0) == i)
            c->gained += group_v(s, t, g, c->from) - group_v(s, t, g, c->to);
    }
}

static double share_of(double gained, double all)
{
    return all > 0 ? gained / all : NAN;
}

/* What a rule does by itself: to the recipe's levels, or back to them. scratch: [2][nlinears]. */
static void own_figures(const Session *s, const Rule *r, int16_t to, int16_t *scratch, WhatIf *w)
{
    const int16_t *home = s->assignment->home;
    Change c = {r->closed, r->nclosed, scratch, scratch + s->model->nlinears, 0, 0, 0, 0};
    for (int64_t k = 0; k < r->nclosed; k++) {
        int32_t i = r->closed[k];
        c.from[i] = to == WHATIF_QUANTIZE ? 0 : home[i];
        c.to[i] = rule_level(to, c.from[i], home[i]);
    }
    add_up(s, &c);
    w->pattern = r->text;
    w->to = to;
    w->hits = r->nclosed;
    w->joined = r->nclosed - r->nown;
    w->bytes = c.bytes;
    w->share = share_of(c.gained, s->whatifs->v_all);
}

/* What it changes of these levels. */
static void fresh_figures(const Session *s, const Rule *r, int16_t to, int16_t *level, int16_t *scratch, WhatIf *w)
{
    Change c = {r->closed, r->nclosed, level, scratch, 0, 0, 0, 0};
    for (int64_t k = 0; k < r->nclosed; k++) {
        int32_t i = r->closed[k];
        c.to[i] = rule_level(to, level[i], s->assignment->home[i]);
    }
    add_up(s, &c);
    w->fresh = c.changed;
    w->fresh_bytes = c.bytes;
    w->fresh_bits = s->whatifs->groups.weights > 0 ? c.bits / s->whatifs->groups.weights : 0;
    w->fresh_share = share_of(c.gained, s->whatifs->v_all);
}

/* What is odd about a row whose figures are known. */
static Status put_note(const Session *s, Rule *r, WhatIf *w, Error *err)
{
    char part[3][200] = {"", "", ""};
    if (!r->linted)
        RETURN_IF_ERROR(pattern_lint(r->text, s->model, NULL, &r->lint, err));
    r->linted = true;
    if (!w->fresh)
        snprintf(part[0], sizeof part[0], "nothing new: %s",
                 w->on ? "the rows before it or the recipe do it already" : "what is on does it already");
    if (w->joined)
        snprintf(part[1], sizeof part[1], "%lld more go along: fused groups stay whole", (long long)w->joined);
    if (r->lint.kind == LINT_BROAD)
        snprintf(part[2], sizeof part[2], "%s", r->lint.text);
    w->note[0] = '\0';
    for (int k = 0; k < 3; k++) {
        size_t n = strlen(w->note);
        if (part[k][0])
            snprintf(w->note + n, sizeof w->note - n, "%s%s", n ? "; " : "", part[k]);
    }
    return ST_OK;
}

/* What a row that is off would give if it were on, where it stands. */
static void figures_if_on(const Session *s, RuleList *l, int at, int16_t *level, WhatIf *w)
{
    const Rule *r = l->row[at].rule;
    Change c = {r->closed, r->nclosed, s->assignment->level, level, 0, 0, 0, 0};
    l->row[at].on = true;
    rules_levels(s, l, level);
    l->row[at].on = false;
    add_up(s, &c);
    w->fresh = c.changed;
    w->fresh_bytes = c.bytes;
    w->fresh_bits = s->whatifs->groups.weights > 0 ? c.bits / s->whatifs->groups.weights : 0;
    w->fresh_share = share_of(c.gained, s->whatifs->v_all);
}

/* level: [3][nlinears]: what the rows before give, and scratch. */
static Status make_views(Session *s, WhatIfs *w, int16_t *level, Error *err)
{
    RuleList *l = &s->assignment->rules;
    int16_t *scratch = level + s->model->nlinears;
    memcpy(level, s->assignment->opened, (size_t)s->model->nlinears * sizeof *level);
    for (int k = 0; k < l->n; k++) {
        RuleRow *row = &l->row[k];
        WhatIf *v = &w->view[k];
        *v = (WhatIf){.on = row->on};
        own_figures(s, row->rule, row->to, scratch, v);
        if (row->on)
            fresh_figures(s, row->rule, row->to, level, scratch, v);
        else
            figures_if_on(s, l, k, scratch, v);
        RETURN_IF_ERROR(put_note(s, row->rule, v, err));
        for (int64_t j = 0; row->on && j < row->rule->nclosed; j++) {
            int32_t i = row->rule->closed[j];
            level[i] = rule_level(row->to, level[i], s->assignment->home[i]);
        }
    }
    w->n = l->n;
    return ST_OK;
}

/* v of all groups at their home levels. */
static Status sum_home(Session *s, WhatIfs *w, Error *err)
{
    const GroupTable *t;
    RETURN_IF_ERROR(group_table(s, &t, err));
    w->v_all = 0;
    for (int64_t g = 0; g < t->n; g++)
        w->v_all += group_v(s, t, g, s->assignment->home);
    return ST_OK;
}

/* One run over the list serves every row until an edit or a result comes. */
static Status look(Session *s, Error *err)
{
    WhatIfs *w = s->whatifs;
    const Assignment *a = s->assignment;
    if (w->known && w->version == a->version && w->results == s->results->version)
        return ST_OK;
    free(w->view);
    w->view = mem_zarray((size_t)a->rules.n + 1, sizeof *w->view);
    w->n = 0;
    int16_t *level = mem_array(3 * (size_t)s->model->nlinears, sizeof *level);
    Status st = w->view && level ? sum_home(s, w, err) : error_nomem(err, "the what-if list");
    if (st == ST_OK)
        st = make_views(s, w, level, err);
    w->version = a->version;
    w->results = s->results->version;
    w->known = st == ST_OK;
    free(level);
    return st;
}

int session_whatifs(Session *s)
{
    return s->assignment->rules.n;
}

Status session_whatif_list(Session *s, const WhatIf **rows, int *n, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    RETURN_IF_ERROR(look(s, err));
    *rows = s->whatifs->view;
    *n = s->whatifs->n;
    return ST_OK;
}

const WhatIf *session_whatif(Session *s, int i)
{
    static const WhatIf unknown = {.pattern = "", .share = NAN, .fresh_share = NAN};
    Status st = look(s, NULL);
    return st == ST_OK ? &s->whatifs->view[i] : &unknown;
}

/* level[nlinears] without the row that is to get another pattern; *to: what that row gives. */
static Status levels_without(const Session *s, const char *instead, int16_t *level, int16_t *to, Error *err)
{
    RuleList l;
    int at = instead ? rules_find(s, &s->assignment->rules, instead) : -1;
    RETURN_IF_ERROR(rules_copy(&s->assignment->rules, 0, &l, err));
    if (at >= 0) {
        l.row[at].on = false;
        *to = l.row[at].to;
    }
    rules_levels(s, &l, level);
    rules_fini(&l);
    return ST_OK;
}

static Status preview_figures(Session *s, Rule *r, const char *instead, WhatIf *out, Error *err)
{
    size_t n = (size_t)s->model->nlinears;
    int16_t *level = mem_array(3 * n, sizeof *level), to = 0;
    Status st = level ? look(s, err) : error_nomem(err, "the what-if list");
    if (st == ST_OK)
        st = levels_without(s, instead, level, &to, err);
    if (st == ST_OK) {
        own_figures(s, r, to, level + n, out);
        fresh_figures(s, r, to, level, level + n, out);
        st = put_note(s, r, out, err);
    }
    free(level);
    return st;
}

/* session_preview of what a preset means. */
static Status preview_pattern(Session *s, const char *pattern, const char *instead, WhatIf *out, Error *err)
{
    Pattern *p;
    Lint lint;
    Rule *r;
    RETURN_IF_ERROR(pattern_compile(&p, pattern, err));
    pattern_free(p);
    RETURN_IF_ERROR(pattern_lint(pattern, s->model, NULL, &lint, err));
    snprintf(out->note, sizeof out->note, "%s", lint.text);
    if (lint.kind == LINT_NO_MATCH)
        return ST_OK;
    RETURN_IF_ERROR(rule_new(s, pattern, &r, err));
    r->lint = lint;
    r->linted = true;
    Status st = preview_figures(s, r, instead, out, err);
    out->pattern = pattern;
    rule_free(r);
    return st;
}

Status session_preview(Session *s, const char *pattern, const char *instead, WhatIf *out, Error *err)
{
    Str text = {0};
    *out = (WhatIf){.pattern = pattern, .on = true, .share = NAN, .fresh_share = NAN};
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    Status st = preset_text(s, pattern, &text, err);
    if (st == ST_OK)
        st = preview_pattern(s, str_text(&text), instead, out, err);
    out->pattern = pattern;
    str_free(&text);
    return st;
}
