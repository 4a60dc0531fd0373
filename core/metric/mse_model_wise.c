#include "metric/probe.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/schedule.h"

/* specs/analysis.md 2.3: MSE of the last block's output when one block is quantized, all candidates in one sweep. */

typedef struct ModelSweep {
    Probe b;
    const PassSink *sink;
    Perturb *perturb; /* [layers], those in use */
    Variant *v;       /* [layers] */
    int n;
} ModelSweep;

/* Ranges and weights that a pass over all texts has to find, of every layer: what it gives itself is not looked at. */
static Status calibrate_job(void *self, LayerCtx *ctx, Error *err)
{
    ModelSweep *m = self;
    Stream *h = ctx->streams[0], q = {0};
    FloatPass plain = {.sdpa = m->b.p->peer};
    Status st = ST_OK;
    if (probe_has(&m->b, ctx->layer)) {
        Variant v;
        st = stream_copy(&q, h, err);
        if (st == ST_OK)
            st = probe_unit(&m->b, ctx->layer, &v, err);
        if (st == ST_OK)
            st = runner_layer(ctx->runner, ctx->layer, &v, h, &q, NULL, 0, err);
        stream_fini(&q);
    }
    st = probe_excuse(&m->b, ctx->layer, st, err);
    return st == ST_OK ? float_pass_run(&plain, ctx, err) : st;
}

static Status calibrate(ModelSweep *m, Runner *r, Error *err)
{
    const PassPlan *p = m->b.p;
    if (!probe_calibrates(&m->b))
        return ST_OK;
    Stream own = {0}, *h = &own;
    Outside embed = {.tokens = &p->tokens};
    Schedule s = {.last = p->m->cfg.layers, .job = {"ranges", calibrate_job, m}, .seed = p->seed, .outside = &embed};
    Status st = schedule_forward(r, &h, 1, &s, err);
    stream_fini(&own);
    runner_leave_layers(r);
    return st;
}

/* The layers to be quantized, one at a time, as perturbations of the float model. */
static Status take_units(ModelSweep *m, Error *err)
{
    int layers = m->b.p->m->cfg.layers;
    for (int i = 0; i < layers; i++) {
        UnitScore *u = &m->b.unit[i];
        if (!probe_has(&m->b, i) || u->why[0])
            continue;
        RETURN_IF_ERROR(probe_excuse(&m->b, i, probe_unit(&m->b, i, &m->v[m->n], err), err));
        if (u->why[0])
            continue;
        m->perturb[m->n] = (Perturb){.unit = i, .variant = &m->v[m->n], .until = layers};
        m->n++;
    }
    return ST_OK;
}

static Status on_stream(void *ctx, int p, int s0, const Stream *plain, const Stream *changed, Error *err)
{
    ModelSweep *m = ctx;
    return mse_add(&m->b.unit[m->perturb[p].unit], plain, changed, s0, runner_pool(m->b.r), err);
}

static Status on_chunk(void *ctx, int done, int samples, Error *err)
{
    ModelSweep *m = ctx;
    int depth = model_depth(m->b.p->m);
    return mse_tell(&(Telling){&metric_mse_model_wise, m->sink, m->b.unit, depth, done, samples, NULL}, err);
}

/* Whether an earlier part's sums are there to go on from. */
static bool goes_on(const ModelSweep *m)
{
    for (int i = 0; i < m->n; i++)
        if (!m->b.unit[m->perturb[i].unit].samples)
            return false;
    return true;
}

static Status sweep(ModelSweep *m, Runner *r, Error *err)
{
    const PassPlan *p = m->b.p;
    RETURN_IF_ERROR(calibrate(m, r, err));
    RETURN_IF_ERROR(take_units(m, err));
    Sweep s = {.tokens = p->tokens, .perturb = m->perturb, .n = m->n, .last = p->m->cfg.layers,
               .first_sample = (int)p->first, .sdpa = p->peer};
    if (p->first && !goes_on(m)) { /* other levels than those of the part before: nothing of it counts */
        s.first_sample = 0;
        for (int i = 0; i < m->n; i++)
            m->b.unit[m->perturb[i].unit] = (UnitScore){.unit = m->perturb[i].unit,
                                                        .levels = m->b.unit[m->perturb[i].unit].levels};
    }
    if (!m->n) /* every row has its reason */
        return on_chunk(m, p->tokens->samples, p->tokens->samples, err);
    return schedule_sweep(r, &s, &(SweepSink){on_stream, on_chunk, m}, err);
}

static Status run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    size_t layers = (size_t)p->m->cfg.layers;
    ModelSweep m = {.sink = sink, .perturb = mem_zarray(layers, sizeof *m.perturb), .v = mem_zarray(layers, sizeof *m.v)};
    Status st = m.perturb && m.v ? probe_init(&m.b, r, p, &metric_mse_model_wise, err) : error_nomem(err, "a sweep");
    if (st == ST_OK) {
        probe_leave_out(&m.b, p->m->cfg.layers);
        st = sweep(&m, r, err);
        probe_fini(&m.b);
    }
    free(m.perturb);
    free(m.v);
    return st;
}

static int64_t steps(const PassPlan *p)
{
    return p->tokens->samples;
}

static uint64_t bytes(const PassPlan *p, int threads)
{
    return probe_bytes(p, true, threads);
}

/* Of one chunk with a copy for each layer; less memory, smaller chunks. And before it of all texts twice, where they
 * calibrate. */
static uint64_t need(const PassPlan *p, int threads)
{
    int64_t rows = p->tokens->start[p->tokens->samples], longest = longest_of(p->tokens->start, p->tokens->samples);
    int64_t chunk = min_i64(rows, max_i64(SWEEP_ROWS, longest));
    ProbeNeed n = probe_need(p, threads);
    uint64_t sweep = schedule_sweep_bytes(p->m, p->m->cfg.layers, chunk, longest, threads);
    return max_u64(sweep + n.more, n.calibrates ? 2 * n.stream + n.pass : 0);
}

static const MetricPass pass_mse_model_wise = {
    .name = "mse_model_wise",
    .step = "text",
    .probe = "W4A4_MXFP4",
    .inputs = {"float", "float"},
    .steps = steps,
    .bytes = bytes,
    .need = need,
    .divides = DIVIDES_UNITS,
    .run = run,
};

const Metric metric_mse_model_wise = {
    .name = "mse_model_wise",
    .title = "MSE model",
    .unit = "",
    .scope = SCOPE_BLOCK,
    .family = FAMILY_ERROR,
    .cost = "half as many passes as there are layers, all candidates together",
    .parts = sample_parts,
    .direction = 1,
    .pass = &pass_mse_model_wise,
    .explain = "Mean squared error of the last block's output when this block alone is quantized, the others in float.\n"
               "It sees what the blocks behind make of the error, so it ranks blocks better than their own outputs do;\n"
               "it costs about half the number of layers in passes, all candidates together.",
};
