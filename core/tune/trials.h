#ifndef SLIM_TUNE_TRIALS_H
#define SLIM_TUNE_TRIALS_H

#include "tune/loop.h"

/* The artefacts of a tuning run: what was tried, what each try gave and took, what it came to. */

/* What the loop doesn't know of itself. */
typedef struct TrialsAbout {
    const char *model;      /* as it was given */
    double seconds;         /* of this run */
} TrialsAbout;

/* "at least 81 (83 - 2)", "at most 0.1", "at most 2% more than the float model's". */
void trials_expectation(const Expectation *e, Str *out);
/* Whether no other try takes fewer bytes and is as good on the first expectation. */
bool trials_on_front(const Loop *l, int i);

/* As Markdown. done: the loop's last step, or one of another kind while it runs. */
void trials_markdown(const Loop *l, const LoopStep *done, const TrialsAbout *about, Str *out);
/* Both into save_path as report.md and report.json. */
Status trials_write(const Loop *l, const LoopStep *done, const TrialsAbout *about, Error *err);

#endif
