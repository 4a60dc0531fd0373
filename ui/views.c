/* The screens there are. */
#include "ui/view.h"

#include <string.h>

const View *const view_table[] = {
#define ADDRESS(name) &view_##name,
    VIEW_ROWS(ADDRESS) NULL,
};

const View *view_find(const char *name)
{
    for (int i = 0; view_table[i]; i++) {
        if (strcmp(view_table[i]->name, name) == 0 || (name[0] == view_table[i]->key && !name[1]))
            return view_table[i];
    }
    return NULL;
}
