#include "model/arch.h"
#include "model/order.h"
#include "model/rotmap.h"
#include "model/subgraph.h"

static const ArchName names[] = {
    {.name = "GLM-4.5"},
    {.name = "GLM-4.6"},
    {.name = "GLM-4.7"},
    {.name = NULL},
};

static const GqaSpec attention = {.qk_norm = QK_NORM_HEAD, .qk_norm_key = true};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention},
    {.type = &block_moe, .how = &moe_rule_deepseek_v3, .join = &join_feed_forward, .has = unit_has_experts},
    {.type = &block_dense, .join = &join_feed_forward, .has = unit_has_no_experts},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "131072"},
    {.key = "partial_rotary_factor", .null = CONFIG_NO_NULL},
    {.key = "first_k_dense_replace", .absent = "1"},
    {.key = "n_shared_experts", .absent = "1"},
    {.key = "norm_topk_prob", .absent = "true", .null = "false"},
    {.key = NULL},
};

/* Sub-graphs of the peer's adapter (specs/outlier_suppression.md 2.4). */
static const SubgraphFold folds[] = {
    {.type = SUBGRAPH_NORM_LINEAR, .source = "input_layernorm",
     .targets = {"self_attn.k_proj", "self_attn.q_proj", "self_attn.v_proj"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX},
    {.type = SUBGRAPH_OV, .source = "self_attn.v_proj", .targets = {"self_attn.o_proj"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX,
     .group_max = true},
    {.source = NULL},
};

static const TurnSpec turn = {.heads = TURN_HEADS_SHIFTED};

/* GLM 4.5 to 4.7: routing as in DeepSeek-V3, attention as in Llama with a part of each head rotated. */
const Arch arch_glm4_moe = {
    .model_type = "glm4_moe",
    .title = "GLM 4.5/4.6/4.7",
    .order = order_deepseek,
    .blocks = blocks,
    .ahead = &block_spec_mtp,
    .norm = NORM_LLAMA,
    .partial_rotary = 0.5,
    .default_theta = 10000,
    .default_eps = 1e-5,
    .folds = folds,
    .defaults = defaults,
    .turn = &turn,
    .names = names,
};
