/* The rows of the what-if list as rules over the recipe. */
#include "session/rules.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/parts.h"
#include "session/preset.h"

/* ---- a rule ---- */

static Rule *rule_hold(Rule *r)
{
    r->holders++;
    return r;
}

void rule_free(Rule *r)
{
    if (!r || --r->holders > 0)
        return;
    free(r->text);
    free(r->own);
    free(r->closed);
    free(r);
}

/* The linears of a set into a fresh ascending list. */
static Status list_of(const bool *set, int64_t n, int32_t **out, int64_t *count, Error *err)
{
    *count = 0;
    for (int64_t i = 0; i < n; i++)
        *count += set[i];
    *out = mem_array((size_t)*count, sizeof **out);
    if (!*out)
        return error_nomem(err, "a rule");
    int32_t *at = *out;
    for (int64_t i = 0; i < n; i++)
        if (set[i])
            *at++ = (int32_t)i;
    return ST_OK;
}

static bool selects_group(const Model *m, const FusedGroup *g, const char *text)
{
    Pattern *p;
    int64_t n = 0;
    if (pattern_compile(&p, text, NULL) != ST_OK)
        return false;
    for (int64_t i = 0; i < m->nlinears; i++) {
        bool in = &m->groups[m->linears[i].group] == g;
        if (pattern_match(p, m->linears[i].name) != in) {
            n = -1;
            break;
        }
    }
    pattern_free(p);
    return n == 0;
}

/* What all members' names begin with, and end with behind that. */
static void shared_ends(const Model *m, const FusedGroup *g, size_t *head, size_t *tail)
{
    const char *first = m->linears[g->first].name;
    *head = strlen(first);
    for (int32_t i = 0; i < g->count; i++) {
        const char *name = m->linears[group_linear(g, i)].name;
        size_t k = 0;
        while (k < *head && name[k] == first[k])
            k++;
        *head = k;
    }
    *tail = strlen(first) - *head;
    for (int32_t i = 0; i < g->count; i++) {
        const char *name = m->linears[group_linear(g, i)].name;
        size_t len = strlen(name), most = len - *head, k = 0;
        while (k < *tail && k < most && name[len - 1 - k] == first[strlen(first) - 1 - k])
            k++;
        *tail = k;
    }
}

/* "model.layers.3.self_attn.{q,k,v}_proj", or the common beginning with a star: a text for exactly the group. */
static Status group_text(const Session *s, const FusedGroup *g, Str *out, Error *err)
{
    enum { LISTED = 8 };
    const Model *m = s->model;
    const char *first = m->linears[g->first].name;
    size_t head, tail;
    shared_ends(m, g, &head, &tail);
    str_append(out, first, head);
    str_puts(out, g->count <= LISTED ? "{" : "*");
    for (int32_t i = 0; g->count <= LISTED && i < g->count; i++) {
        const char *name = m->linears[group_linear(g, i)].name;
        str_puts(out, i ? "," : "");
        str_append(out, name + head, strlen(name) - head - tail);
    }
    str_puts(out, g->count <= LISTED ? "}" : "");
    str_puts(out, g->count <= LISTED ? first + strlen(first) - tail : "");
    if (out->oom)
        return error_nomem(err, "a rule");
    if (selects_group(m, g, out->s))
        return ST_OK;
    bool *want = mem_zarray((size_t)m->nlinears, 1);
    char **list = NULL;
    int n = 0;
    for (int32_t i = 0; want && i < g->count; i++)
        want[group_linear(g, i)] = true;
    Status st = want ? rules_texts(s, want, &list, &n, err) : error_nomem(err, "a rule");
    str_clear(out);
    if (st == ST_OK) /* several texts: the first stands for the group, which goes along whole */
        str_puts(out, list[0]);
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
    free(want);
    return st == ST_OK && out->oom ? error_nomem(err, "a rule") : st;
}

Status rules_texts(const Session *s, const bool *want, char ***out, int *n, Error *err)
{
    return pattern_cover(s->model, want, out, n, err);
}

static const FusedGroup *group_of(const Session *s, const char *name)
{
    int64_t i = map_get(&s->by_name, name, strlen(name), -1);
    const FusedGroup *g = i >= 0 ? &s->model->groups[s->model->linears[i].group] : NULL;
    return g && g->count > 1 ? g : NULL;
}

static Status resolve(const Session *s, Rule *r, bool *hits, Error *err)
{
    int64_t n = s->model->nlinears, count;
    RETURN_IF_ERROR(session_target(s, r->text, hits, &count, err));
    RETURN_IF_ERROR(list_of(hits, n, &r->own, &r->nown, err));
    close_groups(s->model, hits);
    return list_of(hits, n, &r->closed, &r->nclosed, err);
}

Status rule_new(const Session *s, const char *text, Rule **out, Error *err)
{
    const FusedGroup *g = group_of(s, text);
    Str name = {0};
    *out = NULL;
    Status st = ST_OK;
    if (g)
        st = group_text(s, g, &name, err);
    else
        st = preset_text(s, text, &name, err);
    Rule *r = st == ST_OK ? mem_zarray(1, sizeof *r) : NULL;
    bool *hits = mem_zarray((size_t)s->model->nlinears, 1);
    if (r) {
        r->holders = 1;
        r->text = str_detach(&name);
    }
    if (st == ST_OK)
        st = r && r->text && hits ? resolve(s, r, hits, err) : error_nomem(err, "a rule");
    free(hits);
    str_free(&name);
    if (st != ST_OK) {
        rule_free(r);
        return st;
    }
    *out = r;
    return ST_OK;
}

/* ---- lists ---- */

Status rules_copy(const RuleList *from, int more, RuleList *to, Error *err)
{
    *to = (RuleList){.row = mem_zarray((size_t)(from->n + more) + 1, sizeof *to->row)};
    if (!to->row)
        return error_nomem(err, "the what-if list");
    for (; to->n < from->n; to->n++) {
        to->row[to->n] = from->row[to->n];
        rule_hold(to->row[to->n].rule);
    }
    return ST_OK;
}

void rules_fini(RuleList *l)
{
    for (int i = 0; i < l->n; i++)
        rule_free(l->row[i].rule);
    free(l->row);
    *l = (RuleList){0};
}

static bool rules_same(const RuleList *a, const RuleList *b)
{
    bool same = a->n == b->n;
    for (int i = 0; same && i < a->n; i++)
        same = strcmp(a->row[i].rule->text, b->row[i].rule->text) == 0 && a->row[i].to == b->row[i].to &&
               a->row[i].on == b->row[i].on && a->row[i].fitted == b->row[i].fitted;
    return same;
}

static int find_text(const RuleList *l, const char *text)
{
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->row[i].rule->text, text) == 0)
            return i;
    return -1;
}

int rules_find(const Session *s, const RuleList *l, const char *text)
{
    int at = find_text(l, text);
    const FusedGroup *g = at < 0 ? group_of(s, text) : NULL;
    for (int i = 0; g && at < 0 && i < l->n; i++) {
        const Rule *r = l->row[i].rule;
        if (r->nclosed == g->count && r->closed[0] == g->first)
            at = i;
    }
    return at;
}

/* The row leaves the list; its rule is the caller's. */
static RuleRow take_row(RuleList *l, int i)
{
    RuleRow row = l->row[i];
    memmove(&l->row[i], &l->row[i + 1], (size_t)(l->n - i - 1) * sizeof *l->row);
    l->row[--l->n] = (RuleRow){0};
    return row;
}

void rules_drop(RuleList *l, int i)
{
    rule_free(take_row(l, i).rule);
}

int16_t rule_level(int16_t to, int16_t now, int16_t home)
{
    return to != WHATIF_QUANTIZE ? to : now ? now : home;
}

void rules_levels(const Session *s, const RuleList *l, int16_t *level)
{
    const Assignment *a = s->assignment;
    memcpy(level, a->opened, (size_t)s->model->nlinears * sizeof *level);
    for (int k = 0; k < l->n; k++) {
        const RuleRow *row = &l->row[k];
        for (int64_t j = 0; row->on && j < row->rule->nclosed; j++) {
            int32_t i = row->rule->closed[j];
            level[i] = rule_level(row->to, level[i], a->home[i]);
        }
    }
}

/* ---- wishes ---- */

typedef struct Wish {
    Session *s;
    RuleList *list;
    Rule *const *rule;
    int n, to;
    bool fitted;
    bool *closed;    /* [nlinears] what all of the rules take */
    int16_t *level;  /* [nlinears] scratch */
} Wish;

static bool one_of(const Wish *w, const char *text)
{
    for (int k = 0; k < w->n; k++)
        if (strcmp(w->rule[k]->text, text) == 0)
            return true;
    return false;
}

/* Whether a row says something else than the wish. Whoever sends to float lifts the exceptions, whoever quantizes the
 * rows that send to float, whoever names a level all of them. */
static bool contradicts(const Wish *w, const RuleRow *row)
{
    if (row->to == w->to)
        return false;
    if (one_of(w, row->rule->text)) /* a text has one row */
        return true;
    bool says = w->to > 0 || row->to == (w->to == 0 ? WHATIF_QUANTIZE : 0);
    for (int64_t j = 0; row->on && says && j < row->rule->nclosed; j++)
        if (!w->closed[row->rule->closed[j]])
            return false;
    return row->on && says;
}

static bool reached(const Wish *w, const Rule *r)
{
    rules_levels(w->s, w->list, w->level);
    for (int64_t j = 0; j < r->nclosed; j++) {
        int32_t i = r->closed[j];
        if (rule_level((int16_t)w->to, w->level[i], w->s->assignment->home[i]) != w->level[i])
            return false;
    }
    return true;
}

static void grant(const Wish *w)
{
    RuleList *l = w->list;
    for (int i = 0; i < l->n;)
        if (contradicts(w, &l->row[i]))
            rules_drop(l, i);
        else
            i++;
    for (int k = 0; k < w->n; k++) {
        int at = find_text(l, w->rule[k]->text);
        if (at >= 0) {
            l->row[at].on = true;
            l->row[at].fitted = l->row[at].fitted && w->fitted;
        }
        if (reached(w, w->rule[k]) && (at >= 0 || w->to != 0)) /* a row that sends to float stands also where it takes
                                                                  nothing new: it holds what others let go */
            continue;
        if (at >= 0)
            rules_drop(l, at);
        l->row[l->n++] = (RuleRow){rule_hold(w->rule[k]), (int16_t)w->to, true, w->fitted};
    }
}

static Status wish_for(Session *s, RuleList *l, Rule *const *rule, int n, int to, bool fitted, Error *err)
{
    size_t linears = (size_t)s->model->nlinears;
    Wish w = {s, l, rule, n, to, fitted, mem_zarray(linears, 1), mem_array(linears, sizeof *w.level)};
    Status st = w.closed && w.level ? ST_OK : error_nomem(err, "the edit");
    RuleRow *more = st == ST_OK ? realloc(l->row, (size_t)(l->n + n + 1) * sizeof *more) : NULL;
    if (st == ST_OK && !more)
        st = error_nomem(err, "the edit");
    if (more)
        l->row = more;
    for (int k = 0; st == ST_OK && k < n; k++)
        for (int64_t j = 0; j < rule[k]->nclosed; j++)
            w.closed[rule[k]->closed[j]] = true;
    if (st == ST_OK)
        grant(&w);
    free(w.closed);
    free(w.level);
    return st;
}

Status rules_wish(Session *s, RuleList *l, const char *const *targets, int n, int to, bool fitted, Error *err)
{
    Rule **rule = mem_zarray((size_t)n + 1, sizeof *rule);
    if (!rule)
        return error_nomem(err, "the edit");
    Status st = ST_OK;
    int made = 0;
    for (; made < n && st == ST_OK; made += st == ST_OK)
        st = rule_new(s, targets[made], &rule[made], err);
    if (st == ST_OK)
        st = wish_for(s, l, rule, n, to, fitted, err);
    for (int i = 0; i < made; i++)
        rule_free(rule[i]);
    free(rule);
    return st;
}

Status rules_push(Session *s, RuleList *l, bool always, int64_t *changed, Error *err)
{
    Assignment *a = s->assignment;
    size_t n = (size_t)s->model->nlinears;
    if (changed)
        *changed = 0;
    if (!always && rules_same(l, &a->rules)) {
        rules_fini(l);
        return ST_OK;
    }
    Edit e = {.kind = EDIT_RULES, .after = *l};
    int16_t *was = mem_array(n, sizeof *was);
    *l = (RuleList){0};
    Status st = was ? rules_copy(&a->rules, 0, &e.before, err) : error_nomem(err, "the edit");
    if (st != ST_OK) {
        edit_fini(&e);
        free(was);
        return st;
    }
    memcpy(was, a->level, n * sizeof *was);
    st = edit_push(s, e, err);
    for (size_t i = 0; changed && i < n; i++)
        *changed += was[i] != a->level[i];
    free(was);
    return st;
}

Status rules_amend(Session *s, const RuleList *l, Error *err)
{
    Assignment *a = s->assignment;
    RuleList now, after;
    RETURN_IF_ERROR(rules_copy(l, 0, &now, err));
    Status st = rules_copy(l, 0, &after, err);
    if (st != ST_OK) {
        rules_fini(&now);
        return st;
    }
    rules_fini(&a->rules);
    a->rules = now;
    rules_fini(&a->edits[a->edit_pos - 1].after);
    a->edits[a->edit_pos - 1].after = after;
    a->version++;
    return ST_OK;
}

/* ---- rows, by their texts ---- */

static Status no_row(const Session *s, const char *text, Error *err)
{
    const RuleList *l = &s->assignment->rules;
    Str all = {0};
    if (l->n == 0)
        return error_set(err, ST_DATA, "there is no rule '%s': nothing is decided yet, 'exclude %s' would", text, text);
    for (int i = 0; i < l->n; i++)
        str_printf(&all, "%s'%s'", i ? ", " : "", l->row[i].rule->text);
    error_set(err, ST_DATA, "there is no rule '%s': there are %s", text, str_text(&all));
    str_free(&all);
    return ST_DATA;
}

/* The present list once more, and the row of a text in it. */
static Status begin(Session *s, const char *text, RuleList *l, int *at, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    *at = rules_find(s, &s->assignment->rules, text);
    if (*at < 0)
        return no_row(s, text, err);
    return rules_copy(&s->assignment->rules, 1, l, err);
}

Status session_rule_switch(Session *s, const char *rule, bool on, int64_t *changed, Error *err)
{
    RuleList l;
    int at;
    RETURN_IF_ERROR(begin(s, rule, &l, &at, err));
    l.row[at].on = on;
    l.row[at].fitted = false;
    return rules_push(s, &l, false, changed, err);
}

Status session_rule_delete(Session *s, const char *rule, int64_t *changed, Error *err)
{
    RuleList l;
    int at;
    RETURN_IF_ERROR(begin(s, rule, &l, &at, err));
    rules_drop(&l, at);
    return rules_push(s, &l, false, changed, err);
}

Status session_rule_edit(Session *s, const char *rule, const char *text, int64_t *changed, Error *err)
{
    RuleList l;
    Rule *fresh;
    int at;
    RETURN_IF_ERROR(begin(s, rule, &l, &at, err));
    Status st = rule_new(s, text, &fresh, err);
    int other = st == ST_OK ? find_text(&l, fresh->text) : -1;
    if (other >= 0 && other != at) {
        st = error_set(err, ST_USAGE, "'%s' is row %d already: delete or switch one of them", fresh->text, other + 1);
        rule_free(fresh);
    }
    if (st != ST_OK) {
        rules_fini(&l);
        return st;
    }
    rule_free(l.row[at].rule);
    l.row[at].rule = fresh;
    l.row[at].fitted = false;
    return rules_push(s, &l, false, changed, err);
}

Status session_rule_move(Session *s, const char *rule, int by, int64_t *changed, Error *err)
{
    RuleList l;
    int at;
    RETURN_IF_ERROR(begin(s, rule, &l, &at, err));
    int to = at + by < 0 ? 0 : at + by >= l.n ? l.n - 1 : at + by;
    RuleRow row = take_row(&l, at);
    memmove(&l.row[to + 1], &l.row[to], (size_t)(l.n - to) * sizeof *l.row);
    l.row[to] = row;
    l.n++;
    return rules_push(s, &l, false, changed, err);
}
