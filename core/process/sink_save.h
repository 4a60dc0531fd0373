#ifndef SLIM_PROCESS_SINK_SAVE_H
#define SLIM_PROCESS_SINK_SAVE_H

#include <stdint.h>

#include "dist/dist.h"
#include "process/pipeline.h"
#include "save/format.h"

/* The pipeline's sink that writes: every finished unit's weights, quantized one after the other, to all savers. */
typedef struct SaveOptions {
    const SaveFormat *const *savers; /* [nsavers], already checked */
    const SavePlan *plans;      /* [nsavers] */
    int nsavers;
    const TokenSet *calib;      /* NULL when the work needs no texts */
    /* Ranks that write one output: each takes a part of every layer's linears. divided: `calib` is this rank's part of the
     * texts (pipeline_divides), else each has all of them. */
    Dist *dist;                 /* NULL: one */
    bool divided;
    const char *texts;          /* digest of all texts; NULL: `calib` has all of them */
    bool resume;
    /* one finished layer: linears quantized, bytes read and written so far; job thread; may be NULL */
    void (*layer)(void *ctx, int layer, int64_t linears, uint64_t bytes_in, uint64_t bytes_out);
    void *layer_ctx;
} SaveOptions;

/* Bytes a run needs at most: streams, the largest linear, what methods declare (a GPTQ Hessian is in*in*4 bytes). */
uint64_t save_estimate(const Pipeline *p, const SaveOptions *o, int threads, ArithMode arith);
/* Quantizes and writes a whole model. The runner is in exact arithmetic under the work's peer. A resumed run computes the
 * streams of finished layers anew and writes only what is missing. After ST_CANCELLED or an error nothing lies in place of
 * a good output; what is finished is kept for a resume, but after ST_DATA. */
Status save_run(Pipeline *p, Runner *r, const SaveOptions *o, SaveResult *out, Error *err);

/* The sink by itself, for a run with others beside it: keeps the options and *out by reference until it is freed. */
typedef struct SaveSink SaveSink;
Status save_sink_new(SaveSink **out, const SaveOptions *o, SaveResult *result, Error *err);
void save_sink_free(SaveSink *s);
Sink save_sink(SaveSink *s);

#endif
