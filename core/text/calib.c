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
    Str clean; /* the repaired form of a line that is no UTF-8 */
    Str text;  /* of the present item */
    Error *err;
} Reader;

/* Adds one item; takes text and ids. */
static Status add_item(Reader *r, CalibItem item)
{
    CalibFile *c = r->c;
    if (c->count >= ITEMS_MAX || !mem_grow(&c->items, &r->cap, (size_t)c->count + 1, sizeof *c->items)) {
        free(item.text);
        free(item.ids);
        return error_nomem(r->err, "a data set");
    }
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

static Status add_ids(Reader *r, const cJSON *list, int line)
{
    const cJSON *e;
    CalibItem item = {.line = line};
    if (!cJSON_IsArray(list))
        return error_set(r->err, ST_DATA, "%s:%d: 'input_ids' must be a list of token ids, found %s", r->c->path, line,
                         calib_kind(list));
    cJSON_ArrayForEach(e, list) item.nids++;
    if (item.nids > IDS_MAX)
        return error_set(r->err, ST_DATA, "%s:%d: 'input_ids' has %lld entries: at most %d are read", r->c->path, line,
                         (long long)item.nids, IDS_MAX);
    item.ids = mem_array((size_t)item.nids, sizeof *item.ids);
    if (!item.ids)
        return error_nomem(r->err, "a data set");
    int64_t n = 0;
    cJSON_ArrayForEach(e, list) {
        double v = cJSON_IsNumber(e) ? e->valuedouble : -1;
        if (!(v >= 0 && v <= INT32_MAX && v == (double)(int32_t)v)) {
            free(item.ids);
            return error_set(r->err, ST_DATA, "%s:%d: entry %lld of 'input_ids' is no token id", r->c->path, line,
                             (long long)n);
        }
        item.ids[n++] = (int32_t)v;
    }
    return add_item(r, item);
}

/* ---- one object ---- */

static Status add_record(Reader *r, const CalibRecord *rec, const char *kind, int item)
{
    const cJSON *ids;
    CalibForm form = CALIB_PLAIN;
    str_clear(&r->text);
    Status st = calib_record_text(rec, &r->text, &ids, &form, r->err);
    if (st != ST_OK)
        return error_prefix(r->err, st, "%s:%s%d: ", r->c->path, kind, item);
    if (r->text.oom)
        return error_nomem(r->err, "a data set");
    r->c->made[form]++;
    return ids ? add_ids(r, ids, item) : add_text(r, str_text(&r->text), r->text.len, "", item);
}

/* ---- .jsonl ---- */

/* The members of a line's object that count, parsed; of one that is there twice the last, as Python has it. */
typedef struct LineRecord {
    cJSON *value[CALIB_FIELDS];
} LineRecord;

static Status take_member(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len, Error *err)
{
    LineRecord *l = ctx;
    for (int f = 0; f < CALIB_FIELDS; f++) {
        if (strlen(calib_field_names[f]) != key_len || memcmp(calib_field_names[f], key, key_len) != 0)
            continue;
        cJSON_Delete(l->value[f]);
        l->value[f] = NULL;
        return json_parse(value, value_len, calib_field_names[f], &l->value[f], err);
    }
    return ST_OK;
}

/* `raw` is the line and `ending` the newline that followed, for the peer's rule. */
static Status peer_line(Reader *r, const cJSON *obj, const char *raw, size_t len, const char *ending, int line)
{
    const char *key = calib_field_names[FIELD_INPUTS];
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);
    if (!cJSON_IsObject(obj))
        return error_set(r->err, ST_DATA, "%s:%d: a JSON object was expected, found %s", r->c->path, line,
                         calib_kind(obj));
    if (v && !cJSON_IsString(v))
        return error_set(r->err, ST_DATA, "%s:%d: '%s' must be a string, found %s", r->c->path, line, key,
                         calib_kind(v));
    if (v)
        return add_text(r, v->valuestring, strlen(v->valuestring), "", line);
    const cJSON *ids = json_get(obj, calib_field_names[FIELD_IDS]);
    return ids ? add_ids(r, ids, line) : add_text(r, raw, len, ending, line);
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
    if (s[first_word(s, n)] == '{' && !r->peer) { /* a line that is read isn't blank */
        LineRecord l = {{NULL}};
        Status st = json_walk_loose(s, n, name, take_member, &l, r->err);
        CalibRecord rec;
        for (int f = 0; f < CALIB_FIELDS; f++)
            rec.value[f] = l.value[f] && !cJSON_IsNull(l.value[f]) ? l.value[f] : NULL;
        st = st == ST_OK ? add_record(r, &rec, "", line) : place_error(r, name, line);
        for (int f = 0; f < CALIB_FIELDS; f++)
            cJSON_Delete(l.value[f]);
        return st;
    }
    cJSON *v = NULL;
    if (json_parse(s, n, name, &v, r->err) != ST_OK)
        return place_error(r, name, line);
    Status st = r->peer              ? peer_line(r, v, s, n, ending, line)
                : cJSON_IsString(v) ? add_text(r, v->valuestring, strlen(v->valuestring), "", line)
                                    : error_set(r->err, ST_DATA, "%s:%d: a JSON object was expected, found %s",
                                                r->c->path, line, calib_kind(v));
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

static Status add_item_of_list(Reader *r, const cJSON *e, bool repaired, int item)
{
    int before = r->c->count;
    Status st;
    if (cJSON_IsString(e)) {
        st = add_text(r, e->valuestring, strlen(e->valuestring), "", item);
    } else if (cJSON_IsObject(e) && !r->peer) {
        CalibRecord rec;
        for (int f = 0; f < CALIB_FIELDS; f++)
            rec.value[f] = json_get(e, calib_field_names[f]);
        st = add_record(r, &rec, " item ", item);
    } else {
        st = error_set(r->err, ST_DATA, "%s: item %d: a string%s was expected, found %s", r->c->path, item,
                       r->peer ? "" : " or an object", calib_kind(e));
    }
    if (st == ST_OK && repaired && r->c->items[before].text && strstr(r->c->items[before].text, REPLACEMENT))
        r->c->bad_utf8++;
    return st;
}

static Status read_list(Reader *r, const char *s, size_t n)
{
    bool repaired = utf8_valid_prefix(s, n) != n;
    if (repaired) {
        utf8_repair(&r->clean, s, n);
        if (r->clean.oom)
            return error_nomem(r->err, "a data set");
        s = r->clean.s;
        n = r->clean.len;
    }
    cJSON *root = NULL, *e;
    RETURN_IF_ERROR(json_parse(s, n, r->c->path, &root, r->err));
    Status st = ST_OK;
    int item = 0;
    if (!cJSON_IsArray(root))
        st = error_set(r->err, ST_DATA, "%s: a JSON list of strings was expected, found %s", r->c->path,
                       calib_kind(root));
    cJSON_ArrayForEach(e, root) {
        if (st != ST_OK)
            break;
        st = add_item_of_list(r, e, repaired, ++item);
    }
    cJSON_Delete(root);
    return st;
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

Status calib_open(CalibFile **out, const char *path, bool peer, Error *err)
{
    Error local;
    Reader r = {.c = calloc(1, sizeof *r.c), .peer = peer, .err = err ? err : &local};
    if (!r.c)
        return error_nomem(err, "a data set");
    Status st = read_file(&r, path);
    str_free(&r.clean);
    str_free(&r.text);
    if (st != ST_OK) {
        calib_free(r.c);
        return st;
    }
    *out = r.c;
    return ST_OK;
}

void calib_free(CalibFile *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->count; i++) {
        free(c->items[i].text);
        free(c->items[i].ids);
    }
    free(c->items);
    free(c->path);
    free(c->name);
    free(c);
}
