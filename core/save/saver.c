#include "save/saver.h"

#include <string.h>

const Saver *saver_find(const char *type)
{
    for (int i = 0; type && saver_table[i]; i++)
        if (strcmp(saver_table[i]->type, type) == 0)
            return saver_table[i];
    return NULL;
}
