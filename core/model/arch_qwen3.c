#include "model/arch.h"
#include "model/config.h"

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

/* Qwen3: a norm on every head of q and k before RoPE; head_dim is a size of its own. */
const Arch arch_qwen3 = {
    .model_type = "qwen3",
    .title = "Qwen 3",
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_head_dim = 128,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .defaults = defaults,
    .names = names,
};
