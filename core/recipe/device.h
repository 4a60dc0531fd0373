#ifndef SLIM_RECIPE_DEVICE_H
#define SLIM_RECIPE_DEVICE_H

#include <stdbool.h>

#include "base/error.h"
#include "base/str.h"
#include "recipe/recipe.h"

/* Devices as msModelSlim names them, and what it makes of several of them (specs/config.md 8, 10). Here ranks stand for
 * them; results don't depend on their number. */

typedef struct Device {
    bool npu;  /* else cpu */
    int count; /* devices that are listed; 0: no list */
} Device;
/* "cpu", "npu", "npu:0,1,2,3"; blanks and empty items don't count. ST_USAGE says what is wrong with it. */
Status device_parse(const char *text, Device *out, Error *err);

/* spec.runner; RUNNER_LAYER_WISE of a document that takes no other. */
typedef enum RecipeRunner { RUNNER_AUTO, RUNNER_MODEL_WISE, RUNNER_LAYER_WISE, RUNNER_DP_LAYER_WISE } RecipeRunner;
RecipeRunner recipe_runner(const Recipe *r);
/* Whether msModelSlim divides texts over so many devices: dp_layer_wise. r NULL: a command without a recipe. */
bool recipe_divides(const Recipe *r, int devices);
/* Appends, as "'awq', 'compressed_tensors_saver'", what of the recipe msModelSlim refuses to run so; nothing: it runs it. */
void recipe_undivided(const Recipe *r, Str *out);

#endif
