#ifndef SLIM_TEXT_BPE_H
#define SLIM_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"

/* The `model` of a tokenizer.json of type BPE. Immutable after loading. */
typedef struct Bpe {
    bool byte_level; /* symbols are bytes (the vocabulary is written in the byte alphabet), else code points */
    bool ignore_merges, byte_fallback, fuse_unk;
    int32_t unk; /* -1: none */
    int32_t size; /* largest id + 1 */
    struct BpeText {
        const char *s; /* byte_level: the bytes themselves */
        uint32_t len;
        bool added;    /* an added token: stands for itself */
    } *text; /* [size]; s NULL: no such id */
    size_t text_cap;
    Map names;        /* token as its symbols are written (bytes or UTF-8) -> id */
    int32_t byte[256]; /* id of a byte: its symbol, or <0xHH>; -1: none */
    int32_t *bmp;     /* [65536] id of a code point below U+10000 alone, -1: none */
    struct BpePair *pairs; /* hash of (left, right) -> rank */
    size_t pair_mask;
    int32_t *product; /* [merges] id a merge gives */
    int32_t merges;
    uint64_t *joints; /* hash of (last symbol of a left part, first of a right one), plus 1: where a merge can cross */
    size_t joint_mask, joint_count;
    Arena arena;
} Bpe;

/* Growing list of ids. */
typedef struct IdList {
    int32_t *id;
    size_t n, cap;
} IdList;

/* What one encoding thread needs; zero-initialise to start. */
typedef struct BpeScratch {
    int32_t *symbol;
    size_t symbol_cap;
    struct BpeLink *link;
    size_t link_cap;
    uint64_t *heap;
    size_t heap_n, heap_cap;
    struct BpeWord *cache;
    bool no_cache;      /* a short text isn't worth one */
    uint64_t queue_ops; /* entries put into the merge queue and taken out */
} BpeScratch;

/* The two long lists of a model, which are kept in no tree: the vocabulary is gathered while its file is read, the
 * merges are read from its text. Zero-initialise to start. */
typedef struct BpeLists {
    struct BpeText *text; /* [size] tokens as the file writes them, by id */
    size_t text_cap;
    int32_t size, empty;  /* empty: id of the token without a letter, where it was seen */
    bool empty_seen;
    Map ids;              /* the other tokens -> id */
    Arena arena;
    Error bad_id, bad_token; /* the first of each kind, told after what is looked at before */
    char *merges; /* borrowed and written to: a JSON list, or with `lines` lines "a b" */
    size_t merges_len, merges_count;
    bool lines;
} BpeLists;

/* A JsonKeyed for the object `vocab`, with the BpeLists as ctx. */
Status bpe_take_token(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len, bool *twice,
                      Error *err);
void bpe_lists_free(BpeLists *l);

/* Makes the tables from the rest of the model (which tells by {} and [] that the lists were there) and the lists, of
 * which it keeps what it can use; byte_level as the pre-tokenizer says. Errors name the key. */
Status bpe_new(Bpe **out, const cJSON *model, BpeLists *lists, bool byte_level, Error *err);
/* A tiktoken.model: lines of a token's bytes in base64 and its rank, which is its id. Of two neighbours those merge
 * first whose concatenation has the lowest rank; a piece that is a token stands for itself. Errors name the line. */
Status bpe_from_ranks(Bpe **out, const char *text, size_t len, Error *err);
void bpe_free(Bpe *b);
/* Gives an id beside or instead of the vocabulary's its text: an added token. */
Status bpe_add_token(Bpe *b, int64_t id, const char *content, size_t len, Error *err);
/* Appends the ids of one piece. With byte_level `piece` is raw bytes, else UTF-8. */
Status bpe_encode(const Bpe *b, BpeScratch *s, const char *piece, size_t len, IdList *out, Error *err);
void bpe_scratch_free(BpeScratch *s);
/* false when memory is short. */
bool id_push(IdList *l, int32_t id);

/* The byte alphabet: bytes 33-126, 161-172, 174-255 stand for themselves, the others for U+0100 and up. */
uint32_t byte_to_letter(unsigned char byte);
/* The byte a letter stands for, or -1. */
int letter_to_byte(uint32_t cp);

#endif
