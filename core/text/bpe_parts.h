#ifndef SLIM_TEXT_BPE_PARTS_H
#define SLIM_TEXT_BPE_PARTS_H

#include "text/bpe.h"

/* What loading and encoding share. */
struct BpePair {
    uint64_t key;
    int32_t rank; /* -1: empty slot */
};

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
