#ifndef SLIM_EVALUATE_AISBENCH_H
#define SLIM_EVALUATE_AISBENCH_H

#include "evaluate/service.h"

/* One data set by AISBench (specs/tuning.md 7), a program of its own that asks the running server. */

/* What a run of it came to. */
typedef struct BenchResult {
    bool scored; /* value is its accuracy */
    Decimal value;
    bool lost;     /* not scored, and the results folder is not there, where the peer gives up */
    char why[300]; /* not scored: why */
} BenchResult;

/* Before any work: whether its program is there, and where its model files lie. */
Status aisbench_ready(const Service *s, const EvalKit *kit, Error *err);
/* Writes the model file, runs the program within its time, finds the result, removes the file. ST_OK with any result;
 * ST_CANCELLED: it was ended. */
Status aisbench_run(const Service *s, const BenchSet *set, const EvalKit *kit, const EvalTrial *t, BenchResult *out,
                    Error *err);

/* The text of the model file: Python. */
void aisbench_model_text(const Service *s, const BenchSet *set, const char *folder, Str *out);

#endif
