#ifndef SLIM_TUNE_EVALUATOR_H
#define SLIM_TUNE_EVALUATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/pool.h"
#include "dist/dist.h"
#include "measure/effect.h"
#include "recipe/recipe.h"
#include "tune/demand.h"

/* What says how good a try is: rows of core/evaluate, which the plan and the loop know by this alone. */

/* A try, as an evaluator sees it; borrowed for the call. */
typedef struct EvalTrial {
    const Recipe *recipe;
    const int16_t *level; /* [nlinears] by the recipe */
    const char *folder;   /* of the written quantized model; NULL: not written (EvaluatorType.folder false) */
    int number;           /* of the try, from 1 */
    const char *id;
} EvalTrial;

/* What an evaluator may use; borrowed for the call. */
typedef struct EvalKit {
    const Model *model;
    const char *model_path;
    Pool *pool;
    Dist *dist;           /* the ranks that run it together (EvaluatorType.ranks); NULL: it is alone */
    uint64_t mem;         /* bytes, 0: no limit */
    ArithMode arith;
    bool peer;            /* --compat peer */
    const char *work_dir; /* save_path: logs and outputs of evaluators lie below it */
    Cancel *cancel;
    void (*progress)(void *ctx, const char *phase, int64_t done, int64_t total); /* may be NULL */
    void (*log)(void *ctx, int level, const char *text);                         /* level as session_log; may be NULL */
    /* The manual evaluator's question, answered by a line; false: nobody answers. NULL: there is nobody to ask. */
    bool (*ask)(void *ctx, const char *question, char *line, size_t size);
    /* KL, perplexity, top-1 of a try in memory; full: over all of the evaluation set. */
    Status (*measure)(void *ctx, const EvalTrial *t, bool full, Effect *out, Error *err);
    /* The texts that the pipeline of a try's work calibrates with (*calib NULL where it needs none), and those of its prior
     * stages by pipeline_set_prior; they live until the run of the evaluator ends. */
    Status (*texts)(void *ctx, const EvalTrial *t, Pipeline *p, const TokenSet **calib, Error *err);
    void *ctx;
} EvalKit;

/* The first fields of every evaluator's object. */
#define FIELD_EVALUATION \
    FIELD_TYPE, {.key = "demand", .type = F_OBJECT, .object = &demand_object, .required = true}

typedef struct EvaluatorType {
    const char *name;     /* evaluation.type */
    const Object *object; /* all keys of `evaluation`: FIELD_EVALUATION and its own; its check sees the whole mapping, so
                           * also what the demand has to fit, and may ask check_peer */
    bool folder;          /* wants the written model */
    bool ranks;           /* every rank of a job runs it, over its part, and all find the same; else rank 0 alone does, whose
                           * program, server or person it is */
    bool peer;            /* the peer has it; others are refused under --compat peer */
    /* Its settings from the checked mapping (the document outlives them); NULL: no memory. */
    const void *(*settings)(Arena *a, const YamlNode *map);
    /* Before any work: whether programs, files and data sets are there. May be NULL. */
    Status (*ready)(const void *settings, const Expectation *e, int n, const EvalKit *kit, Error *err);
    /* ST_OK with any EvalState; ST_CANCELLED; any other error: the run can't go on. `out` comes zeroed; accuracies in the
     * order of e. */
    Status (*run)(const void *settings, const Expectation *e, int n, const EvalKit *kit, const EvalTrial *t, EvalResult *out,
                  Error *err);
    /* Adds what the answers depend on and the plan doesn't hold: contents of data files, programs. May be NULL. */
    Status (*digest)(const void *settings, Hasher *h, Error *err);
} EvaluatorType;

#endif
