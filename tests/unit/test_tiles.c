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
#include "math/tile.h"

/* Products against their definition (math/tile.h), computed in a type that holds each step exactly. */
#if defined(__x86_64__)
__extension__ typedef __float128 Wide;
#else
typedef long double Wide;
#endif

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

/* Kinds of values: ordinary ones, those whose products fall below 2^-126, and everything a file can hold. */
typedef enum Values { USUAL, TINY, NASTY, VALUES } Values;

static float value(uint32_t *s, Values v)
{
    static const float odd[] = {0.0f, -0.0f, 1e-40f, -3e-45f, 1e38f, -3.4e38f, INFINITY, -INFINITY, NAN, 1.0f};
    uint32_t r = next(s);
    if (v == NASTY && r % 97 < sizeof odd / sizeof *odd)
        return odd[r % 97];
    if (v == TINY)
        return ldexpf(uniform(s, -2, 2), -58 - (int)(r % 12));
    return uniform(s, -2, 2);
}

/* x * w + sum rounded to 24 bits as if exponents had no end; below 2^-126 zero. */
static float flushed_step(float x, float w, float sum)
{
    float plain = fmaf(x, w, sum);
    if (!isfinite(plain) || fabsf(plain) > 1e-30f)
        return plain;
    float r = (float)(((Wide)x * (Wide)w + (Wide)sum) * (Wide)0x1p64);
    return fabsf(r) < 0x1p-62f ? copysignf(0, r) : r * 0x1p-64f;
}

static float flushed(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}

static float to_half(float x)
{
    return flushed(bf16_to_float(bf16_of_float(flushed(x))));
}

/* The product of x[k] and w[k], steps `sk` apart. */
static float defined(bool bf16, const float *x, const float *w, int64_t sk, int64_t k)
{
    float y = 0;
    for (int64_t k0 = 0; k0 < k; k0 += 256) {
        float c = 0;
        int64_t end = k - k0 < 256 ? k : k0 + 256;
        for (int64_t i = k0; i < end && !bf16; i++)
            c = fmaf(x[i], w[i * sk], c);
        for (int64_t i = k0; i < end && bf16; i += 2) {
            c = i + 1 < end ? flushed_step(to_half(x[i + 1]), to_half(w[(i + 1) * sk]), c) : flushed_step(0, 0, c);
            c = flushed_step(to_half(x[i]), to_half(w[i * sk]), c);
        }
        y = k0 == 0 ? c : bf16 ? flushed(y + c) : y + c;
    }
    return y;
}

static bool same(float a, float b)
{
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

/* One product of random shape in every way it can be asked for. */
typedef struct Case {
    const GemmOps *ops;
    int64_t m, n, k;
    float *x, *w, *bias, *y0, *y;
    uint16_t *half;
    void *packed;
    bool by_k;
} Case;

static void *fresh(size_t n)
{
    void *p = aligned_alloc(64, (n + 64) / 64 * 64);
    assert_non_null(p);
    return p;
}

static Case case_make(const GemmOps *ops, uint32_t *s, Values v)
{
    Case c = {.ops = ops, .m = 1 + next(s) % 14, .n = 1 + next(s) % 150, .k = next(s) % (next(s) % 4 ? 90 : 700),
              .by_k = next(s) % 2};
    c.x = fresh((size_t)(c.m * c.k) * sizeof *c.x);
    c.w = fresh((size_t)(c.n * c.k) * sizeof *c.w);
    c.half = fresh((size_t)(c.n * c.k) * sizeof *c.half);
    c.bias = fresh((size_t)c.n * sizeof *c.bias);
    c.y0 = fresh((size_t)(c.m * c.n) * sizeof *c.y0);
    c.y = fresh((size_t)(c.m * c.n) * sizeof *c.y);
    c.packed = fresh(ops->packed_bytes(c.n, c.k));
    for (int64_t i = 0; i < c.m * c.k; i++)
        c.x[i] = value(s, v);
    for (int64_t i = 0; i < c.n * c.k; i++) {
        c.half[i] = bf16_of_float(value(s, v));
        c.w[i] = bf16_to_float(c.half[i]);
    }
    for (int64_t i = 0; i < c.n; i++)
        c.bias[i] = uniform(s, -1, 1);
    for (int64_t i = 0; i < c.m * c.n; i++)
        c.y0[i] = uniform(s, -1, 1);
    return c;
}

static void case_free(Case *c)
{
    void *const all[] = {c->x, c->w, c->half, c->bias, c->y0, c->y, c->packed};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* Sums of outputs [first, first + n), with nothing done to them. */
static float *sums_of(const Case *c, int64_t first, int64_t n, bool by_k)
{
    float *want = fresh((size_t)(c->m * n) * sizeof *want);
    for (int64_t i = 0; i < c->m; i++)
        for (int64_t j = 0; j < n; j++)
            want[i * n + j] = defined(c->ops->kind == GEMM_BF16, c->x + i * c->k,
                                      by_k ? c->w + first + j : c->w + (first + j) * c->k, by_k ? c->n : 1, c->k);
    return want;
}

/* Runs g at every level and compares what it leaves of y with sums[m][n], scaled, added and shifted as g says. */
typedef enum Packing { NOT_PACKED, PACKED, WRAPPED } Packing;

static void at_every_level(const Case *c, GemmArgs g, const float *sums, Packing how, DType type)
{
    for (int l = MATH_REFERENCE; l < MATH_LEVELS; l++) {
        if (!math_level_runs((MathLevel)l))
            continue;
        setenv("SLIMSCOPE_KERNELS", math_level_name((MathLevel)l), 1);
        void *scratch = fresh(c->ops->scratch(c->m, c->n, c->k));
        if (how == WRAPPED)
            assert_true(c->ops->wrap(type, c->half, c->n, c->k, c->k, c->packed));
        if (how == PACKED)
            c->ops->pack(type, type == DT_BF16 ? (const void *)c->half : (const void *)c->w, c->n, c->k, c->k, c->packed);
        memcpy(c->y, c->y0, (size_t)(c->m * c->n) * sizeof *c->y);
        g.y = c->y + g.packed_first;
        c->ops->tile(&g, scratch);
        for (int64_t i = 0; i < c->m * c->n; i++) {
            int64_t j = i % c->n - g.packed_first;
            float want = c->y0[i];
            if (j >= 0 && j < g.n) {
                float sum = sums[i / c->n * g.n + j] * (g.alpha != 0 ? g.alpha : 1);
                want = g.beta != 0 ? sum + want * g.beta : sum;
                want = g.bias ? want + g.bias[j] : want;
            }
            if (!same(c->y[i], want))
                fail_msg("%s at %s: element %lld of %lldx%lldx%lld is %a, not %a", c->ops->name,
                         math_level_name((MathLevel)l), (long long)i, (long long)c->m, (long long)c->n, (long long)c->k,
                         (double)c->y[i], (double)want);
        }
        free(scratch);
    }
    unsetenv("SLIMSCOPE_KERNELS");
}

static void try_case(Case *c, uint32_t *s)
{
    float *all = sums_of(c, 0, c->n, c->by_k);
    GemmArgs g = {.m = c->m, .n = c->n, .k = c->k, .x = c->x, .ldx = c->k, .w = c->w, .ldw = c->by_k ? c->n : c->k,
                  .w_by_k = c->by_k, .ldy = c->n};
    at_every_level(c, g, all, NOT_PACKED, DT_F32);
    g.alpha = -0.5f;
    g.beta = 2;
    at_every_level(c, g, all, NOT_PACKED, DT_F32);
    g.bias = c->bias;
    at_every_level(c, g, all, NOT_PACKED, DT_F32);
    free(all);
    int64_t first = next(s) % (uint32_t)c->n, n = 1 + next(s) % (uint32_t)(c->n - first);
    float *part = sums_of(c, first, n, false);
    g = (GemmArgs){.m = c->m, .n = n, .k = c->k, .x = c->x, .ldx = c->k, .packed = c->packed, .packed_n = c->n,
                   .packed_first = first, .ldy = c->n};
    at_every_level(c, g, part, PACKED, DT_F32);
    g.bias = c->bias + first;
    at_every_level(c, g, part, PACKED, DT_BF16);
    at_every_level(c, g, part, WRAPPED, DT_BF16);
    free(part);
}

static void products_are_their_definition(void **state)
{
    (void)state;
    const GemmOps *const ops[] = {&gemm_f32, &gemm_bf16};
    uint32_t s = 23;
    for (int round = 0; round < 66; round++) {
        Case c = case_make(ops[round % 2], &s, (Values)(round % VALUES));
        try_case(&c, &s);
        case_free(&c);
    }
}

/* A sum just below 2^-126 that rounding to 24 bits lifts to it counts as normal only when 24 bits, not those of a
 * denormal, lift it. */
static void the_edge_of_the_normal_range(void **state)
{
    (void)state;
    static const int below[] = {-150, -151, -152, -153};
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        /* the odd one comes first: 2^-126, then what is taken off it */
        float x[2] = {0x1p-63f, 0x1p-63f}, w[2] = {-ldexpf(1, below[i] + 63), 0x1p-63f}, y;
        float want = flushed_step(x[0], w[0], flushed_step(x[1], w[1], 0));
        for (int l = MATH_REFERENCE; l < MATH_LEVELS; l++) {
            if (!math_level_runs((MathLevel)l))
                continue;
            setenv("SLIMSCOPE_KERNELS", math_level_name((MathLevel)l), 1);
            void *scratch = fresh(gemm_bf16.scratch(1, 1, 2));
            GemmArgs g = {.m = 1, .n = 1, .k = 2, .x = x, .ldx = 2, .w = w, .ldw = 2, .y = &y, .ldy = 1};
            gemm_bf16.tile(&g, scratch);
            assert_true(same(y, want));
            free(scratch);
        }
    }
    unsetenv("SLIMSCOPE_KERNELS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_their_definition),
        cmocka_unit_test(the_edge_of_the_normal_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
