#ifndef SLIM_UI_KEYS_H
#define SLIM_UI_KEYS_H

#include <stddef.h>

#include "ui/workbench.h"

enum { KEYS_PER_ROW = 4 };

/* One action: its keys, where it works, the command it runs. The F-bar, the help screen and the dispatcher read this
 * table. */
typedef struct KeyRow {
    int keys[KEYS_PER_ROW];    /* the first is the one shown; 0 ends */
    const char *screens;       /* digits of View.key; "" = every screen */
    const char *command;       /* text of the command, "" for movement and things only seen */
    const char *help;          /* one line */
    const char *label;         /* on the F-bar, NULL: not there */
    unsigned (*run)(Ui *ui, const struct KeyRow *row, int key);
    int arg;                   /* for run */
    const char *(*refuse)(Ui *ui); /* why it does nothing now; NULL or NULL result: it works */
} KeyRow;
extern const KeyRow key_table[]; /* ends with help == NULL */

/* "x", "Space", "^R", "F5", "PgDn". */
void key_text(int key, char *out, size_t size);
/* The reverse; KEY_NONE when there is no such key. */
int key_parse(const char *name);
bool key_row_here(const KeyRow *row, const View *v);
/* Row of a key on a screen; NULL when it has none there. *elsewhere (may be NULL): a row for another screen. */
const KeyRow *key_find(int key, const View *v, const KeyRow **elsewhere);
/* The F-bar of the present screen. */
void keys_draw_bar(Ui *ui);

#endif
