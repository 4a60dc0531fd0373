#ifndef SLIM_TEST_TUNE_STUB_H
#define SLIM_TEST_TUNE_STUB_H

#include "tune/loop.h"

/* What drives a loop in tests: an evaluator `stub` whose answers are handed in, scores that are handed in, a clock that stands
 * still. */

/* The strategies of this build, and the evaluator "stub" (keys: type, demand, folder-less twin "memory", seed). */
extern const PlanRows stub_rows;

/* Parses, failing the test. */
Plan *stub_plan(const char *text, bool peer);

typedef struct StubRank {
    const char *name;
    double score;
    int64_t bytes; /* 0: not known */
} StubRank;

/* Accuracy of one data set, plain text. */
void stub_answer(EvalResult *r, const char *dataset, const char *value);
/* Names of the files in save_path/history, sorted, joined by ", "; good until the next call. */
const char *stub_files(const char *save_path);
int64_t stub_now(void *ctx); /* ctx: int64_t *, or NULL */

#endif
