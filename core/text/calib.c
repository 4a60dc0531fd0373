#include "text/calib.h"

#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/file.h"
#include "io/filekind.h"
#include "io/json.h"
#include "text/calib_record.h"
#include "text/unicode.h"

enum { LINE_MAX_BYTES = 1 << 26, IDS_MAX = 1 << 26, ITEMS_MAX = 1 << 28 };
#define FILE_MAX_BYTES ((size_t)1 << 32)
#define REPLACEMENT "\xef\xbf\xbd"

typedef struct CalibItem CalibItem;

/* What reading one file needs. */
typedef struct Reader {
    CalibFile *c;
    size_t cap;
    bool peer;
    const TextLimits *limits;
    uint64_t used; /* bytes: the file's and the items' */
    Str clean; /* the repaired form of a line that is no UTF-8 */
    Str text;  /* of the present item */
    Error *err;
} Reader;

/* More bytes that are kept, or needed for a while: an error when there are too many. */
static Status need_bytes(Reader *r, uint64_t more)
{
    return text_limits_check(r->limits, r->used + more, r->c->path, r->err);
}

/* Adds one item; takes text and ids. */
static Status add_item(Reader *r, CalibItem item)
{
    CalibFile *c = r->c;
    enum { BLOCK = 32 }; /* what the allocator takes beside a text */
    r->used += sizeof item + BLOCK + item.len + (uint64_t)item.nids * sizeof *item.ids;
    Status st = need_bytes(r, 0);
    if (st == ST_OK &&
        (c->count >= ITEMS_MAX || !mem_grow(&c->items, &r->cap, (size_t)c->count + 1, sizeof *c->items)))
        st = error_nomem(r->err, "a data set");
    if (st != ST_OK) {
        free(item.text);
        free(item.ids);
        return st;
    }
    item.from = c->path;
    c->items[c->count++] = item;
    return ST_OK;
}

static Status add_text(Reader *r, const char *text, size_t len, const char *ending, int line)
{
    size_t more = strlen(ending);
    CalibItem item = {.text = malloc(len + more + 1), .len = len + more, .line = line};
    if (!item.text)
        return error_nomem(r->err, "a data set");
    memcpy(item.text, text, len);
    memcpy(item.text + len, ending, more + 1);
    return add_item(r, item);
}

/* ---- token ids ---- */

typedef struct IdReader {
    Reader *r;
    CalibItem *item;
    size_t cap;
} IdReader;

/* A number that JSON takes for one. */
static double number_of(const char *s, size_t n)
{
    char text[64];
    if (n >= sizeof text)
        return -1;
    memcpy(text, s, n);
    text[n] = '\0';
    cJSON *v = cJSON_Parse(text); /* strtod would ask the locale */
    double d = cJSON_IsNumber(v) ? v->valuedouble : -1;
    cJSON_Delete(v);
    return d;
}

/* The plain digits that nearly every id is; -1: something else. */
static double small_number(const char *s, size_t n)
{
    int64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        v = v * 10 + (s[i] - '0');
    }
    return (double)v;
}

static Status take_id(void *ctx, const char *value, size_t len, Error *err)
{
    IdReader *d = ctx;
    CalibItem *item = d->item;
    const char *path = d->r->c->path;
    double v = len <= 10 ? small_number(value, len) : -1;
    if (v < 0)
        v = number_of(value, len);
    if (!(v >= 0 && v <= INT32_MAX && v == (double)(int32_t)v))
        return error_set(err, ST_DATA, "%s:%d: entry %lld of 'input_ids' is no token id", path, item->line,
                         (long long)item->nids);
    if (item->nids == IDS_MAX)
        return error_set(err, ST_DATA, "%s:%d: 'input_ids' has more than %d entries: that is the most that is read", path,
                         item->line, IDS_MAX);
    if ((item->nids & 0xffff) == 0)
        RETURN_IF_ERROR(need_bytes(d->r, (uint64_t)item->nids * 2 * sizeof *item->ids));
    if (!mem_grow(&item->ids, &d->cap, (size_t)item->nids + 1, sizeof *item->ids))
        return error_nomem(err, "a data set");
    item->ids[item->nids++] = (int32_t)v;
    return ST_OK;
}

/* What the first byte of a value says of it. */
static const char *kind_of(const char *s, size_t n)
{
    switch (n ? *s : 0) {
    case '[': return "a list";
    case '{': return "an object";
    case '"': return "a string";
    case 't':
    case 'f': return "true or false";
    case 'n': return "null";
    }
    return "a number";
}

static Status add_ids(Reader *r, const char *list, size_t len, int line)
{
    CalibItem item = {.line = line};
    IdReader d = {.r = r, .item = &item};
    if (!len || *list != '[')
        return error_set(r->err, ST_DATA, "%s:%d: 'input_ids' must be a list of token ids, found %s", r->c->path, line,
                         kind_of(list, len));
    Status st = json_walk_list(list, len, r->c->path, false, take_id, &d, r->err);
    if (st == ST_OK && !item.ids && !(item.ids = malloc(1)))
        st = error_nomem(r->err, "a data set");
    if (st == ST_OK)
        return add_item(r, item);
    free(item.ids);
    return st;
}

/* ---- one object ---- */

/* The members of an object that count; of one that is there twice the last, as Python has it. */
typedef struct Members {
    Reader *r;
    cJSON *value[CALIB_FIELDS];
    const char *ids; /* text of FIELD_IDS, NULL: not there or null */
    size_t ids_len;
} Members;

static void members_free(Members *m)
{
    for (int f = 0; f < CALIB_FIELDS; f++)
        cJSON_Delete(m->value[f]);
}

/* At most what a tree of the value takes: a node for each thing between commas, and its strings. */
static uint64_t tree_bytes(const char *s, size_t n)
{
    enum { NODE = 96 };
    uint64_t nodes = 1;
    for (size_t i = 0; i < n && *s != '"'; i++)
        nodes += s[i] == ',' || s[i] == '[' || s[i] == '{';
    return nodes * NODE + 2 * n;
}

static Status take_member(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len, Error *err)
{
    Members *m = ctx;
    for (int f = 0; f < CALIB_FIELDS; f++) {
        if (strlen(calib_field_names[f]) != key_len || memcmp(calib_field_names[f], key, key_len) != 0)
            continue;
        if (f == FIELD_IDS) {
            m->ids = *value == 'n' ? NULL : value;
            m->ids_len = value_len;
            return ST_OK;
        }
        cJSON_Delete(m->value[f]);
        m->value[f] = NULL;
        RETURN_IF_ERROR(need_bytes(m->r, tree_bytes(value, value_len)));
        return json_parse(value, value_len, calib_field_names[f], &m->value[f], err);
    }
    return ST_OK;
}

static Status add_record(Reader *r, const Members *m, const char *kind, int item)
{
    bool ids;
    CalibForm form = CALIB_PLAIN;
    CalibRecord rec = {.ids = m->ids, .ids_len = m->ids_len};
    for (int f = 0; f < CALIB_FIELDS; f++)
        rec.value[f] = m->value[f] && !cJSON_IsNull(m->value[f]) ? m->value[f] : NULL;
    str_clear(&r->text);
    Status st = calib_record_text(&rec, &r->text, &ids, &form, r->err);
    if (st != ST_OK)
        return error_prefix(r->err, st, "%s:%s%d: ", r->c->path, kind, item);
    if (r->text.oom)
        return error_nomem(r->err, "a data set");
    r->c->made[form]++;
    return ids ? add_ids(r, rec.ids, rec.ids_len, item) : add_text(r, str_text(&r->text), r->text.len, "", item);
}

/* ---- .jsonl ---- */

/* `raw` is the line and `ending` the newline that followed, for the peer's rule. */
static Status peer_line(Reader *r, const Members *m, const char *raw, size_t len, const char *ending, int line)
{
    const cJSON *v = m->value[FIELD_INPUTS];
    if (v && !cJSON_IsString(v))
        return error_set(r->err, ST_DATA, "%s:%d: '%s' must be a string, found %s", r->c->path, line,
                         calib_field_names[FIELD_INPUTS], calib_kind(v));
    if (v)
        return add_text(r, v->valuestring, strlen(v->valuestring), "", line);
    return m->ids ? add_ids(r, m->ids, m->ids_len, line) : add_text(r, raw, len, ending, line);
}

/* json_parse tells the place as NAME:1:COLUMN; the line is ours to say. */
static Status place_error(Reader *r, const char *name, int line)
{
    char text[ERROR_TEXT_MAX];
    size_t skip = strlen(name) + 3;
    memcpy(text, r->err->text, sizeof text);
    bool placed = strncmp(text, name, strlen(name)) == 0 && strncmp(text + strlen(name), ":1:", 3) == 0;
    return error_set(r->err, r->err->status, "%s:%d:%s%s", r->c->path, line, placed ? "" : " ",
                     placed ? text + skip : text);
}

/* Where the first byte lies that is no blank, n when there is none. */
static size_t first_word(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && ascii_is_space(s[i]))
        i++;
    return i;
}

static Status read_json_line(Reader *r, const char *s, size_t n, const char *ending, int line)
{
    static const char name[] = "line";
    size_t at = first_word(s, n); /* a line that is read isn't blank */
    if (s[at] == '{') {
        Members m = {.r = r};
        Status st = (r->peer ? json_walk : json_walk_loose)(s, n, name, take_member, &m, r->err);
        st = st != ST_OK ? place_error(r, name, line)
             : r->peer   ? peer_line(r, &m, s, n, ending, line)
                         : add_record(r, &m, "", line);
        members_free(&m);
        return st;
    }
    cJSON *v = NULL;
    RETURN_IF_ERROR(need_bytes(r, tree_bytes(s + at, n - at)));
    if (json_parse(s, n, name, &v, r->err) != ST_OK)
        return place_error(r, name, line);
    Status st = !r->peer && cJSON_IsString(v)
                    ? add_text(r, v->valuestring, strlen(v->valuestring), "", line)
                    : error_set(r->err, ST_DATA, "%s:%d: a JSON object was expected, found %s", r->c->path, line,
                                calib_kind(v));
    cJSON_Delete(v);
    return st;
}

static Status read_line(Reader *r, const char *s, size_t n, const char *ending, int line)
{
    if (n && s[n - 1] == '\r')
        n--;
    if (first_word(s, n) == n) {
        r->c->skipped_blank++;
        return ST_OK;
    }
    if (n > LINE_MAX_BYTES)
        return error_set(r->err, ST_DATA, "%s:%d: a line of %zu bytes: at most %d are read; cut the text into several",
                         r->c->path, line, n,
                         LINE_MAX_BYTES);
    if (utf8_valid_prefix(s, n) != n) {
        str_clear(&r->clean);
        utf8_repair(&r->clean, s, n);
        if (r->clean.oom)
            return error_nomem(r->err, "a data set");
        s = r->clean.s;
        n = r->clean.len;
        r->c->bad_utf8++;
    }
    return read_json_line(r, s, n, ending, line);
}

static Status read_lines(Reader *r, const char *s, size_t n)
{
    int line = 0;
    for (const char *end = s + n; s < end;) {
        const char *stop = memchr(s, '\n', (size_t)(end - s));
        if (++line >= ITEMS_MAX)
            return error_set(r->err, ST_DATA, "%s: more than %d lines", r->c->path, ITEMS_MAX);
        RETURN_IF_ERROR(read_line(r, s, (size_t)((stop ? stop : end) - s), stop ? "\n" : "", line));
        s = stop ? stop + 1 : end;
    }
    return ST_OK;
}

/* ---- .json ---- */

/* A list as it is read. */
typedef struct List {
    Reader *r;
    bool repaired;
    int item;
} List;

static Status add_object(Reader *r, const char *s, size_t n, int item)
{
    Members m = {.r = r};
    Status st = json_walk_loose(s, n, r->c->path, take_member, &m, r->err);
    if (st == ST_OK)
        st = add_record(r, &m, " item ", item);
    members_free(&m);
    return st;
}

static Status add_string(Reader *r, const char *s, size_t n, int item)
{
    cJSON *v = NULL;
    RETURN_IF_ERROR(need_bytes(r, tree_bytes(s, n)));
    Status st = json_parse(s, n, r->c->path, &v, r->err);
    if (st == ST_OK)
        st = add_text(r, v->valuestring, strlen(v->valuestring), "", item);
    cJSON_Delete(v);
    return st;
}

static Status take_element(void *ctx, const char *value, size_t len, Error *err)
{
    List *l = ctx;
    Reader *r = l->r;
    int before = r->c->count;
    l->item++;
    Status st = *value == '"'               ? add_string(r, value, len, l->item)
                : *value == '{' && !r->peer ? add_object(r, value, len, l->item)
                                            : error_set(err, ST_DATA, "%s: item %d: a string%s was expected, found %s",
                                                        r->c->path, l->item, r->peer ? "" : " or an object",
                                                        kind_of(value, len));
    if (st == ST_OK && l->repaired && r->c->items[before].text && strstr(r->c->items[before].text, REPLACEMENT))
        r->c->bad_utf8++;
    return st;
}

static Status read_list(Reader *r, const char *s, size_t n)
{
    List l = {.r = r, .repaired = utf8_valid_prefix(s, n) != n};
    if (l.repaired) {
        utf8_repair(&r->clean, s, n);
        if (r->clean.oom)
            return error_nomem(r->err, "a data set");
        s = r->clean.s;
        n = r->clean.len;
    }
    size_t at = first_word(s, n);
    if (at < n && strchr("{\"tfn-0123456789", s[at]))
        return error_set(r->err, ST_DATA, "%s: a JSON list of strings was expected, found %s", r->c->path,
                         kind_of(s + at, n - at));
    return json_walk_list(s, n, r->c->path, r->peer, take_element, &l, r->err);
}

/* ---- files ---- */

static bool has_ending(const char *path, const char *ending)
{
    size_t n = strlen(path), k = strlen(ending);
    return n > k && ascii_casecmp(path + n - k, ending) == 0;
}

/* A list in a .jsonl, over many lines or on one. */
static bool begins_list(const char *s, size_t n)
{
    size_t i = first_word(s, n);
    return i < n && s[i] == '[';
}

static Status read_file(Reader *r, const char *path)
{
    CalibFile *c = r->c;
    char *bytes;
    size_t n;
    bool lines = has_ending(path, ".jsonl");
    if (!lines && !has_ending(path, ".json"))
        return error_set(r->err, ST_DATA,
                         "data set '%s': only .jsonl (one object or string a line) and .json (a list of them) are read", path);
    c->path = strdup(path);
    c->name = strdup(path_base(path));
    if (!c->path || !c->name)
        return error_nomem(r->err, "a data set");
    RETURN_IF_ERROR(file_read(path, FILE_MAX_BYTES, &bytes, &n, r->err));
    r->used = n;
    Digest d = digest_of(bytes, n);
    digest_hex(&d, c->sha256);
    size_t mark = n >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    const char *kind = file_foreign_kind(bytes, n);
    lines = lines && (r->peer || !begins_list(bytes + mark, n - mark));
    Status st = kind    ? error_set(r->err, ST_DATA, "data set '%s' %s", path, kind)
                : lines ? read_lines(r, bytes + mark, n - mark)
                        : read_list(r, bytes + mark, n - mark);
    free(bytes);
    if (st == ST_OK && c->count == 0)
        st = error_set(r->err, ST_DATA, "data set '%s' holds no text", path);
    return st;
}

Status calib_open(CalibFile **out, const char *path, bool peer, const TextLimits *limits, Error *err)
{
    Error local;
    Reader r = {.c = calloc(1, sizeof *r.c), .peer = peer, .limits = limits, .err = err ? err : &local};
    if (!r.c)
        return error_nomem(err, "a data set");
    Status st = read_file(&r, path);
    str_free(&r.clean);
    str_free(&r.text);
    if (st != ST_OK) {
        calib_free(r.c);
        return st;
    }
    r.c->bytes = r.used;
    *out = r.c;
    return ST_OK;
}

/* ---- sets that were changed ---- */

static void mark_changed(CalibFile *c, const char *how, const char *what)
{
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, c->sha256);
    hasher_str(&h, how);
    hasher_str(&h, what);
    Digest d = hasher_end(&h);
    digest_hex(&d, c->sha256);
}

static Status move_items(CalibFile *c, CalibFile *more, Error *err)
{
    size_t n = (size_t)c->count + (size_t)more->count, files = (size_t)c->nadded + 1 + (size_t)more->nadded;
    if (n > ITEMS_MAX)
        return error_set(err, ST_DATA, "%s: together with it there are more than %d texts", more->path, ITEMS_MAX);
    CalibItem *items = realloc(c->items, n * sizeof *items);
    c->items = items ? items : c->items;
    char **added = realloc(c->added, files * sizeof *added);
    c->added = added ? added : c->added;
    if (!items || !added)
        return error_nomem(err, "a data set");
    memcpy(c->items + c->count, more->items, (size_t)more->count * sizeof *items);
    c->count = (int)n;
    more->count = 0;
    c->added[c->nadded++] = more->path; /* items name it */
    more->path = NULL;
    for (int i = 0; i < more->nadded; i++)
        c->added[c->nadded++] = more->added[i];
    more->nadded = 0;
    return ST_OK;
}

Status calib_append(CalibFile *c, CalibFile *more, Error *err)
{
    Status st = move_items(c, more, err);
    if (st == ST_OK) {
        c->bytes += more->bytes;
        c->skipped_blank += more->skipped_blank;
        c->bad_utf8 += more->bad_utf8;
        for (int f = 0; f < CALIB_FORMS; f++)
            c->made[f] += more->made[f];
        mark_changed(c, "added", more->sha256);
    }
    calib_free(more);
    return st;
}

Status calib_take_out(CalibFile *c, const int *number, int n, Error *err)
{
    Str list = {0};
    int left = 0;
    for (int i = 0; i < n; i++) {
        if (number[i] < 1 || number[i] > c->count) {
            str_free(&list);
            return error_set(err, ST_DATA, "there is no text %d: the set has %d", number[i], c->count);
        }
        c->items[number[i] - 1].out = true;
        str_printf(&list, "%d ", number[i]);
    }
    for (int i = 0; i < c->count; i++)
        left += !c->items[i].out;
    if (n)
        mark_changed(c, "out", str_text(&list));
    bool oom = list.oom;
    str_free(&list);
    return oom    ? error_nomem(err, "a data set")
           : left ? ST_OK
                  : error_set(err, ST_DATA, "all %d texts are taken out: calib keep takes some back", c->count);
}

void calib_free(CalibFile *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->count; i++) {
        free(c->items[i].text);
        free(c->items[i].ids);
    }
    for (int i = 0; i < c->nadded; i++)
        free(c->added[i]);
    free(c->added);
    free(c->items);
    free(c->path);
    free(c->name);
    free(c);
}
