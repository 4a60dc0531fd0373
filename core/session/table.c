/* The table as a person looks at it: shown metric, sort, filter, order, ranks, cursor. */
#include "session/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "session/assignment.h"
#include "session/filter.h"
#include "session/fold.h"
#include "session/parts.h"
#include "session/results.h"

static const char *const sort_names[SORT_KEYS] = {
    [SORT_SCORE] = "score", [SORT_NAME] = "name", [SORT_MODEL] = "model", [SORT_SIZE] = "size", [SORT_LEVEL] = "level",
    [SORT_SECOND] = "second",
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
    saved_filters_free(&t->saved);
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

/* The metric by whose scores rows are ordered, NULL: by something else. Without a second one the shown one takes its place. */
static const Metric *sort_metric(const Table *t)
{
    return t->sort == SORT_SECOND && t->second ? t->second : t->sort == SORT_SCORE || t->sort == SORT_SECOND ? t->metric : NULL;
}

static Key make_key(const Session *s, int64_t i)
{
    const Table *t = s->table;
    Key k = {.linear = i};
    switch (t->sort) {
    case SORT_SECOND:
    case SORT_SCORE: {
        const Metric *m = sort_metric(t);
        Score sc = session_score(s, m, i);
        k.tier = sc.state == SCORE_FAILED ? 0 : sc.state == SCORE_OK || sc.state == SCORE_STALE ? 1 : 2;
        k.value = k.tier == 1 ? -sc.value * m->direction : 0;
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

static void sort_order(Session *s)
{
    Table *t = s->table;
    int64_t total = s->model->nlinears;
    Key *keys = mem_array((size_t)total, sizeof *keys);
    Filter f;
    filter_parse(s, t->filter, &f, NULL);
    int64_t n = 0;
    for (int64_t i = 0; i < total; i++)
        if (filter_passes(s, &f, i)) {
            if (keys)
                keys[n] = make_key(s, i);
            t->order[n++] = i; /* memory short: model order is still an order */
        }
    int64_t failed = 0, last = n;
    if (keys) {
        qsort(keys, (size_t)n, sizeof *keys, compare_keys);
        while (sort_metric(t) && failed < n && keys[failed].tier == 0)
            failed++;
        /* how make_key orders it */
        bool up = t->sort == SORT_NAME || t->sort == SORT_MODEL || t->sort == SORT_LEVEL;
        while (sort_metric(t) && last > failed && keys[last - 1].tier == 2)
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
