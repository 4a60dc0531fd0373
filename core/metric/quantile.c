#include "metric/rows.h"

/* specs/analysis.md 2.2: an int8 step over the interquartile range of the sampled inputs. */
static double score(const Scores *s, int64_t unit, const QConfig *q, char *why, int why_size)
{
    (void)q;
    const LinearResult *r = &s->linear[unit].r;
    return metric_input_score(&r->in, r->in.quantile, "quantile was not collected, or overflows", why, why_size);
}

const Metric metric_quantile = {
    .name = "quantile",
    .title = "Quantile",
    .unit = "steps",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_INPUT,
    .cost = "one float pass over the calibration set",
    .direction = 1,
    .pass = &pass_statistics,
    .needs = NEED_ORDER,
    .explain = "Width of one int8 step of the input's range, measured in interquartile ranges of the same input.\n"
               "Near 1 and above, most inputs fall into a step or two: the layer's activations lose their detail.\n"
               "It describes inputs and does not rank damage: block_error does. Like kurtosis it samples every 100th\n"
               "sorted value; inputs that are mostly zero get huge scores.",
    .score = score,
};
