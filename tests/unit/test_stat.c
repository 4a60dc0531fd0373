/* Statistics of taps and weights against their definitions written out, in any order of tiles, samples and panels. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/pool.h"
#include "stat/tapstat.h"
#include "stat/weightstat.h"

static uint64_t rng_state = 12345;

static double uniform(void)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(rng_state >> 11) + 0.5) * 0x1p-53;
}

static float normal(void)
{
    return (float)(sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()));
}

typedef struct Data {
    int samples;
    int64_t start[8], width;
    float *x;
} Data;

/* Channels with offsets, an outlier channel, a massive first token. */
static Data make_data(int samples, const int64_t *start, int64_t width)
{
    Data d = {.samples = samples, .width = width};
    memcpy(d.start, start, ((size_t)samples + 1) * sizeof *start);
    int64_t rows = start[samples];
    d.x = malloc((size_t)(rows * width + 1) * sizeof *d.x);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < width; j++)
            d.x[r * width + j] = normal() * (j % 17 == 3 ? 30 : 1) + (float)(j % 5) * 2 + (r == 0 && j == 1 ? 500 : 0);
    return d;
}

enum Feed { WHOLE, TILES, BACKWARDS };

typedef struct FeedCtx {
    TapStat *t;
    const Data *d;
    enum Feed how;
} FeedCtx;

static void feed_sample(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const FeedCtx *f = ctx;
    const Data *d = f->d;
    int s = (int)(f->how == BACKWARDS ? d->samples - 1 - index : index);
    int64_t rows = d->start[s + 1] - d->start[s], step = f->how == TILES ? 3 : rows;
    for (int64_t r = 0; r < rows; r += step)
        tapstat_tile(f->t, s, r, d->x + (d->start[s] + r) * d->width, rows - r < step ? rows - r : step, d->width);
}

static const TapWants everything = {.order = true, .std = true, .channel = true, .hist = true};

static TapTotals collect(const Data *d, TapWants wants, enum Feed how, int threads)
{
    Error err;
    StatPool *sp;
    Pool *pool;
    FeedCtx f = {NULL, d, how};
    TapTotals o;
    assert_int_equal(statpool_new(&sp, &err), ST_OK);
    assert_int_equal(pool_new(&pool, threads, &err), ST_OK);
    assert_int_equal(tapstat_new(&f.t, sp, wants, d->samples, d->start, d->width, &err), ST_OK);
    pool_run(pool, PHASE_STATISTICS, d->samples, feed_sample, &f, NULL);
    assert_int_equal(tapstat_end(f.t, &o, &err), ST_OK);
    tapstat_free(f.t);
    pool_free(pool);
    statpool_free(sp);
    return o;
}

static double near_enough(double a, double b)
{
    return a == b ? 0 : fabs(a - b) / fmax(fabs(a), fabs(b));
}

/* specs/analysis.md 2.2, word by word. */
static double plain_std(const Data *d)
{
    float top = 0;
    double worst = 0;
    for (int s = 0; s < d->samples; s++) {
        int64_t a = d->start[s], b = d->start[s + 1], w = d->width;
        double n = (double)((b - a) * w), mean = 0, sq = 0;
        float *y = malloc((size_t)((b - a) * w + 1) * sizeof *y);
        for (int64_t j = 0; j < w && b > a; j++) {
            float mn = INFINITY, mx = -INFINITY;
            for (int64_t r = a; r < b; r++) {
                mn = fminf(mn, d->x[r * w + j]);
                mx = fmaxf(mx, d->x[r * w + j]);
            }
            top = fmaxf(top, fmaxf(fabsf(mn), fabsf(mx)));
            for (int64_t r = a; r < b; r++)
                y[(r - a) * w + j] = d->x[r * w + j] - (mx + mn) / 2;
        }
        for (int64_t i = 0; i < (b - a) * w; i++)
            mean += (double)y[i] / n;
        for (int64_t i = 0; i < (b - a) * w; i++)
            sq += ((double)y[i] - mean) * ((double)y[i] - mean);
        free(y);
        if (b > a)
            worst = fmax(worst, sqrt(sq / (n - 1)));
    }
    return worst == 0 ? (double)top : (double)top / worst;
}

static void compare_plain(const Data *d, const TapTotals *o)
{
    int64_t rows = d->start[d->samples], w = d->width;
    double sum = 0, sq = 0, token = 0;
    assert_int_equal(o->rows, rows);
    assert_int_equal(o->values, rows * w);
    assert_int_equal(o->hist.total, rows * w);
    for (int64_t r = 0; r < rows; r++) {
        double top = 0;
        for (int64_t j = 0; j < w; j++) {
            double v = (double)d->x[r * w + j];
            sum += v;
            sq += v * v;
            top = fmax(top, fabs(v));
        }
        token += top * top;
    }
    double n = (double)(rows * w);
    assert_true(near_enough(o->mean, sum / n) < 1e-7);
    assert_true(near_enough(o->mean_sq, sq / n) < 1e-7);
    assert_true(near_enough(o->std, sqrt(sq / n - sum / n * (sum / n))) < 1e-7);
    assert_true(near_enough(o->token_max_sq, token / (double)rows) < 1e-12);
    assert_true(near_enough(o->std_score, plain_std(d)) < 1e-6);
    for (int64_t j = 0; j < w; j++) {
        double c = 0, top = 0;
        for (int64_t r = 0; r < rows; r++) {
            c += pow((double)d->x[r * w + j], 2);
            top = fmax(top, fabs((double)d->x[r * w + j]));
        }
        assert_true(near_enough(o->channel_sq[j], c / (double)rows) < 2e-7);
        assert_true((double)o->channel_max[j] == top);
    }
}

static void same_bits(const TapTotals *a, const TapTotals *b)
{
    double x[] = {a->min, a->max, a->mean, a->std, a->mean_sq, a->kurtosis, a->quantile, a->std_score, a->token_max_sq};
    double y[] = {b->min, b->max, b->mean, b->std, b->mean_sq, b->kurtosis, b->quantile, b->std_score, b->token_max_sq};
    assert_memory_equal(x, y, sizeof x);
    assert_memory_equal(a->channel_sq, b->channel_sq, (size_t)a->width * sizeof *a->channel_sq);
    assert_memory_equal(a->channel_max, b->channel_max, (size_t)a->width * sizeof *a->channel_max);
    assert_int_equal(a->hist.n, b->hist.n);
    assert_memory_equal(a->hist.count, b->hist.count, (size_t)a->hist.n * sizeof *a->hist.count);
}

static void totals_match_the_definitions(void **state)
{
    (void)state;
    static const int64_t starts[][6] = {{0, 1, 20, 20, 97, 140}, {0, 2, 4, 6, 8, 10}, {0, 33, 34, 41, 130, 131},
                                        {0, 0, 5, 5, 5, 9}};
    static const int64_t widths[] = {64, 3, 129, 700};
    for (int i = 0; i < 4; i++) {
        Data d = make_data(5, starts[i], widths[i]);
        TapTotals o = collect(&d, everything, WHOLE, 1);
        compare_plain(&d, &o);
        for (int how = 0; how < 3; how++) {
            TapTotals p = collect(&d, everything, (enum Feed)how, 3);
            same_bits(&o, &p);
            taptotals_fini(&p);
        }
        TapTotals k = collect(&d, (TapWants){.order = true}, TILES, 2);
        assert_true(k.kurtosis == o.kurtosis && k.quantile == o.quantile && k.max == o.max && isnan(k.std_score));
        taptotals_fini(&k);
        taptotals_fini(&o);
        free(d.x);
    }
}

static void edges_are_defined(void **state)
{
    (void)state;
    static const int64_t one[] = {0, 1}, none[] = {0, 0}, ten[] = {0, 10};
    Data d = make_data(1, one, 40); /* one token: no deviation */
    TapTotals o = collect(&d, everything, WHOLE, 1);
    assert_true(o.std_score == fmax(fabs(o.min), fabs(o.max)));
    taptotals_fini(&o);
    free(d.x);
    d = make_data(1, one, 1); /* one value: std is undefined, kurtosis is -3 */
    o = collect(&d, everything, WHOLE, 1);
    assert_true(isnan(o.std_score) && o.kurtosis == -3);
    taptotals_fini(&o);
    free(d.x);
    d = make_data(1, none, 8); /* nothing came */
    o = collect(&d, everything, WHOLE, 1);
    assert_true(isnan(o.std_score) && isnan(o.kurtosis) && isnan(o.quantile) && isnan(o.mean) && o.hist.total == 0 &&
                !o.bad);
    taptotals_fini(&o);
    free(d.x);
    d = make_data(1, ten, 300);
    for (int i = 0; i < 3000; i++)
        d.x[i] = 0;
    o = collect(&d, everything, TILES, 1);
    assert_true(o.std_score == 0 && o.kurtosis == -3 && o.quantile == 0 && o.mean_sq == 0);
    taptotals_fini(&o);
    for (int i = 0; i < 3000; i++)
        d.x[i] = -0.3f;
    o = collect(&d, everything, TILES, 1);
    assert_true(o.std_score == (double)0.3f && o.kurtosis == -3 && o.std == 0);
    taptotals_fini(&o);
    free(d.x);
}

static void bad_values_are_located(void **state)
{
    (void)state;
    static const int64_t start[] = {0, 10, 40, 80};
    Data d = make_data(3, start, 50);
    d.x[(40 + 7) * 50 + 3] = -INFINITY;
    d.x[(10 + 21) * 50 + 8] = NAN;
    d.x[(10 + 21) * 50 + 9] = INFINITY;
    d.x[(10 + 29) * 50 + 0] = NAN;
    for (int how = 0; how < 3; how++) {
        TapTotals o = collect(&d, everything, (enum Feed)how, 3);
        assert_true(o.bad && isnan(o.kurtosis) && isnan(o.std_score));
        assert_string_equal(o.bad_text, "NaN first at sample 1 token 21 channel 8");
        assert_int_equal(o.rows, 80);
        taptotals_fini(&o);
    }
    free(d.x);
}

static void missing_rows_are_an_error(void **state)
{
    (void)state;
    static const int64_t start[] = {0, 10};
    Data d = make_data(1, start, 50);
    Error err;
    StatPool *sp;
    TapStat *t;
    TapTotals o;
    assert_int_equal(statpool_new(&sp, &err), ST_OK);
    assert_int_equal(tapstat_new(&t, sp, everything, 1, start, 50, &err), ST_OK);
    tapstat_tile(t, 0, 0, d.x, 4, 50);
    assert_int_equal(tapstat_end(t, &o, &err), ST_INTERNAL);
    tapstat_free(t);
    statpool_free(sp);
    free(d.x);
}

/* ---- weights ---- */

typedef struct WeightCtx {
    WeightStat *s;
    const float *w;
    int64_t rows, in, step;
    int panels;
} WeightCtx;

static void feed_panel(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const WeightCtx *c = ctx;
    int p = (int)((index * 7 + 3) % c->panels); /* any order: panels is no multiple of 7 */
    int64_t r = p * c->step, n = c->rows - r < c->step ? c->rows - r : c->step;
    weightstat_panel(c->s, p, r, n, c->w + r * c->in);
}

static WeightTotals collect_weight(const float *w, int64_t rows, int64_t in, int64_t step, int threads)
{
    Error err;
    StatPool *sp;
    Pool *pool;
    WeightCtx c = {NULL, w, rows, in, step, (int)((rows + step - 1) / step)};
    WeightTotals o;
    assert_int_equal(statpool_new(&sp, &err), ST_OK);
    assert_int_equal(pool_new(&pool, threads, &err), ST_OK);
    assert_int_equal(weightstat_new(&c.s, sp, true, true, c.panels, in, &err), ST_OK);
    pool_run(pool, PHASE_STATISTICS, c.panels, feed_panel, &c, NULL);
    assert_int_equal(weightstat_end(c.s, &o, &err), ST_OK);
    weightstat_free(c.s);
    pool_free(pool);
    statpool_free(sp);
    return o;
}

static void weight_sums_match_the_definition(void **state)
{
    (void)state;
    static const int64_t shape[][3] = {{300, 70, 64}, {5, 9, 2}, {1, 1, 1}, {130, 33, 128}};
    for (int i = 0; i < 4; i++) {
        int64_t rows = shape[i][0], in = shape[i][1];
        float *w = malloc((size_t)(rows * in) * sizeof *w);
        double *e8 = calloc((size_t)in * 3, sizeof *e8), *e4 = e8 + in, *sq = e4 + in, sum = 0;
        for (int64_t r = 0; r < rows; r++) {
            float top = 0;
            for (int64_t j = 0; j < in; j++) {
                /* an empty row, one below the least scale */
                w[r * in + j] = r == 2 ? 0 : r == 3 ? 1e-9f * normal() : normal() * 0.05f;
                top = fmaxf(top, fabsf(w[r * in + j]));
            }
            float s8 = fmaxf(top / 127, 0x1p-23f), s4 = fmaxf(top / 7, 0x1p-23f);
            for (int64_t j = 0; j < in; j++) {
                float v = w[r * in + j];
                e8[j] += pow((double)v - (double)fmaxf(-128, fminf(127, rintf(v / s8))) * (double)s8, 2);
                e4[j] += pow((double)v - (double)fmaxf(-8, fminf(7, rintf(v / s4))) * (double)s4, 2);
                sq[j] += (double)v * (double)v;
                sum += (double)v;
            }
        }
        WeightTotals o = collect_weight(w, rows, in, shape[i][2], 1), p = collect_weight(w, rows, in, shape[i][2], 3);
        for (int64_t j = 0; j < in; j++) {
            assert_true(near_enough(o.sq[j], sq[j]) < 1e-6);
            assert_true(fabs(o.err8[j] - e8[j]) <= 1e-5 * e8[j] + 1e-9 * sq[j]);
            assert_true(fabs(o.err4[j] - e4[j]) <= 1e-5 * e4[j] + 1e-9 * sq[j]);
        }
        assert_memory_equal(o.err8, p.err8, (size_t)(3 * in) * sizeof *e8);
        assert_int_equal(o.hist.total, rows * in);
        assert_true(fabs(o.mean - sum / (double)(rows * in)) < 1e-8);
        weighttotals_fini(&o);
        weighttotals_fini(&p);
        w[0] = NAN;
        w[rows * in - 1] = INFINITY;
        o = collect_weight(w, rows, in, shape[i][2], 2);
        assert_true(o.bad && !o.err8);
        assert_string_equal(o.bad_text, rows * in > 1 ? "NaN first at row 0 column 0" : "Inf first at row 0 column 0");
        weighttotals_fini(&o);
        free(w);
        free(e8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(totals_match_the_definitions), cmocka_unit_test(edges_are_defined),
        cmocka_unit_test(bad_values_are_located),       cmocka_unit_test(missing_rows_are_an_error),
        cmocka_unit_test(weight_sums_match_the_definition),
    };
    return cmocka_run_group_tests_name("stat", tests, NULL, NULL);
}
