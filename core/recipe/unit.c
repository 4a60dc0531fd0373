#include "recipe/recipe_impl.h"

/* What a run needs of a document that was found whole: stages, units, savers. */

/* Lines of the text at hand aren't lines of what the user wrote. */
static bool lineless(const Recipe *r)
{
    return r->generated || r->old;
}

/* The processors that a group stands for. Depth is bounded by YAML_DEPTH_MAX, number by YAML_NODES_MAX. */
static int count_steps(const YamlNode *item)
{
    if (!node_is(yaml_get(item, "type"), "group"))
        return 1;
    const YamlNode *list = yaml_get(item, "configs");
    int n = 0;
    for (int i = 0; i < list->count; i++)
        n += count_steps(list->items[i]);
    return n;
}

const char *const *texts_read(Arena *a, const YamlNode *list, int *n)
{
    *n = list && list->kind == YAML_SEQ ? list->count : 0;
    const char **text = arena_alloc(a, (size_t)(*n + 1) * sizeof *text);
    for (int i = 0; text && i < *n; i++)
        text[i] = list->items[i]->text;
    return text;
}

/* Fills steps from an item; *entry counts the linear_quant entries, which were gathered in the same order; NULL where
 * none were. */
static bool fill_steps(Recipe *r, const YamlNode *item, RecipeStep *steps, int *n, int *entry)
{
    const YamlNode *type = yaml_get(item, "type");
    if (node_is(type, "group")) {
        const YamlNode *list = yaml_get(item, "configs");
        bool fine = true;
        for (int i = 0; i < list->count && fine; i++)
            fine = fill_steps(r, list->items[i], steps, n, entry);
        return fine;
    }
    const ProcessorType *p = processor_find(r->rows, type->text);
    RecipeStep *s = &steps[(*n)++];
    *s = (RecipeStep){.processor = p, .type = type->text, .entry = -1, .line = lineless(r) ? 0 : item->line};
    if (p && p->levels && entry) {
        s->entry = *entry;
        s->entries = p->entries ? p->entries(item) : 1;
        *entry += s->entries;
    }
    if (p && p->settings)
        s->settings = p->settings(&r->arena, item);
    return !p || !p->settings || s->settings;
}

/* A list of processors; main: spec.process, whose entries were gathered. */
static bool build_stage(Recipe *r, const YamlNode *list, const YamlNode *dataset, bool main, RecipeStage *out)
{
    int n = list && list->kind == YAML_SEQ ? list->count : 0, entry = 0;
    RecipeUnit *unit = arena_alloc(&r->arena, (size_t)(n + 1) * sizeof *unit);
    for (int i = 0; unit && i < n; i++) {
        const YamlNode *item = list->items[i];
        int room = count_steps(item), used = 0;
        RecipeStep *steps = arena_alloc(&r->arena, (size_t)(room + 1) * sizeof *steps);
        if (!steps || !fill_steps(r, item, steps, &used, main ? &entry : NULL))
            return false;
        unit[i] = (RecipeUnit){.steps = steps, .nsteps = used, .line = lineless(r) ? 0 : item->line};
    }
    *out = (RecipeStage){.units = unit, .nunits = n,
                         .dataset = dataset && dataset->kind == YAML_STR ? dataset->text : NULL};
    return unit != NULL;
}

static bool build_stages(Recipe *r, const YamlNode *spec)
{
    const YamlNode *prior = yaml_get(spec, "prior");
    int n = prior && prior->kind == YAML_SEQ ? prior->count : 0;
    r->stage = arena_alloc(&r->arena, (size_t)(n + 1) * sizeof *r->stage);
    for (int i = 0; r->stage && i <= n; i++) {
        const YamlNode *at = i < n ? prior->items[i] : spec, *dataset = i < n ? yaml_get(at, "dataset") : NULL;
        if (!build_stage(r, yaml_get(at, "process"), dataset, i == n, &r->stage[i]))
            return false;
        r->nstages++;
    }
    return r->stage != NULL;
}

static bool build_savers(Recipe *r, const YamlNode *list)
{
    int n = list && list->kind == YAML_SEQ ? list->count : 0;
    r->saver = arena_alloc(&r->arena, (size_t)(n + 1) * sizeof *r->saver);
    for (int i = 0; r->saver && i < n; i++) {
        const YamlNode *size = yaml_get(list->items[i], "part_file_size");
        RecipeSaver *s = &r->saver[r->nsavers++];
        *s = (RecipeSaver){.type = yaml_get(list->items[i], "type")->text,
                           .part_file_size = 4,
                           .line = lineless(r) ? 0 : list->items[i]->line};
        if (size)
            lax_float(size, &s->part_file_size);
    }
    return r->saver != NULL;
}

Status recipe_build_units(Recipe *r, Error *err)
{
    if (!r->old && !r->api->process)
        return ST_OK;
    const YamlNode *spec = yaml_get(yaml_root(r->doc), "spec");
    if (!build_stages(r, spec) || !build_savers(r, yaml_get(spec, "save")))
        return error_nomem(err, "a recipe");
    return ST_OK;
}

int recipe_stages(const Recipe *r)
{
    return r->nstages;
}

const RecipeStage *recipe_stage(const Recipe *r, int i)
{
    return &r->stage[i];
}

int recipe_savers(const Recipe *r)
{
    return r->nsavers;
}

const RecipeSaver *recipe_saver(const Recipe *r, int i)
{
    return &r->saver[i];
}

bool recipe_can_run(const Recipe *r, Str *why)
{
    bool fine = true;
    for (size_t i = 0; i < r->nnotes; i++) {
        const RecipeNote *n = &r->note[i];
        if (n->blocks && why)
            str_printf(why, "%s:%d:%d: %s\n", r->name, n->line, n->column, n->text);
        fine = fine && !n->blocks;
    }
    return fine;
}
