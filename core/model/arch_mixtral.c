#include "model/arch.h"
#include "model/config.h"

static const MoeRule rule = {
    .block = "block_sparse_moe",
    .saved_block = "mlp",
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

static const GqaSpec attention = {.windows = config_windows_all};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention},
    {.type = &block_moe, .how = &rule, .join = &join_feed_forward},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "131072"},
    {.key = NULL},
};

/* Mixtral: Mistral with experts in every layer. */
const Arch arch_mixtral = {
    .model_type = "mixtral",
    .title = "Mixtral",
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_theta = 1000000,
    .default_eps = 1e-5,
    .defaults = defaults,
};
