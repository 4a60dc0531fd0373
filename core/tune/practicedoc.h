#ifndef SLIM_TUNE_PRACTICEDOC_H
#define SLIM_TUNE_PRACTICEDOC_H

#include "base/mem.h"
#include "io/yaml.h"
#include "recipe/field.h"

/* Practices: whole documents of modelslim_v1 made from a plan's template. Trees of nodes are copied on the way down to what
 * changes, the rest is shared with the plan's document; keys that aren't set stay absent. */

/* What a practice has beside its template. */
typedef struct PracticeWish {
    const char *id;              /* metadata.config_id */
    const YamlNode *front;       /* list of processors in front of the template's, NULL: none */
    const char *const *patterns; /* [npatterns] left in float */
    int npatterns;
    bool peer;                   /* as the peer makes it: spec.prior dropped, linear_quant in groups left alone, the list of
                                  * binary_fallback replaced */
    const char *model_type;      /* into metadata.verified_model_types; NULL: none */
    const YamlNode *label;       /* metadata.label; NULL: none */
} PracticeWish;

/* What came out. */
typedef struct PracticeMade {
    Str text;
    const char *const *patterns; /* the exclude list of the first linear_quant, or the list at the path; in the arena */
    int npatterns;
} PracticeMade;
void practice_made_free(PracticeMade *m);

/* spec: the template of standing_high. Each linear_quant excludes its own patterns (once each), then those of `patterns` that
 * none of them matches yet. */
Status practice_standing(Arena *a, const YamlNode *spec, const PracticeWish *w, PracticeMade *out, Error *err);
/* root: the template of binary_fallback; path: dotted, to a list. The patterns are added to the list, those that are there
 * already left out. */
Status practice_fallback(Arena *a, const YamlNode *root, const char *path, const PracticeWish *w, PracticeMade *out, Error *err);
/* The node at a dotted path, digits are indices of lists; NULL with *part: the segment that isn't there (`len` bytes). */
const YamlNode *practice_path(const YamlNode *root, const char *path, const char **part, int *len);
/* How many linear_quant a list of processors has; groups: those in groups, too. *first: the first of them. */
int practice_linears(const YamlNode *process, bool groups, const YamlNode **first);
/* "iter_smooth(0.5), quarot": the processors of a list in short, in the arena; NULL: no memory. */
const char *practice_short(Arena *a, const YamlNode *process);

#endif
