#ifndef SLIM_SESSION_SCORED_H
#define SLIM_SESSION_SCORED_H

#include "session/session.h"

/* What each linear scores under a metric, kept for those who look at all of them: while rows arrive only theirs is asked
 * for again. Owner thread. */
typedef struct Scored {
    const Metric *metric;   /* NULL: nothing is kept here */
    double *value;          /* [linears] where the state is SCORE_OK or SCORE_STALE, else 0 */
    uint8_t *state;         /* [linears] ScoreState, SCORE_NONE also for what is queued */
    int16_t *level;         /* [linears] at which each was scored */
    int64_t linears;
    uint64_t made;          /* a new number with every change */
    uint64_t whole, version, news; /* what was seen of table, assignment and results */
    uint64_t used;
} Scored;

enum { SCORED_KEPT = 6 };
typedef struct ScoredTable {
    Scored kept[SCORED_KEPT];
    uint64_t whole;         /* grows when any score may be another */
    uint64_t made, used;
} ScoredTable;

/* Borrowed until the next call that changes the session. NULL: memory is short. */
const Scored *scored_of(const Session *s, const Metric *m);
static inline bool scored_has(const Scored *c, int64_t linear)
{
    return c->state[linear] == SCORE_OK || c->state[linear] == SCORE_STALE;
}
void scored_close(ScoredTable *t);

#endif
