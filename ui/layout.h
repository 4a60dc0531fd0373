#ifndef SLIM_UI_LAYOUT_H
#define SLIM_UI_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

/* Where everything goes: pure functions of the screen's size (specs/workbench.md 5). No curses here. */

typedef struct Rect {
    int y, x, h, w;
} Rect;

enum { LAYOUT_MIN_ROWS = 15, LAYOUT_MIN_COLS = 60 };

typedef enum Split { SPLIT_NONE, SPLIT_RIGHT, SPLIT_BELOW, SPLIT_FULL } Split;

typedef struct Layout {
    int rows, cols;
    bool too_small;
    Split split;
    Rect head, tabs;    /* one line each */
    Rect main;          /* the table */
    Rect side;          /* the detail pane; h == 0: not shown */
    int rule;           /* SPLIT_RIGHT: column of the line between; SPLIT_BELOW: its row; else -1 */
    Rect figures;       /* size, share, effect */
    Rect message;       /* messages and prompts */
    Rect keys;          /* F-bar */
} Layout;

typedef struct LayoutPrefs {
    bool side;          /* this screen has a detail pane and it is switched on */
    bool full;          /* the detail pane takes the table's place */
} LayoutPrefs;

/* Any size, also 0x0. The pane goes right of the table from 100 columns, else below it from 36 rows, else only full. */
void layout_compute(int rows, int cols, LayoutPrefs prefs, Layout *out);

typedef struct Column {
    const char *title;
    int min, max;       /* cells; max > min: it grows */
    int priority;       /* 0 stays always; the highest goes first */
    bool right;         /* numbers: right-aligned */
} Column;

/* Widths of n columns with one cell between them; 0 = dropped. What is left over goes to the growing columns in their
 * order. Gives the cells used. */
int columns_fit(const Column *c, int n, int width, int *w);

/* ---- a scrolled list ---- */
typedef enum Motion {
    MOVE_DOWN,
    MOVE_UP,
    MOVE_HALF_DOWN,
    MOVE_HALF_UP,
    MOVE_PAGE_DOWN,
    MOVE_PAGE_UP,
    MOVE_TOP,
    MOVE_BOTTOM,
    MOVE_LEFT,
    MOVE_RIGHT
} Motion;
typedef struct ListPos {
    int64_t cur, top;
} ListPos;
/* Moves within n rows of which `page` are seen. false: it was at that end already. */
bool list_move(ListPos *p, Motion m, int64_t n, int page);
/* Keeps cur within n and top so that cur is seen. */
void list_clamp(ListPos *p, int64_t n, int page);

#endif
