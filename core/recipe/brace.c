#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "recipe/pattern_impl.h"

/* Brace expansion. A group is "{…}" with a comma or ".." at its own level; what is none stays as text (specs/config.md
 * 7). */

enum { BRACE_DEPTH_MAX = 64 };

typedef struct Span {
    const char *s;
    size_t n;
} Span;

static Status too_many(Error *err)
{
    return error_set(err, ST_DATA, "pattern has more than %d brace alternatives: split it into several patterns",
                     PATTERN_ALTS_MAX);
}

/* Appends a+b to the list. */
static Status list_add(BraceList *l, Span a, Span b, Error *err)
{
    if (l->n >= PATTERN_ALTS_MAX)
        return too_many(err);
    l->bytes += a.n + b.n + 1;
    if (l->bytes > PATTERN_EXPANDED_MAX)
        return error_set(err, ST_DATA, "pattern expands to more than %d bytes: split it into several patterns",
                         PATTERN_EXPANDED_MAX);
    char *s = arena_alloc(l->arena, a.n + b.n + 1);
    if (!s || !mem_grow(&l->s, &l->cap, l->n + 1, sizeof *l->s))
        return error_nomem(err, "a pattern");
    memcpy(s, a.s, a.n);
    memcpy(s + a.n, b.s, b.n);
    s[a.n + b.n] = '\0';
    l->s[l->n++] = s;
    return ST_OK;
}

/* acc becomes every text of acc followed by every text of tail. tail's array is freed. */
static Status list_product(BraceList *acc, BraceList *tail, Error *err)
{
    BraceList r = {.arena = acc->arena};
    Status st = acc->n * tail->n > PATTERN_ALTS_MAX ? too_many(err) : ST_OK;
    for (size_t i = 0; i < acc->n && st == ST_OK; i++)
        for (size_t j = 0; j < tail->n && st == ST_OK; j++)
            st = list_add(&r, (Span){acc->s[i], strlen(acc->s[i])}, (Span){tail->s[j], strlen(tail->s[j])}, err);
    free(acc->s);
    free(tail->s);
    *tail = (BraceList){.arena = acc->arena};
    *acc = r;
    return st;
}

static Status list_product_text(BraceList *acc, Span text, Error *err)
{
    if (!text.n)
        return ST_OK;
    BraceList one = {.arena = acc->arena};
    RETURN_IF_ERROR(list_add(&one, text, (Span){"", 0}, err));
    return list_product(acc, &one, err);
}

/* A group's shape, seen from after its '{'. */
typedef struct Group {
    size_t end; /* index of its '}' */
    bool comma; /* else it has ".." */
} Group;

/* Finds the '}' of the group whose text starts at i. At the top level a '}' before any comma or ".." doesn't end it. */
static bool group_find(Span t, size_t i, bool nested, Group *g)
{
    int level = 0;
    bool comma = false, dots = false;
    for (; i < t.n; i++) {
        char c = t.s[i];
        if (c == '\\') {
            i++;
        } else if (c == '$' && i + 1 < t.n && t.s[i + 1] == '{') {
            level++;
            i++;
        } else if (c == '{') {
            level++;
        } else if (c == '}' && level) {
            level--;
        } else if (c == '}' && (comma || dots)) {
            *g = (Group){i, comma};
            return true;
        } else if (c == '}' && nested) {
            return false;
        } else if (!level && c == ',') {
            comma = true;
        } else if (!level && c == '.' && i + 1 < t.n && t.s[i + 1] == '.' && !(i + 2 < t.n && t.s[i + 2] == '}')) {
            dots = true;
        }
    }
    return false;
}

typedef struct Number {
    int64_t value;
    size_t width; /* as written, with sign */
    bool padded;  /* has a leading zero, and no '+' */
} Number;

/* Reads [+-]digits at *i. */
static bool number_read(Span t, size_t *i, Number *out)
{
    size_t p = *i, start = p;
    bool neg = p < t.n && t.s[p] == '-', plus = p < t.n && t.s[p] == '+';
    p += neg || plus;
    size_t digits = p, significant = 0;
    int64_t v = 0;
    for (; p < t.n && ascii_is_digit(t.s[p]); p++) {
        significant += significant || t.s[p] != '0';
        if (significant > 18)
            return false;
        v = v * 10 + (t.s[p] - '0');
    }
    if (p == digits)
        return false;
    *out = (Number){neg ? -v : v, p - start, t.s[digits] == '0' && p - digits > 1 && !plus};
    *i = p;
    return true;
}

static bool dots_read(Span t, size_t *i)
{
    if (*i + 2 > t.n || t.s[*i] != '.' || t.s[*i + 1] != '.')
        return false;
    *i += 2;
    return true;
}

/* The optional "..step" that ends a range. */
static bool step_read(Span t, size_t i, int64_t *step)
{
    *step = 1;
    if (i == t.n)
        return true;
    Number n;
    if (!dots_read(t, &i) || !number_read(t, &i, &n) || i != t.n)
        return false;
    int64_t v = n.value < 0 ? -n.value : n.value;
    *step = v ? v : 1;
    return true;
}

static Status add_int_range(BraceList *out, Number a, Number b, int64_t step, Error *err)
{
    int width = 0;
    if (a.padded || b.padded)
        width = (int)(a.width > b.width ? a.width : b.width);
    bool up = a.value <= b.value;
    uint64_t span = (uint64_t)(up ? b.value - a.value : a.value - b.value);
    uint64_t count = span / (uint64_t)step + 1;
    if (count > PATTERN_ALTS_MAX)
        return too_many(err);
    for (uint64_t k = 0; k < count; k++) {
        int64_t v = up ? a.value + (int64_t)(k * (uint64_t)step) : a.value - (int64_t)(k * (uint64_t)step);
        char digits[24], buf[PATTERN_TEXT_MAX + 32];
        size_t nd = 0, n = 0;
        uint64_t u = (uint64_t)(v < 0 ? -v : v);
        do
            digits[nd++] = (char)('0' + u % 10);
        while (u /= 10);
        if (v < 0)
            buf[n++] = '-';
        while (n + nd < (size_t)width)
            buf[n++] = '0';
        while (nd)
            buf[n++] = digits[--nd];
        RETURN_IF_ERROR(list_add(out, (Span){buf, n}, (Span){"", 0}, err));
    }
    return ST_OK;
}

static Status add_char_range(BraceList *out, char a, char b, int64_t step, Error *err)
{
    int dir = a <= b ? 1 : -1;
    if (step > 64)
        step = 64;
    for (int c = a; dir > 0 ? c <= b : c >= b; c += dir * (int)step) {
        char ch = (char)c;
        RETURN_IF_ERROR(list_add(out, (Span){&ch, ch == '\\' ? 0 : 1}, (Span){"", 0}, err));
    }
    return ST_OK;
}

/* {1..3}, {a..e..2}: *done tells whether the text was a range. */
static Status add_range(BraceList *out, Span t, bool *done, Error *err)
{
    Number a, b;
    int64_t step;
    size_t i = 0;
    *done = true;
    if (number_read(t, &i, &a) && dots_read(t, &i) && number_read(t, &i, &b) && step_read(t, i, &step))
        return add_int_range(out, a, b, step, err);
    if (t.n >= 4 && ascii_is_alpha(t.s[0]) && t.s[1] == '.' && t.s[2] == '.' &&
        ascii_is_alpha(t.s[3]) && step_read(t, 4, &step))
        return add_char_range(out, t.s[0], t.s[3], step, err);
    *done = false;
    return ST_OK;
}

/* Whether both sides of the first ".." begin like terms of one kind: such a group is text when it isn't a range, groups
 * inside and all. */
static bool range_like(Span t)
{
    size_t k = 1;
    while (k + 1 < t.n && !(t.s[k] == '.' && t.s[k + 1] == '.'))
        k++;
    if (k + 2 >= t.n || t.s[0] == '.')
        return false;
    bool letter = ascii_is_alpha(t.s[0]), right_letter = ascii_is_alpha(t.s[k + 2]);
    if (letter || right_letter)
        return letter && right_letter && k == 1 && (k + 3 == t.n || t.s[k + 3] == '.');
    const char *l = t.s, *r = t.s + k + 2;
    l += *l == '-' || *l == '+';
    r += (*r == '-' || *r == '+') && r + 1 < t.s + t.n;
    return ascii_is_digit(*l) && ascii_is_digit(*r);
}

static Status expand(BraceList *out, Span t, int depth, Error *err);

/* The comma-separated slots of a group, each expanded, one after the other. */
static Status expand_slots(BraceList *out, Span t, int depth, Error *err)
{
    size_t start = 0;
    int level = 0;
    for (size_t i = 0; i <= t.n; i++) {
        char c = i < t.n ? t.s[i] : ',';
        if (c == '\\' && i < t.n) {
            i++;
            continue;
        }
        if (c == '{')
            level++;
        else if (c == '}' && level)
            level--;
        if (i < t.n && !(c == ',' && level == 0))
            continue;
        BraceList slot = {.arena = out->arena};
        Status st = expand(&slot, (Span){t.s + start, (i < t.n ? i : t.n) - start}, depth + 1, err);
        for (size_t k = 0; k < slot.n && st == ST_OK; k++)
            st = list_add(out, (Span){slot.s[k], strlen(slot.s[k])}, (Span){"", 0}, err);
        free(slot.s);
        RETURN_IF_ERROR(st);
        start = i + 1;
    }
    return ST_OK;
}

/* Tries the group at t.s[*i] == '{'. Expanded: acc grows, *i goes behind it, *kind = 1. Kept as text as a whole: *kind
 * = 2. */
static Status expand_group(BraceList *acc, Span t, size_t *i, int depth, int *kind, Error *err)
{
    Group g;
    *kind = 0;
    if (!group_find(t, *i + 1, depth > 0, &g))
        return ST_OK;
    Span body = {t.s + *i + 1, g.end - *i - 1};
    BraceList alts = {.arena = acc->arena};
    Status st = ST_OK;
    bool done = true;
    if (g.comma)
        st = expand_slots(&alts, body, depth, err);
    else
        st = add_range(&alts, body, &done, err);
    if (st != ST_OK || !done) {
        free(alts.s);
        if (st == ST_OK && range_like(body)) {
            *kind = 2;
            *i = g.end + 1;
        }
        return st;
    }
    *kind = 1;
    *i = g.end + 1;
    return list_product(acc, &alts, err);
}

static Status expand(BraceList *out, Span t, int depth, Error *err)
{
    if (depth > BRACE_DEPTH_MAX)
        return error_set(err, ST_DATA, "pattern has braces nested deeper than %d", BRACE_DEPTH_MAX);
    RETURN_IF_ERROR(list_add(out, (Span){"", 0}, (Span){"", 0}, err));
    size_t i = 0, text = 0, word = 0; /* text: where the pending plain text starts; word: where the present word does */
    while (i < t.n) {
        if (t.s[i] == '\\' || (t.s[i] == '$' && i + 1 < t.n && t.s[i + 1] == '{')) {
            i = i + 2 < t.n ? i + 2 : t.n;
            continue;
        }
        if (t.s[i] != '{') {
            i++;
            continue;
        }
        if (i == word && i + 1 < t.n && t.s[i + 1] == '}') {
            i += 2;
            continue;
        }
        size_t open = i;
        int kind;
        BraceList tail = {.arena = out->arena};
        Status st = list_add(&tail, (Span){t.s + text, open - text}, (Span){"", 0}, err);
        if (st == ST_OK)
            st = expand_group(&tail, t, &i, depth, &kind, err);
        if (st == ST_OK && kind == 1) {
            st = list_product(out, &tail, err);
            text = word = i;
        } else if (st == ST_OK && kind == 0) {
            i = open + 1;
        }
        free(tail.s);
        RETURN_IF_ERROR(st);
    }
    return list_product_text(out, (Span){t.s + text, t.n - text}, err);
}

Status brace_expand(BraceList *out, const char *text, Error *err)
{
    return expand(out, (Span){text, strlen(text)}, 0, err);
}
