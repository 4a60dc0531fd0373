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

/* A model that isn't there: what its ranking is and what a try comes to. */
typedef struct StubWorld {
    const StubRank *rank;
    int nrank;
    void (*answer)(void *ctx, const Practice *p, EvalResult *r); /* r: empty */
    void *ctx;
    int stop_after;      /* steps told before the loop is dropped as by a kill; < 0: never */
    bool fail_quantize;
    const char *model_id, *data_id, *experience;
    double timeout;
    int64_t *now;
    const Model *model;
    void (*at_end)(void *ctx, const Loop *l, const LoopStep *done); /* before the loop is freed; NULL: nothing */
    void *end_ctx;
    /* what was done, counted up */
    int ranked, quantized, written, evaluated, kept;
} StubWorld;
typedef struct StubRun {
    LoopEnd end;
    Status status;
    int tries, cached, best;
    bool stopped;        /* by stop_after */
    char text[400], log[2000];
    char notes[2000];    /* the log of opening: what the history came to */
    Str shown;           /* a line for each try: number, anti, patterns, satisfied, * for what was known */
    Str final;
} StubRun;
/* Drives the plan to its end, in a folder; free with stub_run_free. */
void stub_run(const char *plan, bool peer, const char *dir, StubWorld *w, StubRun *out);
void stub_run_free(StubRun *r);
/* Whether a practice leaves the row of this name in float: one of its patterns is "*NAME.*" or NAME. */
bool stub_in_float(const Practice *p, const char *name);

/* Accuracy of one data set, plain text. */
void stub_answer(EvalResult *r, const char *dataset, const char *value);
/* Names of the files in save_path/history, sorted, joined by ", "; good until the next call. */
const char *stub_files(const char *save_path);
int64_t stub_now(void *ctx); /* ctx: int64_t *, or NULL */

#endif
