/* One float pass in which every statistic of inputs, weights and outputs is collected that a metric asked for. */
#include "metric/collect.h"
#include "metric/local_error.h"

typedef struct StatPass {
    const PassPlan *p;
    const PassSink *sink;
    Collector *c;
} StatPass;

static Status unit_done(void *ctx, int unit, Stream **streams, int nstreams, Error *err)
{
    (void)nstreams;
    StatPass *s = ctx;
    PassStep step = {.h = streams[0]};
    RETURN_IF_ERROR(collector_unit(s->c, unit, &step.linear, &step.nlinear, err));
    return pass_tell_layer(s->p, s->sink, unit, &step, err);
}

static Status run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    if (p->first < 0 || p->first > model_depth(p->m))
        return error_set(err, ST_USAGE, "layer %lld to start the analysis at is not one of the model's %d",
                         (long long)p->first, model_depth(p->m));
    StatPass s = {.p = p, .sink = sink};
    RETURN_IF_ERROR(collector_new(&s.c, p, err));
    Observer obs = collector_observer(s.c);
    FloatPass pass = {.obs = &obs, .nobs = 1, .sdpa = p->peer};
    Status st = pass_by_layer(r, p, (LayerJob){"statistics", float_pass_run, &pass}, unit_done, &s, err);
    collector_free(s.c);
    return st;
}

/* ---- planning ---- */

static bool has(const Scores *s, MetricScope scope, int64_t unit, unsigned needs)
{
    bool any = false;
    int64_t from, to;
    scope_linears(s->m, scope, unit, &from, &to);
    for (int64_t i = from; i < to; i++) {
        if (scope_unit_of(s->m, scope, i) != unit)
            continue;
        if ((s->linear[i].needs & needs) != needs)
            return false;
        any = true;
    }
    return any;
}

static void keep(PassPlan *p, const Scores *s)
{
    for (int64_t i = 0; i < p->m->nlinears; i++)
        if (!s->linear[i].stale && (!p->selected || p->selected[i]))
            p->needs |= s->linear[i].needs;
}

/* Whether every wanted linear already has these statistics, made under the present data and arithmetic. */
static bool answered(const PassPlan *p, const Scores *s)
{
    QSpec weights[LOCAL_EXTRA];
    int n = local_error_specs(p->levels, p->nlevels, weights);
    for (int64_t i = 0; i < p->m->nlinears; i++) {
        const LinearStats *l = &s->linear[i];
        if (p->selected && !p->selected[i])
            continue;
        if (l->stale || (l->needs & p->needs) != p->needs)
            return false;
        if ((p->needs & NEED_WEIGHT) && l->r.err.have && !local_error_covers(&l->r.err, weights, n))
            return false;
    }
    return true;
}

const MetricPass pass_statistics = {
    .name = "statistics",
    .step = "layer",
    .stream = true,
    .divides = DIVIDES_SAMPLES,
    .detail = NEED_HIST,
    .has = has,
    .keep = keep,
    .answered = answered,
    .steps = pass_layers,
    .bytes = collector_bytes,
    .run = run,
};
