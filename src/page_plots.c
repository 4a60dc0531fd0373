/* The page's pictures, as inline SVG. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "src/page.h"

/* ---- axes ---- */

/* Values lo..hi on pixels from..to; logarithmic where all are above zero and they span more than a factor of 20. */
typedef struct Axis {
    double lo, hi, from, to;
    bool log;
} Axis;

static Axis axis_of(double lo, double hi, double from, double to)
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

static double place(const Axis *a, double v)
{
    double t = a->log ? log(v / a->lo) / log(a->hi / a->lo) : (v - a->lo) / (a->hi - a->lo);
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return a->from + t * (a->to - a->from);
}

enum { TICKS = 8 };

/* Values worth a mark: powers of ten (every so many), or 1, 2, 5 times one. */
static int ticks(const Axis *a, double out[TICKS])
{
    int n = 0;
    if (a->log) {
        int first = (int)ceil(log10(a->lo) - 1e-9), last = (int)floor(log10(a->hi) + 1e-9);
        int step = (last - first) / 5 + 1;
        for (int e = first; e <= last && n < TICKS; e += step)
            out[n++] = pow(10, e);
        if (n > 1)
            return n;
        n = 0;
    }
    double raw = (a->hi - a->lo) / 4, unit = pow(10, floor(log10(raw)));
    double step = raw / unit < 1.5 ? unit : raw / unit < 3.5 ? 2 * unit : raw / unit < 7.5 ? 5 * unit : 10 * unit;
    for (double v = ceil(a->lo / step) * step; v <= a->hi + 1e-9 * step && n < TICKS; v += step)
        if (!a->log || v > 0)
            out[n++] = fabs(v) < 1e-9 * step ? 0 : v;
    return n;
}

static void svg_open(Str *out, double w, double h, const char *label)
{
    str_printf(out, "<svg viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" role=\"img\" aria-label=\"", w, h, w, h);
    page_text(out, label);
    str_puts(out, "\">\n");
}

static void title(Str *out, const char *text)
{
    str_puts(out, "<title>");
    page_text(out, text);
    str_puts(out, "</title>");
}

static void axis_x(Str *out, const Axis *a, double y, const char *name)
{
    double t[TICKS];
    str_printf(out, "<path class=\"ax\" d=\"M%.1f %.1fH%.1f\"/>\n", a->from, y, a->to);
    for (int i = 0, n = ticks(a, t); i < n; i++)
        str_printf(out, "<path class=\"ax\" d=\"M%.1f %.1fv4\"/><text class=\"d\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.4g</text>\n",
                   place(a, t[i]), y, place(a, t[i]), y + 17, t[i]);
    str_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", a->to, y + 34);
    page_text(out, name);
    str_puts(out, "</text>\n");
}

static void axis_y(Str *out, const Axis *a, double x, const char *name)
{
    double t[TICKS];
    str_printf(out, "<path class=\"ax\" d=\"M%.1f %.1fV%.1f\"/>\n", x, a->from, a->to);
    for (int i = 0, n = ticks(a, t); i < n; i++)
        str_printf(out, "<path class=\"ax\" d=\"M%.1f %.1fh-4\"/><text class=\"d\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n", x,
                   place(a, t[i]), x - 7, place(a, t[i]) + 4, t[i]);
    str_printf(out, "<text x=\"%.1f\" y=\"%.1f\">", 4.0, a->to - 8);
    page_text(out, name);
    str_puts(out, "</text>\n");
}

static void extend(double v, double *lo, double *hi)
{
    *lo = v < *lo ? v : *lo;
    *hi = v > *hi ? v : *hi;
}

/* ---- heat map ---- */

enum { KINDS_MAX = 24, KIND_NAME = 64, CELL = 15 };
typedef struct Heat {
    char kind[KINDS_MAX][KIND_NAME];
    int kinds, layers;
    double *value;  /* [KINDS_MAX][layers] the most sensitive; NaN: none */
    bool *failed;   /* and whether one had no score */
    double lo, hi;
    int64_t left_out; /* units of no layer, or of kinds beyond */
} Heat;

/* Row of a unit's name behind its layer, an expert's number left out; -1: none. */
static int kind_row(Heat *h, const char *rest)
{
    char kind[KIND_NAME];
    size_t n = 0;
    for (const char *s = *rest == '.' ? rest + 1 : rest; *s && n + 1 < sizeof kind; s++) {
        bool digit = *s >= '0' && *s <= '9' && s > rest && s[-1] == '.';
        kind[n++] = digit ? '*' : *s;
        while (digit && s[1] >= '0' && s[1] <= '9')
            s++;
    }
    kind[n] = '\0';
    if (!n)
        snprintf(kind, sizeof kind, "layer");
    for (int k = 0; k < h->kinds; k++)
        if (strcmp(h->kind[k], kind) == 0)
            return k;
    if (h->kinds == KINDS_MAX)
        return -1;
    memcpy(h->kind[h->kinds], kind, sizeof kind);
    return h->kinds++;
}

static void take_unit(const Session *s, const Metric *m, int64_t unit, const char *name, Heat *h)
{
    const char *prefix = model_layers_prefix(session_model(s));
    size_t n = strlen(prefix);
    char *end = NULL;
    long layer = strncmp(name, prefix, n) == 0 ? strtol(name + n, &end, 10) : -1;
    int row = end && end > name + n && layer >= 0 && layer < h->layers ? kind_row(h, end) : -1;
    Score score = session_unit_score(s, m, unit);
    bool scored = score.state == SCORE_OK || score.state == SCORE_STALE;
    if (row < 0) {
        h->left_out++;
        return;
    }
    size_t at = (size_t)row * (size_t)h->layers + (size_t)layer;
    h->failed[at] = h->failed[at] || score.state == SCORE_FAILED;
    if (!scored || !isfinite(score.value))
        return;
    if (isnan(h->value[at]) || score.value * m->direction > h->value[at] * m->direction)
        h->value[at] = score.value;
    extend(score.value, &h->lo, &h->hi);
}

static void heat_cells(const Heat *h, double left, Str *out)
{
    const bool log_scale = h->lo > 0 && h->hi > h->lo;
    for (int k = 0; k < h->kinds; k++)
        for (int l = 0; l < h->layers; l++) {
            size_t at = (size_t)k * (size_t)h->layers + (size_t)l;
            double v = h->value[at], t = 1;
            char text[KIND_NAME + 80];
            if (isnan(v) && !h->failed[at])
                continue;
            if (h->hi > h->lo)
                t = log_scale ? log(v / h->lo) / log(h->hi / h->lo) : (v - h->lo) / (h->hi - h->lo);
            str_printf(out, "<rect x=\"%.0f\" y=\"%d\" width=\"%d\" height=\"%d\" class=\"%s\"", left + l * CELL, 18 + k * CELL, CELL - 1, CELL - 1,
                       isnan(v) ? "f" : "c");
            if (!isnan(v))
                str_printf(out, " fill-opacity=\"%.3f\"", 0.04 + 0.96 * t);
            str_puts(out, ">");
            if (isnan(v))
                snprintf(text, sizeof text, "layer %d %s: no score", l, h->kind[k]);
            else
                snprintf(text, sizeof text, "layer %d %s: %.4g", l, h->kind[k], v);
            title(out, text);
            str_puts(out, "</rect>\n");
        }
}

static void heat_svg(const Heat *h, const Metric *m, Str *out)
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
    Heat *h = calloc(1, sizeof *h);
    size_t cells = h ? (size_t)KINDS_MAX * (size_t)model_depth(session_model(s)) : 0;
    Str name = {0};
    if (h) {
        *h = (Heat){.layers = model_depth(session_model(s)), .lo = INFINITY, .hi = -INFINITY};
        h->value = mem_array(cells + 1, sizeof *h->value);
        h->failed = mem_zarray(cells + 1, sizeof *h->failed);
    }
    bool fine = h && h->value && h->failed;
    for (size_t i = 0; fine && i < cells; i++)
        h->value[i] = NAN;
    for (int64_t u = 0; fine && u < scope_units(session_model(s), m->scope); u++) {
        str_clear(&name);
        scope_unit_name(session_model(s), m->scope, u, &name);
        take_unit(s, m, u, str_text(&name), h);
    }
    if (fine && h->kinds && h->hi >= h->lo) {
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
    fine = fine && !name.oom;
    str_free(&name);
    if (h) {
        free(h->value);
        free(h->failed);
    }
    free(h);
    return fine ? ST_OK : error_nomem(err, "the report");
}

/* ---- scatter ---- */

enum { POINTS_MOST = 2000, SCATTER_W = 470, SCATTER_H = 360 };

static bool both(const Session *s, const Metric *x, const Metric *y, int64_t i, double v[2])
{
    Score a = session_score(s, x, i), b = session_score(s, y, i);
    v[0] = a.value;
    v[1] = b.value;
    return (a.state == SCORE_OK || a.state == SCORE_STALE) && (b.state == SCORE_OK || b.state == SCORE_STALE) && isfinite(a.value) &&
           isfinite(b.value);
}

void page_scatter(const Session *s, const Metric *x, const Metric *y, Str *out)
{
    const Model *model = session_model(s);
    double lo[2] = {INFINITY, INFINITY}, hi[2] = {-INFINITY, -INFINITY}, v[2];
    int64_t n = 0;
    for (int64_t i = 0; i < model->nlinears; i++)
        if (both(s, x, y, i, v)) {
            extend(v[0], &lo[0], &hi[0]);
            extend(v[1], &lo[1], &hi[1]);
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
    axis_x(out, &ax, SCATTER_H - 42, x->name);
    axis_y(out, &ay, 64, y->name);
    for (int64_t i = 0; i < model->nlinears; i++) {
        if (!both(s, x, y, i, v) || seen++ % each)
            continue;
        str_printf(out, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\">", session_level_of(s, i) ? "p" : "q", place(&ax, v[0]),
                   place(&ay, v[1]));
        title(out, model->linears[i].name);
        str_puts(out, "</circle>\n");
    }
    str_puts(out, "</svg>\n</section>\n");
}

/* ---- histograms ---- */

enum { WORST = 6, BINS = 60, HIST_W = 400, HIST_H = 150 };

static void histogram(const char *what, const KeyHist *h, double min, double max, double mean, double std, Str *out)
{
    double bin[BINS], below, above, top = 0, lo = keyhist_quantile(h, 0.0005), hi = keyhist_quantile(h, 0.9995);
    if (!isfinite(lo) || !isfinite(hi))
        return;
    Axis a = axis_of(lo, hi, 8, HIST_W - 8);
    a.log = false;
    keyhist_bins(h, a.lo, a.hi, BINS, bin, &below, &above);
    for (int i = 0; i < BINS; i++)
        top = bin[i] > top ? bin[i] : top;
    str_printf(out, "<div><p>%s <span class=\"dim\">%.4g to %.4g, mean %.3g, std %.3g", what, min, max, mean, std);
    if (below + above > 0)
        str_printf(out, "; %.0f outside", below + above);
    str_puts(out, "</span></p>\n");
    svg_open(out, HIST_W, HIST_H, what);
    axis_x(out, &a, HIST_H - 38, "");
    str_puts(out, "<path class=\"p\" d=\"");
    for (int i = 0; i < BINS && top > 0; i++) {
        double w = (double)(HIST_W - 16) / BINS, tall = bin[i] > 0 ? log1p(bin[i]) / log1p(top) * (HIST_H - 46) : 0;
        if (tall > 0)
            str_printf(out, "M%.1f %dv%.1fh%.1fv%.1fz", 8 + i * w, HIST_H - 38, -tall, w - 0.6, tall);
    }
    str_puts(out, "\"/>\n</svg></div>\n");
}

static bool has_hist(const Session *s, int64_t linear)
{
    const LinearResult *r = session_result(s, linear);
    return r && (r->in.hist.n || r->weight.hist.n);
}

static void pair(const Session *s, int64_t i, double score, const Metric *m, Str *out)
{
    const LinearResult *r = session_result(s, i);
    str_puts(out, "<h3>");
    page_text(out, session_model(s)->linears[i].name);
    str_puts(out, " <span class=\"dim\">");
    page_text(out, m->name);
    str_puts(out, " ");
    page_number(out, score);
    str_puts(out, "</span></h3>\n<div class=\"pair\">\n");
    if (r->in.hist.n)
        histogram("input", &r->in.hist, r->in.min, r->in.max, r->in.mean, r->in.std, out);
    if (r->weight.hist.n)
        histogram("weight", &r->weight.hist, r->weight.min, r->weight.max, r->weight.mean, r->weight.std, out);
    str_puts(out, "</div>\n");
}

Status page_histograms(const Session *s, const Metric *m, Str *out, Error *err)
{
    RankRow *row;
    int64_t n;
    int shown = 0;
    RETURN_IF_ERROR(ranking_make(s, m, NULL, &row, &n, err));
    for (int64_t k = 0; k < n && shown < WORST; k++) {
        int64_t from, to;
        if (row[k].failed || row[k].unseen)
            continue;
        scope_linears(session_model(s), m->scope, row[k].unit, &from, &to);
        for (int64_t i = from; i < to && shown < WORST; i++) {
            if (scope_unit_of(session_model(s), m->scope, i) != row[k].unit || !has_hist(s, i))
                continue;
            if (!shown++)
                str_puts(out, "<section><h2>Values of the worst</h2>\n<p class=\"dim\">Heights are logarithmic; 0.05 % of each end may lie "
                              "outside.</p>\n");
            pair(s, i, row[k].score, m, out);
            break; /* one of a unit */
        }
    }
    if (!shown)
        str_puts(out, "<section><h2>Values of the worst</h2>\n<p class=\"dim\">Histograms of inputs and weights are kept by analyses in the "
                      "workbench.</p>\n");
    str_puts(out, "</section>\n");
    free(row);
    return ST_OK;
}

/* ---- what was measured over what it costs ---- */

enum { FRONT_W = 470, FRONT_H = 340 };

static void front_point(const Axis *ax, const Axis *ay, double bytes, const Measurement *m, Str *out)
{
    const Effect *e = m->effect;
    double x = place(ax, bytes / 1048576), y = place(ay, e->kl_mean);
    char text[120];
    if (isfinite(e->kl_se)) {
        double low = e->kl_mean - e->kl_se;
        str_printf(out, "<path class=\"e\" d=\"M%.1f %.1fV%.1f\"/>", x, place(ay, ay->log && low < ay->lo ? ay->lo : low),
                   place(ay, e->kl_mean + e->kl_se));
    }
    str_printf(out, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\">", m->present ? "q" : "p", x, y);
    snprintf(text, sizeof text, "#%d: KL %.4g, %.2f MiB, %lld tokens", m->id, e->kl_mean, bytes / 1048576, (long long)e->tokens);
    title(out, text);
    str_printf(out, "</circle><text x=\"%.1f\" y=\"%.1f\">#%d</text>\n", x + 7, y - 6, m->id);
}

/* What the plot spans. */
typedef struct Span {
    double lo[2], hi[2]; /* MiB, KL */
    int n;               /* measurements on it */
} Span;

static void span_of_measured(const Session *s, Span *v)
{
    *v = (Span){{INFINITY, INFINITY}, {-INFINITY, -INFINITY}, 0};
    for (int i = 0; i < session_measurements(s); i++) {
        Measurement m = session_measurement(s, i);
        SizeReport size;
        if (!session_measurement_size(s, &m, &size) || !isfinite(m.effect->kl_mean))
            continue;
        extend((double)size.bytes / 1048576, &v->lo[0], &v->hi[0]);
        extend(m.effect->kl_mean, &v->lo[1], &v->hi[1]);
        v->n++;
    }
}

/* Points of the predicted front: those within a factor of 300 of the largest KL that was measured. */
static bool on_front(const FrontRow *r, const Span *v)
{
    return isfinite(r->kl.value) && r->kl.low > 0 && isfinite(r->kl.high) && isnan(r->kl_measured) && r->kl.value > v->hi[1] / 300;
}

/* The most that each size gives, as a line with its range, and its knee. */
static void front_line(const Axis *ax, const Axis *ay, const FrontRow *rows, int64_t n, const Span *v, Str *out)
{
    const FrontRow *knee = NULL;
    for (int half = 0; half < 3; half++) { /* the range there and back, then the line */
        str_puts(out, half == 0 ? "<path class=\"r\" d=\"M" : half == 2 ? "<path class=\"l\" d=\"M" : "");
        for (int64_t k = 0, any = 0; k < n; k++) {
            const FrontRow *r = &rows[half == 1 ? n - 1 - k : k];
            if (!on_front(r, v))
                continue;
            double kl = half == 0 ? r->kl.low : half == 1 ? r->kl.high : r->kl.value;
            str_printf(out, "%s%.1f %.1f", any++ || half == 1 ? "L" : "", place(ax, (double)r->bytes / 1048576), place(ay, kl));
            knee = r->knee ? r : knee;
        }
        str_puts(out, half == 1 ? "z\"/>\n" : half == 2 ? "\"/>\n" : "");
    }
    if (knee)
        str_printf(out, "<rect class=\"h\" x=\"%.1f\" y=\"%.1f\" width=\"9\" height=\"9\"><title>knee: %lld groups float, KL %.3g foretold</title></rect>\n",
                   place(ax, (double)knee->bytes / 1048576) - 4.5, place(ay, knee->kl.value) - 4.5, (long long)knee->floats, knee->kl.value);
}

static void front_svg(Session *s, const Span *v, const FrontRow *rows, int64_t n, int64_t shown, Str *out)
{
    Prediction p = session_predict(s);
    Span all = *v;
    bool predicted = isfinite(p.kl.value) && p.kl.value > 0;
    for (int64_t k = 0; k < n; k++)
        if (on_front(&rows[k], v)) {
            extend((double)rows[k].bytes / 1048576, &all.lo[0], &all.hi[0]);
            extend(rows[k].kl.low, &all.lo[1], &all.hi[1]);
            extend(rows[k].kl.high, &all.lo[1], &all.hi[1]);
        }
    if (predicted) {
        extend((double)p.size.bytes / 1048576, &all.lo[0], &all.hi[0]);
        extend(p.kl.low, &all.lo[1], &all.hi[1]);
        extend(p.kl.high, &all.lo[1], &all.hi[1]);
    }
    if (all.lo[1] > 0) { /* room for the errors */
        all.lo[1] /= 1.2;
        all.hi[1] *= 1.2;
    }
    Axis ax = axis_of(all.lo[0], all.hi[0], 64, FRONT_W - 40), ay = axis_of(all.lo[1], all.hi[1], FRONT_H - 42, 24);
    svg_open(out, FRONT_W, FRONT_H, "KL over size");
    axis_x(out, &ax, FRONT_H - 42, "MiB");
    axis_y(out, &ay, 64, "KL, nats a token");
    if (shown > 1)
        front_line(&ax, &ay, rows, n, v, out);
    if (predicted)
        str_printf(out, "<circle class=\"h\" cx=\"%.1f\" cy=\"%.1f\" r=\"7\"><title>predicted: KL %.3g (%.2g to %.2g)</title></circle>\n",
                   place(&ax, (double)p.size.bytes / 1048576), place(&ay, p.kl.value), p.kl.value, p.kl.low, p.kl.high);
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
    Span v;
    Error why = {0};
    span_of_measured(s, &v);
    if (!v.n)
        return ST_OK;
    if (session_front(s, false, &rows, &n, &why) == ST_NOMEM)
        return error_nomem(err, "the report");
    for (int64_t k = 0; k < n; k++)
        shown += on_front(&rows[k], &v);
    str_puts(out, "<section><h2>KL over size</h2>\n<p class=\"dim\">Each measurement with its standard error; orange: of the present assignment, "
                  "the ring what is predicted for it.");
    str_puts(out, shown > 1 ? " The line is the least KL that is foretold for a size, with its range; the square its knee.</p>\n" : "</p>\n");
    front_svg(s, &v, rows, n, shown, out);
    str_puts(out, "</section>\n");
    free(rows);
    return ST_OK;
}
