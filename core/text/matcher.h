#ifndef SLIM_TEXT_MATCHER_H
#define SLIM_TEXT_MATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "text/limits.h"

/* A pattern of a tokenizer file, ready to search with: a regular expression (translated, compiled by PCRE2 with its
 * JIT where there is one) or a literal string. Immutable; what a search writes to is in the caller's MatchScratch. */
typedef struct Matcher Matcher;

/* What one encoding thread needs; zero-initialise to start. The counters tell what the searches cost. */
typedef struct MatchScratch {
    const TextLimits *limits;     /* looked at before each search; may be NULL */
    void *data, *context, *stack; /* PCRE2's */
    size_t stack_max;
    uint64_t searches, bytes; /* searches made, bytes they passed over */
} MatchScratch;

Status matcher_regex(Matcher **out, const char *pattern, size_t len, Error *err);
Status matcher_literal(Matcher **out, const char *text, size_t len, Error *err);
void matcher_free(Matcher *m);

/* The leftmost match in text[from, len) into [*b, *e); *found tells. The text is well-formed UTF-8 and is all the
 * pattern sees. A search that PCRE2 gives up is an error, never "no match". */
Status matcher_find(const Matcher *m, MatchScratch *s, const char *text, size_t len, size_t from, size_t *b, size_t *e,
                    bool *found, Error *err);
void match_scratch_free(MatchScratch *s);

#endif
