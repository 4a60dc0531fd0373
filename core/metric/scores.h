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
    uint64_t made;  /* ScoreOrigin.data under which it was put */
} LinearStats;

/* What a metric's own pass found of one unit. */
enum { METRIC_PARTS = 16 };
typedef struct UnitScore {
    int64_t unit;
    double value;    /* NaN: not defined, `why` says so */
    double sum;      /* what the pass goes on adding to after a stop */
    int64_t tokens;  /* behind it */
    int samples;
    uint64_t levels; /* of the unit's linears, under which it was made (scores_levels) */
    double part[METRIC_PARTS]; /* what Metric.parts names */
    char why[120];
    bool absent;     /* the metric has nothing to say of such a unit, which is no failure: why tells */
} UnitScore;

/* The same as it is kept, without what its metric does not have: there are many. */
typedef struct KeptScore {
    double value, sum;
    int64_t tokens;
    uint64_t levels;
    double *part;    /* [metric_parts]; the slot's memory, with `why` behind it */
    const char *why; /* "": none */
    int samples;
    bool absent;
} KeptScore;

typedef struct UnitSlot {
    KeptScore s;
    uint64_t made;        /* ScoreOrigin under which it was put */
    struct UnitSlot *other; /* [nothers] of other levels, the newest last */
    int nothers;
    bool known, stale;
    ArithMode arith;
} UnitSlot;

/* What scores depend on beside the levels of their linears, as digests. */
typedef struct ScoreOrigin {
    uint64_t model; /* of the model alone: passes without texts */
    uint64_t data;  /* with the texts and the arithmetic */
    uint64_t eval;  /* with the evaluation set, too */
} ScoreOrigin;

typedef struct Scores {
    const Model *m;
    int64_t nlinears;
    LinearStats *linear; /* [nlinears]; their memory is not there before the first is put */
    bool any;            /* one was */
    UnitSlot **unit;     /* [rows of metric_table][units of its scope]; NULL until its pass gave one */
    int64_t *units;      /* [rows of metric_table] of those that are not NULL */
    ArithMode arith;     /* in which what is put is made */
    ScoreOrigin origin;  /* of it */
} Scores;

/* Of nothing yet; m must outlive them, but for scores_fini. */
Status scores_init(Scores *s, const Model *m, Error *err);
void scores_fini(Scores *s);
/* Takes over what *r holds. */
void scores_put_linear(Scores *s, LinearResult *r, unsigned needs);
/* `metric`: a row of metric_table whose pass gives values; u->unit one of its scope. What was known of the unit under
 * other levels stays to be chosen, that of the SCORES_OTHERS newest levels. */
enum { SCORES_OTHERS = 8 };
Status scores_put(Scores *s, const struct Metric *metric, const UnitScore *u, Error *err);
/* Adds the values of these metrics (NULL, or NULL-terminated) that were made under this origin, of all levels, for another
 * thread. *out is initialised by the caller, who frees it with scores_fini. */
Status scores_copy_units(Scores *out, const Scores *s, const struct Metric *const *metrics, const ScoreOrigin *origin,
                         Error *err);
/* What was put. */
UnitScore scores_unit_full(const UnitSlot *u, const struct Metric *metric, int64_t unit);
/* NULL: there is none. */
const UnitSlot *scores_unit(const Scores *s, const struct Metric *metric, int64_t unit);
/* The value under these levels (scores_levels), NULL: there is none. Stale ones, too. */
const UnitSlot *scores_unit_at(const Scores *s, const struct Metric *metric, int64_t unit, uint64_t levels);
/* Makes the value under these levels, where there is one, the one that scores_unit gives, and says which are stale: made
 * under another origin than `now`, or, of the one given, other levels. */
void scores_choose(Scores *s, const struct Metric *metric, int64_t unit, uint64_t levels, const ScoreOrigin *now);
/* Says which statistics of linears were made under other data or arithmetic than `now`; values of passes: scores_choose. */
void scores_mark_stale(Scores *s, const ScoreOrigin *now);
/* A digest of the levels of a scope's units, out[scope_units]: of linear i at level[i] (0: float) of levels[]. */
void scores_levels(const Model *m, MetricScope scope, const QConfig *levels, const int16_t *level, uint64_t *out);
/* That of one unit. */
uint64_t scores_unit_levels(const Model *m, MetricScope scope, int64_t unit, const QConfig *levels, const int16_t *level);
/* The digest of one unit with all its linears at q (NULL: float). */
uint64_t scores_level_all(const Model *m, MetricScope scope, int64_t unit, const QConfig *q);

#endif
