/* The command table. Prompt, program, completion, help and manual page are made from it. */
#include "src/commands.h"

#include <stddef.h>
#include <string.h>

const Command *const command_table[] = {
#define ADDRESS(name) &command_##name,
    COMMAND_ROWS(ADDRESS) NULL,
};

const Command *command_find(const char *name)
{
    for (int i = 0; command_table[i]; i++)
        if (strcmp(command_table[i]->name, name) == 0)
            return command_table[i];
    return NULL;
}
