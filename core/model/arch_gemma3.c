#include "model/arch.h"
#include "model/config.h"

static const ArchName names[] = {
    {.name = "gemma3", .pedigree = "gemma3", .config = true},
    {.name = NULL},
};

/* Windows on all layers but every sliding_window_pattern-th. */
static Status windows(const cJSON *config, ModelConfig *cfg, Error *err)
{
    int64_t pattern = 6;
    RETURN_IF_ERROR(json_int(config, "sliding_window_pattern", &pattern, NULL, err));
    if (pattern < 1 || pattern > cfg->layers + 1)
        pattern = pattern < 1 ? 1 : cfg->layers + 1;
    return config_windows(config, 4096, (int)pattern, cfg, err);
}

static const GqaSpec attention = {
    .scale_key = true, .qk_norm = QK_NORM_HEAD, .local_rope = true, .windows = windows};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention_sandwich},
    {.type = &block_dense, .join = &join_feed_forward_sandwich},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "131072"},
    {.key = "query_pre_attn_scalar", .absent = "256", .null = CONFIG_NO_NULL},
    {.key = NULL},
};

/* Gemma 3 (text): Gemma 2 with norms on the heads instead of caps, and an embedding of its own for layers with a
 * window. */
const Arch arch_gemma3 = {
    .model_type = "gemma3_text",
    .title = "Gemma 3",
    .blocks = blocks,
    .norm = NORM_UNIT,
    .default_head_dim = 256,
    .entry = {.scaled = true},
    .exit = {.softcap = true, .tied = true},
    .act = ACT_GELU_TANH,
    .default_theta = 1000000,
    .default_eps = 1e-6,
    .defaults = defaults,
    .names = names,
};
