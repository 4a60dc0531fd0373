/* Largest values of channels side by side, on a canvas. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "src/format.h"
#include "src/lang.h"
#include "src/plot.h"

enum { NAMED = 8, OUTLIER = 6 }; /* channels that are named; times the mean from which one is an outlier (specs/analysis.md 9.6) */

typedef struct Profile {
    double top, least, mean, middle; /* least: above 0 */
    int64_t beyond;                  /* channels above OUTLIER times the mean */
    int64_t *order;                  /* [n] by falling value */
} Profile;

int64_t *plot_order(const float *v, int64_t n)
{
    enum { DIGITS = 1 << 16 };
    int64_t *order = mem_array((size_t)n, sizeof *order), *from = mem_array((size_t)n, sizeof *from), *count = mem_array(DIGITS, sizeof *count);
    for (int64_t i = 0; order && from && count && i < n; i++)
        order[i] = i;
    for (int pass = 0; order && from && count && pass < 2; pass++) { /* values >= 0 lie as their bits do */
        int64_t at = 0;
        memset(count, 0, DIGITS * sizeof *count);
        memcpy(from, order, (size_t)n * sizeof *from);
        for (int half = 0; half < 2; half++) {
            for (int64_t i = 0; i < n; i++) {
                uint32_t bits;
                memcpy(&bits, &v[from[i]], sizeof bits);
                uint32_t digit = ~bits >> 16 * pass & 0xffff;
                if (half)
                    order[count[digit]++] = from[i];
                else
                    count[digit]++;
            }
            for (int64_t d = 0; half == 0 && d < DIGITS; d++) {
                int64_t here = count[d];
                count[d] = at;
                at += here;
            }
        }
    }
    bool fine = order && from && count;
    free(from);
    free(count);
    if (fine)
        return order;
    free(order);
    return NULL;
}

static bool profile_of(const float *v, int64_t n, Profile *p)
{
    *p = (Profile){.order = plot_order(v, n)};
    if (!p->order)
        return false;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)v[i];
        p->mean += x / (double)n;
        p->top = fmax(p->top, x);
        p->least = x > 0 && (!(p->least > 0) || x < p->least) ? x : p->least;
    }
    p->middle = n ? (double)v[p->order[n / 2]] : 0;
    while (p->beyond < n && (double)v[p->order[p->beyond]] > OUTLIER * p->mean)
        p->beyond++;
    return true;
}

/* Share of the height; logarithmic over at most four decades. */
static double height_of(const Profile *p, double v, bool linear)
{
    double low = fmax(p->least, p->top * 1e-4);
    if (!(v > 0) || !(p->top > 0))
        return 0;
    if (linear || !(p->top > low))
        return v / p->top;
    return v <= low ? 0.02 : 0.02 + 0.98 * log(v / low) / log(p->top / low);
}

/* In four cells: 3.3k, 39, 0.46, 2e-5. */
static void axis_value(char *out, size_t size, double v)
{
    if (v >= 999.5)
        plot_short(out, size, v);
    else if (v >= 0.0095 || !(v > 0))
        snprintf(out, size, v >= 99.5 ? "%.0f" : "%.2g", v);
    else
        snprintf(out, size, "%.0fe%d", v / pow(10, floor(log10(v))), (int)floor(log10(v)));
}

static void value_axis(const Profile *p, Sheet *c, int y, int h, bool linear)
{
    char top[24], middle[24], foot[24];
    double low = linear ? 0 : fmax(p->least, p->top * 1e-4), share = (double)(h - h / 2) / h;
    axis_value(top, sizeof top, p->top);
    axis_value(middle, sizeof middle, linear || !(low > 0) ? p->top * share : low * pow(p->top / low, share));
    axis_value(foot, sizeof foot, low);
    plot_axis(c, y, h, top, middle, foot);
}

/* Channels of a window: [from, to). */
static void window_of(const PlotData *d, const PlotLook *look, int64_t *from, int64_t *to)
{
    HistWindow w = look->zoomed ? look->w : plot_whole(d);
    *from = (int64_t)floor(w.lo);
    *to = (int64_t)ceil(w.hi);
    *from = *from < 0 ? 0 : *from < d->n ? *from : d->n - 1;
    *to = *to > d->n ? d->n : *to > *from ? *to : *from + 1;
}

/* The largest of the channels that column i of `cols` stands for. */
static double column_value(const PlotData *d, int64_t from, int64_t to, int cols, int i)
{
    int64_t n = to - from, a = from + i * n / cols, b = from + (i + 1) * n / cols;
    double v = 0;
    for (int64_t k = a; k < (b > a ? b : a + 1); k++)
        v = fmax(v, (double)d->value[k]);
    return v;
}

static void draw_columns(const PlotData *d, const PlotLook *look, const Profile *p, Sheet *c, int y, int h)
{
    int axis = c->w >= PLOT_AXIS_LEAST ? PLOT_AXIS : 0, per = hist_columns(c->form), w = c->w - axis, levels = hist_levels(c->form);
    int64_t from, to;
    window_of(d, look, &from, &to);
    int bars = h - 2;
    if (axis)
        value_axis(p, c, y, bars, look->linear);
    for (int x = 0; x < w; x++) {
        double v[2];
        for (int k = 0; k < 2; k++)
            v[k] = column_value(d, from, to, w * per, x * per + (per == 2 ? k : 0));
        bool beyond = fmax(v[0], v[1]) > OUTLIER * p->mean;
        for (int r = 0; r < bars; r++) {
            int step[2];
            for (int k = 0; k < 2; k++) {
                int full = (int)lround(height_of(p, v[k], look->linear) * bars * levels);
                step[k] = (v[k] > 0 && full < 1 ? 1 : full) - (bars - 1 - r) * levels;
            }
            canvas_put(c, y + r, axis + x, beyond ? INK_OUTLIER : INK_BAR, hist_cell(c->form, step[0], step[1]));
        }
        int64_t a = from + (int64_t)x * (to - from) / w, b = from + (int64_t)(x + 1) * (to - from) / w;
        bool here = look->marked && (int64_t)look->at >= a && (int64_t)look->at < (b > a ? b : a + 1);
        canvas_put(c, y + bars, axis + x, here ? INK_CURSOR : beyond ? INK_OUTLIER : INK_AXIS,
                   here ? L'^' : beyond ? L'*' : c->form == HIST_ASCII ? L'_' : L' ');
    }
    char text[40];
    fmt_count(text, sizeof text, from);
    canvas_text(c, y + bars + 1, axis, INK_AXIS, text);
    int used = axis + canvas_width(text) + 2;
    fmt_count(text, sizeof text, to - 1);
    canvas_right(c, y + bars + 1, c->w, INK_AXIS, text);
    char star[80];
    text_format(star, sizeof star, "* > %d times the mean", OUTLIER);
    if (p->beyond && used + canvas_width(star) + 2 <= c->w - canvas_width(text))
        canvas_text(c, y + bars + 1, used, INK_OUTLIER, star);
}

static void say_named(const PlotData *d, const Profile *p, PlotTexts *t)
{
    char names[160] = "", v[24];
    size_t len = 0;
    for (int64_t k = 0; k < NAMED && k < d->n && len + 40 < sizeof names; k++) {
        fmt_value(v, sizeof v, (double)d->value[p->order[k]]);
        len += (size_t)snprintf(names + len, sizeof names - len, " %lld:%s", (long long)p->order[k], v);
    }
    plot_say(t, p->beyond ? INK_OUTLIER : INK_DIM, 6, "outliers > %d times the mean: %lld of %lld; most%s", OUTLIER, (long long)p->beyond,
             (long long)d->n, names);
}

static void say_mark(const PlotData *d, const PlotLook *look, const Profile *p, PlotTexts *t)
{
    char v[24], times[24];
    int64_t at = (int64_t)look->at;
    if (!look->marked) {
        fmt_value(v, sizeof v, p->middle);
        fmt_value(times, sizeof times, p->middle > 0 ? p->top / p->middle : INFINITY);
        plot_say(t, INK_DIM, 3, "median %s, the largest is %s times that", v, times);
        return;
    }
    at = at < 0 ? 0 : at < d->n ? at : d->n - 1;
    fmt_value(v, sizeof v, (double)d->value[at]);
    fmt_value(times, sizeof times, p->middle > 0 ? (double)d->value[at] / p->middle : INFINITY);
    plot_say(t, INK_CURSOR, 7, "^ channel %lld: %s, %s times the median", (long long)at, v, times);
}

/* The largest first, as many as there are lines. */
static void draw_numbers(const PlotData *d, const PlotLook *look, const Profile *p, Sheet *c, int y, int h)
{
    int64_t from, to;
    window_of(d, look, &from, &to);
    canvas_right(c, y, 10, INK_HEADER, tr("channel"));
    canvas_right(c, y, 22, INK_HEADER, tr("largest"));
    canvas_right(c, y, 40, INK_HEADER, tr("times median"));
    int line = 1;
    for (int64_t k = 0; k < d->n && line < h; k++) {
        char n[24], v[24], times[24];
        int64_t i = p->order[k];
        if (i < from || i >= to)
            continue;
        snprintf(n, sizeof n, "%lld", (long long)i);
        fmt_value(v, sizeof v, (double)d->value[i]);
        fmt_value(times, sizeof times, p->middle > 0 ? (double)d->value[i] / p->middle : INFINITY);
        Ink ink = look->marked && i == (int64_t)look->at ? INK_CURSOR : k < p->beyond ? INK_OUTLIER : INK_TEXT;
        canvas_right(c, y + line, 10, ink, n);
        canvas_right(c, y + line, 22, ink, v);
        canvas_right(c, y + line, 40, ink, times);
        line++;
    }
}

void plot_profile_draw(const PlotData *d, const PlotLook *look, Sheet *c)
{
    enum { BARS = 5 };
    Profile p;
    PlotTexts head = {.n = 0}, foot = {.n = 0};
    char n[24];
    int from, to;
    if (!profile_of(d->value, d->n, &p))
        return;
    const bool some = d->n > 0 && p.top > 0;
    fmt_count(n, sizeof n, d->n);
    plot_say(&head, INK_HEADER, 9, "%s: %s%s", tr(plot_title(look->kind)), n,
             look->table ? tr(", the largest first") : tr(look->linear ? ", linear" : ", logarithmic"));
    if (d->changes[0])
        plot_say(&head, INK_TEXT, 5, "%s", d->changes);
    if (some) {
        say_mark(d, look, &p, &foot);
        say_named(d, &p, &foot);
    } else {
        plot_say(&foot, INK_DIM, 5, "all values are 0");
    }
    plot_around(c, &head, &foot, BARS, &from, &to);
    if (some && look->table)
        draw_numbers(d, look, &p, c, from, to - from);
    else if (some && to - from >= 3)
        draw_columns(d, look, &p, c, from, to - from);
    free(p.order);
}
