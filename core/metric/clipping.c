#include "metric/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/convert.h"
#include "metric/weightgrid.h"
#include "stat/kernel.h"
#include "stat/weightsums.h"

/* specs/analysis.md 9.4: a weight cut at percentiles of its magnitudes before one 4-bit grid. */

extern const WeightAnalysis clipping;

enum { RATIOS = 5, BITS = 4, KEYS = 32768, LOWS = 65536 };
static const double ratio[RATIOS] = {0.99, 0.995, 0.999, 0.9995, 1};
enum { SUM_CLIP, SUM_QUANT, SUM_TOTAL, SUM_CUT, SUMS };

/* Magnitudes are counted by the upper 16 bits of their float32, and, where they have more, among those of the wanted keys
 * by the lower 16. */
typedef struct Clipping {
    uint32_t *count;         /* [threads][2 * KEYS] */
    uint32_t *low;           /* [threads][RATIOS][LOWS] */
    int threads;
    uint32_t wanted[2 * KEYS / 32]; /* buckets of the keys below, of both signs */
    uint16_t key[RATIOS];
    uint64_t rest[RATIOS];   /* rank of the wanted magnitude among those of its key */
    float cut[RATIOS];
    double sum[RATIOS][SUMS];
} Clipping;

static const KeyMap map = {.base = 0, .shift = 16, .half = KEYS};

static Status begin(void *self, const PassPlan *p, int threads, Error *err)
{
    (void)p;
    Clipping *c = self;
    c->threads = threads;
    c->count = mem_zarray((size_t)threads * 2 * KEYS, sizeof *c->count);
    c->low = mem_zarray((size_t)threads * RATIOS * LOWS, sizeof *c->low);
    return c->count && c->low ? ST_OK : error_nomem(err, "counts of magnitudes");
}

static void end(void *self)
{
    Clipping *c = self;
    free(c->count);
    free(c->low);
}

static uint64_t bytes(const PassPlan *p, int threads)
{
    (void)p;
    return (uint64_t)threads * (2 * KEYS + RATIOS * LOWS) * sizeof(uint32_t);
}

static int sums(const void *self)
{
    (void)self;
    return RATIOS * SUMS;
}

static bool wants(void *self, const WeightCase *c, int sweep)
{
    Clipping *x = self;
    if (sweep == 0) /* of a linear that had a NaN no sweep came to clear it */
        memset(x->count, 0, (size_t)x->threads * 2 * KEYS * sizeof *x->count);
    return sweep != 1 || !c->fine;
}

/* Of a key, which is that of some ratios: the first. */
static int ratio_of(const Clipping *x, uint16_t key)
{
    int k = 0;
    while (k < RATIOS && x->key[k] != key)
        k++;
    return k;
}

static void count_low(Clipping *x, const WeightBlock *b, int64_t n, float *found)
{
    int64_t hits = stat_kernels()->filter(b->w, n, map, x->wanted, found);
    uint32_t *low = x->low + (size_t)b->worker * RATIOS * LOWS;
    for (int64_t i = 0; i < hits; i++) {
        uint32_t u = bits_of_float(found[i]) & 0x7fffffffu;
        low[ratio_of(x, (uint16_t)(u >> 16)) * LOWS + (int)(u & 0xffffu)]++;
    }
}

static void add_ratio(const WeightCase *c, float cut, const WeightBlock *b, int64_t n, const WeightScratch *s, double *sum)
{
    int64_t beyond = 0, again = 0;
    const double min = (double)fmaxf(c->min, -cut), max = (double)fminf(c->max, cut), end_at = (double)cut;
    memcpy(s->copy, b->w, (size_t)n * sizeof *s->copy);
    weightsums_cut(b->w, n, cut, -cut, cut, s->copy, &beyond);
    sum[SUM_CUT] = (double)beyond;
    weightsums_sq(b->w, s->copy, n, &sum[SUM_CLIP]);
    memcpy(s->more, s->copy, (size_t)n * sizeof *s->more);
    weightgrid_whole(s->more, n, min, max, BITS);
    weightsums_cut(b->w, n, cut, (float)weightgrid_value(-end_at, min, max, BITS),
                   (float)weightgrid_value(end_at, min, max, BITS), s->more, &again);
    weightsums_sq(s->copy, s->more, n, &sum[SUM_QUANT]);
    weightsums_sq(b->w, s->more, n, &sum[SUM_TOTAL]);
}

static void block(void *self, const WeightCase *c, int sweep, const WeightBlock *b, const WeightScratch *s, double *sum)
{
    Clipping *x = self;
    int64_t n = b->rows * c->l->in;
    if (sweep == 0)
        stat_kernels()->count(b->w, n, map, x->count + (size_t)b->worker * 2 * KEYS);
    else if (sweep == 1)
        count_low(x, b, n, s->more);
    for (int k = 0; sweep == 2 && k < RATIOS; k++) {
        if (k && x->cut[k] == x->cut[k - 1])
            memcpy(sum + k * SUMS, sum + (k - 1) * SUMS, SUMS * sizeof *sum);
        else
            add_ratio(c, x->cut[k], b, n, s, sum + k * SUMS);
    }
}

/* How many magnitudes have the key. */
static uint64_t key_count(const Clipping *x, int key)
{
    uint64_t n = 0;
    for (int t = 0; t < x->threads; t++)
        n += (uint64_t)x->count[t * 2 * KEYS + KEYS + key] + x->count[t * 2 * KEYS + KEYS - 1 - key];
    return n;
}

/* The keys that hold the magnitudes at the ratios: sorted[min(floor(n r), n - 1)]. */
static void find_keys(Clipping *x, double n)
{
    uint64_t before = 0;
    int k = 0;
    memset(x->wanted, 0, sizeof x->wanted);
    for (int key = 0; key < KEYS && k < RATIOS; key++) {
        uint64_t here = key_count(x, key);
        for (; k < RATIOS; k++) {
            uint64_t rank = (uint64_t)fmin(floor(n * ratio[k]), n - 1);
            if (rank >= before + here)
                break;
            x->key[k] = (uint16_t)key;
            x->rest[k] = rank - before;
            x->cut[k] = float_of_bits((uint32_t)key << 16);
            for (int side = 0; side < 2; side++) {
                int bucket = side ? KEYS + key : KEYS - 1 - key;
                x->wanted[bucket / 32] |= 1u << bucket % 32;
            }
        }
        before += here;
    }
}

static void find_lows(Clipping *x)
{
    for (int k = 0; k < RATIOS; k++) {
        const int at = ratio_of(x, x->key[k]);
        uint64_t before = 0;
        for (uint32_t low = 0; low < LOWS; low++) {
            uint64_t here = 0;
            for (int t = 0; t < x->threads; t++)
                here += x->low[((size_t)t * RATIOS + (size_t)at) * LOWS + low];
            if (x->rest[k] < before + here) {
                x->cut[k] = float_of_bits((uint32_t)x->key[k] << 16 | low);
                break;
            }
            before += here;
        }
    }
    memset(x->low, 0, (size_t)x->threads * RATIOS * LOWS * sizeof *x->low);
}

static void swept(void *self, const WeightCase *c, int sweep, const double *sum)
{
    Clipping *x = self;
    if (sweep == 0)
        find_keys(x, c->n);
    else if (sweep == 1)
        find_lows(x);
    for (int k = 0; sweep == 2 && k < RATIOS; k++)
        for (int j = 0; j < SUMS; j++)
            x->sum[k][j] = weights_total(sum, c->blocks, RATIOS * SUMS, k * SUMS + j);
}

enum { PART_ERROR, PART_BEST = RATIOS, PART_CUT, PART_CLIP, PART_QUANT, PART_CLIPPED };
static const MetricPart parts[] = {
    {"error_99", "", "sum of squared errors when cut where 99 % of the magnitudes are below"},
    {"error_99_5", "", "99.5 %"},
    {"error_99_9", "", "99.9 %"},
    {"error_99_95", "", "99.95 %"},
    {"error_100", "", "not cut"},
    {"best", "", "the ratio with the least error"},
    {"clip", "", "the magnitude it cuts at"},
    {"clip_error", "", "its error by cutting"},
    {"quant_error", "", "its error by the grid"},
    {"clipped", "", "values that it cuts"},
    {NULL, NULL, NULL},
};

static Status finish(void *self, const WeightCase *c, WeightScores *out, Error *err)
{
    const Clipping *x = self;
    UnitScore s = {0};
    int best = RATIOS - 1;
    for (int k = RATIOS; k-- > 0;)
        best = x->sum[k][SUM_TOTAL] < x->sum[best][SUM_TOTAL] ? k : best;
    const double all = x->sum[RATIOS - 1][SUM_TOTAL], *found = x->sum[best];
    for (int k = 0; k < RATIOS; k++)
        s.part[PART_ERROR + k] = x->sum[k][SUM_TOTAL];
    s.part[PART_BEST] = ratio[best];
    s.part[PART_CUT] = (double)x->cut[best];
    s.part[PART_CLIP] = found[SUM_CLIP];
    s.part[PART_QUANT] = found[SUM_QUANT];
    s.part[PART_CLIPPED] = found[SUM_CUT];
    s.value = all > 0 ? 1 - found[SUM_TOTAL] / all : all == 0 ? 0 : NAN;
    if (!isfinite(s.value))
        snprintf(s.why, sizeof s.why, "its squares overflow");
    return weights_add(out, &clipping, c, &s, err);
}

const WeightAnalysis clipping = {
    .metric = {
        .name = "clipping",
        .title = "Clipping",
        .unit = "of the error",
        .scope = SCOPE_LINEAR,
        .family = FAMILY_WEIGHT,
        .cost = "reads the weights once, no data",
        .parts = parts,
        .any_level = true,
        .direction = 1,
        .pass = &pass_weights,
        .explain = "Share of the squared error of one 4-bit grid for the whole weight that the best clipping takes away.\n"
                   "Tried are 99, 99.5, 99.9, 99.95 and 100 % of the magnitudes. Near 1: a few values stretch the grid. Grids\n"
                   "of rows or groups gain less; it counts all values alike, and large ones may matter most.",
    },
    .size = sizeof(Clipping),
    .begin = begin,
    .end = end,
    .bytes = bytes,
    .sums = sums,
    .wants = wants,
    .block = block,
    .swept = swept,
    .finish = finish,
};
