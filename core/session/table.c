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
    t->sorted.linear = mem_array((size_t)m->nlinears, sizeof *t->sorted.linear);
    if (!t->order || !t->sorted.linear)
        return error_nomem(err, "the layer table");
    return folds_open(&t->folds, m, err);
}

void table_close(Table *t)
{
    t->tensors[0] = '\0';
    folds_close(&t->folds);
    free(t->order);
    free(t->by_name);
    free(t->sorted.linear);
    t->by_name = NULL;
    t->sorted = (Sorted){0};
    scored_close(&t->scored);
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
    t->scored.whole++;
    t->order_stale = true;
}

void table_scores_arrived(Table *t)
{
    t->order_stale = true;
}

void table_levels_changed(Table *t)
{
    t->order_stale |= t->sort == SORT_LEVEL || t->sort == SORT_SIZE; /* what float costs depends on the level */
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

void table_put_in_order(Session *s, bool resort)
{
    const Table *t = s->table;
    if (!t->order_valid || (resort && t->order_stale))
        table_sort(s);
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
