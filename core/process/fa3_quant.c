#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/block.h"
#include "process/names.h"
#include "process/processor.h"
#include "quant/headquant.h"
#include "save/attention.h"

/* fa3_quant (FAQuant, specs/quantization.md 10.4): attentions read queries, keys and values quantized, as they enter the score
 * and the sum; of multi-head latent attention the expanded ones. Scales of a head are found in the calibration pass, and are
 * written; those of a token or a block are found as attention runs, everywhere: in measurements, in generation, in engines. */

enum { PARTS = HEAD_PARTS };

typedef struct Fa3Settings {
    QSpec q[PARTS];
    bool has[PARTS];
    bool none; /* include: [] */
    NameLists attentions;
} Fa3Settings;

/* ---- its keys ---- */

static const Field detail_fields[] = {
    {.key = "fa_q", .type = F_OBJECT, .object = &qspec_object},
    {.key = "fa_k", .type = F_OBJECT, .object = &qspec_object},
    {.key = "fa_v", .type = F_OBJECT, .object = &qspec_object},
    FIELD_END,
};
static const Object details = {.fields = detail_fields};
static const Field fields[] = {
    FIELD_TYPE,
    {.key = "qconfig", .type = F_OBJECT, .object = &qspec_object, .nullable = true},
    FIELD_PATTERNS,
    {.key = "details", .type = F_OBJECT, .object = &details, .nullable = true},
    FIELD_END,
};

/* NULL: absent, or null. */
static const YamlNode *given(const YamlNode *map, const char *key)
{
    const YamlNode *v = yaml_get(map, key);
    return v && v->kind != YAML_NULL ? v : NULL;
}

/* The peer's loader takes any qconfig, its run only these. */
static void check_side(Check *c, const YamlNode *map)
{
    QSpec q;
    if (map && qspec_read(map, &q) && !head_quant_runs(&q))
        check_block(c, map, "fa3_quant runs with per_head or per_token int8 or fp8_e4m3 and per_block mxfp4 or mxfp8, symmetric "
                    "minmax, not with %s %s %s%s", qscope_name(q.scope), qtype_name(q.dtype), q.symmetric ? "" : "asymmetric ",
                    q.method);
}

static void check(Check *c, const YamlNode *map)
{
    const YamlNode *q = given(map, "qconfig"), *d = given(map, "details");
    if (q && d)
        check_fail(c, d, "qconfig and details exclude each other");
    else if (d && d->kind == YAML_MAP && d->count == 0)
        check_block(c, d, "details names none of fa_q, fa_k and fa_v: nothing would be quantized; leave fa3_quant out");
    check_side(c, q);
    for (int i = 0; d && i < PARTS; i++)
        check_side(c, yaml_get(d, attention_parts[i]));
}

static const void *settings(Arena *a, const YamlNode *map)
{
    const YamlNode *q = given(map, "qconfig"), *d = given(map, "details"), *include = yaml_get(map, "include");
    Fa3Settings *s = arena_alloc(a, sizeof *s);
    if (!s)
        return NULL;
    *s = (Fa3Settings){.none = include && include->kind == YAML_SEQ && include->count == 0};
    for (int i = 0; i < PARTS; i++) {
        const YamlNode *own = d ? yaml_get(d, attention_parts[i]) : q;
        s->q[i] = (QSpec){.dtype = QT_INT8, .scope = QS_PER_HEAD, .symmetric = true, .method = "minmax"};
        s->has[i] = own ? qspec_read(own, &s->q[i]) : !d;
    }
    return names_read(a, map, &s->attentions) ? s : NULL;
}

static const Object object = {.fields = fields, .check = check};

/* ---- which attentions ---- */

typedef struct Fa3 {
    const Model *m;
    const Fa3Settings *set;
    bool peer;
    bool fixed;       /* a part has scales that the calibration finds */
    HeadQuant *heads; /* [layers] .skip: attentions that it doesn't select */
    int *n;           /* [layers] attentions that it selects */
} Fa3;

static void end(void *self)
{
    Fa3 *f = self;
    for (int l = 0; f->heads && l < f->m->cfg.layers; l++)
        head_quant_fini(&f->heads[l]);
    free(f->heads);
    free(f->n);
    free(f);
}

/* Families whose adapters leave the peer's outermost queries and keys out of the range. */
static bool cuts_tails(const Model *m)
{
    static const char *const families[] = {"deepseek_v3", "deepseek_v32", "glm_moe_dsa"};
    for (size_t i = 0; m->arch && i < sizeof families / sizeof *families; i++)
        if (strcmp(m->arch->model_type, families[i]) == 0)
            return true;
    return false;
}

/* Whether attention reads queries, keys and values of its own, which are all that it reads. */
static bool has_parts(const Block *b)
{
    return b->type == &block_gqa || b->type == &block_mla;
}

static void make_heads(const Fa3 *f, int layer)
{
    static const double all[PARTS] = {1, 1, 1};
    HeadQuant *h = &f->heads[layer];
    *h = (HeadQuant){.m = f->m, .unit = layer, .T = DT_F32, .skip = {true, true}, .peer = f->peer};
    for (int i = 0; i < PARTS; i++) {
        h->spec[i] = &f->set->q[i];
        h->ratio[i] = !f->set->has[i] ? 0 : cuts_tails(f->m) ? head_ratios[i] : all[i];
    }
}

/* "'model.layers.0.attn' and 3 more", "": none. */
typedef struct Without {
    char first[256];
    int n;
} Without;

static Status select_layer(Fa3 *f, int layer, Without *without, Error *err)
{
    const Unit *u = &f->m->units[layer];
    char name[256];
    make_heads(f, layer);
    for (int nth = 0; nth < HEAD_ATTENTIONS && unit_block(u, ROLE_ATTENTION, nth) && !f->set->none; nth++) {
        bool on;
        unit_attention_name(f->m, layer, nth, name, sizeof name);
        if (!name[0])
            continue; /* linear attention has no scores */
        RETURN_IF_ERROR(names_select(&f->set->attentions, name, &on, err));
        if (on && !has_parts(unit_block(u, ROLE_ATTENTION, nth))) {
            if (without->n++ == 0)
                snprintf(without->first, sizeof without->first, "%s", name);
            on = false;
        }
        f->heads[layer].skip[nth] = !on;
        f->n[layer] += on;
    }
    return ST_OK;
}

static Status check_selection(const Fa3 *f, const Without *w, Error *err)
{
    static const char why[] = "what it reads are vectors that are key and value in one, and entries made of several tokens";
    char name[256] = "";
    int n = 0;
    for (int l = 0; l < f->m->cfg.layers; l++) {
        n += f->n[l];
        if (!name[0])
            unit_attention_name(f->m, l, 0, name, sizeof name);
    }
    if (!n && w->n)
        return error_set(err, ST_DATA, "'%s': fa3_quant is not applicable: %s: leave it out", w->first, why);
    if (n || f->peer)
        return ST_OK;
    return error_set(err, ST_DATA, "fa3_quant selects no attention: its patterns are of modules such as '%s'", name);
}

static void tell_without(const Without *w, const Work *work)
{
    char text[512];
    if (!w->n || !work->tell)
        return;
    snprintf(text, sizeof text, "fa3_quant: '%s' and %d more read keys that are values, too: they stay float", w->first, w->n - 1);
    work->tell(work->tell_ctx, text);
}

static Status start(void **self, const ProcessorCtx *ctx, Error *err)
{
    Fa3 *f = mem_zarray(1, sizeof *f);
    size_t layers = (size_t)ctx->model->cfg.layers;
    Without without = {.n = 0};
    if (!f)
        return error_nomem(err, "fa3_quant");
    *self = f;
    *f = (Fa3){.m = ctx->model, .set = ctx->step->settings, .peer = ctx->work->peer,
               .heads = mem_zarray(layers, sizeof *f->heads), .n = mem_zarray(layers, sizeof *f->n)};
    if (!f->heads || !f->n)
        return error_nomem(err, "fa3_quant");
    for (int i = 0; i < PARTS; i++)
        f->fixed = f->fixed || (f->set->has[i] && head_quant_static(&f->set->q[i]));
    for (int l = 0; l < f->m->cfg.layers; l++)
        RETURN_IF_ERROR(select_layer(f, l, &without, err));
    RETURN_IF_ERROR(check_selection(f, &without, err));
    tell_without(&without, ctx->work);
    return names_tell_attentions(&f->set->attentions, ctx->work, "fa3_quant", f->m, err);
}

/* ---- the run ---- */

static bool attends(const void *self, int unit)
{
    const Fa3 *f = self;
    for (int l = 0; unit < 0 && l < f->m->cfg.layers; l++)
        if (f->n[l])
            return true;
    return unit >= 0 && unit < f->m->cfg.layers && f->n[unit];
}

static bool forward(const void *self, int unit)
{
    const Fa3 *f = self;
    return f->fixed && attends(f, unit);
}

/* The peer's calibration only looks. */
static unsigned more(const void *self)
{
    const Fa3 *f = self;
    return forward(f, -1) ? f->peer ? PROCESSOR_FORWARD : PROCESSOR_FORWARD | PROCESSOR_WHOLE : 0;
}

static Status gather(void *ctx, Observer o, Error *err)
{
    return unit_gather(ctx, o, err);
}

static Status calibrate(const Fa3 *f, UnitRun *u, DType T, Error *err)
{
    HeadQuant *h = &f->heads[u->unit];
    head_quant_fini(h);
    h->T = T;
    h->gather = unit_dist(u) ? gather : NULL;
    h->ctx = u;
    if (f->fixed)
        RETURN_IF_ERROR(unit_observe(u, head_quant_observer(h), err));
    if (f->peer)
        return ST_OK;
    return attn_forms_add(&u->attn, f->fixed ? head_quant_calibrating(h) : head_quant_form(h), err);
}

static Status stage(void *self, UnitRun *u, FormStage stage, const FormTypes *t, Error *err)
{
    const Fa3 *f = self;
    if (!attends(f, u->unit))
        return ST_OK;
    if (stage == FORM_CALIBRATE)
        return calibrate(f, u, t->inner, err);
    if (stage != FORM_FIXED && stage != FORM_DEPLOYED)
        return ST_OK;
    if (!f->fixed)
        f->heads[u->unit].T = t->inner;
    return attn_forms_add(&u->attn, head_quant_form(&f->heads[u->unit]), err);
}

static Status learn(void *self, UnitRun *u, Error *err)
{
    const Fa3 *f = self;
    HeadQuant *h = attends(f, u->unit) ? &f->heads[u->unit] : NULL;
    if (!f->peer || !h || !h->n)
        return ST_OK;
    Status st = head_quant_fix(h, err);
    return st == ST_OK ? st : error_prefix(err, st, "layer %d: ", u->unit);
}

/* ---- what is written ---- */

static int64_t heads_of(const Fa3 *f, int layer, int part)
{
    const ModelConfig *c = f->m->units[layer].cfg;
    return part ? c->kv_heads : c->heads;
}

/* Calls fn for both tensors of each part of this attention that has some. */
typedef struct Fa3Tensor {
    char name[320];
    int part;
    bool offset;
} Fa3Tensor;

static bool next_tensor(const Fa3 *f, const char *attention, int *at, Fa3Tensor *out)
{
    for (; *at < 2 * PARTS; ++*at) {
        int part = *at / 2;
        if (!f->set->has[part] || !head_quant_static(&f->set->q[part]))
            continue;
        *out = (Fa3Tensor){.part = part, .offset = *at % 2};
        snprintf(out->name, sizeof out->name, "%s.%s.%s", attention, attention_parts[part], out->offset ? "offset" : "scale");
        ++*at;
        return true;
    }
    return false;
}

/* The entry that says what the attention reads: behind its first part's tensors, or in their place. */
static Status promise_entry(const Fa3 *f, SavePlan *plan, int layer, const char *attention, Error *err)
{
    AttentionPart part[PARTS] = {{QT_FLOAT, false}};
    char name[320], type[ATTENTION_TYPE_MAX];
    for (int i = 0; i < PARTS; i++)
        if (f->set->has[i])
            part[i] = (AttentionPart){f->set->q[i].dtype, !head_quant_static(&f->set->q[i])};
    attention_type(part, type);
    snprintf(name, sizeof name, "%s" ATTENTION_TYPE, attention);
    return save_changes_made(plan->changes, &(SaveMade){.name = name, .linear = -1, .layer = layer, .entry = type}, err);
}

static Status promise_attention(const Fa3 *f, SavePlan *plan, int layer, const char *attention, Error *err)
{
    Fa3Tensor t;
    int at = 0, n = 0;
    for (; next_tensor(f, attention, &at, &t); n++) {
        bool int8 = t.offset && f->set->q[t.part].dtype == QT_INT8;
        const SaveMade made = {.name = t.name, .linear = -1, .layer = layer, .int8 = int8, .ndim = 2,
                               .shape = {heads_of(f, layer, t.part), 1}, .label = ATTENTION_LABEL};
        if (n == 2)
            RETURN_IF_ERROR(promise_entry(f, plan, layer, attention, err));
        RETURN_IF_ERROR(save_changes_made(plan->changes, &made, err));
    }
    return promise_entry(f, plan, layer, attention, err);
}

static Status promise(void *self, DType inner, SavePlan *plan, Error *err)
{
    const Fa3 *f = self;
    char name[256];
    (void)inner;
    for (int l = 0; l < f->m->cfg.layers; l++)
        for (int nth = 0; nth < HEAD_ATTENTIONS; nth++) {
            if (f->heads[l].skip[nth])
                continue;
            unit_attention_name(f->m, l, nth, name, sizeof name);
            RETURN_IF_ERROR(promise_attention(f, plan, l, name, err));
        }
    return ST_OK;
}

/* Its side of the unit's attention, NULL: it was not seen. */
static const HeadSide *side_of(const HeadQuant *h, int nth, int part)
{
    for (int i = 0; i < h->n; i++)
        if ((h->linear[i] >= 0) == (nth > 0) && h->side[i][part].param)
            return &h->side[i][part];
    return NULL;
}

static Status give_attention(const Fa3 *f, const UnitRun *u, const Gifts *to, int nth, Error *err)
{
    char name[256];
    Fa3Tensor t;
    Status st = ST_OK;
    unit_attention_name(f->m, u->unit, nth, name, sizeof name);
    for (int at = 0; st == ST_OK && next_tensor(f, name, &at, &t);) {
        const HeadSide *s = side_of(&f->heads[u->unit], nth, t.part);
        int64_t n = heads_of(f, u->unit, t.part);
        float *v = s && s->heads == n ? mem_zarray((size_t)n, sizeof *v) : NULL;
        if (!s || s->heads != n)
            return error_set(err, ST_INTERNAL, "'%s' was not found", t.name);
        for (int64_t i = 0; v && !t.offset && i < n; i++)
            v[i] = s->param[i].scale;
        st = v ? to->tensor(to->self, &(SaveValues){.name = t.name, .n = n, .values = v}, err) : error_nomem(err, t.name);
        free(v);
    }
    return st;
}

static Status give(void *self, const UnitRun *u, const Gifts *to, Error *err)
{
    const Fa3 *f = self;
    for (int nth = 0; nth < HEAD_ATTENTIONS && attends(f, u->unit); nth++)
        if (!f->heads[u->unit].skip[nth])
            RETURN_IF_ERROR(give_attention(f, u, to, nth, err));
    return ST_OK;
}

static uint64_t bytes(const void *self, const PassSize *size)
{
    const Fa3 *f = self;
    return forward(f, -1) ? head_quant_bytes(f->m, false, size->samples) : 0;
}

static void hash(const void *settings, Hasher *h)
{
    const Fa3Settings *s = settings;
    for (int i = 0; i < PARTS; i++) {
        hasher_u64(h, s->has[i]);
        qspec_hash(h, &s->q[i]);
    }
    hasher_u64(h, s->none);
    names_hash(&s->attentions, h);
}

static const Processor run = {
    .divides = true,
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

const ProcessorType processor_fa3_quant = {
    .name = "fa3_quant",
    .object = &object,
    .peer_divides = true,
    .settings = settings,
    .run = &run,
};
