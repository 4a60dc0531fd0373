#include <stdlib.h>

#include "base/mem.h"
#include "process/processor.h"

/* linear_quant: the linears at its level compute quantized. What they compute is core/quant's forms; here is only whose
 * turn it is. */

typedef struct LinearQuant {
    const Model *m;
    const int16_t *at; /* [model.nlinears] levels */
    int level;         /* of this entry */
    bool data, widens;
} LinearQuant;

static Status start(void **self, const ProcessorCtx *ctx, Error *err)
{
    LinearQuant *q = mem_zarray(1, sizeof *q);
    if (!q)
        return error_nomem(err, "linear_quant");
    *q = (LinearQuant){.m = ctx->model, .at = ctx->work->level, .level = ctx->step->entry + 1};
    const QuantLevel *l = &ctx->levels[ctx->step->entry];
    q->data = (l->act && l->act->observer) || (l->weight && l->weight->prepare);
    q->widens = l->config->weight.scope != QS_PER_BLOCK; /* all but block formats do: specs/quantization.md 8 */
    *self = q;
    return ST_OK;
}

/* Whether a linear of the unit (-1: of any) is at the level. */
static bool used(const LinearQuant *q, int unit)
{
    int64_t i = unit < 0 ? 0 : q->m->units[unit].first;
    int64_t end = unit < 0 ? q->m->nlinears : i + q->m->units[unit].count;
    while (i < end && q->at[i] != q->level)
        i++;
    return i < end;
}

static bool forward(const void *self, int unit)
{
    const LinearQuant *q = self;
    return q->data && (unit < 0 || used(q, unit));
}

static Status stage(void *self, UnitRun *u, FormStage stage, const FormTypes *t, Error *err)
{
    const LinearQuant *q = self;
    return layer_forms_stage(u->forms, q->level, stage, t, err);
}

static bool widens(const void *self, int unit)
{
    const LinearQuant *q = self;
    return q->widens && used(q, unit);
}

static const Processor run = {
    .divides = true,
    .needs = PROCESSOR_FORWARD,
    .start = start,
    .end = free,
    .forward = forward,
    .stage = stage,
    .widens = widens,
};

const ProcessorType processor_linear_quant = {
    .name = "linear_quant",
    .object = &linear_quant_object,
    .levels = true,
    .peer_divides = true,
    .peer_alone = "gptq",
    .run = &run,
};
