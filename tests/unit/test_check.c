/* Scanning tensors: findings against a plain look at every value, at every dtype, cut and whole, with one thread and
 * more. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/convert.h"
#include "model/check.h"
#include "tests/lib/fake_model.h"
#include "tests/lib/tempdir.h"

/* Writes the tensors as one file, scans them, and gives checkpoint and findings. */
static TensorScan *scan(const TensorOut *t, int64_t n, int threads, Checkpoint **c)
{
    char *dir = temp_folder();
    const char *path = temp_path(dir, "model.safetensors");
    Error err;
    assert_int_equal(safetensors_write(path, t, n, NULL, &err), ST_OK);
    assert_int_equal(checkpoint_open(c, dir, &err), ST_OK);
    Pool *pool;
    assert_int_equal(pool_new(&pool, threads, &err), ST_OK);
    ScanOptions o = {.pool = pool};
    TensorScan *out = NULL;
    assert_int_equal(tensorscan_run(*c, &o, &out, &err), ST_OK);
    pool_free(pool);
    temp_remove(dir);
    return out;
}

static void drop(TensorScan *s, Checkpoint *c)
{
    tensorscan_free(s, checkpoint_count(c));
    checkpoint_free(c);
}

/* ---- every value of the small formats, one by one ---- */

static double e4m3(uint8_t b)
{
    int e = b >> 3 & 15, m = b & 7;
    double v = e ? ldexp(1 + m / 8.0, e - 7) : ldexp(m, -9);
    return (b & 0x7f) == 0x7f ? NAN : v;
}

static double e5m2(uint8_t b)
{
    int e = b >> 2 & 31, m = b & 3;
    if (e == 31)
        return m ? NAN : INFINITY;
    return e ? ldexp(1 + m / 4.0, e - 15) : ldexp(m, -16);
}

static double e8m0(uint8_t b)
{
    return b == 255 ? NAN : ldexp(1, b - 127);
}

static double f16(uint16_t h)
{
    return fabs((double)f16_to_float(h));
}

static double bf16(uint16_t h)
{
    return fabs((double)bf16_to_float(h));
}

static void check_one(DType type, const void *bits, double v)
{
    TensorOut t = {.name = "t", .dtype = type, .ndim = 1, .shape = {1}, .data = bits};
    Checkpoint *c;
    TensorScan *s = scan(&t, 1, 1, &c);
    assert_int_equal(s->nans, isnan(v) != 0);
    assert_int_equal(s->infs, isinf(v) != 0);
    assert_int_equal(s->bad_at, isfinite(v) ? -1 : 0);
    assert_int_equal(s->huge, isfinite(v) && v > SCAN_HUGE);
    if (isfinite(v))
        assert_true(s->max_abs == v);
    bool bad = !isfinite(v) || v > SCAN_HUGE || (v > 0 && v < SCAN_TINY && type != DT_F8_E8M0);
    assert_int_equal(tensorscan_verdict(checkpoint_at(c, 0), s) == SCAN_BAD, bad);
    drop(s, c);
}

static void test_formats(void **state)
{
    (void)state;
    for (int i = 0; i < 256; i += 1 + (i % 16 == 3) * 7) {
        uint8_t b = (uint8_t)i;
        check_one(DT_F8_E4M3, &b, e4m3(b));
        check_one(DT_F8_E5M2, &b, e5m2(b));
        check_one(DT_F8_E8M0, &b, e8m0(b));
    }
    static const uint8_t edges[] = {0x7e, 0x7f, 0xfe, 0xff, 0x7b, 0x7c, 0x7d, 0xfc, 143, 144};
    for (size_t i = 0; i < sizeof edges; i++) {
        check_one(DT_F8_E4M3, &edges[i], e4m3(edges[i]));
        check_one(DT_F8_E5M2, &edges[i], e5m2(edges[i]));
        check_one(DT_F8_E8M0, &edges[i], e8m0(edges[i]));
    }
    static const uint16_t half[] = {0,      1,      0x8000, 0x8001, 0x3c00, 0x7bff, 0x7c00, 0xfc00,
                                    0x7c01, 0xffff, 0x47c3, 0x47c4, 0x7f7f, 0x7f80, 0x7f81};
    for (size_t i = 0; i < sizeof half / sizeof *half; i++) {
        check_one(DT_F16, &half[i], f16(half[i]));
        check_one(DT_BF16, &half[i], bf16(half[i]));
    }
    static const double wide[] = {0, -0.0, 1, -1e5, 1e5, 100000.1, -1e300, 1e-300, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        float f = (float)wide[i];
        check_one(DT_F64, &wide[i], fabs(wide[i]));
        check_one(DT_F32, &f, fabs((double)f));
    }
    double nan = NAN;
    float nanf32 = NAN;
    check_one(DT_F64, &nan, nan);
    check_one(DT_F32, &nanf32, nan);
}

/* ---- against a plain look ---- */

static TensorScan plain_look(const float *v, int64_t n, int64_t row)
{
    TensorScan s = {.bad_at = -1, .huge_at = -1, .constant_at = -1};
    for (int64_t i = 0; i < n; i++) {
        bool bad = !isfinite(v[i]), huge = !bad && fabs((double)v[i]) > SCAN_HUGE;
        s.nans += isnan(v[i]) != 0;
        s.infs += isinf(v[i]) != 0;
        s.huge += huge;
        if (bad && s.bad_at < 0) {
            s.bad_at = i;
            s.bad_is_nan = isnan(v[i]);
        }
        if (huge && s.huge_at < 0)
            s.huge_at = i;
        if (!bad && fabs((double)v[i]) > s.max_abs)
            s.max_abs = fabs((double)v[i]);
    }
    for (int64_t r = 0; row >= SCAN_ROW_MIN && r < n / row; r++) {
        bool same = true;
        for (int64_t i = 1; i < row; i++)
            same &= memcmp(&v[r * row + i], &v[r * row], sizeof *v) == 0;
        s.rows++;
        s.constant_rows += same;
        if (same && s.constant_at < 0)
            s.constant_at = r;
    }
    return s;
}

static void assert_same(const TensorScan *a, const TensorScan *b)
{
    assert_int_equal(a->nans, b->nans);
    assert_int_equal(a->infs, b->infs);
    assert_int_equal(a->huge, b->huge);
    assert_int_equal(a->bad_at, b->bad_at);
    assert_int_equal(a->huge_at, b->huge_at);
    if (a->bad_at >= 0)
        assert_int_equal(a->bad_is_nan, b->bad_is_nan);
    assert_true(a->max_abs == b->max_abs);
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->constant_rows, b->constant_rows);
    assert_int_equal(a->constant_at, b->constant_at);
    assert_null(a->unreadable);
}

static void test_random(void **state)
{
    (void)state;
    /* shapes around the edges: one row longer than a piece, many short ones, rows not looked at, a vector, none */
    static const int64_t shapes[][2] = {{3, 1100000}, {5000, 400},  {70000, 15}, {70000, 16},
                                        {1, 1},       {2500000, 0}, {0, 20},     {7, 0}};
    enum { N = sizeof shapes / sizeof *shapes };
    unsigned long long seed = 7;
    for (int round = 0; round < 3; round++) {
        TensorOut t[N];
        float *data[N];
        int64_t count[N];
        char name[N][8];
        for (int k = 0; k < N; k++) {
            int ndim = shapes[k][1] || k == N - 1 ? 2 : 1;
            int64_t n = count[k] = ndim == 2 ? shapes[k][0] * shapes[k][1] : shapes[k][0],
                    row = ndim == 2 ? shapes[k][1] : 0;
            float *v = data[k] = calloc((size_t)n + 1, sizeof *v);
            for (int64_t i = 0; i < n; i++)
                v[i] = (float)(fake_random(&seed) % 2001) - 1000;
            for (int j = 0; j < 6 && n && round; j++) {
                static const float odd[] = {NAN, INFINITY, -INFINITY, 2e5f, -3e30f, -NAN};
                v[fake_random(&seed) % (uint64_t)n] = odd[j];
            }
            for (int j = 0; j < 5 && row && n; j++) {
                int64_t r = (int64_t)(fake_random(&seed) % (uint64_t)(n / row));
                for (int64_t i = 0; i < row; i++)
                    v[r * row + i] = j == 0 ? 0 : j == 1 ? NAN : 4;
            }
            name[k][0] = (char)('a' + k);
            name[k][1] = 0;
            t[k] = (TensorOut){
                .name = name[k], .dtype = DT_F32, .ndim = ndim, .shape = {shapes[k][0], shapes[k][1]}, .data = v};
        }
        for (int threads = 1; threads <= 3; threads += 2) {
            Checkpoint *c;
            TensorScan *s = scan(t, N, threads, &c);
            for (int64_t i = 0; i < N; i++) {
                const TensorInfo *info = checkpoint_at(c, i);
                int k = info->name[0] - 'a';
                TensorScan want = plain_look(data[k], count[k], t[k].ndim == 2 ? shapes[k][1] : 0);
                assert_same(&s[i], &want);
            }
            drop(s, c);
        }
        for (int k = 0; k < N; k++)
            free(data[k]);
    }
}

/* ---- judging ---- */

static void test_verdicts(void **state)
{
    (void)state;
    static const float zero[64], one[64] = {[0] = 1, [40] = 2};
    static const int8_t bytes[64];
    TensorOut t[] = {
        {"a.weight", DT_F32, 2, {4, 16}, zero},     {"b.bias", DT_F32, 1, {64}, zero},
        {"c.zero_point", DT_I8, 2, {4, 16}, bytes}, {"d.weight", DT_F32, 2, {4, 16}, one},
        {"embed", DT_F32, 2, {4, 16}, one},         {"f.scale", DT_F32, 2, {8, 8}, one},
        {"g.flag", DT_BOOL, 1, {64}, bytes},
    };
    static const ScanVerdict want[] = {SCAN_BAD, SCAN_NOTE, SCAN_NOTE, SCAN_BAD, SCAN_NOTE, SCAN_FINE, SCAN_FINE};
    enum { N = sizeof t / sizeof *t };
    Checkpoint *c;
    TensorScan *s = scan(t, N, 1, &c);
    for (int k = 0; k < N; k++) {
        const TensorInfo *info = checkpoint_find(c, t[k].name);
        for (int64_t i = 0; i < N; i++)
            if (checkpoint_at(c, i) == info)
                assert_int_equal(tensorscan_verdict(info, &s[i]), want[k]);
    }
    drop(s, c);
}

/* ---- files that end early, and cancelling ---- */

static void raise_cancel(void *ctx, uint64_t done, uint64_t total)
{
    assert_true(done <= total);
    atomic_store(&((Cancel *)ctx)->level, 2);
}

static void test_broken(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "model.safetensors");
    float *v = calloc(3 << 20, sizeof *v);
    TensorOut t[] = {{"a", DT_F32, 1, {3 << 20}, v}, {"b", DT_F32, 1, {10}, v}};
    Error err;
    assert_int_equal(safetensors_write(path, t, 2, NULL, &err), ST_OK);
    free(v);
    Checkpoint *c;
    assert_int_equal(checkpoint_open(&c, dir, &err), ST_OK);
    Pool *pool;
    assert_int_equal(pool_new(&pool, 2, &err), ST_OK);
    Cancel cancel = {0};
    ScanOptions o = {.pool = pool, .cancel = &cancel, .progress = raise_cancel, .ctx = &cancel};
    TensorScan *s = NULL;
    assert_int_equal(tensorscan_run(c, &o, &s, &err), ST_CANCELLED);
    temp_puts(path, "cut off while it is open");
    o = (ScanOptions){.pool = pool};
    assert_int_equal(tensorscan_run(c, &o, &s, &err), ST_OK);
    for (int i = 0; i < 2; i++) {
        assert_non_null(strstr(s[i].unreadable, "model.safetensors"));
        assert_int_equal(tensorscan_verdict(checkpoint_at(c, i), &s[i]), SCAN_BAD);
    }
    pool_free(pool);
    drop(s, c);
    temp_remove(dir);
}

/* The first NaN or Inf, wherever it stands. */
static void test_first_bad(void **state)
{
    (void)state;
    static const struct {
        DType type;
        uint64_t nan, inf; /* inf 0: there is none */
    } rows[] = {
        {DT_F64, 0x7ff8000000000000u, 0xfff0000000000000u}, {DT_F32, 0x7fc00000u, 0xff800000u},
        {DT_BF16, 0xffc0u, 0x7f80u}, {DT_F16, 0x7e00u, 0xfc00u}, {DT_F8_E4M3, 0xffu, 0}, {DT_F8_E5M2, 0x7du, 0x7cu},
        {DT_F8_E8M0, 0xffu, 0},
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        unsigned char v[300 * 8] = {0};
        bool nan = false;
        size_t size = (size_t)dtype_size(rows[r].type);
        for (size_t i = 0; i < 300; i++)
            for (int inf = 0; inf < 1 + (rows[r].inf != 0); inf++) {
                uint64_t bits = inf ? rows[r].inf : rows[r].nan;
                memcpy(v + i * size, &bits, size);
                memcpy(v + 299 * size, &bits, size); /* a later one doesn't count */
                assert_int_equal(values_first_bad(rows[r].type, v, 300, &nan), i);
                assert_int_equal(nan, !inf);
                assert_int_equal(values_first_bad(rows[r].type, v, (int64_t)i, &nan), -1);
                memset(v, 0, sizeof v);
            }
    }
    static const unsigned char whole[8] = {255, 255, 255, 255, 255, 255, 255, 255};
    bool nan;
    assert_int_equal(values_first_bad(DT_I64, whole, 1, &nan), -1);
    assert_int_equal(values_first_bad(DT_I8, whole, 8, &nan), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_first_bad),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
