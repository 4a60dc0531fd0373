#include "model/arch.h"

static const MoeRule rule = {
    .block = "mlp",
    .experts_key = "n_routed_experts",
    .inter_key = "moe_intermediate_size",
    .gate = "gate_proj",
    .up = "up_proj",
    .down = "down_proj",
    .shared = "shared_experts",
    .layers = MOE_AFTER_DENSE,
    .score = SCORE_SOFTMAX,
    .group = GROUP_MAX,
    .scaled = true,
};

/* DeepSeek-V2: latent attention whose rotation stays in float32, and experts behind the first dense layers. */
const Arch arch_deepseek_v2 = {
    .model_type = "deepseek_v2",
    .title = "DeepSeek V2",
    .norm = NORM_LLAMA,
    .mla = true,
    .rope_fp32 = true,
    .moe = &rule,
    .default_theta = 10000,
    .default_eps = 1e-6,
};
