/* Massive activations and sink tokens of the residual stream. Definitions: Sun et al., "Massive Activations in Large
 * Language Models" (2024): values above 100 and above 1,000 times the median magnitude. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "dist/dist.h"
#include "metric/watch.h"
#include "run/taps.h"

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
    Dist *dist;          /* NULL: alone */
    RowsTop *top;
    double *norm, *work; /* [rows] rank 0: of all texts */
    int64_t *all;        /* [LOW_KEYS] counts of all texts */
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

/* Adds up v[n] over ranks. */
static Status add_up(const Massive *w, int64_t *v, int64_t n, Error *err)
{
    if (dist_size(w->dist) == 1)
        return ST_OK;
    Pack mine = {0}, *all;
    pack_put(&mine, v, (size_t)n * sizeof *v);
    Status st = dist_gather_all(w->dist, &mine, &all, err);
    pack_fini(&mine);
    RETURN_IF_ERROR(st);
    memset(v, 0, (size_t)n * sizeof *v);
    for (int r = 0; r < dist_size(w->dist); r++) {
        Unpack in = unpack_of(&all[r]);
        for (int64_t i = 0; i < n; i++)
            v[i] += unpack_i64(&in);
    }
    dist_packs_free(all, dist_size(w->dist));
    return ST_OK;
}

/* How often each key comes: of the upper halves (HALF_KEYS), or of the lower ones that have this upper one. */
static Status count_keys(Massive *w, MassiveRun *m, Pool *pool, uint32_t high, Error *err)
{
    const int threads = pool_threads(pool);
    m->high = high;
    memset(m->count, 0, (size_t)threads * LOW_KEYS * sizeof *m->count);
    pool_run(pool, PHASE_STATISTICS, div_up(m->h->rows, TASK_ROWS), count_task, m, NULL);
    for (int64_t k = 0; k < LOW_KEYS; k++) {
        w->all[k] = 0;
        for (int i = 0; i < threads; i++)
            w->all[k] += m->count[(size_t)i * LOW_KEYS + (size_t)k];
    }
    return add_up(w, w->all, LOW_KEYS, err);
}

/* The key that holds rank *rank of what was counted; *rank becomes the rank within it. */
static uint32_t key_of(const Massive *w, int64_t *rank)
{
    for (uint32_t k = 0; k < LOW_KEYS; k++) {
        if (*rank < w->all[k])
            return k;
        *rank -= w->all[k];
    }
    return LOW_KEYS - 1;
}

/* The median magnitude of n values. */
static Status median_magnitude(Massive *w, MassiveRun *m, Pool *pool, int64_t n, double *median, Error *err)
{
    union {
        uint32_t u;
        float f;
    } v[2];
    int64_t rank[] = {(n - 1) / 2, n / 2};
    uint32_t high[2];
    RETURN_IF_ERROR(count_keys(w, m, pool, HALF_KEYS, err));
    for (int i = 0; i < 2; i++)
        high[i] = key_of(w, &rank[i]);
    for (int i = 0; i < 2; i++) {
        if (i == 0 || high[1] != high[0])
            RETURN_IF_ERROR(count_keys(w, m, pool, high[i], err));
        v[i].u = high[i] << 16 | key_of(w, &rank[i]);
    }
    *median = n % 2 ? (double)v[0].f : ((double)v[0].f + (double)v[1].f) / 2;
    return ST_OK;
}

static double median_of(double *v, int64_t n)
{
    qsort(v, (size_t)n, sizeof *v, compare_doubles);
    return n ? (v[(n - 1) / 2] + v[n / 2]) / 2 : NAN;
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

/* Of all texts: the largest, the first of equal ones, and the first NaN or Inf. */
typedef struct Top {
    int64_t rows, sample, row, channel;
    double max;
    BadPlace bad;
} Top;

static void take_larger(Top *all, const Top *t)
{
    if (t->max > all->max) {
        all->max = t->max;
        all->sample = t->sample;
        all->row = t->row;
        all->channel = t->channel;
    }
    if (all->bad.sample < 0)
        all->bad = t->bad;
    all->rows += t->rows;
}

/* Of this rank's texts. */
static Top own_top(const Massive *w, const MassiveRun *m)
{
    const Stream *h = m->h;
    const int first = (int)watch_first_sample(w->p);
    Top own = {.max = -1, .bad.sample = -1};
    for (int64_t i = 0; i < div_up(h->rows, TASK_ROWS); i++) {
        Top t = {.max = (double)m->top[i].max, .row = m->top[i].row, .channel = m->top[i].channel, .bad = m->top[i].bad};
        if (t.max > own.max)
            t.sample = first + sample_of(h, &t.row);
        if (t.bad.sample >= 0 && own.bad.sample < 0) {
            t.bad.row = t.bad.sample;
            t.bad.sample = first + sample_of(h, &t.bad.row);
        }
        take_larger(&own, &t);
    }
    own.rows = h->rows;
    return own;
}

static Status top_of_all(const Massive *w, const MassiveRun *m, Top *all, Error *err)
{
    const Top own = own_top(w, m);
    *all = own;
    if (dist_size(w->dist) == 1)
        return ST_OK;
    Pack mine = {0}, *packs;
    pack_put(&mine, &own, sizeof own);
    Status st = dist_gather_all(w->dist, &mine, &packs, err);
    pack_fini(&mine);
    RETURN_IF_ERROR(st);
    *all = (Top){.max = -1, .bad.sample = -1};
    for (int r = 0; r < dist_size(w->dist); r++) {
        Top t;
        Unpack in = unpack_of(&packs[r]);
        unpack_get(&in, &t, sizeof t);
        take_larger(all, &t);
    }
    dist_packs_free(packs, dist_size(w->dist));
    return ST_OK;
}

/* Norms of the texts of all ranks, on rank 0: [*samples] their rows to start[*samples + 1], which the caller frees. */
static Status gather_norms(Massive *w, const Stream *h, int64_t rows, int64_t **start, int *samples, Error *err)
{
    const int64_t texts = pass_texts(w->p)->samples;
    Pack mine = {0}, *all = NULL;
    int64_t n = 0, at = 0;
    pack_i64(&mine, h->samples);
    for (int s = 0; s < h->samples; s++)
        pack_i64(&mine, h->start[s + 1] - h->start[s]);
    pack_put(&mine, w->norm, (size_t)h->rows * sizeof *w->norm);
    Status st = dist_gather(w->dist, &mine, &all, err);
    pack_fini(&mine);
    *start = mem_zarray((size_t)texts + 1, sizeof **start);
    if (st == ST_OK && !*start)
        st = error_nomem(err, "norms of tokens");
    for (int r = 0; st == ST_OK && all && r < dist_size(w->dist); r++) {
        Unpack in = unpack_of(&all[r]);
        const int64_t from = at;
        for (int64_t k = unpack_i64(&in); k > 0 && n < texts; k--, n++)
            (*start)[n + 1] = at += unpack_i64(&in);
        if (at > rows)
            st = error_set(err, ST_INTERNAL, "the ranks have more rows than there are");
        else
            unpack_get(&in, w->norm + from, (size_t)(at - from) * sizeof *w->norm);
    }
    *samples = (int)n;
    dist_packs_free(all, dist_size(w->dist));
    return st;
}

static void norms(Massive *w, int64_t rows, int samples, const int64_t *start, UnitScore *u)
{
    int64_t first = 0, sinks = 0;
    memcpy(w->work, w->norm, (size_t)rows * sizeof *w->work);
    double median = median_of(w->work, rows);
    for (int64_t t = 0; t < rows; t++)
        sinks += w->norm[t] > SINK_TIMES * median;
    for (int s = 0; s < samples; s++)
        if (start[s + 1] > start[s])
            w->work[first++] = w->norm[start[s]];
    u->part[PART_SINKS] = 100.0 * (double)sinks / (double)rows;
    u->part[PART_FIRST] = median_of(w->work, first) / median;
    u->part[PART_NORM] = median;
}

static Status all_norms(Massive *w, const Stream *h, int64_t rows, UnitScore *u, Error *err)
{
    int64_t *start = NULL;
    int samples = h->samples;
    if (dist_size(w->dist) > 1)
        RETURN_IF_ERROR(gather_norms(w, h, rows, &start, &samples, err));
    if (dist_leads(w->dist))
        norms(w, rows, samples, start ? start : h->start, u);
    free(start);
    return ST_OK;
}

static Status values(Massive *w, MassiveRun *m, const Top *top, Pool *pool, UnitScore *u, Error *err)
{
    int64_t massive = 0;
    double median;
    RETURN_IF_ERROR(median_magnitude(w, m, pool, top->rows * m->h->width, &median, err));
    m->limit = (float)fmax(MASSIVE_ABOVE, MASSIVE_TIMES * median);
    if (top->max > (double)m->limit) {
        pool_run(pool, PHASE_STATISTICS, div_up(m->h->rows, TASK_ROWS), massive_task, m, NULL);
        for (int64_t i = 0; i < div_up(m->h->rows, TASK_ROWS); i++)
            massive += m->top[i].massive;
        RETURN_IF_ERROR(add_up(w, &massive, 1, err));
    }
    u->value = top->max / median;
    u->part[PART_SAMPLE] = (double)top->sample;
    u->part[PART_MAX] = top->max;
    u->part[PART_MEDIAN] = median;
    u->part[PART_TOKEN] = (double)top->row;
    u->part[PART_CHANNEL] = (double)top->channel;
    u->part[PART_MASSIVE] = (double)massive;
    return all_norms(w, m->h, top->rows, u, err);
}

static Status layer(void *self, int unit, const Stream *h, Pool *pool, WatchOut *out, Error *err)
{
    Massive *w = self;
    Top top;
    if (!watch_wants_unit(w->p, unit))
        return ST_OK;
    if (!mem_grow(&w->count, &w->count_cap, (size_t)pool_threads(pool) * LOW_KEYS, sizeof *w->count))
        return error_nomem(err, "counts of magnitudes");
    MassiveRun m = {.h = h, .top = w->top, .norm = w->norm, .count = w->count};
    pool_run(pool, PHASE_STATISTICS, div_up(h->rows, TASK_ROWS), scan_task, &m, NULL);
    RETURN_IF_ERROR(top_of_all(w, &m, &top, err));
    UnitScore u = {.unit = unit, .tokens = top.rows, .samples = w->p->ranks ? pass_texts(w->p)->samples : h->samples};
    if (top.bad.sample >= 0) {
        char why[sizeof u.why];
        bad_place_text(&top.bad, why, sizeof why);
        watch_undefined(&u, why);
    } else if (top.max <= 0) {
        watch_undefined(&u, "every value is 0");
    } else {
        RETURN_IF_ERROR(values(w, &m, &top, pool, &u, err));
    }
    if (isinf(u.value))
        watch_undefined(&u, "more than half of the values are 0");
    return dist_leads(w->dist) ? watch_put(out, &metric_massive, &u, err) : ST_OK;
}

static void end(void *self)
{
    Massive *w = self;
    if (!w)
        return;
    free(w->top);
    free(w->norm);
    free(w->work);
    free(w->all);
    free(w->count);
    free(w);
}

/* Whose norms it sorts. */
static int64_t rows_of(const PassPlan *p)
{
    const TokenSet *t = p->ranks && dist_leads(p->ranks->dist) ? pass_texts(p) : p->tokens;
    return t->start[t->samples];
}

static Status begin(const PassPlan *p, void **self, Error *err)
{
    size_t rows = (size_t)rows_of(p);
    Massive *w = mem_zarray(1, sizeof *w);
    *self = w;
    if (w) {
        w->p = p;
        w->dist = p->ranks ? p->ranks->dist : NULL;
        w->top = mem_array(rows / TASK_ROWS + 1, sizeof *w->top);
        w->norm = mem_array(rows, sizeof *w->norm);
        w->work = mem_array(rows, sizeof *w->work);
        w->all = mem_array(LOW_KEYS, sizeof *w->all);
    }
    return w && w->top && w->norm && w->work && w->all ? ST_OK : error_nomem(err, "norms of tokens");
}

/* Also of what rank 0 gathers: norms and counts of each rank. */
static uint64_t bytes(const PassPlan *p, int threads)
{
    uint64_t rows = (uint64_t)rows_of(p), ranks = p->ranks ? (uint64_t)dist_size(p->ranks->dist) + 1 : 0;
    return rows * (p->ranks ? 24 : 16) + (rows / TASK_ROWS + 1) * sizeof(RowsTop) +
           (uint64_t)(threads < 1 ? 1 : threads) * LOW_KEYS * 4 + (ranks + 1) * LOW_KEYS * 8;
}

const Watch watch_massive = {.metric = &metric_massive, .open = begin, .layer = layer, .close = end, .bytes = bytes,
                             .meets = true};

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
