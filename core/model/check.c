#include "model/check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/convert.h"

enum { PIECE = 4 << 20 };

/* How the bits of a dtype tell magnitude, Inf and NaN: (bits & mask) grows with the magnitude; above `inf` lie NaNs,
 * `inf` itself is Inf. */
typedef struct BitLayout {
    uint64_t mask, inf; /* inf 0: every pattern is a number */
    bool has_inf;       /* false: `inf` is the last number */
    double (*value)(uint64_t magnitude); /* NULL: integers */
} BitLayout;

static double value_f64(uint64_t u)
{
    double d;
    memcpy(&d, &u, sizeof d);
    return d;
}

static double value_f32(uint64_t u)
{
    return (double)float_of_bits((uint32_t)u);
}

static double value_f16(uint64_t u)
{
    return (double)f16_to_float((uint16_t)u);
}

static double value_bf16(uint64_t u)
{
    return (double)bf16_to_float((uint16_t)u);
}

/* 1-4-3, bias 7: as the upper bits of a float16 with its exponent moved by 8. */
static double value_e4m3(uint64_t u)
{
    return (double)f16_to_float((uint16_t)(u << 7)) * 256;
}

static double value_e5m2(uint64_t u)
{
    return (double)f16_to_float((uint16_t)(u << 8));
}

static double value_e8m0(uint64_t u)
{
    return u ? (double)float_of_bits((uint32_t)u << 23) : 0x1p-127;
}

static const BitLayout layouts[DT_COUNT] = {
    [DT_F64] = {0x7fffffffffffffffu, 0x7ff0000000000000u, true, value_f64},
    [DT_F32] = {0x7fffffffu, 0x7f800000u, true, value_f32},
    [DT_F16] = {0x7fffu, 0x7c00u, true, value_f16},
    [DT_BF16] = {0x7fffu, 0x7f80u, true, value_bf16},
    [DT_F8_E4M3] = {0x7fu, 0x7eu, false, value_e4m3},
    [DT_F8_E5M2] = {0x7fu, 0x7cu, true, value_e5m2},
    [DT_F8_E8M0] = {0xffu, 0xfeu, false, value_e8m0},
    [DT_I64] = {UINT64_MAX, 0, false, NULL},
    [DT_U64] = {UINT64_MAX, 0, false, NULL},
    [DT_I32] = {0xffffffffu, 0, false, NULL},
    [DT_U32] = {0xffffffffu, 0, false, NULL},
    [DT_I16] = {0xffffu, 0, false, NULL},
    [DT_U16] = {0xffffu, 0, false, NULL},
    [DT_I8] = {0xffu, 0, false, NULL},
    [DT_U8] = {0xffu, 0, false, NULL},
    [DT_BOOL] = {0xffu, 0, false, NULL},
};

/* Whether a dtype has NaNs or magnitudes to judge. */
static bool tensorscan_is_float(DType t)
{
    return layouts[t].value != NULL;
}

/* ---- one stretch of values ---- */

/* Largest magnitude of n values, and whether one differs from `first`. Plain loops over one type each, so that the
 * compiler can make vector code of them. */
typedef struct Extent {
    uint64_t top;
    bool differs;
} Extent;

#define DEFINE_EXTENT(NAME, TYPE)                                                      \
    static Extent NAME(const void *p, int64_t n, uint64_t mask64, uint64_t first64)    \
    {                                                                                  \
        const TYPE *v = p;                                                             \
        TYPE mask = (TYPE)mask64, first = (TYPE)first64, top = 0, differs = 0;         \
        for (int64_t i = 0; i < n; i++) {                                              \
            TYPE m = (TYPE)(v[i] & mask);                                              \
            top = m > top ? m : top;                                                   \
            differs = (TYPE)(differs | (v[i] ^ first));                                \
        }                                                                              \
        return (Extent){top, differs != 0};                                            \
    }
DEFINE_EXTENT(extent_8, uint8_t)
DEFINE_EXTENT(extent_16, uint16_t)
DEFINE_EXTENT(extent_32, uint32_t)
DEFINE_EXTENT(extent_64, uint64_t)

static uint64_t value_at(const void *p, int64_t i, int size)
{
    uint64_t u = 0; /* little endian, as the file */
    memcpy(&u, (const char *)p + i * size, (size_t)size);
    return u;
}

static Extent extent_of(const void *p, int64_t n, int size, uint64_t mask, uint64_t first)
{
    return size == 1   ? extent_8(p, n, mask, first)
           : size == 2 ? extent_16(p, n, mask, first)
           : size == 4 ? extent_32(p, n, mask, first)
                       : extent_64(p, n, mask, first);
}

/* Of the largest number. */
static uint64_t last_number(const BitLayout *l)
{
    return l->has_inf ? l->inf - 1 : l->inf;
}

/* Values at the beginning, in whole runs, that are numbers. Runs of one length, so that the compiler makes vector code. */
#define DEFINE_SOUND(NAME, TYPE)                                                       \
    static int64_t NAME(const void *p, int64_t n, uint64_t mask64, uint64_t last64)    \
    {                                                                                  \
        enum { RUN = 128 };                                                            \
        const TYPE *v = p;                                                             \
        TYPE mask = (TYPE)mask64, last = (TYPE)last64;                                 \
        int64_t i = 0;                                                                 \
        for (TYPE bad = 0; i + RUN <= n && !bad; i += bad ? 0 : RUN)                   \
            for (int k = 0; k < RUN; k++)                                              \
                bad = (TYPE)(bad | ((TYPE)(v[i + k] & mask) > last));                  \
        return i;                                                                      \
    }
DEFINE_SOUND(sound_8, uint8_t)
DEFINE_SOUND(sound_16, uint16_t)
DEFINE_SOUND(sound_32, uint32_t)
DEFINE_SOUND(sound_64, uint64_t)

int64_t values_first_bad(DType t, const void *p, int64_t n, bool *nan)
{
    const BitLayout *l = &layouts[t];
    int size = dtype_size(t);
    if (!l->value)
        return -1;
    uint64_t last = last_number(l);
    int64_t i = size == 1   ? sound_8(p, n, l->mask, last)
                : size == 2 ? sound_16(p, n, l->mask, last)
                : size == 4 ? sound_32(p, n, l->mask, last)
                            : sound_64(p, n, l->mask, last);
    while (i < n && (value_at(p, i, size) & l->mask) <= last)
        i++;
    if (i == n)
        return -1;
    *nan = !(l->has_inf && (value_at(p, i, size) & l->mask) == l->inf);
    return i;
}

void tensor_position(const int64_t *shape, int ndim, int64_t index, Str *out)
{
    int64_t at[TENSOR_MAX_DIMS];
    for (int i = ndim - 1; i >= 0; i--) {
        at[i] = index % shape[i];
        index /= shape[i];
    }
    str_putc(out, '[');
    for (int i = 0; i < ndim; i++)
        str_printf(out, "%s%lld", i ? "," : "", (long long)at[i]);
    str_putc(out, ']');
}

/* Pattern of the largest magnitude that is not above `huge`, found by halving: magnitudes order as their patterns do.
 */
static uint64_t huge_limit(const BitLayout *l, double huge)
{
    uint64_t lo = 0, hi = last_number(l);
    if (!(l->value(hi) > huge))
        return hi;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (l->value(mid) > huge)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo - 1;
}

/* Looks at each value of a stretch that holds NaN, Inf or huge ones. `at`: index of the first value in its tensor. */
static void look_closely(const BitLayout *l, uint64_t limit, const void *p, int64_t n, int size, int64_t at, TensorScan *s,
                         uint64_t *top)
{
    uint64_t last = last_number(l);
    for (int64_t i = 0; i < n; i++) {
        uint64_t m = value_at(p, i, size) & l->mask;
        if (m <= limit) {
            *top = m > *top ? m : *top;
        } else if (m > last) {
            bool nan = !(l->has_inf && m == l->inf);
            s->nans += nan;
            s->infs += !nan;
            if (s->bad_at < 0) {
                s->bad_at = at + i;
                s->bad_is_nan = nan;
            }
        } else {
            *top = m > *top ? m : *top;
            s->huge++;
            if (s->huge_at < 0)
                s->huge_at = at + i;
        }
    }
}

/* ---- tasks ---- */

/* Whole rows of a matrix, or a run of values of anything else. */
typedef struct Task {
    int64_t tensor, at, n; /* index and number of values */
} Task;

typedef struct Scanner {
    const Checkpoint *c;
    const ScanOptions *o;
    TensorScan *scan;
    Task *task;
    size_t ntasks, cap;
    uint64_t limit[DT_COUNT]; /* huge_limit */
    char **buffer;            /* [threads], PIECE bytes */
    pthread_mutex_t lock;     /* over scan, done and the progress callback */
    uint64_t done, total;
    bool no_memory;
} Scanner;

static bool is_scale(const Scanner *x, int64_t tensor)
{
    return x->o->codes && x->o->codes[tensor] > 0;
}

/* What the tensor's patterns mean. */
static DType meaning(const Scanner *x, int64_t tensor)
{
    DType t = checkpoint_at(x->c, tensor)->dtype;
    return t == DT_U8 && is_scale(x, tensor) ? DT_F8_E8M0 : t;
}

/* Values of a row to be looked at as such, 0 when the tensor has none. */
static int64_t row_length(const Scanner *x, int64_t tensor)
{
    const TensorInfo *t = checkpoint_at(x->c, tensor);
    int64_t n = t->ndim >= 2 ? t->shape[t->ndim - 1] : 0;
    return tensorscan_is_float(t->dtype) && n >= SCAN_ROW_MIN && !is_scale(x, tensor) ? n : 0;
}

static Status add_tasks(Scanner *x, int64_t tensor, Error *err)
{
    const TensorInfo *t = checkpoint_at(x->c, tensor);
    int64_t size = dtype_size(t->dtype), n = (int64_t)(t->nbytes / (uint64_t)size), row = row_length(x, tensor);
    int64_t step = PIECE / size;
    if (row)
        step = row >= step ? row : step / row * row;
    for (int64_t at = 0; at < n; at += step) {
        if (!mem_grow(&x->task, &x->cap, x->ntasks + 1, sizeof *x->task))
            return error_nomem(err, "a scan");
        x->task[x->ntasks++] = (Task){tensor, at, n - at < step ? n - at : step};
    }
    x->total += t->nbytes;
    return ST_OK;
}

/* State of a row that may come in several pieces. */
typedef struct RowState {
    uint64_t first;
    bool differs;
} RowState;

/* Values [at, at+n) of a tensor lie at p; those above `limit` are looked at closely. row 0: no rows. */
static void scan_values(DType t, uint64_t limit, const char *p, int64_t at, int64_t n, int64_t row, RowState *r,
                        TensorScan *s, uint64_t *top)
{
    const BitLayout *l = &layouts[t];
    int size = dtype_size(t);
    for (int64_t i = 0; i < n;) {
        int64_t in_row = row ? (at + i) % row : 0, left = row ? row - in_row : n;
        int64_t k = left < n - i ? left : n - i;
        if (in_row == 0)
            *r = (RowState){value_at(p, i, size), false};
        Extent e = extent_of(p + i * size, k, size, l->mask, r->first);
        r->differs |= e.differs;
        if (e.top > limit)
            look_closely(l, limit, p + i * size, k, size, at + i, s, top);
        else
            *top = e.top > *top ? e.top : *top;
        i += k;
        if (row && in_row + k == row) {
            s->rows++;
            if (!r->differs) {
                if (s->constant_at < 0)
                    s->constant_at = (at + i - row) / row;
                s->constant_rows++;
            }
        }
    }
}

static int64_t first_of(int64_t a, int64_t b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* Under the lock. */
static void merge(TensorScan *into, TensorScan *s)
{
    if (s->bad_at >= 0 && (into->bad_at < 0 || s->bad_at < into->bad_at))
        into->bad_is_nan = s->bad_is_nan;
    into->bad_at = first_of(into->bad_at, s->bad_at);
    into->huge_at = first_of(into->huge_at, s->huge_at);
    into->constant_at = first_of(into->constant_at, s->constant_at);
    into->nans += s->nans;
    into->infs += s->infs;
    into->huge += s->huge;
    into->rows += s->rows;
    into->constant_rows += s->constant_rows;
    into->max_abs = s->max_abs > into->max_abs ? s->max_abs : into->max_abs;
    if (!into->unreadable)
        into->unreadable = s->unreadable;
    else
        free(s->unreadable);
}

static const TensorScan nothing_seen = {.bad_at = -1, .huge_at = -1, .constant_at = -1};

static void scan_task(void *ctx, int64_t index, int worker)
{
    Scanner *x = ctx;
    const Task *k = &x->task[index];
    const TensorInfo *t = checkpoint_at(x->c, k->tensor);
    int64_t size = dtype_size(t->dtype), row = row_length(x, k->tensor);
    DType type = meaning(x, k->tensor);
    const BitLayout *l = &layouts[type];
    uint64_t limit = !l->value                ? UINT64_MAX
                     : is_scale(x, k->tensor) ? huge_limit(l, SCAN_HUGE / x->o->codes[k->tensor])
                                              : x->limit[type];
    TensorScan s = nothing_seen;
    RowState r = {0};
    uint64_t top = 0;
    bool failed = false;
    for (int64_t at = k->at, n, end = k->at + k->n; at < end && !failed; at += n) {
        n = end - at < PIECE / size ? end - at : PIECE / size;
        Error err;
        if (cancel_level(x->o->cancel))
            return;
        failed =
            checkpoint_read(x->c, t, (uint64_t)(at * size), (uint64_t)(n * size), x->buffer[worker], &err) != ST_OK;
        if (failed)
            s.unreadable = strdup(err.text);
        else
            scan_values(type, limit, x->buffer[worker], at, n, row, &r, &s, &top);
    }
    s.max_abs = l->value ? l->value(top) : (double)top;
    pthread_mutex_lock(&x->lock);
    x->no_memory |= failed && !s.unreadable;
    merge(&x->scan[k->tensor], &s);
    x->done += (uint64_t)(k->n * size);
    if (x->o->progress)
        x->o->progress(x->o->ctx, x->done, x->total);
    pthread_mutex_unlock(&x->lock);
}

static Status prepare(Scanner *x, Error *err)
{
    int64_t n = checkpoint_count(x->c);
    int threads = pool_threads(x->o->pool);
    x->scan = mem_array((size_t)n, sizeof *x->scan);
    x->buffer = mem_zarray((size_t)threads, sizeof *x->buffer);
    for (int64_t i = 0; x->scan && i < n; i++)
        x->scan[i] = nothing_seen;
    for (int i = 0; x->buffer && i < threads; i++)
        if (!(x->buffer[i] = mem_aligned(PIECE, 1)))
            return error_nomem(err, "a scan");
    if (!x->scan || !x->buffer)
        return error_nomem(err, "a scan");
    for (int i = 0; i < DT_COUNT; i++)
        if (layouts[i].value)
            x->limit[i] = huge_limit(&layouts[i], SCAN_HUGE);
    for (int64_t i = 0; i < n; i++)
        RETURN_IF_ERROR(add_tasks(x, i, err));
    return ST_OK;
}

Status tensorscan_run(const Checkpoint *c, const ScanOptions *o, TensorScan **out, Error *err)
{
    Scanner x = {.c = c, .o = o};
    pthread_mutex_init(&x.lock, NULL);
    Status st = prepare(&x, err);
    if (st == ST_OK) {
        pool_run(o->pool, PHASE_OTHER, (int64_t)x.ntasks, scan_task, &x, o->cancel);
        st = cancel_check(o->cancel, err);
        if (st == ST_OK && x.no_memory)
            st = error_nomem(err, "a scan");
    }
    for (int i = 0; x.buffer && i < pool_threads(o->pool); i++)
        free(x.buffer[i]);
    free(x.buffer);
    free(x.task);
    pthread_mutex_destroy(&x.lock);
    if (st != ST_OK) {
        tensorscan_free(x.scan, checkpoint_count(c));
        return st;
    }
    *out = x.scan;
    return ST_OK;
}

void tensorscan_free(TensorScan *scan, int64_t n)
{
    for (int64_t i = 0; scan && i < n; i++)
        free(scan[i].unreadable);
    free(scan);
}

/* ---- judging ---- */

static bool vocabulary_rows(const char *name)
{
    return strstr(name, "embed") || strstr(name, "lm_head") || strstr(name, "wte") || strcmp(name, "head.weight") == 0;
}

/* What is added to codes: 0 where codes are symmetric. */
static bool offsets(const char *name)
{
    static const char *const ends[] = {"_offset", "_zero_point"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (n > strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0)
            return true;
    return false;
}

ScanVerdict tensorscan_verdict(const TensorInfo *t, const TensorScan *s)
{
    bool floats = tensorscan_is_float(t->dtype), zero = t->nbytes && s->max_abs == 0;
    if (s->unreadable || s->nans || s->infs || s->huge)
        return SCAN_BAD;
    if (floats && s->max_abs > 0 && s->max_abs < SCAN_TINY && t->dtype != DT_F8_E8M0)
        return SCAN_BAD;
    if (zero && offsets(t->name))
        return SCAN_FINE;
    if (zero)
        return floats && t->ndim >= 2 ? SCAN_BAD : t->dtype == DT_BOOL ? SCAN_FINE : SCAN_NOTE;
    if (s->constant_rows)
        return vocabulary_rows(t->name) ? SCAN_NOTE : SCAN_BAD;
    return SCAN_FINE;
}
