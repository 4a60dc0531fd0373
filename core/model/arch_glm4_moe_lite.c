#include "model/arch.h"
#include "model/order.h"

static const ArchName names[] = {
    {.name = "GLM-4.7-Flash"},
    {.name = NULL},
};

static const MoeSpec experts = {.rule = &moe_rule_deepseek_v3, .renorm = true};
static const BlockSpec blocks[] = {
    {.type = &block_mla, .join = &join_attention},
    {.type = &block_moe, .how = &experts, .join = &join_feed_forward, .has = unit_has_experts},
    {.type = &block_dense, .join = &join_feed_forward, .has = unit_has_no_experts},
    {.type = NULL},
};

/* GLM-4.7-Flash: DeepSeek-V3's attention and routing with GLM's epsilon. */
const Arch arch_glm4_moe_lite = {
    .model_type = "glm4_moe_lite",
    .title = "GLM 4.7 Flash",
    .order = order_deepseek,
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-5,
    .names = names,
};
