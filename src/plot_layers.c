/* Largest |input| by layer and channel (specs/analysis.md 9.11), from the channel maxima that passes have kept. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"
#include "src/format.h"
#include "src/lang.h"
#include "src/plot.h"

static bool alike(const Linear *a, const Linear *b)
{
    return a->kind == b->kind && a->expert == b->expert && a->in == b->in;
}

/* The linear of a unit like this one, -1: none. Layers are mostly built alike: the same place is looked at first. */
static int64_t like_in(const Model *m, const Unit *u, const Linear *l, int64_t place)
{
    if (place < u->count && alike(&m->linears[u->first + place], l))
        return u->first + place;
    for (int64_t i = u->first; i < u->first + u->count; i++)
        if (alike(&m->linears[i], l))
            return i;
    return -1;
}

int64_t plot_like(const PlotData *d, bool watched, int32_t *linear)
{
    const Model *m = d->model;
    int64_t n = 0, place = d->linear->layer < 0 ? 0 : d->linear - m->linears - m->units[d->linear->layer].first;
    for (int u = 0; d->linear->layer >= 0 && u < model_depth(m); u++) {
        int64_t i = like_in(m, &m->units[u], d->linear, place);
        const LinearResult *r = i < 0 ? NULL : plot_result(d, i);
        if (i < 0 || (watched && (!r || !r->in.channel_max || r->in.width != d->linear->in)))
            continue;
        if (linear)
            linear[n] = (int32_t)i;
        n++;
    }
    return n;
}

void plot_map_fields(const PlotData *d, const PlotLook *look, int *rows, int *cols)
{
    int64_t n = look->kind == PLOT_LAYERS ? plot_like(d, true, NULL) : 0;
    *rows = n ? (int)min_i64(n, look->rows) : d->picture ? d->picture->heat.rows : 0;
    *cols = n ? (int)min_i64(d->linear->in, look->cols) : d->picture ? d->picture->heat.cols : 0;
}

/* A field: mean and largest of the channel maxima in it. */
static void fill(const PlotData *d, ChannelMap *m)
{
    WeightHeat *h = &m->h;
    double sum = 0;
    for (int r = 0; r < h->rows; r++)
        for (int c = 0; c < h->cols; c++) {
            HeatArea a = plot_field(h, r, c);
            double all = 0, most = 0;
            for (int64_t g = a.group0; g < a.group0 + a.groups; g++) {
                const float *v = plot_result(d, m->linear[g])->in.channel_max;
                for (int64_t k = a.channel0; k < a.channel0 + a.channels; k++) {
                    all += (double)v[k];
                    most = fmax(most, (double)v[k]);
                    if ((double)v[k] > h->top) {
                        h->top = (double)v[k];
                        h->top_group = g;
                        h->top_channel = k;
                    }
                }
            }
            h->mean[r * h->cols + c] = all / (double)(a.groups * a.channels);
            h->max[r * h->cols + c] = most;
            sum += all;
        }
    h->average = sum / (double)(h->groups * h->channels);
}

Status channel_map(const PlotData *d, int rows, int cols, ChannelMap *out, Error *err)
{
    int64_t n = plot_like(d, true, NULL), width = d->linear->in;
    *out = (ChannelMap){.h = {.group = 1, .groups = n, .channels = width, .area = {0, n, 0, width}, .rows = (int)min_i64(n, rows),
                            .cols = (int)min_i64(width, cols)}};
    if (n == 0)
        return error_set(err, ST_DATA, "channels of no layer were watched");
    size_t fields = (size_t)out->h.rows * (size_t)out->h.cols;
    out->linear = mem_array((size_t)n, sizeof *out->linear);
    out->layer = mem_array((size_t)n, sizeof *out->layer);
    out->h.mean = mem_zarray(fields, sizeof *out->h.mean);
    out->h.max = mem_zarray(fields, sizeof *out->h.max);
    if (!out->linear || !out->layer || !out->h.mean || !out->h.max) {
        channel_map_fini(out);
        return error_nomem(err, "a map of layers");
    }
    plot_like(d, true, out->linear);
    for (int64_t i = 0; i < n; i++)
        out->layer[i] = d->model->linears[out->linear[i]].layer;
    fill(d, out);
    return ST_OK;
}

void channel_map_fini(ChannelMap *m)
{
    free(m->linear);
    free(m->layer);
    free(m->h.mean);
    free(m->h.max);
    *m = (ChannelMap){.linear = NULL};
}

int64_t plot_layers_linear(const PlotData *d, const PlotLook *look)
{
    ChannelMap m;
    int64_t linear = -1;
    if (channel_map(d, look->rows, 1, &m, NULL) != ST_OK)
        return -1;
    if (look->row >= 0 && look->row < m.h.rows)
        linear = m.linear[plot_field(&m.h, look->row, 0).group0];
    channel_map_fini(&m);
    return linear;
}

/* ---- drawing ---- */

/* Numbers of the layers that rows [first, first + n) stand for. */
static void layers_text(const ChannelMap *m, int64_t first, int64_t n, char *out, size_t size)
{
    plot_span(out, size, m->layer[first], m->layer[first + n - 1] - m->layer[first] + 1);
}

static void say_cursor(const ChannelMap *m, const PlotLook *look, PlotTexts *foot)
{
    const WeightHeat *h = &m->h;
    HeatArea a = plot_field(h, look->row, look->col);
    char layers[48], channels[48], mean[24], most[24];
    layers_text(m, a.group0, a.groups, layers, sizeof layers);
    plot_span(channels, sizeof channels, a.channel0, a.channels);
    fmt_value(mean, sizeof mean, h->mean[look->row * h->cols + look->col]);
    fmt_value(most, sizeof most, h->max[look->row * h->cols + look->col]);
    plot_say(foot, INK_CURSOR, 7, "^ layers %s, channels %s: mean %s, largest %s; Enter: that layer", layers, channels, mean, most);
}

static void say_map(const PlotData *d, const ChannelMap *m, const PlotLook *look, PlotTexts *head, PlotTexts *foot)
{
    const WeightHeat *h = &m->h;
    char layers[48], mean[24], top[24];
    layers_text(m, 0, h->groups, layers, sizeof layers);
    fmt_value(mean, sizeof mean, h->average);
    fmt_value(top, sizeof top, h->top);
    plot_say(head, INK_HEADER, 9, "%s%s", tr(plot_title(PLOT_LAYERS)), tr(look->largest ? ", largest of each field" : ", mean of each field"));
    plot_say(head, INK_TEXT, 4, "layers %s down, %lld channels across: the inputs of linears like this one", layers, (long long)h->channels);
    if (d->changes[0])
        plot_say(head, INK_TEXT, 3, "%s", d->changes);
    plot_say(foot, INK_DIM, 3, "mean of all %s; largest %s at channel %lld of layer %d", mean, top, (long long)h->top_channel,
             m->layer[h->top_group]);
}

void plot_layers_draw(const PlotData *d, PlotLook *look, Sheet *c)
{
    ChannelMap m;
    Error err = {0};
    PlotTexts head = {.n = 0}, foot = {.n = 0};
    if (channel_map(d, look->rows, look->cols, &m, &err) != ST_OK) {
        canvas_text(c, 0, 0, INK_BAD, err.text);
        return;
    }
    look->row = look->still ? -1 : (int)max_i64(0, min_i64(look->row, m.h.rows - 1));
    look->col = look->still ? -1 : (int)max_i64(0, min_i64(look->col, m.h.cols - 1));
    if (!look->still)
        say_cursor(&m, look, &foot);
    say_map(d, &m, look, &head, &foot);
    plot_map_draw(&m.h, N_("layers"), m.layer, look, &head, &foot, c);
    channel_map_fini(&m);
}
