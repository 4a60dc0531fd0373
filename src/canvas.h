#ifndef SLIM_SRC_CANVAS_H
#define SLIM_SRC_CANVAS_H

#include "base/error.h"
#include "base/str.h"
#include "src/chart.h"

/* Cells that plots are drawn on, for the screen and for text alike. */

/* What a cell means; the screen has a colour for each. */
typedef enum Ink {
    INK_TEXT, INK_DIM, INK_STRONG, INK_HEADER, INK_BAR, INK_CLIP, INK_OUTLIER, INK_AXIS, INK_CURSOR, INK_BAD, INK_LOW, INK_MID,
    INK_HIGH
} Ink;
typedef struct CanvasCell {
    wchar_t c;         /* 0: the second half of a wide character */
    unsigned char ink;
} CanvasCell;
typedef struct Sheet {
    int w, h;
    HistForm form;
    wchar_t vline;     /* of axes */
    CanvasCell *cell;  /* [h][w], blank at first */
} Sheet;

Status canvas_init(Sheet *c, int w, int h, HistForm form, Error *err);
void canvas_fini(Sheet *c);
/* Cells outside are not drawn. */
void canvas_put(Sheet *c, int y, int x, Ink ink, wchar_t ch);
/* Text from x on, cut at the right edge, never within a number; gives the x behind it. What a terminal would obey becomes '?'. */
int canvas_text(Sheet *c, int y, int x, Ink ink, const char *text);
/* The same of a format that is translated. */
int canvas_say(Sheet *c, int y, int x, Ink ink, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Lines that a text takes in w cells, broken at blanks. */
int canvas_lines(int w, const char *text);
/* Draws it so from line y on. */
void canvas_wrap(Sheet *c, int y, Ink ink, const char *text);
/* Text that ends at x (not included). */
void canvas_right(Sheet *c, int y, int x, Ink ink, const char *text);
/* Cells that a text takes. */
int canvas_width(const char *text);
/* Appends the lines, without blanks at their ends. */
void canvas_print(const Sheet *c, Str *out);

/* The form to draw text with: by its name ("block", "ascii", "braille"), NULL or "auto": blocks in a UTF-8 locale, else ASCII. */
HistForm canvas_form(const char *name);

#endif
