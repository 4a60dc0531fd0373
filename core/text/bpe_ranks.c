#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "text/bpe.h"
#include "text/bpe_parts.h"

/* Every way to cut a token in two is tried: a bound keeps that short for hostile files. Real ones end near 130. */
enum { RANKED_MAX = 512 };

/* "base64 rank" of `n` bytes. */
static Status read_line(Bpe *b, const char *s, size_t n, size_t line, Error *err)
{
    const char *gap = memchr(s, ' ', n);
    char bytes[RANKED_MAX / 4 * 3 + 8];
    size_t len, digits = gap ? (size_t)(gap - s) : 0, i = digits + 1;
    int64_t rank = 0;
    if (digits / 4 * 3 > RANKED_MAX / 4 * 3)
        return error_set(err, ST_DATA, "line %zu: a token of more than %d bytes", line, RANKED_MAX / 4 * 3);
    if (!gap || !digits || !base64_get(s, digits, bytes, &len) || i == n)
        return error_set(err, ST_DATA, "line %zu is no token in base64 and its rank", line);
    for (; i < n && s[i] >= '0' && s[i] <= '9' && rank < BPE_ID_MAX; i++)
        rank = rank * 10 + (s[i] - '0');
    if (i < n || rank >= BPE_ID_MAX)
        return error_set(err, ST_DATA, "line %zu: no rank between 0 and %d", line, BPE_ID_MAX - 1);
    RETURN_IF_ERROR(bpe_reach(b, (int32_t)rank, err));
    if (b->text[rank].s)
        return error_set(err, ST_DATA, "line %zu: rank %lld stands twice", line, (long long)rank);
    char *copy = arena_strndup(&b->arena, bytes, len);
    bool added;
    if (!copy || !map_add(&b->names, copy, len, rank, &added))
        return error_nomem(err, "a vocabulary");
    if (!added)
        return error_set(err, ST_DATA, "line %zu: the token stands twice", line);
    b->text[rank] = (struct BpeText){.s = copy, .len = (uint32_t)len};
    return ST_OK;
}

static Status read_lines(Bpe *b, const char *text, size_t len, Error *err)
{
    size_t line = 0;
    for (const char *p = text, *end = text + len, *next; p < end; p = next) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((nl ? nl : end) - p);
        next = nl ? nl + 1 : end;
        line++;
        n -= n && p[n - 1] == '\r';
        if (n)
            RETURN_IF_ERROR(read_line(b, p, n, line, err));
    }
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        b->byte[i] = (int32_t)map_get(&b->names, &byte, 1, -1);
        if (b->byte[i] < 0)
            return error_set(err, ST_DATA, "byte 0x%02X has no token: every single byte needs one", i);
    }
    return ST_OK;
}

/* The next cut of token `id` into two tokens at or behind byte *k; false: there is none. */
static bool next_cut(const Bpe *b, int32_t id, uint32_t *k, int32_t *l, int32_t *r)
{
    const struct BpeText *t = &b->text[id];
    for (; t->s && *k < t->len; ++*k) {
        *l = (int32_t)map_get(&b->names, t->s, *k, -1);
        *r = *l < 0 ? -1 : (int32_t)map_get(&b->names, t->s + *k, t->len - *k, -1);
        if (*r >= 0)
            return true;
    }
    return false;
}

/* The pair of every cut of every token. */
static Status add_cuts(Bpe *b, Error *err)
{
    int32_t l, r;
    size_t pairs = 0;
    for (int32_t id = 0; id < b->size; id++)
        for (uint32_t k = 1; next_cut(b, id, &k, &l, &r); k++)
            pairs++;
    RETURN_IF_ERROR(bpe_make_tables(b, (size_t)b->size, pairs, err));
    for (int32_t id = 0; id < b->size; id++) {
        b->product[id] = id;
        for (uint32_t k = 1; next_cut(b, id, &k, &l, &r); k++) {
            const struct BpeText *t = &b->text[id];
            bpe_add_pair(b, l, r, id);
            if (!bpe_add_joint(b, b->byte[(unsigned char)t->s[k - 1]], b->byte[(unsigned char)t->s[k]]))
                return error_nomem(err, "a vocabulary");
        }
    }
    return ST_OK;
}

Status bpe_from_ranks(Bpe **out, const char *text, size_t len, Error *err)
{
    Bpe *b = calloc(1, sizeof *b);
    if (!b)
        return error_nomem(err, "a tokenizer");
    b->byte_level = b->ignore_merges = true;
    b->unk = -1;
    Status st = read_lines(b, text, len, err);
    if (st == ST_OK)
        st = add_cuts(b, err);
    if (st != ST_OK) {
        bpe_free(b);
        return st;
    }
    *out = b;
    return ST_OK;
}
