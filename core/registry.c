/* The one place that names the rows of the engine that have a file of their own: a new one is a word in a list here, its
 * file and its test. Tables of small rows stand in one file each: storage_table (model/storage.c), scheme_table
 * (qir/scheme.c), EXT_ROWS (qir/ext.h), the setting_table of sessions. */
#include <stddef.h>

#include "dist/ops.h"
#include "export/export.h"
#include "math/gemm.h"
#include "metric/weights.h"
#include "model/model.h"
#include "process/processor.h"
#include "quant/quantizer.h"
#include "recipe/field.h"
#include "run/block.h"
#include "save/format.h"
#include "tune/plan.h"

#define ADDRESS(row) &row,

/* dist_NAME of dist/NAME.c. That of MPI is linked in with make MPI=1 only; else its address is NULL. */
extern const DistOps dist_mpi __attribute__((weak)), dist_alone;
const DistOps *const dist_table[] = {&dist_mpi, &dist_alone};

#define GEMMS(ROW) ROW(gemm_openblas) ROW(gemm_f32) ROW(gemm_bf16) ROW(gemm_exact)
#define DECLARE_GEMM(row) extern const GemmOps row;
GEMMS(DECLARE_GEMM)
const GemmOps *const gemm_table[] = {GEMMS(ADDRESS) NULL};

/* Both halves of a kind: block_NAME of model/, NAME_ops of run/. */
#define BLOCKS(ROW) \
    ROW(gqa) ROW(mla) ROW(delta) ROW(compressed) ROW(dense) ROW(moe) ROW(mtp) ROW(residual) ROW(hyper)
#define DECLARE_BLOCK(kind)               \
    extern const BlockType block_##kind;  \
    extern const BlockOps kind##_ops;
#define BLOCK(kind) {&block_##kind, &kind##_ops},
BLOCKS(DECLARE_BLOCK)
const BlockKind block_table[] = {BLOCKS(BLOCK){NULL, NULL}};

#define ARCHES(ROW)                                                                                              \
    ROW(arch_llama) ROW(arch_qwen2) ROW(arch_qwen3) ROW(arch_mistral) ROW(arch_phi3) ROW(arch_gemma2)            \
    ROW(arch_gemma3) ROW(arch_mixtral) ROW(arch_qwen2_moe) ROW(arch_qwen3_moe) ROW(arch_qwen3_next)              \
    ROW(arch_glm4_moe) ROW(arch_glm4_moe_lite) ROW(arch_minimax_m2) ROW(arch_deepseek_v2) ROW(arch_deepseek_v3)  \
    ROW(arch_deepseek_v32) ROW(arch_glm_moe_dsa) ROW(arch_longcat_flash) ROW(arch_deepseek_v4) ROW(arch_gpt_oss)
#define DECLARE_ARCH(row) extern const Arch row;
ARCHES(DECLARE_ARCH)
const Arch *const arch_table[] = {ARCHES(ADDRESS) NULL};

#define METRICS(ROW)                                                                              \
    ROW(metric_block_error) ROW(metric_fisher) ROW(metric_alone) ROW(metric_alone_linear)         \
    ROW(metric_alone_block) ROW(metric_alone_exact) ROW(metric_alone_attention)                   \
    ROW(metric_alone_cache)                                                                       \
    ROW(metric_kurtosis) ROW(metric_std) ROW(metric_quantile)                                     \
    ROW(metric_local_error) ROW(metric_mse_layer_wise) ROW(metric_mse_model_wise)                 \
    ROW(metric_attention_mse) ROW(metric_act_outliers) ROW(metric_output_outliers)                \
    ROW(metric_massive) ROW(metric_coverage) ROW(metric_expert_load) ROW(metric_text_range)       \
    ROW(metric_smooth_alpha) ROW(metric_awq_search) ROW(metric_gptq_gain) ROW(metric_input_range) \
    ROW(metric_output_error)                                                                      \
    ROW(metric_residual_error) ROW(metric_block_output)
#define DECLARE_METRIC(row) extern const Metric row;
METRICS(DECLARE_METRIC)
#define WEIGHT_ANALYSES(ROW) ROW(weight_error) ROW(weight_outliers) ROW(group_size) ROW(clipping)
#define DECLARE_ANALYSIS(row) extern const WeightAnalysis row;
WEIGHT_ANALYSES(DECLARE_ANALYSIS)
#define METRIC_OF(row) &row.metric,
const Metric *const metric_table[] = {METRICS(ADDRESS) WEIGHT_ANALYSES(METRIC_OF) NULL};

#define ACT_QUANTIZERS(ROW)                                                                        \
    ROW(act_float) ROW(act_minmax_tensor) ROW(act_minmax_token) ROW(act_minmax_token4) \
    ROW(act_pd_mix) ROW(act_histogram) ROW(act_fp8_token) ROW(act_fp8_tensor) ROW(act_mxfp8) ROW(act_mxfp4) ROW(act_dualscale)
#define DECLARE_ACT(row) extern const ActQuantizer row;
ACT_QUANTIZERS(DECLARE_ACT)
const ActQuantizer *const act_quantizer_table[] = {ACT_QUANTIZERS(ADDRESS) NULL};

#define WEIGHT_QUANTIZERS(ROW)                                                                                  \
    ROW(weight_minmax_int8) ROW(weight_minmax_int4) ROW(weight_minmax_int8_group) ROW(weight_minmax_int4_group) \
    ROW(weight_minmax_fp8) ROW(weight_minmax_mxfp8) ROW(weight_minmax_mxfp4) ROW(weight_ssz_int8)               \
    ROW(weight_ssz_int4) ROW(weight_ssz_int8_group) ROW(weight_ssz_int4_group) ROW(weight_gptq_int8)            \
    ROW(weight_gptq_int4) ROW(weight_gptq_int8_group) ROW(weight_gptq_int4_group) ROW(weight_mse_round)         \
    ROW(weight_fouroversix) ROW(weight_ceil_x) ROW(weight_dualscale) ROW(weight_w8a8s) ROW(weight_admm) \
    ROW(weight_magnitude) \
    ROW(weight_autoround_int8) ROW(weight_autoround_int4) ROW(weight_autoround_int8_group) ROW(weight_autoround_int4_group)
#define DECLARE_WEIGHT(row) extern const WeightQuantizer row;
WEIGHT_QUANTIZERS(DECLARE_WEIGHT)
const WeightQuantizer *const weight_quantizer_table[] = {WEIGHT_QUANTIZERS(ADDRESS) NULL};

#define SAVERS(ROW) ROW(saver_ascendv1) ROW(saver_mindie) ROW(saver_compressed_tensors)
#define DECLARE_SAVER(row) extern const SaveFormat row;
SAVERS(DECLARE_SAVER)
const SaveFormat *const saver_table[] = {SAVERS(ADDRESS) NULL};

#define EXPORT_FORMS(ROW) \
    ROW(form_yaml) ROW(form_compressed_tensors) ROW(form_gptqmodel) ROW(form_llama_cpp) ROW(form_csv)
#define DECLARE_FORM(row) extern const ExportForm row;
EXPORT_FORMS(DECLARE_FORM)
const ExportForm *const export_form_table[] = {EXPORT_FORMS(ADDRESS) NULL};

#define PROCESSORS(ROW) ROW(processor_linear_quant) ROW(processor_autoround_quant) ROW(processor_dynamic_cache) \
    ROW(processor_fa3_quant) ROW(processor_kv_smooth) ROW(processor_iter_smooth) \
    ROW(processor_smooth_quant) \
    ROW(processor_flex_smooth_quant) ROW(processor_flex_awq_ssz) ROW(processor_awq) \
    ROW(processor_quarot) ROW(processor_online_quarot) ROW(processor_adapt_rotation) ROW(processor_flatquant) \
    ROW(processor_svd_res) ROW(processor_float_sparse)
#define DECLARE_PROCESSOR(row) extern const ProcessorType row;
PROCESSORS(DECLARE_PROCESSOR)
static const ProcessorType *const processor_table[] = {PROCESSORS(ADDRESS) NULL};

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

/* strategy_NAME of tune/strategy_NAME.c */
#define STRATEGIES(ROW) \
    ROW(strategy_standing_high) ROW(strategy_experience) ROW(strategy_binary_fallback) ROW(strategy_fewest_bytes)
#define DECLARE_STRATEGY(row) extern const StrategyType row;
STRATEGIES(DECLARE_STRATEGY)
static const StrategyType *const strategy_table[] = {STRATEGIES(ADDRESS) NULL};

/* evaluator_NAME of evaluate/NAME.c */
#define EVALUATORS(ROW)       \
    ROW(evaluator_command) \
    ROW(evaluator_manual)  \
    ROW(evaluator_service_oriented) \
    ROW(evaluator_native)
#define DECLARE_EVALUATOR(row) extern const EvaluatorType row;
EVALUATORS(DECLARE_EVALUATOR)
static const EvaluatorType *const evaluator_table[] = {EVALUATORS(ADDRESS) NULL};

static const StrategyType *strategy_type(int i)
{
    return strategy_table[i];
}

static const EvaluatorType *evaluator_type(int i)
{
    return evaluator_table[i];
}

const PlanRows plan_rows = {.recipe = &recipe_rows, .strategy = strategy_type, .evaluator = evaluator_type};
