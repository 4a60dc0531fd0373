#ifndef SLIM_SAVE_IGNORE_REGEX_H
#define SLIM_SAVE_IGNORE_REGEX_H

#include "base/error.h"
#include "base/str.h"

/* One Python regular expression for exactly these module names (specs/formats.md 11): a trie on their parts, siblings
 * with equal subtrees merged. Sorts `names`; n >= 1. Appends "re:…". */
Status ignore_regex(const char **names, size_t n, Str *out, Error *err);

#endif
