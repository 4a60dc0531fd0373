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

static const GqaSpec attention = {.sinks = true, .windows = windows};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention},
    {.type = &block_moe, .how = &rule, .join = &join_feed_forward},
    {.type = NULL},
};

#define YARN                                                                                                           \
    "{\"rope_type\":\"yarn\",\"factor\":32.0,\"beta_fast\":32.0,\"beta_slow\":1.0,\"truncate\":false,"                      \
    "\"original_max_position_embeddings\":4096}"
static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "131072"},
    {.key = "rope_parameters", .absent = YARN, .null = YARN, .other = "rope_scaling"},
    {.key = NULL},
};

/* gpt-oss: sinks in the attention, biases everywhere, experts in stacked tensors with a clamped activation. */
const Arch arch_gpt_oss = {
    .model_type = "gpt_oss",
    .title = "gpt-oss",
    .blocks = blocks,
    .norm = NORM_LATE,
    .default_head_dim = 64,
    .act = ACT_SWIGLU_CLAMPED,
    .default_theta = 150000,
    .default_eps = 1e-5,
    .defaults = defaults,
};
