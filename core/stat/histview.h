#ifndef SLIM_STAT_HISTVIEW_H
#define SLIM_STAT_HISTVIEW_H

#include <stdbool.h>

#include "stat/keyhist.h"

/* What a drawing of a histogram shows, derived from the stored key histogram: window, bins, the integer grid, marks, shares. */

/* The values of an integer grid: k * step for k in [lo, hi]; step 0: there is none. */
typedef struct HistGrid {
    double step;
    int lo, hi;
} HistGrid;

/* A window [lo, hi] of the x axis, lo < hi. */
typedef struct HistWindow {
    double lo, hi;
} HistWindow;
/* The window of the whole: the body between the 0.05 % points, widened a little, ending at the least and the largest value:
 * one far value does not squeeze all others into one bin. A single value gets room around it; no finite value: [-1, 1]. */
HistWindow histview_whole(const KeyHist *h, double min, double max);
/* `w` narrowed (factor < 1) or widened around `at`, which keeps its place, not beyond `limit`; as it was where the doubles end. */
HistWindow histview_zoom(HistWindow w, double at, double factor, HistWindow limit);
/* `w` moved by a share of its width, within `limit`. */
HistWindow histview_pan(HistWindow w, double share, HistWindow limit);

/* Equal bins over a window. */
typedef struct HistBins {
    HistWindow w;
    int n;
    double *count;       /* [n] */
    double below, above; /* values outside; less than half of one counts as none */
    double top;          /* the highest bin */
} HistBins;
/* clip: what lies outside is added to the end bins, too. Caller frees count. */
Status histview_bins(const KeyHist *h, HistWindow w, int n, bool clip, HistBins *out, Error *err);
/* The same of the values as the grid has them: each in the bin of the nearest k * step, those beyond its ends at its ends. */
Status histview_grid_bins(const KeyHist *h, const HistGrid *g, HistWindow w, int n, HistBins *out, Error *err);
/* Index of the bin that holds v, clamped to the ends. */
int histview_bin_of(HistWindow w, int n, double v);
/* Height of a bin as a share of the highest. */
double histview_height(double count, double top, bool linear);

/* Every how many steps a tick can stand in `cells` cells with at least `gap` of them each: a power of two; 0: none fits within
 * the grid. */
int histview_tick_every(const HistGrid *g, HistWindow w, int cells, int gap);
/* Whether a k * step * every of the grid lies in [a, b). */
bool histview_tick_in(const HistGrid *g, int every, double a, double b);

/* Share of the values below v, spread evenly within a key. NaN when empty. */
double histview_share_below(const KeyHist *h, double v);
/* How many codes of the grid hold `share` of the values, the fullest first; 0: no grid or no values. */
int histview_codes_holding(const KeyHist *h, const HistGrid *g, double share, Error *err);

#endif
