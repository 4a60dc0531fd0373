#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "text/calib.h"

typedef struct CalibItem CalibItem;

/* A TokenSet that grows. */
typedef struct Builder {
    TokenSet *t;
    const CalibFile *c;
    size_t id_cap, start_cap, item_cap;
    const TextLimits *limits;
    uint64_t used; /* bytes of ids that are kept */
    Error *err;
} Builder;

/* Ids of one item into *ids (caller frees), checked against the vocabulary. */
static Status item_ids(Builder *b, const Tokenizer *tok, const CalibItem *item, int64_t vocab, int32_t **ids, size_t *n)
{
    *ids = NULL;
    *n = 0;
    Status st;
    if (!item->text) {
        *n = (size_t)item->nids;
        *ids = mem_array(*n, sizeof **ids);
        if (!*ids)
            return error_nomem(b->err, "token ids");
        if (*n)
            memcpy(*ids, item->ids, *n * sizeof **ids);
    } else if (!tok)
        return error_set(b->err, ST_DATA,
                         "%s:%d is a text, and the model has no tokenizer.json: give token ids (input_ids)", item->from,
                         item->line);
    else if ((st = tokenizer_encode(tok, item->text, item->len, true, b->limits, ids, n, b->err)) != ST_OK)
        return error_prefix(b->err, st, "%s:%d: ", item->from, item->line);
    for (size_t i = 0; vocab > 0 && i < *n; i++)
        if ((*ids)[i] >= vocab) {
            int32_t id = (*ids)[i];
            free(*ids);
            *ids = NULL; /* callers that keep several free what they were given */
            return error_set(b->err, ST_DATA, "%s:%d: token id %d is outside the model's vocabulary of %lld",
                             item->from, item->line, (int)id, (long long)vocab);
        }
    return ST_OK;
}

static Status add_sample(Builder *b, int item, const int32_t *ids, size_t n)
{
    TokenSet *t = b->t;
    int64_t have = t->start[t->samples];
    b->used += sizeof *t->start + sizeof *t->item + n * sizeof *ids;
    RETURN_IF_ERROR(text_limits_check(b->limits, b->used, b->c->path, b->err));
    if (t->samples == INT32_MAX - 1 || !mem_grow(&t->ids, &b->id_cap, (size_t)have + n, sizeof *t->ids) ||
        !mem_grow(&t->start, &b->start_cap, (size_t)t->samples + 2, sizeof *t->start) ||
        !mem_grow(&t->item, &b->item_cap, (size_t)t->samples + 1, sizeof *t->item))
        return error_nomem(b->err, "token ids");
    memcpy(t->ids + have, ids, n * sizeof *ids);
    t->item[t->samples++] = item;
    t->start[t->samples] = have + (int64_t)n;
    return ST_OK;
}

static Status begin(Builder *b, const CalibFile *c, const TextLimits *limits, Error *err)
{
    *b = (Builder){.t = calloc(1, sizeof *b->t), .c = c, .limits = limits, .err = err};
    if (!b->t || !(b->t->name = strdup(c->name)) || !mem_grow(&b->t->start, &b->start_cap, 1, sizeof *b->t->start)) {
        tokens_free(b->t);
        return error_nomem(err, "token ids");
    }
    b->t->start[0] = 0;
    memcpy(b->t->file_sha256, c->sha256, sizeof b->t->file_sha256);
    return ST_OK;
}

/* Takes the digest and hands the set over, or frees it. */
static Status end(Builder *b, Status st, const char *too_short, TokenSet **out)
{
    TokenSet *t = b->t;
    if (st == ST_OK && t->samples == 0)
        st = error_set(b->err, ST_DATA, "data set '%s': %s", b->c->path, too_short);
    if (st != ST_OK) {
        tokens_free(t);
        return st;
    }
    Hasher h;
    hasher_init(&h);
    hasher_u64(&h, (uint64_t)t->samples);
    for (int i = 0; i <= t->samples; i++)
        hasher_u64(&h, (uint64_t)t->start[i]);
    for (int64_t i = 0; i < t->start[t->samples]; i++)
        hasher_u64(&h, (uint64_t)t->ids[i]);
    Digest d = hasher_end(&h);
    digest_hex(&d, t->sha256);
    *out = t;
    return ST_OK;
}

Status tokens_make(TokenSet **out, const CalibFile *c, const Tokenizer *tok, int max_samples, int64_t seq_len,
                   int64_t vocab, const TextLimits *limits, Error *err)
{
    Builder b;
    RETURN_IF_ERROR(begin(&b, c, limits, err));
    Status st = ST_OK;
    for (int i = 0; st == ST_OK && i < c->count && (max_samples <= 0 || b.t->samples < max_samples); i++) {
        int32_t *ids;
        size_t n;
        if (c->items[i].out)
            continue;
        st = item_ids(&b, tok, &c->items[i], vocab, &ids, &n);
        if (st != ST_OK)
            break;
        bool cut = seq_len > 0 && (uint64_t)n > (uint64_t)seq_len;
        if (n == 0)
            b.t->dropped_empty++;
        else
            st = add_sample(&b, i, ids, cut ? (size_t)seq_len : n);
        b.t->truncated += cut;
        free(ids);
    }
    return end(&b, st, "no text in it gives a token", out);
}

/* Adds the window that begins at `at` while *left (tokens still wanted, -1: all) lasts; *more: the text goes on
 * behind it. */
static Status add_window(Builder *b, int item, const int32_t *ids, size_t n, size_t at, size_t ctx, int64_t *left,
                         bool *more)
{
    *more = false;
    if (at >= n || *left == 0)
        return ST_OK;
    size_t len = n - at < ctx ? n - at : ctx;
    *more = at + len < n;
    if (*left > 0 && (uint64_t)len > (uint64_t)*left)
        len = (size_t)*left;
    if (len < 2) /* nothing to predict in it */
        return ST_OK;
    if (*left > 0)
        *left -= (int64_t)len;
    if (*left == 1)
        *left = 0;
    return add_sample(b, item, ids + at, len);
}

typedef struct TextIds {
    int32_t *ids;
    size_t n;
} TextIds;

/* One round over the texts: the first window of each, then the second of each, and so on, so that a small budget
 * hears every text. A text is tokenized when its first window is wanted. */
static Status add_round(Builder *b, const Tokenizer *tok, int64_t vocab, TextIds *text, size_t round, size_t ctx,
                        int64_t *left, bool *any)
{
    *any = false;
    for (int i = 0; i < b->c->count && *left != 0; i++) {
        if (round == 0) {
            RETURN_IF_ERROR(item_ids(b, tok, &b->c->items[i], vocab, &text[i].ids, &text[i].n));
            b->used += text[i].n * sizeof *text[i].ids;
            b->t->dropped_empty += text[i].n < 2;
        }
        bool more;
        RETURN_IF_ERROR(add_window(b, i, text[i].ids, text[i].n, round * ctx, ctx, left, &more));
        *any |= more;
    }
    return ST_OK;
}

Status tokens_windows(TokenSet **out, const CalibFile *c, const Tokenizer *tok, int64_t ctx, int64_t max_tokens,
                      int64_t vocab, const TextLimits *limits, Error *err)
{
    Builder b;
    if (ctx < 2)
        return error_set(err, ST_USAGE, "evaluation windows of %lld tokens: at least 2 are needed", (long long)ctx);
    RETURN_IF_ERROR(begin(&b, c, limits, err));
    TextIds *text = mem_zarray((size_t)c->count, sizeof *text);
    Status st = text ? ST_OK : error_nomem(err, "token ids");
    int64_t left = max_tokens > 0 ? max_tokens : -1;
    bool any = true;
    for (size_t round = 0; st == ST_OK && any && left != 0; round++)
        st = add_round(&b, tok, vocab, text, round, (size_t)ctx, &left, &any);
    for (int i = 0; text && i < c->count; i++)
        free(text[i].ids);
    free(text);
    return end(&b, st, "no text in it has two tokens", out);
}

Status tokens_part(TokenSet *out, const TokenSet *t, int first, int n, Error *err)
{
    *out = *t;
    out->samples = n;
    out->ids = t->ids + t->start[first];
    out->item = t->item ? t->item + first : NULL;
    out->first = t->first + first;
    out->start = mem_array((size_t)n + 1, sizeof *out->start);
    if (!out->start)
        return error_nomem(err, "a part of the texts");
    for (int i = 0; i <= n; i++)
        out->start[i] = t->start[first + i] - t->start[first];
    return ST_OK;
}

void tokens_free(TokenSet *t)
{
    if (!t)
        return;
    free(t->name);
    free(t->start);
    free(t->ids);
    free(t->item);
    free(t);
}
