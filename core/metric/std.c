#include "metric/rows.h"

/* specs/analysis.md 2.2: largest magnitude over the deviation around the channels' midpoints. */
static double score(const Scores *s, int64_t unit, const QConfig *q, char *why, int why_size)
{
    (void)q;
    const LinearResult *r = &s->linear[unit].r;
    return metric_input_score(&r->in, r->in.std_score,
                              "std was not collected, overflows, or a text gave a single value", why, why_size);
}

const Metric metric_std = {
    .name = "std",
    .title = "Std",
    .unit = "",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_INPUT,
    .cost = "one float pass over the calibration set",
    .direction = 1,
    .pass = &pass_statistics,
    .needs = NEED_STD,
    .explain = "Largest input magnitude in standard deviations, each channel first moved to its midpoint.\n"
               "How much of an int8 range outliers waste; it sees every value, one spike is enough.\n"
               "It describes inputs, and knows neither weights nor what an error does later: block_error ranks damage.",
    .score = score,
};
