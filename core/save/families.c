#include "save/families.h"

#include <string.h>

#define W4A8_EXPERTS                                                                                                \
    {"quantize", "w8a8_dynamic"}, {"moe_quantize", "w4a8_dynamic"}, {"mla_quantize", "w8a8_dynamic"}

/* The first that fits. */
static const SaveFamily families[] = {
    {.model_type = "kimi_k2", .named = "Kimi-K2", .config = {W4A8_EXPERTS}},
    {.model_type = "deepseek_v3", .config = {{"mtp_quantize", "w8a8_dynamic"}, W4A8_EXPERTS}},
    {.model_type = "deepseek_v32", .indexer = true},
    {.model_type = "glm_moe_dsa", .indexer = true, .indexer_turned = true},
    {.model_type = "minimax_m2", .router_wide = true},
    {.model_type = "longcat_flash", .router_wide = true},
};

static bool fits(const SaveFamily *f, const SavePlan *plan)
{
    const Model *m = plan->model;
    return strcmp(m->cfg.model_type, f->model_type) == 0 || (m->arch && strcmp(m->arch->model_type, f->model_type) == 0)
           || (f->named && plan->model_type && strncmp(plan->model_type, f->named, strlen(f->named)) == 0);
}

bool save_families_known(void)
{
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (!arch_find(families[i].model_type))
            return false;
    return true;
}

const SaveFamily *save_family_of(const SavePlan *plan)
{
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (fits(&families[i], plan))
            return &families[i];
    return NULL;
}
