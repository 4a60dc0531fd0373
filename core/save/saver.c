#include "save/saver.h"

#include "recipe/field.h"

#include <string.h>

const Saver *saver_find(const char *type)
{
    for (int i = 0; type && saver_table[i]; i++)
        if (strcmp(saver_table[i]->type, type) == 0)
            return saver_table[i];
    return NULL;
}

bool saver_type(int i, SaverType *out)
{
    const Saver *s = saver_table[i];
    if (s)
        *out = (SaverType){.name = s->type, .fields = s->fields, .processor = s->processor};
    return s != NULL;
}
