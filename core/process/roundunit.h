#ifndef SLIM_PROCESS_ROUNDUNIT_H
#define SLIM_PROCESS_ROUNDUNIT_H

#include <stdbool.h>
#include <stdint.h>

#include "process/processor.h"
#include "qir/qweight.h"
#include "quant/quantizer.h"
#include "run/runner.h"

/* Training of one unit's rounding (specs/quantization.md 11): the weights of some of its linears are moved against the signs of
 * the gradients of what quantizing them does to the unit's output. */

typedef struct RoundSettings {
    int64_t iters;
    bool rounds, clips; /* what is trained */
    uint32_t seed;
} RoundSettings;

typedef struct RoundTask {
    Runner *runner;
    int unit;
    const RoundSettings *set;
    const QuantLevel *levels;
    const int16_t *level; /* [linears of the unit] of those that are trained; 0: the others */
    const LinearForm *const *others; /* [linears of the unit] what the others compute as, NULL entries: float */
    VariantDtype dtype;
    bool sdpa, peer;
    DType T;              /* of weights */
    const Stream *in;     /* what the unit reads */
    const Stream *want;   /* and what it would give, were it float */
    const struct UnitRanks *ranks; /* that train together, and of whose texts in and want have this rank's; NULL: one rank */
    /* Behind every step: its loss as a share of the first one's. NULL: nobody asks. */
    void (*step)(void *ctx, int64_t done, int64_t of, double share);
    void *ctx;
} RoundTask;

/* What came of it. */
typedef struct RoundResult {
    double first, best; /* loss of the untrained weights and of those that were taken, by the same samples; under peer of the
                         * first step's, and as its rule has it */
} RoundResult;

/* q[linears of the unit]: those of trained linears become the caller's (qweight_fini), also after an error. ST_DATA names
 * layer and text of a loss that is no number. Results do not depend on the number of threads. */
Status round_unit(const RoundTask *t, QWeight *q, RoundResult *out, Error *err);
/* Bytes it takes beside its streams: of each trained linear, and once for all of them, in batches of the pass's texts. */
uint64_t round_unit_bytes(const Model *m, int unit, const int16_t *level, const QuantLevel *levels, const PassSize *size);

#endif
