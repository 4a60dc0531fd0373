#include <stdlib.h>

#include "base/mem.h"
#include "process/rotating.h"

/* quarot (specs/outlier_suppression.md 10): the model is turned so that outliers of a channel are spread over all of them,
 * and computes what it did. */

static const Field fields[] = {
    FIELD_TYPE,
    {.key = "online", .type = F_BOOL, .absent = "false"},
    FIELD_BLOCK_SIZE,
    {.key = "down_proj_online_layers", .type = F_INTS, .absent = "[]"},
    FIELD_TP_SIZE(1e9),
    {.key = "export_extra_info", .type = F_BOOL, .absent = "true"},
    FIELD_END,
};
static const Object object = {.fields = fields};

static const void *settings(Arena *a, const YamlNode *map)
{
    RotateSettings *s = arena_alloc(a, sizeof *s);
    return s && rotate_settings(a, map, s) ? s : NULL;
}

static void end(void *self)
{
    rotating_end(self);
    free(self);
}

static Status start(void **self, const ProcessorCtx *ctx, Error *err)
{
    Rotating *r = mem_zarray(1, sizeof *r);
    if (!r)
        return error_nomem(err, "quarot");
    *self = r;
    return rotating_start(r, ctx, ctx->step->settings, false, err);
}

static Status begin(void *self, UnitRun *u, Error *err)
{
    return rotating_begin(self, u, NULL, err);
}

static Status learn(void *self, UnitRun *u, Error *err)
{
    return rotating_learn(self, u, err);
}

static Status promise(void *self, DType inner, SavePlan *plan, Error *err)
{
    (void)inner;
    return rotating_promise(self, true, plan, err);
}

static Status give(void *self, const UnitRun *u, const Gifts *to, Error *err)
{
    return rotating_give(self, true, u, to, err);
}

static void hash(const void *settings, Hasher *h)
{
    rotate_hash(settings, h);
}

static const Processor run = {
    .divides = true,
    .needs = PROCESSOR_TURN | PROCESSOR_OUTPUTS | PROCESSOR_INPUTS,
    .start = start,
    .end = end,
    .begin = begin,
    .learn = learn,
    .give = give,
    .promise = promise,
    .hash = hash,
};

const ProcessorType processor_quarot = {
    .name = "quarot",
    .object = &object,
    .first = true,
    .peer_divides = true,
    .settings = settings,
    .changes = true,
    .run = &run,
};
