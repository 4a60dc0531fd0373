#include "model/arch.h"

static const BlockSpec blocks[] = {
    {.type = &block_gqa, .join = &join_attention},
    {.type = &block_dense, .join = &join_feed_forward},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "2048"},
    {.key = NULL},
};

/* Llama 1 to 3: the plain case that the other rows differ from. */
const Arch arch_llama = {
    .model_type = "llama",
    .title = "Llama 2/3",
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .defaults = defaults,
};
