#include "model/arch.h"

static const char *const aliases[] = {"GLM-5", "GLM-5.1", NULL};

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
    .aliases = aliases,
};
