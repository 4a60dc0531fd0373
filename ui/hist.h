#ifndef SLIM_UI_HIST_H
#define SLIM_UI_HIST_H

#include "stat/keyhist.h"
#include "ui/workbench.h"

/* What a histogram view needs beside the counts. */
typedef struct HistView {
    const KeyHist *h;
    double min, max;      /* of all values */
    double step;          /* int8 step of this tensor, 0: no grid */
    bool linear;          /* counts linear instead of log */
    double mean, std;     /* of all values: three deviations are marked; std 0: no marks */
} HistView;

/* Bars, ticks of the int8 grid and of three deviations, the line of limits and one about what lies outside: fills `r` (at least 4 lines). */
void hist_draw(Ui *ui, Rect r, const HistView *v);
/* The same as numbers: limits, count and share of each of r.h-4 bins, and percentiles below. */
void hist_table(Ui *ui, Rect r, const HistView *v);

#endif
