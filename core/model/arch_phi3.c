#include "model/arch.h"
#include "model/config.h"

/* Phi-3, Phi-4-mini: q, k, v in one linear and gate, up in another; only a part of each head is rotated. */
const Arch arch_phi3 = {
    .model_type = "phi3",
    .title = "Phi 3/4-mini",
    .norm = NORM_LLAMA,
    .fused = true,
    .default_theta = 10000,
    .default_eps = 1e-5,
    .windows = config_windows_all,
};
