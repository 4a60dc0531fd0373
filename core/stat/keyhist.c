#include "stat/keyhist.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { KEYS = 65536, NEGATIVE = 0x8000, INF_KEY = 0x7f80 };

static bool is_nan(unsigned key)
{
    return (key & 0x7fff) > INF_KEY;
}

/* The i-th key by value: -Inf … -0, +0 … +Inf (NaNs at both ends). */
static unsigned key_at(int i)
{
    return i < NEGATIVE ? (unsigned)(KEYS - 1 - i) : (unsigned)(i - NEGATIVE);
}

static int rank_of(unsigned key)
{
    return key & NEGATIVE ? KEYS - 1 - (int)key : (int)key + NEGATIVE;
}

static Status keyhist_alloc(KeyHist *h, int n, Error *err)
{
    *h = (KeyHist){.n = n};
    h->key = mem_array((size_t)n, sizeof *h->key);
    h->count = mem_array((size_t)n, sizeof *h->count);
    if (h->key && h->count)
        return ST_OK;
    keyhist_fini(h);
    return error_nomem(err, "histogram");
}

Status keyhist_from_counts(KeyHist *h, const uint64_t *dense, Error *err)
{
    int n = 0;
    for (unsigned k = 0; k < KEYS; k++)
        n += dense[k] && !is_nan(k);
    RETURN_IF_ERROR(keyhist_alloc(h, n, err));
    n = 0;
    for (int i = 0; i < KEYS; i++) {
        unsigned k = key_at(i);
        if (!dense[k])
            continue;
        if (is_nan(k)) {
            h->nan += dense[k];
            continue;
        }
        h->key[n] = (uint16_t)k;
        h->count[n++] = dense[k];
        h->total += dense[k];
    }
    return ST_OK;
}

Status keyhist_add(KeyHist *into, const KeyHist *h, Error *err)
{
    KeyHist sum;
    RETURN_IF_ERROR(keyhist_alloc(&sum, into->n + h->n, err));
    int i = 0, j = 0, n = 0;
    while (i < into->n || j < h->n) {
        int a = i < into->n ? rank_of(into->key[i]) : INT32_MAX, b = j < h->n ? rank_of(h->key[j]) : INT32_MAX;
        sum.key[n] = a <= b ? into->key[i] : h->key[j];
        sum.count[n] = (a <= b ? into->count[i] : 0) + (b <= a ? h->count[j] : 0);
        i += a <= b;
        j += b <= a;
        n++;
    }
    sum.n = n;
    sum.total = into->total + h->total;
    sum.nan = into->nan + h->nan;
    keyhist_fini(into);
    *into = sum;
    return ST_OK;
}

Status keyhist_copy(KeyHist *out, const KeyHist *h, Error *err)
{
    RETURN_IF_ERROR(keyhist_alloc(out, h->n, err));
    if (h->n) {
        memcpy(out->key, h->key, (size_t)h->n * sizeof *h->key);
        memcpy(out->count, h->count, (size_t)h->n * sizeof *h->count);
    }
    out->total = h->total;
    out->nan = h->nan;
    return ST_OK;
}

void keyhist_fini(KeyHist *h)
{
    free(h->key);
    free(h->count);
    *h = (KeyHist){0};
}

void keyhist_range(uint16_t key, float *lo, float *hi)
{
    uint32_t a = (uint32_t)(key & 0x7fff) << 16, b = a | 0xffff;
    float near, far;
    memcpy(&near, &a, sizeof near);
    memcpy(&far, &b, sizeof far);
    if ((key & 0x7fff) >= INF_KEY)
        far = near;
    *lo = key & NEGATIVE ? -far : near;
    *hi = key & NEGATIVE ? -near : far;
}

/* Adds mass spread evenly over [a, b] to the bins of [lo, hi]. */
static void spread(double a, double b, double mass, double lo, double hi, int bins, double *out, double *below,
                   double *above)
{
    double width = (hi - lo) / bins;
    if (!(b > a) || !(width > 0)) {
        int i = !(width > 0) ? 0 : (int)fmin((a - lo) / width, (double)(bins - 1));
        if (a < lo)
            *below += mass;
        else if (a > hi)
            *above += mass;
        else
            out[i] += mass;
        return;
    }
    double per = mass / (b - a);
    if (a < lo)
        *below += per * (fmin(b, lo) - a);
    if (b > hi)
        *above += per * (b - fmax(a, hi));
    double from = fmax(a, lo), to = fmin(b, hi);
    if (!(to > from))
        return;
    int first = (int)fmin((from - lo) / width, (double)(bins - 1)),
        last = (int)fmin((to - lo) / width, (double)(bins - 1));
    for (int i = first; i <= last; i++) {
        double x0 = i == first ? from : lo + i * width, x1 = i == last ? to : lo + (i + 1) * width;
        if (x1 > x0)
            out[i] += per * (x1 - x0);
    }
}

void keyhist_bins(const KeyHist *h, double lo, double hi, int bins, double *out, double *below, double *above)
{
    double under = 0, over = 0;
    for (int i = 0; i < bins; i++)
        out[i] = 0;
    for (int i = 0; i < h->n && bins > 0; i++) {
        float a, b;
        keyhist_range(h->key[i], &a, &b);
        if (isinf(a))
            *(a < 0 ? &under : &over) += (double)h->count[i];
        else
            spread((double)a, (double)b, (double)h->count[i], lo, hi, bins, out, &under, &over);
    }
    if (below)
        *below = under;
    if (above)
        *above = over;
}

double keyhist_quantile(const KeyHist *h, double q)
{
    if (!h->total)
        return NAN;
    double want = fmin(fmax(q, 0), 1) * (double)h->total, cum = 0;
    for (int i = 0; i < h->n; i++) {
        double c = (double)h->count[i];
        if (cum + c >= want || i == h->n - 1) {
            float lo, hi;
            keyhist_range(h->key[i], &lo, &hi);
            double f = fmin((want - cum) / c, 1);
            return isinf(lo) ? (double)lo : (double)lo + f * ((double)hi - (double)lo);
        }
        cum += c;
    }
    return NAN;
}
