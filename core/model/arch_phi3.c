#include "model/arch.h"
#include "model/config.h"

static const GqaSpec attention = {.fused = true, .windows = config_windows_all};
static const DenseSpec feed_forward = {.fused = true};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention},
    {.type = &block_dense, .how = &feed_forward, .join = &join_feed_forward},
    {.type = NULL},
};

/* Phi-3, Phi-4-mini: q, k, v in one linear and gate, up in another; only a part of each head is rotated. */
const Arch arch_phi3 = {
    .model_type = "phi3",
    .title = "Phi 3/4-mini",
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-5,
};
