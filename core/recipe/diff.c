#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "recipe/diff.h"

/* Unified diff by lines: the longest common subsequence of what is left between a common beginning and end. */

enum { CELLS_MAX = 16 << 20, CONTEXT = 3 };

typedef struct Line {
    const char *s;
    size_t n; /* with its line end */
} Line;

typedef struct Lines {
    Line *l;
    size_t n, cap;
} Lines;

static bool split(Lines *out, const char *s)
{
    while (*s) {
        const char *e = strchr(s, '\n');
        size_t n = e ? (size_t)(e - s) + 1 : strlen(s);
        if (!mem_grow(&out->l, &out->cap, out->n + 1, sizeof *out->l))
            return false;
        out->l[out->n++] = (Line){s, n};
        s += n;
    }
    return true;
}

static bool same(const Line *a, const Line *b)
{
    return a->n == b->n && memcmp(a->s, b->s, a->n) == 0;
}

/* One line of the result: ' ', '-' or '+'. */
typedef struct DiffLine {
    char op;
    const Line *l;
} DiffLine;

typedef struct Steps {
    DiffLine *s;
    size_t n;
} Steps;

static void step(Steps *out, char op, const Line *l)
{
    out->s[out->n++] = (DiffLine){op, l};
}

/* Lines a[0..n) to b[0..m) by the table of common lengths; too large a piece is replaced as a whole. */
static bool middle(Steps *out, const Line *a, size_t n, const Line *b, size_t m)
{
    size_t i = 0, j = 0;
    if (n && m && n + 1 <= CELLS_MAX / (m + 1)) {
        uint32_t *t = mem_zarray((n + 1) * (m + 1), sizeof *t);
        if (!t)
            return false;
        size_t w = m + 1;
        for (size_t y = n; y-- > 0;)
            for (size_t x = m; x-- > 0;) {
                uint32_t down = t[(y + 1) * w + x], right = t[y * w + x + 1];
                t[y * w + x] = same(&a[y], &b[x]) ? t[(y + 1) * w + x + 1] + 1 : down > right ? down : right;
            }
        while (i < n && j < m) {
            if (same(&a[i], &b[j])) {
                step(out, ' ', &a[i++]);
                j++;
            } else if (t[(i + 1) * w + j] >= t[i * w + j + 1]) {
                step(out, '-', &a[i++]);
            } else {
                step(out, '+', &b[j++]);
            }
        }
        free(t);
    }
    while (i < n)
        step(out, '-', &a[i++]);
    while (j < m)
        step(out, '+', &b[j++]);
    return true;
}

static void put_line(Str *out, const DiffLine *s)
{
    size_t n = s->l->n;
    bool ended = n && s->l->s[n - 1] == '\n';
    if (ended)
        n--;
    if (n && s->l->s[n - 1] == '\r')
        n--;
    str_putc(out, s->op);
    str_append(out, s->l->s, n);
    str_putc(out, '\n');
    if (!ended)
        str_puts(out, "\\ No newline at end of file\n");
}

/* Hunk of steps [a,b), which starts at these line numbers (from 0). */
static void put_hunk(Str *out, const Steps *s, size_t a, size_t b, size_t old_at, size_t new_at)
{
    size_t old_n = 0, new_n = 0;
    for (size_t i = a; i < b; i++) {
        old_n += s->s[i].op != '+';
        new_n += s->s[i].op != '-';
    }
    str_printf(out, "@@ -%zu,%zu +%zu,%zu @@\n", old_n ? old_at + 1 : old_at, old_n, new_n ? new_at + 1 : new_at,
               new_n);
    for (size_t i = a; i < b; i++)
        put_line(out, &s->s[i]);
}

static void put_hunks(Str *out, const Steps *s)
{
    size_t old_at = 0, new_at = 0;
    for (size_t i = 0; i < s->n;) {
        size_t first = i;
        while (first < s->n && s->s[first].op == ' ')
            first++;
        if (first == s->n)
            return;
        size_t a = first - i > CONTEXT ? first - CONTEXT : i, last = first, quiet = 0, b = first;
        for (; b < s->n && quiet <= 2 * CONTEXT; b++) {
            quiet = s->s[b].op == ' ' ? quiet + 1 : 0;
            if (!quiet)
                last = b;
        }
        size_t end = last + 1 + CONTEXT < s->n ? last + 1 + CONTEXT : s->n;
        old_at += a - i;
        new_at += a - i;
        put_hunk(out, s, a, end, old_at, new_at);
        for (size_t k = a; k < end; k++) {
            old_at += s->s[k].op != '+';
            new_at += s->s[k].op != '-';
        }
        i = end;
    }
}

/* Both texts in lines, and how the one becomes the other. */
typedef struct Diff {
    Lines a, b;
    Steps s;
} Diff;

static void diff_free(Diff *d)
{
    free(d->a.l);
    free(d->b.l);
    free(d->s.s);
}

static bool diff_make(Diff *d, const char *old_text, const char *new_text)
{
    *d = (Diff){.s = {NULL, 0}};
    Lines *a = &d->a, *b = &d->b;
    Steps *s = &d->s;
    bool fine = split(a, old_text) && split(b, new_text) && (s->s = mem_array(a->n + b->n, sizeof *s->s)) != NULL;
    size_t pre = 0, suf = 0;
    while (fine && pre < a->n && pre < b->n && same(&a->l[pre], &b->l[pre]))
        step(s, ' ', &a->l[pre++]);
    while (fine && suf < a->n - pre && suf < b->n - pre && same(&a->l[a->n - 1 - suf], &b->l[b->n - 1 - suf]))
        suf++;
    fine = fine && middle(s, a->l + pre, a->n - pre - suf, b->l + pre, b->n - pre - suf);
    for (size_t i = a->n - suf; fine && i < a->n; i++)
        step(s, ' ', &a->l[i]);
    return fine;
}

Status diff_unified(Str *out, const char *old_name, const char *old_text, const char *new_name, const char *new_text,
                    Error *err)
{
    Diff d;
    bool fine = diff_make(&d, old_text, new_text);
    if (fine && strcmp(old_text, new_text) != 0) {
        str_printf(out, "--- %s\n+++ %s\n", old_name, new_name);
        put_hunks(out, &d.s);
    }
    diff_free(&d);
    return fine && !out->oom ? ST_OK : error_nomem(err, "a diff");
}

Status diff_lines(Str *out, const char *old_text, const char *new_text, Error *err)
{
    Diff d;
    bool fine = diff_make(&d, old_text, new_text);
    for (size_t i = 0; fine && i < d.s.n; i++)
        if (d.s.s[i].op != ' ')
            put_line(out, &d.s.s[i]);
    diff_free(&d);
    return fine && !out->oom ? ST_OK : error_nomem(err, "a diff");
}
