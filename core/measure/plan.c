#include "measure/plan.h"

#include "base/num.h"
#include "measure/logitpass.h"
#include "process/processor.h"
#include "run/stream.h"

static RunnerNeed need_of(const Pipeline *p, const TokenSet *t, int threads, ArithMode arith, bool whole)
{
    const RunnerAsk ask = {.rows = t->start[t->samples], .longest = longest_of(t->start, t->samples), .threads = threads,
                           .arith = arith, .level = pipeline_acts(p), .whole = whole,
                           .inputs = pipeline_needs(p) & PROCESSOR_INPUTS,
                           .branches = pipeline_needs(p) & PROCESSOR_BRANCHES,
                           .turned = pipeline_needs(p) & PROCESSOR_OUTPUTS};
    return runner_need(pipeline_model(p), &ask);
}

static int64_t predicted_rows_of(const TokenSet *t)
{
    int64_t n = 0;
    for (int s = 0; s < t->samples; s++)
        n += max_i64(t->start[s + 1] - t->start[s] - 1, 0);
    return n;
}

EffectPlan effect_plan(const Pipeline *p, const TokenSet *calib, const TokenSet *eval, int threads, ArithMode arith)
{
    const Model *m = pipeline_model(p);
    EffectPlan plan = {.whole = pipeline_whole(p), .first = pipeline_first(p)};
    RunnerNeed c = need_of(p, calib, threads, arith, plan.whole);
    RunnerNeed e = need_of(p, eval, threads, arith, plan.whole && pipeline_work(p)->peer); /* calibration is over */
    int own = pipeline_flow_is_output(p) ? 0 : 1; /* the calibration's stream as the model has it */
    uint64_t ids = (uint64_t)(calib->start[calib->samples] + eval->start[eval->samples]) * sizeof(int32_t);
    uint64_t streams = (uint64_t)(pipeline_streams(p, false) + own) * c.stream + e.stream + (uint64_t)(1 + own) * ids;
    uint64_t rows = (uint64_t)predicted_rows_of(eval), row = (uint64_t)m->cfg.hidden * sizeof(float);
    uint64_t kept = max_u64(c.kept, e.kept);
    plan.state = (uint64_t)(1 + own) * c.stream + e.stream;
    plan.reference = c.stream + rows * (2 * row + LOGIT_ROW_BYTES); /* last states, normed ones, expected head rows */
    plan.wait[0] = streams - c.stream;
    plan.wait[1] = streams - e.stream;
    const PassSize size = {.samples = calib->samples, .threads = threads, .rows = calib->start[calib->samples],
                           .longest = longest_of(calib->start, calib->samples)};
    plan.held = plan.reference + c.ahead + pipeline_bytes(p, &size);
    uint64_t layers = plan.held + streams + kept + max_u64(c.layer, e.layer);
    /* the quantized model's rows, and rows of both side by side; or the float model's, with shares of expected rows */
    enum { FIGURES = 4 * 4 * sizeof(double) }; /* of a token, on their way from rank to rank */
    uint64_t quantized = rows * (3 * row + LOGIT_ROW_BYTES + sizeof(double) + FIGURES) + logit_rows_scratch(m, threads, false);
    plan.end = streams + plan.reference + kept + max_u64(c.head, e.head) +
               max_u64(quantized, logit_rows_scratch(m, threads, true));
    plan.runner = max_u64(layers, plan.end) - plan.held;
    plan.runner = max_u64(plan.runner, pipeline_prior_bytes(p, threads, arith));
    return plan;
}

Status effect_fits(const EffectPlan *plan, const Pipeline *p, Runner *r, const TokenSet *calib, const TokenSet *eval,
                   Error *err)
{
    const int16_t *level = pipeline_acts(p);
    int units = pipeline_model(p)->cfg.layers;
    uint64_t limit = runner_mem_limit(r);
    if (!limit)
        return ST_OK;
    runner_hold(r, plan->wait[0]);
    Status st = runner_fits(r, calib, units, level, plan->whole, err);
    runner_hold(r, plan->wait[1]);
    if (st == ST_OK)
        st = runner_fits(r, eval, units, level, plan->whole && pipeline_work(p)->peer, err);
    runner_hold(r, 0);
    RETURN_IF_ERROR(st);
    if (plan->end <= limit + plan->held)
        return ST_OK;
    return error_set(err, ST_NOMEM,
                     "the logits of %lld evaluation tokens and what they are compared with need %.1f MB but the limit "
                     "leaves %.1f MB: raise --mem, or use fewer texts (--max-samples, --eval)",
                     (long long)eval->start[eval->samples], (double)plan->end / 1e6,
                     (double)(limit + plan->held) / 1e6);
}
