#include "ui/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/lang.h"
#include "text/lexer.h"
#include "ui/actions.h"

/* ---- drawing ---- */

void ui_canvas(Ui *ui, int y, int x, const Sheet *c)
{
    static const Slot slot[] = {
        [INK_TEXT] = SL_TEXT,       [INK_DIM] = SL_DIM,   [INK_STRONG] = SL_STRONG,   [INK_HEADER] = SL_HEADER, [INK_BAR] = SL_BAR,
        [INK_CLIP] = SL_CLIP,       [INK_OUTLIER] = SL_OUTLIER, [INK_AXIS] = SL_AXIS, [INK_CURSOR] = SL_MATCH,  [INK_BAD] = SL_FAILED,
        [INK_LOW] = SL_LOW,         [INK_MID] = SL_MID,   [INK_HIGH] = SL_HIGH,
    };
    for (int i = 0; i < c->h; i++) {
        Pen p = pen_at(ui, y + i, x, c->w);
        for (int k = 0; k < c->w; k++)
            if (c->cell[i * c->w + k].c)
                pen_char(&p, slot[c->cell[i * c->w + k].ink], c->cell[i * c->w + k].c);
        pen_to(&p, SL_TEXT, x + c->w);
    }
}

/* Another layer: what was pointed at in the one before means nothing in it. */
static void follow(Ui *ui, int64_t linear)
{
    if (ui->plot_of != linear)
        plot_reset(&ui->plot);
    ui->plot_of = linear;
}

static void draw_keys(Ui *ui, Rect r)
{
    const PlotLook *look = &ui->plot;
    const bool map = plot_is_map(look->kind), full = plot_full(ui), level = look->kind == PLOT_ERROR || look->kind == PLOT_DEQUANT || look->kind == PLOT_GRID;
    LineParts l = {.n = 0};
    part_add(&l, SL_HEADER, 0, "d D plots");
    if (full && look->kind == PLOT_LAYERS)
        part_add(&l, SL_HEADER, 1, "h j k l Enter that layer");
    else if (full && map)
        part_add(&l, SL_HEADER, 1, look->cell ? "Esc out" : look->depth ? "Enter in  Esc out" : "h j k l Enter in");
    else if (full)
        part_add(&l, SL_HEADER, 2, look->zoomed ? "h l cursor  Esc whole" : "h l cursor");
    else
        part_add(&l, SL_HEADER, 1, "Enter larger");
    if (!map)
        part_add(&l, SL_HEADER, 1, "+ - zoom");
    if (level)
        part_add(&l, SL_HEADER, 2, "B level");
    part_add(&l, SL_HEADER, 3, "L log  H table");
    if (map)
        part_add(&l, SL_HEADER, 5, "E largest");
    else
        part_add(&l, SL_HEADER, 4, "%% percentile");
    if (full)
        part_add(&l, SL_HEADER, 3, "J K layer");
    Pen p = pen_at(ui, r.y + r.h - 1, r.x, r.w);
    pen_parts(&p, SL_HEADER, &l, 0);
    pen_fill(&p, SL_HEADER);
}

void plot_pane(Ui *ui, Rect r, int64_t linear)
{
    Sheet c;
    PlotData d;
    Error err = {0};
    if (r.h < 3 || r.w < 12)
        return;
    r.x++;
    r.w--;
    Pen head = pen_at(ui, r.y, r.x, r.w);
    pen_name(&head, SL_STRONG, r.w, ui_model(ui)->linears[linear].name);
    follow(ui, linear);
    plot_map_size(r.w, r.h - 2, &ui->plot);
    if (canvas_init(&c, r.w, r.h - 2, ui->term.glyphs.hist, NULL) != ST_OK)
        return;
    c.vline = ui->term.glyphs.vline;
    if (plot_data(ui_session(ui), linear, &ui->plot, false, NULL, &d, &err) == ST_OK)
        plot_draw(&d, &ui->plot, &c);
    else
        canvas_text(&c, 0, 0, INK_BAD, err.text);
    ui_canvas(ui, r.y + 1, r.x, &c);
    canvas_fini(&c);
    draw_keys(ui, r);
}

/* ---- what is there to look at ---- */

bool plot_full(const Ui *ui)
{
    return ui->side_full && ui->plot.kind != PLOT_ALL;
}

/* The data of the plot as it is shown; false: there is none yet. */
static bool shown_data(Ui *ui, PlotData *d)
{
    const Here at = ui_here(ui);
    if (at.linear < 0 || at.fold >= 0 || ui->plot.kind == PLOT_ALL)
        return false;
    follow(ui, at.linear);
    if (plot_data(ui_session(ui), at.linear, &ui->plot, false, NULL, d, NULL) != ST_OK || d->waits || d->why[0])
        return false;
    plot_resolve(d, &ui->plot);
    return true;
}

const char *refuse_no_layer(Ui *ui)
{
    const char *why = refuse_no_linear(ui);
    return why ? why : ui_here(ui).fold >= 0 ? "a fold has no plots; o opens it" : NULL;
}

const char *refuse_no_plot(Ui *ui)
{
    const char *why = refuse_no_layer(ui);
    return why                              ? why
           : ui->plot.kind == PLOT_ALL    ? "no plot is chosen; d steps through them"
           : ui->layout.side.h == 0       ? "no plot is shown beside the table; Enter shows it"
                                          : NULL;
}

/* Of what histograms the page with everything needs. */
const char *refuse_no_drawing(Ui *ui)
{
    return ui->plot.kind == PLOT_ALL ? refuse_no_result(ui) : refuse_no_layer(ui);
}

/* ---- keys ---- */

Status plot_show(void *ctx, int64_t linear, const PlotLook *look, Error *err)
{
    Ui *ui = ctx;
    (void)err;
    const bool before = ui->plot.before || look->before;
    const bool linear_scale = ui->plot.linear || look->linear, table = ui->plot.table || look->table, largest = ui->plot.largest || look->largest;
    char level[PLOT_LEVEL];
    snprintf(level, sizeof level, "%s", look->level[0] ? look->level : ui->plot.level);
    if (linear >= 0 && linear != ui_here(ui).linear)
        session_set_cursor(ui_session(ui), linear);
    const bool marked = look->marked || (ui->plot.marked && ui->plot.by_share);
    const double share = look->marked ? look->share : ui->plot.share, at = look->marked ? look->at : ui->plot.at;
    const bool by_share = look->marked ? look->by_share : ui->plot.by_share;
    ui->plot = *look;
    ui->plot.still = false;
    ui->plot.before = before;
    ui->plot.linear = linear_scale;
    ui->plot.table = table;
    ui->plot.largest = largest;
    ui->plot.marked = marked;
    ui->plot.by_share = by_share;
    ui->plot.share = share;
    ui->plot.at = at;
    snprintf(ui->plot.level, sizeof ui->plot.level, "%s", level);
    if (!ui->view->side)
        ui_goto(ui, &view_rank);
    if (look->kind != PLOT_ALL && ui->layout.side.h == 0)
        ui->side_full = true;
    ui->plot_of = linear >= 0 ? linear : ui_here(ui).linear;
    return ST_OK;
}

unsigned act_plot_next(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    int kind = ((int)ui->plot.kind + row->arg + PLOT_KINDS) % PLOT_KINDS;
    ui_hold(ui);
    ui_command(ui, "plot %s", plot_name((PlotKind)kind));
    if (ui->command_status == ST_OK && ui->plot.kind == PLOT_ALL)
        ui_say(ui, SL_TEXT, "all details again; d begins with the first of %d plots", PLOT_KINDS - 1);
    else if (ui->command_status == ST_OK)
        ui_say(ui, SL_TEXT, "plot %d of %d: %s", (int)ui->plot.kind, PLOT_KINDS - 1, tr(plot_title(ui->plot.kind)));
    return DO_RELAYOUT;
}

unsigned act_plot_level(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    char next[PLOT_LEVEL];
    plot_level_next(ui_session(ui), ui->plot.level, next);
    snprintf(ui->plot.level, sizeof ui->plot.level, "%s", next);
    plot_reset(&ui->plot);
    if (*next)
        ui_say(ui, SL_TEXT, "plots quantize as %s", next);
    else
        ui_say(ui, SL_TEXT, "plots quantize at the layer's own level");
    return DO_PAINT;
}

static HistWindow window(const PlotData *d, const PlotLook *look)
{
    return look->zoomed ? look->w : plot_whole(d);
}

unsigned act_plot_zoom(Ui *ui, const KeyRow *row, int key)
{
    PlotData d;
    (void)key;
    PlotLook *look = &ui->plot;
    if (look->kind == PLOT_LAYERS)
        return ui_refuse(ui, "all layers and channels are shown; h j k l move, Enter leads to a layer");
    if (look->kind == PLOT_ERROR)
        return ui_refuse(ui, "Enter goes into a field of the map, Esc comes back");
    if (!shown_data(ui, &d))
        return ui_refuse(ui, "there is nothing to zoom yet");
    HistWindow w = window(&d, look);
    double at = look->marked && look->at >= w.lo && look->at <= w.hi ? look->at : (w.lo + w.hi) / 2;
    HistWindow z = histview_zoom(w, at, row->arg > 0 ? 0.5 : 2, plot_limit(&d));
    if (d.value && z.hi - z.lo < 4)
        z = w;
    if (!(z.lo < w.lo || z.hi > w.hi || z.lo > w.lo || z.hi < w.hi))
        return ui_refuse(ui, row->arg > 0 ? "it does not get any narrower" : "that is all there is");
    look->zoomed = true;
    look->w = z;
    return DO_PAINT;
}

unsigned act_plot_pan(Ui *ui, const KeyRow *row, int key)
{
    PlotData d;
    (void)key;
    PlotLook *look = &ui->plot;
    if (plot_is_map(look->kind))
        return ui_refuse(ui, "h j k l move on the map");
    if (!shown_data(ui, &d))
        return ui_refuse(ui, "there is nothing to move yet");
    HistWindow w = window(&d, look), z = histview_pan(w, 0.5 * row->arg, plot_limit(&d));
    if (!(z.lo < w.lo || z.lo > w.lo))
        return ui_refuse(ui, "that is the end; - zooms out");
    look->zoomed = true;
    look->w = z;
    return DO_PAINT;
}

unsigned act_plot_percent(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    PlotLook *look = &ui->plot;
    int next = PLOT_PERCENTILES / 2; /* the median at first */
    if (plot_is_map(look->kind))
        return ui_refuse(ui, "a map has no percentiles");
    if (look->marked && look->by_share)
        for (int i = 0; i < PLOT_PERCENTILES; i++)
            if (fabs(plot_percentiles[i] - look->share) < 1e-9)
                next = (i + 1) % PLOT_PERCENTILES;
    look->marked = look->by_share = true;
    look->share = plot_percentiles[next];
    ui_say(ui, SL_TEXT, "the cursor is at p%g", 100 * look->share);
    return DO_PAINT;
}

unsigned act_plot_largest(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    if (!plot_is_map(ui->plot.kind))
        return ui_refuse(ui, "that is for maps, of errors or of layers; d steps to them");
    ui->plot.largest = !ui->plot.largest;
    return DO_PAINT;
}

unsigned act_plot_linear(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ui->plot.linear = !ui->plot.linear;
    ui_say(ui, SL_TEXT, "plots are drawn %s", tr(ui->plot.linear ? "linearly" : "on a logarithmic scale"));
    return DO_PAINT;
}

const char *refuse_no_changes(Ui *ui)
{
    const char *why = refuse_no_layer(ui);
    return why ? why : work_change(session_recipe(ui_session(ui)), 0) ? NULL
               : "the open recipe has no processor that changes the model, as kv_smooth does";
}

unsigned act_plot_before(Ui *ui, const KeyRow *row, int key)
{
    Str names = {0};
    (void)row, (void)key;
    ui->plot.before = !ui->plot.before;
    work_name_changes(session_recipe(ui_session(ui)), &names);
    ui_say(ui, SL_TEXT, ui->plot.before ? "inputs are shown as they were before %s" : "inputs are shown as they are behind %s",
           str_text(&names));
    str_free(&names);
    return DO_PAINT;
}

unsigned act_plot_table(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ui->plot.table = !ui->plot.table;
    if (ui->plot.table && ui->layout.side.h == 0)
        ui->side_full = true;
    ui_say(ui, SL_TEXT, ui->plot.table ? "plots are tables of numbers; H draws them" : "plots are drawn; H tells their numbers");
    return DO_RELAYOUT;
}

/* ---- moving in it ---- */

/* The channel with the largest value in the window: where a cursor begins. */
static double largest(const PlotData *d, const HistWindow *w)
{
    int64_t at = (int64_t)w->lo;
    for (int64_t i = at; i < d->n && (double)i < w->hi; i++)
        at = d->value[i] > d->value[at] ? i : at;
    return (double)at;
}

static bool move_mark(Ui *ui, PlotData *d, int dx)
{
    PlotLook *look = &ui->plot;
    HistWindow w = window(d, look), limit = plot_limit(d);
    int cells = ui->layout.side.w - 2 - PLOT_AXIS;
    double step = (w.hi - w.lo) / (cells > 1 ? cells : 1);
    if (d->value)
        step = step < 1 ? 1 : floor(step);
    bool within = look->marked && look->at >= w.lo && look->at <= w.hi;
    double at = within ? look->at + dx * step : d->value ? largest(d, &w) : w.lo <= 0 && w.hi > 0 ? 0 : (w.lo + w.hi) / 2;
    if (d->value)
        at = floor(at);
    if (at < limit.lo || at > limit.hi || (d->value && at > (double)(d->n - 1)))
        return false;
    look->marked = true;
    look->by_share = false;
    look->at = at;
    if (at < w.lo || at > w.hi) {
        look->w = histview_pan(w, at < w.lo ? -0.5 : 0.5, limit);
        look->zoomed = true;
    }
    return true;
}

bool plot_move(Ui *ui, int dx, int dy)
{
    PlotData d;
    PlotLook *look = &ui->plot;
    if (!shown_data(ui, &d))
        return false;
    if (!plot_is_map(look->kind))
        return dx != 0 && move_mark(ui, &d, dx);
    int row = look->row + dy, col = look->col + dx;
    int rows, cols;
    plot_map_fields(&d, look, &rows, &cols);
    if (look->cell || row < 0 || col < 0 || row >= rows || col >= cols)
        return false;
    look->row = row;
    look->col = col;
    return true;
}

/* Of a map of layers to the layer of the row. */
static bool enter_layer(Ui *ui)
{
    PlotData d;
    int64_t linear = shown_data(ui, &d) ? plot_layers_linear(&d, &ui->plot) : -1;
    if (linear < 0 || linear == ui_here(ui).linear)
        return false;
    session_set_cursor(ui_session(ui), linear);
    ui->plot_of = linear; /* the map is the same: the cursor stays in it */
    ui_say(ui, SL_TEXT, "%s", ui_model(ui)->linears[linear].name);
    return true;
}

bool plot_enter(Ui *ui)
{
    PlotData d;
    if (plot_full(ui) && ui->plot.kind == PLOT_LAYERS)
        return enter_layer(ui);
    return plot_full(ui) && ui->plot.kind == PLOT_ERROR && shown_data(ui, &d) && plot_into(&d, &ui->plot);
}

bool plot_leave(Ui *ui)
{
    PlotLook *look = &ui->plot;
    if (look->kind == PLOT_ALL || ui->layout.side.h == 0)
        return false;
    if (look->kind == PLOT_ERROR && plot_out(look))
        return true;
    bool was = look->zoomed || (look->marked && ui->side_full);
    look->zoomed = look->marked = false;
    return was;
}
