#ifndef SLIM_RECIPE_PATTERN_H
#define SLIM_RECIPE_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/model.h"

/* Name patterns: wcmatch fnmatch with braces (specs/config.md 7). One matcher for every list and every prompt. */
typedef struct Pattern Pattern;

/* Compiles; a literal equal to the whole pattern matches too. More than 1000 brace alternatives: ST_DATA. Caller
 * frees. */
Status pattern_compile(Pattern **out, const char *text, Error *err);
void pattern_free(Pattern *p);
bool pattern_match(const Pattern *p, const char *name);
/* Whether it selects the linear of this name: DECISIONS makes it the linear's name only. hits[i] |= match; gives the
 * number of matches. */
int64_t pattern_hits(const Pattern *p, const Model *m, bool *hits);

typedef enum LintKind {
    LINT_OK,
    LINT_NO_MATCH,    /* selects nothing; `hint` may hold the nearest pattern that would */
    LINT_SHADOWED,    /* selects only what earlier patterns of the list already do */
    LINT_SPLITS,      /* takes a part of a fused group: `hint` is a pattern that takes it whole */
    LINT_BROAD        /* a trailing digit before '*' also hits other blocks: layers.1* hits 10..19 */
} LintKind;
typedef struct Lint {
    LintKind kind;
    char text[200];   /* one line for people */
    char hint[200];   /* suggested replacement or addition, "" when none */
} Lint;
/* Lints pattern `text`, given what earlier patterns already selected (`before`, may be NULL). */
Status pattern_lint(const char *text, const Model *m, const bool *before, Lint *out, Error *err);
/* Why no linear of any model can have such a name: a regex, a path, blanks around it, a tensor's name, ...; NULL: one
 * can. */
const char *pattern_nowhere(const char *text);
/* Shortest pattern list (brace-compressed) that selects exactly `want` of the model's linears: texts in an array,
 * caller frees each and it. */
Status pattern_cover(const Model *m, const bool *want, char ***out, int *n, Error *err);

#endif
