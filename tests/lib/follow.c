#include "tests/lib/follow.h"

#include <math.h>
#include <stdlib.h>

static Status follow_open(void *self, const Pipeline *p, Runner *r, SinkWants *wants, Error *err)
{
    (void)self, (void)r, (void)err;
    *wants = (SinkWants){.end = pipeline_model(p)->cfg.layers, .flow = true};
    return ST_OK;
}

static Status follow_start(void *self, int most, int *unit, Stream *flow, Error *err)
{
    (void)most;
    Follow *f = self;
    *unit = 0;
    RETURN_IF_ERROR(runner_embed(f->r, f->calib, flow, err));
    if (f->spoiled >= 0)
        flow->data[f->spoiled] = NAN;
    return f->eval ? runner_embed(f->r, f->eval, &f->s[1], err) : ST_OK;
}

static Status follow_unit(void *self, UnitRun *u, const Stream *flow, Error *err)
{
    Follow *f = self;
    for (int64_t i = 0; i < u->n; i++) {
        QParam p;
        DType T;
        if (layer_forms_param(u->forms, i, &p, &T))
            f->param[u->first + i] = p;
        f->unseen += unit_unseen(u, i);
    }
    if (f->eval)
        RETURN_IF_ERROR(unit_follow(u, &f->s[1], err));
    return u->unit + 1 == u->model->cfg.layers ? stream_copy(&f->s[0], flow, err) : ST_OK;
}

static Status follow_finish(void *self, Error *err)
{
    (void)self, (void)err;
    return ST_OK;
}

static void follow_close(void *self, bool keep)
{
    (void)self, (void)keep;
}

Sink follow_sink(Follow *f)
{
    static const SinkOps ops = {.name = "follower", .open = follow_open, .start = follow_start, .unit = follow_unit,
                                .finish = follow_finish, .close = follow_close};
    return (Sink){&ops, f};
}

Status follow_run(Follow *f, Runner *r, const Work *w, Error *err)
{
    const Sink sink = follow_sink(f);
    Pipeline *p;
    RETURN_IF_ERROR(pipeline_new(&p, runner_model(r), w, err));
    f->r = r;
    f->param = calloc((size_t)runner_model(r)->nlinears, sizeof *f->param);
    Status st = f->param ? pipeline_run(p, r, &(PipelineOptions){.calib = f->calib, .sinks = &sink, .nsinks = 1}, err)
                         : error_nomem(err, "a test");
    pipeline_free(p);
    return st;
}

void follow_fini(Follow *f)
{
    stream_fini(&f->s[0]);
    stream_fini(&f->s[1]);
    free(f->param);
}

Status measure_work(EffectLab *lab, Runner *r, const Work *w, Effect *out, Error *err)
{
    Pipeline *p;
    RETURN_IF_ERROR(pipeline_new(&p, runner_model(r), w, err));
    Status st = effectlab_measure(lab, r, p, out, NULL, err);
    pipeline_free(p);
    return st;
}
