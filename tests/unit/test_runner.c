#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "run/schedule.h"

#include "tests/lib/bench.h"
#include "tests/lib/random_model.h"

/* Shapes with several panels of outputs, ragged ones, groups of heads, and tokens over several row and query blocks. */
static const RandomShape qwen3 = {"qwen3", 2, 4, 2, 24, 72, 1060, 1290, 0, DT_BF16, 1};
static const RandomShape qwen2 = {"qwen2", 3, 6, 2, 16, 80, 130, 300, 150, DT_F32, 2};
static const RandomShape half = {"llama", 2, 2, 2, 16, 40, 56, 90, 0, DT_F16, 3};

/* Last decoder output, after every layer. */
static Status run_layers(const TestRun *b, const TokenSet *t, const Observer *obs, int nobs, Stream *h, Error *e)
{
    RETURN_IF_ERROR(runner_embed(b->r, t, h, e));
    FloatPass pass = {.obs = obs, .nobs = nobs};
    Schedule s = {.first = 0, .last = b->m->cfg.layers, .job = {"float", float_pass_run, &pass}};
    Status st = schedule_forward(b->r, (Stream *[]){h}, 1, &s, e);
    if (st != ST_OK)
        stream_fini(h);
    return st;
}

static void run_ok(const TestRun *b, const TokenSet *t, const Observer *obs, int nobs, Stream *h)
{
    Error e = {0};
    if (run_layers(b, t, obs, nobs, h, &e) != ST_OK)
        fail_msg("%s", e.text);
}

static double worst_of(const float *got, const double *want, int64_t n)
{
    double max = 0, diff = 0;
    for (int64_t i = 0; i < n; i++) {
        max = fmax(max, fabs(want[i]));
        diff = fmax(diff, fabs((double)got[i] - want[i]));
    }
    return diff / max;
}

/* ---- against the obvious decoder ---- */

typedef struct LogitsCheck {
    int64_t vocab, hidden;
    float *logits;
    const Stream *x;
    int64_t *reached; /* [row] vocabulary entries seen, in order */
} LogitsCheck;

static void take_logits(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv, const float *logits,
                        int64_t ld, const float *w)
{
    (void)worker;
    LogitsCheck *c = ctx;
    for (int64_t i = 0; i < rows; i++) {
        if (c->reached[row0 + i] == v0)
            c->reached[row0 + i] += nv;
        memcpy(c->logits + (row0 + i) * c->vocab + v0, logits + i * ld, (size_t)nv * sizeof *logits);
        double dot = 0; /* the weight handed over is the one that was used */
        for (int64_t k = 0; k < c->hidden; k++)
            dot += (double)c->x->data[(row0 + i) * c->hidden + k] * (double)w[(nv - 1) * c->hidden + k];
        if (fabs(dot - (double)logits[i * ld + nv - 1]) > 1e-3)
            c->reached[row0 + i] = -1;
    }
}

static void check_against_plain(const RandomShape *shape, ArithMode arith, int samples, const int64_t *len,
                                double tolerance)
{
    char dir[64];
    TestRun b;
    TokenSet t;
    Stream h, x;
    Error e;
    random_model_write(shape, dir);
    random_tokens(&t, samples, len, shape->vocab, 5);
    test_run_open(&b, dir, arith, 2, NULL);
    run_ok(&b, &t, NULL, 0, &h);
    assert_int_equal(runner_final_norm(b.r, &h, &x, NULL, 0, &e), ST_OK);
    LogitsCheck c = {.vocab = shape->vocab, .hidden = shape->hidden, .x = &x};
    c.logits = calloc((size_t)(h.rows * shape->vocab), sizeof *c.logits);
    c.reached = calloc((size_t)h.rows, sizeof *c.reached);
    assert_int_equal(runner_logits(b.r, &x, take_logits, &c, &e), ST_OK);
    double worst = 0;
    for (int s = 0; s < samples; s++) {
        int64_t n = len[s], at = t.start[s];
        double *hs = malloc((size_t)((shape->layers + 1) * n * shape->hidden) * sizeof *hs);
        double *logits = malloc((size_t)(n * shape->vocab) * sizeof *logits);
        plain_decoder(b.m, t.ids + at, n, hs, logits);
        worst = fmax(worst, worst_of(h.data + at * shape->hidden, hs + shape->layers * n * shape->hidden,
                                     n * shape->hidden));
        worst = fmax(worst, worst_of(c.logits + at * shape->vocab, logits, n * shape->vocab));
        free(hs);
        free(logits);
    }
    for (int64_t i = 0; i < h.rows; i++)
        assert_int_equal(c.reached[i], shape->vocab);
    print_message("%s %s: worst %.2g of the maximum\n", shape->model_type, arith_name(arith), worst);
    assert_true(worst < tolerance);
    free(c.logits);
    free(c.reached);
    stream_fini(&h);
    stream_fini(&x);
    test_run_close(&b);
    random_tokens_free(&t);
    random_model_remove(dir);
}

static void long_and_short_texts_are_the_plain_decoder(void **state)
{
    (void)state;
    check_against_plain(&qwen3, ARITH_FP32, 4, (const int64_t[]){1, 300, 17, 260}, 3e-5);
    /* one text over two row blocks, window 150 */
    check_against_plain(&qwen2, ARITH_FP32, 3, (const int64_t[]){5, 1180, 2}, 3e-5);
    check_against_plain(&half, ARITH_FP32, 2, (const int64_t[]){1, 40}, 3e-5);
    check_against_plain(&half, ARITH_EXACT, 2, (const int64_t[]){1, 40}, 2e-2); /* rounded to fp16 at every step */
    /* float32 checkpoint: nothing to round to */
    check_against_plain(&qwen2, ARITH_EXACT, 1, (const int64_t[]){300}, 3e-5);
}

/* ---- the same bytes ---- */

static void threads_and_chunks_do_not_change_a_byte(void **state)
{
    (void)state;
    const int64_t len[] = {300, 40, 280, 511, 3, 1500, 90, 600, 700};
    char dir[64];
    TokenSet t;
    random_model_write(&qwen3, dir);
    random_tokens(&t, 9, len, qwen3.vocab, 9);
    for (int mode = 0; mode < ARITH_MODES; mode++) {
        Stream first = {0};
        uint64_t read = 0;
        for (int i = 0; i < 5; i += mode ? 4 : 1) { /* rounding is slow: one thread against three with chunks */
            TestRun b;
            Stream h;
            int threads = i < 3 ? i + 1 : i == 3 ? 1 : 3;
            /* 0-2: threads; 3: a tight limit, several chunks; 4: the limit and three threads */
            uint64_t tight = 13000000 + (uint64_t)threads * 4000000;
            test_run_open_within(&b, dir, (ArithMode)mode, threads, i < 3 ? 0 : tight, NULL);
            run_ok(&b, &t, NULL, 0, &h);
            if (i == 0) {
                first = h;
                read = checkpoint_bytes_read(b.m->ckpt);
            } else {
                uint64_t now = checkpoint_bytes_read(b.m->ckpt); /* every further chunk reads the weights again */
                assert_true(i < 3 ? now == read : now > read + 900000);
                assert_memory_equal(first.data, h.data, (size_t)(h.rows * h.width) * sizeof *h.data);
                stream_fini(&h);
            }
            test_run_close(&b);
        }
        stream_fini(&first);
    }
    random_tokens_free(&t);
    random_model_remove(dir);
}

static void packed_texts_are_each_alone(void **state)
{
    (void)state;
    const int64_t len[] = {7, 150, 1, 1, 64, 330};
    char dir[64];
    TokenSet t;
    random_model_write(&qwen3, dir);
    random_tokens(&t, 6, len, qwen3.vocab, 4);
    for (int mode = 0; mode < ARITH_MODES; mode++) {
        TestRun b;
        Stream all;
        test_run_open(&b, dir, (ArithMode)mode, 2, NULL);
        run_ok(&b, &t, NULL, 0, &all);
        for (int s = 0; s < 6; s++) {
            Stream one;
            TokenSet alone = {.samples = 1, .start = (int64_t[]){0, len[s]}, .ids = t.ids + t.start[s]};
            run_ok(&b, &alone, NULL, 0, &one);
            const float *a = all.data + t.start[s] * all.width;
            for (int64_t i = 0; i < len[s] * all.width; i++) {
                if (mode == ARITH_EXACT)
                    assert_true(a[i] == one.data[i]);
                else
                    assert_true(fabsf(a[i] - one.data[i]) < 2e-5f * (1 + fabsf(a[i])));
            }
            stream_fini(&one);
        }
        stream_fini(&all);
        test_run_close(&b);
    }
    random_tokens_free(&t);
    random_model_remove(dir);
}

/* ---- observers ---- */

enum { LINEARS = 14 };

typedef struct Watch {
    const Model *m;
    const TokenSet *t;
    pthread_mutex_t lock;
    int64_t next_row[9][LINEARS][16]; /* by kind, linear (or layer), sample */
    double sum_sq[LINEARS];           /* of LINEAR_OUT */
    double energy[LINEARS], weight_sum[LINEARS];
    int panels[LINEARS], panels_seen[LINEARS], begun, ended, layers;
    int64_t rows_of_energy[LINEARS];
    float *ffn, *attn, *out;          /* of the last layer */
    bool bad;
} Watch;

static int watch_at(Tap tap)
{
    return tap.linear >= 0 ? (int)tap.linear : tap.layer < 0 ? 0 : tap.layer;
}

static bool watch_wants(void *self, Tap tap)
{
    (void)self;
    return tap.kind <= TAP_FINAL_NORM;
}

static bool watch_wants_weight(void *self, int64_t linear)
{
    (void)self;
    return linear != 3;
}

static Status watch_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    (void)err;
    Watch *w = self;
    w->begun++;
    w->bad |= samples != w->t->samples || memcmp(start, w->t->start, ((size_t)samples + 1) * sizeof *start) != 0;
    if (tap.kind == TAP_LINEAR_IN)
        w->bad |= width != w->m->linears[tap.linear].in || w->m->linears[tap.linear].input != tap.linear;
    return ST_OK;
}

static void watch_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                       int64_t ld)
{
    Watch *w = self;
    double sum = 0;
    pthread_mutex_lock(&w->lock);
    int64_t *next = &w->next_row[tap.kind][watch_at(tap)][sample];
    w->bad |= *next != row0 || rows <= 0;
    *next = row0 + rows;
    float *keep = tap.layer != w->m->cfg.layers - 1 ? NULL : tap.kind == TAP_FFN ? w->ffn : tap.kind == TAP_ATTN
        ? w->attn
                  : tap.kind == TAP_BLOCK_OUT ? w->out : NULL;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j++) {
            sum += (double)x[i * ld + j] * (double)x[i * ld + j];
            if (keep)
                keep[(w->t->start[sample] + row0 + i) * width + j] = x[i * ld + j];
        }
    if (tap.kind == TAP_LINEAR_OUT)
        w->sum_sq[tap.linear] += sum;
    pthread_mutex_unlock(&w->lock);
}

static Status watch_end(void *self, Tap tap, Error *err)
{
    (void)err;
    Watch *w = self;
    w->ended++;
    for (int s = 0; s < w->t->samples; s++)
        w->bad |= w->next_row[tap.kind][watch_at(tap)][s] != w->t->start[s + 1] - w->t->start[s];
    return ST_OK;
}

static Status watch_weight_begin(void *self, int64_t linear, int panels, Error *err)
{
    (void)err;
    ((Watch *)self)->panels[linear] = panels;
    return ST_OK;
}

static void watch_panel(void *self, int64_t linear, int panel, int64_t row0, int64_t rows, const float *x, int64_t in)
{
    Watch *w = self;
    double sum = 0;
    for (int64_t i = 0; i < rows * in; i++)
        sum += (double)x[i] * (double)((row0 * in + i) % 31);
    pthread_mutex_lock(&w->lock);
    w->bad |= panel < 0 || panel >= w->panels[linear];
    w->panels_seen[linear]++;
    w->weight_sum[linear] += sum;
    pthread_mutex_unlock(&w->lock);
}

static Status watch_weight_end(void *self, int64_t linear, Error *err)
{
    (void)err;
    Watch *w = self;
    w->bad |= w->panels_seen[linear] != w->panels[linear];
    return ST_OK;
}

static Status watch_energy(void *self, int64_t linear, const double *sums, int64_t n, int64_t rows, Error *err)
{
    (void)err;
    Watch *w = self;
    w->energy[linear] = 0;
    for (int64_t i = 0; i < n; i++)
        w->energy[linear] += sums[i];
    w->rows_of_energy[linear] = rows;
    return ST_OK;
}

static Status watch_layer_end(void *self, int layer, Error *err)
{
    (void)err;
    Watch *w = self;
    w->bad |= layer != w->layers++;
    return ST_OK;
}

static const ObserverOps watch_ops = {
    .name = "watch", .wants_tap = watch_wants, .wants_weight = watch_wants_weight, .tap_begin = watch_begin,
        .tap_tile = watch_tile,
    .tap_end = watch_end, .weight_begin = watch_weight_begin, .weight_panel = watch_panel,
        .weight_end = watch_weight_end,
    .output_energy = watch_energy, .layer_end = watch_layer_end,
};

static void check_weights_seen(const Watch *w)
{
    for (int i = 0; i < LINEARS; i++) {
        const TensorInfo *t = w->m->linears[i].weight;
        Error e;
        uint16_t *raw = malloc(t->nbytes);
        double sum = 0;
        assert_int_equal(checkpoint_read(w->m->ckpt, t, 0, t->nbytes, raw, &e), ST_OK);
        for (uint64_t k = 0; k < t->nbytes / 2; k++) {
            uint32_t u = (uint32_t)raw[k] << 16;
            float v;
            memcpy(&v, &u, sizeof v);
            sum += (double)v * (double)(k % 31);
        }
        if (i == 3)
            assert_int_equal(w->panels_seen[i], 0);
        else
            assert_true(fabs(sum - w->weight_sum[i]) <= 1e-9 * fabs(sum) + 1e-9);
        free(raw);
    }
}

static void observers_see_everything_once_and_change_nothing(void **state)
{
    (void)state;
    const int64_t len[] = {300, 40, 1, 600, 1100, 2, 5}; /* blocks of 941, 550, 550 and 7 rows */
    char dir[64];
    TokenSet t;
    random_model_write(&qwen3, dir);
    random_tokens(&t, 7, len, qwen3.vocab, 6);
    double energy[LINEARS] = {0};
    uint64_t read = 0;
    for (int round = 0; round < 3; round++) {
        TestRun b;
        Stream plain, h, x;
        Watch w = {.t = &t, .lock = PTHREAD_MUTEX_INITIALIZER};
        Error e;
        /* the last in several chunks */
        test_run_open_within(&b, dir, ARITH_FP32, round + 1, round == 2 ? 25500000 : 0, NULL);
        w.m = b.m;
        size_t cells = (size_t)(t.start[7] * qwen3.hidden);
        w.ffn = calloc(cells, 4);
        w.attn = calloc(cells, 4);
        w.out = calloc(cells, 4);
        const Observer obs[] = {{&watch_ops, &w}};
        run_ok(&b, &t, NULL, 0, &plain);
        run_ok(&b, &t, obs, 1, &h);
        assert_memory_equal(plain.data, h.data, cells * sizeof *h.data);
        assert_memory_equal(w.out, h.data, cells * sizeof *h.data);
        assert_int_equal(runner_final_norm(b.r, &h, &x, obs, 1, &e), ST_OK);
        assert_false(w.bad);
        if (round == 0)
            read = checkpoint_bytes_read(b.m->ckpt);
        assert_true(round < 2 || checkpoint_bytes_read(b.m->ckpt) > read + 900000);
        assert_int_equal(w.layers, 2);
        /* a layer: 4 inputs, 7 outputs, q, k, v, attention, feed-forward, block; then the final norm */
        assert_int_equal(w.begun, 2 * 17 + 1);
        assert_int_equal(w.ended, w.begun);
        check_weights_seen(&w);
        for (int i = 0; i < LINEARS; i++) {
            assert_int_equal(w.rows_of_energy[i], t.start[7]);
            assert_true(fabs(w.energy[i] - w.sum_sq[i]) < 1e-9 * w.sum_sq[i]);
            if (round)
                assert_true(energy[i] == w.energy[i]);
            energy[i] = w.energy[i];
        }
        free(w.ffn);
        free(w.attn);
        free(w.out);
        stream_fini(&plain);
        stream_fini(&h);
        stream_fini(&x);
        test_run_close(&b);
    }
    random_tokens_free(&t);
    random_model_remove(dir);
}

/* ---- variants ---- */

typedef struct FormState {
    int64_t prepared_rows;
    double scale;
    int acts;
    pthread_mutex_t lock;
} FormState;

static Status form_prepare(void *self, const float *x, const Stream *shape, int64_t width, Pool *pool, Error *err)
{
    (void)x;
    (void)width;
    (void)pool;
    (void)err;
    ((FormState *)self)->prepared_rows = shape->start[shape->samples];
    return ST_OK;
}

static void form_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    (void)row0;
    for (int64_t i = 0; i < rows * in; i++)
        w[i] *= (float)((FormState *)self)->scale;
}

static void form_act(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    (void)sample;
    FormState *f = self;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < in; j++)
            out[i * in + j] = x[i * ld + j] * (float)(1 / f->scale);
    pthread_mutex_lock(&f->lock);
    f->acts++;
    pthread_mutex_unlock(&f->lock);
}

/* Scaling weights by 4 and inputs by 1/4 is exact: the variant must give the float layer's bytes. */
static void a_variant_that_cancels_out_is_float(void **state)
{
    (void)state;
    const int64_t len[] = {120, 1, 500, 33};
    char dir[64];
    TokenSet t;
    random_model_write(&qwen3, dir);
    random_tokens(&t, 4, len, qwen3.vocab, 8);
    TestRun b;
    Stream in, plain, out;
    Error e;
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    assert_int_equal(runner_embed(b.r, &t, &in, &e), ST_OK);
    assert_int_equal(stream_copy(&plain, &in, &e), ST_OK);
    assert_int_equal(stream_copy(&out, &in, &e), ST_OK);
    assert_int_equal(runner_layer(b.r, 1, NULL, &in, &plain, NULL, 0, &e), ST_OK);
    FormState f[7];
    LinearForm form[7];
    const LinearForm *forms[7];
    static const char key = 'k';
    for (int i = 0; i < 7; i++) {
        f[i] = (FormState){.scale = i < 3 ? 4 : 1 << i, .lock = PTHREAD_MUTEX_INITIALIZER};
        form[i] = (LinearForm){.prepare = form_prepare, .weight = form_weight, .act = form_act, .self = &f[i],
                               .act_key = i < 2 ? &key : NULL};
        forms[i] = &form[i];
    }
    Variant v = {.forms = forms};
    assert_int_equal(runner_layer(b.r, 1, &v, &in, &out, NULL, 0, &e), ST_OK);
    assert_memory_equal(plain.data, out.data, (size_t)(out.rows * out.width) * sizeof *out.data);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(f[i].prepared_rows, t.start[4]);
        assert_int_equal(f[i].acts, i == 1 ? 0 : 4); /* k shares q's */
    }
    f[6].scale = 3; /* a real change is seen; and only one linear replaced */
    forms[0] = forms[1] = forms[2] = forms[3] = forms[4] = forms[5] = NULL;
    form[6].act = NULL;
    assert_int_equal(runner_layer(b.r, 1, &v, &in, &out, NULL, 0, &e), ST_OK);
    assert_memory_not_equal(plain.data, out.data, (size_t)(out.rows * out.width) * sizeof *out.data);
    stream_fini(&in);
    stream_fini(&plain);
    stream_fini(&out);
    test_run_close(&b);
    random_tokens_free(&t);
    random_model_remove(dir);
}

/* ---- stopping and failing ---- */

static void cancel_at_any_batch_leaves_nothing_behind(void **state)
{
    (void)state;
    const int64_t len[] = {200, 300};
    char dir[64];
    TokenSet t;
    random_model_write(&qwen3, dir);
    random_tokens(&t, 2, len, qwen3.vocab, 8);
    Cancel c = {0};
    TestRun b;
    Stream h;
    Error e = {0};
    test_run_open(&b, dir, ARITH_FP32, 2, &c);
    atomic_store(&c.level, 1);
    assert_int_equal(run_layers(&b, &t, NULL, 0, &h, &e), ST_CANCELLED);
    atomic_store(&c.level, 0);
    run_ok(&b, &t, NULL, 0, &h); /* the runner is still good */
    atomic_store(&c.level, 2);
    assert_int_equal(runner_layer(b.r, 0, NULL, &h, &h, NULL, 0, &e), ST_CANCELLED);
    Stream x;
    assert_int_equal(runner_final_norm(b.r, &h, &x, NULL, 0, &e), ST_CANCELLED);
    stream_fini(&h);
    test_run_close(&b);
    random_tokens_free(&t);
    random_model_remove(dir);
}

static void a_file_cut_while_it_is_open_is_an_error(void **state)
{
    (void)state;
    const int64_t len[] = {20};
    char dir[64], path[128];
    TokenSet t;
    random_model_write(&qwen3, dir);
    random_tokens(&t, 1, len, qwen3.vocab, 8);
    TestRun b;
    Stream h;
    Error e = {0};
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    const TensorInfo *up = b.m->linears[unit_linear(&b.m->units[1], "up")].weight;
    assert_int_equal(truncate(path, (off_t)(up->offset + up->nbytes / 2)), 0);
    assert_int_not_equal(run_layers(&b, &t, NULL, 0, &h, &e), ST_OK);
    if (!strstr(e.text, "model.layers.1.mlp.up_proj.weight"))
        fail_msg("%s", e.text);
    test_run_close(&b);
    random_tokens_free(&t);
    random_model_remove(dir);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    const int64_t len[] = {900};
    char dir[64];
    TokenSet t;
    random_model_write(&qwen3, dir);
    random_tokens(&t, 1, len, qwen3.vocab, 8);
    TestRun b;
    Stream h;
    Error e = {0};
    test_run_open_within(&b, dir, ARITH_FP32, 1, 1000000, NULL);
    assert_int_equal(run_layers(&b, &t, NULL, 0, &h, &e), ST_NOMEM);
    assert_non_null(strstr(e.text, "--mem"));
    t.ids[3] = (int32_t)qwen3.vocab;
    assert_int_equal(run_layers(&b, &t, NULL, 0, &h, &e), ST_DATA);
    assert_non_null(strstr(e.text, "token id 1290"));
    test_run_close(&b);
    random_tokens_free(&t);
    random_model_remove(dir);
}

static void the_estimate_bounds_the_peak(void **state)
{
    (void)state;
    char dir[64];
    random_model_write(&qwen3, dir);
    TestRun b;
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    const RunnerAsk short_one = {.rows = 1000, .longest = 500, .threads = 2};
    RunnerAsk a = short_one;
    uint64_t few = runner_estimate(b.m, &a);
    a.rows = 100000;
    uint64_t many = runner_estimate(b.m, &a);
    a.whole = true;
    uint64_t whole = runner_estimate(b.m, &a);
    a = short_one;
    a.threads = 8;
    uint64_t wide = runner_estimate(b.m, &a);
    assert_true(few < many && many < whole && few < wide);
    assert_true(whole > (uint64_t)100000 * (72 * 2 + 1060) * 4);
    test_run_close(&b);
    random_model_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_and_short_texts_are_the_plain_decoder),
        cmocka_unit_test(threads_and_chunks_do_not_change_a_byte),
        cmocka_unit_test(packed_texts_are_each_alone),
        cmocka_unit_test(observers_see_everything_once_and_change_nothing),
        cmocka_unit_test(a_variant_that_cancels_out_is_float),
        cmocka_unit_test(cancel_at_any_batch_leaves_nothing_behind),
        cmocka_unit_test(a_file_cut_while_it_is_open_is_an_error),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(the_estimate_bounds_the_peak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
