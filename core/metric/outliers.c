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

static void finish_tap(OutlierTap *t)
{
    make_score(t);
    TapScore score = {t->score.u, true};
    tap_fini(t);
    t->score = score;
}

static Status tap_end(void *self, Tap tap, Error *err)
{
    Outliers *o = self;
    if (o->oom)
        return error_nomem(err, "the channels of a linear");
    if (!o->p->ranks) /* else others have samples of it, too */
        finish_tap(tap_of(o, tap.linear));
    return ST_OK;
}

/* ---- several ranks ---- */

static void pack_tap(const OutlierTap *t, Pack *out)
{
    pack_i64(out, t->samples);
    pack_i64(out, t->width);
    watch_pack_bad(&t->bad, out);
    for (int i = 0; i < t->samples; i++) {
        const SampleSum *s = &t->sample[i];
        pack_i64(out, s->rows_seen);
        pack_f64(out, s->max);
        pack_f64(out, s->mean);
        pack_f64(out, s->std);
        pack_i64(out, s->channels);
    }
    pack_put(out, t->flagged, (size_t)t->width * sizeof *t->flagged);
    pack_put(out, t->top, (size_t)t->width * sizeof *t->top);
}

static Status pack_layer(void *self, int layer, Pack *out, Error *err)
{
    Outliers *o = self;
    pack_i64(out, watch_first_sample(o->p));
    for (int64_t i = 0; i < o->p->m->units[layer].count; i++) {
        pack_i64(out, o->tap[i].width > 0);
        if (o->tap[i].width > 0)
            pack_tap(&o->tap[i], out);
        tap_fini(&o->tap[i]);
    }
    return out->oom ? error_nomem(err, "outliers") : ST_OK;
}

/* Room for n more samples. */
static bool more_samples(OutlierTap *t, int64_t n, int64_t width)
{
    if (!t->width) {
        *t = (OutlierTap){.width = width, .bad.sample = -1, .flagged = mem_zarray((size_t)width, sizeof *t->flagged),
                          .top = mem_zarray((size_t)width, sizeof *t->top)};
        if (!t->flagged || !t->top)
            return false;
    }
    SampleSum *all = mem_zarray((size_t)t->samples + (size_t)n, sizeof *all);
    if (all && t->samples)
        memcpy(all, t->sample, (size_t)t->samples * sizeof *all);
    free(t->sample);
    t->sample = all;
    return all != NULL;
}

static Status merge_tap(OutlierTap *t, int64_t first, Unpack *in, Error *err)
{
    const int64_t n = unpack_i64(in), width = unpack_i64(in);
    if (in->bad || n < 0 || n > INT32_MAX - t->samples || width < 1 || (t->width && t->width != width))
        return error_set(err, ST_INTERNAL, "outliers from elsewhere do not fit: %lld channels, not %lld", (long long)width,
                         (long long)t->width);
    if (!more_samples(t, n, width))
        return error_nomem(err, "outliers");
    watch_merge_bad(&t->bad, first, in);
    for (int64_t i = 0; i < n; i++) {
        SampleSum *s = &t->sample[t->samples++];
        s->rows_seen = unpack_i64(in);
        s->max = unpack_f64(in);
        s->mean = unpack_f64(in);
        s->std = unpack_f64(in);
        s->channels = unpack_i64(in);
    }
    int32_t *flagged = unpack_array(in, width, sizeof *flagged);
    float *top = unpack_array(in, width, sizeof *top);
    for (int64_t j = 0; flagged && top && j < width; j++) {
        t->flagged[j] += flagged[j];
        t->top[j] = fmaxf(t->top[j], top[j]);
    }
    free(flagged);
    free(top);
    return ST_OK;
}

static Status merge_layer(void *self, int layer, Unpack *in, Error *err)
{
    Outliers *o = self;
    const int64_t first = unpack_i64(in);
    for (int64_t i = 0; i < o->p->m->units[layer].count && !in->bad; i++)
        if (unpack_i64(in))
            RETURN_IF_ERROR(merge_tap(&o->tap[i], first, in, err));
    return in->bad ? error_nomem(err, "outliers") : ST_OK;
}

static Status layer(void *self, int unit, const Stream *h, Pool *pool, WatchOut *out, Error *err)
{
    (void)h, (void)pool;
    Outliers *o = self;
    const Unit *u = &o->p->m->units[unit];
    for (int64_t i = 0; o->p->ranks && i < u->count; i++)
        if (o->tap[i].width > 0)
            finish_tap(&o->tap[i]);
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
    int64_t most = model_most_linears(p->m);
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
    uint64_t widest = 0, most = (uint64_t)model_most_linears(p->m);
    for (int64_t i = 0; i < p->m->nlinears; i++)
        widest = max_u64(widest, (uint64_t)max_i64(p->m->linears[i].in, p->m->linears[i].out));
    uint64_t longest = (uint64_t)longest_of(p->tokens->start, p->tokens->samples), t = (uint64_t)(threads < 1 ? 1 : threads);
    uint64_t open = p->ranks ? most : TAPS_OPEN; /* the taps of a layer are kept until they are gathered */
    return most * sizeof(OutlierTap) + open * (widest * 8 + (uint64_t)pass_texts(p)->samples * (sizeof(SampleSum) + 8)) +
           t * (widest * 16 + longest * 4);
}

static const ObserverOps ops = {.name = "outliers", .wants_tap = wants_tap, .tap_begin = tap_begin, .tap_tile = tap_tile,
                                .tap_end = tap_end, .pack = pack_layer, .merge = merge_layer};

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
