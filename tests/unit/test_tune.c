/* Predictions, allocation and search, held against what was measured on a real model (tests/golden/tune) and against
 * properties. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/rng.h"
#include "io/json.h"
#include "tune/search.h"

enum { N = 120, MASKS = 512 };

/* One scheme of the study: a level 1 beside float. */
typedef struct Study {
    double alone[2 * N], block[2 * N], truth[N], all, all_ppl, ppl_float;
    int64_t bytes[2 * N];
    int n;
    int16_t set[MASKS][N];
    double kl[MASKS], ppl[MASKS]; /* ln(ppl / float) */
    bool random[MASKS];
} Study;

static void column(const cJSON *scheme, const char *key, double *out, int stride)
{
    const cJSON *list = json_get(scheme, key);
    assert_int_equal(cJSON_GetArraySize(list), N);
    for (int i = 0; i < N; i++)
        out[i * stride] = cJSON_GetArrayItem(list, i)->valuedouble;
}

static void read_mask(const char *hex, int16_t *set)
{
    size_t n = strlen(hex);
    for (int g = 0; g < N; g++) {
        size_t from_end = (size_t)(N - 1 - g);
        char digit[2] = {from_end / 4 < n ? hex[n - 1 - from_end / 4] : '0', 0};
        set[g] = (int16_t)(strtol(digit, NULL, 16) >> (from_end % 4) & 1);
    }
}

static bool is_random(const cJSON *scheme, const int16_t *set)
{
    const cJSON *list, *one;
    cJSON_ArrayForEach(list, json_get(scheme, "random"))
    {
        int16_t other[N];
        for (int g = 0; g < N; g++)
            other[g] = 1;
        cJSON_ArrayForEach(one, list) other[one->valueint] = 0;
        if (memcmp(other, set, sizeof other) == 0)
            return true;
    }
    return false;
}

static Study *study(const char *name)
{
    cJSON *root;
    Error err = {0};
    assert_int_equal(json_parse_file("tests/golden/tune/smollm2.json", 1 << 20, &root, &err), ST_OK);
    const cJSON *scheme = json_get(json_get(root, "schemes"), name), *m;
    Study *s = mem_zarray(1, sizeof *s);
    double cost[N];
    column(scheme, "one_only_calib_128", s->alone + 1, 2);
    column(scheme, "blockF_var", s->block + 1, 2);
    column(scheme, "one_only", s->truth, 1);
    column(scheme, "cost_bytes", cost, 1);
    s->ppl_float = json_get(root, "ppl_float")->valuedouble;
    s->all = cJSON_GetArrayItem(json_get(scheme, "all"), 0)->valuedouble;
    s->all_ppl = log(cJSON_GetArrayItem(json_get(scheme, "all"), 1)->valuedouble / s->ppl_float);
    for (int i = 0; i < N; i++)
        s->bytes[2 * i] = (int64_t)cost[i]; /* of float more than quantized, which take nothing here */
    cJSON_ArrayForEach(m, json_get(scheme, "measured"))
    {
        read_mask(cJSON_GetArrayItem(m, 0)->valuestring, s->set[s->n]);
        s->kl[s->n] = cJSON_GetArrayItem(m, 1)->valuedouble;
        s->ppl[s->n] = log(cJSON_GetArrayItem(m, 2)->valuedouble / s->ppl_float);
        s->random[s->n] = is_random(scheme, s->set[s->n]);
        s->n++;
    }
    cJSON_Delete(root);
    assert_true(s->n > 370);
    return s;
}

static int by_block_error(const void *a, const void *b)
{
    const double *const *x = a, *const *y = b;
    return compare_doubles(*y, *x);
}

/* The `top` groups of largest block_error, alone known for these only, as a session has it. */
static void hybrid(const Study *s, int top, double *v, int16_t *ten)
{
    const double *order[N];
    double alone[2 * N];
    for (int i = 0; i < 2 * N; i++)
        alone[i] = NAN;
    for (int i = 0; i < N; i++)
        order[i] = &s->block[2 * i + 1];
    qsort(order, N, sizeof *order, by_block_error);
    for (int i = 0; i < N; i++)
        ten[i] = 1;
    for (int i = 0; i < top; i++) {
        int64_t at = order[i] - s->block;
        alone[at] = s->alone[at];
        if (i < 10)
            ten[at / 2] = 0;
    }
    tune_weights(alone, NULL, s->block, N, 2, v);
}

static double sum_of(const double *v, const int16_t *set)
{
    double s = 0;
    for (int i = 0; i < N; i++)
        s += set[i] ? v[2 * i + 1] : 0;
    return s;
}

static int find_set(const Study *s, const int16_t *set)
{
    for (int i = 0; i < s->n; i++)
        if (memcmp(s->set[i], set, sizeof s->set[i]) == 0)
            return i;
    return -1;
}

static const int16_t *everything(void)
{
    static int16_t all[N];
    for (int i = 0; i < N; i++)
        all[i] = 1;
    return all;
}

/* The study's two points: everything quantized, and the ten largest block_error given back. */
static void two_points(const Study *s, const double *v, const int16_t *ten, TunePoint p[2])
{
    int i = find_set(s, ten);
    assert_true(i >= 0);
    p[0] = (TunePoint){.s = sum_of(v, everything()), .kl = s->all, .ppl = s->all_ppl, .set = everything()};
    p[1] = (TunePoint){.s = sum_of(v, ten), .kl = s->kl[i], .ppl = s->ppl[i], .set = ten};
}

static void median_p90(double *e, int n, double *median, double *p90)
{
    assert_true(n > 10);
    qsort(e, (size_t)n, sizeof *e, compare_doubles);
    *median = 0.5 * (e[(n - 1) / 2] + e[n / 2]);
    *p90 = e[n * 9 / 10];
}

/* Errors of the curve through two points over ranked or random sets. */
static void curve_errors(const char *scheme, TuneWhat what, bool random, double *median, double *p90)
{
    Study *s = study(scheme);
    double v[2 * N], e[MASKS];
    int16_t ten[N];
    TunePoint p[2];
    TuneCurve c;
    Error err = {0};
    hybrid(s, 20, v, ten);
    two_points(s, v, ten, p);
    assert_int_equal(tune_curve(&c, p, 2, what, -1, &err), ST_OK);
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->random[i] != random || memcmp(s->set[i], ten, sizeof ten) == 0)
            continue;
        double y = tune_curve_at(&c, sum_of(v, s->set[i])), is = what == TUNE_KL ? s->kl[i] : expm1(s->ppl[i]);
        e[n++] = fabs((what == TUNE_KL ? y : expm1(y)) / is - 1);
    }
    median_p90(e, n, median, p90);
    tune_curve_free(&c);
    free(s);
}

/* decisions of the study: hybrid20, piecewise linear, two points */
static void test_predicts_measured_sets(void **state)
{
    (void)state;
    static const struct {
        const char *scheme;
        TuneWhat what;
        bool random;
        double median, p90;
    } rows[] = {
        {"w8a8_static", TUNE_KL, false, .055, .125},  {"w8a8_static", TUNE_KL, true, .08, .13},
        {"w4a8_dynamic", TUNE_KL, false, .115, .15},  {"w4a8_dynamic", TUNE_KL, true, .06, .19},
        {"w8a8_static", TUNE_PPL, false, .14, .30},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double median, p90;
        curve_errors(rows[i].scheme, rows[i].what, rows[i].random, &median, &p90);
        print_message("# %s %s %s: median %.3f p90 %.3f\n", rows[i].scheme, rows[i].what == TUNE_KL ? "KL" : "perplexity",
                      rows[i].random ? "random" : "ranked", median, p90);
        assert_true(median <= rows[i].median && p90 <= rows[i].p90);
    }
}

static void test_predicts_steps(void **state)
{
    (void)state;
    Study *s = study("w8a8_static");
    double v[2 * N], *e = mem_array((size_t)s->n * (size_t)s->n, sizeof *e), median, p90;
    int16_t ten[N];
    int n = 0;
    Error err = {0};
    hybrid(s, 20, v, ten);
    for (int a = 0; a < s->n; a++)
        for (int b = 0; b < s->n; b++) {
            TunePoint p = {.s = sum_of(v, s->set[a]), .kl = s->kl[a], .set = s->set[a]};
            TuneRange r;
            assert_int_equal(tune_predict(&p, 1, TUNE_KL, s->set[b], N, sum_of(v, s->set[b]), &r, &err), ST_OK);
            if (r.step && a != b)
                e[n++] = fabs(r.value / s->kl[b] - 1);
        }
    median_p90(e, n, &median, &p90);
    print_message("# %d steps of 1 to 5 groups: median %.3f p90 %.3f\n", n, median, p90);
    assert_true(n > 500 && median <= .035 && p90 <= .13);
    free(e);
    free(s);
}

/* The ranges hold nine sets of ten, after one measurement, after two, and after five. */
static void test_ranges_hold(void **state)
{
    (void)state;
    Study *s = study("w8a8_static");
    double v[2 * N];
    int16_t ten[N];
    TunePoint p[5];
    Error err = {0};
    hybrid(s, 20, v, ten);
    two_points(s, v, ten, p);
    for (int k = 2; k < 5; k++)
        p[k] = (TunePoint){.s = sum_of(v, s->set[k * 70]), .kl = s->kl[k * 70], .set = s->set[k * 70]};
    static const struct {
        int points;
        double factor, least;
        bool rough;
    } rows[] = {{1, 1.5, .6, true}, {2, 1.15, .85, true}, {5, 0, .85, false}};
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        int in = 0, n = 0;
        for (int i = 0; i < s->n; i++) {
            TuneRange r;
            assert_int_equal(tune_predict(p, rows[k].points, TUNE_KL, s->set[i], N, sum_of(v, s->set[i]), &r, &err), ST_OK);
            assert_int_equal(r.measurements, rows[k].points);
            if (r.step)
                continue;
            assert_true(r.rough == rows[k].rough && (rows[k].factor == 0 || r.factor == rows[k].factor));
            n++;
            in += s->kl[i] >= r.low && s->kl[i] <= r.high;
        }
        print_message("# %d measured: %d of %d sets in the range\n", rows[k].points, in, n);
        assert_true(in >= rows[k].least * n);
    }
    TuneRange none;
    assert_int_equal(tune_predict(p, 0, TUNE_KL, ten, N, 1, &none, &err), ST_OK);
    assert_true(isnan(none.value) && none.measurements == 0);
    free(s);
}

static void test_weights(void **state)
{
    (void)state;
    /* three groups at float and two levels; level 2 has no value alone */
    const double alone[] = {NAN, .2, NAN, NAN, .9, NAN, NAN, NAN, NAN};
    const double block[] = {NAN, .1, .4, NAN, .3, .5, NAN, .2, NAN};
    double v[9];
    int64_t pairs;
    assert_float_equal(tune_scale(alone, block, 9, &pairs), 2.5, 1e-12);
    assert_int_equal(pairs, 2);
    tune_weights(alone, NULL, block, 3, 3, v);
    const double want[] = {0, .2, 1.0, 0, .9, 1.25, 0, .5};
    for (int i = 0; i < 8; i++)
        assert_float_equal(v[i], want[i], 1e-12);
    assert_true(isnan(v[8]));
    tune_weights((const double[]){NAN, NAN}, NULL, (const double[]){NAN, .3}, 1, 2, v);
    assert_float_equal(v[1], .3, 1e-12);
}

/* Standard normal values, always the same. */
static double normal(Rng *r)
{
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += rng_unit(r);
    return sum - 6;
}

/* What few tokens say is joined with what block_error says, each as far as it can be trusted. */
static void test_weights_blend(void **state)
{
    (void)state;
    enum { GROUPS = 400 };
    static double truth[GROUPS], alone[2 * GROUPS], error[2 * GROUPS], block[2 * GROUPS], v[2 * GROUPS], plain[2 * GROUPS];
    Rng rng = rng_of(11, 1);
    for (int i = 0; i < GROUPS; i++) {
        truth[i] = exp(3 * normal(&rng));
        double r = .2 + .2 * rng_unit(&rng);
        alone[2 * i + 1] = truth[i] * exp(r * normal(&rng));
        error[2 * i + 1] = r * alone[2 * i + 1];
        block[2 * i + 1] = truth[i] * exp(.3 * normal(&rng)) / 7;
        alone[2 * i] = block[2 * i] = error[2 * i] = NAN;
    }
    tune_weights(alone, error, block, GROUPS, 2, v);
    tune_weights(alone, NULL, block, GROUPS, 2, plain);
    double off = 0, off_plain = 0, off_block = 0;
    for (int i = 0; i < GROUPS; i++) {
        off += fabs(log(v[2 * i + 1] / truth[i]));
        off_plain += fabs(log(plain[2 * i + 1] / truth[i]));
        off_block += fabs(log(7 * block[2 * i + 1] / truth[i]));
        assert_true(plain[2 * i + 1] == alone[2 * i + 1]);
    }
    assert_true(off < .9 * off_plain && off < .9 * off_block);
    /* without an error, a pair, or enough of them: as it is */
    error[1] = NAN;
    block[3] = NAN;
    tune_weights(alone, error, block, GROUPS, 2, v);
    assert_true(v[1] == alone[1] && v[3] == alone[3] && v[5] != alone[5]);
    tune_weights(alone + 4, error + 4, block + 4, 7, 2, v);
    assert_true(v[1] == alone[5]);
}

static void test_curve(void **state)
{
    (void)state;
    const int16_t set[1] = {1};
    /* two equal sums, a fall, a NaN */
    const TunePoint p[] = {{4, 10, NAN, set}, {1, 2, .1, set}, {1, 4, .1, set}, {2, 1, .2, set}, {3, NAN, .3, set}};
    TuneCurve c;
    Error err = {0};
    assert_int_equal(tune_curve(&c, p, 5, TUNE_KL, -1, &err), ST_OK);
    assert_int_equal(c.n, 3);
    /* (1, 3) and (2, 1) are pooled to 2 */
    static const double at[][2] = {{0, 0}, {.5, 1}, {1, 2}, {1.5, 2}, {2, 2}, {3, 6}, {4, 10}, {5, 14}};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        assert_float_equal(tune_curve_at(&c, at[i][0]), at[i][1], 1e-12);
    assert_float_equal(tune_curve_inverse(&c, 1), .5, 1e-12);
    assert_float_equal(tune_curve_inverse(&c, 2), 2, 1e-12);
    assert_float_equal(tune_curve_inverse(&c, 12), 4.5, 1e-12);
    assert_float_equal(tune_curve_inverse(&c, -1), 0, 1e-12);
    tune_curve_free(&c);
    assert_int_equal(tune_curve(&c, p, 0, TUNE_KL, -1, &err), ST_OK);
    assert_true(isnan(tune_curve_at(&c, 1)) && isnan(tune_curve_inverse(&c, 1)));
    tune_curve_free(&c);
}

/* ---- allocation ---- */

enum { SMALL = 7, LEVELS = 3 };
typedef struct Small {
    double v[SMALL * LEVELS];
    int64_t bytes[SMALL * LEVELS];
    bool fixed[SMALL];
    int16_t set[SMALL];
    TuneTable t;
} Small;

static uint32_t turn(uint32_t *seed)
{
    return *seed = *seed * 1664525u + 1013904223u;
}

/* Float, 8 and 4 bits of groups of all sizes. */
static void small_table(Small *s, uint32_t *seed)
{
    *s = (Small){0};
    for (int g = 0; g < SMALL; g++) {
        int64_t size = 1 + turn(seed) % 50;
        double v = (turn(seed) >> 8) * 1e-6;
        s->bytes[g * LEVELS] = 4 * size;
        s->bytes[g * LEVELS + 1] = 2 * size + 1;
        s->bytes[g * LEVELS + 2] = turn(seed) % 5 ? size + 1 : -1;
        s->v[g * LEVELS + 1] = v;
        s->v[g * LEVELS + 2] = v * (1 + (turn(seed) >> 20) * 1e-2);
        s->fixed[g] = turn(seed) % 6 == 0;
        s->set[g] = (int16_t)(turn(seed) % 2);
    }
    s->t = (TuneTable){.n = SMALL, .levels = LEVELS, .v = s->v, .bytes = s->bytes, .fixed = s->fixed, .set = s->set};
}

/* Every set there is: the smallest sum within the wish, or the fewest bytes. */
static double brute(const Small *s, const TuneWish *wish)
{
    double best = INFINITY;
    int all = 1;
    for (int g = 0; g < SMALL; g++)
        all *= LEVELS;
    for (int code = 0; code < all; code++) {
        int16_t set[SMALL];
        bool fine = true;
        for (int g = 0, c = code; g < SMALL; g++, c /= LEVELS) {
            set[g] = (int16_t)(c % LEVELS);
            fine &= s->fixed[g] ? set[g] == s->set[g] : s->bytes[g * LEVELS + set[g]] >= 0;
        }
        double sum;
        int64_t bytes;
        tune_sums(&s->t, set, &sum, &bytes);
        if (fine && bytes <= wish->bytes && sum <= wish->s)
            best = fmin(best, wish->bytes < INT64_MAX ? sum : (double)bytes);
    }
    return best;
}

static void check_wish_of(const Small *s, const TunePath *p, const TuneWish *wish)
{
    int16_t exact[SMALL], greedy[SMALL];
    Error err = {0};
    double se, sg;
    int64_t be, bg;
    assert_int_equal(tune_allocate(&s->t, p, wish, exact, &err), ST_OK);
    tune_sums(&s->t, exact, &se, &be);
    assert_true(be <= wish->bytes && se <= wish->s);
    for (int g = 0; g < SMALL; g++)
        assert_true(!s->fixed[g] || exact[g] == s->set[g]);
    double best = brute(s, wish), got = wish->bytes < INT64_MAX ? se : (double)be;
    assert_float_equal(got, best, 1e-9 * (1 + best)); /* bytes this few are units of their own */
    if (tune_greedy(&s->t, p, wish, greedy, &err) == ST_OK) {
        tune_sums(&s->t, greedy, &sg, &bg);
        assert_true(bg <= wish->bytes && sg <= wish->s);
        assert_true(wish->bytes < INT64_MAX ? se <= sg : be <= bg);
    }
}

static void test_allocation_is_exact(void **state)
{
    (void)state;
    uint32_t seed = 42;
    for (int round = 0; round < 60; round++) {
        Small s;
        TunePath p;
        Error err = {0};
        small_table(&s, &seed);
        assert_int_equal(tune_path(&p, &s.t, &err), ST_OK);
        for (int k = 0; k <= 4; k++) {
            check_wish_of(&s, &p, &(TuneWish){.bytes = p.bytes0 + (p.bytes1 - p.bytes0) * k / 4, .s = INFINITY});
            check_wish_of(&s, &p, &(TuneWish){.bytes = INT64_MAX, .s = p.s1 + (p.s0 - p.s1) * k / 4});
        }
        tune_path_free(&p);
    }
}

/* A prefix more is more bytes and a smaller sum; rates fall. */
static void test_path_is_monotone(void **state)
{
    (void)state;
    uint32_t seed = 3;
    Small s;
    TunePath p;
    Error err = {0};
    int16_t set[SMALL];
    small_table(&s, &seed);
    assert_int_equal(tune_path(&p, &s.t, &err), ST_OK);
    assert_true(p.nmoves > SMALL);
    for (int64_t k = 0; k <= p.nmoves; k++) {
        double sum, again;
        int64_t bytes, taken;
        tune_path_set(&p, k, set, &sum, &bytes);
        tune_sums(&s.t, set, &again, &taken);
        assert_float_equal(sum, again, 1e-9);
        assert_int_equal(bytes, taken);
        assert_int_equal(tune_path_fit(&p, bytes), k);
        assert_true(tune_path_reach(&p, sum + 1e-9) <= k);
        assert_true(k < 2 || p.move[k - 1].v / (double)p.move[k - 1].bytes <= p.move[k - 2].v / (double)p.move[k - 2].bytes);
    }
    assert_int_equal(tune_path_reach(&p, -1), p.nmoves + 1);
    tune_path_free(&p);
}

static void test_refuses_what_cannot_be(void **state)
{
    (void)state;
    Study *s = study("w8a8_static");
    double v[2 * N];
    int16_t ten[N], set[N];
    TunePath p;
    Error err = {0};
    hybrid(s, 20, v, ten);
    const TuneTable t = {.n = N, .levels = 2, .v = v, .bytes = s->bytes, .set = everything()};
    assert_int_equal(tune_path(&p, &t, &err), ST_OK);
    assert_int_equal(tune_allocate(&t, &p, &(TuneWish){.bytes = -5, .s = INFINITY}, set, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "0.00 to 104.92 MB"));
    assert_int_equal(tune_allocate(&t, &p, &(TuneWish){.bytes = INT64_MAX, .s = -1}, set, &err), ST_USAGE);
    tune_path_free(&p);
    free(s);
}

/* 120 groups of a real model: never worse than greedy, and no more than N units of bytes away from what is best. */
static void test_real_allocation(void **state)
{
    (void)state;
    Study *a = study("w8a8_static"), *b = study("w4a8_dynamic");
    double v[3 * N];
    int64_t bytes[3 * N];
    for (int g = 0; g < N; g++) { /* float, 8 bits, 4 bits */
        bytes[3 * g] = a->bytes[2 * g];
        bytes[3 * g + 1] = 0;
        bytes[3 * g + 2] = -(b->bytes[2 * g] - a->bytes[2 * g]);
        v[3 * g] = 0;
        v[3 * g + 1] = a->alone[2 * g + 1];
        v[3 * g + 2] = b->alone[2 * g + 1];
        for (int k = 0; k < 3; k++)
            bytes[3 * g + k] += 1 << 20;
    }
    const TuneTable t = {.n = N, .levels = 3, .v = v, .bytes = bytes, .set = everything()};
    TunePath p;
    Error err = {0};
    assert_int_equal(tune_path(&p, &t, &err), ST_OK);
    assert_true(p.nmoves > N);
    double before = INFINITY;
    for (int k = 1; k < 10; k++) {
        const TuneWish wish = {.bytes = p.bytes0 + (p.bytes1 - p.bytes0) * k / 20, .s = INFINITY};
        int16_t exact[N], greedy[N];
        double se, sg;
        int64_t be, bg;
        assert_int_equal(tune_allocate(&t, &p, &wish, exact, &err), ST_OK);
        assert_int_equal(tune_greedy(&t, &p, &wish, greedy, &err), ST_OK);
        tune_sums(&t, exact, &se, &be);
        tune_sums(&t, greedy, &sg, &bg);
        assert_true(be <= wish.bytes && se <= sg && se <= before);
        /* the hull below: no set of so many bytes is better than the path's next point */
        double s1, s0;
        int64_t at = tune_path_fit(&p, wish.bytes), b0, b1;
        tune_path_set(&p, at, greedy, &s0, &b0);
        tune_path_set(&p, at + 1, greedy, &s1, &b1);
        assert_true(se >= s1 - 1e-12);
        before = se;
    }
    assert_in_range(tune_knee(&p), 1, p.nmoves - 1);
    tune_path_free(&p);
    free(a);
    free(b);
}

/* ---- search ---- */

/* A measurement: the study's own, where it has that set, else what the true values alone foretell (sum of one_only on the
 * line through the study's two points). */
typedef struct Replay {
    const Study *s;
    double v[2 * N];
    TunePoint two[2];
    int real;
} Replay;

static double replay(Replay *r, const int16_t *set)
{
    int i = find_set(r->s, set);
    if (memcmp(set, everything(), N * sizeof *set) == 0 || i >= 0) {
        r->real++;
        return i >= 0 ? r->s->kl[i] : r->s->all;
    }
    TuneCurve c;
    Error err = {0};
    assert_int_equal(tune_curve(&c, r->two, 2, TUNE_KL, -1, &err), ST_OK);
    double kl = tune_curve_at(&c, sum_of(r->v, set));
    tune_curve_free(&c);
    return kl;
}

static void replay_init(Replay *r, const Study *s, const int16_t *ten)
{
    *r = (Replay){.s = s};
    for (int i = 0; i < N; i++)
        r->v[2 * i + 1] = s->truth[i];
    two_points(s, r->v, ten, r->two);
}

/* Searches to the end; results as they come. Returns how many were measured. */
static int search(const TuneTable *t, const TuneGoal *goal, Replay *m, TuneResult *r, int16_t (*sets)[N], TuneNext *next)
{
    TunePath p;
    Error err = {0};
    int n = 0;
    assert_int_equal(tune_path(&p, t, &err), ST_OK);
    for (;;) {
        assert_true(n < 20);
        assert_int_equal(tune_next(t, &p, goal, r, n, sets[n], NULL, next, &err), ST_OK);
        if (next->stage == TUNE_DONE)
            break;
        assert_int_equal(next->tries, n);
        r[n] = (TuneResult){.point = {.kl = replay(m, sets[n]), .ppl = NAN, .set = sets[n]}};
        tune_sums(t, sets[n], &r[n].point.s, &r[n].bytes);
        n++;
    }
    tune_path_free(&p);
    return n;
}

static void test_search_replayed(void **state)
{
    (void)state;
    static const struct {
        const char *scheme;
        double goal, mb;
    } rows[] = {{"w8a8_static", .2, 6.2}, {"w8a8_static", .1, 8.4}, {"w8a8_static", .05, 18.5}, {"w4a8_dynamic", .5, 30}};
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        Study *s = study(rows[k].scheme);
        double v[2 * N];
        int16_t ten[N], sets[21][N];
        Replay m;
        TuneResult r[20];
        TuneNext next;
        hybrid(s, 20, v, ten);
        replay_init(&m, s, ten);
        const TuneTable t = {.n = N, .levels = 2, .v = v, .bytes = s->bytes, .set = everything()};
        int n = search(&t, &(TuneGoal){.at_most = rows[k].goal, .bytes = INT64_MAX}, &m, r, sets, &next);
        assert_true(next.best >= 0 && r[next.best].point.kl <= rows[k].goal);
        print_message("# %s KL %g: %.2f MB, KL %.4f, %d measurements, %d of them the study's\n", rows[k].scheme, rows[k].goal,
                      (double)r[next.best].bytes / 1e6, r[next.best].point.kl, n, m.real);
        assert_true(n <= 8 && (double)r[next.best].bytes / 1e6 <= rows[k].mb);
        free(s);
    }
}

/* After a stop, with the results in any order and some that someone else measured, it goes on from them alone. */
static void test_search_goes_on(void **state)
{
    (void)state;
    Study *s = study("w8a8_static");
    double v[2 * N];
    int16_t ten[N], sets[21][N], set[N];
    Replay m;
    TuneResult r[20], again[21];
    bool used[21];
    TuneNext next;
    TunePath p;
    Error err = {0};
    hybrid(s, 20, v, ten);
    replay_init(&m, s, ten);
    const TuneTable t = {.n = N, .levels = 2, .v = v, .bytes = s->bytes, .set = everything()};
    const TuneGoal goal = {.at_most = .1, .bytes = INT64_MAX};
    int n = search(&t, &goal, &m, r, sets, &next);
    for (int i = 0; i < n; i++)
        again[i] = r[n - 1 - i];
    assert_int_equal(tune_path(&p, &t, &err), ST_OK);
    TuneNext end;
    assert_int_equal(tune_next(&t, &p, &goal, again, n, set, used, &end, &err), ST_OK);
    assert_int_equal(end.stage, TUNE_DONE);
    assert_int_equal(end.best, n - 1 - next.best);
    for (int i = 0; i < n; i++)
        assert_true(used[i]);
    for (int k = 0; k < n; k++) { /* stopped after each */
        assert_int_equal(tune_next(&t, &p, &goal, r, k, set, NULL, &end, &err), ST_OK);
        assert_memory_equal(set, sets[k], sizeof set);
        assert_true(k == 0 || end.predicted.value > 0);
    }
    tune_path_free(&p);
    free(s);
}

/* What a group is taken back for holds by more than its error, else it stays. */
static void test_search_heeds_errors(void **state)
{
    (void)state;
    Study *s = study("w8a8_static");
    double v[2 * N], errors[20];
    int16_t ten[N], sets[21][N], set[N];
    Replay m;
    TuneResult r[20];
    TuneNext next, end;
    TunePath p;
    Error err = {0};
    hybrid(s, 20, v, ten);
    replay_init(&m, s, ten);
    const TuneTable t = {.n = N, .levels = 2, .v = v, .bytes = s->bytes, .set = everything()};
    int dearer = 0;
    assert_int_equal(tune_path(&p, &t, &err), ST_OK);
    for (int k = 1; k < 30; k++) {
        const TuneGoal goal = {.at_most = .01 * k, .bytes = INT64_MAX};
        int n = search(&t, &goal, &m, r, sets, &next);
        for (int i = 0; i < n; i++) {
            errors[i] = .1;
            r[i].error = errors;
        }
        assert_int_equal(tune_next(&t, &p, &goal, r, n, set, NULL, &end, &err), ST_OK);
        assert_true(end.best >= 0 && r[end.best].bytes >= r[next.best].bytes);
        dearer += r[end.best].bytes > r[next.best].bytes;
    }
    assert_true(dearer > 3);
    tune_path_free(&p);
    free(s);
}

/* Nothing to give back; a target that is out of reach; a budget of bytes. */
static void test_search_ends(void **state)
{
    (void)state;
    Study *s = study("w8a8_static");
    double v[2 * N];
    int16_t ten[N], sets[21][N];
    Replay m;
    TuneResult r[20];
    TuneNext next;
    hybrid(s, 20, v, ten);
    replay_init(&m, s, ten);
    TuneTable t = {.n = N, .levels = 2, .v = v, .bytes = s->bytes, .set = everything()};
    assert_int_equal(search(&t, &(TuneGoal){.at_most = 1, .bytes = INT64_MAX}, &m, r, sets, &next), 1);
    assert_int_equal(next.best, 0);
    bool fixed[N];
    for (int g = 0; g < N; g++)
        fixed[g] = g % 4 == 3; /* every down_proj stays quantized */
    t.fixed = fixed;
    int n = search(&t, &(TuneGoal){.at_most = .1, .bytes = INT64_MAX}, &m, r, sets, &next);
    assert_true(n >= 2 && n < 12);
    assert_int_equal(next.best, -1);
    t.fixed = NULL;
    n = search(&t, &(TuneGoal){.bytes = 10000000}, &m, r, sets, &next);
    assert_true(n >= 1 && n <= 2 && next.best >= 0 && r[next.best].bytes <= 10000000);
    assert_true(r[next.best].point.kl < .09);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_weights_blend),
        cmocka_unit_test(test_curve),
        cmocka_unit_test(test_predicts_measured_sets),
        cmocka_unit_test(test_predicts_steps),
        cmocka_unit_test(test_ranges_hold),
        cmocka_unit_test(test_allocation_is_exact),
        cmocka_unit_test(test_path_is_monotone),
        cmocka_unit_test(test_refuses_what_cannot_be),
        cmocka_unit_test(test_real_allocation),
        cmocka_unit_test(test_search_replayed),
        cmocka_unit_test(test_search_goes_on),
        cmocka_unit_test(test_search_heeds_errors),
        cmocka_unit_test(test_search_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
