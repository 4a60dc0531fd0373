#ifndef SLIM_SESSION_LOADED_H
#define SLIM_SESSION_LOADED_H

#include "session/session.h"

/* Metrics of a session whose scores other programs made. Owner thread. */

/* Takes over values [units of the scope], also on an error; replaces one of this name. The journal is not told. */
Status loaded_put(Session *s, const char *name, const char *file, MetricScope scope, double *value, Error *err);
/* Forgets all: another model is opened, or the session ends. */
void loaded_close(Session *s);

#endif
