#ifndef SLIM_MEASURE_EFFECT_H
#define SLIM_MEASURE_EFFECT_H

#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "measure/blocks.h"
#include "process/work.h"
#include "run/runner.h"
#include "text/calib.h"

/* Linears that ran in float although they have a level: their calibration saw no token, as happens to experts. */
typedef struct Unseen {
    int64_t linears, experts, first; /* first: the lowest linear, -1 when there is none */
} Unseen;

/* Measured effect of an assignment: float against quantized (DECISIONS, "Prediction and measurement"; DESIGN 6 for KL
 * without a logits file). Errors (_se) on the evaluation set come from the spread of its blocks (measure/blocks.h), NaN
 * with one; that of out_mse comes from drawing whole texts with replacement, windows when there is one text only, and is NaN
 * with one window. p99 and median are of single tokens. Layers run are the assignment's: the float reference's own pass
 * is not among them. */
typedef struct Effect {
    ArithMode arith;                         /* in which both models were run */
    int64_t tokens, predicted;               /* evaluation tokens, predicted ones */
    int texts;
    bool whole;                              /* all of the evaluation set: no measurement has more tokens of it */
    double kl_mean, kl_median, kl_p99, kl_max, kl_se; /* nats per predicted token */
    double top1, top1_se;                    /* agreement 0..1 */
    double ppl_float, ppl_quant, ppl_float_se, ppl_quant_se;
    double ppl_change, ppl_change_se;        /* ppl_quant / ppl_float - 1, over the same blocks: paired */
    double out_mse, out_mse_se;              /* calibration set: last decoder output before the final norm */
    int first_layer_run, layers_run;         /* layers that ran again; the rest came from cache */
    bool from_cache;                         /* the whole result did */
    Unseen unseen;                           /* what stayed float for want of calibration tokens */
    double seconds;
} Effect;

/* Holds the float references, the boundary states and the results; one per (model, calibration tokens, evaluation
 * tokens). */
typedef struct EffectLab EffectLab;
typedef struct EffectOptions {
    const TokenSet *calib, *eval;  /* borrowed, must outlive the lab */
    /* Ranks of which each has some of the samples in calib and eval, at least one token of each; NULL: one. Then what they
     * are shares of. */
    struct Dist *dist;
    const TokenSet *all_calib, *all_eval;
    uint64_t cache_bytes;          /* cap for boundary states and results in RAM */
    const char *cache_dir;         /* spill below it when set (NULL: RAM only) */
    uint64_t cache_dir_bytes;
    uint64_t seed;                 /* bootstrap */
    bool once;                     /* no second measurement is to come: of the boundary states only the one is kept that
                                    * this one begins with */
} EffectOptions;
Status effectlab_new(EffectLab **out, const Model *m, const EffectOptions *o, Error *err);
void effectlab_free(EffectLab *lab);
/* Bytes it holds between measurements: boundary states in RAM, float references. */
uint64_t effectlab_states(EffectLab *lab);
uint64_t effectlab_references(const EffectLab *lab);
/* A new cap for the states in RAM; the least recently used go. */
void effectlab_limit(EffectLab *lab, uint64_t bytes);
/* Runs (or finds) the effect of a pipeline's work; the float reference first when it isn't there yet. `r` may differ from
 * call to call, also in its arithmetic (each has its own reference) and in its overlay (the reference is the unchanged
 * model's). *blocks (may be NULL): the caller's, freed with free(). Where r's limit won't do for all of it, ST_NOMEM
 * before a layer runs. Values that are no numbers: ST_DATA.
 * After an error or ST_CANCELLED the lab is as before, with the states of finished layers kept. */
Status effectlab_measure(EffectLab *lab, Runner *r, Pipeline *p, Effect *out, TokenBlocks **blocks, Error *err);

#endif
