/* Massive activations and sink tokens of the residual stream. Definitions: Sun et al., "Massive Activations in Large
 * Language Models" (2024): values above 100 and above 1,000 times the median magnitude. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/watch.h"

#define MASSIVE_ABOVE 100.0
#define MASSIVE_TIMES 1000.0
#define SINK_TIMES 10.0 /* a token whose norm is above so many times the median norm is a sink */

enum { PART_MAX, PART_MEDIAN, PART_SAMPLE, PART_TOKEN, PART_CHANNEL, PART_MASSIVE, PART_SINKS, PART_FIRST, PART_NORM };

static const MetricPart parts[] = {
    {"max", "", "largest |h|"},
    {"median", "", "median |h| of all values"},
    {"sample", "", "text in which the largest is (from 0)"},
    {"token", "", "its token (from 0)"},
    {"channel", "", "its channel (from 0)"},
    {"massive", "", "values above 100 and above 1,000 times the median"},
    {"sinks", "%", "tokens whose norm is above 10 times the median norm"},
    {"first", "x", "median norm of the texts' first tokens, over the median norm"},
    {"norm", "", "median norm of a token"},
    {NULL, NULL, NULL},
};

/* Magnitudes are sorted by their bits in two halves. */
enum { HALF_KEYS = 1 << 15, LOW_KEYS = 1 << 16, TASK_ROWS = 64 };

/* What one task finds in its rows. */
typedef struct RowsTop {
    float max;
    int64_t row, channel;
    BadPlace bad;      /* sample: the row of the stream */
    int64_t massive;
} RowsTop;

typedef struct MassiveRun {
    const Stream *h;
    RowsTop *top;      /* [tasks] */
    double *norm;      /* [rows] */
    float limit;       /* above which a value is massive */
    uint32_t *count;   /* [threads][LOW_KEYS] */
    uint32_t high;     /* upper half that the lower ones are counted of; HALF_KEYS: upper halves are counted */
} MassiveRun;

typedef struct Massive {
    const PassPlan *p;
    RowsTop *top;
    double *norm, *work; /* [rows] */
    uint32_t *count;
    size_t count_cap;
} Massive;

static uint32_t magnitude(float x)
{
    union {
        float f;
        uint32_t u;
    } v = {x};
    return v.u & 0x7fffffffu;
}

static int64_t task_end(const Stream *h, int64_t task)
{
    return min_i64((task + 1) * TASK_ROWS, h->rows);
}

static void scan_task(void *ctx, int64_t task, int worker)
{
    (void)worker;
    const MassiveRun *m = ctx;
    const Stream *h = m->h;
    RowsTop top = {.max = -1, .bad.sample = -1};
    for (int64_t t = task * TASK_ROWS; t < task_end(h, task); t++) {
        const float *x = h->data + t * h->width;
        double sum = 0;
        for (int64_t j = 0; j < h->width; j++) {
            sum += (double)x[j] * (double)x[j];
            if (fabsf(x[j]) > top.max)
                top = (RowsTop){.max = fabsf(x[j]), .row = t, .channel = j, .bad = top.bad};
        }
        if (!isfinite(sum))
            bad_place_find(&top.bad, (int)min_i64(t, INT32_MAX), 0, x, 1, h->width, h->width);
        m->norm[t] = sqrt(sum);
    }
    m->top[task] = top;
}

static void massive_task(void *ctx, int64_t task, int worker)
{
    (void)worker;
    const MassiveRun *m = ctx;
    int64_t n = 0;
    for (int64_t i = task * TASK_ROWS * m->h->width; i < task_end(m->h, task) * m->h->width; i++)
        n += fabsf(m->h->data[i]) > m->limit;
    m->top[task].massive = n;
}

static void count_task(void *ctx, int64_t task, int worker)
{
    const MassiveRun *m = ctx;
    uint32_t *count = m->count + (size_t)worker * LOW_KEYS;
    for (int64_t i = task * TASK_ROWS * m->h->width; i < task_end(m->h, task) * m->h->width; i++) {
        uint32_t v = magnitude(m->h->data[i]);
        if (m->high == HALF_KEYS)
            count[v >> 16]++;
        else
            count[v & 0xffff] += v >> 16 == m->high;
    }
}

/* The key that holds rank *rank of what is counted; *rank becomes the rank within it. */
static uint32_t find_key(MassiveRun *m, Pool *pool, uint32_t high, int64_t *rank)
{
    int threads = pool_threads(pool);
    m->high = high;
    memset(m->count, 0, (size_t)threads * LOW_KEYS * sizeof *m->count);
    pool_run(pool, PHASE_STATISTICS, div_up(m->h->rows, TASK_ROWS), count_task, m, NULL);
    for (uint32_t k = 0; k < LOW_KEYS; k++) {
        int64_t n = 0;
        for (int i = 0; i < threads; i++)
            n += m->count[(size_t)i * LOW_KEYS + k];
        if (*rank < n)
            return k;
        *rank -= n;
    }
    return LOW_KEYS - 1;
}

/* Magnitude of rank `rank` (from 0) of all values. */
static double magnitude_at(MassiveRun *m, Pool *pool, int64_t rank)
{
    union {
        uint32_t u;
        float f;
    } v;
    uint32_t high = find_key(m, pool, HALF_KEYS, &rank);
    v.u = high << 16 | find_key(m, pool, high, &rank);
    return (double)v.f;
}

static double median_of(double *v, int64_t n)
{
    qsort(v, (size_t)n, sizeof *v, compare_doubles);
    return n ? (v[(n - 1) / 2] + v[n / 2]) / 2 : NAN;
}

/* The task that has the largest, the first of equal ones, and the first NaN or Inf. */
static RowsTop merge(const MassiveRun *m)
{
    RowsTop all = {.max = -1, .bad.sample = -1};
    for (int64_t i = 0; i < div_up(m->h->rows, TASK_ROWS); i++) {
        const RowsTop *t = &m->top[i];
        BadPlace bad = all.bad.sample < 0 ? t->bad : all.bad;
        all = t->max > all.max ? *t : all;
        all.bad = bad;
    }
    return all;
}

/* The sample of a row, which becomes the row within it. */
static int sample_of(const Stream *h, int64_t *row)
{
    int s = 0;
    while (h->start[s + 1] <= *row)
        s++;
    *row -= h->start[s];
    return s;
}

static void norms(Massive *w, const Stream *h, UnitScore *u)
{
    int64_t first = 0, sinks = 0;
    memcpy(w->work, w->norm, (size_t)h->rows * sizeof *w->work);
    double median = median_of(w->work, h->rows);
    for (int64_t t = 0; t < h->rows; t++)
        sinks += w->norm[t] > SINK_TIMES * median;
    for (int s = 0; s < h->samples; s++)
        if (h->start[s + 1] > h->start[s])
            w->work[first++] = w->norm[h->start[s]];
    u->part[PART_SINKS] = 100.0 * (double)sinks / (double)h->rows;
    u->part[PART_FIRST] = median_of(w->work, first) / median;
    u->part[PART_NORM] = median;
}

static void values(Massive *w, MassiveRun *m, RowsTop top, Pool *pool, UnitScore *u)
{
    const Stream *h = m->h;
    int64_t n = h->rows * h->width, massive = 0;
    double median = magnitude_at(m, pool, (n - 1) / 2);
    median = n % 2 ? median : (median + magnitude_at(m, pool, n / 2)) / 2;
    m->limit = (float)fmax(MASSIVE_ABOVE, MASSIVE_TIMES * median);
    if ((double)top.max > (double)m->limit)
        pool_run(pool, PHASE_STATISTICS, div_up(h->rows, TASK_ROWS), massive_task, m, NULL);
    for (int64_t i = 0; i < div_up(h->rows, TASK_ROWS); i++)
        massive += m->top[i].massive;
    u->value = (double)top.max / median;
    u->part[PART_SAMPLE] = sample_of(h, &top.row);
    u->part[PART_MAX] = (double)top.max;
    u->part[PART_MEDIAN] = median;
    u->part[PART_TOKEN] = (double)top.row;
    u->part[PART_CHANNEL] = (double)top.channel;
    u->part[PART_MASSIVE] = (double)massive;
    norms(w, h, u);
}

static Status layer(void *self, int unit, const Stream *h, Pool *pool, WatchOut *out, Error *err)
{
    Massive *w = self;
    UnitScore u = {.unit = unit, .tokens = h->rows, .samples = h->samples};
    char why[sizeof u.why];
    if (!watch_wants_unit(w->p, unit))
        return ST_OK;
    if (!mem_grow(&w->count, &w->count_cap, (size_t)pool_threads(pool) * LOW_KEYS, sizeof *w->count))
        return error_nomem(err, "counts of magnitudes");
    MassiveRun m = {.h = h, .top = w->top, .norm = w->norm, .count = w->count};
    pool_run(pool, PHASE_STATISTICS, div_up(h->rows, TASK_ROWS), scan_task, &m, NULL);
    RowsTop top = merge(&m);
    if (top.bad.sample >= 0) {
        top.bad.row = top.bad.sample;
        top.bad.sample = sample_of(h, &top.bad.row);
        bad_place_text(&top.bad, why, sizeof why);
        watch_undefined(&u, why);
    } else if (top.max <= 0) {
        watch_undefined(&u, "every value is 0");
    } else {
        values(w, &m, top, pool, &u);
    }
    if (isinf(u.value))
        watch_undefined(&u, "more than half of the values are 0");
    return watch_put(out, &metric_massive, &u, err);
}

static void end(void *self)
{
    Massive *w = self;
    if (!w)
        return;
    free(w->top);
    free(w->norm);
    free(w->work);
    free(w->count);
    free(w);
}

static Status begin(const PassPlan *p, void **self, Error *err)
{
    size_t rows = (size_t)p->tokens->start[p->tokens->samples];
    Massive *w = mem_zarray(1, sizeof *w);
    *self = w;
    if (w) {
        w->p = p;
        w->top = mem_array(rows / TASK_ROWS + 1, sizeof *w->top);
        w->norm = mem_array(rows, sizeof *w->norm);
        w->work = mem_array(rows, sizeof *w->work);
    }
    return w && w->top && w->norm && w->work ? ST_OK : error_nomem(err, "norms of tokens");
}

static uint64_t bytes(const PassPlan *p, int threads)
{
    uint64_t rows = (uint64_t)p->tokens->start[p->tokens->samples];
    return rows * 16 + (rows / TASK_ROWS + 1) * sizeof(RowsTop) + (uint64_t)(threads < 1 ? 1 : threads) * LOW_KEYS * 4;
}

const Watch watch_massive = {.metric = &metric_massive, .open = begin, .layer = layer, .close = end, .bytes = bytes};

const Metric metric_massive = {
    .name = "massive",
    .title = "Massive",
    .unit = "",
    .scope = SCOPE_BLOCK,
    .family = FAMILY_INPUT,
    .cost = "one float pass over the calibration set",
    .parts = parts,
    .direction = 1,
    .pass = &pass_watch,
    .explain = "Largest value of the residual stream behind the block, over the median magnitude. Thousands: a massive\n"
               "activation, almost always at a text's first token (a sink) in one or two channels from some block on.\n"
               "The block where it jumps up makes it, usually its down_proj; static int8 of that input loses the rest.",
};
