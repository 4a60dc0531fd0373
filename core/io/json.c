#include "io/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/file.h"
#include "io/filekind.h"

/* cJSON takes what a strict reader must not: duplicate keys, trailing bytes, \u0000, ill-formed UTF-8. So the text
 * is scanned first by the grammar of RFC 8259; cJSON then builds the tree of a text known to be good. */
enum { MAX_DEPTH = 64, MAX_NUMBER = 60 /* cJSON copies numbers into 64 bytes */, FEW_KEYS = 8 };

typedef struct Scan {
    const char *text;
    size_t len, pos;
    const char *name;
    Arena keys; /* keys that had escapes, decoded */
    bool trusted; /* scanned before: no key is there twice */
    bool loose;   /* as Python's json reads */
    Error *err;
} Scan;

typedef struct Span {
    const char *s;
    size_t n;
} Span;

/* Keys of one object: a few are compared one by one, many go into a map. */
typedef struct KeySet {
    Span few[FEW_KEYS];
    size_t count;
    Map map;
} KeySet;

static void where(const Scan *s, size_t pos, int *line, int *column)
{
    *line = 1;
    *column = 1;
    for (size_t i = 0; i < pos && i < s->len; i++) {
        if (s->text[i] == '\n') {
            ++*line;
            *column = 1;
        } else if (((unsigned char)s->text[i] & 0xc0) != 0x80) {
            ++*column;
        }
    }
}

static Status bad(Scan *s, size_t pos, const char *what)
{
    int line, column;
    where(s, pos, &line, &column);
    return error_set(s->err, ST_DATA, "%s:%d:%d: %s", s->name, line, column, what);
}

static void skip_space(Scan *s)
{
    while (s->pos < s->len && (s->text[s->pos] == ' ' || s->text[s->pos] == '\t' || s->text[s->pos] == '\n' ||
                               s->text[s->pos] == '\r'))
        s->pos++;
}

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        int c = (unsigned char)p[i];
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* \uXXXX (with its low half where needed) at s->pos, which points at the backslash. */
static Status scan_unicode(Scan *s, unsigned *cp)
{
    size_t at = s->pos;
    int v = s->len - at >= 6 ? hex4(s->text + at + 2) : -1;
    if (v < 0)
        return bad(s, at, "\\u needs four hexadecimal digits");
    if (v == 0 && !s->loose)
        return bad(s, at, "\\u0000 is not allowed in a string");
    s->pos += 6;
    *cp = (unsigned)v;
    if (v < 0xd800 || v > 0xdfff)
        return ST_OK;
    int low = -1;
    if (v < 0xdc00 && s->len - s->pos >= 6 && s->text[s->pos] == '\\' && s->text[s->pos + 1] == 'u')
        low = hex4(s->text + s->pos + 2);
    if (low < 0xdc00 || low > 0xdfff)
        return bad(s, at, "half of a surrogate pair");
    s->pos += 6;
    *cp = 0x10000u + (((unsigned)v - 0xd800u) << 10) + ((unsigned)low - 0xdc00u);
    return ST_OK;
}

/* One escape sequence; its bytes go to `out` (may be NULL) at *n. */
static Status scan_escape(Scan *s, char *out, size_t *n)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = s->len - s->pos >= 2 ? s->text[s->pos + 1] : 0;
    unsigned cp = 0;
    if (c == 'u') {
        RETURN_IF_ERROR(scan_unicode(s, &cp));
    } else {
        const char *p = c ? strchr(from, c) : NULL;
        if (!p)
            return bad(s, s->pos, "unknown escape in a string");
        cp = (unsigned char)to[p - from];
        s->pos += 2;
    }
    if (out)
        *n += (size_t)utf8_encode(cp, out + *n);
    return ST_OK;
}

/* Validates a string; *raw gets its bytes between the quotes, *escaped whether a backslash is among them. */
static Status scan_string(Scan *s, Span *raw, bool *escaped)
{
    size_t start = s->pos++;
    *escaped = false;
    while (s->pos < s->len) {
        unsigned char c = (unsigned char)s->text[s->pos];
        if (c == '"') {
            *raw = (Span){s->text + start + 1, s->pos - start - 1};
            s->pos++;
            return ST_OK;
        }
        if (c == '\\') {
            *escaped = true;
            RETURN_IF_ERROR(scan_escape(s, NULL, NULL));
        } else if (c < 0x20) {
            return bad(s, s->pos, "control character in a string");
        } else if (c < 0x80) {
            s->pos++;
        } else {
            unsigned cp;
            int k = utf8_decode(s->text + s->pos, s->len - s->pos, &cp);
            if (k == 0)
                return bad(s, s->pos, "ill-formed UTF-8");
            s->pos += (size_t)k;
        }
    }
    return bad(s, start, "string without its closing quote");
}

/* Decodes a validated string with escapes into the arena of keys. */
static Status unescape(Scan *s, Span *v)
{
    char *out = arena_alloc(&s->keys, v->n + 1);
    if (!out)
        return error_nomem(s->err, s->name);
    Scan in = {.text = v->s, .len = v->n, .name = s->name, .loose = s->loose, .err = s->err};
    size_t n = 0;
    while (in.pos < in.len) {
        if (in.text[in.pos] == '\\')
            RETURN_IF_ERROR(scan_escape(&in, out, &n));
        else
            out[n++] = in.text[in.pos++];
    }
    *v = (Span){out, n};
    return ST_OK;
}

static bool digit(const Scan *s)
{
    return s->pos < s->len && s->text[s->pos] >= '0' && s->text[s->pos] <= '9';
}

static bool skip_digits(Scan *s)
{
    if (!digit(s))
        return false;
    while (digit(s))
        s->pos++;
    return true;
}

static bool skip_char(Scan *s, char c)
{
    if (s->pos >= s->len || s->text[s->pos] != c)
        return false;
    s->pos++;
    return true;
}

static Status scan_number(Scan *s)
{
    size_t start = s->pos;
    skip_char(s, '-');
    bool ok = skip_char(s, '0') || skip_digits(s);
    if (ok && skip_char(s, '.'))
        ok = skip_digits(s);
    if (ok && (skip_char(s, 'e') || skip_char(s, 'E'))) {
        if (!skip_char(s, '+'))
            skip_char(s, '-');
        ok = skip_digits(s);
    }
    if (!ok || digit(s))
        return bad(s, start, "not a number");
    if (s->pos - start > MAX_NUMBER)
        return bad(s, start, "number with too many digits");
    return ST_OK;
}

static Status scan_word(Scan *s)
{
    static const char *const words[] = {"true", "false", "null", "NaN", "Infinity", "-Infinity"};
    for (int i = 0; i < (s->loose ? 6 : 3); i++) {
        size_t n = strlen(words[i]);
        if (s->len - s->pos >= n && memcmp(s->text + s->pos, words[i], n) == 0) {
            s->pos += n;
            return ST_OK;
        }
    }
    return bad(s, s->pos, s->pos >= s->len ? "the text ends too early" : "expected a value");
}

static Status add_key(Scan *s, KeySet *set, Span key, size_t at)
{
    bool added = true;
    if (set->count < FEW_KEYS) {
        for (size_t i = 0; i < set->count; i++)
            added = added && !(set->few[i].n == key.n && memcmp(set->few[i].s, key.s, key.n) == 0);
        set->few[set->count] = key;
    } else {
        if (set->count == FEW_KEYS)
            for (size_t i = 0; i < FEW_KEYS; i++)
                if (!map_add(&set->map, set->few[i].s, set->few[i].n, 0, NULL))
                    return error_nomem(s->err, s->name);
        if (!map_add(&set->map, key.s, key.n, 0, &added))
            return error_nomem(s->err, s->name);
    }
    set->count++;
    if (added)
        return ST_OK;
    int line, column;
    where(s, at, &line, &column);
    return error_set(s->err, ST_DATA, "%s:%d:%d: key '%.*s' is there twice", s->name, line, column,
                     (int)(key.n < 200 ? key.n : 200), key.s);
}

static Status scan_value(Scan *s, int depth);

/* The members of an object, s->pos behind its brace; `fn` (may be NULL) gets each one. */
static Status scan_members(Scan *s, KeySet *set, int depth, JsonMember *fn, void *ctx)
{
    skip_space(s);
    if (skip_char(s, '}'))
        return ST_OK;
    for (;;) {
        skip_space(s);
        size_t at = s->pos;
        if (at >= s->len || s->text[at] != '"')
            return bad(s, at, "expected a key in double quotes");
        Span key;
        bool escaped;
        RETURN_IF_ERROR(scan_string(s, &key, &escaped));
        if (escaped)
            RETURN_IF_ERROR(unescape(s, &key));
        if (!s->trusted && !s->loose)
            RETURN_IF_ERROR(add_key(s, set, key, at));
        skip_space(s);
        if (!skip_char(s, ':'))
            return bad(s, s->pos, "expected ':' after a key");
        skip_space(s);
        size_t begin = s->pos;
        RETURN_IF_ERROR(scan_value(s, depth));
        if (fn)
            RETURN_IF_ERROR(fn(ctx, key.s, key.n, s->text + begin, s->pos - begin, s->err));
        skip_space(s);
        if (skip_char(s, '}'))
            return ST_OK;
        if (!skip_char(s, ','))
            return bad(s, s->pos, "expected ',' or '}'");
    }
}

static Status scan_object(Scan *s, int depth, JsonMember *fn, void *ctx)
{
    KeySet set = {.count = 0};
    s->pos++;
    Status st = scan_members(s, &set, depth, fn, ctx);
    map_free(&set.map);
    return st;
}

/* `fn` (may be NULL) gets each element. */
static Status scan_array(Scan *s, int depth, JsonElement *fn, void *ctx)
{
    s->pos++;
    skip_space(s);
    if (skip_char(s, ']'))
        return ST_OK;
    for (;;) {
        skip_space(s);
        size_t begin = s->pos;
        RETURN_IF_ERROR(scan_value(s, depth));
        if (fn)
            RETURN_IF_ERROR(fn(ctx, s->text + begin, s->pos - begin, s->err));
        skip_space(s);
        if (skip_char(s, ']'))
            return ST_OK;
        if (!skip_char(s, ','))
            return bad(s, s->pos, "expected ',' or ']'");
    }
}

/* Any value at s->pos; depth is that of the container it lies in. */
static Status scan_value(Scan *s, int depth)
{
    char c = s->pos < s->len ? s->text[s->pos] : 0;
    if ((c == '{' || c == '[') && depth >= MAX_DEPTH)
        return bad(s, s->pos, "nested deeper than 64 levels");
    if (c == '{')
        return scan_object(s, depth + 1, NULL, NULL);
    if (c == '[')
        return scan_array(s, depth + 1, NULL, NULL);
    if (c == '"') {
        Span v;
        bool escaped;
        return scan_string(s, &v, &escaped);
    }
    bool endless = s->loose && c == '-' && s->len - s->pos > 1 && s->text[s->pos + 1] == 'I';
    if (!endless && (c == '-' || (c >= '0' && c <= '9')))
        return scan_number(s);
    return scan_word(s);
}

/* A whole document. With `member` it must be an object, whose members that gets; with `element` a list. */
static Status scan_document(Scan *s, JsonMember *member, JsonElement *element, void *ctx)
{
    if (s->len >= 3 && memcmp(s->text, "\xef\xbb\xbf", 3) == 0)
        s->pos = 3;
    skip_space(s);
    if (s->pos == s->len)
        return error_set(s->err, ST_DATA, "%s: empty, expected JSON", s->name);
    if (member && s->text[s->pos] != '{')
        return bad(s, s->pos, "expected an object '{…}'");
    if (element && s->text[s->pos] != '[')
        return bad(s, s->pos, "expected a list '[…]'");
    RETURN_IF_ERROR(member    ? scan_object(s, 1, member, ctx)
                    : element ? scan_array(s, 1, element, ctx)
                              : scan_value(s, 0));
    skip_space(s);
    if (s->pos != s->len)
        return bad(s, s->pos, "something follows the end of the document");
    return ST_OK;
}

static Status walk(Scan *s, JsonMember *member, JsonElement *element, void *ctx)
{
    Status st = scan_document(s, member, element, ctx);
    arena_free(&s->keys);
    return st;
}

Status json_walk(const char *text, size_t len, const char *name, JsonMember *fn, void *ctx, Error *err)
{
    Scan s = {.text = text, .len = len, .name = name, .err = err};
    return walk(&s, fn, NULL, ctx);
}

Status json_walk_loose(const char *text, size_t len, const char *name, JsonMember *fn, void *ctx, Error *err)
{
    Scan s = {.text = text, .len = len, .name = name, .loose = true, .err = err};
    return walk(&s, fn, NULL, ctx);
}

Status json_walk_list(const char *text, size_t len, const char *name, bool strict, JsonElement *fn, void *ctx,
                      Error *err)
{
    Scan s = {.text = text, .len = len, .name = name, .loose = !strict, .err = err};
    return walk(&s, NULL, fn, ctx);
}

Status json_walk_again(const char *text, size_t len, const char *name, JsonMember *fn, void *ctx, Error *err)
{
    Scan s = {.text = text, .len = len, .name = name, .trusted = true, .loose = true, .err = err};
    return walk(&s, fn, NULL, ctx);
}

Status json_parse(const char *text, size_t len, const char *name, cJSON **out, Error *err)
{
    *out = NULL;
    Scan s = {.text = text, .len = len, .name = name, .err = err};
    RETURN_IF_ERROR(walk(&s, NULL, NULL, NULL));
    *out = cJSON_ParseWithLength(text, len);
    return *out ? ST_OK : error_nomem(err, name);
}

/* A good text with a number cJSON reads as infinite in the place of NaN and Infinity: nothing takes that for a value. */
static char *without_words(const char *text, size_t len, size_t *out_len)
{
    Str b = {0};
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (quoted && c == '\\') {
            str_putc(&b, c);
            c = text[++i];
        } else if (c == '"') {
            quoted = !quoted;
        } else if (!quoted && (c == 'N' || c == 'I')) {
            str_puts(&b, "1e999");
            i += strlen(c == 'N' ? "NaN" : "Infinity") - 1;
            continue;
        }
        str_putc(&b, c);
    }
    *out_len = b.len;
    return str_detach(&b);
}

/* Leaves of every key in an object the last one alone. */
static bool keep_last(cJSON *tree)
{
    Map seen = {0};
    bool ok = true, added;
    for (cJSON *v = tree->child ? tree->child->prev : NULL, *before; v && ok; v = before) {
        before = v == tree->child ? NULL : v->prev;
        ok = !cJSON_IsObject(tree) || map_add(&seen, v->string, strlen(v->string), 0, &added);
        if (ok && cJSON_IsObject(tree) && !added)
            cJSON_Delete(cJSON_DetachItemViaPointer(tree, v));
        else
            ok = ok && keep_last(v);
    }
    map_free(&seen);
    return ok;
}

Status json_parse_loose(const char *text, size_t len, const char *name, cJSON **out, Error *err)
{
    *out = NULL;
    Scan s = {.text = text, .len = len, .name = name, .loose = true, .err = err};
    RETURN_IF_ERROR(walk(&s, NULL, NULL, NULL));
    char *plain = without_words(text, len, &len);
    *out = plain ? cJSON_ParseWithLength(plain, len) : NULL;
    free(plain);
    if (*out && keep_last(*out))
        return ST_OK;
    cJSON_Delete(*out);
    *out = NULL;
    return error_nomem(err, name);
}

Status json_parse_file(const char *path, size_t max, cJSON **out, Error *err)
{
    char *text;
    size_t len;
    *out = NULL;
    RETURN_IF_ERROR(file_read(path, max, &text, &len, err));
    const char *kind = file_foreign_kind(text, len);
    Status st = kind ? error_set(err, ST_DATA, "'%s' %s", path, kind) : json_parse(text, len, path, out, err);
    free(text);
    return st;
}

const cJSON *json_get(const cJSON *obj, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);
    return v && !cJSON_IsNull(v) ? v : NULL;
}

static const char *type_name(const cJSON *v)
{
    return cJSON_IsBool(v)     ? "a boolean"
           : cJSON_IsNumber(v) ? "a number"
           : cJSON_IsString(v) ? "a string"
           : cJSON_IsArray(v)  ? "a list"
                               : "an object";
}

static const cJSON *member(const cJSON *obj, const char *key, bool *found)
{
    const cJSON *v = json_get(obj, key);
    if (found)
        *found = v != NULL;
    return v;
}

Status json_int(const cJSON *obj, const char *key, int64_t *out, bool *found, Error *err)
{
    const cJSON *v = member(obj, key, found);
    if (!v)
        return ST_OK;
    if (!cJSON_IsNumber(v))
        return error_set(err, ST_DATA, "'%s' must be a whole number, not %s", key, type_name(v));
    if (!(fabs(v->valuedouble) < 9007199254740992.0) || floor(v->valuedouble) != v->valuedouble)
        return error_set(err, ST_DATA, "'%s' must be a whole number below 2^53, not %.17g", key, v->valuedouble);
    *out = (int64_t)v->valuedouble;
    return ST_OK;
}

Status json_num(const cJSON *obj, const char *key, double *out, bool *found, Error *err)
{
    const cJSON *v = member(obj, key, found);
    if (!v)
        return ST_OK;
    if (!cJSON_IsNumber(v))
        return error_set(err, ST_DATA, "'%s' must be a number, not %s", key, type_name(v));
    if (!isfinite(v->valuedouble))
        return error_set(err, ST_DATA, "'%s' must be a finite number", key);
    *out = v->valuedouble;
    return ST_OK;
}

Status json_bool(const cJSON *obj, const char *key, bool *out, bool *found, Error *err)
{
    const cJSON *v = member(obj, key, found);
    if (!v)
        return ST_OK;
    if (!cJSON_IsBool(v))
        return error_set(err, ST_DATA, "'%s' must be true or false, not %s", key, type_name(v));
    *out = cJSON_IsTrue(v);
    return ST_OK;
}

Status json_str(const cJSON *obj, const char *key, const char **out, bool *found, Error *err)
{
    const cJSON *v = member(obj, key, found);
    if (!v)
        return ST_OK;
    if (!cJSON_IsString(v))
        return error_set(err, ST_DATA, "'%s' must be a string, not %s", key, type_name(v));
    *out = v->valuestring;
    return ST_OK;
}
