/* The page's plots of the worst layers: inputs, channels, weights and what becomes of them, as inline SVG. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/page.h"
#include "src/plot.h"
#include "src/reportdata.h"

enum { WORST = 6, BINS = 60, WIDE = 400, HIGH = 150, LEFT = 44, FOOT = 38, FIELDS = 48, FIELD = 7, SHADES = 8 };

static double tall(double share)
{
    return share * (HIGH - FOOT - 8);
}

static void bars(const HistBins *b, double top, const char *class, Str *out)
{
    const double w = (double)(WIDE - LEFT - 8) / b->n;
    str_printf(out, "<path class=\"%s\" d=\"", class);
    for (int i = 0; i < b->n && top > 0; i++) {
        double h = tall(histview_height(b->count[i], top, false));
        if (h > 0)
            str_printf(out, "M%.1f %dv%.1fh%.1fv%.1fz", LEFT + i * w, HIGH - FOOT, -h, w - 0.6, h);
    }
    str_puts(out, "\"/>\n");
}

/* Counts at the top and the foot, ticks of the grid, three deviations. */
static void marks(const PlotData *d, const Axis *a, double top, Str *out)
{
    const HistWindow w = {a->lo, a->hi};
    int every = histview_tick_every(&d->grid, w, WIDE - LEFT - 8, 4);
    char n[16];
    plot_short(n, sizeof n, top);
    str_printf(out, "<text class=\"d\" x=\"%d\" y=\"16\" text-anchor=\"end\">%s</text><text class=\"d\" x=\"%d\" y=\"%d\" text-anchor=\"end\">0</text>\n",
               LEFT - 5, n, LEFT - 5, HIGH - FOOT);
    str_puts(out, "<path class=\"e\" d=\"");
    for (int k = d->grid.lo / (every ? every : 1); every && k * every <= d->grid.hi; k++)
        if (d->grid.step * k * every >= w.lo && d->grid.step * k * every <= w.hi)
            str_printf(out, "M%.1f %dv3", axis_place(a, d->grid.step * k * every), HIGH - FOOT);
    str_puts(out, "\"/>\n");
    for (int side = -1; side <= 1; side += 2) {
        double v = d->mean + 3 * side * d->std;
        if (d->std > 0 && v > w.lo && v < w.hi)
            str_printf(out, "<path class=\"f\" stroke-dasharray=\"3 3\" d=\"M%.1f %dV8\"><title>%d standard deviations</title></path>\n",
                       axis_place(a, v), HIGH - FOOT, 3 * side);
    }
}

static Status histogram(const PlotData *d, const PlotLook *look, Str *out, Error *err)
{
    const HistWindow w = plot_whole(d);
    const Axis a = {.lo = w.lo, .hi = w.hi, .from = LEFT, .to = WIDE - 8};
    HistBins b = {0}, over = {0};
    Status st = histview_bins(d->h, w, BINS, true, &b, err);
    if (st == ST_OK && d->over_grid)
        st = histview_grid_bins(d->h, &d->grid, w, BINS, &over, err);
    else if (st == ST_OK && d->over)
        st = histview_bins(d->over, w, BINS, true, &over, err);
    if (st == ST_OK) {
        double top = fmax(b.top, over.top);
        str_printf(out, "<div><p>%s <span class=\"dim\">%.4g to %.4g, mean %.3g, std %.3g", plot_title(look->kind), d->min, d->max, d->mean, d->std);
        if (b.below + b.above > 0)
            str_printf(out, "; %.0f beyond the ends", b.below + b.above);
        str_puts(out, "</span></p>\n");
        svg_open(out, WIDE, HIGH, plot_title(look->kind));
        svg_axis_x(out, &a, HIGH - FOOT, "");
        marks(d, &a, top, out);
        bars(&b, top, over.count ? "r" : "p", out);
        if (over.count)
            bars(&over, top, "p", out);
        str_puts(out, "</svg></div>\n");
    }
    free(b.count);
    free(over.count);
    return st;
}

/* The largest value of each channel, as many side by side as there are pixels. */
static void profile(const PlotData *d, const PlotLook *look, Str *out)
{
    const int cols = WIDE - LEFT - 8;
    double top = 0, least = INFINITY;
    for (int64_t i = 0; i < d->n; i++) {
        top = fmax(top, (double)d->value[i]);
        least = d->value[i] > 0 ? fmin(least, (double)d->value[i]) : least;
    }
    if (!(top > 0))
        return;
    const Axis a = {.lo = 0, .hi = (double)d->n, .from = LEFT, .to = WIDE - 8};
    Axis y = {.lo = fmax(least, top * 1e-4) * 0.9, .hi = top, .from = 0, .to = 1, .log = true};
    str_printf(out, "<div><p>%s <span class=\"dim\">%lld of them, the largest %.4g</span></p>\n", plot_title(look->kind), (long long)d->n, top);
    svg_open(out, WIDE, HIGH, plot_title(look->kind));
    svg_axis_x(out, &a, HIGH - FOOT, "");
    str_printf(out, "<text class=\"d\" x=\"%d\" y=\"16\" text-anchor=\"end\">%.4g</text><text class=\"d\" x=\"%d\" y=\"%d\" text-anchor=\"end\">%.2g</text>\n",
               LEFT - 5, top, LEFT - 5, HIGH - FOOT, y.lo);
    str_puts(out, "<path class=\"p\" d=\"");
    for (int c = 0; c < cols; c++) {
        double v = 0;
        int64_t from = c * d->n / cols, to = (c + 1) * d->n / cols;
        for (int64_t i = from; i < (to > from ? to : from + 1); i++)
            v = fmax(v, (double)d->value[i]);
        if (v > 0)
            str_printf(out, "M%d %dv%.1fh1v%.1fz", LEFT + c, HIGH - FOOT, -tall(axis_place(&y, v)), tall(axis_place(&y, v)));
    }
    str_puts(out, "\"/>\n</svg></div>\n");
}

static void error_map(const PlotData *d, const PlotLook *look, Str *out)
{
    const WeightHeat *h = &d->picture->heat;
    double top = 0, low = INFINITY;
    for (int i = 0; i < h->rows * h->cols; i++) {
        top = fmax(top, h->mean[i]);
        low = h->mean[i] > 0 ? fmin(low, h->mean[i]) : low;
    }
    str_printf(out, "<div><p>%s <span class=\"dim\">%lld groups of %lld down, %lld channels across; the largest %.3g at group %lld of channel "
               "%lld</span></p>\n", plot_title(look->kind), (long long)h->groups, (long long)h->group, (long long)h->channels, h->top,
               (long long)h->top_group, (long long)h->top_channel);
    svg_open(out, h->cols * FIELD + 2, h->rows * FIELD + 2, plot_title(look->kind));
    for (int k = 0; k < SHADES; k++) { /* fields of one shade are one path */
        str_printf(out, "<path class=\"k\" fill-opacity=\"%.2f\" d=\"", (k + 0.5) / SHADES);
        for (int i = 0; i < h->rows * h->cols; i++) {
            double t = !(h->mean[i] > 0) ? 0 : top > low ? log(h->mean[i] / low) / log(top / low) : 1;
            if ((t >= 1 ? SHADES - 1 : (int)(t * SHADES)) == k)
                str_printf(out, "M%d %dh%dv%dh-%dz", i % h->cols * FIELD, i / h->cols * FIELD, FIELD, FIELD, FIELD);
        }
        str_puts(out, "\"/>\n");
    }
    str_puts(out, "</svg></div>\n");
}

static Status plot(Session *s, int64_t linear, PlotKind kind, Str *out, Error *err)
{
    PlotLook look = {.kind = kind, .rows = FIELDS / 3, .cols = FIELDS};
    PlotData d;
    RETURN_IF_ERROR(plot_data(s, linear, &look, true, NULL, &d, err));
    if (d.why[0])
        return ST_OK; /* another plot of it, or its row in a ranking, says it */
    if (kind == PLOT_ERROR)
        error_map(&d, &look, out);
    else if (d.value)
        profile(&d, &look, out);
    else if (d.h->n)
        return histogram(&d, &look, out, err);
    return ST_OK;
}

static Status layer(Session *s, const Metric *m, int64_t linear, double score, bool weights, Str *out, Error *err)
{
    static const PlotKind of_input[] = {PLOT_INPUT, PLOT_GRID, PLOT_CHANNELS}, of_weight[] = {PLOT_DEQUANT, PLOT_WROWS, PLOT_ERROR};
    const LinearResult *r = session_result(s, linear);
    PlotLook look = {.kind = PLOT_WEIGHT};
    Status st = ST_OK;
    str_puts(out, "<h3>");
    page_text(out, session_model(s)->linears[linear].name);
    str_puts(out, " <span class=\"dim\">");
    page_text(out, m->name);
    str_puts(out, " ");
    page_number(out, score);
    str_puts(out, "</span></h3>\n<div class=\"pair\">\n");
    for (size_t k = 0; k < sizeof of_input / sizeof *of_input && st == ST_OK; k++)
        st = plot(s, linear, of_input[k], out, err);
    if (!weights && r->weight.hist.n) {
        const PlotData d = {.h = &r->weight.hist, .min = r->weight.min, .max = r->weight.max, .mean = r->weight.mean, .std = r->weight.std};
        st = st == ST_OK ? histogram(&d, &look, out, err) : st;
    }
    for (size_t k = 0; weights && k < sizeof of_weight / sizeof *of_weight && st == ST_OK; k++)
        st = plot(s, linear, of_weight[k], out, err);
    str_puts(out, "</div>\n");
    return st;
}

Status page_layers(Session *s, const Metric *m, Str *out, Error *err)
{
    int64_t linear[WORST], values = 0;
    double score[WORST];
    int n;
    RETURN_IF_ERROR(report_worst(s, m, WORST, linear, score, &n, err));
    str_puts(out, "<section><h2>Plots of the worst</h2>\n<p class=\"dim\">");
    str_puts(out, n ? "Heights are logarithmic; 0.05 % of each end may lie beyond it. Marks under the axis are steps of the integer grid, dashed lines "
                      "three standard deviations; solid is what quantizing leaves, pale what was there.</p>\n"
                    : "Histograms of inputs and weights are kept by analyses in the workbench, and by the report of the command line.</p>\n");
    for (int k = 0; k < n; k++) {
        const Linear *l = &session_model(s)->linears[linear[k]];
        values += l->out * l->in;
        RETURN_IF_ERROR(layer(s, m, linear[k], score[k], values <= REPORT_VALUES, out, err));
    }
    str_puts(out, "</section>\n");
    return ST_OK;
}
