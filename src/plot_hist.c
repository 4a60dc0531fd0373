/* Histograms on a canvas: bars, overlays, axes, marks and the same as numbers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/format.h"
#include "src/lang.h"
#include "src/plot.h"

enum { MAX_BINS = 1024 };

/* ---- axes ---- */

void plot_short(char *out, size_t size, double n)
{
    static const char *const units[] = {"", "k", "M", "G", "T"};
    int u = 0;
    while (n >= (u ? 999.5 : 9999.5) && u < 4) {
        n /= 1000;
        u++;
    }
    snprintf(out, size, "%.*f%s", u > 0 && n < 9.95 ? 1 : 0, n, units[u]);
}

void plot_axis(Sheet *c, int y, int h, const char *top, const char *middle, const char *foot)
{
    for (int i = 0; i < h; i++) {
        const char *text = i == 0 ? top : i == h - 1 ? foot : i == h / 2 && h >= 5 ? middle : "";
        canvas_right(c, y + i, PLOT_AXIS - 1, INK_AXIS, text);
        canvas_put(c, y + i, PLOT_AXIS - 1, INK_AXIS, c->vline);
    }
}

static void count_axis(Sheet *c, int y, int h, double top, bool linear)
{
    char high[16], middle[16];
    double share = (double)(h - h / 2) / h;
    plot_short(high, sizeof high, top);
    plot_short(middle, sizeof middle, linear ? top * share : expm1(log1p(top) * share));
    plot_axis(c, y, h, high, middle, "0");
}

/* ---- bars ---- */

typedef struct Frame {
    int x, w, y, h; /* of the bars */
    HistWindow win;
} Frame;

/* Steps of a bin's bar above the floor of row `row` from below; what is there is seen. */
static int steps_of(double count, double top, bool linear, int rows, int levels, int row)
{
    int full = (int)lround(histview_height(count, top, linear) * rows * levels);
    if (full == 0 && count > 0)
        full = 1;
    return full - row * levels;
}

static void draw_bars(Sheet *c, const Frame *f, const HistBins *b, const HistBins *over, bool linear)
{
    int per = hist_columns(c->form), levels = hist_levels(c->form);
    double top = over && over->top > b->top ? over->top : b->top;
    for (int y = 0; y < f->h; y++) {
        int row = f->h - 1 - y;
        for (int x = 0; x < f->w; x++) {
            int bar[2], made[2] = {0, 0};
            for (int k = 0; k < 2; k++) {
                int i = x * per + (per == 2 ? k : 0);
                bar[k] = steps_of(b->count[i], top, linear, f->h, levels, row);
                if (over)
                    made[k] = steps_of(over->count[i], top, linear, f->h, levels, row);
            }
            bool end = (x == 0 && b->below > 0) || (x == f->w - 1 && b->above > 0);
            wchar_t ch = over ? hist_over_cell(c->form, made, bar) : hist_cell(c->form, bar[0], bar[1]);
            bool light = over && made[0] <= 0 && made[1] <= 0;
            canvas_put(c, f->y + y, f->x + x, end ? INK_CLIP : light ? INK_DIM : INK_BAR, ch);
        }
    }
}

/* How many of the two limits of three deviations lie in [a, b). */
static int limits_within(const HistDraw *v, double a, double b)
{
    double low = v->mean - 3 * v->std, high = v->mean + 3 * v->std;
    return v->std > 0 ? (low >= a && low < b) + (high >= a && high < b) : 0;
}

static void draw_ticks(Sheet *c, int y, const Frame *f, const HistDraw *v, int every)
{
    double cell = (f->win.hi - f->win.lo) / f->w;
    int mark = v->marked ? histview_bin_of(f->win, f->w, v->at) : -1;
    for (int x = 0; x < f->w; x++) {
        double a = f->win.lo + cell * x, b = a + cell;
        if (x == mark && v->at >= f->win.lo && v->at <= f->win.hi)
            canvas_put(c, y, f->x + x, INK_CURSOR, L'^');
        else if (a <= 0 && b > 0)
            canvas_put(c, y, f->x + x, INK_STRONG, L'0');
        else if (limits_within(v, a, b))
            canvas_put(c, y, f->x + x, INK_OUTLIER, L's');
        else if (histview_tick_in(&v->grid, every, a, b))
            canvas_put(c, y, f->x + x, INK_AXIS, L'\'');
        else
            canvas_put(c, y, f->x + x, INK_AXIS, c->form == HIST_ASCII ? L'_' : L' ');
    }
}

/* What the signs of the axis are: ticks of the grid, three standard deviations. */
static void axis_signs(const HistDraw *v, const Frame *f, int every, char *out, size_t size)
{
    out[0] = '\0';
    if (every == 1)
        text_format(out, size, "' %s steps", v->steps);
    else if (every)
        text_format(out, size, "' every %d %s steps", every, v->steps);
    size_t n = strlen(out);
    if (limits_within(v, f->win.lo, f->win.hi))
        snprintf(out + n, size - n, "%s%s", n ? "  " : "", tr("s 3 std"));
}

/* Whether the signs have room between the ends of the window. */
static bool signs_between(const Frame *f, const char *signs)
{
    char a[24], b[24];
    fmt_value(a, sizeof a, f->win.lo);
    fmt_value(b, sizeof b, f->win.hi);
    return f->w - canvas_width(a) - canvas_width(b) > canvas_width(signs) + 2;
}

/* The ends of the window at the edges, and the signs between them or in a line of their own (`below`). */
static void draw_limits(Sheet *c, int y, const Frame *f, const char *signs, bool below)
{
    char a[24], b[24];
    fmt_value(a, sizeof a, f->win.lo);
    fmt_value(b, sizeof b, f->win.hi);
    int x = canvas_text(c, y, f->x, INK_AXIS, a), room = f->w - canvas_width(a) - canvas_width(b);
    if (below)
        canvas_text(c, y + 1, 0, INK_AXIS, signs);
    else if (signs_between(f, signs))
        canvas_text(c, y, x + (room - canvas_width(signs)) / 2, INK_AXIS, signs);
    canvas_right(c, y, f->x + f->w, INK_AXIS, b);
}

static void draw_outside(Sheet *c, int y, const HistDraw *v, const HistBins *bins)
{
    char below[24], above[24], buf[120];
    double total = v->h->total > 0 ? (double)v->h->total : 1;
    fmt_percent(below, sizeof below, bins->below / total);
    fmt_percent(above, sizeof above, bins->above / total);
    if (bins->below > 0 && bins->above > 0)
        text_format(buf, sizeof buf, "%s below, %s above", below, above);
    else if (bins->below > 0)
        text_format(buf, sizeof buf, "%s below", below);
    else
        text_format(buf, sizeof buf, "%s above", above);
    canvas_text(c, y, 0, INK_CLIP, buf);
}

static Status over_bins(const HistDraw *v, HistWindow win, int n, HistBins *out)
{
    *out = (HistBins){0};
    if (v->over_grid)
        return histview_grid_bins(v->h, &v->grid, win, n, out, NULL);
    return v->over ? histview_bins(v->over, win, n, !v->zoomed, out, NULL) : ST_OK;
}

void plot_bars(Sheet *c, int y, int h, const HistDraw *v)
{
    if (h < 4 || c->w < 4 || v->h->n == 0)
        return;
    int axis = c->w >= PLOT_AXIS_LEAST ? PLOT_AXIS : 0, per = hist_columns(c->form), n = (c->w - axis) * per;
    n = n > MAX_BINS ? MAX_BINS / per * per : n;
    Frame f = {axis, n / per, y, h - 2, v->zoomed ? v->w : histview_whole(v->h, v->min, v->max)};
    HistBins bins = {0}, over = {0};
    if (histview_bins(v->h, f.win, n, !v->zoomed, &bins, NULL) != ST_OK || over_bins(v, f.win, n, &over) != ST_OK) {
        free(bins.count);
        return;
    }
    enum { BARS_LEAST = 3 };
    char signs[120];
    int every = histview_tick_every(&v->grid, f.win, f.w, 3);
    axis_signs(v, &f, every, signs, sizeof signs);
    bool cut = bins.below > 0 || bins.above > 0;
    bool below = *signs && !signs_between(&f, signs) && canvas_width(signs) <= c->w && h - 3 - cut >= BARS_LEAST;
    f.h -= cut + below;
    double top = over.top > bins.top ? over.top : bins.top;
    if (axis)
        count_axis(c, y, f.h, top, v->linear);
    draw_bars(c, &f, &bins, over.count ? &over : NULL, v->linear);
    draw_ticks(c, y + f.h, &f, v, every);
    draw_limits(c, y + f.h + 1, &f, signs, below);
    if (cut)
        draw_outside(c, y + f.h + 2 + below, v, &bins);
    free(bins.count);
    free(over.count);
}

/* ---- numbers ---- */

/* Values below which shares of all lie, as many as fit. */
static void draw_percentiles(Sheet *c, int y, const KeyHist *h)
{
    int x = 0;
    for (int i = 0; i < PLOT_PERCENTILES; i++) {
        char value[24], text[64];
        fmt_value(value, sizeof value, keyhist_quantile(h, plot_percentiles[i]));
        snprintf(text, sizeof text, "%s%g %% %s", i ? "  " : "", 100 * plot_percentiles[i], value);
        if (x + canvas_width(text) > c->w)
            return;
        x = canvas_text(c, y, x, INK_DIM, text);
    }
}

enum { C_FROM, C_TO, C_COUNT, C_SHARE, C_MADE, TABLE_COLUMNS };

/* The columns that fit; the last only with values over the others. */
static void table_line(Sheet *c, int y, Ink ink, const char *const cell[TABLE_COLUMNS], bool over)
{
    static const int width[TABLE_COLUMNS] = {10, 11, 13, 9, 13}, drop[] = {C_MADE, C_COUNT, C_SHARE};
    bool out[TABLE_COLUMNS] = {[C_MADE] = !over};
    int sum = 10 + 11 + 13 + 9 + (over ? 13 : 0);
    for (int i = 0; i < 3 && sum > c->w; i++) {
        sum -= out[drop[i]] ? 0 : width[drop[i]];
        out[drop[i]] = true;
    }
    for (int k = 0, x = 0; k < TABLE_COLUMNS; k++) {
        if (out[k])
            continue;
        x += width[k];
        canvas_right(c, y, x, ink, cell[k]);
    }
}

static void table_row(Sheet *c, int y, int i, const HistDraw *v, const HistBins *b, const HistBins *over)
{
    double count = i < 0 ? b->below : i == b->n ? b->above : b->count[i], wide = (b->w.hi - b->w.lo) / b->n;
    double made = !over->count ? 0 : i < 0 ? over->below : i == b->n ? over->above : over->count[i];
    char from[24], to[24], n[24], share[24], m[24];
    fmt_value(from, sizeof from, i < 0 ? v->min : b->w.lo + wide * i);
    fmt_value(to, sizeof to, i == b->n ? v->max : b->w.lo + wide * (i + 1));
    fmt_count(n, sizeof n, (int64_t)llround(count));
    fmt_count(m, sizeof m, (int64_t)llround(made));
    fmt_percent(share, sizeof share, count / (double)v->h->total);
    bool here = v->marked && i >= 0 && i < b->n && histview_bin_of(b->w, b->n, v->at) == i;
    table_line(c, y, here ? INK_CURSOR : i < 0 || i == b->n ? INK_CLIP : INK_TEXT, (const char *const[]){from, to, n, share, m},
               over->count != NULL);
}

void plot_table(Sheet *c, int y, int h, const HistDraw *v)
{
    int n = h - 4;
    if (n < 1 || v->h->n == 0)
        return;
    n = n > 32 ? 32 : n;
    HistWindow win = v->zoomed ? v->w : histview_whole(v->h, v->min, v->max);
    HistBins bins = {0}, over = {0};
    if (histview_bins(v->h, win, n, false, &bins, NULL) == ST_OK && over_bins(v, win, n, &over) == ST_OK) {
        table_line(c, y, INK_HEADER, (const char *const[]){tr("from"), tr("to"), tr("count"), tr("share"), tr("dequantized")},
                   over.count != NULL);
        for (int i = -1; i <= n; i++)
            table_row(c, y + 2 + i, i, v, &bins, &over);
        draw_percentiles(c, y + 3 + n, v->h);
    }
    free(bins.count);
    free(over.count);
}

/* ---- the whole plot ---- */

void plot_say(PlotTexts *p, Ink ink, int keep, const char *fmt, ...)
{
    va_list ap;
    if (p->n == PLOT_TEXTS)
        return;
    va_start(ap, fmt);
    vsnprintf(p->t[p->n].text, sizeof p->t[p->n].text, tr(fmt), ap);
    va_end(ap);
    p->t[p->n].ink = ink;
    p->t[p->n++].keep = keep;
}

static int lines_of(int w, const PlotTexts *p)
{
    int n = 0;
    for (int i = 0; i < p->n; i++)
        n += canvas_lines(w, p->t[i].text);
    return n;
}

/* Leaves out the sentence of both that matters least; false: there is none. */
static bool drop_one(PlotTexts *const of[2])
{
    int p = -1, at = -1;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < of[k]->n; i++)
            if (of[k]->t[i].text[0] && (at < 0 || of[k]->t[i].keep < of[p]->t[at].keep)) {
                p = k;
                at = i;
            }
    if (at < 0)
        return false;
    of[p]->t[at].text[0] = '\0';
    return true;
}

static void draw_texts(Sheet *c, int y, const PlotTexts *p)
{
    for (int i = 0; i < p->n; i++) {
        canvas_wrap(c, y, p->t[i].ink, p->t[i].text);
        y += canvas_lines(c->w, p->t[i].text);
    }
}

void plot_around(Sheet *c, PlotTexts *head, PlotTexts *foot, int least, int *from, int *to)
{
    PlotTexts *const both[] = {head, foot};
    while (c->h - lines_of(c->w, head) - lines_of(c->w, foot) < least && drop_one(both))
        ;
    *from = lines_of(c->w, head);
    *to = c->h - lines_of(c->w, foot);
    draw_texts(c, 0, head);
    draw_texts(c, *to, foot);
}

/* ---- what is told around a histogram ---- */

static void head_of(const PlotData *d, const PlotLook *look, PlotTexts *p)
{
    char n[24], a[24], b[24], m[24], s[24];
    const bool input = look->kind == PLOT_INPUT || look->kind == PLOT_GRID;
    fmt_count(n, sizeof n, (int64_t)d->h->total);
    fmt_value(a, sizeof a, d->min);
    fmt_value(b, sizeof b, d->max);
    fmt_value(m, sizeof m, d->mean);
    fmt_value(s, sizeof s, d->std);
    plot_say(p, INK_HEADER, 9, "%s: %s values%s", tr(plot_title(look->kind)), n,
             look->table ? "" : tr(look->linear ? ", counts linear" : ", counts logarithmic"));
    if (d->changes[0])
        plot_say(p, INK_TEXT, 5, "%s", d->changes);
    plot_say(p, INK_TEXT, 2, "%s to %s, mean %s, std %s", a, b, m, s);
    if (look->kind == PLOT_GRID || look->kind == PLOT_DEQUANT)
        plot_say(p, INK_TEXT, 4, "%s", d->level);
    if (input && d->res->in.bad)
        plot_say(p, INK_BAD, 8, "%s", d->res->in.bad_text);
    if (!input && d->picture->look.bad)
        plot_say(p, INK_BAD, 8, "%lld values are not finite: %s", (long long)d->picture->look.bad, d->picture->look.bad_text);
}

double plot_loss(const PlotData *d)
{
    const WeightLook *w = d->picture && !d->picture->why[0] ? &d->picture->look : NULL;
    return w && d->over && w->square > 0 ? sqrt(w->error / w->square) : (double)NAN;
}

/* What the dequantized weight is off by. */
static void say_loss(const PlotData *d, PlotTexts *p)
{
    const WeightLook *w = &d->picture->look;
    char relative[24], worst[24], db[24], step[48] = "", of[24];
    if (!(w->square > 0)) {
        plot_say(p, INK_DIM, 6, "all values are 0: nothing is lost");
        return;
    }
    fmt_percent(relative, sizeof relative, sqrt(w->error / w->square));
    fmt_value(worst, sizeof worst, w->worst);
    fmt_value(of, sizeof of, w->grid.step);
    if (w->grid.step > 0)
        text_format(step, sizeof step, "; %s step %s", d->steps, of);
    snprintf(db, sizeof db, "%.1f", w->error > 0 ? 10 * log10(w->square / w->error) : INFINITY);
    plot_say(p, INK_TEXT, 6, "error %s of the weight (SQNR %s dB), at most %s%s", relative, db, worst, step);
}

/* How much of the grid the input uses. */
static void say_use(const PlotData *d, PlotTexts *p)
{
    char step[24], wide[24];
    int codes = histview_codes_holding(d->h, &d->grid, 0.99, NULL), all = d->grid.hi - d->grid.lo + 1;
    if (codes == 0) /* nothing was counted */
        return;
    fmt_value(step, sizeof step, d->grid.step);
    fmt_value(wide, sizeof wide, d->std / d->grid.step);
    plot_say(p, codes * 16 < all ? INK_OUTLIER : INK_TEXT, 6, "99 %% of the values round to %d of %d codes; an %s step is %s, std %s steps", codes, all,
             d->steps, step, wide);
}

static void say_percentiles(const PlotData *d, int bins, const char *wide, PlotTexts *p)
{
    static const double told[] = {0.5, 0.99, 0.999};
    char at[3][24];
    for (int i = 0; i < 3; i++)
        fmt_value(at[i], sizeof at[i], keyhist_quantile(d->h, told[i]));
    plot_say(p, INK_DIM, 3, "%d bins of %s  p50 %s  p99 %s  p99.9 %s", bins, wide, at[0], at[1], at[2]);
}

/* The cursor's value, or the bins and a few percentiles. */
static void say_readout(const PlotData *d, const PlotLook *look, const Sheet *c, PlotTexts *p)
{
    char at[24], below[24], n[24], wide[24];
    int per = hist_columns(c->form), axis = c->w >= PLOT_AXIS_LEAST ? PLOT_AXIS : 0, bins = (c->w - axis) * per;
    HistWindow win = look->zoomed ? look->w : plot_whole(d);
    HistBins b;
    if (bins < 1)
        return;
    fmt_value(wide, sizeof wide, (win.hi - win.lo) / bins);
    if (!look->marked) {
        say_percentiles(d, bins, wide, p);
        return;
    }
    fmt_value(at, sizeof at, look->at);
    fmt_percent(below, sizeof below, histview_share_below(d->h, look->at));
    if (look->at < win.lo || look->at > win.hi) {
        plot_say(p, INK_CURSOR, 7, "^ %s: %s lie below; it lies outside what is shown", at, below);
    } else if (histview_bins(d->h, win, bins, false, &b, NULL) == ST_OK) {
        fmt_count(n, sizeof n, (int64_t)llround(b.count[histview_bin_of(win, bins, look->at)]));
        plot_say(p, INK_CURSOR, 7, "^ %s: %s lie below, %s in its bin of %s", at, below, n, wide);
        free(b.count);
    }
}

static void foot_of(const PlotData *d, const PlotLook *look, const Sheet *c, PlotTexts *p)
{
    static const wchar_t float_only[] = {[HIST_ASCII] = L':', [HIST_BLOCK] = L'\u2591', [HIST_BRAILLE] = L'\u2895'};
    static const wchar_t solid[] = {[HIST_ASCII] = L'#', [HIST_BLOCK] = L'\u2588', [HIST_BRAILLE] = L'\u28ff'};
    const bool over = look->kind == PLOT_GRID || look->kind == PLOT_DEQUANT;
    char text[240];
    say_readout(d, look, c, p);
    if (look->kind == PLOT_INPUT && d->res->in.channel_max && d->std > 0) {
        int64_t beyond = plot_outliers(&d->res->in, text, sizeof text);
        plot_say(p, beyond ? INK_OUTLIER : INK_DIM, 6, "%s", text);
    }
    if (look->kind == PLOT_DEQUANT)
        say_loss(d, p);
    if (look->kind == PLOT_GRID)
        say_use(d, p);
    if (over && !look->table)
        plot_say(p, INK_DIM, 1, "%lc dequantized  %lc float where it is above", (wint_t)solid[c->form], (wint_t)float_only[c->form]);
}

void plot_hist_draw(const PlotData *d, const PlotLook *look, Sheet *c)
{
    enum { BARS = 7 };
    const HistDraw v = {.h = d->h, .over = d->over, .over_grid = d->over_grid, .min = d->min, .max = d->max, .mean = d->mean, .std = d->std,
                        .grid = d->grid, .steps = d->steps, .linear = look->linear, .zoomed = look->zoomed, .marked = look->marked,
                        .w = look->w, .at = look->at};
    PlotTexts head = {.n = 0}, foot = {.n = 0};
    int from, to;
    head_of(d, look, &head);
    if (d->h->n)
        foot_of(d, look, c, &foot);
    else
        plot_say(&foot, INK_DIM, 5, "there is no finite value to draw");
    plot_around(c, &head, &foot, BARS, &from, &to);
    if (look->table)
        plot_table(c, from, to - from, &v);
    else
        plot_bars(c, from, to - from, &v);
}
