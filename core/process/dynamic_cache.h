#ifndef SLIM_PROCESS_DYNAMIC_CACHE_H
#define SLIM_PROCESS_DYNAMIC_CACHE_H

#include <stdbool.h>

#include "base/error.h"
#include "process/names.h"
#include "recipe/recipe.h"

/* Settings of a RecipeStep: keys and values of the attention modules that the lists select. */
typedef struct CacheSettings {
    QSpec q;
    NameLists attentions;
} CacheSettings;

/* on[layers]: whether a dynamic_cache of the recipe selects an attention of the layer (specs/quantization.md 10.3: an empty
 * include selects all). How many of the recipe's processors are dynamic_cache into *steps. */
Status cache_layers(const Recipe *r, const Model *m, bool *on, int *steps, Error *err);

#endif
