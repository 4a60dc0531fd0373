#ifndef SLIM_SESSION_APPLY_H
#define SLIM_SESSION_APPLY_H

#include "session/job.h"

/* Makes what an event tells the session's (what it points to is taken over); which kinds of things changed, EV_*. Owner
 * thread. */
unsigned apply_event(Session *s, Event *e);

#endif
