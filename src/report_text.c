/* The report as text: what the page shows, in eighty columns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "src/axis.h"
#include "src/plot.h"
#include "src/reportdata.h"

enum { WIDE = 78, WORST = 3, RANKED = 20, PLOT_HIGH = 16, CHART_HIGH = 17, LEFT = 10 };

static void heading(Str *out, const char *text)
{
    str_printf(out, "\n%s\n", text);
    for (size_t i = 0; text[i]; i++)
        str_putc(out, '-');
    str_putc(out, '\n');
}

/* Lines broken at blanks. */
static void wrapped(Str *out, const char *text)
{
    while (*text) {
        size_t n = strlen(text), cut = n;
        if (n > WIDE + 1)
            for (cut = WIDE + 1; cut > WIDE / 2 && text[cut] != ' '; cut--)
                ;
        str_append(out, text, cut);
        str_putc(out, '\n');
        text += cut + (text[cut] == ' ');
    }
}

static Status print_sheet(Sheet *c, Str *out)
{
    canvas_print(c, out);
    canvas_fini(c);
    return ST_OK;
}

/* ---- what is open, what was decided ---- */

static void opened(Session *s, Str *out)
{
    const Model *m = session_model(s);
    const Recipe *r = session_recipe(s);
    DataInfo calib = session_calib_info(s), eval = session_eval_info(s);
    str_printf(out, "%s: %s, %d layers, %.4g million parameters\n", path_base(m->path), m->arch ? m->arch->title : m->cfg.model_type,
               m->cfg.layers, (double)m->params / 1e6);
    str_printf(out, "%lld linears in %lld fused groups, recipe %s", (long long)m->nlinears, (long long)m->ngroups, r ? recipe_name(r) : "none");
    if (calib.samples)
        str_printf(out, "\ncalibrated on %s, %d texts, %lld tokens", path_base(calib.name), calib.samples, (long long)calib.tokens);
    if (eval.samples)
        str_printf(out, "; evaluated on %s", path_base(eval.name));
    str_putc(out, '\n');
}

static Status decision(Session *s, Str *out, Error *err)
{
    Prediction p = session_predict(s);
    if (p.no_memory)
        return error_nomem(err, "the prediction");
    heading(out, "The decision, and what was measured");
    str_bytes(out, p.size.bytes);
    str_puts(out, " of ");
    str_bytes(out, p.size.float_bytes);
    str_printf(out, " in float, %.4g bits a weight, %lld of %lld linears quantized\n", p.size.average_bits, (long long)p.size.quantized,
               (long long)(p.size.quantized + p.size.floats));
    Str text = {0};
    str_puts(&text, "predicted: ");
    output_prediction(&p, &text);
    wrapped(out, str_text(&text));
    out->oom = out->oom || text.oom;
    str_free(&text);
    for (int i = 0; i < session_measurements(s); i++) {
        Measurement m = session_measurement(s, i);
        SizeReport size;
        str_printf(out, "#%d%s: KL %.4g +- %.2g, perplexity %.4g (float %.4g)", m.id, m.present ? " (present)" : "", m.effect->kl_mean,
                   m.effect->kl_se, m.effect->ppl_quant, m.effect->ppl_float);
        if (session_measurement_size(s, &m, &size)) {
            str_puts(out, ", ");
            str_bytes(out, size.bytes);
        }
        str_putc(out, '\n');
    }
    return ST_OK;
}

/* ---- charts with two axes ---- */

typedef struct Chart {
    Sheet c;
    Axis x, y;
} Chart;

static Status chart_new(Chart *ch, const double lo[2], const double hi[2], HistForm form, Error *err)
{
    RETURN_IF_ERROR(canvas_init(&ch->c, WIDE, CHART_HIGH + 2, form, err));
    ch->x = axis_of(lo[0], hi[0], LEFT + 1, WIDE - 3);
    ch->y = axis_of(lo[1], hi[1], CHART_HIGH - 1, 1);
    return ST_OK;
}

static void chart_axes(Chart *ch, const char *x, const char *y)
{
    double t[AXIS_TICKS];
    char text[24];
    for (int i = 1; i < CHART_HIGH; i++)
        canvas_put(&ch->c, i, LEFT, INK_AXIS, ch->c.vline);
    for (int i = LEFT; i < WIDE; i++)
        canvas_put(&ch->c, CHART_HIGH, i, INK_AXIS, L'-');
    for (int i = 0, n = axis_ticks(&ch->y, t); i < n; i++) {
        snprintf(text, sizeof text, "%.3g", t[i]);
        canvas_right(&ch->c, (int)lround(axis_place(&ch->y, t[i])), LEFT - 1, INK_AXIS, text);
    }
    for (int i = 0, n = axis_ticks(&ch->x, t); i < n; i++) {
        int at = (int)lround(axis_place(&ch->x, t[i]));
        snprintf(text, sizeof text, "%.4g", t[i]);
        canvas_put(&ch->c, CHART_HIGH, at, INK_AXIS, L'+');
        int from = at - canvas_width(text) / 2;
        canvas_text(&ch->c, CHART_HIGH + 1, from < 0 ? 0 : from, INK_AXIS, text);
    }
    int at = canvas_text(&ch->c, 0, 2, INK_DIM, "up: ");
    at = canvas_text(&ch->c, 0, at, INK_DIM, y);
    at = canvas_text(&ch->c, 0, at, INK_DIM, ", to the right: ");
    canvas_text(&ch->c, 0, at, INK_DIM, x);
}

static void chart_put(Chart *ch, double x, double y, wchar_t c)
{
    canvas_put(&ch->c, (int)lround(axis_place(&ch->y, y)), (int)lround(axis_place(&ch->x, x)), INK_TEXT, c);
}

/* The mark of one point more where there was `was`. */
static wchar_t denser(wchar_t was)
{
    return was == L'.' ? L'o' : was == L'o' || was == L'@' ? L'@' : L'.';
}

static Status scatter(const Session *s, const Metric *x, const Metric *y, HistForm form, Str *out, Error *err)
{
    double lo[2] = {INFINITY, INFINITY}, hi[2] = {-INFINITY, -INFINITY}, v[2];
    int64_t n = 0;
    Chart ch;
    char title[160];
    for (int64_t i = 0; i < session_model(s)->nlinears; i++)
        if (report_both(s, x, y, i, v)) {
            axis_extend(v[0], &lo[0], &hi[0]);
            axis_extend(v[1], &lo[1], &hi[1]);
            n++;
        }
    if (n < 2)
        return ST_OK;
    snprintf(title, sizeof title, "%s over %s", y->name, x->name);
    heading(out, title);
    RETURN_IF_ERROR(chart_new(&ch, lo, hi, form, err));
    chart_axes(&ch, x->name, y->name);
    for (int64_t i = 0; i < session_model(s)->nlinears; i++) {
        if (!report_both(s, x, y, i, v))
            continue;
        int px = (int)lround(axis_place(&ch.x, v[0])), py = (int)lround(axis_place(&ch.y, v[1]));
        chart_put(&ch, v[0], v[1], session_level_of(s, i) ? denser(ch.c.cell[py * WIDE + px].c) : L'x');
    }
    print_sheet(&ch.c, out);
    str_puts(out, "  . one linear, o two, @ more; x is float now\n");
    return ST_OK;
}

/* ---- KL over size ---- */

static void front_points(Session *s, Chart *ch, const FrontRow *rows, int64_t n, const FrontSpan *v)
{
    for (int64_t k = 0; k < n; k++)
        if (report_on_front(&rows[k], v))
            chart_put(ch, (double)rows[k].bytes / 1048576, rows[k].kl.value, L'.');
    for (int64_t k = 0; k < n; k++)
        if (rows[k].knee && report_on_front(&rows[k], v))
            chart_put(ch, (double)rows[k].bytes / 1048576, rows[k].kl.value, L'K');
    for (int i = 0; i < session_measurements(s); i++) {
        Measurement m = session_measurement(s, i);
        SizeReport size;
        if (!session_measurement_size(s, &m, &size) || !isfinite(m.effect->kl_mean))
            continue;
        int x = (int)lround(axis_place(&ch->x, (double)size.bytes / 1048576)), y = (int)lround(axis_place(&ch->y, m.effect->kl_mean));
        char text[24];
        snprintf(text, sizeof text, "%c%d", m.present ? '*' : '#', m.id);
        canvas_text(&ch->c, y, x, INK_STRONG, text);
    }
}

static Status front(Session *s, HistForm form, Str *out, Error *err)
{
    FrontRow *rows = NULL;
    int64_t n = 0, shown = 0;
    FrontSpan v = report_span(s), all = v;
    Error why = {0};
    Chart ch;
    if (!v.n)
        return ST_OK;
    if (session_front(s, false, &rows, &n, &why) == ST_NOMEM)
        return error_nomem(err, "the report");
    for (int64_t k = 0; k < n; k++)
        if (report_on_front(&rows[k], &v)) {
            axis_extend((double)rows[k].bytes / 1048576, &all.lo[0], &all.hi[0]);
            axis_extend(rows[k].kl.value, &all.lo[1], &all.hi[1]);
            shown++;
        }
    heading(out, "KL over size");
    Status st = chart_new(&ch, all.lo, all.hi, form, err);
    if (st == ST_OK) {
        chart_axes(&ch, "MiB", "KL, nats a token");
        front_points(s, &ch, rows, n, &v);
        print_sheet(&ch.c, out);
        str_printf(out, "  #1 measured, * of the present assignment%s\n", shown > 1 ? "; . the least KL foretold for a size, K its knee" : "");
    }
    free(rows);
    return st;
}

/* ---- a metric over the layers ---- */

static Status layers(const Session *s, const Metric *m, HistForm form, Str *out, Error *err)
{
    enum { NAME = 22, ROOM = WIDE - NAME - 1 };
    LayerMap *h;
    Sheet c;
    char title[160];
    RETURN_IF_ERROR(layermap_make(s, m, &h, err));
    int cols = h->layers < ROOM ? h->layers : ROOM;
    Status st = h->kinds && h->hi >= h->lo ? canvas_init(&c, WIDE, h->kinds + 1, form, err) : ST_OK;
    if (st != ST_OK || !h->kinds || !(h->hi >= h->lo)) {
        layermap_free(h);
        return st;
    }
    snprintf(title, sizeof title, "Where %s is high: layers 0 to %d from left to right", m->name, h->layers - 1);
    heading(out, title);
    for (int k = 0; k < h->kinds; k++) {
        char name[LAYERMAP_NAME];
        snprintf(name, sizeof name, "%.*s", NAME - 1, h->kind[k]);
        canvas_right(&c, k, NAME - 1, INK_TEXT, name);
        for (int x = 0; x < cols; x++) {
            double t = -1;
            for (int l = x * h->layers / cols; l < (x + 1) * h->layers / cols; l++) {
                double v = h->value[(size_t)k * (size_t)h->layers + (size_t)l];
                t = isnan(v) ? t : fmax(t, layermap_share(h, v));
            }
            canvas_put(&c, k, NAME + x, INK_TEXT, t < 0 ? L' ' : chart_shade(form, fmax(t, 0.01)));
        }
    }
    for (int l = 0; l < h->layers; l += 10) {
        char text[12];
        snprintf(text, sizeof text, "%d", l);
        canvas_text(&c, h->kinds, NAME + l * cols / h->layers, INK_AXIS, text);
    }
    print_sheet(&c, out);
    str_printf(out, "  the darker the higher%s, from %.4g to %.4g", h->lo > 0 ? " (logarithmic)" : "", h->lo, h->hi);
    str_puts(out, h->layers > cols ? "; a cell of several layers shows the most sensitive\n" : "\n");
    layermap_free(h);
    return ST_OK;
}

/* ---- rankings ---- */

static Status ranking(const Session *s, const Metric *m, HistForm form, Str *out, Error *err)
{
    enum { BAR = 16 };
    RankedRow *row;
    int64_t n;
    double top = 0, low = INFINITY;
    Str name = {0};
    RETURN_IF_ERROR(ranking_make(s, m, NULL, &row, &n, err));
    heading(out, m->title);
    for (int64_t i = 0; i < n; i++)
        if (row[i].rank && row[i].score > 0) {
            top = fmax(top, row[i].score);
            low = fmin(low, row[i].score);
        }
    for (int64_t i = 0; i < n && i < RANKED; i++) {
        str_clear(&name);
        scope_unit_name(session_model(s), m->scope, row[i].unit, &name);
        if (!row[i].rank) {
            str_printf(out, "   %c  %-44.44s %s\n", row[i].failed ? '!' : '?', str_text(&name), row[i].reason ? row[i].reason : "");
            continue;
        }
        double t = !(row[i].score > 0) ? 0 : top > low ? log(row[i].score / low) / log(top / low) : 1;
        str_printf(out, "%4d%c %-44.44s %10.4g  ", row[i].rank, row[i].tied ? '=' : ' ', str_text(&name), row[i].score);
        for (int k = 0; k < (int)lround(fmax(t, row[i].score > 0 ? 0.05 : 0) * BAR); k++)
            str_puts(out, form == HIST_ASCII ? "#" : form == HIST_BLOCK ? "\xe2\x96\x88" : "\xe2\xa3\xbf");
        str_putc(out, '\n');
    }
    if (n > RANKED)
        str_printf(out, "      ... and %lld more\n", (long long)(n - RANKED));
    out->oom = out->oom || name.oom;
    str_free(&name);
    free(row);
    return ST_OK;
}

/* ---- the worst layers ---- */

static Status layer_plot(Session *s, int64_t linear, PlotKind kind, HistForm form, Str *out, Error *err)
{
    PlotLook look = {.kind = kind, .still = true};
    PlotData d;
    Sheet c;
    plot_map_size(WIDE, PLOT_HIGH, &look);
    RETURN_IF_ERROR(plot_data(s, linear, &look, true, NULL, &d, err));
    if (d.why[0])
        return ST_OK;
    RETURN_IF_ERROR(canvas_init(&c, WIDE, PLOT_HIGH, form, err));
    plot_draw(&d, &look, &c);
    str_putc(out, '\n');
    return print_sheet(&c, out);
}

static Status worst(Session *s, const Metric *m, HistForm form, Str *out, Error *err)
{
    static const PlotKind kinds[] = {PLOT_INPUT, PLOT_GRID, PLOT_CHANNELS, PLOT_DEQUANT, PLOT_ERROR};
    int64_t linear[WORST], values = 0;
    double score[WORST];
    int n;
    RETURN_IF_ERROR(report_worst(s, m, WORST, linear, score, &n, err));
    for (int k = 0; k < n; k++) {
        const Linear *l = &session_model(s)->linears[linear[k]];
        char title[400];
        snprintf(title, sizeof title, "%s: %s %.4g", l->name, m->name, score[k]);
        heading(out, title);
        values += l->out * l->in;
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (i < 3 || values <= REPORT_VALUES)
                RETURN_IF_ERROR(layer_plot(s, linear[k], kinds[i], form, out, err));
    }
    return ST_OK;
}

Status report_text(Session *s, int form, Str *out, Error *err)
{
    const Metric *shown = report_metric(s), *other = shown ? report_beside(s, shown) : NULL, *alone = metric_find("alone");
    if (shown && alone && alone != shown && session_has_run(s, alone))
        other = alone;
    opened(s, out);
    RETURN_IF_ERROR(decision(s, out, err));
    RETURN_IF_ERROR(front(s, (HistForm)form, out, err));
    if (shown) {
        RETURN_IF_ERROR(ranking(s, shown, (HistForm)form, out, err));
        RETURN_IF_ERROR(layers(s, shown, (HistForm)form, out, err));
        if (other)
            RETURN_IF_ERROR(scatter(s, shown, other, (HistForm)form, out, err));
        RETURN_IF_ERROR(worst(s, shown, (HistForm)form, out, err));
    }
    return out->oom ? error_nomem(err, "the report") : ST_OK;
}
