#ifndef SLIM_MODEL_ARCH_H
#define SLIM_MODEL_ARCH_H

#include "model/block.h"

/* The joins of Llama's two blocks, and with norms behind them as well (Gemma). */
extern const JoinSpec join_attention, join_feed_forward, join_attention_sandwich, join_feed_forward_sandwich;
/* Arch.ahead of DeepSeek-V3's kind of multi-token prediction. */
extern const BlockSpec block_spec_mtp;

/* The blocks of DeepSeek-V3, and its experts, which V3.2 and GLM from 4.5 on have too. */
extern const BlockSpec blocks_deepseek_v3[];
extern const MoeRule moe_rule_deepseek_v3;
extern const ConfigDefault defaults_deepseek_v3[]; /* V3's and V3.2's */
/* Routing of Qwen2-MoE, which Qwen3-Next shares. */
extern const MoeRule moe_rule_qwen2;

#endif
