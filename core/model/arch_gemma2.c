#include "model/arch.h"
#include "model/config.h"

/* Every other layer has the window, beginning with the first. */
static Status windows(const cJSON *config, ModelConfig *cfg, Error *err)
{
    return config_windows(config, 4096, 2, cfg, err);
}

static const GqaSpec attention = {.scale_key = true, .softcap = true, .windows = windows};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention_sandwich},
    {.type = &block_dense, .join = &join_feed_forward_sandwich},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "8192"},
    {.key = "query_pre_attn_scalar", .absent = "256", .null = CONFIG_NO_NULL},
    {.key = "attn_logit_softcapping", .absent = "50.0"},
    {.key = "final_logit_softcapping", .absent = "30.0"},
    {.key = NULL},
};

/* Gemma 2: norms before and after each block, scaled embeddings, capped scores and logits. */
const Arch arch_gemma2 = {
    .model_type = "gemma2",
    .title = "Gemma 2",
    .blocks = blocks,
    .norm = NORM_UNIT,
    .default_head_dim = 256,
    .entry = {.scaled = true},
    .exit = {.softcap = true, .tied = true},
    .act = ACT_GELU_TANH,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .defaults = defaults,
};
