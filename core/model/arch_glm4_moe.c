#include "model/arch.h"

static const ArchName names[] = {
    {.name = "GLM-4.5"},
    {.name = "GLM-4.6"},
    {.name = "GLM-4.7"},
    {.name = NULL},
};

/* GLM 4.5 to 4.7: routing as in DeepSeek-V3, attention as in Llama with a part of each head rotated. */
const Arch arch_glm4_moe = {
    .model_type = "glm4_moe",
    .title = "GLM 4.5/4.6/4.7",
    .norm = NORM_LLAMA,
    .qk_norm = QK_NORM_HEAD,
    .qk_norm_key = true,
    .mtp = true,
    .moe = &moe_rule_deepseek_v3,
    .partial_rotary = 0.5,
    .renorm = true,
    .default_theta = 10000,
    .default_eps = 1e-5,
    .names = names,
};
