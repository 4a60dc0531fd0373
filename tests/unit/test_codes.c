#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "math/convert.h"
#include "qir/round.h"
#include "quant/forms.h"
#include "tests/lib/configs.h"

/* Integers and scales of a linear's form: their product is what the form's fake-quantized values are. */

enum { IN = 100, OUT = 24, SAMPLES = 3, ROWS = 17 };

static const int64_t starts[SAMPLES + 1] = {0, 5, 6, ROWS};

typedef struct OneLinear {
    Model m;
    Linear lin;
    int16_t level;
    QConfig q;
    QuantLevel l;
    FormsOptions o;
    LayerForms f;
    Pool *pool;
    float w[OUT * IN], x[ROWS * IN];
} OneLinear;

static Status read_weight(void *ctx, int64_t linear, float *w, Error *err)
{
    (void)linear, (void)err;
    memcpy(w, ((const OneLinear *)ctx)->w, sizeof((const OneLinear *)ctx)->w);
    return ST_OK;
}

static QSpec spec(QType t, QScope s, bool sym, const char *method)
{
    QSpec q = {.dtype = t, .scope = s, .symmetric = sym};
    if (s == QS_PER_GROUP)
        q.ext.group_size = 20;
    snprintf(q.method, sizeof q.method, "%s", method);
    return q;
}

/* Values of every size, a row of zeros, a constant row, one outlier. */
static void fill(float *v, int64_t rows, uint64_t seed, DType T)
{
    Rng rng = rng_of(seed, 0);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < IN; i++) {
            float x = ((float)(rng_next(&rng) >> 40) * 0x1p-23f - 0.7f) * ldexpf(1, (int)(r % 7) - 3);
            v[r * IN + i] = round_to_dtype(r == 2 ? 0.0f : r == 3 ? -0.25f : r == 4 && i == 9 ? 61.0f : x, T);
        }
}

/* A linear that has calibrated on x, in stage FORM_FIXED. */
static void open_linear(OneLinear *t, QSpec act, QSpec weight, bool peer, DType T)
{
    *t = (OneLinear){.lin = {.name = "l", .out = OUT, .in = IN}, .level = 1, .q = config_default()};
    fill(t->w, OUT, 5, T);
    fill(t->x, ROWS, 6, T);
    t->q.act = act;
    t->q.weight = weight;
    t->m = (Model){.linears = &t->lin, .nlinears = 1, .cfg = {.layers = 1}};
    assert_int_equal(pool_new(&t->pool, 2, NULL), ST_OK);
    t->l = quant_level(&t->q);
    assert_non_null(t->l.act);
    assert_non_null(t->l.weight);
    t->o = (FormsOptions){.levels = &t->l, .level = &t->level, .peer = peer, .weight = T, .read = read_weight, .ctx = t,
                          .pool = t->pool};
    assert_int_equal(layer_forms_init(&t->f, &t->m, &t->o, 0, 1, NULL), ST_OK);
    const FormTypes types = {T, T, T};
    Stream shape = {.samples = SAMPLES, .rows = ROWS, .width = IN, .start = (int64_t *)(uintptr_t)starts};
    assert_int_equal(layer_forms_stage(&t->f, 0, FORM_CALIBRATE, &types, NULL), ST_OK);
    const LinearForm *f = t->f.table[0];
    if (f->prepare)
        assert_int_equal(f->prepare(f->self, t->x, &shape, IN, t->pool, NULL), ST_OK);
    assert_int_equal(layer_forms_stage(&t->f, 0, FORM_FIXED, &types, NULL), ST_OK);
}

static void close_linear(OneLinear *t)
{
    layer_forms_fini(&t->f);
    pool_free(t->pool);
}

/* code * scale, rounded to T, has the bits of `want`; codes are integers that bfloat16 holds. */
static void same_rows(const char *what, const float *code, const float *scale, const float *want, int64_t rows,
                      float most, DType T)
{
    for (int64_t i = 0; i < rows * IN; i++) {
        float c = code[i], got = round_to_dtype(c * scale[i / IN], T);
        if (c != rintf(c) || fabsf(c) > most || round_to_dtype(c, DT_BF16) != c)
            fail_msg("%s: code %lld is %g", what, (long long)i, (double)c);
        if (bits_of_float(got) != bits_of_float(want[i]))
            fail_msg("%s: value %lld is %.9g, wanted %.9g", what, (long long)i, (double)got, (double)want[i]);
    }
}

static const struct {
    QScope scope;
    bool sym;
    const char *method;
} acts[] = {
    {QS_PER_TENSOR, true, "minmax"},  {QS_PER_TENSOR, false, "minmax"},    {QS_PER_TOKEN, true, "minmax"},
    {QS_PD_MIX, false, "minmax"},     {QS_PER_TENSOR, false, "histogram"},
};

static const struct {
    QType type;
    const char *method;
} weights[] = {
    {QT_INT8, "minmax"}, {QT_INT4, "minmax"}, {QT_INT8, "ssz"}, {QT_INT4, "ssz"}, {QT_INT8, "w8a8s"}, {QT_INT8, "gptq"},
};

static void codes_times_scales_are_the_fake_quantized_values(void **state)
{
    (void)state;
    static OneLinear t;
    static float code[OUT * IN], want[OUT * IN], xcode[ROWS * IN], xwant[ROWS * IN];
    static const DType types[] = {DT_F32, DT_BF16, DT_F16};
    float scale[OUT], xscale[ROWS];
    for (size_t k = 0; k < sizeof acts / sizeof *acts * (sizeof weights / sizeof *weights) * 3; k++) {
        size_t a = k / 3 % (sizeof acts / sizeof *acts), w = k / 3 / (sizeof acts / sizeof *acts);
        DType T = types[k % 3];
        DType wide = strcmp(acts[a].method, "histogram") == 0 ? DT_F32 : T; /* its parameters are float32, so is its pass */
        open_linear(&t, spec(QT_INT8, acts[a].scope, acts[a].sym, acts[a].method),
                    spec(weights[w].type, QS_PER_CHANNEL, true, weights[w].method), false, T);
        const LinearForm *f = t.f.table[0];
        assert_non_null(f->weight_codes);
        assert_non_null(f->act_codes);
        memcpy(code, t.w, sizeof code);
        memcpy(want, t.w, sizeof want);
        for (int64_t row = 0; row < OUT; row += 8) {
            f->weight_codes(f->self, row, 8, IN, code + row * IN, scale + row);
            f->weight(f->self, row, 8, IN, want + row * IN);
        }
        same_rows(weights[w].method, code, scale, want, OUT, weights[w].type == QT_INT8 ? 128 : 8, T);
        for (int s = 0; s < SAMPLES; s++) {
            int64_t at = starts[s], n = starts[s + 1] - at;
            f->act_codes(f->self, s, t.x + at * IN, n, IN, IN, xcode + at * IN, xscale + at);
            f->act(f->self, s, t.x + at * IN, n, IN, IN, xwant + at * IN);
        }
        same_rows(acts[a].method, xcode, xscale, xwant, ROWS, 256, wide);
        close_linear(&t);
    }
}

/* The product of integers, which float32 sums without an error, against float64's of the fake-quantized values. */
static void a_product_of_codes_is_exact(void **state)
{
    (void)state;
    static OneLinear t;
    static float code[OUT * IN], fake[OUT * IN], xcode[ROWS * IN], xfake[ROWS * IN];
    float scale[OUT], xscale[ROWS];
    open_linear(&t, spec(QT_INT8, QS_PER_TENSOR, false, "minmax"), spec(QT_INT8, QS_PER_CHANNEL, true, "minmax"), false,
                DT_F32);
    const LinearForm *f = t.f.table[0];
    memcpy(code, t.w, sizeof code);
    memcpy(fake, t.w, sizeof fake);
    f->weight_codes(f->self, 0, OUT, IN, code, scale);
    f->weight(f->self, 0, OUT, IN, fake);
    for (int s = 0; s < SAMPLES; s++) {
        int64_t at = starts[s], n = starts[s + 1] - at;
        f->act_codes(f->self, s, t.x + at * IN, n, IN, IN, xcode + at * IN, xscale + at);
        f->act(f->self, s, t.x + at * IN, n, IN, IN, xfake + at * IN);
    }
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t o = 0; o < OUT; o++) {
            float sum = 0;
            double exact = 0, want = 0, size = 0;
            for (int64_t i = 0; i < IN; i++) {
                sum += xcode[r * IN + i] * code[o * IN + i];
                exact += (double)xcode[r * IN + i] * (double)code[o * IN + i];
                want += (double)xfake[r * IN + i] * (double)fake[o * IN + i];
                size += fabs((double)xfake[r * IN + i] * (double)fake[o * IN + i]);
            }
            assert_true((double)sum == exact);
            assert_true(fabs((double)xscale[r] * (double)scale[o] * (double)sum - want) <= 0x1p-22 * size);
        }
    close_linear(&t);
}

static void check_none(QSpec act, QSpec weight, bool peer)
{
    static OneLinear t;
    open_linear(&t, act, weight, peer, DT_F32);
    assert_null(t.f.table[0]->weight_codes);
    assert_null(t.f.table[0]->act_codes);
    close_linear(&t);
}

static void other_schemes_have_none(void **state)
{
    (void)state;
    const QSpec token = spec(QT_INT8, QS_PER_TOKEN, true, "minmax"), fixed = spec(QT_INT8, QS_PER_TENSOR, true, "minmax");
    const QSpec channel = spec(QT_INT8, QS_PER_CHANNEL, true, "minmax");
    check_none(token, spec(QT_INT4, QS_PER_GROUP, true, "minmax"), false);
    check_none(token, spec(QT_INT8, QS_PER_GROUP, false, "minmax"), false);
    check_none(token, spec(QT_INT4, QS_PER_GROUP, true, "gptq"), false);
    check_none(spec(QT_FLOAT, QS_PER_TENSOR, true, "none"), channel, false);
    check_none(spec(QT_FP8_E4M3, QS_PER_TOKEN, true, "minmax"), spec(QT_FP8_E4M3, QS_PER_CHANNEL, true, "minmax"), false);
    check_none(spec(QT_MXFP8, QS_PER_BLOCK, true, "minmax"), spec(QT_MXFP8, QS_PER_BLOCK, true, "minmax"), false);
    check_none(fixed, channel, true);
    check_none(token, channel, true);
}

/* A method with a Hessian leaves the weight in float while it calibrates: then there are no integers either. */
static void a_pass_that_calibrates_gptq_has_none(void **state)
{
    (void)state;
    static OneLinear t;
    open_linear(&t, spec(QT_INT8, QS_PER_TENSOR, false, "minmax"), spec(QT_INT8, QS_PER_CHANNEL, true, "gptq"), false,
                DT_F32);
    assert_non_null(t.f.table[0]->weight_codes);
    assert_int_equal(layer_forms_stage(&t.f, 0, FORM_CALIBRATE, &(FormTypes){DT_F32, DT_F32, DT_F32}, NULL), ST_OK);
    assert_null(t.f.table[0]->weight);
    assert_null(t.f.table[0]->weight_codes);
    assert_null(t.f.table[0]->act_codes);
    close_linear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_times_scales_are_the_fake_quantized_values),
        cmocka_unit_test(a_product_of_codes_is_exact),
        cmocka_unit_test(other_schemes_have_none),
        cmocka_unit_test(a_pass_that_calibrates_gptq_has_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
