#ifndef SLIM_MEASURE_PLAN_H
#define SLIM_MEASURE_PLAN_H

#include "process/pipeline.h"
#include "run/runner.h"

/* What a measurement takes beside the process as it is, in bytes, before anything runs. */
typedef struct EffectPlan {
    uint64_t held;      /* while layers run, beside streams and the runner's own: the float reference, what its logits left,
                         * quantized weights. The runner's limit is what is left of the process's */
    uint64_t runner;    /* on top of it, were there no limit: of layers or of the logits, whichever is more */
    uint64_t end;       /* all that the logits take at the end */
    uint64_t reference; /* of `held`: stays in the lab from one measurement to the next */
    uint64_t state;     /* one boundary state */
    uint64_t wait[2];   /* of streams, while the calibration set is in a pass, and the evaluation set */
    int first;          /* the first unit with a quantized linear or attention; [layers] without one */
    bool whole;         /* calibration sees all rows at once */
} EffectPlan;
EffectPlan effect_plan(const Pipeline *p, const TokenSet *calib, const TokenSet *eval, int threads, ArithMode arith);
/* Whether all of it fits the runner's limit (which is without plan->held): ST_NOMEM with figures, before any layer runs. */
Status effect_fits(const EffectPlan *plan, const Pipeline *p, Runner *r, const TokenSet *calib, const TokenSet *eval,
                   Error *err);

#endif
