#include <string.h>

#include "recipe/recipe_impl.h"

/* The keys of multimodal_vlm_modelslim_v1 and multimodal_sd_modelslim_v1 (specs/config.md 3, 6): read and validated,
 * not run by this build. */

static const char *const capture_modes[] = {"args", NULL};

/* (An empty save list fails in the peer.) */
#define COMMON                                                                                       \
    {.key = "runner", .type = F_STR}, {.key = "prior", .type = F_OBJECTS, .object = &prior_object},  \
        {.key = "process", .type = F_CHECKED, .value = check_processors},                                                    \
        {.key = "save", .type = F_CHECKED, .value = check_old_savers, .least = 1},     \
        {.key = "dataset", .type = F_STR}

static void check_runner(Check *c, const YamlNode *spec)
{
    const YamlNode *runner = yaml_get(spec, "runner"), *prior = yaml_get(spec, "prior");
    if (runner && runner->kind == YAML_STR && strcmp(runner->text, "layer_wise") != 0)
        check_note(c, runner, "runner '%.40s': the peer takes layer_wise instead", runner->text);
    if (prior)
        check_note(c, prior, "prior: the peer never runs these stages");
}

static const Field vlm_fields[] = {COMMON, {.key = "default_text", .type = F_STR, .filled = true}, FIELD_END};
static const Object vlm_spec = {.fields = vlm_fields, .check = check_runner};

static const Field dump_fields[] = {
    {.key = "enable_dump", .type = F_BOOL},
    {.key = "capture_mode", .type = F_ENUM, .words = capture_modes},
    {.key = "dump_data_dir", .type = F_STR},
    FIELD_END,
};
static const Object dump_object = {.fields = dump_fields};

static const Field sd_config_fields[] = {
    {.key = "dump_config", .type = F_OBJECT, .object = &dump_object, .required = true},
    {.key = "inference_config", .type = F_MAP, .nullable = true},
    {.key = "model_config", .type = F_MAP, .nullable = true},
    FIELD_END,
};

static void check_sd_config(Check *c, const YamlNode *map)
{
    const YamlNode *old = yaml_get(map, "model_config"), *now = yaml_get(map, "inference_config");
    if (old && now && old->kind == YAML_MAP && now->kind == YAML_MAP)
        check_block(c, old, "model_config is the old name of inference_config: only one of them runs");
}

static const Object sd_config = {.fields = sd_config_fields, .extra = true, .check = check_sd_config};

/* Absent, the peer falls back to a default that lacks dump_config. */
static void check_sd(Check *c, const YamlNode *spec)
{
    if (!yaml_get(spec, "multimodal_sd_config")) {
        size_t was = check_push(c, "multimodal_sd_config.dump_config");
        check_fail(c, spec, "is missing");
        check_pop(c, was);
    }
    check_runner(c, spec);
}

static const Field sd_fields[] = {
    COMMON,
    {.key = "multimodal_sd_config", .type = F_OBJECT, .object = &sd_config},
    FIELD_END,
};
static const Object sd_spec = {.fields = sd_fields, .check = check_sd};

const ApiVersion api_vlm = {
    .name = "multimodal_vlm_modelslim_v1",
    .spec = &vlm_spec,
    .dataset = "mix_calib.jsonl",
    .process = true,
    .blocks = "vision-language documents are read, not run by this build",
};
const ApiVersion api_sd = {
    .name = "multimodal_sd_modelslim_v1",
    .spec = &sd_spec,
    .spec_needed = true,
    .dataset = "mix_calib.jsonl",
    .process = true,
    .blocks = "diffusion documents are read, not run by this build",
};
