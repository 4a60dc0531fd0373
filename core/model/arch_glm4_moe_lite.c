#include "model/arch.h"
#include "model/order.h"

static const ArchName names[] = {
    {.name = "GLM-4.7-Flash"},
    {.name = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "first_k_dense_replace", .absent = "1"},
    {.key = "n_shared_experts", .absent = "1"},
    {.key = "routed_scaling_factor", .absent = "1.8", .null = CONFIG_NO_NULL},
    {.key = "norm_topk_prob", .absent = "true", .null = "false"},
    {.key = NULL},
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
    .defaults = defaults,
    .names = names,
};
