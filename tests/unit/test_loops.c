#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/cpu.h"
#include "math/convert.h"
#include "qir/loops.h"

/* The quantizers' loops: every form gives the bytes of the generic one, whose values other tests compare with scalar
 * references. */

typedef struct Form {
    const char *name;
    const QuantLoops *loops;
} Form;

/* The i-th besides the generic one that runs here; a NULL name behind the last. */
static Form form(int i)
{
#if defined(__x86_64__)
    if (i == 0 && math_level_runs(MATH_AVX2))
        return (Form){"avx2", &quant_loops_avx2};
    if (i == 1 && math_level_runs(MATH_AVX512))
        return (Form){"avx512", &quant_loops_avx512};
#endif
    (void)i;
    return (Form){0};
}

enum { MOST = 150 };
static uint32_t seed = 9;

static uint32_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

/* Ordinary values of T, half way ones of scale 0.5, and what is odd. */
static float value(DType T, bool nasty)
{
    static const float odd[] = {0.0f, -0.0f, 1e-40f, -3e-45f, 1e38f, -3.4e38f, INFINITY, -INFINITY, NAN, 0.25f, -0.75f};
    uint32_t r = next() % 60;
    float v = ((float)(next() >> 8) / 8388608.0f - 1.0f) * (r & 1 ? 1.0f : 30.0f);
    if (nasty && r < sizeof odd / sizeof *odd)
        v = odd[r];
    else if (r < 20)
        v = (float)((int)(next() % 61) - 30) * 0.25f;
    if (T == DT_BF16)
        return bf16_to_float(bf16_of_float(v));
    return T == DT_F16 ? f16_to_float(f16_of_float(v)) : v;
}

static void same(const void *a, const void *b, size_t n, const char *name, const char *what, int64_t len, DType T)
{
    if (memcmp(a, b, n) != 0)
        fail_msg("%s: %s of %lld elements, dtype %d: other bytes than generic", name, what, (long long)len, (int)T);
}

/* Any NaN is one. */
static void quiet(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = isnan(x[i]) ? NAN : x[i];
}

typedef struct IntResult {
    int8_t q[MOST];
    float y[MOST], fake[MOST], codes[MOST], mn, mx;
    IntFit fit[2];
} IntResult;

static void run_int(const QuantLoops *k, const float *x, int64_t n, QParam p, int bits, DType T, IntResult *r)
{
    memset(r, 0, sizeof *r);
    k->quantize(x, n, p, bits, T, r->q);
    k->dequantize(r->q, n, p, T, r->y);
    k->fake(x, n, p, bits, T, r->fake);
    k->codes(x, n, p, bits, T, r->codes);
    k->range(x, n, &r->mn, &r->mx);
    k->fit(x, n, p.scale, bits, T, DT_F32, &r->fit[0]);
    k->fit(x, n, p.scale, bits, T, T, &r->fit[1]);
    quiet(r->y, MOST * 3 + 2);
    for (double *d = &r->fit[0].xq; d <= &r->fit[1].err; d++)
        *d = isnan(*d) ? (double)NAN : *d;
}

static const DType types[] = {DT_F32, DT_BF16, DT_F16};

static void integers(void **state)
{
    (void)state;
    static const QParam params[] = {{0.5f, 0}, {0.0371f, 0}, {0.11f, -37}, {1e-38f, 0}, {NAN, 0}, {0.0f, 3}};
    float x[MOST];
    IntResult want, got;
    int compared = 0;
    for (int64_t n = 1; n <= MOST; n += n < 40 ? 1 : 7)
        for (int t = 0; t < 3; t++)
            for (size_t p = 0; p < sizeof params / sizeof *params; p++)
                for (int bits = 4; bits <= 8; bits += 4) {
                    for (int64_t i = 0; i < n; i++)
                        x[i] = value(types[t], n % 2);
                    run_int(&quant_loops_generic, x, n, params[p], bits, types[t], &want);
                    for (int f = 0; form(f).name; f++, compared++) {
                        run_int(form(f).loops, x, n, params[p], bits, types[t], &got);
                        same(&got, &want, sizeof got, form(f).name, "integers", n, types[t]);
                    }
                }
    if (form(0).name)
        assert_true(compared > 1000);
}

/* Long enough for squares to be put away on the way, with levels as large as they get; against sums of whole numbers. */
static void squares_of_a_long_row_are_exact(void **state)
{
    (void)state;
    enum { LONG = 40003 };
    float *x = malloc(LONG * sizeof *x);
    assert_non_null(x);
    double qq = 0;
    for (int i = 0; i < LONG; i++) {
        x[i] = i % 3 ? -900.0f : value(DT_F32, false);
        float q = rintf(x[i]);
        q = q < -128 ? -128 : q > 127 ? 127 : q;
        qq += (double)(q * q);
    }
    IntFit want, got;
    quant_loops_generic.fit(x, LONG, 1.0f, 8, DT_F32, DT_F32, &want);
    assert_true(want.qq == qq);
    for (int f = 0; form(f).name; f++) {
        form(f).loops->fit(x, LONG, 1.0f, 8, DT_F32, DT_F32, &got);
        same(&got, &want, sizeof got, form(f).name, "fit", LONG, DT_F32);
    }
    free(x);
}

typedef struct BlockResult {
    float amax, fake[2][MOST], decoded[2][MOST], fp8[MOST];
    uint8_t code[2][MOST], fp8_code[MOST];
} BlockResult;

static void run_blocks(const QuantLoops *k, const float *x, int64_t n, float scale, DType T, BlockResult *r)
{
    memset(r, 0, sizeof *r);
    r->amax = k->amax(x, n);
    for (int i = 0; i < 2; i++) {
        QType t = i ? QT_MXFP4 : QT_MXFP8;
        k->mx_encode(t, x, n, scale, r->code[i]);
        k->mx_decode(t, r->code[i], n, scale, T, r->decoded[i]);
        k->mx_fake(t, x, n, scale, T, r->fake[i]);
    }
    k->e4m3_encode(x, n, scale, T, r->fp8_code);
    k->e4m3_fake(x, n, scale, T, r->fp8);
}

static void block_floats(void **state)
{
    (void)state;
    static const float scales[] = {0.5f, 0x1p-9f, 0x1p60f, 0.0f, NAN, 0.013f};
    float x[MOST];
    BlockResult want, got;
    for (int64_t n = 1; n <= MOST; n += n < 40 ? 1 : 7)
        for (int t = 0; t < 3; t++)
            for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
                for (int64_t i = 0; i < n; i++)
                    x[i] = value(types[t], n % 2);
                run_blocks(&quant_loops_generic, x, n, scales[s], types[t], &want);
                quiet(&want.amax, offsetof(BlockResult, code) / sizeof(float));
                for (int f = 0; form(f).name; f++) {
                    run_blocks(form(f).loops, x, n, scales[s], types[t], &got);
                    quiet(&got.amax, offsetof(BlockResult, code) / sizeof(float));
                    same(&got, &want, sizeof got, form(f).name, "blocks", n, types[t]);
                }
            }
}

enum { COLUMNS = 45 };

typedef struct Columns {
    float x[COLUMNS][LOOP_ROWS];
    int8_t code[COLUMNS][LOOP_ROWS];
} Columns;

static void run_columns(const QuantLoops *k, Columns *c, const float *u, int bits, int64_t n)
{
    float scale[LOOP_COLUMNS][LOOP_ROWS], offset[LOOP_COLUMNS][LOOP_ROWS];
    GptqColumns g = {.n = n, .x = c->x, .code = c->code, .scale = scale, .offset = offset, .u = u, .ldu = COLUMNS,
                     .bits = bits};
    for (int64_t a = 0, b; a < n; a = b) {
        b = n - a < LOOP_COLUMNS ? n : a + (a % 3 ? 5 : LOOP_COLUMNS);
        b = b < n ? b : n;
        for (int j = 0; j < LOOP_COLUMNS; j++)
            for (int r = 0; r < LOOP_ROWS; r++) {
                scale[j][r] = 0.1f + 0.01f * (float)r + 0.003f * (float)(a + j);
                offset[j][r] = (float)(r % 5 - 2);
            }
        k->gptq_columns(&g, a, b);
    }
}

/* One row, one column after the other, each spreading over all that follow. */
static void plain_columns(Columns *c, const float *u, int bits, int64_t n)
{
    for (int r = 0; r < LOOP_ROWS; r++)
        for (int64_t a = 0, j = 0, b; j < n; j++) {
            b = n - a < LOOP_COLUMNS ? n : a + (a % 3 ? 5 : LOOP_COLUMNS);
            QParam p = {.scale = 0.1f + 0.01f * (float)r + 0.003f * (float)j, .offset = (float)(r % 5 - 2)};
            float d;
            intquant_quantize(&c->x[j][r], 1, p, bits, DT_F32, &c->code[j][r]);
            intquant_dequantize(&c->code[j][r], 1, p, DT_F32, &d);
            float left = (c->x[j][r] - d) / u[j * COLUMNS + j];
            for (int64_t i = j + 1; i < n; i++) {
                float product = left * u[j * COLUMNS + i];
                c->x[i][r] = c->x[i][r] - product;
            }
            c->x[j][r] = left;
            a = j + 1 == b ? b : a;
        }
}

static void columns(void **state)
{
    (void)state;
    static float u[COLUMNS * COLUMNS];
    for (int i = 0; i < COLUMNS * COLUMNS; i++)
        u[i] = i % (COLUMNS + 1) ? value(DT_F32, false) * 0.01f : 0.5f + 0.01f * (float)(i % 7);
    for (int64_t n = 1; n <= COLUMNS; n += n < 20 ? 1 : 5)
        for (int bits = 4; bits <= 8; bits += 4) {
            Columns start = {0};
            for (int64_t i = 0; i < n; i++)
                for (int r = 0; r < LOOP_ROWS; r++)
                    start.x[i][r] = value(DT_F32, false);
            Columns want = start, generic = start;
            plain_columns(&want, u, bits, n);
            run_columns(&quant_loops_generic, &generic, u, bits, n);
            same(&generic, &want, sizeof want, "generic", "columns", n, DT_F32);
            for (int f = 0; form(f).name; f++) {
                Columns got = start;
                run_columns(form(f).loops, &got, u, bits, n);
                same(&got, &want, sizeof got, form(f).name, "columns", n, DT_F32);
            }
        }
}

static void the_environment_chooses(void **state)
{
    (void)state;
    static const char name[] = "SLIMSCOPE_KERNELS";
    char *own = getenv(name) ? strdup(getenv(name)) : NULL;
    setenv(name, "generic", 1);
    assert_ptr_equal(quant_loops(), &quant_loops_generic);
    for (int f = 0; form(f).name; f++) {
        setenv(name, form(f).name, 1);
        assert_ptr_equal(quant_loops(), form(f).loops);
    }
    own ? setenv(name, own, 1) : unsetenv(name);
    free(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers),
        cmocka_unit_test(squares_of_a_long_row_are_exact),
        cmocka_unit_test(block_floats),
        cmocka_unit_test(columns),
        cmocka_unit_test(the_environment_chooses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
