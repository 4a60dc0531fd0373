#ifndef SLIM_UI_VIEW_H
#define SLIM_UI_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "ui/lineparts.h"
#include "ui/layout.h"

typedef struct Ui Ui;

/* What a screen's cursor is on. */
typedef struct Here {
    int64_t linear; /* -1: none */
    int32_t fold;   /* (session/fold.h) whose head its row is, -1: of none; linear is then its first member */
} Here;

/* Where a search stands: the match of the cursor, from 1, and how many there are. of == 0: none. */
typedef struct Found {
    int64_t at, of;
} Found;

/* A screen: one file view_NAME.c, one word in VIEW_ROWS, one test. */
typedef struct View {
    char key;              /* the digit that opens it: '1' */
    const char *name;      /* "rank": for `screen rank`, scripts, the key table */
    const char *title;     /* on the tab line */
    const struct KeyRow *keys; /* rows of this screen alone, ends with help == NULL; may be NULL */
    size_t state_size;     /* zeroed memory of its own; state points to it */
    bool side;             /* has the detail pane */
    void (*draw)(Ui *ui, void *state);
    bool (*move)(Ui *ui, void *state, Motion m);       /* false: at that end */
    /* Right part of the tab line. */
    void (*context)(Ui *ui, void *state, LineParts *out);
    /* What y copies; `all`: everything instead of the row. */
    void (*copy)(Ui *ui, void *state, bool all, Str *out);
    /* May be NULL: */
    const char *(*note)(Ui *ui, void *state); /* what the message line tells while there is no message; NULL: nothing */
    void (*click)(Ui *ui, void *state, int y, int x);
    Here (*here)(Ui *ui, void *state);
    void (*hold)(Ui *ui, void *state); /* from now on the cursor stays on what it is on, wherever that goes */
    Found (*find)(Ui *ui, void *state, const char *text, int direction, bool from_here);
    bool (*cancel)(Ui *ui, void *state); /* Esc: gives up what was begun here; false: nothing was */
    void (*fini)(void *state);
} View;

/* The screens there are, view_NAME in ui/view_NAME.c, in the order of the tabs. */
#define VIEW_ROWS(ROW) ROW(rank) ROW(whatif) ROW(jobs) ROW(compare) ROW(export) ROW(calib) ROW(model) ROW(guide)
#define VIEW_DECLARE(name) extern const View view_##name;
VIEW_ROWS(VIEW_DECLARE)
extern const View *const view_table[]; /* of VIEW_ROWS; NULL-terminated */
/* By name or key digit, NULL when there is none. */
const View *view_find(const char *name);

/* ScreenFace.key_line. */
bool help_key_line(int i, int line, const char **title, char keys[64], const char **help, const char **command);

#endif
