#ifndef SLIM_SAVE_PRACTICE_YAML_H
#define SLIM_SAVE_PRACTICE_YAML_H

#include "base/error.h"
#include "base/str.h"

/* The recipe as it goes along with the weights (specs/config.md 13): apiversion, spec as given, metadata with its
 * defaults, then what else is at the top; anchors written out. text: the document as it was opened. */
Status practice_yaml(const char *text, size_t len, const char *name, Str *out, Error *err);
/* What it is called beside the weights: MODELTYPE_best_practice.yaml; model_type's '/' become '_'. */
void practice_yaml_name(const char *model_type, char out[320]);

#endif
