#include "recipe/recipe_impl.h"

/* The keys of modelslim_convert (specs/config.md 3). What such a document does is core/convert's. */

const char *const convert_kind_words[] = {
    "FLOAT",          "FP8_BLOCK", "W8A8_MXFP8", "W4A4_MXFP4", "W4A8_MXFP8", "INT4_PACKED",
    "NVFP4_MODELOPT", "HIFP4",     "UNKNOWN",    NULL,
};

/* A route is 'auto' or the kinds on the way. */
static void check_linear(Check *c, const YamlNode *map)
{
    static const Field kind = {.type = F_ENUM, .words = convert_kind_words};
    const YamlNode *route = yaml_get(map, "route");
    if (!route || node_is(route, "auto"))
        return;
    size_t was = check_push(c, "route");
    if (route->kind != YAML_SEQ)
        check_fail(c, route, "must be auto or a list of kinds");
    for (int i = 0; route->kind == YAML_SEQ && i < route->count; i++) {
        size_t at = check_push_index(c, i);
        check_value(c, route->items[i], &kind);
        check_pop(c, at);
    }
    check_pop(c, was);
}

static const Field linear_fields[] = {
    {.key = "match", .type = F_STRINGS, .required = true},
    {.key = "target", .type = F_ENUM, .words = convert_kind_words, .required = true},
    {.key = "route", .type = F_ANY},
    FIELD_END,
};
static const Object linear_object = {.fields = linear_fields, .check = check_linear};

static const Field rename_pattern_fields[] = {
    {.key = "from", .type = F_STR, .required = true},
    {.key = "to", .type = F_STR, .required = true},
    FIELD_END,
};
static const Object rename_pattern = {.fields = rename_pattern_fields};
static const Field rename_fields[] = {
    {.key = "type", .type = F_STR, .required = true},
    {.key = "patterns", .type = F_OBJECTS, .object = &rename_pattern},
    FIELD_END,
};
static const Field op_fields[] = {
    {.key = "type", .type = F_STR, .required = true},
    {.key = "dim", .type = F_INT},
    {.key = "projections", .type = F_STRINGS},
    FIELD_END,
};
static const Object op_object = {.fields = op_fields, .extra = true};
static const Field convert_fields[] = {
    {.key = "type", .type = F_STR, .required = true},
    {.key = "source", .type = F_STRINGS},
    {.key = "target", .type = F_STRINGS},
    {.key = "ops", .type = F_OBJECTS, .object = &op_object},
    FIELD_END,
};
static const Object rename_object = {.fields = rename_fields}, convert_object = {.fields = convert_fields};

static const struct {
    const char *name;
    const Object *object;
} steps[] = {{"rename", &rename_object}, {"convert", &convert_object}, {.name = NULL}};

static const char *step_name(const Check *c, int i)
{
    (void)c;
    return steps[i].name;
}

static void check_step(Check *c, const YamlNode *item)
{
    const int i = check_item_type(c, item, "preprocess step", true, step_name);
    if (i >= 0)
        check_object(c, item, steps[i].object);
}

static void check_steps(Check *c, const YamlNode *v, const Field *f)
{
    check_items(c, v, f, check_step);
}

static const Field save_fields[] = {
    {.key = "type", .type = F_STR},
    {.key = "part_file_size", .type = F_FLOAT},
    FIELD_END,
};
static const Object save_object = {.fields = save_fields, .extra = true};

static const Field parallel_fields[] = {
    {.key = "workers", .type = F_INT},
    {.key = "max_group_size", .type = F_INT, .nullable = true},
    {.key = "worker_device", .type = F_STR},
    {.key = "npu_max_workers", .type = F_INT},
    FIELD_END,
};
static const Object parallel_object = {.fields = parallel_fields};

static const Field default_fields[] = {
    {.key = "src_format", .type = F_STR},
    {.key = "dst_format", .type = F_STR},
    {.key = "dst_ir", .type = F_ENUM, .words = convert_kind_words, .nullable = true},
    FIELD_END,
};
static const Object default_object = {.fields = default_fields};

/* Names of one destination. */
static bool is_ascend(const YamlNode *format)
{
    return node_is(format, "ascendv1") || node_is(format, "ascend_v1") || node_is(format, "ascendv1_saver");
}

static void check_target(Check *c, const char *key, const YamlNode *target, const YamlNode *format)
{
    size_t was = check_push(c, key);
    if (node_is(target, "W8A8_MXFP8"))
        check_fail(c, target, "W8A8_MXFP8 requires the destination ascendv1, not '%.40s'",
                   format->text ? format->text : yaml_kind_name(format->kind));
    check_pop(c, was);
}

/* W8A8_MXFP8 is for one destination only: the first saver's, else the default one. */
static void check_convert(Check *c, const YamlNode *spec)
{
    const YamlNode *save = yaml_get(spec, "save"), *linears = yaml_get(spec, "linears");
    const YamlNode *defaults = yaml_get(spec, "defaults"), *format = yaml_get(defaults, "dst_format");
    if (save && save->kind == YAML_SEQ && save->count) {
        format = yaml_get(save->items[0], "type");
        if (save->count > 1)
            check_note(c, save->items[1], "save: the peer uses the first entry only");
    }
    if (!format || is_ascend(format))
        return;
    for (int i = 0; linears && linears->kind == YAML_SEQ && i < linears->count; i++) {
        size_t was = check_push(c, "linears");
        check_push_index(c, i);
        check_target(c, "target", yaml_get(linears->items[i], "target"), format);
        check_pop(c, was);
    }
    size_t was = check_push(c, "defaults");
    check_target(c, "dst_ir", yaml_get(defaults, "dst_ir"), format);
    check_pop(c, was);
}

static const Field spec_fields[] = {
    {.key = "preprocess", .type = F_CHECKED, .value = check_steps},
    {.key = "linears", .type = F_OBJECTS, .object = &linear_object},
    {.key = "save", .type = F_OBJECTS, .object = &save_object},
    {.key = "parallel", .type = F_OBJECT, .object = &parallel_object},
    {.key = "defaults", .type = F_OBJECT, .object = &default_object},
    FIELD_END,
};
static const Object spec_object = {.fields = spec_fields, .extra = true, .check = check_convert};

const ApiVersion api_convert = {
    .name = "modelslim_convert",
    .spec = &spec_object,
    .blocks = "a conversion quantizes no layer by a recipe: 'slimscope convert' and 'slimscope quant' run it",
};
