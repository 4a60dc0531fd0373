#include "process/smoothstats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "dist/dist.h"
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
    UnitPlace place;
    RETURN_IF_ERROR(unit_place(w->unit, tap.linear, start[samples], &place, err));
    tap_free(t);
    t->samples = samples;
    t->width = width;
    t->rows = place.all;
    t->before = place.before;
    kept_rows(t->most, t->rows, &t->stride);
    t->ntokens = div_up(t->before + start[samples], t->stride) - div_up(t->before, t->stride);
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

/* row0: of this rank's rows. */
static void keep_tokens(SmoothTap *t, int64_t row0, const float *x, int64_t rows, int64_t ld)
{
    const int64_t at = t->before + row0, first = div_up(t->before, t->stride);
    for (int64_t r = div_up(at, t->stride) * t->stride - at; r < rows; r += t->stride)
        memcpy(t->token + ((at + r) / t->stride - first) * t->width, x + r * ld, (size_t)t->width * sizeof *x);
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
static void join_ranges(SmoothTap *t)
{
    for (int s = 1; s < t->samples; s++) {
        for (int64_t c = 0; c < t->width; c++) {
            t->min[c] = lower(t->min[c], t->min[s * t->width + c]);
            t->max[c] = higher(t->max[c], t->max[s * t->width + c]);
        }
        t->count[0] += t->count[s];
    }
    t->samples = t->samples ? 1 : 0;
}

/* What was summed before this rank's samples, and them. */
static void add_sums(const SmoothTap *t, int samples, int from, double *sum)
{
    for (int s = from; s < samples; s++)
        for (int64_t c = 0; c < t->width; c++)
            sum[c] += t->sum[s * t->width + c];
}

static void *shrink(void *p, size_t n, size_t size)
{
    void *less = p ? realloc(p, n * size + 1) : NULL;
    return less ? less : p;
}

static bool is_divided(const SmoothWatch *w)
{
    return dist_size(unit_dist(w->unit)) > 1;
}

static Status tap_end(void *self, Tap tap, Error *err)
{
    (void)err;
    const SmoothWatch *w = self;
    SmoothTap *t = tap_at(w, tap.linear);
    t->done = true;
    t->sums = t->samples;
    if (w->ordered || t->samples < 2)
        return ST_OK;
    if (t->sum && !is_divided(w)) { /* else they wait for the ranks before */
        add_sums(t, t->samples, 1, t->sum);
        t->sum = shrink(t->sum, (size_t)t->width, sizeof *t->sum);
    }
    join_ranges(t);
    t->min = shrink(t->min, (size_t)t->width, sizeof *t->min);
    t->max = shrink(t->max, (size_t)t->width, sizeof *t->max);
    return ST_OK;
}

/* ---- samples of several ranks ---- */

/* Extremes and tokens, and of samples that are kept apart their sums. */
static Status pack_taps(void *self, int layer, Pack *out, Error *err)
{
    (void)layer;
    SmoothWatch *w = self;
    for (size_t i = 0; i < w->ntaps; i++) {
        SmoothTap *t = &w->tap[i];
        const int n = t->done ? t->samples : 0;
        const size_t values = (size_t)n * (size_t)t->width, tokens = t->done && t->token ? (size_t)t->ntokens : 0;
        pack_i64(out, n);
        pack_i64(out, t->width);
        pack_i64(out, (int64_t)tokens);
        pack_put(out, t->count, (size_t)n * sizeof *t->count);
        pack_put(out, t->min, values * sizeof *t->min);
        pack_put(out, t->max, values * sizeof *t->max);
        pack_put(out, t->token, tokens * (size_t)t->width * sizeof *t->token);
        if (w->needs & SMOOTH_MEAN && w->ordered)
            pack_put(out, t->sum, values * sizeof *t->sum);
        double *sum = w->ordered ? NULL : t->sum;
        const int sums = t->sums;
        t->sum = sum ? NULL : t->sum;
        tap_free(t);
        t->sum = sum;
        t->sums = sum ? sums : 0;
    }
    return out->oom ? error_nomem(err, "statistics of channels") : ST_OK;
}

/* Puts n values of the message behind `have` of *at. */
static bool join_array(void *at, int64_t have, int64_t n, size_t size, Unpack *in)
{
    void *old;
    memcpy(&old, at, sizeof old);
    if (n < 0 || (size_t)n > (size_t)(in->end - in->at) / size) {
        in->bad = true;
        return false;
    }
    unsigned char *all = realloc(old, (size_t)(have + n) * size + 1);
    if (!all)
        return false;
    memcpy(at, &all, sizeof all);
    unpack_get(in, all + (size_t)have * size, (size_t)n * size);
    return true;
}

/* Puts the samples of one rank behind those that are there. */
static bool append(const SmoothWatch *w, SmoothTap *t, Unpack *in)
{
    const int64_t n = unpack_i64(in), width = unpack_i64(in), tokens = unpack_i64(in), have = t->samples;
    const bool sums = w->needs & SMOOTH_MEAN && w->ordered;
    if (in->bad || !join_array(&t->count, have, n, sizeof *t->count, in) ||
        !join_array(&t->min, have * width, n * width, sizeof *t->min, in) ||
        !join_array(&t->max, have * width, n * width, sizeof *t->max, in) ||
        !join_array(&t->token, t->ntokens * width, tokens * width, sizeof *t->token, in) ||
        (sums && !join_array(&t->sum, have * width, n * width, sizeof *t->sum, in)))
        return false;
    for (int64_t s = have; s < have + n; s++)
        t->rows += t->count[s];
    t->samples += (int)n;
    t->ntokens += tokens;
    t->width = n ? width : t->width;
    t->done = t->done || n;
    return true;
}

static Status merge_taps(void *self, int layer, Unpack *in, Error *err)
{
    (void)layer;
    SmoothWatch *w = self;
    for (size_t i = 0; i < w->ntaps; i++)
        if (!append(w, &w->tap[i], in))
            return in->bad ? error_set(err, ST_INTERNAL, "statistics of a rank are not whole")
                           : error_nomem(err, "statistics of channels");
    return ST_OK;
}

Observer smooth_watch_observer(SmoothWatch *w)
{
    static const ObserverOps ops = {.name = "statistics of channels", .wants_tap = wants_tap, .tap_begin = tap_begin,
                                    .tap_tile = tap_tile, .tap_end = tap_end, .pack = pack_taps, .merge = merge_taps};
    return (Observer){&ops, w};
}

/* The sums of this rank's samples go behind those that the ranks before have: [channels of all taps]. */
static Status pass_sums(const SmoothWatch *w, double *all, size_t n, Error *err)
{
    Dist *d = unit_dist(w->unit);
    Pack before = {0}, mine = {0};
    RETURN_IF_ERROR(dist_take(d, &before, err));
    Unpack in = unpack_of(&before);
    if (before.data)
        unpack_get(&in, all, n * sizeof *all);
    double *sum = all;
    for (size_t i = 0; i < w->ntaps; i++) {
        const SmoothTap *t = &w->tap[i];
        add_sums(t, t->done ? t->sums : 0, 0, sum);
        sum += t->done ? t->width : 0;
    }
    pack_put(&mine, all, n * sizeof *all);
    Status st = in.bad ? error_set(err, ST_INTERNAL, "sums of a rank are not whole")
                : mine.oom ? error_nomem(err, "statistics of channels") : ST_OK;
    if (st == ST_OK)
        dist_hand_on(d, &mine);
    if (st == ST_OK)
        st = dist_from_last(d, all, n * sizeof *all, err);
    pack_fini(&before);
    pack_fini(&mine);
    return st;
}

static Status gather_sums(SmoothWatch *w, Error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < w->ntaps; i++)
        n += w->tap[i].done ? (size_t)w->tap[i].width : 0;
    double *all = mem_zarray(n, sizeof *all);
    Status st = all ? pass_sums(w, all, n, err) : error_nomem(err, "statistics of channels");
    const double *sum = all;
    for (size_t i = 0; st == ST_OK && i < w->ntaps; i++) {
        SmoothTap *t = &w->tap[i];
        if (!t->done)
            continue;
        free(t->sum);
        t->sum = mem_array((size_t)t->width, sizeof *t->sum);
        if (!t->sum)
            st = error_nomem(err, "statistics of channels");
        else
            memcpy(t->sum, sum, (size_t)t->width * sizeof *sum);
        sum += t->width;
    }
    free(all);
    return st;
}

Status smooth_watch_gather(SmoothWatch *w, Error *err)
{
    if (!is_divided(w))
        return ST_OK;
    RETURN_IF_ERROR(unit_gather(w->unit, smooth_watch_observer(w), err));
    for (size_t i = 0; i < w->ntaps && !w->ordered; i++)
        join_ranges(&w->tap[i]);
    return w->needs & SMOOTH_MEAN && !w->ordered ? gather_sums(w, err) : ST_OK;
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

SmoothTapBytes smooth_tap_bytes(const SmoothWatch *w, int64_t width, const PassSize *size)
{
    int64_t stride;
    const bool divided = size->all_rows > size->rows;
    const int64_t rows = divided ? size->all_rows : size->rows;
    uint64_t sum = w->needs & SMOOTH_MEAN ? sizeof(double) : 0, channel = 2 * sizeof(float) + sum;
    uint64_t token = w->needs & SMOOTH_TOKENS ? (uint64_t)kept_rows(w->most_tokens, rows, &stride) * sizeof(float) : 0;
    uint64_t open = (uint64_t)size->samples * channel + token, kept = w->ordered ? open : channel + token;
    if (divided) { /* sums wait, and what all ranks gave is there twice */
        kept = 2 * (w->ordered ? (uint64_t)size->all_samples * channel : channel) + 2 * token + (uint64_t)size->samples * sum;
        open = max_u64(open, kept);
    }
    return (SmoothTapBytes){.open = open * (uint64_t)width, .kept = kept * (uint64_t)width};
}
