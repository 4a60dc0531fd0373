#include "save/pyyaml.h"

#include <math.h>
#include <string.h>

#include "save/pyjson.h"

/* PyYAML's own writer, the one the peer uses. libyaml's folds text with escapes elsewhere. */

enum { BEST_WIDTH = 80, BEST_INDENT = 2, SIMPLE_KEY_MAX = 128 };

/* Where the writer stands: `whitespace` and `indention` tell what the line ends with. */
typedef struct Emit {
    Str *out;
    int column, indent;
    bool whitespace, indention;
} Emit;

typedef struct Scalar {
    const char *s;
    size_t n;
    bool str; /* has to be read back as a string */
} Scalar;

static void put(Emit *e, const char *s, size_t n)
{
    str_append(e->out, s, n);
    e->column += (int)n;
}

static void line_break(Emit *e)
{
    str_putc(e->out, '\n');
    e->whitespace = true;
    e->indention = true;
    e->column = 0;
}

static void to_indent(Emit *e)
{
    if (!e->indention || e->column > e->indent || (e->column == e->indent && !e->whitespace))
        line_break(e);
    if (e->column < e->indent)
        e->whitespace = true;
    while (e->column < e->indent)
        put(e, " ", 1);
}

static void indicator(Emit *e, const char *s, bool space_before, bool whitespace, bool indention)
{
    if (!e->whitespace && space_before)
        put(e, " ", 1);
    e->whitespace = whitespace;
    e->indention = e->indention && indention;
    put(e, s, strlen(s));
}

/* ---- which style a scalar can have ---- */

typedef struct Shape {
    bool empty, multiline, plain, single;
} Shape;

static bool is_blank(const char *s, size_t n, size_t i)
{
    return i >= n || strchr(" \t\r\n", s[i]) != NULL; /* NUL too */
}

static bool is_indicator(const char *s, size_t n, size_t i)
{
    char c = s[i];
    bool space_after = is_blank(s, n, i + 1);
    if (i == 0)
        return strchr("#,[]{}&*!|>'\"%@`", c) || ((c == '?' || c == ':' || c == '-') && space_after);
    return (c == ':' && space_after) || (c == '#' && is_blank(s, n, i - 1));
}

static Shape shape_of(const Scalar *v)
{
    const char *s = v->s;
    size_t n = v->n;
    Shape h = {.empty = n == 0};
    if (n == 0) {
        h.single = true;
        h.plain = true; /* in a block; an empty string does not resolve to a string, though */
        return h;
    }
    bool special = false, bad = (n >= 3 && (memcmp(s, "---", 3) == 0 || memcmp(s, "...", 3) == 0));
    bool break_space = false, space_break = false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        bad = bad || (c && is_indicator(s, n, i));
        h.multiline = h.multiline || c == '\n';
        special = special || !(c == '\n' || (c >= 0x20 && c <= 0x7e));
        break_space = break_space || (c == ' ' && i && s[i - 1] == '\n');
        space_break = space_break || (c == '\n' && i && s[i - 1] == ' ');
    }
    bool edge = s[0] == ' ' || s[0] == '\n' || s[n - 1] == ' ' || s[n - 1] == '\n';
    h.single = !break_space && !space_break && !special;
    h.plain = h.single && !edge && !h.multiline && !bad;
    return h;
}

/* ---- writing ---- */

static void write_plain(Emit *e, const Scalar *v, bool split)
{
    if (v->n == 0)
        return;
    if (!e->whitespace)
        put(e, " ", 1);
    e->whitespace = false;
    e->indention = false;
    size_t start = 0;
    bool spaces = false;
    for (size_t end = 0; end <= v->n; end++) {
        bool last = end == v->n, space = !last && v->s[end] == ' ';
        if (spaces && !space) {
            if (start + 1 == end && e->column > BEST_WIDTH && split) {
                to_indent(e);
                e->whitespace = false;
                e->indention = false;
            } else {
                put(e, v->s + start, end - start);
            }
            start = end;
        } else if (!spaces && (last || space)) {
            put(e, v->s + start, end - start);
            start = end;
        }
        if (!last)
            spaces = space;
    }
}

static void write_single(Emit *e, const Scalar *v, bool split)
{
    indicator(e, "'", true, false, false);
    size_t start = 0;
    bool spaces = false, breaks = false;
    for (size_t end = 0; end <= v->n; end++) {
        char c = end < v->n ? v->s[end] : 0;
        bool last = end == v->n;
        if (spaces) {
            if (last || c != ' ') {
                if (start + 1 == end && e->column > BEST_WIDTH && split && start != 0 && !last)
                    to_indent(e);
                else
                    put(e, v->s + start, end - start);
                start = end;
            }
        } else if (breaks) {
            if (last || c != '\n') {
                line_break(e);
                for (; start < end; start++)
                    line_break(e);
                to_indent(e);
            }
        } else if (last || c == ' ' || c == '\n' || c == '\'') {
            put(e, v->s + start, end - start);
            start = end;
        }
        if (!last && c == '\'') {
            put(e, "''", 2);
            start = end + 1;
        }
        if (!last) {
            spaces = c == ' ';
            breaks = c == '\n';
        }
    }
    indicator(e, "'", false, false, false);
}

/* The escape of a code point in double quotes. */
static void put_escape(Emit *e, unsigned cp)
{
    static const struct {
        unsigned cp;
        char as;
    } known[] = {{0, '0'}, {7, 'a'}, {8, 'b'}, {9, 't'}, {10, 'n'}, {11, 'v'}, {12, 'f'}, {13, 'r'}, {27, 'e'},
                 {'"', '"'}, {'\\', '\\'}, {0x85, 'N'}, {0xa0, '_'}, {0x2028, 'L'}, {0x2029, 'P'}};
    char buf[16];
    Str s = {0};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].cp == cp) {
            buf[0] = '\\';
            buf[1] = known[i].as;
            put(e, buf, 2);
            return;
        }
    str_printf(&s, cp <= 0xff ? "\\x%02X" : cp <= 0xffff ? "\\u%04X" : "\\U%08X", cp);
    put(e, str_text(&s), s.len);
    str_free(&s);
}

static void write_double(Emit *e, const Scalar *v, bool split)
{
    indicator(e, "\"", true, false, false);
    size_t start = 0, step = 1;
    for (size_t end = 0; end <= v->n; end += step) {
        bool last = end == v->n;
        unsigned cp = 0;
        step = 1;
        if (!last) {
            int k = utf8_decode(v->s + end, v->n - end, &cp);
            step = k > 0 ? (size_t)k : 1;
        }
        bool escaped = !last && (cp == '"' || cp == '\\' || cp < 0x20 || cp > 0x7e);
        if (last || escaped) {
            put(e, v->s + start, end - start);
            start = end;
            if (escaped) {
                put_escape(e, cp);
                start = end + step;
            }
        }
        if (end > 0 && end + step < v->n && (cp == ' ' || start >= end)
            && e->column + (start < end ? (int)(end - start) : 0) - (start > end ? 1 : 0) > BEST_WIDTH && split) {
            if (start < end) {
                put(e, v->s + start, end - start);
                start = end;
            }
            put(e, "\\", 1);
            to_indent(e);
            e->whitespace = false;
            e->indention = false;
            if (v->s[start] == ' ')
                put(e, "\\", 1);
        }
    }
    indicator(e, "\"", false, false, false);
}

static void write_scalar(Emit *e, const Scalar *v, bool simple_key)
{
    Shape h = shape_of(v);
    bool as_is = !v->str;
    if (v->str) {
        bool b;
        int64_t i;
        double f;
        as_is = yaml_resolve(v->s, v->n, &b, &i, &f) == YAML_STR && !(v->n == 1 && v->s[0] == '=')
                && !(v->n == 2 && memcmp(v->s, "<<", 2) == 0);
    }
    if (as_is && h.plain && !(simple_key && (h.empty || h.multiline)))
        write_plain(e, v, !simple_key);
    else if (h.single && !(simple_key && h.multiline))
        write_single(e, v, !simple_key);
    else
        write_double(e, v, !simple_key);
}

/* The text of a scalar node; numbers go through buf. */
static Scalar scalar_of(const YamlNode *n, Str *buf)
{
    str_clear(buf);
    switch (n->kind) {
    case YAML_NULL: str_puts(buf, "null"); break;
    case YAML_BOOL: str_puts(buf, n->b ? "true" : "false"); break;
    case YAML_INT: str_printf(buf, "%lld", (long long)n->i); break;
    case YAML_FLOAT:
        if (!isfinite(n->f)) {
            str_puts(buf, isnan(n->f) ? ".nan" : n->f > 0 ? ".inf" : "-.inf");
            break;
        }
        pyjson_double(buf, n->f);
        if (!strchr(str_text(buf), '.')) { /* "1e-05" would be read back as a string */
            const char *e = strchr(str_text(buf), 'e');
            if (e) {
                Str full = {.oom = buf->oom};
                str_append(&full, buf->s, (size_t)(e - buf->s));
                str_puts(&full, ".0");
                str_puts(&full, e);
                str_free(buf);
                *buf = full;
            }
        }
        break;
    default: return (Scalar){n->text, n->len, n->kind == YAML_STR};
    }
    return (Scalar){str_text(buf), buf->len, false};
}

static void node(Emit *e, const YamlNode *n, bool in_mapping, Str *buf);

/* PyYAML counts the key's tag ("!!str") in, though it isn't written. */
static size_t tag_length(YamlKind k)
{
    return k == YAML_FLOAT ? 7 : k == YAML_BOOL || k == YAML_NULL ? 6 : k == YAML_DATE ? 11 : 5;
}

static void mapping(Emit *e, const YamlNode *n, Str *buf)
{
    int indent = e->indent;
    e->indent = indent < 0 ? 0 : indent + BEST_INDENT;
    for (int k = 0; k < n->count; k++) {
        /* pairs of merge keys come first, as PyYAML puts them */
        int merged = n->count - n->own, at = k < merged ? n->own + k : k - merged;
        to_indent(e);
        Scalar key = scalar_of(n->keys[at], buf);
        if (key.n + tag_length(n->keys[at]->kind) < SIMPLE_KEY_MAX && !shape_of(&key).multiline) {
            write_scalar(e, &key, true);
            indicator(e, ":", false, false, false);
        } else {
            indicator(e, "?", true, false, true);
            int deeper = e->indent;
            e->indent += BEST_INDENT;
            write_scalar(e, &key, false);
            e->indent = deeper;
            to_indent(e);
            indicator(e, ":", true, false, true);
        }
        node(e, n->vals[at], true, buf);
    }
    e->indent = indent;
}

static void sequence(Emit *e, const YamlNode *n, bool in_mapping, Str *buf)
{
    int indent = e->indent;
    bool indentless = in_mapping && !e->indention;
    if (indent < 0)
        e->indent = 0;
    else if (!indentless)
        e->indent += BEST_INDENT;
    for (int k = 0; k < n->count; k++) {
        to_indent(e);
        indicator(e, "-", true, false, true);
        node(e, n->items[k], false, buf);
    }
    e->indent = indent;
}

static void node(Emit *e, const YamlNode *n, bool in_mapping, Str *buf)
{
    if (n->kind == YAML_SEQ || n->kind == YAML_MAP) {
        if (n->count == 0) {
            indicator(e, n->kind == YAML_SEQ ? "[" : "{", true, true, false);
            indicator(e, n->kind == YAML_SEQ ? "]" : "}", false, false, false);
        } else if (n->kind == YAML_MAP) {
            mapping(e, n, buf);
        } else {
            sequence(e, n, in_mapping, buf);
        }
        return;
    }
    int indent = e->indent;
    e->indent = indent < 0 ? BEST_INDENT : indent + BEST_INDENT;
    Scalar v = scalar_of(n, buf);
    write_scalar(e, &v, false);
    e->indent = indent;
}

void pyyaml_dump(const YamlNode *root, Str *out)
{
    Emit e = {.out = out, .indent = -1, .whitespace = true, .indention = true};
    Str buf = {0};
    node(&e, root, false, &buf);
    if (e.column)
        str_putc(out, '\n');
    if (buf.oom)
        out->oom = true;
    str_free(&buf);
}
