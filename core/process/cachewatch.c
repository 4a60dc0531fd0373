#include "process/cachewatch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "qir/intquant.h"

enum { SIDES = sizeof ((CacheWatch *)0)->side / sizeof ((CacheWatch *)0)->side[0] };

static struct CacheSide *side_of(CacheWatch *w, Tap tap)
{
    return &w->side[(tap.linear < 0 ? 0 : 2) + (tap.kind == TAP_V)];
}

static bool wants_tap(void *self, Tap tap)
{
    const CacheWatch *w = self;
    return tap.layer == w->layer && (tap.kind == TAP_K || tap.kind == TAP_V);
}

static Status tap_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    (void)start;
    struct CacheSide *s = side_of(self, tap);
    size_t n = (size_t)samples * (size_t)width;
    free(s->mn);
    free(s->mx);
    *s = (struct CacheSide){.samples = samples, .width = width, .mn = mem_array(n, sizeof *s->mn),
                            .mx = mem_array(n, sizeof *s->mx)};
    if (!s->mn || !s->mx)
        return error_nomem(err, "ranges of keys and values");
    for (size_t i = 0; i < n; i++) {
        s->mn[i] = INFINITY;
        s->mx[i] = -INFINITY;
    }
    return ST_OK;
}

static void tap_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                     int64_t ld)
{
    (void)row0;
    const struct CacheSide *s = side_of(self, tap);
    float *mn = s->mn + sample * width, *mx = s->mx + sample * width;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width; c++) {
            float v = x[r * ld + c];
            mn[c] = v < mn[c] ? v : isnan(v) ? NAN : mn[c];
            mx[c] = v > mx[c] ? v : isnan(v) ? NAN : mx[c];
        }
}

/* Channel c of the samples so far, and of those behind them. */
static void add_range(const CacheWatch *w, struct CacheSide *s, int64_t c, float mn, float mx)
{
    if (w->last && mn > mx) /* a sample without a token */
        return;
    s->mn[c] = w->last || mn < s->mn[c] || isnan(mn) ? mn : s->mn[c];
    s->mx[c] = w->last || mx > s->mx[c] || isnan(mx) ? mx : s->mx[c];
}

static Status tap_end(void *self, Tap tap, Error *err)
{
    (void)err;
    const CacheWatch *w = self;
    struct CacheSide *s = side_of(self, tap);
    for (int i = 0; i < s->samples; i++)
        for (int64_t c = 0; c < s->width; c++)
            add_range(w, s, c, s->mn[i * s->width + c], s->mx[i * s->width + c]);
    s->done = true;
    return ST_OK;
}

/* The range over this rank's samples stands for them: extremes and the last sample's are the same in any division. */
static Status pack_ranges(void *self, int layer, Pack *out, Error *err)
{
    (void)layer;
    CacheWatch *w = self;
    for (int i = 0; i < SIDES; i++) {
        struct CacheSide *s = &w->side[i];
        int64_t width = s->done && s->samples ? s->width : 0;
        pack_i64(out, width);
        pack_put(out, s->mn, (size_t)width * sizeof *s->mn);
        pack_put(out, s->mx, (size_t)width * sizeof *s->mx);
        free(s->mn);
        free(s->mx);
        *s = (struct CacheSide){0};
    }
    return out->oom ? error_nomem(err, "ranges of keys and values") : ST_OK;
}

static Status merge_ranges(void *self, int layer, Unpack *in, Error *err)
{
    (void)layer;
    CacheWatch *w = self;
    for (int i = 0; i < SIDES; i++) {
        struct CacheSide *s = &w->side[i];
        int64_t width = unpack_i64(in);
        float *mn = unpack_array(in, width, sizeof *mn), *mx = unpack_array(in, width, sizeof *mx);
        if (!in->bad && width && !s->done) {
            *s = (struct CacheSide){.samples = 1, .width = width, .mn = mn, .mx = mx, .done = true};
            continue;
        }
        for (int64_t c = 0; !in->bad && c < width; c++)
            add_range(w, s, c, mn[c], mx[c]);
        free(mn);
        free(mx);
    }
    return in->bad ? error_nomem(err, "ranges of keys and values") : ST_OK;
}

Observer cache_watch_observer(CacheWatch *w)
{
    static const ObserverOps ops = {
        .name = "key and value ranges",
        .wants_tap = wants_tap,
        .tap_begin = tap_begin,
        .tap_tile = tap_tile,
        .tap_end = tap_end,
        .pack = pack_ranges,
        .merge = merge_ranges,
    };
    return (Observer){&ops, w};
}

void cache_watch_fini(CacheWatch *w)
{
    for (int i = 0; i < SIDES; i++) {
        free(w->side[i].mn);
        free(w->side[i].mx);
    }
    memset(w->side, 0, sizeof w->side);
}

Status cache_watch_range(const CacheWatch *w, int side, const float **mn, const float **mx, int64_t *n, Error *err)
{
    const struct CacheSide *s = &w->side[side];
    const char *what = side % 2 ? "values" : "keys";
    if (!s->done || s->samples == 0)
        return error_set(err, ST_DATA, "the %s of layer %d were not seen: its attention has no cache of this kind",
                         what, w->layer);
    for (int64_t c = 0; c < s->width; c++)
        if (!isfinite(s->mn[c]) || !isfinite(s->mx[c]))
            return error_set(err, ST_DATA,
                             "the %s of layer %d hold NaN or Inf (channel %lld): keep the layers before it in float",
                             what, w->layer, (long long)c);
    *n = s->width;
    *mn = s->mn;
    *mx = s->mx;
    return ST_OK;
}

Status cache_watch_params(const CacheWatch *w, int side, const QSpec *q, DType T, float **scale, float **offset,
                          int64_t *n, Error *err)
{
    const float *mn, *mx;
    RETURN_IF_ERROR(cache_watch_range(w, side, &mn, &mx, n, err));
    *scale = mem_array(2 * (size_t)*n, sizeof **scale);
    if (!*scale)
        return error_nomem(err, "scales of keys and values");
    *offset = *scale + *n;
    for (int64_t c = 0; c < *n; c++) {
        QParam p = intquant_param(mn[c], mx[c], 8, q->symmetric, T);
        (*scale)[c] = p.scale;
        (*offset)[c] = p.offset;
    }
    return ST_OK;
}
