#include "model/arch.h"
#include "model/config.h"

static const ArchName names[] = {
    {.name = "Qwen3-8B"},
    {.name = "Qwen3-14B"},
    {.name = "Qwen3-32B"},
    {.name = NULL},
};

/* Qwen3: a norm on every head of q and k before RoPE; head_dim is a size of its own. */
const Arch arch_qwen3 = {
    .model_type = "qwen3",
    .title = "Qwen 3",
    .norm = NORM_LLAMA,
    .qk_norm = QK_NORM_HEAD,
    .head_dim_from_config = true,
    .default_head_dim = 128,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .names = names,
    .windows = qwen_windows,
};
