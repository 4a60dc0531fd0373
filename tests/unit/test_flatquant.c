/* flatquant: its fold against the original's weights, the layer that is trained against what the original computes with the
 * same parameters, and by what it must not change. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/spectral.h"
#include "process/flattrain.h"
#include "quant/flatlinear.h"
#include "run/source.h"
#include "tests/lib/folded.h"
#include "tests/lib/recorded_layer.h"

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

/* ---- sizes ---- */

static void test_sizes_of_sides(void **state)
{
    (void)state;
    static const struct {
        int64_t n, left, right;
        bool peer;
    } cases[] = {{32, 4, 8, true}, {48, 6, 8, true}, {64, 8, 8, true}, {128, 8, 16, true}, {576, 24, 24, true},
                 {1536, 32, 48, true}, {4096, 64, 64, true}, {12288, 96, 128, true}, {1, 1, 1, true}, {7, 1, 7, true},
                 {2, 1, 2, false}, {6, 2, 3, false}, {50, 5, 10, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t l = 0, r = 0;
        assert_true(flat_split(cases[i].n, false, &l, &r));
        assert_int_equal(l, cases[i].left);
        assert_int_equal(r, cases[i].right);
        assert_int_equal(flat_split(cases[i].n, true, &l, &r), cases[i].peer);
    }
}

/* ---- what the original found ---- */

static const char *const pair_names[FLAT_PAIRS] = {"attn.norm_linear", "attn.linear_linear", "mlp.norm_linear",
                                                   "mlp.linear_linear"};
static const char *const slot_names[FLAT_SLOTS] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                                   "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};

static float sigmoid(float c)
{
    return (float)(1 / (1 + exp(-(double)c)));
}

static void copy(float *to, const Npz *z, int64_t n, const char *name, const char *what)
{
    const NpyArray *a;
    const float *v = npz_f32(z, &a, "%s/%s", name, what);
    assert_int_equal(a->count, n);
    memcpy(to, v, (size_t)n * sizeof *v);
}

static void take_golden(const RecordedLayer *rec, const Model *m, const FlatPlace *p, FlatFound *f)
{
    char name[80];
    Error err;
    ok(flat_found_init(f, m, p, &err), &err);
    for (int k = 0; k < FLAT_PAIRS; k++) {
        int64_t l = p->left[k], r = p->right[k];
        copy(f->left[k].t, rec->z, l * l, pair_names[k], "left_trans/matrix");
        copy(f->left[k].inv, rec->z, l * l, pair_names[k], "left_trans/inv_t");
        copy(f->right[k].t, rec->z, r * r, pair_names[k], "right_trans/matrix");
        copy(f->right[k].inv, rec->z, r * r, pair_names[k], "right_trans/inv_t");
        if (f->diag[k])
            copy(f->diag[k], rec->z, l * r, pair_names[k], "diag_scale");
    }
    for (int s = 0; s < FLAT_SLOTS; s++) {
        int64_t out = m->linears[p->linear[s]].out;
        snprintf(name, sizeof name, "clip/%s", slot_names[s]);
        copy(f->clip[s], rec->z, out, name, "w_min");
        copy(f->clip[s] + out, rec->z, out, name, "w_max");
        for (int64_t i = 0; i < 2 * out; i++)
            f->clip[s][i] = sigmoid(f->clip[s][i]);
        copy(&f->limit[s], rec->z, 1, name, "act");
        f->limit[s] = sigmoid(f->limit[s]);
    }
}

static void test_fold_is_recorded(void **state)
{
    (void)state;
    RecordedLayer rec;
    TestRun b;
    FlatPlace p;
    FlatFound f;
    Overlay *o;
    Error err;
    recorded_layer_open(&rec, "flatquant_fold", "qwen2");
    test_run_open(&b, rec.dir, ARITH_FP32, 1, NULL);
    ok(flat_place(b.m, 0, true, &p, &err), &err);
    for (int k = 0; k < FLAT_PAIRS; k++)
        assert_true(p.on[k] && p.diag[k] == (k != FLAT_VALUES));
    take_golden(&rec, b.m, &p, &f);
    ok(overlay_new(&o, b.m, &err), &err);
    ok(flat_fold(b.m, &p, &f, o, DT_F32, &err), &err);
    recorded_layer_compare(&rec, b.m, o, 1e-6);
    overlay_free(o);
    flat_found_fini(&f);
    test_run_close(&b);
    recorded_layer_close(&rec);
}

/* ---- the layer as it is trained ---- */

typedef struct Trained {
    FlatTransform t[FLAT_PAIRS];
    FlatLinear f[FLAT_SLOTS];
    LinearForm form[FLAT_SLOTS];
    const LinearForm *table[FLAT_SLOTS];
    float *turned[2 * FLAT_PAIRS];
    double *clip[FLAT_SLOTS];
    FlatRoom room;
} Trained;

static void form_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    const FlatLinear *f = self;
    memcpy(w, f->wq + row0 * in, (size_t)(rows * in) * sizeof *w);
}

static void form_act(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    const FlatLinear *f = self;
    float *scratch = aligned_alloc(64, ((size_t)flat_act_floats(in, f->t->l, f->t->r) * sizeof *scratch + 63) / 64 * 64);
    (void)sample;
    flat_act(f, x, rows, ld, out, scratch);
    free(scratch);
}

static float *turned(const float *m, int64_t n)
{
    float *t = malloc((size_t)(n * n) * sizeof *t);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            t[j * n + i] = m[i * n + j];
    return t;
}

static void make_trained(Trained *k, const RecordedLayer *rec, const TestRun *b, const FlatPlace *p, const FlatFound *f)
{
    Error err;
    *k = (Trained){.room = {NULL}};
    for (int i = 0; i < FLAT_PAIRS; i++) {
        k->turned[2 * i] = turned(f->left[i].t, p->left[i]);
        k->turned[2 * i + 1] = turned(f->left[i].inv, p->left[i]);
        k->t[i] = (FlatTransform){.l = p->left[i], .r = p->right[i], .left = f->left[i].t, .left_t = k->turned[2 * i],
                                  .right = f->right[i].t, .inv_left = f->left[i].inv, .inv_left_t = k->turned[2 * i + 1],
                                  .inv_right = f->right[i].inv, .diag = f->diag[i]};
    }
    for (int s = 0; s < FLAT_SLOTS; s++) {
        const Linear *l = &b->m->linears[p->linear[s]];
        size_t n = (size_t)(l->out * l->in);
        float *w = malloc(n * sizeof *w), *clip = malloc((size_t)flat_clips(l->out) * sizeof *clip);
        char name[80];
        k->clip[s] = malloc((size_t)flat_clips(l->out) * sizeof *k->clip[s]);
        snprintf(name, sizeof name, "clip/%s", slot_names[s]);
        copy(clip, rec->z, l->out, name, "w_min");
        copy(clip + l->out, rec->z, l->out, name, "w_max");
        copy(clip + 2 * l->out, rec->z, 1, name, "act");
        for (int64_t i = 0; i < flat_clips(l->out); i++)
            k->clip[s][i] = (double)clip[i];
        free(clip);
        ok(runner_weight(b->r, p->linear[s], -1, w, &err), &err);
        k->f[s] = (FlatLinear){.out = l->out, .in = l->in, .t = &k->t[flat_pair_of(s)],
                               .heads = s == FLAT_V ? &k->t[FLAT_VALUES] : NULL, .left_only = s == FLAT_O, .clip = k->clip[s],
                               .w = w, .wq = malloc(n * sizeof *w)};
        ok(flat_room(&k->room, &k->f[s], 64, pool_threads(b->pool), &err), &err);
        ok(flat_weight(&k->f[s], &k->room, b->pool, NULL, &err), &err);
        k->form[s] = (LinearForm){.weight = form_weight, .act = form_act, .self = &k->f[s]};
        k->table[p->linear[s]] = &k->form[s];
    }
}

static void drop_trained(Trained *k)
{
    for (int i = 0; i < 2 * FLAT_PAIRS; i++)
        free(k->turned[i]);
    for (int s = 0; s < FLAT_SLOTS; s++) {
        free((void *)(uintptr_t)k->f[s].w);
        free(k->f[s].wq);
        free(k->clip[s]);
    }
    flat_room_fini(&k->room);
}

/* In units of the largest value: codes of 4 bits are the same ones. */
static void test_trained_layer_is_recorded(void **state)
{
    (void)state;
    RecordedLayer rec;
    TestRun b;
    FlatPlace p;
    FlatFound f;
    Trained k;
    Overlay *o;
    Stream h;
    Error err;
    recorded_layer_open(&rec, "flatquant_fold", "qwen2");
    test_run_open(&b, rec.dir, ARITH_FP32, 2, NULL);
    ok(flat_place(b.m, 0, true, &p, &err), &err);
    take_golden(&rec, b.m, &p, &f);
    make_trained(&k, &rec, &b, &p, &f);
    ok(overlay_new(&o, b.m, &err), &err); /* the bias of v is turned, as behind the fold */
    int64_t v = p.linear[FLAT_V];
    Rotation *r;
    float *m = malloc((size_t)(p.right[FLAT_VALUES] * p.right[FLAT_VALUES]) * sizeof *m);
    memcpy(m, f.right[FLAT_VALUES].t, (size_t)(p.right[FLAT_VALUES] * p.right[FLAT_VALUES]) * sizeof *m);
    ok(rotation_dense(&r, m, p.right[FLAT_VALUES], &err), &err);
    ok(overlay_rotate_outputs(o, v, r, &err), &err);
    rotation_free(r);
    const RunnerOptions opt = {.pool = b.pool, .overlay = o, .arith = ARITH_FP32};
    Runner *with;
    ok(runner_new(&with, b.m, &opt, &err), &err);
    ok(runner_embed(with, rec.calib, &h, &err), &err);
    const Variant var = {.forms = k.table};
    ok(runner_layer(with, 0, &var, &h, &h, NULL, 0, &err), &err);
    const NpyArray *y;
    const float *want = npz_f32(rec.z, &y, "ycalib0");
    assert_true(test_worst(want, h.data, y->count) < 2e-6);
    stream_fini(&h);
    runner_free(with);
    overlay_free(o);
    drop_trained(&k);
    flat_found_fini(&f);
    test_run_close(&b);
    recorded_layer_close(&rec);
}

/* ---- what the fold must not change ---- */

/* Random transforms far from orthogonal, random diagonals; nothing is clipped. */
static void fill(const Model *m, const FlatPlace *p, FlatFound *f, uint64_t seed)
{
    Error err;
    Rng rng = rng_new(seed);
    ok(flat_found_init(f, m, p, &err), &err);
    for (int k = 0; k < FLAT_PAIRS; k++)
        for (int side = 0; side < 2 && p->on[k]; side++) {
            int64_t n = side ? p->right[k] : p->left[k];
            FlatSide *to = side ? &f->right[k] : &f->left[k];
            double *v = malloc((size_t)spectral_params(n) * sizeof *v);
            Spectral s;
            ok(spectral_init(&s, n, &rng, v, &err), &err);
            for (int64_t i = 0; i < spectral_params(n); i++)
                v[i] += 2 * rng_unit(&rng) - 1;
            spectral_make(&s, v);
            for (int64_t i = 0; i < n * n; i++) {
                to->t[i] = (float)s.t[i];
                to->inv[i] = (float)s.inv[i];
            }
            for (int64_t i = 0; i < p->left[k] * p->right[k] && f->diag[k]; i++)
                f->diag[k][i] = (float)(0.5 + rng_unit(&rng));
            spectral_fini(&s);
            free(v);
        }
    for (int s = 0; s < FLAT_SLOTS; s++) {
        for (int64_t i = 0; f->clip[s] && i < 2 * m->linears[p->linear[s]].out; i++)
            f->clip[s][i] = 1;
        f->limit[s] = 1;
    }
}

/* The largest change of the logits, in parts of the largest; -1: the model has no pair. taken NULL: every linear. */
static double change(const char *dir, const bool *taken, uint64_t seed)
{
    TestRun b;
    Overlay *o;
    Runner *with;
    Error err;
    int64_t n;
    bool any = false;
    const int lens[] = {9, 4};
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lens, 2, b.m->cfg.vocab, 5);
    ok(overlay_new(&o, b.m, &err), &err);
    for (int u = 0; u < b.m->cfg.layers; u++) {
        FlatPlace p;
        FlatFound f;
        ok(flat_place(b.m, u, false, &p, &err), &err);
        if (taken)
            flat_roll_back(&p, taken);
        fill(b.m, &p, &f, seed + (uint64_t)u);
        ok(flat_fold(b.m, &p, &f, o, DT_F32, &err), &err);
        for (int k = 0; k < FLAT_PAIRS; k++)
            any = any || p.on[k];
        for (int s = 0; s < FLAT_SLOTS; s++) /* what is not taken keeps its weight and its input */
            if (p.linear[s] >= 0 && taken && !taken[s])
                assert_true(!overlay_linear(o, p.linear[s]));
        flat_found_fini(&f);
    }
    const RunnerOptions opt = {.pool = b.pool, .overlay = o, .arith = ARITH_FP32};
    ok(runner_new(&with, b.m, &opt, &err), &err);
    float *was = folded_logits(b.r, t, &n), *is = folded_logits(with, t, &n);
    double worst = test_worst(was, is, n);
    free(was);
    free(is);
    runner_free(with);
    overlay_free(o);
    test_tokens_free(t);
    test_run_close(&b);
    return any ? worst : -1;
}

static void test_fold_keeps_what_models_compute(void **state)
{
    (void)state;
    static const char *const all[] = {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "qwen3_moe", "mixtral"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char dir[80];
        snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", all[i]);
        double worst = change(dir, NULL, i);
        if (!(worst >= 0 && worst < 1e-4))
            fail_msg("%s: %g", all[i], worst);
    }
    assert_true(change("tests/golden/models/phi3/fp32", NULL, 1) < 0); /* q, k and v are one */
}

/* Every set of linears that may be taken: the model stays what it is, and the others are not touched. */
static void test_rolled_back_pairs_leave_nothing(void **state)
{
    (void)state;
    for (int set = 0; set < 1 << FLAT_SLOTS; set += 5) {
        bool taken[FLAT_SLOTS];
        for (int s = 0; s < FLAT_SLOTS; s++)
            taken[s] = set >> s & 1;
        assert_true(change("tests/golden/models/qwen2/fp32", taken, 3) < 1e-4);
    }
}

/* ---- at run time ---- */

static void test_limits_of_rows(void **state)
{
    (void)state;
    EditChain c = {.n = 0};
    Error err;
    const float ratio = 0.5f, bounds[] = {0.5f, 1, 0.25f, 1};
    float x[2][4] = {{-4, 1, 2, 3}, {NAN, 8, -1, 5}}, w[2][4] = {{-4, 1, 2, 8}, {1, 2, 3, -4}};
    ok(editchain_scale(&c, CHAIN_LIMIT, &ratio, 1, DT_F32, &err), &err);
    editchain_rows(&c, 0, 1, math_fast(), 7, 2, 4, x[0], NULL);
    assert_memory_equal(x[0], ((float[]){-2, 1, 2, 2}), sizeof x[0]);
    assert_true(isnan(x[1][0]) && x[1][1] == 4 && x[1][2] == -1 && x[1][3] == 4);
    editchain_fini(&c);
    ok(editchain_scale(&c, CHAIN_CLAMP, bounds, 4, DT_F32, &err), &err);
    editchain_rows(&c, 0, 1, math_fast(), 0, 2, 4, w[0], NULL);
    assert_memory_equal(w[0], ((float[]){-2, 1, 2, 2}), sizeof w[0]);
    assert_memory_equal(w[1], ((float[]){1, 2, 3, -4}), sizeof w[1]);
    editchain_fini(&c);
}

/* ---- the training ---- */

static const char qwen2[] = "tests/golden/models/qwen2/fp32";

/* One unit trained over texts of these lengths; *f is the caller's. */
static FlatLoss train(const int *lens, int n, int threads, int epochs, bool peer, FlatFound *f)
{
    TestRun b;
    FlatPlace p;
    FlatLoss loss;
    Stream in, out;
    Error err;
    test_run_open(&b, qwen2, ARITH_FP32, threads, NULL);
    TokenSet *t = test_tokens(lens, n, b.m->cfg.vocab, 9);
    ok(flat_place(b.m, 0, false, &p, &err), &err);
    ok(runner_embed(b.r, t, &in, &err), &err);
    ok(stream_copy(&out, &in, &err), &err);
    ok(runner_layer(b.r, 0, NULL, &in, &out, NULL, 0, &err), &err);
    const FlatTask task = {.r = b.r, .place = &p, .in = &in, .target = &out, .epochs = epochs, .peer = peer, .seed = 1};
    ok(flat_train(&task, f, &loss, &err), &err);
    stream_fini(&in);
    stream_fini(&out);
    test_tokens_free(t);
    test_run_close(&b);
    return loss;
}

/* Texts of unequal lengths, more than a batch, whatever the number of threads. */
static void test_training_lowers_the_error(void **state)
{
    (void)state;
    static const int lens[] = {17, 3, 30, 1, 9, 22};
    FlatFound one, other;
    FlatLoss a = train(lens, 6, 1, 40, false, &one), b = train(lens, 6, 3, 40, false, &other);
    assert_true(a.last > 0 && a.last < 0.8 * a.first);
    assert_true(a.last == b.last && one.n == other.n);
    assert_memory_equal(one.all, other.all, (size_t)one.n * sizeof *one.all);
    assert_memory_equal(one.limit, other.limit, sizeof one.limit);
    flat_found_fini(&one);
    flat_found_fini(&other);
}

/* What it begins with is a rotation, and so is fine without a step. */
static void test_without_a_batch(void **state)
{
    (void)state;
    static const int lens[] = {5, 6};
    FlatFound peer, ours, none;
    assert_true(train(lens, 2, 1, 2, true, &peer).last < 0);
    assert_true(train(lens, 2, 1, 0, false, &none).last < 0);
    assert_true(train(lens, 2, 1, 2, false, &ours).last > 0);
    assert_memory_equal(peer.all, none.all, (size_t)peer.n * sizeof *peer.all);
    assert_memory_not_equal(peer.all, ours.all, (size_t)peer.n * sizeof *peer.all);
    flat_found_fini(&peer);
    flat_found_fini(&ours);
    flat_found_fini(&none);
}

/* ---- what it says ---- */

static void expect(const char *dir, const char *process, int texts, Status want, const char *text)
{
    static const int lens[] = {4, 6, 5, 3, 4};
    Told told;
    Status st;
    const char *says = folded_says(dir, process, lens, texts, &st, &told);
    if (st != want || !strstr(says, text))
        fail_msg("%s says %d, '%s'", process, (int)st, says);
}

static void test_what_it_says(void **state)
{
    (void)state;
    expect(qwen2, "[{type: flatquant, epochs: 1}]", 5, ST_OK, "");
    expect(qwen2, "[{type: flatquant, epochs: 1}]", 3, ST_OK, "3 samples are fewer than a batch of 4: they are trained as one batch");
    expect(qwen2, "[{type: flatquant, epochs: 1, exclude: ['*k_proj']}]", 4, ST_OK,
           "leaves 'model.layers.0.self_attn.q_proj' as it is");
    expect(qwen2, "[{type: flatquant, epochs: 1, exclude: ['*kproj']}]", 4, ST_OK, "'*kproj' in exclude matches no linear");
    expect(qwen2, "[{type: flatquant, include: ['*lm_head']}]", 4, ST_DATA, "selects nothing");
    expect("tests/golden/models/phi3/fp32", "[{type: flatquant}]", 4, ST_DATA,
           "has neither q, k, v and o nor gate, up and down of its own");
}

static void test_no_number_is_named(void **state)
{
    (void)state;
    RecordedLayer rec;
    recorded_layer_open(&rec, "flatquant_fold", "qwen2");
    ((float *)npz_find(rec.z, "before/mlp.up_proj.weight")->data)[3] = NAN;
    recorded_layer_write(&rec, "qwen2");
    expect(rec.dir, "[{type: flatquant}]", 5, ST_DATA, "the error of layer 0 is NaN at sample 0 in epoch 1");
    recorded_layer_close(&rec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_of_sides),
        cmocka_unit_test(test_fold_is_recorded),
        cmocka_unit_test(test_trained_layer_is_recorded),
        cmocka_unit_test(test_fold_keeps_what_models_compute),
        cmocka_unit_test(test_rolled_back_pairs_leave_nothing),
        cmocka_unit_test(test_limits_of_rows),
        cmocka_unit_test(test_training_lowers_the_error),
        cmocka_unit_test(test_without_a_batch),
        cmocka_unit_test(test_what_it_says),
        cmocka_unit_test(test_no_number_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
