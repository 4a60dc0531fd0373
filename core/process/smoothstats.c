#include "process/smoothstats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/convert.h"
#include "run/arith.h"

static void tap_free(SmoothTap *t)
{
    free(t->min);
    free(t->max);
    free(t->sum);
    free(t->count);
    free(t->token);
    *t = (SmoothTap){.linear = t->linear, .most = t->most};
}

Status smooth_watch_init(SmoothWatch *w, int64_t first, int64_t nlinears, Error *err)
{
    w->first = first;
    w->nlinears = nlinears;
    w->tap_of = mem_array((size_t)nlinears, sizeof *w->tap_of);
    if (!w->tap_of)
        return error_nomem(err, "statistics of channels");
    for (int64_t i = 0; i < nlinears; i++)
        w->tap_of[i] = -1;
    return ST_OK;
}

void smooth_watch_fini(SmoothWatch *w)
{
    for (size_t i = 0; i < w->ntaps; i++)
        tap_free(&w->tap[i]);
    free(w->tap);
    free(w->tap_of);
    *w = (SmoothWatch){0};
}

Status smooth_watch_add(SmoothWatch *w, int64_t linear, Error *err)
{
    if (w->tap_of[linear - w->first] >= 0)
        return ST_OK;
    if (!mem_grow(&w->tap, &w->cap, w->ntaps + 1, sizeof *w->tap))
        return error_nomem(err, "statistics of channels");
    w->tap_of[linear - w->first] = (int32_t)w->ntaps;
    w->tap[w->ntaps++] = (SmoothTap){.linear = linear, .most = w->most_tokens};
    return ST_OK;
}

static SmoothTap *tap_at(const SmoothWatch *w, int64_t linear)
{
    int64_t i = linear - w->first;
    return i >= 0 && i < w->nlinears && w->tap_of[i] >= 0 ? &w->tap[w->tap_of[i]] : NULL;
}

/* ---- while the forward runs ---- */

static bool wants_tap(void *self, Tap tap)
{
    return tap.kind == TAP_LINEAR_IN && tap_at(self, tap.linear);
}

static int64_t kept_rows(int64_t most, int64_t rows, int64_t *stride)
{
    *stride = most && rows > most ? (rows + most - 1) / most : 1;
    return (rows + *stride - 1) / *stride;
}

static Status tap_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    const SmoothWatch *w = self;
    SmoothTap *t = tap_at(w, tap.linear);
    size_t n = (size_t)samples * (size_t)width;
    tap_free(t);
    t->samples = samples;
    t->width = width;
    t->rows = start[samples];
    t->ntokens = kept_rows(t->most, t->rows, &t->stride);
    t->min = mem_array(n, sizeof *t->min);
    t->max = mem_array(n, sizeof *t->max);
    t->count = mem_array((size_t)samples, sizeof *t->count);
    t->sum = w->needs & SMOOTH_MEAN ? mem_zarray(n, sizeof *t->sum) : NULL;
    t->token = w->needs & SMOOTH_TOKENS ? mem_array((size_t)(t->ntokens * width), sizeof *t->token) : NULL;
    if (!t->min || !t->max || !t->count || (w->needs & SMOOTH_MEAN && !t->sum) ||
        (w->needs & SMOOTH_TOKENS && !t->token))
        return error_nomem(err, "statistics of channels");
    for (size_t i = 0; i < n; i++) {
        t->min[i] = INFINITY;
        t->max[i] = -INFINITY;
    }
    for (int s = 0; s < samples; s++)
        t->count[s] = start[s + 1] - start[s];
    return ST_OK;
}

/* NaN stays. */
static float lower(float a, float b)
{
    return b < a || isnan(b) ? b : a;
}

static float higher(float a, float b)
{
    return b > a || isnan(b) ? b : a;
}

static void keep_tokens(SmoothTap *t, int64_t row0, const float *x, int64_t rows, int64_t ld)
{
    int64_t r = (row0 + t->stride - 1) / t->stride * t->stride - row0;
    for (; r < rows; r += t->stride)
        memcpy(t->token + (row0 + r) / t->stride * t->width, x + r * ld, (size_t)t->width * sizeof *x);
}

static int64_t rows_before(const SmoothTap *t, int sample)
{
    int64_t n = 0;
    for (int i = 0; i < sample; i++)
        n += t->count[i];
    return n;
}

static void tap_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                     int64_t ld)
{
    SmoothTap *t = tap_at(self, tap.linear);
    float *mn = t->min + sample * width, *mx = t->max + sample * width;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width; c++) {
            float v = x[r * ld + c];
            mn[c] = lower(mn[c], v);
            mx[c] = higher(mx[c], v);
        }
    double *sum = t->sum ? t->sum + sample * width : NULL;
    for (int64_t r = 0; r < rows && sum; r++)
        for (int64_t c = 0; c < width; c++)
            sum[c] += (double)fabsf(x[r * ld + c]);
    if (t->token)
        keep_tokens(t, rows_before(t, sample) + row0, x, rows, ld);
}

/* All samples become one, in their order, where nobody asks which was which. */
static void join_samples(SmoothTap *t)
{
    for (int s = 1; s < t->samples; s++) {
        for (int64_t c = 0; c < t->width; c++) {
            t->min[c] = lower(t->min[c], t->min[s * t->width + c]);
            t->max[c] = higher(t->max[c], t->max[s * t->width + c]);
            if (t->sum)
                t->sum[c] += t->sum[s * t->width + c];
        }
        t->count[0] += t->count[s];
    }
    t->samples = t->samples ? 1 : 0;
}

static void *shrink(void *p, size_t n, size_t size)
{
    void *less = p ? realloc(p, n * size + 1) : NULL;
    return less ? less : p;
}

static Status tap_end(void *self, Tap tap, Error *err)
{
    (void)err;
    const SmoothWatch *w = self;
    SmoothTap *t = tap_at(w, tap.linear);
    t->done = true;
    if (w->ordered || t->samples < 2)
        return ST_OK;
    join_samples(t);
    t->min = shrink(t->min, (size_t)t->width, sizeof *t->min);
    t->max = shrink(t->max, (size_t)t->width, sizeof *t->max);
    t->sum = shrink(t->sum, (size_t)t->width, sizeof *t->sum);
    return ST_OK;
}

/* ---- samples of several ranks ---- */

static Status pack_ranges(void *self, int layer, Pack *out, Error *err)
{
    (void)layer;
    SmoothWatch *w = self;
    for (size_t i = 0; i < w->ntaps; i++) {
        SmoothTap *t = &w->tap[i];
        int n = t->done ? t->samples : 0;
        pack_i64(out, n);
        pack_i64(out, t->width);
        pack_put(out, t->count, (size_t)n * sizeof *t->count);
        pack_put(out, t->min, (size_t)n * (size_t)t->width * sizeof *t->min);
        pack_put(out, t->max, (size_t)n * (size_t)t->width * sizeof *t->max);
        tap_free(t);
    }
    return out->oom ? error_nomem(err, "statistics of channels") : ST_OK;
}

/* Puts the samples of one rank behind those that are there. */
static bool append(SmoothTap *t, Unpack *in)
{
    int64_t n = unpack_i64(in), width = unpack_i64(in), have = t->samples;
    int64_t *count = unpack_array(in, n, sizeof *count);
    float *min = unpack_array(in, n * width, sizeof *min), *max = unpack_array(in, n * width, sizeof *max);
    if (n && !in->bad) {
        int64_t *counts = realloc(t->count, (size_t)(have + n) * sizeof *counts);
        t->count = counts ? counts : t->count;
        float *mins = realloc(t->min, (size_t)((have + n) * width) * sizeof *mins);
        t->min = mins ? mins : t->min;
        float *maxs = realloc(t->max, (size_t)((have + n) * width) * sizeof *maxs);
        t->max = maxs ? maxs : t->max;
        in->bad = !counts || !mins || !maxs;
    }
    if (n && !in->bad) {
        memcpy(t->count + have, count, (size_t)n * sizeof *count);
        memcpy(t->min + have * width, min, (size_t)(n * width) * sizeof *min);
        memcpy(t->max + have * width, max, (size_t)(n * width) * sizeof *max);
        t->samples += (int)n;
        t->width = width;
        t->done = true;
    }
    free(count);
    free(min);
    free(max);
    return !in->bad;
}

static Status merge_ranges(void *self, int layer, Unpack *in, Error *err)
{
    (void)layer;
    SmoothWatch *w = self;
    for (size_t i = 0; i < w->ntaps; i++)
        if (!append(&w->tap[i], in))
            return error_nomem(err, "statistics of channels");
    return ST_OK;
}

#define TAPS .name = "statistics of channels", .wants_tap = wants_tap, .tap_begin = tap_begin, .tap_tile = tap_tile, \
    .tap_end = tap_end

Observer smooth_watch_observer(SmoothWatch *w)
{
    static const ObserverOps ranges = {TAPS, .pack = pack_ranges, .merge = merge_ranges};
    static const ObserverOps all = {TAPS}; /* sums and tokens: one process has to see them */
    return (Observer){w->needs & ~(unsigned)SMOOTH_MINMAX ? &all : &ranges, w};
}

/* ---- what it comes to ---- */

static float rounded(const SmoothWatch *w, float v)
{
    return w->T == DT_BF16 ? bf16_to_float(bf16_of_float(v)) : w->T == DT_F16 ? f16_to_float(f16_of_float(v)) : v;
}

/* The peer's merge of means: of what was before, and of this sample. */
static float merged_mean(const SmoothWatch *w, float old, int64_t n_old, double sum, int64_t n)
{
    float cur = rounded(w, (float)(sum / (double)n));
    if (!n_old)
        return cur;
    float a = rounded(w, old * (float)n_old), b = rounded(w, cur * (float)n);
    return rounded(w, rounded(w, a + b) / (float)(n_old + n));
}

/* Where the statistics of a sub-graph are put together. */
typedef struct Sums {
    const SmoothWatch *w;
    int64_t width, rows;
    float *min, *max, *most, *shift, *mean;
    bool shifted;
    double *sum; /* ours */
} Sums;

/* Ours: extremes, from which the rest follows. The peer's: sample by sample, the shift as it stands after each. */
static void add_sample(Sums *s, const SmoothTap *t, int sample)
{
    const float *mn = t->min + sample * t->width, *mx = t->max + sample * t->width;
    const double *sum = t->sum ? t->sum + sample * t->width : NULL;
    int64_t n = t->count[sample];
    for (int64_t c = 0; n && c < s->width; c++) {
        s->min[c] = s->rows ? lower(s->min[c], mn[c]) : mn[c];
        s->max[c] = s->rows ? higher(s->max[c], mx[c]) : mx[c];
        s->shift[c] = rounded(s->w, rounded(s->w, s->max[c] + s->min[c]) / 2);
        float by = s->shifted ? s->shift[c] : 0;
        float a = higher(fabsf(rounded(s->w, mx[c] - by)), fabsf(rounded(s->w, mn[c] - by)));
        s->most[c] = s->rows ? higher(s->most[c], a) : a;
        if (sum && s->w->ordered)
            s->mean[c] = merged_mean(s->w, s->mean[c], s->rows, sum[c], n);
        else if (sum)
            s->sum[c] += sum[c];
    }
    s->rows += n;
}

static void settle(Sums *s)
{
    for (int64_t c = 0; s->rows && !s->w->ordered && c < s->width; c++) {
        if (s->shifted) /* whatever the order: half the range */
            s->most[c] = higher(s->max[c] - s->shift[c], s->shift[c] - s->min[c]);
        if (s->w->needs & SMOOTH_MEAN)
            s->mean[c] = (float)(s->sum[c] / (double)s->rows);
    }
}

static int64_t tokens_of(const SmoothWatch *w, const int64_t *linear, int n)
{
    int64_t tokens = 0;
    for (int i = 0; i < n; i++) {
        const SmoothTap *t = tap_at(w, linear[i]);
        tokens += t && t->done && t->token ? t->ntokens : 0;
    }
    return tokens;
}

static void copy_tokens(const SmoothWatch *w, const int64_t *linear, int n, int64_t width, float *out)
{
    for (int i = 0; i < n; i++) {
        const SmoothTap *t = tap_at(w, linear[i]);
        if (!t || !t->done || !t->token)
            continue;
        memcpy(out, t->token, (size_t)(t->ntokens * width) * sizeof *out);
        out += t->ntokens * width;
    }
}

Status smooth_watch_stats(const SmoothWatch *w, const int64_t *linear, int n, bool shift, SmoothStats *out, float **own,
                          Error *err)
{
    const SmoothTap *one = n == 1 ? tap_at(w, linear[0]) : NULL;
    int64_t width = 0, tokens = tokens_of(w, linear, n);
    for (int i = 0; i < n && !width; i++) {
        const SmoothTap *t = tap_at(w, linear[i]);
        width = t && t->done ? t->width : 0;
    }
    *out = (SmoothStats){.width = width};
    size_t per = (size_t)width * 5, more = one ? 0 : (size_t)(tokens * width);
    float *all = *own = mem_zarray(per + more + 1, sizeof *all);
    double *sum = mem_zarray((size_t)width + 1, sizeof *sum);
    if (!all || !sum) {
        free(sum);
        return error_nomem(err, "statistics of channels");
    }
    Sums s = {.w = w, .width = width, .min = all, .max = all + width, .most = all + 2 * width, .shift = all + 3 * width,
              .mean = all + 4 * width, .shifted = shift, .sum = sum};
    for (int i = 0; i < n; i++) {
        const SmoothTap *t = tap_at(w, linear[i]);
        for (int k = 0; t && t->done && k < t->samples; k++)
            add_sample(&s, t, k);
    }
    settle(&s);
    free(sum);
    *out = (SmoothStats){.width = width, .rows = s.rows, .min = s.min, .max = s.max, .most = s.most,
                         .shift = shift ? s.shift : NULL, .mean = w->needs & SMOOTH_MEAN ? s.mean : NULL};
    if (!(w->needs & SMOOTH_TOKENS))
        return ST_OK;
    if (!one)
        copy_tokens(w, linear, n, width, all + per);
    out->tokens = one ? one->token : all + per;
    out->ntokens = tokens;
    return ST_OK;
}

int64_t smooth_watch_bad(const SmoothWatch *w, int64_t linear)
{
    const SmoothTap *t = tap_at(w, linear);
    int64_t n = t && t->done && t->rows ? t->samples * t->width : 0;
    for (int64_t i = 0; i < n; i++)
        if (t->count[i / t->width] && !(isfinite(t->min[i]) && isfinite(t->max[i])))
            return i % t->width;
    return -1;
}

SmoothTapBytes smooth_tap_bytes(const SmoothWatch *w, int64_t width, int samples, int64_t rows)
{
    int64_t stride;
    uint64_t channel = 2 * sizeof(float) + (w->needs & SMOOTH_MEAN ? sizeof(double) : 0);
    uint64_t token = w->needs & SMOOTH_TOKENS ? (uint64_t)kept_rows(w->most_tokens, rows, &stride) * sizeof(float) : 0;
    uint64_t open = ((uint64_t)samples * channel + token) * (uint64_t)width;
    return (SmoothTapBytes){.open = open, .kept = w->ordered ? open : (channel + token) * (uint64_t)width};
}
