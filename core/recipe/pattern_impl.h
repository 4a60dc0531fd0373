#ifndef SLIM_RECIPE_PATTERN_IMPL_H
#define SLIM_RECIPE_PATTERN_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"
#include "recipe/pattern.h"

/* Shared by the pattern files only. */

enum {
    PATTERN_TEXT_MAX = 4096,     /* bytes of a pattern as typed */
    PATTERN_ALTS_MAX = 1000,     /* brace alternatives (specs/config.md 7) */
    PATTERN_EXPANDED_MAX = 1 << 20, /* bytes of all alternatives together */
    PATTERN_PEER_MAX = 200       /* longest entry of a list that the peer loads */
};

typedef enum TokenKind { TK_BYTE, TK_ANY, TK_CLASS, TK_STAR } TokenKind;

typedef struct Token {
    uint8_t kind; /* TokenKind */
    uint8_t byte; /* TK_BYTE */
    int32_t cls;  /* TK_CLASS: index into classes */
} Token;

typedef struct CharRange {
    unsigned lo, hi;
} CharRange;

/* [...]: bitmap below 128, ranges above. */
typedef struct CharClass {
    bool negate;
    uint64_t ascii[2];
    CharRange *wide; /* nwide ranges that reach above 127 */
    int nwide;
} CharClass;

/* One brace alternative: tokens [first, first+count). */
typedef struct Alt {
    int32_t first, count;
    const char *head, *tail;       /* what every name begins with, and ends with; for the first look */
    size_t nhead, ntail;
} Alt;

struct Pattern {
    char *text;
    Alt *alts;
    int32_t nalts;
    Token *tokens;
    size_t ntokens;
    CharClass *classes;
    size_t nclasses;
    Arena arena;
};

/* Strings that a text with braces stands for. */
typedef struct BraceList {
    const char **s;
    size_t n, cap, bytes;
    Arena *arena;
} BraceList;

/* Expands {a,b}, {3..5}, {03..9..2} as bash and the peer do; backslashes stay. ST_DATA above the limits. out->arena
 * holds the texts; out->s is freed by the caller. */
Status brace_expand(BraceList *out, const char *text, Error *err);

bool class_has(const CharClass *c, unsigned cp);

/* Patterns whose union holds every linear of `want` and none outside `allowed` (want is a part of it). As
 * pattern_cover. */
Status pattern_cover_within(const Model *m, const bool *want, const bool *allowed, char ***out, int *n, Error *err);

#endif
