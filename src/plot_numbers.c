/* Plots as numbers: JSON and CSV. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "src/plot.h"

enum { BINS = 100 };

static void put_number(Str *out, double v)
{
    str_double(out, v);
}

typedef struct Numbers {
    const char *const *column;
    int columns;
    int64_t rows;
    double (*at)(const void *ctx, int64_t row, int column);
    const void *ctx;
} Numbers;

static void put_csv(const Numbers *t, Str *out)
{
    for (int c = 0; c < t->columns; c++)
        str_printf(out, "%s%s", c ? "," : "", t->column[c]);
    for (int64_t r = 0; r < t->rows; r++)
        for (int c = 0; c < t->columns; c++) {
            str_puts(out, c ? "," : "\n");
            put_number(out, t->at(t->ctx, r, c));
        }
    str_putc(out, '\n');
}

static void put_json(const PlotData *d, const PlotLook *look, const Numbers *t, Str *out)
{
    str_puts(out, "{\"name\":");
    str_json(out, d->linear->name);
    str_printf(out, ",\"plot\":\"%s\",\"level\":", plot_name(look->kind));
    if (d->leveled)
        str_json(out, d->level);
    else
        str_puts(out, "null");
    if (look->kind == PLOT_DEQUANT) {
        str_puts(out, ",\"error\":");
        put_number(out, plot_loss(d));
    }
    for (int c = 0; c < t->columns; c++) {
        str_printf(out, ",\n\"%s\":[", t->column[c]);
        for (int64_t r = 0; r < t->rows; r++) {
            str_puts(out, r ? "," : "");
            put_number(out, t->at(t->ctx, r, c));
        }
        str_putc(out, ']');
    }
    str_puts(out, "}\n");
}

typedef struct BinsOf {
    HistBins bins, over;
} BinsOf;

static double bin_at(const void *ctx, int64_t row, int column)
{
    const BinsOf *b = ctx;
    double wide = (b->bins.w.hi - b->bins.w.lo) / b->bins.n;
    return column < 2 ? b->bins.w.lo + wide * (double)(row + column) : column == 2 ? b->bins.count[row] : b->over.count[row];
}

static double channel_at(const void *ctx, int64_t row, int column)
{
    const PlotData *d = ctx;
    return column ? (double)d->value[row] : (double)row;
}

static double field_at(const void *ctx, int64_t row, int column)
{
    const WeightHeat *h = ctx;
    HeatArea a = plot_field(h, (int)(row / h->cols), (int)(row % h->cols));
    return column == 0 ? (double)a.group0 : column == 1 ? (double)a.channel0 : (column == 2 ? h->mean : h->max)[row];
}

static double value_at(const void *ctx, int64_t row, int column)
{
    const WeightCell *c = ctx;
    return column == 0 ? (double)(c->first + row) : (double)(column == 1 ? c->value : c->made)[row];
}

static void put_numbers(const PlotData *d, const PlotLook *look, OutFormat f, const Numbers *t, Str *out)
{
    if (f == OUT_JSON)
        put_json(d, look, t, out);
    else
        put_csv(t, out);
}

static Status bins_out(const PlotData *d, const PlotLook *look, OutFormat f, Str *out, Error *err)
{
    static const char *const names[] = {"from", "to", "count", "dequantized"};
    HistWindow w = look->zoomed ? look->w : plot_limit(d);
    BinsOf b = {0};
    Status st = histview_bins(d->h, w, BINS, false, &b.bins, err);
    if (st == ST_OK && d->over_grid)
        st = histview_grid_bins(d->h, &d->grid, w, BINS, &b.over, err);
    else if (st == ST_OK && d->over)
        st = histview_bins(d->over, w, BINS, false, &b.over, err);
    if (st == ST_OK)
        put_numbers(d, look, f, &(Numbers){names, b.over.count ? 4 : 3, BINS, bin_at, &b}, out);
    free(b.bins.count);
    free(b.over.count);
    return st;
}

static double layer_at(const void *ctx, int64_t row, int column)
{
    const ChannelMap *l = ctx;
    int64_t layer = row / l->h.channels, channel = row % l->h.channels;
    return column == 0 ? (double)l->layer[layer] : column == 1 ? (double)channel : l->h.max[row];
}

/* Every channel of every layer. */
static Status layers_out(const PlotData *d, const PlotLook *look, OutFormat f, Str *out, Error *err)
{
    static const char *const names[] = {"layer", "channel", "largest"};
    ChannelMap l;
    RETURN_IF_ERROR(channel_map(d, INT_MAX, INT_MAX, &l, err));
    put_numbers(d, look, f, &(Numbers){names, 3, l.h.groups * l.h.channels, layer_at, &l}, out);
    channel_map_fini(&l);
    return ST_OK;
}

Status plot_numbers(const PlotData *d, const PlotLook *look, OutFormat f, Str *out, Error *err)
{
    static const char *const channels[] = {"channel", "largest"}, *const fields[] = {"group", "channel", "mean", "max"},
                      *const values[] = {"column", "value", "dequantized"};
    if (d->why[0])
        return error_set(err, ST_DATA, "%s: %s", d->linear->name, d->why);
    if (look->kind == PLOT_LAYERS)
        return layers_out(d, look, f, out, err);
    if (look->kind == PLOT_ERROR && look->cell)
        put_numbers(d, look, f, &(Numbers){values, 3, d->picture->cell.n, value_at, &d->picture->cell}, out);
    else if (look->kind == PLOT_ERROR)
        put_numbers(d, look, f, &(Numbers){fields, 4, (int64_t)d->picture->heat.rows * d->picture->heat.cols, field_at, &d->picture->heat}, out);
    else if (d->value)
        put_numbers(d, look, f, &(Numbers){channels, 2, d->n, channel_at, d}, out);
    else
        return bins_out(d, look, f, out, err);
    return ST_OK;
}
