#ifndef SLIM_SRC_PROMPT_H
#define SLIM_SRC_PROMPT_H

#include "src/app.h"

/* Readline as the shell and the workbench's command line use it. */

/* Hooks app_complete into readline. */
void prompt_setup(App *a);
/* The history file in the state folder: at most 1,000 lines, each kept once. Lost writes are not reported: no work is lost. */
void prompt_history_load(void);
void prompt_history_add(const char *line);
void prompt_history_save(void);

#endif
