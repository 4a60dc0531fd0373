/* The one place that names every row of the engine's tables. A new row: its file, a line here, a test. */
#include <stddef.h>

#include "math/gemm.h"
#include "metric/rows.h"
#include "model/arch.h"
#include "process/processor.h"
#include "quant/quantizer.h"
#include "recipe/field.h"
#include "run/block.h"
#include "save/format.h"

const GemmOps *const gemm_table[] = {
    &gemm_openblas,
    &gemm_exact,
    NULL,
};

const BlockKind block_table[] = {
    {&block_gqa, &gqa_ops},
    {&block_mla, &mla_ops},
    {&block_delta, &delta_ops},
    {&block_compressed, &compressed_ops},
    {&block_dense, &dense_ops},
    {&block_moe, &moe_ops},
    {&block_mtp, &mtp_ops},
    {&block_residual, &residual_ops},
    {&block_hyper, &hyper_ops},
    {NULL, NULL},
};

const Arch *const arch_table[] = {
    &arch_llama,
    &arch_qwen2,
    &arch_qwen3,
    &arch_mistral,
    &arch_phi3,
    &arch_gemma2,
    &arch_gemma3,
    &arch_mixtral,
    &arch_qwen2_moe,
    &arch_qwen3_moe,
    &arch_qwen3_next,
    &arch_glm4_moe,
    &arch_glm4_moe_lite,
    &arch_minimax_m2,
    &arch_deepseek_v2,
    &arch_deepseek_v3,
    &arch_deepseek_v32,
    &arch_glm_moe_dsa,
    &arch_longcat_flash,
    &arch_deepseek_v4,
    &arch_gpt_oss,
    NULL,
};

const Metric *const metric_table[] = {
    &metric_kurtosis,
    &metric_std,
    &metric_quantile,
    &metric_local_error,
    NULL,
};

const ActQuantizer *const act_quantizer_table[] = {
    &act_float,
    &act_minmax_tensor,
    &act_minmax_token,
    &act_pd_mix,
    &act_histogram,
    &act_fp8_token,
    &act_fp8_tensor,
    &act_mxfp8,
    &act_mxfp4,
    &act_dualscale,
    NULL,
};

const WeightQuantizer *const weight_quantizer_table[] = {
    &weight_minmax_int8,
    &weight_minmax_int4,
    &weight_minmax_int8_group,
    &weight_minmax_int4_group,
    &weight_minmax_fp8,
    &weight_minmax_mxfp8,
    &weight_minmax_mxfp4,
    &weight_ssz_int8,
    &weight_ssz_int4,
    &weight_ssz_int8_group,
    &weight_ssz_int4_group,
    &weight_gptq_int8,
    &weight_gptq_int4,
    &weight_gptq_int8_group,
    &weight_gptq_int4_group,
    &weight_mse_round,
    &weight_fouroversix,
    &weight_ceil_x,
    &weight_dualscale,
    &weight_w8a8s,
    NULL,
};

#define SAVERS(ROW) ROW(saver_ascendv1) ROW(saver_mindie) ROW(saver_compressed_tensors)
#define DECLARE_SAVER(row) extern const SaveFormat row;
#define ADDRESS(row) &row,
SAVERS(DECLARE_SAVER)
const SaveFormat *const saver_table[] = {SAVERS(ADDRESS) NULL};

static const ProcessorType *const processor_table[] = {
    &processor_linear_quant,
    &processor_dynamic_cache,
    NULL,
};

static const ProcessorType *processor_type(int i)
{
    return processor_table[i];
}

const RecipeRows recipe_rows = {
    .processor = processor_type,
    .saver = saver_type,
    .act = act_quantizer_key,
    .weight = weight_quantizer_key,
};
