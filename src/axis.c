#include "src/axis.h"

#include <math.h>

Axis axis_of(double lo, double hi, double from, double to)
{
    Axis a = {lo, hi, from, to, lo > 0 && hi / lo > 20};
    if (!a.log && !(hi > lo)) {
        double pad = fabs(lo) > 0 ? 0.1 * fabs(lo) : 1;
        a.lo -= pad;
        a.hi += pad;
    } else if (a.log) {
        double pad = pow(hi / lo, 0.03);
        a.lo /= pad;
        a.hi *= pad;
    } else {
        a.lo -= 0.04 * (hi - lo);
        a.hi += 0.04 * (hi - lo);
    }
    return a;
}

double axis_place(const Axis *a, double v)
{
    double t = a->log ? log(v / a->lo) / log(a->hi / a->lo) : (v - a->lo) / (a->hi - a->lo);
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return a->from + t * (a->to - a->from);
}

int axis_ticks(const Axis *a, double out[AXIS_TICKS])
{
    int n = 0;
    if (a->log) {
        int first = (int)ceil(log10(a->lo) - 1e-9), last = (int)floor(log10(a->hi) + 1e-9);
        int step = (last - first) / 5 + 1;
        for (int e = first; e <= last && n < AXIS_TICKS; e += step)
            out[n++] = pow(10, e);
        if (n > 1)
            return n;
        n = 0;
    }
    double raw = (a->hi - a->lo) / 4, unit = pow(10, floor(log10(raw)));
    double step = raw / unit < 1.5 ? unit : raw / unit < 3.5 ? 2 * unit : raw / unit < 7.5 ? 5 * unit : 10 * unit;
    for (double v = ceil(a->lo / step) * step; v <= a->hi + 1e-9 * step && n < AXIS_TICKS; v += step)
        if (!a->log || v > 0)
            out[n++] = fabs(v) < 1e-9 * step ? 0 : v;
    return n;
}

void axis_extend(double v, double *lo, double *hi)
{
    *lo = v < *lo ? v : *lo;
    *hi = v > *hi ? v : *hi;
}
