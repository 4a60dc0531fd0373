#include "model/arch.h"
#include "model/config.h"

static const MoeRule rule = {
    .block = "block_sparse_moe",
    .experts_key = "num_local_experts",
    .inter_key = "intermediate_size",
    .gate = "w1",
    .up = "w3",
    .down = "w2",
    .down_second = true,
    .router_linear = true,
    .layers = MOE_ALL,
    .score = SCORE_SOFTMAX,
    .renorm = RENORM_ALWAYS,
};

/* Mixtral: Mistral with experts in every layer. */
const Arch arch_mixtral = {
    .model_type = "mixtral",
    .title = "Mixtral",
    .norm = NORM_LLAMA,
    .moe = &rule,
    .default_theta = 1000000,
    .default_eps = 1e-5,
    .windows = config_windows_all,
};
