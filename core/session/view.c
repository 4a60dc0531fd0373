/* The table as a person looks at it: shown metric, sort, filter, order, ranks, cursor. */
#include "session/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"

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

/* ---- scores ---- */

static bool queued(const Session *s, const Metric *m, int64_t linear)
{
    for (size_t i = s->njobs; i-- > 0;) {
        const Job *j = s->jobs[i];
        if (j->view.kind == JOB_ANALYZE && (j->view.state == JOB_RUNNING || j->view.state == JOB_WAITING) &&
            (j->needs & m->needs) == m->needs && (!j->selected || j->selected[linear]) &&
            s->model->linears[linear].layer >= j->first_layer)
            return true;
    }
    return false;
}

Score session_score(const Session *s, const Metric *m, int64_t linear)
{
    const Slot *sl = &s->slot[linear];
    if ((sl->needs & m->needs) != m->needs)
        return (Score){.state = queued(s, m, linear) ? SCORE_QUEUED : SCORE_NONE, .value = NAN};
    if (session_unseen(s, linear) && (m->needs & NEED_INPUT))
        return (Score){.state = SCORE_NONE, .value = NAN, .reason = "no token reached it"};
    char *why = s->why;
    const QConfig *q = level_config(s, s->level[linear] ? s->level[linear] : s->home[linear]);
    why[0] = 0;
    double v = m->score(&sl->r, q, why, WHY_MAX);
    if (isnan(v) || why[0])
        return (Score){.state = SCORE_FAILED, .value = NAN, .reason = why[0] ? why : "not defined for this input"};
    return (Score){.state = sl->stale ? SCORE_STALE : SCORE_OK, .value = v};
}

bool session_has_run(const Session *s, const Metric *m)
{
    for (int64_t i = 0; s->model && i < s->model->nlinears; i++)
        if ((s->slot[i].needs & m->needs) == m->needs)
            return true;
    return false;
}

const LinearResult *session_result(const Session *s, int64_t linear)
{
    return s->slot[linear].needs ? &s->slot[linear].r : NULL;
}

const char *session_run_arith(const Session *s, const Metric *m)
{
    (void)m;
    return s->run_arith[0] ? s->run_arith : arith_name(s->opt.arith);
}

/* ---- settings of the view ---- */

const Metric *session_metric(const Session *s)
{
    return s->metric;
}

void metric_names(Str *out)
{
    for (int i = 0; metric_table[i]; i++)
        str_printf(out, "%s%s", i ? ", " : "", metric_table[i]->name);
}

Status session_show(Session *s, const char *metric, Error *err)
{
    const Metric *m = metric_find(metric);
    if (!m) {
        Str names = {0};
        metric_names(&names);
        error_set(err, ST_USAGE, "no metric '%s' in this build: there are %s", metric, str_text(&names));
        str_free(&names);
        return ST_USAGE;
    }
    s->metric = m;
    s->order_valid = s->rank_valid = false;
    return ST_OK;
}

Status session_sort(Session *s, SortKey k, bool ascending, Error *err)
{
    if ((int)k < 0 || k >= SORT_KEYS)
        return error_set(err, ST_USAGE, "no such sort key");
    s->sort = k;
    s->ascending = ascending;
    s->order_valid = false;
    return ST_OK;
}

SortKey session_sort_key(const Session *s, bool *ascending)
{
    if (ascending)
        *ascending = s->ascending;
    return s->sort;
}

int64_t session_cursor(const Session *s)
{
    return s->cursor;
}

void session_set_cursor(Session *s, int64_t linear)
{
    s->cursor = s->model && linear >= 0 && linear < s->model->nlinears ? linear : -1;
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
    } else if (strchr(word, '='))
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
    case TERM_FLOAT: return s->level[i] == 0;
    case TERM_TAGGED: return s->tagged[i];
    case TERM_FAILED: return session_score(s, s->metric, i).state == SCORE_FAILED;
    case TERM_SCORE_ABOVE: return session_score(s, s->metric, i).value > t->value;
    case TERM_SCORE_BELOW: return session_score(s, s->metric, i).value < t->value;
    }
    return false;
}

Status session_filter(Session *s, const char *expr, Error *err)
{
    Term terms[MAX_TERMS];
    int n;
    RETURN_IF_ERROR(parse_filter(expr, terms, &n, err));
    const char *now = s->filter ? s->filter : "";
    if (strcmp(now, expr) == 0)
        return ST_OK;
    Edit e = {.kind = EDIT_FILTER, .from = strdup(now), .to = strdup(expr)};
    if (!e.from || !e.to) {
        edit_fini(&e);
        return error_nomem(err, "the filter");
    }
    return edit_push(s, e, err);
}

const char *session_filter_text(const Session *s)
{
    return s->filter ? s->filter : "";
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
    Key k = {.linear = i};
    switch (s->sort) {
    case SORT_SCORE: {
        Score sc = session_score(s, s->metric, i);
        k.tier = sc.state == SCORE_FAILED ? 0 : sc.state == SCORE_OK || sc.state == SCORE_STALE ? 1 : 2;
        k.value = k.tier == 1 ? -sc.value * s->metric->direction : 0;
        break;
    }
    case SORT_NAME: k.name = s->model->linears[i].name; break;
    case SORT_MODEL: k.value = (double)i; break;
    case SORT_SIZE: k.value = -(double)s->model->linears[i].in * (double)s->model->linears[i].out; break;
    case SORT_LEVEL: k.value = s->level[i]; break;
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
    int64_t total = s->model->nlinears;
    Key *keys = mem_array((size_t)total, sizeof *keys);
    Term terms[MAX_TERMS];
    int nterms = 0;
    parse_filter(s->filter, terms, &nterms, NULL);
    int64_t n = 0;
    for (int64_t i = 0; i < total; i++)
        if (passes(s, terms, nterms, i)) {
            if (keys)
                keys[n] = make_key(s, i);
            s->order[n++] = i; /* memory short: model order is still an order */
        }
    int64_t failed = 0, last = n;
    if (keys) {
        qsort(keys, (size_t)n, sizeof *keys, compare_keys);
        while (s->sort == SORT_SCORE && failed < n && keys[failed].tier == 0)
            failed++;
        bool up = s->sort == SORT_NAME || s->sort == SORT_MODEL || s->sort == SORT_LEVEL; /* how make_key orders it */
        while (s->sort == SORT_SCORE && last > failed && keys[last - 1].tier == 2)
            last--;
        for (int64_t i = 0; i < n; i++) {
            bool inner = s->ascending != up && i >= failed && i < last;
            s->order[i] = keys[inner ? failed + last - 1 - i : i].linear;
        }
        free(keys);
    }
    s->norder = n;
    s->order_failed = failed;
    s->order_scored = last;
    s->order_made++;
    s->order_valid = true;
    s->order_stale = false;
}

const int64_t *session_order(Session *s, int64_t *n, bool resort)
{
    if (!s->model) {
        *n = 0;
        return NULL;
    }
    if (!s->order_valid || (resort && s->order_stale))
        sort_order(s);
    *n = s->norder;
    return s->order;
}

bool session_order_stale(const Session *s)
{
    return s->order_valid && s->order_stale;
}

int64_t session_rank(Session *s, int64_t linear)
{
    if (!s->rank_valid) {
        int64_t total = s->model->nlinears, n = 0;
        memset(s->rank, 0, (size_t)total * sizeof *s->rank);
        Key *keys = mem_array((size_t)total, sizeof *keys);
        if (!keys)
            return 0;
        for (int64_t i = 0; i < total; i++) {
            Score sc = session_score(s, s->metric, i);
            if (sc.state == SCORE_OK || sc.state == SCORE_STALE)
                keys[n++] = (Key){.linear = i, .value = -sc.value * s->metric->direction};
        }
        qsort(keys, (size_t)n, sizeof *keys, compare_keys);
        for (int64_t i = 0; i < n; i++)
            s->rank[keys[i].linear] = i + 1;
        free(keys);
        s->rank_valid = true;
    }
    return s->rank[linear];
}
