/* The order of the table: all linears by the sort key, then those that the filter lets through. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/radix.h"
#include "session/assignment.h"
#include "session/filter.h"
#include "session/parts.h"
#include "session/table.h"

static uint64_t radix_of_int(int64_t v)
{
    return (uint64_t)v ^ UINT64_C(1) << 63;
}

/* ---- by name: once for a model ---- */

typedef struct Named {
    const char *name;
    int64_t linear;
} Named;

static int compare_names(const void *pa, const void *pb)
{
    const Named *a = pa, *b = pb;
    int c = strcmp(a->name, b->name);
    return c ? c : a->linear < b->linear ? -1 : a->linear > b->linear;
}

/* NULL: memory is short. */
static const int64_t *by_name(Session *s)
{
    Table *t = s->table;
    int64_t n = s->model->nlinears;
    Named *list = t->by_name ? NULL : mem_array((size_t)n, sizeof *list);
    if (list)
        t->by_name = mem_array((size_t)n, sizeof *t->by_name);
    for (int64_t i = 0; list && i < n; i++)
        list[i] = (Named){s->model->linears[i].name, i};
    if (list && t->by_name) {
        qsort(list, (size_t)n, sizeof *list, compare_names);
        for (int64_t i = 0; i < n; i++)
            t->by_name[i] = list[i].linear;
    }
    free(list);
    return t->by_name;
}

/* ---- all linears ---- */

/* The metric by whose scores rows are ordered, NULL: by something else. Without a second one the shown one takes its place. */
static const Metric *sort_metric(const Table *t)
{
    return t->sort == SORT_SECOND && t->second ? t->second : t->sort == SORT_SCORE || t->sort == SORT_SECOND ? t->metric : NULL;
}

/* The scored ones by falling sensitivity, from p[0] on; before them, in the model's order, the failed ones and behind them
 * the others are put. */
static bool sort_scores(Session *s, const Scored *sc, RadixPair *p, Sorted *to)
{
    int64_t n = s->model->nlinears, at = 0;
    int direction = sc->metric->direction;
    to->failed = 0;
    for (int64_t i = 0; i < n; i++)
        if (sc->state[i] == SCORE_FAILED)
            to->linear[to->failed++] = i;
        else if (scored_has(sc, i))
            p[at++] = (RadixPair){radix_of_double(-sc->value[i] * direction), i};
    if (!radix_sort(p, at))
        return false;
    for (int64_t i = 0; i < at; i++)
        to->linear[to->failed + i] = p[i].value;
    to->scored = at = to->failed + at;
    for (int64_t i = 0; i < n; i++)
        if (sc->state[i] == SCORE_NONE)
            to->linear[at++] = i;
    return true;
}

static bool sort_numbers(Session *s, SortKey key, RadixPair *p, Sorted *to)
{
    int64_t n = s->model->nlinears;
    SizeMemo memo = {0};
    for (int64_t i = 0; i < n; i++)
        p[i] = (RadixPair){key == SORT_SIZE ? radix_of_double(-linear_cost(s, &memo, i)) : radix_of_int(s->assignment->level[i]), i};
    bool fine = radix_sort(p, n);
    for (int64_t i = 0; i < n; i++)
        to->linear[i] = p[i].value;
    return fine;
}

/* sc: by these scores. */
static bool sort_all(Session *s, SortKey key, const Scored *sc, Sorted *to)
{
    int64_t n = s->model->nlinears;
    const int64_t *names = key == SORT_NAME ? by_name(s) : NULL;
    to->failed = 0;
    to->scored = n;
    if (key == SORT_NAME && names)
        memcpy(to->linear, names, (size_t)n * sizeof *names);
    for (int64_t i = 0; key == SORT_MODEL && i < n; i++)
        to->linear[i] = i;
    if (key == SORT_NAME || key == SORT_MODEL)
        return key == SORT_MODEL || names;
    RadixPair *p = mem_array((size_t)n, sizeof *p);
    bool fine = p && (sort_metric(s->table) ? sc && sort_scores(s, sc, p, to) : sort_numbers(s, key, p, to));
    free(p);
    return fine;
}

/* Made anew where it is of other scores, levels or another key; memory short: the model's order is still one. */
static const Sorted *sorted_now(Session *s)
{
    Table *t = s->table;
    Sorted *to = &t->sorted;
    const Metric *m = sort_metric(t);
    const Scored *sc = m ? scored_of(s, m) : NULL;
    uint64_t made = sc ? sc->made : t->sort == SORT_LEVEL || t->sort == SORT_SIZE ? s->assignment->version : 0;
    if (to->valid && to->key == t->sort && to->made == made && to->opened == s->assignment->opened_version)
        return to;
    to->valid = sort_all(s, t->sort, sc, to);
    to->key = t->sort;
    to->made = made;
    to->opened = s->assignment->opened_version;
    for (int64_t i = 0; !to->valid && i < s->model->nlinears; i++)
        to->linear[i] = i;
    if (!to->valid) {
        to->failed = 0;
        to->scored = s->model->nlinears;
    }
    return to;
}

/* ---- what the filter lets through ---- */

void table_sort(Session *s)
{
    Table *t = s->table;
    const Sorted *from = sorted_now(s);
    Filter f;
    filter_parse(s, t->filter, &f, NULL);
    bool up = t->sort == SORT_NAME || t->sort == SORT_MODEL || t->sort == SORT_LEVEL; /* how sort_all orders it */
    int64_t n = 0, total = s->model->nlinears;
    for (int64_t i = 0; i < total; i++) {
        bool inner = t->ascending != up && i >= from->failed && i < from->scored;
        int64_t linear = from->linear[inner ? from->failed + from->scored - 1 - i : i];
        if (i == from->failed)
            t->order_failed = sort_metric(t) ? n : 0;
        if (i == from->scored)
            t->order_scored = n;
        if (f.n == 0 || filter_passes(s, &f, linear))
            t->order[n++] = linear;
    }
    t->order_failed = from->failed == total ? n : t->order_failed;
    t->order_scored = from->scored == total ? n : t->order_scored;
    t->norder = n;
    t->order_made++;
    t->order_valid = true;
    t->order_stale = false;
}
