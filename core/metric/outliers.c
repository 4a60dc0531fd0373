/* specs/analysis.md 9.6: outliers in the inputs and in the outputs of linears, per sample and channel. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/watch.h"
#include "stat/kernel.h"

enum { WORST = 3 };      /* channels that are named */
#define OUTLIER_TIMES 6  /* a channel above so many times the mean channel maximum is an outlier */

/* The parts of a score, in their order. */
enum { PART_MAX, PART_MEAN, PART_STD, PART_CHANNELS, PART_WORST };

static const MetricPart parts[] = {
    {"max", "", "largest |x| of any text"},
    {"mean", "", "mean |x|, the mean over texts"},
    {"std", "", "largest standard deviation of a text"},
    {"channels", "", "most channels of a text whose maximum is above 6 times the mean channel maximum"},
    {"channel1", "", "number of the channel that is such an outlier in most texts (from 0)"},
    {"texts1", "", "in how many it is one"},
    {"channel2", "", "the next"},
    {"texts2", "", "in how many it is one"},
    {"channel3", "", "the next"},
    {"texts3", "", "in how many it is one"},
    {NULL, NULL, NULL},
};

/* What one sample gives. */
typedef struct SampleSum {
    const float *x;     /* its first tile */
    int64_t rows_seen;
    double max, mean, std;
    int64_t channels;
} SampleSum;

typedef struct OutlierTap {
    int samples;
    int64_t *start, width;
    SampleSum *sample;
    int32_t *flagged; /* [width] samples in which the channel is an outlier */
    float *top;       /* [width] max|x| */
    BadPlace bad;
    TapScore score;
} OutlierTap;

typedef struct Outliers {
    const PassPlan *p;
    const Metric *metric;
    TapKind kind;
    OutlierTap *tap;  /* [most linears of a layer] */
    pthread_mutex_t lock;
    bool oom;
} Outliers;

static OutlierTap *tap_of(const Outliers *o, int64_t linear)
{
    return &o->tap[linear - o->p->m->units[o->p->m->linears[linear].layer].first];
}

static void tap_fini(OutlierTap *t)
{
    free(t->start);
    free(t->sample);
    free(t->flagged);
    free(t->top);
    *t = (OutlierTap){0};
}

static bool wants_tap(void *self, Tap tap)
{
    const Outliers *o = self;
    return watch_wants_tap(o->p, o->kind, tap);
}

static Status tap_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    OutlierTap *t = tap_of(self, tap.linear);
    tap_fini(t);
    *t = (OutlierTap){.samples = samples, .width = width, .bad.sample = -1,
                      .start = mem_array((size_t)samples + 1, sizeof *t->start),
                      .sample = mem_zarray((size_t)samples, sizeof *t->sample),
                      .flagged = mem_zarray((size_t)width, sizeof *t->flagged),
                      .top = mem_zarray((size_t)width, sizeof *t->top)};
    if (!t->start || !t->sample || !t->flagged || !t->top)
        return error_nomem(err, "the channels of a linear");
    memcpy(t->start, start, ((size_t)samples + 1) * sizeof *start);
    return ST_OK;
}

/* ---- one sample ---- */

/* Channel maxima of x[rows][width] into lo (its abs), with room in hi and sq, and the figures. */
static void sample_figures(SampleSum *s, const float *x, int64_t rows, int64_t width, int64_t ld, const ScanSums *sums,
                           float *lo, float *hi, float *rowmax, double *sq)
{
    double square = 0, top = 0, all = 0, n = (double)rows * (double)width;
    memcpy(lo, x, (size_t)width * sizeof *lo);
    memcpy(hi, x, (size_t)width * sizeof *hi);
    memset(sq, 0, (size_t)width * sizeof *sq);
    stat_kernels()->columns(x, rows, width, ld, lo, hi, sq, rowmax);
    for (int64_t j = 0; j < width; j++) {
        lo[j] = fmaxf(fabsf(lo[j]), fabsf(hi[j]));
        square += sq[j];
        all += (double)lo[j];
        top = fmax(top, (double)lo[j]);
    }
    for (int64_t j = 0; j < width; j++)
        s->channels += (double)lo[j] > OUTLIER_TIMES * all / (double)width;
    s->max = top;
    s->mean = sums->sum_abs / n;
    s->std = n < 2 ? NAN : sums->min == sums->max ? 0 : sqrt(fmax(square - sums->sum * sums->sum / n, 0) / (n - 1));
}

static void add_channels(Outliers *o, OutlierTap *t, const float *channel)
{
    double all = 0;
    for (int64_t j = 0; j < t->width; j++)
        all += (double)channel[j];
    pthread_mutex_lock(&o->lock);
    for (int64_t j = 0; j < t->width; j++) {
        t->flagged[j] += (double)channel[j] > OUTLIER_TIMES * all / (double)t->width;
        t->top[j] = fmaxf(t->top[j], channel[j]);
    }
    pthread_mutex_unlock(&o->lock);
}

static void whole_sample(Outliers *o, OutlierTap *t, int sample, const float *x, int64_t rows, int64_t ld)
{
    ScanSums sums = SCAN_START;
    for (int64_t r = 0; r < rows; r++)
        stat_kernels()->scan(x + r * ld, t->width, &sums);
    if (sums.max_bits >= 0x7f800000u) {
        pthread_mutex_lock(&o->lock);
        bad_place_find(&t->bad, sample, 0, x, rows, t->width, ld);
        pthread_mutex_unlock(&o->lock);
        return;
    }
    size_t w = (size_t)t->width;
    double *sq = mem_array(w, sizeof *sq);
    float *f = mem_array(2 * w + (size_t)rows, sizeof *f);
    if (sq && f) {
        sample_figures(&t->sample[sample], x, rows, t->width, ld, &sums, f, f + w, f + 2 * w, sq);
        add_channels(o, t, f);
    }
    pthread_mutex_lock(&o->lock);
    o->oom |= !sq || !f;
    pthread_mutex_unlock(&o->lock);
    free(sq);
    free(f);
}

static void tap_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                     int64_t ld)
{
    (void)width;
    Outliers *o = self;
    OutlierTap *t = tap_of(o, tap.linear);
    SampleSum *s = &t->sample[sample];
    if (row0 == 0)
        s->x = x;
    s->rows_seen += rows;
    if (s->rows_seen == t->start[sample + 1] - t->start[sample])
        whole_sample(o, t, sample, s->x, s->rows_seen, ld);
}

/* ---- all samples ---- */

/* Channels by the samples that flag them, then by their maximum; those already named are -1. */
static int64_t next_worst(const OutlierTap *t)
{
    int64_t best = -1;
    for (int64_t j = 0; j < t->width; j++)
        if (t->flagged[j] > 0 && (best < 0 || t->flagged[j] > t->flagged[best] ||
                                  (t->flagged[j] == t->flagged[best] && t->top[j] > t->top[best])))
            best = j;
    return best;
}

static void name_worst(OutlierTap *t)
{
    for (int k = 0; k < WORST; k++) {
        int64_t j = next_worst(t);
        t->score.u.part[PART_WORST + 2 * k] = j < 0 ? NAN : (double)j;
        t->score.u.part[PART_WORST + 2 * k + 1] = j < 0 ? NAN : (double)t->flagged[j];
        if (j >= 0)
            t->flagged[j] = -1;
    }
}

static void make_score(OutlierTap *t)
{
    UnitScore *u = &t->score.u;
    double means = 0, std = NAN, channels = 0, max = 0;
    for (int i = 0; i < t->samples; i++) {
        const SampleSum *s = &t->sample[i];
        if (!s->rows_seen)
            continue;
        u->samples++;
        u->tokens += s->rows_seen;
        means += s->mean;
        max = fmax(max, s->max);
        std = fmax(std, s->std);
        channels = fmax(channels, (double)s->channels);
    }
    char why[sizeof u->why];
    if (t->bad.sample >= 0) {
        bad_place_text(&t->bad, why, sizeof why);
        watch_undefined(u, why);
    } else if (!u->samples) {
        watch_undefined(u, "no token reached it");
        u->absent = true;
    } else if (max == 0) {
        watch_undefined(u, "every value is 0");
    } else {
        u->part[PART_MAX] = max;
        u->part[PART_MEAN] = means / u->samples;
        u->part[PART_STD] = std;
        u->part[PART_CHANNELS] = channels;
        u->value = max / u->part[PART_MEAN];
        name_worst(t);
    }
}

static Status tap_end(void *self, Tap tap, Error *err)
{
    Outliers *o = self;
    OutlierTap *t = tap_of(o, tap.linear);
    if (o->oom)
        return error_nomem(err, "the channels of a linear");
    make_score(t);
    TapScore score = {t->score.u, true};
    tap_fini(t);
    t->score = score;
    return ST_OK;
}

static Status layer(void *self, int unit, const Stream *h, Pool *pool, WatchOut *out, Error *err)
{
    (void)h, (void)pool;
    Outliers *o = self;
    const Unit *u = &o->p->m->units[unit];
    for (int64_t i = u->first; i < u->first + u->count; i++) {
        const OutlierTap *t = tap_of(o, o->kind == TAP_LINEAR_OUT ? i : pass_input(o->p, i));
        if (!watch_wants(o->p, i))
            continue;
        UnitScore s = watch_tap_score(&t->score);
        s.unit = i;
        RETURN_IF_ERROR(watch_put(out, o->metric, &s, err));
    }
    for (int64_t i = 0; i < u->count; i++)
        tap_fini(&o->tap[i]);
    return ST_OK;
}

/* ---- the rows ---- */

static Status begin(const PassPlan *p, const Metric *m, TapKind kind, void **self, Error *err)
{
    int64_t most = watch_most_linears(p->m);
    Outliers *o = mem_zarray(1, sizeof *o);
    if (!o || !(o->tap = mem_zarray((size_t)most, sizeof *o->tap))) {
        free(o);
        return error_nomem(err, "outliers");
    }
    o->p = p;
    o->metric = m;
    o->kind = kind;
    pthread_mutex_init(&o->lock, NULL);
    *self = o;
    return ST_OK;
}

static Status open_inputs(const PassPlan *p, void **self, Error *err)
{
    return begin(p, &metric_act_outliers, TAP_LINEAR_IN, self, err);
}

static Status open_outputs(const PassPlan *p, void **self, Error *err)
{
    return begin(p, &metric_output_outliers, TAP_LINEAR_OUT, self, err);
}

static void end(void *self)
{
    Outliers *o = self;
    if (!o)
        return;
    for (int i = 0; i < model_depth(o->p->m); i++)
        for (int64_t k = 0; k < o->p->m->units[i].count; k++)
            tap_fini(&o->tap[k]);
    pthread_mutex_destroy(&o->lock);
    free(o->tap);
    free(o);
}

/* Taps that are open at once: of a layer's, but of its experts' one's. */
enum { TAPS_OPEN = 8 };

static uint64_t bytes(const PassPlan *p, int threads)
{
    uint64_t widest = 0, most = (uint64_t)watch_most_linears(p->m);
    for (int64_t i = 0; i < p->m->nlinears; i++)
        widest = max_u64(widest, (uint64_t)max_i64(p->m->linears[i].in, p->m->linears[i].out));
    uint64_t longest = (uint64_t)longest_of(p->tokens->start, p->tokens->samples), t = (uint64_t)(threads < 1 ? 1 : threads);
    return most * sizeof(OutlierTap) + TAPS_OPEN * (widest * 8 + (uint64_t)p->tokens->samples * (sizeof(SampleSum) + 8)) +
           t * (widest * 16 + longest * 4);
}

static const ObserverOps ops = {.name = "outliers", .wants_tap = wants_tap, .tap_begin = tap_begin, .tap_tile = tap_tile,
                                .tap_end = tap_end};

const Watch watch_act_outliers = {.metric = &metric_act_outliers, .ops = &ops, .open = open_inputs, .layer = layer,
                                  .close = end, .bytes = bytes};
const Watch watch_output_outliers = {.metric = &metric_output_outliers, .ops = &ops, .open = open_outputs,
                                     .layer = layer, .close = end, .bytes = bytes, .outputs = true};

const Metric metric_act_outliers = {
    .name = "act_outliers",
    .title = "Outliers in",
    .unit = "",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_INPUT,
    .cost = "one float pass over the calibration set",
    .parts = parts,
    .direction = 1,
    .pass = &pass_watch,
    .explain = "Largest input magnitude over the mean magnitude. Above 100 one int8 scale for the whole tensor loses most\n"
               "values; its parts name the channels that tower in most texts: the same few every time call for smoothing\n"
               "or per-token scales, other ones in each text for giving the layer back.",
};

const Metric metric_output_outliers = {
    .name = "output_outliers",
    .title = "Outliers out",
    .unit = "",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_INPUT,
    .cost = "one float pass over the calibration set",
    .parts = parts,
    .direction = 1,
    .pass = &pass_watch,
    .explain = "The same of the linear's output: where outliers are made, one layer before they hurt.\n"
               "Of k_proj and v_proj it tells how well a quantized KV cache will hold them.",
};
