#include <string.h>

#include "recipe/recipe_impl.h"

/* The items of spec.process: processors that this build runs, which are handed in, and the peer's others, whose keys
 * are known here so that a recipe that names them is checked and kept (specs/config.md 4). */

static const char *const load_modes[] = {"load", "offload", NULL};

static const Field group_fields[] = {
    FIELD_TYPE, {.key = "configs", .type = F_CHECKED, .value = check_processors, .required = true}, FIELD_END};

static const Field unary_fields[] = {
    FIELD_TYPE, {.key = "metrics", .type = F_STR}, {.key = "patterns", .type = F_STRINGS}, FIELD_END};
static const Field binary_fields[] = {
    FIELD_TYPE,
    {.key = "metrics", .type = F_STR},
    {.key = "patterns", .type = F_STRINGS},
    {.key = "configs", .type = F_ANY},
    FIELD_END,
};
static const Field operator_fields[] = {
    FIELD_TYPE,
    {.key = "metrics", .type = F_STR},
    {.key = "quant_modules", .type = F_STRINGS},
    {.key = "configs", .type = F_ANY},
    FIELD_END,
};
static const Field load_fields[] = {
    FIELD_TYPE,
    {.key = "device", .type = F_STR},
    {.key = "non_blocking", .type = F_BOOL},
    {.key = "mode", .type = F_ENUM, .words = load_modes},
    {.key = "cleanup", .type = F_BOOL},
    {.key = "post_offload", .type = F_BOOL},
    FIELD_END,
};

/* Types of the peer's that no row runs. */
typedef struct KeptType {
    const char *name;
    const Field *fields;
    void (*check)(Check *c, const YamlNode *map);
} KeptType;

static const KeptType kept_types[] = {
    {"group", group_fields, NULL},
    {"unary_analysis", unary_fields, NULL},
    {"binary_analysis", binary_fields, NULL},
    {"binary_operator_layer_wise", operator_fields, NULL},
    {"binary_operator_model_wise", operator_fields, NULL},
    {"load", load_fields, NULL},
    {"saver", kept_saver_fields, check_saver_processor},
};
enum { NKEPT = sizeof kept_types / sizeof kept_types[0] };

static int count_processors(const RecipeRows *rows)
{
    int n = 0;
    while (rows->processor(n))
        n++;
    return n;
}

/* Names in order: the rows handed in, the kept types, the savers that the peer has as processors. */
static const char *processor_name(const Check *c, int i)
{
    const RecipeRows *rows = c->r->rows;
    const int n = count_processors(rows);
    if (i < n)
        return rows->processor(i)->name;
    return i < n + NKEPT ? kept_types[i - n].name : old_saver_name(c, i - n - NKEPT);
}

static void check_item(Check *c, const YamlNode *item)
{
    const int n = count_processors(c->r->rows), i = check_item_type(c, item, "processor", false, processor_name);
    if (i < 0)
        return;
    const char *name = processor_name(c, i);
    size_t was = check_push(c, name);
    if (i < n)
        check_object(c, item, c->r->rows->processor(i)->object);
    else if (i < n + NKEPT)
        check_object(c, item, &(Object){.fields = kept_types[i - n].fields, .check = kept_types[i - n].check});
    else
        check_old_saver(c, item, i - n - NKEPT);
    if (i > n) /* the first of the kept ones is a group */
        check_block(c, item, "processor '%s': kept, not run by this build", name);
    check_pop(c, was);
}

/* What the list has had so far: the first type that looks at inputs, the first that quantizes; NULL: none. */
typedef struct Before {
    const char *looks, *quantizes;
} Before;

/* What turns the model stands before what looks at it, and what changes it before what quantizes it. */
static void check_order(Check *c, const YamlNode *list, Before *before, bool report)
{
    for (int i = 0; list && list->kind == YAML_SEQ && i < list->count; i++) {
        const YamlNode *item = list->items[i], *type = item->kind == YAML_MAP ? yaml_get(item, "type") : NULL;
        if (node_is(type, "group")) /* within it, its own list was looked at */
            check_order(c, yaml_get(item, "configs"), before, report && before->looks);
        const ProcessorType *p = type && type->kind == YAML_STR ? processor_find(c->r->rows, type->text) : NULL;
        p = p && p->anywhere ? NULL : p;
        if (p && p->first && before->looks && report)
            check_block(c, item, "'%s' has to stand before '%s': a model is turned before its inputs are looked at", p->name,
                        before->looks);
        else if (p && p->changes && before->quantizes && report)
            check_block(c, item, "'%s' has to stand before '%s': it changes what is quantized by then", p->name,
                        before->quantizes);
        before->looks = before->looks || !p || p->first ? before->looks : p->name;
        before->quantizes = before->quantizes || !p || !p->levels ? before->quantizes : p->name;
    }
}

void check_processors(Check *c, const YamlNode *v, const Field *f)
{
    Before before = {.looks = NULL};
    check_items(c, v, f, check_item);
    check_order(c, v, &before, true);
}

const ProcessorType *processor_find(const RecipeRows *rows, const char *type)
{
    const ProcessorType *p;
    for (int i = 0; (p = rows->processor(i)) != NULL; i++)
        if (strcmp(p->name, type) == 0)
            return p;
    return NULL;
}

Object processor_object(const RecipeRows *rows, const char *type)
{
    const ProcessorType *p = processor_find(rows, type);
    if (p)
        return *p->object;
    for (int i = 0; i < NKEPT; i++)
        if (strcmp(kept_types[i].name, type) == 0)
            return (Object){.fields = kept_types[i].fields, .check = kept_types[i].check};
    return (Object){0};
}
