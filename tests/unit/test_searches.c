/* Metrics that try a method on each linear, against the methods written out in float64 over kept inputs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "metric/search.h"

#include "tests/lib/bench.h"
#include "tests/lib/passrun.h"
#include "tests/lib/random_model.h"

#define LLAMA "tests/golden/analysis/_models/llama-fp32"

static Error err;

static const Metric *const all[] = {&metric_smooth_alpha, &metric_awq_search, &metric_gptq_gain, NULL};

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static void run_pass(TestRun *b, const TokenSet *t, const Metric *const *metrics, const QConfig *q, const bool *selected,
                     Got *g)
{
    int16_t *level = calloc((size_t)b->m->nlinears, sizeof *level);
    for (int64_t i = 0; i < b->m->nlinears; i++)
        level[i] = q != NULL;
    PassPlan p = {.m = b->m, .pass = &pass_search, .metrics = metrics, .tokens = t, .levels = q, .nlevels = q != NULL,
                  .level = level, .selected = selected};
    test_pass(b->r, &p, g);
    free(level);
}

static double output_error(const double *x, const double *xq, const double *w, const double *wq, int64_t rows, int64_t in,
                           int64_t out)
{
    double error = 0, square = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < out; c++) {
            double y = 0, z = 0;
            for (int64_t j = 0; j < in; j++) {
                y += x[r * in + j] * w[c * in + j];
                z += xq[r * in + j] * wq[c * in + j];
            }
            error += (y - z) * (y - z);
            square += y * y;
        }
    return error / square;
}

/* ---- one model with its kept inputs ---- */

typedef struct World {
    TestRun b;
    TokenSet *t;
    KeptForward k;
    Got g;
} World;

static void world_open(World *w, const char *scheme, const Metric *m, QConfig *q)
{
    const Metric *const one[] = {m, NULL};
    *w = (World){.g.keep = -1};
    assert_true(scheme_config(scheme, q));
    test_run_open(&w->b, LLAMA, ARITH_FP32, 2, NULL);
    w->t = test_calib_tokens(LLAMA, w->b.m);
    kept_forward(&w->k, LLAMA, w->t);
    run_pass(&w->b, w->t, one, q, NULL, &w->g);
    assert_int_equal(w->g.n, w->b.m->nlinears);
}

static void world_close(World *w)
{
    got_free(&w->g);
    kept_free(&w->k);
    tokens_free(w->t);
    test_run_close(&w->b);
}

/* ---- SmoothQuant ---- */

/* The first 52 tokens of each text: 256 over 5 texts, rounded up. */
static double *probe_of(const Kept *k, int64_t *rows)
{
    double *x = malloc((size_t)(5 * 52 * k->width) * sizeof *x);
    int64_t row = 0;
    *rows = 0;
    for (int s = 0; s < 5; row += k->at[s++])
        for (int64_t r = 0; r < 52 && r < k->at[s]; r++, ++*rows)
            for (int64_t j = 0; j < k->width; j++)
                x[*rows * k->width + j] = (double)k->x[(row + r) * k->width + j];
    return x;
}

static double smooth_error(const Kept *k, const float *wf, const double *column, int64_t out, int bits, bool fixed,
                           double alpha)
{
    int64_t in = k->width, rows;
    double *x = probe_of(k, &rows), *w = test_doubles(wf, out * in), lo = INFINITY, hi = -INFINITY;
    double *xq = malloc((size_t)(rows * in) * sizeof *xq), *wq = malloc((size_t)(out * in) * sizeof *wq);
    for (int64_t j = 0; j < in; j++) {
        double a = 0, cl = INFINITY, ch = -INFINITY;
        for (int64_t r = 0; r < k->rows; r++) {
            cl = fmin(cl, (double)k->x[r * in + j]);
            ch = fmax(ch, (double)k->x[r * in + j]);
        }
        a = fmax(fabs(cl), fabs(ch));
        double s = alpha < 0 ? 1 : (double)(float)fmax(pow(a, alpha) / pow(column[j], 1 - alpha), 1e-5);
        lo = fmin(lo, cl / s);
        hi = fmax(hi, ch / s);
        for (int64_t r = 0; r < rows; r++)
            xq[r * in + j] = x[r * in + j] / s;
        for (int64_t c = 0; c < out; c++)
            wq[c * in + j] = w[c * in + j] * s;
    }
    test_fake_input(xq, rows, in, fixed, lo, hi);
    test_fake_weight(wq, out, in, bits);
    double e = output_error(x, xq, w, wq, rows, in, out);
    free(x);
    free(w);
    free(xq);
    free(wq);
    return e;
}

static void check_smooth(const World *w, int64_t i, int bits, bool fixed)
{
    /* at 1 every channel ends at 1 or -1, and the zero point halfway between two */
    static const char *const names[] = {"e0.0", "e0.5", "e0.8", "e0.9"};
    static const double alphas[] = {0, 0.5, 0.8, 0.9};
    const Linear *l = &w->b.m->linears[i];
    const UnitScore *u = got_score(&w->g, all[0], i);
    const Kept *k = &w->k.in[l->input];
    float *own = test_weight(w->b.m, i);
    double *column = calloc((size_t)l->in, sizeof *column), best = test_part(u, all[0], "before"), alpha = NAN;
    for (int64_t n = 0; n < w->b.m->nlinears; n++) {
        if (w->b.m->linears[n].input != l->input)
            continue;
        float *f = test_weight(w->b.m, n);
        for (int64_t e = 0; e < l->in * w->b.m->linears[n].out; e++)
            column[e % l->in] = fmax(column[e % l->in], fabs((double)f[e]));
        free(f);
    }
    test_near(best, smooth_error(k, own, column, l->out, bits, fixed, -1), 2e-3);
    for (int a = 0; a < 4; a++)
        test_near(test_part(u, all[0], names[a]), smooth_error(k, own, column, l->out, bits, fixed, alphas[a]), 2e-3);
    for (int a = 0; a < ALPHAS; a++)
        if (u->part[5 + a] < best) {
            best = u->part[5 + a];
            alpha = a / 10.0;
        }
    test_near(test_part(u, all[0], "alpha"), alpha, 0);
    test_near(test_part(u, all[0], "after"), best, 0);
    test_near(u->value, test_part(u, all[0], "before") / best, 0);
    free(own);
    free(column);
}

static void smoothing_is_that_of_plain_loops(void **state)
{
    (void)state;
    for (int fixed = 0; fixed < 2; fixed++) {
        World w;
        QConfig q;
        world_open(&w, fixed ? "W8A8" : "W4A8_DYNAMIC", all[0], &q);
        for (int64_t i = 0; i < w.b.m->nlinears; i += 3)
            check_smooth(&w, i, fixed ? 8 : 4, fixed);
        world_close(&w);
    }
}

/* ---- AWQ ---- */

static void scales_are_those_of_plain_loops(void **state)
{
    (void)state;
    World w;
    QConfig q;
    world_open(&w, "W4A8_DYNAMIC", all[1], &q);
    for (int64_t i = 0; i < w.b.m->nlinears; i++) {
        const Linear *l = &w.b.m->linears[i];
        const UnitScore *u = got_score(&w.g, all[1], i);
        const Kept *k = &w.k.in[l->input];
        float *f = test_weight(w.b.m, i);
        double *mean = calloc((size_t)l->in, sizeof *mean), *s = calloc((size_t)l->in, sizeof *s), least = INFINITY, at = 0;
        for (int64_t e = 0; e < k->rows * l->in; e++)
            mean[e % l->in] += fabs((double)k->x[e]) / (double)k->rows;
        for (int a = 0; a <= 10; a++) {
            double all_s = 0, error = 0, square = 0, *d = test_doubles(f, l->out * l->in);
            for (int64_t j = 0; j < l->in; j++)
                all_s += s[j] = pow(mean[j], a / 10.0);
            for (int64_t j = 0; j < l->in; j++)
                s[j] = (double)(float)(s[j] * (double)l->in / all_s);
            for (int64_t e = 0; e < l->out * l->in; e++)
                d[e] *= s[e % l->in];
            test_fake_weight(d, l->out, l->in, 4);
            for (int64_t e = 0; e < l->out * l->in; e++) {
                double v = (double)f[e], gap = v - d[e] / s[e % l->in];
                error += gap * gap * mean[e % l->in];
                square += v * v * mean[e % l->in];
            }
            free(d);
            test_near(u->part[2 + a], error / square, 2e-3);
            at = u->part[2 + a] < least ? a / 10.0 : at;
            least = fmin(least, u->part[2 + a]);
        }
        test_near(test_part(u, all[1], "alpha"), at, 0);
        test_near(test_part(u, all[1], "after"), least, 0);
        test_near(u->value, u->part[2] / least, 0);
        free(f);
        free(mean);
        free(s);
    }
    world_close(&w);
}

/* ---- GPTQ, as in the paper: inverse Hessian, its Cholesky factor, column after column ---- */

static void invert(double *a, int64_t n)
{
    double *b = calloc((size_t)(n * n), sizeof *b);
    for (int64_t i = 0; i < n; i++)
        b[i * n + i] = 1;
    for (int64_t c = 0; c < n; c++) {
        double p = a[c * n + c];
        for (int64_t j = 0; j < n; j++) {
            a[c * n + j] /= p;
            b[c * n + j] /= p;
        }
        for (int64_t r = 0; r < n; r++) {
            double f = a[r * n + c];
            for (int64_t j = 0; r != c && j < n; j++) {
                a[r * n + j] -= f * a[c * n + j];
                b[r * n + j] -= f * b[c * n + j];
            }
        }
    }
    memcpy(a, b, (size_t)(n * n) * sizeof *a);
    free(b);
}

/* a becomes U, upper, with a = U^T U. */
static void upper_factor(double *a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++) {
            double v = a[i * n + j];
            for (int64_t k = 0; k < i; k++)
                v -= a[k * n + i] * a[k * n + j];
            a[i * n + j] = i == j ? sqrt(v) : v / a[i * n + i];
        }
}

static double *moments(const Kept *k)
{
    double *h = calloc((size_t)(k->width * k->width), sizeof *h);
    for (int64_t r = 0; r < k->rows; r++)
        for (int64_t i = 0; i < k->width; i++)
            for (int64_t j = 0; j < k->width; j++)
                h[i * k->width + j] += (double)k->x[r * k->width + i] * (double)k->x[r * k->width + j];
    return h;
}

/* dW of GPTQ at int4 per row, columns in this order. */
static void gptq_plain(const float *f, int64_t out, const double *h, int64_t in, const int64_t *order, double *d)
{
    double *u = malloc((size_t)(in * in) * sizeof *u), *w = malloc((size_t)in * sizeof *w), mean = 0;
    for (int64_t i = 0; i < in; i++)
        mean += h[i * in + i] / (double)in;
    for (int64_t i = 0; i < in; i++)
        for (int64_t j = 0; j < in; j++)
            u[i * in + j] = h[order[i] * in + order[j]] + (i == j ? 0.01 * mean : 0);
    invert(u, in);
    upper_factor(u, in);
    for (int64_t r = 0; r < out; r++) {
        double max = 0;
        for (int64_t j = 0; j < in; j++) {
            max = fmax(max, fabs((double)f[r * in + j]));
            w[j] = (double)f[r * in + order[j]];
        }
        for (int64_t j = 0; j < in; j++) {
            double s = max / 7, q = s * fmin(fmax(nearbyint(w[j] / s), -8), 7), e = (w[j] - q) / u[j * in + j];
            for (int64_t k = j + 1; k < in; k++)
                w[k] -= e * u[j * in + k];
            d[r * in + order[j]] = q - (double)f[r * in + order[j]];
        }
    }
    free(u);
    free(w);
}

static double form(const double *d, int64_t out, const double *h, int64_t in)
{
    double sum = 0;
    for (int64_t r = 0; r < out; r++)
        for (int64_t i = 0; i < in; i++)
            for (int64_t j = 0; j < in; j++)
                sum += d[r * in + i] * h[i * in + j] * d[r * in + j];
    return sum;
}

static void check_gptq(const World *w, int64_t i)
{
    const Linear *l = &w->b.m->linears[i];
    const UnitScore *u = got_score(&w->g, all[2], i);
    float *f = test_weight(w->b.m, i);
    double *h = moments(&w->k.in[l->input]), *v = test_doubles(f, l->out * l->in), *d = test_doubles(f, l->out * l->in);
    int64_t *order = calloc((size_t)l->in, sizeof *order);
    double square = form(v, l->out, h, l->in), minmax, plain, ordered;
    test_fake_weight(d, l->out, l->in, 4);
    for (int64_t e = 0; e < l->out * l->in; e++)
        d[e] -= v[e];
    minmax = form(d, l->out, h, l->in) / square;
    for (int64_t j = 0; j < l->in; j++)
        order[j] = j;
    gptq_plain(f, l->out, h, l->in, order, d);
    plain = form(d, l->out, h, l->in) / square;
    for (int64_t a = 0; a < l->in; a++) /* by falling diagonal */
        for (int64_t b = a + 1; b < l->in; b++)
            if (h[order[b] * (l->in + 1)] > h[order[a] * (l->in + 1)]) {
                int64_t t = order[a];
                order[a] = order[b];
                order[b] = t;
            }
    gptq_plain(f, l->out, h, l->in, order, d);
    ordered = form(d, l->out, h, l->in) / square;
    test_near(test_part(u, all[2], "minmax"), minmax, 1e-4);
    test_near(test_part(u, all[2], "gptq"), plain, 2e-2); /* one flipped rounding moves those behind it */
    test_near(test_part(u, all[2], "act_order"), ordered, 2e-2);
    assert_true(plain < minmax && ordered < minmax);
    test_near(u->value, u->part[0] / fmin(u->part[1], u->part[2]), 1e-12);
    free(f);
    free(h);
    free(v);
    free(d);
    free(order);
}

static void gptq_is_that_of_the_paper(void **state)
{
    (void)state;
    World w;
    QConfig q;
    world_open(&w, "W4A8_DYNAMIC", all[2], &q);
    for (int64_t i = 0; i < 7; i++)
        check_gptq(&w, i);
    world_close(&w);
}

/* ---- what all of them have in common ---- */

static void threads_and_a_stop_change_nothing(void **state)
{
    (void)state;
    const int lengths[] = {60, 100, 9, 1};
    Got g[3] = {{.keep = -1}, {.keep = 1}, {.keep = -1}};
    QConfig q;
    TokenSet *t = NULL;
    assert_true(scheme_config("W4A8_DYNAMIC", &q));
    for (int k = 0; k < 3; k++) {
        TestRun b;
        test_run_open(&b, LLAMA, ARITH_FP32, k ? 3 : 1, NULL);
        t = t ? t : test_tokens(lengths, 4, b.m->cfg.vocab, 11);
        if (k < 2) {
            run_pass(&b, t, all, &q, NULL, &g[k]);
        } else { /* behind what the run before kept */
            int16_t level[64];
            for (int i = 0; i < 64; i++)
                level[i] = 1;
            PassPlan p = {.m = b.m, .pass = &pass_search, .metrics = all, .tokens = t, .levels = &q, .nlevels = 1,
                          .level = level, .first = 1, .h = &g[1].kept};
            g[2].n = 3 * b.m->units[0].count;
            g[2].s = malloc((size_t)g[2].n * sizeof *g[2].s);
            memcpy(g[2].s, g[1].s, (size_t)g[2].n * sizeof *g[2].s);
            ok(stream_set_ids(&g[1].kept, t->ids, &err));
            test_pass(b.r, &p, &g[2]);
        }
        test_run_close(&b);
    }
    got_same(&g[0], &g[1]);
    got_same(&g[0], &g[2]);
    for (int k = 0; k < 3; k++)
        got_free(&g[k]);
    test_tokens_free(t);
}

static void what_cannot_be_tried_says_why(void **state)
{
    (void)state;
    const int lengths[] = {3, 1};
    TestRun b;
    QConfig q;
    Got g = {.keep = -1};
    test_run_open(&b, "tests/golden/models/qwen3_moe/fp32", ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, 2, b.m->cfg.vocab, 1);
    assert_true(scheme_config("W8A16", &q)); /* inputs stay in float */
    run_pass(&b, t, all, &q, NULL, &g);
    int64_t unseen = 0;
    for (int64_t i = 0; i < b.m->nlinears; i++) {
        const UnitScore *s = got_score(&g, all[0], i), *a = got_score(&g, all[1], i);
        unseen += strcmp(a->why, "no token reached it") == 0;
        assert_true(s->absent && isnan(s->value) && s->why[0]);
        assert_true(a->absent || (a->value >= 1 && a->tokens > 0));
    }
    assert_true(unseen > 0 && unseen < b.m->nlinears);
    got_free(&g);
    g = (Got){.keep = -1};
    assert_true(scheme_config("WFP8AFP8_DYNAMIC", &q));
    bool *sel = calloc((size_t)b.m->nlinears, sizeof *sel);
    sel[1] = true;
    run_pass(&b, t, all, &q, sel, &g);
    assert_int_equal(g.n, 3);
    assert_true(got_score(&g, all[2], 1)->absent && strstr(got_score(&g, all[2], 1)->why, "no grid"));
    assert_true(got_score(&g, all[0], 1)->value >= 1);
    got_free(&g);
    g = (Got){.keep = -1};
    run_pass(&b, t, all, NULL, sel, &g);
    assert_true(got_score(&g, all[0], 1)->absent && strstr(got_score(&g, all[0], 1)->why, "no level"));
    free(sel);
    got_free(&g);
    test_tokens_free(t);
    test_run_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smoothing_is_that_of_plain_loops),
        cmocka_unit_test(scales_are_those_of_plain_loops),
        cmocka_unit_test(gptq_is_that_of_the_paper),
        cmocka_unit_test(threads_and_a_stop_change_nothing),
        cmocka_unit_test(what_cannot_be_tried_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
