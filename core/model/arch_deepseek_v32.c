#include "model/arch.h"

static const ArchName names[] = {
    {.name = "DeepSeek-V3.2-Exp"},
    {.name = "DeepSeek-V3.2"},
    {.name = NULL},
};

/* DeepSeek-V3.2: as V3, and an indexer chooses the keys a query looks at. */
const Arch arch_deepseek_v32 = {
    .model_type = "deepseek_v32",
    .title = "DeepSeek V3.2",
    .norm = NORM_LLAMA,
    .mla = true,
    .indexer = INDEXER_HALVES,
    .moe = &moe_rule_deepseek_v3,
    .renorm = true,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .names = names,
    .pedigree = "deepseek_v3_2",
};
