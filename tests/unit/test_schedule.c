#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "run/schedule.h"
#include "run/taps.h"

#include "tests/lib/bench.h"
#include "tests/lib/random_model.h"

/* ---- random numbers ---- */

static void the_generator_is_splitmix64(void **state)
{
    (void)state;
    /* the reference program's numbers for this seed (https://prng.di.unimi.it/splitmix64.c) */
    static const uint64_t want[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                    4593380528125082431u, 16408922859458223821u};
    Rng r = rng_new(1234567);
    for (int i = 0; i < 5; i++)
        assert_true(rng_next(&r) == want[i]);
    int count[6] = {0};
    for (int i = 0; i < 60000; i++) {
        count[rng_below(&r, 6)]++;
        double u = rng_unit(&r);
        assert_true(u >= 0 && u < 1);
    }
    for (int i = 0; i < 6; i++)
        assert_true(abs(count[i] - 10000) < 500);
    Rng a = rng_of(7, 0), b = rng_of(7, 1), c = rng_of(8, 0), again = rng_of(7, 1);
    uint64_t x = rng_next(&a), y = rng_next(&b), z = rng_next(&c);
    assert_true(x != y && x != z && y != z);
    assert_true(rng_next(&again) == y);
}

/* ---- what a job is given ---- */

typedef struct Given {
    uint64_t first[8];
    size_t held[8];
    int units;
} Given;

static Status note_given(void *self, LayerCtx *ctx, Error *err)
{
    (void)err;
    Given *g = self;
    g->held[g->units] = ctx->arena->used;
    g->first[g->units++] = rng_next(ctx->rng);
    rng_next(ctx->rng);
    assert_non_null(arena_alloc(ctx->arena, 1000));
    return ST_OK;
}

static const RandomShape dense = {"qwen3", 5, 4, 2, 16, 40, 72, 130, 0, DT_BF16, 4};

static void a_job_has_an_arena_and_random_numbers_of_its_own(void **state)
{
    (void)state;
    char dir[64];
    TestRun b;
    Stream *none = NULL;
    random_model_write(&dense, dir);
    test_run_open(&b, dir, ARITH_FP32, 1, NULL);
    Given all = {0}, tail = {0}, other = {0};
    Schedule s = {.first = 0, .last = 5, .job = {"note", note_given, &all}, .seed = 42};
    assert_int_equal(schedule_forward(b.r, &none, 0, &s, NULL), ST_OK);
    s.first = 3;
    s.job.self = &tail;
    assert_int_equal(schedule_forward(b.r, &none, 0, &s, NULL), ST_OK);
    s.seed = 43;
    s.job.self = &other;
    assert_int_equal(schedule_forward(b.r, &none, 0, &s, NULL), ST_OK);
    assert_int_equal(all.units, 5);
    assert_int_equal(tail.units, 2);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(all.held[i], 0); /* what the unit before took is gone */
        for (int k = 0; k < i; k++)
            assert_true(all.first[i] != all.first[k]);
    }
    assert_true(tail.first[0] == all.first[3] && tail.first[1] == all.first[4]); /* a resumed schedule draws the same */
    assert_true(other.first[0] != tail.first[0]);
    test_run_close(&b);
    random_model_remove(dir);
}

/* ---- the steps around the units ---- */

static void steps_around_the_units_are_the_runners(void **state)
{
    (void)state;
    char dir[64];
    TestRun b;
    random_model_write(&dense, dir);
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    TokenSet *t[2] = {test_tokens((int[]){9, 30}, 2, dense.vocab, 3), test_tokens((int[]){17}, 1, dense.vocab, 4)};
    TestLogits got[2];
    for (int i = 0; i < 2; i++)
        got[i] = (TestLogits){calloc((size_t)(t[i]->start[t[i]->samples] * dense.vocab), sizeof(float)), dense.vocab};
    Stream h[2], normed[2];
    FloatPass pass = {0};
    Outside o = {.tokens = (const TokenSet *[]){t[0], t[1]}, .normed = normed, .logits = test_keep_logits,
                 .logits_ctx = (void *[]){&got[0], &got[1]}};
    Schedule s = {.first = 0, .last = 5, .job = {"float", float_pass_run, &pass}, .outside = &o};
    Error e = {0};
    assert_int_equal(schedule_forward(b.r, (Stream *[]){&h[0], &h[1]}, 2, &s, &e), ST_OK);
    for (int i = 0; i < 2; i++) {
        Stream x, n;
        size_t size = (size_t)(t[i]->start[t[i]->samples] * dense.vocab) * sizeof(float);
        assert_int_equal(runner_embed(b.r, t[i], &x, NULL), ST_OK);
        for (int layer = 0; layer < 5; layer++)
            assert_int_equal(runner_layer(b.r, layer, NULL, &x, &x, NULL, 0, NULL), ST_OK);
        assert_int_equal(runner_final_norm(b.r, &x, &n, NULL, 0, NULL), ST_OK);
        float *want = test_logits(b.r, &n);
        assert_memory_equal(x.data, h[i].data, (size_t)(x.rows * x.width) * sizeof(float));
        assert_memory_equal(n.data, normed[i].data, (size_t)(n.rows * n.width) * sizeof(float));
        assert_memory_equal(want, got[i].v, size);
        free(want);
        free(got[i].v);
        stream_fini(&x);
        stream_fini(&n);
        stream_fini(&h[i]);
        stream_fini(&normed[i]);
    }
    s.first = 1; /* what does not join is not run */
    assert_int_equal(schedule_forward(b.r, (Stream *[]){&h[0], &h[1]}, 2, &s, &e), ST_INTERNAL);
    s.first = 0;
    s.last = 4;
    assert_int_equal(schedule_forward(b.r, (Stream *[]){&h[0], &h[1]}, 2, &s, &e), ST_INTERNAL);
    for (int i = 0; i < 2; i++)
        test_tokens_free(t[i]);
    test_run_close(&b);
    random_model_remove(dir);
}

static void more_observers_than_a_tap_can_tell_apart_are_refused(void **state)
{
    (void)state;
    enum { MANY = TAPS_MAX_OBSERVERS + 1 };
    static const ObserverOps ops = {.name = "nothing"};
    char dir[64];
    TestRun b;
    Error e = {0};
    Observer obs[MANY];
    for (int i = 0; i < MANY; i++)
        obs[i] = (Observer){&ops, NULL};
    random_model_write(&dense, dir);
    test_run_open(&b, dir, ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens((int[]){9}, 1, dense.vocab, 3);
    Stream h, n;
    assert_int_equal(runner_embed(b.r, t, &h, NULL), ST_OK);
    assert_int_equal(runner_layer(b.r, 0, NULL, &h, &h, obs, MANY - 1, &e), ST_OK);
    assert_int_equal(runner_layer(b.r, 0, NULL, &h, &h, obs, MANY, &e), ST_INTERNAL);
    assert_non_null(strstr(e.text, "65 observers of one pass, at most 64"));
    assert_int_equal(runner_final_norm(b.r, &h, &n, obs, MANY, &e), ST_INTERNAL);
    stream_fini(&h);
    test_tokens_free(t);
    test_run_close(&b);
    random_model_remove(dir);
}

/* ---- the sweep ---- */

/* Weights and inputs on a coarse grid. */
static void coarse_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    (void)self;
    (void)row0;
    for (int64_t i = 0; i < rows * in; i++)
        w[i] = rintf(w[i] * 16) / 16;
}

static void coarse_act(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    (void)self;
    (void)sample;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < in; j++)
            out[r * in + j] = rintf(x[r * ld + j] * 8) / 8;
}

static const LinearForm coarse = {.weight = coarse_weight, .act = coarse_act};

/* "Only unit k on the coarse grid", for every unit. */
typedef struct Coarse {
    const LinearForm **forms; /* of the most linears a unit has */
    Variant v;
    Perturb *p;
    int n;
} Coarse;

static void coarse_make(Coarse *c, const Model *m, int until)
{
    int64_t most = 0;
    for (int u = 0; u < m->cfg.layers; u++)
        most = m->units[u].count > most ? m->units[u].count : most;
    c->forms = malloc((size_t)most * sizeof *c->forms);
    for (int64_t i = 0; i < most; i++)
        c->forms[i] = i % 3 == 2 ? NULL : &coarse;
    c->v = (Variant){.forms = c->forms};
    c->n = m->cfg.layers;
    c->p = calloc((size_t)c->n, sizeof *c->p);
    for (int k = 0; k < c->n; k++) { /* backwards: the order of the list is the caller's */
        int unit = c->n - 1 - k;
        c->p[k] = (Perturb){.unit = unit, .variant = &c->v, .until = until ? unit + until : c->n};
        c->p[k].until = c->p[k].until > c->n ? c->n : c->p[k].until;
    }
}

static void coarse_free(Coarse *c)
{
    free(c->forms);
    free(c->p);
}

typedef struct Seen {
    const TokenSet *t;
    const Perturb *p;
    int64_t width;
    float **plain, **changed; /* [n][rows][width] */
    int *chunks;              /* where each ended */
    int nchunks;
    int stop_after;           /* chunks; 0: never */
} Seen;

static void seen_make(Seen *s, const TokenSet *t, const Coarse *c, int64_t width)
{
    *s = (Seen){.t = t, .p = c->p, .width = width};
    size_t size = (size_t)(t->start[t->samples] * width) * sizeof(float);
    s->plain = calloc((size_t)c->n, sizeof *s->plain);
    s->changed = calloc((size_t)c->n, sizeof *s->changed);
    s->chunks = calloc((size_t)t->samples + 1, sizeof *s->chunks);
    for (int k = 0; k < c->n; k++) {
        s->plain[k] = calloc(size, 1);
        s->changed[k] = calloc(size, 1);
    }
}

static void seen_free(Seen *s, int n)
{
    for (int k = 0; k < n; k++) {
        free(s->plain[k]);
        free(s->changed[k]);
    }
    free(s->plain);
    free(s->changed);
    free(s->chunks);
}

static Status keep_stream(void *ctx, int p, int s0, const Stream *plain, const Stream *changed, Error *err)
{
    (void)err;
    Seen *s = ctx;
    int64_t at = s->t->start[s0] * s->width, n = plain->rows * s->width;
    assert_int_equal(plain->rows, s->t->start[s0 + plain->samples] - s->t->start[s0]);
    assert_int_equal(changed->samples, plain->samples);
    assert_memory_equal(changed->start, plain->start, ((size_t)plain->samples + 1) * sizeof *plain->start);
    memcpy(s->plain[p] + at, plain->data, (size_t)n * sizeof(float));
    memcpy(s->changed[p] + at, changed->data, (size_t)n * sizeof(float));
    return ST_OK;
}

static Status count_chunk(void *ctx, int done, int samples, Error *err)
{
    Seen *s = ctx;
    assert_int_equal(samples, s->t->samples);
    s->chunks[s->nchunks++] = done;
    return s->stop_after && s->nchunks == s->stop_after ? error_set(err, ST_CANCELLED, "cancelled") : ST_OK;
}

/* Perturbation p alone, all texts at once. */
static void one_by_one(const TestRun *b, const TokenSet *t, const Perturb *p, Stream *plain, Stream *changed)
{
    assert_int_equal(runner_embed(b->r, t, plain, NULL), ST_OK);
    assert_int_equal(runner_embed(b->r, t, changed, NULL), ST_OK);
    for (int u = 0; u < p->until; u++) {
        assert_int_equal(runner_layer(b->r, u, NULL, plain, plain, NULL, 0, NULL), ST_OK);
        assert_int_equal(runner_layer(b->r, u, u == p->unit ? p->variant : NULL, changed, changed, NULL, 0, NULL),
                         ST_OK);
    }
}

static void check_seen(const TestRun *b, const TokenSet *t, const Coarse *c, const Seen *s)
{
    size_t size = (size_t)(t->start[t->samples] * s->width) * sizeof(float);
    for (int k = 0; k < c->n; k++) {
        Stream plain, changed;
        one_by_one(b, t, &c->p[k], &plain, &changed);
        assert_memory_equal(plain.data, s->plain[k], size);
        assert_memory_equal(changed.data, s->changed[k], size);
        assert_memory_not_equal(plain.data, changed.data, size); /* the change was felt */
        stream_fini(&plain);
        stream_fini(&changed);
    }
}

/* Bytes that a pass over these units reads. */
static uint64_t bytes_of(const TestRun *b, const TokenSet *t, int first, int last)
{
    Stream h;
    assert_int_equal(runner_embed(b->r, t, &h, NULL), ST_OK);
    uint64_t before = checkpoint_bytes_read(b->m->ckpt);
    for (int u = first; u < last; u++)
        assert_int_equal(runner_layer(b->r, u, NULL, &h, &h, NULL, 0, NULL), ST_OK);
    stream_fini(&h);
    return checkpoint_bytes_read(b->m->ckpt) - before;
}

/* Long texts are cut into tiles, short ones share them, two lie on the edge of one. */
static const int lengths[] = {300, 1100, 3, 90, 420, 77, 511, 1, 260};
enum { TEXTS = sizeof lengths / sizeof *lengths };

/* A model, texts, the changes of one unit each, and what a sweep shows of them. */
typedef struct Swept {
    char dir[64];
    TestRun b;
    TokenSet *t;
    Coarse c;
    Seen s;
} Swept;

/* model NULL: a random one. */
static void swept_open(Swept *w, const char *model, int threads, const int *lens, int texts, uint64_t seed)
{
    w->dir[0] = 0;
    if (!model)
        random_model_write(&dense, w->dir);
    test_run_open(&w->b, model ? model : w->dir, ARITH_FP32, threads, NULL);
    w->t = test_tokens(lens, texts, w->b.m->cfg.vocab, seed);
    coarse_make(&w->c, w->b.m, 0);
    seen_make(&w->s, w->t, &w->c, w->b.m->cfg.stream_width);
}

static void swept_close(Swept *w)
{
    seen_free(&w->s, w->c.n);
    coarse_free(&w->c);
    test_tokens_free(w->t);
    test_run_close(&w->b);
    if (w->dir[0])
        random_model_remove(w->dir);
}

static void a_sweep_is_every_change_alone(void **state)
{
    (void)state;
    static const int64_t chunk_rows[] = {1, 900, 100000};
    char dir[64];
    random_model_write(&dense, dir);
    for (int mode = 0; mode < ARITH_MODES; mode++) {
        for (int until = 0; until < (mode ? 1 : 3); until++) { /* to the end; behind the unit; one unit later */
            int texts = mode ? 4 : TEXTS;
            TestRun b;
            TokenSet *t = test_tokens(lengths + (mode ? 5 : 0), texts, dense.vocab, 5);
            test_run_open(&b, dir, (ArithMode)mode, 1 + until, NULL);
            Coarse c;
            Seen s;
            Error e = {0};
            coarse_make(&c, b.m, until);
            for (int k = mode; k < 3; k++) { /* rounding is slow: not text by text */
                int64_t rows = chunk_rows[k];
                seen_make(&s, t, &c, b.m->cfg.stream_width);
                Sweep w = {.tokens = t, .perturb = c.p, .n = c.n, .last = 5, .chunk_rows = rows};
                assert_int_equal(schedule_sweep_copies(&w), until == 0 ? 5 : until);
                SweepSink sink = {keep_stream, count_chunk, &s};
                if (schedule_sweep(b.r, &w, &sink, &e) != ST_OK)
                    fail_msg("%s", e.text);
                check_seen(&b, t, &c, &s);
                assert_true(rows == 100000 ? s.nchunks == 1 : mode || s.nchunks > (rows == 1 ? 4 : 1));
                assert_int_equal(s.chunks[s.nchunks - 1], texts);
                seen_free(&s, c.n);
            }
            coarse_free(&c);
            test_run_close(&b);
            test_tokens_free(t);
        }
    }
    random_model_remove(dir);
}

static void a_sweep_reads_a_unit_once_a_chunk_and_once_for_its_change(void **state)
{
    (void)state;
    Swept x;
    swept_open(&x, NULL, 2, (int[]){40, 11, 60}, 3, 6);
    const Checkpoint *ckpt = x.b.m->ckpt;
    uint64_t units = bytes_of(&x.b, x.t, 0, 5), embed = checkpoint_bytes_read(ckpt), suffixes = 0;
    Stream h;
    assert_int_equal(runner_embed(x.b.r, x.t, &h, NULL), ST_OK);
    stream_fini(&h);
    embed = checkpoint_bytes_read(ckpt) - embed;
    for (int u = 0; u < 5; u++)
        suffixes += bytes_of(&x.b, x.t, u, 5);
    Sweep w = {.tokens = x.t, .perturb = x.c.p, .n = x.c.n, .last = 5};
    uint64_t before = checkpoint_bytes_read(ckpt);
    assert_int_equal(schedule_sweep(x.b.r, &w, &(SweepSink){keep_stream, NULL, &x.s}, NULL), ST_OK);
    uint64_t read = checkpoint_bytes_read(ckpt) - before;
    /* and, where a unit runs twice, the first stage of the next one is read ahead in vain */
    assert_in_range(read, embed + 2 * units, embed + 2 * units + units / 3);
    assert_true(2 * units < units + suffixes); /* what float and every suffix by itself would read */
    swept_close(&x);
}

static void a_stopped_sweep_goes_on_with_the_next_chunk(void **state)
{
    (void)state;
    Swept x;
    swept_open(&x, NULL, 2, lengths, TEXTS, 7);
    x.s.stop_after = 2;
    Sweep w = {.tokens = x.t, .perturb = x.c.p, .n = x.c.n, .last = 5, .chunk_rows = 500};
    SweepSink sink = {keep_stream, count_chunk, &x.s};
    assert_int_equal(schedule_sweep(x.b.r, &w, &sink, NULL), ST_CANCELLED);
    assert_int_equal(x.s.nchunks, 2);
    w.first_sample = x.s.chunks[1];
    assert_in_range(w.first_sample, 1, TEXTS - 1);
    x.s.stop_after = 0;
    assert_int_equal(schedule_sweep(x.b.r, &w, &sink, NULL), ST_OK);
    check_seen(&x.b, x.t, &x.c, &x.s);
    swept_close(&x);
}

static void little_memory_makes_small_chunks_or_none(void **state)
{
    (void)state;
    char dir[64];
    TestRun b;
    Error e = {0};
    random_model_write(&dense, dir);
    TokenSet *t = test_tokens(lengths, TEXTS, dense.vocab, 8);
    test_run_open(&b, dir, ARITH_FP32, 1, NULL);
    uint64_t fits = schedule_sweep_bytes(b.m, 5, 1403, 1100, 1), small = schedule_sweep_bytes(b.m, 5, 200, 1100, 1);
    test_run_close(&b);
    for (int k = 0; k < 2; k++) {
        test_run_open_within(&b, dir, ARITH_FP32, 1, k ? small : fits, NULL);
        Coarse c;
        Seen s;
        coarse_make(&c, b.m, 0);
        seen_make(&s, t, &c, b.m->cfg.stream_width);
        Sweep w = {.tokens = t, .perturb = c.p, .n = c.n, .last = 5, .chunk_rows = 100000};
        Status st = schedule_sweep(b.r, &w, &(SweepSink){keep_stream, count_chunk, &s}, &e);
        if (k == 0) {
            assert_int_equal(st, ST_OK);
            assert_true(s.nchunks > 1);
            check_seen(&b, t, &c, &s);
        } else {
            assert_int_equal(st, ST_NOMEM);
            assert_non_null(strstr(e.text, "raise --mem"));
            assert_int_equal(s.nchunks, 0);
        }
        seen_free(&s, c.n);
        coarse_free(&c);
        test_run_close(&b);
    }
    test_tokens_free(t);
    random_model_remove(dir);
}

static Status look(void *self, const float *x, const Stream *shape, int64_t width, Pool *pool, Error *err)
{
    (void)x, (void)shape, (void)width, (void)pool, (void)err;
    (*(int *)self)++;
    return ST_OK;
}

static void a_form_that_looks_at_all_texts_wants_one_chunk(void **state)
{
    (void)state;
    Swept x;
    Error e = {0};
    int looked = 0;
    swept_open(&x, NULL, 1, lengths, TEXTS, 8);
    LinearForm looks = {.weight = coarse_weight, .prepare = look, .self = &looked};
    x.c.forms[1] = &looks;
    Sweep w = {.tokens = x.t, .perturb = x.c.p, .n = 1, .last = 5, .chunk_rows = 500};
    SweepSink sink = {keep_stream, NULL, &x.s};
    assert_int_equal(schedule_sweep(x.b.r, &w, &sink, &e), ST_USAGE);
    assert_non_null(strstr(e.text, "layer 4"));
    assert_int_equal(looked, 0);
    w.chunk_rows = 100000;
    assert_int_equal(schedule_sweep(x.b.r, &w, &sink, &e), ST_OK);
    assert_int_equal(looked, 1);
    w.perturb = &(Perturb){.unit = 2, .variant = &x.c.v, .until = 6};
    assert_int_equal(schedule_sweep(x.b.r, &w, &sink, &e), ST_INTERNAL);
    swept_close(&x);
}

/* Experts, whose rows are gathered; choices of an indexer, which travel with the rows; linear attention; copies of the
 * hidden state. */
static void copies_of_other_kinds_of_layers_do_not_touch_each_other(void **state)
{
    (void)state;
    static const char *const models[] = {
        "tests/golden/models/qwen3_moe/fp32",   "tests/golden/models/deepseek_v32/fp32",
        "tests/golden/models/glm_moe_dsa/fp32", "tests/golden/models/qwen3_next/fp32",
        "tests/golden/models/deepseek_v4/fp32", "tests/golden/models/longcat_flash/fp32",
    };
    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        Swept x;
        Error e = {0};
        swept_open(&x, models[k], 2, (int[]){40, 9, 23}, 3, 9);
        Sweep w = {.tokens = x.t, .perturb = x.c.p, .n = x.c.n, .last = x.b.m->cfg.layers};
        if (schedule_sweep(x.b.r, &w, &(SweepSink){keep_stream, NULL, &x.s}, &e) != ST_OK)
            fail_msg("%s: %s", models[k], e.text);
        check_seen(&x.b, x.t, &x.c, &x.s);
        swept_close(&x);
    }
}

/* ---- streams ---- */

static void a_slice_has_its_samples(void **state)
{
    (void)state;
    Stream in, out;
    assert_int_equal(stream_init(&in, 3, (int64_t[]){0, 2, 5, 6}, 2, NULL), ST_OK);
    int32_t ids[6];
    for (int i = 0; i < 6; i++) {
        ids[i] = 10 + i;
        in.data[2 * i] = (float)i;
        in.data[2 * i + 1] = (float)-i;
    }
    assert_int_equal(stream_set_ids(&in, ids, NULL), ST_OK);
    assert_int_equal(stream_reserve_select(&in, 40, NULL), ST_OK);
    for (int i = 0; i < 12; i++)
        in.select[i] = (uint32_t)i;
    assert_int_equal(stream_slice(&out, &in, 1, 2, NULL), ST_OK);
    assert_int_equal(out.samples, 2);
    assert_int_equal(out.rows, 4);
    assert_memory_equal(out.start, ((int64_t[]){0, 3, 4}), 3 * sizeof(int64_t));
    assert_memory_equal(out.data, in.data + 4, 8 * sizeof(float));
    assert_memory_equal(out.ids, ids + 2, 4 * sizeof *ids);
    assert_memory_equal(out.select, in.select + 4, 8 * sizeof *in.select);
    stream_fini(&out);
    stream_fini(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_generator_is_splitmix64),
        cmocka_unit_test(a_job_has_an_arena_and_random_numbers_of_its_own),
        cmocka_unit_test(steps_around_the_units_are_the_runners),
        cmocka_unit_test(more_observers_than_a_tap_can_tell_apart_are_refused),
        cmocka_unit_test(a_sweep_is_every_change_alone),
        cmocka_unit_test(a_sweep_reads_a_unit_once_a_chunk_and_once_for_its_change),
        cmocka_unit_test(a_stopped_sweep_goes_on_with_the_next_chunk),
        cmocka_unit_test(little_memory_makes_small_chunks_or_none),
        cmocka_unit_test(a_form_that_looks_at_all_texts_wants_one_chunk),
        cmocka_unit_test(copies_of_other_kinds_of_layers_do_not_touch_each_other),
        cmocka_unit_test(a_slice_has_its_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
