#include "run/ops.h"

#include <math.h>
#include <string.h>

Ops ops_make(ArithMode arith, DType dtype)
{
    const Arith *a = &arith_table[arith];
    const MathKernels *fast = math_fast();
    Ops o = {.k = fast, .f = a->libm ? math_libm() : fast, .products = arith_products(arith, dtype), .rounds = a->rounds,
             .libm = a->libm, .dtype = dtype};
    for (int i = 0; i < GEMM_KINDS; i++)
        o.gemms[i] = gemm_find((GemmKind)i);
    return o;
}

void ops_widen(Ops *o)
{
    o->products = GEMM_F32;
    o->rounds = o->libm = false;
}

void ops_round(const Ops *o, float *x, int64_t n)
{
    if (!o->rounds)
        return;
    if (o->dtype == DT_BF16)
        o->k->round_bf16(x, n);
    else if (o->dtype == DT_F16)
        o->k->round_f16(x, n);
}

/* (x - mean) / sqrt(variance + eps) * w + b, in float32 and rounded once. */
static void layer_norm(const Ops *o, const float *x, const float *w, const float *b, double eps, int64_t n, float *y)
{
    double sum = 0, sq = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i];
    double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        sq += ((double)x[i] - mean) * ((double)x[i] - mean);
    float scale = 1.0f / sqrtf((float)(sq / (double)n) + (float)eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - (float)mean) * scale * w[i] + (b ? b[i] : 0);
    ops_round(o, y, n);
}

void ops_norm(const Ops *o, NormKind kind, const float *x, const float *w, const float *b, double eps, int64_t n,
              float *y)
{
    if (kind == NORM_LAYER) {
        layer_norm(o, x, w, b, eps, n, y);
        return;
    }
    float mean = (float)(o->k->sum_sq(x, n) / (double)n), scale = (float)(1.0 / sqrt((double)(mean + (float)eps)));
    switch (kind) {
    case NORM_LLAMA:
        if (o->rounds) {
            o->k->scale(x, scale, y, n);
            ops_round(o, y, n);
            o->k->mul(w, y, y, n);
            break;
        }
        o->k->scale_mul(x, scale, w, y, n);
        break;
    case NORM_LATE:
        o->k->scale_mul(x, scale, w, y, n);
        break;
    case NORM_UNIT:
        o->k->scale(x, scale, y, n);
        for (int64_t i = 0; i < n; i++)
            y[i] *= 1.0f + w[i];
        break;
    case NORM_LAYER:
        break;
    }
    if (b)
        o->k->add(y, b, y, n);
    ops_round(o, y, n);
}

/* tanh as the reference implementation's vector library gives it: 1 from this argument on, where float64 could still
 * tell the difference (which gelu multiplies up to a value other than zero). */
static double tanh_reference(double x)
{
    return fabs(x) > 18.714973875118524 ? copysign(1, x) : tanh(x);
}

static void act_libm(Activation act, float *g, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float x = g[i];
        double d = (double)x; /* float32 loses what 1 + tanh leaves of large negative values */
        g[i] = act == ACT_SILU
                   ? x / (1.0f + expf(-x))
                   : (float)(0.5 * d * (1 + tanh_reference(0.79788456080286535588 * (d + 0.044715 * (d * d * d)))));
    }
}

static void act_vector(const Ops *o, Activation act, float *g, int64_t n)
{
    enum { STEP = 64 };
    float ones[STEP];
    for (int i = 0; i < STEP; i++)
        ones[i] = 1;
    for (int64_t i = 0; i < n; i += STEP)
        (act == ACT_SILU ? o->f->silu_mul : o->f->gelu_tanh_mul)(g + i, ones, n - i < STEP ? n - i : STEP);
}

/* f = R(R(u + 1) * R(g * R(sigmoid(R(alpha * g))))) with g at most and |u| at most act_limit */
static void swiglu_clamped(const Ops *o, float *g, const float *u, int64_t n)
{
    enum { STEP = 64 };
    float lim = o->act_limit, s[STEP], up[STEP];
    for (int64_t i = 0; i < n; i += STEP, g += STEP, u += STEP) {
        int64_t m = n - i < STEP ? n - i : STEP;
        for (int64_t j = 0; j < m; j++) {
            g[j] = g[j] > lim ? lim : g[j];
            up[j] = (u[j] > lim ? lim : u[j] < -lim ? -lim : u[j]) + 1;
        }
        o->k->scale(g, o->act_alpha, s, m);
        ops_round(o, s, m);
        o->f->sigmoid(s, m);
        ops_round(o, s, m);
        o->k->mul(s, g, s, m);
        ops_round(o, s, m);
        ops_round(o, up, m);
        o->k->mul(up, s, g, m);
        ops_round(o, g, m);
    }
}

/* silu and product of values with g at most and |u| at most act_limit */
static void silu_clamped(const Ops *o, float *g, const float *u, int64_t n)
{
    enum { STEP = 64 };
    float lim = o->act_limit, part[STEP];
    for (int64_t i = 0; i < n; i += STEP) {
        int64_t m = n - i < STEP ? n - i : STEP;
        for (int64_t j = 0; j < m; j++) {
            float x = g[i + j], up = u[i + j];
            g[i + j] = x > lim ? lim : x;
            part[j] = up > lim ? lim : up < -lim ? -lim : up;
        }
        ops_gate(o, ACT_SILU, g + i, part, m);
    }
}

void ops_gate(const Ops *o, Activation act, float *g, const float *u, int64_t n)
{
    if (act == ACT_SWIGLU_CLAMPED) {
        swiglu_clamped(o, g, u, n);
    } else if (act == ACT_SILU_CLAMPED) {
        silu_clamped(o, g, u, n);
    } else if (o->rounds) {
        if (o->libm)
            act_libm(act, g, n);
        else
            act_vector(o, act, g, n);
        ops_round(o, g, n);
        o->k->mul(g, u, g, n);
        ops_round(o, g, n);
    } else if (act == ACT_SILU) {
        o->f->silu_mul(g, u, n);
    } else {
        o->f->gelu_tanh_mul(g, u, n);
    }
}

void ops_act(const Ops *o, Activation act, float *x, int64_t n)
{
    enum { STEP = 64 };
    float ones[STEP];
    for (int i = 0; i < STEP; i++)
        ones[i] = 1;
    for (int64_t i = 0; i < n; i += STEP)
        ops_gate(o, act, x + i, ones, n - i < STEP ? n - i : STEP);
}

void ops_silu(const Ops *o, float *x, int64_t n)
{
    ops_act(o, ACT_SILU, x, n);
}

void ops_sigmoid(const Ops *o, float *x, int64_t n)
{
    o->f->sigmoid(x, n);
    ops_round(o, x, n);
}

void ops_mul(const Ops *o, const float *a, const float *b, float *y, int64_t n)
{
    o->k->mul(a, b, y, n);
    ops_round(o, y, n);
}

void ops_add(const Ops *o, const float *a, const float *b, float *y, int64_t n)
{
    o->k->add(a, b, y, n);
    ops_round(o, y, n);
}

void ops_rope(const Ops *o, float *x, const float *cos, const float *sin, int64_t half)
{
    if (!o->rounds || o->rope_fp32) {
        o->k->rope(x, x + half, cos, sin, half);
        ops_round(o, x, 2 * half);
        return;
    }
    enum { STEP = 64 };
    float ac[STEP], bs[STEP], bc[STEP], as[STEP];
    for (int64_t j = 0; j < half; j += STEP) {
        int64_t n = half - j < STEP ? half - j : STEP;
        float *a = x + j, *b = x + half + j;
        o->k->mul(a, cos + j, ac, n);
        o->k->mul(b, sin + j, bs, n);
        o->k->mul(b, cos + j, bc, n);
        o->k->mul(a, sin + j, as, n);
        ops_round(o, ac, n);
        ops_round(o, bs, n);
        ops_round(o, bc, n);
        ops_round(o, as, n);
        for (int64_t i = 0; i < n; i++) {
            a[i] = ac[i] - bs[i];
            b[i] = bc[i] + as[i];
        }
        ops_round(o, a, n);
        ops_round(o, b, n);
    }
}

void ops_rope_pairs(const Ops *o, float *x, const float *cos, const float *sin, int64_t half, bool back)
{
    for (int64_t j = 0; j < half; j++) {
        float a = x[2 * j], b = x[2 * j + 1], c = cos[j], s = back ? -sin[j] : sin[j];
        x[2 * j] = a * c - b * s;
        x[2 * j + 1] = b * c + a * s;
    }
    ops_round(o, x, 2 * half);
}

void ops_softmax(const Ops *o, float *x, int64_t n)
{
    o->f->softmax(x, n);
    ops_round(o, x, n);
}

void ops_softmax_sink(const Ops *o, float *x, int64_t n, float sink)
{
    float max = o->k->max(x, n);
    max = max > sink ? max : sink;
    for (int64_t i = 0; i < n; i++)
        x[i] -= max;
    float last = sink - max;
    ops_round(o, x, n);
    ops_round(o, &last, 1);
    o->f->exp(&last, 1);
    float total = (float)o->f->exp_sum(x, n, 0, (double)last);
    for (int64_t i = 0; i < n; i++)
        x[i] /= total;
    ops_round(o, x, n);
}

void ops_softcap(const Ops *o, float *x, int64_t n, float cap)
{
    for (int64_t i = 0; i < n; i++)
        x[i] /= cap;
    ops_round(o, x, n);
    o->f->tanh(x, n);
    ops_round(o, x, n);
    ops_scale(o, x, cap, n);
}

void ops_scale(const Ops *o, float *x, float s, int64_t n)
{
    o->k->scale(x, s, x, n);
    ops_round(o, x, n);
}

const GemmOps *ops_gemms(const Ops *o)
{
    return o->gemms[o->products];
}

void ops_product(const Ops *o, const GemmArgs *g, void *scratch)
{
    ops_gemms(o)->tile(g, scratch);
}

GemmKind ops_choice_products(const Ops *o)
{
    return o->products == GEMM_BF16 && !o->rounds ? GEMM_F32 : o->products;
}

void ops_choice(const Ops *o, const GemmArgs *g, void *scratch)
{
    o->gemms[ops_choice_products(o)]->tile(g, scratch);
}

void ops_gemm(const Ops *o, const GemmArgs *g, void *scratch)
{
    ops_product(o, g, scratch);
    for (int64_t i = 0; i < g->m && o->rounds; i++)
        ops_round(o, g->y + i * g->ldy, g->n);
}

void ops_scores(const Ops *o, const GemmArgs *g, float scale, void *scratch)
{
    GemmArgs scaled = *g;
    if (!o->rounds) {
        scaled.alpha = scale;
        ops_product(o, &scaled, scratch);
        return;
    }
    ops_product(o, g, scratch);
    for (int64_t i = 0; i < g->m; i++) {
        float *y = g->y + i * g->ldy;
        ops_round(o, y, g->n);
        o->k->scale(y, scale, y, g->n);
        ops_round(o, y, g->n);
    }
}
