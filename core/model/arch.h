#ifndef SLIM_MODEL_ARCH_H
#define SLIM_MODEL_ARCH_H

#include "model/block.h"

/* Rows of arch_table, one file each. */
extern const Arch arch_llama;
extern const Arch arch_qwen2;
extern const Arch arch_qwen3;
extern const Arch arch_mistral;
extern const Arch arch_phi3;
extern const Arch arch_gemma2;
extern const Arch arch_gemma3;
extern const Arch arch_mixtral;
extern const Arch arch_qwen2_moe;
extern const Arch arch_qwen3_moe;
extern const Arch arch_qwen3_next;
extern const Arch arch_glm4_moe;
extern const Arch arch_glm4_moe_lite;
extern const Arch arch_minimax_m2;
extern const Arch arch_deepseek_v2;
extern const Arch arch_deepseek_v3;
extern const Arch arch_deepseek_v32;
extern const Arch arch_glm_moe_dsa;
extern const Arch arch_longcat_flash;
extern const Arch arch_deepseek_v4;
extern const Arch arch_gpt_oss;

/* The joins of Llama's two blocks, and with norms behind them as well (Gemma). */
extern const JoinSpec join_attention, join_feed_forward, join_attention_sandwich, join_feed_forward_sandwich;
/* The blocks of Llama, which others have too. */
extern const BlockSpec blocks_llama[];
/* Arch.ahead of DeepSeek-V3's kind of multi-token prediction. */
extern const BlockSpec block_spec_mtp;

/* Routing of DeepSeek-V3, which GLM 4.5 shares. */
extern const MoeRule moe_rule_deepseek_v3;
/* Routing of Qwen2-MoE, which Qwen3-Next shares. */
extern const MoeRule moe_rule_qwen2;

#endif
