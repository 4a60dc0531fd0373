#ifndef SLIM_EVALUATE_OUTCOME_H
#define SLIM_EVALUATE_OUTCOME_H

#include "tune/evaluator.h"

/* What the evaluators have in common: how a result is said, and where what they write lies. */

/* Sets the state and its line. Gives ST_OK: a try that could not be evaluated is a result. */
Status eval_says(EvalResult *r, EvalState state, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Adds the accuracy of an expectation's data set; `base` (of the float model) may be NULL. *met: whether it meets it.
 */
Status eval_add(EvalResult *r, const Expectation *e, const Decimal *value, const Decimal *base, bool *met, Error *err);
/* A line for the log of the run. */
void eval_log(const EvalKit *kit, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void eval_progress(const EvalKit *kit, const char *phase, int64_t done, int64_t total);
/* Appends `dir` ("": none) below the folder of the run, which is made, and a name in it (characters that no file name
 * should have become '_'). ST_IO. */
Status eval_place(const EvalKit *kit, const char *dir, const char *name, Str *out, Error *err);
/* A path from the root, for programs that may stand elsewhere; caller frees. */
Status eval_full_path(const char *path, char **out, Error *err);
/* Adds every byte of a file to a hash. */
Status eval_hash_file(const char *path, Hasher *h, Error *err);

#endif
