#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/forms.h"
#include "qir/round.h"
#include "tests/lib/configs.h"
#include "tests/lib/npz.h"

/* Rows that are looked at by name. */
extern const ActQuantizer act_fp8_token, act_histogram;

/* Activation quantizers against the peer's recordings (specs/quantization.md 4 to 6), by the forms that runs use. */

enum { IN = 32, SAMPLES = 4, ROWS = 26 };

static const int64_t starts[SAMPLES + 1] = {0, 5, 11, 18, 26};

typedef struct OneLinear {
    Model m;
    Linear lin;
    int16_t level;
    QConfig q;
    QuantLevel l;
    FormsOptions o;
    LayerForms f;
    Pool *pool;
} OneLinear;

static Status no_weight(void *ctx, int64_t linear, float *w, Error *err)
{
    (void)ctx, (void)linear, (void)w;
    return error_set(err, ST_INTERNAL, "no weight");
}

static void open_linear(OneLinear *t, QSpec act, bool peer, DType T)
{
    *t = (OneLinear){.lin = {.name = "l", .out = 8, .in = IN}, .level = 1, .q = config_default()};
    t->q.act = act;
    t->m = (Model){.linears = &t->lin, .nlinears = 1, .cfg = {.layers = 1}};
    assert_int_equal(pool_new(&t->pool, 2, NULL), ST_OK);
    t->l = quant_level(&t->q);
    t->o = (FormsOptions){.levels = &t->l, .level = &t->level, .peer = peer, .weight = T, .read = no_weight,
                          .pool = t->pool};
    assert_int_equal(layer_forms_init(&t->f, &t->m, &t->o, 0, 1, NULL), ST_OK);
    const FormTypes types = {T, T, T};
    assert_int_equal(layer_forms_stage(&t->f, 0, FORM_CALIBRATE, &types, NULL), ST_OK);
}

static void close_linear(OneLinear *t)
{
    layer_forms_fini(&t->f);
    pool_free(t->pool);
}

static QSpec spec(QType t, QScope s, bool sym, const char *method)
{
    QSpec q = {.dtype = t, .scope = s, .symmetric = sym};
    snprintf(q.method, sizeof q.method, "%s", method);
    return q;
}

static Status feed(OneLinear *t, const float *x, int samples, const int64_t *start, float *y, Error *err)
{
    Stream shape = {.samples = samples, .rows = start[samples], .width = IN, .start = (int64_t *)(uintptr_t)start};
    const LinearForm *f = t->f.table[0];
    if (f->prepare)
        RETURN_IF_ERROR(f->prepare(f->self, x, &shape, IN, t->pool, err));
    memcpy(y, x, (size_t)(start[samples] * IN) * sizeof *y);
    for (int s = 0; s < samples && f->act; s++)
        f->act(f->self, s, x + start[s] * IN, start[s + 1] - start[s], IN, IN, y + start[s] * IN);
    return ST_OK;
}

static void load_samples(const Npz *z, const char *dt, float *x)
{
    for (int s = 0; s < SAMPLES; s++)
        memcpy(x + starts[s] * IN, npz_f32(z, NULL, "%s.x%d", dt, s), (size_t)((starts[s + 1] - starts[s]) * IN) * 4);
}

static void equal(const char *what, const float *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(got[i] == want[i]))
            fail_msg("%s: value %lld is %.9g, wanted %.9g", what, (long long)i, (double)got[i], (double)want[i]);
}

static void check_mode(const Npz *z, const char *dt, DType T, const char *mode, QSpec act, bool fixed)
{
    OneLinear t;
    float x[ROWS * IN], y[ROWS * IN];
    char what[96];
    open_linear(&t, act, true, T);
    load_samples(z, dt, x);
    assert_int_equal(feed(&t, x, SAMPLES, starts, y, NULL), ST_OK);
    for (int s = 0; s < SAMPLES; s++) {
        snprintf(what, sizeof what, "%s.%s.y%d", dt, mode, s);
        equal(what, y + starts[s] * IN, npz_f32(z, NULL, "%s", what), (starts[s + 1] - starts[s]) * IN);
    }
    QParam p;
    DType pt;
    assert_int_equal(layer_forms_param(&t.f, 0, &p, &pt), fixed);
    if (fixed) {
        equal(mode, &p.scale, npz_f32(z, NULL, "%s.%s.scale", dt, mode), 1);
        equal(mode, &p.offset, npz_f32(z, NULL, "%s.%s.offset", dt, mode), 1);
        assert_int_equal(pt, strncmp(mode, "hist", 4) == 0 ? DT_F32 : T);
    }
    close_linear(&t);
}

static void the_peers_calibration_is_reproduced(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/act.npz");
    for (int i = 0; i < 2; i++) {
        const char *dt = i ? "bf16" : "f32";
        DType T = i ? DT_BF16 : DT_F32;
        QSpec mean = spec(QT_INT8, QS_PER_TENSOR, false, "minmax"), mix = spec(QT_INT8, QS_PD_MIX, false, "minmax");
        check_mode(z, dt, T, "static_asym_max", mean, true);
        mean.ext.mean = true;
        check_mode(z, dt, T, "static_asym_mean", mean, true);
        check_mode(z, dt, T, "static_sym_max", spec(QT_INT8, QS_PER_TENSOR, true, "minmax"), true);
        check_mode(z, dt, T, "pd_mix", mix, true);
        mix.ext.mean = true;
        check_mode(z, dt, T, "pd_mix_mean", mix, true);
        check_mode(z, dt, T, "per_token_calib", spec(QT_INT8, QS_PER_TOKEN, true, "minmax"), false);
        check_mode(z, dt, T, "hist_asym", spec(QT_INT8, QS_PER_TENSOR, false, "histogram"), true);
        check_mode(z, dt, T, "hist_sym", spec(QT_INT8, QS_PER_TENSOR, true, "histogram"), true);
    }
    npz_free(z);
}

static void tokens_have_scales_of_their_own(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/act.npz");
    for (int i = 0; i < 4; i++) {
        const char *dt = i / 2 ? "bf16" : "f32";
        OneLinear t;
        float x[ROWS * IN], y[ROWS * IN];
        open_linear(&t, spec(i % 2 ? QT_FP8_E4M3 : QT_INT8, QS_PER_TOKEN, true, "minmax"), false,
                    i / 2 ? DT_BF16 : DT_F32);
        load_samples(z, dt, x);
        assert_int_equal(feed(&t, x, SAMPLES, starts, y, NULL), ST_OK);
        const float *want = npz_f32(z, NULL, "%s.true_per_token_%s", dt, i % 2 ? "fp8_e4m3" : "int8");
        for (int k = 0; k < 5 * IN && i % 2; k++) { /* recorded without the grid: half a step of 3 mantissa bits away */
            float off = fabsf(y[k] - want[k]), step = fabsf(want[k]) / 16 * 1.01f;
            if (off > step && off > 2e-3f)
                fail_msg("%s fp8: value %d is %.9g, wanted about %.9g", dt, k, (double)y[k], (double)want[k]);
        }
        if (i % 2)
            act_fp8_token.rows(&t.q.act, NULL, x, 5, IN, IN, i / 2 ? DT_BF16 : DT_F32, true, y);
        equal("per token", y, want, 5 * IN);
        close_linear(&t);
    }
    npz_free(z);
}

/* ---- histogram ---- */

static float rows_of_one(const float *x, int n, const ActObserver *o, bool peer, void *self, float *hi)
{
    float mn = x[0], mx = x[0], lo;
    QSpec q = {.dtype = QT_INT8};
    for (int i = 0; i < n; i++) {
        mn = fminf(mn, x[i]);
        mx = fmaxf(mx, x[i]);
    }
    o->feed(self, x, n, mn, mx, peer);
    o->range(self, &q, peer, DT_F32, &lo, hi);
    return lo;
}

static void the_peers_histogram_is_reproduced(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/histogram.npz");
    const ActObserver *o = act_histogram.observer;
    for (int c = 0; c < 9; c++) {
        void *self = calloc(1, o->size);
        assert_non_null(self);
        for (int b = 0; b < 3; b++) {
            const float *want = npz_f32(z, NULL, "c%d.clip%d", c, b);
            float hi, lo = rows_of_one(npz_f32(z, NULL, "c%d.x%d", c, b), 1500, o, true, self, &hi);
            if (lo != want[0] || hi != want[1])
                fail_msg("case %d batch %d: %.9g %.9g, wanted %.9g %.9g", c, b, (double)lo, (double)hi,
                         (double)want[0], (double)want[1]);
        }
        free(self);
    }
    npz_free(z);
}

/* Cuts off what is rare and far out, keeps what is not, and does not forget earlier samples. */
static void our_histogram_cuts_outliers_of_all_samples(void **state)
{
    (void)state;
    const ActObserver *o = act_histogram.observer;
    void *self = calloc(1, o->size);
    static float x[20000];
    unsigned u = 1;
    float hi, lo;
    for (int s = 0; s < 50; s++) { /* a million values: then the steps gained outweigh the one lost */
        for (int i = 0; i < 20000; i++) {
            float sum = 0;
            for (int k = 0; k < 12; k++) {
                u = u * 1664525u + 1013904223u;
                sum += (float)(u >> 8) / (float)(1 << 24);
            }
            x[i] = sum - 6;
        }
        x[7] = s == 0 ? 60.0f : 0.0f; /* one value in the first sample */
        lo = rows_of_one(x, 20000, o, false, self, &hi);
    }
    assert_true(hi < 20 && hi > 2.5f);
    assert_true(lo > -20 && lo < -2.5f);
    memset(self, 0, o->size);
    for (int i = 0; i < 20000; i++)
        x[i] = i % 2 ? 10.0f : -1.0f; /* two values: both are kept */
    lo = rows_of_one(x, 20000, o, false, self, &hi);
    assert_true(lo <= -0.99f && hi >= 9.99f);
    memset(self, 0, o->size);
    for (int i = 0; i < 20000; i++)
        x[i] = 3.0f;
    lo = rows_of_one(x, 20000, o, false, self, &hi);
    assert_true(lo == 3.0f && hi == 3.0f);
    free(self);
}

/* ---- properties ---- */

static void check_default(QSpec act, int64_t extra_start)
{
    OneLinear t;
    float x[ROWS * IN], y[ROWS * IN];
    const int64_t start[4] = {0, extra_start, extra_start, ROWS}; /* an empty sample */
    for (int i = 0; i < ROWS * IN; i++)
        x[i] = (float)((i * 37) % 101 - 50) / 10.0f;
    memset(x + 3 * IN, 0, IN * sizeof *x); /* a row of zeros */
    open_linear(&t, act, false, DT_F32);
    assert_int_equal(feed(&t, x, 3, start, y, NULL), ST_OK);
    double e = 0, p = 0;
    for (int i = 0; i < ROWS * IN; i++) {
        assert_true(isfinite(y[i]));
        e += (double)(y[i] - x[i]) * (double)(y[i] - x[i]);
        p += (double)(x[i] * x[i]);
    }
    for (int i = 0; i < IN; i++)
        assert_true(fabsf(y[3 * IN + i]) < 0.03f);
    assert_true(sqrt(e / p) < (act.dtype == QT_MXFP4 ? 0.2 : act.dtype == QT_INT8 ? 0.02 : 0.06));
    close_linear(&t);
}

static void every_quantizer_stays_near_its_input(void **state)
{
    (void)state;
    QSpec dual = spec(QT_MXFP4, QS_DUAL_SCALE, true, "dualscale");
    dual.ext.dual_block = 64;
    for (int64_t at = 0; at <= ROWS; at += 13) {
        check_default(spec(QT_INT8, QS_PER_TENSOR, false, "minmax"), at);
        check_default(spec(QT_INT8, QS_PER_TENSOR, true, "histogram"), at);
        check_default(spec(QT_INT8, QS_PER_TOKEN, true, "minmax"), at);
        check_default(spec(QT_INT8, QS_PD_MIX, false, "minmax"), at);
        check_default(spec(QT_FP8_E4M3, QS_PER_TOKEN, true, "minmax"), at);
        check_default(spec(QT_FP8_E4M3, QS_PER_TENSOR, true, "minmax"), at);
        check_default(spec(QT_MXFP8, QS_PER_BLOCK, true, "minmax"), at);
        check_default(spec(QT_MXFP4, QS_PER_BLOCK, true, "minmax"), at);
        check_default(dual, at);
    }
}

/* ---- the peer's deployed modules (specs/quantization.md 8) ---- */

static void fill(float *x, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)((i * 73) % 211 - 90) / 37.0f;
}

static void deployed_dynamic_quantizers_scale_columns(void **state)
{
    (void)state;
    for (int fp8 = 0; fp8 < 2; fp8++) {
        OneLinear t;
        float x[ROWS * IN], y[ROWS * IN];
        const FormTypes f32 = {DT_F32, DT_F32, DT_F32};
        fill(x, ROWS * IN);
        open_linear(&t, spec(fp8 ? QT_FP8_E4M3 : QT_INT8, QS_PER_TOKEN, true, "minmax"), true, DT_F32);
        assert_int_equal(layer_forms_stage(&t.f, 0, FORM_DEPLOYED, &f32, NULL), ST_OK);
        assert_int_equal(feed(&t, x, SAMPLES, starts, y, NULL), ST_OK);
        for (int s = 0; s < SAMPLES; s++)
            for (int c = 0; c < IN; c++) {
                float most = 0;
                for (int64_t r = starts[s]; r < starts[s + 1]; r++)
                    most = fmaxf(most, fabsf(x[r * IN + c]));
                float scale = most / (fp8 ? 448.0f : 127.0f);
                for (int64_t r = starts[s]; r < starts[s + 1]; r++) {
                    float q = x[r * IN + c] / scale, want = (fp8 ? q : rintf(q)) * scale;
                    equal("column", &y[r * IN + c], &want, 1);
                }
            }
        close_linear(&t);
    }
}

/* A bf16 scale over a float32 input: levels come from float32, values are bf16. */
static void deployed_static_quantizers_keep_the_dtype_of_their_scale(void **state)
{
    (void)state;
    OneLinear t;
    float x[ROWS * IN], y[ROWS * IN];
    const FormTypes f32 = {DT_F32, DT_F32, DT_F32};
    QParam p;
    DType T;
    fill(x, ROWS * IN);
    open_linear(&t, spec(QT_INT8, QS_PER_TENSOR, false, "minmax"), true, DT_BF16);
    assert_int_equal(feed(&t, x, SAMPLES, starts, y, NULL), ST_OK);
    assert_int_equal(layer_forms_stage(&t.f, 0, FORM_DEPLOYED, &f32, NULL), ST_OK);
    assert_int_equal(feed(&t, x, SAMPLES, starts, y, NULL), ST_OK);
    assert_true(layer_forms_param(&t.f, 0, &p, &T));
    assert_int_equal(T, DT_BF16);
    for (int i = 0; i < ROWS * IN; i++) {
        float q = fminf(fmaxf(rintf(x[i] / p.scale + p.offset), -128), 127);
        float want = round_to_dtype(round_to_dtype(q - p.offset, DT_BF16) * p.scale, DT_BF16);
        equal("value", &y[i], &want, 1);
    }
    close_linear(&t);
}

static void nan_is_an_error_with_its_place(void **state)
{
    (void)state;
    OneLinear t;
    Error e = {0};
    float x[ROWS * IN] = {0}, y[ROWS * IN];
    x[20 * IN + 3] = INFINITY;
    open_linear(&t, spec(QT_INT8, QS_PER_TENSOR, false, "histogram"), false, DT_F32);
    assert_int_equal(feed(&t, x, SAMPLES, starts, y, &e), ST_DATA);
    assert_non_null(strstr(e.text, "'l': "));
    assert_non_null(strstr(e.text, "sample 3, rows 0 to 7"));
    /* the last sample alone, as a rank has it: told by its place among all */
    int64_t alone[] = {0, 8};
    const Stream shape = {.samples = 1, .rows = 8, .width = IN, .start = alone, .first = 3};
    assert_int_equal(t.f.table[0]->prepare(t.f.table[0]->self, x + 18 * IN, &shape, IN, t.pool, &e), ST_DATA);
    assert_non_null(strstr(e.text, "sample 3, rows 0 to 7"));
    close_linear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_peers_calibration_is_reproduced),
        cmocka_unit_test(tokens_have_scales_of_their_own),
        cmocka_unit_test(the_peers_histogram_is_reproduced),
        cmocka_unit_test(our_histogram_cuts_outliers_of_all_samples),
        cmocka_unit_test(every_quantizer_stays_near_its_input),
        cmocka_unit_test(deployed_dynamic_quantizers_scale_columns),
        cmocka_unit_test(deployed_static_quantizers_keep_the_dtype_of_their_scale),
        cmocka_unit_test(nan_is_an_error_with_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
