#ifndef SLIM_UI_INPUT_H
#define SLIM_UI_INPUT_H

#include "ui/workbench.h"

/* Input lines at the bottom of the screen, edited by readline, which never touches the terminal. */
typedef enum InputKind {
    INPUT_COMMAND,
    INPUT_EXCLUDE,
    INPUT_RULE, /* another pattern for Ui.rule */
    INPUT_TAG,
    INPUT_SEARCH,
    INPUT_FILTER,
    INPUT_EXPORT,
    INPUT_FOLDER,
    INPUT_FIT,    /* a goal for fit, for tune; a budget (ask.c) */
    INPUT_TUNE,
    INPUT_BUDGET,
    INPUT_COMPARE,
    INPUT_SHEET,
    INPUT_TEXTS, /* filter of the calibration set's */
    INPUT_TENSORS, /* filter of the model's */
    INPUT_KINDS
} InputKind;

/* Readline's one-time set-up; before curses starts, because it looks at the terminal description too. */
void input_init(App *a);
void input_fini(App *a);
/* Opens a line holding `text`. */
unsigned input_open(Ui *ui, InputKind kind, const char *text);
unsigned input_key(Ui *ui, int key);
/* Pasted text: line breaks become spaces. */
unsigned input_paste(Ui *ui, const char *text);
/* Lets the open line's kind see what was typed since it last looked: before painting, so that keys which wait together
 * cost one search. */
void input_settle(Ui *ui);
void input_close(Ui *ui);
void input_draw(Ui *ui);

/* ask.c: what is told of a text while it is typed, into figures (above the line) and note (below it), each of `size`
 * bytes; and what Enter runs. */
typedef struct AskNote {
    char *figures, *note;
    size_t size;
    Slot slot;
} AskNote;
void ask_fit(Ui *ui, const char *text, AskNote *out);
void ask_tune(Ui *ui, const char *text, AskNote *out);
void ask_budget(Ui *ui, const char *text, AskNote *out);
/* ", over the budget by 4.0M", or what is left of it, when the set changes by so much; nothing without a budget. */
int ask_over(Ui *ui, int64_t bytes, double bits, char *out, size_t size);

#endif
