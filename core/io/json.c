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

typedef struct Span {
    const char *s;
    size_t n;
} Span;

typedef struct Scan {
    const char *text;
    size_t len, pos;
    const char *name;
    Arena keys; /* keys that had escapes, decoded */
    bool trusted; /* scanned before: no key is there twice */
    bool loose;   /* as Python's json reads */
    JsonPart *parts;
    int nparts;
    Span at[JSON_PART_DEPTH]; /* keys of the member that is read, the outermost first */
    Error *err;
} Scan;

/* What is done with the values of an object or a list. */
typedef struct Take {
    JsonMember *member;
    JsonKeyed *keyed;
    JsonElement *element;
    void *ctx;
    size_t count; /* values so far */
} Take;

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

static uint64_t word_at(const char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

static uint64_t every_byte(unsigned char c)
{
    return 0x0101010101010101u * c;
}

/* The bytes of w that are `c` have their highest bit set in the result, the lowest of them and none below it. */
static uint64_t bytes_that_are(uint64_t w, unsigned char c)
{
    w ^= every_byte(c);
    return (w - every_byte(1)) & ~w & every_byte(0x80);
}

/* Number of the lowest byte whose highest bit is set, or 0 where it cannot be told from the order of bytes. */
static size_t first_marked(uint64_t w)
{
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? (size_t)__builtin_ctzll(w) / 8 : 0;
}

static void skip_space(Scan *s)
{
    const char *p = s->text + s->pos, *end = s->text + s->len;
    while (p < end && json_blank(*p)) {
        p++;
        for (; end - p >= 8 && word_at(p) == every_byte(' '); p += 8) /* indentation */
            ;
    }
    s->pos = (size_t)(p - s->text);
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

/* Behind the plain ASCII that begins at pos: before a quote, a backslash, a control character or a byte beyond. */
static size_t skip_plain(const Scan *s, size_t pos)
{
    for (uint64_t w, special; s->len - pos >= 8; pos += 8) {
        w = word_at(s->text + pos);
        special = bytes_that_are(w, '"') | bytes_that_are(w, '\\') | ((w | (w - every_byte(0x20))) & every_byte(0x80));
        if (special) {
            pos += first_marked(special);
            break;
        }
    }
    for (; pos < s->len; pos++) {
        unsigned char c = (unsigned char)s->text[pos];
        if (c == '"' || c == '\\' || c < 0x20 || c >= 0x80)
            break;
    }
    return pos;
}

/* Length of the character beyond ASCII at pos, 0: ill-formed. Those of three bytes that need no second look first. */
static int skip_wide(const Scan *s, size_t pos)
{
    const unsigned char *p = (const unsigned char *)s->text + pos;
    unsigned cp;
    if (p[0] > 0xe0 && p[0] < 0xed && s->len - pos >= 3 && (p[1] & 0xc0) == 0x80 && (p[2] & 0xc0) == 0x80)
        return 3;
    return utf8_decode(s->text + pos, s->len - pos, &cp);
}

/* Validates a string; *raw gets its bytes between the quotes, *escaped whether a backslash is among them. */
static Status scan_string(Scan *s, Span *raw, bool *escaped)
{
    size_t start = s->pos++;
    *escaped = false;
    while ((s->pos = skip_plain(s, s->pos)) < s->len) {
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
        } else {
            int k = skip_wide(s, s->pos);
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

static Status bad_twice(Scan *s, Span key, size_t at)
{
    int line, column;
    where(s, at, &line, &column);
    return error_set(s->err, ST_DATA, "%s:%d:%d: key '%.*s' is there twice", s->name, line, column,
                     (int)(key.n < 200 ? key.n : 200), key.s);
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
    return added ? ST_OK : bad_twice(s, key, at);
}

/* The part that the member `key` of an object at this depth is, NULL: none. */
static JsonPart *part_at(Scan *s, int depth, Span key)
{
    if (depth > JSON_PART_DEPTH || !s->nparts)
        return NULL;
    if (depth > 0)
        s->at[depth - 1] = key;
    for (JsonPart *p = s->parts; p < s->parts + s->nparts; p++) {
        bool same = true;
        for (int i = 0; i < JSON_PART_DEPTH && same; i++)
            same = p->path[i] ? i < depth && strlen(p->path[i]) == s->at[i].n &&
                                    memcmp(p->path[i], s->at[i].s, s->at[i].n) == 0
                              : i >= depth;
        if (same)
            return p;
    }
    return NULL;
}

static Status scan_value(Scan *s, int depth);
static Status scan_part(Scan *s, int depth, JsonPart *part);

/* What follows a key: a colon and the value, whose text goes to *value. */
static Status scan_after_key(Scan *s, int depth, Span key, Span *value)
{
    skip_space(s);
    if (!skip_char(s, ':'))
        return bad(s, s->pos, "expected ':' after a key");
    skip_space(s);
    value->s = s->text + s->pos;
    RETURN_IF_ERROR(scan_part(s, depth, part_at(s, depth, key)));
    value->n = (size_t)(s->text + s->pos - value->s);
    return ST_OK;
}

/* One member of an object. */
static Status scan_member(Scan *s, KeySet *set, int depth, Take *take)
{
    size_t at = s->pos;
    Span key, value = {NULL, 0};
    bool escaped, twice = false;
    if (at >= s->len || s->text[at] != '"')
        return bad(s, at, "expected a key in double quotes");
    RETURN_IF_ERROR(scan_string(s, &key, &escaped));
    if (escaped)
        RETURN_IF_ERROR(unescape(s, &key));
    if (!s->trusted && !s->loose && !take->keyed)
        RETURN_IF_ERROR(add_key(s, set, key, at));
    Status st = scan_after_key(s, depth, key, &value);
    if (take->keyed && (st == ST_OK || st == ST_DATA)) {
        Status told = take->keyed(take->ctx, key.s, key.n, st == ST_OK ? value.s : NULL, value.n, &twice, s->err);
        if (twice)
            return bad_twice(s, key, at);
        st = st == ST_OK ? told : st;
    }
    return st == ST_OK && take->member ? take->member(take->ctx, key.s, key.n, value.s, value.n, s->err) : st;
}

/* The members of an object, s->pos behind its brace. */
static Status scan_members(Scan *s, KeySet *set, int depth, Take *take)
{
    skip_space(s);
    if (skip_char(s, '}'))
        return ST_OK;
    for (;;) {
        skip_space(s);
        RETURN_IF_ERROR(scan_member(s, set, depth, take));
        take->count++;
        skip_space(s);
        if (skip_char(s, '}'))
            return ST_OK;
        if (!skip_char(s, ','))
            return bad(s, s->pos, "expected ',' or '}'");
    }
}

static Status scan_object(Scan *s, int depth, Take *take)
{
    KeySet set = {.count = 0};
    s->pos++;
    Status st = scan_members(s, &set, depth, take);
    map_free(&set.map);
    return st;
}

static Status scan_array(Scan *s, int depth, Take *take)
{
    s->pos++;
    skip_space(s);
    if (skip_char(s, ']'))
        return ST_OK;
    for (;;) {
        skip_space(s);
        size_t begin = s->pos;
        RETURN_IF_ERROR(scan_value(s, depth));
        take->count++;
        if (take->element)
            RETURN_IF_ERROR(take->element(take->ctx, s->text + begin, s->pos - begin, s->err));
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
    Take nothing = {.count = 0};
    if (c == '{')
        return scan_object(s, depth + 1, &nothing);
    if (c == '[')
        return scan_array(s, depth + 1, &nothing);
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

/* Any value; `part` (may be NULL): it is that one. */
static Status scan_part(Scan *s, int depth, JsonPart *part)
{
    char c = s->pos < s->len ? s->text[s->pos] : 0;
    if (!part || (c != '{' && c != '['))
        return scan_value(s, depth);
    Take take = {.keyed = c == '{' ? part->member : NULL, .ctx = part->ctx};
    part->text = s->text + s->pos;
    RETURN_IF_ERROR(c == '{' ? scan_object(s, depth + 1, &take) : scan_array(s, depth + 1, &take));
    part->len = (size_t)(s->text + s->pos - part->text);
    part->count = take.count;
    return ST_OK;
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
    Take take = {.member = member, .element = element, .ctx = ctx};
    RETURN_IF_ERROR(member    ? scan_object(s, 1, &take)
                    : element ? scan_array(s, 1, &take)
                              : scan_part(s, 0, part_at(s, 0, (Span){NULL, 0})));
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

/* A good text with its parts left out: {} or [] is in their places. */
static Status without_parts(const Scan *s, Str *out)
{
    const char *at = s->text, *end = s->text + s->len;
    for (;;) {
        const JsonPart *next = NULL;
        for (const JsonPart *p = s->parts; p < s->parts + s->nparts; p++)
            if (p->text && p->text >= at && (!next || p->text < next->text))
                next = p;
        str_append(out, at, (size_t)((next ? next->text : end) - at));
        if (!next)
            return out->oom ? error_nomem(s->err, s->name) : ST_OK;
        str_puts(out, next->text[0] == '{' ? "{}" : "[]");
        at = next->text + next->len;
    }
}

Status json_parse_parts(const char *text, size_t len, const char *name, JsonPart *parts, int n, cJSON **out,
                        Error *err)
{
    *out = NULL;
    Scan s = {.text = text, .len = len, .name = name, .parts = parts, .nparts = n, .err = err};
    RETURN_IF_ERROR(walk(&s, NULL, NULL, NULL));
    Str rest = {0};
    Status st = without_parts(&s, &rest);
    if (st == ST_OK && !(*out = cJSON_ParseWithLength(rest.s, rest.len)))
        st = error_nomem(err, name);
    str_free(&rest);
    return st;
}

bool json_string(JsonCursor *c, const char **out, size_t *len)
{
    if (!json_take(c, '"'))
        return false;
    char *first = c->p, *p = first;
    for (uint64_t w, ends = 0; !ends && c->end - p >= 8; p += ends ? first_marked(ends) : 8) {
        w = word_at(p);
        ends = bytes_that_are(w, '"') | bytes_that_are(w, '\\');
    }
    while (*p != '"' && *p != '\\')
        p++;
    *out = first;
    *len = (size_t)(p - first);
    if (*p == '\\') {
        Scan in = {.text = p, .len = (size_t)(c->end - p), .name = "", .loose = true};
        while (in.text[in.pos] != '"') {
            if (in.text[in.pos] != '\\')
                first[(*len)++] = in.text[in.pos++];
            else if (scan_escape(&in, first, len) != ST_OK)
                return false;
        }
        p += in.pos;
    }
    c->p = p + 1;
    return true;
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

Status json_read_file(const char *path, size_t max, char **text, size_t *len, Error *err)
{
    RETURN_IF_ERROR(file_read(path, max, text, len, err));
    const char *kind = file_foreign_kind(*text, *len);
    if (!kind)
        return ST_OK;
    free(*text);
    *text = NULL;
    return error_set(err, ST_DATA, "'%s' %s", path, kind);
}

Status json_parse_file(const char *path, size_t max, cJSON **out, Error *err)
{
    char *text;
    size_t len;
    *out = NULL;
    RETURN_IF_ERROR(json_read_file(path, max, &text, &len, err));
    Status st = json_parse(text, len, path, out, err);
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
