#ifndef SLIM_SESSION_ASIDE_H
#define SLIM_SESSION_ASIDE_H

#include "session/assignment.h"
#include "session/job.h"
#include "session/texts.h"

/* Jobs about another recipe than the one that is open: a try of a tuning plan. Owner thread. */

/* What the session had in the place of the other recipe. */
typedef struct Aside {
    Recipe *recipe;
    Assignment own, *was;
    char *calib_path, *calib_name, calib_print[65], scheme[32];
    TextsChange change;
    bool texts_aside;
} Aside;
/* Until aside_end the session has `r` open with the levels that it gives by itself, over its own data set (over `calib`, a
 * path, where that is given) and with this scheme ("": the recipe's levels): jobs that are made meanwhile are of these, and
 * nothing else may be asked of it. On an error nothing has changed. */
Status aside_begin(Session *s, Recipe *r, const char *calib, const char *scheme, Aside *a, Error *err);
void aside_end(Session *s, Aside *a);

/* Takes in what an analysis that is aside (Job.aside) finds of its first metric: Job.found[unit]. */
void aside_take(Job *j, const PassScore *score, int64_t n);

#endif
