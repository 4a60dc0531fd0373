#include "process/dynamic_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/block.h"
#include "process/cachewatch.h"
#include "process/processor.h"
#include "qir/intquant.h"

/* dynamic_cache: scales of the keys and values of the attentions it selects, from what enters their cache (C8). They are
 * written, and attention reads keys and values as the cache has them: from the unit's calibration on, in measurements and in
 * generation. The peer's calibration leaves them alone. */

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

enum { SIDES = 4 }; /* of CacheWatch */

/* Scales and offsets of one layer. */
typedef struct LayerCache {
    struct DynamicCache *of;
    float *scale[SIDES], *offset[SIDES]; /* [n]; NULL: not known */
    int64_t n[SIDES];
    DType T; /* in which they were found */
} LayerCache;

typedef struct DynamicCache {
    const Model *m;
    const CacheSettings *set;
    bool first; /* of the recipe's */
    bool peer;
    bool *on;   /* [layers] it selects the layer's attention */
    LayerCache *layer; /* [layers] */
    CacheWatch watch; /* of the present unit */
    const UnitRun *unit;
    DType T;    /* in which that computes */
} DynamicCache;

static void drop_scales(LayerCache *l)
{
    for (int i = 0; i < SIDES; i++) {
        free(l->scale[i]);
        l->scale[i] = l->offset[i] = NULL;
    }
}

static void end(void *self)
{
    DynamicCache *d = self;
    cache_watch_fini(&d->watch);
    for (int i = 0; d->layer && i < d->m->cfg.layers; i++)
        drop_scales(&d->layer[i]);
    free(d->layer);
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
                        .peer = ctx->work->peer, .T = DT_F32,
                        .on = mem_zarray((size_t)m->cfg.layers, sizeof *d->on),
                        .layer = mem_zarray((size_t)m->cfg.layers, sizeof *d->layer)};
    if (!d->on || !d->layer)
        return error_nomem(err, "dynamic_cache");
    for (int l = 0; l < m->cfg.layers; l++) { /* no scales for what the decoder does not run */
        const RecipeStep *s;
        unit_attention_name(m, l, 0, name, sizeof name);
        RETURN_IF_ERROR(cache_of(r, name, &s, err));
        d->on[l] = s == ctx->step;
        d->layer[l].of = d;
    }
    return names_tell_attentions(&d->set->attentions, ctx->work, "dynamic_cache", m, err);
}

static bool forward(const void *self, int unit)
{
    const DynamicCache *d = self;
    return unit < 0 || (unit < d->m->cfg.layers && d->on[unit]);
}

static bool attends(const void *self, int unit)
{
    const DynamicCache *d = self;
    for (int l = 0; unit < 0 && l < d->m->cfg.layers; l++)
        if (d->on[l])
            return true;
    return unit >= 0 && forward(self, unit);
}

static unsigned more(const void *self)
{
    const DynamicCache *d = self;
    return !d->peer && attends(self, -1) ? PROCESSOR_WHOLE : 0;
}

/* Scales and offsets of what was watched, once. */
static Status fix(DynamicCache *d, LayerCache *l, Error *err)
{
    l->T = d->T;
    for (int i = 0; i < SIDES; i++)
        if (!l->scale[i] && (i < 2 || d->watch.side[i].done))
            RETURN_IF_ERROR(cache_watch_params(&d->watch, i, &d->set->q, d->T, &l->scale[i], &l->offset[i], &l->n[i], err));
    return ST_OK;
}

/* Of a layer's two attentions the first is told, and fixed, before the second was seen. */
static Status prepare(void *self, int64_t linear, Error *err)
{
    LayerCache *l = self;
    (void)linear;
    RETURN_IF_ERROR(unit_gather(l->of->unit, cache_watch_observer(&l->of->watch), err));
    return fix(l->of, l, err);
}

static void replace(void *self, int64_t linear, int part, float *x, int64_t rows, int64_t ld)
{
    const LayerCache *l = self;
    int side = (linear < 0 ? 0 : 2) + part - 1;
    for (int64_t r = 0; part > 0 && l->scale[side] && r < rows; r++)
        intquant_fake_each(x + r * ld, l->n[side], l->scale[side], l->offset[side], 8, l->T, x + r * ld);
}

static Status calibrate(DynamicCache *d, UnitRun *u, const FormTypes *t, Error *err)
{
    cache_watch_fini(&d->watch);
    drop_scales(&d->layer[u->unit]);
    d->watch = (CacheWatch){.layer = u->unit, .last = d->peer};
    d->T = t->inner;
    d->unit = u;
    RETURN_IF_ERROR(unit_observe(u, cache_watch_observer(&d->watch), err));
    if (d->peer)
        return ST_OK;
    return attn_forms_add(&u->attn, (AttnForm){.prepare = prepare, .replace = replace, .self = &d->layer[u->unit]}, err);
}

static Status stage(void *self, UnitRun *u, FormStage stage, const FormTypes *t, Error *err)
{
    DynamicCache *d = self;
    if (!forward(d, u->unit))
        return ST_OK;
    if (stage == FORM_CALIBRATE)
        return calibrate(d, u, t, err);
    if (stage != FORM_FIXED)
        return ST_OK;
    return attn_forms_add(&u->attn, (AttnForm){.replace = replace, .self = &d->layer[u->unit]}, err);
}

/* Behind the peer's pass, which left keys and values alone. */
static Status learn(void *self, UnitRun *u, Error *err)
{
    DynamicCache *d = self;
    bool seen = forward(d, u->unit) && d->watch.layer == u->unit && d->watch.side[0].done;
    if (!d->peer || !seen)
        return ST_OK;
    RETURN_IF_ERROR(unit_gather(u, cache_watch_observer(&d->watch), err));
    return fix(d, &d->layer[u->unit], err);
}

static Status give(void *self, const UnitRun *u, const Gifts *to, Error *err)
{
    DynamicCache *d = self;
    char name[256];
    if (!forward(d, u->unit))
        return ST_OK;
    LayerCache *l = &d->layer[u->unit];
    unit_attention_name(d->m, u->unit, 0, name, sizeof name);
    RETURN_IF_ERROR(fix(d, l, err));
    if (l->n[0] != l->n[1])
        return error_set(err, ST_DATA, "'%s': keys are %lld wide and values %lld: C8 can't be written", name,
                         (long long)l->n[0], (long long)l->n[1]);
    return to->cache(to->self, &(SaveCache){.layer = u->unit, .attention = name, .n = l->n[0], .k_scale = l->scale[0],
                                            .k_offset = l->offset[0], .v_scale = l->scale[1], .v_offset = l->offset[1],
                                            .dtype = l->T}, err);
}

static uint64_t bytes(const void *self, const PassSize *size)
{
    const DynamicCache *d = self;
    const ModelConfig *c = &d->m->cfg;
    (void)size;
    return (uint64_t)c->layers * 2 * (uint64_t)c->kv_heads * (uint64_t)(c->head_dim + c->v_dim) * sizeof(float);
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
    names_hash(&k->attentions, h);
}

static const Processor run = {
    .divides = true,
    .needs = PROCESSOR_FORWARD,
    .more = more,
    .start = start,
    .end = end,
    .forward = forward,
    .attends = attends,
    .stage = stage,
    .learn = learn,
    .give = give,
    .promise = promise,
    .bytes = bytes,
    .hash = hash,
};

const ProcessorType processor_dynamic_cache = {
    .name = "dynamic_cache",
    .object = &object,
    .settings = settings,
    .run = &run,
};
