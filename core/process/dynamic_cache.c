#include "process/dynamic_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/block.h"
#include "process/cachewatch.h"
#include "process/processor.h"

/* dynamic_cache: scales of the keys and values of the attentions it selects, from what enters their cache (C8). They
 * are written, and that is all: in a forward, also of a measurement, attention reads keys and values as they are. */

/* ---- its keys ---- */

static const Field fields[] = {
    FIELD_TYPE,
    {.key = "qconfig", .type = F_OBJECT, .object = &qspec_object, .required = true},
    FIELD_PATTERNS,
    FIELD_END,
};

/* The peer's loader takes any qconfig, its run only this one. */
static void check(Check *c, const YamlNode *map)
{
    const YamlNode *qc = yaml_get(map, "qconfig");
    QSpec q;
    if (!qc || !qspec_read(qc, &q))
        return; /* said already */
    if (q.dtype != QT_INT8 || q.scope != QS_PER_CHANNEL || strcmp(q.method, "minmax") != 0)
        check_block(c, qc, "dynamic_cache runs with per_channel int8 minmax, not with %s %s %s", qscope_name(q.scope),
                    qtype_name(q.dtype), q.method);
    check_ext(c, qc, "qconfig", &q);
}

static const void *settings(Arena *a, const YamlNode *map)
{
    CacheSettings *k = arena_alloc(a, sizeof *k);
    if (!k)
        return NULL;
    *k = (CacheSettings){.attentions.ninclude = 0};
    qspec_read(yaml_get(map, "qconfig"), &k->q);
    return names_read(a, map, &k->attentions) ? k : NULL;
}

static const Object object = {.fields = fields, .check = check};

/* ---- which attentions ---- */

/* The i-th dynamic_cache of spec.process, NULL beyond the last. */
static const RecipeStep *cache_step(const Recipe *r, int i)
{
    const RecipeStage *main = recipe_stages(r) ? recipe_stage(r, recipe_stages(r) - 1) : NULL;
    for (int u = 0; main && u < main->nunits; u++)
        for (int k = 0; k < main->units[u].nsteps; k++)
            if (main->units[u].steps[k].processor == &processor_dynamic_cache && i-- == 0)
                return &main->units[u].steps[k];
    return NULL;
}

/* The first that selects this attention, NULL when none does. */
static Status cache_of(const Recipe *r, const char *attention, const RecipeStep **out, Error *err)
{
    bool on = false;
    *out = NULL;
    for (int i = 0; attention[0] && !on && (*out = cache_step(r, i)) != NULL; i++)
        RETURN_IF_ERROR(names_select(&((const CacheSettings *)(*out)->settings)->attentions, attention, &on, err));
    *out = on ? *out : NULL;
    return ST_OK;
}

Status cache_layers(const Recipe *r, const Model *m, bool *on, int *steps, Error *err)
{
    char name[512];
    for (*steps = 0; cache_step(r, *steps); ++*steps)
        ;
    for (int l = 0; l < m->cfg.layers; l++) {
        const RecipeStep *s = NULL;
        for (int nth = 0; unit_block(&m->units[l], ROLE_ATTENTION, nth) && !s; nth++) {
            unit_attention_name(m, l, nth, name, sizeof name);
            RETURN_IF_ERROR(cache_of(r, name, &s, err));
        }
        on[l] = s != NULL;
    }
    return ST_OK;
}

/* ---- the processor ---- */

typedef struct DynamicCache {
    const Model *m;
    const CacheSettings *set;
    bool first; /* of the recipe's */
    bool last_sample;
    bool *on;   /* [layers] it selects the layer's attention */
    CacheWatch watch; /* of the present unit */
    DType T;    /* in which that computes */
} DynamicCache;

static void end(void *self)
{
    DynamicCache *d = self;
    cache_watch_fini(&d->watch);
    free(d->on);
    free(d);
}

static Status start(void **self, const ProcessorCtx *ctx, Error *err)
{
    const Model *m = ctx->model;
    const Recipe *r = ctx->work->recipe;
    char name[256];
    DynamicCache *d = mem_zarray(1, sizeof *d);
    if (!d)
        return error_nomem(err, "dynamic_cache");
    *self = d;
    *d = (DynamicCache){.m = m, .set = ctx->step->settings, .first = cache_step(r, 0) == ctx->step,
                        .last_sample = ctx->work->peer, .T = DT_F32,
                        .on = mem_zarray((size_t)m->cfg.layers, sizeof *d->on)};
    if (!d->on)
        return error_nomem(err, "dynamic_cache");
    for (int l = 0; l < m->cfg.layers; l++) { /* no scales for what the decoder does not run */
        const RecipeStep *s;
        unit_attention_name(m, l, 0, name, sizeof name);
        RETURN_IF_ERROR(cache_of(r, name, &s, err));
        d->on[l] = s == ctx->step;
    }
    return names_tell_attentions(&d->set->attentions, ctx->work, "dynamic_cache", m, err);
}

static bool forward(const void *self, int unit)
{
    const DynamicCache *d = self;
    return unit < 0 || (unit < d->m->cfg.layers && d->on[unit]);
}

static Status stage(void *self, UnitRun *u, FormStage stage, const FormTypes *t, Error *err)
{
    DynamicCache *d = self;
    if (stage != FORM_CALIBRATE || !u->gives || !forward(d, u->unit))
        return ST_OK;
    cache_watch_fini(&d->watch);
    d->watch = (CacheWatch){.layer = u->unit, .last = d->last_sample};
    d->T = t->inner;
    return unit_observe(u, cache_watch_observer(&d->watch), err);
}

static Status give(void *self, const UnitRun *u, const Gifts *to, Error *err)
{
    const DynamicCache *d = self;
    float *scale[2] = {NULL, NULL}, *offset[2];
    int64_t n[2];
    char name[256];
    if (!forward(d, u->unit))
        return ST_OK;
    unit_attention_name(d->m, u->unit, 0, name, sizeof name);
    Status st = ST_OK;
    for (int i = 0; i < 2 && st == ST_OK; i++)
        st = cache_watch_params(&d->watch, i, &d->set->q, d->T, &scale[i], &offset[i], &n[i], err);
    if (st == ST_OK && n[0] != n[1])
        st = error_set(err, ST_DATA, "'%s': keys are %lld wide and values %lld: C8 can't be written", name,
                       (long long)n[0], (long long)n[1]);
    if (st == ST_OK)
        st = to->cache(to->self, &(SaveCache){.layer = u->unit, .attention = name, .n = n[0], .k_scale = scale[0],
                                              .k_offset = offset[0], .v_scale = scale[1], .v_offset = offset[1],
                                              .dtype = d->T}, err);
    free(scale[0]);
    free(scale[1]);
    return st;
}

/* Scales are found in the dtype of keys and values: float32 behind deployed linears (specs/formats.md 6). */
static Status promise(void *self, DType inner, SavePlan *plan, Error *err)
{
    const DynamicCache *d = self;
    if (d->first)
        plan->cache_dtype = inner;
    for (int l = 0; l < d->m->cfg.layers; l++)
        if (d->on[l] && unit_block(&d->m->units[l], ROLE_ATTENTION, 1))
            return error_set(err, ST_DATA, "layer %d has two attentions: dynamic_cache can't be run for this model", l);
    return ST_OK;
}

static void hash(const void *settings, Hasher *h)
{
    const CacheSettings *k = settings;
    hasher_u64(h, (uint64_t)k->q.dtype << 1 | k->q.symmetric);
}

static const Processor run = {
    .needs = PROCESSOR_FORWARD,
    .start = start,
    .end = end,
    .forward = forward,
    .stage = stage,
    .give = give,
    .promise = promise,
    .hash = hash,
};

const ProcessorType processor_dynamic_cache = {
    .name = "dynamic_cache",
    .object = &object,
    .settings = settings,
    .run = &run,
};
