/* Each row of the tables of engine, program and workbench says which test is about it: a row without one fails here,
 * and so does a line whose row or test is gone. The test is a function that its file registers, or a label in a script
 * of tests/cli; rows of the architecture table have a recorded model. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "export/export.h"
#include "math/gemm.h"
#include "metric/metric.h"
#include "model/weight.h"
#include "qir/scheme.h"
#include "quant/quantizer.h"
#include "recipe/field.h"
#include "run/block.h"
#include "save/format.h"
#include "session/settings.h"
#include "src/commands.h"
#include "tests/lib/tempdir.h"
#include "tune/plan.h"
#include "ui/view.h"

/* ---- names of row i; NULL after the last, and good until the next call ---- */

static const char *metric_row(int i)
{
    return metric_table[i] ? metric_table[i]->name : NULL;
}

static const char *storage_row(int i)
{
    return storage_table[i].name;
}

static const char *saver_row(int i)
{
    return saver_table[i] ? saver_table[i]->type : NULL;
}

static const char *export_row(int i)
{
    return export_form_table[i] ? export_form_table[i]->name : NULL;
}

static const char *processor_row(int i)
{
    return recipe_rows.processor(i) ? recipe_rows.processor(i)->name : NULL;
}

static const char *strategy_row(int i)
{
    return plan_rows.strategy(i) ? plan_rows.strategy(i)->name : NULL;
}

static const char *evaluator_row(int i)
{
    return plan_rows.evaluator(i) ? plan_rows.evaluator(i)->name : NULL;
}

static const char *arch_row(int i)
{
    return arch_table[i] ? arch_table[i]->model_type : NULL;
}

/* "minmax int8 per_channel sym"; without the last word where the row is for both. */
static const char *key_name(const QuantKey *k)
{
    static char name[96];
    snprintf(name, sizeof name, "%s %s %s%s", k->method, qtype_name(k->dtype), qscope_name(k->scope),
             k->sym < 0 ? "" : k->sym ? " sym" : " asym");
    return name;
}

static const char *act_row(int i)
{
    return act_quantizer_table[i] ? key_name(&act_quantizer_table[i]->key) : NULL;
}

static const char *weight_row(int i)
{
    return weight_quantizer_table[i] ? key_name(&weight_quantizer_table[i]->key) : NULL;
}

/* Schemes of one name differ in the scope of their weights. */
static const char *scheme_row(int i)
{
    static char name[96];
    const Scheme *s = &scheme_table[i];
    snprintf(name, sizeof name, "%s %s", s->name ? s->name : "", qscope_name(s->weight_scope));
    return s->name ? name : NULL;
}

static const char *block_row(int i)
{
    return block_table[i].type ? block_table[i].type->name : NULL;
}

static const char *gemm_row(int i)
{
    return gemm_table[i] ? gemm_table[i]->name : NULL;
}

static const char *arith_row(int i)
{
    return i < ARITH_MODES ? arith_table[i].name : NULL;
}

static const char *ext_row(int i)
{
    return ext_fields[i].key;
}

static const char *setting_row(int i)
{
    return setting_table[i].key;
}

static const char *command_row(int i)
{
    return command_table[i] ? command_table[i]->name : NULL;
}

static const char *view_row(int i)
{
    return view_table[i] ? view_table[i]->name : NULL;
}

/* The files of themes/, without ".theme". */
static const char *theme_row(int i)
{
    static char name[64];
    glob_t found;
    if (glob("themes/*.theme", 0, NULL, &found) != 0)
        fail_msg("there are no themes");
    const char *path = (size_t)i < found.gl_pathc ? found.gl_pathv[i] + strlen("themes/") : NULL;
    snprintf(name, sizeof name, "%.*s", path ? (int)(strlen(path) - strlen(".theme")) : 0, path ? path : "");
    globfree(&found);
    return *name ? name : NULL;
}

/* ---- which test is about which row ---- */

typedef struct Tested {
    const char *row;
    const char *file; /* below tests/unit; a script below tests/cli */
    const char *test;
} Tested;

static const Tested metrics[] = {
    {"kurtosis", "test_metric.c", "recorded_fp32"},
    {"std", "test_metric.c", "recorded_fp32"},
    {"quantile", "test_metric.c", "recorded_fp32"},
    {"local_error", "test_metric.c", "local_error_is_its_formula"},
    {"mse_layer_wise", "test_peermetric.c", "recorded_fp32"},
    {"mse_model_wise", "test_peermetric.c", "recorded_fp32"},
    {"act_outliers", "test_dataanalyses.c", "outliers_are_the_recorded_ones"},
    {"output_outliers", "test_dataanalyses.c", "outliers_are_the_recorded_ones"},
    {"massive", "test_dataanalyses.c", "massive_is_that_of_plain_loops"},
    {"coverage", "test_dataanalyses.c", "coverage_counts_what_experts_were_given"},
    {"expert_load", "test_dataanalyses.c", "coverage_counts_what_experts_were_given"},
    {"text_range", "test_textrange.c", "extremes_are_those_of_plain_loops"},
    {"weight_error", "test_weights.c", "numbers_are_the_recorded_ones"},
    {"weight_outliers", "test_weights.c", "numbers_are_the_recorded_ones"},
    {"group_size", "test_weights.c", "numbers_are_the_recorded_ones"},
    {"clipping", "test_weights.c", "numbers_are_the_recorded_ones"},
    {"attention_mse", "test_attentionmse.c", "recorded_runs"},
    {"smooth_alpha", "test_searches.c", "smoothing_is_that_of_plain_loops"},
    {"awq_search", "test_searches.c", "scales_are_those_of_plain_loops"},
    {"gptq_gain", "test_searches.c", "gptq_is_that_of_the_paper"},
    {"output_error", "test_outputs.c", "output_errors_are_those_of_plain_loops"},
    {"residual_error", "test_outputs.c", "residual_errors_are_those_of_plain_loops"},
    {"block_output", "test_outputs.c", "blocks_are_those_of_own_forms"},
    {"block_error", "test_alone.c", "block_error_by_its_definition"},
    {"fisher", "test_fisher.c", "the_last_linear_is_scored_by_its_definition"},
    {"input_range", "test_alone.c", "ranges_are_those_of_the_float_pass"},
    {"alone", "test_alone.c", "rows_sharpen"},
    {"alone_linear", "test_alone.c", "units_of_other_scopes"},
    {"alone_block", "test_alone.c", "units_of_other_scopes"},
    {"alone_exact", "test_alone.c", "exact_is_what_measuring_finds"},
    {"alone_attention", "test_alone_attention.c", "sweeps_are_plain_runs"},
    {"alone_cache", "test_alone_attention.c", "sweeps_are_plain_runs"},
    {0},
};
static const Tested storages[] = {
    {"fp8", "test_storage.c", "recorded_weights_are_decoded_bit_by_bit"},
    {"fp8_e8m0", "test_storage.c", "recorded_weights_are_decoded_bit_by_bit"},
    {"fp4_e8m0", "test_storage.c", "recorded_weights_are_decoded_bit_by_bit"},
    {"int4_packed", "test_storage.c", "recorded_weights_are_decoded_bit_by_bit"},
    {"mxfp4", "test_storage.c", "codes_are_their_formats"},
    {0},
};
static const Tested savers[] = {
    {"ascendv1_saver", "test_sink_save.c", "recorded_runs_are_reproduced"},
    {"mindie_format_saver", "test_sink_save.c", "recorded_runs_are_reproduced"},
    {"compressed_tensors", "test_sink_save.c", "recorded_runs_are_reproduced"},
    {0},
};
static const Tested exports[] = {
    {"yaml", "test_export.c", "unchanged_assignment_changes_nothing"},
    {"compressed-tensors", "exports.sh", "compressed-tensors"},
    {"gptqmodel", "test_exportforms.c", "a_wrong_text_is_never_written"},
    {"llama.cpp", "exports.sh", "llama.cpp"},
    {"csv", "exports.sh", "csv"},
    {0},
};
static const Tested strategies[] = {
    {"standing_high", "test_tune_strategies.c", "standing_high_finds_the_fewest"},
    {"standing_high_with_experience", "test_tune_strategies.c", "experience_is_a_recipe"},
    {"binary_fallback", "test_tune_strategies.c", "fallback_adds_to_the_list"},
    {"fewest_bytes", "test_tune_strategies.c", "fewest_bytes_of_a_bound"},
    {NULL, NULL, NULL},
};

static const Tested evaluators[] = {
    {"command", "test_eval_command.c", "test_done"},
    {"manual", "test_eval_command.c", "test_person"},
    {"service_oriented", "test_service.c", "test_scores"},
    {"native", "test_eval_native.c", "a_plan_is_evaluated"},
    {0},
};
static const Tested archs[] = {
    {"glm4_moe_lite", "test_moe.c", "glm_flash_is_deepseek_v3"}, /* the others have a recorded model */
    {0},
};
static const Tested processors[] = {
    {"autoround_quant", "test_autoround_run.c", "recorded_runs_are_reproduced"},
    {"linear_quant", "test_pipeline.c", "flow_equals_the_recorded_one"},
    {"float_sparse", "test_sink_save.c", "recorded_runs_are_reproduced"},
    {"dynamic_cache", "test_sink_save.c", "ours_remembers_every_sample_of_a_cache"},
    {"fa3_quant", "test_fa3_quant.c", "every_family_reads_what_plain_loops_make"},
    {"kv_smooth", "test_kv_smooth.c", "recordings_are_reproduced"},
    {"iter_smooth", "test_smooth.c", "recordings_are_reproduced"},
    {"smooth_quant", "test_smooth.c", "recordings_are_reproduced"},
    {"flex_smooth_quant", "test_flex.c", "flex_smooth_is_the_recorded_one"},
    {"flex_awq_ssz", "test_flex.c", "flex_awq_is_the_recorded_one"},
    {"awq", "test_awq.c", "processor_is_the_recorded_one"},
    {"quarot", "test_quarot.c", "recordings_are_reproduced"},
    {"online_quarot", "test_online_quarot.c", "both_sides_choose_the_same_keys"},
    {"adapt_rotation", "test_adapt_rotation.c", "test_original"},
    {"svd_res", "test_function.c", "every_fold_keeps_the_function"},
    {"flatquant", "test_flatquant.c", "test_fold_is_recorded"},
    {0},
};
static const Tested acts[] = {
    {"none float per_tensor sym", "test_sink_save.c", "what_is_written_gives_the_measured_error"},
    {"minmax int8 per_tensor", "test_act.c", "the_peers_calibration_is_reproduced"},
    {"minmax int8 per_token sym", "test_act.c", "tokens_have_scales_of_their_own"},
    {"minmax int4 per_token sym", "test_act.c", "every_quantizer_stays_near_its_input"},
    {"minmax int8 pd_mix asym", "test_act.c", "the_peers_calibration_is_reproduced"},
    {"histogram int8 per_tensor", "test_act.c", "the_peers_histogram_is_reproduced"},
    {"minmax fp8_e4m3 per_token sym", "test_act.c", "tokens_have_scales_of_their_own"},
    {"minmax fp8_e4m3 per_tensor sym", "test_act.c", "every_quantizer_stays_near_its_input"},
    {"minmax mxfp8 per_block sym", "test_act.c", "every_quantizer_stays_near_its_input"},
    {"minmax mxfp4 per_block sym", "test_act.c", "every_quantizer_stays_near_its_input"},
    {"dualscale mxfp4 dual_scale sym", "test_act.c", "every_quantizer_stays_near_its_input"},
    {0},
};
static const Tested weights[] = {
    {"minmax int8 per_channel sym", "test_weightquant.c", "int_minmax_is_the_recorded_one"},
    {"minmax int4 per_channel sym", "test_weightquant.c", "int_minmax_is_the_recorded_one"},
    {"minmax int8 per_group", "test_weightrules.c", "groups_are_rows_of_their_own"},
    {"minmax int4 per_group", "test_weightrules.c", "groups_are_rows_of_their_own"},
    {"minmax fp8_e4m3 per_channel sym", "test_weightquant.c", "fp8_is_the_recorded_one"},
    {"minmax mxfp8 per_block sym", "test_weightquant.c", "mx_is_the_recorded_one"},
    {"minmax mxfp4 per_block sym", "test_weightquant.c", "mx_is_the_recorded_one"},
    {"ssz int8 per_channel sym", "test_weightquant.c", "ssz_is_the_recorded_one"},
    {"ssz int4 per_channel sym", "test_weightquant.c", "ssz_is_the_recorded_one"},
    {"ssz int8 per_group sym", "test_weightrules.c", "ssz_is_never_worse_than_minmax"},
    {"ssz int4 per_group sym", "test_weightrules.c", "ssz_is_never_worse_than_minmax"},
    {"gptq int8 per_channel", "test_weightquant.c", "gptq_is_the_recorded_one"},
    {"gptq int4 per_channel", "test_weightquant.c", "gptq_is_the_recorded_one"},
    {"gptq int8 per_group", "test_weightquant.c", "gptq_is_the_recorded_one"},
    {"gptq int4 per_group", "test_weightquant.c", "gptq_is_the_recorded_one"},
    {"mse_round mxfp8 per_block sym", "test_weightquant.c", "mx_is_the_recorded_one"},
    {"fouroversix mxfp4 per_block sym", "test_weightquant.c", "mx_is_the_recorded_one"},
    {"ceil_x mxfp4 per_block sym", "test_weightquant.c", "mx_is_the_recorded_one"},
    {"dualscale mxfp4 dual_scale sym", "test_weightquant.c", "dualscale_is_the_recorded_one"},
    {"w8a8s int8 per_channel sym", "test_weightrules.c", "w8a8s_leaves_outliers_outside"},
    {"admm float per_tensor sym", "test_sparse.c", "admm_is_the_recorded_one"},
    {"magnitude float per_tensor sym", "test_sparse.c", "admm_changes_least"},
    {"autoround int8 per_channel", "test_autoround.c", "forward_is_the_recorded_one"},
    {"autoround int4 per_channel", "test_autoround.c", "untrained_is_the_nearest"},
    {"autoround int8 per_group", "test_autoround.c", "forward_is_the_recorded_one"},
    {"autoround int4 per_group", "test_autoround.c", "forward_is_the_recorded_one"},
    {0},
};
static const Tested schemes[] = {
    {"W8A8S per_channel", "test_sink_save.c", "what_is_written_gives_the_measured_error"},
    {"W8A8 per_channel", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W8A8_DYNAMIC per_channel", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W8A8_DYNAMIC per_group", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W8A8_MIX per_channel", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W4A8_DYNAMIC per_channel", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W4A4_DYNAMIC per_channel", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W4A4_DYNAMIC per_group", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W8A16 per_channel", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W8A16 per_group", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W4A16 per_group", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"WFP8AFP8_DYNAMIC per_channel", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W8A8_MXFP8 per_block", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W4A8_MXFP per_block", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W4A4_MXFP4 per_block", "test_scheme.c", "bytes_equal_the_recorded_files"},
    {"W4A4_MXFP4_DUALSCALE dual_scale", "test_sink_save.c", "what_is_written_gives_the_measured_error"},
    {"W16A16S per_tensor", "test_sink_save.c", "recorded_runs_are_reproduced"},
    {0},
};
static const Tested blocks[] = {
    {"gqa", "test_runner.c", "long_and_short_texts_are_the_plain_decoder"},
    {"mla", "test_forward.c", "fp32_is_the_recorded_forward"},
    {"delta", "test_delta.c", "the_block_is_the_rule"},
    {"compressed", "test_forward.c", "fp32_is_the_recorded_forward"},
    {"dense", "test_runner.c", "long_and_short_texts_are_the_plain_decoder"},
    {"moe", "test_moe.c", "experts_see_the_rows_that_chose_them"},
    {"mtp", "test_mtp.c", "step_and_layer_follow_the_definition"},
    {"residual", "test_runner.c", "long_and_short_texts_are_the_plain_decoder"},
    {"hyper", "test_forward.c", "fp32_is_the_recorded_forward"},
    {0},
};
static const Tested gemms[] = {
    {"openblas", "test_math.c", "every_gemm_multiplies_what_it_packed"},
    {"float32", "test_tiles.c", "products_are_their_definition"},
    {"bf16", "test_tiles.c", "products_are_their_definition"},
    {"exact", "test_math.c", "exact_products_are_the_plain_loop"},
    {0},
};
static const Tested ariths[] = {
    {"fp32", "test_forward.c", "fp32_is_the_recorded_forward"},
    {"fast", "test_forward.c", "bf16_products_stay_near_the_recorded_forward"},
    {"model", "test_forward.c", "bf16_products_stay_near_the_recorded_forward"},
    {"exact", "test_forward.c", "exact_is_the_canonical_bf16_forward"},
    {0},
};
static const Tested exts[] = {
    {"group_size", "test_weightquant.c", "gptq_is_the_recorded_one"},
    {"aggregation_type", "test_act.c", "the_peers_calibration_is_reproduced"},
    {"step", "test_weightquant.c", "ssz_is_the_recorded_one"},
    {"percdamp", "test_weightrules.c", "gptq_is_its_definition"},
    {"block_size", "test_weightquant.c", "gptq_is_the_recorded_one"},
    {"actorder", "test_weightrules.c", "gptq_is_its_definition"},
    {"enable_search", "test_weightrules.c", "searches_find_the_least"},
    {"ceil_x_value", "test_weightquant.c", "mx_is_the_recorded_one"},
    {"search_min", "test_weightrules.c", "a_search_keeps_to_its_bounds"},
    {"search_max", "test_weightrules.c", "a_search_keeps_to_its_bounds"},
    {"search_step", "test_weightrules.c", "searches_find_the_least"},
    {"dual_block_size", "test_weightquant.c", "dualscale_is_the_recorded_one"},
    {"fraction", "test_weightrules.c", "w8a8s_leaves_outliers_outside"},
    {"sparse_ratio", "test_sparse.c", "ends_of_the_ratio"},
    {"scale_dtype", "test_autoround.c", "forward_is_the_recorded_one"},
    {0},
};
static const Tested settings[] = {
    {"threads", "test_session.c", "every_setting_is_kept"},
    {"mem", "test_session.c", "every_setting_is_kept"},
    {"max-samples", "test_session.c", "every_setting_is_kept"},
    {"seq-len", "test_session.c", "every_setting_is_kept"},
    {"ctx", "test_session.c", "every_setting_is_kept"},
    {"eval-tokens", "test_session.c", "every_setting_is_kept"},
    {"tokens", "test_session.c", "every_setting_is_kept"},
    {"labels", "test_session.c", "every_setting_is_kept"},
    {"dtype-sim", "test_session.c", "every_setting_is_kept"},
    {"compat", "test_session.c", "every_setting_is_kept"},
    {"seed", "test_session.c", "every_setting_is_kept"},
    {"runtime", "test_session.c", "settings_are_checked"},
    {"budget", "test_fit.c", "a_budget_is_held_against"},
    {"profile", "test_session.c", "every_setting_is_kept"},
    {"session-cap", "test_jobs.c", "old_sessions_make_room"},
    {0},
};
static const Tested commands[] = {
    {"open", "test_commands.c", "lines_change_the_session"},
    {"calib", "test_commands.c", "lines_change_the_session"},
    {"eval", "test_commands.c", "lines_change_the_session"},
    {"recipe", "test_commands.c", "lines_change_the_session"},
    {"save", "sessions.sh", "save NAME names it"},
    {"load", "load.sh", "the recorded logs are read"},
    {"analyze", "analyze.sh", "kurtosis runs"},
    {"rank", "script.sh", "the rows are there after wait"},
    {"show", "test_commands.c", "lines_change_the_session"},
    {"sort", "test_commands.c", "lines_change_the_session"},
    {"filter", "test_commands.c", "lines_change_the_session"},
    {"fold", "test_commands.c", "lines_change_the_session"},
    {"columns", "test_columns.c", "test_command"},
    {"sheet", "sheet.sh", "all three hold the shown rows, with both metrics"},
    {"say", "sheet.sh", "say tells the row in words"},
    {"savefilter", "test_screen_says.c", "test_filters_kept"},
    {"tag", "test_commands.c", "lines_change_the_session"},
    {"exclude", "test_commands.c", "lines_change_the_session"},
    {"rule", "rules.sh", "each row has its own switch"},
    {"include", "test_commands.c", "lines_change_the_session"},
    {"level", "test_commands.c", "lines_change_the_session"},
    {"undo", "test_commands.c", "lines_change_the_session"},
    {"redo", "test_commands.c", "lines_change_the_session"},
    {"measure", "measure.sh", "two measurements ran"},
    {"fit", "test_fit.c", "fit_spends_bytes"},
    {"front", "test_fit.c", "front_falls"},
    {"grow", "test_fit.c", "grow_and_trim_go_by_loss_per_byte"},
    {"trim", "test_fit.c", "grow_and_trim_go_by_loss_per_byte"},
    {"interact", "test_interact.c", "sets_are_what_measuring_finds"},
    {"keep", "test_sets.c", "sets_are_kept_and_taken"},
    {"swap", "test_sets.c", "sets_are_kept_and_taken"},
    {"sets", "tune.sh", "the kept sets and their difference"},
    {"tune", "test_fit.c", "tune_searches_and_goes_on"},
    {"answer", "test_autotune.c", "the_command_answers"},
    {"guide", "test_guide.c", "it_runs"},
    {"compare", "compare.sh", "the JSON documents agree"},
    {"take", "test_compare.c", "a_measurement_is_taken_back_with_its_recipe"},
    {"export", "script.sh", "and writes the recipe"},
    {"report", "report.sh", "a page is written"},
    {"quantize", "quant.sh", "quantize as JSON"},
    {"history", "script.sh", "history lists commands"},
    {"log", "sessions.sh", "the log is kept in a file"},
    {"session", "sessions.sh", "a session has a name"},
    {"replay", "script.sh", "replayed commands are in the history once each"},
    {"set", "test_commands.c", "lines_change_the_session"},
    {"bind", "test_screen.c", "test_commands_of_the_screen"},
    {"theme", "test_screen.c", "test_commands_of_the_screen"},
    {"screen", "test_screen.c", "test_commands_of_the_screen"},
    {"dump", "test_screen.c", "test_commands_of_the_screen"},
    {"wait", "script.sh", "the rows are there after wait"},
    {"cancel", "options.sh", "stopped"},
    {"pause", "test_jobs.c", "a_paused_job_stands_still"},
    {"priority", "test_jobs.c", "the_queue_is_put_in_another_order"},
    {"discard", "test_jobs.c", "ended_jobs_are_discarded"},
    {"resume", "interrupt.sh", "kill -9, then resume: at most one layer again, the same ranking"},
    {"attach", "attach.sh", "how far the job is, and whose"},
    {"profile", "profile.sh", "profile prints that of the last job"},
    {"quant", "formats.sh", "$run has the same files"},
    {"convert", "convert.sh", "$run: every tensor and document"},
    {"info", "info.sh", "$m: figures"},
    {"tensors", "info.sh", "tensors by a filter"},
    {"plot", "weights.sh", "plot draws a weight"},
    {"hist", "weights.sh", "hist marks three deviations"},
    {"heat", "weights.sh", "heat draws a map"},
    {"schemes", "weights.sh", "schemes are set side by side"},
    {"check", "check.sh", "is told so"},
    {"forward", "forward.sh", "names, shapes and values"},
    {"generate", "generate.sh", "say the same"},
    {"tokenize", "tokenize.sh", "$t ids"},
    {"shell", "script.sh", "the shell reads settings"},
    {"workbench", "replay.sh", "the screen was drawn"},
    {"help", "help.sh", "help lists $v"},
    {"version", "help.sh", "version tells $w"},
    {"quit", "script.sh", "async, wait, quit"},
    {0},
};
static const Tested views[] = {
    {"rank", "test_screen.c", "test_golden_utf8"},
    {"whatif", "test_screen.c", "test_golden_utf8"},
    {"jobs", "test_screen.c", "test_golden_utf8"},
    {"compare", "test_view_compare.c", "a_layer_as_both_quantize_it"},
    {"calib", "test_view_calib.c", "keys_are_commands"},
    {"model", "test_modeltree.c", "the_screen_unfolds"},
    {"export", "test_screen.c", "test_golden_utf8"},
    {"guide", "test_screen.c", "test_golden_utf8"},
    {0},
};
static const Tested themes[] = {
    {"default", "test_theme.c", "test_shipped"},
    {"light", "test_theme.c", "test_shipped"},
    {"high-contrast", "test_theme.c", "test_contrast"},
    {"colour-blind", "test_theme.c", "test_colour_blind"},
    {"console-16", "test_theme.c", "test_console"},
    {"mono", "test_theme.c", "test_shipped"},
    {0},
};

static const struct Table {
    const char *name;
    const char *(*row)(int i);
    const Tested *list;
    bool models; /* a recorded model is a test */
} tables[] = {
    {"metric", metric_row, metrics, false},
    {"storage", storage_row, storages, false},
    {"saver", saver_row, savers, false},
    {"form of export", export_row, exports, false},
    {"architecture", arch_row, archs, true},
    {"processor", processor_row, processors, false},
    {"strategy", strategy_row, strategies, false},
    {"evaluator", evaluator_row, evaluators, false},
    {"activation quantizer", act_row, acts, false},
    {"weight quantizer", weight_row, weights, false},
    {"scheme", scheme_row, schemes, false},
    {"block", block_row, blocks, false},
    {"gemm", gemm_row, gemms, false},
    {"arithmetic", arith_row, ariths, false},
    {"key of ext", ext_row, exts, false},
    {"setting", setting_row, settings, false},
    {"command", command_row, commands, false},
    {"view", view_row, views, false},
    {"theme", theme_row, themes, false},
};
enum { TABLES = sizeof tables / sizeof tables[0] };

/* ---- both ways ---- */

static void fail_row(const char *table, const char *row, const char *what)
{
    fail_msg("%s '%s': %s", table, row, what);
}

/* The file has the function and hands it to cmocka; the script has the label, in quotes. */
static void check_test(const char *table, const Tested *t)
{
    char path[128], call[128];
    size_t n, len = strlen(t->file);
    const bool script = len > 3 && strcmp(t->file + len - 3, ".sh") == 0;
    snprintf(path, sizeof path, "tests/%s/%s", script ? "cli" : "unit", t->file);
    char *text = temp_get(path, &n);
    snprintf(call, sizeof call, "void %s(void **", t->test);
    if (script)
        snprintf(call, sizeof call, "\"%s\"", t->test);
    const bool there = strstr(text, call) != NULL;
    snprintf(call, sizeof call, "(%s)", t->test);
    const bool run = script || strstr(text, call) != NULL;
    free(text);
    if (!there || !run)
        fail_row(table, t->row, "its test is gone or not run");
}

static const Tested *tested(const Tested *list, const char *row)
{
    for (; list->row; list++)
        if (strcmp(list->row, row) == 0)
            return list;
    return NULL;
}

/* A recorded model says this model_type. */
static bool recorded(const char *type)
{
    glob_t found;
    char want[96];
    bool hit = false;
    snprintf(want, sizeof want, "\"model_type\": \"%s\"", type);
    if (glob("tests/golden/models/*/*/config.json", 0, NULL, &found) != 0)
        return false;
    for (size_t i = 0; i < found.gl_pathc && !hit; i++) {
        size_t n;
        char *text = temp_get(found.gl_pathv[i], &n);
        hit = strstr(text, want) != NULL;
        free(text);
    }
    globfree(&found);
    return hit;
}

static void both_ways(void **state)
{
    const struct Table *t = *state;
    for (int i = 0; t->row(i); i++)
        if (!tested(t->list, t->row(i)) && !(t->models && recorded(t->row(i))))
            fail_row(t->name, t->row(i), "no test names this row");
    for (const Tested *k = t->list; k->row; k++) {
        int i = 0;
        while (t->row(i) && strcmp(t->row(i), k->row) != 0)
            i++;
        if (!t->row(i))
            fail_row(t->name, k->row, "there is no such row");
        check_test(t->name, k);
    }
}

int main(void)
{
    struct CMUnitTest tests[TABLES];
    for (int i = 0; i < TABLES; i++)
        tests[i] = (struct CMUnitTest){
            .name = tables[i].name, .test_func = both_ways, .initial_state = (void *)(uintptr_t)&tables[i]};
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
