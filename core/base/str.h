#ifndef SLIM_BASE_STR_H
#define SLIM_BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* A growable byte string. Zero-initialise to start; `s` is NUL-terminated and never NULL after the first append.
 * A failed growth sets `oom` and later appends do nothing, so a builder checks once at its end: str_clear keeps `oom`,
 * only str_free and str_detach end it. */
typedef struct Str {
    char *s;
    size_t len, cap;
    bool oom;
} Str;

/* Frees the text; the Str may be used again. */
void str_free(Str *b);
/* Empties the text and keeps its room, and `oom`: what has lost bytes once stays known as short. */
void str_clear(Str *b);
void str_append(Str *b, const char *bytes, size_t n);
void str_puts(Str *b, const char *s);
void str_putc(Str *b, char c);
void str_printf(Str *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void str_vprintf(Str *b, const char *fmt, va_list ap);
/* Appends `s` as a JSON string with its quotes (invalid UTF-8 becomes U+FFFD; what a terminal would obey is escaped). */
void str_json(Str *b, const char *s);
/* Appends a number in the fewest digits that read back as the same double; NaN and infinities as "null". */
void str_double(Str *b, double v);
/* The text of an unfilled Str too: never NULL. */
const char *str_text(const Str *b);
/* Gives the buffer (caller frees with free) and empties the Str; NULL when oom. */
char *str_detach(Str *b);

/* Length in bytes of the well-formed UTF-8 sequence at s (n bytes left), 0 when ill-formed; *cp gets the code point. */
int utf8_decode(const char *s, size_t n, unsigned *cp);
/* Writes cp as UTF-8 into out (4 bytes), gives its length. */
int utf8_encode(unsigned cp, char out[4]);
/* Puts n strings end to end into out, as snprintf does with "%s%s…" (what does not fit into `size` bytes is cut, a NUL
 * ends it) and several times as fast; gives the length that all of it has. */
size_t text_join(char *out, size_t size, const char *const part[], int n);
/* The digits of v >= 0. */
const char *text_int(char buf[12], int v);
/* For qsort over an array of char *: in the order of strcmp. */
int compare_strings(const void *a, const void *b);
/* Whether s ends with these bytes. */
bool str_ends_with(const char *s, const char *end);
/* Makes n bytes fit for a terminal, in place: control characters (C0, DEL, C1), those that turn the direction of writing
 * and bytes that are no UTF-8 become '?'; a line break and a tab a blank, with keep_lines they stay. Gives the new
 * length, never a longer one; s gets no NUL. */
size_t text_fit_terminal(char *s, size_t n, bool keep_lines);
/* Levenshtein distance up to `limit` (limit+1 when greater): for "did you mean". */
int str_distance(const char *a, const char *b, int limit);

#endif
