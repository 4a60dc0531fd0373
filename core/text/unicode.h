#ifndef SLIM_TEXT_UNICODE_H
#define SLIM_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* The Unicode version whose general categories the tokenizers see, whatever PCRE2 and utf8proc carry. */
#define UNICODE_TABLE_VERSION "16.0"

/* A range whose category differs from that in an older table. */
typedef struct UnicodeDelta {
    uint32_t lo, hi;
    int last;     /* newest older version that has it otherwise: 151 is 15.1 */
    char cat[3];  /* category now */
    char from[3]; /* category then, when it was assigned */
} UnicodeDelta;

extern const UnicodeDelta unicode_delta[], unicode_delta_han[];
extern const size_t unicode_delta_count, unicode_delta_han_count;

/* General category in Unicode 16: two letters ("Lu"). */
const char *unicode_category(uint32_t cp);
/* White_Space, as the tokenizers' \s was measured: specs/models.md 3.3. */
bool unicode_is_space(uint32_t cp);
/* A word character in the sense of added tokens' single_word: letters, marks, digits, letter-like numbers and symbols,
 * connectors, joiners. */
bool unicode_is_word(uint32_t cp);

/* Code point at s (well-formed UTF-8) and its length. */
static inline uint32_t utf8_next(const char *s, int *len)
{
    const unsigned char *p = (const unsigned char *)s;
    if (p[0] < 0x80)
        return *len = 1, p[0];
    if (p[0] < 0xe0)
        return *len = 2, (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    if (p[0] < 0xf0)
        return *len = 3, (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    return *len = 4, (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 |
                     (p[3] & 0x3f);
}
/* Start of the code point that ends before s (s > begin, well-formed UTF-8). */
static inline const char *utf8_before(const char *s)
{
    do
        s--;
    while (((unsigned char)*s & 0xc0) == 0x80);
    return s;
}

/* Length of the well-formed prefix of s. */
size_t utf8_valid_prefix(const char *s, size_t n);
/* Appends s with U+FFFD for every ill-formed part (the longest beginning of a sequence, else one byte, as Python's
 * decoder does); gives the number of replacements. */
size_t utf8_repair(Str *out, const char *s, size_t n);

#endif
