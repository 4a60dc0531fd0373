#include <string.h>

#include "model/arch.h"
#include "model/order.h"

static const char *const kind_names[] = {
    [LK_Q] = "q_proj",       [LK_K] = "k_proj",       [LK_V] = "v_proj",
    [LK_O] = "o_proj",       [LK_GATE] = "gate_proj", [LK_UP] = "up_proj",
    [LK_DOWN] = "down_proj", [LK_QKV] = "qkv_proj",   [LK_GATE_UP] = "gate_up_proj",
    [LK_ROUTER] = "router",  [LK_OTHER] = "other",
};

const char *linear_kind_name(LinearKind k)
{
    return kind_names[k];
}

const JoinSpec join_attention = {&block_residual, "input_layernorm", NULL, NULL};
const JoinSpec join_feed_forward = {&block_residual, "post_attention_layernorm", NULL, NULL};
const JoinSpec join_attention_sandwich = {
    &block_residual, "input_layernorm", "post_attention_layernorm", NULL};
const JoinSpec join_feed_forward_sandwich = {
    &block_residual, "pre_feedforward_layernorm", "post_feedforward_layernorm", NULL};

const BlockSpec block_spec_mtp = {.type = &block_mtp};

/* ---- order of definition ---- */

static const char *const order_common[] = {
    ORDER_DELTA, ORDER_ATTENTION, "self_attn.qkv_proj", "self_attn.o_proj", ORDER_QK_NORMS,
    "mlp.gate", "mlp.router", "mlp.experts", ORDER_DENSE, "mlp.shared_expert", "mlp.shared_expert_gate",
    "block_sparse_moe.e_score_correction_bias", "block_sparse_moe.gate", "block_sparse_moe.experts", ORDER_NORMS, NULL,
};

const char *const order_deepseek[] = {
    ORDER_ATTENTION, "self_attn.o_proj", ORDER_QK_NORMS, "mlp.experts", "mlp.gate", "mlp.shared_experts", ORDER_DENSE,
    ORDER_NORMS, NULL,
};

const char *const *arch_order(const Arch *a)
{
    return a && a->order ? a->order : order_common;
}

const Arch *arch_find(const char *name)
{
    for (const Arch *const *a = arch_table; *a; a++) {
        if (strcmp((*a)->model_type, name) == 0)
            return *a;
        for (const ArchName *n = (*a)->names; n && n->name; n++)
            if (strcmp(n->name, name) == 0)
                return *a;
    }
    return NULL;
}
