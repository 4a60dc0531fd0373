/* Rows of the table: linears gathered under heads, laid out as folds are open, and the figures of a head. */
#include "session/fold.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "session/assignment.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/table.h"

static const char *const mode_names[FOLD_MODES] = {
    [FOLD_NONE] = "none",   [FOLD_BLOCK] = "block",     [FOLD_KIND] = "kind",
    [FOLD_GROUP] = "group", [FOLD_EXPERTS] = "experts",
};

const char *fold_mode_name(FoldMode m)
{
    return (int)m >= 0 && m < FOLD_MODES ? mode_names[m] : "?";
}

int fold_mode_find(const char *name)
{
    for (int i = 0; i < FOLD_MODES; i++)
        if (strcmp(mode_names[i], name) == 0)
            return i;
    return -1;
}

/* ---- which linears belong together: a number for each, -1 for those that never do ---- */

static const char *last_part(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

static bool number_kinds(const Model *m, int32_t *key, int32_t *nkeys)
{
    Map kinds = {0};
    bool fine = true;
    for (int64_t i = 0; i < m->nlinears && fine; i++) {
        const char *kind = last_part(m->linears[i].name);
        size_t len = strlen(kind);
        key[i] = (int32_t)map_get(&kinds, kind, len, -1);
        if (key[i] >= 0)
            continue;
        key[i] = (*nkeys)++;
        fine = map_add(&kinds, kind, len, key[i], NULL);
    }
    map_free(&kinds);
    return fine;
}

static int32_t key_of(const Model *m, FoldMode mode, int64_t i)
{
    const Linear *l = &m->linears[i];
    switch (mode) {
    case FOLD_BLOCK: return l->layer;
    case FOLD_GROUP: return m->groups[l->group].count > 1 ? l->group : -1;
    case FOLD_EXPERTS: return l->expert >= 0 ? l->layer : -1;
    case FOLD_NONE:
    case FOLD_KIND:
    case FOLD_MODES: break;
    }
    return -1;
}

static bool number_all(const Model *m, FoldMode mode, int32_t *key, int32_t *nkeys)
{
    *nkeys = 0;
    if (mode == FOLD_KIND)
        return number_kinds(m, key, nkeys);
    for (int64_t i = 0; i < m->nlinears; i++) {
        key[i] = key_of(m, mode, i);
        if (key[i] >= *nkeys)
            *nkeys = key[i] + 1;
    }
    return true;
}

static void keys_free(Folds *t)
{
    free(t->whole);
    free(t->open);
    free(t->fold_of);
    t->whole = t->fold_of = NULL;
    t->open = NULL;
    t->nkeys = 0;
}

/* Folds t by the mode; when memory is short t is not folded at all. */
static bool keys_make(Folds *t, const Model *m, FoldMode mode)
{
    int32_t n = 0;
    bool fine = number_all(m, mode, t->key, &n);
    keys_free(t);
    t->whole = mem_zarray((size_t)n, sizeof *t->whole);
    t->open = mem_zarray((size_t)n, sizeof *t->open);
    t->fold_of = mem_zarray((size_t)n, sizeof *t->fold_of);
    fine = fine && t->whole && t->open && t->fold_of;
    if (!fine) {
        keys_free(t);
        mode = FOLD_NONE;
    }
    for (int64_t i = 0; i < m->nlinears; i++) {
        if (!fine)
            t->key[i] = -1;
        else if (t->key[i] >= 0)
            t->whole[t->key[i]]++;
    }
    t->nkeys = fine ? n : 0;
    t->mode = mode;
    t->gathered = t->laid = t->figured = false;
    return fine;
}

Status folds_open(Folds *t, const Model *m, Error *err)
{
    size_t n = (size_t)m->nlinears;
    t->key = mem_array(n, sizeof *t->key);
    t->row = mem_array(n, sizeof *t->row);
    t->members = mem_array(n, sizeof *t->members);
    t->units = mem_array(n, sizeof *t->units);
    t->rows = mem_array(n + n / 2, sizeof *t->rows); /* a head has two members at least */
    t->fold = mem_array(n / 2, sizeof *t->fold);
    if (!t->key || !t->row || !t->members || !t->units || !t->rows || !t->fold || !keys_make(t, m, t->mode))
        return error_nomem(err, "the layer table");
    return ST_OK;
}

void folds_close(Folds *t)
{
    keys_free(t);
    free(t->key);
    free(t->row);
    free(t->members);
    free(t->units);
    free(t->rows);
    free(t->fold);
    *t = (Folds){.mode = t->mode, .work = t->work};
}

Status session_fold(Session *s, FoldMode mode, Error *err)
{
    if ((int)mode < 0 || mode >= FOLD_MODES)
        return error_set(err, ST_USAGE, "no such way to fold");
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    return keys_make(&s->table->folds, s->model, mode) ? ST_OK : error_nomem(err, "the folds");
}

FoldMode session_fold_mode(const Session *s)
{
    return s->table->folds.mode;
}

/* ---- gathering: heads and lone linears, in the order of their rows ---- */

typedef struct UnitKey {
    TableRow unit;
    double value;
    int64_t at;
} UnitKey;

static int compare_units(const void *pa, const void *pb)
{
    const UnitKey *a = pa, *b = pb;
    if (a->value != b->value)
        return a->value < b->value ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

/* Where a unit belongs by its worst score when scores rise downwards: its last scored member's place, but failed
 * members come first, and without a score the first member tells. */
static double place_by_worst(const Session *s, const int64_t *members, int64_t n, const int64_t *at)
{
    int64_t first = at[members[0]], worst = -1;
    if (first < s->table->order_failed)
        return (double)first;
    for (int64_t k = 0; k < n; k++)
        if (at[members[k]] < s->table->order_scored)
            worst = at[members[k]];
    return (double)(worst >= 0 ? worst : first);
}

static double size_of(const Model *m, const int64_t *members, int64_t n)
{
    double size = 0;
    for (int64_t k = 0; k < n; k++)
        size += (double)m->linears[members[k]].in * (double)m->linears[members[k]].out;
    return size;
}

/* Units come in the order of their first members. Two sort keys look at all members. */
static void order_units(Session *s)
{
    Folds *t = &s->table->folds;
    bool by_size = s->table->sort == SORT_SIZE, by_score = s->table->sort == SORT_SCORE || s->table->sort == SORT_SECOND;
    bool by_worst = by_score && s->table->ascending;
    if (t->nfolds == 0 || (!by_size && !by_worst))
        return;
    UnitKey *keys = mem_array((size_t)t->nunits, sizeof *keys);
    int64_t *at = mem_array((size_t)s->model->nlinears, sizeof *at);
    for (int64_t i = 0; at && i < s->table->norder; i++)
        at[s->table->order[i]] = i;
    for (int64_t u = 0; keys && at && u < t->nunits; u++) {
        const TableRow *row = &t->units[u];
        const Fold *f = row->head ? &t->fold[row->fold].view : NULL;
        const int64_t *members = f ? f->members : &row->linear;
        int64_t n = f ? f->count : 1;
        double v = by_worst ? place_by_worst(s, members, n, at)
                            : (s->table->ascending ? 1 : -1) * size_of(s->model, members, n);
        keys[u] = (UnitKey){*row, v, u};
    }
    if (keys && at) { /* memory short: by the first member is an order too */
        qsort(keys, (size_t)t->nunits, sizeof *keys, compare_units);
        for (int64_t u = 0; u < t->nunits; u++)
            t->units[u] = keys[u].unit;
    }
    free(keys);
    free(at);
}

static void gather(Session *s)
{
    Folds *t = &s->table->folds;
    int32_t *visible = t->fold_of; /* first: how many of a key are visible; then: its fold */
    memset(visible, 0, (size_t)t->nkeys * sizeof *visible);
    for (int64_t i = 0; i < s->table->norder; i++)
        if (t->key[s->table->order[i]] >= 0)
            visible[t->key[s->table->order[i]]]++;
    int32_t n = 0;
    int64_t used = 0;
    for (int32_t k = 0; k < t->nkeys; k++) {
        int32_t count = visible[k];
        t->fold_of[k] = count > 1 ? n : -1;
        if (count < 2)
            continue;
        t->fold[n++] = (FoldSlot){.key = k, .view = {.members = t->members + used, .whole = t->whole[k],
                                                     .open = t->open[k]}};
        used += count;
    }
    t->nfolds = n;
    t->nunits = 0;
    for (int64_t i = 0; i < s->table->norder; i++) {
        int64_t linear = s->table->order[i];
        int32_t f = t->key[linear] >= 0 ? t->fold_of[t->key[linear]] : -1;
        Fold *v = f >= 0 ? &t->fold[f].view : NULL;
        if (!v || v->count == 0)
            t->units[t->nunits++] = (TableRow){linear, f, v != NULL};
        if (v)
            t->members[v->members - t->members + v->count++] = linear;
    }
    order_units(s);
    t->gathered = true;
    t->order_seen = s->table->order_made;
    t->laid = t->figured = false;
    t->work.gathered++;
}

static void lay_out(Session *s)
{
    Folds *t = &s->table->folds;
    int64_t n = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        t->row[i] = -1;
    for (int64_t u = 0; u < t->nunits; u++) {
        const TableRow *unit = &t->units[u];
        t->rows[n] = *unit;
        if (!unit->head) {
            t->row[unit->linear] = n++;
            continue;
        }
        Fold *f = &t->fold[unit->fold].view;
        f->row = n++;
        for (int64_t k = 0; k < f->count; k++) {
            t->row[f->members[k]] = f->open ? n : f->row;
            if (f->open)
                t->rows[n++] = (TableRow){f->members[k], unit->fold, false};
        }
    }
    t->nrows = n;
    t->laid = true;
    t->work.laid++;
}

static void set_open(Folds *t, int32_t fold, bool open)
{
    t->laid = t->laid && t->fold[fold].view.open == open;
    t->fold[fold].view.open = open;
    t->open[t->fold[fold].key] = open;
}

/* ---- figures ---- */

static void clear_figures(Folds *t)
{
    for (int32_t f = 0; f < t->nfolds; f++) {
        Fold *v = &t->fold[f].view;
        v->scored = v->failed = v->stale = v->tagged = v->floats = 0;
        v->worst = -1;
        v->max = NAN;
        v->mean = v->bytes = v->cost = 0;
        v->level = -2;
        memset(v->at_level, 0, sizeof v->at_level);
    }
}

static void add_score(const Session *s, Fold *v, int64_t linear, ScoreState state, double value)
{
    v->failed += state == SCORE_FAILED;
    v->stale += state == SCORE_STALE;
    if (state != SCORE_OK && state != SCORE_STALE)
        return;
    v->scored++;
    v->mean += value;
    int up = s->table->metric->direction;
    if (v->worst < 0 || value * up > v->max * up) {
        v->worst = linear;
        v->max = value;
    }
}

double linear_cost(const Session *s, SizeMemo *memo, int64_t linear)
{
    int level = s->assignment->level[linear];
    if (!s->recipe || s->assignment->nlevels < 2)
        return 0;
    return (double)recipe_memo_bytes(memo, s->recipe, s->model, linear, 0, s->opt.peer) -
           (double)recipe_memo_bytes(memo, s->recipe, s->model, linear, level ? level : 1, s->opt.peer);
}

double session_linear_cost(const Session *s, int64_t linear)
{
    SizeMemo memo = {0};
    return linear_cost(s, &memo, linear);
}

static void add_decision(const Session *s, SizeMemo *memo, Fold *v, int64_t linear)
{
    int level = s->assignment->level[linear];
    v->tagged += s->assignment->tagged[linear];
    v->floats += level == 0;
    if (level < FOLD_LEVELS)
        v->at_level[level]++;
    v->level = v->level == -2 || v->level == level ? level : -1;
    v->bytes += s->recipe ? (double)recipe_memo_bytes(memo, s->recipe, s->model, linear, level, s->opt.peer) : 0;
    v->cost += linear_cost(s, memo, linear);
}

static ScoreRange range_of(const Scored *sc)
{
    ScoreRange r = {INFINITY, -INFINITY, 0, 0};
    for (int64_t i = 0; i < sc->linears; i++) {
        double v = sc->value[i];
        bool good = scored_has(sc, i);
        r.failed += sc->state[i] == SCORE_FAILED;
        r.scored += good || sc->state[i] == SCORE_FAILED;
        if (good && v > 0 && v < r.low)
            r.low = v;
        if (good && v > r.high)
            r.high = v;
    }
    return r;
}

/* One pass over all linears, in the model's order: sums don't depend on how the table is sorted. sc NULL: no score. */
static void figure(Session *s, const Scored *sc)
{
    Folds *t = &s->table->folds;
    SizeMemo memo = {0};
    t->range = sc ? range_of(sc) : (ScoreRange){INFINITY, -INFINITY, 0, 0};
    clear_figures(t);
    for (int64_t i = 0; t->nfolds > 0 && i < s->model->nlinears; i++) {
        int32_t f = t->key[i] >= 0 && t->row[i] >= 0 ? t->fold_of[t->key[i]] : -1;
        if (f < 0)
            continue;
        if (sc)
            add_score(s, &t->fold[f].view, i, (ScoreState)sc->state[i], sc->value[i]);
        add_decision(s, &memo, &t->fold[f].view, i);
    }
    for (int32_t f = 0; f < t->nfolds; f++) {
        Fold *v = &t->fold[f].view;
        v->mean = v->scored ? v->mean / (double)v->scored : NAN;
    }
}

/* ---- the one refresh, and what is read off afterwards ---- */

/* Of a table without folds only the range of scores is told. */
static bool figures_hold(const Session *s, uint64_t made)
{
    const Folds *t = &s->table->folds;
    return t->figured && t->scored_seen == made &&
           (t->nfolds == 0 || (t->version_seen == s->assignment->version && t->tags_seen == s->assignment->tag_version));
}

/* Makes anew what has changed: the order (resort: also when only scores have changed it), then rows, then figures. Every
 * question about the table begins here; one after another finds nothing to do. false: no model is open. */
static bool table_refresh(Session *s, bool resort)
{
    Folds *t = &s->table->folds;
    if (!s->model)
        return false;
    table_put_in_order(s, resort);
    if (!t->gathered || t->order_seen != s->table->order_made)
        gather(s);
    if (!t->laid)
        lay_out(s);
    const Scored *sc = s->table->metric ? scored_of(s, s->table->metric) : NULL;
    uint64_t made = sc ? sc->made : 0;
    if (figures_hold(s, made))
        return true;
    figure(s, sc);
    t->figured = true;
    t->scored_seen = made;
    t->version_seen = s->assignment->version;
    t->tags_seen = s->assignment->tag_version;
    t->work.figured++;
    return true;
}

const TableRow *session_rows(Session *s, int64_t *n, bool resort)
{
    bool any = table_refresh(s, resort);
    *n = any ? s->table->folds.nrows : 0;
    return any ? s->table->folds.rows : NULL;
}

int64_t session_row_of(Session *s, int64_t linear, bool head)
{
    const Folds *t = &s->table->folds;
    if (!table_refresh(s, false))
        return -1;
    int32_t key = t->key[linear], f = key >= 0 ? t->fold_of[key] : -1;
    return head && f >= 0 ? t->fold[f].view.row : t->row[linear];
}

int64_t session_folds(Session *s)
{
    return table_refresh(s, false) ? s->table->folds.nfolds : 0;
}

void session_fold_open(Session *s, int32_t fold, bool open)
{
    if (fold >= 0 && fold < session_folds(s))
        set_open(&s->table->folds, fold, open);
}

void session_fold_open_all(Session *s, bool open)
{
    int64_t n = session_folds(s);
    for (int32_t f = 0; f < n; f++)
        set_open(&s->table->folds, f, open);
}

const Fold *session_fold_at(Session *s, int32_t fold)
{
    return fold >= 0 && fold < session_folds(s) ? &s->table->folds.fold[fold].view : NULL;
}

ScoreRange session_score_range(Session *s)
{
    return table_refresh(s, false) ? s->table->folds.range : (ScoreRange){INFINITY, -INFINITY, 0, 0};
}

TableWork session_table_work(const Session *s)
{
    return s->table->folds.work;
}
