#include "model/arch.h"
#include "model/order.h"
#include "model/rotmap.h"
#include "model/subgraph.h"

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

/* Sub-graphs of the peer's adapter (specs/outlier_suppression.md 2.4). */
static const SubgraphFold folds[] = {
    {.type = SUBGRAPH_NORM_LINEAR, .source = "input_layernorm",
     .targets = {"self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX},
    {.type = SUBGRAPH_NORM_LINEAR, .source = "self_attn.q_a_layernorm", .targets = {"self_attn.q_b_proj"},
     .users = SUBGRAPH_ITER | SUBGRAPH_FLEX},
    {.type = SUBGRAPH_OV, .source = "self_attn.kv_b_proj", .targets = {"self_attn.o_proj"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX,
     .group_max = true},
    {.type = SUBGRAPH_UP_DOWN, .source = "mlp.up_proj", .targets = {"mlp.down_proj"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX},
    {.type = SUBGRAPH_UP_DOWN, .source = "mlp.shared_experts.up_proj", .targets = {"mlp.shared_experts.down_proj"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX},
    {.type = SUBGRAPH_UP_DOWN, .source = "mlp.experts.%d.up_proj", .targets = {"mlp.experts.%d.down_proj"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX},
    {.source = NULL},
};

static const TurnSpec turn = {.heads = TURN_HEADS_HADAMARD};

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
    .folds = folds,
    .defaults = defaults_deepseek_v3,
    .turn = &turn,
    .names = names,
};
