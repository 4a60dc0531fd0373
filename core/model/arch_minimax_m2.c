#include "model/arch.h"
#include "model/subgraph.h"

static const ArchName names[] = {
    {.name = "MiniMax-M2.7"},
    {.name = NULL},
};

static const MoeRule rule = {
    .block = "block_sparse_moe",
    .saved_block = "mlp",
    .experts_key = "num_local_experts",
    .inter_key = "intermediate_size",
    .bias = "e_score_correction_bias",
    .gate = "w1",
    .up = "w3",
    .down = "w2",
    .down_second = true,
    .router_linear = true,
    .layers = MOE_ALL,
    .score = SCORE_SIGMOID,
    .renorm = RENORM_ALWAYS,
};

static const GqaSpec attention = {.qk_norm = QK_NORM_FULL};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention},
    {.type = &block_moe, .how = &rule, .join = &join_feed_forward},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "partial_rotary_factor", .null = CONFIG_NO_NULL},
    {.key = NULL},
};

/* Sub-graphs of the peer's adapter (specs/outlier_suppression.md 2.4). */
static const SubgraphFold folds[] = {
    {.type = SUBGRAPH_NORM_LINEAR, .source = "input_layernorm",
     .targets = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX},
    {.type = SUBGRAPH_OV, .source = "self_attn.v_proj", .targets = {"self_attn.o_proj"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX,
     .group_max = true},
    {.type = SUBGRAPH_UP_DOWN, .source = "block_sparse_moe.experts.%d.w3", .targets = {"block_sparse_moe.experts.%d.w2"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX},
    {.source = NULL},
};

/* MiniMax-M2: experts in every layer; q and k are normed as a whole, a part of each head is rotated. */
const Arch arch_minimax_m2 = {
    .model_type = "minimax_m2",
    .title = "MiniMax M2",
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_head_dim = 128,
    .partial_rotary = 1,
    .default_theta = 5000000,
    .default_eps = 1e-6,
    .folds = folds,
    .defaults = defaults,
    .names = names,
};
