#ifndef SLIM_UI_DETAIL_H
#define SLIM_UI_DETAIL_H

#include "ui/workbench.h"

/* Everything known about one linear: shape, level, scores, histograms of its input and weight. */
void detail_draw(Ui *ui, Rect r, int64_t linear);
/* Size change when the linear becomes float; when it is float already, what it costs now. 0 without a recipe. */
double linear_cost(Session *s, int64_t linear);

#endif
