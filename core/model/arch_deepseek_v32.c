#include "model/arch.h"
#include "model/order.h"

static const ArchName names[] = {
    {.name = "DeepSeek-V3.2-Exp"},
    {.name = "DeepSeek-V3.2"},
    {.name = NULL},
};

static const MlaSpec attention = {.indexer = INDEXER_HALVES};
static const BlockSpec blocks[] = {
    {.type = &block_mla, .how = &attention, .join = &join_attention},
    {.type = &block_moe, .how = &moe_rule_deepseek_v3, .join = &join_feed_forward, .has = unit_has_experts},
    {.type = &block_dense, .join = &join_feed_forward, .has = unit_has_no_experts},
    {.type = NULL},
};

/* DeepSeek-V3.2: as V3, and an indexer chooses the keys a query looks at. */
const Arch arch_deepseek_v32 = {
    .model_type = "deepseek_v32",
    .title = "DeepSeek V3.2",
    .order = order_deepseek,
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .defaults = defaults_deepseek_v3,
    .names = names,
    .pedigree = "deepseek_v3_2",
};
