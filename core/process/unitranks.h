#ifndef SLIM_PROCESS_UNITRANKS_H
#define SLIM_PROCESS_UNITRANKS_H

#include "dist/dist.h"
#include "run/runner.h"
#include "run/taps.h"
#include "text/calib.h"

/* Inside pipeline*.c: ranks that divide the texts of a run's main list. Of one rank nothing is exchanged. */
typedef struct UnitRanks {
    Dist *dist;          /* NULL: one rank has all */
    int samples, first;  /* of all ranks; the first of this one's */
    int64_t *start;      /* [samples + 1] their rows */
    int64_t *cut;        /* [ranks + 1] rank k has texts [cut[k], cut[k + 1]) */
    int experts;
    int64_t *before, *all; /* [experts] of the block at work: rows of the ranks before this one, of all */
    RouteForm route;
    Pack *packs;         /* of the last gathering */
    const Pack **pack;
} UnitRanks;

/* mine: this rank's texts. *r stays where it is. Of one rank (dist may be NULL) all stays empty. */
Status unit_ranks_init(UnitRanks *r, Dist *dist, const TokenSet *mine, const Model *m, Error *err);
void unit_ranks_fini(UnitRanks *r);
/* For Variant.route, NULL: of one rank. */
const RouteForm *unit_ranks_route(const UnitRanks *r);

struct UnitRun;
UnitRanks *unit_ranks(const struct UnitRun *u); /* of its run; NULL: of one rank */

#endif
