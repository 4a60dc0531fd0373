/* The error of a weight as a map of groups by channels, on a canvas, down to the values of one group. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "src/format.h"
#include "src/lang.h"
#include "src/plot.h"

enum { LABEL = 7, SENTENCE = 88 }; /* cells left of a map; of one of the four sentences around it */

void plot_map_size(int w, int h, PlotLook *look)
{
    int lines = w > 0 ? 4 * ((SENTENCE + w - 1) / w) : 4, rows = h - lines - 1;
    look->rows = rows >= 4 ? rows : h - 2 > 4 ? 4 : h - 2 > 1 ? h - 2 : 1;
    look->cols = w - LABEL - 1 > 1 ? w - LABEL - 1 : 1;
}

/* Cells i of [0, n) with i * parts / n == k: from the first on, how many. */
static void part_of(int64_t n, int parts, int k, int64_t *first, int64_t *count)
{
    *first = div_up(k * n, parts);
    *count = div_up((k + 1) * n, parts) - *first;
}

HeatArea plot_field(const WeightHeat *h, int row, int col)
{
    HeatArea a;
    part_of(h->area.groups, h->rows, row, &a.group0, &a.groups);
    part_of(h->area.channels, h->cols, col, &a.channel0, &a.channels);
    a.group0 += h->area.group0;
    a.channel0 += h->area.channel0;
    return a;
}

bool plot_is_map(PlotKind k)
{
    return k == PLOT_ERROR || k == PLOT_LAYERS;
}

bool plot_into(const PlotData *d, PlotLook *look)
{
    if (!d->picture || d->why[0] || look->cell || look->depth == PLOT_DEPTH)
        return false;
    const WeightHeat *h = &d->picture->heat;
    HeatArea a = plot_field(h, look->row < h->rows ? look->row : h->rows - 1, look->col < h->cols ? look->col : h->cols - 1);
    look->area[look->depth++] = a;
    look->cell = a.groups == 1 && a.channels == 1;
    look->row = look->col = 0;
    return true;
}

bool plot_out(PlotLook *look)
{
    if (!look->depth)
        return false;
    look->depth--;
    look->cell = false;
    look->row = look->col = 0;
    return true;
}

/* ---- the map ---- */

typedef struct Shades {
    const WeightHeat *h;
    const double *v;   /* [rows][cols] */
    double top, low;
    int fy, fx;        /* cells of the canvas that a field takes */
    const int *number; /* of groups; NULL: as they come */
} Shades;

static int64_t number_of(const Shades *m, int64_t group)
{
    return m->number ? m->number[group] : group;
}

static double share_of(const Shades *m, double v, bool linear)
{
    if (!(v > 0) || !(m->top > 0))
        return 0;
    if (linear || !(m->top > m->low))
        return v / m->top;
    return v <= m->low ? 0.001 : log(v / m->low) / log(m->top / m->low);
}

static Shades map_of(const WeightHeat *h, const PlotLook *look)
{
    Shades m = {.h = h, .v = look->largest ? h->max : h->mean, .low = INFINITY};
    for (int i = 0; i < h->rows * h->cols; i++) {
        m.top = fmax(m.top, m.v[i]);
        m.low = m.v[i] > 0 ? fmin(m.low, m.v[i]) : m.low;
    }
    m.low = fmax(m.low, m.top * 1e-4);
    m.fy = look->rows / h->rows > 1 ? look->rows / h->rows : 1;
    m.fx = look->cols / h->cols > 1 ? look->cols / h->cols : 1;
    return m;
}

static void draw_map(const Shades *m, const PlotLook *look, Sheet *c, int top)
{
    const WeightHeat *h = m->h;
    for (int r = 0; r < h->rows; r++) {
        HeatArea a = plot_field(h, r, 0);
        char label[24];
        snprintf(label, sizeof label, "%lld", (long long)number_of(m, a.group0));
        canvas_right(c, top + r * m->fy, LABEL - 2, r == look->row ? INK_CURSOR : INK_AXIS, label);
        for (int y = top + r * m->fy; y < top + (r + 1) * m->fy; y++) {
            canvas_put(c, y, LABEL - 1, INK_AXIS, r == look->row ? L'>' : c->vline);
            for (int x = 0; x < h->cols * m->fx; x++) {
                double t = share_of(m, m->v[r * h->cols + x / m->fx], look->linear);
                bool here = r == look->row && x / m->fx == look->col;
                Ink ink = here ? INK_CURSOR : t > 2.0 / 3 ? INK_HIGH : t > 1.0 / 3 ? INK_MID : INK_LOW;
                canvas_put(c, y, LABEL + x, ink, chart_shade(c->form, t));
            }
        }
    }
    int foot = top + h->rows * m->fy;
    for (int x = 0; x < m->fx && look->row >= 0; x++)
        canvas_put(c, foot, LABEL + look->col * m->fx + x, INK_CURSOR, L'^');
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)h->area.channel0);
    if (look->col < 0 || look->col * m->fx > canvas_width(text))
        canvas_text(c, foot, LABEL, INK_AXIS, text);
    snprintf(text, sizeof text, "%lld", (long long)(h->area.channel0 + h->area.channels - 1));
    if ((look->col + 1) * m->fx < h->cols * m->fx - canvas_width(text))
        canvas_right(c, foot, LABEL + h->cols * m->fx, INK_AXIS, text);
}

static int by_value(const void *a, const void *b, void *values)
{
    const double *v = values;
    int i = *(const int *)a, j = *(const int *)b;
    return v[i] > v[j] ? -1 : v[i] < v[j] ? 1 : i - j;
}

void plot_span(char *out, size_t size, int64_t first, int64_t n)
{
    if (n == 1)
        snprintf(out, size, "%lld", (long long)first);
    else
        snprintf(out, size, "%lld-%lld", (long long)first, (long long)(first + n - 1));
}

/* The worst fields first, as many as there are lines. */
static void draw_fields(const Shades *m, const char *down, Sheet *c, int from, int to)
{
    static const int at[] = {16, 32, 44, 56};
    const char *const titles[] = {down, N_("channels"), N_("mean"), N_("largest")};
    const WeightHeat *h = m->h;
    int n = h->rows * h->cols, *order = malloc((size_t)n * sizeof *order);
    for (int k = 0; k < 4; k++)
        canvas_right(c, from, at[k], INK_HEADER, tr(titles[k]));
    if (!order)
        return;
    for (int i = 0; i < n; i++)
        order[i] = i;
    qsort_r(order, (size_t)n, sizeof *order, by_value, (void *)(uintptr_t)m->v);
    for (int i = 0; i < n && from + 1 + i < to; i++) {
        char text[4][40];
        HeatArea a = plot_field(h, order[i] / h->cols, order[i] % h->cols);
        int64_t first = number_of(m, a.group0);
        plot_span(text[0], sizeof text[0], first, number_of(m, a.group0 + a.groups - 1) - first + 1);
        plot_span(text[1], sizeof text[1], a.channel0, a.channels);
        fmt_value(text[2], sizeof text[2], h->mean[order[i]]);
        fmt_value(text[3], sizeof text[3], h->max[order[i]]);
        for (int k = 0; k < 4; k++)
            canvas_right(c, from + 1 + i, at[k], INK_TEXT, text[k]);
    }
    free(order);
}

static void say_under_cursor(const Shades *m, const PlotLook *look, PlotTexts *p)
{
    const WeightHeat *h = m->h;
    HeatArea a = plot_field(h, look->row, look->col);
    char groups[48], channels[48], mean[24], most[24];
    plot_span(groups, sizeof groups, a.group0, a.groups);
    plot_span(channels, sizeof channels, a.channel0, a.channels);
    fmt_value(mean, sizeof mean, h->mean[look->row * h->cols + look->col]);
    fmt_value(most, sizeof most, h->max[look->row * h->cols + look->col]);
    plot_say(p, INK_CURSOR, 7, "^ groups %s, channels %s: mean %s, largest %s", groups, channels, mean, most);
}

static void say_map(const PlotData *d, const PlotLook *look, PlotTexts *head, PlotTexts *foot)
{
    const WeightHeat *h = &d->picture->heat;
    char mean[24], top[24], groups[48], channels[48];
    plot_span(groups, sizeof groups, h->area.group0, h->area.groups);
    plot_span(channels, sizeof channels, h->area.channel0, h->area.channels);
    fmt_value(mean, sizeof mean, h->average);
    fmt_value(top, sizeof top, h->top);
    plot_say(head, INK_HEADER, 9, "%s%s", tr(plot_title(PLOT_ERROR)), tr(look->largest ? ", largest of each field" : ", mean of each field"));
    plot_say(head, INK_TEXT, 4, "%s; groups of %lld: %s down, channels %s across", d->level, (long long)h->group, groups, channels);
    if (d->changes[0])
        plot_say(head, INK_TEXT, 3, "%s", d->changes);
    plot_say(foot, INK_DIM, 3, "mean of all %s; largest %s at group %lld of channel %lld", mean, top, (long long)h->top_group,
             (long long)h->top_channel);
}

void plot_map_draw(const WeightHeat *h, const char *down, const int *number, PlotLook *look, PlotTexts *head, PlotTexts *foot, Sheet *c)
{
    Shades m = map_of(h, look);
    int from, to;
    m.number = number;
    plot_around(c, head, foot, h->rows * m.fy + 1, &from, &to);
    if (look->table)
        draw_fields(&m, down, c, from, to);
    else
        draw_map(&m, look, c, from);
}

static void draw_whole_map(const PlotData *d, PlotLook *look, Sheet *c)
{
    const WeightHeat *h = &d->picture->heat;
    Shades m = map_of(h, look);
    PlotTexts head = {.n = 0}, foot = {.n = 0};
    look->row = look->still ? -1 : look->row < 0 ? 0 : look->row < h->rows ? look->row : h->rows - 1;
    look->col = look->still ? -1 : look->col < 0 ? 0 : look->col < h->cols ? look->col : h->cols - 1;
    if (!look->still)
        say_under_cursor(&m, look, &foot);
    say_map(d, look, &head, &foot);
    plot_map_draw(h, N_("groups"), NULL, look, &head, &foot, c);
}

/* ---- one group ---- */

static void draw_cell(const PlotData *d, Sheet *c)
{
    enum { WIDE = 38, HEAD = 2 };
    const WeightCell *w = &d->picture->cell;
    int lines = c->h - HEAD - 1, columns = c->w / WIDE > 1 ? c->w / WIDE : 1;
    canvas_say(c, 0, 0, INK_HEADER, "group %lld of channel %lld: its %lld values, as they become", (long long)w->group,
                   (long long)w->channel, (long long)w->n);
    canvas_text(c, 1, 0, INK_TEXT, d->level);
    double sum = 0;
    for (int64_t i = 0; i < w->n; i++) {
        double e = (double)w->made[i] - (double)w->value[i];
        char col[24], v[24], m[24];
        sum += e * e;
        int k = lines > 1 ? (int)(i / (lines - 1)) : 0, y = HEAD + 1 + (lines > 1 ? (int)(i % (lines - 1)) : 0);
        if (k >= columns || lines < 2)
            continue;
        snprintf(col, sizeof col, "%lld", (long long)(w->first + i));
        fmt_value(v, sizeof v, (double)w->value[i]);
        fmt_value(m, sizeof m, (double)w->made[i]);
        canvas_right(c, y, k * WIDE + 8, INK_DIM, col);
        canvas_right(c, y, k * WIDE + 21, INK_TEXT, v);
        canvas_right(c, y, k * WIDE + 34, e != 0 ? INK_TEXT : INK_DIM, m);
    }
    for (int k = 0; k < columns && k * (lines - 1) < w->n; k++) {
        canvas_right(c, HEAD, k * WIDE + 8, INK_HEADER, tr("column"));
        canvas_right(c, HEAD, k * WIDE + 21, INK_HEADER, tr("value"));
        canvas_right(c, HEAD, k * WIDE + 34, INK_HEADER, tr("dequantized"));
    }
    char mean[24];
    fmt_value(mean, sizeof mean, sum / (double)w->n);
    canvas_say(c, c->h - 1, 0, INK_TEXT, "mean square error %s", mean);
}

static void heat_draw(const PlotData *d, PlotLook *look, Sheet *c)
{
    if (look->cell)
        draw_cell(d, c);
    else
        draw_whole_map(d, look, c);
}

void plot_draw(PlotData *d, PlotLook *look, Sheet *c)
{
    if (!d->waits && !d->why[0])
        plot_resolve(d, look);
    if (d->waits || d->why[0]) {
        const char *title = tr(plot_title(look->kind));
        canvas_wrap(c, 0, INK_HEADER, title);
        canvas_wrap(c, canvas_lines(c->w, title), d->waits ? INK_DIM : INK_TEXT, d->waits ? tr("reading the weight ...") : d->why);
    } else if (look->kind == PLOT_ERROR) {
        heat_draw(d, look, c);
    } else if (look->kind == PLOT_LAYERS) {
        plot_layers_draw(d, look, c);
    } else if (d->value) {
        plot_profile_draw(d, look, c);
    } else {
        plot_hist_draw(d, look, c);
    }
}
