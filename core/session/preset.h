#ifndef SLIM_SESSION_PRESET_H
#define SLIM_SESSION_PRESET_H

#include "session/session.h"

/* Appends the pattern that a target means: of "first=2" and "last=2" all linears of so many blocks, of "kind=down_proj" all
 * that are called so; any other text as it is. ST_USAGE for a number that is none. Needs an open model. */
Status preset_text(const Session *s, const char *target, Str *out, Error *err);

#endif
