/* Filters of the table: their words, and those that have names. */
#include "session/filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "session/assignment.h"
#include "session/entries.h"
#include "session/parts.h"
#include "session/table.h"

/* first=N, last=N: a range of blocks. */
static Status blocks_term(const Session *s, const char *word, FilterTerm *t, Error *err)
{
    const char *digits = strchr(word, '=') + 1;
    char *end;
    long n = strtol(digits, &end, 10), layers = s->model ? s->model->cfg.layers : 0;
    if (end == digits || *end || n < 1)
        return error_set(err, ST_USAGE, "'%s': first= and last= take a number of blocks", word);
    t->kind = TERM_LAYER;
    n = n < layers ? n : layers;
    t->lo = word[0] == 'f' ? 0 : layers - n;
    t->hi = word[0] == 'f' ? n - 1 : layers - 1;
    return ST_OK;
}

static Status parse_term(const Session *s, const char *word, FilterTerm *t, Error *err)
{
    *t = (FilterTerm){0};
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
    else if (strncmp(word, "first=", 6) == 0 || strncmp(word, "last=", 5) == 0)
        return blocks_term(s, word, t, err);
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
                         "'%s': a filter has words, kind=, layer=A..B, first=N, last=N, score>X, float, failed, tagged, @NAME, !word", word);
    return ST_OK;
}

static const char *saved_text(const Session *s, const char *name)
{
    const SavedFilters *f = &s->table->saved;
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->list[i].name, name) == 0)
            return f->list[i].text;
    return NULL;
}

static Status unknown_name(const Session *s, const char *name, Error *err)
{
    Str names = {0};
    const char *text;
    for (int i = 0; session_filter_name(s, i, &text); i++)
        str_printf(&names, "%s@%s", i ? ", " : "", session_filter_name(s, i, &text));
    error_set(err, ST_USAGE, names.len ? "no filter is kept as '@%s': there are %s" : "no filter is kept as '@%s'; filter --save NAME keeps one",
              name, str_text(&names));
    str_free(&names);
    return ST_USAGE;
}

/* Adds the terms of a text; depth: filters within filters. */
static Status parse_words(const Session *s, const char *expr, Filter *f, int depth, Error *err)
{
    enum { DEEPEST = 4 };
    if (depth > DEEPEST)
        return error_set(err, ST_USAGE, "filters that are kept name each other in a circle");
    while (expr && *expr) {
        while (ascii_is_space(*expr))
            expr++;
        size_t len = strcspn(expr, " \t");
        if (!len)
            break;
        char word[128];
        if (len >= sizeof word || f->n == MAX_TERMS)
            return error_set(err, ST_USAGE, "the filter is too long: at most %d words of 127 bytes", MAX_TERMS);
        memcpy(word, expr, len);
        word[len] = 0;
        if (word[0] == '@') {
            const char *text = saved_text(s, word + 1);
            RETURN_IF_ERROR(text ? parse_words(s, text, f, depth + 1, err) : unknown_name(s, word + 1, err));
        } else {
            RETURN_IF_ERROR(parse_term(s, word, &f->term[f->n], err));
            f->n++;
        }
        expr += len;
    }
    return ST_OK;
}

Status filter_parse(const Session *s, const char *expr, Filter *out, Error *err)
{
    out->n = 0;
    return parse_words(s, expr, out, 0, err);
}

static bool holds(const Session *s, const FilterTerm *t, int64_t i)
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
    Filter f;
    RETURN_IF_ERROR(filter_parse(s, expr, &f, err));
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
    Filter f;
    RETURN_IF_ERROR(filter_parse(s, expr, &f, err));
    return table_set_filter(s->table, expr, err);
}

const char *session_filter_text(const Session *s)
{
    return s->table->filter ? s->table->filter : "";
}

bool filter_passes(const Session *s, const Filter *f, int64_t linear)
{
    for (int k = 0; k < f->n; k++)
        if (holds(s, &f->term[k], linear) == f->term[k].negate)
            return false;
    return true;
}

/* ---- filters with names ---- */

void saved_filters_free(SavedFilters *f)
{
    for (int i = 0; i < f->n; i++) {
        free(f->list[i].name);
        free(f->list[i].text);
    }
    free(f->list);
    *f = (SavedFilters){0};
}

static bool good_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return n > 0 && n < 64 && !name[n];
}

const char *session_filter_name(const Session *s, int i, const char **expr)
{
    const SavedFilters *f = &s->table->saved;
    if (i < 0 || i >= f->n)
        return NULL;
    *expr = f->list[i].text;
    return f->list[i].name;
}

static void drop_name(SavedFilters *f, const char *name)
{
    for (int i = 0; i < f->n; i++) {
        if (strcmp(f->list[i].name, name) != 0)
            continue;
        free(f->list[i].name);
        free(f->list[i].text);
        memmove(&f->list[i], &f->list[i + 1], (size_t)(--f->n - i) * sizeof *f->list);
        return;
    }
}

Status session_save_filter(Session *s, const char *name, const char *expr, Error *err)
{
    enum { MOST = 64 };
    SavedFilters *f = &s->table->saved;
    Filter parsed;
    if (!good_name(name))
        return error_set(err, ST_USAGE, "'%s' is no name for a filter: letters, digits, - and _", name);
    RETURN_IF_ERROR(filter_parse(s, expr, &parsed, err));
    if (f->n == MOST && !saved_text(s, name))
        return error_set(err, ST_USAGE, "%d filters are kept already; an empty one takes its name away", MOST);
    char *n = strdup(name), *t = strdup(expr);
    if (!n || !t || !mem_grow(&f->list, &f->cap, (size_t)f->n + 1, sizeof *f->list)) {
        free(n);
        free(t);
        return error_nomem(err, "the filter's name");
    }
    drop_name(f, name);
    if (*expr) {
        f->list[f->n].name = n;
        f->list[f->n++].text = t;
        n = t = NULL;
    }
    entry_kept_filter(s, name, expr);
    free(n);
    free(t);
    return ST_OK;
}
