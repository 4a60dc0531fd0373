#ifndef SLIM_SRC_CHART_H
#define SLIM_SRC_CHART_H

#include <stdbool.h>
#include <wchar.h>

/* Characters that charts are drawn with. */
typedef enum HistForm { HIST_ASCII, HIST_BLOCK, HIST_BRAILLE } HistForm;

/* One cell of a vertical bar chart: the two columns' heights (left, right; equal where a form has one column) in
 * `levels` steps above this cell's floor. */
int hist_columns(HistForm f); /* bins per cell: 2 for braille */
int hist_levels(HistForm f);  /* steps per cell height */
wchar_t hist_cell(HistForm f, int left, int right);
/* The same of two charts over each other: solid up to `full`, and as a lighter pattern from there up to `light`. */
wchar_t hist_over_cell(HistForm f, const int full[2], const int light[2]);
/* A shade for a share in [0, 1] of a map; what is above 0 is never blank. */
wchar_t chart_shade(HistForm f, double share);

#endif
