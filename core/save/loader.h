#ifndef SLIM_SAVE_LOADER_H
#define SLIM_SAVE_LOADER_H

#include <stdbool.h>

#include "base/error.h"

struct cJSON;

/* quantization_config of compressed-tensors as its loaders read it: which group a module belongs to. What a module is
 * called decides: one in `ignore` is left alone; of the targets exact names come first, then expressions ("re:…"), then
 * the class; of two groups with the same target the later one has it. */
typedef struct Loader Loader;

typedef struct LoaderGroup {
    const char *name;          /* "group_0" */
    bool known;                /* int8, weights by channel: a form that slimscope writes. The rest holds only then */
    bool fixed, symmetric;     /* inputs: one scale that is stored; its zero point is 0 */
} LoaderGroup;

/* ST_DATA says what of it can't be read. Freed with loader_free. */
Status loader_new(Loader **out, const struct cJSON *quantization_config, Error *err);
void loader_free(Loader *l);
/* *group NULL: the module is left alone. *by_class: taken as a linear, not by its name. ST_DATA: an expression that
 * can't be matched. */
Status loader_find(const Loader *l, const char *module, const LoaderGroup **group, bool *by_class, Error *err);

#endif
