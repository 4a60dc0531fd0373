#include "model/arch.h"

/* Llama 1 to 3: the plain case that the other rows differ from. */
const Arch arch_llama = {
    .model_type = "llama",
    .title = "Llama 2/3",
    .blocks = blocks_llama,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-6,
};
