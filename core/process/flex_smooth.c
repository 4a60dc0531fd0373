#include "process/smooth.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "qir/round.h"
#include "quant/flexsearch.h"
#include "quant/products.h"
#include "quant/quantizer.h"

/* flex_smooth_quant and flex_awq_ssz (specs/outlier_suppression.md 5, 6): exponents that are searched for at each
 * sub-graph, on a sample of the tokens that calibration shows it. */

/* Rows of each input that ours keeps for the search, evenly spread over the texts: errors of so many tell exponents apart,
 * and the search costs about as much as a pass over ten thousand tokens. Statistics are of all tokens. */
enum { FLEX_TOKENS = 256, EXPERT_TOKENS = 16 };

typedef struct FlexSettings {
    SmoothSettings common;
    bool has_alpha, has_beta;
    double alpha, beta;
    bool quantized; /* flex_awq_ssz: by q */
    QConfig q;
} FlexSettings;

/* ---- keys ---- */

#define EXPONENT(name) {.key = name, .type = F_FLOAT, .bounded = true, .open = true, .lo = 0, .hi = 1, .absent = "null"}

static const void *settings(Arena *a, const YamlNode *map)
{
    FlexSettings *s = arena_alloc(a, sizeof *s);
    if (!s)
        return NULL;
    *s = (FlexSettings){.has_alpha = yaml_get(map, "alpha") != NULL, .has_beta = yaml_get(map, "beta") != NULL};
    if (s->has_alpha)
        lax_float(yaml_get(map, "alpha"), &s->alpha);
    if (s->has_beta)
        lax_float(yaml_get(map, "beta"), &s->beta);
    const YamlNode *q = yaml_get(map, "qconfig");
    s->quantized = q != NULL;
    s->q.act = (QSpec){.dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .symmetric = true, .method = "none"};
    if (q && yaml_get(q, "act"))
        qspec_read(yaml_get(q, "act"), &s->q.act);
    if (q)
        qspec_read(yaml_get(q, "weight"), &s->q.weight);
    return smooth_settings(&s->common, a, map) ? s : NULL;
}

static void hash(const void *settings, Hasher *h)
{
    const FlexSettings *s = settings;
    hasher_u64(h, (uint64_t)(s->has_alpha + 2 * s->has_beta + 4 * s->quantized));
    hasher_bytes(h, &s->alpha, sizeof s->alpha);
    hasher_bytes(h, &s->beta, sizeof s->beta);
    if (s->quantized) {
        qspec_hash(h, &s->q.act);
        qspec_hash(h, &s->q.weight);
    }
    smooth_hash(&s->common, h);
}

static void check_smooth(Check *c, const YamlNode *map)
{
    const YamlNode *alpha = yaml_get(map, "alpha"), *beta = yaml_get(map, "beta");
    smooth_check(c, map);
    if (!alpha != !beta)
        check_note(c, alpha ? alpha : beta, "%s alone: the peer passes it over and searches for both; here it holds, and %s "
                   "is searched for", alpha ? "alpha" : "beta", alpha ? "beta" : "alpha");
}

static void check_side(Check *c, const YamlNode *q, const char *side)
{
    const YamlNode *map = yaml_get(q, side);
    QSpec s;
    if (!map || !qspec_read(map, &s))
        return; /* said already */
    const bool act = strcmp(side, "act") == 0;
    char lack[LACK_MAX];
    if (act ? !act_quantizer_find(&s) : !weight_quantizer_find(&s))
        check_block(c, map, "flex_awq_ssz: %s for %s", smooth_lacks(&s, lack), act ? "an activation" : "a weight");
    check_ext(c, map, side, &s);
}

static void check_awq(Check *c, const YamlNode *map)
{
    const YamlNode *q = yaml_get(map, "qconfig");
    smooth_check(c, map);
    if (yaml_get(map, "beta"))
        check_note(c, yaml_get(map, "beta"), "beta has no effect in flex_awq_ssz, as in the peer: its scales go by the "
                   "input alone");
    size_t was = check_push(c, "qconfig");
    if (q) {
        check_side(c, q, "act");
        check_side(c, q, "weight");
    }
    check_pop(c, was);
}

/* ---- one sub-graph ---- */

typedef struct Flex {
    const SmoothCtx *c;
    const FlexSettings *set;
    const Subgraph *g;
    const SmoothStats *stats;
    float *a, *w;      /* [width] of the inputs, largest |W| */
    float *tokens;     /* the peer's, of the weights' dtype; NULL: as they are */
    FlexTarget *target;
    int64_t *linear;   /* [n] of target; under peer: [njoined], one below the other */
    float **bias;      /* [n] */
    int n, njoined;
} Flex;

static bool by_peer(const Flex *f)
{
    return f->c->peer;
}

/* The peer's single target has the weights of several one below the other. */
static Status target_weight(void *ctx, int i, float *w, Error *err)
{
    const Flex *f = ctx;
    if (!by_peer(f))
        return runner_weight(f->c->runner, f->linear[i], -1, w, err);
    for (int k = 0; k < f->njoined; k++) {
        RETURN_IF_ERROR(runner_weight(f->c->runner, f->linear[k], -1, w, err));
        w += f->c->model->linears[f->linear[k]].out * f->g->width;
    }
    return ST_OK;
}

/* The peer's search of flex_awq_ssz looks at two of more than three. */
static void join_targets(Flex *f)
{
    const Subgraph *g = f->g;
    f->n = 1;
    f->njoined = f->set->quantized && g->type == SUBGRAPH_NORM_LINEAR && g->ntargets > 3 ? 2
                 : g->type == SUBGRAPH_NORM_LINEAR || !subgraph_folds(g)                 ? g->ntargets
                                                                                         : 1;
    f->target[0] = (FlexTarget){.x = f->tokens ? f->tokens : f->stats->tokens, .rows = f->stats->ntokens};
    for (int k = 0; k < f->njoined; k++) {
        f->linear[k] = g->targets[k];
        f->target[0].out += f->c->model->linears[g->targets[k]].out;
    }
}

static bool is_expert(const Flex *f, int64_t linear)
{
    return f->c->model->linears[linear].expert >= 0;
}

/* Experts see some of the tokens each, so the search looks at as many products as a pass makes. */
static int64_t expert_rows(const Flex *f)
{
    const MoeConfig *m = &f->c->model->cfg.moe;
    int64_t all = f->stats->ntokens, share = m->experts ? div_up(all * m->top_k, m->experts) : all;
    return min_i64(all, max_i64(share, EXPERT_TOKENS));
}

/* Every weight that is quantized: a router isn't. Experts that read the same input take turns at its tokens. */
static void own_targets(Flex *f)
{
    const Subgraph *g = f->g;
    int experts = 0;
    bool shared = g->ntargets > 2; /* one expert's own channels are its tokens' */
    for (int k = 0; k < g->ntargets; k++) {
        const Linear *l = &f->c->model->linears[g->targets[k]];
        if (l->kind == LK_ROUTER)
            continue;
        FlexTarget *t = &f->target[f->n];
        *t = (FlexTarget){.x = f->stats->tokens, .rows = f->stats->ntokens, .out = l->out};
        if (shared && is_expert(f, g->targets[k])) {
            t->rows = expert_rows(f);
            int64_t places = f->stats->ntokens - t->rows + 1, at = (int64_t)experts++ * t->rows % places;
            t->x += at * g->width;
        }
        f->linear[f->n++] = g->targets[k];
    }
}

/* Biases count where the deployed linear would have them: not in the peer's join of a norm's readers. */
static Status read_biases(Flex *f, Error *err)
{
    bool wanted = f->set->quantized && (!by_peer(f) || f->g->type != SUBGRAPH_NORM_LINEAR);
    for (int i = 0; i < f->n && wanted; i++) {
        RETURN_IF_ERROR(runner_bias(f->c->runner, f->linear[i], &f->bias[i], err));
        f->target[i].bias = f->bias[i];
    }
    return ST_OK;
}

static Status flex_init(Flex *f, Error *err)
{
    const size_t width = (size_t)f->g->width, n = (size_t)f->g->ntargets, rows = (size_t)f->stats->ntokens;
    const DType T = f->c->T;
    bool cast = by_peer(f) && T != DT_F32 && f->c->A != T;
    f->a = mem_array(2 * width, sizeof *f->a);
    f->target = mem_zarray(n, sizeof *f->target);
    f->linear = mem_zarray(n, sizeof *f->linear);
    f->bias = mem_zarray(n, sizeof *f->bias);
    f->tokens = cast ? mem_array(rows * width, sizeof *f->tokens) : NULL;
    if (!f->a || !f->target || !f->linear || !f->bias || (cast && !f->tokens))
        return error_nomem(err, f->g->key);
    f->w = f->a + width;
    for (size_t i = 0; cast && i < rows * width; i++)
        f->tokens[i] = round_to_dtype(f->stats->tokens[i], T);
    const float *a = f->set->quantized && !by_peer(f) ? f->stats->mean : f->stats->most;
    for (size_t j = 0; j < width; j++)
        f->a[j] = cast ? round_to_dtype(a[j], T) : a[j];
    if (by_peer(f))
        join_targets(f);
    else
        own_targets(f);
    return read_biases(f, err);
}

static void flex_fini(Flex *f)
{
    for (int i = 0; f->bias && i < f->n; i++)
        free(f->bias[i]);
    free(f->a);
    free(f->tokens);
    free(f->target);
    free(f->linear);
    free(f->bias);
}

static FlexScale scale_of(const Flex *f, const float *a)
{
    const Subgraph *g = f->g;
    bool share = subgraph_shares(g);
    return (FlexScale){.a = a, .w = f->set->quantized ? NULL : f->w, .in = g->width, .heads = share ? g->ov.heads : 0,
                       .kv_heads = share ? g->ov.kv_heads : 0,
                       .mean = by_peer(f) && !f->set->quantized && !g->ov.group_max, .T = f->c->T, .A = f->c->A};
}

/* The peer takes an exponent that is given only with the other one. */
static bool is_given(const FlexSettings *s)
{
    return s->has_alpha && (s->has_beta || s->quantized);
}

static Status find_exponents(const Flex *f, double *alpha, double *beta, Error *err)
{
    const FlexSettings *s = f->set;
    FlexTask t = {.targets = f->target, .n = f->n, .scale = scale_of(f, f->a), .weight = target_weight,
                  .ctx = (void *)(uintptr_t)f, .q = s->quantized ? &s->q : NULL, .peer = by_peer(f),
                  .pool = runner_pool(f->c->runner), .cancel = runner_cancel(f->c->runner), .dist = unit_dist(f->c->unit)};
    FlexFound found;
    *alpha = s->alpha;
    *beta = s->quantized ? 0 : s->beta;
    if (is_given(s))
        return ST_OK;
    if (by_peer(f)) {
        t.scale.A = t.scale.T;
    } else if (!s->quantized) {
        t.has_alpha = s->has_alpha;
        t.has_beta = s->has_beta;
        t.alpha = s->alpha;
        t.beta = s->beta;
    }
    RETURN_IF_ERROR(flex_search(&t, &found, err));
    if (!found.any && !by_peer(f))
        return error_set(err, ST_DATA,
                         "'%s': no exponent gives an error that is a number: its inputs or weights hold NaN or Inf, or values "
                         "beyond float32; leave it out with exclude", f->g->key);
    *alpha = found.alpha;
    *beta = found.beta;
    return ST_OK;
}

static Status scale(const SmoothCtx *c, const Subgraph *g, const SmoothStats *stats, SmoothScale *out, Error *err)
{
    Flex f = {.c = c, .set = c->settings, .g = g, .stats = stats};
    double alpha, beta;
    Status st = flex_init(&f, err);
    if (st == ST_OK)
        st = smooth_columns(c, g, false, f.w, err);
    if (st == ST_OK)
        st = find_exponents(&f, &alpha, &beta, err);
    if (st == ST_OK) { /* flex_awq_ssz by the mean inputs: the peer's searches by the largest ones all the same */
        FlexScale s = scale_of(&f, f.set->quantized ? stats->mean : stats->most);
        flex_scales(&s, c->peer, alpha, beta, out->target, out->source);
    }
    flex_fini(&f);
    return st;
}

/* ---- the rows ---- */

static uint64_t bytes(const void *settings, const Model *m, const Subgraph *g, const PassSize *size, bool peer)
{
    const FlexSettings *s = settings;
    int64_t out = 0, sum = 0, rows = peer ? pass_rows(size) : min_i64(pass_rows(size), FLEX_TOKENS);
    for (int i = 0; i < g->ntargets; i++) {
        out = max_i64(out, m->linears[g->targets[i]].out);
        sum += m->linears[g->targets[i]].out;
    }
    if (is_given(s))
        return 0;
    return flex_search_bytes(s->quantized ? &s->q : NULL, rows, peer ? sum : out, g->width, peer, size->threads);
}

/* What both methods have in common. */
#define FLEX_METHOD                                                                                                        \
    .user = SUBGRAPH_FLEX, .types = SMOOTH_EVERY_TYPE, .run_time = true, .tokens = FLEX_TOKENS, .scale = scale, .bytes = bytes

static const SmoothMethod smooth_method = {
    .name = "flex_smooth_quant",
    .needs = SMOOTH_MINMAX | SMOOTH_TOKENS,
    FLEX_METHOD,
};

static const Field smooth_fields[] = {
    FIELD_TYPE,
    EXPONENT("alpha"),
    EXPONENT("beta"),
    FIELD_SUBGRAPHS,
    FIELD_PATTERNS_OR_NULL,
    FIELD_END,
};
static const Object smooth_object = {.fields = smooth_fields, .check = check_smooth};

static Status smooth_begin(void **self, const ProcessorCtx *ctx, Error *err)
{
    return smooth_start(self, ctx, &smooth_method, err);
}

static const Processor smooth_run = {SMOOTH_PROCESSOR, .start = smooth_begin, .hash = hash};
const ProcessorType processor_flex_smooth_quant = {
    .name = "flex_smooth_quant", .object = &smooth_object, .settings = settings, .changes = true, .peer_divides = true,
    .run = &smooth_run};

static const SmoothMethod awq_method = {
    .name = "flex_awq_ssz",
    .needs = SMOOTH_MINMAX | SMOOTH_MEAN | SMOOTH_TOKENS,
    FLEX_METHOD,
};

static const Field awq_fields[] = {
    FIELD_TYPE, EXPONENT("alpha"), EXPONENT("beta"),
    {.key = "qconfig", .type = F_OBJECT, .object = &qconfig_object, .required = true},
    FIELD_SUBGRAPHS,
    FIELD_PATTERNS_OR_NULL,
    FIELD_END,
};
static const Object awq_object = {.fields = awq_fields, .check = check_awq};

/* What quantizes in the search has to be there before anything runs. */
static Status check_quantizers(const ProcessorCtx *ctx, Error *err)
{
    const FlexSettings *s = ctx->step->settings;
    const QSpec plain = fake_weight_spec(&s->q.weight), *bad = NULL;
    if (!act_quantizer_find(&s->q.act))
        bad = &s->q.act;
    else if (!weight_quantizer_find(&plain))
        bad = &s->q.weight;
    if (!bad)
        return ST_OK;
    char lack[LACK_MAX];
    return error_set(err, ST_DATA, "line %d: flex_awq_ssz: %s for %s", ctx->step->line, smooth_lacks(bad, lack),
                     bad == &s->q.act ? "an activation" : "a weight");
}

static Status awq_begin(void **self, const ProcessorCtx *ctx, Error *err)
{
    RETURN_IF_ERROR(check_quantizers(ctx, err));
    return smooth_start(self, ctx, &awq_method, err);
}

static const Processor awq_run = {SMOOTH_PROCESSOR, .start = awq_begin, .hash = hash};
const ProcessorType processor_flex_awq_ssz = {
    .name = "flex_awq_ssz", .object = &awq_object, .settings = settings, .changes = true, .peer_divides = true,
    .run = &awq_run};
