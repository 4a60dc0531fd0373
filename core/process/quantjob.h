#ifndef SLIM_PROCESS_QUANTJOB_H
#define SLIM_PROCESS_QUANTJOB_H

#include <stdint.h>

#include "base/error.h"
#include "qir/scheme.h"
#include "run/runner.h"

/* linear_quant as a LayerJob over two streams: streams[0] = calibration (through the quantized prefix: its inputs fix
 * the static activation ranges), streams[1] = evaluation (runs with the ranges just found; may be absent). */
typedef struct QuantJob QuantJob;

typedef struct QuantJobOptions {
    const QConfig *levels;   /* [nlevels] qconfig of level k+1 */
    int nlevels;
    const int16_t *level;    /* [model.nlinears] 0 = float; copied */
    /* running ranges sample by sample, per_token over the whole sample: specs/quantization.md 5, 8, 10 */
    bool peer;
} QuantJobOptions;
/* A level this build can't run: ST_USAGE naming it. */
Status quantjob_new(QuantJob **out, const Model *m, const QuantJobOptions *o, Error *err);
void quantjob_free(QuantJob *q);
LayerJob quantjob_layer_job(QuantJob *q);
/* Linears whose calibration saw no token so far: they ran in float. *first (may be NULL): the first of them, -1: none. */
int64_t quantjob_unseen(const QuantJob *q, int64_t *first);
/* Static activation parameters found for a linear (scale, offset); false when it has none. */
bool quantjob_act_param(const QuantJob *q, int64_t linear, float *scale, float *offset);

#endif
