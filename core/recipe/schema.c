#include "recipe/recipe_impl.h"

/* The keys of every document and of modelslim_v1 (specs/config.md 2-6). */

static const char *const runners[] = {"auto", "model_wise", "layer_wise", "dp_layer_wise", NULL};

static const Field q_fields[] = {
    {.key = "dtype", .type = F_ENUM, .required = true, .words = qtype_names},
    {.key = "scope", .type = F_ENUM, .required = true, .words = qscope_names},
    {.key = "symmetric", .type = F_BOOL, .required = true},
    {.key = "method", .type = F_STR, .required = true},
    {.key = "ext", .type = F_MAP},
    FIELD_END,
};
const Object qspec_object = {.fields = q_fields};

static const Field linear_q_fields[] = {
    {.key = "act", .type = F_OBJECT, .object = &qspec_object,
     .absent = "{\"dtype\": \"float\", \"method\": \"none\", \"scope\": \"per_tensor\", \"symmetric\": true}"},
    {.key = "weight", .type = F_OBJECT, .object = &qspec_object, .required = true},
    FIELD_END,
};
const Object qconfig_object = {.fields = linear_q_fields};

/* model type -> list of scenarios, each a list of tags. */
static void check_scenarios(Check *c, const YamlNode *v, const Field *f)
{
    (void)f;
    static const Field tags = {.type = F_STRINGS};
    if (v->kind != YAML_MAP) {
        check_fail(c, v, "must be a mapping of model types, not %s", yaml_kind_name(v->kind));
        return;
    }
    for (int i = 0; i < v->count; i++) {
        size_t was = check_push(c, v->keys[i]->text ? v->keys[i]->text : "?");
        if (check_list(c, v->vals[i], 0))
            for (int k = 0; k < v->vals[i]->count; k++) {
                size_t at = check_push_index(c, k);
                check_texts(c, v->vals[i]->items[k], &tags);
                check_pop(c, at);
            }
        check_pop(c, was);
    }
}

static const Field metadata_fields[] = {
    {.key = "config_id", .type = F_STR, .longest = 200},
    {.key = "score", .type = F_FLOAT, .bounded = true, .lo = 0, .hi = 1e300},
    {.key = "label", .type = F_MAP},
    {.key = "verified_model_types", .type = F_STRINGS, .longest = 200},
    {.key = "verified_tags", .type = F_CHECKED, .value = check_scenarios},
    FIELD_END,
};
static const Object metadata_object = {.fields = metadata_fields};

static const Field prior_fields[] = {
    {.key = "process", .type = F_CHECKED, .value = check_processors, .required = true},
    {.key = "dataset", .type = F_STR, .longest = 4096, .nullable = true, .absent = "null"},
    FIELD_END,
};
const Object prior_object = {.fields = prior_fields};

static const Field spec_fields[] = {
    {.key = "runner", .type = F_ENUM, .words = runners, .absent = "\"auto\""},
    {.key = "prior", .type = F_OBJECTS, .object = &prior_object, .absent = "[]"},
    {.key = "process", .type = F_CHECKED, .value = check_processors, .absent = "[]"},
    {.key = "save", .type = F_CHECKED, .value = check_saver_list, .absent = "[]"},
    {.key = "dataset", .type = F_STR, .longest = 4096, .absent = "\"mix_calib.jsonl\""},
    FIELD_END,
};

/* Whether all processors of a list may stand in a prior stage; depth is bounded by YAML_DEPTH_MAX. */
static bool may_be_prior(const Check *c, const YamlNode *list)
{
    int n = list && list->kind == YAML_SEQ ? list->count : 0;
    for (int i = 0; i < n; i++) {
        const YamlNode *item = list->items[i], *type = yaml_get(item, "type");
        const ProcessorType *p = type && type->kind == YAML_STR ? processor_find(c->r->rows, type->text) : NULL;
        if (node_is(type, "group") ? !may_be_prior(c, yaml_get(item, "configs")) : !p || !p->prior)
            return false;
    }
    return n > 0;
}

/* What of a valid document isn't run as it is written. */
static void check_spec(Check *c, const YamlNode *spec)
{
    const YamlNode *prior = yaml_get(spec, "prior"), *runner = yaml_get(spec, "runner");
    bool runs = true;
    for (int i = 0; prior && prior->kind == YAML_SEQ && i < prior->count; i++)
        runs = runs && may_be_prior(c, yaml_get(prior->items[i], "process"));
    if (!runs)
        check_block(c, prior, "prior stages aren't run by this build");
    if (node_is(runner, "dp_layer_wise"))
        check_note(c, runner, "runner dp_layer_wise: the ranks that mpirun started divide the texts; without them it runs as layer_wise");
}

const Object recipe_spec_object = {.fields = spec_fields, .check = check_spec};

/* The mapping at the root, of every apiversion. */
void check_root(Check *c, const YamlNode *root, const ApiVersion *api)
{
    const Field fields[] = {
        {.key = "apiversion", .type = F_STR, .required = true},
        {.key = "metadata", .type = F_OBJECT, .object = &metadata_object},
        {.key = "spec", .type = F_OBJECT, .object = api->spec, .required = api->spec_needed},
        FIELD_END,
    };
    check_object(c, root, &(Object){.fields = fields, .extra = true});
}

const ApiVersion api_v1 = {
    .name = "modelslim_v1", .spec = &recipe_spec_object, .dataset = "mix_calib.jsonl", .process = true};

void check_practice(Check *c, const YamlNode *v, const Field *f)
{
    (void)f;
    const YamlNode *api = yaml_get(v, "apiversion");
    if (v->kind == YAML_MAP && api && !node_is(api, api_v1.name)) {
        size_t was = check_push(c, "apiversion");
        check_fail(c, api, "must be %s, not %s", api_v1.name, api->text ? api->text : yaml_kind_name(api->kind));
        check_pop(c, was);
        return;
    }
    check_root(c, v, &api_v1);
}
