#ifndef SLIM_SESSION_SIZES_H
#define SLIM_SESSION_SIZES_H

#include "session/parts.h"

/* Sizes of assignments as files have them: with what the recipe's processors add. That is worked out once a recipe, and kept
 * until the model goes. */

typedef struct Sizes {
    struct SizeEntry **at; /* [n] of a recipe each */
    size_t n, cap;
    RecipeSizing plain;    /* where there is no memory for an entry */
} Sizes;

/* As recipe_sizes takes it; borrowed until sizes_drop. A recipe whose processors can't be run adds nothing. */
const RecipeSizing *sizing_of(const Session *s, const Recipe *r);
/* recipe_sizes of the session's model, with it. */
void sizes_of(const Session *s, const Recipe *r, const int16_t *level, SizeReport *out);
void sizes_drop(Session *s);

#endif
