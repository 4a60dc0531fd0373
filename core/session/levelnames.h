#ifndef SLIM_SESSION_LEVELNAMES_H
#define SLIM_SESSION_LEVELNAMES_H

#include "base/hash.h"
#include "session/session.h"

/* What the levels of a recipe are called, and what they are: numbers of two recipes don't compare. */
typedef struct LevelNames {
    char (*name)[48];
    Digest *key;  /* of the scheme; [0]: of float */
    int n;        /* float included; 0: the recipe is not known, levels are numbers */
} LevelNames;

/* Of a recipe, NULL: one that is not known. */
Status levelnames_of(const Recipe *r, LevelNames *out, Error *err);
void levelnames_fini(LevelNames *l);
/* "float", "W8A8", "level 3" of one that is not known. */
void levelnames_name(const LevelNames *l, int level, char out[48]);
/* Whether a level of the one is the same as a level of the other; those of a recipe that is not known go by number. */
bool levelnames_same(const LevelNames *a, int la, const LevelNames *b, int lb);

#endif
