#include "model/arch.h"
#include "model/config.h"
#include "model/order.h"

static const GqaSpec attention = {.fused = true, .windows = config_windows_all};
static const DenseSpec feed_forward = {.fused = true};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention},
    {.type = &block_dense, .how = &feed_forward, .join = &join_feed_forward},
    {.type = NULL},
};

static const char *const order[] = {
    "self_attn.o_proj", "self_attn.qkv_proj", ORDER_QK_NORMS, ORDER_DENSE, ORDER_NORMS, NULL,
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "4096"},
    {.key = "partial_rotary_factor", .null = CONFIG_NO_NULL},
    {.key = NULL},
};

/* Phi-3, Phi-4-mini: q, k, v in one linear and gate, up in another; only a part of each head is rotated. */
const Arch arch_phi3 = {
    .model_type = "phi3",
    .title = "Phi 3/4-mini",
    .order = order,
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .partial_rotary = 1,
    .default_theta = 10000,
    .default_eps = 1e-5,
    .original_max = 4096,
    .defaults = defaults,
};
