/* The command table: the one list of verbs. Prompt, program, completion, help and manual page are made from it. */
#include "src/commands.h"

#include <stddef.h>
#include <string.h>

const Command *const command_table[] = {
    &command_open,
    &command_calib,
    &command_eval,
    &command_recipe,
    &command_analyze,
    &command_rank,
    &command_show,
    &command_sort,
    &command_filter,
    &command_fold,
    &command_tag,
    &command_exclude,
    &command_include,
    &command_level,
    &command_undo,
    &command_redo,
    &command_measure,
    &command_export,
    &command_quantize,
    &command_history,
    &command_replay,
    &command_set,
    &command_bind,
    &command_theme,
    &command_screen,
    &command_dump,
    &command_wait,
    &command_cancel,
    &command_resume,
    &command_quant,
    &command_info,
    &command_check,
    &command_forward,
    &command_tokenize,
    &command_shell,
    &command_workbench,
    &command_help,
    &command_version,
    &command_quit,
    NULL,
};

const Command *command_find(const char *name)
{
    for (int i = 0; command_table[i]; i++)
        if (strcmp(command_table[i]->name, name) == 0)
            return command_table[i];
    return NULL;
}
