#ifndef SLIM_EVALUATE_SUBJECT_H
#define SLIM_EVALUATE_SUBJECT_H

#include "dist/dist.h"
#include "process/work.h"
#include "run/decode.h"
#include "text/calib.h"

/* A model that is asked: as its checkpoint has it, or as a work quantizes it, in memory: linears compute as a measurement runs
 * them, keys and values are as they are. */
typedef struct Subject Subject;
typedef struct SubjectOptions {
    const Model *model;
    Pool *pool;
    ArithMode arith;
    uint64_t mem;      /* bytes that all of it may take beside the process as it is; 0: no limit */
    const Cancel *cancel;
    Dist *dist;        /* ranks that make the same model, each from a part of the texts where that can be; NULL: alone */
    const Work *work;  /* NULL: the float model; borrowed, with what it points to */
    /* Texts of a work's pipeline: *calib (NULL where it needs none), and those of prior stages by pipeline_set_prior; they
     * outlive the call to subject_new. */
    Status (*texts)(void *ctx, Pipeline *p, const TokenSet **calib, Error *err);
    void *ctx;
    void (*progress)(void *ctx, const char *phase, int64_t done, int64_t total); /* with progress_ctx; may be NULL */
    void *progress_ctx;
} SubjectOptions;
/* Quantizes. ST_NOMEM with figures where the model does not fit. */
Status subject_new(Subject **out, const SubjectOptions *o, Error *err);
void subject_free(Subject *s);
/* Linears that stay in float although they have a level, for want of calibration tokens. */
int64_t subject_unseen(const Subject *s);

/* What generation took. */
typedef struct SubjectFacts {
    int at_once;           /* texts of a step */
    uint64_t ready, left;  /* bytes of weights that stayed ready; linears that there was no room for */
    uint64_t bound;        /* bytes, by the plan: texts, weights that stay, the passes' own */
} SubjectFacts;
/* decode_greedy, as many texts at a time as memory allows. facts may be NULL. */
Status subject_generate(Subject *s, const TokenSet *prompts, const GreedyOptions *o, Greedy *out, SubjectFacts *facts,
                        Error *err);
/* sum[i] = the sum over tokens from[i] (at least 1) to the end of text i of the logarithm of its probability behind those
 * before it. */
Status subject_likelihood(Subject *s, const TokenSet *t, const int64_t *from, double *sum, Error *err);

#endif
