#include "model/arch.h"
#include "model/config.h"
#include "model/rotmap.h"
#include "model/subgraph.h"

/* Names the peer's adapters take for this family (specs/models.md 1.3: qwen1_5, qwen2, qwen2_5, qwq). */
static const ArchName names[] = {
    {.name = "Qwen1.5-110B", .pedigree = "qwen1_5"},
    {.name = "Qwen2-7B"},
    {.name = "Qwen2-7B-Instruct"},
    {.name = "Qwen2-72B"},
    {.name = "Qwen2.5-7B-Instruct", .pedigree = "qwen2_5"},
    {.name = "Qwen2.5-32B-Instruct", .pedigree = "qwen2_5"},
    {.name = "Qwen2.5-72B-Instruct", .pedigree = "qwen2_5"},
    {.name = "Qwen2.5-Coder-7B-Instruct", .pedigree = "qwen2_5"},
    {.name = "DeepSeek-R1-Distill-Qwen-1.5B", .pedigree = "qwen2_5"},
    {.name = "DeepSeek-R1-Distill-Qwen-7B", .pedigree = "qwen2_5"},
    {.name = "Qwen-QwQ-32B", .pedigree = "qwq"},
    {.name = "QwQ-32B", .pedigree = "qwq"},
    {.name = "qwen2_vl", .config = true},
    {.name = "qwen2_vl_text", .config = true},
    {.name = "qwen2_5_vl", .config = true},
    {.name = "qwen2_5_vl_text", .config = true},
    {.name = "qwen2_5_omni_text", .config = true},
    {.name = NULL},
};

Status qwen_window(const cJSON *config, ModelConfig *cfg, int64_t *window, int64_t *first, Error *err)
{
    bool use = false, listed;
    *window = 4096; /* defaults of the family's configuration class */
    *first = 28;
    RETURN_IF_ERROR(json_bool(config, "use_sliding_window", &use, NULL, err));
    RETURN_IF_ERROR(json_int(config, "sliding_window", window, NULL, err));
    RETURN_IF_ERROR(json_int(config, "max_window_layers", first, NULL, err));
    if (use && *window <= 0)
        return error_set(err, ST_DATA, "'sliding_window' must be positive, not %lld", (long long)*window);
    RETURN_IF_ERROR(config_layer_types(config, use ? *window : 0, cfg, &listed, err));
    *window = use && !listed ? *window : 0;
    return ST_OK;
}

Status qwen_windows(const cJSON *config, ModelConfig *cfg, Error *err)
{
    int64_t window, first;
    RETURN_IF_ERROR(qwen_window(config, cfg, &window, &first, err));
    for (int i = 0; i < cfg->layers && window; i++)
        cfg->window[i] = i >= first ? window : 0;
    return ST_OK;
}

static const GqaSpec attention = {.windows = qwen_windows};
static const BlockSpec blocks[] = {
    {.type = &block_gqa, .how = &attention, .join = &join_attention},
    {.type = &block_dense, .join = &join_feed_forward},
    {.type = NULL},
};

static const ConfigDefault defaults[] = {
    {.key = "max_position_embeddings", .absent = "32768"},
    {.key = NULL},
};

/* Sub-graphs of the peer's adapters (specs/outlier_suppression.md 2.4): qwen2's are for awq alone, qwq's for iter_smooth. */
#define FOLDS(user, name)                                                                                                      \
    {.type = SUBGRAPH_NORM_LINEAR, .source = "input_layernorm",                                                                \
     .targets = {"self_attn.k_proj", "self_attn.q_proj", "self_attn.v_proj"}, .users = user, .pedigree = name},                \
        {.type = SUBGRAPH_NORM_LINEAR, .source = "post_attention_layernorm", .targets = {"mlp.gate_proj", "mlp.up_proj"},      \
         .users = user, .pedigree = name},                                                                                     \
    {                                                                                                                          \
        .type = SUBGRAPH_UP_DOWN, .source = "mlp.up_proj", .targets = {"mlp.down_proj"}, .users = user, .pedigree = name       \
    }
static const SubgraphFold folds[] = {FOLDS(SUBGRAPH_AWQ, NULL), FOLDS(SUBGRAPH_ITER, "qwq"), {.source = NULL}};

static const TurnSpec turn = {.heads = TURN_HEADS_SHIFTED, .pedigree = "qwq", .online = true};

/* Qwen1.5, Qwen2, Qwen2.5, QwQ: biases on q, k, v (found by their tensors) and windows on the last layers. */
const Arch arch_qwen2 = {
    .model_type = "qwen2",
    .title = "Qwen 1.5/2/2.5, QwQ",
    .blocks = blocks,
    .norm = NORM_LLAMA,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .folds = folds,
    .defaults = defaults,
    .turn = &turn,
    .names = names,
};
