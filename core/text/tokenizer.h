#ifndef SLIM_TEXT_TOKENIZER_H
#define SLIM_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "text/limits.h"

/* tokenizer.json (BPE kinds), specs/models.md part 3. Immutable after loading: one tokenizer may encode on several
 * threads. */
typedef struct Tokenizer Tokenizer;

/* `path` is a tokenizer.json, or a model folder: its tokenizer.json, with tokenizer_config.json where it adds a BOS
 * rule; without one vocab.json with merges.txt, or tiktoken.model (text/fallback.h). */
Status tokenizer_open(Tokenizer **out, const char *path, Error *err);
void tokenizer_free(Tokenizer *t);

/* Ids of text into *ids (grown; caller frees), count into *n. Invalid UTF-8 becomes U+FFFD. add_special = false:
 * the template adds nothing; added tokens inside the text are recognised either way. A text that normalizing or
 * splitting makes larger than the limits (may be NULL) is ST_NOMEM. */
Status tokenizer_encode(const Tokenizer *t, const char *text, size_t len, bool add_special, const TextLimits *limits,
                        int32_t **ids, size_t *n, Error *err);
/* The bytes that a token stands for, which may be a part of a character, or its text as the vocabulary writes it (not
 * NUL-terminated); NULL: there is no such token. */
const char *tokenizer_piece(const Tokenizer *t, int32_t id, size_t *len);
/* Appends the bytes that a token adds to a text: of vocabularies that write text, spaces for their marks and the bytes that
 * they have tokens for. Nothing where there is no such token. */
void tokenizer_decode(const Tokenizer *t, int32_t id, Str *out);
/* What an encoding cost, for `make bench` and the tests that it stays linear. */
typedef struct EncodeCost {
    uint64_t searches;     /* pattern searches made */
    uint64_t search_bytes; /* bytes they passed over */
    uint64_t queue_ops;    /* entries put into the merge queue and taken out */
} EncodeCost;
/* As tokenizer_encode; cost may be NULL. */
Status tokenizer_encode_cost(const Tokenizer *t, const char *text, size_t len, bool add_special,
                             const TextLimits *limits, int32_t **ids, size_t *n, EncodeCost *cost, Error *err);
/* One line: PCRE2's version and the Unicode table's, for --version. */
const char *tokenizer_unicode_version(void);

#endif
