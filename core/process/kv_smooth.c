#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "model/block.h"
#include "process/cachewatch.h"
#include "process/names.h"
#include "process/processor.h"
#include "qir/round.h"
#include "run/source.h"

/* kv_smooth (specs/outlier_suppression.md 8): channels of the keys are divided by how large they become, those of the
 * queries multiplied by it, so that every score stays what it was and a cache of keys with one scale for many channels
 * loses less. Where keys are normed behind k_proj, the factors go into the norms of keys and queries, else into the rows of
 * k_proj and q_proj. Channels that are rotated together share a factor: a rotation commutes with nothing else. */

/* ---- its keys ---- */

typedef struct KvSettings {
    double factor; /* exponent of what a channel becomes */
    NameLists attentions;
} KvSettings;

static const Field fields[] = {
    FIELD_TYPE,
    {.key = "smooth_factor", .type = F_FLOAT, .bounded = true, .open = true, .lo = 0, .hi = 1e300},
    FIELD_PATTERNS,
    FIELD_END,
};
static const Object object = {.fields = fields};

static const void *settings(Arena *a, const YamlNode *map)
{
    KvSettings *k = arena_alloc(a, sizeof *k);
    if (!k)
        return NULL;
    *k = (KvSettings){.factor = 1};
    if (yaml_get(map, "smooth_factor"))
        lax_float(yaml_get(map, "smooth_factor"), &k->factor);
    return names_read(a, map, &k->attentions) ? k : NULL;
}

/* ---- which attentions ---- */

typedef struct KvSmooth {
    const Model *m;
    const KvSettings *set;
    bool peer;
    bool *on;         /* [layers] it selects the layer's attention */
    CacheWatch watch; /* of the present unit */
    DType T;          /* in which the keys of the present unit were computed */
} KvSmooth;

/* Attentions whose cache has no keys that a factor could go to. */
static const struct {
    const BlockType *type;
    const char *reason;
} without_keys[] = {
    {&block_mla, "its cache holds one latent vector for all heads, no keys"},
    {&block_compressed, "its cache holds one vector that is key and value of all heads"},
};

static Status refuse(const Block *b, const char *name, Error *err)
{
    for (size_t i = 0; i < sizeof without_keys / sizeof *without_keys; i++)
        if (b->type == without_keys[i].type)
            return error_set(err, ST_DATA, "'%s': kv_smooth can't be run: %s: leave it out with exclude", name,
                             without_keys[i].reason);
    return error_set(err, ST_DATA, "'%s': kv_smooth can't be run for attention of kind %s: leave it out with exclude", name,
                     b->type->name);
}

static Status select_layers(KvSmooth *s, const Work *w, Error *err)
{
    char name[256];
    int n = 0;
    for (int l = 0; l < s->m->cfg.layers; l++) {
        unit_attention_name(s->m, l, 0, name, sizeof name);
        if (!name[0])
            continue; /* linear attention has no cache of keys */
        RETURN_IF_ERROR(names_select(&s->set->attentions, name, &s->on[l], err));
        const Block *b = unit_block(&s->m->units[l], ROLE_ATTENTION, 0);
        if (s->on[l] && b->type != &block_gqa)
            return refuse(b, name, err);
        n += s->on[l];
    }
    if (!n && !s->peer)
        return error_set(err, ST_DATA, "kv_smooth selects no attention: its patterns are of modules such as '%s'",
                         name[0] ? name : "model.layers.3.self_attn");
    return names_tell_attentions(&s->set->attentions, w, "kv_smooth", s->m, err);
}

/* ---- what the channels are divided by ---- */

/* s[heads][d] from the largest absolute values most[heads][d]. The peer rounds as torch does on tensors of type T; a
 * channel that is always zero keeps the peer's 0, ours gives it the least there is. */
static void key_scales(const KvSmooth *k, const float *most, int heads, int d, int half, float *s)
{
    const DType T = k->peer ? k->T : DT_F32;
    const float exponent = round_to_dtype((float)k->set->factor, T), least = k->peer ? 0 : 1e-5f;
    for (int h = 0; h < heads; h++)
        for (int j = 0; j < d; j++) {
            int pair = j < half ? j + half : j < 2 * half ? j - half : j;
            s[h * d + j] = fmaxf(most[h * d + j], most[h * d + pair]);
        }
    for (int i = 0; i < heads * d; i++)
        s[i] = fmaxf(round_to_dtype(powf(s[i], exponent), T), least);
}

static Status scales_of(const KvSmooth *k, const Block *b, const ModelConfig *c, float **out, Error *err)
{
    const float *mn, *mx;
    int64_t n;
    RETURN_IF_ERROR(cache_watch_range(&k->watch, 0, &mn, &mx, &n, err));
    float *s = *out = mem_array(2 * (size_t)n, sizeof *s);
    if (!s)
        return error_nomem(err, "kv_smooth");
    float *most = s + n;
    for (int64_t i = 0; i < n; i++)
        most[i] = fmaxf(fabsf(mn[i]), fabsf(mx[i]));
    int d = c->head_dim;
    if (((const GqaConf *)b->conf)->qk_norm == QK_NORM_HEAD) /* one norm for all heads, one factor for all heads */
        for (int h = 1; h < c->kv_heads; h++)
            for (int j = 0; j < d; j++)
                most[j] = fmaxf(most[j], most[h * d + j]);
    if (((const GqaConf *)b->conf)->qk_norm == QK_NORM_HEAD)
        for (int64_t i = d; i < n; i++)
            most[i] = most[i - d];
    key_scales(k, most, c->kv_heads, d, b->rope ? b->rope->dim / 2 : 0, s);
    return ST_OK;
}

/* ---- where they go ---- */

/* The heads of queries or keys in a vector that holds other things as well. */
typedef struct HeadRows {
    int64_t first, stride; /* head h begins at first + h * stride */
    int heads, group;      /* `group` of them share a key head */
    bool divide;
} HeadRows;

/* v[..] by the factors s[kv heads][d], one for each channel of each head. */
static void apply(const HeadRows *r, const float *s, int d, float *v, float plus)
{
    for (int h = 0; h < r->heads; h++)
        for (int j = 0; j < d; j++) {
            float *x = &v[r->first + h * r->stride + j], f = s[h / r->group * d + j];
            *x = (r->divide ? (plus + *x) / f : (plus + *x) * f) - plus;
        }
}

static Status scale_rows(Overlay *o, const Model *m, int64_t linear, const HeadRows *r, const float *s, int d, Error *err)
{
    int64_t out = m->linears[linear].out;
    float *f = mem_array((size_t)out, sizeof *f);
    if (!f)
        return error_nomem(err, "kv_smooth");
    for (int64_t i = 0; i < out; i++)
        f[i] = 1;
    apply(r, s, d, f, 0);
    Status st = overlay_scale_outputs(o, linear, f, err);
    free(f);
    return st;
}

static Status scale_norm(UnitRun *u, const KvSmooth *k, const TensorInfo *t, const HeadRows *r, const float *s, int d,
                         Error *err)
{
    float *v;
    RETURN_IF_ERROR(source_small(runner_source(u->runner), NULL, t, &v, err));
    apply(r, s, d, v, k->m->cfg.norm == NORM_UNIT ? 1 : 0); /* such a norm multiplies by 1 + w */
    for (int64_t i = 0; i < t->shape[0] && k->peer; i++)
        v[i] = round_to_dtype(v[i], k->m->cfg.dtype);
    return overlay_replace_tensor(u->overlay, t, v, err);
}

static Status fold(UnitRun *u, const KvSmooth *k, const Block *b, const ModelConfig *c, const float *s, Error *err)
{
    const GqaConf *conf = b->conf;
    const int d = c->head_dim, group = c->heads / c->kv_heads;
    HeadRows q = {0, d, c->heads, group, false}, key = {0, d, c->kv_heads, 1, true};
    if (conf->qk_norm != QK_NORM_NONE) {
        if (conf->qk_norm == QK_NORM_HEAD)
            q.heads = q.group = key.heads = 1;
        RETURN_IF_ERROR(scale_norm(u, k, b->small[GQA_K_NORM], &key, s, d, err));
        return scale_norm(u, k, b->small[GQA_Q_NORM], &q, s, d, err);
    }
    if (conf->gate)
        q.stride = 2 * d; /* each head's rows are followed by those of its gate */
    if (conf->fused)
        key.first = (int64_t)c->heads * d;
    RETURN_IF_ERROR(scale_rows(u->overlay, k->m, b->linear[conf->fused ? GQA_Q : GQA_K], &key, s, d, err));
    return scale_rows(u->overlay, k->m, b->linear[GQA_Q], &q, s, d, err);
}

/* ---- the processor ---- */

static void end(void *self)
{
    KvSmooth *s = self;
    cache_watch_fini(&s->watch);
    free(s->on);
    free(s);
}

static Status start(void **self, const ProcessorCtx *ctx, Error *err)
{
    const Model *m = ctx->model;
    KvSmooth *s = mem_zarray(1, sizeof *s);
    if (!s)
        return error_nomem(err, "kv_smooth");
    *self = s;
    *s = (KvSmooth){.m = m, .set = ctx->step->settings, .peer = ctx->work->peer, .T = DT_F32,
                    .on = mem_zarray((size_t)m->cfg.layers, sizeof *s->on)};
    if (!s->on)
        return error_nomem(err, "kv_smooth");
    return select_layers(s, ctx->work, err);
}

static bool forward(const void *self, int unit)
{
    const KvSmooth *s = self;
    for (int l = 0; unit < 0 && l < s->m->cfg.layers; l++)
        if (s->on[l])
            return true;
    return unit >= 0 && unit < s->m->cfg.layers && s->on[unit];
}

static Status stage(void *self, UnitRun *u, FormStage stage, const FormTypes *t, Error *err)
{
    KvSmooth *s = self;
    if (stage != FORM_CALIBRATE || !forward(s, u->unit))
        return ST_OK;
    cache_watch_fini(&s->watch);
    s->watch = (CacheWatch){.layer = u->unit};
    s->T = t->inner;
    return unit_observe(u, cache_watch_observer(&s->watch), err);
}

static Status learn(void *self, UnitRun *u, Error *err)
{
    KvSmooth *s = self;
    if (!forward(s, u->unit))
        return ST_OK;
    const Unit *unit = &s->m->units[u->unit];
    const Block *b = unit_block(unit, ROLE_ATTENTION, 0);
    float *scales = NULL;
    RETURN_IF_ERROR(unit_gather(u, cache_watch_observer(&s->watch), err));
    Status st = scales_of(s, b, unit->cfg, &scales, err);
    if (st == ST_OK)
        st = fold(u, s, b, unit->cfg, scales, err);
    free(scales);
    cache_watch_fini(&s->watch);
    return st;
}

static void hash(const void *settings, Hasher *h)
{
    const KvSettings *k = settings;
    hasher_bytes(h, &k->factor, sizeof k->factor);
    names_hash(&k->attentions, h);
}

static const Processor run = {
    .divides = true,
    .needs = PROCESSOR_FORWARD | PROCESSOR_TURN,
    .start = start,
    .end = end,
    .forward = forward,
    .stage = stage,
    .learn = learn,
    .hash = hash,
};

const ProcessorType processor_kv_smooth = {
    .name = "kv_smooth",
    .object = &object,
    .settings = settings,
    .changes = true,
    .run = &run,
};
