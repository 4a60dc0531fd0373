/* The page's pictures, as inline SVG. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/page.h"
#include "src/reportdata.h"

/* ---- axes ---- */

void svg_open(Str *out, double w, double h, const char *label)
{
    str_printf(out, "<svg viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" role=\"img\" aria-label=\"", w, h, w, h);
    page_text(out, label);
    str_puts(out, "\">\n");
}

void svg_title(Str *out, const char *text)
{
    str_puts(out, "<title>");
    page_text(out, text);
    str_puts(out, "</title>");
}

void svg_axis_x(Str *out, const Axis *a, double y, const char *name)
{
    double t[AXIS_TICKS];
    str_printf(out, "<path class=\"ax\" d=\"M%.1f %.1fH%.1f\"/>\n", a->from, y, a->to);
    for (int i = 0, n = axis_ticks(a, t); i < n; i++)
        str_printf(out, "<path class=\"ax\" d=\"M%.1f %.1fv4\"/><text class=\"d\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.4g</text>\n",
                   axis_place(a, t[i]), y, axis_place(a, t[i]), y + 17, t[i]);
    str_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", a->to, y + 34);
    page_text(out, name);
    str_puts(out, "</text>\n");
}

void svg_axis_y(Str *out, const Axis *a, double x, const char *name)
{
    double t[AXIS_TICKS];
    str_printf(out, "<path class=\"ax\" d=\"M%.1f %.1fV%.1f\"/>\n", x, a->from, a->to);
    for (int i = 0, n = axis_ticks(a, t); i < n; i++)
        str_printf(out, "<path class=\"ax\" d=\"M%.1f %.1fh-4\"/><text class=\"d\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n", x,
                   axis_place(a, t[i]), x - 7, axis_place(a, t[i]) + 4, t[i]);
    str_printf(out, "<text x=\"%.1f\" y=\"%.1f\">", 4.0, a->to - 8);
    page_text(out, name);
    str_puts(out, "</text>\n");
}

/* ---- heat map ---- */

enum { CELL = 15 };

static void heat_cells(const LayerMap *h, double left, Str *out)
{
    for (int k = 0; k < h->kinds; k++)
        for (int l = 0; l < h->layers; l++) {
            size_t at = (size_t)k * (size_t)h->layers + (size_t)l;
            double v = h->value[at];
            char text[LAYERMAP_NAME + 80];
            if (isnan(v) && !h->failed[at])
                continue;
            str_printf(out, "<rect x=\"%.0f\" y=\"%d\" width=\"%d\" height=\"%d\" class=\"%s\"", left + l * CELL, 18 + k * CELL, CELL - 1, CELL - 1,
                       isnan(v) ? "f" : "c");
            if (!isnan(v))
                str_printf(out, " fill-opacity=\"%.3f\"", 0.04 + 0.96 * layermap_share(h, v));
            str_puts(out, ">");
            if (isnan(v))
                snprintf(text, sizeof text, "layer %d %s: no score", l, h->kind[k]);
            else
                snprintf(text, sizeof text, "layer %d %s: %.4g", l, h->kind[k], v);
            svg_title(out, text);
            str_puts(out, "</rect>\n");
        }
}

static void heat_svg(const LayerMap *h, const Metric *m, Str *out)
{
    size_t longest = 4;
    for (int k = 0; k < h->kinds; k++)
        longest = strlen(h->kind[k]) > longest ? strlen(h->kind[k]) : longest;
    double left = 7.0 * (double)longest + 8;
    svg_open(out, left + h->layers * CELL + 16, 24 + h->kinds * CELL + 4, m->title);
    for (int l = 0; l < h->layers; l += 5)
        str_printf(out, "<text class=\"d\" x=\"%.0f\" y=\"12\">%d</text>\n", left + l * CELL, l);
    for (int k = 0; k < h->kinds; k++) {
        str_printf(out, "<text x=\"%.0f\" y=\"%d\" text-anchor=\"end\">", left - 6, 18 + k * CELL + CELL - 4);
        page_text(out, h->kind[k]);
        str_puts(out, "</text>\n");
    }
    heat_cells(h, left, out);
    str_puts(out, "</svg>");
}

Status page_heat(const Session *s, const Metric *m, Str *out, Error *err)
{
    LayerMap *h;
    RETURN_IF_ERROR(layermap_make(s, m, &h, err));
    if (h->kinds && h->hi >= h->lo) {
        str_puts(out, "<section><h2>Where ");
        page_text(out, m->name);
        str_puts(out, " is high</h2>\n<p class=\"dim\">Layers from left to right; the stronger the colour, the higher");
        str_printf(out, "%s, from %.4g to %.4g. A cell of several (experts) shows the most sensitive.", h->lo > 0 ? " (logarithmic)" : "", h->lo, h->hi);
        str_puts(out, "</p>\n<div class=\"scroll wide\">");
        heat_svg(h, m, out);
        str_puts(out, "</div>\n");
        if (h->left_out)
            str_printf(out, "<p class=\"dim\">%lld more are not on it.</p>\n", (long long)h->left_out);
        str_puts(out, "</section>\n");
    }
    layermap_free(h);
    return ST_OK;
}

/* ---- scatter ---- */

enum { POINTS_MOST = 2000, SCATTER_W = 470, SCATTER_H = 360 };

void page_scatter(const Session *s, const Metric *x, const Metric *y, Str *out)
{
    const Model *model = session_model(s);
    double lo[2] = {INFINITY, INFINITY}, hi[2] = {-INFINITY, -INFINITY}, v[2];
    int64_t n = 0;
    for (int64_t i = 0; i < model->nlinears; i++)
        if (report_both(s, x, y, i, v)) {
            axis_extend(v[0], &lo[0], &hi[0]);
            axis_extend(v[1], &lo[1], &hi[1]);
            n++;
        }
    if (n < 2)
        return;
    int64_t each = (n + POINTS_MOST - 1) / POINTS_MOST, seen = 0;
    Axis ax = axis_of(lo[0], hi[0], 64, SCATTER_W - 14), ay = axis_of(lo[1], hi[1], SCATTER_H - 42, 24);
    str_puts(out, "<section><h2>");
    page_text(out, x->name);
    str_puts(out, " and ");
    page_text(out, y->name);
    str_printf(out, "</h2>\n<p class=\"dim\">%s; orange ones are float now.</p>\n", each > 1 ? "A share of the linears" : "Every linear");
    svg_open(out, SCATTER_W, SCATTER_H, "two metrics");
    svg_axis_x(out, &ax, SCATTER_H - 42, x->name);
    svg_axis_y(out, &ay, 64, y->name);
    for (int64_t i = 0; i < model->nlinears; i++) {
        if (!report_both(s, x, y, i, v) || seen++ % each)
            continue;
        str_printf(out, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\">", session_level_of(s, i) ? "p" : "q", axis_place(&ax, v[0]),
                   axis_place(&ay, v[1]));
        svg_title(out, model->linears[i].name);
        str_puts(out, "</circle>\n");
    }
    str_puts(out, "</svg>\n</section>\n");
}

/* ---- what was measured over what it costs ---- */

enum { FRONT_W = 470, FRONT_H = 340 };

static void front_point(const Axis *ax, const Axis *ay, double bytes, const Measurement *m, Str *out)
{
    const Effect *e = m->effect;
    double x = axis_place(ax, bytes / 1048576), y = axis_place(ay, e->kl_mean);
    char text[120];
    if (isfinite(e->kl_se)) {
        double low = e->kl_mean - e->kl_se;
        str_printf(out, "<path class=\"e\" d=\"M%.1f %.1fV%.1f\"/>", x, axis_place(ay, ay->log && low < ay->lo ? ay->lo : low),
                   axis_place(ay, e->kl_mean + e->kl_se));
    }
    str_printf(out, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\">", m->present ? "q" : "p", x, y);
    snprintf(text, sizeof text, "#%d: KL %.4g, %.2f MiB, %lld tokens", m->id, e->kl_mean, bytes / 1048576, (long long)e->tokens);
    svg_title(out, text);
    str_printf(out, "</circle><text x=\"%.1f\" y=\"%.1f\">#%d</text>\n", x + 7, y - 6, m->id);
}

/* The most that each size gives, as a line with its range, and its knee. */
static void front_line(const Axis *ax, const Axis *ay, const FrontRow *rows, int64_t n, const FrontSpan *v, Str *out)
{
    const FrontRow *knee = NULL;
    for (int half = 0; half < 3; half++) { /* the range there and back, then the line */
        str_puts(out, half == 0 ? "<path class=\"r\" d=\"M" : half == 2 ? "<path class=\"l\" d=\"M" : "");
        for (int64_t k = 0, any = 0; k < n; k++) {
            const FrontRow *r = &rows[half == 1 ? n - 1 - k : k];
            if (!report_on_front(r, v))
                continue;
            double kl = half == 0 ? r->kl.low : half == 1 ? r->kl.high : r->kl.value;
            str_printf(out, "%s%.1f %.1f", any++ || half == 1 ? "L" : "", axis_place(ax, (double)r->bytes / 1048576), axis_place(ay, kl));
            knee = r->knee ? r : knee;
        }
        str_puts(out, half == 1 ? "z\"/>\n" : half == 2 ? "\"/>\n" : "");
    }
    if (knee)
        str_printf(out, "<rect class=\"h\" x=\"%.1f\" y=\"%.1f\" width=\"9\" height=\"9\"><title>knee: %lld groups float, KL %.3g foretold</title></rect>\n",
                   axis_place(ax, (double)knee->bytes / 1048576) - 4.5, axis_place(ay, knee->kl.value) - 4.5, (long long)knee->floats, knee->kl.value);
}

static void front_svg(Session *s, const FrontSpan *v, const FrontRow *rows, int64_t n, int64_t shown, Str *out)
{
    Prediction p = session_predict(s);
    FrontSpan all = *v;
    bool predicted = isfinite(p.kl.value) && p.kl.value > 0;
    for (int64_t k = 0; k < n; k++)
        if (report_on_front(&rows[k], v)) {
            axis_extend((double)rows[k].bytes / 1048576, &all.lo[0], &all.hi[0]);
            axis_extend(rows[k].kl.low, &all.lo[1], &all.hi[1]);
            axis_extend(rows[k].kl.high, &all.lo[1], &all.hi[1]);
        }
    if (predicted) {
        axis_extend((double)p.size.bytes / 1048576, &all.lo[0], &all.hi[0]);
        axis_extend(p.kl.low, &all.lo[1], &all.hi[1]);
        axis_extend(p.kl.high, &all.lo[1], &all.hi[1]);
    }
    if (all.lo[1] > 0) { /* room for the errors */
        all.lo[1] /= 1.2;
        all.hi[1] *= 1.2;
    }
    Axis ax = axis_of(all.lo[0], all.hi[0], 64, FRONT_W - 40), ay = axis_of(all.lo[1], all.hi[1], FRONT_H - 42, 24);
    svg_open(out, FRONT_W, FRONT_H, "KL over size");
    svg_axis_x(out, &ax, FRONT_H - 42, "MiB");
    svg_axis_y(out, &ay, 64, "KL, nats a token");
    if (shown > 1)
        front_line(&ax, &ay, rows, n, v, out);
    if (predicted)
        str_printf(out, "<circle class=\"h\" cx=\"%.1f\" cy=\"%.1f\" r=\"7\"><title>predicted: KL %.3g (%.2g to %.2g)</title></circle>\n",
                   axis_place(&ax, (double)p.size.bytes / 1048576), axis_place(&ay, p.kl.value), p.kl.value, p.kl.low, p.kl.high);
    for (int i = 0; i < session_measurements(s); i++) {
        Measurement m = session_measurement(s, i);
        SizeReport size;
        if (session_measurement_size(s, &m, &size) && isfinite(m.effect->kl_mean))
            front_point(&ax, &ay, (double)size.bytes, &m, out);
    }
    str_puts(out, "</svg>\n");
}

Status page_front(Session *s, Str *out, Error *err)
{
    FrontRow *rows = NULL;
    int64_t n = 0, shown = 0;
    const FrontSpan v = report_span(s);
    Error why = {0};
    if (!v.n)
        return ST_OK;
    if (session_front(s, false, &rows, &n, &why) == ST_NOMEM)
        return error_nomem(err, "the report");
    for (int64_t k = 0; k < n; k++)
        shown += report_on_front(&rows[k], &v);
    str_puts(out, "<section><h2>KL over size</h2>\n<p class=\"dim\">Each measurement with its standard error; orange: of the present assignment, "
                  "the ring what is predicted for it.");
    str_puts(out, shown > 1 ? " The line is the least KL that is foretold for a size, with its range; the square its knee.</p>\n" : "</p>\n");
    front_svg(s, &v, rows, n, shown, out);
    str_puts(out, "</section>\n");
    free(rows);
    return ST_OK;
}
