/* plot: a plot of one linear, shown in the workbench or printed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/plot.h"

enum { WIDE = 80, HIGH = 20, LEAST_W = 20, LEAST_H = 8, MOST = 1000 };

/* ---- what is asked for ---- */

/* "p99.9": a share; else a number. */
static Status take_at(const char *text, PlotLook *look, Error *err)
{
    char *end;
    bool share = text[0] == 'p';
    double v = strtod(text + share, &end);
    if (end == text + share || *end || !isfinite(v) || (share && !(v >= 0 && v <= 100)))
        return error_set(err, ST_USAGE, "--at takes a value, or a percentile like p99.9, not '%s'", text);
    look->marked = true;
    look->by_share = share;
    look->share = v / 100;
    look->at = v;
    return ST_OK;
}

static Status take_zoom(const char *text, PlotLook *look, Error *err)
{
    char *end;
    double lo = strtod(text, &end), hi;
    const char *second = strncmp(end, "..", 2) == 0 ? end + 2 : "";
    hi = strtod(second, &end);
    if (!*second || end == second || *end || !(hi > lo) || !isfinite(hi - lo))
        return error_set(err, ST_USAGE, "--zoom takes two rising values like -2..2, not '%s'", text);
    look->zoomed = true;
    look->w = (HistWindow){lo, hi};
    return ST_OK;
}

/* "0-3,16-31": groups, then channels. */
static Status take_area(const char *text, PlotLook *look, Error *err)
{
    long long g0, g1, c0, c1;
    char rest;
    if (sscanf(text, "%lld-%lld,%lld-%lld%c", &g0, &g1, &c0, &c1, &rest) != 4 || g0 < 0 || g1 < g0 || c0 < 0 || c1 < c0)
        return error_set(err, ST_USAGE, "--area takes groups and channels like 0-3,16-31, not '%s'", text);
    look->area[0] = (HeatArea){g0, g1 - g0 + 1, c0, c1 - c0 + 1};
    look->depth = 1;
    look->cell = g0 == g1 && c0 == c1;
    return ST_OK;
}

static Status take_kind(const CommandLine *cl, PlotLook *look, Error *err)
{
    int kind = plot_find(cl->words[0]);
    if (kind < 0) {
        const char *names[PLOT_KINDS + 1] = {0};
        Str all = {0};
        for (int i = 0; i < PLOT_KINDS; i++) {
            names[i] = plot_name((PlotKind)i);
            str_printf(&all, "%s%s", i ? ", " : "", names[i]);
        }
        const char *near = nearest_name(cl->words[0], names);
        error_set(err, ST_USAGE, "'%s' is no plot: use %s%s%s", cl->words[0], str_text(&all), near ? "; nearest: " : "", near ? near : "");
        str_free(&all);
        return ST_USAGE;
    }
    look->kind = (PlotKind)kind;
    return ST_OK;
}

static Status take_look(const CommandLine *cl, PlotLook *look, Error *err)
{
    *look = (PlotLook){.linear = cl_given(cl, "linear"), .table = cl_given(cl, "table"), .before = cl_given(cl, "before"),
                       .largest = cl_given(cl, "largest"), .still = true};
    RETURN_IF_ERROR(want_words(cl, 1, 2, err));
    RETURN_IF_ERROR(take_kind(cl, look, err));
    if (cl_str(cl, "at"))
        RETURN_IF_ERROR(take_at(cl_str(cl, "at"), look, err));
    if (cl_str(cl, "zoom"))
        RETURN_IF_ERROR(take_zoom(cl_str(cl, "zoom"), look, err));
    return cl_str(cl, "area") ? take_area(cl_str(cl, "area"), look, err) : ST_OK;
}

Status plot_size(const CommandLine *cl, int *w, int *h, Error *err)
{
    const char *size = cl_str(cl, "size");
    char rest;
    *w = WIDE;
    *h = HIGH;
    if (size && (sscanf(size, "%dx%d%c", w, h, &rest) != 2 || *w < LEAST_W || *h < LEAST_H || *w > MOST || *h > MOST))
        return error_set(err, ST_USAGE, "--size takes columns and rows from %dx%d to %dx%d, like 80x20, not '%s'", LEAST_W, LEAST_H, MOST, MOST,
                         size);
    return ST_OK;
}

Status one_linear(const Session *s, const char *word, int64_t *out, Error *err)
{
    const Model *m = session_model(s);
    bool *hits;
    int64_t n = 0;
    *out = model_find_linear(m, word);
    if (*out >= 0)
        return ST_OK;
    RETURN_IF_ERROR(select_linears(s, &word, 1, &hits, err));
    for (int64_t i = m->nlinears; i-- > 0;)
        if (hits[i]) {
            *out = i;
            n++;
        }
    free(hits);
    if (n != 1)
        return error_set(err, ST_USAGE, "'%s' names %lld linears: give one", word, (long long)n);
    return ST_OK;
}

static bool of_input(PlotKind k)
{
    return k == PLOT_INPUT || k == PLOT_GRID || k == PLOT_CHANNELS || k == PLOT_LAYERS;
}

/* A pass that watches the input of this linear alone, or for a map of layers of all that are like it. */
static Status watch_input(App *a, const PlotData *d, PlotKind kind, Error *err)
{
    static const char *const metric[] = {"local_error", NULL};
    size_t most = (size_t)model_depth(d->model) + 1;
    const char **name = mem_zarray(most, sizeof *name);
    int32_t *like = mem_zarray(most, sizeof *like);
    int64_t n = kind == PLOT_LAYERS && like ? plot_like(d, false, like) : 0;
    Status st = name && like ? ST_OK : error_nomem(err, "a list of layers");
    for (int64_t i = 0; st == ST_OK && i < n; i++)
        name[i] = d->model->linears[like[i]].name;
    if (st == ST_OK && n == 0)
        name[n++] = d->linear->name;
    if (st == ST_OK)
        st = session_analyze(a->session, metric, name, (int)n, true, err);
    free(name);
    free(like);
    return st == ST_OK ? app_wait(a, err) : st;
}

/* While the model is as its checkpoint has it. */
static Status watch_before(App *a, int64_t linear, const PlotLook *look, Error *err)
{
    PlotData d;
    RETURN_IF_ERROR(plot_data(a->session, linear, look, true, interrupt_cancel(), &d, err));
    return watch_input(a, &d, look->kind, err);
}

/* ---- the command ---- */

static Status draw_text(const CommandLine *cl, PlotData *d, PlotLook *look, int w, int h, Str *out, Error *err)
{
    Sheet c;
    RETURN_IF_ERROR(canvas_init(&c, w, h, canvas_form(cl_str(cl, "glyphs")), err));
    str_printf(out, "%s\n", d->linear->name);
    plot_draw(d, look, &c);
    canvas_print(&c, out);
    canvas_fini(&c);
    return ST_OK;
}

static Status print_plot(App *a, const CommandLine *cl, int64_t linear, PlotLook *look, Error *err)
{
    OutFormat f = out_format(cl_str(cl, "format"));
    int w, h;
    PlotData d;
    Str text = {0};
    RETURN_IF_ERROR(plot_size(cl, &w, &h, err));
    if (look->kind == PLOT_ALL)
        return error_set(err, ST_USAGE, "'all' is for the workbench: name one plot");
    if (f == OUT_YAML)
        return error_set(err, ST_USAGE, "a plot has no YAML");
    plot_map_size(w, h, look);
    RETURN_IF_ERROR(plot_data(a->session, linear, look, true, interrupt_cancel(), &d, err));
    bool seen = look->kind == PLOT_LAYERS ? !d.why[0] : d.h != NULL;
    if (of_input(look->kind) && !seen && app_waits(a)) { /* no pass has kept what it saw of it */
        RETURN_IF_ERROR(watch_input(a, &d, look->kind, err));
        RETURN_IF_ERROR(plot_data(a->session, linear, look, true, interrupt_cancel(), &d, err));
    }
    Status st = f == OUT_TEXT ? draw_text(cl, &d, look, w, h, &text, err) : plot_numbers(&d, look, f, &text, err);
    if (st == ST_OK)
        st = app_result(a, &text, cl_str(cl, "out"), err);
    str_free(&text);
    return st;
}

static Status plot_run(App *a, const CommandLine *cl, Error *err)
{
    PlotLook look;
    QConfig q;
    int64_t linear = -1;
    RETURN_IF_ERROR(take_look(cl, &look, err));
    bool shown = a->show_plot && !cl_given(cl, "format") && !cl_given(cl, "out");
    if (!shown || cl->nwords > 1 || cl_given(cl, "model_path"))
        RETURN_IF_ERROR(open_for_run(a, cl, of_input(look.kind) ? "mix_calib.jsonl" : NULL, err));
    RETURN_IF_ERROR(app_need_model(a, err));
    if (cl_str(cl, "recipe") && a->face != FACE_CLI)
        return error_set(err, ST_USAGE, "--recipe belongs to the program's command line: use 'recipe' here");
    if (cl->nwords > 1)
        RETURN_IF_ERROR(one_linear(a->session, cl->words[1], &linear, err));
    else if (shown || session_cursor(a->session) >= 0)
        linear = session_cursor(a->session);
    if (linear < 0 && !shown)
        return error_set(err, ST_USAGE, "name the linear to plot: plot %s LINEAR", plot_name(look.kind));
    if (cl_str(cl, "recipe") && look.before && of_input(look.kind))
        RETURN_IF_ERROR(watch_before(a, linear, &look, err));
    if (cl_str(cl, "recipe"))
        RETURN_IF_ERROR(session_open_recipe(a->session, cl_str(cl, "recipe"), NULL, err));
    if (cl_str(cl, "level"))
        RETURN_IF_ERROR(plot_level(a->session, cl_str(cl, "level"), &q, look.level, err));
    return shown ? a->show_plot(a->ui_ctx, linear, &look, err) : print_plot(a, cl, linear, &look, err);
}

static const Option plot_options[] = {
    {"model_path", ARG_PATH, "DIR", "the model's folder (command line)", COMP_FILE},
    {"model_type", ARG_STR, "TYPE", "the model's family (default: read from config.json)", COMP_NONE},
    {"calib_dataset", ARG_PATH, "FILE", "calibration set that inputs are watched on (default mix_calib.jsonl)", COMP_FILE},
    {"recipe", ARG_PATH, "FILE", "recipe whose processors change the model first (command line)", COMP_FILE},
    {"before", ARG_FLAG, NULL, "inputs of the model before the recipe's processors change it", COMP_NONE},
    {"level", ARG_STR, "NAME", "quantize so: a level of the recipe, W8A8, W4A8, ... (default: the linear's own)", COMP_LEVEL},
    {"at", ARG_STR, "VALUE|pN", "put the cursor at a value or channel, or at a percentile like p99.9", COMP_NONE},
    {"zoom", ARG_STR, "A..B", "only values (channels) from A to B", COMP_NONE},
    {"area", ARG_STR, "G-G,C-C", "error: only these groups and channels; one of each: its values", COMP_NONE},
    {"linear", ARG_FLAG, NULL, "heights linear instead of logarithmic", COMP_NONE},
    {"largest", ARG_FLAG, NULL, "error: the largest of each field instead of its mean", COMP_NONE},
    {"table", ARG_FLAG, NULL, "numbers instead of a drawing", COMP_NONE},
    {"size", ARG_STR, "CxR", "columns and rows of the text (default 80x20)", COMP_NONE},
    {"format", ARG_CHOICE, "text|json|csv", "of the result (default text)", COMP_NONE},
    {"out", ARG_PATH, "FILE", "write the result to FILE (whole or not at all) instead of standard output", COMP_FILE},
    {"glyphs", ARG_CHOICE, "auto|braille|block|ascii", "characters to draw with (auto: blocks in a UTF-8 locale)", COMP_NONE},
    OPTIONS_RUN,
    OPTION_PROGRESS,
    {0},
};
const Command command_plot = {
    .name = "plot",
    .args = "KIND [LINEAR]",
    .summary = "Show one plot of a linear: in the workbench's details, else as text.",
    .help = "KIND is input (histogram of the activations), grid (the same over the values that quantizing leaves), channels (largest value of "
            "each input channel, outliers named), layers (largest input by layer and channel, of the linears of this kind), weight, dequantized (weight over its dequantized values), rows, columns (largest weight of "
            "each output and input channel), error (square error of groups by channels); all: everything again. Plots of inputs need an "
            "analysis, which the command line runs for them; the others read this one weight.",
    .flags = CMD_CLI | CMD_NO_LOG | CMD_NEUTRAL,
    .completes = COMP_PLOT,
    .options = plot_options,
    .run = plot_run,
};
