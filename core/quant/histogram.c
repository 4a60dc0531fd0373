/* The histogram method of activations (specs/quantization.md 6): 2048 bins over everything seen, and a search for the
 * range that loses least when it is cut in 256 steps. The peer's search has its two candidates swapped and forgets
 * earlier samples; ours is torch's rule over the whole histogram. Counts and sums are float32 in every arithmetic. */
#include <math.h>
#include <string.h>

#include "quant/quantizer.h"
#include "qir/round.h"

enum { BINS = 2048, STEPS = 256, SUB = 16 };

typedef struct Histogram {
    int64_t samples;
    float all_mn, all_mx;    /* extremes of all samples */
    float hist[BINS];
    bool any;                /* hist, mn and mx hold something */
    float mn, mx;
    float clip_lo, clip_hi;  /* the peer's range: of the last sample */
} Histogram;

/* ---- counting ---- */

/* How many of the n values of x lie in each bin of [lo, hi]. */
static void count_values(const float *x, int64_t n, float lo, float hi, float *bins)
{
    int64_t count[BINS] = {0};
    float width = hi - lo;
    for (int64_t i = 0; i < n; i++) {
        if (!(x[i] >= lo && x[i] <= hi))
            continue;
        float at = (x[i] - lo) * (float)BINS / width;
        count[at < (float)BINS ? (int)at : BINS - 1]++;
    }
    for (int b = 0; b < BINS; b++)
        bins[b] = (float)count[b];
}

/* Point i of n evenly spaced ones from a to b, evaluated from the nearer end. */
static float spaced(float a, float b, int n, int i)
{
    float step = (b - a) / (float)(n - 1);
    return i < n / 2 ? fmaf(step, (float)i, a) : fmaf(-step, (float)(n - 1 - i), b);
}

/* The old bins cut in 16 each and sorted by their centres into bins over [nmn, nmx]. */
static void rebin(const Histogram *h, float nmn, float nmx, float *out)
{
    static const int fine = BINS * SUB;
    double sum[BINS] = {0};
    float half = 0.5f * ((h->mx - h->mn) / (float)fine);
    int b = 0; /* centres ascend: so does the bin */
    for (int i = 0; i < fine; i++) {
        float centre = spaced(h->mn, h->mx, fine + 1, i) + half;
        while (b < BINS - 1 && spaced(nmn, nmx, BINS + 1, b + 1) <= centre)
            b++;
        sum[b] += (double)(h->hist[i / SUB] / (float)SUB);
    }
    for (b = 0; b < BINS; b++)
        out[b] = (float)sum[b];
}

static void add_sample(Histogram *h, const float *x, int64_t n, float mn, float mx)
{
    float bins[BINS], old[BINS];
    if (!h->any) {
        count_values(x, n, mn, mx, h->hist);
        h->mn = mn;
        h->mx = mx;
        h->any = true;
        return;
    }
    float nmn = fminf(h->mn, mn), nmx = fmaxf(h->mx, mx);
    count_values(x, n, nmn, nmx, bins);
    if (nmn == h->mn && nmx == h->mx)
        memcpy(old, h->hist, sizeof old);
    else
        rebin(h, nmn, nmx, old);
    for (int b = 0; b < BINS; b++)
        h->hist[b] = bins[b] + old[b];
    h->mn = nmn;
    h->mx = nmx;
}

/* ---- the search ---- */

/* Squared error when bins s..e are cut in STEPS steps and everything outside goes to the outermost. */
static double range_error(const Histogram *h, int s, int e)
{
    double wide = (double)h->mx / BINS - (double)h->mn / BINS;
    double step = wide * (double)(e - s + 1) / STEPS;
    if (step == 0)
        return 0;
    float bw = (float)wide, dw = (float)step, half = (float)(step / 2), sum_half;
    double sum = 0;
    sum_half = (half * half * half - -half * -half * -half) / 3.0f;
    for (int i = 0; i < BINS; i++) {
        float begin = (float)(i - s) * bw, end = begin + bw, density = h->hist[i] / bw;
        float db = fminf(fmaxf(floorf(begin / dw), 0), STEPS - 1), de = fminf(fmaxf(floorf(end / dw), 0), STEPS - 1);
        float p = begin - (db + 0.5f) * dw, q = end - (de * dw + half);
        float first = density * ((half * half * half - p * p * p) / 3.0f);
        float middle = (de - db - 1.0f) * (density * sum_half);
        float last = density * ((q * q * q - -half * -half * -half) / 3.0f);
        sum += (double)(first + middle + last);
    }
    return sum;
}

/* First index in [a, b] that is b or has cum >= at; cum ascends. */
static int first_reaching(const float *cum, int a, int b, float at)
{
    while (a < b) {
        int mid = a + (b - a) / 2;
        if (cum[mid] >= at)
            b = mid;
        else
            a = mid + 1;
    }
    return a;
}

/* Last index in [a, b] that is a or has cum <= at. */
static int last_within(const float *cum, int a, int b, float at)
{
    while (a < b) {
        int mid = a + (b - a + 1) / 2;
        if (cum[mid] <= at)
            a = mid;
        else
            b = mid - 1;
    }
    return a;
}

/* The bins to keep. */
static void search(const Histogram *h, bool peer, int *from, int *to)
{
    float cum[BINS], sum = 0;
    double alpha = 0, beta = 1, best, total = 0;
    const double step = 1e-5;
    int s = 0, e = BINS - 1;
    for (int i = 0; i < BINS; i++) {
        cum[i] = sum += h->hist[i];
        total += (double)h->hist[i];
    }
    best = peer ? range_error(h, s, e) : INFINITY;
    while (alpha < beta && total > 0) {
        double a = alpha + step, b = beta - step;
        int l = first_reaching(cum, s, e, (float)(a * total)), r = last_within(cum, s, e, (float)(b * total));
        int ns = s, ne = e;
        if (peer && r - s > e - l) {
            ne = l;
            beta = b;
        } else if (peer) {
            ns = r;
            alpha = a;
        } else if (l - s > e - r) {
            ns = l;
            alpha = a;
        } else {
            ne = r;
            beta = b;
        }
        if (ns == s && ne == e)
            continue;
        double err = range_error(h, ns, ne);
        if (err > best)
            break;
        best = err;
        s = ns;
        e = ne;
    }
    *from = s;
    *to = e;
}

static void kept_range(const Histogram *h, bool peer, float *lo, float *hi)
{
    int s, e;
    float bw = h->mx / (float)BINS - h->mn / (float)BINS;
    search(h, peer, &s, &e);
    if (s == 0 && e == BINS - 1 && !peer) {
        *lo = h->mn;
        *hi = h->mx;
        return;
    }
    *lo = h->mn + bw * (float)s;
    *hi = (float)(e + 1) * (h->mn / (float)(e + 1) + bw);
}

/* ---- the observer ---- */

/* The peer takes the extremes of this sample's values within the kept range. */
static void clip_sample(Histogram *h, const float *x, int64_t n)
{
    float lo, hi, mn = INFINITY, mx = -INFINITY;
    kept_range(h, true, &lo, &hi);
    for (int64_t i = 0; i < n; i++) {
        if (!(x[i] >= lo && x[i] <= hi))
            continue;
        mn = fminf(mn, x[i]);
        mx = fmaxf(mx, x[i]);
    }
    h->clip_lo = mn <= mx ? mn : lo;
    h->clip_hi = mn <= mx ? mx : hi;
}

static void histogram_feed(void *self, const float *x, int64_t n, float mn, float mx, bool peer)
{
    Histogram *h = self;
    h->all_mn = h->samples == 0 || mn < h->all_mn ? mn : h->all_mn;
    h->all_mx = h->samples == 0 || mx > h->all_mx ? mx : h->all_mx;
    h->samples++;
    h->clip_lo = mn;
    h->clip_hi = mx;
    if (mn == mx) /* a constant has no width to cut */
        return;
    add_sample(h, x, n, mn, mx);
    if (peer)
        clip_sample(h, x, n);
}

static void histogram_range(const void *self, const QSpec *q, bool peer, DType T, float *mn, float *mx)
{
    (void)q, (void)T;
    const Histogram *h = self;
    *mn = peer ? h->clip_lo : h->all_mn;
    *mx = peer ? h->clip_hi : h->all_mx;
    if (!peer && h->any)
        kept_range(h, false, mn, mx);
}

static const ActObserver observer = {
    .size = sizeof(Histogram),
    .values = true,
    .feed = histogram_feed,
    .range = histogram_range,
};

static QParam param(const QSpec *q, float mn, float mx, DType T)
{
    return intquant_param(mn, mx, 8, q->symmetric, T);
}

/* Parameters are float32, so the operations are; what comes out is rounded to T and then cut. */
static void rows_fixed(const QSpec *q, const ActParam *p, const float *x, int64_t rows, int64_t in, int64_t ld, DType T,
                       bool peer, float *out)
{
    (void)q, (void)peer;
    for (int64_t r = 0; r < rows; r++) {
        float *y = out + r * in;
        intquant_fake(x + r * ld, in, p->p, 8, DT_F32, y);
        for (int64_t i = 0; i < in; i++)
            y[i] = fminf(fmaxf(round_to_dtype(y[i], T), p->lo), p->hi);
    }
}

static void codes_fixed(const QSpec *q, const ActParam *p, const float *x, int64_t rows, int64_t in, int64_t ld,
                        DType T, float *out, float *scale)
{
    (void)q, (void)T;
    for (int64_t r = 0; r < rows; r++) {
        intquant_codes(x + r * ld, in, p->p, 8, DT_F32, out + r * in);
        scale[r] = p->p.scale;
    }
}

const ActQuantizer act_histogram = {
    .key = {.method = "histogram", .dtype = QT_INT8, .scope = QS_PER_TENSOR, .sym = -1},
    .observer = &observer,
    .wide = true,
    .cut = true,
    .param = param,
    .rows = rows_fixed,
    .codes = codes_fixed,
};
