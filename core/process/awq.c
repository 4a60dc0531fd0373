#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "process/awqblock.h"
#include "quant/awqsearch.h"
#include "quant/products.h"
#include "quant/quantizer.h"

/* awq (specs/outlier_suppression.md 7): scales by the mean magnitude of a channel's inputs, as strong as the block's
 * output likes best when its weights are quantized. */

/* Tokens that ours tries scales on: of each input, and of the beginnings of texts that go through a block again. */
enum { AWQ_TOKENS = 512, GRID = 20 };

typedef struct AwqSettings {
    SmoothSettings common;
    QSpec q;
    int grid;
} AwqSettings;

static const void *settings(Arena *a, const YamlNode *map)
{
    AwqSettings *s = arena_alloc(a, sizeof *s);
    int64_t grid = GRID;
    if (!s)
        return NULL;
    *s = (AwqSettings){.grid = GRID};
    qspec_read(yaml_get(map, "weight_qconfig"), &s->q);
    if (yaml_get(map, "n_grid"))
        lax_int(yaml_get(map, "n_grid"), &grid);
    s->grid = (int)min_i64(grid, 1000000);
    return smooth_settings(&s->common, a, map) ? s : NULL;
}

static void hash(const void *settings, Hasher *h)
{
    const AwqSettings *s = settings;
    qspec_hash(h, &s->q);
    hasher_u64(h, (uint64_t)s->grid);
    smooth_hash(&s->common, h);
}

static void check(Check *c, const YamlNode *map)
{
    const YamlNode *qc = yaml_get(map, "weight_qconfig");
    QSpec q;
    smooth_check(c, map);
    if (!qc || !qspec_read(qc, &q))
        return; /* said already */
    char lack[LACK_MAX];
    if (!weight_quantizer_find(&q))
        check_block(c, qc, "awq: %s for a weight", smooth_lacks(&q, lack));
    check_ext(c, qc, "weight_qconfig", &q);
}

/* The peer's scale of an ov has as many entries as o_proj has inputs: where value heads are shared it doesn't fit v_proj, and
 * what it leaves behind is an error that is passed over, or a broken model. */
static bool fits_source(const SmoothCtx *c, const Subgraph *g)
{
    return !c->peer || g->type != SUBGRAPH_OV || g->source < 0 || g->ov.heads == g->ov.kv_heads;
}

/* Scales of the value heads, of which several heads have the same. */
static void take_source(const Subgraph *g, SmoothScale *out)
{
    const int share = g->ov.heads / g->ov.kv_heads;
    for (int k = 0; k < g->ov.kv_heads; k++)
        memcpy(out->source + k * g->ov.head_dim, out->target + k * share * g->ov.head_dim,
               (size_t)g->ov.head_dim * sizeof *out->source);
}

static Status scale(const SmoothCtx *c, const Subgraph *g, const SmoothStats *stats, SmoothScale *out, Error *err)
{
    const AwqSettings *set = c->settings;
    const bool share = subgraph_shares(g);
    AwqBlock *block;
    AwqFound found;
    if (!fits_source(c, g)) {
        out->none = true;
        return ST_OK;
    }
    RETURN_IF_ERROR(awq_block_new(&block, c, g, stats, &set->q, err));
    const AwqTask t = {.mean = stats->mean, .in = g->width, .heads = share ? g->ov.heads : 0,
                       .kv_heads = share ? g->ov.kv_heads : 0, .grid = set->grid, .peer = c->peer,
                       .loss = awq_block_loss, .ctx = block, .dist = unit_dist(c->unit)};
    Status st = awq_search(&t, out->target, NULL, &found, err);
    awq_block_free(block);
    RETURN_IF_ERROR(st);
    if (!found.any && !c->peer)
        return error_set(err, ST_DATA,
                         "'%s': no scales give an error that is a number: its inputs or weights hold NaN or Inf, or values "
                         "beyond float32; leave it out with exclude", g->key);
    out->none = !found.any;
    if (share)
        take_source(g, out);
    return ST_OK;
}

static uint64_t bytes(const void *settings, const Model *m, const Subgraph *g, const PassSize *size, bool peer)
{
    const AwqSettings *s = settings;
    return awq_block_bytes(m, g, &s->q, peer ? pass_rows(size) : min_i64(pass_rows(size), AWQ_TOKENS), peer, size->threads);
}

static const SmoothMethod method = {
    .name = "awq",
    .needs = SMOOTH_MINMAX | SMOOTH_MEAN | SMOOTH_TOKENS | SMOOTH_BLOCK_INPUTS,
    .user = SUBGRAPH_AWQ,
    .types = SMOOTH_EVERY_TYPE,
    .run_time = true,
    .tokens = AWQ_TOKENS,
    .scale = scale,
    .bytes = bytes,
};

static const Field fields[] = {
    FIELD_TYPE,
    {.key = "weight_qconfig", .type = F_OBJECT, .object = &qspec_object, .required = true},
    {.key = "n_grid", .type = F_INT, .bounded = true, .lo = 1, .hi = 1e9},
    FIELD_SUBGRAPHS,
    FIELD_PATTERNS_OR_NULL,
    FIELD_END,
};
static const Object object = {.fields = fields, .check = check};

static Status start(void **self, const ProcessorCtx *ctx, Error *err)
{
    const AwqSettings *s = ctx->step->settings;
    const QSpec plain = fake_weight_spec(&s->q);
    char lack[LACK_MAX];
    if (!weight_quantizer_find(&plain))
        return error_set(err, ST_DATA, "line %d: awq: %s for a weight", ctx->step->line, smooth_lacks(&s->q, lack));
    return smooth_start(self, ctx, &method, err);
}

static const Processor run = {SMOOTH_PROCESSOR, .start = start, .hash = hash};
const ProcessorType processor_awq = {.name = "awq", .object = &object, .settings = settings, .changes = true, .run = &run};
