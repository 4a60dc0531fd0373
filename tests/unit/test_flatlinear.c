/* FlatQuant's parts without a model: transforms of which the inverse is known, and one linear's gradients, against
 * differences of a definition in float64 whose codes stay as they are (the gradient goes straight through the rounding). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/spectral.h"
#include "quant/flatlinear.h"

/* ---- transforms ---- */

static double pick(Rng *rng)
{
    return 2 * rng_unit(rng) - 1;
}

static void test_transform_and_its_inverse(void **state)
{
    (void)state;
    static const int sizes[] = {1, 2, 5, 24};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        Spectral s;
        Error err;
        int n = sizes[k];
        Rng rng = rng_new(7 + k);
        double *p = malloc((size_t)spectral_params(n) * sizeof *p);
        assert_int_equal(spectral_init(&s, n, &rng, p, &err), ST_OK);
        for (int turn = 0; turn < 2; turn++) { /* as it begins it is orthogonal */
            spectral_make(&s, p);
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++) {
                    double one = 0, own = 0;
                    for (int c = 0; c < n; c++) {
                        one += s.t[i * n + c] * s.inv[j * n + c];
                        own += s.t[i * n + c] * s.t[j * n + c];
                    }
                    assert_true(fabs(one - (i == j)) < 1e-10);
                    if (turn == 0)
                        assert_true(fabs(own - (i == j)) < 1e-12);
                }
            for (int64_t i = 0; i < spectral_params(n); i++)
                p[i] += 0.5 * pick(&rng);
        }
        spectral_fini(&s);
        free(p);
    }
}

/* A loss with these gradients by T and T^-T. */
static double spectral_loss(Spectral *s, const double *p, const double *gt, const double *gi)
{
    double sum = 0;
    spectral_make(s, p);
    for (int64_t i = 0; i < s->n * s->n; i++)
        sum += gt[i] * s->t[i] + gi[i] * s->inv[i];
    return sum;
}

static void test_transform_gradients(void **state)
{
    (void)state;
    enum { N = 5, PARAMS = N + N * (N - 1) };
    double p[PARAMS], grad[PARAMS] = {0}, gt[N * N], gi[N * N];
    Spectral s;
    Error err;
    Rng rng = rng_new(3);
    assert_int_equal(spectral_params(N), PARAMS);
    assert_int_equal(spectral_init(&s, N, &rng, p, &err), ST_OK);
    for (int i = 0; i < PARAMS; i++)
        p[i] += pick(&rng);
    for (int i = 0; i < N * N; i++) {
        gt[i] = pick(&rng);
        gi[i] = pick(&rng);
    }
    spectral_make(&s, p);
    spectral_backward(&s, p, gt, gi, grad);
    for (int i = 0; i < PARAMS; i++) {
        double was = p[i], step = 1e-6;
        p[i] = was + step;
        double up = spectral_loss(&s, p, gt, gi);
        p[i] = was - step;
        double down = spectral_loss(&s, p, gt, gi);
        p[i] = was;
        assert_true(fabs((up - down) / (2 * step) - grad[i]) < 1e-6 * (1 + fabs(grad[i])));
    }
    spectral_fini(&s);
}

/* ---- one linear ---- */

/* All that a loss of one linear depends on, as float64: sum of y * weight of the loss. */
typedef struct Case {
    int l, r, out, rows, heads; /* heads: size of O, 0: none */
    bool left_only, diag;
    double *v;                  /* [n] the numbers below, one behind the other */
    int n, left, right, inv_left, inv_right, delta, o, clip, x;
    double *w, *loss;           /* [out][in], [rows][out] */
    float *x0, *w0;             /* what was rounded at the start: values, steps and codes stay those */
    double *frozen;             /* per value: code, its quotient, whether it is in range; of inputs, then of the weight */
    bool freeze;
} Case;

static int width(const Case *c)
{
    return c->l * c->r;
}

/* X <- A' X B */
static void transform(const Case *c, const double *a, const double *b, double *x)
{
    int l = c->l, r = c->r;
    double mid[64], y[64];
    for (int i = 0; i < l; i++)
        for (int j = 0; j < r; j++) {
            double sum = 0;
            for (int k = 0; k < r && b; k++)
                sum += x[i * r + k] * b[k * r + j];
            mid[i * r + j] = b ? sum : x[i * r + j];
        }
    for (int i = 0; i < l; i++)
        for (int j = 0; j < r; j++) {
            double sum = 0;
            for (int k = 0; k < l; k++)
                sum += a[k * l + i] * mid[k * r + j];
            y[i * r + j] = sum;
        }
    memcpy(x, y, (size_t)(l * r) * sizeof *x);
}

/* codes as at the start, moved by what their quotients have moved where they are in range */
static void quantize(Case *c, double *x, int n, double ratio, double *frozen)
{
    double most = 0;
    for (int i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    double s = fmax(most * ratio, 1e-5) / 7;
    for (int i = 0; i < n; i++) {
        double *f = frozen + 3 * i, v = x[i] / s;
        if (c->freeze) {
            f[0] = fmin(fmax(rint(v), -8), 7);
            f[1] = v;
            f[2] = f[0] == rint(v);
        }
        x[i] = s * (f[0] + f[2] * (v - f[1]));
    }
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void weight_of(Case *c, double *wq)
{
    int in = width(c);
    for (int o = 0; o < c->out; o++) {
        double *row = wq + o * in, least = INFINITY, most = -INFINITY;
        for (int i = 0; i < in; i++)
            row[i] = c->w[o * in + i] / (c->diag ? c->v[c->delta + i] : 1);
        transform(c, c->v + c->inv_left, c->v + c->inv_right, row);
        for (int i = 0; i < in; i++) {
            least = fmin(least, row[i]);
            most = fmax(most, row[i]);
        }
        for (int i = 0; i < in; i++)
            row[i] = fmin(fmax(row[i], least * sigmoid(c->v[c->clip + o])), most * sigmoid(c->v[c->clip + c->out + o]));
    }
    for (int h = 0; h < c->out && c->heads; h += c->heads)
        for (int i = 0; i < in; i++) {
            double column[16];
            for (int j = 0; j < c->heads; j++) {
                column[j] = 0;
                for (int k = 0; k < c->heads; k++)
                    column[j] += c->v[c->o + k * c->heads + j] * wq[(h + k) * in + i];
            }
            for (int j = 0; j < c->heads; j++)
                wq[(h + j) * in + i] = column[j];
        }
    for (int o = 0; o < c->out; o++)
        quantize(c, wq + o * in, in, 1, c->frozen + 3 * (c->rows + o) * in);
}

static void input_of(Case *c, int t, double *x)
{
    int in = width(c);
    for (int i = 0; i < in; i++)
        x[i] = c->v[c->x + t * in + i] * (c->diag ? c->v[c->delta + i] : 1);
    transform(c, c->v + c->left, c->left_only ? NULL : c->v + c->right, x);
    quantize(c, x, in, sigmoid(c->v[c->clip + 2 * c->out]), c->frozen + 3 * t * in);
}

static double loss_of(Case *c)
{
    int in = width(c);
    double sum = 0, x[64], *wq = malloc((size_t)(c->out * in) * sizeof *wq);
    weight_of(c, wq);
    for (int t = 0; t < c->rows; t++) {
        input_of(c, t, x);
        for (int o = 0; o < c->out; o++) {
            double y = 0;
            for (int i = 0; i < in; i++)
                y += x[i] * wq[o * in + i];
            sum += c->loss[t * c->out + o] * y;
        }
    }
    free(wq);
    return sum;
}

static void fill(Case *c, uint64_t seed)
{
    int in = width(c), n = 0;
    Rng rng = rng_new(seed);
    c->left = n, n += c->l * c->l;
    c->right = n, n += c->r * c->r;
    c->inv_left = n, n += c->l * c->l;
    c->inv_right = n, n += c->r * c->r;
    c->delta = n, n += in;
    c->o = n, n += c->heads * c->heads;
    c->clip = n, n += 2 * c->out + 1;
    c->x = n, n += c->rows * in;
    c->n = n;
    c->v = malloc((size_t)n * sizeof *c->v);
    c->w = malloc((size_t)(c->out * in) * sizeof *c->w);
    c->loss = malloc((size_t)(c->rows * c->out) * sizeof *c->loss);
    c->frozen = malloc((size_t)(3 * (c->rows + c->out) * in) * sizeof *c->frozen);
    for (int i = 0; i < n; i++) /* all of them values of float32 */
        c->v[i] = (double)(float)(i >= c->delta && i < c->o ? 1 + 0.3 * pick(&rng)
                                  : i >= c->clip && i < c->x ? 1 + pick(&rng) : pick(&rng));
    for (int i = 0; i < c->out * in; i++)
        c->w[i] = (double)(float)pick(&rng);
    for (int i = 0; i < c->rows * c->out; i++)
        c->loss[i] = (double)(float)pick(&rng);
}

static void case_free(Case *c)
{
    free(c->v);
    free(c->w);
    free(c->loss);
    free(c->frozen);
}

static float *floats(const double *v, int n)
{
    float *f = malloc((size_t)n * sizeof *f);
    for (int i = 0; i < n; i++)
        f[i] = (float)v[i];
    return f;
}

static float *turned(const float *m, int n)
{
    float *t = malloc((size_t)(n * n) * sizeof *t);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            t[j * n + i] = m[i * n + j];
    return t;
}

/* Gradients of all numbers as the engine finds them, in g[n]; rows in chunks of `chunk`. */
static void engine(Case *c, int threads, int chunk, double *g)
{
    int in = width(c);
    Error err;
    Pool *pool;
    FlatRoom room = {NULL};
    memset(g, 0, (size_t)c->n * sizeof *g);
    float *v = floats(c->v, c->n), *w = floats(c->w, c->out * in), *gl = floats(c->loss, c->rows * c->out);
    float *lt = turned(v + c->left, c->l), *ilt = turned(v + c->inv_left, c->l);
    float *wq = malloc((size_t)(c->out * in) * sizeof *wq), *gw = calloc((size_t)(c->out * in), sizeof *gw);
    float *dx = malloc((size_t)(c->rows * in) * sizeof *dx);
    FlatTransform heads = {.r = c->heads, .right = v + c->o, .right_grad = g + c->o};
    FlatTransform t = {c->l, c->r, v + c->left, lt, v + c->right, v + c->inv_left, ilt, v + c->inv_right,
                       c->diag ? v + c->delta : NULL, g + c->left, g + c->right, g + c->inv_left, g + c->inv_right,
                       c->diag ? g + c->delta : NULL};
    FlatLinear f = {.out = c->out, .in = in, .t = &t, .heads = c->heads ? &heads : NULL, .left_only = c->left_only,
                    .clip = c->v + c->clip, .clip_grad = g + c->clip, .w = w, .wq = wq, .gw = gw};
    assert_int_equal(pool_new(&pool, threads, &err), ST_OK);
    assert_int_equal(flat_room(&room, &f, chunk, pool_threads(pool), &err), ST_OK);
    assert_int_equal(flat_weight(&f, &room, pool, NULL, &err), ST_OK);
    for (int t0 = 0; t0 < c->rows; t0 += chunk) {
        int rows = c->rows - t0 < chunk ? c->rows - t0 : chunk;
        for (int i = 0; i < rows; i++)
            for (int k = 0; k < in; k++) {
                double sum = 0;
                for (int o = 0; o < c->out; o++)
                    sum += (double)gl[(t0 + i) * c->out + o] * (double)wq[o * in + k];
                dx[(t0 + i) * in + k] = (float)sum;
            }
        FlatChunk chunked = {.x = v + c->x + t0 * in, .g = gl + t0 * c->out, .dx = dx + t0 * in, .rows = rows, .ldx = in,
                             .ldg = c->out, .lddx = in};
        assert_int_equal(flat_input_back(&f, &chunked, &room, pool, NULL, &err), ST_OK);
    }
    assert_int_equal(flat_weight_back(&f, &room, pool, NULL, &err), ST_OK);
    for (int i = 0; i < c->rows * in; i++)
        g[c->x + i] = (double)dx[i];
    flat_room_fini(&room);
    pool_free(pool);
    free(v), free(w), free(gl), free(lt), free(ilt), free(wq), free(gw), free(dx);
}

static void check_case(Case c, uint64_t seed)
{
    fill(&c, seed);
    double *g = malloc((size_t)c.n * sizeof *g), *again = malloc((size_t)c.n * sizeof *g);
    c.freeze = true;
    (void)loss_of(&c);
    c.freeze = false;
    engine(&c, 1, c.rows, g);
    engine(&c, 3, c.rows, again);
    assert_memory_equal(g, again, (size_t)c.n * sizeof *g);
    engine(&c, 2, 64, again); /* in chunks of whole blocks */
    for (int i = 0; i < c.n; i++)
        assert_true(fabs(again[i] - g[i]) < 1e-4 * (1 + fabs(g[i])));
    for (int i = 0; i < c.n; i++) {
        double was = c.v[i], step = 1e-5;
        c.v[i] = was + step;
        double up = loss_of(&c);
        c.v[i] = was - step;
        double down = loss_of(&c);
        c.v[i] = was;
        double want = (up - down) / (2 * step);
        if (!(fabs(want - g[i]) < 2e-4 * (1 + fabs(want))))
            fail_msg("number %d of %d (left %d right %d inv %d %d delta %d o %d clip %d x %d): %g, differences say %g", i, c.n,
                     c.left, c.right, c.inv_left, c.inv_right, c.delta, c.o, c.clip, c.x, g[i], want);
    }
    case_free(&c);
    free(g);
    free(again);
}

static void test_gradients_of_a_linear(void **state)
{
    (void)state;
    check_case((Case){.l = 3, .r = 4, .out = 5, .rows = 7, .diag = true}, 1);
    check_case((Case){.l = 2, .r = 5, .out = 6, .rows = 4, .heads = 3}, 2);
    check_case((Case){.l = 4, .r = 3, .out = 8, .rows = 70, .heads = 4, .diag = true}, 3);
    check_case((Case){.l = 3, .r = 3, .out = 66, .rows = 3, .left_only = true}, 4);
    check_case((Case){.l = 1, .r = 7, .out = 2, .rows = 1, .diag = true}, 5);
}

/* A row of zeros, one that is no number, one that is infinite. */
static void test_nasty_inputs(void **state)
{
    (void)state;
    float eye[4] = {1, 0, 0, 1}, x[3][4] = {{0, 0, 0, 0}, {1, NAN, 2, 3}, {1, INFINITY, 2, 3}}, y[3][4];
    double clip[3] = {4, 4, 4};
    FlatTransform t = {.l = 2, .r = 2, .left = eye, .left_t = eye, .right = eye};
    FlatLinear f = {.out = 1, .in = 4, .t = &t, .clip = clip};
    float *scratch = aligned_alloc(64, ((size_t)flat_act_floats(4, 2, 2) * sizeof *scratch + 63) / 64 * 64);
    flat_act(&f, x[0], 3, 4, y[0], scratch);
    for (int i = 0; i < 4; i++) {
        assert_true(y[0][i] == 0);
        assert_true(isnan(y[1][i]));
    }
    assert_false(isfinite(y[2][1]));
    free(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transform_and_its_inverse),
        cmocka_unit_test(test_transform_gradients),
        cmocka_unit_test(test_gradients_of_a_linear),
        cmocka_unit_test(test_nasty_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
