/* What a fold is called, and the targets that make commands act on it. */
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "session/fold.h"
#include "session/parts.h"
#include "session/table.h"

enum { LISTED_MAX = 4 }; /* members that a group's name lists */

/* Bytes of the name up to and with its first (last) part that is this number; 0: none is. */
static size_t through_number(const char *name, int32_t number, bool last)
{
    size_t found = 0;
    for (const char *p = name; *p; p += strcspn(p, "."), p += *p == '.') {
        char *end;
        if (!ascii_is_digit(*p) || strtol(p, &end, 10) != number || (*end && *end != '.'))
            continue;
        found = (size_t)(end - name);
        if (!last)
            break;
    }
    return found;
}

static size_t common_head(const char *a, const char *b)
{
    size_t n = 0, dot = 0;
    for (; a[n] && a[n] == b[n]; n++)
        dot = a[n] == '.' ? n + 1 : dot;
    return dot;
}

/* Bytes that both end with. */
static size_t common_tail(const char *a, const char *b, size_t most)
{
    size_t la = strlen(a), lb = strlen(b), n = 0;
    while (n < most && n < la && n < lb && a[la - 1 - n] == b[lb - 1 - n])
        n++;
    return n;
}

/* "a.b.q_proj", "a.b.k_proj": "a.b.{q,k}_proj" */
static void group_name(const Model *m, const FusedGroup *g, Str *out)
{
    const char *first = m->linears[g->first].name;
    size_t head = strlen(first), tail = head;
    for (int32_t k = 1; k < g->count; k++) {
        size_t n = common_head(first, m->linears[group_linear(g, k)].name);
        head = n < head ? n : head;
    }
    str_append(out, first, head);
    if (g->count > LISTED_MAX) {
        str_puts(out, "*");
        return;
    }
    for (int32_t k = 1; k < g->count; k++)
        tail = common_tail(first + head, m->linears[group_linear(g, k)].name + head, tail);
    size_t len = strlen(first);
    while (tail > 0 && first[len - tail] != '_' && first[len - tail] != '.')
        tail--;
    for (int32_t k = 0; k < g->count; k++) {
        const char *part = m->linears[group_linear(g, k)].name + head;
        str_puts(out, k ? "," : "{");
        str_append(out, part, strlen(part) - (tail < strlen(part) ? tail : 0));
    }
    str_printf(out, "}%s", first + len - tail);
}

void session_fold_name(Session *s, int32_t fold, Str *out)
{
    const FoldSlot *f = fold >= 0 && fold < session_folds(s) ? &s->table->folds.fold[fold] : NULL;
    if (!f)
        return;
    const Linear *l = &s->model->linears[f->view.members[0]];
    const char *dot = strrchr(l->name, '.');
    size_t n;
    switch (s->table->folds.mode) {
    case FOLD_BLOCK:
        n = through_number(l->name, l->layer, false);
        str_append(out, l->name, n);
        str_puts(out, n ? ".*" : "*");
        break;
    case FOLD_EXPERTS:
        n = through_number(l->name, l->expert, true);
        while (n > 0 && l->name[n - 1] != '.')
            n--;
        str_append(out, l->name, n);
        str_puts(out, "*");
        break;
    case FOLD_KIND: str_printf(out, "%s%s", dot ? "*" : "", dot ? dot : l->name); break;
    case FOLD_GROUP: group_name(s->model, &s->model->groups[f->key], out); break;
    case FOLD_NONE:
    case FOLD_MODES: break;
    }
}

/* Whether the pattern selects what is wanted and nothing else. */
static bool selects(const Model *m, const char *text, const bool *want, int64_t count, bool *hits)
{
    Pattern *p;
    if (pattern_compile(&p, text, NULL) != ST_OK)
        return false;
    bool same = pattern_hits(p, m, hits) == count && memcmp(hits, want, (size_t)m->nlinears) == 0;
    pattern_free(p);
    return same;
}

static Status take_name(Str *name, char ***out, int *n, Error *err)
{
    *out = mem_array(1, sizeof **out);
    char *text = str_detach(name);
    if (!*out || !text) {
        free(*out);
        free(text);
        *out = NULL;
        return error_nomem(err, "a fold's name");
    }
    (*out)[0] = text;
    *n = 1;
    return ST_OK;
}

Status session_fold_target(Session *s, int32_t fold, char ***out, int *n, Error *err)
{
    *out = NULL;
    *n = 0;
    if (!s->model || fold < 0 || fold >= session_folds(s))
        return error_set(err, ST_USAGE, "no such fold");
    const Fold *f = &s->table->folds.fold[fold].view;
    bool *want = mem_zarray((size_t)s->model->nlinears, 1), *hits = mem_zarray((size_t)s->model->nlinears, 1);
    Status st = want && hits ? ST_OK : error_nomem(err, "a fold's layers");
    for (int64_t k = 0; st == ST_OK && k < f->count; k++)
        want[f->members[k]] = true;
    Str name = {0};
    session_fold_name(s, fold, &name);
    if (st == ST_OK && f->count == f->whole && !name.oom && selects(s->model, str_text(&name), want, f->count, hits))
        st = take_name(&name, out, n, err);
    else if (st == ST_OK)
        st = pattern_cover(s->model, want, out, n, err);
    str_free(&name);
    free(want);
    free(hits);
    return st;
}
