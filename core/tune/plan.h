#ifndef SLIM_TUNE_PLAN_H
#define SLIM_TUNE_PLAN_H

#include "tune/evaluator.h"
#include "tune/strategy.h"

/* A tuning plan (specs/tuning.md 1): strategy and evaluation, each by its type. */
struct PlanRows {
    const RecipeRows *recipe;
    const StrategyType *(*strategy)(int i);   /* NULL behind the last */
    const EvaluatorType *(*evaluator)(int i);
};
extern const PlanRows plan_rows; /* of this build (core/registry.c) */

typedef struct Plan Plan;
/* Parses and validates with the rows of a build, which are borrowed; errors collect as lines
 * `name:line:column: path: message` (all of them in *all, may be NULL; the first in err). peer: what is ours is refused. */
Status plan_parse(Plan **out, const PlanRows *rows, const char *text, size_t len, const char *name, bool peer, Str *all,
                  Error *err);
Status plan_open(Plan **out, const PlanRows *rows, const char *path, bool peer, Str *all, Error *err);
void plan_free(Plan *p);
const char *plan_name(const Plan *p);
const StrategyType *plan_strategy(const Plan *p);
const void *plan_strategy_settings(const Plan *p);
const EvaluatorType *plan_evaluator(const Plan *p);
const void *plan_evaluator_settings(const Plan *p);
const Expectation *plan_demand(const Plan *p, int *n);
/* The mapping `evaluation`. */
const YamlNode *plan_evaluation(const Plan *p);
const YamlNode *plan_strategy_map(const Plan *p);
/* The text it was read from. */
const char *plan_source(const Plan *p, size_t *len);

#endif
