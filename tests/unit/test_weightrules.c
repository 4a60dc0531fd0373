#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/convert.h"
#include "quant/quantizer.h"
#include "qir/mx.h"

/* Rows that are looked at by name. */
extern const WeightQuantizer weight_dualscale, weight_minmax_fp8, weight_gptq_int8, weight_ceil_x;

/* Weight quantizers against plain references and properties, and with weights that nobody wants. */

static uint64_t seed = 7;

static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) / (double)(UINT64_C(1) << 53);
}

static double normal(void)
{
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

static void *room(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    assert_non_null(p);
    return p;
}

/* Normal values; row 1 zeros, row 2 one outlier, row 3 only positive, row 4 tiny. */
static float *weight(int64_t out, int64_t in)
{
    float *w = room((size_t)(out * in), sizeof *w);
    for (int64_t i = 0; i < out * in; i++) {
        int64_t r = i / in;
        w[i] = (float)(normal() * 0.02);
        w[i] = r == 1 ? 0.0f : r == 3 ? fabsf(w[i]) : r == 4 ? w[i] * 1e-9f : w[i];
    }
    if (out > 2)
        w[2 * in + in / 2] = -3.0f;
    return w;
}

/* Second moments of correlated inputs, column 3 always 0. */
static float *moments(int64_t in, int64_t rows)
{
    float *h = room((size_t)(in * in), sizeof *h);
    double *x = room((size_t)in, sizeof *x), *sum = room((size_t)(in * in), sizeof *sum);
    for (int64_t r = 0; r < rows; r++) {
        double common = normal();
        for (int64_t j = 0; j < in; j++)
            x[j] = j == 3 ? 0 : (common + normal()) * (j % 7 == 0 ? 4 : 1);
        for (int64_t i = 0; i < in; i++)
            for (int64_t j = 0; j < in; j++)
                sum[i * in + j] += x[i] * x[j];
    }
    for (int64_t i = 0; i < in * in; i++)
        h[i] = (float)(sum[i] * 2 / (double)rows);
    free(x);
    free(sum);
    return h;
}

static QSpec spec_of(const WeightQuantizer *k)
{
    QSpec q = {.dtype = k->key.dtype, .scope = k->key.scope, .symmetric = k->key.sym != 0,
               .ext.group_size = k->key.scope == QS_PER_GROUP ? 32 : 0};
    snprintf(q.method, sizeof q.method, "%s", k->key.method);
    q.ext.dual_block = k->key.scope == QS_DUAL_SCALE ? 64 : 0;
    return q;
}

static Status run(QWeight *out, const QSpec *q, const float *w, int64_t rows, int64_t in, bool peer, const float *h,
                  Pool *pool, Error *err)
{
    const WeightQuantizer *k = weight_quantizer_find(q);
    WeightTask t = {.q = q, .w = w, .out = rows, .in = in, .T = DT_F32, .F = DT_F32, .peer = peer, .pool = pool};
    float *copy = h ? room((size_t)(in * in), sizeof *copy) : NULL;
    void *shared = NULL;
    RETURN_IF_ERROR(qweight_init(out, q, rows, in, err));
    Status st = ST_OK;
    if (h && k->prepare) {
        memcpy(copy, h, (size_t)(in * in) * sizeof *copy);
        st = k->prepare(&t, copy, &shared, err);
    }
    t.shared = shared;
    if (st == ST_OK)
        st = k->quantize(&t, out, err);
    if (st != ST_OK)
        qweight_fini(out);
    if (shared)
        k->release(shared);
    free(copy);
    return st;
}

static void ok(QWeight *out, const QSpec *q, const float *w, int64_t rows, int64_t in, bool peer, const float *h)
{
    Error err = {0};
    if (run(out, q, w, rows, in, peer, h, NULL, &err) != ST_OK)
        fail_msg("%s: %s", q->method, err.text);
}

static void same_weights(const QWeight *a, const QWeight *b, const char *what)
{
    size_t n = (size_t)(a->out * a->groups);
    bool same = memcmp(a->code, b->code, (size_t)(a->out * a->in)) == 0;
    same = same && (!a->scale || memcmp(a->scale, b->scale, n * sizeof *a->scale) == 0);
    same = same && (!a->offset || memcmp(a->offset, b->offset, n * sizeof *a->offset) == 0);
    same = same && (!a->exponent || memcmp(a->exponent, b->exponent, n) == 0);
    same = same && (!a->outer || memcmp(a->outer, b->outer, (size_t)(a->out * a->outer_blocks) * sizeof *a->outer) == 0);
    if (!same)
        fail_msg("%s: results differ", what);
}

/* Sum over elements, or weighted by h: tr(dW H dW^T). */
static double error_of(const QWeight *q, const float *w, const float *h)
{
    int64_t in = q->in;
    float *y = room((size_t)(q->out * in), sizeof *y);
    qweight_rows(q, 0, q->out, DT_F32, y);
    double e = 0;
    for (int64_t r = 0; r < q->out; r++)
        for (int64_t i = 0; i < in; i++) {
            double d = (double)w[r * in + i] - (double)y[r * in + i];
            if (!h)
                e += d * d;
            for (int64_t j = 0; h && j < in; j++)
                e += d * (double)h[i * in + j] * ((double)w[r * in + j] - (double)y[r * in + j]);
        }
    free(y);
    return e;
}

/* ---- every row of the table ---- */

static void every_row_gives_the_same_however_it_is_cut(void **state)
{
    (void)state;
    enum { OUT = 70, IN = 2080 };
    float *w = weight(OUT, IN), *h = moments(IN, 60);
    Pool *pool;
    assert_int_equal(pool_new(&pool, 3, NULL), ST_OK);
    int seen = 0;
    for (int i = 0; weight_quantizer_table[i]; i++, seen++) {
        const WeightQuantizer *k = weight_quantizer_table[i];
        for (int peer = 0; peer < 2; peer++) {
            QSpec q = spec_of(k);
            int64_t in = k->prepare ? 192 : IN; /* the Hessian's corner */
            float *corner = k->prepare ? room(192 * 192, sizeof *corner) : NULL;
            for (int64_t r = 0; corner && r < 192; r++)
                memcpy(corner + r * 192, h + r * IN, 192 * sizeof *corner);
            QWeight one, many;
            Error err = {0};
            ok(&one, &q, w, OUT, in, peer, corner);
            if (run(&many, &q, w, OUT, in, peer, corner, pool, &err) != ST_OK)
                fail_msg("%s: %s", q.method, err.text);
            same_weights(&one, &many, q.method);
            qweight_fini(&many);
            float *y = room((size_t)(OUT * in), sizeof *y), *f = room((size_t)(OUT * in), sizeof *f);
            qweight_rows(&one, 0, OUT, DT_F32, y);
            for (int64_t j = 0; j < OUT * in; j++)
                if (!isfinite(y[j]) && !(peer && k == &weight_dualscale))
                    fail_msg("%s: element %lld is %g", q.method, (long long)j, (double)y[j]);
            bool off_grid = peer && k == &weight_minmax_fp8; /* the peer's fake values: test_weightquant */
            if (weight_quantizer_rowwise(k, &q, peer) && !off_grid) {
                memcpy(f, w, (size_t)(OUT * in) * sizeof *f);
                k->rows(&q, f, 30, in, DT_F32, peer); /* in two pieces */
                k->rows(&q, f + 30 * in, OUT - 30, in, DT_F32, peer);
                for (int64_t j = 0; j < OUT * in; j++)
                    if (memcmp(f + j, y + j, sizeof *f) != 0 && !(isnan(f[j]) && isnan(y[j])))
                        fail_msg("%s: element %lld is %g in rows(), %g from codes", q.method, (long long)j,
                                 (double)f[j], (double)y[j]);
            }
            if (!peer) /* a quarter of the largest is the worst rounding of any format here */
                for (int64_t r = 0; r < OUT; r++)
                    for (int64_t j = 0; j < in; j++) {
                        double top = 0;
                        for (int64_t c = j / 32 * 32; c < in && c < j / 32 * 32 + 32; c++)
                            top = fmax(top, fabs((double)w[r * in + c]));
                        double d = fabs((double)y[r * in + j] - (double)w[r * in + j]);
                        bool clips = strcmp(q.method, "ssz") == 0 || strcmp(q.method, "w8a8s") == 0;
                        if (r != 2 && !k->prepare && !clips && !(d <= 0.25 * fmax(top, 0.02)))
                            fail_msg("%s: row %lld column %lld is %g, was %g", q.method, (long long)r, (long long)j,
                                     (double)y[r * in + j], (double)w[r * in + j]);
                    }
            qweight_fini(&one);
            free(corner);
            free(y);
            free(f);
        }
    }
    int all = 0;
    while (weight_quantizer_table[all])
        all++;
    assert_int_equal(seen, all);
    pool_free(pool);
    free(w);
    free(h);
}

static void bad_weights_harm_only_their_rows(void **state)
{
    (void)state;
    enum { OUT = 6, IN = 64 };
    float *w = weight(OUT, IN), *h = moments(IN, 40), *good = room(OUT * IN, sizeof *good);
    memcpy(good, w, OUT * IN * sizeof *good);
    w[0] = NAN;
    w[2 * IN + 5] = INFINITY;
    w[4 * IN + 63] = -INFINITY;
    for (int i = 0; weight_quantizer_table[i]; i++) {
        const WeightQuantizer *k = weight_quantizer_table[i];
        QSpec q = spec_of(k);
        if (strcmp(q.method, "w8a8s") == 0 || strcmp(q.method, "admm") == 0 || strcmp(q.method, "magnitude") == 0)
            continue; /* the threshold, the choice of what is pruned, is the whole weight's */
        for (int peer = 0; peer < 2; peer++) {
            if (peer && strcmp(q.method, "ssz") == 0)
                continue; /* its number of steps is the whole weight's */
            QWeight a, b;
            ok(&a, &q, w, OUT, IN, peer, h);
            ok(&b, &q, good, OUT, IN, peer, h);
            for (int64_t r = 1; r < OUT; r += 2)
                if (memcmp(a.code + r * IN, b.code + r * IN, IN) != 0)
                    fail_msg("%s: bad rows changed row %lld", q.method, (long long)r);
            qweight_fini(&a);
            qweight_fini(&b);
        }
    }
    free(w);
    free(h);
    free(good);
}

static void odd_shapes(void **state)
{
    (void)state;
    float *h = moments(9, 30), one[1] = {-0.37f};
    Error err = {0};
    QWeight out;
    for (int i = 0; weight_quantizer_table[i]; i++) {
        const WeightQuantizer *k = weight_quantizer_table[i];
        QSpec q = spec_of(k);
        float y;
        if (strcmp(q.method, "fouroversix") == 0 || q.scope == QS_PER_GROUP)
            continue;
        ok(&out, &q, one, 1, 1, false, h);
        qweight_rows(&out, 0, 1, DT_F32, &y);
        assert_true(fabsf(y - one[0]) < 0.1f);
        qweight_fini(&out);
    }
    QSpec q = {.dtype = QT_INT4, .scope = QS_PER_GROUP, .symmetric = true, .method = "minmax"};
    assert_int_equal(qweight_init(&out, &q, 3, 200, &err), ST_DATA);
    assert_non_null(strstr(err.text, "3 outputs x 200 inputs"));
    assert_non_null(strstr(err.text, "groups of 128"));
    assert_null(strchr(err.text, '\n'));
    q.ext.group_size = 40;
    assert_int_equal(qweight_init(&out, &q, 3, 200, &err), ST_OK);
    assert_int_equal(out.groups, 5);
    assert_null(out.offset);
    qweight_fini(&out);
    q.symmetric = false;
    assert_int_equal(qweight_bytes(&q, 3, 200), 600 + 3 * 5 * 8);
    q = (QSpec){.dtype = QT_MXFP4, .scope = QS_PER_BLOCK, .symmetric = true, .method = "fouroversix"};
    assert_int_equal(qweight_init(&out, &q, 2, 40, &err), ST_DATA);
    assert_non_null(strstr(err.text, "8 left over"));
    strcpy(q.method, "minmax");
    assert_int_equal(qweight_bytes(&q, 2, 40), 80 + 4);
    q.scope = QS_DUAL_SCALE;
    assert_int_equal(qweight_init(&out, &q, 2, 40, &err), ST_DATA);
    q.ext.dual_block = 24; /* outer blocks that cut inner ones */
    assert_int_equal(qweight_bytes(&q, 2, 40), 80 + 4 + 2 * 2 * 4);
    strcpy(q.method, "dualscale");
    assert_false(weight_quantizer_rowwise(&weight_dualscale, &q, false));
    float *w = weight(2, 40);
    ok(&out, &q, w, 2, 40, false, NULL);
    assert_true(error_of(&out, w, NULL) < 0.05 * 40 * 0.02 * 0.02);
    qweight_fini(&out);
    q.dtype = QT_FLOAT;
    assert_int_equal(qweight_init(&out, &q, 2, 40, &err), ST_DATA);
    assert_int_equal(qweight_init(&out, &q, 0, 40, &err), ST_DATA);
    free(w);
    free(h);
}

/* ---- elements, word by word ---- */

/* specs/quantization.md 7.4 as it is written, with libm. */
static float plain_element(QType t, float x, float e)
{
    float scale = exp2f(e), a, p, r;
    if (t == QT_MXFP8) {
        float v = x == 0.0f ? 0.0f : x / scale;
        p = v == 0.0f ? 0.0f : (float)log2(fabs((double)v));
        p = fmaxf(floorf(p), -6.0f);
        r = copysignf(floorf(fabsf(v) / exp2f(p) * 8.0f + 0.5f) / 8.0f * exp2f(p), v);
        return fminf(fmaxf(r, -448.0f), 448.0f);
    }
    a = fabsf(x) / scale;
    p = floorf((float)log2((double)(a + 9.6e-7f)));
    p = p < 0 ? 0 : p > 2 ? 2 : p;
    r = floorf(a / exp2f(p) * 2.0f + 0.5f) / 2.0f * exp2f(p);
    return copysignf(fminf(r, 6.0f), x);
}

/* The byte of the nearest e4m3. */
static uint8_t nearest_e4m3(float v)
{
    uint8_t code;
    e4m3_encode(&v, 1, 1.0f, DT_F32, &code);
    return code;
}

static void elements_are_those_of_the_formulas(void **state)
{
    (void)state;
    for (int b = 0; b < 256; b++) {
        float v = e4m3_to_float((uint8_t)b);
        if ((b & 0x7f) == 0x7f)
            assert_true(isnan(v));
        else
            assert_int_equal(nearest_e4m3(v), b);
    }
    assert_int_equal(nearest_e4m3(449.0f), 0x7e); /* the largest, 448 */
    assert_int_equal(nearest_e4m3(17.0f), nearest_e4m3(16.0f)); /* ties to even */
    assert_int_equal(nearest_e4m3(19.0f), nearest_e4m3(20.0f));
    for (int t = 0; t < 2; t++) {
        QType type = t ? QT_MXFP4 : QT_MXFP8;
        for (int n = 0; n < 20000; n++) {
            float x[MX_BLOCK], y[MX_BLOCK], z[MX_BLOCK], top = 0;
            uint8_t code[MX_BLOCK];
            int len = 1 + n % MX_BLOCK;
            for (int i = 0; i < len; i++) {
                double v = normal() * exp2(floor(uniform() * 20) - 10);
                /* grid points, ties, and their neighbours */
                if (n % 3 == 0)
                    v = ldexp(floor(uniform() * 64), (int)(uniform() * 8) - 6);
                x[i] = (float)v;
                if (n % 9 == 0)
                    x[i] = nextafterf(x[i], n % 2 ? 1e9f : -1e9f);
                top = fmaxf(top, fabsf(x[i]));
            }
            assert_true(mx_amax(quant_loops(), x, len) == top);
            float e = n % 2 ? mx_exponent(type, top, DT_F32) : (float)(n % 7) - 5;
            mx_fake_block(quant_loops(), type, x, len, e, DT_F32, y);
            mx_encode(quant_loops(), type, x, len, e, DT_F32, code);
            mx_decode(quant_loops(), type, code, len, e, DT_F32, z);
            for (int i = 0; i < len; i++) {
                float want = plain_element(type, x[i], e) * exp2f(e);
                if (y[i] != want || z[i] != want)
                    fail_msg("%.9g at 2^%g: %.9g and %.9g, wanted %.9g", (double)x[i], (double)e, (double)y[i],
                             (double)z[i], (double)want);
            }
        }
    }
    /* exponents near powers of two: the float32 logarithm of 2^k - 1 ulp is k for large k */
    for (int k = -100; k <= 120; k++) {
        float v[3] = {exp2f((float)k), nextafterf(exp2f((float)k), 0), nextafterf(exp2f((float)k), INFINITY)};
        for (int i = 0; i < 3; i++)
            assert_true(mx_exponent(QT_MXFP8, v[i], DT_F32) ==
                        fmaxf(floorf((float)log2((double)v[i])) - 8.0f, -127.0f));
    }
    assert_true(isnan(mx_exponent(QT_MXFP8, INFINITY, DT_F32)) && isnan(mx_exponent(QT_MXFP4, NAN, DT_F32)));
    assert_int_equal(mx_byte(NAN), 255);
    assert_int_equal(mx_byte(-129.0f), 0);
    assert_true(mx_byte_exponent(mx_byte(-3.0f)) == -3.0f && isnan(mx_byte_exponent(255)));
}

/* ---- methods ---- */

static void ssz_is_never_worse_than_minmax(void **state)
{
    (void)state;
    enum { OUT = 40, IN = 160 };
    float *w = weight(OUT, IN);
    for (int t = 0; t < 4; t++) {
        QSpec q = {.dtype = t & 1 ? QT_INT4 : QT_INT8, .scope = t & 2 ? QS_PER_GROUP : QS_PER_CHANNEL,
                   .symmetric = true, .ext.group_size = t & 2 ? 32 : 0, .method = "minmax"};
        QWeight plain, fitted;
        ok(&plain, &q, w, OUT, IN, false, NULL);
        strcpy(q.method, "ssz");
        ok(&fitted, &q, w, OUT, IN, false, NULL);
        double a = error_of(&plain, w, NULL), b = error_of(&fitted, w, NULL);
        if (!(b < a * (t & 1 ? 0.97 : 1.0)))
            fail_msg("ssz has %g, minmax %g", b, a);
        assert_true(fitted.scale[fitted.groups] == 0x1p-23f); /* the row of zeros */
        q.ext.steps = 1;
        QWeight once;
        ok(&once, &q, w, OUT, IN, false, NULL);
        assert_true(error_of(&once, w, NULL) >= b && error_of(&once, w, NULL) <= a);
        qweight_fini(&plain);
        qweight_fini(&fitted);
        qweight_fini(&once);
    }
    free(w);
}

/* What is tried goes from search_min to search_max in steps; the least of all lies beyond either bound here. */
static void a_search_keeps_to_its_bounds(void **state)
{
    (void)state;
    enum { OUT = 12, IN = 96 };
    static const struct {
        double min, max, step, first;
        int n;
    } cases[] = {{9, 0, 1.5, 9, 3}, {0, 6.6, 0.3, 6, 3}, {6.1, 6.4, 0.1, 6.1, 4}};
    float *w = weight(OUT, IN);
    QSpec q = {.dtype = QT_MXFP4, .scope = QS_PER_BLOCK, .symmetric = true, .method = "ceil_x",
               .ext = {.search = true}};
    QWeight out;
    ok(&out, &q, w, OUT, IN, false, NULL);
    double least = error_of(&out, w, NULL);
    qweight_fini(&out);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double want = INFINITY;
        for (int k = 0; k < cases[i].n; k++) {
            q.ext = (QExt){.ceil_x = cases[i].first + k * cases[i].step};
            ok(&out, &q, w, OUT, IN, false, NULL);
            want = fmin(want, error_of(&out, w, NULL));
            qweight_fini(&out);
        }
        q.ext = (QExt){.search = true, .search_min = cases[i].min, .search_max = cases[i].max,
                       .search_step = cases[i].step};
        ok(&out, &q, w, OUT, IN, false, NULL);
        double got = error_of(&out, w, NULL);
        if (!(fabs(got - want) <= 1e-6 * want) || !(got > 1.001 * least))
            fail_msg("case %d: the error is %g, that of its steps %g, the least %g", (int)i, got, want, least);
        qweight_fini(&out);
    }
    free(w);
}

/* Each group has the integers of its own range. */
static void groups_are_rows_of_their_own(void **state)
{
    (void)state;
    enum { OUT = 12, IN = 96, GROUP = 32 };
    float *w = weight(OUT, IN), y[OUT * IN], want[GROUP];
    for (int t = 0; t < 4; t++) {
        int bits = t & 1 ? 4 : 8;
        QSpec q = {.dtype = t & 1 ? QT_INT4 : QT_INT8, .scope = QS_PER_GROUP, .symmetric = t & 2,
                   .ext.group_size = GROUP, .method = "minmax"};
        QWeight out;
        ok(&out, &q, w, OUT, IN, false, NULL);
        assert_int_equal(out.groups, IN / GROUP);
        assert_int_equal(out.offset != NULL, !q.symmetric);
        qweight_rows(&out, 0, OUT, DT_F32, y);
        for (int g = 0; g < OUT * IN / GROUP; g++) {
            float mn, mx;
            int8_t code[GROUP];
            intquant_range(w + g * GROUP, GROUP, &mn, &mx);
            QParam p = intquant_param(mn, mx, bits, q.symmetric, DT_F32);
            intquant_quantize(w + g * GROUP, GROUP, p, bits, DT_F32, code);
            intquant_dequantize(code, GROUP, p, DT_F32, want);
            assert_memory_equal(out.code + g * GROUP, code, GROUP);
            assert_memory_equal(&out.scale[g], &p.scale, sizeof p.scale);
            if (out.offset)
                assert_memory_equal(&out.offset[g], &p.offset, sizeof p.offset);
            assert_memory_equal(y + g * GROUP, want, sizeof want);
        }
        qweight_fini(&out);
    }
    free(w);
}

/* In place Gauss-Jordan inverse. */
static void invert(double *a, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        double p = a[k * n + k];
        a[k * n + k] = 1;
        for (int64_t j = 0; j < n; j++)
            a[k * n + j] /= p;
        for (int64_t i = 0; i < n; i++) {
            double f = a[i * n + k];
            if (i == k)
                continue;
            a[i * n + k] = 0;
            for (int64_t j = 0; j < n; j++)
                a[i * n + j] -= f * a[k * n + j];
        }
    }
}

/* The definition of the method (Optimal Brain Surgeon, column by column): after each column the inverse of the rest is
 * taken anew. perm: order of the columns; groups are those of the weight, fixed beforehand when `fixed`. */
static void plain_gptq(const QSpec *q, const float *w0, int64_t out, int64_t in, const float *h, const int64_t *perm,
                       bool fixed, int8_t *code)
{
    int bits = q->dtype == QT_INT4 ? 4 : 8;
    int64_t group = q->scope == QS_PER_GROUP ? q->ext.group_size : in;
    double damp = q->ext.percdamp > 0 ? q->ext.percdamp : 0.01;
    double *hd = room((size_t)(in * in), sizeof *hd), mean = 0, *w = room((size_t)(out * in), sizeof *w);
    QParam *par = room((size_t)(out * (in / group)), sizeof *par);
    for (int64_t i = 0; i < in; i++)
        mean += (h[i * in + i] == 0 ? 1 : (double)h[i * in + i]) / (double)in;
    for (int64_t i = 0; i < in * in; i++)
        hd[i] = (double)h[i];
    for (int64_t i = 0; i < in; i++)
        hd[i * in + i] = (hd[i * in + i] == 0 ? 1 : hd[i * in + i]) + damp * mean;
    for (int64_t i = 0; i < out * in; i++)
        w[i] = (double)w0[i];
    for (int64_t k = 0; k < in; k++) {
        int64_t n = in - k;
        double *inv = room((size_t)(n * n), sizeof *inv);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                inv[i * n + j] = hd[perm[k + i] * in + perm[k + j]];
        invert(inv, n);
        for (int64_t r = 0; r < out; r++) {
            int64_t c = perm[k];
            QParam *p = &par[r * (in / group) + c / group];
            if (fixed ? k == 0 : c % group == 0)
                for (int64_t g = fixed ? 0 : c / group; g <= (fixed ? in / group - 1 : c / group); g++) {
                    float part[256], mn, mx;
                    for (int64_t j = 0; j < group; j++)
                        part[j] = (float)w[r * in + g * group + j];
                    intquant_range(part, group, &mn, &mx);
                    par[r * (in / group) + g] = intquant_param(mn, mx, bits, q->symmetric, DT_F32);
                }
            float v = (float)w[r * in + c], d;
            intquant_quantize(&v, 1, *p, bits, DT_F32, &code[r * in + c]);
            intquant_dequantize(&code[r * in + c], 1, *p, DT_F32, &d);
            double err = (w[r * in + c] - (double)d) / inv[0];
            for (int64_t j = 0; j < n; j++)
                w[r * in + perm[k + j]] -= err * inv[j];
        }
        free(inv);
    }
    free(hd);
    free(w);
    free(par);
}

static void gptq_is_its_definition(void **state)
{
    (void)state;
    enum { OUT = 24, IN = 96 };
    float *w = weight(OUT, IN), *h = moments(IN, 300);
    int64_t perm[IN];
    int8_t code[OUT * IN];
    int64_t off = 0, all = 0;
    for (int k = 0; k < 24; k++) {
        static const int64_t blocks[] = {0, 20, 48};
        QSpec q = {.dtype = k & 1 ? QT_INT4 : QT_INT8, .scope = k & 2 ? QS_PER_GROUP : QS_PER_CHANNEL,
                   .symmetric = k & 4, .method = "gptq", .ext.group_size = k & 2 ? 32 : 0};
        q.ext.block_size = blocks[k / 8];
        q.ext.act_order = k / 8 == 2;
        q.ext.percdamp = k / 8 == 1 ? 0.002 : 0;
        for (int64_t i = 0; i < IN; i++)
            perm[i] = i;
        for (int64_t i = 1; q.ext.act_order && i < IN; i++) /* falling diagonal */
            for (int64_t j = i; j > 0 && h[perm[j] * (IN + 1)] > h[perm[j - 1] * (IN + 1)]; j--) {
                int64_t t = perm[j];
                perm[j] = perm[j - 1];
                perm[j - 1] = t;
            }
        QWeight out, plain;
        ok(&out, &q, w, OUT, IN, false, h);
        plain_gptq(&q, w, OUT, IN, h, perm, !(k & 2) || q.ext.act_order, code);
        for (int64_t i = 0; i < OUT * IN; i++) {
            off += (int8_t)out.code[i] != code[i];
            all++;
        }
        QSpec rtn = q;
        strcpy(rtn.method, "minmax");
        assert_int_equal(qweight_init(&plain, &rtn, OUT, IN, NULL), ST_OK);
        WeightTask t = {.q = &rtn, .w = w, .out = OUT, .in = IN, .T = DT_F32, .F = DT_F32};
        assert_int_equal(weight_minmax_int8.quantize(&t, &plain, NULL), ST_OK); /* any integer grid */
        double a = error_of(&out, w, h), b = error_of(&plain, w, h);
        if (!(a < 0.8 * b))
            fail_msg("case %d: the output's error is %g, that of minmax %g", k, a, b);
        qweight_fini(&out);
        qweight_fini(&plain);
    }
    printf("# %lld of %lld integers differ from the definition\n", (long long)off, (long long)all);
    assert_true(off * 500 < all); /* float32 here, float64 there: a rounding that tips over moves what follows */
    free(w);
    free(h);
}

static void gptq_meets_bad_moments(void **state)
{
    (void)state;
    enum { OUT = 5, IN = 32 };
    float *w = weight(OUT, IN), *h = room(IN * IN, sizeof *h);
    QSpec q = {.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "gptq"};
    QWeight out, plain;
    Error err = {0};
    assert_int_equal(run(&out, &q, w, OUT, IN, false, NULL, NULL, &err), ST_DATA);
    assert_non_null(strstr(err.text, "calibration"));
    ok(&out, &q, w, OUT, IN, false, h); /* nothing ever came in: as minmax */
    QSpec rtn = q;
    strcpy(rtn.method, "minmax");
    ok(&plain, &rtn, w, OUT, IN, false, NULL);
    assert_memory_equal(out.code, plain.code, OUT * IN);
    qweight_fini(&out);
    qweight_fini(&plain);
    for (int i = 0; i < IN; i++)
        for (int j = 0; j < IN; j++)
            h[i * IN + j] = i == j ? 1.0f : 1.3f; /* not positive definite until enough is added */
    ok(&out, &q, w, OUT, IN, false, h);
    qweight_fini(&out);
    assert_int_equal(run(&out, &q, w, OUT, IN, true, h, NULL, &err), ST_DATA); /* the peer doesn't try again */
    assert_non_null(strstr(err.text, "percdamp"));
    h[7 * IN + 7] = NAN;
    assert_int_equal(run(&out, &q, w, OUT, IN, false, h, NULL, &err), ST_DATA);
    assert_non_null(strstr(err.text, "NaN"));
    Cancel stop = {.level = 1};
    WeightTask t = {.q = &rtn, .w = w, .out = OUT, .in = IN, .T = DT_F32, .F = DT_F32, .cancel = &stop};
    assert_int_equal(qweight_init(&out, &rtn, OUT, IN, &err), ST_OK);
    assert_int_equal(weight_minmax_int8.quantize(&t, &out, &err), ST_CANCELLED);
    qweight_fini(&out);
    uint64_t one = weight_gptq_int8.scratch(&q, OUT, 4096, 1), many = weight_gptq_int8.scratch(&q, OUT, 4096, 64);
    assert_true(weight_gptq_int8.prepare_bytes(4096, 1) >= UINT64_C(4) * 4096 * 4096); /* half a matrix of doubles */
    assert_true(many - one >= UINT64_C(63) * 64 * 4096 * sizeof(float)); /* rows of every thread, however many */
    free(w);
    free(h);
}

static int falling(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void w8a8s_leaves_outliers_outside(void **state)
{
    (void)state;
    enum { OUT = 30, IN = 100 };
    float *w = weight(OUT, IN), sorted[OUT * IN];
    for (int j = 0; j < IN; j++)
        w[5 * IN + j] = 9.0f; /* nothing but outliers */
    for (int i = 0; i < OUT * IN; i++)
        sorted[i] = fabsf(w[i]);
    qsort(sorted, OUT * IN, sizeof *sorted, falling);
    static const double fractions[] = {0, 0.05, 0.1, 1e-9};
    for (int f = 0; f < 4; f++) {
        QSpec q = {.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "w8a8s"};
        q.ext.fraction = fractions[f];
        QWeight out;
        ok(&out, &q, w, OUT, IN, false, NULL);
        int k = (int)(OUT * IN * (f ? fractions[f] : 0.01));
        float limit = k ? sorted[k - 1] : INFINITY;
        for (int r = 0; r < OUT; r++) {
            float inlier = 0, top = 0;
            for (int j = 0; j < IN; j++) {
                top = fmaxf(top, fabsf(w[r * IN + j]));
                if (fabsf(w[r * IN + j]) <= limit)
                    inlier = fmaxf(inlier, fabsf(w[r * IN + j]));
            }
            float s = fmaxf(inlier > 0 ? inlier / 7 : top / 127, 0x1p-23f);
            assert_true(out.scale[r] == s);
            for (int j = 0; j < IN; j++) {
                float v = fminf(fmaxf(rintf(w[r * IN + j] / s), -128), 127);
                assert_int_equal((int8_t)out.code[r * IN + j], (int)v);
            }
        }
        qweight_fini(&out);
    }
    QSpec q = {.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "w8a8s", .ext = {.fraction = 1}};
    Error err;
    QWeight out;
    assert_int_equal(run(&out, &q, w, OUT, IN, false, NULL, NULL, &err), ST_DATA);
    free(w);
}

static void searches_find_the_least(void **state)
{
    (void)state;
    enum { OUT = 12, IN = 96 };
    float *w = weight(OUT, IN);
    QSpec q = {.dtype = QT_MXFP4, .scope = QS_PER_BLOCK, .symmetric = true, .method = "ceil_x", .ext = {.search = true}};
    assert_false(weight_quantizer_rowwise(&weight_ceil_x, &q, false));
    QWeight found, each;
    ok(&found, &q, w, OUT, IN, false, NULL);
    double least = INFINITY, got = error_of(&found, w, NULL);
    for (int k = 0; k <= 24; k++) {
        QSpec one = q;
        one.ext.search = false;
        one.ext.ceil_x = 6 + k * 0.25;
        ok(&each, &one, w, OUT, IN, false, NULL);
        least = fmin(least, error_of(&each, w, NULL));
        qweight_fini(&each);
    }
    assert_true(fabs(got - least) <= 1e-6 * least);
    qweight_fini(&found);
    q.ext.search_step = 1e-9;
    Error err;
    assert_int_equal(run(&found, &q, w, OUT, IN, false, NULL, NULL, &err), ST_DATA);
    assert_non_null(strstr(err.text, "ceil_x"));
    /* per block: mse_round and fouroversix are no worse than either of their two exponents */
    static const struct {
        const char *method;
        QType type;
        bool must_win;
    } rows[] = {{"mse_round", QT_MXFP8, true}, {"fouroversix", QT_MXFP4, false}};
    for (int i = 0; i < 2; i++) {
        QSpec m = {.dtype = rows[i].type, .scope = QS_PER_BLOCK, .symmetric = true, .method = "minmax"};
        ok(&each, &m, w, OUT, IN, false, NULL);
        snprintf(m.method, sizeof m.method, "%s", rows[i].method);
        ok(&found, &m, w, OUT, IN, false, NULL);
        double a = error_of(&found, w, NULL), b = error_of(&each, w, NULL);
        if (!(a <= b * (rows[i].must_win ? 1.0 : 1.1)))
            fail_msg("%s: %g, minmax %g", rows[i].method, a, b);
        qweight_fini(&found);
        qweight_fini(&each);
    }
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_gives_the_same_however_it_is_cut),
        cmocka_unit_test(bad_weights_harm_only_their_rows),
        cmocka_unit_test(odd_shapes),
        cmocka_unit_test(elements_are_those_of_the_formulas),
        cmocka_unit_test(ssz_is_never_worse_than_minmax),
        cmocka_unit_test(gptq_is_its_definition),
        cmocka_unit_test(gptq_meets_bad_moments),
        cmocka_unit_test(w8a8s_leaves_outliers_outside),
        cmocka_unit_test(searches_find_the_least),
        cmocka_unit_test(groups_are_rows_of_their_own),
        cmocka_unit_test(a_search_keeps_to_its_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
