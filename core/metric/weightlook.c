#include "metric/weightlook.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/weighteach.h"

enum { KEYS = 65536 };

typedef struct LookRun {
    const Linear *l;
    const QSpec *q;
    const WeightQuantizer *by;
    WeightLook *out;
    float *made;                     /* rows as quantized and back */
    uint64_t *values, *back, *steps; /* [KEYS] */
    int bits;                        /* of an integer grid, 0: none */
    int64_t group;                   /* values with one step */
    double base, n, d1, d2;          /* the first value, and sums of distances to it */
} LookRun;

static unsigned key_of(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits >> 16;
}

static void note_bad(LookRun *x, float v, int64_t row, int64_t col)
{
    WeightLook *o = x->out;
    if (!o->bad++)
        snprintf(o->bad_text, sizeof o->bad_text, "%s first at row %lld column %lld", isnan(v) ? "NaN" : "Inf", (long long)row,
                 (long long)col);
}

/* Takes a row in; false: not all of it is finite. */
static bool take_row(LookRun *x, const float *w, int64_t row)
{
    WeightLook *o = x->out;
    int64_t bad = o->bad;
    float most = 0;
    for (int64_t i = 0; i < o->in; i++) {
        float a = fabsf(w[i]);
        x->values[key_of(w[i])]++;
        if (!isfinite(w[i])) {
            note_bad(x, w[i], row, i);
            continue;
        }
        most = a > most ? a : most;
        o->col_max[i] = a > o->col_max[i] ? a : o->col_max[i];
        if (x->n++ == 0)
            x->base = o->min = o->max = (double)w[i];
        double v = (double)w[i], d = v - x->base;
        o->min = v < o->min ? v : o->min;
        o->max = v > o->max ? v : o->max;
        x->d1 += d;
        x->d2 += d * d;
    }
    o->row_max[row] = most;
    return o->bad == bad;
}

/* The steps of the row's groups, by the range that the plain quantizer takes. */
static void take_steps(LookRun *x, const float *w)
{
    for (int64_t i = 0; x->bits && i < x->out->in; i += x->group) {
        float mn, mx;
        intquant_range(w + i, min_i64(x->group, x->out->in - i), &mn, &mx);
        x->steps[key_of(intquant_param(mn, mx, x->bits, x->q->symmetric, DT_F32).scale)]++;
    }
}

static void take_made(LookRun *x, const float *w, const float *made)
{
    WeightLook *o = x->out;
    for (int64_t i = 0; i < o->in; i++) {
        double v = (double)w[i], e = (double)made[i] - v;
        x->back[key_of(made[i])]++;
        o->square += v * v;
        o->error += e * e;
        o->worst = fmax(o->worst, fabs(e));
    }
}

static Status look_rows(void *ctx, const float *w, int64_t row0, int64_t rows, Error *err)
{
    LookRun *x = ctx;
    int64_t in = x->out->in;
    (void)err;
    for (int64_t r = 0; r < rows; r++) {
        const float *row = w + r * in;
        if (!take_row(x, row, row0 + r) || !x->q)
            continue;
        memcpy(x->made, row, (size_t)in * sizeof *row);
        x->by->rows(x->q, x->made, 1, in, DT_F32, false);
        take_steps(x, row);
        take_made(x, row, x->made);
    }
    return ST_OK;
}

static void moments(const LookRun *x)
{
    if (!(x->n > 0))
        return;
    x->out->mean = x->base + x->d1 / x->n;
    x->out->std = sqrt(fmax(x->d2 - x->d1 * x->d1 / x->n, 0) / x->n);
}

/* The grid with the step that half the groups lie below. */
static Status middle_grid(const LookRun *x, Error *err)
{
    KeyHist steps;
    if (!x->bits)
        return ST_OK;
    RETURN_IF_ERROR(keyhist_from_counts(&steps, x->steps, err));
    double step = keyhist_quantile(&steps, 0.5);
    keyhist_fini(&steps);
    int half = 1 << (x->bits - 1);
    if (isfinite(step) && step > 0)
        x->out->grid = x->q->symmetric ? (HistGrid){step, -half, half - 1} : (HistGrid){step, -2 * half, 2 * half};
    return ST_OK;
}

static Status make_look(const Source *s, LookRun *x, const Cancel *cancel, float *w, Error *err)
{
    RETURN_IF_ERROR(weighteach(s, x->l, 0, x->l->out, cancel, w, look_rows, x, err));
    moments(x);
    RETURN_IF_ERROR(keyhist_from_counts(&x->out->values, x->values, err));
    if (!x->q)
        return ST_OK;
    RETURN_IF_ERROR(keyhist_from_counts(&x->out->made, x->back, err));
    return middle_grid(x, err);
}

static void grid_of(LookRun *x)
{
    x->bits = x->q->dtype == QT_INT8 ? 8 : x->q->dtype == QT_INT4 ? 4 : 0;
    int64_t group = x->q->scope == QS_PER_CHANNEL ? 0 : qspec_group(x->q, x->l->in);
    x->group = group > 0 ? min_i64(group, x->l->in) : x->l->in;
}

Status weight_look(const Source *s, int64_t linear, const QSpec *q, const Cancel *cancel, WeightLook *out, Error *err)
{
    const Linear *l = &s->model->linears[linear];
    LookRun x = {.l = l, .q = q, .out = out};
    *out = (WeightLook){.out = l->out, .in = l->in};
    RETURN_IF_ERROR(source_check(s, l, err));
    if (q) {
        RETURN_IF_ERROR(weighteach_quantizer(q, l, &x.by, err));
        grid_of(&x);
    }
    out->row_max = mem_zarray((size_t)l->out, sizeof *out->row_max);
    out->col_max = mem_zarray((size_t)l->in, sizeof *out->col_max);
    x.values = mem_zarray(3 * (size_t)KEYS, sizeof *x.values);
    x.made = mem_array((size_t)l->in, sizeof *x.made);
    float *w = weighteach_room(l, 1);
    Status st = ST_NOMEM;
    if (out->row_max && out->col_max && x.values && x.made && w) {
        x.back = x.values + KEYS;
        x.steps = x.back + KEYS;
        st = make_look(s, &x, cancel, w, err);
    } else {
        st = error_nomem(err, "the look at a weight");
    }
    free(x.values);
    free(x.made);
    free(w);
    if (st != ST_OK)
        weight_look_fini(out);
    return st;
}

void weight_look_fini(WeightLook *l)
{
    keyhist_fini(&l->values);
    keyhist_fini(&l->made);
    free(l->row_max);
    free(l->col_max);
    *l = (WeightLook){0};
}
