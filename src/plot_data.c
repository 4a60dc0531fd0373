/* What plots of a linear are drawn from. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/format.h"
#include "src/lang.h"
#include "src/plot.h"

static const struct {
    const char *name, *title;
} plots[PLOT_KINDS] = {
    [PLOT_ALL] = {"all", .title = "everything known"},
    [PLOT_INPUT] = {"input", .title = "input activations"},
    [PLOT_GRID] = {"grid", .title = "input over its quantized values"},
    [PLOT_CHANNELS] = {"channels", .title = "largest value of each input channel"},
    [PLOT_WEIGHT] = {"weight", .title = "weight values"},
    [PLOT_DEQUANT] = {"dequantized", .title = "weight over its dequantized values"},
    [PLOT_WROWS] = {"rows", .title = "largest value of each weight row (output channel)"},
    [PLOT_WCOLUMNS] = {"columns", .title = "largest value of each weight column (input channel)"},
    [PLOT_ERROR] = {"error", .title = "square error of the weight, groups by channels"},
    [PLOT_LAYERS] = {"layers", .title = "largest |input| by layer and channel"},
};

const char *plot_name(PlotKind k)
{
    return plots[k].name;
}

const char *plot_title(PlotKind k)
{
    return plots[k].title;
}

int plot_find(const char *name)
{
    for (int k = 0; k < PLOT_KINDS; k++)
        if (strcmp(plots[k].name, name) == 0)
            return k;
    return -1;
}

const double plot_percentiles[PLOT_PERCENTILES] = {0.001, 0.01, 0.05, 0.25, 0.5, 0.95, 0.99, 0.999, 0.9999};

/* ---- levels ---- */

/* Names of what weights can be quantized by: levels of the recipe, then plain schemes. NULL behind the last. */
static const char *level_at(Session *s, int i)
{
    const Recipe *r = session_recipe(s);
    int levels = r ? session_levels(s) - 1 : 0;
    if (i < levels)
        return session_level_name(s, i + 1);
    i -= levels;
    for (const Scheme *k = scheme_table; k->name; k++) {
        QConfig q;
        bool first = k == scheme_table || strcmp(k[-1].name, k->name) != 0; /* rows of one name stand together */
        if (first && k->runnable && session_level_find(s, k->name) < 0 && scheme_config(k->name, &q) &&
            q.weight.dtype != QT_FLOAT && i-- == 0)
            return k->name;
    }
    return NULL;
}

void plot_level_next(Session *s, const char *level, char out[PLOT_LEVEL])
{
    int i = 0;
    const char *name;
    if (*level)
        while ((name = level_at(s, i++)) && strcmp(name, level) != 0)
            ;
    name = level_at(s, i);
    snprintf(out, PLOT_LEVEL, "%s", name ? name : "");
}

Status plot_level(Session *s, const char *name, QConfig *out, char full[PLOT_LEVEL], Error *err)
{
    const Recipe *r = session_recipe(s);
    char dynamic[PLOT_LEVEL + 10];
    int level = session_level_find(s, name);
    snprintf(full, PLOT_LEVEL, "%s", name);
    if (r && level > 0) {
        *out = recipe_entry(r, level - 1)->q;
        return ST_OK;
    }
    snprintf(dynamic, sizeof dynamic, "%.*s_DYNAMIC", PLOT_LEVEL - 12, name);
    if (!scheme_config(name, out) && scheme_config(dynamic, out))
        snprintf(full, PLOT_LEVEL, "%.*s", PLOT_LEVEL - 1, dynamic);
    else if (!scheme_config(name, out)) {
        Str all = {0};
        for (int i = 0; level_at(s, i); i++)
            str_printf(&all, "%s%s", i ? ", " : "", level_at(s, i));
        error_set(err, ST_USAGE, "'%s' is no level to quantize at: %s", name, str_text(&all));
        str_free(&all);
        return ST_USAGE;
    }
    return ST_OK;
}

static void put_level(PlotData *d)
{
    char how[80];
    d->leveled = true;
    qconfig_describe(&d->q, how, sizeof how);
    text_format(d->level, sizeof d->level, "level %s", how);
}

/* The level that is looked at: the one chosen, else the linear's own, of a float one the recipe's first. */
static Status find_level(Session *s, int64_t linear, const PlotLook *look, PlotData *d, Error *err)
{
    const Recipe *r = session_recipe(s);
    int level = session_level_of(s, linear);
    char full[PLOT_LEVEL];
    level = level > 0 ? level : 1;
    if (look->level[0])
        RETURN_IF_ERROR(plot_level(s, look->level, &d->q, full, err));
    else if (r && level - 1 < recipe_entries(r))
        d->q = recipe_entry(r, level - 1)->q;
    else
        return ST_OK;
    put_level(d);
    return ST_OK;
}

HistGrid plot_act_grid(const QConfig *q, const TapSummary *in, const char **steps)
{
    const QType t = q->act.dtype;
    const int half = t == QT_INT8 ? 128 : 8;
    if (t != QT_INT8 && t != QT_INT4)
        return (HistGrid){0, 0, 0};
    *steps = t == QT_INT8 ? "int8" : "int4";
    if (q->act.scope == QS_PER_TOKEN) /* of the token in the middle */
        return (HistGrid){sqrt(in->token_max_sq) / (half - 1), -half, half - 1};
    double most = fmax(fabs(in->min), fabs(in->max));
    if (q->act.symmetric)
        return (HistGrid){most / (half - 1), -half, half - 1};
    double low = fmin(in->min, 0), step = (fmax(in->max, 0) - low) / (2 * half - 1);
    int first = step > 0 ? (int)lround(low / step) : 0;
    return (HistGrid){step, first, first + 2 * half - 1};
}

/* ---- kinds ---- */

static void say_why(PlotData *d, const char *text)
{
    snprintf(d->why, sizeof d->why, "%s", tr(text));
}

static bool of_weight(PlotKind k)
{
    return k == PLOT_WEIGHT || k == PLOT_DEQUANT || k == PLOT_WROWS || k == PLOT_WCOLUMNS;
}

/* Of which model what follows is, where there are two. */
static void tell_changes(const Session *s, bool before, PlotData *d)
{
    Str names = {0};
    work_name_changes(session_recipe(s), &names);
    if (names.len)
        text_format(d->changes, sizeof d->changes, before ? "of the model before %s" : "of the model behind %s", str_text(&names));
    str_free(&names);
}

static void of_input(Session *s, int64_t linear, PlotData *d)
{
    if (d->before && !d->res) {
        say_why(d, "its input before the recipe's processors was not watched with these texts: analyze with another recipe first");
        return;
    }
    if (!d->res || !d->res->in.hist.n) {
        say_why(d, session_unseen(s, linear) ? "no token reached this expert" : "its input was not watched yet; r on Rank (1) runs the analysis");
        return;
    }
    const TapSummary *in = &d->res->in;
    d->h = &in->hist;
    d->min = in->min;
    d->max = in->max;
    d->mean = in->mean;
    d->std = in->std;
    if (d->leveled)
        d->grid = plot_act_grid(&d->q, in, &d->steps);
}

static void of_grid(Session *s, int64_t linear, PlotData *d)
{
    of_input(s, linear, d);
    d->over_grid = d->grid.step > 0;
    if (!d->why[0] && !d->over_grid)
        say_why(d, "inputs have no integer grid at this level; B takes another level");
}

static void of_channels(Session *s, int64_t linear, PlotData *d)
{
    of_input(s, linear, d);
    if (!d->why[0] && !d->res->in.channel_max)
        say_why(d, "channels were not watched in this pass; r on Rank (1) does");
    if (d->why[0])
        return;
    d->value = d->res->in.channel_max;
    d->n = d->res->in.width;
}

static void of_layers(PlotData *d)
{
    int rows, cols;
    plot_map_fields(d, &(PlotLook){.kind = PLOT_LAYERS, .rows = 1, .cols = 1}, &rows, &cols);
    if (!rows)
        say_why(d, d->linear->layer < 0 ? N_("it is in no layer") : N_("channels were not watched in this pass; r on Rank (1) does"));
}

static void of_look(PlotKind kind, PlotData *d)
{
    const WeightLook *w = &d->picture->look;
    d->h = &w->values;
    d->min = w->min;
    d->max = w->max;
    d->mean = w->mean;
    d->std = w->std;
    if (kind == PLOT_DEQUANT) {
        d->over = &w->made;
        d->grid = w->grid;
        d->steps = d->q.weight.dtype == QT_INT4 ? "int4" : "int8";
    }
    d->value = kind == PLOT_WROWS ? w->row_max : kind == PLOT_WCOLUMNS ? w->col_max : NULL;
    d->n = kind == PLOT_WROWS ? w->out : w->in;
}

static Status want_picture(Session *s, const PictureAsk *ask, bool now, const Cancel *cancel, PlotData *d, Error *err)
{
    if (now)
        RETURN_IF_ERROR(session_picture_now(s, ask, cancel, &d->picture, err));
    else
        d->picture = session_picture(s, ask);
    d->waits = !d->picture;
    if (d->picture && d->picture->why[0])
        snprintf(d->why, sizeof d->why, "%s", d->picture->why);
    return ST_OK;
}

static Status weight_data(Session *s, int64_t linear, const PlotLook *look, bool now, const Cancel *cancel, PlotData *d, Error *err)
{
    PictureAsk ask = {.kind = PICTURE_LOOK, .linear = linear};
    if (look->kind == PLOT_DEQUANT || look->kind == PLOT_ERROR) {
        if (!d->leveled || d->q.weight.dtype == QT_FLOAT) {
            say_why(d, "weights stay as they are at this level; B takes another level");
            return ST_OK;
        }
        ask.quantized = true;
        ask.q = d->q.weight;
    }
    if (look->kind == PLOT_ERROR) {
        ask.kind = look->cell ? PICTURE_CELL : PICTURE_HEAT;
        ask.rows = look->rows;
        ask.cols = look->cols;
        if (look->depth)
            ask.area = look->area[look->depth - 1];
    }
    RETURN_IF_ERROR(want_picture(s, &ask, now, cancel, d, err));
    if (d->waits || d->why[0] || !of_weight(look->kind))
        return ST_OK;
    of_look(look->kind, d);
    return ST_OK;
}

const LinearResult *plot_result(const PlotData *d, int64_t linear)
{
    return d->before ? session_result_before(d->session, linear) : session_result(d->session, linear);
}

static void begin(Session *s, int64_t linear, const PlotLook *look, PlotData *d)
{
    *d = (PlotData){.model = session_model(s), .steps = "", .session = s};
    d->linear = &d->model->linears[linear];
    d->before = look->before && work_change(session_recipe(s), 0);
    d->res = plot_result(d, linear);
    tell_changes(s, d->before || of_weight(look->kind) || look->kind == PLOT_ERROR, d); /* weights are the checkpoint's */
}

Status plot_data_at(Session *s, int64_t linear, const QConfig *q, bool now, const Cancel *cancel, PlotData *out, Error *err)
{
    const PlotLook look = {.kind = q && q->weight.dtype != QT_FLOAT ? PLOT_DEQUANT : PLOT_WEIGHT};
    begin(s, linear, &look, out);
    if (q) {
        out->q = *q;
        put_level(out);
    }
    return weight_data(s, linear, &look, now, cancel, out, err);
}

Status plot_data(Session *s, int64_t linear, const PlotLook *look, bool now, const Cancel *cancel, PlotData *out, Error *err)
{
    begin(s, linear, look, out);
    RETURN_IF_ERROR(find_level(s, linear, look, out, err));
    switch (look->kind) {
    case PLOT_INPUT: of_input(s, linear, out); return ST_OK;
    case PLOT_GRID: of_grid(s, linear, out); return ST_OK;
    case PLOT_CHANNELS: of_channels(s, linear, out); return ST_OK;
    case PLOT_LAYERS: of_layers(out); return ST_OK;
    default: return weight_data(s, linear, look, now, cancel, out, err);
    }
}

HistWindow plot_whole(const PlotData *d)
{
    if (d->value)
        return (HistWindow){0, (double)(d->n > 0 ? d->n : 1)};
    return d->h ? histview_whole(d->h, d->min, d->max) : (HistWindow){-1, 1};
}

HistWindow plot_limit(const PlotData *d)
{
    HistWindow w = plot_whole(d);
    if (d->value || !d->h || !isfinite(d->min) || !isfinite(d->max))
        return w;
    return (HistWindow){fmin(w.lo, d->min), fmax(w.hi, d->max)};
}

/* The channel below whose value this share of all channels lies. */
static int64_t channel_at(const PlotData *d, double share)
{
    int64_t *order = d->n > 0 ? plot_order(d->value, d->n) : NULL, last = d->n - 1;
    int64_t at = order ? order[last - (int64_t)floor(fmin(fmax(share, 0), 1) * (double)last + 0.5)] : 0;
    free(order);
    return at;
}

void plot_resolve(const PlotData *d, PlotLook *look)
{
    if (!look->marked || !look->by_share)
        return;
    if (d->value)
        look->at = (double)channel_at(d, look->share);
    else if (d->h && d->h->n)
        look->at = keyhist_quantile(d->h, look->share);
}

void plot_reset(PlotLook *look)
{
    look->zoomed = look->cell = false;
    look->marked = look->marked && look->by_share;
    look->depth = look->row = look->col = 0;
}

int64_t plot_outliers(const TapSummary *in, char *out, size_t size)
{
    enum { WORST = 4 };
    int64_t beyond = 0, worst[WORST];
    int n = 0;
    for (int64_t c = 0; c < in->width; c++) {
        float v = in->channel_max[c];
        beyond += v > 6 * in->std + fabs(in->mean);
        int at = n < WORST ? n++ : WORST;
        while (at > 0 && v > in->channel_max[worst[at - 1]]) {
            if (at < WORST)
                worst[at] = worst[at - 1];
            at--;
        }
        if (at < WORST)
            worst[at] = c;
    }
    int len = text_format(out, size, "channels beyond 6 std: %lld of %lld; largest", (long long)beyond, (long long)in->width);
    for (int k = 0; k < n && len < (int)size - 40; k++) {
        char v[24];
        fmt_value(v, sizeof v, in->channel_max[worst[k]]);
        len += snprintf(out + len, size - (size_t)len, " %lld:%s", (long long)worst[k], v);
    }
    return beyond;
}
