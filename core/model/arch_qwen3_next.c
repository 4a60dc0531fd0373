#include "model/arch.h"

static const ArchName names[] = {
    {.name = "Qwen3-Next-80B-A3B-Instruct"},
    {.name = NULL},
};

/* Qwen3-Next: three layers of linear attention to one of full attention, whose output is gated; experts as in
 * Qwen2-MoE. */
const Arch arch_qwen3_next = {
    .model_type = "qwen3_next",
    .title = "Qwen 3 Next",
    .norm = NORM_UNIT,
    .qk_norm = QK_NORM_HEAD,
    .head_dim_from_config = true,
    .default_head_dim = 256,
    .delta = true,
    .out_gate = true,
    .moe = &moe_rule_qwen2,
    .renorm = true,
    .partial_rotary = 0.25,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .names = names,
};
