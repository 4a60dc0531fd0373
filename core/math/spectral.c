#include "math/spectral.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int64_t spectral_params(int64_t n)
{
    return n + n * (n - 1);
}

uint64_t spectral_bytes(int64_t n)
{
    return 12 * (uint64_t)n * (uint64_t)n * sizeof(double);
}

/* ---- matrices of n x n ---- */

/* y = a b, a' b or a b' */
static void product(int64_t n, const double *a, const double *b, double *y)
{
    memset(y, 0, (size_t)(n * n) * sizeof *y);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++) {
            double v = a[i * n + k];
            for (int64_t j = 0; j < n; j++)
                y[i * n + j] += v * b[k * n + j];
        }
}

static void product_left(int64_t n, const double *a, const double *b, double *y)
{
    memset(y, 0, (size_t)(n * n) * sizeof *y);
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < n; i++) {
            double v = a[k * n + i];
            for (int64_t j = 0; j < n; j++)
                y[i * n + j] += v * b[k * n + j];
        }
}

static void product_right(int64_t n, const double *a, const double *b, double *y)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t k = 0; k < n; k++)
                sum += a[i * n + k] * b[j * n + k];
            y[i * n + j] = sum;
        }
}

static void swap_rows(int64_t n, double *a, int64_t i, int64_t j)
{
    for (int64_t k = 0; k < n && i != j; k++) {
        double v = a[i * n + k];
        a[i * n + k] = a[j * n + k];
        a[j * n + k] = v;
    }
}

static void take_rows(int64_t n, double *a, int64_t i, int64_t from, double f)
{
    for (int64_t k = 0; k < n; k++)
        a[i * n + k] -= f * a[from * n + k];
}

/* b <- a^-1 b by elimination; a, which is lost, is the identity more than a skew-symmetric matrix, and so has an inverse. */
static void solve(int64_t n, double *a, double *b)
{
    for (int64_t c = 0; c < n; c++) {
        int64_t most = c;
        for (int64_t i = c + 1; i < n; i++)
            if (fabs(a[i * n + c]) > fabs(a[most * n + c]))
                most = i;
        swap_rows(n, a, c, most);
        swap_rows(n, b, c, most);
        for (int64_t i = c + 1; i < n; i++) {
            double f = a[i * n + c] / a[c * n + c];
            if (f == 0)
                continue;
            take_rows(n, a, i, c, f);
            take_rows(n, b, i, c, f);
        }
    }
    for (int64_t c = n; c-- > 0;) {
        for (int64_t k = 0; k < n; k++)
            b[c * n + k] /= a[c * n + c];
        for (int64_t i = 0; i < c; i++)
            take_rows(n, b, i, c, a[i * n + c]);
    }
}

/* ---- making ---- */

/* A number of the normal distribution (Box and Muller). */
static double normal(Rng *rng)
{
    double u = 1 - rng_unit(rng), v = rng_unit(rng);
    return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
}

/* Rows of random numbers, each made orthogonal to those before it, twice: what rounding left goes with the second. */
static void random_orthogonal(int64_t n, Rng *rng, double *q)
{
    for (int64_t i = 0; i < n; i++) {
        double *row = q + i * n, norm = 0;
        for (int64_t k = 0; k < n; k++)
            row[k] = normal(rng);
        for (int64_t j = 0; j < 2 * i; j++) {
            const double *other = q + j % i * n;
            double dot = 0;
            for (int64_t k = 0; k < n; k++)
                dot += row[k] * other[k];
            for (int64_t k = 0; k < n; k++)
                row[k] -= dot * other[k];
        }
        for (int64_t k = 0; k < n; k++)
            norm += row[k] * row[k];
        for (int64_t k = 0; k < n; k++)
            row[k] /= sqrt(norm);
    }
}

Status spectral_init(Spectral *s, int64_t n, Rng *rng, double *params, Error *err)
{
    size_t square = (size_t)(n * n);
    *s = (Spectral){.n = n};
    double *all = mem_zarray(12 * square, sizeof *all);
    if (!all)
        return error_nomem(err, "a transform");
    double **part[] = {&s->start[0], &s->start[1], &s->turned[0], &s->turned[1], &s->cayley[0], &s->cayley[1], &s->t, &s->inv,
                       &s->room};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        *part[i] = all + i * square;
    for (int side = 0; side < 2; side++)
        random_orthogonal(n, rng, s->start[side]);
    memset(params, 0, (size_t)spectral_params(n) * sizeof *params);
    for (int64_t i = 0; i < n; i++)
        params[i] = log(exp(1.0) - 1); /* softplus of it is 1 */
    return ST_OK;
}

void spectral_fini(Spectral *s)
{
    free(s->start[0]);
    *s = (Spectral){.n = 0};
}

/* I + f A, A of the numbers below its diagonal. */
static void skewed(int64_t n, const double *a, double f, double *m)
{
    for (int64_t i = 0; i < n; i++) {
        m[i * n + i] = 1;
        for (int64_t j = 0; j < i; j++) {
            double v = f * *a++;
            m[i * n + j] = v;
            m[j * n + i] = -v;
        }
    }
}

static const double *skew_of(const Spectral *s, const double *params, int side)
{
    return params + s->n + side * (s->n * (s->n - 1) / 2);
}

static double softplus(double p)
{
    return p > 30 ? p : log1p(exp(p));
}

void spectral_make(Spectral *s, const double *params)
{
    int64_t n = s->n;
    for (int side = 0; side < 2; side++) {
        skewed(n, skew_of(s, params, side), 0.5, s->room);
        skewed(n, skew_of(s, params, side), -0.5, s->cayley[side]);
        solve(n, s->room, s->cayley[side]);
        product(n, s->start[side], s->cayley[side], s->turned[side]);
    }
    for (int inverse = 0; inverse < 2; inverse++) {
        double *us = s->room;
        for (int64_t i = 0; i < n * n; i++) {
            double d = softplus(params[i % n]);
            us[i] = s->turned[0][i] * (inverse ? 1 / d : d);
        }
        product_right(n, us, s->turned[1], inverse ? s->inv : s->t);
    }
}

/* ---- gradients ---- */

/* From that of U (or V): dC = -(I + A/2)^-1 dA/2 (I + C), so that of A is -M^-T U0' G (I + C)' / 2, M' = I - A/2. */
static void backward_turned(Spectral *s, const double *params, int side, const double *g, double *grad)
{
    int64_t n = s->n;
    double *m = s->room, *gc = m + n * n, *ga = gc + n * n;
    product_left(n, s->start[side], g, gc);
    skewed(n, skew_of(s, params, side), -0.5, m);
    solve(n, m, gc);
    memcpy(m, s->cayley[side], (size_t)(n * n) * sizeof *m);
    for (int64_t i = 0; i < n; i++)
        m[i * n + i] += 1;
    product_right(n, gc, m, ga);
    double *to = grad + n + side * (n * (n - 1) / 2);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++)
            *to++ -= 0.5 * (ga[i * n + j] - ga[j * n + i]);
}

void spectral_backward(Spectral *s, const double *params, const double *gt, const double *gi, double *grad)
{
    int64_t n = s->n;
    double *g = s->room + 3 * n * n;
    for (int side = 0; side < 2; side++) { /* of U: gt V S + gi V / S; of V: gt' U S + gi' U / S */
        const double *other = s->turned[!side];
        double *a = s->room, *b = a + n * n;
        (side ? product_left : product)(n, gt, other, a);
        (side ? product_left : product)(n, gi, other, b);
        for (int64_t i = 0; i < n * n; i++) {
            double d = softplus(params[i % n]);
            g[i] = a[i] * d + b[i] / d;
        }
        for (int64_t k = 0; k < n && side == 0; k++) { /* of s: the diagonal of U' (gt V) - U' (gi V) / s^2 */
            double sum = 0, d = softplus(params[k]);
            for (int64_t i = 0; i < n; i++)
                sum += s->turned[0][i * n + k] * (a[i * n + k] - b[i * n + k] / (d * d));
            grad[k] += sum / (1 + exp(-params[k]));
        }
        backward_turned(s, params, side, g, grad);
    }
}
