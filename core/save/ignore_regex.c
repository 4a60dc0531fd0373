#include "save/ignore_regex.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum { PARTS_MAX = 64 }; /* parts of a name: how deep render goes */

/* Siblings with the same subtree. */
typedef struct Branch {
    const char **token; /* borrowed starts */
    size_t *len, count, cap, len_cap;
    Str below;          /* rendered subtree, "" at the end of a name */
    Str text;           /* rendered branch */
} Branch;

typedef struct Branches {
    Branch *b;
    size_t n, cap;
} Branches;

static void branches_free(Branches *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->b[i].token);
        free(l->b[i].len);
        str_free(&l->b[i].below);
        str_free(&l->b[i].text);
    }
    free(l->b);
}

static size_t token_length(const char *s)
{
    return strcspn(s, ".");
}

static void put_escaped(Str *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strchr("()[]{}?*+-|^$\\.&~# \t\n\r\v\f", s[i]))
            str_putc(out, '\\');
        str_putc(out, s[i]);
    }
}

static bool all_digits(const Branch *b)
{
    for (size_t i = 0; i < b->count; i++)
        if (strspn(b->token[i], "0123456789") < b->len[i])
            return false;
    return true;
}

typedef struct Token {
    const char *s;
    size_t n;
    bool number;
} Token;

static int token_cmp(const void *pa, const void *pb)
{
    const Token *a = pa, *b = pb;
    if (a->number && a->n != b->n)
        return a->n < b->n ? -1 : 1;
    size_t n = a->n < b->n ? a->n : b->n;
    int c = memcmp(a->s, b->s, n);
    return c ? c : a->n < b->n ? -1 : a->n > b->n;
}

static Status branch_text(Branch *b, Error *err)
{
    Token *t = mem_array(b->count, sizeof *t);
    if (!t)
        return error_nomem(err, "the list of float layers");
    bool number = all_digits(b);
    for (size_t i = 0; i < b->count; i++)
        t[i] = (Token){b->token[i], b->len[i], number};
    qsort(t, b->count, sizeof *t, token_cmp);
    if (b->count > 1)
        str_puts(&b->text, "(?:");
    for (size_t i = 0; i < b->count; i++) {
        if (i)
            str_putc(&b->text, '|');
        put_escaped(&b->text, t[i].s, t[i].n);
    }
    if (b->count > 1)
        str_putc(&b->text, ')');
    if (b->below.len) {
        str_puts(&b->text, "\\.");
        str_append(&b->text, b->below.s, b->below.len);
    }
    free(t);
    return b->text.oom || b->below.oom ? error_nomem(err, "the list of float layers") : ST_OK;
}

static bool same_text(const Str *a, const Str *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->s, b->s, a->len) == 0);
}

/* Takes `below` over. */
static Status add_branch(Branches *l, const char *token, Str *below, Error *err)
{
    size_t i = 0;
    while (i < l->n && !same_text(&l->b[i].below, below))
        i++;
    if (i == l->n) {
        if (!mem_grow(&l->b, &l->cap, l->n + 1, sizeof *l->b))
            return error_nomem(err, "the list of float layers");
        l->b[l->n++] = (Branch){.below = *below};
        *below = (Str){0};
    }
    Branch *b = &l->b[i];
    if (!mem_grow(&b->token, &b->cap, b->count + 1, sizeof *b->token)
        || !mem_grow(&b->len, &b->len_cap, b->count + 1, sizeof *b->len))
        return error_nomem(err, "the list of float layers");
    b->token[b->count] = token;
    b->len[b->count++] = token_length(token);
    return ST_OK;
}

static int branch_cmp(const void *a, const void *b)
{
    return strcmp(str_text(&((const Branch *)a)->text), str_text(&((const Branch *)b)->text));
}

static Status join(Branches *l, Str *out, Error *err)
{
    for (size_t i = 0; i < l->n; i++)
        RETURN_IF_ERROR(branch_text(&l->b[i], err));
    qsort(l->b, l->n, sizeof *l->b, branch_cmp);
    if (l->n > 1)
        str_puts(out, "(?:");
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            str_putc(out, '|');
        str_puts(out, str_text(&l->b[i].text));
    }
    if (l->n > 1)
        str_putc(out, ')');
    return ST_OK;
}

/* names[0..n) share their first `at` bytes, which end with a dot or are none. */
static Status render(const char **names, size_t n, size_t at, int depth, Str *out, Error *err)
{
    Branches l = {0};
    Status st = depth < PARTS_MAX ? ST_OK : error_set(err, ST_DATA, "'%s' has too many parts", names[0]);
    for (size_t i = 0; i < n && st == ST_OK;) {
        const char *token = names[i] + at;
        size_t k = token_length(token), same = i + 1;
        Str below = {0};
        while (same < n && token[k] && strncmp(names[same] + at, token, k + 1) == 0)
            same++;
        if (token[k])
            st = render(names + i, same - i, at + k + 1, depth + 1, &below, err);
        if (st == ST_OK)
            st = add_branch(&l, token, &below, err);
        str_free(&below);
        i = same;
    }
    if (st == ST_OK)
        st = join(&l, out, err);
    branches_free(&l);
    return st;
}

Status ignore_regex(const char **names, size_t n, Str *out, Error *err)
{
    qsort(names, n, sizeof *names, compare_strings);
    str_puts(out, "re:");
    RETURN_IF_ERROR(render(names, n, 0, 0, out, err));
    str_puts(out, "(?![.\\w])");
    return out->oom ? error_nomem(err, "the list of float layers") : ST_OK;
}
