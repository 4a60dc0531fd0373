#include "metric/weightview.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/weighteach.h"
#include "metric/weightgrid.h"
#include "stat/kernel.h"
#include "stat/keyhist.h"
#include "stat/weightsums.h"

const double weight_quantiles[WEIGHT_QUANTILES] = {0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999};

/* ---- histogram ---- */

typedef struct HistRun {
    const Linear *l;
    WeightHist *h;
    uint32_t *part;  /* [65536] by bucket */
    uint64_t *dense; /* [65536] by key */
    ScanSums scan;
    float center, low, high; /* inliers */
    AroundSums around;
} HistRun;

static Status scan_rows(void *ctx, const float *w, int64_t row0, int64_t rows, Error *err)
{
    HistRun *x = ctx;
    int64_t n = rows * x->l->in;
    const StatKernels *k = stat_kernels();
    k->scan(w, n, &x->scan);
    if (x->scan.max_bits >= 0x7f800000u)
        return weighteach_finite(x->l, w, row0, n, err);
    k->count(w, n, (KeyMap){.base = 0, .shift = 16, .half = 32768}, x->part);
    for (uint32_t key = 0; key < 32768; key++) {
        x->dense[key] += x->part[32768 + key];
        x->dense[0x8000u | key] += x->part[32767 - key];
    }
    memset(x->part, 0, 65536 * sizeof *x->part);
    return ST_OK;
}

static Status around_rows(void *ctx, const float *w, int64_t row0, int64_t rows, Error *err)
{
    (void)row0, (void)err;
    HistRun *x = ctx;
    weightsums_around(w, rows * x->l->in, x->center, &x->around);
    return ST_OK;
}

static double edge(const WeightHist *h, int i)
{
    return h->lo + (h->hi - h->lo) * i / h->bins;
}

static Status bin_rows(void *ctx, const float *w, int64_t row0, int64_t rows, Error *err)
{
    (void)row0, (void)err;
    HistRun *x = ctx;
    WeightHist *h = x->h;
    const double scale = h->hi > h->lo ? h->bins / (h->hi - h->lo) : 0;
    for (int64_t i = 0; i < rows * x->l->in; i++) {
        double v = (double)w[i];
        int b = (int)((v - h->lo) * scale);
        b = b < h->bins ? b : h->bins - 1;
        if (b > 0 && v < edge(h, b)) /* the product was rounded */
            b--;
        else if (b < h->bins - 1 && v >= edge(h, b + 1))
            b++;
        h->count[b]++;
        h->below += w[i] < x->low;
        h->above += w[i] > x->high;
    }
    return ST_OK;
}

static Status read_quantiles(const HistRun *x, Error *err)
{
    KeyHist k;
    RETURN_IF_ERROR(keyhist_from_counts(&k, x->dense, err));
    for (int i = 0; i < WEIGHT_QUANTILES; i++)
        x->h->quantile[i] = fmin(fmax(keyhist_quantile(&k, weight_quantiles[i]), x->h->lo), x->h->hi);
    keyhist_fini(&k);
    return ST_OK;
}

static Status make_hist(const Source *s, HistRun *x, int bins, const Cancel *cancel, float *w, Error *err)
{
    WeightHist *h = x->h;
    RETURN_IF_ERROR(weighteach(s, x->l, 0, x->l->out, cancel, w, scan_rows, x, err));
    h->n = (double)x->l->out * (double)x->l->in;
    h->lo = (double)x->scan.min;
    h->hi = (double)x->scan.max;
    h->bins = h->hi > h->lo ? bins : 1;
    h->mean = h->hi > h->lo ? x->scan.sum / h->n : h->lo;
    if (h->hi > h->lo) {
        x->center = (float)h->mean;
        RETURN_IF_ERROR(weighteach(s, x->l, 0, x->l->out, cancel, w, around_rows, x, err));
        h->mean = (double)x->center + x->around.d1 / h->n;
        h->std = sqrt(fmax(x->around.d2 - x->around.d1 * x->around.d1 / h->n, 0) / h->n);
    }
    x->low = (float)(h->mean - 3 * h->std);
    x->high = (float)(h->mean + 3 * h->std);
    h->count = mem_zarray((size_t)h->bins, sizeof *h->count);
    if (!h->count)
        return error_nomem(err, "a histogram");
    RETURN_IF_ERROR(weighteach(s, x->l, 0, x->l->out, cancel, w, bin_rows, x, err));
    return read_quantiles(x, err);
}

Status weight_hist(const Source *s, int64_t linear, int bins, const Cancel *cancel, WeightHist *out, Error *err)
{
    const Linear *l = &s->model->linears[linear];
    *out = (WeightHist){0};
    RETURN_IF_ERROR(source_check(s, l, err));
    HistRun x = {.l = l, .h = out, .scan = SCAN_START};
    x.part = mem_zarray(65536, sizeof *x.part);
    x.dense = mem_zarray(65536, sizeof *x.dense);
    float *w = weighteach_room(l, 1);
    Status st = x.part && x.dense && w ? make_hist(s, &x, bins, cancel, w, err) : error_nomem(err, "a histogram");
    free(x.part);
    free(x.dense);
    free(w);
    if (st != ST_OK)
        weight_hist_fini(out);
    return st;
}

void weight_hist_fini(WeightHist *h)
{
    free(h->count);
    *h = (WeightHist){0};
}

/* ---- heat map ---- */

typedef struct HeatRun {
    const Linear *l;
    const QSpec *q;
    const WeightQuantizer *by;
    WeightHeat *h;
    float *fake;
    double *cells; /* [rows][cols] how many cells a field has */
} HeatRun;

static void add_cell(HeatRun *x, int64_t g, int64_t o, double v)
{
    WeightHeat *h = x->h;
    const HeatArea *a = &h->area;
    int64_t at = (g - a->group0) * h->rows / a->groups * h->cols + (o - a->channel0) * h->cols / a->channels;
    h->mean[at] += v;
    h->max[at] = fmax(h->max[at], v);
    x->cells[at]++;
    h->average += v;
    if (v > h->top) {
        h->top = v;
        h->top_group = g;
        h->top_channel = o;
    }
}

/* w[rows][in] as quantized and back, into y. */
static void fake_rows(const HeatRun *x, const float *w, int64_t rows, float *y)
{
    int64_t in = x->l->in;
    if (!x->q) {
        weightgrid_groups(w, rows, in, x->h->group, 4, y);
        return;
    }
    memcpy(y, w, (size_t)(rows * in) * sizeof *w);
    x->by->rows(x->q, y, rows, in, DT_F32, false);
}

static Status heat_rows(void *ctx, const float *w, int64_t row0, int64_t rows, Error *err)
{
    HeatRun *x = ctx;
    const HeatArea *area = &x->h->area;
    int64_t in = x->l->in;
    RETURN_IF_ERROR(weighteach_finite(x->l, w, row0, rows * in, err));
    fake_rows(x, w, rows, x->fake);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t g = area->group0; g < area->group0 + area->groups; g++) {
            int64_t a = r * in + g * x->h->group, n = min_i64(x->h->group, in - g * x->h->group);
            double sq = 0;
            weightsums_sq(w + a, x->fake + a, n, &sq);
            add_cell(x, g, row0 + r, sq / (double)n);
        }
    return ST_OK;
}

static Status make_heat(const Source *s, HeatRun *x, const Cancel *cancel, Error *err)
{
    WeightHeat *h = x->h;
    const HeatArea *a = &h->area;
    size_t n = (size_t)h->rows * (size_t)h->cols;
    float *w = weighteach_room(x->l, 2);
    h->mean = mem_zarray(n, sizeof *h->mean);
    h->max = mem_zarray(n, sizeof *h->max);
    x->cells = mem_zarray(n, sizeof *x->cells);
    x->fake = w ? w + weighteach_values(x->l) : NULL;
    Status st = w && h->mean && h->max && x->cells
                    ? weighteach(s, x->l, a->channel0, a->channel0 + a->channels, cancel, w, heat_rows, x, err)
                    : error_nomem(err, "a heat map");
    for (size_t i = 0; st == ST_OK && i < n; i++)
        h->mean[i] /= x->cells[i];
    h->average /= (double)a->groups * (double)a->channels;
    free(w);
    free(x->cells);
    return st;
}

/* Values of a group under q, and how many groups that makes. */
static void group_size(const Linear *l, const QSpec *q, int64_t group, WeightHeat *h)
{
    int64_t own = q && q->scope != QS_PER_CHANNEL ? qspec_group(q, l->in) : 0;
    h->group = min_i64(l->in, own > 0 && own < l->in ? own : group > 0 ? group : 32);
    h->groups = div_up(l->in, h->group);
}

/* The part of [0, n) that is asked for: all of it where nothing is. */
static void clip_span(int64_t *from, int64_t *count, int64_t n)
{
    *from = min_i64(max_i64(*from, 0), n - 1);
    *count = *count > 0 ? min_i64(*count, n - *from) : n - *from;
}

Status weight_heat(const Source *s, int64_t linear, const HeatAsk *ask, const Cancel *cancel, WeightHeat *out, Error *err)
{
    const Linear *l = &s->model->linears[linear];
    HeatRun x = {.l = l, .q = ask->q, .h = out};
    *out = (WeightHeat){.channels = l->out, .area = ask->area};
    RETURN_IF_ERROR(source_check(s, l, err));
    if (x.q)
        RETURN_IF_ERROR(weighteach_quantizer(x.q, l, &x.by, err));
    group_size(l, ask->q, ask->group, out);
    clip_span(&out->area.group0, &out->area.groups, out->groups);
    clip_span(&out->area.channel0, &out->area.channels, out->channels);
    out->rows = (int)min_i64(max_i64(ask->rows, 1), out->area.groups);
    out->cols = (int)min_i64(max_i64(ask->cols, 1), out->area.channels);
    Status st = make_heat(s, &x, cancel, err);
    if (st != ST_OK)
        weight_heat_fini(out);
    return st;
}

void weight_heat_fini(WeightHeat *h)
{
    free(h->mean);
    free(h->max);
    *h = (WeightHeat){0};
}

/* ---- one cell ---- */

static Status read_cell(const Source *s, const HeatRun *x, WeightCell *out, Error *err)
{
    int64_t in = x->l->in, at = out->group * x->h->group;
    float *w = mem_array(2 * (size_t)in, sizeof *w);
    out->n = min_i64(x->h->group, in - at);
    out->value = mem_array((size_t)out->n, sizeof *out->value);
    out->made = mem_array((size_t)out->n, sizeof *out->made);
    Status st = w && out->value && out->made ? source_rows(s, NULL, x->l, out->channel, 1, w, err) : error_nomem(err, "a group's values");
    if (st == ST_OK)
        st = weighteach_finite(x->l, w, out->channel, in, err);
    if (st == ST_OK) {
        fake_rows(x, w, 1, w + in);
        memcpy(out->value, w + at, (size_t)out->n * sizeof *w);
        memcpy(out->made, w + in + at, (size_t)out->n * sizeof *w);
    }
    free(w);
    return st;
}

Status weight_cell(const Source *s, int64_t linear, const HeatAsk *ask, WeightCell *out, Error *err)
{
    const Linear *l = &s->model->linears[linear];
    WeightHeat h = {0};
    HeatRun x = {.l = l, .q = ask->q, .h = &h};
    *out = (WeightCell){0};
    RETURN_IF_ERROR(source_check(s, l, err));
    if (x.q)
        RETURN_IF_ERROR(weighteach_quantizer(x.q, l, &x.by, err));
    group_size(l, ask->q, ask->group, &h);
    out->group = min_i64(max_i64(ask->area.group0, 0), h.groups - 1);
    out->channel = min_i64(max_i64(ask->area.channel0, 0), l->out - 1);
    out->first = out->group * h.group;
    Status st = read_cell(s, &x, out, err);
    if (st != ST_OK)
        weight_cell_fini(out);
    return st;
}

void weight_cell_fini(WeightCell *c)
{
    free(c->value);
    free(c->made);
    *c = (WeightCell){0};
}
