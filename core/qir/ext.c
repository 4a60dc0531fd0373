#include "qir/ext.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#define EXT_TYPE_OF(type) _Generic((type){0}, bool: EXT_BOOL, int: EXT_INT, int64_t: EXT_LONG, double: EXT_REAL)
#define EXT_FIELD(type_, member, ...) {.at = offsetof(QExt, member), .type = EXT_TYPE_OF(type_), __VA_ARGS__},

const ExtField ext_fields[] = {EXT_ROWS(EXT_FIELD){.key = NULL}};

/* Rows with a word in every digest, absent or not, as recorded journals have them. */
enum { EXT_ALWAYS = 13 };

int ext_word(const char *words, const char *word)
{
    int i = 0;
    size_t n = strlen(word);
    for (const char *s = words; n && *s; i++, s += *s == ' ') {
        size_t len = strcspn(s, " ");
        if (len == n && memcmp(s, word, n) == 0)
            return i;
        s += len;
    }
    return -1;
}

bool ext_reads(const ExtField *f, const char *method)
{
    return ext_word(f->methods, method) >= 0;
}

void ext_put(QExt *e, const ExtField *f, double x)
{
    char *to = (char *)e + f->at;
    int64_t whole = fabs(x) < 9e15 ? (int64_t)x : 0;
    switch (f->type) {
    case EXT_BOOL: *(bool *)to = x != 0; break;
    case EXT_INT: *(int *)(void *)to = whole > 0 && whole <= INT_MAX ? (int)whole : 0; break;
    case EXT_LONG: *(int64_t *)(void *)to = whole; break;
    case EXT_REAL: *(double *)(void *)to = x; break;
    }
}

static uint64_t word_of(const QExt *e, const ExtField *f)
{
    const char *from = (const char *)e + f->at;
    uint64_t bits;
    switch (f->type) {
    case EXT_BOOL: return *(const bool *)from;
    case EXT_INT: return (uint64_t)*(const int *)(const void *)from;
    case EXT_LONG: return (uint64_t)*(const int64_t *)(const void *)from;
    case EXT_REAL: break;
    }
    memcpy(&bits, from, sizeof bits);
    return bits;
}

int ext_words(const QExt *e, uint64_t word[EXT_WORDS_MAX])
{
    int n = 0;
    for (int i = 0; i < EXT_COUNT; i++) {
        uint64_t w = word_of(e, &ext_fields[i]);
        if (i >= EXT_ALWAYS && w)
            word[n++] = (uint64_t)i;
        if (i < EXT_ALWAYS || w)
            word[n++] = w;
    }
    return n;
}
