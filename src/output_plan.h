#ifndef SLIM_SRC_OUTPUT_PLAN_H
#define SLIM_SRC_OUTPUT_PLAN_H

#include "session/autotune.h"
#include "src/output.h"

/* Appends the tries of a plan and what they came to: OUT_TEXT or OUT_JSON. v->loop may be NULL. */
Status output_plan(OutFormat f, const AutotuneView *v, Str *out, Error *err);
/* Appends the accuracies of a try in a line: "gsm8k 83.5 (83 wanted)", or why there are none. */
void plan_accuracies(const LoopTry *t, Str *out);

#endif
