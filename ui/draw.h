#ifndef SLIM_UI_DRAW_H
#define SLIM_UI_DRAW_H

#include <stdbool.h>

#include "ui/lineparts.h"
#include "ui/layout.h"
#include "ui/term.h"

typedef struct Ui Ui;

/* Cells onto the screen in memory (curses sends what changed). All coordinates are absolute; nothing is drawn outside
 * the screen. */

/* Writes along one line up to `end`. Everything a row shows goes through here, so control bytes cannot reach the
 * terminal. */
typedef struct Pen {
    Ui *ui;
    int y, x, end;
    bool reverse;  /* the row of the cursor: every slot reversed */
} Pen;
Pen pen_at(Ui *ui, int y, int x, int w);
void pen_puts(Pen *p, Slot slot, const char *s);
void pen_printf(Pen *p, Slot slot, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Exactly w cells: padded left or right, cut at the end. */
void pen_cell(Pen *p, Slot slot, int w, bool right, const char *s);
/* A name in exactly w cells, elided in the middle. */
void pen_name(Pen *p, Slot slot, int w, const char *s);
void pen_char(Pen *p, Slot slot, wchar_t c);
/* A horizontal bar of w cells filled to share (0..1), coloured along the score gradient. */
void pen_bar(Pen *p, int w, double share, bool plain);
/* Fits the parts into what is left of the pen's line, less `margin` cells at its end, and draws them. */
void pen_parts(Pen *p, Slot slot, LineParts *l, int margin);
/* Spaces up to x (absolute) or the end. */
void pen_to(Pen *p, Slot slot, int x);
void pen_fill(Pen *p, Slot slot);

/* From now on only these lines are drawn to; each painting starts with all of them. */
void draw_clip(Ui *ui, int top, int bottom);
void draw_clear(Ui *ui, Rect r);
void draw_vline(Ui *ui, int y, int x, int h);
void draw_hline(Ui *ui, int y, int x, int w);
/* Text, in the language chosen, wrapped into the area from its line `*y` on; moves *y behind it. */
void draw_wrapped(Ui *ui, Rect r, int *y, Slot slot, const char *text);

#endif
