#ifndef SLIM_UI_PLOT_H
#define SLIM_UI_PLOT_H

#include "ui/keys.h"

/* The plots of a layer on the screen: drawn on a canvas by src/plot.h, looked at by keys. */

/* Puts a canvas on the screen at (y, x). */
void ui_canvas(Ui *ui, int y, int x, const Sheet *c);
/* The layer's plot that is chosen (ui->plot.kind, not PLOT_ALL), with its name above and the keys below. */
void plot_pane(Ui *ui, Rect r, int64_t linear);
/* App.show_plot. */
Status plot_show(void *ctx, int64_t linear, const PlotLook *look, Error *err);

/* Whether the details fill the screen with a plot: keys that move in it have no other meaning then. */
bool plot_full(const Ui *ui);
/* Moves the cursor of a plot that fills the screen; false: it can't go there, or it is not for this plot. */
bool plot_move(Ui *ui, int dx, int dy);
/* Enter and Esc in one: into the field of a map, out of it, of a zoom; false: there is nothing to do. */
bool plot_enter(Ui *ui);
bool plot_leave(Ui *ui);

/* Keys: the next plot or the one before (row->arg), level, zoom, pan, percentile, largest instead of mean, counts, numbers, before the
 * recipe changes the model. */
unsigned act_plot_next(Ui *ui, const KeyRow *row, int key), act_plot_level(Ui *ui, const KeyRow *row, int key),
    act_plot_zoom(Ui *ui, const KeyRow *row, int key), act_plot_pan(Ui *ui, const KeyRow *row, int key),
    act_plot_percent(Ui *ui, const KeyRow *row, int key), act_plot_largest(Ui *ui, const KeyRow *row, int key),
    act_plot_linear(Ui *ui, const KeyRow *row, int key), act_plot_table(Ui *ui, const KeyRow *row, int key),
    act_plot_before(Ui *ui, const KeyRow *row, int key);
const char *refuse_no_layer(Ui *ui), *refuse_no_plot(Ui *ui), *refuse_no_drawing(Ui *ui), *refuse_no_changes(Ui *ui);

#endif
