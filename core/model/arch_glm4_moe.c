#include "model/arch.h"

static const MoeRule rule = {
    .block = "mlp",
    .experts_key = "n_routed_experts",
    .inter_key = "moe_intermediate_size",
    .bias = "gate.e_score_correction_bias",
    .gate = "gate_proj",
    .up = "up_proj",
    .down = "down_proj",
    .shared = "shared_experts",
    .layers = MOE_AFTER_DENSE,
    .score = SCORE_SIGMOID,
    .group = GROUP_TOP2,
    .renorm = RENORM_CONFIG,
    .renorm_eps = 1e-20,
    .scaled = true,
};

/* GLM 4.5 to 4.7: routing as in DeepSeek-V3, attention as in Llama with a part of each head rotated. */
const Arch arch_glm4_moe = {
    .model_type = "glm4_moe",
    .title = "GLM 4.5/4.6/4.7",
    .norm = NORM_LLAMA,
    .qk_norm = QK_NORM_HEAD,
    .qk_norm_key = true,
    .moe = &rule,
    .default_theta = 10000,
    .default_eps = 1e-5,
};
