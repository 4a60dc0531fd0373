#include "metric/outputs.h"

/* review/decisions: res_tok, the error of a block's gift over the residual stream behind it, token by token. */
static const MetricPart parts[] = {
    {"first", "", "the same of each text's first token"},
    {"ratio", "", "squared error of all tokens together over the stream's square: the first token hides the others"},
    {0},
};

const Metric metric_residual_error = {
    .name = "residual_error",
    .title = "Residual error",
    .unit = "",
    .scope = SCOPE_GROUP,
    .family = FAMILY_ERROR,
    .cost = "one float pass over the calibration set, and half a layer again for each of its groups over 1,024 tokens",
    .parts = parts,
    .direction = 1,
    .pass = &pass_outputs,
    .explain = "Squared error that the group alone adds to the residual stream behind its half of the layer, over the stream's\n"
               "square, each token by itself. An error is as bad as it is large in the stream it joins, not in its linear;\n"
               "it stops there: block_error also lets the rest of the layer pass it on.",
};
