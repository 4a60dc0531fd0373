#ifndef SLIM_SESSION_BASES_H
#define SLIM_SESSION_BASES_H

#include "base/hash.h"
#include "session/results.h"

/* The base: the model that passes look at, which is the checkpoint's, or what the open recipe's processors make of it.
 * What passes found of each base is kept apart: Results.scores are those of the present one, the others wait on shelves.
 * Owner thread. */

/* Of the open recipe; zeros for the checkpoint's own model. */
Digest base_now(const Session *s);
/* Whether a digest is of a changed model. */
bool base_changed(const Digest *d);
/* Brings the scores of the base that the open recipe has to Results.scores; those that were there wait. true: another one
 * is present now. What can't be kept for want of memory is lost, which is logged. */
bool bases_follow(Session *s);
/* The same for a digest: to store what a job found of a base that is not the open recipe's. Gives the one that was
 * present. */
Digest bases_present(Session *s, const Digest *base);
void bases_close(Results *r);

#endif
