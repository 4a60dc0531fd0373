#include "model/arch.h"
#include "model/order.h"

static const ArchName names[] = {
    {.name = "DeepSeek-V4-Flash"},
    {.name = "DeepSeek-V4-Pro"},
    {.name = NULL},
};

static const MoeRule rule = {
    .block = "ffn",
    .experts_key = "n_routed_experts",
    .inter_key = "moe_intermediate_size",
    .bias = "gate.bias",
    .gate = "w1",
    .up = "w3",
    .down = "w2",
    .down_second = true,
    .shared = "shared_experts",
    .round_steps = true,
    .layers = MOE_ALL,
    .score = SCORE_SQRT_SOFTPLUS,
    .renorm = RENORM_ALWAYS,
    .renorm_eps = 1e-20,
    .scaled = true,
    .round_weights = true,
};

static const JoinSpec join[2] = {
    {&block_hyper, "attn_norm", NULL, "hc_attn"},
    {&block_hyper, "ffn_norm", NULL, "hc_ffn"},
};
static const BlockSpec blocks[] = {
    {.type = &block_compressed, .join = &join[0]},
    {.type = &block_moe, .how = &rule, .join = &join[1]},
    {.type = NULL},
};

static const char *const order[] = {
    "hc_attn_fn", "hc_ffn_fn", "hc_attn_base", "hc_ffn_base", "hc_attn_scale", "hc_ffn_scale", "attn", "ffn.gate",
    "ffn.experts", "ffn.shared_experts.w1", "ffn.shared_experts.w2", "ffn.shared_experts.w3", "attn_norm", "ffn_norm",
    NULL,
};

static const ConfigDefault defaults[] = {
    {.key = "n_shared_experts", .absent = "1"},
    {.key = "routed_scaling_factor", .absent = "1.5", .null = CONFIG_NO_NULL},
    {.key = NULL},
};

/* DeepSeek-V4: hyper-connections instead of a residual stream; attention over a window and over compressed keys;
 * the first layers choose experts by the token's id. */
const Arch arch_deepseek_v4 = {
    .model_type = "deepseek_v4",
    .title = "DeepSeek V4",
    .order = order,
    .blocks = blocks,
    .prefix = "layers.",
    .entry = {.table = "embed.weight"},
    .exit = {.head = "head.weight", .hyper = "hc_head"},
    .norm = NORM_LATE,
    .default_head_dim = 512,
    .act = ACT_SILU_CLAMPED,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .defaults = defaults,
    .names = names,
};
