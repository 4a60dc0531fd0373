#include "model/arch.h"
#include "model/order.h"

static const MoeRule rule = {
    .block = "mlp",
    .experts_key = "n_routed_experts",
    .inter_key = "moe_intermediate_size",
    .gate = "gate_proj",
    .up = "up_proj",
    .down = "down_proj",
    .shared = "shared_experts",
    .layers = MOE_AFTER_DENSE,
    .score = SCORE_SOFTMAX,
    .group = GROUP_MAX,
    .scaled = true,
};

static const MlaSpec attention = {.rope_fp32 = true};
static const BlockSpec blocks[] = {
    {.type = &block_mla, .how = &attention, .join = &join_attention},
    {.type = &block_moe, .how = &rule, .join = &join_feed_forward, .has = unit_has_experts},
    {.type = &block_dense, .join = &join_feed_forward, .has = unit_has_no_experts},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "2048"},
    {.key = "n_shared_experts", .absent = "2"},
    {.key = NULL},
};

/* DeepSeek-V2: latent attention whose rotation stays in float32, and experts behind the first dense layers. */
const Arch arch_deepseek_v2 = {
    .model_type = "deepseek_v2",
    .title = "DeepSeek V2",
    .order = order_deepseek,
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .defaults = defaults,
};
