#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/convert.h"
#include "math/gemm.h"
#include "math/kernels.h"

enum { MOST = 300 };

static uint32_t next(uint32_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 17;
    *s ^= *s << 5;
    return *s;
}

static float uniform(uint32_t *s, float lo, float hi)
{
    return lo + (hi - lo) * (float)(next(s) >> 8) / 16777216.0f;
}

/* Ordinary numbers with zeros, denormals, huge values, infinities and NaN strewn in. */
static float nasty(uint32_t *s)
{
    static const float odd[] = {0.0f, -0.0f, 1e-40f, -3e-45f, 1e38f, -3.4e38f, INFINITY, -INFINITY, NAN, 65504.0f,
                                65520.0f, 6e-8f, -2.98e-8f, 1.0f, 3.3895314e38f};
    uint32_t r = next(s) % 40;
    return r < sizeof odd / sizeof *odd ? odd[r] : uniform(s, -8, 8);
}

static int same(float a, float b)
{
    return (isnan(a) && isnan(b)) || bits_of_float(a) == bits_of_float(b);
}

/* SLIMSCOPE_KERNELS holds for every choice of a form; a name that cannot be is refused at the start and otherwise none. */
static void levels_follow_the_environment(void **state)
{
    (void)state;
    static const char name[] = "SLIMSCOPE_KERNELS";
    Error err = {0};
    char *own = getenv(name) ? strdup(getenv(name)) : NULL;
    unsetenv(name);
    MathLevel best = math_level();
    for (MathLevel l = MATH_REFERENCE; l < MATH_LEVELS; l++) {
        setenv(name, math_level_name(l), 1);
        bool runs = math_level_runs(l);
        assert_true(runs ? l <= best : l != best);
        assert_int_equal(math_level(), runs ? l : best);
        assert_int_equal(math_check(&err), runs ? ST_OK : ST_USAGE);
        assert_true((math_table(l) != NULL) == runs);
        assert_ptr_equal(math_fast(), math_table(runs ? l : best));
        assert_true(!runs || !math_cpu_has(CPU_AVX2_FMA) || l >= MATH_AVX2);
        assert_true(!runs || !math_cpu_has(CPU_AVX512_BF16) || l >= MATH_AVX512BF16);
        assert_true(!runs || l < MATH_AVX512 || (math_cpu_has(CPU_AVX2_FMA) && math_cpu_has(CPU_AVX512)));
    }
    setenv(name, "avx3", 1);
    assert_int_equal(math_check(&err), ST_USAGE);
    assert_non_null(strstr(err.text, "there are no kernels 'avx3'"));
    assert_int_equal(math_level(), best);
    setenv(name, "", 1);
    assert_int_equal(math_check(&err), ST_OK);
    assert_int_equal(math_level(), best);
    if (own)
        setenv(name, own, 1);
    else
        unsetenv(name);
    free(own);
}

static void widening_every_16_bit_value(void **state)
{
    (void)state;
    uint16_t *all = malloc(65536 * sizeof *all);
    float *a = malloc(65536 * sizeof *a), *b = malloc(65536 * sizeof *b);
    for (int i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    for (int v = MATH_GENERIC; v < MATH_LEVELS; v++) {
        const MathKernels *k = math_table((MathLevel)v), *ref = math_table(MATH_REFERENCE);
        if (!k)
            continue;
        k->widen_bf16(all, 65536, a);
        ref->widen_bf16(all, 65536, b);
        assert_memory_equal(a, b, 65536 * sizeof *a);
        k->widen_f16(all, 65536, a);
        ref->widen_f16(all, 65536, b);
        assert_memory_equal(a, b, 65536 * sizeof *a);
        /* what was widened comes back, whatever the alignment and the length of the tail */
        for (int i = 0; i < 65536; i++) {
            assert_true(isnan(a[i]) || f16_of_float(a[i]) == i);
            assert_true((i & 0x7fff) > 0x7f80 || bf16_of_float(bf16_to_float((uint16_t)i)) == i);
        }
        for (int n = 0; n < 70; n++) {
            k->widen_bf16(all + 16200 + n, n, a + 1);
            ref->widen_bf16(all + 16200 + n, n, b + 1);
            assert_memory_equal(a + 1, b + 1, (size_t)n * sizeof *a);
        }
    }
    assert_true(f16_to_float(0x0001) == 0x1p-24f && f16_to_float(0x7bff) == 65504.0f &&
                f16_to_float(0xfc00) == -INFINITY);
    free(all);
    free(a);
    free(b);
}

/* Nearest of the two neighbours by definition: found from the exact distance, not by bit tricks. */
static void rounding_is_to_the_nearest_even(void **state)
{
    (void)state;
    uint32_t s = 7;
    for (int i = 0; i < 200000; i++) {
        float x = i < 1000 ? nasty(&s) : float_of_bits(next(&s));
        if (isnan(x)) {
            assert_true(isnan(bf16_to_float(bf16_of_float(x))) && isnan(f16_to_float(f16_of_float(x))));
            continue;
        }
        uint16_t lo = (uint16_t)(bits_of_float(x) >> 16);
        double a = (double)bf16_to_float(lo), b = (double)bf16_to_float((uint16_t)(lo + 1));
        if ((lo & 0x7fff) == 0x7f7f)
            b = copysign(0x1p128, (double)x);
        if (!isinf(x)) {
            double da = fabs((double)x - a), db = fabs((double)x - b);
            uint16_t want = da < db || (da == db && !(lo & 1)) ? lo : (uint16_t)(lo + 1);
            assert_int_equal(bf16_of_float(x), want);
        }
        double y = fabs((double)x), step = y < 0x1p-14 ? 0x1p-24 : ldexp(1, ilogb(y) - 10);
        double r = isinf(x) || nearbyint(y / step) * step >= 65520 ? (double)INFINITY : nearbyint(y / step) * step;
        r = r > 65504 ? (double)INFINITY : r;
        assert_true((double)f16_to_float(f16_of_float(x)) == copysign(r, (double)x));
    }
    float x[MOST], y[MOST];
    for (int v = MATH_GENERIC; v < MATH_LEVELS; v++)
        for (int round = 0; round < 200 && math_table((MathLevel)v); round++) {
            int n = (int)(next(&s) % MOST);
            for (int i = 0; i < n; i++)
                x[i] = y[i] = round & 1 ? nasty(&s) : float_of_bits(next(&s));
            math_table((MathLevel)v)->round_bf16(x, n);
            math_table(MATH_REFERENCE)->round_bf16(y, n);
            for (int i = 0; i < n; i++)
                assert_true(same(x[i], y[i]));
            math_table((MathLevel)v)->round_f16(x, n);
            math_table(MATH_REFERENCE)->round_f16(y, n);
            for (int i = 0; i < n; i++)
                assert_true(same(x[i], y[i]));
        }
}

static void elementwise_kernels_give_the_reference_bits(void **state)
{
    (void)state;
    uint32_t s = 11;
    float a[MOST], b[MOST], c[MOST], d[MOST], x[MOST], y[MOST];
    const MathKernels *ref = math_table(MATH_REFERENCE);
    for (int v = MATH_GENERIC; v < MATH_LEVELS; v++) {
        const MathKernels *k = math_table((MathLevel)v);
        for (int round = 0; round < 400 && k; round++) {
            int n = (int)(next(&s) % (MOST - 1));
            for (int i = 0; i < n; i++) {
                a[i] = nasty(&s);
                b[i] = nasty(&s);
                c[i] = uniform(&s, -1, 1);
                d[i] = uniform(&s, -1, 1);
            }
            k->add(a, b, x, n);
            ref->add(a, b, y, n);
            for (int i = 0; i < n; i++)
                assert_true(same(x[i], y[i]));
            k->mul(a, b, x, n);
            ref->mul(a, b, y, n);
            for (int i = 0; i < n; i++)
                assert_true(same(x[i], y[i]));
            k->scale(a, 0.37f, x, n);
            ref->scale(a, 0.37f, y, n);
            for (int i = 0; i < n; i++)
                assert_true(same(x[i], y[i]));
            double p = k->sum_sq(c, n), q = ref->sum_sq(c, n);
            assert_memory_equal(&p, &q, sizeof p);
            float e[MOST], f[MOST];
            memcpy(x, a, sizeof x);
            memcpy(e, b, sizeof e);
            memcpy(y, a, sizeof y);
            memcpy(f, b, sizeof f);
            k->rope(x, e, c, d, n);
            ref->rope(y, f, c, d, n);
            for (int i = 0; i < n; i++)
                assert_true(same(x[i], y[i]) && same(e[i], f[i]));
        }
    }
}

/* Also with what a broken checkpoint brings: the states go through several tokens. */
static void delta_steps_give_the_reference_bits(void **state)
{
    (void)state;
    enum { KEYS = 37 };
    static float a[KEYS * DELTA_COLS], b[KEYS * DELTA_COLS];
    uint32_t s = 5;
    const MathKernels *ref = math_table(MATH_REFERENCE);
    for (int v = MATH_GENERIC; v < MATH_LEVELS; v++)
        for (int round = 0; round < 60 && math_table((MathLevel)v); round++) {
            int keys = (int)(next(&s) % (KEYS + 1));
            memset(a, 0, sizeof a);
            memset(b, 0, sizeof b);
            for (int t = 0; t < 4; t++) {
                float k[KEYS], q[KEYS], in[DELTA_COLS], x[DELTA_COLS], y[DELTA_COLS];
                for (int i = 0; i < KEYS; i++) {
                    k[i] = round % 3 ? uniform(&s, -1, 1) : nasty(&s);
                    q[i] = round % 3 ? uniform(&s, -1, 1) : nasty(&s);
                }
                for (int j = 0; j < DELTA_COLS; j++)
                    in[j] = uniform(&s, -4, 4);
                float decay = uniform(&s, 0, 1), beta = uniform(&s, 0, 1);
                math_table((MathLevel)v)->delta_step(a, keys, k, q, in, decay, beta, x);
                ref->delta_step(b, keys, k, q, in, decay, beta, y);
                for (int j = 0; j < DELTA_COLS; j++)
                    assert_true(same(x[j], y[j]));
                for (int i = 0; i < keys * DELTA_COLS; i++)
                    assert_true(same(a[i], b[i]));
            }
        }
}

/* ---- functions: the same bits in every table, and close to the truth in the reference ---- */

/* In place, of one array, or of one with another beside it. */
typedef struct Func {
    const char *name;
    void (*one)(const MathKernels *k, float *x, int64_t n);
    void (*two)(const MathKernels *k, float *x, const float *u, int64_t n);
} Func;

static void do_exp(const MathKernels *k, float *x, int64_t n)
{
    k->exp(x, n);
}

static void do_sigmoid(const MathKernels *k, float *x, int64_t n)
{
    k->sigmoid(x, n);
}

static void do_tanh(const MathKernels *k, float *x, int64_t n)
{
    k->tanh(x, n);
}

static void do_softmax(const MathKernels *k, float *x, int64_t n)
{
    if (n > 0)
        k->softmax(x, n);
}

/* Scores and their greatest, the sum in the place of the first exponential. */
static void do_exp_sum(const MathKernels *k, float *x, int64_t n)
{
    float max = k->max(x, n);
    double sum = k->exp_sum(x, n, max, 0.25);
    sum = isnan(sum) ? (double)NAN : sum;
    if (n > 1)
        memcpy(x, &sum, sizeof sum);
    else
        assert_true(n == 1 || (sum == 0.25 && max == -INFINITY));
}

static void do_max(const MathKernels *k, float *x, int64_t n)
{
    float max = k->max(x, n);
    if (n > 0)
        x[0] = max;
}

static void do_silu_mul(const MathKernels *k, float *x, const float *u, int64_t n)
{
    k->silu_mul(x, u, n);
}

static void do_gelu_mul(const MathKernels *k, float *x, const float *u, int64_t n)
{
    k->gelu_tanh_mul(x, u, n);
}

static void do_scale_mul(const MathKernels *k, float *x, const float *u, int64_t n)
{
    k->scale_mul(x, 0.37f, u, x, n);
}

static const Func funcs[] = {
    {.name = "exp", .one = do_exp},           {.name = "sigmoid", .one = do_sigmoid},
    {.name = "tanh", .one = do_tanh},         {.name = "softmax", .one = do_softmax},
    {.name = "exp_sum", .one = do_exp_sum},   {.name = "max", .one = do_max},
    {.name = "silu_mul", .two = do_silu_mul}, {.name = "gelu_tanh_mul", .two = do_gelu_mul},
    {.name = "scale_mul", .two = do_scale_mul},
};
enum { FUNCS = sizeof funcs / sizeof *funcs, LONG = 1200 };

/* n values of x (and u) at an odd place, through table k; what lies around them must stay. */
static void apply(const Func *f, const MathKernels *k, const float *x, const float *u, int64_t n, float *out)
{
    float room[LONG + 4], beside[LONG + 4];
    memset(room, 0x5a, sizeof room);
    memcpy(room + 1, x, (size_t)n * sizeof *x);
    memcpy(beside + 3, u, (size_t)n * sizeof *u);
    if (f->one)
        f->one(k, room + 1, n);
    else
        f->two(k, room + 1, beside + 3, n);
    assert_true(bits_of_float(room[0]) == 0x5a5a5a5a && bits_of_float(room[n + 1]) == 0x5a5a5a5a);
    memcpy(out, room + 1, (size_t)n * sizeof *out);
}

static void compare(const MathKernels *k, const float *x, const float *u, int64_t n)
{
    float got[LONG], want[LONG];
    for (int f = 0; f < FUNCS; f++) {
        apply(&funcs[f], math_table(MATH_REFERENCE), x, u, n, want);
        apply(&funcs[f], k, x, u, n, got);
        for (int64_t i = 0; i < n; i++)
            if (!same(got[i], want[i]))
                fail_msg("%s: %s of %d values: %.9g of %.9g, not %.9g", k->name, funcs[f].name, (int)n, (double)got[i],
                         (double)x[i], (double)want[i]);
    }
}

/* Every length of a tail, several blocks of a sum, all special values, and many bit patterns. */
static void functions_give_the_reference_bits(void **state)
{
    (void)state;
    float x[LONG], u[LONG];
    for (int v = MATH_GENERIC; v < MATH_LEVELS; v++) {
        const MathKernels *k = math_table((MathLevel)v);
        uint32_t s = 29;
        for (int round = 0; round < 4 * 71 + 60 && k; round++) {
            int64_t n = round < 4 * 71 ? round / 4 : (int64_t)(next(&s) % (LONG + 1));
            for (int64_t i = 0; i < n; i++) {
                uint32_t pattern = next(&s);
                x[i] = round % 4 == 0   ? nasty(&s)
                       : round % 4 == 1 ? float_of_bits(pattern)
                                        : uniform(&s, round % 4 == 2 ? -4 : -110, round % 4 == 2 ? 4 : 92);
                u[i] = round % 4 ? uniform(&s, -2, 2) : nasty(&s);
            }
            compare(k, x, u, n);
        }
        /* an infinity alone, masked scores, nothing but masked scores, zeros of both signs */
        for (int n = 1; n < 40 && k; n++)
            for (int kind = 0; kind < 4; kind++) {
                for (int i = 0; i < n; i++)
                    x[i] = u[i] = kind == 3 ? (i & 1 ? -0.0f : 0.0f) : kind == 2 || i & 1 ? -INFINITY : (float)i;
                if (kind == 0)
                    x[n / 2] = INFINITY;
                compare(k, x, u, n);
            }
    }
}

static double true_silu(double x)
{
    return x / (1 + exp(-x));
}

static double true_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double true_gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

/* Error of got against want: relative, below `least` of that. */
static double error_of(float got, double want, double least)
{
    if (isnan(want) || isinf((float)want))
        return isnan(got) == isnan(want) && (isnan(got) || got == (float)want) ? 0 : 1e9;
    return fabs((double)got - want) / fmax(fabs(want), least);
}

/* Of the gates' tails only the absolute error is small: there they are as good as zero. */
static void functions_hold_their_bounds(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double (*truth)(double);
        double lo, hi, least, bound;
    } rows[] = {{"exp", exp, -110, 92, 0x1p-126, 1.2e-7},
                {"sigmoid", true_sigmoid, -87, 30, 0x1p-126, 2.5e-7},
                {"tanh", tanh, -12, 12, 0x1p-126, 2.5e-7},
                {"silu_mul", true_silu, -87, 30, 1e-30, 2.5e-7},
                {"gelu_tanh_mul", true_gelu, -8, 8, 1, 2.5e-7}};
    const MathKernels *tables[] = {math_table(MATH_REFERENCE), math_libm()};
    uint32_t s = 3;
    for (int r = 0; r < (int)(sizeof rows / sizeof *rows); r++)
        for (int t = 0; t < 2; t++) {
            const Func *f = funcs;
            while (strcmp(f->name, rows[r].name) != 0)
                f++;
            double worst = 0;
            for (int round = 0; round < 4000; round++) {
                float x[MOST], u[MOST], y[MOST];
                float part = round % 4 ? 1 : 0.01f; /* around zero more closely */
                for (int i = 0; i < MOST; i++) {
                    x[i] = uniform(&s, part * (float)rows[r].lo, part * (float)rows[r].hi);
                    u[i] = 1;
                }
                apply(f, tables[t], x, u, MOST, y);
                for (int i = 0; i < MOST; i++)
                    worst = fmax(worst, error_of(y[i], rows[r].truth((double)x[i]), rows[r].least));
            }
            print_message("%s: %s within %.2e\n", tables[t]->name, f->name, worst);
            assert_true(worst < (t ? 3e-7 : rows[r].bound));
        }
    float odd[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-40f}, y[6];
    for (int t = 0; t < 2; t++) {
        apply(&funcs[0], tables[t], odd, odd, 6, y);
        assert_true(isnan(y[0]) && y[1] == INFINITY && y[2] == 0 && y[3] == 1 && y[4] == 1 && y[5] == 1);
        apply(&funcs[2], tables[t], odd, odd, 6, y);
        assert_true(isnan(y[0]) && y[1] == 1 && y[2] == -1 && y[3] == 0 && signbit(y[4]) && y[5] == odd[5]);
    }
}

static void softmax_against_float64(void **state)
{
    (void)state;
    uint32_t s = 5;
    const MathKernels *tables[] = {math_table(MATH_REFERENCE), math_libm(), math_fast()};
    for (int t = 0; t < 3; t++) {
        const MathKernels *k = tables[t];
        double soft = 0, total = 0;
        float x[LONG], y[LONG];
        for (int round = 0; round < 1500; round++) {
            int n = 1 + (int)(next(&s) % (LONG - 1));
            float range = (float)(1 << (next(&s) % 8));
            for (int i = 0; i < n; i++)
                x[i] = uniform(&s, -range, range);
            if (n > 3 && round % 3 == 0)
                x[n / 2] = -INFINITY; /* a masked score */
            double max = -INFINITY, sum = 0;
            for (int i = 0; i < n; i++)
                max = fmax(max, (double)x[i]);
            for (int i = 0; i < n; i++)
                sum += exp((double)x[i] - max);
            memcpy(y, x, sizeof y);
            k->softmax(y, n);
            for (int i = 0; i < n; i++)
                soft = fmax(soft, fabs((double)y[i] - exp((double)x[i] - max) / sum));
            memcpy(y, x, sizeof y);
            total = fmax(total, fabs(k->exp_sum(y, n, (float)max, 0) / sum - 1));
        }
        print_message("%s: softmax within %.1e, its sum within %.1e (relative)\n", k->name, soft, total);
        assert_true(soft < 3e-7 && total < 3e-7);
        float bad[20] = {0};
        bad[17] = NAN;
        k->softmax(bad, 20); /* a NaN score spoils its row, in sight */
        for (int i = 0; i < 20; i++)
            assert_true(isnan(bad[i]));
        for (int i = 0; i < 20; i++)
            bad[i] = -INFINITY;
        k->softmax(bad, 20);
        for (int i = 0; i < 20; i++)
            assert_true(isnan(bad[i]));
        float one = 3;
        k->softmax(&one, 1);
        assert_true(one == 1);
    }
}

static void exact_products_are_the_plain_loop(void **state)
{
    (void)state;
    uint32_t s = 17;
    for (int round = 0; round < 60; round++) {
        int64_t m = 1 + next(&s) % 23, n = 1 + next(&s) % 37, k = 1 + next(&s) % 1300;
        int by_k = round & 1;
        float *x = malloc((size_t)(m * k) * sizeof *x), *w = malloc((size_t)(n * k) * sizeof *w),
            *bias = malloc((size_t)n * sizeof *bias);
        float *want = malloc((size_t)(m * n) * sizeof *want), *got = malloc((size_t)(m * n) * sizeof *got);
        void *scratch = malloc(gemm_exact.scratch(m, n, k));
        for (int64_t i = 0; i < m * k; i++)
            x[i] = uniform(&s, -1, 1);
        for (int64_t i = 0; i < n * k; i++)
            w[i] = uniform(&s, -1, 1);
        for (int64_t j = 0; j < n; j++)
            bias[j] = uniform(&s, -1, 1);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                double sum = 0;
                for (int64_t t = 0; t < k; t++)
                    sum += (double)x[i * k + t] * (double)(by_k ? w[t * n + j] : w[j * k + t]);
                want[i * n + j] = (float)(sum + (round % 3 ? (double)bias[j] : 0));
            }
        GemmArgs g = {.m = m, .n = n, .k = k, .x = x, .ldx = k, .w = w, .ldw = by_k ? n : k, .w_by_k = by_k, .y = got,
                      .ldy = n};
        for (int v = MATH_REFERENCE; v < MATH_LEVELS; v++) {
            const MathKernels *kern = math_table((MathLevel)v);
            if (!kern)
                continue;
            g.kern = kern;
            g.bias = round % 3 ? bias : NULL;
            gemm_exact.tile(&g, scratch);
            assert_memory_equal(got, want, (size_t)(m * n) * sizeof *got);
        }
        free(x);
        free(w);
        free(bias);
        free(want);
        free(got);
        free(scratch);
    }
}

/* Every row of the table: products of packed panels, parts of them, scaled and added, are those of the plain loop. */
static void every_gemm_multiplies_what_it_packed(void **state)
{
    (void)state;
    enum { M = 19, N = 45, K = 530, FIRST = 8, PART = 21 };
    uint32_t s = 5;
    float x[M * K], w[N * K], bias[N], want[M * N], got[M * N];
    uint16_t half[N * K];
    for (int i = 0; i < M * K; i++)
        x[i] = bf16_to_float(bf16_of_float(uniform(&s, -1, 1)));
    for (int i = 0; i < N * K; i++) {
        half[i] = bf16_of_float(uniform(&s, -1, 1));
        w[i] = bf16_to_float(half[i]);
    }
    for (int j = 0; j < N; j++)
        bias[j] = uniform(&s, -1, 1);
    for (int r = 0; gemm_table[r]; r++) {
        const GemmOps *ops = gemm_table[r];
        setenv("SLIMSCOPE_KERNELS", strcmp(ops->name, "openblas") == 0 ? ops->name : "", 1);
        if (!ops->runs())
            continue;
        assert_ptr_equal(gemm_find(ops->kind), ops);
        void *packed = aligned_alloc(64, (ops->packed_bytes(N, K) + 63) / 64 * 64);
        void *scratch = aligned_alloc(64, ops->scratch(M, N, K) + 64);
        assert_true(packed && scratch && ops->scratch(M, N, K) % 64 == 0 && ops->takes(DT_F32));
        for (int t = 0; t < 2; t++) {
            if (t == 1 && !ops->takes(DT_BF16))
                continue;
            ops->pack(t ? DT_BF16 : DT_F32, t ? (const void *)half : (const void *)w, N, K, K, packed);
            for (int i = 0; i < M * N; i++)
                got[i] = want[i] = uniform(&s, -1, 1);
            for (int i = 0; i < M; i++)
                for (int j = FIRST; j < FIRST + PART; j++) {
                    double sum = 0;
                    for (int k = 0; k < K; k++)
                        sum += (double)x[i * K + k] * (double)w[j * K + k];
                    want[i * N + j] = (float)(-0.5 * sum + 2 * (double)want[i * N + j] + (double)bias[j]);
                }
            GemmArgs g = {.m = M, .n = PART, .k = K, .x = x, .ldx = K, .packed = packed, .packed_n = N,
                          .packed_first = FIRST, .bias = bias + FIRST, .y = got + FIRST, .ldy = N, .alpha = -0.5f,
                          .beta = 2};
            ops->tile(&g, scratch);
            for (int i = 0; i < M * N; i++) {
                bool touched = i % N >= FIRST && i % N < FIRST + PART;
                assert_true(fabs((double)got[i] - (double)want[i]) <= (touched ? 1e-6 * K : 0));
            }
        }
        free(packed);
        free(scratch);
    }
    unsetenv("SLIMSCOPE_KERNELS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_follow_the_environment),
        cmocka_unit_test(widening_every_16_bit_value),
        cmocka_unit_test(rounding_is_to_the_nearest_even),
        cmocka_unit_test(elementwise_kernels_give_the_reference_bits),
        cmocka_unit_test(delta_steps_give_the_reference_bits),
        cmocka_unit_test(functions_give_the_reference_bits),
        cmocka_unit_test(functions_hold_their_bounds),
        cmocka_unit_test(softmax_against_float64),
        cmocka_unit_test(exact_products_are_the_plain_loop),
        cmocka_unit_test(every_gemm_multiplies_what_it_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
