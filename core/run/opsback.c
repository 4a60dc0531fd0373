#include "run/opsback.h"

#include <math.h>

enum { STEP = 64, LANES = 8 };

static double add_lanes(const double s[LANES])
{
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

double ops_dot(const float *a, const float *b, int64_t n)
{
    double s[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            s[j] += (double)a[i + j] * (double)b[i + j];
    for (int j = 0; i < n; i++, j++)
        s[j] += (double)a[i] * (double)b[i];
    return add_lanes(s);
}

/* ---- norms ---- */

/* y = (x - mean) s w + b: dx = s (wg - mean(wg) - xhat mean(wg xhat)). */
static void layer_norm_back(const float *x, const float *w, double eps, int64_t n, const float *g, bool add, float *dx)
{
    double sum = 0, sq = 0, part = 0, along = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i];
    double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        sq += ((double)x[i] - mean) * ((double)x[i] - mean);
    double s = 1 / sqrt(sq / (double)n + eps);
    for (int64_t i = 0; i < n; i++) {
        double wg = (double)w[i] * (double)g[i];
        part += wg;
        along += wg * ((double)x[i] - mean) * s;
    }
    part /= (double)n;
    along /= (double)n;
    for (int64_t i = 0; i < n; i++) {
        double d = s * ((double)w[i] * (double)g[i] - part - ((double)x[i] - mean) * s * along);
        dx[i] = (float)(add ? (double)dx[i] + d : d);
    }
}

/* y = x s w, s = (mean(x^2) + eps)^-1/2: dx = s wg - x s^3 / n sum(x wg). */
static void rms_norm_back(const Ops *o, const float *x, const float *w, float one, double eps, int64_t n, const float *g,
                          bool add, float *dx)
{
    double s[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            s[j] += (double)x[i + j] * (double)((one + w[i + j]) * g[i + j]);
    for (int j = 0; i < n; i++, j++)
        s[j] += (double)x[i] * (double)((one + w[i]) * g[i]);
    double scale = 1 / sqrt(o->k->sum_sq(x, n) / (double)n + (double)(float)eps);
    float a = (float)scale, b = (float)(scale * scale * scale / (double)n * add_lanes(s));
    if (add)
        for (i = 0; i < n; i++)
            dx[i] += a * ((one + w[i]) * g[i]) - b * x[i];
    else
        for (i = 0; i < n; i++)
            dx[i] = a * ((one + w[i]) * g[i]) - b * x[i];
}

void ops_norm_back(const Ops *o, NormKind kind, const float *x, const float *w, double eps, int64_t n, const float *g,
                   bool add, float *dx)
{
    if (kind == NORM_LAYER)
        layer_norm_back(x, w, eps, n, g, add, dx);
    else
        rms_norm_back(o, x, w, kind == NORM_UNIT ? 1 : 0, eps, n, g, add, dx);
}

/* ---- activations ---- */

/* act(g) and its slope, of n values, at most STEP. */
static void act_slope(const Ops *o, Activation act, const float *g, int64_t n, float *f, float *slope)
{
    bool limited = act == ACT_SWIGLU_CLAMPED || act == ACT_SILU_CLAMPED;
    float alpha = act == ACT_SWIGLU_CLAMPED ? o->act_alpha : 1, x[STEP], t[STEP];
    for (int64_t i = 0; i < n; i++)
        x[i] = limited && g[i] > o->act_limit ? o->act_limit : g[i];
    if (act == ACT_GELU_TANH) {
        const float c = 0.79788456080286535588f;
        for (int64_t i = 0; i < n; i++)
            t[i] = c * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
        o->f->tanh(t, n);
        for (int64_t i = 0; i < n; i++) {
            f[i] = 0.5f * x[i] * (1 + t[i]);
            slope[i] = 0.5f * (1 + t[i]) + 0.5f * x[i] * (1 - t[i] * t[i]) * c * (1 + 0.134145f * x[i] * x[i]);
        }
        return;
    }
    for (int64_t i = 0; i < n; i++)
        t[i] = alpha * x[i];
    o->f->sigmoid(t, n);
    for (int64_t i = 0; i < n; i++) {
        f[i] = x[i] * t[i];
        slope[i] = limited && g[i] > o->act_limit ? 0 : t[i] * (1 + alpha * x[i] * (1 - t[i]));
    }
}

void ops_gate_back(const Ops *o, Activation act, float *g, float *u, const float *d, int64_t n)
{
    bool limited = act == ACT_SWIGLU_CLAMPED || act == ACT_SILU_CLAMPED;
    float lim = o->act_limit, more = act == ACT_SWIGLU_CLAMPED ? 1 : 0, f[STEP], slope[STEP];
    for (int64_t k = 0; k < n; k += STEP, g += STEP, u += STEP, d += STEP) {
        int64_t m = n - k < STEP ? n - k : STEP;
        act_slope(o, act, g, m, f, slope);
        for (int64_t i = 0; i < m; i++) {
            bool over = limited && (u[i] > lim || u[i] < -lim);
            float up = (over ? copysignf(lim, u[i]) : u[i]) + more, of = d[i];
            u[i] = over ? 0 : of * f[i];
            g[i] = of * up * slope[i];
        }
    }
}

void ops_act_back(const Ops *o, Activation act, float *x, const float *d, int64_t n)
{
    float f[STEP], slope[STEP];
    for (int64_t k = 0; k < n; k += STEP, x += STEP, d += STEP) {
        int64_t m = n - k < STEP ? n - k : STEP;
        act_slope(o, act, x, m, f, slope);
        for (int64_t i = 0; i < m; i++)
            x[i] = d[i] * slope[i];
    }
}

void ops_sigmoid_back(const float *y, float *d, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        d[i] *= y[i] * (1 - y[i]);
}

/* ---- attention ---- */

void ops_rope_back(const Ops *o, float *g, const float *cos, const float *sin, int64_t half)
{
    o->k->rope(g + half, g, cos, sin, half);
}

void ops_softmax_back(const float *p, float *d, int64_t n, float scale)
{
    float mean = (float)ops_dot(p, d, n);
    for (int64_t i = 0; i < n; i++)
        d[i] = scale * (p[i] * (d[i] - mean));
}
