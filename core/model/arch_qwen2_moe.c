#include "model/arch.h"
#include "model/config.h"

const MoeRule moe_rule_qwen2 = {
    .block = "mlp",
    .experts_key = "num_experts",
    .inter_key = "moe_intermediate_size",
    .gate = "gate_proj",
    .up = "up_proj",
    .down = "down_proj",
    .shared = "shared_expert",
    .shared_inter_key = "shared_expert_intermediate_size",
    .shared_gate = true,
    .router_linear = true,
    .layers = MOE_SPARSE_STEP,
    .score = SCORE_SOFTMAX,
    .renorm = RENORM_CONFIG,
    .round_weights = true,
};

/* With use_sliding_window: every other layer of the first max_window_layers, beginning with the first. */
static Status windows(const cJSON *config, ModelConfig *cfg, Error *err)
{
    int64_t window, first;
    RETURN_IF_ERROR(qwen_window(config, cfg, &window, &first, err));
    for (int i = 0; i < cfg->layers && window; i += 2)
        cfg->window[i] = i < first ? window : 0;
    return ST_OK;
}

static const GqaSpec attention = {.windows = windows};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention},
    {.type = &block_moe, .how = &moe_rule_qwen2, .join = &join_feed_forward, .has = unit_has_experts},
    {.type = &block_dense, .join = &join_feed_forward, .has = unit_has_no_experts},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "32768"},
    {.key = NULL},
};

/* Qwen 1.5/2 with experts, one of them shared and scaled by a gate of its own. */
const Arch arch_qwen2_moe = {
    .model_type = "qwen2_moe",
    .title = "Qwen 1.5/2 MoE",
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .defaults = defaults,
};
