#include "metric/outputs.h"

static const MetricPart parts[] = {
    {"mse", "", "mean squared error of a value"},
    {"sqnr", "dB", "the output's square over the error's"},
    {"cosine", "", "of the output in float and quantized"},
    {"token", "", "the score of each token by itself, their mean"},
    {"max", "", "largest error of a value"},
    {0},
};

const Metric metric_block_output = {
    .name = "block_output",
    .title = "Block output",
    .unit = "",
    .scope = SCOPE_BLOCK,
    .family = FAMILY_ERROR,
    .cost = "one float pass over the calibration set, and each layer again at every level over 1,024 tokens",
    .parts = parts,
    .direction = 1,
    .pass = &pass_outputs,
    .explain = "Squared error of a layer's output over its square, all its linears at the level, its input float: what the\n"
               "layer as a whole loses, in the terms that papers use (MSE, SQNR, cosine). mse is mse_layer_wise's measure.\n"
               "Large tokens rule it; token counts each alike.",
};
