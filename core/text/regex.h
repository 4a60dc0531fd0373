#ifndef SLIM_TEXT_REGEX_H
#define SLIM_TEXT_REGEX_H

#include <stddef.h>

#include "base/error.h"
#include "base/str.h"

/* Writes the PCRE2 form of a tokenizer file's pattern (specs/models.md 3.3) to `out`. The pattern is parsed here,
 * never handed on: a construct this parser does not know is refused by its name and place. In the result
 *   \s is the measured set of white space, \w letters, marks, numbers and connectors, \d category Nd;
 *   a general category names Unicode 16's members: PCRE2's own table plus what came since `unicode`
 *   (140: version 14.0);
 *   A&&[^B] is (?!B)A, a class with a complement inside is an alternation.
 * Read: literals, escapes, classes (ranges, negation, properties, nested classes, &&), ? * + {m,n} and their possessive
 * forms, groups, (?i:…), (?=…), (?!…), ^, $. Errors: ST_DATA. */
Status regex_translate(const char *pattern, size_t len, int unicode, Str *out, Error *err);

#endif
