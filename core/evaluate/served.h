#ifndef SLIM_EVALUATE_SERVED_H
#define SLIM_EVALUATE_SERVED_H

#include "evaluate/service.h"
#include "evaluate/task.h"

/* Questions of a file (evaluate/taskfile.h) to a model that is served: an exact answer by what it generates, greedily;
 * a choice by the likelihood of its text, which the server tells with echo and logprobs. As many requests at a time as
 * there are threads: the counts don't depend on it. */

/* *failed (of 300 bytes): "" or why a question came to nothing, after `retry` more tries. */
Status served_run(const Service *s, const TaskSet *set, const TaskFile *file, const EvalKit *kit, TaskScore *out,
                  char *failed, Error *err);

#endif
