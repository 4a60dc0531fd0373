#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "io/json.h"
#include "text/bpe.h"
#include "text/bpe_parts.h"
#include "text/unicode.h"

/* Merges are read by the dozen, so that their look-ups wait for memory together. */
enum { BATCH = 16, JOINTS_MIN = 4096 };

typedef struct Merge {
    const char *part[2];
    size_t len[2];
    MapSeek seek[2];
    int32_t id[2];
} Merge;

typedef struct MergeReader {
    Bpe *b;
    const BpeLists *l;
    JsonCursor at;
    bool *itself; /* [l->size] whether a token is a symbol of its own beside its text's: <0x0A>, the unknown token */
    int32_t made; /* id that the last merge gave */
    Str whole;
    Error *err;
} MergeReader;

/* ---- tables ---- */

static size_t table_size(size_t entries)
{
    size_t n = 64;
    while (n < entries * 2)
        n *= 2;
    return n;
}

Status bpe_make_tables(Bpe *b, size_t merges, size_t npairs, Error *err)
{
    size_t pairs = table_size(npairs);
    b->merges = (int32_t)merges;
    b->product = mem_array(merges, sizeof *b->product);
    b->pairs = mem_zarray(pairs, sizeof *b->pairs);
    b->joints = mem_zarray(JOINTS_MIN, sizeof *b->joints);
    if (!b->product || !b->pairs || !b->joints)
        return error_nomem(err, "merges");
    mem_prefer_huge(b->pairs, pairs * sizeof *b->pairs);
    b->pair_mask = pairs - 1;
    b->joint_mask = JOINTS_MIN - 1;
    return ST_OK;
}

void bpe_add_pair(Bpe *b, int32_t l, int32_t r, int32_t rank)
{
    uint64_t key = pair_key(l, r);
    size_t i = pair_hash(key) & b->pair_mask;
    while (b->pairs[i].order && b->pairs[i].key != key)
        i = (i + 1) & b->pair_mask;
    b->pairs[i] = (struct BpePair){.key = key, .order = rank + 1}; /* of equal pairs the last counts */
}

static size_t joint_slot(const uint64_t *joints, size_t mask, uint64_t key)
{
    size_t i = pair_hash(key) & mask;
    while (joints[i] && joints[i] != key)
        i = (i + 1) & mask;
    return i;
}

static bool grow_joints(Bpe *b)
{
    size_t n = b->joint_mask + 1;
    uint64_t *to = mem_zarray(n * 2, sizeof *to);
    if (!to)
        return false;
    for (size_t i = 0; i < n; i++)
        if (b->joints[i])
            to[joint_slot(to, n * 2 - 1, b->joints[i])] = b->joints[i];
    free(b->joints);
    b->joints = to;
    b->joint_mask = n * 2 - 1;
    return true;
}

bool bpe_add_joint(Bpe *b, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return true;
    uint64_t key = pair_key(left, right) + 1;
    uint64_t *at = &b->joints[joint_slot(b->joints, b->joint_mask, key)];
    if (*at)
        return true;
    *at = key;
    return ++b->joint_count * 2 <= b->joint_mask || grow_joints(b);
}

/* ---- where merges cross ---- */

/* Symbol at the left or right end of a token as the file writes it, -1: none. */
static int32_t end_symbol(const MergeReader *r, const char *s, size_t len, bool last)
{
    const Bpe *b = r->b;
    const char *at = last ? utf8_before(s + len) : s;
    int n;
    uint32_t cp = utf8_next(at, &n);
    if (b->byte_level) {
        int byte = letter_to_byte(cp);
        return byte < 0 ? -1 : b->byte[byte];
    }
    return cp < 65536 ? b->bmp[cp] : bpe_listed(r->l, at, (size_t)n);
}

static bool add_joints(const MergeReader *r, const Merge *m)
{
    int32_t end[2][2];
    for (int k = 0; k < 2; k++) {
        end[k][0] = end_symbol(r, m->part[k], m->len[k], k == 0);
        end[k][1] = r->itself[m->id[k]] ? m->id[k] : -1;
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            if (!bpe_add_joint(r->b, end[0][i], end[1][j]))
                return false;
    return true;
}

static Status mark_symbols(MergeReader *r)
{
    const Bpe *b = r->b;
    r->itself = mem_zarray((size_t)r->l->size, sizeof *r->itself);
    if (!r->itself)
        return error_nomem(r->err, "merges");
    for (int i = 0; i < 256 && !b->byte_level; i++)
        if (b->byte[i] >= 0)
            r->itself[b->byte[i]] = true;
    if (b->unk >= 0)
        r->itself[b->unk] = true;
    return ST_OK;
}

/* ---- merges ---- */

/* "a b" */
static bool split(Merge *m, const char *s, size_t len)
{
    const char *gap = memchr(s, ' ', len), *end = s + len;
    if (!gap || memchr(gap + 1, ' ', (size_t)(end - gap) - 1))
        return false;
    *m = (Merge){.part = {s, gap + 1}, .len = {(size_t)(gap - s), (size_t)(end - gap) - 1}};
    return true;
}

/* The next line of a merges.txt that isn't empty. */
static bool next_line(JsonCursor *at, Merge *m)
{
    while (at->p < at->end && *at->p == '\n')
        at->p++;
    char *s = at->p, *end = memchr(s, '\n', (size_t)(at->end - s));
    at->p = end ? end : at->end;
    return split(m, s, (size_t)(at->p - s));
}

/* The next entry; false: it is no pair of tokens. */
static bool next_merge(MergeReader *r, Merge *m)
{
    const char *s;
    size_t len;
    bool pair;
    if (r->l->lines)
        pair = next_line(&r->at, m);
    else if (json_take(&r->at, '['))
        pair = json_string(&r->at, &m->part[0], &m->len[0]) && json_take(&r->at, ',') &&
               json_string(&r->at, &m->part[1], &m->len[1]) && json_take(&r->at, ']');
    else
        pair = json_string(&r->at, &s, &len) && split(m, s, len);
    if (!r->l->lines)
        json_take(&r->at, ',');
    return pair && m->len[0] && m->len[1];
}

static Status missing_token(int32_t rank, const char *s, size_t len, Error *err)
{
    int shown = len < 80 ? (int)len : 80;
    return error_set(err, ST_DATA, "merges: entry %d: '%.*s' is not in the vocabulary", (int)rank, shown, s);
}

static bool is_product(const struct BpeText *t, const Merge *m)
{
    return t->s && t->len == m->len[0] + m->len[1] && memcmp(t->s, m->part[0], m->len[0]) == 0 &&
           memcmp(t->s + m->len[0], m->part[1], m->len[1]) == 0;
}

/* Id of both parts together. It is mostly that of the last merge, or the next one. */
static Status find_product(MergeReader *r, const Merge *m, int32_t rank, int32_t *made)
{
    for (int32_t id = r->made; id < r->made + 2 && id < r->l->size; id++)
        if (is_product(&r->l->text[id], m)) {
            *made = r->made = id;
            return ST_OK;
        }
    str_clear(&r->whole);
    str_append(&r->whole, m->part[0], m->len[0]);
    str_append(&r->whole, m->part[1], m->len[1]);
    if (r->whole.oom)
        return error_nomem(r->err, "merges");
    *made = bpe_listed(r->l, r->whole.s, r->whole.len);
    if (*made < 0)
        return missing_token(rank, r->whole.s, r->whole.len, r->err);
    r->made = *made;
    return ST_OK;
}

static Status read_batch(MergeReader *r, int32_t rank, int n)
{
    Merge m[BATCH];
    const Map *ids = &r->l->ids;
    int good = 0;
    for (; good < n && next_merge(r, &m[good]); good++)
        for (int k = 0; k < 2; k++)
            m[good].seek[k] = map_seek(ids, m[good].part[k], m[good].len[k]);
    for (int i = 0; i < good * 2; i++)
        map_near(ids, &m[i / 2].seek[i % 2]);
    for (int i = 0; i < good; i++) {
        for (int k = 0; k < 2; k++) {
            m[i].id[k] = (int32_t)map_sought(ids, &m[i].seek[k], -1);
            if (m[i].id[k] < 0)
                return missing_token(rank + i, m[i].part[k], m[i].len[k], r->err);
        }
        RETURN_IF_ERROR(find_product(r, &m[i], rank + i, &r->b->product[rank + i]));
        pair_prefetch(r->b, m[i].id[0], m[i].id[1]);
    }
    for (int i = 0; i < good; i++) {
        bpe_add_pair(r->b, m[i].id[0], m[i].id[1], rank + i);
        if (!add_joints(r, &m[i]))
            return error_nomem(r->err, "merges");
    }
    return good == n ? ST_OK
                     : error_set(r->err, ST_DATA, "merges: entry %d is no pair of tokens", (int)rank + good);
}

Status bpe_read_merges(Bpe *b, const BpeLists *l, Error *err)
{
    size_t n = l->merges_count;
    if (n >= BPE_ID_MAX)
        return error_set(err, ST_DATA, "merges: %zu entries: at most %d are read", n, BPE_ID_MAX);
    RETURN_IF_ERROR(bpe_make_tables(b, n, n, err));
    if (!n)
        return ST_OK;
    MergeReader r = {.b = b, .l = l, .at = {l->merges, l->merges + l->merges_len}, .err = err};
    Status st = mark_symbols(&r);
    if (!l->lines)
        json_take(&r.at, '[');
    for (size_t i = 0; i < n && st == ST_OK; i += BATCH)
        st = read_batch(&r, (int32_t)i, n - i < BATCH ? (int)(n - i) : BATCH);
    free(r.itself);
    str_free(&r.whole);
    return st;
}
