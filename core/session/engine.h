#ifndef SLIM_SESSION_ENGINE_H
#define SLIM_SESSION_ENGINE_H

#include "session/session.h"

/* The engines' rules at the moment in which a recipe is about to be measured, written or exported. */

/* Logs what `recipe`, which selects the session's levels, breaks: a warning a rule, and once for the same ones. With a
 * runtime set it is ST_DATA with the first, the others logged as errors. */
Status engine_meet(Session *s, const Recipe *recipe, Error *err);

#endif
