#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "math/convert.h"
#include "quant/quantizer.h"
#include "qir/mx.h"
#include "tests/lib/npz.h"

/* Rows that are looked at by name. */
extern const WeightQuantizer weight_minmax_fp8;

/* Weight quantizers against the recorded ones of the peer (golden/quant). */

static const struct {
    const char *name;
    DType T;
} types[] = {{"f32", DT_F32}, {"bf16", DT_BF16}, {"f16", DT_F16}};

static QSpec spec(const char *method, QType t, QScope s, bool sym)
{
    QSpec q = {.dtype = t, .scope = s, .symmetric = sym};
    snprintf(q.method, sizeof q.method, "%s", method);
    return q;
}

/* Quantizes by the table's row for q; the test fails on any error. */
static void quantize(QWeight *out, const QSpec *q, const float *w, int64_t rows, int64_t in, DType T, DType F, bool peer,
                     Pool *pool)
{
    Error err = {0};
    const WeightQuantizer *k = weight_quantizer_find(q);
    assert_non_null(k);
    WeightTask t = {.q = q, .w = w, .out = rows, .in = in, .T = T, .F = F, .peer = peer, .pool = pool};
    if (qweight_init(out, q, rows, in, &err) != ST_OK || k->quantize(&t, out, &err) != ST_OK)
        fail_msg("%s: %s", q->method, err.text);
}

static void same_floats(const float *got, const float *want, int64_t n, const char *what)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(got + i, want + i, 4) != 0 && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s: element %lld is %.9g, wanted %.9g", what, (long long)i, (double)got[i], (double)want[i]);
}

static void same_bytes(const void *got, const void *want, int64_t n, const char *what)
{
    const uint8_t *a = got, *b = want;
    for (int64_t i = 0; i < n; i++)
        if (a[i] != b[i])
            fail_msg("%s: byte %lld is %d, wanted %d", what, (long long)i, a[i], b[i]);
}

static const uint8_t *npz_u8(const Npz *z, const char *name)
{
    const NpyArray *a = npz_find(z, "%s", name);
    if (!a || a->kind != 'u' || a->size != 1)
        fail_msg("%s is missing or not uint8", name);
    return a->data;
}


/* ---- golden ---- */

static void int_minmax_is_the_recorded_one(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/int_minmax.npz");
    for (int t = 0; t < 3; t++)
        for (int bits = 4; bits <= 8; bits += 4) {
            const NpyArray *w;
            const float *W = npz_f32(z, &w, "%s.W", types[t].name);
            QSpec q = spec("minmax", bits == 4 ? QT_INT4 : QT_INT8, QS_PER_CHANNEL, true);
            QWeight out;
            quantize(&out, &q, W, w->shape[0], w->shape[1], types[t].T, types[t].T, true, NULL);
            char what[64];
            snprintf(what, sizeof what, "%s int%d minmax", types[t].name, bits);
            same_bytes(out.code, npz_i8(z, NULL, "%s.int%d.sym.q", types[t].name, bits), w->count, what);
            same_floats(out.scale, npz_f32(z, NULL, "%s.int%d.sym.scale", types[t].name, bits), w->shape[0], what);
            float *y = malloc(sizeof *y * (size_t)w->count);
            qweight_rows(&out, 0, w->shape[0], types[t].T, y);
            same_floats(y, npz_f32(z, NULL, "%s.int%d.sym.deq", types[t].name, bits), w->count, what);
            free(y);
            qweight_fini(&out);
        }
    npz_free(z);
}

static void ssz_is_the_recorded_one(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/ssz.npz");
    int checked = 0;
    for (int t = 0; t < 2; t++)
        for (int bits = 4; bits <= 8; bits += 4)
            for (int f = 0; f <= t; f++)
                for (int step = 1; step <= 50; step += 49) {
                    const char *T = types[t].name, *F = f == 0 ? "f32" : T;
                    const NpyArray *w, *s;
                    const float *W = npz_f32(z, &w, "%s.W", T);
                    const float *scale = npz_f32(z, &s, "%s.int%d.float%s.step%d.scale", T, bits, F, step);
                    const int8_t *code = npz_i8(z, NULL, "%s.int%d.float%s.step%d.q", T, bits, F, step);
                    QSpec q = spec("ssz", bits == 4 ? QT_INT4 : QT_INT8, QS_PER_CHANNEL, true);
                    q.ext.steps = step == 50 ? 0 : step;
                    QWeight out;
                    quantize(&out, &q, W, w->shape[0], w->shape[1], types[t].T, f ? types[t].T : DT_F32, true, NULL);
                    char what[64];
                    snprintf(what, sizeof what, "%s int%d F=%s %d steps", T, bits, F, step);
                    same_bytes(out.code, code, w->count, what);
                    for (int64_t r = 0; r < s->count; r++)
                        if (!(fabsf(out.scale[r] - scale[r]) <= (t == 0 ? 5e-6f : 0.0f) * scale[r]))
                            fail_msg("%s: scale %lld is %.9g, wanted %.9g", what, (long long)r, (double)out.scale[r],
                                     (double)scale[r]);
                    qweight_fini(&out);
                    checked++;
                }
    assert_int_equal(checked, 12);
    npz_free(z);
}

static void gptq_is_the_recorded_one(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/gptq.npz");
    const NpyArray *w;
    const float *W = npz_f32(z, &w, "W"), *H = npz_f32(z, NULL, "H");
    int64_t out_n = w->shape[0], in = w->shape[1], all = 0, off = 0;
    static const int groups[] = {0, 32}, blocks[] = {128, 40};
    for (int k = 0; k < 16; k++) {
        int g = groups[k & 1], b = blocks[k >> 1 & 1], bits = k & 4 ? 4 : 8;
        bool sym = k & 8;
        char name[64];
        snprintf(name, sizeof name, "g%d.b%d.int%d.%s", g, b, bits, sym ? "sym" : "asym");
        const NpyArray *s;
        const float *scale = npz_f32(z, &s, "%s.scale", name), *offset = npz_f32(z, NULL, "%s.offset", name);
        const int8_t *code = npz_i8(z, NULL, "%s.q", name);
        QSpec q = spec("gptq", bits == 4 ? QT_INT4 : QT_INT8, g ? QS_PER_GROUP : QS_PER_CHANNEL, sym);
        q.ext.group_size = g;
        q.ext.block_size = b;
        QWeight out;
        Error err = {0};
        assert_int_equal(qweight_init(&out, &q, out_n, in, &err), ST_OK);
        const WeightQuantizer *m = weight_quantizer_find(&q);
        WeightTask t = {.q = &q, .w = W, .out = out_n, .in = in, .T = DT_F32, .F = DT_F32, .peer = true};
        float *h = malloc((size_t)(in * in) * sizeof *h);
        void *shared;
        assert_non_null(h);
        memcpy(h, H, (size_t)(in * in) * sizeof *h);
        if (m->prepare(&t, h, &shared, &err) != ST_OK)
            fail_msg("%s: %s", name, err.text);
        t.shared = shared;
        if (m->quantize(&t, &out, &err) != ST_OK)
            fail_msg("%s: %s", name, err.text);
        m->release(shared);
        free(h);
        assert_int_equal(s->count, out.out * out.groups);
        for (int64_t i = 0; i < s->count; i++) {
            if (!(fabsf(out.scale[i] - scale[i]) <= 1e-6f * scale[i]))
                fail_msg("%s: scale %lld is %.9g, wanted %.9g", name, (long long)i, (double)out.scale[i],
                         (double)scale[i]);
            float o = out.offset ? out.offset[i] : 0.0f;
            if (o != offset[i])
                fail_msg("%s: offset %lld is %g, wanted %g", name, (long long)i, (double)o, (double)offset[i]);
        }
        for (int64_t i = 0; i < w->count; i++) {
            int d = abs((int8_t)out.code[i] - code[i]);
            if (d > 1)
                fail_msg("%s: integer %lld is %d, wanted %d", name, (long long)i, (int8_t)out.code[i], code[i]);
            off += d;
        }
        all += w->count;
        qweight_fini(&out);
    }
    if (off * 1000 > all)
        fail_msg("%lld of %lld integers are off by one", (long long)off, (long long)all);
    npz_free(z);
}

/* Elements and exponents of the archive as the QWeight has them. */
static void check_mx(const Npz *z, const QWeight *out, const char *name, const char *bytes)
{
    char key[96], what[96];
    const NpyArray *e;
    const float *elem = npz_f32(z, &e, "%s.elem", name), *exponent = npz_f32(z, NULL, "%s.exp", name);
    for (int64_t i = 0; i < out->out * out->groups; i++)
        if (mx_byte(exponent[i]) != out->exponent[i])
            fail_msg("%s: exponent %lld is %d, wanted %g", name, (long long)i, out->exponent[i] - 127,
                     (double)exponent[i]);
    for (int64_t i = 0; i < e->count; i++) {
        float v = out->dtype == QT_MXFP8 ? e4m3_to_float(out->code[i]) : e2m1_to_float(out->code[i]);
        snprintf(what, sizeof what, "%s element %lld", name, (long long)i);
        if (isnan(elem[i])) /* mxfp4 has no NaN: the exponent is */
            assert_true(isnan(v) || (out->dtype == QT_MXFP4 && out->exponent[i / MX_BLOCK] == 255));
        else if (isinf(elem[i])) /* in a file the peer writes the largest element */
            assert_true(fabsf(v) == 448.0f);
        else if (v != elem[i])
            fail_msg("%s is %g, wanted %g", what, (double)v, (double)elem[i]);
    }
    if (!bytes)
        return;
    snprintf(key, sizeof key, "%s.%s", name, bytes);
    const uint8_t *want = npz_u8(z, key);
    if (strcmp(bytes, "bytes") == 0) {
        same_bytes(out->code, want, e->count, key);
    } else {
        for (int64_t i = 0; i < e->count; i += 2)
            if ((out->code[i] | out->code[i + 1] << 4) != want[i / 2])
                fail_msg("%s: byte %lld is %d, wanted %d", key, (long long)(i / 2), out->code[i] | out->code[i + 1] << 4,
                         want[i / 2]);
    }
    snprintf(key, sizeof key, "%s.scale_u8", name);
    same_bytes(out->exponent, npz_u8(z, key), out->out * out->groups, key);
}

/* The one-pass form must be the two steps, bit by bit. */
static void check_rows(const QSpec *q, const QWeight *out, const float *W, DType T, bool peer, const char *name)
{
    const WeightQuantizer *k = weight_quantizer_find(q);
    if (!weight_quantizer_rowwise(k, q, peer))
        return;
    size_t n = (size_t)(out->out * out->in);
    float *fake = malloc(n * sizeof *fake), *y = malloc(n * sizeof *y);
    assert_true(fake && y);
    memcpy(fake, W, n * sizeof *fake);
    k->rows(q, fake, out->out, out->in, T, peer);
    qweight_rows(out, 0, out->out, T, y);
    same_floats(fake, y, (int64_t)n, name);
    free(fake);
    free(y);
}

static void mx_is_the_recorded_one(void **state)
{
    (void)state;
    static const struct {
        const char *name, *method, *bytes;
        QType type;
        double ceil_x;
        bool search;
    } cases[] = {
        {"mxfp8", "minmax", "bytes", QT_MXFP8, 0, false},
        {"mxfp4", "minmax", "packed", QT_MXFP4, 0, false},
        {"mse_round", "mse_round", "bytes", QT_MXFP8, 0, false},
        {"ceil_x", "ceil_x", "packed", QT_MXFP4, 0, false},
        {"ceil_x6", "ceil_x", "packed", QT_MXFP4, 6, false},
        {"ceil_x_search", "ceil_x", "packed", QT_MXFP4, 0, true},
        {"fouroversix", "fouroversix", "packed", QT_MXFP4, 0, false},
    };
    Npz *z = npz_open("tests/golden/quant/mx_fp8.npz");
    for (int t = 0; t < 3; t++) {
        const NpyArray *w;
        const float *W = npz_f32(z, &w, "%s.W", types[t].name);
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
            QSpec q = spec(cases[c].method, cases[c].type, QS_PER_BLOCK, true);
            q.ext.ceil_x = cases[c].ceil_x;
            q.ext.search = cases[c].search;
            char name[64];
            snprintf(name, sizeof name, "%s.%s", types[t].name, cases[c].name);
            QWeight out;
            quantize(&out, &q, W, w->shape[0], w->shape[1], types[t].T, types[t].T, true, NULL);
            check_mx(z, &out, name, cases[c].bytes);
            check_rows(&q, &out, W, types[t].T, true, name);
            qweight_fini(&out);
        }
    }
    npz_free(z);
}

static void odd_blocks_are_padded(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/mx_fp8.npz");
    for (int t = 0; t < 3; t++) {
        const NpyArray *w, *e;
        const float *W = npz_f32(z, &w, "%s.W", types[t].name);
        float part[20 * 40];
        char name[64];
        snprintf(name, sizeof name, "%s.pad40", types[t].name);
        npz_f32(z, &e, "%s.elem", name);
        assert_int_equal(e->shape[1], 40);
        for (int64_t r = 0; r < 20; r++)
            memcpy(part + r * 40, W + r * w->shape[1], 40 * sizeof *part);
        QWeight a, b;
        QSpec q = spec("minmax", QT_MXFP8, QS_PER_BLOCK, true), q4 = spec("minmax", QT_MXFP4, QS_PER_BLOCK, true);
        quantize(&a, &q, part, 20, 40, types[t].T, types[t].T, true, NULL);
        quantize(&b, &q4, part, 20, 40, types[t].T, types[t].T, true, NULL);
        assert_int_equal(a.groups, 2);
        check_mx(z, &a, name, NULL);
        check_rows(&q, &a, part, types[t].T, true, name);
        check_rows(&q4, &b, part, types[t].T, true, "mxfp4 of 40 columns");
        qweight_fini(&a);
        qweight_fini(&b);
    }
    npz_free(z);
}

static void dualscale_is_the_recorded_one(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/mx_fp8.npz");
    for (int t = 0; t < 3; t++) {
        const NpyArray *w;
        const float *W = npz_f32(z, &w, "%s.W", types[t].name);
        const float *dual = npz_f32(z, NULL, "%s.dualscale64.dual", types[t].name);
        QSpec q = spec("dualscale", QT_MXFP4, QS_DUAL_SCALE, true);
        q.ext.dual_block = 64;
        char name[64];
        snprintf(name, sizeof name, "%s.dualscale64", types[t].name);
        QWeight out;
        quantize(&out, &q, W, w->shape[0], w->shape[1], types[t].T, types[t].T, true, NULL);
        same_floats(out.outer, dual, 40, name);
        check_mx(z, &out, name, NULL);
        check_rows(&q, &out, W, types[t].T, true, name);
        qweight_fini(&out);
        /* ours: zeros stay zeros */
        quantize(&out, &q, W, w->shape[0], w->shape[1], types[t].T, DT_F32, false, NULL);
        float y[20 * 128];
        qweight_rows(&out, 0, 20, DT_F32, y);
        for (int64_t i = 0; i < 20 * 128; i++) {
            assert_true(isfinite(y[i]));
            if (W[i] == 0.0f)
                assert_true(y[i] == 0.0f);
        }
        check_rows(&q, &out, W, types[t].T, false, name);
        qweight_fini(&out);
    }
    npz_free(z);
}

static void fp8_is_the_recorded_one(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/mx_fp8.npz");
    for (int t = 0; t < 3; t++) {
        const char *T = types[t].name;
        const NpyArray *w;
        const float *W = npz_f32(z, &w, "%s.W", T), *scale = npz_f32(z, NULL, "%s.fp8.scale", T);
        const float *value = npz_f32(z, NULL, "%s.fp8.val", T);
        QSpec q = spec("minmax", QT_FP8_E4M3, QS_PER_CHANNEL, true);
        char key[64];
        snprintf(key, sizeof key, "%s.fp8.bytes", T);
        QWeight out;
        quantize(&out, &q, W, w->shape[0], w->shape[1], types[t].T, types[t].T, true, NULL);
        same_floats(out.scale, scale, w->shape[0], key);
        const uint8_t *want = npz_u8(z, key);
        for (int64_t i = 0; i < w->count; i++)
            if (out.code[i] != want[i] && !(isnan(e4m3_to_float(out.code[i])) && isnan(e4m3_to_float(want[i]))))
                fail_msg("%s: byte %lld is %d, wanted %d", key, (long long)i, out.code[i], want[i]);
        qweight_fini(&out);
        /* the peer's fake value stays off the grid, ours is on it */
        float fake[20 * 128], s;
        memcpy(fake, W, sizeof fake);
        weight_minmax_fp8.rows(&q, fake, 20, 128, types[t].T, true);
        for (int64_t i = 0; i < w->count; i++) {
            float f = value[i] * scale[i / 128];
            s = types[t].T == DT_F32 ? f : fake[i]; /* val is float32, the product rounds to T */
            if (types[t].T == DT_F32)
                same_floats(fake + i, &s, 1, "fp8 of the peer");
            else if (isfinite(f) && !(fabsf(fake[i] - f) <= fabsf(f) / 256 + 1e-7f))
                fail_msg("%s fp8 of the peer: element %lld is %g, wanted %g", T, (long long)i, (double)fake[i],
                         (double)f);
        }
        quantize(&out, &q, W, w->shape[0], w->shape[1], types[t].T, DT_F32, false, NULL);
        check_rows(&q, &out, W, types[t].T, false, "fp8, ours");
        for (int64_t i = 0; i < out.out; i++)
            assert_true(out.scale[i] > 0.0f);
        qweight_fini(&out);
    }
    npz_free(z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int_minmax_is_the_recorded_one), cmocka_unit_test(ssz_is_the_recorded_one),
        cmocka_unit_test(gptq_is_the_recorded_one),       cmocka_unit_test(mx_is_the_recorded_one),
        cmocka_unit_test(odd_blocks_are_padded),          cmocka_unit_test(dualscale_is_the_recorded_one),
        cmocka_unit_test(fp8_is_the_recorded_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
