#include "model/arch.h"
#include "model/config.h"
#include "model/rotmap.h"
#include "model/subgraph.h"

static const ArchName names[] = {
    {.name = "Qwen3-8B"},
    {.name = "Qwen3-14B"},
    {.name = "Qwen3-32B"},
    {.name = "qwen3_vl_text", .config = true},
    {.name = NULL},
};

static const GqaSpec attention = {.qk_norm = QK_NORM_HEAD, .windows = qwen_windows};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention},
    {.type = &block_dense, .join = &join_feed_forward},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "32768"},
    {.key = NULL},
};

/* Sub-graphs of the peer's adapter (specs/outlier_suppression.md 2.4). */
static const SubgraphFold folds[] = {
    {.type = SUBGRAPH_NORM_LINEAR, .source = "input_layernorm",
     .targets = {"self_attn.k_proj", "self_attn.q_proj", "self_attn.v_proj"}, .users = SUBGRAPH_EVERY},
    {.type = SUBGRAPH_NORM_LINEAR, .source = "post_attention_layernorm", .targets = {"mlp.gate_proj", "mlp.up_proj"},
     .users = SUBGRAPH_EVERY},
    {.type = SUBGRAPH_OV, .source = "self_attn.v_proj", .targets = {"self_attn.o_proj"}, .users = SUBGRAPH_EVERY,
     .group_max = true},
    {.type = SUBGRAPH_UP_DOWN, .source = "mlp.up_proj", .targets = {"mlp.down_proj"}, .users = SUBGRAPH_EVERY},
    {.source = NULL},
};

static const TurnSpec turn = {.heads = TURN_HEADS_HADAMARD, .adapt = true, .online = true};

/* Qwen3: a norm on every head of q and k before RoPE; head_dim is a size of its own. */
const Arch arch_qwen3 = {
    .model_type = "qwen3",
    .title = "Qwen 3",
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_head_dim = 128,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .folds = folds,
    .defaults = defaults,
    .turn = &turn,
    .names = names,
};
