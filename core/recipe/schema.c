#include <math.h>
#include <string.h>

#include "recipe/recipe_impl.h"

/* The keys of a modelslim_v1 document (specs/config.md 2-6). */

static const char *const runners[] = {"auto", "model_wise", "layer_wise", "dp_layer_wise", NULL};
static const char *const dtypes[] = {"float", "int8", "int4", "mxfp8", "mxfp4", "fp8_e4m3", "placeholder", NULL};
static const char *const scopes[] = {
    "per_tensor", "per_channel", "per_group",  "per_block",   "per_token",
    "pd_mix",     "per_head",    "dual_scale", "placeholder", NULL,
};
static const char *const rotation_types[] = {"int4", "int8", NULL};
static const char *const load_modes[] = {"load", "offload", NULL};

#define PATTERNS \
    {.key = "include", .type = F_PATTERNS, .longest = 200}, {.key = "exclude", .type = F_PATTERNS, .longest = 200}
#define PATTERNS_OR_NULL \
    {.key = "include", .type = F_PATTERNS, .longest = 200, .nullable = true}, \
        {.key = "exclude", .type = F_PATTERNS, .longest = 200, .nullable = true}
#define TYPE {.key = "type", .type = F_STR, .required = true}
#define UNIT(name, can_be_null) \
    {.key = name, .type = F_FLOAT, .nullable = can_be_null, .bounded = true, .open = true, .lo = 0, .hi = 1}
#define BLOCK_SIZE {.key = "block_size", .type = F_INT, .bounded = true, .lo = -1, .hi = 1e9, .power_of_two = true}
#define SUBGRAPHS {.key = "enable_subgraph_type", .type = F_STRINGS}
#define TP_SIZE(most) {.key = "max_tp_size", .type = F_INT, .bounded = true, .lo = 1, .hi = most, .power_of_two = true}
#define END {.key = NULL}

static const Field q_fields[] = {
    {.key = "dtype", .type = F_ENUM, .required = true, .words = dtypes},
    {.key = "scope", .type = F_ENUM, .required = true, .words = scopes},
    {.key = "symmetric", .type = F_BOOL, .required = true},
    {.key = "method", .type = F_STR, .required = true},
    {.key = "ext", .type = F_MAP},
    END,
};
static const Object q_object = {.fields = q_fields};

static const Field linear_q_fields[] = {
    {.key = "act", .type = F_OBJECT, .object = &q_object},
    {.key = "weight", .type = F_OBJECT, .object = &q_object, .required = true},
    END,
};
static const Object linear_q_object = {.fields = linear_q_fields};

static const Field linear_quant_fields[] = {
    TYPE,
    {.key = "qconfig", .type = F_OBJECT, .object = &linear_q_object, .required = true},
    PATTERNS_OR_NULL, /* null here gets a note: check_linear_quant */
    END,
};

static const Field group_fields[] = {TYPE, {.key = "configs", .type = F_PROCESSORS, .required = true}, END};

static const Field iter_smooth_fields[] = {
    TYPE,
    UNIT("alpha", false),
    UNIT("scale_min", false),
    {.key = "symmetric", .type = F_BOOL},
    SUBGRAPHS,
    PATTERNS_OR_NULL,
    END,
};
static const Field flex_smooth_fields[] = {TYPE,      UNIT("alpha", false), UNIT("beta", false),
                                           SUBGRAPHS, PATTERNS_OR_NULL,     END};
static const Field flex_awq_fields[] = {
    TYPE, UNIT("alpha", false), UNIT("beta", false), SUBGRAPHS,
    {.key = "qconfig", .type = F_OBJECT, .object = &linear_q_object, .required = true}, PATTERNS_OR_NULL, END,
};
static const Field smooth_fields[] = {
    TYPE, UNIT("alpha", false), {.key = "symmetric", .type = F_BOOL}, PATTERNS_OR_NULL, END};
static const Field awq_fields[] = {
    TYPE, {.key = "weight_qconfig", .type = F_OBJECT, .object = &q_object, .required = true}, SUBGRAPHS,
    {.key = "n_grid", .type = F_INT, .bounded = true, .lo = 1, .hi = 1e9}, PATTERNS_OR_NULL, END,
};
static const Field quarot_fields[] = {
    TYPE,         {.key = "online", .type = F_BOOL},
    BLOCK_SIZE,   {.key = "down_proj_online_layers", .type = F_INTS},
    TP_SIZE(1e9), {.key = "export_extra_info", .type = F_BOOL},
    END,
};
static const Field online_quarot_fields[] = {TYPE, PATTERNS_OR_NULL, BLOCK_SIZE, END};
static const Field rotation_fields[] = {
    TYPE,
    {.key = "stage", .type = F_INT, .required = true, .bounded = true, .lo = 1, .hi = 2},
    {.key = "steps", .type = F_INT, .bounded = true, .lo = 1, .hi = 1000},
    {.key = "quant_dtype", .type = F_ENUM, .words = rotation_types},
    {.key = "layer_type", .type = F_STRINGS, .longest = 128, .least = 1, .filled = true},
    BLOCK_SIZE,
    {.key = "max_samples", .type = F_INT, .bounded = true, .lo = 1, .hi = 100000},
    {.key = "online", .type = F_BOOL},
    {.key = "down_proj_online_layers", .type = F_INTS, .bounded = true, .lo = 0, .hi = 1e9},
    TP_SIZE(64),
    END,
};
static const Field autoround_strategy_fields[] = {
    {.key = "qconfig", .type = F_OBJECT, .object = &linear_q_object, .required = true}, PATTERNS, END,
};
static void check_autoround_strategy(Check *c, const YamlNode *map);
static const Object autoround_strategy = {.fields = autoround_strategy_fields, .check = check_autoround_strategy};
static const Field autoround_fields[] = {
    TYPE,
    {.key = "iters", .type = F_INT, .bounded = true, .lo = 1, .hi = 1e9},
    {.key = "enable_minmax_tuning", .type = F_BOOL},
    {.key = "enable_round_tuning", .type = F_BOOL},
    {.key = "strategies", .type = F_OBJECTS, .object = &autoround_strategy, .required = true, .least = 1},
    END,
};
static const Field float_sparse_fields[] = {
    TYPE, {.key = "sparse_ratio", .type = F_FLOAT, .bounded = true, .lo = 0, .hi = 1}, PATTERNS, END};
static const Field svd_fields[] = {
    TYPE, {.key = "rank", .type = F_INT, .bounded = true, .lo = 1, .hi = 1e9}, {.key = "include", .type = F_PATTERNS},
    {.key = "exclude", .type = F_PATTERNS}, END,
};
static const Field only_patterns[] = {TYPE, PATTERNS, END};
static const Field dynamic_cache_fields[] = {
    TYPE, {.key = "qconfig", .type = F_OBJECT, .object = &q_object, .required = true}, PATTERNS, END,
};
static const Field fa3_detail_fields[] = {
    {.key = "fa_q", .type = F_OBJECT, .object = &q_object}, {.key = "fa_k", .type = F_OBJECT, .object = &q_object},
    {.key = "fa_v", .type = F_OBJECT, .object = &q_object}, END,
};
static const Object fa3_details = {.fields = fa3_detail_fields};
static const Field fa3_fields[] = {
    TYPE, {.key = "qconfig", .type = F_OBJECT, .object = &q_object, .nullable = true}, PATTERNS,
    {.key = "details", .type = F_OBJECT, .object = &fa3_details, .nullable = true}, END,
};
static const Field kv_smooth_fields[] = {
    TYPE,
    {.key = "smooth_factor", .type = F_FLOAT, .bounded = true, .open = true, .lo = 0, .hi = 1e300},
    PATTERNS,
    END};
static const Field unary_fields[] = {
    TYPE, {.key = "metrics", .type = F_STR}, {.key = "patterns", .type = F_STRINGS}, END};
static const Field binary_fields[] = {
    TYPE, {.key = "metrics", .type = F_STR}, {.key = "patterns", .type = F_STRINGS}, {.key = "configs", .type = F_ANY},
    END,
};
static const Field operator_fields[] = {
    TYPE,
    {.key = "metrics", .type = F_STR},
    {.key = "quant_modules", .type = F_STRINGS},
    {.key = "configs", .type = F_ANY},
    END,
};
static const Field load_fields[] = {
    TYPE,
    {.key = "device", .type = F_STR},
    {.key = "non_blocking", .type = F_BOOL},
    {.key = "mode", .type = F_ENUM, .words = load_modes},
    {.key = "cleanup", .type = F_BOOL},
    {.key = "post_offload", .type = F_BOOL},
    END,
};
static const Field saver_fields[] = {
    TYPE,
    {.key = "part_file_size", .type = F_FLOAT},
    {.key = "ext", .type = F_MAP},
    {.key = "save_directory", .type = F_ANY},
    END,
};
static const Field compressed_fields[] = {
    TYPE, {.key = "part_file_size", .type = F_FLOAT}, {.key = "save_directory", .type = F_ANY}, END};

/* adapt_rotation: the fields of the other stage are refused. */
static void check_rotation(Check *c, const YamlNode *map)
{
    static const char *const stage1[] = {"steps", "quant_dtype", "layer_type", "max_samples", NULL};
    static const char *const stage2[] = {"online", "down_proj_online_layers", "max_tp_size", NULL};
    const YamlNode *stage = yaml_get(map, "stage");
    int64_t s;
    if (!stage || !lax_int(stage, &s) || (s != 1 && s != 2))
        return;
    for (const char *const *k = s == 1 ? stage2 : stage1; *k; k++)
        if (yaml_get(map, *k))
            check_fail(c, yaml_get(map, *k), "'%s' belongs to stage %d, this is stage %d", *k, s == 1 ? 2 : 1, (int)s);
}

/* fa3_quant: one way of saying it. */
static void check_fa3(Check *c, const YamlNode *map)
{
    const YamlNode *q = yaml_get(map, "qconfig"), *d = yaml_get(map, "details");
    if (q && d && q->kind != YAML_NULL && d->kind != YAML_NULL)
        check_fail(c, d, "qconfig and details exclude each other");
}

/* Fractions of a GB are ours. */
static void check_size(Check *c, const YamlNode *map, bool strict)
{
    const YamlNode *v = yaml_get(map, "part_file_size");
    double x;
    if (!v || !lax_float(v, &x))
        return;
    size_t was = check_push(c, "part_file_size");
    if (!isfinite(x))
        check_fail(c, v, "must be a number of GB, not %s", v->text);
    else if (x < 0 && strict)
        check_fail(c, v, "must be 0 (one file) or more, not %g", x);
    else if (x < 0)
        check_block(c, v, "part_file_size is %g: 0 (one file) or more is needed", x);
    else if (x != floor(x))
        check_note(c, v, "part_file_size %g: the peer takes whole numbers only", x);
    check_pop(c, was);
}

/* An item of save[]: the peer finds a negative size when it builds the saver, after the run. */
static void check_saver(Check *c, const YamlNode *map)
{
    check_size(c, map, false);
}

/* A saver given as a processor is checked at load. */
static void check_saver_processor(Check *c, const YamlNode *map)
{
    check_size(c, map, true);
}

/* A side of an autoround strategy: group_size goes with per_group and with nothing else. */
static void check_autoround_side(Check *c, const YamlNode *q)
{
    static const char *const scales[] = {"float16", "float32", "bfloat16", NULL};
    static const Field scale = {.type = F_ENUM, .words = scales};
    const YamlNode *scope = yaml_get(q, "scope"), *ext = yaml_get(q, "ext"), *size = yaml_get(ext, "group_size");
    const YamlNode *dtype = yaml_get(ext, "scale_dtype");
    bool grouped = scope && scope->kind == YAML_STR && strcmp(scope->text, "per_group") == 0;
    size_t was = check_push(c, "ext");
    if (grouped && (!size || size->kind != YAML_INT || size->i <= 0))
        check_fail(c, size ? size : q, "scope per_group needs ext.group_size above 0");
    else if (!grouped && size)
        check_fail(c, size, "ext.group_size needs scope per_group");
    if (dtype) {
        size_t at = check_push(c, "scale_dtype");
        check_value(c, dtype, &scale);
        check_pop(c, at);
    }
    check_pop(c, was);
}

static void check_autoround_strategy(Check *c, const YamlNode *map)
{
    static const char *const sides[] = {"act", "weight"};
    const YamlNode *q = yaml_get(map, "qconfig");
    size_t was = check_push(c, "qconfig");
    for (int i = 0; i < 2; i++)
        if (yaml_get(q, sides[i])) {
            size_t at = check_push(c, sides[i]);
            check_autoround_side(c, yaml_get(q, sides[i]));
            check_pop(c, at);
        }
    check_pop(c, was);
}

const ProcessorType processor_table[] = {
    {.name = "linear_quant", .runs = true, .object = {.fields = linear_quant_fields, .check = check_linear_quant}},
    {.name = "group", .runs = true, .object = {.fields = group_fields}},
    {.name = "iter_smooth", .object = {.fields = iter_smooth_fields}},
    {.name = "flex_smooth_quant", .object = {.fields = flex_smooth_fields}},
    {.name = "flex_awq_ssz", .object = {.fields = flex_awq_fields}},
    {.name = "smooth_quant", .object = {.fields = smooth_fields}},
    {.name = "awq", .object = {.fields = awq_fields}},
    {.name = "quarot", .object = {.fields = quarot_fields}},
    {.name = "online_quarot", .object = {.fields = online_quarot_fields}},
    {.name = "adapt_rotation", .object = {.fields = rotation_fields, .check = check_rotation}},
    {.name = "autoround_quant", .object = {.fields = autoround_fields}},
    {.name = "float_sparse", .object = {.fields = float_sparse_fields}},
    {.name = "svd_res", .object = {.fields = svd_fields}},
    {.name = "flatquant", .object = {.fields = only_patterns}},
    {.name = "dynamic_cache", .runs = true, .object = {.fields = dynamic_cache_fields, .check = check_dynamic_cache}},
    {.name = "fa3_quant", .object = {.fields = fa3_fields, .check = check_fa3}},
    {.name = "kv_smooth", .object = {.fields = kv_smooth_fields}},
    {.name = "unary_analysis", .object = {.fields = unary_fields}},
    {.name = "binary_analysis", .object = {.fields = binary_fields}},
    {.name = "binary_operator_layer_wise", .object = {.fields = operator_fields}},
    {.name = "binary_operator_model_wise", .object = {.fields = operator_fields}},
    {.name = "load", .object = {.fields = load_fields}},
    {.name = "saver", .object = {.fields = saver_fields, .check = check_saver_processor}},
    {.name = "ascendv1_saver", .object = {.fields = saver_fields, .check = check_saver_processor}},
    {.name = "ascendv1_saver_distributed", .object = {.fields = saver_fields, .check = check_saver_processor}},
    {.name = "mindie_format_saver", .object = {.fields = saver_fields, .check = check_saver_processor}},
    {.name = NULL},
};

static const ProcessorType saver_table[] = {
    {.name = "ascendv1_saver", .object = {.fields = saver_fields, .check = check_saver}},
    {.name = "mindie_format_saver", .object = {.fields = saver_fields, .check = check_saver}},
    {.name = "compressed_tensors", .object = {.fields = compressed_fields, .check = check_saver}},
    {.name = NULL},
};

const ProcessorType old_saver_table[] = {
    {.name = "ascendv1_saver", .object = {.fields = saver_fields, .check = check_saver_processor}},
    {.name = "mindie_format_saver", .object = {.fields = saver_fields, .check = check_saver_processor}},
    {.name = "ascendv1_saver_distributed", .object = {.fields = saver_fields, .check = check_saver_processor}},
    {.name = NULL},
};

static const Field metadata_fields[] = {
    {.key = "config_id", .type = F_STR, .longest = 200},
    {.key = "score", .type = F_FLOAT, .bounded = true, .lo = 0, .hi = 1e300},
    {.key = "label", .type = F_MAP},
    {.key = "verified_model_types", .type = F_STRINGS, .longest = 200},
    {.key = "verified_tags", .type = F_SCENARIOS},
    END,
};
const Object metadata_object = {.fields = metadata_fields};

static const Field prior_fields[] = {
    {.key = "process", .type = F_PROCESSORS, .required = true},
    {.key = "dataset", .type = F_STR, .longest = 4096, .nullable = true},
    END,
};
const Object prior_object = {.fields = prior_fields};

static const Field spec_fields[] = {
    {.key = "runner", .type = F_ENUM, .words = runners},
    {.key = "prior", .type = F_OBJECTS, .object = &prior_object},
    {.key = "process", .type = F_PROCESSORS},
    {.key = "save", .type = F_UNION, .types = saver_table, .noun = "saver"},
    {.key = "dataset", .type = F_STR, .longest = 4096},
    END,
};

/* What of a valid document isn't run as it is written. */
static void check_spec(Check *c, const YamlNode *spec)
{
    const YamlNode *prior = yaml_get(spec, "prior"), *runner = yaml_get(spec, "runner");
    if (prior && prior->kind == YAML_SEQ && prior->count)
        check_block(c, prior, "prior stages aren't run by this build");
    if (runner && runner->kind == YAML_STR && strcmp(runner->text, "dp_layer_wise") == 0)
        check_note(c, runner, "runner dp_layer_wise: run as layer_wise here");
}

static const Object spec_object = {.fields = spec_fields, .check = check_spec};

static const Field document_fields[] = {
    {.key = "apiversion", .type = F_STR, .required = true},
    {.key = "metadata", .type = F_OBJECT, .object = &metadata_object},
    {.key = "spec", .type = F_OBJECT, .object = &spec_object},
    END,
};
static const Object document_object = {.fields = document_fields, .extra = true};

const ApiVersion api_v1 = {
    .name = "modelslim_v1", .document = &document_object, .dataset = "mix_calib.jsonl", .process = true};
