#ifndef SLIM_MEASURE_SINK_MEASURE_H
#define SLIM_MEASURE_SINK_MEASURE_H

#include "measure/effect.h"
#include "measure/statecache.h"
#include "process/pipeline.h"

/* The pipeline's sink that measures: takes the evaluation set through every finished unit, keeps the states between
 * units under their keys, and begins at the last one that is kept. */
typedef struct MeasureSink {
    /* set by the user */
    StateCache *states;
    const Digest *keys;           /* [layers+1] of the input of each layer, and of the last output */
    const TokenSet *calib, *eval;
    struct Dist *dist;            /* ranks that begin at the same layer; NULL: one */
    int only;                     /* keep the state at this layer's input and no other; -1: all */
    /* Both sets behind the last layer of the quantized model. */
    Status (*output)(void *ctx, const Stream *calib, const Stream *eval, Error *err);
    void *ctx;
    /* found */
    int first;                    /* layers from here on ran; those before came from the cache */
    Unseen unseen;
    /* its own */
    const Model *m;
    Runner *r;
    Stream s[2];                  /* the evaluation; the calibration, where the pipeline's own isn't the model's */
    int n;                        /* of them in use */
    bool keeps;                   /* states: not where layers change the model, which a later start would miss */
} MeasureSink;
/* Lives as long as the run; the pipeline closes it. */
Sink measure_sink(MeasureSink *s);

#endif
