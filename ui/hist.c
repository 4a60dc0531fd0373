#include "ui/hist.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "src/lang.h"

enum { MAX_BINS = 1024 };

/* The range shown: the body between the 0.05 % points, widened a little and ending at min and max, with zero in sight
 * when near. A single value gets a range around it. */
static void hist_range(const HistView *v, double *lo, double *hi)
{
    double a = keyhist_quantile(v->h, 0.0005), b = keyhist_quantile(v->h, 0.9995);
    if (!isfinite(a) || !isfinite(b)) {
        a = -1;
        b = 1;
    }
    double pad = 0.08 * (b - a);
    if (!(pad > 0))
        pad = fabs(a) > 0 ? 0.1 * fabs(a) : 1;
    a -= pad;
    b += pad;
    if (isfinite(v->min) && isfinite(v->max) && v->max > v->min) {
        a = a < v->min ? v->min : a;
        b = b > v->max ? v->max : b;
        if (!(b > a)) {
            a = v->min;
            b = v->max;
        }
    }
    *lo = a;
    *hi = b;
}

/* Height of a bin as a share of the chart. */
static double height(double count, double top, bool linear)
{
    if (!(count > 0) || !(top > 0))
        return 0;
    return linear ? count / top : log1p(count) / log1p(top);
}

static void bars(Ui *ui, Rect r, const double *bin, int n, const double *clip, double top, bool linear)
{
    HistForm f = ui->term.glyphs.hist;
    int per = hist_columns(f), levels = hist_levels(f);
    for (int y = 0; y < r.h; y++) {
        Pen p = pen_at(ui, r.y + y, r.x, r.w);
        int floor_step = (r.h - 1 - y) * levels;
        for (int c = 0; c < n / per; c++) {
            int step[2];
            for (int k = 0; k < 2; k++) {
                double count = bin[c * per + (per == 2 ? k : 0)];
                int full = (int)lround(height(count, top, linear) * r.h * levels);
                if (full == 0 && count > 0)
                    full = 1; /* what is there is seen */
                step[k] = full - floor_step;
            }
            bool end = (c == 0 && clip[0] > 0) || (c == n / per - 1 && clip[1] > 0);
            pen_char(&p, end ? SL_CLIP : SL_BAR, hist_cell(f, step[0], step[1]));
        }
    }
}

/* Four cells at most: 1023, 8.2k, 12k, 1.0M. */
static void short_count(char *out, size_t size, double n)
{
    static const char *const units[] = {"", "k", "M", "G", "T"};
    int u = 0;
    while (n >= (u ? 999.5 : 9999.5) && u < 4) {
        n /= 1000;
        u++;
    }
    snprintf(out, size, "%.*f%s", u > 0 && n < 9.95 ? 1 : 0, n, units[u]);
}

enum { AXIS = 5, AXIS_LEAST = 24 }; /* cells of the axis at the left; the width below which there is none */

/* Counts at the top and in the middle of the bars, zero at their foot. */
static void y_axis(Ui *ui, Rect r, double top, bool linear)
{
    for (int y = 0; y < r.h; y++) {
        char text[16] = "";
        if (y == 0)
            short_count(text, sizeof text, top);
        else if (y == r.h - 1)
            snprintf(text, sizeof text, "0");
        else if (y == r.h / 2 && r.h >= 5)
            short_count(text, sizeof text, linear ? top * (r.h - y) / r.h : expm1(log1p(top) * (r.h - y) / r.h));
        Pen p = pen_at(ui, r.y + y, r.x, r.w);
        pen_cell(&p, SL_AXIS, AXIS - 1, true, text);
        pen_char(&p, SL_AXIS, ui->term.glyphs.vline);
    }
}

/* How many of the two limits of three deviations lie in [a, b). */
static int limits_within(const HistView *v, double a, double b)
{
    double low = v->mean - 3 * v->std, high = v->mean + 3 * v->std;
    return v->std > 0 ? (low >= a && low < b) + (high >= a && high < b) : 0;
}

/* The int8 grid under the bars: a mark for every code, or every 2^k-th where they come too close. Gives that k's 2^k,
 * 0: no grid. */
static int grid(Ui *ui, Rect r, const HistView *v, double lo, double hi)
{
    double cell = (hi - lo) / r.w;
    int every = v->step > 0 && isfinite(v->step) ? 1 : 0;
    while (every && every < 256 && v->step * every < 3 * cell)
        every *= 2;
    Pen p = pen_at(ui, r.y, r.x, r.w);
    for (int c = 0; c < r.w; c++) {
        double a = lo + cell * c, b = a + cell;
        bool zero = a <= 0 && b > 0, tick = false;
        if (every) {
            double unit = v->step * every;
            tick = floor(b / unit) > floor(a / unit) || fmod(a, unit) == 0;
        }
        if (zero)
            pen_char(&p, SL_STRONG, L'0');
        else if (limits_within(v, a, b))
            pen_char(&p, SL_OUTLIER, L'^');
        else if (tick)
            pen_char(&p, SL_AXIS, L'\'');
        else
            pen_char(&p, SL_AXIS, ui->term.glyphs.hist == HIST_ASCII ? L'_' : L' ');
    }
    return every;
}

static void limits(Ui *ui, Rect r, const HistView *v, double lo, double hi, int every)
{
    char a[24], b[24], mid[120] = "";
    fmt_value(a, sizeof a, lo);
    fmt_value(b, sizeof b, hi);
    if (every == 1)
        text_format(mid, sizeof mid, "' int8 steps");
    else if (every)
        text_format(mid, sizeof mid, "' every %d int8 steps", every);
    size_t n = strlen(mid);
    if (limits_within(v, lo, hi))
        snprintf(mid + n, sizeof mid - n, "%s%s", n ? "  " : "", tr("^ 3 std"));
    int room = r.w - text_width(a) - text_width(b), mw = text_width(mid);
    if (n && mw + 2 >= room) { /* room for the first of the two */
        mid[n] = 0;
        mw = text_width(mid);
    }
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_AXIS, a);
    if (mw > 0 && room > mw + 2) {
        pen_to(&p, SL_AXIS, p.x + (room - mw) / 2);
        pen_puts(&p, SL_AXIS, mid);
    }
    pen_to(&p, SL_AXIS, r.x + r.w - text_width(b));
    pen_puts(&p, SL_AXIS, b);
}

static void outside(Ui *ui, Rect r, const HistView *v, const double *clip)
{
    char below[24], above[24], buf[120];
    double total = v->h->total > 0 ? (double)v->h->total : 1;
    fmt_percent(below, sizeof below, clip[0] / total);
    fmt_percent(above, sizeof above, clip[1] / total);
    if (clip[0] > 0 && clip[1] > 0)
        text_format(buf, sizeof buf, "%s below, %s above", below, above);
    else if (clip[0] > 0 || clip[1] > 0)
        text_format(buf, sizeof buf, clip[0] > 0 ? "%s below" : "%s above", clip[0] > 0 ? below : above);
    else
        return;
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_CLIP, buf);
}

void hist_draw(Ui *ui, Rect r, const HistView *v)
{
    if (r.h < 4 || r.w < 4 || v->h->n == 0)
        return;
    Rect axis = r;
    if (r.w >= AXIS_LEAST) {
        r.x += AXIS;
        r.w -= AXIS;
    }
    int per = hist_columns(ui->term.glyphs.hist), n = r.w * per;
    if (n > MAX_BINS)
        n = MAX_BINS / per * per;
    r.w = n / per;
    double *bin = mem_zarray((size_t)n, sizeof *bin), clip[2] = {0, 0}, lo, hi;
    if (!bin)
        return;
    hist_range(v, &lo, &hi);
    keyhist_bins(v->h, lo, hi, n, bin, &clip[0], &clip[1]);
    for (int i = 0; i < 2; i++) { /* below half a value: the end of a key's range, no value beyond */
        if (clip[i] < 0.5)
            clip[i] = 0;
    }
    bin[0] += clip[0];
    bin[n - 1] += clip[1];
    bool cut = clip[0] > 0 || clip[1] > 0;
    int text = cut ? 3 : 2;
    double top = 0;
    for (int i = 0; i < n; i++)
        top = bin[i] > top ? bin[i] : top;
    if (axis.x < r.x)
        y_axis(ui, (Rect){r.y, axis.x, r.h - text, AXIS}, top, v->linear);
    bars(ui, (Rect){r.y, r.x, r.h - text, r.w}, bin, n, clip, top, v->linear);
    int every = grid(ui, (Rect){r.y + r.h - text, r.x, 1, r.w}, v, lo, hi);
    limits(ui, (Rect){r.y + r.h - text + 1, r.x, 1, r.w}, v, lo, hi, every);
    if (cut)
        outside(ui, (Rect){r.y + r.h - 1, axis.x, 1, axis.w}, v, clip);
    free(bin);
}

/* Values below which shares of all lie. */
static void percentiles(Ui *ui, Rect r, const HistView *v)
{
    static const struct {
        double at;
        const char *name;
    } shown[] = {{0.001, "0.1 %"}, {0.01, "1 %"}, {0.25, "25 %"}, {0.5, "50 %"}, {0.75, "75 %"}, {0.99, "99 %"}, {0.999, "99.9 %"}};
    Pen p = pen_at(ui, r.y, r.x, r.w);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        char value[24], text[48];
        fmt_value(value, sizeof value, keyhist_quantile(v->h, shown[i].at));
        snprintf(text, sizeof text, "%s%s %s", i ? "  " : "", shown[i].name, value);
        if (p.x + text_width(text) > r.x + r.w)
            return;
        pen_puts(&p, SL_DIM, text);
    }
}

void hist_table(Ui *ui, Rect r, const HistView *v)
{
    int n = r.h - 4;
    if (n < 1 || v->h->n == 0)
        return;
    if (n > 32)
        n = 32;
    double bin[32] = {0}, clip[2] = {0, 0}, lo, hi, total = (double)v->h->total;
    hist_range(v, &lo, &hi);
    keyhist_bins(v->h, lo, hi, n, bin, &clip[0], &clip[1]);
    enum { LIMIT = 10, COUNT = 12, SHARE = 8 };
    static const Column columns[] = {
        {"from", LIMIT, LIMIT, 0, true}, {"to", LIMIT, LIMIT, 0, true}, {"count", COUNT, COUNT, 1, true},
        {"share", SHARE, SHARE, 0, true}};
    int w[4];
    columns_fit(columns, 4, r.w, w);
    Pen head = pen_at(ui, r.y, r.x, r.w);
    for (int c = 0; c < 4; c++) {
        if (w[c])
            pen_cell(&head, SL_HEADER, w[c] + (c > 0), true, tr(columns[c].title));
    }
    for (int i = -1; i <= n; i++) {
        double count = i < 0 ? clip[0] : i == n ? clip[1] : bin[i];
        char a[24], b[24], c[24], s[24];
        fmt_value(a, sizeof a, i < 0 ? v->min : lo + (hi - lo) * i / n);
        fmt_value(b, sizeof b, i == n ? v->max : lo + (hi - lo) * (i + 1) / n);
        fmt_count(c, sizeof c, (int64_t)llround(count));
        fmt_percent(s, sizeof s, count / total);
        const char *const cell[] = {a, b, c, s};
        Pen p = pen_at(ui, r.y + 2 + i, r.x, r.w);
        for (int k = 0; k < 4; k++) {
            if (w[k])
                pen_cell(&p, i < 0 || i == n ? SL_CLIP : SL_TEXT, w[k] + (k > 0), true, cell[k]);
        }
    }
    percentiles(ui, (Rect){r.y + 3 + n, r.x, 1, r.w}, v);
}
