#include "model/arch.h"
#include "model/order.h"

/* The same decoder under another model_type, and the names the peer's adapters take (specs/models.md 1.3). */
static const ArchName names[] = {
    {.name = "kimi_k2", .pedigree = "kimi_k2", .config = true},
    {.name = "DeepSeek-V3"},
    {.name = "DeepSeek-V3-0324"},
    {.name = "DeepSeek-R1"},
    {.name = "DeepSeek-R1-0528"},
    {.name = "DeepSeek-V3.1"},
    {.name = "DeepSeek-V3.1-Terminus"},
    {.name = "Kimi-K2-Instruct-0905", .pedigree = "kimi_k2"},
    {.name = "Kimi-K2-Thinking", .pedigree = "kimi_k2"},
    {.name = NULL},
};

const MoeRule moe_rule_deepseek_v3 = {
    .block = "mlp",
    .experts_key = "n_routed_experts",
    .inter_key = "moe_intermediate_size",
    .bias = "gate.e_score_correction_bias",
    .gate = "gate_proj",
    .up = "up_proj",
    .down = "down_proj",
    .shared = "shared_experts",
    .layers = MOE_AFTER_DENSE,
    .score = SCORE_SIGMOID,
    .group = GROUP_TOP2,
    .renorm = RENORM_CONFIG,
    .renorm_eps = 1e-20,
    .scaled = true,
};

const BlockSpec blocks_deepseek_v3[] = {
    {.type = &block_mla, .join = &join_attention},
    {.type = &block_moe, .how = &moe_rule_deepseek_v3, .join = &join_feed_forward, .has = unit_has_experts},
    {.type = &block_dense, .join = &join_feed_forward, .has = unit_has_no_experts},
    {.type = NULL},
};

const ConfigDefault defaults_deepseek_v3[] = {
    {.key = "max_position_embeddings", .absent = "4096"},
    {.key = "first_k_dense_replace", .absent = "3"},
    {.key = "n_shared_experts", .absent = "1"},
    {.key = "routed_scaling_factor", .absent = "2.5", .null = CONFIG_NO_NULL},
    {.key = "n_group", .absent = "8"},
    {.key = "topk_group", .absent = "4"},
    {.key = "norm_topk_prob", .absent = "true", .null = "false"},
    {.key = NULL},
};

/* DeepSeek-V3, R1, V3.1 and Kimi-K2: latent attention; experts are chosen within groups by sigmoid scores. */
const Arch arch_deepseek_v3 = {
    .model_type = "deepseek_v3",
    .title = "DeepSeek V3/R1, Kimi K2",
    .order = order_deepseek,
    .blocks = blocks_deepseek_v3,
    .ahead = &block_spec_mtp,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .defaults = defaults_deepseek_v3,
    .names = names,
};
