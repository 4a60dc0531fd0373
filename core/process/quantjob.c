#include "process/quantjob.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "quant/quantform.h"

struct QuantJob {
    const Model *model;
    QuantJobOptions opt; /* levels, level: own copies */
    QConfig *levels;
    int16_t *level;      /* [nlinears] */
    int64_t *first;      /* [layers+1] first linear of each layer */
    QParam *found;       /* [nlinears] static parameters, scale 0 = none */
    Unseen unseen;
};

static Status read_weight(void *ctx, int64_t linear, float *w, Error *err)
{
    return runner_weight(ctx, linear, -1, w, err);
}

/* What the calibration of a layer left behind. */
static void keep_found(QuantJob *q, const LayerForms *forms)
{
    QParam p;
    DType T;
    int32_t expert = -1;
    for (int64_t i = 0; i < forms->n; i++) {
        int64_t linear = forms->first + i;
        if (layer_forms_param(forms, i, &p, &T))
            q->found[linear] = p;
        if (!layer_forms_unseen(forms, i))
            continue;
        q->unseen.first = q->unseen.linears ? q->unseen.first : linear;
        q->unseen.linears++;
        q->unseen.experts += q->model->linears[linear].expert != expert;
        expert = q->model->linears[linear].expert;
    }
}

static Status run_streams(QuantJob *q, LayerCtx *ctx, LayerForms *forms, DType T, Error *err)
{
    const FormTypes types = {.input = T, .inner = T, .kept = T};
    for (int i = 0; i < ctx->nstreams; i++) {
        RETURN_IF_ERROR(layer_forms_stage(forms, 0, i == 0 ? FORM_CALIBRATE : FORM_FIXED, &types, err));
        Variant variant = {.forms = forms->table};
        RETURN_IF_ERROR(runner_layer(ctx->runner, ctx->layer, forms->any ? &variant : NULL, ctx->streams[i],
                                     ctx->streams[i], NULL, 0, err));
        if (i == 0)
            keep_found(q, forms);
    }
    return ST_OK;
}

static Status quantjob_run(void *self, LayerCtx *ctx, Error *err)
{
    QuantJob *q = self;
    if (ctx->nstreams < 1 || ctx->layer < 0 || ctx->layer >= model_depth(q->model))
        return error_set(err, ST_INTERNAL, "quantization of layer %d over %d streams", ctx->layer, ctx->nstreams);
    DType T = runner_arith(ctx->runner) == ARITH_MODEL ? q->model->cfg.dtype : DT_F32;
    int64_t first = q->first[ctx->layer], n = q->first[ctx->layer + 1] - first;
    FormsOptions o = {.weight = T, .levels = q->levels, .level = q->level, .peer = q->opt.peer, .read = read_weight,
                      .ctx = ctx->runner, .pool = runner_pool(ctx->runner), .cancel = runner_cancel(ctx->runner)};
    LayerForms forms;
    RETURN_IF_ERROR(layer_forms_init(&forms, q->model, &o, first, n, err));
    Status st = run_streams(q, ctx, &forms, T, err);
    layer_forms_fini(&forms);
    return st;
}

/* ---- public ---- */

static Status check_levels(const Model *m, const QuantJobOptions *o, Error *err)
{
    char text[96];
    for (int64_t i = 0; i < m->nlinears; i++) {
        int16_t level = o->level[i];
        if (level < 0 || level > o->nlevels)
            return error_set(err, ST_INTERNAL, "'%s' has level %d of %d", m->linears[i].name, level, o->nlevels);
        if (level == 0)
            continue;
        const QConfig *c = &o->levels[level - 1];
        if (qconfig_runnable(c)) {
            Status st = qweight_check(&c->weight, m->linears[i].out, m->linears[i].in, err);
            if (st != ST_OK)
                return error_prefix(err, st, "'%s': ", m->linears[i].name);
            continue;
        }
        qconfig_describe(c, text, sizeof text);
        return error_set(err, ST_USAGE,
                         "'%s': %s with act method '%s' and weight method '%s' can't be quantized by this build: "
                         "choose another method or scheme for it",
                         m->linears[i].name, text, c->act.method, c->weight.method);
    }
    return ST_OK;
}

Status quantjob_new(QuantJob **out, const Model *m, const QuantJobOptions *o, Error *err)
{
    *out = NULL;
    RETURN_IF_ERROR(check_levels(m, o, err));
    QuantJob *q = mem_zarray(1, sizeof *q);
    if (!q)
        return error_nomem(err, "quantization");
    size_t n = (size_t)m->nlinears, layers = (size_t)model_depth(m);
    q->model = m;
    q->unseen.first = -1;
    q->levels = mem_array((size_t)o->nlevels, sizeof *q->levels);
    q->level = mem_array(n, sizeof *q->level);
    q->first = mem_zarray(layers + 1, sizeof *q->first);
    q->found = mem_zarray(n, sizeof *q->found);
    if (!q->levels || !q->level || !q->first || !q->found) {
        quantjob_free(q);
        return error_nomem(err, "quantization");
    }
    if (o->nlevels > 0)
        memcpy(q->levels, o->levels, (size_t)o->nlevels * sizeof *q->levels);
    memcpy(q->level, o->level, n * sizeof *q->level);
    q->opt = (QuantJobOptions){.levels = q->levels, .nlevels = o->nlevels, .level = q->level, .peer = o->peer};
    for (int64_t i = 0; i < m->nlinears; i++) {
        int32_t layer = m->linears[i].layer;
        if (layer < 0 || layer >= model_depth(m) || (i > 0 && layer < m->linears[i - 1].layer)) {
            quantjob_free(q);
            return error_set(err, ST_INTERNAL, "'%s' is out of layer order", m->linears[i].name);
        }
        q->first[layer + 1] = i + 1;
    }
    for (size_t l = 0; l < layers; l++) /* a layer without linears */
        if (q->first[l + 1] < q->first[l])
            q->first[l + 1] = q->first[l];
    *out = q;
    return ST_OK;
}

void quantjob_free(QuantJob *q)
{
    if (!q)
        return;
    free(q->levels);
    free(q->level);
    free(q->first);
    free(q->found);
    free(q);
}

LayerJob quantjob_layer_job(QuantJob *q)
{
    return (LayerJob){.name = "linear_quant", .run = quantjob_run, .self = q};
}

Unseen *quantjob_unseen(QuantJob *q)
{
    return &q->unseen;
}

bool quantjob_act_param(const QuantJob *q, int64_t linear, float *scale, float *offset)
{
    if (linear < 0 || linear >= q->model->nlinears || q->found[linear].scale == 0)
        return false;
    *scale = q->found[linear].scale;
    *offset = q->found[linear].offset;
    return true;
}

uint64_t quantjob_bytes(const Model *m, const QuantJobOptions *o, int threads)
{
    return layer_forms_bytes(m, o->levels, o->level, o->peer, threads);
}
