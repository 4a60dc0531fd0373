#ifndef SLIM_MODEL_ORDER_H
#define SLIM_MODEL_ORDER_H

/* The order in which a family's reference code defines the modules of a layer, and in which they are written
 * (specs/formats.md 3): Arch.order, by names below the layer. A name stands for itself and for all below it; what no
 * list names comes after everything that is named. Its linears are in the order in which the model numbers them. */
#define ORDER_ATTENTION                                                                                                \
    "self_attn.sinks", "self_attn.q_a_proj", "self_attn.q_a_layernorm", "self_attn.q_b_proj", "self_attn.q_proj",      \
        "self_attn.kv_a_proj_with_mqa", "self_attn.kv_a_layernorm", "self_attn.kv_b_proj", "self_attn.k_proj",         \
        "self_attn.v_proj"
#define ORDER_QK_NORMS "self_attn.q_norm", "self_attn.k_norm", "self_attn"
#define ORDER_DELTA                                                                                                    \
    "linear_attn.dt_bias", "linear_attn.A_log", "linear_attn.conv1d", "linear_attn.in_proj_qkvz",                      \
        "linear_attn.in_proj_ba", "linear_attn.norm", "linear_attn.out_proj", "linear_attn"
#define ORDER_DENSE "mlp.gate_proj", "mlp.up_proj", "mlp.gate_up_proj", "mlp.down_proj"
#define ORDER_NORMS                                                                                                    \
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"

/* Of DeepSeek-V2, V3 and GLM 4.5: experts before their router. */
extern const char *const order_deepseek[];

#endif
