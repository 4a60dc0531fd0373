#include "model/arch.h"
#include "model/order.h"

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

static const MlaSpec attention = {.scaled = true};
static const DenseSpec feed_forward = {.keys = "ffn_hidden_size, hidden_size"};
static const JoinSpec join[4] = {
    {&block_residual, "input_layernorm.0", NULL, NULL},
    {&block_residual, "post_attention_layernorm.0", NULL, NULL},
    {&block_residual, "input_layernorm.1", NULL, NULL},
    {&block_residual, "post_attention_layernorm.1", NULL, NULL},
};

/* The experts read what the first feed-forward block reads; the library defines them first and dense blocks last. */
static const BlockSpec blocks[] = {
    {.type = &block_mla, .module = "self_attn.0", .how = &attention, .join = &join[0], .defined = 1},
    {.type = &block_moe, .how = &rule, .join = &join[1], .late = true},
    {.type = &block_dense, .module = "mlps.0", .how = &feed_forward, .join = &join[1], .defined = 3},
    {.type = &block_mla, .module = "self_attn.1", .how = &attention, .join = &join[2], .defined = 2},
    {.type = &block_dense, .module = "mlps.1", .how = &feed_forward, .join = &join[3], .defined = 4},
    {.type = NULL},
};

#define HALF_ATTENTION(i)                                                                                              \
    "self_attn." i ".q_a_proj", "self_attn." i ".q_a_layernorm", "self_attn." i ".q_b_proj", "self_attn." i ".q_proj", \
        "self_attn." i ".kv_a_proj_with_mqa", "self_attn." i ".kv_a_layernorm", "self_attn." i ".kv_b_proj",           \
        "self_attn." i ".o_proj"
static const char *const order[] = {
    "mlp.experts", "mlp.router.e_score_correction_bias", "mlp.router", HALF_ATTENTION("0"),
    HALF_ATTENTION("1"), "self_attn", "mlps.0", "mlps.1", ORDER_NORMS, NULL,
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "131072"},
    {.key = "routed_scaling_factor", .absent = "6.0", .null = CONFIG_NO_NULL},
    {.key = "zero_expert_num", .absent = "256"},
    {.key = NULL},
};

/* LongCat-Flash: layers of two halves with latent attention; some experts give back what they read. */
const Arch arch_longcat_flash = {
    .model_type = "longcat_flash",
    .title = "LongCat Flash",
    .order = order,
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .layers_key = "num_layers",
    .ffn_key = "ffn_hidden_size",
    .default_theta = 10000000,
    .default_eps = 1e-5,
    .defaults = defaults,
    .names = names,
};
