#include "model/arch.h"
#include "model/subgraph.h"

static const ArchName names[] = {
    {.name = "Qwen3-Next-80B-A3B-Instruct"},
    {.name = NULL},
};

static const GqaSpec attention = {.gate = true, .qk_norm = QK_NORM_HEAD};
static const BlockSpec blocks[] = {
    {.type = &block_delta, .join = &join_attention, .has = unit_is_delta},
    {.type = &block_gqa, .how = &attention, .join = &join_attention, .has = unit_is_not_delta},
    {.type = &block_moe, .how = &moe_rule_qwen2, .join = &join_feed_forward, .has = unit_has_experts},
    {.type = &block_dense, .join = &join_feed_forward, .has = unit_has_no_experts},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "32768"},
    {.key = "norm_topk_prob", .absent = "true", .null = "false"},
    {.key = "partial_rotary_factor", .null = CONFIG_NO_NULL},
    {.key = NULL},
};

/* Sub-graphs of the peer's adapter (specs/outlier_suppression.md 2.4). */
static const SubgraphFold folds[] = {
    {.type = SUBGRAPH_NORM_LINEAR, .source = "input_layernorm",
     .targets = {"self_attn.k_proj", "self_attn.q_proj", "self_attn.v_proj"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX},
    {.source = NULL},
};

/* Qwen3-Next: three layers of linear attention to one of full attention, whose output is gated; experts as in
 * Qwen2-MoE. */
const Arch arch_qwen3_next = {
    .model_type = "qwen3_next",
    .title = "Qwen 3 Next",
    .blocks = blocks,
    .norm = NORM_UNIT,
    .default_head_dim = 256,
    .partial_rotary = 0.25,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .folds = folds,
    .defaults = defaults,
    .names = names,
};
