#include "save/pyjson.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "io/json.h"

void pyjson_string(Str *out, const char *s, size_t n)
{
    static const char *const known = "\b\f\n\r\t\"\\", *const as = "bfnrt\"\\";
    str_putc(out, '"');
    for (size_t i = 0; i < n;) {
        unsigned cp;
        int k = utf8_decode(s + i, n - i, &cp);
        if (k == 0) {
            cp = 0xfffd;
            k = 1;
        }
        i += (size_t)k;
        const char *at = cp && cp < 128 ? strchr(known, (int)cp) : NULL;
        if (at) {
            str_putc(out, '\\');
            str_putc(out, as[at - known]);
        } else if (cp >= 0x20 && cp < 0x7f) {
            str_putc(out, (char)cp);
        } else if (cp > 0xffff) {
            str_printf(out, "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10), 0xdc00 + ((cp - 0x10000) & 0x3ff));
        } else {
            str_printf(out, "\\u%04x", cp);
        }
    }
    str_putc(out, '"');
}

void pyjson_double(Str *out, double v)
{
    if (!isfinite(v)) {
        str_puts(out, isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
        return;
    }
    char e[40];
    int digits = 1;
    for (; digits < 17; digits++) {
        snprintf(e, sizeof e, "%.*e", digits - 1, v);
        if (strtod(e, NULL) == v)
            break;
    }
    snprintf(e, sizeof e, "%.*e", digits - 1, v);
    const char *mark = strchr(e, 'e');
    int exponent = mark ? atoi(mark + 1) : 0;
    if (exponent >= -4 && exponent < 16) {
        int after = digits - 1 - exponent;
        str_printf(out, "%.*f", after > 1 ? after : 1, v);
    } else {
        str_puts(out, e); /* C and Python agree on at least two digits of exponent */
    }
}

typedef struct Rewrite {
    Str *out;
    const char *name;
    const PyjsonEdit *edit;
    int indent, depth, dropped;
    bool in_text_config; /* the object in work is one whose members the edit names */
    int count;           /* members written of the object or list in work */
    Error *err;
} Rewrite;

static void new_line(Rewrite *w, int depth)
{
    str_putc(w->out, '\n');
    for (int i = 0; i < depth * w->indent; i++)
        str_putc(w->out, ' ');
}

static Status value(Rewrite *w, const char *v, size_t n);

static bool same(const char *a, size_t n, const char *b)
{
    return b && strlen(b) == n && memcmp(a, b, n) == 0;
}

static void next_member(Rewrite *w)
{
    if (w->count++)
        str_putc(w->out, ',');
    new_line(w, w->depth);
}

static bool is_dropped(const Rewrite *w, const char *key, size_t n)
{
    for (const char *const *d = w->edit->drop; d && *d; d++)
        if (same(key, n, *d))
            return true;
    return false;
}

/* The members of an object, each key once with its last value, as Python keeps them. */
typedef struct Members {
    struct Member {
        const char *key, *v;
        size_t key_len, n;
    } *list;
    size_t count, cap;
    Map seen; /* key -> index */
    Arena keys;
} Members;

static Status collect(void *ctx, const char *key, size_t key_len, const char *v, size_t n, Error *err)
{
    Members *m = ctx;
    int64_t at = map_get(&m->seen, key, key_len, -1);
    if (at >= 0) {
        m->list[at].v = v;
        m->list[at].n = n;
        return ST_OK;
    }
    char *own = arena_strndup(&m->keys, key, key_len);
    if (!own || !mem_grow(&m->list, &m->cap, m->count + 1, sizeof *m->list) ||
        !map_add(&m->seen, own, key_len, (int64_t)m->count, NULL))
        return error_nomem(err, "a JSON object");
    m->list[m->count++] = (struct Member){own, v, key_len, n};
    return ST_OK;
}

static Status member(Rewrite *w, const struct Member *m)
{
    if (w->in_text_config && is_dropped(w, m->key, m->key_len)) {
        w->dropped++;
        return ST_OK;
    }
    next_member(w);
    pyjson_string(w->out, m->key, m->key_len);
    str_puts(w->out, ": ");
    if (w->in_text_config && same(m->key, m->key_len, w->edit->set)) {
        str_puts(w->out, w->edit->to);
        return ST_OK;
    }
    bool here = w->in_text_config;
    w->in_text_config = w->depth == 1 && same(m->key, m->key_len, "text_config");
    Status st = value(w, m->v, m->n);
    w->in_text_config = here;
    return st;
}

static Status object(Rewrite *w, const char *v, size_t n)
{
    Members m = {0};
    int count = w->count;
    const PyjsonEdit *e = w->edit;
    bool sets = w->in_text_config && e->set;
    w->count = 0;
    w->depth++;
    str_putc(w->out, '{');
    Status st = json_walk_again(v, n, w->name, collect, &m, w->err);
    for (size_t i = 0; i < m.count && st == ST_OK; i++)
        st = member(w, &m.list[i]);
    if (st == ST_OK && sets && map_get(&m.seen, e->set, strlen(e->set), -1) < 0) {
        next_member(w);
        str_printf(w->out, "\"%s\": %s", e->set, e->to);
    }
    free(m.list);
    map_free(&m.seen);
    arena_free(&m.keys);
    if (st == ST_OK && w->depth == 1 && e->add) {
        next_member(w);
        str_puts(w->out, e->add);
    }
    w->depth--;
    if (w->count)
        new_line(w, w->depth);
    str_putc(w->out, '}');
    w->count = count;
    return st;
}

/* Length of the JSON value at v, which json_parse_loose took as good. */
static size_t value_length(const char *v, size_t n)
{
    int depth = 0;
    bool quoted = false;
    size_t i = 0;
    for (; i < n; i++) {
        char c = v[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            if (depth == 0)
                break;
            depth--;
        } else if (c == ',' && depth == 0) {
            break;
        }
    }
    return i;
}

static Status list(Rewrite *w, const char *v, size_t n)
{
    int count = w->count;
    bool here = w->in_text_config;
    w->in_text_config = false;
    w->count = 0;
    w->depth++;
    str_putc(w->out, '[');
    Status st = ST_OK;
    for (size_t i = 1; i < n && st == ST_OK;) {
        while (i < n && strchr(" \t\r\n,", v[i]))
            i++;
        if (i >= n || v[i] == ']')
            break;
        size_t k = value_length(v + i, n - i);
        next_member(w);
        st = value(w, v + i, k);
        i += k;
    }
    w->depth--;
    if (w->count)
        new_line(w, w->depth);
    str_putc(w->out, ']');
    w->count = count;
    w->in_text_config = here;
    return st;
}

static Status string(Rewrite *w, const char *v, size_t n)
{
    cJSON *s = cJSON_ParseWithLength(v, n);
    if (!s || !cJSON_IsString(s)) {
        cJSON_Delete(s);
        return error_set(w->err, ST_DATA, "'%s': a string could not be read again", w->name);
    }
    pyjson_string(w->out, s->valuestring, strlen(s->valuestring));
    cJSON_Delete(s);
    return ST_OK;
}

static void number(Rewrite *w, const char *v, size_t n)
{
    bool real = false;
    for (size_t i = 0; i < n; i++)
        real = real || strchr(".eE", v[i]) != NULL;
    if (real) {
        char text[400];
        size_t k = n < sizeof text - 1 ? n : sizeof text - 1;
        memcpy(text, v, k);
        text[k] = 0;
        pyjson_double(w->out, strtod(text, NULL));
    } else if (same(v, n, "-0")) {
        str_putc(w->out, '0');
    } else {
        str_append(w->out, v, n);
    }
}

static Status value(Rewrite *w, const char *v, size_t n)
{
    while (n && strchr(" \t\r\n", *v)) {
        v++;
        n--;
    }
    while (n && strchr(" \t\r\n", v[n - 1]))
        n--;
    if (n == 0 || w->depth > 64)
        return error_set(w->err, ST_DATA, "'%s': a value is missing or nested too deep", w->name);
    switch (*v) {
    case '{': return object(w, v, n);
    case '[': return list(w, v, n);
    case '"': return string(w, v, n);
    case 't':
    case 'f':
    case 'n':
    case 'N':
    case 'I': str_append(w->out, v, n); return ST_OK;
    default: number(w, v, n); return ST_OK;
    }
}

Status pyjson_rewrite(const char *text, size_t len, const char *name, int indent, const PyjsonEdit *edit, int *dropped,
                      Str *out, Error *err)
{
    cJSON *tree;
    RETURN_IF_ERROR(json_parse_loose(text, len, name, &tree, err));
    bool is_object = cJSON_IsObject(tree);
    cJSON_Delete(tree);
    if (!is_object)
        return error_set(err, ST_DATA, "'%s' is no JSON object", name);
    Rewrite w = {.out = out, .name = name, .edit = edit, .indent = indent, .in_text_config = true, .err = err};
    RETURN_IF_ERROR(value(&w, text, len));
    if (dropped)
        *dropped = w.dropped;
    return out->oom ? error_nomem(err, name) : ST_OK;
}
