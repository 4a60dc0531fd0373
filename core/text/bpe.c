#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "text/bpe_parts.h"
#include "text/unicode.h"

enum { SCAN_MAX = 40, CACHE_SLOTS = 1 << 13, WORD_SYMBOLS = 20, WORD_IDS = 8 };
#define NO_LINK UINT32_MAX

/* A symbol of a long segment. rank is that of the pair it makes with the next one, -1 without; id -1: merged away. */
struct BpeLink {
    int32_t id, rank;
    uint32_t prev, next;
};

/* A short segment and its ids. */
struct BpeWord {
    uint8_t symbols, ids; /* symbols 0: empty */
    int32_t symbol[WORD_SYMBOLS], id[WORD_IDS];
};

bool id_push(IdList *l, int32_t id)
{
    if (l->n == l->cap && !mem_grow(&l->id, &l->cap, l->n + 1, sizeof *l->id))
        return false;
    l->id[l->n++] = id;
    return true;
}

void bpe_scratch_free(BpeScratch *s)
{
    free(s->symbol);
    free(s->link);
    free(s->heap);
    free(s->cache);
    memset(s, 0, sizeof *s);
}

/* ---- merging ---- */

/* Up to SCAN_MAX symbols: the lowest rank, leftmost first, found by looking at all. Gives the number of symbols
 * left. */
static size_t merge_scan(const Bpe *b, int32_t *sym, size_t n)
{
    int32_t rank[SCAN_MAX];
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = pair_rank(b, sym[i], sym[i + 1]);
    for (;;) {
        size_t at = 0;
        uint32_t best = UINT32_MAX; /* -1 is never below it */
        for (size_t i = 0; i + 1 < n; i++)
            if ((uint32_t)rank[i] < best) {
                best = (uint32_t)rank[i];
                at = i;
            }
        if (best == UINT32_MAX)
            return n;
        sym[at] = b->product[best];
        memmove(sym + at + 1, sym + at + 2, (n - at - 2) * sizeof *sym);
        memmove(rank + at, rank + at + 1, (n - at - 2) * sizeof *rank);
        n--;
        if (at + 1 < n)
            rank[at] = pair_rank(b, sym[at], sym[at + 1]);
        if (at > 0)
            rank[at - 1] = pair_rank(b, sym[at - 1], sym[at]);
    }
}

/* The queue: a heap with four children a node over (rank, position), the smallest on top. */
static void sift_down(uint64_t *h, size_t n, size_t i)
{
    uint64_t v = h[i];
    for (;;) {
        size_t c = i * 4 + 1, least = c;
        if (c >= n)
            break;
        size_t end = c + 4 < n ? c + 4 : n;
        for (size_t k = c + 1; k < end; k++)
            if (h[k] < h[least])
                least = k;
        if (h[least] >= v)
            break;
        h[i] = h[least];
        i = least;
    }
    h[i] = v;
}

static bool heap_push(BpeScratch *s, uint64_t v)
{
    if (s->heap_n == s->heap_cap && !mem_grow(&s->heap, &s->heap_cap, s->heap_n + 1, sizeof *s->heap))
        return false;
    size_t i = s->heap_n++;
    for (; i > 0 && s->heap[(i - 1) / 4] > v; i = (i - 1) / 4)
        s->heap[i] = s->heap[(i - 1) / 4];
    s->heap[i] = v;
    s->queue_ops++;
    return true;
}

static uint64_t heap_pop(BpeScratch *s)
{
    uint64_t top = s->heap[0];
    s->heap[0] = s->heap[--s->heap_n];
    if (s->heap_n)
        sift_down(s->heap, s->heap_n, 0);
    s->queue_ops++;
    return top;
}

/* Sets the rank of the pair at i and queues it. */
static bool repair(const Bpe *b, BpeScratch *s, uint32_t i)
{
    struct BpeLink *l = &s->link[i];
    l->rank = l->next == NO_LINK ? -1 : pair_rank(b, l->id, s->link[l->next].id);
    return l->rank < 0 || heap_push(s, (uint64_t)l->rank << 32 | i);
}

static Status merge_heap(const Bpe *b, BpeScratch *s, const int32_t *sym, size_t n, IdList *out, Error *err)
{
    if (n >= NO_LINK)
        return error_set(err, ST_DATA, "a piece of %zu symbols is too long to encode", n);
    if (!mem_grow(&s->link, &s->link_cap, n, sizeof *s->link) || !mem_grow(&s->heap, &s->heap_cap, n, sizeof *s->heap))
        return error_nomem(err, "encoding a text");
    mem_prefer_huge(s->link, s->link_cap * sizeof *s->link);
    mem_prefer_huge(s->heap, s->heap_cap * sizeof *s->heap);
    s->heap_n = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t rank = i + 1 < n ? pair_rank(b, sym[i], sym[i + 1]) : -1;
        s->link[i] = (struct BpeLink){.id = sym[i],
                                      .rank = rank,
                                      .prev = i ? (uint32_t)i - 1 : NO_LINK,
                                      .next = i + 1 < n ? (uint32_t)i + 1 : NO_LINK};
        if (rank >= 0)
            s->heap[s->heap_n++] = (uint64_t)rank << 32 | i;
    }
    s->queue_ops += s->heap_n;
    for (size_t i = s->heap_n / 4 + 1; i-- > 0 && s->heap_n;)
        if (i < s->heap_n)
            sift_down(s->heap, s->heap_n, i);
    while (s->heap_n) {
        uint64_t top = heap_pop(s);
        uint32_t i = (uint32_t)top, rank = (uint32_t)(top >> 32);
        struct BpeLink *l = &s->link[i];
        if (l->id < 0 || (uint32_t)l->rank != rank) /* of a pair that is no more */
            continue;
        struct BpeLink *gone = &s->link[l->next];
        l->id = b->product[rank];
        l->next = gone->next;
        gone->id = -1;
        if (l->next != NO_LINK)
            s->link[l->next].prev = i;
        if (!repair(b, s, i) || (l->prev != NO_LINK && !repair(b, s, l->prev)))
            return error_nomem(err, "encoding a text");
    }
    for (uint32_t i = 0; i != NO_LINK; i = s->link[i].next)
        if (!id_push(out, s->link[i].id))
            return error_nomem(err, "encoding a text");
    return ST_OK;
}

/* ---- segments ---- */

static struct BpeWord *cache_slot(BpeScratch *s, const int32_t *sym, size_t n)
{
    if (s->no_cache || n > WORD_SYMBOLS)
        return NULL;
    if (!s->cache && !(s->cache = calloc(CACHE_SLOTS, sizeof *s->cache))) {
        s->no_cache = true;
        return NULL;
    }
    uint64_t h = n;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint32_t)sym[i]) * 0x9e3779b97f4a7c15u;
    return &s->cache[(h ^ h >> 32) & (CACHE_SLOTS - 1)];
}

/* A run of symbols that no merge leaves. */
static Status encode_segment(const Bpe *b, BpeScratch *s, int32_t *sym, size_t n, IdList *out, Error *err)
{
    if (n > SCAN_MAX)
        return merge_heap(b, s, sym, n, out, err);
    struct BpeWord *w = n > 1 ? cache_slot(s, sym, n) : NULL;
    const int32_t *id = sym;
    size_t count = n;
    if (w && w->symbols == n && memcmp(w->symbol, sym, n * sizeof *sym) == 0) {
        id = w->id;
        count = w->ids;
    } else if (n > 1) {
        if (w) {
            w->symbols = 0;
            memcpy(w->symbol, sym, n * sizeof *sym);
        }
        count = merge_scan(b, sym, n);
        if (w && count <= WORD_IDS) {
            w->symbols = (uint8_t)n;
            w->ids = (uint8_t)count;
            memcpy(w->id, sym, count * sizeof *sym);
        }
    }
    for (size_t i = 0; i < count; i++)
        if (!id_push(out, id[i]))
            return error_nomem(err, "encoding a text");
    return ST_OK;
}

static bool can_join(const Bpe *b, int32_t left, int32_t right)
{
    uint64_t key = pair_key(left, right) + 1;
    size_t i = pair_hash(key) & b->joint_mask;
    while (b->joints[i] && b->joints[i] != key)
        i = (i + 1) & b->joint_mask;
    return b->joints[i] != 0;
}

/* ---- symbols ---- */

/* The symbols of one piece as they come. */
typedef struct SymbolFeed {
    const Bpe *b;
    BpeScratch *s;
    IdList *out;
    Error *err;
    size_t n;  /* symbols waiting in s->symbol */
    bool cuts; /* a long piece: ends a segment wherever no merge can cross */
} SymbolFeed;

static Status feed_flush(SymbolFeed *f)
{
    size_t n = f->n;
    f->n = 0;
    return n ? encode_segment(f->b, f->s, f->s->symbol, n, f->out, f->err) : ST_OK;
}

static Status feed(SymbolFeed *f, int32_t id)
{
    BpeScratch *s = f->s;
    if (f->cuts && f->n && !can_join(f->b, s->symbol[f->n - 1], id))
        RETURN_IF_ERROR(feed_flush(f));
    if (f->n == s->symbol_cap && !mem_grow(&s->symbol, &s->symbol_cap, f->n + 1, sizeof *s->symbol))
        return error_nomem(f->err, "encoding a text");
    s->symbol[f->n++] = id;
    return ST_OK;
}

/* <0xHH> of every byte of a code point; *done false when one is missing. */
static Status fall_back(SymbolFeed *f, const char *s, int len, bool *done)
{
    *done = false;
    for (int i = 0; i < len; i++)
        if (f->b->byte[(unsigned char)s[i]] < 0)
            return ST_OK;
    *done = true;
    for (int i = 0; i < len; i++)
        RETURN_IF_ERROR(feed(f, f->b->byte[(unsigned char)s[i]]));
    return ST_OK;
}

/* Code points to ids. The order around unknown ones is the reference's: an unknown token waits until a known symbol
 * or the end comes (bytes of a fallback overtake it), and grows meanwhile when they are fused. */
static Status feed_code_points(SymbolFeed *f, const char *piece, size_t len)
{
    const Bpe *b = f->b;
    bool waiting = false;
    for (size_t i = 0; i < len;) {
        int k;
        uint32_t cp = utf8_next(piece + i, &k);
        int32_t id = cp < 65536 ? b->bmp[cp] : (int32_t)map_get(&b->names, piece + i, (size_t)k, -1);
        bool bytes = false;
        if (id < 0 && b->byte_fallback)
            RETURN_IF_ERROR(fall_back(f, piece + i, k, &bytes));
        if (waiting && (id >= 0 || (!bytes && !b->fuse_unk)))
            RETURN_IF_ERROR(feed(f, b->unk));
        if (id >= 0)
            RETURN_IF_ERROR(feed(f, id));
        if (!bytes)
            waiting = id < 0 && b->unk >= 0;
        i += (size_t)k;
    }
    return waiting ? feed(f, b->unk) : ST_OK;
}

static Status feed_bytes(SymbolFeed *f, const char *piece, size_t len)
{
    bool unknown = false;
    for (size_t i = 0; i < len; i++) {
        int32_t id = f->b->byte[(unsigned char)piece[i]];
        if (id >= 0)
            RETURN_IF_ERROR(feed(f, id));
        else if (f->b->unk >= 0 && !(unknown && f->b->fuse_unk))
            RETURN_IF_ERROR(feed(f, f->b->unk));
        unknown = id < 0;
    }
    return ST_OK;
}

Status bpe_encode(const Bpe *b, BpeScratch *s, const char *piece, size_t len, IdList *out, Error *err)
{
    if (b->ignore_merges) {
        int32_t id = (int32_t)map_get(&b->names, piece, len, -1);
        if (id >= 0)
            return id_push(out, id) ? ST_OK : error_nomem(err, "encoding a text");
    }
    SymbolFeed f = {.b = b, .s = s, .out = out, .err = err, .cuts = len > WORD_SYMBOLS};
    RETURN_IF_ERROR(b->byte_level ? feed_bytes(&f, piece, len) : feed_code_points(&f, piece, len));
    return feed_flush(&f);
}
