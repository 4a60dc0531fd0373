#ifndef SLIM_TEST_EVALTEST_H
#define SLIM_TEST_EVALTEST_H

#include "base/str.h"
#include "tune/evaluator.h"

/* An evaluator as a plan would use it: the mapping `evaluation` checked by its key table, its settings, a kit whose log
 * and questions are the test's. */
typedef struct EvalTest {
    const EvaluatorType *type;
    YamlDoc *doc;
    Arena arena;
    const void *settings;
    const Expectation *expect;
    int n;
    char *dir;          /* of the test: work_dir is dir/save, the model dir/model */
    char *save, *model;
    Cancel cancel;
    Pool *pool;
    EvalKit kit;
    Str log, asked;
    const char *const *answers; /* to questions, NULL-terminated */
    EvalResult result;
    Error err;
} EvalTest;

/* Which errors a mapping has, a line each, "" for none; free with free(). */
char *evaltest_errors(const EvaluatorType *type, const char *yaml, bool peer);
/* Opens with a mapping that has to be right; fails the test otherwise. */
void evaltest_open(EvalTest *t, const EvaluatorType *type, const char *yaml);
/* Runs try `number`; its result stays until the next. */
Status evaltest_run(EvalTest *t, int number);
/* Runs it and expects a result of this state whose line holds `says`. */
void evaltest_expect(EvalTest *t, EvalState state, const char *says);
/* The accuracy of a data set as text, "-" for none (static buffer). */
const char *evaltest_value(const EvalTest *t, const char *dataset);
void evaltest_close(EvalTest *t);

#endif
