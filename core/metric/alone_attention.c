/* What quantizing one attention's inputs, or its cache, does to the model's output when everything else is float. */
#include "metric/alone.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "model/block.h"
#include "run/schedule.h"

/* Whether the layer has an attention by scores of queries and keys. */
static bool has_scores(const Unit *u)
{
    for (int i = 0; i < u->nblocks; i++)
        if (u->block[i].type->role == ROLE_ATTENTION && u->block[i].type->scores)
            return true;
    return false;
}

/* ---- scales, in a float pass over the calibration texts ---- */

static AloneUnit *unit_of(AlonePass *a, int layer)
{
    for (int64_t i = 0; i < a->n; i++)
        if (a->unit[i].layer == layer && !a->unit[i].score.absent)
            return &a->unit[i];
    return NULL;
}

static Status watch_layer(void *self, LayerCtx *ctx, Error *err)
{
    AlonePass *a = self;
    Stream *h = ctx->streams[0];
    const Variant v = {.sdpa = a->p->peer};
    AloneUnit *u = unit_of(a, ctx->layer);
    if (!u)
        return layer_forward(ctx, &v, h, h, err);
    HeadQuant *heads = &a->heads[ctx->layer];
    const Observer obs = head_quant_observer(heads);
    RETURN_IF_ERROR(runner_layer(ctx->runner, ctx->layer, &v, h, h, &obs, 1, err));
    Status st = head_quant_fix(heads, err);
    if (st != ST_DATA)
        return st;
    snprintf(u->score.why, sizeof u->score.why, "%.*s", (int)sizeof u->score.why - 1, err->text);
    *err = (Error){0};
    return ST_OK;
}

static Status find_scales(AlonePass *a, const double ratio[HEAD_PARTS], bool channels, Error *err)
{
    const Model *m = a->p->m;
    int last = 0;
    a->heads = mem_zarray((size_t)m->cfg.layers + 1, sizeof *a->heads);
    if (!a->heads)
        return error_nomem(err, "scales of attentions");
    for (int64_t i = 0; i < a->n; i++) {
        AloneUnit *u = &a->unit[i];
        u->score.absent = !has_scores(&m->units[u->layer]);
        if (u->score.absent) {
            snprintf(u->score.why, sizeof u->score.why, "not applicable: linear attention keeps a state, no keys and values");
            continue;
        }
        HeadQuant *h = &a->heads[u->layer];
        *h = (HeadQuant){.m = m, .unit = u->layer, .T = a->types.inner, .channels = channels};
        memcpy(h->ratio, ratio, sizeof h->ratio);
        last = u->layer + 1 > last ? u->layer + 1 : last;
    }
    if (!last)
        return ST_OK;
    Stream h = {0}, *hs = &h;
    const TokenSet *tokens = a->p->tokens;
    const Outside embed = {.tokens = &tokens};
    const Schedule s = {.last = last, .job = {"ranges of heads", watch_layer, a}, .outside = &embed};
    Status st = schedule_forward(a->r, &hs, 1, &s, err);
    stream_fini(&h);
    return st;
}

static Status attention_scales(AlonePass *a, Error *err)
{
    return find_scales(a, head_ratios, false, err);
}

static Status cache_scales(AlonePass *a, Error *err)
{
    return find_scales(a, cache_ratios, true, err);
}

static Status begin(AlonePass *a, AloneUnit *u, Error *err)
{
    (void)err;
    u->fits = !u->score.why[0];
    u->attn = head_quant_form(&a->heads[u->layer]);
    u->v = (Variant){.attn = u->fits ? &u->attn : NULL, .sdpa = a->p->peer};
    return ST_OK;
}

static void end(AloneUnit *u)
{
    (void)u;
}

static void drop_scales(AlonePass *a)
{
    for (int i = 0; a->heads && i < a->p->m->cfg.layers; i++)
        head_quant_fini(&a->heads[i]);
    free(a->heads);
}

/* ---- the rows ---- */

static const AloneKind attentions = {.prepare = attention_scales, .begin = begin, .end = end, .close = drop_scales};
static const AloneKind caches = {.prepare = cache_scales, .begin = begin, .end = end, .close = drop_scales};

static Status run_attentions(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    return alone_run(r, p, sink, &attentions, err);
}

static Status run_caches(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    return alone_run(r, p, sink, &caches, err);
}

static uint64_t bytes_attentions(const PassPlan *p, int threads)
{
    return alone_bytes(p, threads) + head_quant_bytes(p->m, false, p->tokens->samples);
}

static uint64_t bytes_caches(const PassPlan *p, int threads)
{
    return alone_bytes(p, threads) + head_quant_bytes(p->m, true, p->tokens->samples);
}

/* Of the sweep, or of the float pass that finds the scales. */
static uint64_t need(const PassPlan *p, int threads)
{
    const TokenSet *t = p->tokens;
    const RunnerAsk ask = {.rows = t->start[t->samples], .longest = longest_of(t->start, t->samples), .threads = threads};
    return max_u64(alone_need(p, threads), runner_estimate(p->m, &ask));
}

#define PASS(id, text, what, runs, takes)                                                                             \
    static const Metric *const reads_##id[] = {&metric_##id, &metric_block_error, NULL};                              \
    static const MetricPass pass_##id = {.name = text, .step = "unit", .fixed = what, .reads = reads_##id,            \
                                         .answered = alone_answered, .steps = alone_steps, .bytes = takes,            \
                                         .need = need, .run = runs, .divides = DIVIDES_ITSELF};
PASS(alone_attention, "alone, by attention", "int8 per_head q, k, v", run_attentions, bytes_attentions)
PASS(alone_cache, "alone, by cache", "int8 per_channel keys and values", run_caches, bytes_caches)

#define COST "one float pass over the calibration set for the scales, then " ALONE_FEW
#define ROW(id, text, more)                                                                                           \
    const Metric metric_##id = {.name = #id, .title = text, .unit = "nats", .scope = SCOPE_ATTENTION,                 \
                                .family = FAMILY_DECIDE, .cost = COST, .parts = alone_parts, .direction = 1,          \
                                .pass = &pass_##id, .explain = ALONE_EXPLAIN more};
ROW(alone_attention, "Alone, attention",
    "An attention's queries, keys and values in int8, one scale a head, as a quantized attention kernel\n"
    "(FA3) reads them; no linear is quantized. Linear attention has none.")
ROW(alone_cache, "Alone, KV cache",
    "A layer's keys and values in int8, one symmetric scale a channel: what dynamic_cache (C8) makes of\n"
    "the KV cache, whether or not the recipe has one. MLA: expanded ones. Linear attention has none.")
