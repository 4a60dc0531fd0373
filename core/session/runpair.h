#ifndef SLIM_SESSION_RUNPAIR_H
#define SLIM_SESSION_RUNPAIR_H

#include "export/scorefile.h"
#include "session/session.h"
#include "stat/agree.h"

/* Scores of one metric from two runs, matched by names: of two files, or of a file and the session. */
typedef struct NamedPair {
    const char *name;      /* borrowed of the columns */
    double a, b;           /* both are numbers */
    double rank_a, rank_b; /* among these, 1: the most sensitive, ties at their mean */
} NamedPair;
typedef struct RunPair {
    Agreement agreement;
    NamedPair *row;        /* [n] in both with a number, those that moved most first */
    int64_t n;
    int64_t only_a, only_b; /* names that the other has not, or without a number */
} RunPair;

/* direction: Metric.direction of the scores. top: Agreement.top. ST_DATA where fewer than two names are in both. Caller
 * frees with run_pair_fini. */
Status run_pair(const ScoreColumn *a, const ScoreColumn *b, int direction, int64_t top, RunPair *out, Error *err);
void run_pair_fini(RunPair *p);

/* Adds what the session knows of a metric as a column of its name, by the names of its units. */
Status session_column(const Session *s, const Metric *m, ScoreFile *out, Error *err);

#endif
