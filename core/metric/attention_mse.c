#include "metric/probe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "model/block.h"
#include "quant/headquant.h"
#include "run/schedule.h"
#include "run/unit.h"

/* specs/analysis.md 2.4: MSE of an attention's output (behind o_proj) with q, k and v in int8, one scale a head. Ours: each
 * layer from float inputs; by the peer's rules the layer's quantized output is what the next one reads. */

/* The outputs of a layer's attentions: those of the first pass are kept, those of the second compared with them. */
typedef struct Outputs {
    int unit;
    bool compare;
    int64_t linear[HEAD_ATTENTIONS];
    int n;
    int64_t rows, width;
    const int64_t *start;
    float *kept;   /* [HEAD_ATTENTIONS in use][rows][width] */
    double *sum;   /* [samples] of all attentions */
    int64_t *bad;  /* [samples] 1 + place of the first value that is not finite */
} Outputs;

static bool wants_tap(void *self, Tap tap)
{
    const Outputs *o = self;
    return tap.layer == o->unit && tap.kind == TAP_ATTN;
}

static int place_of(const Outputs *o, Tap tap)
{
    int i = 0;
    while (i < o->n && o->linear[i] != tap.linear)
        i++;
    return i;
}

static Status tap_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    (void)samples;
    Outputs *o = self;
    int at = place_of(o, tap);
    o->start = start;
    if (at == HEAD_ATTENTIONS || width != o->width)
        return error_set(err, ST_INTERNAL, "the attentions of layer %d give %lld values a token", o->unit, (long long)width);
    if (at == o->n)
        o->linear[o->n++] = tap.linear;
    return ST_OK;
}

static void tap_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                     int64_t ld)
{
    const Outputs *o = self;
    float *kept = o->kept + (place_of(o, tap) * o->rows + o->start[sample] + row0) * width;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width && !o->compare; c++)
            kept[r * width + c] = x[r * ld + c];
    double sum = 0;
    for (int64_t r = 0; r < rows && o->compare; r++)
        for (int64_t c = 0; c < width; c++) {
            double d = (double)x[r * ld + c] - (double)kept[r * width + c];
            sum += d * d;
            if (!isfinite(d) && !o->bad[sample])
                o->bad[sample] = 1 + (row0 + r) * width + c;
        }
    o->sum[sample] += sum;
}

static Status tap_end(void *self, Tap tap, Error *err)
{
    (void)self, (void)tap, (void)err;
    return ST_OK;
}

static Observer outputs_observer(Outputs *o)
{
    static const ObserverOps ops = {
        .name = "outputs of attentions", .wants_tap = wants_tap, .tap_begin = tap_begin, .tap_tile = tap_tile, .tap_end = tap_end};
    return (Observer){&ops, o};
}

/* ---- one layer ---- */

typedef struct AttentionJob {
    const PassPlan *p;
    const PassSink *sink;
    UnitScore *unit; /* [model_depth] */
} AttentionJob;

/* The attentions of a unit that have scores: how many, and the block behind the last. */
static int attentions(const Unit *u, int *end)
{
    int n = 0;
    *end = 0;
    for (int i = 0; i < u->nblocks; i++)
        if (u->block[i].type->role == ROLE_ATTENTION && u->block[i].type->scores) {
            *end = i + 1;
            n++;
        }
    return n;
}

static void add_errors(UnitScore *u, const Outputs *o, const Stream *h)
{
    for (int i = 0; i < h->samples; i++) {
        int64_t rows = h->start[i + 1] - h->start[i];
        if (o->bad[i] && !u->why[0])
            snprintf(u->why, sizeof u->why, "the attention's output is not finite, first at sample %d token %lld channel %lld",
                     i, (long long)((o->bad[i] - 1) / o->width), (long long)((o->bad[i] - 1) % o->width));
        if (!rows)
            continue;
        sample_add(u, o->sum[i] / (double)(rows * o->width * o->n), i);
        u->tokens += rows;
    }
}

/* What a layer's two passes read and leave. */
typedef struct LayerRun {
    AttentionJob *j;
    LayerCtx *ctx;
    Stream *h, other;
    HeadQuant heads;
    Outputs out;
    int nattn, end; /* its attentions, blocks up to the last */
} LayerRun;

static Status run_blocks(LayerRun *l, int to, const Variant *v, Stream *out, bool first, Error *err)
{
    Observer obs[] = {outputs_observer(&l->out), head_quant_observer(&l->heads)};
    int64_t kept = (l->other.data == out->data ? 0 : l->h->width) + (int64_t)l->nattn * l->out.width; /* of a row */
    runner_hold(l->ctx->runner, (uint64_t)(l->h->rows * kept) * sizeof(float));
    memset(l->out.sum, 0, (size_t)l->h->samples * sizeof *l->out.sum);
    l->out.compare = !first;
    return unit_forward(l->ctx->runner, l->ctx->layer, 0, to, v, l->h, out, obs, first ? 2 : 1, err);
}

/* By the peer's rules the first pass needs no more than the attentions, and the second gives the next layer's input;
 * otherwise the other way round. */
static Status run_passes(LayerRun *l, Error *err)
{
    bool peer = l->j->p->peer;
    int all = l->j->p->m->units[l->ctx->layer].nblocks;
    UnitScore *u = &l->j->unit[l->ctx->layer];
    Variant v = {.sdpa = peer};
    RETURN_IF_ERROR(run_blocks(l, peer ? l->end : all, &v, &l->other, true, err));
    Status st = head_quant_fix(&l->heads, err);
    if (st == ST_DATA) { /* of this row; what comes behind goes on in float */
        snprintf(u->why, sizeof u->why, "%.*s", (int)sizeof u->why - 1, err->text);
        *err = (Error){0};
        st = peer ? unit_forward(l->ctx->runner, l->ctx->layer, 0, all, &v, l->h, &l->other, NULL, 0, err) : ST_OK;
    } else if (st == ST_OK) {
        AttnForm form = head_quant_form(&l->heads);
        v.attn = &form;
        st = run_blocks(l, peer ? all : l->end, &v, l->h, false, err);
        if (st == ST_OK)
            add_errors(u, &l->out, l->h);
        if (peer)
            return st;
    }
    Stream read = *l->h;
    *l->h = l->other;
    l->other = read;
    return st;
}

static Status layer_job(void *self, LayerCtx *ctx, Error *err)
{
    AttentionJob *j = self;
    const Model *m = j->p->m;
    FloatPass plain = {.sdpa = j->p->peer};
    LayerRun l = {.j = j, .ctx = ctx, .h = ctx->streams[0]};
    l.nattn = attentions(&m->units[ctx->layer], &l.end);
    if (!l.nattn || j->unit[ctx->layer].unit < 0)
        return float_pass_run(&plain, ctx, err);
    l.heads = (HeadQuant){.m = m, .unit = ctx->layer, .T = arith_dtype(runner_arith(ctx->runner), m->cfg.dtype)};
    memcpy(l.heads.ratio, head_ratios, sizeof head_ratios);
    l.out = (Outputs){.unit = ctx->layer, .rows = l.h->rows, .width = m->units[ctx->layer].cfg->hidden};
    l.out.kept = mem_array((size_t)(l.nattn * l.out.rows * l.out.width), sizeof *l.out.kept);
    l.out.sum = mem_array((size_t)l.h->samples, sizeof *l.out.sum);
    l.out.bad = mem_zarray((size_t)l.h->samples, sizeof *l.out.bad);
    Status st = l.out.kept && l.out.sum && l.out.bad ? stream_copy(&l.other, l.h, err) : error_nomem(err, "outputs");
    if (st == ST_OK)
        st = run_passes(&l, err);
    runner_hold(ctx->runner, 0);
    stream_fini(&l.other);
    head_quant_fini(&l.heads);
    free(l.out.kept);
    free(l.out.sum);
    free(l.out.bad);
    return st;
}

static Status layer_done(void *ctx, int unit, Stream **streams, int nstreams, Error *err)
{
    (void)nstreams;
    AttentionJob *j = ctx;
    int depth = model_depth(j->p->m);
    return mse_tell(&(Telling){&metric_attention_mse, j->sink, j->unit, depth, unit + 1, depth, streams[0]}, err);
}

/* ---- the pass ---- */

/* Units without a wanted linear get number -1: they run in float, and nothing is told of them. */
static Status begin_units(AttentionJob *j, Error *err)
{
    const Model *m = j->p->m;
    int depth = model_depth(m), end;
    uint64_t *levels = mem_array((size_t)depth, sizeof *levels);
    if (!levels)
        return error_nomem(err, "scores");
    scores_levels(m, SCOPE_ATTENTION, j->p->levels, j->p->level, levels);
    for (int i = 0; i < depth; i++)
        j->unit[i] = (UnitScore){.unit = -1, .levels = levels[i]};
    free(levels);
    for (int64_t i = 0; i < m->nlinears; i++) {
        int64_t unit = scope_unit_of(m, SCOPE_ATTENTION, i);
        if (unit >= 0 && (!j->p->selected || j->p->selected[i]))
            j->unit[unit].unit = unit;
    }
    for (int i = 0; i < depth; i++) {
        UnitScore *u = &j->unit[i];
        u->absent = u->unit >= 0 && !attentions(&m->units[i], &end);
        if (u->absent)
            snprintf(u->why, sizeof u->why, "not applicable: linear attention has no queries and keys of scores");
    }
    return ST_OK;
}

static Status run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    AttentionJob j = {.p = p, .sink = sink, .unit = mem_zarray((size_t)model_depth(p->m), sizeof *j.unit)};
    Status st = j.unit ? begin_units(&j, err) : error_nomem(err, "scores");
    if (st == ST_OK)
        st = pass_by_layer(r, p, (LayerJob){"attention_mse", layer_job, &j}, layer_done, &j, err);
    free(j.unit);
    return st;
}

static uint64_t bytes(const PassPlan *p, int threads)
{
    (void)threads;
    return (uint64_t)model_depth(p->m) * sizeof(UnitScore);
}

/* Two streams, the outputs that are compared, and a chunk of them before they are added to the stream. */
static uint64_t need(const PassPlan *p, int threads)
{
    ProbeNeed n = probe_need(p, threads);
    int64_t most = 1, rows = p->tokens->start[p->tokens->samples];
    int end;
    for (int i = 0; i < model_depth(p->m); i++)
        most = max_i64(most, attentions(&p->m->units[i], &end));
    int64_t chunk = min_i64(rows, max_i64(SWEEP_ROWS, longest_of(p->tokens->start, p->tokens->samples)));
    return 2 * n.stream + n.pass + (uint64_t)((rows * most + chunk) * p->m->cfg.hidden) * sizeof(float);
}

static const MetricPass pass_attention_mse = {
    .name = "attention_mse",
    .step = "layer",
    .fixed = "int8 per_head q, k, v",
    .inputs = {"float", "accumulated"},
    .stream = true,
    .steps = pass_layers,
    .bytes = bytes,
    .need = need,
    .divides = DIVIDES_UNITS,
    .run = run,
};

const Metric metric_attention_mse = {
    .name = "attention_mse",
    .peer_name = "mse",
    .title = "MSE attention",
    .unit = "",
    .scope = SCOPE_ATTENTION,
    .family = FAMILY_ERROR,
    .cost = "one float pass over the calibration set and the attentions once more",
    .parts = sample_parts,
    .direction = 1,
    .pass = &pass_attention_mse,
    .explain = "Mean squared error of an attention's output when its queries, keys and values are int8, one scale a head.\n"
               "It ranks attentions for a quantized attention kernel (FA3) or cache; no linear is quantized. Absolute: an\n"
               "attention that writes little scores low. Each layer is fed float inputs, under --compat peer quantized ones.",
};
