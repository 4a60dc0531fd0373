#include "stat/weightstat.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/lanes.h"
#include "stat/kernel.h"
#include "stat/pool.h"

/* float32 sums over at most this many rows, then float64 */
enum { CHUNK = 64 };

/* What one panel contributes; merged in panel order. */
typedef struct Panel {
    double *cols; /* [3 + fakes][in] err8, err4, sq, the fakes'; until merged */
    double sum, sum_sq;
    float min, max;
    int64_t rows;
    bool done;
} Panel;

struct WeightStat {
    StatPool *pool;
    const StatKernels *k;
    bool err_sums, hist;
    WeightFake *fake;
    int fakes, panels;
    int64_t in;
    Panel *panel;
    pthread_mutex_t lock; /* everything below */
    Status status;
    Error error;
    int merged;           /* panels [0, merged) are in cols */
    double *cols;
    uint64_t *dense;
    int64_t bad_row;      /* -1: none */
    char bad_text[160];
};

void weighttotals_fini(WeightTotals *t)
{
    free(t->err8); /* the others lie behind it */
    keyhist_fini(&t->hist);
    memset(t, 0, sizeof *t);
}

Status weightstat_new(WeightStat **out, StatPool *pool, bool err_sums, bool hist, int panels, int64_t in, Error *err)
{
    WeightStat *s = mem_zarray(1, sizeof *s);
    if (!s)
        return error_nomem(err, "statistics of weights");
    pthread_mutex_init(&s->lock, NULL);
    s->pool = pool;
    s->k = stat_kernels();
    s->err_sums = err_sums;
    s->hist = hist;
    s->panels = panels;
    s->in = in;
    s->bad_row = -1;
    s->panel = mem_zarray((size_t)panels, sizeof *s->panel);
    s->cols = err_sums ? mem_zarray((size_t)in * 3, sizeof *s->cols) : NULL;
    s->dense = hist ? mem_zarray(65536, sizeof *s->dense) : NULL;
    if (!s->panel || (err_sums && !s->cols) || (hist && !s->dense)) {
        weightstat_free(s);
        return error_nomem(err, "statistics of weights");
    }
    *out = s;
    return ST_OK;
}

static int64_t columns_of(const WeightStat *s)
{
    return (3 + s->fakes) * s->in;
}

Status weightstat_fakes(WeightStat *s, const WeightFake *fakes, int n, Error *err)
{
    if (n <= 0)
        return ST_OK;
    double *cols = mem_zarray((size_t)((3 + n) * s->in), sizeof *cols);
    WeightFake *fake = mem_array((size_t)n, sizeof *fake);
    if (!cols || !fake) {
        free(cols);
        free(fake);
        return error_nomem(err, "statistics of weights");
    }
    memcpy(fake, fakes, (size_t)n * sizeof *fake);
    free(s->cols);
    s->cols = cols;
    s->fake = fake;
    s->fakes = n;
    return ST_OK;
}

void weightstat_free(WeightStat *s)
{
    if (!s)
        return;
    for (int i = 0; s->panel && i < s->panels; i++)
        free(s->panel[i].cols);
    free(s->panel);
    free(s->cols);
    free(s->dense);
    free(s->fake);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void note_bad(WeightStat *s, int64_t row, const float *w)
{
    int64_t j = 0;
    while (j < s->in && isfinite(w[j]))
        j++;
    pthread_mutex_lock(&s->lock);
    if (j < s->in && (s->bad_row < 0 || row < s->bad_row)) {
        s->bad_row = row;
        snprintf(s->bad_text, sizeof s->bad_text, "%s first at row %lld column %lld", isnan(w[j]) ? "NaN" : "Inf",
                 (long long)row, (long long)j);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Adds the float sums of columns to the panel's doubles and clears them. */
static void flush(const WeightStat *s, Panel *p, float *cols)
{
    for (int64_t j = 0; j < columns_of(s); j++)
        p->cols[j] += (double)cols[j];
    memset(cols, 0, (size_t)columns_of(s) * sizeof *cols);
}

static void add_errors(const float *x, const float *y, int64_t rows, int64_t in, float *col)
{
    for (int64_t r = 0; r < rows; r++, x += in, y += in)
        for (int64_t j = 0; j < in; j += LANES) {
            VF a, b, sum;
            load_lanes(&a, x + j, in - j);
            load_lanes(&b, y + j, in - j);
            load_lanes(&sum, col + j, in - j);
            a = a - b;
            sum += a * a;
            store_lanes(&sum, col + j, in - j);
        }
}

/* Sums of every fake over some rows; copy: room for them. */
static void add_fakes(const WeightStat *s, const float *x, int64_t rows, float *col, float *copy)
{
    for (int k = 0; k < s->fakes; k++, col += s->in) {
        memcpy(copy, x, (size_t)(rows * s->in) * sizeof *copy);
        s->fake[k].rows(s->fake[k].ctx, copy, rows, s->in);
        add_errors(x, copy, rows, s->in, col);
    }
}

/* Extremes and sums of some rows, their scales; false (and noted) when a value isn't finite. */
static bool scan_rows(WeightStat *s, Panel *p, int64_t row0, int64_t rows, const float *w, float *s8, float *s4)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *x = w + r * s->in;
        ScanSums sums = SCAN_START;
        s->k->scan(x, s->in, &sums);
        if (sums.max_bits >= 0x7f800000u) {
            note_bad(s, row0 + r, x);
            return false;
        }
        float top;
        memcpy(&top, &sums.max_bits, sizeof top);
        s8[r] = fmaxf(top / 127.0f, 0x1p-23f);
        s4[r] = fmaxf(top / 7.0f, 0x1p-23f);
        p->sum += sums.sum;
        p->min = fminf(p->min, sums.min);
        p->max = fmaxf(p->max, sums.max);
    }
    return true;
}

/* Adds the panel's key counts to the weight's and clears them; counts are ordered by value. */
static void merge_counts(WeightStat *s, StatScratch *scratch)
{
    pthread_mutex_lock(&s->lock);
    for (uint32_t k = 0; k < 32768; k++) {
        uint32_t *pos = &scratch->count16[32768 + k], *neg = &scratch->count16[32767 - k];
        if (*pos | *neg) {
            s->dense[k] += *pos;
            s->dense[0x8000u | k] += *neg;
            *pos = *neg = 0;
        }
    }
    pthread_mutex_unlock(&s->lock);
}

static bool add_rows(WeightStat *s, Panel *p, StatScratch *scratch, int64_t row0, int64_t rows, const float *w)
{
    float *cols = scratch->f, *s8 = cols + columns_of(s), *s4 = s8 + CHUNK;
    for (int64_t r = 0; r < rows; r += CHUNK) {
        int64_t g = rows - r < CHUNK ? rows - r : CHUNK;
        const float *x = w + r * s->in;
        if (!scan_rows(s, p, row0 + r, g, x, s8, s4))
            return false;
        if (s->err_sums || s->hist) {
            s->k->weight(x, g, s->in, s8, s4, cols, cols + s->in, cols + 2 * s->in);
            add_fakes(s, x, g, cols + 3 * s->in, s4 + CHUNK);
            flush(s, p, cols);
        }
        if (s->hist)
            s->k->count(x, g * s->in, (KeyMap){.base = 0, .shift = 16, .half = 32768}, scratch->count16);
    }
    return true;
}

/* Adds finished panels to the weight's column sums, always in panel order. */
static void merge_panels(WeightStat *s, Panel *p)
{
    pthread_mutex_lock(&s->lock);
    p->done = true;
    for (; s->merged < s->panels && s->panel[s->merged].done; s->merged++) {
        Panel *q = &s->panel[s->merged];
        for (int64_t j = 0; s->cols && q->cols && j < columns_of(s); j++)
            s->cols[j] += q->cols[j];
        free(q->cols);
        q->cols = NULL;
    }
    pthread_mutex_unlock(&s->lock);
}

static Status whole_panel(WeightStat *s, Panel *p, StatScratch *scratch, int64_t row0, const float *w, Error *err)
{
    size_t copy = s->fakes ? (size_t)CHUNK * (size_t)s->in : 0;
    p->cols = mem_zarray((size_t)columns_of(s), sizeof *p->cols);
    if (!p->cols || !statscratch_floats(scratch, (size_t)columns_of(s) + 2 * CHUNK + copy) ||
        (s->hist && !statscratch_count16(scratch)))
        return error_nomem(err, "statistics of weights");
    memset(scratch->f, 0, (size_t)columns_of(s) * sizeof *scratch->f);
    p->min = INFINITY;
    p->max = -INFINITY;
    add_rows(s, p, scratch, row0, p->rows, w);
    for (int64_t j = 2 * s->in; j < 3 * s->in; j++)
        p->sum_sq += p->cols[j];
    if (s->hist)
        merge_counts(s, scratch);
    merge_panels(s, p);
    return ST_OK;
}

void weightstat_panel(WeightStat *s, int panel, int64_t row0, int64_t rows, const float *w)
{
    Error err = {0};
    Panel *p = &s->panel[panel];
    p->rows = rows;
    StatScratch *scratch = statpool_take(s->pool);
    Status st = scratch ? whole_panel(s, p, scratch, row0, w, &err) : error_nomem(&err, "statistics of weights");
    if (scratch)
        statpool_give(s->pool, scratch);
    if (st == ST_OK)
        return;
    pthread_mutex_lock(&s->lock);
    if (s->status == ST_OK) {
        s->status = st;
        s->error = err;
    }
    pthread_mutex_unlock(&s->lock);
}

Status weightstat_end(WeightStat *s, WeightTotals *out, Error *err)
{
    if (s->status != ST_OK) {
        if (err)
            *err = s->error;
        return s->status;
    }
    if (s->merged != s->panels)
        return error_set(err, ST_INTERNAL, "%d of %d panels of a weight reached the statistics", s->merged, s->panels);
    WeightTotals o = {.min = NAN, .max = NAN, .mean = NAN, .std = NAN};
    if (s->bad_row >= 0) {
        o.bad = true;
        memcpy(o.bad_text, s->bad_text, sizeof o.bad_text);
        *out = o;
        return ST_OK;
    }
    double sum = 0, sum_sq = 0, n = 0;
    float min = INFINITY, max = -INFINITY;
    for (int i = 0; i < s->panels; i++) {
        const Panel *p = &s->panel[i];
        sum += p->sum;
        sum_sq += p->sum_sq;
        n += (double)p->rows * (double)s->in;
        min = fminf(min, p->min);
        max = fmaxf(max, p->max);
    }
    if (s->hist) {
        RETURN_IF_ERROR(keyhist_from_counts(&o.hist, s->dense, err));
        if (n > 0) {
            o.min = (double)min;
            o.max = (double)max;
            o.mean = sum / n;
            o.std = min == max ? 0 : sqrt(fmax(sum_sq / n - o.mean * o.mean, 0));
        }
    }
    if (s->err_sums) {
        o.err8 = s->cols;
        o.err4 = s->cols + s->in;
        o.sq = s->cols + 2 * s->in;
        o.err_fake = s->fakes ? s->cols + 3 * s->in : NULL;
        s->cols = NULL;
    }
    *out = o;
    return ST_OK;
}
