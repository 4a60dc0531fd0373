#ifndef SLIM_UI_DETAIL_H
#define SLIM_UI_DETAIL_H

#include "ui/workbench.h"

/* Where details taller than their place are looked at. */
typedef struct Scroll {
    int top;   /* first line shown; moved into range when drawn */
    int lines; /* of all, as drawn last */
    int page;  /* that fit */
} Scroll;

/* Everything known about one linear: shape, level, scores, histograms of its input and weight, what the metric means.
 * `keys`: what scrolls, for the last line where it does not all fit. */
void detail_draw(Ui *ui, Rect r, int64_t linear, Scroll *pos, const char *keys);
/* The same for a fold: its figures, its worst member, its members. */
void detail_draw_fold(Ui *ui, Rect r, int32_t fold, Scroll *pos, const char *keys);
/* What both are made of: draws from r.y on (r.h is no limit) with `spare` lines to grow by; gives the line behind. */
typedef int DetailContent(Ui *ui, Rect r, int64_t what, int spare);
void detail_scrolled(Ui *ui, Rect r, DetailContent *content, int64_t what, Scroll *pos, const char *keys);
/* Lines that the content takes in that width; draws nothing. */
int detail_lines(Ui *ui, Rect r, DetailContent *content, int64_t what);
/* Draws what is said of the layer's place in the table, from line *y on: interval and tie, worst text, second rank, advice. */
void detail_standing(Ui *ui, Rect r, int *y, int64_t linear);
/* Moves the place in it; false: it was at that end. */
bool detail_move(Scroll *pos, Motion m);
/* Appends what of a linear's name its fold's name does not say, without its first `skip` bytes. */
void fold_member_name(Ui *ui, int32_t fold, int64_t linear, size_t skip, Str *out);

#endif
