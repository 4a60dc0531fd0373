#include "model/arch.h"
#include "model/config.h"

static const MoeRule rule = {
    .block = "mlp",
    .experts_key = "num_local_experts",
    .inter_key = "intermediate_size",
    .router = "router",
    .bias = "router.bias",
    .gate = "gate_proj",
    .up = "up_proj",
    .down = "down_proj",
    .stacked = true,
    .round_logits = true,
    .layers = MOE_ALL,
    .score = SCORE_TOP_SOFTMAX,
    .round_weights = true,
};

/* Every other layer has the window, beginning with the first. */
static Status windows(const cJSON *config, ModelConfig *cfg, Error *err)
{
    return config_windows(config, 128, 2, cfg, err);
}

/* gpt-oss: sinks in the attention, biases everywhere, experts in stacked tensors with a clamped activation. */
const Arch arch_gpt_oss = {
    .model_type = "gpt_oss",
    .title = "gpt-oss",
    .norm = NORM_LATE,
    .head_dim_from_config = true,
    .default_head_dim = 64,
    .sinks = true,
    .act = ACT_SWIGLU_CLAMPED,
    .moe = &rule,
    .default_theta = 150000,
    .default_eps = 1e-5,
    .windows = windows,
};
