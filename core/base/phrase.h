#ifndef SLIM_BASE_PHRASE_H
#define SLIM_BASE_PHRASE_H

#include <stddef.h>

/* A sentence that can be said in another language later: its formats, and what they printed for each conversion. Kept by value;
 * a long one is cut. */
enum { PHRASE_MAX = 280, PHRASE_PARTS = 6 };
typedef struct Phrase {
    char text[PHRASE_MAX];         /* in English; "": nothing is said */
    const char *fmt[PHRASE_PARTS]; /* literals */
    int parts;
    char arg[PHRASE_MAX + 40];     /* what each conversion printed, each with its NUL, in order */
    size_t used;
} Phrase;

/* fmt: a literal with the conversions d, i, u (with l, ll, z), e, f, g, c and s, each with flags, width and precision, and %%. */
void phrase_set(Phrase *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same behind what it says already. */
void phrase_add(Phrase *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Says what another one says behind it. */
void phrase_join(Phrase *p, const Phrase *behind);
/* In another language: `say` gives a format's translation, with the same conversions in the same order, and that of a text that %s
 * printed; the text itself where there is none. */
void phrase_say(const Phrase *p, const char *(*say)(const char *english), char *out, size_t size);

#endif
