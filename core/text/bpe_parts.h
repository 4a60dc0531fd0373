#ifndef SLIM_TEXT_BPE_PARTS_H
#define SLIM_TEXT_BPE_PARTS_H

#include "text/bpe.h"

/* What loading and encoding share. */
struct BpePair {
    uint64_t key;
    int32_t order; /* rank + 1; 0: empty slot */
};

enum { BPE_ID_MAX = 1 << 24 };

/* Makes room for ids up to `id`. */
Status bpe_reach(Bpe *b, int32_t id, Error *err);
/* The id of a token as the file writes it, or -1. */
int32_t bpe_listed(const BpeLists *l, const char *s, size_t len);
/* Product, pairs and joints of the lists' merges; symbols and the unknown token are known. */
Status bpe_read_merges(Bpe *b, const BpeLists *l, Error *err);
/* Empty tables for so many merges (product is not filled) and pairs. */
Status bpe_make_tables(Bpe *b, size_t merges, size_t npairs, Error *err);
/* Of equal pairs the last counts. */
void bpe_add_pair(Bpe *b, int32_t left, int32_t right, int32_t rank);
/* A merge can cross between these symbols; one that is -1 is no symbol. false when memory is short. */
bool bpe_add_joint(Bpe *b, int32_t left, int32_t right);

static inline uint64_t pair_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static inline size_t pair_hash(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return (size_t)(key ^ key >> 32);
}

static inline void pair_prefetch(const Bpe *b, int32_t left, int32_t right)
{
    __builtin_prefetch(&b->pairs[pair_hash(pair_key(left, right)) & b->pair_mask], 1);
}

/* Rank of the merge of two neighbours, or -1. */
static inline int32_t pair_rank(const Bpe *b, int32_t left, int32_t right)
{
    uint64_t key = pair_key(left, right);
    size_t i = pair_hash(key) & b->pair_mask;
    while (b->pairs[i].order && b->pairs[i].key != key)
        i = (i + 1) & b->pair_mask;
    return b->pairs[i].order - 1;
}

#endif
