#ifndef SLIM_PROCESS_QUANTJOB_H
#define SLIM_PROCESS_QUANTJOB_H

#include <stdint.h>

#include "base/error.h"
#include "qir/scheme.h"
#include "run/schedule.h"

/* linear_quant as a LayerJob over two streams: streams[0] = calibration (through the quantized prefix: its inputs fix
 * the static activation ranges), streams[1] = evaluation (runs with the ranges just found; may be absent). */
typedef struct QuantJob QuantJob;

/* Linears that ran in float although they have a level: their calibration saw no token, as happens to experts. */
typedef struct Unseen {
    int64_t linears, experts, first; /* first: the lowest linear, -1 when there is none */
} Unseen;

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
/* Over the layers run so far, and what went before: the start value is quantjob_new's {0, 0, -1} unless set. */
Unseen *quantjob_unseen(QuantJob *q);
/* Bytes that it needs beside the runner's: Hessians, and weights that are quantized as a whole. For planners. */
uint64_t quantjob_bytes(const Model *m, const QuantJobOptions *o, int threads);
/* Static activation parameters found for a linear (scale, offset); false when it has none. */
bool quantjob_act_param(const QuantJob *q, int64_t linear, float *scale, float *offset);

#endif
