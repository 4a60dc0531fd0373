#ifndef SLIM_PROCESS_CACHELAYERS_H
#define SLIM_PROCESS_CACHELAYERS_H

#include <stdbool.h>

#include "base/error.h"
#include "recipe/recipe.h"

/* dynamic_cache: keys and values of the attention modules that the lists select. Settings of a RecipeStep. */
typedef struct RecipeCache {
    QSpec q;
    int ninclude, nexclude;     /* no include: every attention */
    const char *const *include; /* borrowed */
    const char *const *exclude;
} RecipeCache;

/* Name of the (first) attention module of a layer ("model.layers.0.self_attn") into buf, or "" when the layer has no keys and
 * values that a cache could hold (linear attention). */
void attention_name(const Model *m, int layer, char *buf, int size);
/* on[layers]: whether a dynamic_cache of the recipe selects an attention of the layer (specs/quantization.md 10.3: an empty
 * include selects all). */
Status cache_layers(const Recipe *r, const Model *m, bool *on, Error *err);
/* The first dynamic_cache that selects this attention, NULL when none does; the name as attention_name gives it. */
Status cache_of(const Recipe *r, const char *attention, const RecipeCache **out, Error *err);

#endif
