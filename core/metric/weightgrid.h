#ifndef SLIM_METRIC_WEIGHTGRID_H
#define SLIM_METRIC_WEIGHTGRID_H

#include <stdint.h>

/* The asymmetric grids of specs/analysis.md 9.1 and 9.4, in float32. */

/* 9.1: each group of a row between its least and its largest value, widened to hold 0; the last group may be short. Gives
 * the sum of squared errors of w[rows][in]; y [rows][in] holds what became of it. */
double weightgrid_groups(const float *w, int64_t rows, int64_t in, int64_t group, int bits, float *y);
/* 9.4: one grid over [min, max], not widened, whose zero point may lie outside it. y[n] becomes what it makes of itself;
 * a grid over one value leaves it. */
void weightgrid_whole(float *y, int64_t n, double min, double max, int bits);
/* What it makes of one value, in float64: for values on the edge between two codes, as those at the ends are. */
double weightgrid_value(double v, double min, double max, int bits);

#endif
