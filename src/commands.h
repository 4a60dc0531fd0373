#ifndef SLIM_SRC_COMMANDS_H
#define SLIM_SRC_COMMANDS_H

#include "src/app.h"
#include "src/cmdline.h"

/* Rows of command_table, each defined in the cmd_*.c file of its group. */
extern const Command command_open, command_calib, command_eval, command_recipe, command_set;
extern const Command command_analyze, command_rank;
extern const Command command_show, command_sort, command_filter, command_fold, command_theme, command_screen,
    command_bind, command_dump;
extern const Command command_tag, command_level, command_exclude, command_include, command_undo, command_redo;
extern const Command command_measure, command_export, command_quantize, command_quant;
extern const Command command_history, command_replay;
extern const Command command_wait, command_cancel, command_resume, command_quit;
extern const Command command_tokenize, command_forward, command_info, command_check;
extern const Command command_shell, command_workbench, command_help, command_version;

/* Opens what a one-shot analyze or measure names (model, run options, calibration set; calib: its default, NULL none);
 * in the other faces checks that a model is open and applies the options given. */
Status open_for_run(App *a, const CommandLine *cl, const char *calib, Error *err);
/* Refuses the peer's options that name what this program is not (--device npu). */
Status check_peer_options(App *a, const CommandLine *cl, Error *err);
/* The ranked table and the measured effect of keeping the two worst linears in float, for a model without a terminal
 * (make demo). */
Status report_run(App *a, Error *err);
/* The manual page, generated from the tables. */
void write_man_page(Str *out);

#endif
