#ifndef SLIM_TUNE_DEMAND_H
#define SLIM_TUNE_DEMAND_H

#include <stdbool.h>

#include "base/mem.h"
#include "recipe/field.h"
#include "tune/decimal.h"

/* What a plan demands of a quantized model, and what an evaluator found of it. */

enum { DATASET_MAX = 200 };

/* {dataset, target, tolerance}: met where target - accuracy <= tolerance. Ours: {dataset, at_most}, for a figure that is to
 * stay small: "0.1", or "+2%", so much more than the float model's. */
typedef struct Expectation {
    const char *dataset;
    Decimal target, tolerance; /* at_most: target is the bound, or the percentage */
    bool at_most, relative;
} Expectation;

typedef struct Accuracy {
    char dataset[DATASET_MAX + 1];
    Decimal value;
    double error;              /* standard error, of the difference to `base` where what is expected is relative; NaN: not known */
    Decimal base;              /* of the float model */
    bool has_base;
} Accuracy;

typedef enum EvalState {
    EVAL_DONE,
    EVAL_BAD,   /* evaluated: the model's answers are garbage, nothing is met */
    EVAL_FAILED /* could not be evaluated (server, program, time): says nothing of the model */
} EvalState;

/* Zero-initialise to start; what it holds is freed by eval_result_free. */
typedef struct EvalResult {
    EvalState state;
    Accuracy *accuracy;        /* [n], in the order of the expectations; data sets behind the first unmet one may lack */
    int n;
    bool satisfied;            /* demand_met */
    char text[300];            /* one line: why it is bad or failed; what else there is to say */
    double seconds;
} EvalResult;
Status eval_result_add(EvalResult *r, const Accuracy *a, Error *err);
/* The accuracy of a data set, NULL: it has none. */
const Accuracy *eval_result_of(const EvalResult *r, const char *dataset);
Status eval_result_copy(EvalResult *out, const EvalResult *r, Error *err);
void eval_result_free(EvalResult *r);

/* Whether an accuracy meets what is expected of its data set; never where it is relative and the float model's is not
 * known. */
bool expectation_met(const Expectation *e, const Accuracy *a);
/* Whether each expectation has an accuracy and is met by it; into r->satisfied, too. */
bool demand_met(const Expectation *e, int n, EvalResult *r);

/* The value of `demand` in a plan: {expectations: [...]}, at least one, each data set once. Ours are refused under
 * --compat peer. */
extern const Object demand_object;
/* The expectations of a checked mapping, in the arena (texts borrowed from the document); NULL: no memory. */
const Expectation *demand_read(Arena *a, const YamlNode *demand, int *n);

#endif
