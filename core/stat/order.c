#include "stat/order.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum {
    SORT_ALL = 2048,      /* fewer values than this are simply sorted */
    MIN_MANTISSA = 7,     /* of a fine bucket: at least that of a 16-bit key */
    MAX_MANTISSA = 11,
    LOW_OCTAVES = 8,      /* buckets reach 2^-8 of the mean magnitude: below it lie few values */
    MAX_OCTAVES = 64,
    INSERTION = 24,
    BLOCK = 16
};

/* A bucket that holds wanted ranks. */
typedef struct OrderPick {
    int32_t bucket;
    uint32_t count;
    int64_t first;   /* first wanted rank, within the bucket; the others follow every ORDER_STEP */
    int64_t ranks;
    int64_t out;     /* where they go */
    int64_t at;      /* where the bucket's values are gathered, -1: not gathered */
} OrderPick;

void order_scratch_fini(OrderScratch *s)
{
    free(s->table);
    free(s->bits);
    free(s->value);
    free(s->tmp);
    free(s->pick);
    memset(s, 0, sizeof *s);
}

int64_t order_count_of(int64_t n)
{
    return n < ORDER_STEP ? n : (n + ORDER_STEP / 2 - 1) / ORDER_STEP;
}

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Bits that order as the values do, and back. */
static uint32_t ordered(float x)
{
    uint32_t u = bits_of(x);
    return u >> 31 ? ~u : u | 0x80000000u;
}

static float unordered(uint32_t u)
{
    return float_of(u >> 31 ? u & 0x7fffffffu : ~u);
}

static void insertion_sort(float *v, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        float x = v[i];
        int64_t j = i;
        for (; j > 0 && v[j - 1] > x; j--)
            v[j] = v[j - 1];
        v[j] = x;
    }
}

/* Radix sort by bytes; bytes that are the same in all values cost nothing but their counting. */
static void order_sort(float *v, int64_t n, float *tmp)
{
    if (n <= INSERTION) {
        insertion_sort(v, n);
        return;
    }
    uint32_t at[4][256] = {{0}};
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = ordered(v[i]);
        for (int d = 0; d < 4; d++)
            at[d][u >> 8 * d & 255]++;
    }
    for (int d = 0; d < 4; d++) {
        if (at[d][ordered(v[0]) >> 8 * d & 255] == n)
            continue;
        uint32_t sum = 0;
        for (int b = 0; b < 256; b++) {
            uint32_t c = at[d][b];
            at[d][b] = sum;
            sum += c;
        }
        for (int64_t i = 0; i < n; i++)
            tmp[at[d][ordered(v[i]) >> 8 * d & 255]++] = v[i];
        memcpy(v, tmp, (size_t)n * sizeof *v);
    }
}

/* Grows a scratch array whose contents needn't be kept. */
static bool scratch_grow(void *ptr_to_ptr, size_t *cap, int64_t need, size_t size)
{
    void **p = ptr_to_ptr;
    if ((size_t)need <= *cap)
        return true;
    void *q = mem_aligned((size_t)need, size);
    if (!q)
        return false;
    free(*p);
    *p = q;
    *cap = (size_t)need;
    return true;
}

static int ilog2(int64_t n)
{
    return 63 - __builtin_clzll((unsigned long long)(n | 1));
}

/* Buckets fine enough that a typical one holds about ten values, over the octaves in which the values lie. */
static KeyMap keymap_of(const ScanSums *sums, int64_t n)
{
    int mantissa = ilog2(n) - 4;
    mantissa = mantissa < MIN_MANTISSA ? MIN_MANTISSA : mantissa > MAX_MANTISSA ? MAX_MANTISSA : mantissa;
    int top = (int)(sums->max_bits >> 23);
    int low = (int)(bits_of((float)(sums->sum_abs / (double)n)) >> 23) - LOW_OCTAVES;
    low = low > top ? top : low <= top - MAX_OCTAVES ? top - MAX_OCTAVES + 1 : low;
    low = low < 1 ? 1 : low;
    top = top < low ? low : top;
    KeyMap m = {.shift = 23 - mantissa};
    /* one bucket below the lowest octave takes what is smaller */
    m.base = ((uint32_t)low << 23) - (1u << m.shift);
    m.half = ((top - low + 1) << mantissa) + 1;
    return m;
}

Status order_count(OrderScratch *s, const StatKernels *k, const float *x, int64_t rows, int64_t width, int64_t ld,
                   const ScanSums *sums, Error *err)
{
    int64_t n = rows * width;
    if (n > UINT32_MAX)
        return error_set(err, ST_USAGE,
                         "a sample has %lld activations at one layer, more than can be counted; use a smaller "
                         "--seq-len", (long long)n);
    s->n = n;
    s->or_bits = sums->or_bits;
    s->tiny = 0;
    s->sorted = n < SORT_ALL;
    if (s->sorted) {
        if (!scratch_grow(&s->value, &s->value_cap, SORT_ALL, sizeof(float)) ||
            !scratch_grow(&s->tmp, &s->tmp_cap, SORT_ALL, sizeof(float)))
            return error_nomem(err, "order statistics");
        for (int64_t r = 0; r < rows; r++)
            memcpy(s->value + r * width, x + r * ld, (size_t)width * sizeof(float));
        order_sort(s->value, n, s->tmp);
        return ST_OK;
    }
    s->map = keymap_of(sums, n);
    size_t buckets = 2 * (size_t)s->map.half;
    buckets += (BLOCK - buckets % BLOCK) % BLOCK;
    if (!scratch_grow(&s->table, &s->table_cap, (int64_t)buckets, sizeof(uint32_t)))
        return error_nomem(err, "order statistics");
    memset(s->table, 0, buckets * sizeof(uint32_t));
    if (ld == width)
        k->count(x, n, s->map, s->table);
    else
        for (int64_t r = 0; r < rows; r++)
            k->count(x + r * ld, width, s->map, s->table);
    return ST_OK;
}

/* Lists the buckets that hold a wanted rank, ascending; gives their number. */
static int64_t find_picks(OrderScratch *s)
{
    int64_t buckets = 2 * (int64_t)s->map.half, cum = 0, next = ORDER_STEP / 2, out = 0, np = 0;
    const uint32_t *t = s->table;
    for (int64_t b = 0; b < buckets && next < s->n; b += BLOCK) {
        uint32_t sum = 0;
        for (int i = 0; i < BLOCK; i++)
            sum += t[b + i];
        if (cum + sum <= next) {
            cum += sum;
            continue;
        }
        for (int i = 0; i < BLOCK; i++) {
            uint32_t c = t[b + i];
            if (next < cum + c) {
                int64_t ranks = (cum + c - next + ORDER_STEP - 1) / ORDER_STEP;
                s->pick[np++] = (OrderPick){(int32_t)(b + i), c, next - cum, ranks, out, -1};
                out += ranks;
                next += ranks * ORDER_STEP;
            }
            cum += c;
        }
    }
    return np;
}

/* Bounds of a bucket's magnitudes. */
static void bucket_range(KeyMap m, int32_t bucket, float *lo, float *hi)
{
    uint32_t t = (uint32_t)(bucket >= m.half ? bucket - m.half : m.half - 1 - bucket);
    *lo = t ? float_of(m.base + (t << m.shift)) : 0.0f;
    *hi = fminf(float_of(m.base + ((t + 1) << m.shift)), FLT_MAX);
}

static bool is_tiny(KeyMap m, int32_t bucket)
{
    return bucket == m.half || bucket == m.half - 1;
}

/* Whether the values of a bucket must be looked at one by one. */
static bool wants_refining(const OrderScratch *s, const OrderPick *p, int64_t exact_max)
{
    if (is_tiny(s->map, p->bucket))
        return true;
    if (!(s->or_bits & ((1u << s->map.shift) - 1)))
        return false; /* all values of a bucket are equal: bf16 and the like */
    if (s->n <= exact_max || p->count > s->n / 64)
        return true;
    double share = ORDER_STEP / (double)s->n;
    double first = (double)p->out * share, last = (double)(p->out + p->ranks) * share;
    return first < 0.02 || last > 0.98 || (last > 0.235 && first < 0.265) || (last > 0.735 && first < 0.765);
}

/* A bucket's ranks without looking at its values: they are all equal, or spread evenly. */
static void fill_unrefined(const OrderScratch *s, const OrderPick *p, float *out)
{
    float lo, hi;
    bucket_range(s->map, p->bucket, &lo, &hi);
    bool exact = !(s->or_bits & ((1u << s->map.shift) - 1));
    bool negative = p->bucket < s->map.half;
    for (int64_t i = 0; i < p->ranks; i++) {
        double f = ((double)(p->first + i * ORDER_STEP) + 0.5) / (double)p->count;
        double v = exact ? (double)lo : (double)lo + (negative ? 1 - f : f) * ((double)hi - (double)lo);
        out[p->out + i] = (float)(negative ? -v : v);
    }
}

/* Places the gathered buckets one after the other: `table` becomes the write positions, `bits` the filter. */
static int64_t place_picks(OrderScratch *s, int64_t np, bool tiny, int64_t exact_max)
{
    int64_t at = 0;
    int32_t half = s->map.half;
    memset(s->bits, 0, (size_t)((2 * (int64_t)half + 31) / 32) * sizeof *s->bits);
    if (tiny) {
        for (int32_t b = half - 1; b <= half; b++) {
            uint32_t c = s->table[b];
            s->table[b] = (uint32_t)at;
            s->bits[b >> 5] |= 1u << (b & 31);
            at += c;
        }
        s->tiny = at;
    }
    for (int64_t i = 0; i < np; i++) {
        OrderPick *p = &s->pick[i];
        if (tiny && is_tiny(s->map, p->bucket)) {
            p->at = s->table[p->bucket];
        } else if (wants_refining(s, p, exact_max)) {
            p->at = at;
            s->table[p->bucket] = (uint32_t)at;
            s->bits[p->bucket >> 5] |= 1u << (p->bucket & 31);
            at += p->count;
        }
    }
    return at;
}

/* Copies the gathered buckets' values to s->value, bucket by bucket. */
static void gather(OrderScratch *s, const StatKernels *k, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    int64_t n = 0;
    if (ld == width)
        n = k->filter(x, s->n, s->map, s->bits, s->tmp);
    else
        for (int64_t r = 0; r < rows; r++)
            n += k->filter(x + r * ld, width, s->map, s->bits, s->tmp + n);
    for (int64_t i = 0; i < n; i++)
        s->value[s->table[keymap_bucket(s->map, s->tmp[i])]++] = s->tmp[i];
}

/* What place_picks overwrote, for order_hist. */
static void restore_counts(OrderScratch *s, int64_t np)
{
    for (int64_t i = 0; i < np; i++)
        s->table[s->pick[i].bucket] = s->pick[i].count;
}

static void sample_sorted(const OrderScratch *s, float *out)
{
    int64_t step = s->n < ORDER_STEP ? 1 : ORDER_STEP;
    for (int64_t r = s->n < ORDER_STEP ? 0 : ORDER_STEP / 2; r < s->n; r += step)
        *out++ = s->value[r];
}

Status order_pick(OrderScratch *s, const StatKernels *k, const float *x, int64_t rows, int64_t width, int64_t ld,
                  bool tiny, int64_t exact_max, float *out, Error *err)
{
    if (s->sorted) {
        if (out)
            sample_sorted(s, out);
        return ST_OK;
    }
    int64_t np = 0;
    if (!scratch_grow(&s->pick, &s->pick_cap, order_count_of(s->n), sizeof(OrderPick)) ||
        !scratch_grow(&s->bits, &s->bits_cap, (2 * (int64_t)s->map.half + 31) / 32, sizeof(uint32_t)))
        return error_nomem(err, "order statistics");
    if (out)
        np = find_picks(s);
    int64_t total = place_picks(s, np, tiny, exact_max);
    if (!scratch_grow(&s->value, &s->value_cap, total + 1, sizeof(float)) ||
        !scratch_grow(&s->tmp, &s->tmp_cap, total + 1, sizeof(float)))
        return error_nomem(err, "order statistics");
    if (total)
        gather(s, k, x, rows, width, ld);
    restore_counts(s, np);
    for (int64_t i = 0; i < np; i++) {
        const OrderPick *p = &s->pick[i];
        if (p->at < 0) {
            fill_unrefined(s, p, out);
            continue;
        }
        if (p->ranks == 1 && p->count <= STAT_SELECT_MAX) {
            out[p->out] = k->select(s->value + p->at, (int)p->count, (int)p->first);
            continue;
        }
        order_sort(s->value + p->at, p->count, s->tmp);
        for (int64_t j = 0; j < p->ranks; j++)
            out[p->out + j] = s->value[p->at + p->first + j * ORDER_STEP];
    }
    return ST_OK;
}

void order_hist(const OrderScratch *s, uint64_t dense[65536])
{
    int64_t loose = s->sorted ? s->n : s->tiny;
    for (int64_t i = 0; i < loose; i++)
        dense[bits_of(s->value[i]) >> 16]++;
    if (s->sorted)
        return;
    int32_t half = s->map.half, group = 1 << (16 - s->map.shift);
    uint32_t key = (s->map.base + (1u << s->map.shift)) >> 16;
    for (int32_t t = 1; t < half; t += group, key++) {
        uint64_t pos = 0, neg = 0;
        for (int32_t i = t; i < t + group; i++) {
            pos += s->table[half + i];
            neg += s->table[half - 1 - i];
        }
        dense[key] += pos;
        dense[0x8000u | key] += neg;
    }
}

double order_kurtosis(const OrderList *l, int count)
{
    int64_t n = 0;
    double first = 0, s1 = 0, s2 = 0, s4 = 0;
    for (int i = 0; i < count; i++) {
        if (!n && l[i].n)
            first = (double)l[i].v[0];
        n += l[i].n;
        for (int64_t k = 0; k < l[i].n; k++)
            s1 += (double)l[i].v[k] - first; /* a constant tensor's deviations are exactly 0 */
    }
    if (!n)
        return NAN;
    double mean = first + s1 / (double)n;
    for (int i = 0; i < count; i++)
        for (int64_t k = 0; k < l[i].n; k++) {
            double d = (double)l[i].v[k] - mean, d2 = d * d;
            s2 += d2;
            s4 += d2 * d2;
        }
    double sd = sqrt(s2 / (double)n) + 1e-10;
    return s4 / (double)n / (sd * sd * sd * sd) - 3;
}

/* How many values of a list are at most the one with these ordered bits. */
static int64_t count_at_most(const OrderList *l, uint32_t bits)
{
    int64_t lo = 0, hi = l->n;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if (ordered(l->v[mid]) <= bits)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Value of rank r (from 0) in the union of sorted lists: bisection over the bit patterns. */
static float value_at(const OrderList *l, int count, int64_t r)
{
    uint32_t lo = 0, hi = UINT32_MAX;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int64_t n = 0;
        for (int i = 0; i < count; i++)
            n += count_at_most(&l[i], mid);
        if (n > r)
            hi = mid;
        else
            lo = mid + 1;
    }
    return unordered(lo);
}

double order_quantile(const OrderList *l, int count)
{
    int64_t n = 0;
    float top = 0;
    for (int i = 0; i < count; i++) {
        n += l[i].n;
        if (l[i].n)
            top = fmaxf(top, fmaxf(fabsf(l[i].v[0]), fabsf(l[i].v[l[i].n - 1])));
    }
    if (!n)
        return NAN;
    int64_t i1 = n / 4;
    float range = value_at(l, count, 3 * i1) - value_at(l, count, i1);
    return (double)(2.0f * top / 254.0f / (range + 1e-10f));
}
