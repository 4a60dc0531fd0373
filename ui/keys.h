#ifndef SLIM_UI_KEYS_H
#define SLIM_UI_KEYS_H

#include <stddef.h>

#include "ui/workbench.h"

enum { KEYS_PER_ROW = 4 };
#define K(code) KEY_CODE(code) /* in tables of rows */

/* One action: its keys and the command it runs. The F-bar, the help screen and the dispatcher read the rows of a screen:
 * its own (View.keys), and those of key_table whose first key it doesn't give another meaning. */
typedef struct KeyRow {
    int keys[KEYS_PER_ROW];    /* the first is the one shown; 0 ends */
    int place;                 /* on the F-bar and in the help: rows come by rising place; above 0 */
    const char *command;       /* text of the command, NULL for movement and things only seen */
    const char *help;          /* one line */
    const char *label;         /* on the F-bar, NULL: not there */
    unsigned (*run)(Ui *ui, const struct KeyRow *row, int key);
    int arg;                   /* for run */
    const char *(*refuse)(Ui *ui); /* why it does nothing now; NULL or NULL result: it works */
} KeyRow;
extern const KeyRow key_table[]; /* of every screen; ends with help == NULL */

/* "x", "Space", "^R", "F5", "PgDn". */
void key_text(int key, char *out, size_t size);
/* The reverse; KEY_NONE when there is no such key. */
int key_parse(const char *name);
/* The row of a screen behind `before` (NULL: the first), NULL behind the last. */
const KeyRow *key_next(const View *v, const KeyRow *before);
/* Row of a key on a screen; NULL when it has none there. */
const KeyRow *key_find(int key, const View *v);
/* The first row that some screen alone has for the key, and that screen; NULL when none has. */
const KeyRow *key_elsewhere(int key, const View **where);
/* The key that a row is told by: its first one that the user bound to nothing else; 0: there is none left. */
int key_shown(const Ui *ui, const KeyRow *row);
/* Why the row's key does nothing now: its own reason, or that a session opened with --read-only takes no edits. NULL: it
 * works. */
const char *key_refusal(Ui *ui, const KeyRow *row);
/* The F-bar of the present screen. */
void keys_draw_bar(Ui *ui);

#endif
