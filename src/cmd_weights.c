/* hist and heat: pictures of one weight as text, JSON and CSV. */
#include <langinfo.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metric/weightview.h"
#include "src/commands.h"
#include "src/internal.h"

enum { BAR = 40, BINS_MOST = 1000, BINS_TEXT = 24, BINS_DATA = 100, SIDE_MOST = 400 };

/* From empty to full; the first is a blank. */
static const char *const ramp_blocks[] = {" ", "░", "▒", "▓", "█"};
static const char *const ramp_ascii[] = {" ", ".", ":", "-", "=", "+", "*", "#", "%", "@"};

typedef struct Ramp {
    const char *const *step;
    int n;
} Ramp;

static Ramp ramp_of(const CommandLine *cl)
{
    const char *asked = cl_str(cl, "glyphs");
    bool blocks = asked && strcmp(asked, "auto") != 0 ? strcmp(asked, "block") == 0
                                                      : strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    return blocks ? (Ramp){ramp_blocks, sizeof ramp_blocks / sizeof *ramp_blocks}
                  : (Ramp){ramp_ascii, sizeof ramp_ascii / sizeof *ramp_ascii};
}

/* The step for a share in [0, 1]; what is above 0 is never blank. */
static const char *ramp_step(const Ramp *r, double share)
{
    int i = share > 0 ? 1 + (int)(share * (r->n - 1)) : 0;
    return r->step[i < r->n ? i : r->n - 1];
}

/* The linear that the command's only word names. */
static Status linear_word(App *a, const CommandLine *cl, int64_t *out, Error *err)
{
    RETURN_IF_ERROR(open_for_run(a, cl, NULL, err));
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    return one_linear(a->session, cl->words[0], out, err);
}

static Status finish(App *a, const CommandLine *cl, Str *text, Status st, Error *err)
{
    if (st == ST_OK)
        st = app_result(a, text, cl_str(cl, "out"), err);
    str_free(text);
    return st;
}

/* ---- hist ---- */

/* Which limit of three deviations lies in the bin: 'l' the lower, 'h' the upper, 0: none. */
static int limit_in(const WeightHist *h, int i)
{
    double step = (h->hi - h->lo) / h->bins, from = h->lo + step * i, to = i + 1 < h->bins ? from + step : INFINITY;
    double low = h->mean - 3 * h->std, high = h->mean + 3 * h->std;
    if (!(h->std > 0))
        return 0;
    return low >= from && low < to && low > h->lo ? 'l' : high >= from && high < to && high <= h->hi ? 'h' : 0;
}

static void hist_text(const char *name, const WeightHist *h, bool logarithmic, const Ramp *ramp, Str *out)
{
    double top = 0, step = (h->hi - h->lo) / h->bins;
    str_printf(out, "%s: %.0f values from %.5g to %.5g, mean %.3g, standard deviation %.5g\n", name, h->n, h->lo, h->hi,
               h->mean, h->std);
    for (int i = 0; i < h->bins; i++)
        top = fmax(top, (double)h->count[i]);
    for (int i = 0; i < h->bins; i++) {
        double n = (double)h->count[i], share = logarithmic ? log1p(n) / log1p(top) : n / top;
        int width = n > 0 ? (int)fmax(1, lround(share * BAR)) : 0, limit = limit_in(h, i);
        str_printf(out, "%11.4g %11.4g  ", h->lo + step * i, h->lo + step * (i + 1));
        for (int k = 0; k < BAR; k++)
            str_puts(out, k < width ? ramp->step[ramp->n - 1] : " ");
        str_printf(out, " %11llu %7.3f %%%s\n", (unsigned long long)h->count[i], 100 * n / h->n,
                   limit == 'l' ? "  -3 std" : limit == 'h' ? "  +3 std" : "");
    }
    str_printf(out, "beyond 3 standard deviations: %llu below %.4g, %llu above %.4g (%.4f %%)\npercentiles:",
               (unsigned long long)h->below, h->mean - 3 * h->std, (unsigned long long)h->above, h->mean + 3 * h->std,
               100 * (double)(h->below + h->above) / h->n);
    for (int i = 0; i < WEIGHT_QUANTILES; i++)
        str_printf(out, "%s %g %% %.4g", i ? "," : "", 100 * weight_quantiles[i], h->quantile[i]);
    str_putc(out, '\n');
}

static double density_of(const WeightHist *h, int i)
{
    return h->hi > h->lo ? (double)h->count[i] / h->n / ((h->hi - h->lo) / h->bins) : INFINITY;
}

static void hist_csv(const WeightHist *h, Str *out)
{
    str_puts(out, "from,to,count,density\n");
    for (int i = 0; i < h->bins; i++) {
        str_double(out, h->lo + (h->hi - h->lo) * i / h->bins);
        str_putc(out, ',');
        str_double(out, h->lo + (h->hi - h->lo) * (i + 1) / h->bins);
        str_printf(out, ",%llu,", (unsigned long long)h->count[i]);
        if (h->hi > h->lo)
            str_double(out, density_of(h, i));
        str_putc(out, '\n');
    }
}

static void number(Str *out, const char *key, double v)
{
    str_printf(out, ",\"%s\":", key);
    str_double(out, v);
}

static void hist_json(const char *name, const WeightHist *h, Str *out)
{
    str_puts(out, "{\"name\":");
    str_json(out, name);
    number(out, "values", h->n);
    number(out, "min", h->lo);
    number(out, "max", h->hi);
    number(out, "mean", h->mean);
    number(out, "std", h->std);
    number(out, "sigma3", 3 * h->std);
    number(out, "below", (double)h->below);
    number(out, "above", (double)h->above);
    str_puts(out, ",\"percentiles\":{");
    for (int i = 0; i < WEIGHT_QUANTILES; i++) {
        str_printf(out, "%s\"%g\":", i ? "," : "", 100 * weight_quantiles[i]);
        str_double(out, h->quantile[i]);
    }
    str_puts(out, "},\"counts\":[");
    for (int i = 0; i < h->bins; i++)
        str_printf(out, "%s%llu", i ? "," : "", (unsigned long long)h->count[i]);
    str_puts(out, "],\"density\":[");
    for (int i = 0; i < h->bins; i++) {
        str_puts(out, i ? "," : "");
        str_double(out, density_of(h, i));
    }
    str_puts(out, "]}\n");
}

static Status hist_run(App *a, const CommandLine *cl, Error *err)
{
    OutFormat f = out_format(cl_str(cl, "format"));
    int64_t linear, bins = cl_int(cl, "bins", f == OUT_TEXT ? BINS_TEXT : BINS_DATA);
    Ramp ramp = ramp_of(cl);
    WeightHist h;
    if (bins < 1 || bins > BINS_MOST)
        return error_set(err, ST_USAGE, "--bins must be from 1 to %d, not %lld", BINS_MOST, (long long)bins);
    RETURN_IF_ERROR(linear_word(a, cl, &linear, err));
    const Model *m = session_model(a->session);
    RETURN_IF_ERROR(weight_hist(&(Source){.model = m}, linear, (int)bins, interrupt_cancel(), &h, err));
    Str text = {0};
    if (f == OUT_JSON)
        hist_json(m->linears[linear].name, &h, &text);
    else if (f == OUT_CSV)
        hist_csv(&h, &text);
    else
        hist_text(m->linears[linear].name, &h, cl_given(cl, "log"), &ramp, &text);
    weight_hist_fini(&h);
    return finish(a, cl, &text, ST_OK, err);
}

#define OPTIONS_MODEL                                                              \
    {"model_path", ARG_PATH, "DIR", "the model's folder (command line)", COMP_FILE}, \
    {"model_type", ARG_STR, "TYPE", "the model's family (default: read from config.json)", COMP_NONE}
#define OPTIONS_PICTURE                                                                                      \
    {"format", ARG_CHOICE, "text|json|csv", "of the result (default text)", COMP_NONE},                      \
    {"out", ARG_PATH, "FILE", "write the result to FILE (whole or not at all) instead of standard output", COMP_FILE}, \
    {"glyphs", ARG_CHOICE, "auto|block|ascii", "characters to draw with (auto: blocks in a UTF-8 locale)", COMP_NONE}

static const Option hist_options[] = {
    OPTIONS_MODEL,
    {"bins", ARG_INT, "N", "equal parts of the range (default 24 as text, 100 as JSON and CSV)", COMP_NONE},
    {"log", ARG_FLAG, NULL, "bars by the logarithm of the count", COMP_NONE},
    OPTIONS_PICTURE,
    {0},
};
const Command command_hist = {
    .name = "hist",
    .args = "LINEAR",
    .summary = "Show how the values of one weight are distributed.",
    .help = "Counts over the whole range, where three standard deviations are, how many values lie beyond, and percentiles. "
            "No data is read.",
    .flags = CMD_CLI | CMD_NO_LOG,
    .completes = COMP_LAYER,
    .options = hist_options,
    .run = hist_run,
};

/* ---- heat ---- */

static void heat_text(const char *name, const char *how, const WeightHeat *h, bool most, const Ramp *ramp, Str *out)
{
    const double *v = most ? h->max : h->mean;
    double top = 0;
    for (int i = 0; i < h->rows * h->cols; i++)
        top = fmax(top, v[i]);
    str_printf(out, "%s, %s: %s square error of groups of %lld; %lld groups downwards, %lld output channels to the right\n",
               name, how, most ? "largest mean" : "mean", (long long)h->group, (long long)h->groups, (long long)h->channels);
    for (int r = 0; r < h->rows; r++) {
        str_printf(out, "%6lld |", (long long)(r * h->groups / h->rows));
        for (int c = 0; c < h->cols; c++) /* by the root: what stands out leaves the rest in sight */
            str_puts(out, ramp_step(ramp, top > 0 ? sqrt(v[r * h->cols + c] / top) : 0));
        str_puts(out, "|\n");
    }
    str_printf(out, "%s is 0, %s is up to %.3g; mean of all groups %.3g, largest %.3g at group %lld of channel %lld\n",
               "blank", ramp->step[ramp->n - 1], top, h->average, h->top, (long long)h->top_group, (long long)h->top_channel);
}

/* The first group and the first channel of field (r, c). */
static void heat_csv(const WeightHeat *h, Str *out)
{
    str_puts(out, "group,channel,mean,max\n");
    for (int r = 0; r < h->rows; r++)
        for (int c = 0; c < h->cols; c++) {
            str_printf(out, "%lld,%lld,", (long long)(((int64_t)r * h->groups + h->rows - 1) / h->rows),
                       (long long)(((int64_t)c * h->channels + h->cols - 1) / h->cols));
            str_double(out, h->mean[r * h->cols + c]);
            str_putc(out, ',');
            str_double(out, h->max[r * h->cols + c]);
            str_putc(out, '\n');
        }
}

static void fields_json(const char *key, const WeightHeat *h, const double *v, Str *out)
{
    str_printf(out, ",\n\"%s\":[", key);
    for (int r = 0; r < h->rows; r++) {
        str_puts(out, r ? ",\n[" : "\n[");
        for (int c = 0; c < h->cols; c++) {
            str_puts(out, c ? "," : "");
            str_double(out, v[r * h->cols + c]);
        }
        str_putc(out, ']');
    }
    str_putc(out, ']');
}

static void heat_json(const char *name, const char *how, const WeightHeat *h, Str *out)
{
    str_puts(out, "{\"name\":");
    str_json(out, name);
    str_puts(out, ",\"scheme\":");
    str_json(out, how);
    str_printf(out, ",\"group\":%lld,\"groups\":%lld,\"channels\":%lld,\"rows\":%d,\"cols\":%d", (long long)h->group,
               (long long)h->groups, (long long)h->channels, h->rows, h->cols);
    number(out, "average", h->average);
    number(out, "largest", h->top);
    str_printf(out, ",\"largest_group\":%lld,\"largest_channel\":%lld", (long long)h->top_group, (long long)h->top_channel);
    fields_json("mean", h, h->mean, out);
    fields_json("max", h, h->max, out);
    str_puts(out, "}\n");
}

/* What to quantize with: the linear's own level, a scheme by its name, or NULL; *how for people. */
static Status heat_scheme(App *a, const CommandLine *cl, int64_t linear, QConfig *q, const QSpec **out, char how[80], Error *err)
{
    const char *name = cl_str(cl, "scheme");
    *out = NULL;
    snprintf(how, 80, "4 bits, asymmetric");
    if (!name)
        return ST_OK;
    if (strcmp(name, "recipe") == 0) {
        const Recipe *r = session_recipe(a->session);
        int level = session_level_of(a->session, linear);
        if (!r || !level)
            return error_set(err, ST_USAGE, "the recipe leaves this linear in float");
        *q = recipe_entry(r, level - 1)->q;
    } else if (!scheme_config(name, q)) {
        return error_set(err, ST_USAGE, "'%s' is no scheme: 'schemes' lists them; recipe is the linear's own level", name);
    }
    if (q->weight.dtype == QT_FLOAT)
        return error_set(err, ST_USAGE, "'%s' leaves weights in float", name);
    qconfig_describe(q, how, 80);
    *out = &q->weight;
    return ST_OK;
}

/* "72x24": columns and rows of the map. */
static Status heat_size(const CommandLine *cl, int *cols, int *rows, Error *err)
{
    const char *size = cl_str(cl, "size");
    char rest;
    *cols = 72;
    *rows = 24;
    if (size && (sscanf(size, "%dx%d%c", cols, rows, &rest) != 2 || *cols < 1 || *rows < 1 || *cols > SIDE_MOST || *rows > SIDE_MOST))
        return error_set(err, ST_USAGE, "--size takes columns and rows up to %d, like 72x24, not '%s'", SIDE_MOST, size);
    return ST_OK;
}

static Status heat_run(App *a, const CommandLine *cl, Error *err)
{
    OutFormat f = out_format(cl_str(cl, "format"));
    Ramp ramp = ramp_of(cl);
    int64_t linear, group = cl_int(cl, "group", 32);
    int cols, rows;
    QConfig q;
    const QSpec *by;
    char how[80];
    WeightHeat h;
    RETURN_IF_ERROR(heat_size(cl, &cols, &rows, err));
    if (group < 1)
        return error_set(err, ST_USAGE, "--group must be above 0, not %lld", (long long)group);
    RETURN_IF_ERROR(linear_word(a, cl, &linear, err));
    RETURN_IF_ERROR(heat_scheme(a, cl, linear, &q, &by, how, err));
    const Model *m = session_model(a->session);
    const char *name = m->linears[linear].name;
    RETURN_IF_ERROR(weight_heat(&(Source){.model = m}, linear, &(HeatAsk){.q = by, .group = group, .rows = rows, .cols = cols}, interrupt_cancel(), &h, err));
    Str text = {0};
    if (f == OUT_JSON)
        heat_json(name, how, &h, &text);
    else if (f == OUT_CSV)
        heat_csv(&h, &text);
    else
        heat_text(name, how, &h, cl_given(cl, "max"), &ramp, &text);
    weight_heat_fini(&h);
    return finish(a, cl, &text, ST_OK, err);
}

static const Option heat_options[] = {
    OPTIONS_MODEL,
    {"group", ARG_INT, "N", "values of a group (default 32)", COMP_NONE},
    {"scheme", ARG_STR, "NAME", "quantize so (W8A8, ...; recipe: the linear's own level; default 4-bit groups)", COMP_NONE},
    {"size", ARG_STR, "CxR", "columns and rows of the map (default 72x24)", COMP_NONE},
    {"max", ARG_FLAG, NULL, "text: the largest group of each field instead of their mean", COMP_NONE},
    OPTIONS_PICTURE,
    {0},
};
const Command command_heat = {
    .name = "heat",
    .args = "LINEAR",
    .summary = "Map where quantizing one weight goes wrong, group by group.",
    .help = "Rows are groups of inputs, columns output channels; each field is the mean square error of the groups it stands "
            "for. A bright row is an input that all channels weigh much, a bright column an output with large weights. No data "
            "is read.",
    .flags = CMD_CLI | CMD_NO_LOG,
    .completes = COMP_LAYER,
    .options = heat_options,
    .run = heat_run,
};
