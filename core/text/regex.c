#include "text/regex.h"

#include <stdbool.h>
#include <string.h>

#include "base/ascii.h"
#include "text/unicode.h"

enum { DEPTH_MAX = 64, PATTERN_MAX = 1 << 16, OUTPUT_MAX = 1 << 20, REPEAT_MAX = 1000 };

#define WHITE_SPACE \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

typedef struct Parser {
    const char *s;
    size_t n, i;
    int unicode;
    int depth;
    Error *err;
} Parser;

/* A set of code points on its way out: the inside of a class, that class negated, or an expression that matches one
 * code point. */
typedef struct Set {
    enum { SET_CLASS, SET_NOT_CLASS, SET_EXPR } kind;
    Str text;
} Set;

static Status alternatives(Parser *p, Str *out);
static Status class_body(Parser *p, Set *set);

static Status refuse(Parser *p, size_t at, const char *what)
{
    return error_set(p->err, ST_DATA, "pattern: %s at byte %zu is not supported", what, at);
}

static Status malformed(Parser *p, size_t at, const char *what)
{
    return error_set(p->err, ST_DATA, "pattern: %s at byte %zu", what, at);
}

static bool more(const Parser *p)
{
    return p->i < p->n;
}

static bool ahead(const Parser *p, const char *s)
{
    size_t k = strlen(s);
    return p->n - p->i >= k && memcmp(p->s + p->i, s, k) == 0;
}

static void put_char(Str *out, uint32_t cp)
{
    if (cp < 0x80 && ascii_is_alnum((int)cp))
        str_putc(out, (char)cp);
    else
        str_printf(out, "\\x{%x}", (unsigned)cp);
}

static uint32_t take_char(Parser *p)
{
    int len;
    uint32_t cp = utf8_next(p->s + p->i, &len);
    p->i += (size_t)len;
    return cp;
}

/* ---- sets ---- */

static void set_write(const Set *set, Str *out)
{
    out->oom |= set->text.oom;
    if (set->kind == SET_EXPR)
        str_puts(out, str_text(&set->text));
    else
        str_printf(out, set->kind == SET_CLASS ? "[%s]" : "[^%s]", str_text(&set->text));
}

static void set_negate(Set *set)
{
    if (set->kind != SET_EXPR) {
        set->kind = set->kind == SET_CLASS ? SET_NOT_CLASS : SET_CLASS;
        return;
    }
    Str t = {0};
    str_printf(&t, "(?:(?!%s)(?s:.))", str_text(&set->text));
    t.oom |= set->text.oom;
    str_free(&set->text);
    set->text = t;
}

/* a becomes a && b; b is used up. */
static void set_intersect(Set *a, Set *b)
{
    Str t = {0};
    if (b->kind == SET_NOT_CLASS)
        str_printf(&t, "(?:(?![%s])", str_text(&b->text));
    else {
        str_puts(&t, "(?:(?=");
        set_write(b, &t);
        str_putc(&t, ')');
    }
    set_write(a, &t);
    str_putc(&t, ')');
    t.oom |= b->text.oom;
    str_free(&a->text);
    str_free(&b->text);
    *a = (Set){.kind = SET_EXPR, .text = t};
}

static void put_ranges(Str *out, const UnicodeDelta *d)
{
    str_printf(out, d->lo == d->hi ? "\\x{%x}" : "\\x{%x}-\\x{%x}", (unsigned)d->lo, (unsigned)d->hi);
}

/* A category of one or two letters, as Unicode 16 has it. */
static void set_category(Parser *p, const char *cat, Set *set)
{
    size_t n = strlen(cat);
    Str gone = {0};
    str_printf(&set->text, "\\p{%s}", cat);
    for (size_t i = 0; i < unicode_delta_count; i++) {
        const UnicodeDelta *d = &unicode_delta[i];
        if (d->last < p->unicode)
            continue;
        if (memcmp(d->cat, cat, n) == 0)
            put_ranges(&set->text, d);
        else if (d->from[0] && memcmp(d->from, cat, n) == 0)
            put_ranges(&gone, d);
    }
    if (gone.len) {
        Set not_gone = {.kind = SET_NOT_CLASS, .text = gone};
        set_intersect(set, &not_gone);
    }
}

static void set_han(Parser *p, Set *set)
{
    str_puts(&set->text, "\\p{Han}");
    for (size_t i = 0; i < unicode_delta_han_count; i++)
        if (unicode_delta_han[i].last >= p->unicode)
            put_ranges(&set->text, &unicode_delta_han[i]);
}

/* Long names as they occur; every other name is looked for among the short ones. */
static const struct {
    const char *name, *cat;
} category_names[] = {
    {"Letter", "L"}, {"Mark", "M"}, {"Number", "N"}, {"Punctuation", "P"}, {"Symbol", "S"}, {"Separator", "Z"},
    {NULL, NULL},
};

static const char short_categories[] =
    " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp Cc ";

/* After \p or \P: {Name}, {^Name} or one letter. */
static Status property(Parser *p, bool negated, Set *set)
{
    size_t at = p->i - 2;
    char name[32];
    size_t n = 0;
    if (!more(p))
        return malformed(p, at, "\\p without a name");
    if (p->s[p->i] == '{') {
        p->i++;
        if (more(p) && p->s[p->i] == '^') {
            negated = !negated;
            p->i++;
        }
        while (more(p) && p->s[p->i] != '}' && n + 1 < sizeof name)
            name[n++] = p->s[p->i++];
        if (!more(p) || p->s[p->i] != '}')
            return malformed(p, at, "\\p{…} that does not end");
        p->i++;
    } else if (ascii_is_alpha(p->s[p->i]))
        name[n++] = p->s[p->i++];
    name[n] = 0;
    const char *cat = name;
    for (int i = 0; category_names[i].name; i++)
        if (strcmp(name, category_names[i].name) == 0)
            cat = category_names[i].cat;
    char padded[sizeof name + 2];
    memcpy(padded, " ", 1);
    memcpy(padded + 1, cat, strlen(cat));
    memcpy(padded + 1 + strlen(cat), " ", 2);
    if (strcmp(cat, "Han") == 0 || strcmp(cat, "Script=Han") == 0 || strcmp(cat, "sc=Han") == 0)
        set_han(p, set);
    else if (strlen(cat) > 0 && strlen(cat) <= 2 && strstr(short_categories, padded))
        set_category(p, cat, set);
    else
        return error_set(p->err, ST_DATA,
                         "pattern: property '%s' at byte %zu is not supported (general categories and Han are)", name,
                         at);
    if (negated)
        set_negate(set);
    return ST_OK;
}

/* \s \S \d \D \w \W \p \P, with p->i after the letter. */
static Status set_escape(Parser *p, char letter, Set *set)
{
    switch (letter) {
    case 'p':
    case 'P':
        return property(p, letter == 'P', set);
    case 's':
    case 'S':
        str_puts(&set->text, WHITE_SPACE);
        break;
    case 'd':
    case 'D':
        set_category(p, "Nd", set);
        break;
    default:
        set_category(p, "L", set);
        set_category(p, "M", set);
        set_category(p, "N", set);
        set_category(p, "Pc", set);
    }
    if (ascii_is_upper(letter))
        set_negate(set);
    return ST_OK;
}

static bool is_set_escape(char c)
{
    return c && strchr("sSdDwWpP", c);
}

/* \xHH, \x{H…}, \uHHHH with p->i after the letter. */
static Status hex_escape(Parser *p, char letter, uint32_t *cp)
{
    size_t at = p->i - 2;
    size_t want = letter == 'u' ? 4 : 2, n = 0;
    bool braces = letter == 'x' && more(p) && p->s[p->i] == '{';
    if (braces) {
        p->i++;
        want = 6;
    }
    *cp = 0;
    for (; n < want && more(p) && ascii_is_xdigit(p->s[p->i]); n++, p->i++) {
        char c = p->s[p->i];
        *cp = *cp * 16 + (uint32_t)(ascii_is_digit(c) ? c - '0' : ascii_lower(c) - 'a' + 10);
    }
    if (n == 0 || (letter == 'u' && n != 4) || (braces && (!more(p) || p->s[p->i++] != '}')) || *cp > 0x10ffff ||
        (*cp >= 0xd800 && *cp <= 0xdfff))
        return malformed(p, at, "bad hexadecimal escape");
    return ST_OK;
}

/* An escape that stands for one character, with p->i after the backslash. */
static Status char_escape(Parser *p, uint32_t *cp)
{
    static const char controls[] = "n\nr\rt\tf\fv\va\ae\x1b";
    size_t at = p->i - 1;
    if (!more(p))
        return malformed(p, at, "backslash at the end");
    uint32_t c = take_char(p);
    if (c == 'x' || c == 'u')
        return hex_escape(p, (char)c, cp);
    for (const char *k = controls; *k; k += 2)
        if (c == (unsigned char)*k) {
            *cp = (unsigned char)k[1];
            return ST_OK;
        }
    if (c < 0x80 && ascii_is_alnum((int)c)) {
        char what[64] = "escape '\\?'";
        what[9] = (char)c;
        if (ascii_is_digit((int)c))
            strcpy(what, "back-reference or octal escape");
        return refuse(p, at, what);
    }
    *cp = c;
    return ST_OK;
}

/* ---- classes ---- */

/* One member of a class: a set (nested class, \s, \p…), or a character or range written to `plain`. */
static Status class_member(Parser *p, Str *plain, Set *set, bool *is_set)
{
    *is_set = true;
    if (ahead(p, "[:"))
        return refuse(p, p->i, "a POSIX class '[:'");
    if (p->s[p->i] == '[') {
        p->i++;
        return class_body(p, set);
    }
    if (p->s[p->i] == '\\' && p->i + 1 < p->n && is_set_escape(p->s[p->i + 1])) {
        p->i += 2;
        return set_escape(p, p->s[p->i - 1], set);
    }
    *is_set = false;
    size_t at = p->i;
    uint32_t lo, hi;
    if (p->s[p->i] == '\\') {
        p->i++;
        RETURN_IF_ERROR(char_escape(p, &lo));
    } else
        lo = take_char(p);
    hi = lo;
    bool range = ahead(p, "-") && p->i + 1 < p->n && !ahead(p, "-]") && !ahead(p, "-[") && !ahead(p, "-&&");
    if (range && p->s[p->i + 1] == '\\' && p->i + 2 < p->n && is_set_escape(p->s[p->i + 2]))
        range = false;
    if (range) {
        p->i++;
        if (p->s[p->i] == '\\') {
            p->i++;
            RETURN_IF_ERROR(char_escape(p, &hi));
        } else
            hi = take_char(p);
    }
    if (hi < lo)
        return malformed(p, at, "range whose end is before its start");
    put_char(plain, lo);
    if (hi > lo) {
        str_putc(plain, '-');
        put_char(plain, hi);
    }
    return ST_OK;
}

/* What a union has collected: plain members, and the others as alternatives. */
typedef struct Members {
    Str plain, exprs;
    int count;
} Members;

static void members_add(Members *m, const Set *one)
{
    if (one->kind == SET_CLASS) {
        str_puts(&m->plain, str_text(&one->text));
        m->plain.oom |= one->text.oom;
        return;
    }
    if (m->exprs.len)
        str_putc(&m->exprs, '|');
    set_write(one, &m->exprs);
}

/* Members up to ']' or '&&': their union. A single set stays as it is, so that [^B] keeps its plain form. */
static Status class_union(Parser *p, Set *set)
{
    Members m = {0};
    Status st = ST_OK;
    size_t at = p->i;
    bool alone = false;
    while (st == ST_OK && more(p) && p->s[p->i] != ']' && !ahead(p, "&&")) {
        Set one = {.kind = SET_CLASS};
        bool is_set;
        st = class_member(p, &m.plain, &one, &is_set);
        alone = m.count++ == 0 && is_set && more(p) && (p->s[p->i] == ']' || ahead(p, "&&"));
        if (st == ST_OK && alone) {
            *set = one;
            break;
        }
        if (st == ST_OK && is_set)
            members_add(&m, &one);
        str_free(&one.text);
    }
    if (st == ST_OK && !m.count)
        st = malformed(p, at, "empty class");
    if (st == ST_OK && !alone) {
        set->kind = m.exprs.len ? SET_EXPR : SET_CLASS;
        if (!m.exprs.len)
            str_puts(&set->text, str_text(&m.plain));
        else if (m.plain.len)
            str_printf(&set->text, "(?:[%s]|%s)", str_text(&m.plain), str_text(&m.exprs));
        else
            str_printf(&set->text, "(?:%s)", str_text(&m.exprs));
        set->text.oom |= m.plain.oom || m.exprs.oom;
    }
    str_free(&m.plain);
    str_free(&m.exprs);
    return st;
}

/* A class whose '[' is read. */
static Status class_body(Parser *p, Set *set)
{
    size_t at = p->i - 1;
    if (++p->depth > DEPTH_MAX)
        return malformed(p, at, "classes nested too deeply");
    bool negated = more(p) && p->s[p->i] == '^';
    p->i += negated;
    RETURN_IF_ERROR(class_union(p, set));
    while (ahead(p, "&&")) {
        p->i += 2;
        Set other = {.kind = SET_CLASS};
        Status st = class_union(p, &other);
        if (st == ST_OK)
            set_intersect(set, &other);
        else {
            str_free(&other.text);
            return st;
        }
    }
    if (!more(p))
        return malformed(p, at, "class that does not end");
    p->i++;
    p->depth--;
    if (set->text.len > OUTPUT_MAX)
        return malformed(p, at, "class that grows too large");
    if (negated)
        set_negate(set);
    return ST_OK;
}

/* ---- expressions ---- */

static Status group(Parser *p, Str *out, bool *quantifiable)
{
    static const struct {
        const char *open, *emit, *name; /* name: refused */
    } kinds[] = {
        {"(?:", "(?:", NULL},
        {"(?i:", "(?i:", NULL},
        {"(?=", "(?=", NULL},
        {"(?!", "(?!", NULL},
        {"(?<=", NULL, "look-behind '(?<='"},
        {"(?<!", NULL, "look-behind '(?<!'"},
        {"(?>", NULL, "atomic group '(?>'"},
        {"(?<", NULL, "named group '(?<'"},
        {"(?P", NULL, "named group '(?P'"},
        {"(?#", NULL, "comment '(?#'"},
        {"(?", NULL, "group option '(?'"},
        {"(*", NULL, "verb '(*'"},
        {"(", "(?:", NULL},
    };
    size_t at = p->i;
    int k = 0;
    while (!ahead(p, kinds[k].open))
        k++;
    if (kinds[k].name)
        return refuse(p, at, kinds[k].name);
    *quantifiable = strcmp(kinds[k].open, "(?=") != 0 && strcmp(kinds[k].open, "(?!") != 0;
    p->i += strlen(kinds[k].open);
    str_puts(out, kinds[k].emit);
    if (++p->depth > DEPTH_MAX)
        return malformed(p, at, "groups nested too deeply");
    RETURN_IF_ERROR(alternatives(p, out));
    p->depth--;
    if (!more(p))
        return malformed(p, at, "group that does not end");
    p->i++;
    str_putc(out, ')');
    return ST_OK;
}

static Status atom(Parser *p, Str *out, bool *quantifiable)
{
    char c = p->s[p->i];
    size_t at = p->i;
    *quantifiable = true;
    if (c == '(')
        return group(p, out, quantifiable);
    bool is_class = c == '[';
    if (is_class || (c == '\\' && p->i + 1 < p->n && is_set_escape(p->s[p->i + 1]))) {
        Set set = {.kind = SET_CLASS};
        p->i += is_class ? 1 : 2;
        Status st = is_class ? class_body(p, &set) : set_escape(p, p->s[p->i - 1], &set);
        if (st == ST_OK)
            set_write(&set, out);
        str_free(&set.text);
        return st;
    }
    if (c == '.') {
        p->i++;
        str_puts(out, "[^\\x{a}]");
        return ST_OK;
    }
    if (c == '^' || c == '$') {
        p->i++;
        *quantifiable = false;
        str_puts(out, c == '^' ? "(?m:^)" : "(?m:$)");
        return ST_OK;
    }
    if (c == '*' || c == '+' || c == '?')
        return malformed(p, at, "quantifier with nothing before it");
    uint32_t cp;
    if (c == '\\') {
        p->i++;
        RETURN_IF_ERROR(char_escape(p, &cp));
    } else
        cp = take_char(p);
    put_char(out, cp);
    return ST_OK;
}

/* {m} {m,} {,n} {m,n} at p->i; anything else in braces is literal text. */
static bool interval(const Parser *p, long *lo, long *hi, size_t *end)
{
    size_t i = p->i + 1;
    long v[2] = {-1, -1};
    int k = 0;
    for (; i < p->n && p->s[i] != '}'; i++) {
        if (p->s[i] == ',' && k == 0)
            k = 1;
        else if (ascii_is_digit(p->s[i]) && v[k] < 1000000)
            v[k] = (v[k] < 0 ? 0 : v[k] * 10) + (p->s[i] - '0');
        else
            return false;
    }
    if (i >= p->n || (v[0] < 0 && v[1] < 0))
        return false;
    *lo = v[0] < 0 ? 0 : v[0];
    *hi = k ? v[1] : v[0];
    *end = i + 1;
    return true;
}

static Status quantifier(Parser *p, Str *out, bool quantifiable)
{
    size_t at = p->i, end = 0;
    long lo = 0, hi = 0;
    bool braces = more(p) && p->s[p->i] == '{' && interval(p, &lo, &hi, &end);
    if (!more(p) || !(braces || strchr("?*+", p->s[p->i])))
        return ST_OK;
    if (!quantifiable)
        return refuse(p, at, "a quantifier after an assertion");
    if (braces) {
        if (lo > REPEAT_MAX || hi > REPEAT_MAX || (hi >= 0 && hi < lo))
            return malformed(p, at, "bad repeat count");
        if (hi < 0)
            str_printf(out, "{%ld,}", lo);
        else
            str_printf(out, "{%ld,%ld}", lo, hi);
        p->i = end;
    } else
        str_putc(out, p->s[p->i++]);
    if (!more(p))
        return ST_OK;
    if (p->s[p->i] == '?')
        return refuse(p, p->i, "a lazy quantifier");
    if (p->s[p->i] == '+' && !braces) {
        str_putc(out, '+');
        p->i++;
    }
    bool again = more(p) && (strchr("*+", p->s[p->i]) || (p->s[p->i] == '{' && interval(p, &lo, &hi, &end)));
    if (again)
        return refuse(p, p->i, "a quantifier after a quantifier");
    return ST_OK;
}

static Status alternatives(Parser *p, Str *out)
{
    while (more(p) && p->s[p->i] != ')') {
        if (p->s[p->i] == '|') {
            str_putc(out, '|');
            p->i++;
            continue;
        }
        bool quantifiable;
        RETURN_IF_ERROR(atom(p, out, &quantifiable));
        RETURN_IF_ERROR(quantifier(p, out, quantifiable));
        if (out->len > OUTPUT_MAX)
            return malformed(p, p->i, "pattern that grows too large");
    }
    return ST_OK;
}

Status regex_translate(const char *pattern, size_t len, int unicode, Str *out, Error *err)
{
    Parser p = {.s = pattern, .n = len, .unicode = unicode, .err = err};
    if (len > PATTERN_MAX)
        return error_set(err, ST_DATA, "pattern of %zu bytes: at most %d are read", len, PATTERN_MAX);
    if (utf8_valid_prefix(pattern, len) != len)
        return error_set(err, ST_DATA, "pattern that is not UTF-8");
    RETURN_IF_ERROR(alternatives(&p, out));
    if (more(&p))
        return malformed(&p, p.i, "')' without a group");
    return out->oom ? error_nomem(err, "a pattern") : ST_OK;
}
