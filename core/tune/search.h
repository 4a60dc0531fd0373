#ifndef SLIM_TUNE_SEARCH_H
#define SLIM_TUNE_SEARCH_H

#include "tune/allocate.h"
#include "tune/predict.h"

/* The search for the fewest bytes that hold a target, by measuring few sets. It keeps nothing: what to do next follows
 * from the results alone, so it goes on after a stop as it would have. Along the greedy path: the set before its first
 * move and the one after twelve are measured; then the prefix at which the prediction reaches the target, inside the
 * bracket, until it is closed; then the last moves of the prefix are taken back one at a time, where the target still
 * holds. A budget of bytes: the exact and the greedy allocation are measured, and the better one is the answer. */

typedef struct TuneGoal {
    TuneWhat what;
    double at_most;  /* KL, or ln(perplexity / the float model's) */
    int64_t bytes;   /* a budget of all groups instead; INT64_MAX: none */
} TuneGoal;

enum {
    TUNE_FIRST_PREFIX = 12,
    TUNE_BRACKET_TRIES = 5, /* after the first two */
    TUNE_TAKE_BACK = 3,
    TUNE_TRIES = 8         /* nothing more is taken back after so many */
};
/* What is foretold to miss the target by more than this factor is not worth a measurement. */
#define TUNE_HOPE 1.15

/* A result: the set with what was measured of it. `error`: of the difference of the goal's figure to each of the results
 * (paired, one standard error; NaN: not known). */
typedef struct TuneResult {
    TunePoint point;
    const double *error; /* [nr], NULL: none is known */
    int64_t bytes;
} TuneResult;

typedef enum TuneStage { TUNE_START, TUNE_TWELVE, TUNE_BRACKET, TUNE_BACK, TUNE_BUDGET, TUNE_DONE } TuneStage;
const char *tune_stage_text(TuneStage s); /* "everything at its fewest bytes", ... */

typedef struct TuneNext {
    TuneStage stage;     /* TUNE_DONE: there is nothing more to measure */
    int tries;           /* results that the search used so far */
    int best;            /* index of the result that is the answer so far, -1: none holds the goal */
    TuneRange predicted; /* of what is to be measured, by the results */
} TuneNext;

/* set[n]: what to measure next, unless done. `r`: all results of this model, data and scheme, of whatever set. used[nr]
 * (may be NULL): those that the search went by. */
Status tune_next(const TuneTable *t, const TunePath *p, const TuneGoal *goal, const TuneResult *r, int nr, int16_t *set,
                 bool *used, TuneNext *out, Error *err);

#endif
