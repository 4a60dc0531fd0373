#include "model/arch.h"
#include "model/config.h"

/* Mistral: Llama with a window on every layer while sliding_window is set. */
const Arch arch_mistral = {
    .model_type = "mistral",
    .title = "Mistral",
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .windows = config_windows_all,
};
