#ifndef SLIM_RECIPE_DIFF_H
#define SLIM_RECIPE_DIFF_H

#include "base/error.h"
#include "base/str.h"

/* Appends a unified diff of two texts, nothing when they are equal. */
Status diff_unified(Str *out, const char *old_name, const char *old_text, const char *new_name, const char *new_text,
                    Error *err);
/* Appends only the lines that differ, those of the old text behind '-', of the new one behind '+'. */
Status diff_lines(Str *out, const char *old_text, const char *new_text, Error *err);

#endif
