#ifndef SLIM_SESSION_RANKING_H
#define SLIM_SESSION_RANKING_H

#include "session/session.h"

/* The place of each linear under one metric. Owner thread. */
typedef struct Ranking {
    const Metric *metric; /* that it was made of */
    int64_t *rank;        /* [nlinears] from 1 on, 0: not scored */
    bool *tied;           /* [nlinears] its interval meets that of the rank above, or of the one below */
    int64_t linears;      /* that there is room for */
    uint64_t made;        /* number of the scores that it was made of */
    bool valid;
} Ranking;
void ranks_free(Ranking *r);

#endif
