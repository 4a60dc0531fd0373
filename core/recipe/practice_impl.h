#ifndef SLIM_RECIPE_PRACTICE_IMPL_H
#define SLIM_RECIPE_PRACTICE_IMPL_H

#include "recipe/practice.h"

/* Shared by the practice files only. */

/* Whether two names or tags are the same but for case and '_' for '-'. */
bool practice_same_name(const char *a, const char *b);
/* Whether any root has a folder of this pedigree, whatever its case. */
bool practice_has_pedigree(const PracticeLibrary *lib, const char *pedigree);
/* All practices, best first. */
const Practice *practice_sorted(PracticeLibrary *lib, size_t *n);

#endif
