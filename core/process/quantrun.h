#ifndef SLIM_PROCESS_QUANTRUN_H
#define SLIM_PROCESS_QUANTRUN_H

#include <stdint.h>

#include "base/error.h"
#include "recipe/recipe.h"
#include "run/runner.h"
#include "save/saver.h"
#include "text/calib.h"

/* Quantization of a whole model, layer by layer (specs/quantization.md 10): the recipe's units in list order, each with
 * its own forward over the calibration texts where it needs one; then every linear's weight is quantized and handed to
 * the savers. At any time one linear's weight is in memory (and what its method declares), never the model. */
typedef struct QuantRunOptions {
    const Recipe *recipe;
    const int16_t *level;      /* [model.nlinears]; entry k-1 of the recipe, 0 = float */
    const QConfig *levels;     /* [nlevels] */
    int nlevels;
    const TokenSet *calib;     /* NULL when the recipe is data-free */
    bool peer;                 /* --compat peer: the peer's rounding points, order and quirks */
    const Saver *const *savers;/* [nsavers], already checked */
    const SavePlan *plans;     /* [nsavers] */
    int nsavers;
    bool resume;
    /* one finished layer: linears quantized, bytes read and written so far; job thread; may be NULL */
    void (*layer)(void *ctx, int layer, int64_t linears, uint64_t bytes_in, uint64_t bytes_out);
    void *layer_ctx;
} QuantRunOptions;

typedef struct QuantRunResult {
    int64_t quantized, floats;  /* linears */
    int64_t unseen;             /* experts without a token: kept float (or, where the scheme allows, dynamic) */
    char first_unseen[256];
    int layers_resumed;
    uint64_t bytes_read, bytes_written;
    uint64_t bound;             /* memory promised by quantrun_estimate */
} QuantRunResult;

/* Whether any unit needs calibration data. */
bool quantrun_needs_data(const Recipe *r, const Model *m, const int16_t *level);
/* Bytes a run needs at most: streams, the largest linear, what methods declare (a GPTQ Hessian is in*in*4 bytes). */
uint64_t quantrun_estimate(const QuantRunOptions *o, const Model *m, int threads);
/* The runner is in model mode when o->peer. A resumed run computes the streams of finished layers anew and writes only
 * what is missing. After ST_CANCELLED or an error nothing lies in place of a good output; what is finished is kept for
 * a resume, but after ST_DATA. */
Status quantrun(Runner *r, const QuantRunOptions *o, QuantRunResult *out, Error *err);

#endif
