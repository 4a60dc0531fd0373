#include "metric/rows.h"

/* specs/analysis.md 2.2: excess kurtosis of the sampled inputs. */
static double score(const Scores *s, int64_t unit, const QConfig *q, char *why, int why_size)
{
    (void)q;
    const LinearResult *r = &s->linear[unit].r;
    return metric_input_score(&r->in, r->in.kurtosis, "kurtosis was not collected, or its powers overflow", why,
                              why_size);
}

const Metric metric_kurtosis = {
    .name = "kurtosis",
    .title = "Kurtosis",
    .unit = "",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_INPUT,
    .cost = "one float pass over the calibration set",
    .direction = 1,
    .pass = &pass_statistics,
    .needs = NEED_ORDER,
    .explain = "How heavy the tails of the layer's input are: 0 for a bell curve, thousands when few channels tower.\n"
               "It describes inputs, and finds those with outliers; it does not rank damage: block_error does.\n"
               "It takes every 100th value of each sorted text, so a single huge value in a text goes unseen.",
    .score = score,
};
