#include "run/schedule.h"
#include "run/unit.h"

/* Forward over the units and the steps around them. */

static void drop_streams(Stream **streams, int n)
{
    for (int i = 0; i < n; i++)
        stream_fini(streams[i]);
}

static Status embed_all(Runner *r, Stream **streams, int n, const TokenSet *const *tokens, Error *err)
{
    for (int i = 0; i < n; i++) {
        Status st = runner_embed(r, tokens[i], streams[i], err);
        if (st != ST_OK) {
            drop_streams(streams, i);
            return st;
        }
    }
    return ST_OK;
}

static Status run_units(Runner *r, Stream **streams, int nstreams, const Schedule *s, Error *err)
{
    Arena arena = {0};
    Status st = ST_OK;
    for (int unit = s->first; st == ST_OK && unit < s->last; unit++) {
        Rng rng = rng_of(s->seed, (uint64_t)unit);
        LayerCtx ctx = {.runner = r, .layer = unit, .streams = streams, .nstreams = nstreams, .arena = &arena,
                        .rng = &rng, .src = runner_source(r)};
        st = cancel_check(runner_cancel(r), err);
        if (st == ST_OK)
            st = runner_bring(r, unit, err);
        if (st == ST_OK)
            st = s->job.run(s->job.self, &ctx, err);
        if (st == ST_OK && s->unit_done)
            st = s->unit_done(s->ctx, unit, streams, nstreams, err);
        arena_free(&arena);
    }
    return st;
}

static Status run_behind(Runner *r, Stream **streams, int n, const Outside *o, Error *err)
{
    for (int i = 0; i < n; i++) {
        Status st = runner_final_norm(r, streams[i], &o->normed[i], o->obs, o->nobs, err);
        if (st == ST_OK && o->logits)
            st = runner_logits(r, &o->normed[i], o->logits, o->logits_ctx[i], err);
        for (int k = i; st != ST_OK && k >= 0; k--)
            stream_fini(&o->normed[k]);
        RETURN_IF_ERROR(st);
    }
    return ST_OK;
}

Status schedule_forward(Runner *r, Stream **streams, int nstreams, const Schedule *s, Error *err)
{
    const Outside *o = s->outside;
    const Model *m = runner_model(r);
    if (s->first < 0 || s->first > s->last || s->last > model_depth(m))
        return error_set(err, ST_INTERNAL, "units %d to %d of the model's %d were to run", s->first, s->last,
                         model_depth(m));
    if (o && ((o->tokens && s->first > 0) || (o->normed && s->last != m->cfg.layers)))
        return error_set(err, ST_INTERNAL, "units %d to %d do not join the %s", s->first, s->last,
                         o->tokens && s->first > 0 ? "embedding" : "final norm");
    if (o && o->tokens)
        RETURN_IF_ERROR(embed_all(r, streams, nstreams, o->tokens, err));
    Status st = run_units(r, streams, nstreams, s, err);
    if (st == ST_OK && o && o->normed)
        st = run_behind(r, streams, nstreams, o, err);
    if (st != ST_OK && o && o->tokens)
        drop_streams(streams, nstreams);
    return st;
}

Status layer_forward(LayerCtx *ctx, const Variant *v, const Stream *in, Stream *out, Error *err)
{
    return runner_layer(ctx->runner, ctx->layer, v, in, out, NULL, 0, err);
}

Status layer_forward_part(LayerCtx *ctx, int from_block, int to_block, const Variant *v, const Stream *in, Stream *out,
                          Error *err)
{
    return unit_forward(ctx->runner, ctx->layer, from_block, to_block, v, in, out, NULL, 0, err);
}

Status float_pass_run(void *self, LayerCtx *ctx, Error *err)
{
    const FloatPass *p = self;
    Variant v = {.sdpa = p->sdpa};
    for (int i = 0; i < ctx->nstreams; i++)
        RETURN_IF_ERROR(runner_layer(ctx->runner, ctx->layer, &v, ctx->streams[i], ctx->streams[i], p->obs, p->nobs,
                                     err));
    return ST_OK;
}
