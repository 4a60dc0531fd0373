#include "model/arch.h"

static const ArchName names[] = {
    {.name = "LongCat-Flash-Chat"},
    {.name = NULL},
};

static const MoeRule rule = {
    .block = "mlp",
    .experts_key = "n_routed_experts",
    .inter_key = "expert_ffn_hidden_size",
    .top_k_key = "moe_topk",
    .zero_key = "zero_expert_num",
    .bias = "router.e_score_correction_bias",
    .gate = "gate_proj",
    .up = "up_proj",
    .down = "down_proj",
    .router = "router.classifier",
    .router_linear = true,
    .router_wide = true,
    .layers = MOE_ALL,
    .score = SCORE_SOFTMAX,
    .scaled = true,
};

/* LongCat-Flash: layers of two halves with latent attention; some experts give back what they read. */
const Arch arch_longcat_flash = {
    .model_type = "longcat_flash",
    .title = "LongCat Flash",
    .norm = NORM_LLAMA,
    .mla = true,
    .latent_scale = true,
    .halves = true,
    .layers_key = "num_layers",
    .ffn_key = "ffn_hidden_size",
    .moe = &rule,
    .default_theta = 10000000,
    .default_eps = 1e-5,
    .names = names,
};
