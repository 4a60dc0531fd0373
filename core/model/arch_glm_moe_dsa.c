#include "model/arch.h"
#include "model/order.h"

static const ArchName names[] = {
    {.name = "GLM-5"},
    {.name = "GLM-5.1"},
    {.name = NULL},
};

static const MlaSpec attention = {.indexer = INDEXER_PAIRS};
static const BlockSpec blocks[] = {
    {.type = &block_mla, .how = &attention, .join = &join_attention},
    {.type = &block_moe, .how = &moe_rule_deepseek_v3, .join = &join_feed_forward, .has = unit_has_experts},
    {.type = &block_dense, .join = &join_feed_forward, .has = unit_has_no_experts},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "first_k_dense_replace", .absent = "3"},
    {.key = "n_shared_experts", .absent = "1"},
    {.key = "routed_scaling_factor", .absent = "2.5", .null = CONFIG_NO_NULL},
    {.key = "norm_topk_prob", .absent = "true", .null = "false"},
    {.key = NULL},
};

/* GLM-5: as DeepSeek-V3.2, but the indexer rotates neighbours, and layers may share what one of them chose. */
const Arch arch_glm_moe_dsa = {
    .model_type = "glm_moe_dsa",
    .title = "GLM 5",
    .order = order_deepseek,
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-5,
    .defaults = defaults,
    .names = names,
    .pedigree = "glm_5",
};
