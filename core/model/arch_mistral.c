#include "model/arch.h"
#include "model/config.h"

static const GqaSpec attention = {.windows = config_windows_all};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention},
    {.type = &block_dense, .join = &join_feed_forward},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "131072"},
    {.key = "sliding_window", .absent = "4096"},
    {.key = NULL},
};

/* Mistral: Llama with a window on every layer while sliding_window is set. */
const Arch arch_mistral = {
    .model_type = "mistral",
    .title = "Mistral",
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .defaults = defaults,
};
