#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "math/convert.h"
#include "quant/hessian.h"
#include "quant/quantizer.h"
#include "quant/ranking.h"
#include "quant/sparse.h"
#include "tests/lib/npz.h"

/* Pruned weights: core/quant/weight_admm.c, sparse.c, ranking.c. */

static QSpec spec(const char *method, double ratio)
{
    QSpec q = {.dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .symmetric = true, .ext.sparse_ratio = ratio};
    snprintf(q.method, sizeof q.method, "%s", method);
    return q;
}

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static void from_memory(void *ctx, int64_t row0, int64_t rows, float *out)
{
    const NpyArray *x = ctx;
    memcpy(out, (const float *)x->data + row0 * x->shape[1], (size_t)(rows * x->shape[1]) * sizeof *out);
}

/* The weight pruned for the inputs x[rows][in], as float32 (caller frees). */
static float *pruned(const QSpec *q, const WeightTask *like, float *x, int64_t rows, int threads, int64_t *zeros)
{
    Error err = {0};
    WeightTask t = *like;
    NpyArray a = {.shape = {rows, t.in}, .data = x};
    QWeight out;
    void *shared = NULL;
    float *h = malloc((size_t)(t.in * t.in) * sizeof *h), *y = malloc((size_t)(t.out * t.in) * sizeof *y);
    const WeightQuantizer *k = weight_quantizer_find(q);
    assert_true(h && y && k);
    t.q = q;
    t.rows = rows;
    ok(pool_new(&t.pool, threads, &err), &err);
    ok(hessian_gather(from_memory, &a, rows, t.in, t.pool, NULL, h, &err), &err);
    if (k->prepare)
        ok(k->prepare(&t, h, &shared, &err), &err);
    t.shared = shared;
    ok(qweight_init(&out, q, t.out, t.in, &err), &err);
    ok(k->quantize(&t, &out, &err), &err);
    qweight_rows(&out, 0, t.out, DT_F32, y);
    if (zeros)
        *zeros = out.zeros;
    qweight_fini(&out);
    if (k->release)
        k->release(shared);
    pool_free(t.pool);
    free(h);
    return y;
}

/* ---- recorded ---- */

static void admm_is_the_recorded_one(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        DType T;
    } types[] = {{"f32", DT_F32}, {"f16", DT_F16}};
    Npz *z = npz_open("tests/golden/quant/admm.npz");
    for (int k = 0; k < 2; k++) {
        const NpyArray *w, *x[3];
        const float *W = npz_f32(z, &w, "%s.W", types[k].name), *want = npz_f32(z, NULL, "%s.out0.3", types[k].name);
        int64_t in = w->shape[1], rows = 0, n = 0, zeros = 0, none = 0;
        for (int s = 0; s < 3; s++) {
            npz_f32(z, &x[s], "%s.x%d", types[k].name, s);
            rows += x[s]->shape[0];
        }
        float *all = malloc((size_t)(rows * in) * sizeof *all);
        assert_non_null(all);
        for (int s = 0; s < 3; s++) {
            memcpy(all + n, x[s]->data, (size_t)x[s]->count * sizeof *all);
            n += x[s]->count;
        }
        QSpec q = spec("admm", 0.3);
        const WeightTask t = {.w = W, .out = w->shape[0], .in = in, .T = types[k].T, .F = types[k].T, .peer = true, .stored = DT_F16};
        float *y = pruned(&q, &t, all, rows, 2, &zeros);
        for (int64_t i = 0; i < w->count; i++) {
            if (memcmp(&y[i], &want[i], sizeof *y) != 0)
                fail_msg("%s: value %lld is %.9g, wanted %.9g", types[k].name, (long long)i, (double)y[i], (double)want[i]);
            none += want[i] == 0;
        }
        assert_int_equal(zeros, none);
        free(y);
        free(all);
    }
    npz_free(z);
}

static void rounding_is_the_recorded_one(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/admm.npz");
    const NpyArray *in = npz_find(z, "half.in"), *out = npz_find(z, "half.l2");
    assert_true(in && out && in->kind == 'u' && in->size == 2 && out->count == in->count);
    for (int64_t i = 0; i < in->count; i++) {
        uint16_t from = ((const uint16_t *)in->data)[i], want = ((const uint16_t *)out->data)[i];
        uint16_t got = f16_of_float(sparse_round(f16_to_float(from), false));
        if (got != want)
            fail_msg("0x%04x becomes 0x%04x, wanted 0x%04x", from, got, want);
    }
    npz_free(z);
}

/* Every finite value of float16, by the words of specs/quantization.md 12. */
static float round_by_the_text(float w, bool keep)
{
    int e;
    if (w == 0)
        return 0;
    double m = 2 * frexp(fabs((double)w), &e);
    e--;
    if (e < -14) {
        m = ldexp(fabs((double)w), 15);
        e = -15;
    }
    double k = rint(m * 4) / 4;
    k = e < -14 ? 0 : k;
    k = keep ? m : k;
    if (e > -15 && e < -8)
        k = m > 1.5 ? 2 : 1;
    return copysignf((float)ldexp(k, e), w);
}

static void rounding_is_that_of_the_text(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float w = f16_to_float((uint16_t)h);
        for (int keep = 0; keep < 2 && isfinite(w); keep++)
            if (sparse_round(w, keep) != round_by_the_text(w, keep))
                fail_msg("%.9g keep %d: %.9g, wanted %.9g", (double)w, keep, (double)sparse_round(w, keep),
                         (double)round_by_the_text(w, keep));
    }
}

/* ---- an independent reference: the steps of the text in float64, H and all ---- */

static void invert(double *a, double *b, int n)
{
    for (int i = 0; i < n * n; i++)
        b[i] = i / n == i % n;
    for (int c = 0; c < n; c++) { /* a is positive definite: no pivots */
        double d = a[c * n + c];
        for (int j = 0; j < n; j++) {
            a[c * n + j] /= d;
            b[c * n + j] /= d;
        }
        for (int i = 0; i < n; i++) {
            double f = a[i * n + c];
            for (int j = 0; j < n && i != c; j++) {
                a[i * n + j] -= f * a[c * n + j];
                b[i * n + j] -= f * b[c * n + j];
            }
        }
    }
}

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return x[0] != y[0] ? x[0] < y[0] ? -1 : 1 : x[1] < y[1] ? -1 : 1;
}

enum { MOST = 96 * 96 };

/* w[out][in] becomes the pruned weight before it is rounded. */
static void prune_by_the_text(double *w, int out, int in, const float *x, int rows, double ratio)
{
    static double h[MOST], hi[MOST], damped[MOST], u[MOST], hw[MOST], z[MOST], rank[MOST][2];
    static bool keep[MOST];
    double nrm[96], mean = 0;
    for (int i = 0; i < in; i++)
        for (int j = 0; j < in; j++) {
            h[i * in + j] = 0;
            for (int t = 0; t < rows; t++)
                h[i * in + j] += (double)x[t * in + i] * (double)x[t * in + j];
        }
    for (int i = 0; i < in; i++)
        nrm[i] = sqrt(h[i * in + i]) + 1e-8;
    for (int i = 0; i < in * in; i++)
        h[i] /= nrm[i / in] * nrm[i % in];
    for (int i = 0; i < in; i++)
        mean += h[i * in + i] / in;
    for (int i = 0; i < in; i++)
        h[i * in + i] += 0.1 * mean;
    memcpy(damped, h, sizeof damped);
    for (int i = 0; i < in; i++)
        damped[i * in + i] += 1;
    invert(damped, hi, in);
    for (int o = 0; o < out * in; o++)
        w[o] *= nrm[o % in];
    for (int o = 0; o < out * in; o++) {
        hw[o] = u[o] = 0;
        keep[o] = true;
        for (int i = 0; i < in; i++)
            hw[o] += h[(o % in) * in + i] * w[o / in * in + i];
    }
    for (int step = 0; step < 20; step++) {
        for (int o = 0; o < out * in && step < 15; o++) {
            rank[o][0] = fabs(w[o] + u[o]);
            rank[o][1] = o;
            keep[o] = true;
        }
        if (step < 15)
            qsort(rank, (size_t)(out * in), sizeof rank[0], by_size);
        for (int k = 0; k < (int)(ratio * out * in) && step < 15; k++)
            keep[(int)rank[k][1]] = false;
        for (int o = 0; o < out * in; o++) {
            z[o] = keep[o] ? w[o] + u[o] : 0;
            u[o] += w[o] - z[o];
        }
        for (int o = 0; o < out * in; o++) {
            w[o] = 0;
            for (int i = 0; i < in; i++)
                w[o] += hi[(o % in) * in + i] * (hw[o / in * in + i] + z[o / in * in + i] - u[o / in * in + i]);
        }
    }
    for (int o = 0; o < out * in; o++)
        w[o] = keep[o] ? (w[o] + u[o]) / nrm[o % in] : 0;
}

static float noise(Rng *r)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += rng_unit(r);
    return (float)sum;
}

typedef struct Case {
    int out, in, rows;
    double ratio;
    int dead; /* an input that is always 0; -1: none */
} Case;

static void fill(const Case *c, float *w, float *x, uint64_t seed)
{
    Rng r = rng_new(seed);
    for (int i = 0; i < c->out * c->in; i++)
        w[i] = 0.05f * noise(&r);
    for (int t = 0; t < c->rows; t++) {
        float shared = noise(&r);
        for (int i = 0; i < c->in; i++)
            x[t * c->in + i] = i == c->dead ? 0 : (noise(&r) + shared) * (i % 7 ? 1.0f : 6.0f);
    }
}

static void admm_is_that_of_the_text(void **state)
{
    (void)state;
    static const Case cases[] = {
        {33, 47, 200, 0.3, -1}, {65, 21, 90, 0.5, 4}, {40, 64, 17, 0.4, 63}, {1, 50, 60, 0.7, -1}, {24, 31, 1, 0.3, 0},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const Case *c = &cases[k];
        int n = c->out * c->in, zeros = 0, differ = 0;
        float *w = malloc((size_t)n * sizeof *w), *x = malloc((size_t)(c->rows * c->in) * sizeof *x);
        double *want = malloc((size_t)n * sizeof *want);
        assert_true(w && x && want);
        fill(c, w, x, 7 + k);
        for (int i = 0; i < n; i++)
            want[i] = (double)w[i];
        prune_by_the_text(want, c->out, c->in, x, c->rows, c->ratio);
        QSpec q = spec("admm", c->ratio);
        const WeightTask t = {.w = w, .out = c->out, .in = c->in, .T = DT_F32, .F = DT_F32, .stored = DT_F32};
        int64_t told;
        float *y = pruned(&q, &t, x, c->rows, 1, &told);
        for (int i = 0; i < n; i++) {
            double near = fabs(want[i]) < 0x1p-14 ? 0x1p-14 : fabs(want[i]) * (fabs(want[i]) < 0x1p-8 ? 0.51 : 0.13);
            zeros += want[i] == 0;
            differ += (want[i] == 0) != (y[i] == 0) && fabs(want[i]) > 0x1p-14;
            if ((want[i] == 0) == (y[i] == 0) && fabs((double)y[i] - want[i]) > near)
                fail_msg("case %zu: value %d is %g, wanted near %g", k, i, (double)y[i], want[i]);
        }
        assert_int_equal(zeros, (int)(c->ratio * n));
        assert_true(told >= zeros); /* what is no normal number of float16 is 0, too */
        if (differ > n / 500)
            fail_msg("case %zu: %d of %d values are pruned otherwise", k, differ, n);
        for (int o = 0; o < c->out && c->dead >= 0 && c->ratio * c->in > 2; o++)
            assert_true(y[o * c->in + c->dead] == 0);
        float *again = pruned(&q, &t, x, c->rows, 3, NULL);
        assert_memory_equal(y, again, (size_t)n * sizeof *y); /* whatever the number of threads */
        free(again);
        free(y);
        free(want);
        free(x);
        free(w);
    }
}

/* What the linear gives changes less than by pruning what is smallest. */
static double output_error(const Case *c, const float *w, const float *y, const float *x)
{
    double sum = 0;
    for (int t = 0; t < c->rows; t++)
        for (int o = 0; o < c->out; o++) {
            double d = 0;
            for (int i = 0; i < c->in; i++)
                d += (double)x[t * c->in + i] * ((double)y[o * c->in + i] - (double)w[o * c->in + i]);
            sum += d * d;
        }
    return sum;
}

static void admm_changes_least(void **state)
{
    (void)state;
    const Case c = {80, 70, 300, 0.4, -1};
    float *w = malloc(sizeof *w * 80 * 70), *x = malloc(sizeof *x * 300 * 70);
    assert_true(w && x);
    fill(&c, w, x, 3);
    QSpec admm = spec("admm", 0.4), size = spec("magnitude", 0.4);
    const WeightTask t = {.w = w, .out = 80, .in = 70, .T = DT_F32, .F = DT_F32, .stored = DT_BF16};
    int64_t zeros[2];
    float *a = pruned(&admm, &t, x, 300, 2, &zeros[0]), *b = pruned(&size, &t, x, 300, 2, &zeros[1]);
    assert_true(output_error(&c, w, a, x) < 0.7 * output_error(&c, w, b, x));
    for (int k = 0; k < 2; k++)
        assert_true(zeros[k] >= 80 * 70 * 4 / 10 && zeros[k] < 80 * 70 / 2);
    for (int i = 0; i < 80 * 70; i++)
        assert_true(bf16_to_float(bf16_of_float(a[i])) == a[i]); /* what is measured is what is written */
    free(a);
    free(b);
    free(x);
    free(w);
}

static void ends_of_the_ratio(void **state)
{
    (void)state;
    const Case c = {6, 5, 9, 0, -1};
    float w[30], x[45];
    fill(&c, w, x, 5);
    w[4] = 70000; /* beyond float16 */
    const WeightTask t = {.w = w, .out = 6, .in = 5, .T = DT_F32, .F = DT_F32, .stored = DT_F32};
    static const char *const methods[] = {"admm", "magnitude"};
    for (int k = 0; k < 2; k++) {
        QSpec none = spec(methods[k], 0), all = spec(methods[k], 1);
        int64_t zeros;
        float *y = pruned(&all, &t, x, 9, 1, &zeros);
        assert_int_equal(zeros, 30);
        free(y);
        y = pruned(&none, &t, x, 9, 1, &zeros);
        assert_true(zeros < 3 && y[4] == 65504);
        free(y);
    }
}

static void what_can_not_be_pruned_is_said(void **state)
{
    (void)state;
    Error err = {0};
    QSpec q = spec("admm", 0.3);
    const WeightQuantizer *k = weight_quantizer_find(&q);
    float w[4] = {1, 2, 3, 4}, h[4] = {1, 0, 0, INFINITY};
    void *shared = &err;
    QWeight out;
    WeightTask t = {.q = &q, .w = w, .out = 2, .in = 2, .rows = 3, .T = DT_F32, .F = DT_F32, .stored = DT_F32};
    assert_int_equal(k->prepare(&t, h, &shared, &err), ST_DATA);
    assert_non_null(strstr(err.text, "NaN or Inf"));
    assert_null(shared);
    ok(qweight_init(&out, &q, 2, 2, &err), &err);
    assert_int_equal(k->quantize(&t, &out, &err), ST_DATA);
    assert_non_null(strstr(err.text, "needs calibration text"));
    qweight_fini(&out);
}

/* ---- ranking ---- */

typedef struct Values {
    const float *v;
    int64_t width;
} Values;

static void values_row(const void *ctx, int64_t row, float *out)
{
    const Values *v = ctx;
    memcpy(out, v->v + row * v->width, (size_t)v->width * sizeof *out);
}

static int by_value(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void ranking_is_what_sorting_gives(void **state)
{
    (void)state;
    enum { ROWS = 130, WIDTH = 37, N = ROWS * WIDTH };
    static float v[N], sorted[N];
    Rng rng = rng_new(1);
    Error err = {0};
    for (int ties = 0; ties < 2; ties++) {
        for (int i = 0; i < N; i++) {
            v[i] = fabsf(noise(&rng)) * (i % 5 ? 1.0f : 1e-30f);
            v[i] = ties ? rintf(v[i]) : v[i];
        }
        memcpy(sorted, v, sizeof v);
        qsort(sorted, N, sizeof *v, by_value);
        for (int threads = 0; threads < 3; threads += 2) {
            const Values ctx = {v, WIDTH};
            Ranking r = {.rows = ROWS, .width = WIDTH, .row = values_row, .ctx = &ctx};
            if (threads)
                ok(pool_new(&r.pool, threads, &err), &err);
            ok(ranking_init(&r, &err), &err);
            for (int k = 1; k <= N; k += k < 3 ? 1 : 419) {
                RankCut cut;
                int64_t below = 0, equal = 0;
                ok(ranking_find(&r, k, &cut, &err), &err);
                for (int i = 0; i < N; i++) {
                    below += v[i] < sorted[k - 1];
                    equal += v[i] == sorted[k - 1];
                }
                assert_true(cut.at == sorted[k - 1]);
                assert_int_equal(cut.below, below);
                assert_int_equal(cut.equal, equal);
            }
            ranking_fini(&r);
            pool_free(r.pool);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(admm_is_the_recorded_one),     cmocka_unit_test(rounding_is_the_recorded_one),
        cmocka_unit_test(rounding_is_that_of_the_text), cmocka_unit_test(admm_is_that_of_the_text),
        cmocka_unit_test(admm_changes_least),           cmocka_unit_test(ends_of_the_ratio),
        cmocka_unit_test(what_can_not_be_pruned_is_said), cmocka_unit_test(ranking_is_what_sorting_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
