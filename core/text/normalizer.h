#ifndef SLIM_TEXT_NORMALIZER_H
#define SLIM_TEXT_NORMALIZER_H

#include <cjson/cJSON.h>

#include "base/error.h"
#include "base/str.h"
#include "text/matcher.h"

/* The `normalizer` of a tokenizer.json: NFC, NFD, NFKC, NFKD, Prepend, Replace, Strip, and Sequences of them. */
typedef struct Normalizer Normalizer;

/* node NULL or a JSON null: a normalizer without steps. An unknown kind is refused by name. */
Status normalizer_new(Normalizer **out, const cJSON *node, Error *err);
void normalizer_free(Normalizer *n);
/* False when normalizing never changes a text. */
bool normalizer_acts(const Normalizer *n);
/* The normalized form of text (well-formed UTF-8) into *out (emptied first). */
Status normalizer_apply(const Normalizer *n, MatchScratch *s, const char *text, size_t len, Str *out, Error *err);

#endif
