#ifndef SLIM_SESSION_BUDGET_H
#define SLIM_SESSION_BUDGET_H

#include "session/goal.h"
#include "session/groups.h"

/* What levels of the groups that are not fixed can come to, from these levels of linears. Of loss nothing: NaN. */
void reach_of(const Session *s, const GroupTable *t, const int16_t *base, const bool *fixed, Reach *out);
/* ST_USAGE: the goal's bytes can't be had, with the interval, as it was typed: of the model or beyond `opened`. */
Status bytes_refused(const Goal *goal, int64_t low, int64_t high, int64_t opened, Error *err);
/* ST_USAGE when a goal of bytes is below what can be had, with the interval. */
Status reach_refuses(const Reach *r, const Goal *goal, Error *err);
/* "+20M", "300M", "5.2bits", "none": a goal of bytes or bits; its text is empty for none. ST_USAGE telling these forms. */
Status budget_parse(const char *text, Goal *out, Error *err);

#endif
