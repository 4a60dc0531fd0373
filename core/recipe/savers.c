#include <math.h>
#include <string.h>

#include "recipe/recipe_impl.h"

/* The items of spec.save, and the savers that the peer also has as processors (specs/config.md 5, 6). */

const Field kept_saver_fields[] = {FIELD_SAVER, {.key = "ext", .type = F_MAP}, FIELD_END};
/* Savers that this build has none for. */
static const SaverType kept_savers[] = {
    {.name = "ascendv1_saver_distributed", .fields = kept_saver_fields, .processor = true},
};
enum { NKEPT = sizeof kept_savers / sizeof kept_savers[0] };

/* Saver i of those that are processors, too: the rows handed in, then the kept ones. */
static bool old_saver(const Check *c, int i, SaverType *out)
{
    for (int k = 0; c->r->rows->saver(k, out); k++)
        if (out->processor && i-- == 0)
            return true;
    if (i < NKEPT)
        *out = kept_savers[i];
    return i < NKEPT;
}

const char *old_saver_name(const Check *c, int i)
{
    SaverType t;
    return old_saver(c, i, &t) ? t.name : NULL;
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
void check_saver_processor(Check *c, const YamlNode *map)
{
    check_size(c, map, true);
}

void check_old_saver(Check *c, const YamlNode *item, int i)
{
    SaverType t;
    if (old_saver(c, i, &t))
        check_object(c, item, &(Object){.fields = t.fields, .check = check_saver_processor});
}

static const char *saver_name(const Check *c, int i)
{
    SaverType t;
    return c->r->rows->saver(i, &t) ? t.name : NULL;
}

static void check_saver_item(Check *c, const YamlNode *item)
{
    SaverType t;
    const int i = check_item_type(c, item, "saver", true, saver_name);
    if (i >= 0 && c->r->rows->saver(i, &t))
        check_object(c, item, &(Object){.fields = t.fields, .check = check_saver});
}

void check_saver_list(Check *c, const YamlNode *v, const Field *f)
{
    check_items(c, v, f, check_saver_item);
}

static void check_old_saver_item(Check *c, const YamlNode *item)
{
    const int i = check_item_type(c, item, "saver", true, old_saver_name);
    if (i >= 0)
        check_old_saver(c, item, i);
}

void check_old_savers(Check *c, const YamlNode *v, const Field *f)
{
    check_items(c, v, f, check_old_saver_item);
}

Object saver_object(const RecipeRows *rows, const char *type)
{
    SaverType t;
    for (int i = 0; rows->saver(i, &t); i++)
        if (strcmp(t.name, type) == 0)
            return (Object){.fields = t.fields};
    return (Object){0};
}

void canon_number(const YamlNode *v, Str *out)
{
    double x;
    if (lax_float(v, &x) && x == floor(x) && fabs(x) < 1e15)
        str_printf(out, "%.0f", x);
    else
        str_double(out, x);
}
