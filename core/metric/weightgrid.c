#include "metric/weightgrid.h"

#include <math.h>

#include "qir/loops.h"
#include "stat/weightsums.h"

/* Codes run from -2^(bits - 1) in the loops, from 0 in the specification. */
static QParam param_of(double step, double zero, int bits)
{
    return (QParam){.scale = (float)step, .offset = (float)(zero - (double)(1 << (bits - 1)))};
}

double weightgrid_groups(const float *w, int64_t rows, int64_t in, int64_t group, int bits, float *y)
{
    const QuantLoops *k = quant_loops();
    const double top = (double)((1 << bits) - 1);
    double sq = 0;
    for (int64_t r = 0; r < rows; r++, w += in, y += in) {
        for (int64_t a = 0; a < in; a += group) {
            int64_t n = in - a < group ? in - a : group;
            float mn, mx;
            k->range(w + a, n, &mn, &mx);
            double lo = fmin((double)mn, 0), step = (fmax((double)mx, 0) - lo) / top;
            step = step > 0 ? step : 1;
            k->fake(w + a, n, param_of(step, fmin(rint(-lo / step), top), bits), bits, DT_F32, y + a);
        }
        weightsums_sq(w, y, in, &sq);
    }
    return sq;
}

void weightgrid_whole(float *y, int64_t n, double min, double max, int bits)
{
    const double top = (double)((1 << bits) - 1), step = (max - min) / top, zero = rint(-min / step);
    if (!(step > 0))
        return;
    if (fabs(zero) < 4096) {
        quant_loops()->fake(y, n, param_of(step, zero, bits), bits, DT_F32, y);
        return;
    }
    for (int64_t i = 0; i < n; i++) /* far from 0, where float32 would lose the codes */
        y[i] = (float)weightgrid_value((double)y[i], min, max, bits);
}

double weightgrid_value(double v, double min, double max, int bits)
{
    const double top = (double)((1 << bits) - 1), step = (max - min) / top, zero = rint(-min / step);
    return step > 0 ? (fmin(fmax(rint(v / step + zero), 0), top) - zero) * step : v;
}
