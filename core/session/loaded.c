/* Scores of other programs as metrics beside those that are made here. */
#include "session/loaded.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "export/scorefile.h"
#include "io/file.h"
#include "session/entries.h"
#include "session/parts.h"
#include "session/table.h"

enum { LOADED_MAX = 64, LOADED_NAME = 64 };

typedef struct LoadedMetric {
    Metric m;
    LoadedScores scores;
    char name[LOADED_NAME], title[LOADED_NAME + 16], explain[320], file[200];
    double *value;
} LoadedMetric;

typedef struct Loaded {
    LoadedMetric *list[LOADED_MAX];
    LoadedMetric *spare[LOADED_MAX]; /* dropped ones, to be used again: others may still point to them */
    int n, nspare;
    const Metric **all; /* metric_table and these, NULL-terminated */
} Loaded;

const Metric *const *session_metrics(const Session *s)
{
    return s && s->loaded ? s->loaded->all : metric_table;
}

const Metric *session_metric_find(const Session *s, const char *name)
{
    for (const Metric *const *m = session_metrics(s); *m; m++)
        if (strcmp((*m)->name, name) == 0)
            return *m;
    return NULL;
}

void loaded_close(Session *s)
{
    Loaded *l = s->loaded;
    if (!l)
        return;
    if (s->table->metric && s->table->metric->loaded)
        s->table->metric = metric_table[0];
    if (s->table->second && s->table->second->loaded)
        s->table->second = NULL;
    for (int i = 0; i < l->n + l->nspare; i++) {
        LoadedMetric *m = i < l->n ? l->list[i] : l->spare[i - l->n];
        free(m->value);
        free(m);
    }
    free(l->all);
    free(l);
    s->loaded = NULL;
}

static Loaded *the_list(Session *s)
{
    Loaded *l = s->loaded ? s->loaded : calloc(1, sizeof *l);
    if (l && !l->all && !(l->all = mem_zarray((size_t)metric_count() + LOADED_MAX + 1, sizeof *l->all))) {
        free(l);
        return NULL;
    }
    for (int i = 0; l && !s->loaded && metric_table[i]; i++)
        l->all[i] = metric_table[i];
    return s->loaded = l;
}

static LoadedMetric *named(const Loaded *l, const char *name)
{
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->list[i]->name, name) == 0)
            return l->list[i];
    return NULL;
}

/* A name for the command language: what isn't a letter, a digit, '_', '-' or '.' becomes '_'. */
static void tidy(char *name)
{
    for (char *c = name; *c; c++)
        if (!ascii_is_alnum((unsigned char)*c) && !strchr("_-.", *c))
            *c = '_';
}

Status loaded_put(Session *s, const char *name, const LoadedFrom *from, MetricScope scope, double *value, Error *err)
{
    const char *file = from->file;
    Loaded *l = the_list(s);
    LoadedMetric *m = l ? named(l, name) : NULL;
    if (l && !m && l->n == LOADED_MAX) {
        free(value);
        return error_set(err, ST_USAGE, "%d columns are loaded already", LOADED_MAX);
    }
    if (l && !m && (m = l->nspare ? l->spare[--l->nspare] : calloc(1, sizeof *m))) {
        l->all[metric_count() + l->n] = &m->m;
        l->list[l->n++] = m;
    }
    if (!m) {
        free(value);
        return error_nomem(err, "the scores");
    }
    free(m->value);
    m->value = value;
    snprintf(m->name, sizeof m->name, "%s", name);
    tidy(m->name);
    snprintf(m->file, sizeof m->file, "%s", file);
    m->file[text_fit_terminal(m->file, strlen(m->file), false)] = '\0';
    snprintf(m->title, sizeof m->title, "%s (%s)", name, from->kept ? "kept" : "loaded");
    snprintf(m->explain, sizeof m->explain,
             from->kept ? "Kept of a run: %s." : "Loaded from %s: made by another program, whose data and settings are not known here.",
             m->file);
    m->scores = (LoadedScores){m->file, from->kept, value};
    m->m = (Metric){.name = m->name, .title = m->title, .unit = "", .scope = scope, .cost = "loaded", .direction = from->direction,
                    .pass = &pass_loaded, .explain = m->explain, .loaded = &m->scores};
    s->results->version++;
    s->results->loss_version++;
    table_scores_changed(s->table);
    return ST_OK;
}

static bool is_of(const char *column, const char *name)
{
    size_t n = strlen(name);
    return strncmp(column, name, n) == 0 && (column[n] == '\0' || column[n] == '.');
}

int loaded_drop(Session *s, const char *name)
{
    Loaded *l = s->loaded;
    int left = 0, all = l ? l->n : 0;
    char run[LOADED_NAME];
    snprintf(run, sizeof run, "%s", name);
    tidy(run);
    for (int i = 0; i < all; i++) {
        if (!is_of(l->list[i]->name, run)) {
            l->list[left] = l->list[i];
            l->all[metric_count() + left++] = &l->list[i]->m;
            continue;
        }
        if (s->table->metric == &l->list[i]->m)
            s->table->metric = metric_table[0];
        if (s->table->second == &l->list[i]->m)
            s->table->second = NULL;
        l->spare[l->nspare++] = l->list[i];
    }
    if (left == all)
        return 0;
    l->n = left;
    l->all[metric_count() + left] = NULL;
    s->results->version++;
    s->results->loss_version++;
    s->table->order_valid = false;
    table_scores_changed(s->table);
    return all - left;
}

/* ---- names ---- */

/* as, or the file's name without its end; with the column's name where there are several. */
static Status column_name(const char *path, const char *as, const char *column, char out[LOADED_NAME], Error *err)
{
    char stem[LOADED_NAME];
    snprintf(stem, sizeof stem, "%s", as ? as : path_base(path));
    char *dot = as ? NULL : strrchr(stem, '.');
    if (dot && dot > stem)
        *dot = '\0';
    int n = snprintf(out, LOADED_NAME, "%s%s%s%s", !as && !column && metric_find(stem) ? "loaded." : "", stem,
                     column ? "." : "", column ? column : "");
    tidy(out);
    if (metric_find(out))
        return error_set(err, ST_USAGE, "'%s' is the name of a metric that is made here: say --as another", out);
    return n > 0 && n < LOADED_NAME && *stem
               ? ST_OK
               : error_set(err, ST_USAGE, "a name of at most %d letters is needed: say --as NAME", LOADED_NAME - 1);
}

/* ---- whose score ---- */

enum { SCOPES = SCOPE_ATTENTION + 1 };

/* Names of units: linears by the model's, the others as scope_unit_name writes them. */
typedef struct UnitNames {
    Map map[SCOPES];
    Arena made;
} UnitNames;

static void unit_names_fini(UnitNames *u)
{
    for (int k = 0; k < SCOPES; k++)
        map_free(&u->map[k]);
    arena_free(&u->made);
}

static Status unit_names(const Model *m, UnitNames *u, Error *err)
{
    Str name = {0};
    bool fine = true;
    for (int k = SCOPE_LINEAR + 1; k < SCOPES && fine; k++)
        for (int64_t i = 0; i < scope_units(m, (MetricScope)k) && fine; i++) {
            str_clear(&name);
            scope_unit_name(m, (MetricScope)k, i, &name);
            char *copy = name.oom ? NULL : arena_strdup(&u->made, str_text(&name));
            fine = copy && map_add(&u->map[k], copy, name.len, i, NULL);
        }
    str_free(&name);
    return fine ? ST_OK : error_nomem(err, "the scores");
}

/* Unit of a scope that a name of the file stands for, -1: none. */
static int64_t unit_of(const Model *m, const UnitNames *u, int scope, const FileScore *f)
{
    static const char *const ends[] = {".*", ".weight"};
    size_t n = strlen(f->name);
    int64_t i = -1;
    if (scope == SCOPE_LINEAR && strncmp(f->name, "blk.", 4) == 0 && (i = gguf_linear(m, f->name, f->matrix)) >= 0)
        return i;
    for (int e = -1; e < 2 && i < 0; e++) {
        if (e >= 0 && !str_ends_with(f->name, ends[e]))
            continue;
        size_t len = n - (e >= 0 ? strlen(ends[e]) : 0);
        i = map_get(scope == SCOPE_LINEAR ? &m->by_name : &u->map[scope], f->name, len, -1);
    }
    return i;
}

/* The scope most names of which are the model's: linears first. */
static int best_scope(const Model *m, const UnitNames *u, const ScoreColumn *c, int64_t *hits)
{
    int best = SCOPE_LINEAR;
    *hits = 0;
    for (int k = 0; k < SCOPES; k++) {
        int64_t n = 0;
        for (size_t i = 0; i < c->n; i++)
            n += unit_of(m, u, k, &c->score[i]) >= 0;
        if (n > *hits) {
            *hits = n;
            best = k;
        }
    }
    return best;
}

/* What became of a column: names that are none of the model's and values that are no numbers. */
typedef struct Took {
    int64_t hits, strange, odd;
    const char *first;
} Took;

static double *column_values(const Model *m, const UnitNames *u, const ScoreColumn *c, int scope, Took *t)
{
    int64_t n = scope_units(m, (MetricScope)scope);
    double *v = mem_array((size_t)n + 1, sizeof *v);
    for (int64_t i = 0; v && i < n; i++)
        v[i] = NAN;
    for (size_t i = 0; v && i < c->n; i++) {
        int64_t unit = unit_of(m, u, scope, &c->score[i]);
        if (unit < 0) {
            t->first = t->strange++ ? t->first : c->score[i].name;
            continue;
        }
        t->odd += !isfinite(c->score[i].value);
        if (isfinite(c->score[i].value) && !isfinite(v[unit])) /* of two tensors of one linear the first */
            v[unit] = c->score[i].value;
    }
    return v;
}

static const char *nearest_linear(const Model *m, const char *name)
{
    const char *best = m->nlinears ? m->linears[0].name : "(none)";
    int least = 24;
    for (int64_t i = 0; i < m->nlinears && i < 5000; i++) {
        int d = str_distance(name, m->linears[i].name, least);
        if (d < least) {
            least = d;
            best = m->linears[i].name;
        }
    }
    return best;
}

static void tell(const Session *s, const char *name, const char *path, const char *kind, int scope, const Took *t, Str *what)
{
    if (!what)
        return;
    str_printf(what, "%s%lld score%s of %ss loaded from %s (%s) as '%s'", what->len ? "\n" : "", (long long)(t->hits - t->odd),
               t->hits - t->odd == 1 ? "" : "s", scope_name((MetricScope)scope), path_base(path), kind, name);
    if (t->strange)
        str_printf(what, "; %lld name%s no %s of the model, first '%.100s' (nearest: '%s')", (long long)t->strange,
                   t->strange == 1 ? " is" : "s are", scope_name((MetricScope)scope), t->first, nearest_linear(s->model, t->first));
    if (t->odd)
        str_printf(what, "; %lld value%s no number", (long long)t->odd, t->odd == 1 ? " is" : "s are");
}

static Status put_column(Session *s, const char *path, const char *as, bool several, const UnitNames *u, const ScoreFile *f,
                         const ScoreColumn *c, Str *what, Error *err)
{
    char name[LOADED_NAME];
    Took t = {0};
    int scope = best_scope(s->model, u, c, &t.hits);
    if (t.hits == 0)
        return error_set(err, ST_DATA, "no name of '%s' is a layer of the model: the first is '%.100s', the nearest '%s'",
                         path_base(path), c->score[0].name, nearest_linear(s->model, c->score[0].name));
    RETURN_IF_ERROR(column_name(path, as, several ? c->name ? c->name : "score" : NULL, name, err));
    double *v = column_values(s->model, u, c, scope, &t);
    if (!v)
        return error_nomem(err, "the scores");
    if (t.odd == t.hits) {
        free(v);
        return error_set(err, ST_DATA, "no score of '%s' is a number", path_base(path));
    }
    RETURN_IF_ERROR(loaded_put(s, name, &(LoadedFrom){path_base(path), false, 1}, (MetricScope)scope, v, err));
    entry_loaded(s, session_metric_find(s, name));
    tell(s, name, path, f->kind, scope, &t, what);
    return ST_OK;
}

/* Names that could not be used are found before the first column is put. */
static Status put_file(Session *s, const char *path, const char *as, ScoreFile *f, Str *what, Error *err)
{
    UnitNames u = {0};
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++)
        n += f->column[i].n > 0;
    Status st = unit_names(s->model, &u, err);
    for (size_t i = 0; i < f->n && st == ST_OK; i++)
        if (f->column[i].n > 0)
            st = put_column(s, path, as, n > 1, &u, f, &f->column[i], what, err);
    unit_names_fini(&u);
    return st;
}

/* ---- runs of slimscope's ---- */

/* Values of one metric by the units of `to`; NULL without memory. *known: how many are numbers. */
static double *kept_values(const Session *to, const Session *from, const Metric *m, const UnitNames *u, int64_t *known)
{
    const Model *model = from->model;
    int64_t n = scope_units(to->model, m->scope);
    double *v = mem_array((size_t)n + 1, sizeof *v);
    Str name = {0};
    *known = 0;
    for (int64_t i = 0; v && i < n; i++)
        v[i] = NAN;
    for (int64_t i = 0; v && i < scope_units(model, m->scope); i++) {
        Score sc = session_unit_score(from, m, i);
        if (sc.state != SCORE_OK) /* stale ones are of other data than the run's */
            continue;
        str_clear(&name);
        if (to != from)
            scope_unit_name(model, m->scope, i, &name);
        int64_t unit = to == from || m->scope == SCOPE_MODEL      ? i
                       : m->scope == SCOPE_LINEAR ? map_get(&to->by_name, str_text(&name), name.len, -1)
                                                  : map_get(&u->map[m->scope], str_text(&name), name.len, -1);
        *known += unit >= 0;
        if (unit >= 0)
            v[unit] = sc.value;
    }
    str_free(&name);
    return v;
}

Status loaded_keep(Session *to, const Session *from, const char *run, const char *what, bool data, int *columns, Error *err)
{
    UnitNames u = {0};
    Status st = unit_names(to->model, &u, err);
    *columns = 0;
    for (const Metric *const *m = metric_table; st == ST_OK && *m; m++) {
        char name[LOADED_NAME];
        int64_t known;
        if (!session_has_run(from, *m) || (data && (*m)->pass->data_free))
            continue;
        double *v = kept_values(to, from, *m, &u, &known);
        st = v ? column_name("", run, (*m)->name, name, err) : error_nomem(err, "the scores");
        if (st != ST_OK || !known) {
            free(v);
            continue;
        }
        st = loaded_put(to, name, &(LoadedFrom){what, true, (*m)->direction}, (*m)->scope, v, err);
        if (st == ST_OK) {
            entry_loaded(to, session_metric_find(to, name));
            ++*columns;
        }
    }
    unit_names_fini(&u);
    return st;
}

/* ---- a recipe's float layers ---- */

static Status put_recipe(Session *s, const char *path, const char *as, Str *what, Error *err)
{
    Recipe *r = NULL;
    char name[LOADED_NAME];
    int64_t n = s->model->nlinears;
    RETURN_IF_ERROR(column_name(path, as, NULL, name, err));
    Status st = recipe_open(&r, &recipe_rows, path, NULL, err);
    int16_t *level = st == ST_OK ? mem_array((size_t)n + 1, sizeof *level) : NULL;
    double *v = st == ST_OK ? mem_array((size_t)n + 1, sizeof *v) : NULL;
    if (st == ST_OK)
        st = level && v ? recipe_assign(r, s->model, level, err) : error_nomem(err, "the scores");
    Took t = {.hits = n};
    for (int64_t i = 0; st == ST_OK && i < n; i++)
        v[i] = level[i] == 0;
    if (st == ST_OK) {
        st = loaded_put(s, name, &(LoadedFrom){path_base(path), false, 1}, SCOPE_LINEAR, v, err);
        v = NULL;
    }
    if (st == ST_OK) {
        entry_loaded(s, session_metric_find(s, name));
        tell(s, name, path, "a recipe: 1 is float", SCOPE_LINEAR, &t, what);
    }
    free(v);
    free(level);
    recipe_free(r);
    return st;
}

Status session_load_scores(Session *s, const char *path, const char *as, Str *what, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    if (str_ends_with(path, ".yaml") || str_ends_with(path, ".yml"))
        return put_recipe(s, path, as, what, err);
    char *text;
    size_t len;
    ScoreFile f;
    RETURN_IF_ERROR(file_read(path, SCORE_FILE_MAX, &text, &len, err));
    Status st = score_file_read(text, len, path, s->model, &f, err);
    if (st == ST_OK)
        st = put_file(s, path, as, &f, what, err);
    score_file_fini(&f);
    free(text);
    return st;
}
