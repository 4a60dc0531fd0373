#include "process/smooth.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "qir/round.h"

/* iter_smooth and smooth_quant (specs/outlier_suppression.md 3, 4): s = a^alpha / w^(1 - alpha), a the largest input and w
 * the largest weight of a channel. smooth_quant is the same for norms alone. */

typedef struct IterSettings {
    SmoothSettings common;
    double alpha, scale_min;
} IterSettings;

static const void *settings(Arena *a, const YamlNode *map, double alpha)
{
    IterSettings *s = arena_alloc(a, sizeof *s);
    if (!s)
        return NULL;
    *s = (IterSettings){.alpha = alpha, .scale_min = 1e-5};
    if (yaml_get(map, "alpha"))
        lax_float(yaml_get(map, "alpha"), &s->alpha);
    if (yaml_get(map, "scale_min"))
        lax_float(yaml_get(map, "scale_min"), &s->scale_min);
    return smooth_settings(&s->common, a, map) ? s : NULL;
}

static void hash(const void *settings, Hasher *h)
{
    const IterSettings *s = settings;
    hasher_bytes(h, &s->alpha, sizeof s->alpha);
    hasher_bytes(h, &s->scale_min, sizeof s->scale_min);
    smooth_hash(&s->common, h);
}

/* ---- the scale ---- */

/* The peer's: powers in the dtypes of their tensors, the quotient in the wider one, the clamp in float32. */
static float peer_scale(const SmoothCtx *c, const IterSettings *s, float a, float w)
{
    DType wide = c->A == c->T ? c->T : DT_F32;
    float least = round_to_dtype(fmaxf(w, 1e-5f), c->T);
    float q = round_to_dtype(smooth_pow(c->A, a, s->alpha) / smooth_pow(c->T, least, 1 - s->alpha), wide);
    return round_to_dtype(q < (float)s->scale_min ? (float)s->scale_min : q, c->T); /* NaN stays */
}

/* Ours: a channel without input stays as it is; what is no number gives none. */
static float our_scale(const IterSettings *s, float a, float w)
{
    if (!isfinite(a) || !isfinite(w))
        return NAN;
    if (a == 0)
        return 1;
    float q = powf(a, (float)s->alpha) / powf(w < 1e-5f ? 1e-5f : w, (float)(1 - s->alpha));
    return q < (float)s->scale_min ? (float)s->scale_min : q;
}

/* In the peer's other types w is the largest weight, not the largest absolute one. */
static Status scale(const SmoothCtx *c, const Subgraph *g, const SmoothStats *stats, SmoothScale *out, Error *err)
{
    const IterSettings *set = c->settings;
    bool is_signed = c->peer && subgraph_folds(g) && g->type != SUBGRAPH_NORM_LINEAR;
    float *w = mem_array(2 * (size_t)g->width, sizeof *w);
    if (!w)
        return error_nomem(err, g->key);
    float *s = w + g->width;
    Status st = smooth_columns(c, g, is_signed, w, err);
    for (int64_t i = 0; i < g->width && st == ST_OK; i++)
        s[i] = c->peer ? peer_scale(c, set, stats->most[i], w[i]) : our_scale(set, stats->most[i], w[i]);
    bool share = subgraph_shares(g);
    if (st == ST_OK && share)
        smooth_share(c, &g->ov, s, out);
    for (int64_t i = 0; i < g->width && st == ST_OK && !share; i++)
        out->target[i] = s[i];
    for (int64_t i = 0; i < g->width && out->shift; i++)
        out->shift[i] = stats->shift[i];
    out->shifted = out->shift != NULL;
    free(w);
    return st;
}

/* ---- iter_smooth ---- */

#define ALPHA(deflt) {.key = "alpha", .type = F_FLOAT, .bounded = true, .open = true, .lo = 0, .hi = 1, .absent = deflt}

const SmoothMethod iter_smooth_method = {
    .name = "iter_smooth",
    .needs = SMOOTH_MINMAX,
    .user = SUBGRAPH_ITER,
    .types = SMOOTH_EVERY_TYPE,
    .run_time = true,
    .peer_norms = SMOOTH_NORMS_SHIFTED,
    .scale = scale,
};

static const Field iter_fields[] = {
    FIELD_TYPE,
    ALPHA("0.9"),
    {.key = "scale_min", .type = F_FLOAT, .bounded = true, .open = true, .lo = 0, .hi = 1, .absent = "1e-05"},
    {.key = "symmetric", .type = F_BOOL, .absent = "true"},
    FIELD_SUBGRAPHS,
    FIELD_PATTERNS_OR_NULL,
    FIELD_END,
};
static const Object iter_object = {.fields = iter_fields, .check = smooth_check};

static const void *iter_settings(Arena *a, const YamlNode *map)
{
    return settings(a, map, 0.9);
}

static Status iter_start(void **self, const ProcessorCtx *ctx, Error *err)
{
    return smooth_start(self, ctx, &iter_smooth_method, err);
}

static const Processor iter_run = {SMOOTH_PROCESSOR, .start = iter_start, .hash = hash};
const ProcessorType processor_iter_smooth = {
    .name = "iter_smooth", .object = &iter_object, .settings = iter_settings, .changes = true, .peer_divides = true,
    .run = &iter_run};

/* ---- smooth_quant ---- */

const SmoothMethod smooth_quant_method = {
    .name = "smooth_quant",
    .needs = SMOOTH_MINMAX,
    .user = SUBGRAPH_SMOOTH,
    .types = 1u << SUBGRAPH_NORM_LINEAR,
    .peer_norms = SMOOTH_NORMS_BIAS,
    .scale = scale,
};

static const Field quant_fields[] = {
    FIELD_TYPE, ALPHA("0.5"), {.key = "symmetric", .type = F_BOOL, .absent = "true"}, FIELD_PATTERNS_OR_NULL, FIELD_END};
static const Object quant_object = {.fields = quant_fields};

static const void *quant_settings(Arena *a, const YamlNode *map)
{
    return settings(a, map, 0.5);
}

static Status quant_start(void **self, const ProcessorCtx *ctx, Error *err)
{
    return smooth_start(self, ctx, &smooth_quant_method, err);
}

static const Processor quant_run = {SMOOTH_PROCESSOR, .start = quant_start, .hash = hash};
const ProcessorType processor_smooth_quant = {
    .name = "smooth_quant", .object = &quant_object, .settings = quant_settings, .changes = true,
    .run = &quant_run};
