#include "process/sink_fold.h"

static Status fold_open(void *self, const Pipeline *p, Runner *r, SinkWants *wants, Error *err)
{
    (void)self, (void)r, (void)err;
    *wants = (SinkWants){.end = model_depth(pipeline_model(p))};
    return ST_OK;
}

static Status fold_unit(void *self, UnitRun *u, const Stream *flow, Error *err)
{
    const FoldOptions *o = self;
    (void)flow, (void)err;
    if (o->done)
        o->done(o->ctx, u->unit);
    return ST_OK;
}

static void fold_close(void *self, bool keep)
{
    (void)self, (void)keep;
}

Status fold_run(Pipeline *p, Runner *r, const FoldOptions *o, Error *err)
{
    static const SinkOps ops = {.name = "changes", .open = fold_open, .unit = fold_unit, .close = fold_close};
    FoldOptions own = *o;
    const Sink sink = {&ops, &own};
    const PipelineOptions run = {.calib = o->calib, .sinks = &sink, .nsinks = 1};
    return pipeline_run(p, r, &run, err);
}
