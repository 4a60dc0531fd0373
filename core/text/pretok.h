#ifndef SLIM_TEXT_PRETOK_H
#define SLIM_TEXT_PRETOK_H

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "base/error.h"
#include "base/str.h"
#include "text/matcher.h"

/* The `pre_tokenizer` of a tokenizer.json: Split, ByteLevel, Metaspace, Digits, Punctuation and Sequences of them in
 * any order. */
typedef struct Pretok Pretok;

/* node NULL or a JSON null: one that leaves texts whole. An unknown kind is refused by name. */
Status pretok_new(Pretok **out, const cJSON *node, Error *err);
void pretok_free(Pretok *p);
/* True when ByteLevel is the last step: the pieces are raw bytes, the model's symbols are bytes. */
bool pretok_byte_level(const Pretok *p);

typedef struct Piece {
    size_t at, len;
} Piece;

/* The pieces of a text, in order; they point into `text`, which is the caller's or `own`. Zero-initialise to start. */
typedef struct Pieces {
    const char *text;
    Str own, spare;
    Piece *piece, *next;
    size_t n, cap, next_n, next_cap;
} Pieces;

/* Cuts text (well-formed UTF-8; not copied unless a step changes it). first: it stands at offset 0 of the whole
 * text. */
Status pretok_apply(const Pretok *p, MatchScratch *s, const char *text, size_t len, bool first, Pieces *out,
                    Error *err);
void pieces_free(Pieces *p);

#endif
