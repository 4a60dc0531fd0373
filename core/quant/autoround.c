#include "quant/autoround.h"

#include <math.h>
#include <stddef.h>

#include "math/lanes.h"
#include "qir/round.h"

/* What a scale can't fall below. */
#define SMALLEST 1e-5f

AutoRound autoround_of(const QSpec *q, const float *w, int64_t out, int64_t in, DType T)
{
    static const DType scale[] = {DT_BF16, DT_F16, DT_F32};
    int64_t group = qspec_group(q, in);
    return (AutoRound){.bits = q->dtype == QT_INT4 ? 4 : 8, .symmetric = q->symmetric, .T = T, .out = out, .in = in,
                       .scale_T = scale[q->ext.scale_dtype], .group = group, .groups = (in + group - 1) / group, .w = w};
}

/* ---- one group ---- */

/* Its scale, and what is needed on the way back. */
typedef struct GroupScale {
    float scale;
    float low, high;   /* how far the group reaches below and above 0, cut */
    float wmin, wmax;  /* and as it is */
    float sign;
    bool free;         /* the scale is not held up by SMALLEST */
} GroupScale;

static float cut01(float x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

static void range_of(const float *w, int64_t n, float *mn, float *mx)
{
    float lo = 0, hi = 0;
    for (int64_t i = 0; i < n; i++) {
        lo = w[i] < lo ? w[i] : lo;
        hi = w[i] > hi ? w[i] : hi;
    }
    *mn = lo;
    *mx = hi;
}

static float top_of(const AutoRound *a)
{
    return a->bits == 4 ? 7.0f : 127.0f;
}

static GroupScale scale_of(const AutoRound *a, int64_t i, const float *w, int64_t n)
{
    GroupScale s = {.sign = 1};
    range_of(w, n, &s.wmin, &s.wmax);
    s.low = -(s.wmin * (a->low ? cut01(a->low[i]) : 1));
    s.high = s.wmax * (a->high ? cut01(a->high[i]) : 1);
    if (!a->symmetric)
        s.sign = s.high < s.low ? 1 : -1;
    float least = round_to_dtype(SMALLEST, a->scale_T), most = s.low > s.high ? s.low : s.high;
    float x = s.sign * most / top_of(a);
    if (!a->low && !a->high) /* constants do not widen what they are multiplied with */
        x = round_to_dtype(x, a->T);
    x = round_to_dtype(x, a->scale_T);
    s.free = fabsf(x) > least;
    if (x < 0)
        s.scale = x > -least ? -least : x;
    else
        s.scale = x > least ? x : least;
    return s;
}

/* The level of lanes of w, as float, counted from 0 of the weight; *inside: it was not cut off. */
INLINE void level_of(const AutoRound *a, const VF *w, const VF *v, float scale, VF *ratio, VF *level, VI *inside)
{
    const VF zero = {0};
    float top = top_of(a), limit = a->bits == 4 ? 0.5f : 1.0f;
    VF lo = zero + (-top - 1), hi = zero + top, t = *v;
    *ratio = *w / (zero + scale);
    if (a->scale_T == a->T)
        round_to(ratio, a->T);
    if (a->symmetric) {
        VF most = zero + limit, least = zero - limit;
        VI above = t > most, below = t < least;
        VU most_bits = (VU)most, least_bits = (VU)least;
        select_bits(&t, &above, &most_bits);
        select_bits(&t, &below, &least_bits);
    }
    t = *ratio + t;
    VF far = zero + 1000, near = zero - 1000; /* rounds by RINT_MAGIC, and is cut off as before */
    VI above = t > far, below = t < near;
    VU far_bits = (VU)far, near_bits = (VU)near, lo_bits = (VU)lo, hi_bits = (VU)hi;
    select_bits(&t, &above, &far_bits);
    select_bits(&t, &below, &near_bits);
    t = (t + RINT_MAGIC) - RINT_MAGIC;
    above = t > hi;
    below = t < lo;
    *inside = ~(above | below);
    select_bits(&t, &above, &hi_bits);
    select_bits(&t, &below, &lo_bits);
    *level = t;
}

/* The group's elements [at, at + LANES) of the row. */
INLINE void lanes_of(const AutoRound *a, int64_t at, int64_t left, float scale, VF *ratio, VF *level, VI *inside)
{
    VF w, v = {0};
    load_lanes(&w, a->w + at, left);
    if (a->v)
        load_lanes(&v, a->v + at, left);
    level_of(a, &w, &v, scale, ratio, level, inside);
}

typedef struct Group {
    int64_t at, n; /* its elements */
    int64_t i;     /* its number */
} Group;

static Group group_of(const AutoRound *a, int64_t row, int64_t g)
{
    int64_t first = g * a->group, left = a->in - first;
    return (Group){row * a->in + first, left < a->group ? left : a->group, row * a->groups + g};
}

/* ---- forward ---- */

static void group_values(const AutoRound *a, Group g, float *y)
{
    GroupScale s = scale_of(a, g.i, a->w + g.at, g.n);
    for (int64_t k = 0; k < g.n; k += LANES) {
        VF ratio, level;
        VI inside;
        lanes_of(a, g.at + k, g.n - k, s.scale, &ratio, &level, &inside);
        level = level * (level * 0 + s.scale);
        if (!a->rounds && a->scale_T == a->T) /* as with the scale: nothing widens the product */
            round_to(&level, a->T);
        store_lanes(&level, y + k, g.n - k);
    }
}

void autoround_rows(const AutoRound *a, int64_t row0, int64_t rows, float *y)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t g = 0; g < a->groups; g++)
            group_values(a, group_of(a, row0 + r, g), y + r * a->in + g * a->group);
}

void autoround_codes(const AutoRound *a, int64_t row0, int64_t rows, bool peer, QWeight *q)
{
    const int zero = peer && !a->symmetric ? 1 << (a->bits - 1) : 0;
    for (int64_t r = row0; r < row0 + rows; r++)
        for (int64_t k = 0; k < a->groups; k++) {
            Group g = group_of(a, r, k);
            GroupScale s = scale_of(a, g.i, a->w + g.at, g.n);
            q->scale[g.i] = s.scale;
            if (q->offset)
                q->offset[g.i] = (float)zero;
            for (int64_t e = 0; e < g.n; e += LANES) {
                VF ratio, level;
                VI inside;
                lanes_of(a, g.at + e, g.n - e, s.scale, &ratio, &level, &inside);
                for (int64_t j = 0; j < LANES && e + j < g.n; j++)
                    q->code[g.at + e + j] = (uint8_t)((int)level[j] + zero); /* of 8 bits it wraps, as the peer's does */
            }
        }
}

/* ---- backward ---- */

/* g of the group becomes that of v; gives the gradient of the scale. */
static double group_gradient(AutoRound *a, Group g, float scale)
{
    const float limit = a->bits == 4 ? 0.5f : 1.0f;
    double sum = 0;
    for (int64_t k = 0; k < g.n; k += LANES) {
        VF ratio, level, grad, v = {0};
        VI inside;
        lanes_of(a, g.at + k, g.n - k, scale, &ratio, &level, &inside);
        load_lanes(&grad, a->g + g.at + k, g.n - k);
        if (a->v)
            load_lanes(&v, a->v + g.at + k, g.n - k);
        VF part = grad * (level - (VF)((VU)ratio & (VU)inside));
        for (int j = 0; j < LANES; j++) /* lanes beyond the end are 0 */
            sum += (double)part[j];
        VI moves = inside;
        if (a->symmetric)
            moves &= (v <= limit) & (v >= -limit);
        grad = (VF)((VU)(grad * scale) & (VU)moves);
        store_lanes(&grad, a->g + g.at + k, g.n - k);
    }
    return sum;
}

void autoround_backward(AutoRound *a, int64_t row0, int64_t rows)
{
    for (int64_t r = row0; r < row0 + rows; r++)
        for (int64_t k = 0; k < a->groups; k++) {
            Group g = group_of(a, r, k);
            GroupScale s = scale_of(a, g.i, a->w + g.at, g.n);
            double ds = group_gradient(a, g, s.scale);
            if (!a->dlow)
                continue;
            ds = s.free ? ds / (double)top_of(a) * (double)s.sign : 0;
            double low = s.low > s.high ? 1 : s.low < s.high ? 0 : 0.5;
            a->dlow[g.i] = (float)(ds * low * -(double)s.wmin);
            a->dhigh[g.i] = (float)(ds * (1 - low) * (double)s.wmax);
        }
}

static void step(float *x, const float *g, int64_t n, float rate)
{
    for (int64_t i = 0; i < n; i++)
        x[i] -= g[i] > 0 ? rate : g[i] < 0 ? -rate : 0;
}

/* The cut to [0, 1] is the next forward's, and stays there. */
static void step_share(float *x, const float *g, int64_t n, float rate)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = cut01(x[i]);
    step(x, g, n, rate);
}

void autoround_step(AutoRound *a, int64_t row0, int64_t rows, float rate)
{
    if (a->rounds)
        step(a->v + row0 * a->in, a->g + row0 * a->in, rows * a->in, rate);
    if (a->clips) {
        step_share(a->low + row0 * a->groups, a->dlow + row0 * a->groups, rows * a->groups, rate);
        step_share(a->high + row0 * a->groups, a->dhigh + row0 * a->groups, rows * a->groups, rate);
    }
}

/* ---- the loop ---- */

enum { MT_N = 624, MT_M = 397 };

void torch_random(TorchRandom *r, uint32_t seed)
{
    r->state[0] = seed;
    for (uint32_t i = 1; i < MT_N; i++)
        r->state[i] = UINT32_C(1812433253) * (r->state[i - 1] ^ r->state[i - 1] >> 30) + i;
    r->at = MT_N;
}

static uint32_t next_random(TorchRandom *r)
{
    if (r->at == MT_N) {
        for (int i = 0; i < MT_N; i++) {
            uint32_t y = (r->state[i] & UINT32_C(0x80000000)) | (r->state[(i + 1) % MT_N] & UINT32_C(0x7fffffff));
            r->state[i] = r->state[(i + MT_M) % MT_N] ^ y >> 1 ^ (y & 1 ? UINT32_C(0x9908b0df) : 0);
        }
        r->at = 0;
    }
    uint32_t y = r->state[r->at++];
    y ^= y >> 11;
    y ^= y << 7 & UINT32_C(0x9d2c5680);
    y ^= y << 15 & UINT32_C(0xefc60000);
    return y ^ y >> 18;
}

void torch_permute(TorchRandom *r, int n, int *out)
{
    for (int i = 0; i < n; i++)
        out[i] = i;
    for (int i = 0; i + 1 < n; i++) {
        int k = i + (int)(next_random(r) % (uint32_t)(n - i)), was = out[i];
        out[i] = out[k];
        out[k] = was;
    }
}

enum { LOSSES = sizeof((AutoRoundBest *)0)->last / sizeof(double) };

bool autoround_better(AutoRoundBest *b, double loss)
{
    b->last[b->n++ % LOSSES] = loss;
    if (b->n == 1) {
        b->best = loss;
        return true;
    }
    int n = b->n < LOSSES ? b->n : LOSSES;
    double mean = 0;
    for (int i = 0; i < n; i++)
        mean += b->last[i] / n;
    if (!(mean < b->best))
        return false;
    b->best = 0.7 * b->best + 0.3 * mean;
    return true;
}
