#ifndef SLIM_METRIC_DIVIDE_H
#define SLIM_METRIC_DIVIDE_H

#include "metric/pass.h"
#include "run/share.h"
#include "run/taps.h"

/* A pass divided over ranks, as MetricPass.divides says. Begun before its memory is planned, ended after it ran. */
typedef struct PassDivision {
    Dist *dist;
    PassPlan *plan;
    Share share;                /* DIVIDES_SAMPLES */
    Ranks ranks;                /* PassPlan.ranks */
    const TokenSet *tokens;     /* what the plan had before */
    const bool *selected;
    const Ranks *before;
    bool *own;                  /* [nlinears] DIVIDES_UNITS */
    bool idle;                  /* this rank has nothing to do */
    Pack *packs;                /* of the last gathering */
    const Pack **pack;
} PassDivision;

/* How this plan is divided over so many ranks. */
PassDivides pass_divides(const PassPlan *p, int ranks);
/* Gives the plan this rank's part: alone (dist NULL, or of one rank) nothing changes. */
Status pass_divide(PassDivision *d, PassPlan *p, Dist *dist, Error *err);
void pass_divide_end(PassDivision *d);
/* Runs it. The sink of every rank gets its own scores as they come, and in a last step those of the others; statistics of
 * linears are whole on rank 0 only. */
Status pass_run_divided(PassDivision *d, Runner *r, const PassSink *sink, Error *err);

#endif
