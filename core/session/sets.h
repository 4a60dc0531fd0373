#ifndef SLIM_SESSION_SETS_H
#define SLIM_SESSION_SETS_H

#include "session/rules.h"

/* Sets kept under names: the rules and the recipe of an assignment. Owner thread. */
typedef struct KeptSet {
    char name[SET_NAME_MAX];
    RuleList rules;
    Recipe *recipe;            /* held */
    int16_t *level;            /* [nlinears] under that recipe */
    Prediction predicted;      /* under the present one, where it is that */
    uint64_t results, opened;  /* versions of what it was made from */
    bool known;
} KeptSet;
typedef struct KeptSets {
    KeptSet *set;              /* [n] in the order in which they were kept first */
    int n;
    char last[SET_NAME_MAX];   /* kept last, "": none */
} KeptSets;
void kept_sets_clear(KeptSets *k);

#endif
