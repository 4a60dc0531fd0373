#ifndef SLIM_PROCESS_SINK_FOLD_H
#define SLIM_PROCESS_SINK_FOLD_H

#include "process/pipeline.h"

/* Runs a pipeline for what its processors change in the model, and for nothing else: behind it the runner r, and any
 * other with the pipeline's overlay, computes with the changed model. done: told each finished unit, job thread, may be
 * NULL. calib: as PipelineOptions'. */
typedef struct FoldOptions {
    const TokenSet *calib;
    void (*done)(void *ctx, int unit);
    void *ctx;
} FoldOptions;
Status fold_run(Pipeline *p, Runner *r, const FoldOptions *o, Error *err);

#endif
