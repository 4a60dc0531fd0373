#ifndef SLIM_METRIC_SCORES_H
#define SLIM_METRIC_SCORES_H

#include "metric/result.h"
#include "metric/scope.h"
#include "qir/scheme.h"
#include "run/arith.h"

struct Metric;

/* What passes found, by metric and unit: the newest of each. */

/* What the statistics of a pass know of one linear: the scores of several metrics, and the histograms behind them. */
typedef struct LinearStats {
    LinearResult r;
    unsigned needs; /* NEED_* collected; 0: nothing yet */
    bool stale;     /* made under other data or arithmetic */
    ArithMode arith; /* in which it was made */
} LinearStats;

/* What a metric's own pass found of one unit. */
typedef struct UnitScore {
    int64_t unit;
    double value;    /* NaN: not defined, `why` says so */
    double sum;      /* what the pass goes on adding to after a stop */
    int64_t tokens;  /* behind it */
    int samples;
    uint64_t levels; /* of the unit's linears, under which it was made (scores_levels) */
    char why[120];
} UnitScore;

typedef struct UnitSlot {
    UnitScore s;
    bool known, stale;
    ArithMode arith;
} UnitSlot;

typedef struct Scores {
    const Model *m;
    int64_t nlinears;
    LinearStats *linear; /* [nlinears]; their memory is not there before the first is put */
    bool any;            /* one was */
    UnitSlot **unit;     /* [rows of metric_table][units of its scope]; NULL until its pass gave one */
    ArithMode arith;     /* in which what is put is made */
} Scores;

/* Of nothing yet; m must outlive them, but for scores_fini. */
Status scores_init(Scores *s, const Model *m, Error *err);
void scores_fini(Scores *s);
/* Takes over what *r holds. */
void scores_put_linear(Scores *s, LinearResult *r, unsigned needs);
/* `metric`: a row of metric_table whose pass gives values; u->unit one of its scope. */
Status scores_put(Scores *s, const struct Metric *metric, const UnitScore *u, Error *err);
/* The values of these metrics (NULL-terminated), for another thread. Caller frees with scores_fini. */
Status scores_copy_units(Scores *out, const Scores *s, const struct Metric *const *metrics, Error *err);
/* NULL: there is none. */
const UnitSlot *scores_unit(const Scores *s, const struct Metric *metric, int64_t unit);
/* Everything was made under other data or arithmetic. */
void scores_mark_stale(Scores *s);
/* A digest of the levels of a scope's units, out[scope_units]: of linear i at level[i] (0: float) of levels[]. */
void scores_levels(const Model *m, MetricScope scope, const QConfig *levels, const int16_t *level, uint64_t *out);

#endif
