#ifndef SLIM_SRC_AXIS_H
#define SLIM_SRC_AXIS_H

#include <stdbool.h>

/* Values lo..hi on places from..to (pixels, cells); logarithmic where all are above zero and they span more than a factor of 20. */
typedef struct Axis {
    double lo, hi, from, to;
    bool log;
} Axis;
/* With a little room at both ends. */
Axis axis_of(double lo, double hi, double from, double to);
/* Where a value lies; those outside at the ends. */
double axis_place(const Axis *a, double v);
enum { AXIS_TICKS = 8 };
/* Values worth a mark: powers of ten (every so many), or 1, 2, 5 times one. Gives how many. */
int axis_ticks(const Axis *a, double out[AXIS_TICKS]);
/* Widens [*lo, *hi] to hold v. */
void axis_extend(double v, double *lo, double *hi);

#endif
