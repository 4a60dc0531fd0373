#include "stat/agree.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"

typedef struct Keyed {
    double x, y;
    int64_t at;
} Keyed;

static int larger_first(const void *pa, const void *pb)
{
    const Keyed *a = pa, *b = pb;
    if (a->x != b->x)
        return a->x > b->x ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

static int by_both(const void *pa, const void *pb)
{
    const Keyed *a = pa, *b = pb;
    if (a->x != b->x)
        return a->x < b->x ? -1 : 1;
    return a->y < b->y ? -1 : a->y > b->y;
}

/* key[n]: x in falling order. */
static void sorted_ranks(const Keyed *key, int64_t n, double *rank)
{
    for (int64_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && key[to].x == key[from].x; to++)
            ;
        for (int64_t i = from; i < to; i++)
            rank[key[i].at] = (double)(from + to + 1) / 2;
    }
}

/* Fills key[] with the numbers of x, in falling order; how many there are. */
static int64_t fall(const double *x, int64_t n, Keyed *key)
{
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(x[i]))
            key[k++] = (Keyed){.x = x[i], .at = i};
    qsort(key, (size_t)k, sizeof *key, larger_first);
    return k;
}

Status agree_ranks(const double *x, int64_t n, double *rank, Error *err)
{
    Keyed *key = mem_array((size_t)n, sizeof *key);
    if (!key)
        return error_nomem(err, "ranks");
    for (int64_t i = 0; i < n; i++)
        rank[i] = NAN;
    int64_t k = fall(x, n, key);
    sorted_ranks(key, k, rank);
    free(key);
    return ST_OK;
}

/* Pearson's correlation, in two passes. */
static double correlation(const double *a, const double *b, int64_t n)
{
    double ma = 0, mb = 0, ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ma += a[i] / (double)n;
        mb += b[i] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        ab += (a[i] - ma) * (b[i] - mb);
        aa += (a[i] - ma) * (a[i] - ma);
        bb += (b[i] - mb) * (b[i] - mb);
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : NAN;
}

/* Sorts key[n] by y and counts how many pairs stood the other way round; tmp[n]. */
static double merge_count(Keyed *key, Keyed *tmp, int64_t n)
{
    if (n < 2)
        return 0;
    int64_t half = n / 2, i = 0, j = half, k = 0;
    double swaps = merge_count(key, tmp, half) + merge_count(key + half, tmp, n - half);
    while (i < half && j < n) {
        if (key[j].y < key[i].y) {
            swaps += (double)(half - i);
            tmp[k++] = key[j++];
        } else {
            tmp[k++] = key[i++];
        }
    }
    while (i < half)
        tmp[k++] = key[i++];
    for (i = 0; i < k; i++)
        key[i] = tmp[i];
    return swaps;
}

static double pairs_of(int64_t n)
{
    return (double)n * ((double)n - 1) / 2;
}

/* Pairs of neighbours in a sorted list that are equal in x, in y, in both. */
static double ties(const Keyed *key, int64_t n, bool x, bool y)
{
    double sum = 0;
    for (int64_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && (!x || key[to].x == key[from].x) && (!y || key[to].y == key[from].y); to++)
            ;
        sum += pairs_of(to - from);
    }
    return sum;
}

/* key[n] and tmp[n] are scratch. */
static double kendall(Keyed *key, Keyed *tmp, int64_t n)
{
    qsort(key, (size_t)n, sizeof *key, by_both);
    double all = pairs_of(n), tx = ties(key, n, true, false), txy = ties(key, n, true, true);
    double swaps = merge_count(key, tmp, n), ty = ties(key, n, false, true);
    double size = sqrt(all - tx) * sqrt(all - ty);
    return size > 0 ? (all - tx - ty + txy - 2 * swaps) / size : NAN;
}

/* How many are among the k largest of both; in[n] and key[n] are scratch. */
static int64_t shared_top(const double *x, const double *y, int64_t n, int64_t k, bool *in, Keyed *key)
{
    int64_t both = 0;
    for (int64_t i = 0; i < n; i++)
        in[i] = false;
    fall(x, n, key);
    for (int64_t i = 0; i < k; i++)
        in[key[i].at] = true;
    fall(y, n, key);
    for (int64_t i = 0; i < k; i++)
        both += in[key[i].at];
    return both;
}

/* q[n] is scratch. */
static double median_ratio(const double *x, const double *y, int64_t n, double *q)
{
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++)
        if (x[i] > 0 && y[i] > 0 && isfinite(x[i]) && isfinite(y[i]))
            q[k++] = y[i] / x[i];
    if (!k)
        return NAN;
    qsort(q, (size_t)k, sizeof *q, compare_doubles);
    return (q[(k - 1) / 2] + q[k / 2]) / 2;
}

/* Without a NaN in either. */
static Status agree_known(const double *x, const double *y, int64_t n, int64_t top, Agreement *out, Error *err)
{
    double *rx = mem_array((size_t)n, sizeof *rx), *ry = mem_array((size_t)n, sizeof *ry);
    Keyed *key = mem_array((size_t)n, sizeof *key), *tmp = mem_array((size_t)n, sizeof *tmp);
    bool *in = mem_array((size_t)n, sizeof *in);
    Status st = rx && ry && key && tmp && in ? ST_OK : error_nomem(err, "the agreement of two rankings");
    if (st == ST_OK) {
        sorted_ranks(key, fall(x, n, key), rx);
        sorted_ranks(key, fall(y, n, key), ry);
        *out = (Agreement){.n = n, .spearman = correlation(rx, ry, n), .tenth = (n + 9) / 10,
                           .top = top < n ? top : n};
        out->both_tenth = shared_top(x, y, n, out->tenth, in, key);
        out->both_top = shared_top(x, y, n, out->top, in, key);
        for (int64_t i = 0; i < n; i++)
            key[i] = (Keyed){x[i], y[i], i};
        out->kendall = kendall(key, tmp, n);
        out->median_ratio = median_ratio(x, y, n, rx);
    }
    free(rx);
    free(ry);
    free(key);
    free(tmp);
    free(in);
    return st;
}

Status agree(const double *x, const double *y, int64_t n, int64_t top, Agreement *out, Error *err)
{
    double *kx = mem_array((size_t)n, sizeof *kx), *ky = mem_array((size_t)n, sizeof *ky);
    int64_t k = 0;
    Status st = kx && ky ? ST_OK : error_nomem(err, "the agreement of two rankings");
    for (int64_t i = 0; i < n && st == ST_OK; i++)
        if (!isnan(x[i]) && !isnan(y[i])) {
            kx[k] = x[i];
            ky[k++] = y[i];
        }
    if (st == ST_OK)
        st = agree_known(kx, ky, k, top, out, err);
    free(kx);
    free(ky);
    return st;
}

double agree_jaccard(int64_t both, int64_t k)
{
    return k > 0 ? (double)both / (double)(2 * k - both) : NAN;
}
