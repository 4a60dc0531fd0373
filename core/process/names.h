#ifndef SLIM_PROCESS_NAMES_H
#define SLIM_PROCESS_NAMES_H

#include <stdbool.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "io/yaml.h"
#include "process/work.h"

/* The include and exclude lists of a processor whose patterns are of modules, not of linears. */
typedef struct NameLists {
    int ninclude, nexclude;     /* no include: every module */
    const char *const *include; /* borrowed */
    const char *const *exclude;
} NameLists;

/* From the keys include and exclude of a checked mapping; false: no memory. */
bool names_read(Arena *a, const YamlNode *map, NameLists *out);
/* *on: whether the lists select the module of this name. */
Status names_select(const NameLists *l, const char *name, bool *on, Error *err);
/* Tells whoever listens to the work of each pattern but "*" that takes none of name[n]: "TYPE: 'PATTERN' in exclude matches
 * no WHAT, such as 'NAME'". */
Status names_tell_unused(const NameLists *l, const Work *w, const char *type, const char *what, const char *const *name, int n,
                         Error *err);
/* The same where the names are those of the model's attentions. */
Status names_tell_attentions(const NameLists *l, const Work *w, const char *type, const Model *m, Error *err);
void names_hash(const NameLists *l, Hasher *h);

#endif
