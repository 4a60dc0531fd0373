/* The table as a person looks at it: shown metric, sort, filter, order, ranks, cursor. */
#include "session/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "session/assignment.h"
#include "session/fold.h"
#include "session/parts.h"
#include "session/results.h"

static const char *const sort_names[SORT_KEYS] = {
    [SORT_SCORE] = "score", [SORT_NAME] = "name", [SORT_MODEL] = "model", [SORT_SIZE] = "size", [SORT_LEVEL] = "level",
};

const char *sort_key_name(SortKey k)
{
    return (int)k >= 0 && k < SORT_KEYS ? sort_names[k] : "?";
}

int sort_key_find(const char *name)
{
    for (int i = 0; i < SORT_KEYS; i++)
        if (strcmp(sort_names[i], name) == 0)
            return i;
    return -1;
}

/* ---- memory ---- */

void table_init(Table *t)
{
    t->metric = metric_table[0];
    t->cursor = -1;
}

void table_fini(Table *t)
{
    table_close(t);
    free(t->filter);
    t->filter = NULL;
}

Status table_open(Table *t, const Model *m, Error *err)
{
    t->order = mem_zarray((size_t)m->nlinears, sizeof *t->order);
    if (!t->order)
        return error_nomem(err, "the layer table");
    return folds_open(&t->folds, m, err);
}

void table_close(Table *t)
{
    folds_close(&t->folds);
    free(t->order);
    ranks_free(&t->ranks);
    ranks_free(&t->second_ranks);
    t->order = NULL;
    t->order_valid = t->advice_known = false;
    t->cursor = -1;
}

Status table_set_filter(Table *t, const char *text, Error *err)
{
    char *copy = strdup(text);
    if (!copy)
        return error_nomem(err, "the filter");
    free(t->filter);
    t->filter = copy;
    t->order_valid = false;
    return ST_OK;
}

void table_scores_changed(Table *t)
{
    t->order_stale = true;
    t->ranks.valid = t->second_ranks.valid = false;
}

void table_levels_changed(Table *t)
{
    t->order_stale |= t->sort == SORT_LEVEL || t->sort == SORT_SIZE; /* what float costs depends on the level */
}

void table_scores_asked(Table *t)
{
    t->ranks.valid = t->second_ranks.valid = false;
}

/* ---- settings of the view ---- */

const Metric *session_metric(const Session *s)
{
    return s->table->metric;
}

void metric_names(const Session *s, Str *out)
{
    const Metric *const *m = session_metrics(s);
    for (int i = 0; m[i]; i++)
        str_printf(out, "%s%s", i ? ", " : "", m[i]->name);
}

Status session_show(Session *s, const char *metric, Error *err)
{
    Table *t = s->table;
    const Metric *m = session_metric_find(s, metric);
    if (!m) {
        Str names = {0};
        metric_names(s, &names);
        error_set(err, ST_USAGE, "no metric '%s' in this build: there are %s", metric, str_text(&names));
        str_free(&names);
        return ST_USAGE;
    }
    t->metric = m;
    t->order_valid = false;
    return ST_OK;
}

Status session_sort(Session *s, SortKey k, bool ascending, Error *err)
{
    Table *t = s->table;
    if ((int)k < 0 || k >= SORT_KEYS)
        return error_set(err, ST_USAGE, "no such sort key");
    t->sort = k;
    t->ascending = ascending;
    t->order_valid = false;
    return ST_OK;
}

SortKey session_sort_key(const Session *s, bool *ascending)
{
    const Table *t = s->table;
    if (ascending)
        *ascending = t->ascending;
    return t->sort;
}

int64_t session_cursor(const Session *s)
{
    const Table *t = s->table;
    return t->cursor;
}

void session_set_cursor(Session *s, int64_t linear)
{
    s->table->cursor = s->model && linear >= 0 && linear < s->model->nlinears ? linear : -1;
}

/* ---- filter ---- */

typedef struct Term {
    bool negate;
    enum {
        TERM_WORD,
        TERM_KIND,
        TERM_LAYER,
        TERM_SCORE_ABOVE,
        TERM_SCORE_BELOW,
        TERM_FLOAT,
        TERM_FAILED,
        TERM_TAGGED
    } kind;
    char text[128];
    long lo, hi;
    double value;
} Term;

enum { MAX_TERMS = 32 };

static Status parse_term(const char *word, Term *t, Error *err)
{
    *t = (Term){0};
    if (word[0] == '!' && word[1]) {
        t->negate = true;
        word++;
    }
    snprintf(t->text, sizeof t->text, "%s", word);
    char *end;
    if (strcmp(word, "float") == 0)
        t->kind = TERM_FLOAT;
    else if (strcmp(word, "failed") == 0)
        t->kind = TERM_FAILED;
    else if (strcmp(word, "tagged") == 0)
        t->kind = TERM_TAGGED;
    else if (strncmp(word, "kind=", 5) == 0) {
        t->kind = TERM_KIND;
        snprintf(t->text, sizeof t->text, "%s", word + 5);
    } else if (strncmp(word, "layer=", 6) == 0) {
        t->kind = TERM_LAYER;
        t->lo = t->hi = strtol(word + 6, &end, 10);
        if (end == word + 6)
            return error_set(err, ST_USAGE, "'%s': layer= takes N or A..B", word);
        if (strncmp(end, "..", 2) == 0) {
            const char *from = end + 2;
            t->hi = strtol(from, &end, 10);
            if (end == from)
                return error_set(err, ST_USAGE, "'%s': layer= takes N or A..B", word);
        }
        if (*end)
            return error_set(err, ST_USAGE, "'%s': layer= takes N or A..B", word);
    } else if (strncmp(word, "score>", 6) == 0 || strncmp(word, "score<", 6) == 0) {
        t->kind = word[5] == '>' ? TERM_SCORE_ABOVE : TERM_SCORE_BELOW;
        t->value = strtod(word + 6, &end);
        if (end == word + 6 || *end)
            return error_set(err, ST_USAGE, "'%s': score> and score< take a number", word);
    } else if (strpbrk(word, "<>"))
        return error_set(err, ST_USAGE, "'%s': only scores are compared, as score>10 or score<0.5", word);
    else if (strchr(word, '='))
        return error_set(err, ST_USAGE,
                         "'%s': a filter has words, kind=, layer=A..B, score>X, float, failed, tagged, !word", word);
    return ST_OK;
}

static Status parse_filter(const char *expr, Term *terms, int *n, Error *err)
{
    *n = 0;
    while (expr && *expr) {
        while (ascii_is_space(*expr))
            expr++;
        size_t len = strcspn(expr, " \t");
        if (!len)
            break;
        char word[128];
        if (len >= sizeof word || *n == MAX_TERMS)
            return error_set(err, ST_USAGE, "the filter is too long: at most %d words of 127 bytes", MAX_TERMS);
        memcpy(word, expr, len);
        word[len] = 0;
        RETURN_IF_ERROR(parse_term(word, &terms[(*n)++], err));
        expr += len;
    }
    return ST_OK;
}

static bool holds(const Session *s, const Term *t, int64_t i)
{
    const Linear *l = &s->model->linears[i];
    switch (t->kind) {
    case TERM_WORD: return strstr(l->name, t->text) != NULL;
    case TERM_KIND: return strcmp(linear_kind_name(l->kind), t->text) == 0;
    case TERM_LAYER: return l->layer >= t->lo && l->layer <= t->hi;
    case TERM_FLOAT: return s->assignment->level[i] == 0;
    case TERM_TAGGED: return s->assignment->tagged[i];
    case TERM_FAILED: return session_score(s, s->table->metric, i).state == SCORE_FAILED;
    case TERM_SCORE_ABOVE: return session_score(s, s->table->metric, i).value > t->value;
    case TERM_SCORE_BELOW: return session_score(s, s->table->metric, i).value < t->value;
    }
    return false;
}

Status session_filter(Session *s, const char *expr, Error *err)
{
    Term terms[MAX_TERMS];
    int n;
    RETURN_IF_ERROR(parse_filter(expr, terms, &n, err));
    const char *now = s->table->filter ? s->table->filter : "";
    if (strcmp(now, expr) == 0)
        return ST_OK;
    Edit e = {.kind = EDIT_FILTER, .from = strdup(now), .to = strdup(expr)};
    if (!e.from || !e.to) {
        edit_fini(&e);
        return error_nomem(err, "the filter");
    }
    return edit_push(s, e, err);
}

Status session_filter_try(Session *s, const char *expr, Error *err)
{
    Term terms[MAX_TERMS];
    int n;
    RETURN_IF_ERROR(parse_filter(expr, terms, &n, err));
    return table_set_filter(s->table, expr, err);
}

const char *session_filter_text(const Session *s)
{
    return s->table->filter ? s->table->filter : "";
}

/* ---- order ---- */

typedef struct Key {
    int64_t linear;
    int tier;      /* 0 failed, 1 scored, 2 not measured */
    double value;  /* ascending within a tier */
    const char *name;
} Key;

static int compare_keys(const void *pa, const void *pb)
{
    const Key *a = pa, *b = pb;
    if (a->tier != b->tier)
        return a->tier - b->tier;
    if (a->name) {
        int c = strcmp(a->name, b->name);
        if (c)
            return c;
    }
    if (a->value != b->value)
        return a->value < b->value ? -1 : 1;
    return a->linear < b->linear ? -1 : a->linear > b->linear;
}

static Key make_key(const Session *s, int64_t i)
{
    const Table *t = s->table;
    Key k = {.linear = i};
    switch (t->sort) {
    case SORT_SCORE: {
        Score sc = session_score(s, t->metric, i);
        k.tier = sc.state == SCORE_FAILED ? 0 : sc.state == SCORE_OK || sc.state == SCORE_STALE ? 1 : 2;
        k.value = k.tier == 1 ? -sc.value * t->metric->direction : 0;
        break;
    }
    case SORT_NAME: k.name = s->model->linears[i].name; break;
    case SORT_MODEL: k.value = (double)i; break;
    case SORT_SIZE: k.value = -session_linear_cost(s, i); break;
    case SORT_LEVEL: k.value = s->assignment->level[i]; break;
    case SORT_KEYS: break;
    }
    return k;
}

static bool passes(const Session *s, const Term *terms, int n, int64_t i)
{
    for (int k = 0; k < n; k++)
        if (holds(s, &terms[k], i) == terms[k].negate)
            return false;
    return true;
}

static void sort_order(Session *s)
{
    Table *t = s->table;
    int64_t total = s->model->nlinears;
    Key *keys = mem_array((size_t)total, sizeof *keys);
    Term terms[MAX_TERMS];
    int nterms = 0;
    parse_filter(t->filter, terms, &nterms, NULL);
    int64_t n = 0;
    for (int64_t i = 0; i < total; i++)
        if (passes(s, terms, nterms, i)) {
            if (keys)
                keys[n] = make_key(s, i);
            t->order[n++] = i; /* memory short: model order is still an order */
        }
    int64_t failed = 0, last = n;
    if (keys) {
        qsort(keys, (size_t)n, sizeof *keys, compare_keys);
        while (t->sort == SORT_SCORE && failed < n && keys[failed].tier == 0)
            failed++;
        /* how make_key orders it */
        bool up = t->sort == SORT_NAME || t->sort == SORT_MODEL || t->sort == SORT_LEVEL;
        while (t->sort == SORT_SCORE && last > failed && keys[last - 1].tier == 2)
            last--;
        for (int64_t i = 0; i < n; i++) {
            bool inner = t->ascending != up && i >= failed && i < last;
            t->order[i] = keys[inner ? failed + last - 1 - i : i].linear;
        }
        free(keys);
    }
    t->norder = n;
    t->order_failed = failed;
    t->order_scored = last;
    t->order_made++;
    t->order_valid = true;
    t->order_stale = false;
}

void table_put_in_order(Session *s, bool resort)
{
    const Table *t = s->table;
    if (!t->order_valid || (resort && t->order_stale))
        sort_order(s);
}

const int64_t *session_order(Session *s, int64_t *n, bool resort)
{
    *n = 0;
    if (!s->model)
        return NULL;
    table_put_in_order(s, resort);
    *n = s->table->norder;
    return s->table->order;
}

bool session_order_stale(const Session *s)
{
    const Table *t = s->table;
    return t->order_valid && t->order_stale;
}
