#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "math/cpu.h"
#include "math/hadamard.h"
#include "math/rotation.h"
#include "tests/lib/npz.h"

/* Rotations: against the peer's matrices, and by what a rotation is. */

static void *room(int64_t n, size_t size)
{
    void *p = mem_aligned((size_t)n, size);
    assert_non_null(p);
    memset(p, 0, (size_t)n * size);
    return p;
}

static uint32_t seed = 1;

static float noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)seed / 2147483648.0f;
}

static void right(const Rotation *r, float *x, int64_t rows, int64_t width)
{
    float *scratch = room((int64_t)rotation_bytes(r), 1);
    rotation_right(r, x, rows, width, width, scratch);
    free(scratch);
}

static void left(const Rotation *r, float *w, int64_t rows, int64_t cols, int64_t ld)
{
    float *scratch = room((int64_t)rotation_bytes(r), 1);
    rotation_left(r, w, rows, cols, ld, scratch);
    free(scratch);
}

static float *matrix_of(const Rotation *r)
{
    int64_t n = rotation_size(r);
    float *m = room(n * n, sizeof *m);
    assert_int_equal(rotation_rows(r, m, NULL), ST_OK);
    return m;
}

static Rotation *hadamard(int64_t size, int64_t block)
{
    Rotation *r;
    Error err = {0};
    assert_int_equal(rotation_hadamard(&r, size, block, &err), ST_OK);
    assert_int_equal(rotation_size(r), size);
    return r;
}

static float ulp(float x)
{
    return nextafterf(fabsf(x), INFINITY) - fabsf(x);
}

/* ---- the peer's ---- */

typedef struct Golden {
    const char *name;
    int64_t size, block;
    int step; /* 0: not shifted */
} Golden;

static void test_golden_matrices(void **state)
{
    (void)state;
    static const Golden all[] = {{"had8", 8, -1, 0},       {"had32", 32, -1, 0},      {"had24", 24, -1, 0},
                                 {"had40", 40, -1, 0},     {"had56", 56, -1, 0},      {"had72", 72, -1, 0},
                                 {"had64b16", 64, 16, 0},  {"shift64s1", 64, -1, 1},  {"shift64s2", 64, -1, 2},
                                 {"shift64s3", 64, -1, 3}, {"shift96", 96, -1, 1}};
    Npz *z = npz_open("tests/golden/outlier/rotations.npz");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const Golden *g = &all[i];
        const NpyArray *a;
        const float *want = npz_f32(z, &a, "%s", g->name);
        Rotation *r;
        if (g->step)
            assert_int_equal(rotation_shifted(&r, g->size, g->block, g->step, NULL, 0, NULL), ST_OK);
        else
            r = hadamard(g->size, g->block);
        assert_int_equal(a->count, g->size * g->size);
        float *m = matrix_of(r), most = 0;
        for (int64_t j = 0; j < a->count; j++)
            most = fabsf(want[j]) > most ? fabsf(want[j]) : most;
        /* products of 3, 5 and 9 matrices, each rounded in the peer (which has entries of one value up to 7 ulps apart), here once:
         * counted in ulps of the largest entry, as sums cancel */
        for (int64_t j = 0; j < a->count; j++)
            if (fabsf(m[j] - want[j]) > (g->step > 1 ? 8 * ulp(most) : ulp(g->step ? most : want[j])))
                fail_msg("%s[%lld]: %a, not %a", g->name, (long long)j, (double)m[j], (double)want[j]);
        free(m);
        rotation_free(r);
    }
    npz_free(z);
}

/* R c, c = cos(0 ... n-1), in float64. */
static void test_golden_products(void **state)
{
    (void)state;
    static const int64_t sizes[] = {104, 120, 152, 216, 272, 280, 312, 344, 400, 320, 2560, 5120};
    Npz *z = npz_open("tests/golden/outlier/rotations.npz");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const NpyArray *a = npz_find(z, "hadvec%lld", (long long)sizes[i]);
        assert_true(a && a->count == sizes[i] && a->size == 8);
        const double *want = a->data;
        Rotation *r = hadamard(sizes[i], -1);
        float *m = matrix_of(r);
        for (int64_t j = 0; j < sizes[i]; j++) {
            double s = 0;
            for (int64_t c = 0; c < sizes[i]; c++)
                s += (double)m[j * sizes[i] + c] * cos((double)c);
            assert_true(fabs(s - want[j]) < 1e-11);
        }
        free(m);
        rotation_free(r);
    }
    npz_free(z);
}

/* ---- what a rotation is ---- */

/* Of its rows: of all where it is small, of some else. */
static void check_orthogonal(const Rotation *r)
{
    int64_t n = rotation_size(r), step = n > 512 ? n / 37 : 1;
    float *m = matrix_of(r);
    double worst = 0;
    for (int64_t i = 0; i < n; i += step)
        for (int64_t j = 0; j <= i; j += step) {
            double s = 0;
            for (int64_t c = 0; c < n; c++)
                s += (double)m[i * n + c] * (double)m[j * n + c];
            worst = fmax(worst, fabs(s - (i == j)));
        }
    free(m);
    if (worst > 1e-6)
        fail_msg("size %lld: %g from orthogonal", (long long)n, worst);
}

static void test_every_size_is_orthogonal(void **state)
{
    (void)state;
    static const int64_t bases[] = {1, 12, 20, 28, 36, 40, 52, 60, 76, 108, 136, 140, 156, 160, 172, 200};
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++)
        for (int64_t n = bases[i]; n <= 700; n *= 2) {
            int k;
            int64_t m;
            Rotation *r = hadamard(n, -1);
            check_orthogonal(r);
            assert_true(hadamard_parts(n, &k, &m) && k * m == n);
            rotation_free(r);
        }
    static const int64_t widths[] = {576, 1536, 2048, 2560, 3584, 4096, 5120}; /* of models */
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        Rotation *r = hadamard(widths[i], -1);
        check_orthogonal(r);
        rotation_free(r);
    }
    static const int eye[] = {0, 2};
    for (int step = 1; step <= 3; step++)
        for (int with = 0; with < 2; with++) {
            Rotation *r;
            assert_int_equal(rotation_shifted(&r, 128, -1, step, eye, with * 2, NULL), ST_OK);
            check_orthogonal(r);
            rotation_free(r);
        }
}

static void expect(Status got, Error *err, const char *word)
{
    assert_int_equal(got, ST_DATA);
    if (!strstr(err->text, word))
        fail_msg("'%s' doesn't say '%s'", err->text, word);
    *err = (Error){0};
}

static void test_sizes_without_a_matrix_are_named(void **state)
{
    (void)state;
    Rotation *r = NULL;
    Error err = {0};
    expect(rotation_hadamard(&r, 44, -1, &err), &err, "of size 44 ");
    expect(rotation_hadamard(&r, 2880, -1, &err), &err, "of size 2880 ");
    expect(rotation_hadamard(&r, 2880, -1, &err), &err, "12, 20, 28, 36, 40, 52, 60, 76, 108, 136, 140, 156, 160, 172, 200;");
    expect(rotation_hadamard(&r, 0, -1, &err), &err, "of size 0 ");
    expect(rotation_hadamard(&r, 96, 64, &err), &err, "blocks of 64 don't divide size 96");
    expect(rotation_hadamard(&r, 8, 16, &err), &err, "blocks of 16 don't divide size 8");
    expect(rotation_shifted(&r, 80, -1, 1, NULL, 0, &err), &err, "blocks of 32 don't divide size 80");
    expect(rotation_shifted(&r, 16, -1, 1, NULL, 0, &err), &err, "blocks of 32 don't divide size 16");
    expect(rotation_shifted(&r, 64, -1, 4, NULL, 0, &err), &err, "rot_step 4");
    assert_null(r);
    int64_t a = 0, b = 0;
    assert_true(hadamard_split(18944, &a, &b)); /* whose factor has none */
    assert_int_equal(a, 128);
    assert_int_equal(b, 148);
    expect(hadamard_check(b, "the second factor", &err), &err, "the second factor: no Hadamard matrix of size 148 ");
    Rotation *ok = hadamard(2880, 64);
    check_orthogonal(ok);
    rotation_free(ok);
}

static void test_split(void **state)
{
    (void)state;
    static const int64_t want[][3] = {{48, 4, 12},      {3072, 48, 64},    {9728, 76, 128},   {11008, 64, 172},
                                      {12288, 96, 128}, {14336, 112, 128}, {17408, 128, 136}, {25600, 160, 160},
                                      {28672, 128, 224}};
    int64_t a, b;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_true(hadamard_split(want[i][0], &a, &b));
        assert_int_equal(a, want[i][1]);
        assert_int_equal(b, want[i][2]);
    }
    assert_false(hadamard_split(1001, &a, &b));
    assert_false(hadamard_split(0, &a, &b));
    assert_false(hadamard_split(70000, &a, &b));
}

/* ---- how it is applied ---- */

static float *filled(int64_t n)
{
    float *x = room(n, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = noise();
    return x;
}

static Rotation *dense_of(const Rotation *r)
{
    int64_t n = rotation_size(r);
    float *m = malloc((size_t)(n * n) * sizeof *m);
    assert_non_null(m);
    assert_int_equal(rotation_rows(r, m, NULL), ST_OK);
    Rotation *d;
    assert_int_equal(rotation_dense(&d, m, n, NULL), ST_OK);
    return d;
}

/* x [rows][width] R, tiled, against sums in float64; the same for W <- R' W with W = x'. */
static void check_apply(const Rotation *r, int64_t rows, int64_t tiles)
{
    int64_t n = rotation_size(r), width = n * tiles;
    float *m = matrix_of(r), *x = filled(rows * width), *got = room(rows * width, sizeof *got);
    float *w = room(rows * width, sizeof *w);
    memcpy(got, x, (size_t)(rows * width) * sizeof *x);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j++)
            w[j * rows + i] = x[i * width + j];
    right(r, got, rows, width);
    left(r, w, width, rows / 2, rows); /* in two slices of columns */
    left(r, w + rows / 2, width, rows - rows / 2, rows);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j++) {
            double s = 0;
            for (int64_t k = 0; k < n; k++)
                s += (double)x[i * width + j / n * n + k] * (double)m[k * n + j % n];
            assert_true(fabs(s - (double)got[i * width + j]) < 4e-6);
            assert_true(got[i * width + j] == w[j * rows + i]);
        }
    free(m);
    free(x);
    free(got);
    free(w);
}

/* One of each kind. */
static void kinds(Rotation *of[8], int *n)
{
    Rotation *a = hadamard(12, -1), *b = hadamard(8, -1), *parts[] = {a, NULL, b};
    of[0] = hadamard(56, -1);
    of[1] = hadamard(64, 16);
    assert_int_equal(rotation_shifted(&of[2], 64, -1, 3, NULL, 0, NULL), ST_OK);
    assert_int_equal(rotation_kron(&of[3], a, b, NULL), ST_OK);
    assert_int_equal(rotation_blocks(&of[4], parts, (int64_t[]){0, 5, 0}, 3, NULL), ST_OK);
    of[5] = dense_of(of[4]);
    assert_int_equal(rotation_transpose(&of[6], of[0], NULL), ST_OK);
    assert_int_equal(rotation_kron(&of[7], of[5], a, NULL), ST_OK);
    *n = 8;
    rotation_free(a);
    rotation_free(b);
}

static void test_applied_as_its_matrix(void **state)
{
    (void)state;
    Rotation *of[8];
    int n;
    kinds(of, &n);
    for (int i = 0; i < n; i++) {
        check_orthogonal(of[i]);
        check_apply(of[i], 1, 1);
        check_apply(of[i], 113, 2);
        rotation_free(of[i]);
    }
    rotation_free(NULL);
}

static void test_shared(void **state)
{
    (void)state;
    Rotation *r, *mine;
    assert_int_equal(rotation_identity(&r, 6, NULL), ST_OK);
    mine = rotation_share(r);
    rotation_free(r);
    float *m = matrix_of(mine);
    for (int i = 0; i < 36; i++)
        assert_true(m[i] == (i % 7 == 0));
    free(m);
    rotation_free(mine);
}

static void test_kron_and_transpose(void **state)
{
    (void)state;
    Rotation *a = hadamard(12, -1), *b = hadamard(8, -1), *k, *t;
    assert_int_equal(rotation_kron(&k, a, b, NULL), ST_OK);
    assert_int_equal(rotation_transpose(&t, k, NULL), ST_OK);
    float *ma = matrix_of(a), *mb = matrix_of(b), *mk = matrix_of(k), *mt = matrix_of(t);
    for (int i = 0; i < 96; i++)
        for (int j = 0; j < 96; j++) {
            assert_true(fabsf(mk[i * 96 + j] - ma[i / 8 * 12 + j / 8] * mb[i % 8 * 8 + j % 8]) < 1e-7f);
            assert_true(fabsf(mt[j * 96 + i] - mk[i * 96 + j]) < 1e-7f);
        }
    free(ma);
    free(mb);
    free(mk);
    free(mt);
    rotation_free(a);
    rotation_free(b);
    rotation_free(k);
    rotation_free(t);
}

/* Whatever the processor: the same bytes. */
static void test_same_on_every_processor(void **state)
{
    (void)state;
    Rotation *of[8];
    int n;
    kinds(of, &n);
    for (int i = 0; i < n; i++) {
        int64_t width = rotation_size(of[i]) * 2, values = 101 * width;
        float *x = filled(values), *first = room(values, sizeof *first), *y = room(values, sizeof *y);
        for (int l = MATH_REFERENCE; l < MATH_LEVELS; l++) {
            if (!math_level_runs((MathLevel)l))
                continue;
            setenv("SLIMSCOPE_KERNELS", math_level_name((MathLevel)l), 1);
            float *to = l == MATH_REFERENCE ? first : y;
            memcpy(to, x, (size_t)values * sizeof *x);
            right(of[i], to, 101, width);
            assert_memory_equal(first, to, (size_t)values * sizeof *x);
        }
        unsetenv("SLIMSCOPE_KERNELS");
        free(x);
        free(first);
        free(y);
        rotation_free(of[i]);
    }
}

static void digest(const Rotation *r, char hex[65])
{
    Hasher h;
    hasher_init(&h);
    rotation_digest(r, &h);
    Digest d = hasher_end(&h);
    digest_hex(&d, hex);
}

static void test_digests_differ(void **state)
{
    (void)state;
    Rotation *of[8], *again[8];
    char hex[8][65], other[65];
    int n;
    kinds(of, &n);
    kinds(again, &n);
    for (int i = 0; i < n; i++) {
        digest(of[i], hex[i]);
        digest(again[i], other);
        assert_string_equal(hex[i], other);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(hex[i], hex[j]);
    }
    for (int i = 0; i < n; i++) {
        rotation_free(of[i]);
        rotation_free(again[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_matrices),
        cmocka_unit_test(test_golden_products),
        cmocka_unit_test(test_every_size_is_orthogonal),
        cmocka_unit_test(test_sizes_without_a_matrix_are_named),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_applied_as_its_matrix),
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_kron_and_transpose),
        cmocka_unit_test(test_same_on_every_processor),
        cmocka_unit_test(test_digests_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
