#ifndef SLIM_UI_DETAIL_H
#define SLIM_UI_DETAIL_H

#include "ui/workbench.h"

/* Everything known about one linear: shape, level, scores, histograms of its input and weight. */
void detail_draw(Ui *ui, Rect r, int64_t linear);
/* The same for a fold: its figures, its worst member, its members as far as they fit. */
void detail_draw_fold(Ui *ui, Rect r, int32_t fold);
/* Appends what of a linear's name its fold's name does not say, without its first `skip` bytes. */
void fold_member_name(Ui *ui, int32_t fold, int64_t linear, size_t skip, Str *out);

#endif
