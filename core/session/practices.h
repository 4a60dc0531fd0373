#ifndef SLIM_SESSION_PRACTICES_H
#define SLIM_SESSION_PRACTICES_H

#include "base/str.h"
#include "model/model.h"

/* Puts a recipe where practices of the model's family are looked up: folder/FAMILY/ID.yaml, made where it isn't there; *path:
 * what that is. model_type: as it was given, NULL. Another recipe of that name stays: ST_DATA. */
Status practice_keep(const Model *m, const char *model_type, const char *folder, const char *id, const char *text, size_t len,
                     Str *path, Error *err);

#endif
