#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "process/processor.h"

/* float_sparse: the linears at its level lose a share of their values, by core/quant's admm. What is found in the forward over
 * the whole unit counts from the unit's second forward on, which everything behind it sees. */

typedef struct FloatSparse {
    const Model *m;
    const Work *work;
    int level;
    int last;              /* unit with its last linear, -1: none */
    int64_t zeros, values, weights;
} FloatSparse;

static bool at_level(const FloatSparse *s, int64_t i)
{
    return s->work->level[i] == s->level;
}

static bool used(const FloatSparse *s, int unit)
{
    const Unit *u = &s->m->units[unit];
    for (int64_t i = u->first; i < u->first + u->count; i++)
        if (at_level(s, i))
            return true;
    return false;
}

static Status start(void **self, const ProcessorCtx *ctx, Error *err)
{
    FloatSparse *s = mem_zarray(1, sizeof *s);
    if (!s)
        return error_nomem(err, "float_sparse");
    *s = (FloatSparse){.m = ctx->model, .work = ctx->work, .level = ctx->step->entry + 1, .last = model_depth(ctx->model) - 1};
    while (s->last >= 0 && !used(s, s->last))
        s->last--;
    *self = s;
    return ST_OK;
}

static bool forward(const void *self, int unit)
{
    const FloatSparse *s = self;
    return unit < 0 ? s->last >= 0 : used(s, unit);
}

static Status stage(void *self, UnitRun *u, FormStage stage, const FormTypes *t, Error *err)
{
    const FloatSparse *s = self;
    return layer_forms_stage(u->forms, s->level, stage, t, err);
}

/* Tells how many values are 0 by now. */
static void tell(const FloatSparse *s)
{
    char text[160];
    snprintf(text, sizeof text, "float_sparse: a share of %.4f of the values of %lld weights is 0",
             (double)s->zeros / (double)s->values, (long long)s->weights);
    if (s->work->tell && s->values)
        s->work->tell(s->work->tell_ctx, text);
}

static Status learn(void *self, UnitRun *u, Error *err)
{
    FloatSparse *s = self;
    (void)err;
    for (int64_t i = 0; i < u->n; i++) {
        int64_t zeros = at_level(s, u->first + i) ? layer_forms_zeros(u->forms, i) : -1;
        if (zeros < 0)
            continue;
        s->zeros += zeros;
        s->values += s->m->linears[u->first + i].out * s->m->linears[u->first + i].in;
        s->weights++;
    }
    if (u->unit == s->last)
        tell(s);
    return ST_OK;
}

static const Processor run = {
    .divides = true,
    .needs = PROCESSOR_FORWARD | PROCESSOR_AGAIN,
    .start = start,
    .end = free,
    .forward = forward,
    .stage = stage,
    .learn = learn,
};

const ProcessorType processor_float_sparse = {
    .name = "float_sparse",
    .object = &float_sparse_object,
    .levels = true,
    .run = &run,
};
