/* Which text sets the range of a linear's input: the two most extreme texts on each side, by which the range without any one
 * text is known, too. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/textrange.h"
#include "metric/watch.h"
#include "stat/kernel.h"

static const MetricPart parts[] = {
    [TEXT_RANGE_TEXT] = {"text", "", "the text that widens the range most (from 1)"},
    [TEXT_RANGE_LO] = {"lo", "", "least input of all texts"},
    [TEXT_RANGE_LO_TEXT] = {"lo_text", "", "the text that has it"},
    [TEXT_RANGE_LO_NEXT] = {"lo_next", "", "least input of all other texts"},
    [TEXT_RANGE_HI] = {"hi", "", "greatest input of all texts"},
    [TEXT_RANGE_HI_TEXT] = {"hi_text", "", "the text that has it"},
    [TEXT_RANGE_HI_NEXT] = {"hi_next", "", "greatest input of all other texts"},
    [TEXT_RANGE_TEXTS] = {"texts", "", "texts that reach the linear"},
    {NULL, NULL, NULL},
};

/* ---- what the parts say ---- */

/* A static range always holds 0. */
static double width_of(double lo, double hi)
{
    return fmax(hi, 0) - fmin(lo, 0);
}

bool text_range_without(const double *part, int text, double *lo, double *hi)
{
    *lo = (int)part[TEXT_RANGE_LO_TEXT] == text ? part[TEXT_RANGE_LO_NEXT] : part[TEXT_RANGE_LO];
    *hi = (int)part[TEXT_RANGE_HI_TEXT] == text ? part[TEXT_RANGE_HI_NEXT] : part[TEXT_RANGE_HI];
    return isfinite(*lo) && isfinite(*hi);
}

double text_range_factor(const double *part, int text)
{
    double lo, hi;
    if (!isfinite(part[TEXT_RANGE_LO]) || !text_range_without(part, text, &lo, &hi))
        return NAN;
    double with = width_of(part[TEXT_RANGE_LO], part[TEXT_RANGE_HI]), without = width_of(lo, hi);
    return with > 0 ? with / without : 1;
}

/* ---- one input ---- */

typedef struct RangeTap {
    int samples;
    float *lo, *hi;    /* [samples]; lo > hi: no row came */
    BadPlace bad;
    TapScore score;
} RangeTap;

typedef struct TextRange {
    const PassPlan *p;
    RangeTap *tap;     /* [most linears of a layer] */
    pthread_mutex_t lock;
} TextRange;

static RangeTap *tap_of(const TextRange *o, int64_t linear)
{
    return &o->tap[linear - o->p->m->units[o->p->m->linears[linear].layer].first];
}

static void tap_fini(RangeTap *t)
{
    free(t->lo);
    free(t->hi);
    *t = (RangeTap){0};
}

static bool wants_tap(void *self, Tap tap)
{
    return watch_wants_tap(((const TextRange *)self)->p, TAP_LINEAR_IN, tap);
}

static Status range_tap_begin(RangeTap *t, int samples, Error *err)
{
    size_t n = (size_t)samples;
    tap_fini(t);
    *t = (RangeTap){.samples = samples, .bad.sample = -1, .lo = mem_array(n, sizeof *t->lo),
                    .hi = mem_array(n, sizeof *t->hi)};
    if (!t->lo || !t->hi)
        return error_nomem(err, "the ranges of texts");
    for (int i = 0; i < samples; i++) {
        t->lo[i] = INFINITY;
        t->hi[i] = -INFINITY;
    }
    return ST_OK;
}

static Status tap_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    (void)start, (void)width;
    return range_tap_begin(tap_of(self, tap.linear), samples, err);
}

static void tap_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                     int64_t ld)
{
    TextRange *o = self;
    RangeTap *t = tap_of(o, tap.linear);
    ScanSums sums = SCAN_START;
    for (int64_t r = 0; r < rows; r++)
        stat_kernels()->scan(x + r * ld, width, &sums);
    if (sums.max_bits >= 0x7f800000u) {
        pthread_mutex_lock(&o->lock);
        bad_place_find(&t->bad, sample, row0, x, rows, width, ld);
        pthread_mutex_unlock(&o->lock);
    }
    t->lo[sample] = fminf(t->lo[sample], sums.min); /* a sample's tiles come from one worker after the other */
    t->hi[sample] = fmaxf(t->hi[sample], sums.max);
}

/* The most extreme of signed values, the first of equal ones, and the next; -1 and NaN: there is none. */
static void two_most(const RangeTap *t, const float *x, float sign, double *most, int *at, double *next)
{
    *most = *next = NAN;
    *at = -1;
    for (int i = 0; i < t->samples; i++) {
        if (t->lo[i] > t->hi[i])
            continue;
        double v = (double)(x[i] * sign);
        if (*at < 0 || v > *most) {
            *next = *most;
            *most = v;
            *at = i;
        } else if (!(v <= *next)) {
            *next = v;
        }
    }
    *most *= (double)sign;
    *next *= (double)sign;
}

static int number_of(const TextRange *o, int sample)
{
    const TokenSet *t = pass_texts(o->p);
    return (t->item ? t->item[sample] : sample) + 1;
}

static void choose_text(UnitScore *u)
{
    int lo = (int)u->part[TEXT_RANGE_LO_TEXT], hi = (int)u->part[TEXT_RANGE_HI_TEXT];
    double by_lo = text_range_factor(u->part, lo), by_hi = text_range_factor(u->part, hi);
    u->part[TEXT_RANGE_TEXT] = by_lo > by_hi ? lo : hi;
    u->value = fmax(by_lo, by_hi);
}

static void make_score(const TextRange *o, RangeTap *t)
{
    UnitScore *u = &t->score.u;
    double *part = u->part;
    int lo, hi;
    const int64_t *start = pass_texts(o->p)->start;
    for (int i = 0; i < t->samples; i++)
        if (t->lo[i] <= t->hi[i]) {
            u->samples++;
            u->tokens += start[i + 1] - start[i];
        }
    if (t->bad.sample >= 0) {
        char why[sizeof u->why];
        bad_place_text(&t->bad, why, sizeof why);
        watch_undefined(u, why);
        return;
    }
    two_most(t, t->lo, -1, &part[TEXT_RANGE_LO], &lo, &part[TEXT_RANGE_LO_NEXT]);
    two_most(t, t->hi, 1, &part[TEXT_RANGE_HI], &hi, &part[TEXT_RANGE_HI_NEXT]);
    part[TEXT_RANGE_TEXTS] = u->samples;
    part[TEXT_RANGE_LO_TEXT] = lo < 0 ? NAN : number_of(o, lo);
    part[TEXT_RANGE_HI_TEXT] = hi < 0 ? NAN : number_of(o, hi);
    if (u->samples > 1)
        choose_text(u);
    if (u->samples > 1 && isfinite(u->value))
        return;
    const double range[] = {part[TEXT_RANGE_LO], part[TEXT_RANGE_HI]}, only = part[TEXT_RANGE_LO_TEXT];
    int reached = u->samples;
    watch_undefined(u, reached == 0   ? "no token reached it"
                       : reached == 1 ? "only one text reaches it"
                                      : "in all texts but one every input is 0");
    u->absent = true;
    part[TEXT_RANGE_TEXTS] = reached;
    if (reached != 1)
        return;
    part[TEXT_RANGE_LO] = range[0];
    part[TEXT_RANGE_HI] = range[1];
    part[TEXT_RANGE_TEXT] = part[TEXT_RANGE_LO_TEXT] = part[TEXT_RANGE_HI_TEXT] = only;
}

static void finish_tap(const TextRange *o, RangeTap *t)
{
    make_score(o, t);
    TapScore score = {t->score.u, true};
    tap_fini(t);
    t->score = score;
}

static Status tap_end(void *self, Tap tap, Error *err)
{
    (void)err;
    const TextRange *o = self;
    if (!o->p->ranks) /* else others have texts, too */
        finish_tap(o, tap_of(o, tap.linear));
    return ST_OK;
}

/* ---- several ranks ---- */

static Status pack_layer(void *self, int layer, Pack *out, Error *err)
{
    TextRange *o = self;
    pack_i64(out, watch_first_sample(o->p));
    for (int64_t i = 0; i < o->p->m->units[layer].count; i++) {
        RangeTap *t = &o->tap[i];
        pack_i64(out, t->lo ? t->samples : -1);
        if (t->lo) {
            watch_pack_bad(&t->bad, out);
            pack_put(out, t->lo, (size_t)t->samples * sizeof *t->lo);
            pack_put(out, t->hi, (size_t)t->samples * sizeof *t->hi);
        }
        tap_fini(t);
    }
    return out->oom ? error_nomem(err, "the ranges of texts") : ST_OK;
}

/* The part of n texts that begins with text `first`, into the tap of all texts. */
static Status merge_tap(const TextRange *o, RangeTap *t, int64_t first, int64_t n, Unpack *in, Error *err)
{
    const int64_t all = pass_texts(o->p)->samples;
    if (first < 0 || n > all - first)
        return error_set(err, ST_INTERNAL, "ranges of texts from elsewhere do not fit: %lld of %lld", (long long)n, (long long)all);
    if (!t->lo)
        RETURN_IF_ERROR(range_tap_begin(t, (int)all, err));
    watch_merge_bad(&t->bad, first, in);
    unpack_get(in, t->lo + first, (size_t)n * sizeof *t->lo);
    unpack_get(in, t->hi + first, (size_t)n * sizeof *t->hi);
    return ST_OK;
}

static Status merge_layer(void *self, int layer, Unpack *in, Error *err)
{
    TextRange *o = self;
    const int64_t first = unpack_i64(in);
    for (int64_t i = 0; i < o->p->m->units[layer].count && !in->bad; i++) {
        const int64_t n = unpack_i64(in);
        if (n >= 0)
            RETURN_IF_ERROR(merge_tap(o, &o->tap[i], first, n, in, err));
    }
    return in->bad ? error_nomem(err, "the ranges of texts") : ST_OK;
}

static Status layer(void *self, int unit, const Stream *h, Pool *pool, WatchOut *out, Error *err)
{
    (void)h, (void)pool;
    TextRange *o = self;
    const Unit *u = &o->p->m->units[unit];
    for (int64_t i = 0; o->p->ranks && i < u->count; i++)
        if (o->tap[i].lo)
            finish_tap(o, &o->tap[i]);
    for (int64_t i = u->first; i < u->first + u->count; i++) {
        const RangeTap *t = tap_of(o, pass_input(o->p, i));
        if (!watch_wants(o->p, i))
            continue;
        UnitScore s = watch_tap_score(&t->score);
        if (!t->score.ended)
            s.part[TEXT_RANGE_TEXTS] = 0;
        s.unit = i;
        RETURN_IF_ERROR(watch_put(out, &metric_text_range, &s, err));
    }
    for (int64_t i = 0; i < u->count; i++)
        tap_fini(&o->tap[i]);
    return ST_OK;
}

/* ---- the rows ---- */

static Status begin(const PassPlan *p, void **self, Error *err)
{
    TextRange *o = mem_zarray(1, sizeof *o);
    if (!o || !(o->tap = mem_zarray((size_t)model_most_linears(p->m), sizeof *o->tap))) {
        free(o);
        return error_nomem(err, "the ranges of texts");
    }
    o->p = p;
    pthread_mutex_init(&o->lock, NULL);
    *self = o;
    return ST_OK;
}

static void end(void *self)
{
    TextRange *o = self;
    if (!o)
        return;
    for (int64_t i = 0; i < model_most_linears(o->p->m); i++)
        tap_fini(&o->tap[i]);
    pthread_mutex_destroy(&o->lock);
    free(o->tap);
    free(o);
}

/* Inputs that are open at once: of a layer's, but of its experts' one's. */
enum { TAPS_OPEN = 8 };

static uint64_t bytes(const PassPlan *p, int threads)
{
    (void)threads;
    const uint64_t most = (uint64_t)model_most_linears(p->m);
    uint64_t open = p->ranks ? most : TAPS_OPEN; /* the taps of a layer are kept until they are gathered */
    return most * sizeof(RangeTap) + open * (uint64_t)pass_texts(p)->samples * 2 * sizeof(float);
}

static const ObserverOps ops = {.name = "ranges of texts", .wants_tap = wants_tap, .tap_begin = tap_begin,
                                .tap_tile = tap_tile, .tap_end = tap_end, .pack = pack_layer, .merge = merge_layer};

const Watch watch_text_range = {.metric = &metric_text_range, .ops = &ops, .open = begin, .layer = layer, .close = end,
                                .bytes = bytes};

const Metric metric_text_range = {
    .name = "text_range",
    .title = "Range by text",
    .unit = "",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_INPUT,
    .cost = "one float pass over the calibration set",
    .parts = parts,
    .direction = 1,
    .pass = &pass_watch,
    .explain = "How many times wider the input's range is because of a single text. 1: no text stands out. Above 2 a static\n"
               "scale spends more than half of its steps on that text. Calib adds it up by text: one that does it in many\n"
               "layers is better taken out. Ranges are those of the float model.",
};
