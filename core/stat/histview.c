#include "stat/histview.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

HistWindow histview_whole(const KeyHist *h, double min, double max)
{
    double a = keyhist_quantile(h, 0.0005), b = keyhist_quantile(h, 0.9995);
    if (!isfinite(a) || !isfinite(b)) {
        a = isfinite(min) ? min : -1;
        b = isfinite(max) ? max : 1;
    }
    double pad = 0.08 * (b - a);
    if (!(pad > 0))
        pad = fabs(a) > 0 ? 0.1 * fabs(a) : 1;
    a -= pad;
    b += pad;
    if (isfinite(min) && isfinite(max) && max > min) {
        a = a < min ? min : a;
        b = b > max ? max : b;
        if (!(b > a)) {
            a = min;
            b = max;
        }
    }
    return (HistWindow){a, b};
}

/* Moved so that it lies within the limit, cut where it is wider. */
static HistWindow within(HistWindow w, HistWindow limit)
{
    double width = fmin(w.hi - w.lo, limit.hi - limit.lo);
    if (w.lo < limit.lo)
        w = (HistWindow){limit.lo, limit.lo + width};
    if (w.hi > limit.hi)
        w = (HistWindow){limit.hi - width, limit.hi};
    return w;
}

HistWindow histview_zoom(HistWindow w, double at, double factor, HistWindow limit)
{
    at = fmin(fmax(at, w.lo), w.hi);
    HistWindow z = within((HistWindow){at - (at - w.lo) * factor, at + (w.hi - at) * factor}, limit);
    double least = 1e-9 * fmax(fabs(limit.lo), fabs(limit.hi));
    return z.hi - z.lo > least ? z : w;
}

HistWindow histview_pan(HistWindow w, double share, HistWindow limit)
{
    double by = share * (w.hi - w.lo);
    return within((HistWindow){w.lo + by, w.hi + by}, limit);
}

static Status take_bins(HistWindow w, int n, HistBins *out, Error *err)
{
    *out = (HistBins){.w = w, .n = n};
    out->count = mem_zarray((size_t)n, sizeof *out->count);
    return out->count ? ST_OK : error_nomem(err, "a histogram");
}

static void find_top(HistBins *b)
{
    for (int i = 0; i < b->n; i++)
        b->top = b->count[i] > b->top ? b->count[i] : b->top;
}

Status histview_bins(const KeyHist *h, HistWindow w, int n, bool clip, HistBins *out, Error *err)
{
    RETURN_IF_ERROR(take_bins(w, n, out, err));
    keyhist_bins(h, w.lo, w.hi, n, out->count, &out->below, &out->above);
    out->below = out->below < 0.5 ? 0 : out->below; /* the end of a key's range, no value beyond */
    out->above = out->above < 0.5 ? 0 : out->above;
    if (clip) {
        out->count[0] += out->below;
        out->count[n - 1] += out->above;
    }
    find_top(out);
    return ST_OK;
}

int histview_bin_of(HistWindow w, int n, double v)
{
    double i = floor((v - w.lo) / (w.hi - w.lo) * n);
    return i < 0 ? 0 : i > n - 1 ? n - 1 : (int)i;
}

/* Values by code: count[hi - lo + 1]; those beyond the ends count there. NULL without memory. */
static double *code_counts(const KeyHist *h, const HistGrid *g)
{
    int n = g->hi - g->lo + 1;
    double *count = mem_zarray((size_t)n, sizeof *count), below, above;
    if (!count)
        return NULL;
    keyhist_bins(h, (g->lo - 0.5) * g->step, (g->hi + 0.5) * g->step, n, count, &below, &above);
    count[0] += below;
    count[n - 1] += above;
    return count;
}

Status histview_grid_bins(const KeyHist *h, const HistGrid *g, HistWindow w, int n, HistBins *out, Error *err)
{
    RETURN_IF_ERROR(take_bins(w, n, out, err));
    double *code = code_counts(h, g);
    if (!code) {
        free(out->count);
        return error_nomem(err, "a histogram");
    }
    for (int k = g->lo; k <= g->hi; k++) {
        double v = k * g->step, c = code[k - g->lo];
        if (v < w.lo)
            out->below += c;
        else if (v > w.hi)
            out->above += c;
        else
            out->count[histview_bin_of(w, n, v)] += c;
    }
    free(code);
    find_top(out);
    return ST_OK;
}

double histview_height(double count, double top, bool linear)
{
    if (!(count > 0) || !(top > 0))
        return 0;
    return linear ? count / top : log1p(count) / log1p(top);
}

int histview_tick_every(const HistGrid *g, HistWindow w, int cells, int gap)
{
    double cell = (w.hi - w.lo) / cells;
    if (!(g->step > 0) || !isfinite(g->step) || !(cell > 0))
        return 0;
    int most = g->hi > -g->lo ? g->hi : -g->lo, every = 1;
    while (every <= most && g->step * every < gap * cell)
        every *= 2;
    return every <= most ? every : 0;
}

bool histview_tick_in(const HistGrid *g, int every, double a, double b)
{
    if (every <= 0)
        return false;
    double unit = g->step * every, k = ceil(a / unit);
    return k * unit < b && k * every >= g->lo && k * every <= g->hi;
}

double histview_share_below(const KeyHist *h, double v)
{
    double below = 0;
    if (!h->total)
        return NAN;
    for (int i = 0; i < h->n; i++) {
        float lo, hi;
        keyhist_range(h->key[i], &lo, &hi);
        double a = (double)lo, b = (double)hi, c = (double)h->count[i];
        if (a >= v)
            break;
        below += b > v && b > a && isfinite(b) ? c * (v - a) / (b - a) : c;
    }
    return below / (double)h->total;
}

static int falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

int histview_codes_holding(const KeyHist *h, const HistGrid *g, double share, Error *err)
{
    if (!(g->step > 0) || !h->total)
        return 0;
    int n = g->hi - g->lo + 1, used = 0;
    double *code = code_counts(h, g), sum = 0;
    if (!code) {
        error_nomem(err, "a histogram");
        return 0;
    }
    qsort(code, (size_t)n, sizeof *code, falling);
    while (used < n && sum < share * (double)h->total)
        sum += code[used++];
    free(code);
    return used;
}
