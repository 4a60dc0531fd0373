#include "model/arch.h"

static const ArchName names[] = {
    {.name = "GLM-5"},
    {.name = "GLM-5.1"},
    {.name = NULL},
};

/* GLM-5: as DeepSeek-V3.2, but the indexer rotates neighbours, and layers may share what one of them chose. */
const Arch arch_glm_moe_dsa = {
    .model_type = "glm_moe_dsa",
    .title = "GLM 5",
    .norm = NORM_LLAMA,
    .mla = true,
    .indexer = INDEXER_PAIRS,
    .moe = &moe_rule_deepseek_v3,
    .renorm = true,
    .default_theta = 1000000,
    .default_eps = 1e-5,
    .names = names,
    .pedigree = "glm_5",
};
