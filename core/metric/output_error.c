#include "metric/outputs.h"

/* specs/analysis.md 9, review/decisions (local_error, measured): what a linear's own output loses. */
static const MetricPart parts[] = {
    {"mse", "", "mean squared error of an output"},
    {"sqnr", "dB", "the output's square over the error's"},
    {"cosine", "", "of the output in float and quantized"},
    {"from_weight", "", "the score if the weight alone were quantized"},
    {"from_input", "", "the score if the input alone were quantized"},
    {"max", "", "largest error of an output"},
    {0},
};

const Metric metric_output_error = {
    .name = "output_error",
    .title = "Output error",
    .unit = "",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_ERROR,
    .cost = "one float pass over the calibration set, and four products a linear and level over 1,024 tokens",
    .parts = parts,
    .direction = 1,
    .pass = &pass_outputs,
    .explain = "Squared error of the linear's output over its square, measured with input and weight quantized at the level,\n"
               "inputs otherwise float: what local_error expects. from_weight and from_input say which side loses it: where\n"
               "the input does, smooth it or take per-token scales; where the weight does, take groups, more bits, or GPTQ.",
};
