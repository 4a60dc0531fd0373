#include <string.h>

#include "recipe/recipe_impl.h"

/* autoround_quant: its strategies are entries as those of linear_quant are, the first that takes a linear has it
 * (specs/quantization.md 10.5). What a side calls its method isn't looked at: weights are trained, inputs are quantized token by
 * token or not at all. */

/* A side: group_size goes with per_group and with nothing else. */
static void check_side(Check *c, const YamlNode *q)
{
    static const char *const scales[] = {"float16", "float32", "bfloat16", NULL};
    static const Field scale = {.type = F_ENUM, .words = scales};
    const YamlNode *scope = yaml_get(q, "scope"), *ext = yaml_get(q, "ext"), *size = yaml_get(ext, "group_size");
    const YamlNode *dtype = yaml_get(ext, "scale_dtype");
    bool grouped = node_is(scope, "per_group");
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

static void check_sides(Check *c, const YamlNode *q)
{
    static const char *const sides[] = {"act", "weight"};
    for (int i = 0; i < 2; i++)
        if (yaml_get(q, sides[i])) {
            size_t at = check_push(c, sides[i]);
            check_side(c, yaml_get(q, sides[i]));
            check_pop(c, at);
        }
}

/* Whether inputs are left alone, or quantized by what each token has. */
static bool fits_inputs(const QSpec *a)
{
    return a->dtype == QT_FLOAT || (a->scope == QS_PER_TOKEN && (a->dtype == QT_INT8 || a->dtype == QT_INT4));
}

static bool has_weights(const Check *c, const QSpec *w)
{
    const QuantKey *k;
    for (int i = 0; (k = c->r->rows->weight(i)) != NULL; i++)
        if (quantkey_takes(k, w))
            return true;
    return false;
}

/* What a run could not do: the peer finds out when it deploys. */
static void check_pair(Check *c, const YamlNode *qc, const QConfig *q, const Scheme *scheme)
{
    if (!has_weights(c, &q->weight))
        check_block(c, qc, "autoround_quant trains int8 and int4 weights per_channel or per_group, not %s %s",
                    qscope_name(q->weight.scope), qtype_name(q->weight.dtype));
    else if (!fits_inputs(&q->act))
        check_block(c, qc, "autoround_quant quantizes inputs per_token as int8 or int4, or leaves them float, not %s %s",
                    qscope_name(q->act.scope), qtype_name(q->act.dtype));
    else if (!scheme)
        recipe_no_scheme(c, qc, q);
    else if (scheme->ours)
        check_note(c, qc, "%s is ours: the peer loads it and then finds nothing to write it with", scheme->name);
}

static void check_strategy(Check *c, const YamlNode *map)
{
    const YamlNode *qc = yaml_get(map, "qconfig"), *act = yaml_get(qc, "act"), *weight = yaml_get(qc, "weight");
    QConfig q = {.act = {.dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .symmetric = true, .method = "none"}};
    size_t was = check_push(c, "qconfig");
    check_sides(c, qc);
    bool whole = weight && qspec_read_as(weight, "autoround", &q.weight) && (!act || qspec_read_as(act, "minmax", &q.act));
    if (whole && q.act.dtype == QT_FLOAT)
        strcpy(q.act.method, "none");
    const Scheme *scheme = whole ? scheme_find(&q) : NULL;
    if (whole)
        check_pair(c, qc, &q, scheme);
    check_pop(c, was);
    if (whole)
        recipe_add_entry(c, map, &q, scheme, false);
}

static const Field strategy_fields[] = {
    {.key = "qconfig", .type = F_OBJECT, .object = &qconfig_object, .required = true}, FIELD_PATTERNS, FIELD_END,
};
static const Object strategy = {.fields = strategy_fields, .check = check_strategy};
static const Field autoround_fields[] = {
    FIELD_TYPE,
    {.key = "iters", .type = F_INT, .bounded = true, .lo = 1, .hi = 1e9, .absent = "10"},
    {.key = "enable_minmax_tuning", .type = F_BOOL, .absent = "true"},
    {.key = "enable_round_tuning", .type = F_BOOL, .absent = "true"},
    {.key = "seed", .type = F_INT, .bounded = true, .lo = 0, .hi = 4294967295.0, .ours = true, .absent = "0"},
    {.key = "strategies", .type = F_OBJECTS, .object = &strategy, .required = true, .least = 1},
    FIELD_END,
};
const Object autoround_object = {.fields = autoround_fields};

int autoround_strategies(const YamlNode *map)
{
    const YamlNode *list = yaml_get(map, "strategies");
    return list && list->kind == YAML_SEQ ? list->count : 0;
}
