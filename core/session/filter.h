#ifndef SLIM_SESSION_FILTER_H
#define SLIM_SESSION_FILTER_H

#include "session/session.h"

/* What the table shows of the linears: the words of a filter. Owner thread. */

typedef struct FilterTerm {
    bool negate;
    enum {
        TERM_WORD,
        TERM_KIND,
        TERM_LAYER,
        TERM_SCORE_ABOVE,
        TERM_SCORE_BELOW,
        TERM_FLOAT,
        TERM_FAILED,
        TERM_TAGGED
    } kind;
    char text[128];
    long lo, hi;
    double value;
} FilterTerm;

enum { MAX_TERMS = 32 };
typedef struct Filter {
    FilterTerm term[MAX_TERMS];
    int n;
} Filter;

/* Filters with names. */
typedef struct SavedFilters {
    struct {
        char *name, *text;
    } *list;
    int n;
    size_t cap;
} SavedFilters;
void saved_filters_free(SavedFilters *f);

/* Reads the words of a filter (NULL: none). ST_USAGE naming the word that it is not made of. */
Status filter_parse(const Session *s, const char *expr, Filter *out, Error *err);
/* Whether all words hold of the linear. */
bool filter_passes(const Session *s, const Filter *f, int64_t linear);

#endif
