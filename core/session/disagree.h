#ifndef SLIM_SESSION_DISAGREE_H
#define SLIM_SESSION_DISAGREE_H

#include "session/session.h"
#include "stat/agree.h"

/* Two metrics over the same units: whether they rank alike, and where not, why. */

/* Why they rank a unit differently: the known causes (a study on two trained models; DECISIONS, "Default metric"). */
typedef enum Disagreement {
    DISAGREE_NOT,
    DISAGREE_STAYS,    /* what it looks at is extreme, but the error does not reach the residual stream */
    DISAGREE_REACHES,  /* the reverse */
    DISAGREE_UNDER,    /* block_error is blind behind the block, and rates it too low */
    DISAGREE_OVER,     /* and too high */
} Disagreement;

typedef struct PairRow {
    int64_t unit;          /* of MetricPair.scope */
    double a, b;           /* the scores */
    double rank_a, rank_b; /* 1: the most sensitive, ties at their mean */
    Disagreement why;
} PairRow;

typedef struct MetricPair {
    const Metric *a, *b;
    MetricScope scope;     /* the coarser of both: there the finer metric has the largest score of its units */
    Agreement agreement;
    PairRow *row;          /* [n] units with both scores: those with a cause first, then those that moved most */
    int64_t n, units;      /* units: all of the scope */
} MetricPair;

enum { PAIR_TOP = 10 };    /* Agreement.top */

/* ST_DATA where fewer than two units have both scores. Caller frees with metric_pair_fini. */
Status metric_pair(const Session *s, const Metric *a, const Metric *b, MetricPair *out, Error *err);
void metric_pair_fini(MetricPair *p);
/* Appends the row's cause in words, with the ranks and with what `alone` says where it is known; nothing without one. */
void metric_pair_why(const Session *s, const MetricPair *p, const PairRow *row, Str *out);

/* The scores of a metric as they rank, larger more sensitive, of every unit of a scope that is as fine as its own or
 * coarser: the largest of its linears'. NaN: none. out[scope_units]. */
void unit_values(const Session *s, const Metric *m, MetricScope scope, double *out);

#endif
