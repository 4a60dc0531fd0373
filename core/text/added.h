#ifndef SLIM_TEXT_ADDED_H
#define SLIM_TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Added tokens of one kind (looked for in the raw text, or in the normalized one): found leftmost, and the longest
 * of those that start there. Zero-initialise to start. */
typedef struct AddedSet {
    struct AddedToken {
        int32_t id;
        bool lstrip, rstrip, single_word;
    } *token;
    size_t count, token_cap;
    struct AddedNode *node; /* of the tree over bytes */
    size_t nodes, node_cap;
    uint32_t first[256]; /* child of the root */
} AddedSet;

Status added_insert(AddedSet *a, const char *content, size_t len, const struct AddedToken *token, Error *err);
void added_free(AddedSet *a);

/* A stretch of text: an added token (id >= 0), or what lies between (id -1). */
typedef struct AddedSpan {
    size_t start, end;
    int32_t id;
} AddedSpan;

/* Cuts text[*pos, len): the next span into *span, *pos moved behind it; false at the end. *scan is where to look on
 * (at first 0): a token that swallowed white space may end behind it. */
bool added_next(const AddedSet *a, const char *text, size_t len, size_t *pos, size_t *scan, AddedSpan *span);

#endif
