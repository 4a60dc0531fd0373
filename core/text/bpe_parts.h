#ifndef SLIM_TEXT_BPE_PARTS_H
#define SLIM_TEXT_BPE_PARTS_H

#include "text/bpe.h"

/* What loading and encoding share. */
struct BpePair {
    uint64_t key;
    int32_t rank; /* -1: empty slot */
};

enum { BPE_ID_MAX = 1 << 24 };

/* Makes room for ids up to `id`. */
Status bpe_reach(Bpe *b, int32_t id, Error *err);
/* Empty tables for so many merges (product is not filled), pairs and joints. */
Status bpe_make_tables(Bpe *b, size_t merges, size_t npairs, size_t njoints, Error *err);
/* Of equal pairs the last counts. */
void bpe_add_pair(Bpe *b, int32_t left, int32_t right, int32_t rank);
/* A merge can cross between these symbols; one that is -1 is no symbol. */
void bpe_add_joint(Bpe *b, int32_t left, int32_t right);
/* Symbol at the left or right end of token `id`, -1: none. */
int32_t bpe_end_symbol(const Bpe *b, int32_t id, bool last);

static inline uint64_t pair_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static inline size_t pair_hash(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return (size_t)(key ^ key >> 32);
}

/* Rank of the merge of two neighbours, or -1. */
static inline int32_t pair_rank(const Bpe *b, int32_t left, int32_t right)
{
    uint64_t key = pair_key(left, right);
    size_t i = pair_hash(key) & b->pair_mask;
    while (b->pairs[i].rank >= 0 && b->pairs[i].key != key)
        i = (i + 1) & b->pair_mask;
    return b->pairs[i].rank;
}

#endif
