#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "qir/intquant.h"
#include "tests/lib/npz.h"

static const struct {
    const char *name;
    DType T;
} types[] = {{"f32", DT_F32}, {"bf16", DT_BF16}, {"f16", DT_F16}};

/* Equal bits, but any NaN equals any NaN. */
static void assert_same(const float *got, const float *want, int64_t n, const char *what)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(got + i, want + i, 4) != 0 && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s: element %lld is %.9g, wanted %.9g", what, (long long)i, (double)got[i], (double)want[i]);
}

static void weights_equal_the_recorded_ones(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/int_minmax.npz");
    int checked = 0;
    for (int t = 0; t < 3; t++) {
        const NpyArray *w;
        const float *W = npz_f32(z, &w, "%s.W", types[t].name);
        int64_t rows = w->shape[0], in = w->shape[1];
        for (int bits = 4; bits <= 8; bits += 4) {
            for (int sym = 0; sym < 2; sym++) {
                const char *T = types[t].name, *s = sym ? "sym" : "asym";
                const float *scale = npz_f32(z, NULL, "%s.int%d.%s.scale", T, bits, s);
                const float *offset = npz_f32(z, NULL, "%s.int%d.%s.offset", T, bits, s);
                const int8_t *q = npz_i8(z, NULL, "%s.int%d.%s.q", T, bits, s);
                const float *deq = npz_f32(z, NULL, "%s.int%d.%s.deq", T, bits, s);
                char what[64];
                snprintf(what, sizeof what, "%s int%d %s", T, bits, s);
                for (int64_t r = 0; r < rows; r++) {
                    float mn, mx, y[64];
                    int8_t got[64];
                    assert_int_equal(in, 64);
                    intquant_range(W + r * in, in, &mn, &mx);
                    QParam p = intquant_param(mn, mx, bits, sym, types[t].T);
                    assert_same(&p.scale, scale + r, 1, what);
                    assert_same(&p.offset, offset + r, 1, what);
                    intquant_quantize(W + r * in, in, p, bits, types[t].T, got);
                    assert_memory_equal(got, q + r * in, 64);
                    intquant_dequantize(got, in, p, types[t].T, y);
                    assert_same(y, deq + r * in, in, what);
                    intquant_fake(W + r * in, in, p, bits, types[t].T, y);
                    assert_same(y, deq + r * in, in, what);
                    checked++;
                }
            }
        }
    }
    assert_int_equal(checked, 3 * 4 * 24);
    npz_free(z);
}

/* Running range over the batches; batch i is fake-quantized with the range of batches 0..i. */
static void running_static_equals_the_recorded_one(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/act.npz");
    for (int t = 0; t < 2; t++) {
        for (int sym = 0; sym < 2; sym++) {
            const char *T = types[t].name, *mode = sym ? "static_sym_max" : "static_asym_max";
            float mn = INFINITY, mx = -INFINITY, y[512];
            QParam p = {0};
            for (int i = 0; i < 4; i++) {
                const NpyArray *a;
                const float *x = npz_f32(z, &a, "%s.x%d", T, i);
                float lo, hi;
                assert_true(a->count <= 512);
                intquant_range(x, a->count, &lo, &hi);
                mn = fminf(mn, lo);
                mx = fmaxf(mx, hi);
                p = intquant_param(mn, mx, 8, sym, types[t].T);
                intquant_fake(x, a->count, p, 8, types[t].T, y);
                assert_same(y, npz_f32(z, NULL, "%s.%s.y%d", T, mode, i), a->count, mode);
            }
            assert_same(&p.scale, npz_f32(z, NULL, "%s.%s.scale", T, mode), 1, mode);
            assert_same(&p.offset, npz_f32(z, NULL, "%s.%s.offset", T, mode), 1, mode);
        }
    }
    npz_free(z);
}

static void per_token_equals_the_recorded_one(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/act.npz");
    for (int t = 0; t < 2; t++) {
        const char *T = types[t].name;
        const NpyArray *a;
        const float *x = npz_f32(z, &a, "%s.x0", T), *want = npz_f32(z, NULL, "%s.true_per_token_int8", T);
        int64_t width = a->shape[2];
        for (int64_t r = 0; r < a->shape[1]; r++) {
            float mn, mx, y[64];
            intquant_range(x + r * width, width, &mn, &mx);
            intquant_fake(x + r * width, width, intquant_param(mn, mx, 8, true, types[t].T), 8, types[t].T, y);
            assert_same(y, want + r * width, width, "true per token");
        }
        for (int i = 0; i < 4; i++) { /* the peer's calibration: one range for the whole batch */
            float mn, mx, y[512];
            x = npz_f32(z, &a, "%s.x%d", T, i);
            intquant_range(x, a->count, &mn, &mx);
            intquant_fake(x, a->count, intquant_param(mn, mx, 8, true, types[t].T), 8, types[t].T, y);
            assert_same(y, npz_f32(z, NULL, "%s.per_token_calib.y%d", T, i), a->count, "per token calibration");
        }
    }
    npz_free(z);
}

/* ---- scalar reference: rounding by the definition (nearest multiple of the spacing, half to even), in float64 ---- */

static float ref_round(float x, DType T)
{
    if (T == DT_F32 || !isfinite(x) || x == 0)
        return x;
    int e, digits = T == DT_BF16 ? 8 : 11, least = T == DT_BF16 ? -133 : -24;
    frexp((double)x, &e);
    int unit = e - digits > least ? e - digits : least;
    double r = ldexp(rint(ldexp((double)x, -unit)), unit);
    double limit = T == DT_BF16 ? ldexp(1, 128) : 65536.0;
    return fabs(r) >= limit ? copysignf(INFINITY, x) : (float)r;
}

static float ref_max(float a, float b)
{
    return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
}

static QParam ref_param(float mn, float mx, int bits, bool sym, DType T)
{
    float eps = ref_round(1.1920929e-07f, T);
    mn = isnan(mn) ? NAN : mn < 0 ? mn : 0;
    mx = ref_max(mx, 0);
    if (sym)
        return (QParam){ref_max(ref_round(ref_max(-mn, mx) / (bits == 8 ? 127.0f : 7.0f), T), eps), 0};
    float d = bits == 8 ? 255.0f : 15.0f;
    float s = ref_max(ref_round(ref_round(mx / d, T) - ref_round(mn / d, T), T), eps);
    float o = rintf(ref_round(-mn / s, T));
    return (QParam){s, ref_round(o - (bits == 8 ? 128.0f : 8.0f), T)};
}

static int8_t ref_level(float x, QParam p, int bits, DType T)
{
    float t = ref_round(ref_round(x / p.scale, T) + p.offset, T);
    if (isnan(t))
        return 0;
    float lo = bits == 8 ? -128 : -8, hi = bits == 8 ? 127 : 7;
    t = rintf(t);
    return (int8_t)(t < lo ? lo : t > hi ? hi : t);
}

static uint64_t next_random(uint64_t *s)
{
    uint64_t v = (*s += 0x9E3779B97F4A7C15u);
    v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9u;
    v = (v ^ v >> 27) * 0x94D049BB133111EBu;
    return v ^ v >> 31;
}

static void check_against_reference(const float *x, int n, int bits, bool sym, DType T)
{
    float mn, mx, rmn = x[0], rmx = x[0], y[64];
    int8_t q[64];
    for (int i = 0; i < n; i++) {
        rmn = isnan(rmn) || isnan(x[i]) ? NAN : x[i] < rmn ? x[i] : rmn;
        rmx = isnan(rmx) || isnan(x[i]) ? NAN : x[i] > rmx ? x[i] : rmx;
    }
    intquant_range(x, n, &mn, &mx);
    assert_true((isnan(mn) && isnan(rmn)) || mn == rmn);
    assert_true((isnan(mx) && isnan(rmx)) || mx == rmx);
    QParam p = intquant_param(mn, mx, bits, sym, T), r = ref_param(mn, mx, bits, sym, T);
    assert_same(&p.scale, &r.scale, 1, "scale");
    assert_true((isnan(p.offset) && isnan(r.offset)) || p.offset == r.offset);
    intquant_quantize(x, n, p, bits, T, q);
    intquant_fake(x, n, p, bits, T, y);
    for (int i = 0; i < n; i++) {
        int8_t want = ref_level(x[i], r, bits, T);
        assert_int_equal(q[i], want);
        float v = ref_round(ref_round((float)want - r.offset, T) * r.scale, T);
        assert_same(y + i, &v, 1, "fake");
    }
}

static void every_length_and_scale_equals_the_reference(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 4000; round++) {
        float x[64];
        int n = 1 + (int)(next_random(&seed) % 41);
        int shift = (int)(next_random(&seed) % 44) - 26;
        DType T = types[next_random(&seed) % 3].T;
        for (int i = 0; i < n; i++) {
            uint64_t v = next_random(&seed);
            double u = (double)(v >> 11) * 0x1p-53 - ((v & 1) ? 0.5 : 0.2);
            x[i] = ref_round((float)ldexp(u, shift), T);
            if ((v & 0xF0) == 0)
                x[i] = 0;
        }
        check_against_reference(x, n, (round & 1) ? 8 : 4, (round & 2) != 0, T);
    }
}

static void zeros_constants_nan_and_inf(void **state)
{
    (void)state;
    static const float odd[][4] = {
        {0, 0, 0, 0}, {-0.0f, 0, -0.0f, 0}, {3, 3, 3, 3}, {-2, -2, -2, -2}, {1, NAN, 2, -3}, {NAN, NAN, NAN, NAN},
        {INFINITY, 1, -1, 0}, {-INFINITY, 1, -1, 0}, {INFINITY, -INFINITY, NAN, 0}, {1e-9f, -1e-9f, 0, 1e-9f},
        {65504, -65504, 60000, 1}, {3.3e38f, -3.3e38f, 1, 0}, {1e-40f, 0, -1e-40f, 1e-42f},
        {0.5f, 1.5f, 2.5f, 127}, {-0.5f, -1.5f, -2.5f, -127},
    };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        for (int t = 0; t < 3; t++)
            for (int k = 0; k < 4; k++)
                for (int n = 1; n <= 4; n++) {
                    float x[4];
                    for (int j = 0; j < 4; j++)
                        x[j] = ref_round(odd[i][j], types[t].T);
                    check_against_reference(x, n, (k & 1) ? 8 : 4, k >> 1, types[t].T);
                }
    float zero[9] = {0}, y[9];
    QParam none = intquant_param(0, 0, 8, true, DT_F32);
    assert_true(none.scale == 0x1p-23f);
    intquant_fake(zero, 9, none, 8, DT_F32, zero);
    memset(y, 0, sizeof y);
    assert_memory_equal(zero, y, sizeof y);
}

static void dequantize_inverts_levels(void **state)
{
    (void)state;
    QParam p = {.scale = 0.25f, .offset = -3};
    int8_t q[256], back[256];
    float y[256];
    for (int i = 0; i < 256; i++)
        q[i] = (int8_t)(i - 128);
    for (int t = 0; t < 3; t++) {
        intquant_dequantize(q, 256, p, types[t].T, y);
        intquant_quantize(y, 256, p, 8, types[t].T, back);
        assert_memory_equal(q, back, 256);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_equal_the_recorded_ones),
        cmocka_unit_test(running_static_equals_the_recorded_one),
        cmocka_unit_test(per_token_equals_the_recorded_one),
        cmocka_unit_test(every_length_and_scale_equals_the_reference),
        cmocka_unit_test(zeros_constants_nan_and_inf),
        cmocka_unit_test(dequantize_inverts_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
