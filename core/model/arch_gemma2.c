#include "model/arch.h"
#include "model/config.h"

/* Every other layer has the window, beginning with the first. */
static Status windows(const cJSON *config, ModelConfig *cfg, Error *err)
{
    return config_windows(config, 4096, 2, cfg, err);
}

/* Gemma 2: norms before and after each block, scaled embeddings, capped scores and logits. */
const Arch arch_gemma2 = {
    .model_type = "gemma2",
    .title = "Gemma 2",
    .norm = NORM_UNIT,
    .head_dim_from_config = true,
    .default_head_dim = 256,
    .sandwich = true,
    .embed_scale = true,
    .score_scale_key = true,
    .softcaps = true,
    .tied = true,
    .act = ACT_GELU_TANH,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .windows = windows,
};
