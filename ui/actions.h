#ifndef SLIM_UI_ACTIONS_H
#define SLIM_UI_ACTIONS_H

#include "ui/keys.h"

/* What keys do: each builds a command text and runs it, or moves. Signature of KeyRow.run. */
typedef unsigned KeyAction(Ui *ui, const KeyRow *row, int key);
KeyAction act_move, act_screen, act_run, act_measure, act_exclude, act_exclude_tagged, act_level, act_undo, act_redo,
    act_tag, act_prompt, act_find_next, act_sort, act_sort_invert, act_metric, act_detail, act_resort,
    act_copy, act_plain, act_export, act_stop, act_suspend, act_redraw, act_back, act_quit, act_help;
KeyAction act_compare; /* the shown metric with the one beside it, or shown before */

/* Says that nothing is further that way. Always DO_PAINT. */
unsigned act_end(Ui *ui, Motion m);
/* Tells where a search stands. Always DO_PAINT. */
unsigned ui_found(Ui *ui, Found f, const char *text);
/* Sorts the table by a key; by the one it is sorted by already, the other way round. */
unsigned ui_sort(Ui *ui, SortKey k);

const char *refuse_no_model(Ui *ui);
const char *refuse_no_linear(Ui *ui);
const char *refuse_no_tags(Ui *ui);
const char *refuse_no_undo(Ui *ui);
const char *refuse_no_redo(Ui *ui);
const char *refuse_no_search(Ui *ui);
const char *refuse_no_result(Ui *ui);
const char *refuse_no_whatif(Ui *ui);
const char *refuse_no_folds(Ui *ui);

#endif
