#ifndef SLIM_SRC_PLOT_H
#define SLIM_SRC_PLOT_H

#include "session/picture.h"
#include "src/canvas.h"
#include "src/output.h"

/* The plots of one linear: what they are of, how a person looks at them, and how they are drawn on a canvas. All numbers come
 * from the session: histograms that a pass has kept, and pictures of the weight. */

/* In the order of the keys. */
typedef enum PlotKind {
    PLOT_ALL, /* the page with everything known */
    PLOT_INPUT, PLOT_GRID, PLOT_CHANNELS, PLOT_WEIGHT, PLOT_DEQUANT, PLOT_WROWS, PLOT_WCOLUMNS, PLOT_ERROR, PLOT_LAYERS,
    PLOT_KINDS
} PlotKind;
const char *plot_name(PlotKind k);
const char *plot_title(PlotKind k);
int plot_find(const char *name); /* -1: no such plot */

enum { PLOT_LEVEL = 40, PLOT_DEPTH = 12 };
/* How a plot is looked at. Zeroed: everything, as it comes. */
struct PlotLook {
    PlotKind kind;
    bool linear, table;     /* counts (values) linear instead of logarithmic; numbers instead of a drawing */
    bool before;            /* of an input: of the model before the recipe's processors change it */
    bool largest;           /* of a map: the largest of each field instead of its mean */
    char level[PLOT_LEVEL]; /* of a weight, a grid: level of the recipe or scheme; "": the linear's own */
    bool zoomed;            /* into: */
    HistWindow w;
    bool marked;            /* a cursor stands at a value (a channel); by_share: below which this share of all lies, which
                             * plot_draw and plot_resolve turn into `at` */
    bool by_share;
    double share, at;
    HeatArea area[PLOT_DEPTH]; /* that one went into, from the outside to the inside */
    int depth;
    bool cell;              /* and the field there is one cell: its values */
    int row, col;           /* of the cursor on the map */
    bool still;             /* nobody points at anything: no cursor on the map */
    int rows, cols;         /* fields that the map may have (plot_map_size) */
};
typedef struct PlotLook PlotLook;

/* What a plot is drawn from; everything is borrowed from the session until its next call. */
typedef struct PlotData {
    const Model *model;
    const Linear *linear;
    const LinearResult *res; /* NULL: no pass has seen it */
    bool before;             /* it is of the model before the recipe's processors */
    QConfig q;
    bool leveled;            /* q is a level to quantize at */
    char changes[96];        /* whose values, where the recipe's processors change the model: "before kv_smooth"; else "" */
    char level[120];         /* its name and description, or why there is none */
    bool waits;              /* the weight is being read */
    char why[ERROR_TEXT_MAX]; /* why there is nothing to draw, "": there is */
    const Picture *picture;
    /* a histogram */
    const KeyHist *h, *over; /* over: dequantized; NULL: none, or by grid: */
    double min, max, mean, std;
    HistGrid grid;
    bool over_grid;
    const char *steps;       /* "int8": whose steps the grid's are */
    /* a profile: value[n] >= 0 */
    const float *value;
    int64_t n;
    Session *session;        /* whose other layers a map of layers asks */
} PlotData;
/* Finds what the plot of this linear needs. now: the weight is read here, else in the background (waits). cancel may be NULL. */
Status plot_data(Session *s, int64_t linear, const PlotLook *look, bool now, const Cancel *cancel, PlotData *out, Error *err);
/* The weight of a linear as a level quantizes it, over what it is (PLOT_DEQUANT); q NULL, or one that leaves weights as they are: the
 * weight alone (PLOT_WEIGHT). */
Status plot_data_at(Session *s, int64_t linear, const QConfig *q, bool now, const Cancel *cancel, PlotData *out, Error *err);
/* What passes found of another linear, of the same model as the plot's. */
const LinearResult *plot_result(const PlotData *d, int64_t linear);
/* The window of the whole x axis: values, or indices of channels. */
HistWindow plot_whole(const PlotData *d);
/* The furthest that one can zoom out: all values. */
HistWindow plot_limit(const PlotData *d);
/* Brings look->at to where look->share is. */
void plot_resolve(const PlotData *d, PlotLook *look);
/* Takes back what was zoomed, gone into and pointed at; a share stays one. */
void plot_reset(PlotLook *look);
/* Scheme for a level's name: a level of the recipe, else a plain scheme ("W4A8_DYNAMIC", also without "_DYNAMIC"). Gives its full
 * name. ST_USAGE naming those there are. */
Status plot_level(Session *s, const char *name, QConfig *out, char full[PLOT_LEVEL], Error *err);
/* The name behind `level` of those that B steps through, "" behind the last. */
void plot_level_next(Session *s, const char *level, char out[PLOT_LEVEL]);
/* The grid that a level lays over inputs with these statistics; step 0: none. *steps: "int8", "int4". */
HistGrid plot_act_grid(const QConfig *q, const TapSummary *in, const char **steps);
/* The percentiles that the cursor steps through: 0.001 ... 0.9999. */
enum { PLOT_PERCENTILES = 9 };
extern const double plot_percentiles[PLOT_PERCENTILES];

/* Whether it is a map of fields, with a cursor that goes up and down, too. */
bool plot_is_map(PlotKind k);
/* How many fields a map has; 0: there is none. */
void plot_map_fields(const PlotData *d, const PlotLook *look, int *rows, int *cols);
/* Fields that a map on a canvas of this size may have. */
void plot_map_size(int w, int h, PlotLook *look);
/* The part of the weight that field (row, col) of a map stands for. */
HeatArea plot_field(const WeightHeat *h, int row, int col);
/* Goes into the field under the cursor, or back out; false: it is at that end. */
bool plot_into(const PlotData *d, PlotLook *look);
bool plot_out(PlotLook *look);

/* ---- drawing ---- */

/* The whole plot with its figures, on all of the canvas. look's row, col, rows, cols are brought into range. */
void plot_draw(PlotData *d, PlotLook *look, Sheet *c);

/* Appends its numbers as JSON or CSV: bins, channels, fields or values. ST_DATA where there is nothing to draw. */
Status plot_numbers(const PlotData *d, const PlotLook *look, OutFormat f, Str *out, Error *err);
/* Root of the square error over the weight's square, of one that is quantized; NaN: not known. */
double plot_loss(const PlotData *d);

/* Plots of one linear beside each other. */
enum { PLOT_PANELS = 3 };
typedef struct PlotPanel {
    char title[200];
    PlotKind kind;
    PlotData d;
} PlotPanel;
typedef struct PlotPanels {
    const Linear *linear;
    int n;
    PlotPanel p[PLOT_PANELS];
} PlotPanels;
/* The weight as two measurements quantize it, and the input as the present run has seen it, where it has. now, cancel as plot_data. */
Status plot_measured(Session *s, int64_t linear, const Measurement m[2], bool now, const Cancel *cancel, PlotPanels *out, Error *err);
/* What there is under the scores of a layer: its input over the values that its level leaves, and its weight at its level. */
Status plot_present(Session *s, int64_t linear, bool now, const Cancel *cancel, PlotPanels *out, Error *err);
/* look: linear and table count. ST_NOMEM. */
Status plot_panels_draw(PlotPanels *p, const PlotLook *look, Sheet *c, Error *err);

/* Bars with axes and what lies outside, on lines [y, y + h): at least 4. */
typedef struct HistDraw {
    const KeyHist *h, *over;
    bool over_grid;
    double min, max, mean, std; /* std 0: no marks of three deviations */
    HistGrid grid;              /* step 0: no ticks */
    const char *steps;
    bool linear, zoomed, marked;
    HistWindow w;               /* zoomed */
    double at;                  /* marked */
} HistDraw;
void plot_bars(Sheet *c, int y, int h, const HistDraw *v);
/* The same as numbers: limits, count and share of each of h - 4 bins, and percentiles below. */
void plot_table(Sheet *c, int y, int h, const HistDraw *v);
/* Channels beyond six deviations of the input, and the largest of them, as one text; how many. */
int64_t plot_outliers(const TapSummary *in, char *out, size_t size);

/* ---- parts (plot_*.c) ---- */

/* Largest |input| by layer and channel: the linears of one kind, a layer each, in their order. No pass is run for it. */
typedef struct ChannelMap {
    WeightHeat h;            /* groups are layers */
    int32_t *linear;         /* [h.groups] */
    int *layer;              /* [h.groups] that these are in */
} ChannelMap;
/* The linears like d->linear, one a layer, in their order: linear[layers of the model] (may be NULL); how many. watched: only those of
 * which a pass has kept channels. */
int64_t plot_like(const PlotData *d, bool watched, int32_t *linear);
/* Of what passes have kept of the linears like d->linear, in up to rows x cols fields. ST_DATA where nothing is kept, ST_NOMEM. Free
 * with channel_map_fini. */
Status channel_map(const PlotData *d, int rows, int cols, ChannelMap *out, Error *err);
void channel_map_fini(ChannelMap *m);
void plot_layers_draw(const PlotData *d, PlotLook *look, Sheet *c);
/* The linear of the row that the cursor is on, -1: there is none. */
int64_t plot_layers_linear(const PlotData *d, const PlotLook *look);

/* Sentences around a drawing. Those with the lowest `keep` go first where there is little room. */
enum { PLOT_TEXTS = 5 };
typedef struct PlotTexts {
    int n;
    struct {
        char text[256];
        Ink ink;
        int keep;
    } t[PLOT_TEXTS];
} PlotTexts;
/* Adds one, of a format that is translated. */
void plot_say(PlotTexts *p, Ink ink, int keep, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Draws head from the top and foot at the bottom, wrapped, so that at least `least` lines are left between where that is
 * possible: [*from, *to). */
void plot_around(Sheet *c, PlotTexts *head, PlotTexts *foot, int least, int *from, int *to);
void plot_hist_draw(const PlotData *d, const PlotLook *look, Sheet *c);
void plot_profile_draw(const PlotData *d, const PlotLook *look, Sheet *c);
/* Counts at the top, the middle and the foot of an axis of h lines at the left edge. */
enum { PLOT_AXIS = 5, PLOT_AXIS_LEAST = 24 };
/* Draws a map with its sentences, or its fields from the greatest on as numbers; `down` is what its groups are, number (NULL:
 * they are numbered as they come) how each is called. look's cursor is in range. */
void plot_map_draw(const WeightHeat *h, const char *down, const int *number, PlotLook *look, PlotTexts *head, PlotTexts *foot, Sheet *c);
/* "3", "3-7". */
void plot_span(char *out, size_t size, int64_t first, int64_t n);
void plot_axis(Sheet *c, int y, int h, const char *top, const char *middle, const char *foot);
/* Indices of v[n] >= 0 by falling value, equal ones as they come; NULL without memory. Caller frees. */
int64_t *plot_order(const float *v, int64_t n);
/* Four cells at most: 1023, 8.2k, 12k, 1.0M. */
void plot_short(char *out, size_t size, double n);

#endif
