#include "model/arch.h"
#include "model/config.h"
#include "model/rotmap.h"
#include "model/subgraph.h"

static const ArchName names[] = {
    {.name = "Qwen3-30B"},
    {.name = "Qwen3-235B"},
    {.name = "Qwen3-Coder-480B-A35B"},
    {.name = "qwen3_vl_moe_text", .config = true},
    {.name = "qwen3_omni_moe_text", .config = true},
    {.name = NULL},
};

static const MoeRule rule = {
    .block = "mlp",
    .experts_key = "num_experts",
    .inter_key = "moe_intermediate_size",
    .gate = "gate_proj",
    .up = "up_proj",
    .down = "down_proj",
    .router_linear = true,
    .layers = MOE_SPARSE_STEP,
    .score = SCORE_SOFTMAX,
    .renorm = RENORM_CONFIG,
    .round_weights = true,
};

/* Windows on all layers, when use_sliding_window says so. */
static Status windows(const cJSON *config, ModelConfig *cfg, Error *err)
{
    bool use = false, listed;
    RETURN_IF_ERROR(json_bool(config, "use_sliding_window", &use, NULL, err));
    return use ? config_windows(config, 4096, 0, cfg, err) : config_layer_types(config, 0, cfg, &listed, err);
}

static const GqaSpec attention = {.qk_norm = QK_NORM_HEAD, .windows = windows};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention},
    {.type = &block_moe, .how = &rule, .join = &join_feed_forward, .has = unit_has_experts},
    {.type = &block_dense, .join = &join_feed_forward, .has = unit_has_no_experts},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "32768"},
    {.key = NULL},
};

/* Sub-graphs of the peer's adapter (specs/outlier_suppression.md 2.4). */
static const SubgraphFold folds[] = {
    {.type = SUBGRAPH_NORM_LINEAR, .source = "input_layernorm",
     .targets = {"self_attn.k_proj", "self_attn.q_proj", "self_attn.v_proj"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX},
    {.type = SUBGRAPH_OV, .source = "self_attn.v_proj", .targets = {"self_attn.o_proj"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX,
     .group_max = true},
    {.type = SUBGRAPH_UP_DOWN, .source = "mlp.experts.%d.up_proj", .targets = {"mlp.experts.%d.down_proj"}, .users = SUBGRAPH_ITER | SUBGRAPH_FLEX},
    {.source = NULL},
};

static const TurnSpec turn = {.heads = TURN_HEADS_SHIFTED, .adapt = true};

/* Qwen 3 with experts. */
const Arch arch_qwen3_moe = {
    .model_type = "qwen3_moe",
    .title = "Qwen 3 MoE",
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .folds = folds,
    .defaults = defaults,
    .turn = &turn,
    .names = names,
};
