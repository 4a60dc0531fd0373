#include "save/format.h"

#include <string.h>

#include "recipe/field.h"
#include "save/families.h"

const SaveFormat *saver_find(const char *type)
{
    for (int i = 0; type && saver_table[i]; i++)
        if (strcmp(saver_table[i]->type, type) == 0)
            return saver_table[i];
    return NULL;
}

bool saver_type(int i, SaverType *out)
{
    const SaveFormat *f = saver_table[i];
    if (f)
        *out = (SaverType){.name = f->type, .fields = f->fields, .processor = f->processor};
    return f != NULL;
}

static const char *row_fault(const SaveFormat *f)
{
    const SaverOps *o = f->ops;
    const struct {
        bool there;
        const char *what;
    } needs[] = {
        {f->type && *f->type, "a saver without a type"},
        {f->title && *f->title, "a saver without a title"},
        {f->fields != NULL, "a saver without the keys of its item of spec.save"},
        {f->weights && *f->weights, "a saver without a name for its weights"},
        {f->description && *f->description, "a saver without a name for its description"},
        {f->parts != NULL, "a saver that doesn't say which tensors a linear becomes"},
        {f->documents != NULL, "a saver without documents"},
        {o && o->check && o->files && o->open && o->linear && o->keep_float && o->cache && o->layer_done && o->finish
             && o->close, "a saver that can't be driven"},
    };
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++)
        if (!needs[i].there)
            return needs[i].what;
    return NULL;
}

const char *saver_table_fault(const SaveFormat *const *table)
{
    const char *fault = table[0] ? NULL : "there is no saver";
    for (int i = 0; table[i] && !fault; i++) {
        fault = row_fault(table[i]);
        for (int k = 0; k < i && !fault; k++)
            if (strcmp(table[k]->type, table[i]->type) == 0 || strcmp(table[k]->weights, table[i]->weights) == 0)
                fault = "two savers of one type, or that would write the same files";
    }
    return fault || save_families_known() ? fault : "a saver has something for a family that no architecture is";
}

/* The stem and the ending, and between them nothing or what begins with one of `next`. */
static bool is_called(const char *name, const char *stem, const char *next, const char *end)
{
    size_t n = strlen(name), k = strlen(stem), e = strlen(end);
    if (n < k + e || strncmp(name, stem, k) != 0 || strcmp(name + n - e, end) != 0)
        return false;
    return n == k + e || strchr(next, name[k]) != NULL;
}

bool format_is_weights(const SaveFormat *f, const char *name)
{
    return is_called(name, f->weights, f->suffix ? "-_" : "-", ".safetensors");
}

bool format_is_description(const SaveFormat *f, const char *name)
{
    return is_called(name, f->description, f->suffix ? "_" : "", ".json");
}

bool saver_description(const char *name)
{
    for (const SaveFormat *const *f = saver_table; *f; f++)
        if ((*f)->labels && strncmp(name, (*f)->description, strlen((*f)->description)) == 0)
            return true;
    return false;
}
