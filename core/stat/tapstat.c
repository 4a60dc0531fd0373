#include "stat/tapstat.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stat/kernel.h"
#include "stat/order.h"
#include "stat/pool.h"

/* What one sample contributes; merged in sample order. */
typedef struct Sample {
    int64_t rows_seen;
    const float *x;     /* its first tile */
    float *list;        /* sampled order statistics */
    double *channel_sq; /* [width] sums, until merged */
    double sum, sum_sq, token_max_sq, sd;
    float min, max;
    bool done;
} Sample;

struct TapStat {
    StatPool *pool;
    const StatKernels *k;
    TapWants wants;
    int samples;
    int64_t *start, width;
    Sample *sample;
    pthread_mutex_t lock; /* everything below */
    Status status;
    Error error;
    int merged;           /* samples [0, merged) are in channel_sq */
    double *channel_sq;
    float *channel_max;
    uint64_t *dense;
    int bad_sample;       /* -1: none */
    int64_t bad_row, bad_channel;
    bool bad_nan;         /* not Inf */
};

void taptotals_fini(TapTotals *t)
{
    free(t->channel_sq);
    free(t->channel_max);
    keyhist_fini(&t->hist);
    memset(t, 0, sizeof *t);
}

Status tapstat_new(TapStat **out, StatPool *pool, TapWants wants, int samples, const int64_t *start, int64_t width,
                   Error *err)
{
    TapStat *t = mem_zarray(1, sizeof *t);
    if (!t)
        return error_nomem(err, "statistics of activations");
    pthread_mutex_init(&t->lock, NULL);
    t->pool = pool;
    t->k = stat_kernels();
    t->wants = wants;
    t->samples = samples;
    t->width = width;
    t->bad_sample = -1;
    t->start = mem_array((size_t)samples + 1, sizeof *t->start);
    t->sample = mem_zarray((size_t)samples, sizeof *t->sample);
    bool ok = t->start && t->sample;
    if (wants.channel || wants.hist)
        ok = ok && (t->channel_sq = mem_zarray((size_t)width, sizeof *t->channel_sq));
    if (wants.hist)
        ok = ok && (t->channel_max = mem_zarray((size_t)width, sizeof *t->channel_max)) &&
             (t->dense = mem_zarray(65536, sizeof *t->dense));
    if (!ok) {
        tapstat_free(t);
        return error_nomem(err, "statistics of activations");
    }
    memcpy(t->start, start, ((size_t)samples + 1) * sizeof *start);
    *out = t;
    return ST_OK;
}

void tapstat_free(TapStat *t)
{
    if (!t)
        return;
    for (int i = 0; t->sample && i < t->samples; i++) {
        free(t->sample[i].list);
        free(t->sample[i].channel_sq);
    }
    free(t->sample);
    free(t->start);
    free(t->channel_sq);
    free(t->channel_max);
    free(t->dense);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static bool wants_channels(const TapStat *t)
{
    return t->wants.std || t->wants.channel || t->wants.hist;
}

static void fail(TapStat *t, const Error *err)
{
    pthread_mutex_lock(&t->lock);
    if (t->status == ST_OK) {
        t->status = err->status;
        t->error = *err;
    }
    pthread_mutex_unlock(&t->lock);
}

/* Notes where a sample's first NaN or Inf is; the first sample's counts. */
static void note_bad(TapStat *t, int sample, const float *x, int64_t rows, int64_t ld)
{
    int64_t r = 0, j = 0;
    while (r < rows && isfinite(x[r * ld + j]))
        if (++j == t->width) {
            j = 0;
            r++;
        }
    if (r == rows)
        return;
    pthread_mutex_lock(&t->lock);
    if (t->bad_sample < 0 || sample < t->bad_sample) {
        t->bad_sample = sample;
        t->bad_row = r;
        t->bad_channel = j;
        t->bad_nan = isnan(x[r * ld + j]);
    }
    pthread_mutex_unlock(&t->lock);
}

/* Channel extremes, squares and token maxima, and the std score's deviation. f: room for 3*width + rows floats. */
static void channel_pass(TapStat *t, Sample *s, const float *x, int64_t rows, int64_t ld, float *f)
{
    int64_t w = t->width;
    float *cmin = f, *cmax = f + w, *mid = f + 2 * w, *rowmax = f + 3 * w;
    memcpy(cmin, x, (size_t)w * sizeof *f);
    memcpy(cmax, x, (size_t)w * sizeof *f);
    t->k->columns(x, rows, w, ld, cmin, cmax, s->channel_sq, rowmax);
    double mids = 0;
    bool flat = true; /* every channel constant: no deviation at all */
    for (int64_t j = 0; j < w; j++) {
        flat = flat && cmin[j] == cmax[j];
        s->sum_sq += s->channel_sq[j];
        mid[j] = (cmax[j] + cmin[j]) / 2.0f;
        mids += (double)mid[j];
    }
    for (int64_t r = 0; r < rows; r++)
        s->token_max_sq += (double)rowmax[r] * (double)rowmax[r];
    if (!t->wants.std)
        return;
    /* Values minus their channel's midpoint, around their mean: no digits are lost to a common offset. */
    double n = (double)rows * (double)w, s1 = 0, s2 = 0;
    float mean = (float)((s->sum - (double)rows * mids) / n);
    for (int64_t r = 0; r < rows; r++)
        t->k->shift(x + r * ld, w, mid, mean, &s1, &s2);
    s->sd = n > 1 && flat ? 0 : n > 1 ? sqrt(fmax(s2 - s1 * s1 / n, 0) / (n - 1)) : NAN;
}

/* Order statistics and histogram of a sample into s->list and the tap's dense table. */
static Status order_pass(TapStat *t, Sample *s, StatScratch *scratch, const float *x, int64_t rows, int64_t ld,
                         const ScanSums *sums, Error *err)
{
    if (t->wants.order) {
        s->list = mem_array((size_t)order_count_of(rows * t->width), sizeof *s->list);
        if (!s->list)
            return error_nomem(err, "order statistics");
    }
    RETURN_IF_ERROR(order_count(&scratch->order, t->k, x, rows, t->width, ld, sums, err));
    RETURN_IF_ERROR(order_pick(&scratch->order, t->k, x, rows, t->width, ld, t->wants.hist, ORDER_EXACT_MAX, s->list,
                               err));
    if (t->wants.hist) {
        pthread_mutex_lock(&t->lock); /* counts: the order of merging doesn't matter */
        order_hist(&scratch->order, t->dense);
        pthread_mutex_unlock(&t->lock);
    }
    return ST_OK;
}

/* Adds finished samples to the channels' sums, always in sample order. */
static void merge_channels(TapStat *t, int sample, const float *cmin, const float *cmax)
{
    pthread_mutex_lock(&t->lock);
    t->sample[sample].done = true;
    for (int64_t j = 0; t->channel_max && j < t->width; j++)
        t->channel_max[j] = fmaxf(t->channel_max[j], fmaxf(fabsf(cmin[j]), fabsf(cmax[j])));
    for (; !t->wants.parts && t->merged < t->samples; t->merged++) {
        Sample *s = &t->sample[t->merged];
        if (!s->done && t->start[t->merged + 1] > t->start[t->merged])
            break;
        for (int64_t j = 0; t->channel_sq && s->channel_sq && j < t->width; j++)
            t->channel_sq[j] += s->channel_sq[j];
        free(s->channel_sq);
        s->channel_sq = NULL;
    }
    pthread_mutex_unlock(&t->lock);
}

static Status whole_sample(TapStat *t, int sample, StatScratch *scratch, const float *x, int64_t rows, int64_t ld,
                           Error *err)
{
    Sample *s = &t->sample[sample];
    ScanSums sums = SCAN_START;
    if (ld == t->width)
        t->k->scan(x, rows * t->width, &sums);
    else
        for (int64_t r = 0; r < rows; r++)
            t->k->scan(x + r * ld, t->width, &sums);
    if (sums.max_bits >= 0x7f800000u) {
        note_bad(t, sample, x, rows, ld);
        return ST_OK;
    }
    s->sum = sums.sum;
    s->min = sums.min;
    s->max = sums.max;
    if (wants_channels(t)) {
        s->channel_sq = mem_zarray((size_t)t->width, sizeof *s->channel_sq);
        if (!s->channel_sq || !statscratch_floats(scratch, (size_t)(3 * t->width + rows)))
            return error_nomem(err, "statistics of activations");
        channel_pass(t, s, x, rows, ld, scratch->f);
    }
    if (t->wants.order || t->wants.hist)
        RETURN_IF_ERROR(order_pass(t, s, scratch, x, rows, ld, &sums, err));
    if (wants_channels(t))
        merge_channels(t, sample, scratch->f, scratch->f + t->width);
    return ST_OK;
}

void tapstat_tile(TapStat *t, int sample, int64_t row0, const float *x, int64_t rows, int64_t ld)
{
    Sample *s = &t->sample[sample];
    int64_t all = t->start[sample + 1] - t->start[sample], w = t->width;
    if (row0 == 0)
        s->x = x;
    if (rows <= 0 || w <= 0 || row0 != s->rows_seen || row0 + rows > all || x != s->x + row0 * ld)
        return;
    s->rows_seen += rows;
    if (s->rows_seen < all)
        return;
    Error err = {0};
    StatScratch *scratch = statpool_take(t->pool);
    Status st = scratch ? whole_sample(t, sample, scratch, s->x, all, ld, &err)
                        : error_nomem(&err, "statistics of activations");
    if (st != ST_OK)
        fail(t, &err);
    if (scratch)
        statpool_give(t->pool, scratch);
}

/* Sums over the samples, in their order. */
static void merge_samples(const TapStat *t, TapTotals *o)
{
    double sum = 0, sum_sq = 0, token = 0, sd = 0;
    for (int i = 0; i < t->samples; i++) {
        const Sample *s = &t->sample[i];
        if (!s->rows_seen)
            continue;
        o->min = o->samples ? fmin(o->min, (double)s->min) : (double)s->min;
        o->max = o->samples ? fmax(o->max, (double)s->max) : (double)s->max;
        o->samples++;
        o->rows += s->rows_seen;
        sum += s->sum;
        sum_sq += s->sum_sq;
        token += s->token_max_sq;
        sd = isnan(sd) || isnan(s->sd) ? NAN : fmax(sd, s->sd);
    }
    o->values = o->rows * t->width;
    double n = (double)o->values;
    if (!o->values)
        return;
    o->mean = sum / n;
    if (!wants_channels(t))
        return;
    o->mean_sq = sum_sq / n;
    o->std = o->min == o->max ? 0 : sqrt(fmax(o->mean_sq - o->mean * o->mean, 0));
    if (t->wants.channel)
        o->token_max_sq = token / (double)o->rows;
    if (t->wants.std) {
        float top = fmaxf(fabsf((float)o->max), fabsf((float)o->min)), dev = (float)sd;
        o->std_score = isinf(dev) ? NAN : (double)(dev == 0 ? top : top / dev);
    }
}

static Status merge_lists(const TapStat *t, TapTotals *o, Error *err)
{
    OrderList *l = mem_zarray((size_t)t->samples, sizeof *l);
    if (!l)
        return error_nomem(err, "order statistics");
    for (int i = 0; i < t->samples; i++)
        if (t->sample[i].list)
            l[i] = (OrderList){t->sample[i].list, order_count_of(t->sample[i].rows_seen * t->width)};
    o->kurtosis = order_kurtosis(l, t->samples);
    o->quantile = order_quantile(l, t->samples);
    free(l);
    return ST_OK;
}

Status tapstat_end(TapStat *t, TapTotals *out, Error *err)
{
    if (t->status != ST_OK) {
        if (err)
            *err = t->error;
        return t->status;
    }
    for (int i = 0; i < t->samples; i++)
        if (t->sample[i].rows_seen != t->start[i + 1] - t->start[i])
            return error_set(err, ST_INTERNAL, "%lld of %lld rows of sample %d reached the statistics",
                             (long long)t->sample[i].rows_seen, (long long)(t->start[i + 1] - t->start[i]), i);
    TapTotals o = {.width = t->width, .min = NAN, .max = NAN, .mean = NAN, .std = NAN, .mean_sq = NAN, .kurtosis = NAN,
                   .quantile = NAN, .std_score = NAN, .token_max_sq = NAN};
    if (t->bad_sample >= 0) {
        o.bad = true;
        snprintf(o.bad_text, sizeof o.bad_text, "%s first at sample %d token %lld channel %lld",
                 t->bad_nan ? "NaN" : "Inf", t->bad_sample, (long long)t->bad_row, (long long)t->bad_channel);
        for (int i = 0; i < t->samples; i++) {
            o.rows += t->sample[i].rows_seen;
            o.samples += t->sample[i].rows_seen > 0;
        }
        o.values = o.rows * t->width;
        *out = o;
        return ST_OK;
    }
    merge_samples(t, &o);
    for (int i = 0; t->channel_sq && i < t->samples; i++) /* those that were kept as parts */
        for (int64_t j = 0; t->sample[i].channel_sq && j < t->width; j++)
            t->channel_sq[j] += t->sample[i].channel_sq[j];
    if (t->wants.order)
        RETURN_IF_ERROR(merge_lists(t, &o, err));
    if (t->wants.hist) {
        RETURN_IF_ERROR(keyhist_from_counts(&o.hist, t->dense, err));
        o.channel_max = t->channel_max;
        t->channel_max = NULL;
    }
    if (t->wants.channel) {
        for (int64_t j = 0; j < t->width && o.rows; j++)
            t->channel_sq[j] /= (double)o.rows;
        o.channel_sq = t->channel_sq;
        t->channel_sq = NULL;
    }
    *out = o;
    return ST_OK;
}

/* ---- samples that others saw ---- */

static void pack_sample(const TapStat *t, const Sample *s, Pack *out)
{
    pack_i64(out, s->rows_seen);
    pack_f64(out, s->sum);
    pack_f64(out, s->sum_sq);
    pack_f64(out, s->token_max_sq);
    pack_f64(out, s->sd);
    pack_f64(out, (double)s->min);
    pack_f64(out, (double)s->max);
    pack_i64(out, s->list ? order_count_of(s->rows_seen * t->width) : -1);
    if (s->list)
        pack_put(out, s->list, (size_t)order_count_of(s->rows_seen * t->width) * sizeof *s->list);
    pack_i64(out, s->channel_sq != NULL);
    if (s->channel_sq)
        pack_put(out, s->channel_sq, (size_t)t->width * sizeof *s->channel_sq);
}

Status tapstat_pack(const TapStat *t, Pack *out, Error *err)
{
    if (t->status != ST_OK) {
        if (err)
            *err = t->error;
        return t->status;
    }
    pack_i64(out, t->samples);
    pack_i64(out, t->width);
    pack_put(out, t->start, ((size_t)t->samples + 1) * sizeof *t->start);
    pack_i64(out, t->bad_sample);
    pack_i64(out, t->bad_row);
    pack_i64(out, t->bad_channel);
    pack_i64(out, t->bad_nan);
    for (int i = 0; i < t->samples; i++)
        pack_sample(t, &t->sample[i], out);
    if (t->dense)
        pack_put(out, t->dense, 65536 * sizeof *t->dense);
    if (t->channel_max)
        pack_put(out, t->channel_max, (size_t)t->width * sizeof *t->channel_max);
    return out->oom ? error_nomem(err, "statistics of activations") : ST_OK;
}

static void unpack_sample(const TapStat *t, Sample *s, Unpack *in)
{
    s->rows_seen = unpack_i64(in);
    s->sum = unpack_f64(in);
    s->sum_sq = unpack_f64(in);
    s->token_max_sq = unpack_f64(in);
    s->sd = unpack_f64(in);
    s->min = (float)unpack_f64(in);
    s->max = (float)unpack_f64(in);
    int64_t list = unpack_i64(in);
    s->list = list >= 0 ? unpack_array(in, list, sizeof *s->list) : NULL;
    s->channel_sq = unpack_i64(in) ? unpack_array(in, t->width, sizeof *s->channel_sq) : NULL;
    s->done = true;
}

/* Room for n more samples, none of them seen. start NULL: without rows. */
static bool more_samples(TapStat *t, int64_t n, const int64_t *start)
{
    size_t all = (size_t)t->samples + (size_t)n;
    int64_t *starts = mem_array(all + 1, sizeof *starts);
    Sample *sample = mem_zarray(all, sizeof *sample);
    if (!starts || !sample) {
        free(starts);
        free(sample);
        return false;
    }
    memcpy(starts, t->start, ((size_t)t->samples + 1) * sizeof *starts);
    for (int64_t i = 0; i <= n; i++)
        starts[t->samples + i] = t->start[t->samples] + (start ? start[i] : 0);
    memcpy(sample, t->sample, (size_t)t->samples * sizeof *sample);
    free(t->start);
    free(t->sample);
    t->start = starts;
    t->sample = sample;
    return true;
}

Status tapstat_skip(TapStat *t, int64_t n, Error *err)
{
    if (!more_samples(t, n, NULL))
        return error_nomem(err, "statistics of activations");
    t->samples += (int)n;
    return ST_OK;
}

/* What belongs to all samples of a part: which was bad, counts, channel maxima. */
static void merge_common(TapStat *t, Unpack *in, const int64_t bad[4], int first)
{
    uint64_t *dense = t->dense ? unpack_array(in, 65536, sizeof *dense) : NULL;
    float *top = t->channel_max ? unpack_array(in, t->width, sizeof *top) : NULL;
    for (int i = 0; dense && i < 65536; i++)
        t->dense[i] += dense[i];
    for (int64_t j = 0; top && j < t->width; j++)
        t->channel_max[j] = fmaxf(t->channel_max[j], top[j]);
    free(dense);
    free(top);
    if (t->bad_sample >= 0 || bad[0] < 0)
        return;
    t->bad_sample = first + (int)bad[0];
    t->bad_row = bad[1];
    t->bad_channel = bad[2];
    t->bad_nan = bad[3] != 0;
}

Status tapstat_merge(TapStat *t, Unpack *in, Error *err)
{
    int64_t n = unpack_i64(in), width = unpack_i64(in), bad[4];
    bool fits = !in->bad && width == t->width && n >= 0 && n <= INT32_MAX - t->samples;
    int64_t *start = fits ? unpack_array(in, n + 1, sizeof *start) : NULL;
    for (int i = 0; i < 4; i++)
        bad[i] = unpack_i64(in);
    Status st = ST_OK;
    if (!fits)
        st = error_set(err, ST_INTERNAL, "statistics of activations from elsewhere do not fit: %lld channels, not %lld",
                       (long long)width, (long long)t->width);
    else if (in->bad || !more_samples(t, n, start))
        st = error_nomem(err, "statistics of activations");
    int first = t->samples;
    for (int64_t i = 0; st == ST_OK && i < n; i++)
        unpack_sample(t, &t->sample[t->samples++], in);
    if (st == ST_OK)
        merge_common(t, in, bad, first);
    free(start);
    return st == ST_OK && in->bad ? error_nomem(err, "statistics of activations") : st;
}

uint64_t tapstat_bytes(TapWants wants, int64_t rows, int64_t longest, int64_t width, int threads)
{
    uint64_t w = (uint64_t)width, t = (uint64_t)(threads < 1 ? 1 : threads), n = (uint64_t)longest * w;
    uint64_t b = w * (wants.channel || wants.hist ? 12 : 0) + (wants.hist ? 65536 * 8 : 0);
    b += wants.order ? (uint64_t)rows * w / ORDER_STEP * 4 : 0;
    /* per worker: channel sums and extremes, fine buckets (20 octaves), and the values picked from them (up to a third)
     */
    b += t * (w * 20 + (uint64_t)longest * 4);
    if (wants.order || wants.hist)
        b += t * (20u * 2 * 2048 * 5 + n / 3 * 8);
    return b;
}
