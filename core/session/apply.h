#ifndef SLIM_SESSION_APPLY_H
#define SLIM_SESSION_APPLY_H

#include "session/job.h"

/* Makes what an event tells the session's; which kinds of things changed, EV_*. What an EVT_ROWS holds is taken over;
 * `now`: of an EVT_PROGRESS. Owner thread. */
unsigned apply_event(Session *s, Event *e, const JobProgress *now);
/* Messages of the keeper. */
unsigned apply_keeper(Session *s);

#endif
