/* What passes over the model share. */
#include "metric/pass.h"

#include "base/num.h"
#include "metric/metric.h"
#include "run/share.h"
#include "run/taps.h"

bool pass_asks(const PassPlan *p, const Metric *m)
{
    for (int i = 0; p->metrics && p->metrics[i]; i++)
        if (p->metrics[i] == m)
            return true;
    return false;
}

bool pass_selects(const PassPlan *p, MetricScope scope, int64_t unit)
{
    int64_t from, to;
    scope_linears(p->m, scope, unit, &from, &to);
    for (int64_t i = from; i < to; i++)
        if ((!p->selected || p->selected[i]) && (!p->pass->stream || p->m->linears[i].layer >= p->first) &&
            scope_unit_of(p->m, scope, i) == unit)
            return true;
    return false;
}

bool pass_gives(const MetricPass *by, const MetricPass *pass)
{
    return by == pass || (by->collects && pass == &pass_statistics);
}

const MetricPass *pass_of_all(const Metric *const *metrics)
{
    const MetricPass *by = NULL;
    for (int i = 0; metrics[i]; i++)
        by = !by || pass_gives(metrics[i]->pass, by) ? metrics[i]->pass : by;
    for (int i = 0; metrics[i]; i++)
        if (!pass_gives(by, metrics[i]->pass))
            return NULL;
    return by;
}

bool pass_plan_covers(const PassPlan *p, const Metric *m, int64_t unit)
{
    if (!pass_gives(p->pass, m->pass))
        return false;
    return (m->pass->has ? (p->needs & m->needs) == m->needs : pass_asks(p, m)) && pass_selects(p, m->scope, unit);
}

bool pass_answered(const PassPlan *p, const Scores *s)
{
    if (p->pass->answered)
        return p->pass->answered(p, s);
    if (p->pass->collects && p->needs && !pass_statistics.answered(p, s))
        return false;
    for (int k = 0; p->metrics[k]; k++)
        for (int64_t i = 0; !p->metrics[k]->pass->has && i < p->m->nlinears; i++) {
            int64_t unit = scope_unit_of(p->m, p->metrics[k]->scope, i);
            const UnitSlot *u = unit < 0 ? NULL : scores_unit(s, p->metrics[k], unit);
            if (unit >= 0 && (!p->selected || p->selected[i]) && (!u || u->stale))
                return false;
        }
    return true;
}

int64_t pass_input(const PassPlan *p, int64_t i)
{
    return overlay_input(p->overlay, p->m, i);
}

const TokenSet *pass_texts(const PassPlan *p)
{
    return p->ranks && p->ranks->share ? p->ranks->share->whole : p->tokens;
}

PassProbe pass_probe(const PassPlan *p, int64_t tokens, int64_t least)
{
    int64_t want = p->probe > 0 ? p->probe : tokens, texts = pass_texts(p)->samples;
    PassProbe probe = {.rows = max_i64(least, div_up(want, max_i64(1, texts)))};
    probe.samples = (int)min_i64(texts, div_up(want, probe.rows));
    return probe;
}

/* ---- passes whose steps are layers ---- */

int64_t pass_layers(const PassPlan *p)
{
    return model_depth(p->m);
}

Status pass_by_layer(Runner *r, const PassPlan *p, LayerJob job, PassLayerDone *done, void *ctx, Error *err)
{
    Stream own = {0}, *h = p->first ? p->h : &own;
    const Outside embed = {.tokens = &p->tokens};
    const Schedule s = {.first = (int)p->first, .last = model_depth(p->m), .job = job, .unit_done = done, .ctx = ctx,
                        .seed = p->seed, .outside = p->first ? NULL : &embed};
    Status st = schedule_forward(r, &h, 1, &s, err);
    stream_fini(&own);
    return st;
}

Status pass_tell_layer(const PassPlan *p, const PassSink *sink, int unit, const PassStep *gave, Error *err)
{
    PassStep step = *gave;
    step.done = unit + 1;
    step.total = model_depth(p->m);
    step.news = true;
    return sink->step(sink->ctx, &step, err);
}
