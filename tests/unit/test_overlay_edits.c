#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/convert.h"
#include "quant/forms.h"
#include "run/source.h"
#include "tests/lib/bench.h"
#include "tests/lib/noise.h"
#include "tests/lib/configs.h"
#include "tests/lib/random_model.h"

/* Every edit of a linear and chains of them, against the matrix product written out in float64. */

static const RandomShape shape = {"qwen2", 1, 4, 2, 16, 64, 96, 40, 0, DT_F32, 11};

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static uint32_t seed;

static int below(int n)
{
    return (int)((noise_next(&seed) + 0.5f) * (float)n);
}

static float *vector(int64_t n, float around)
{
    return noise_vector(n, around, &seed);
}

/* ---- the definition ---- */

typedef struct Plain {
    int64_t out, in;
    double *w, *b;
    bool biased;
    DType round;
} Plain;

static void plain_round(const Plain *p, double *v, int64_t n)
{
    for (int64_t i = 0; i < n && p->round == DT_BF16; i++)
        v[i] = (double)bf16_to_float(bf16_of_float((float)v[i]));
}

static Plain plain_of(Runner *r, int64_t linear, DType round)
{
    const Linear *l = &runner_model(r)->linears[linear];
    Error err = {0};
    Plain p = {.out = l->out, .in = l->in, .round = round};
    float *w = malloc((size_t)(l->out * l->in) * sizeof *w), *b;
    p.w = malloc((size_t)(l->out * l->in) * sizeof *p.w);
    p.b = calloc((size_t)l->out, sizeof *p.b);
    assert_true(w && p.w && p.b);
    ok(runner_weight(r, linear, -1, w, &err), &err);
    ok(runner_bias(r, linear, &b, &err), &err);
    for (int64_t i = 0; i < l->out * l->in; i++)
        p.w[i] = (double)w[i];
    for (int64_t i = 0; b && i < l->out; i++)
        p.b[i] = (double)b[i];
    p.biased = b != NULL;
    free(w);
    free(b);
    return p;
}

static void plain_free(Plain *p)
{
    free(p->w);
    free(p->b);
}

/* [n][n]: copies of the rotation on the diagonal. */
static double *matrix(const Rotation *r, int64_t n)
{
    int64_t size = rotation_size(r);
    float *m = malloc((size_t)(size * size) * sizeof *m);
    double *all = calloc((size_t)(n * n), sizeof *all);
    Error err = {0};
    assert_true(m && all);
    ok(rotation_rows(r, m, &err), &err);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < size; j++)
            all[i * n + i / size * size + j] = (double)m[i % size * size + j];
    free(m);
    return all;
}

/* y[rows][cols] = a[rows][n] b[n][cols], or a' b of a[n][rows]; caller frees. */
static double *times(const double *a, bool turned, const double *b, int64_t rows, int64_t n, int64_t cols)
{
    double *y = calloc((size_t)(rows * cols), sizeof *y);
    assert_non_null(y);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < n; k++)
            for (int64_t j = 0; j < cols; j++)
                y[i * cols + j] += (turned ? a[k * rows + i] : a[i * n + k]) * b[k * cols + j];
    return y;
}

static void plain_turn(Plain *p, const Rotation *r, bool left)
{
    double *m = matrix(r, left ? p->out : p->in), *w = p->w, *b = p->b;
    p->w = left ? times(m, true, w, p->out, p->out, p->in) : times(w, false, m, p->out, p->in, p->in);
    if (left) {
        p->b = times(m, true, b, p->out, p->out, 1);
        free(b);
    }
    free(m);
    free(w);
}

static void plain_scale(Plain *p, const float *s, bool outputs)
{
    for (int64_t o = 0; o < p->out; o++) {
        for (int64_t i = 0; i < p->in; i++)
            p->w[o * p->in + i] *= (double)s[outputs ? o : i];
        if (outputs)
            p->b[o] *= (double)s[o];
    }
}

/* ---- one edit, on both ---- */

enum { OUTPUTS, INPUTS, RIGHT, LEFT, ADD, FROM, REPLACE, KINDS };

static Rotation *rotation_for(int64_t n)
{
    Rotation *r;
    Error err = {0};
    ok(rotation_hadamard(&r, n, below(2) ? -1 : 16, &err), &err);
    return r;
}

static void edit_scale(Overlay *o, Plain *p, int64_t linear, bool outputs)
{
    Error err = {0};
    float *s = vector(outputs ? p->out : p->in, 1.1f);
    ok((outputs ? overlay_scale_outputs : overlay_scale_inputs)(o, linear, s, &err), &err);
    plain_scale(p, s, outputs);
    free(s);
}

static void edit_turn(Overlay *o, Plain *p, int64_t linear, bool left)
{
    Error err = {0};
    Rotation *r = rotation_for(left ? p->out : p->in);
    ok((left ? overlay_rotate_outputs : overlay_rotate_inputs)(o, linear, r, &err), &err);
    plain_turn(p, r, left);
    rotation_free(r);
}

static void edit_bias(Overlay *o, Plain *p, int64_t linear, bool from)
{
    Error err = {0};
    float *v = vector(from ? p->in : p->out, 0);
    ok((from ? overlay_bias_from : overlay_add_bias)(o, linear, v, &err), &err);
    for (int64_t i = 0; i < p->out; i++)
        for (int64_t k = 0; k < (from ? p->in : 1); k++)
            p->b[i] += from ? p->w[i * p->in + k] * (double)v[k] : (double)v[i];
    p->biased = true;
    free(v);
}

static void edit(Overlay *o, Plain *p, int64_t linear, int kind)
{
    Error err = {0};
    if (kind == OUTPUTS || kind == INPUTS) {
        edit_scale(o, p, linear, kind == OUTPUTS);
    } else if (kind == RIGHT || kind == LEFT) {
        edit_turn(o, p, linear, kind == LEFT);
    } else if (kind == ADD || kind == FROM) {
        edit_bias(o, p, linear, kind == FROM);
    } else {
        float *w = vector(p->out * p->in, 0);
        for (int64_t i = 0; i < p->out * p->in; i++)
            p->w[i] = (double)w[i];
        ok(overlay_replace(o, linear, w, &err), &err);
        return; /* what is given is not rounded */
    }
    if (kind != ADD && kind != FROM)
        plain_round(p, p->w, p->out * p->in);
    if (kind != INPUTS && kind != RIGHT)
        plain_round(p, p->b, p->out);
}

/* ---- what is read ---- */

static double worst(const double *want, const float *got, int64_t n)
{
    double most = 0, diff = 0;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs(want[i]));
        diff = isfinite(got[i]) ? fmax(diff, fabs(want[i] - (double)got[i])) : INFINITY;
    }
    return most > 0 ? diff / most : diff;
}

/* In float32 the sums of a rotation differ in their last places; where edits round, a value near a tie may, by one ulp,
 * and what is made of it then. */
static void check(Runner *r, const Overlay *o, const Plain *p, int64_t linear, const char *what)
{
    const Model *m = runner_model(r);
    const Linear *l = &m->linears[linear];
    const Source s = {m, o};
    Error err = {0};
    int64_t n = p->out * p->in;
    float *w = malloc((size_t)n * sizeof *w), *b;
    double bound = p->round == DT_BF16 ? 0.01 : 2e-6;
    assert_non_null(w);
    ok(runner_weight(r, linear, -1, w, &err), &err);
    if (!(worst(p->w, w, n) <= bound))
        fail_msg("%s: %s: weight %g", l->name, what, worst(p->w, w, n));
    float part[7 * 96];
    for (int64_t r0 = 0; r0 < p->out; r0 += 7) { /* any slice is the same */
        int64_t rows = p->out - r0 < 7 ? p->out - r0 : 7;
        ok(source_rows(&s, NULL, l, r0, rows, part, &err), &err);
        assert_memory_equal(part, w + r0 * p->in, (size_t)(rows * p->in) * sizeof *part);
    }
    for (int64_t i = 0; i < n && p->round == DT_BF16 && overlay_linear(o, linear)->weight; i++)
        assert_true(w[i] == bf16_to_float(bf16_of_float(w[i])));
    ok(source_bias(&s, NULL, l, &b, &err), &err);
    assert_true(p->biased == (b != NULL));
    assert_true(overlay_has_bias(o, m, linear) == p->biased);
    if (b && !(worst(p->b, b, p->out) <= bound))
        fail_msg("%s: %s: bias %g", l->name, what, worst(p->b, b, p->out));
    free(b);
    free(w);
}

static Runner *runner_with(const TestRun *t, const Overlay *o)
{
    Error err = {0};
    Runner *r;
    RunnerOptions opt = {.pool = t->pool, .arith = ARITH_FP32, .overlay = o};
    ok(runner_new(&r, t->m, &opt, &err), &err);
    return r;
}

static void run_chain(const TestRun *t, int64_t linear, DType round, const int *kinds, int n)
{
    static const char *const names[KINDS] = {"outputs", "inputs", "right", "left", "add", "from", "replace"};
    Error err = {0};
    Overlay *o;
    char what[128] = "", digest[65], before[65] = "";
    ok(overlay_new(&o, t->m, &err), &err);
    overlay_round(o, round);
    Runner *r = runner_with(t, o);
    Plain p = plain_of(t->r, linear, round);
    for (int i = 0; i < n; i++) {
        edit(o, &p, linear, kinds[i]);
        snprintf(what + strlen(what), sizeof what - strlen(what), "%s ", names[kinds[i]]);
        check(r, o, &p, linear, what);
        overlay_digest(o, digest);
        assert_string_not_equal(digest, before);
        memcpy(before, digest, sizeof before);
    }
    plain_free(&p);
    runner_free(r);
    overlay_free(o);
}

static void edits_are_what_they_say(void **state)
{
    (void)state;
    static const char *const linears[] = {"model.layers.0.self_attn.v_proj", "model.layers.0.mlp.down_proj"};
    char dir[64];
    random_model_write(&shape, dir);
    seed = 3;
    for (int threads = 1; threads <= 3; threads += 2) {
        TestRun t;
        test_run_open(&t, dir, ARITH_FP32, threads, NULL);
        for (int l = 0; l < 2; l++)
            for (int rounded = 0; rounded < 2; rounded++) {
                int64_t linear = model_find_linear(t.m, linears[l]);
                for (int kind = 0; kind < KINDS; kind++)
                    run_chain(&t, linear, rounded ? DT_BF16 : DT_F32, (int[]){kind}, 1);
                for (int k = 0; k < 20; k++) {
                    int kinds[5];
                    for (int i = 0; i < 5; i++)
                        kinds[i] = below(KINDS);
                    run_chain(&t, linear, rounded ? DT_BF16 : DT_F32, kinds, 5);
                }
            }
        test_run_close(&t);
    }
    random_model_remove(dir);
}

/* In the arithmetic of the model what is read is rounded to its dtype, whole weights, too. */
static void what_is_read_is_rounded(void **state)
{
    (void)state;
    RandomShape half = shape;
    char dir[64];
    Error err = {0};
    TestRun t;
    Overlay *o;
    half.dtype = DT_BF16;
    random_model_write(&half, dir);
    test_run_open(&t, dir, ARITH_EXACT, 2, NULL);
    int64_t v = model_find_linear(t.m, "model.layers.0.self_attn.v_proj"), n = t.m->linears[v].out * t.m->linears[v].in;
    Rotation *r = rotation_for(t.m->linears[v].out);
    float *w = malloc((size_t)n * sizeof *w), *wide = malloc((size_t)n * sizeof *w);
    assert_true(w && wide);
    ok(overlay_new(&o, t.m, &err), &err);
    ok(overlay_rotate_outputs(o, v, r, &err), &err);
    RunnerOptions opt = {.pool = t.pool, .arith = ARITH_EXACT, .overlay = o};
    Runner *exact, *plain = runner_with(&t, o);
    ok(runner_new(&exact, t.m, &opt, &err), &err);
    ok(runner_weight(exact, v, -1, w, &err), &err);
    ok(runner_weight(plain, v, -1, wide, &err), &err);
    int same = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(w[i] == bf16_to_float(bf16_of_float(wide[i])));
        same += w[i] == wide[i];
    }
    assert_true(same < n / 2);
    runner_free(exact);
    runner_free(plain);
    rotation_free(r);
    overlay_free(o);
    free(w);
    free(wide);
    test_run_close(&t);
    random_model_remove(dir);
}

/* Factors of one side meet in one step, whatever stands between them, unless that is turned or rounded. */
static void factors_meet(void **state)
{
    (void)state;
    char dir[64];
    Error err = {0};
    TestRun t;
    Overlay *o;
    random_model_write(&shape, dir);
    test_run_open(&t, dir, ARITH_FP32, 1, NULL);
    int64_t linear = model_find_linear(t.m, "model.layers.0.self_attn.v_proj");
    float *in = vector(shape.hidden, 1), *out = vector(32, 1);
    Rotation *r;
    ok(rotation_hadamard(&r, 32, -1, &err), &err);
    ok(overlay_new(&o, t.m, &err), &err);
    for (int i = 0; i < 3; i++) {
        ok(overlay_scale_inputs(o, linear, in, &err), &err);
        ok(overlay_scale_outputs(o, linear, out, &err), &err);
    }
    assert_int_equal(overlay_linear(o, linear)->weight->n, 2);
    assert_false(overlay_linear(o, linear)->weight->whole);
    ok(overlay_rotate_outputs(o, linear, r, &err), &err);
    ok(overlay_scale_inputs(o, linear, in, &err), &err);
    assert_int_equal(overlay_linear(o, linear)->weight->n, 4);
    assert_true(overlay_linear(o, linear)->weight->whole);
    overlay_round(o, DT_BF16);
    for (int i = 0; i < 2; i++)
        ok(overlay_scale_inputs(o, linear, in, &err), &err);
    assert_int_equal(overlay_linear(o, linear)->weight->n, 6);
    rotation_free(r);
    overlay_free(o);
    free(in);
    free(out);
    test_run_close(&t);
    random_model_remove(dir);
}

static void a_rotation_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    char dir[64];
    Error err = {0};
    TestRun t;
    Overlay *o;
    Rotation *r;
    random_model_write(&shape, dir);
    test_run_open(&t, dir, ARITH_FP32, 1, NULL);
    ok(overlay_new(&o, t.m, &err), &err);
    ok(rotation_hadamard(&r, 128, -1, &err), &err);
    assert_int_equal(overlay_rotate_inputs(o, 0, r, &err), ST_DATA);
    assert_non_null(strstr(err.text, "q_proj"));
    assert_non_null(strstr(err.text, "128"));
    assert_int_equal(overlay_rotate_outputs(o, 0, r, &err), ST_DATA);
    assert_int_equal(overlay_input_rotate(o, 0, r, &err), ST_DATA);
    assert_int_equal(overlay_rotate_tensor(o, t.m->entry.table, r, &err), ST_DATA);
    rotation_free(r);
    overlay_free(o);
    test_run_close(&t);
    random_model_remove(dir);
}

/* Linears that share an input do so only while the same is done to it. */
static void inputs_are_shared_by_equals(void **state)
{
    (void)state;
    char dir[64];
    Error err = {0};
    TestRun t;
    Overlay *o;
    Rotation *r;
    float *s = vector(shape.hidden, 1), *u = vector(shape.hidden, 1);
    random_model_write(&shape, dir);
    test_run_open(&t, dir, ARITH_FP32, 1, NULL);
    int64_t q = model_find_linear(t.m, "model.layers.0.self_attn.q_proj"), k = q + 1, v = q + 2;
    ok(overlay_new(&o, t.m, &err), &err);
    ok(rotation_hadamard(&r, 64, -1, &err), &err);
    assert_null(overlay_inputs(o, q));
    assert_int_equal(overlay_input(NULL, t.m, v), q);
    ok(overlay_input_scale(o, k, s, &err), &err);
    ok(overlay_input_rotate(o, k, r, &err), &err);
    assert_int_equal(overlay_inputs(o, k)->n, 2);
    assert_int_equal(overlay_input(o, t.m, k), k);
    assert_int_equal(overlay_input(o, t.m, v), q);
    ok(overlay_input_scale(o, v, s, &err), &err);
    assert_int_equal(overlay_input(o, t.m, v), v);
    ok(overlay_input_rotate(o, v, r, &err), &err);
    assert_int_equal(overlay_input(o, t.m, v), k);
    ok(overlay_input_scale(o, q, u, &err), &err);
    ok(overlay_input_rotate(o, q, r, &err), &err);
    assert_int_equal(overlay_input(o, t.m, k), k);
    rotation_free(r);
    overlay_free(o);
    free(s);
    free(u);
    test_run_close(&t);
    random_model_remove(dir);
}

static Status read_plain(void *ctx, int64_t linear, float *w, Error *err)
{
    return runner_weight(ctx, linear, -1, w, err);
}

/* A static range is that of the input as it is changed, also where linears shared one when the forms were made. */
static void ranges_are_those_of_the_changed_input(void **state)
{
    (void)state;
    char dir[64];
    Error err = {0};
    TestRun t;
    Overlay *o;
    LayerForms f;
    Stream h;
    QConfig q = config_default();
    const QuantLevel level = quant_level(&q);
    float twice[64], lo[3], hi[3];
    static const int len[] = {20, 11};
    random_model_write(&shape, dir);
    test_run_open(&t, dir, ARITH_FP32, 2, NULL);
    ok(overlay_new(&o, t.m, &err), &err);
    Runner *r = runner_with(&t, o);
    TokenSet *texts = test_tokens(len, 2, shape.vocab, 1);
    int16_t *at = calloc((size_t)t.m->nlinears, sizeof *at);
    assert_non_null(at);
    for (int i = 0; i < 3; i++) /* q, k, v */
        at[i] = 1;
    const FormTypes types = {DT_F32, DT_F32, DT_F32};
    const FormsOptions opt = {.levels = &level, .level = at, .weight = DT_F32, .overlay = o, .read = read_plain, .ctx = r,
                              .pool = t.pool};
    ok(layer_forms_init(&f, t.m, &opt, 0, t.m->nlinears, &err), &err);
    for (int i = 0; i < 64; i++)
        twice[i] = 2;
    ok(overlay_input_scale(o, 1, twice, &err), &err);
    ok(layer_forms_stage(&f, 0, FORM_CALIBRATE, &types, &err), &err);
    const Variant v = {.forms = f.table};
    ok(runner_embed(r, texts, &h, &err), &err);
    ok(runner_layer(r, 0, &v, &h, &h, NULL, 0, &err), &err);
    for (int i = 0; i < 3; i++)
        assert_true(layer_forms_range(&f, i, &lo[i], &hi[i]));
    assert_true(hi[0] > 0 && hi[2] == hi[0] && lo[2] == lo[0]);
    assert_true(hi[1] == 2 * hi[0] && lo[1] == 2 * lo[0]);
    layer_forms_fini(&f);
    stream_fini(&h);
    test_tokens_free(texts);
    free(at);
    runner_free(r);
    overlay_free(o);
    test_run_close(&t);
    random_model_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edits_are_what_they_say),
        cmocka_unit_test(what_is_read_is_rounded),
        cmocka_unit_test(factors_meet),
        cmocka_unit_test(inputs_are_shared_by_equals),
        cmocka_unit_test(ranges_are_those_of_the_changed_input),
        cmocka_unit_test(a_rotation_that_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
