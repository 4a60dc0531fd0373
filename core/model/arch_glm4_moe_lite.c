#include "model/arch.h"
#include "model/order.h"

static const ArchName names[] = {
    {.name = "GLM-4.7-Flash"},
    {.name = NULL},
};

/* GLM-4.7-Flash: DeepSeek-V3's attention and routing with GLM's epsilon. */
const Arch arch_glm4_moe_lite = {
    .model_type = "glm4_moe_lite",
    .title = "GLM 4.7 Flash",
    .order = order_deepseek,
    .blocks = blocks_deepseek_v3,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-5,
    .names = names,
};
