#include "metric/probe.h"

#include "base/mem.h"
#include "base/num.h"
#include "run/schedule.h"

/* specs/analysis.md 2.5, as it is meant: MSE of a block's output with its linears quantized, from float inputs. (The peer
 * compares with a block whose weights it did not restore.) */

typedef struct BlockJob {
    Probe b;
    const PassSink *sink;
} BlockJob;

/* The block's quantized output, into q, which holds its input. */
static Status quantized_output(BlockJob *j, LayerCtx *ctx, Stream *q, Error *err)
{
    const Stream *h = ctx->streams[0];
    int passes = probe_twice(&j->b, ctx->layer) ? 2 : 1;
    Status st = ST_OK;
    for (int k = 0; k < passes && st == ST_OK; k++) {
        Variant v;
        st = probe_unit(&j->b, ctx->layer, &v, err);
        if (st == ST_OK)
            st = runner_layer(ctx->runner, ctx->layer, &v, h, q, NULL, 0, err);
    }
    probe_drop(&j->b, ctx->layer);
    return st;
}

static Status block_job(void *self, LayerCtx *ctx, Error *err)
{
    BlockJob *j = self;
    Stream *h = ctx->streams[0], q = {0};
    UnitScore *u = &j->b.unit[ctx->layer];
    FloatPass plain = {.sdpa = j->b.p->peer};
    bool has = probe_has(&j->b, ctx->layer);
    Status st = has ? stream_copy(&q, h, err) : ST_OK;
    if (st == ST_OK && has)
        st = quantized_output(j, ctx, &q, err);
    bool failed = st == ST_DATA;
    st = probe_excuse(&j->b, ctx->layer, st, err);
    runner_hold(ctx->runner, has ? (uint64_t)(h->rows * h->width) * sizeof(float) : 0);
    if (st == ST_OK)
        st = float_pass_run(&plain, ctx, err);
    runner_hold(ctx->runner, 0);
    if (st == ST_OK && has && !failed)
        st = mse_add(u, h, &q, 0, runner_pool(ctx->runner), err);
    stream_fini(&q);
    return st;
}

static Status block_done(void *ctx, int unit, Stream **streams, int nstreams, Error *err)
{
    (void)nstreams;
    BlockJob *j = ctx;
    int depth = model_depth(j->b.p->m);
    return mse_tell(&(Telling){&metric_mse_layer_wise, j->sink, j->b.unit, depth, unit + 1, depth, streams[0]}, err);
}

static Status run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    BlockJob j = {.sink = sink};
    RETURN_IF_ERROR(probe_init(&j.b, r, p, &metric_mse_layer_wise, err));
    probe_leave_out(&j.b, model_depth(p->m));
    Status st = pass_by_layer(r, p, (LayerJob){"mse_layer_wise", block_job, &j}, block_done, &j, err);
    probe_fini(&j.b);
    return st;
}

static uint64_t bytes(const PassPlan *p, int threads)
{
    return probe_bytes(p, false, threads);
}

/* The quantized output beside the stream. */
static uint64_t need(const PassPlan *p, int threads)
{
    ProbeNeed n = probe_need(p, threads);
    return 2 * n.stream + n.pass;
}

static const MetricPass pass_mse_layer_wise = {
    .name = "mse_layer_wise",
    .step = "layer",
    .probe = "W4A4_MXFP4",
    .inputs = {"float", "float"},
    .stream = true,
    .steps = pass_layers,
    .bytes = bytes,
    .need = need,
    .divides = DIVIDES_UNITS,
    .run = run,
};

const Metric metric_mse_layer_wise = {
    .name = "mse_layer_wise",
    .title = "MSE layer",
    .unit = "",
    .scope = SCOPE_BLOCK,
    .family = FAMILY_ERROR,
    .cost = "one float pass and one quantized one over the calibration set",
    .parts = sample_parts,
    .direction = 1,
    .pass = &pass_mse_layer_wise,
    .explain = "Mean squared error of a block's output when its linears are quantized, each block from float inputs.\n"
               "Absolute: blocks whose output is large score high whatever that means for the model. It is what\n"
               "msModelSlim's metric is meant to be (its own compares with weights it did not restore).",
};
