#ifndef SLIM_TUNE_CANON_H
#define SLIM_TUNE_CANON_H

#include "base/str.h"
#include "recipe/field.h"

/* One text for all documents that say the same: JSON as Python's json.dumps(sort_keys=True) writes the peer's checked model
 * (specs/tuning.md 9): keys sorted, what is absent as what it stands for, numbers and texts as their field takes them,
 * save_directory and an empty ext left out. */

/* Appends a checked mapping. map NULL: one without keys. skip: a key that is left out, NULL: none. */
void canon_object(const RecipeRows *rows, const YamlNode *map, const Object *o, const char *skip, Str *out);
/* Appends {"apiversion", "spec"} of a modelslim_v1 document. */
void canon_practice(const RecipeRows *rows, const YamlNode *root, Str *out);
/* Appends any value as it stands, without what is absent. */
void canon_plain(const RecipeRows *rows, const YamlNode *v, Str *out);
/* F_CHECKED decimals: as text. */
void canon_decimal(const YamlNode *v, Str *out);

#endif
